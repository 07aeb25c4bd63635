"""A claim is a checkable statement about one model; a requirement bounds one."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator

from assay.config import Config
from assay.errors import UsageError
from assay.files import canonical_json

Scalar = bool | int | float | str | None
#: `quality.accuracy`: a family and a name within it
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9][a-z0-9_]*)+$")]
Status = Literal["holds", "fails", "void", "unverifiable"]


class Claim(Config):
    """A checkable statement about one model.

    Its status is not stored: it is computed by replaying the passport and measuring again.

    Attributes:
        kind: what is claimed, `family.name`.
        value: the claimed value.
        unit: its unit of measure: `fraction`, `ms`, `bytes`, `count`, `usd`, ... .
        nature: how it is verified: `measured` (run again), `certified` (certify again) or
            `historical` (recompute from what was recorded as used).
        dataset: the data set it was measured on, if any.
        split: the split of that data set.
        conditions: what else it depends on (threshold, batch, machine, attack, ...).
        method: how it was obtained, in a few words (`bootstrap 2000, percentile`).
        interval: lower and upper end of its confidence interval, where it is sampled.
        level: confidence level of the interval.
        n: number of privacy units or rows it was measured on.
        details: data that `verify` needs or a report draws (the machine, a curve, ...).
    """

    kind: Kind
    value: Scalar
    unit: str
    nature: Literal["measured", "certified", "historical"] = "measured"
    dataset: str | None = None
    split: str | None = None
    conditions: dict[str, Scalar] = Field(default_factory=dict)
    method: str = ""
    interval: tuple[float, float] | None = None
    level: float = 0.95
    n: int | None = None
    details: dict[str, Any] = Field(default_factory=dict)

    def identity(self) -> str:
        """Claims with one identity state the same quantity; the later one supersedes."""
        return canonical_json(
            [self.kind, self.dataset, self.split, dict(sorted(self.conditions.items()))]
        ).decode()


_BOUND = re.compile(r"^\s*(>=|<=|==|>|<)\s*(.+?)\s*$")


class Bound(Config):
    """A comparison that a claimed value must pass, written `">= 0.84"`.

    Raises:
        ValueError: the text is not a comparison with a number.
    """

    shorthand: ClassVar[str | None] = "text"
    text: str = Field(
        pattern=r"^\s*(>=|<=|==|>|<)\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"
    )

    @field_validator("text")
    @classmethod
    def _finite(cls, text: str) -> str:
        if not math.isfinite(float(text.strip(" \t\r\n<>="))):
            raise ValueError("the number is too large; write a smaller one")
        return text

    @property
    def operator(self) -> str:
        """One of `>=`, `<=`, `>`, `<`, `==`."""
        match = _BOUND.match(self.text)
        assert match is not None
        return match.group(1)

    @property
    def limit(self) -> float:
        """The number on the right."""
        match = _BOUND.match(self.text)
        assert match is not None
        return float(match.group(2))

    def passes(self, value: float) -> bool:
        """Whether a value meets the bound."""
        limit = self.limit
        return {
            ">=": value >= limit,
            "<=": value <= limit,
            ">": value > limit,
            "<": value < limit,
            "==": value == limit,
        }[self.operator]

    def worst(self, interval: tuple[float, float]) -> float:
        """The end of an interval on which the bound is hardest to meet."""
        if self.operator == "==":
            return max(interval, key=lambda end: abs(end - self.limit))
        return interval[0] if self.operator.startswith(">") else interval[1]


class Requirement(Config):
    """What must hold of the model at the end of a recipe.

    Attributes:
        kind: the kind of claim.
        bound: the comparison its value must pass (None: it need only hold).
        dataset: which data set, where claims of that kind exist on several.
        split: which split, likewise.
        conditions: which conditions, likewise (those given must match).
        strict: test the bound on the interval's worse end instead of the point value.
    """

    kind: Kind
    bound: Bound | None = None
    dataset: str | None = None
    split: str | None = None
    conditions: dict[str, Scalar] = Field(default_factory=dict)
    strict: bool = False

    def matches(self, claim: Claim) -> bool:
        """Whether this requirement speaks of that claim."""
        return (
            self.kind == claim.kind
            and self.dataset in (None, claim.dataset)
            and self.split in (None, claim.split)
            and all(claim.conditions.get(k) == v for k, v in self.conditions.items())
        )

    def choose(self, claims: list[Claim]) -> Claim | None:
        """The one claim among the current ones that this speaks of.

        Raises:
            UsageError: several claims match.
        """
        found = [c for c in claims if self.matches(c)]
        if len(found) > 1:
            said = "; ".join(
                f"{c.dataset}/{c.split} {canonical_json(c.conditions).decode()}" for c in found
            )
            raise UsageError(
                f"ambiguous: {len(found)} claims match ({said})",
                where=f"require: {self.kind}",
                mend="name dataset, split or conditions",
            )
        return found[0] if found else None

    def verdict(self, claim: Claim) -> tuple[bool, float | None]:
        """Whether the claim meets the bound, and by how much it misses (0 when it does).

        The miss is None where the value is not a number.
        """
        if self.bound is None:
            return True, 0.0
        if not isinstance(claim.value, (int, float)):
            return False, None
        value = float(claim.value)
        if self.strict and claim.interval is not None:
            value = self.bound.worst(claim.interval)
        if self.bound.passes(value):
            return True, 0.0
        return False, abs(value - self.bound.limit)
