"""What a recipe required, judged against the claims of its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from assay.claims.claim import Claim, Requirement, Scalar
from assay.config import build
from assay.errors import ArtefactError, AssayError, UsageError

if TYPE_CHECKING:
    from assay.verify.findings import Finding


@dataclass(frozen=True)
class Required:
    """A requirement and its verdict.

    Attributes:
        requirement: what was required.
        value: the claimed value, None where no such claim is carried.
        ok: it is met.
        miss: by how much the bound is missed (0: met; None: not a number, or no claim).
        why: the reason it is not met.
    """

    requirement: Requirement
    value: Scalar
    ok: bool
    miss: float | None
    why: str = ""

    def row(self) -> dict[str, Any]:
        """Plain data, as a run's `claims.json` has it."""
        bound = self.requirement.bound
        return {
            "kind": self.requirement.kind,
            "bound": bound.text if bound is not None else None,
            "value": self.value,
            "ok": self.ok,
            "miss": self.miss,
            "where": _where(self.requirement),
        }

    def line(self) -> str:
        """The verdict for a person."""
        bound = self.requirement.bound.text if self.requirement.bound else "to hold"
        place = _where(self.requirement)
        text = f"required {self.requirement.kind} {bound}{' on ' + place if place else ''}"
        return f"{text}: met by {shown(self.value)}" if self.ok else f"{text}: MISSED, {self.why}"


def shown(value: Scalar) -> str:
    """A claimed value for a person."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _where(requirement: Requirement) -> str:
    parts = [requirement.dataset, requirement.split]
    parts += [f"{k}={v}" for k, v in sorted(requirement.conditions.items())]
    return " ".join(part for part in parts if part)


def judge(
    requirements: Sequence[Requirement], findings: Sequence[Finding], strict: bool = False
) -> tuple[Required, ...]:
    """Judge each requirement by the claims that stand.

    A claim that is void or fails meets nothing. One that is unverifiable meets its bound by its
    recorded value, unless `strict`.
    A requirement that several claims match is not met: it does not say which it means.
    """
    return tuple(_judge(requirement, findings, strict) for requirement in requirements)


def _judge(requirement: Requirement, findings: Sequence[Finding], strict: bool) -> Required:
    standing = [f for f in findings if f.status != "void"]
    try:
        chosen = requirement.choose([f.claim for f in standing])
    except UsageError as error:
        # found out when the work is done: the result is kept, and says what was not clear
        return Required(requirement, None, False, None, f"{error.what}; {error.mend}")
    if chosen is None:
        gone = [f for f in findings if f.status == "void" and requirement.matches(f.claim)]
        why = f"the claim is void: {gone[-1].why}" if gone else "no stage claimed it"
        return Required(requirement, None, False, None, why)
    finding = next(f for f in standing if f.claim is chosen)
    met, miss = requirement.verdict(chosen)
    if finding.status == "fails" or (strict and finding.status == "unverifiable"):
        why = f"the claim {finding.status}: {finding.why}" if finding.why else "the claim fails"
        return Required(requirement, chosen.value, False, miss if not met else None, why)
    return Required(requirement, chosen.value, met, miss, "" if met else _missed(chosen, miss))


def _missed(claim: Claim, miss: float | None) -> str:
    if miss is None:
        return f"{claim.value!r} is not a number"
    return f"{claim.value:.6g} misses it by {miss:.3g}"


def requirements_of(recipe: Path) -> tuple[Requirement, ...]:
    """The requirements in a run's resolved recipe.

    Args:
        recipe: `recipe.yaml` of a run folder: `require` maps a kind to its bound or lists
            mappings with `kind`, `bound` and what narrows it down.

    Raises:
        ArtefactError: the file cannot be read or its `require` is damaged.
    """
    mend = "restore the file, or verify the model folder alone"
    try:
        raw = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"cannot read the recipe: {text}"
        raise ArtefactError(what, where=str(recipe), mend=mend) from None
    listed = (raw.get("require") or []) if isinstance(raw, Mapping) else None
    if isinstance(listed, Mapping):
        listed = [
            {"kind": kind, **(value if isinstance(value, Mapping) else {"bound": value})}
            for kind, value in listed.items()
        ]
    if not isinstance(listed, list):
        raise ArtefactError("not a recipe with requirements", where=str(recipe), mend=mend)
    try:
        return tuple(
            build(Requirement, item, f"require[{index}]") for index, item in enumerate(listed)
        )
    except AssayError as error:
        raise ArtefactError(error.line(), where=str(recipe), mend=mend) from None
