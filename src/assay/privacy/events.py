"""Private events: what was released of private data, by which mechanism, as it was used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from assay.config import Config, build

#: the relation between neighbouring data sets: one privacy unit more or less
Adjacency = Literal["add-remove"]


class Event(Config):
    """One use of a private mechanism, as an accountant composes it and a ledger charges it.

    Sensitivity is in the mechanism already: `noise_multiplier` is the standard deviation of the
    noise over the L2 norm to which a unit's contribution was clipped.

    Attributes:
        mechanism: `gaussian`, with Poisson sampling of units where `sampling` < 1; or `pure`, any
            mechanism that is (`epsilon`, 0)-private.
        noise_multiplier: of the Gaussian; 0 gives no privacy (its epsilon is infinite).
        epsilon: of one pure release.
        sampling: probability with which a unit takes part in a step.
        steps: how often it was used.
        data: keyed digest of the data set's content.
        unit: the privacy unit: `row`, or the column whose values name units.
        adjacency: what neighbouring data sets differ in.
        n_public: the number of units counts as public.
        what: what was released, in a few words.

    Raises:
        ValueError: a mechanism without its parameter, or with another's.
    """

    mechanism: Literal["gaussian", "pure"] = "gaussian"
    noise_multiplier: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    epsilon: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    sampling: float = Field(default=1.0, gt=0, le=1)
    steps: int = Field(default=1, ge=1)
    data: str = ""
    unit: str = "row"
    adjacency: Adjacency = "add-remove"
    n_public: bool = True
    what: str = ""

    @model_validator(mode="after")
    def _one_mechanism(self) -> Self:
        mine, other = self.noise_multiplier, self.epsilon
        if self.mechanism == "pure":
            mine, other = other, mine
        if mine is None or other is not None:
            name = "epsilon" if self.mechanism == "pure" else "noise_multiplier"
            raise ValueError(f"a {self.mechanism} event has {name}, and no other's parameter")
        if self.mechanism == "pure" and self.sampling != 1.0:
            raise ValueError("amplification of a pure event by sampling is not accounted; use 1.0")
        return self

    @property
    def about(self) -> tuple[str, str]:
        """(data, unit): events about different ones are composed apart."""
        return self.data, self.unit


def read_events(items: Iterable[Mapping[str, Any]], where: str = "events") -> list[Event]:
    """Events from plain data, strictly.

    Raises:
        UsageError: one is no event.
    """
    return [build(Event, dict(item), f"{where}[{i}]") for i, item in enumerate(items)]
