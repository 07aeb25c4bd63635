"""What a stage does to claims and data, declared before it runs."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

from assay.claims.context import ModelCard
from assay.config import Config

#: what a reading of data may influence; the last two reach no weight and no choice
Influence = Literal["weights", "structure", "preprocessing", "choice", "claims", "report"]
#: readings that influence only these are disclosures, not spends
DISCLOSURES: frozenset[str] = frozenset({"claims", "report"})


class Read(Config):
    """One reading of data by a stage.

    Attributes:
        split: the split that is opened.
        influences: what the reading can change.
        why: what for, in a few words.
        private: the reading went through a private mechanism.
    """

    split: str
    influences: tuple[Influence, ...]
    why: str = ""
    private: bool = False

    @property
    def disclosure(self) -> bool:
        """Whether the reading reaches only claims or the report."""
        return set(self.influences) <= DISCLOSURES


class Effects(Config):
    """What a stage adds, keeps and reads. What it does not keep is void: the default is void.

    Attributes:
        adds: kinds of claim it will measure (patterns: `quality.*`).
        keeps: kinds of claim that stay true through it (patterns).
        reads: what data it reads and what that influences.
        moves: which parameters move, in words (empty: none).
        structure_adds: structures it adds to the network, by part name.
        structure_removes: structures it removes.
        notes: anything a reader of the plan should know.
        model: card of the model that takes the place of the one that came in, if one does.
    """

    adds: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    reads: tuple[Read, ...] = ()
    moves: str = ""
    structure_adds: tuple[str, ...] = ()
    structure_removes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    model: ModelCard | None = None

    @property
    def changes_network(self) -> bool:
        """Whether the network that leaves the stage computes another function than came in."""
        return bool(self.moves or self.structure_adds or self.structure_removes)

    def does_add(self, kind: str) -> bool:
        """Whether a claim of that kind is measured by the stage."""
        return any(fnmatchcase(kind, pattern) for pattern in self.adds)

    def does_keep(self, kind: str) -> bool:
        """Whether a claim of that kind stays true through the stage."""
        return any(fnmatchcase(kind, pattern) for pattern in self.keeps)


class Estimate(Config):
    """What a stage will cost, roughly.

    Attributes:
        seconds: wall time.
        bytes: peak memory above that of an idle process.
        basis: what the estimate rests on.
    """

    seconds: float = 0.0
    bytes: int = 0
    basis: str = ""
