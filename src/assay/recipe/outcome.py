"""What came of a run: its claims with their statuses, and what was required of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.claims import Claim, Requirement
from assay.claims.passport import Passport


@dataclass
class Run:
    """A finished run.

    Attributes:
        folder: its folder.
        report: the page that says what was done and what holds.
        claims: what `claims.json` holds: every claim with its status, and what was required.
        exit_code: 0, or 3 when a required claim does not hold.
        misses: one line for each required claim that does not hold.
    """

    folder: Path
    report: Path
    claims: dict[str, Any]
    exit_code: int = 0
    misses: list[str] = field(default_factory=list)

    @property
    def model(self) -> Path:
        """The folder of the model."""
        return self.folder / "model"

    def value(self, kind: str, **where: Any) -> Any:
        """The value of the current claim of a kind (and `dataset`, `split`, where given)."""
        found = [
            c
            for c in self.claims["claims"]
            if c["kind"] == kind
            and c["status"] != "void"
            and all(c.get(k) == v for k, v in where.items())
        ]
        if len(found) != 1:
            raise KeyError(f"{len(found)} claims of kind {kind}")
        return found[0]["value"]


def said(claim: Claim) -> str:
    """A claim in one line."""
    value = f"{claim.value:.4g}" if isinstance(claim.value, float) else f"{claim.value}"
    text = f"{claim.kind} = {value}"
    if claim.unit not in ("fraction", "count", ""):
        text += f" {claim.unit}"
    if claim.interval is not None:
        text += f" [{claim.interval[0]:.4g}, {claim.interval[1]:.4g}]"
    if claim.dataset:
        text += f" on {claim.dataset}/{claim.split}"
    if claim.conditions:
        text += " (" + ", ".join(f"{k} {v}" for k, v in claim.conditions.items()) + ")"
    return text


def statuses(passport: Passport, requirements: tuple[Requirement, ...]) -> dict[str, Any]:
    """`claims.json`: every claim with its status by replay, and what was required of them."""
    from assay.verify import Finding, judge
    from assay.verify.findings import voided

    names = {stage.number: stage.record.name for stage in passport.stages()}
    findings = [
        Finding(c.claim, c.stage, "holds", c.claim.value) if c.carried else voided(c, names)
        for c in passport.replay()
    ]
    required = judge(requirements, findings)
    rows = [
        {**f.row(), "nature": f.claim.nature, "level": f.claim.level, "why": f.why}
        for f in findings
    ]
    return {
        "ok": all(item.ok for item in required),
        "claims": rows,
        "require": [{**item.row(), "line": item.line()} for item in required],
    }
