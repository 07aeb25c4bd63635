"""What a verification found: one status a claim, and whether all of it is well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.claims.claim import Claim, Scalar, Status
from assay.claims.passport import NOT_AUTHENTICATED
from assay.claims.replay import CurrentClaim
from assay.config import dump
from assay.errors import ClaimError
from assay.verify.required import Required, shown


@dataclass(frozen=True)
class Finding:
    """A claim and what became of it.

    Attributes:
        claim: the newest claim of its identity.
        stage: number of the stage that made it (negative: inherited from the base model).
        status: `holds`, `fails`, `void` or `unverifiable`.
        measured: the value measured again; None where nothing was measured.
        why: the reason for any status but `holds`, in a few words.
    """

    claim: Claim
    stage: int
    status: Status
    measured: Scalar = None
    why: str = ""

    def row(self) -> dict[str, Any]:
        """The finding as `verify --json` gives it."""
        claim = dump(self.claim)
        keys = ("kind", "value", "unit", "dataset", "split", "conditions")
        return {
            **{key: claim[key] for key in keys},
            "measured": self.measured,
            "interval": claim["interval"],
            "n": claim["n"],
            "status": self.status,
            "stage": self.stage,
            "method": claim["method"],
        }

    def line(self) -> str:
        """The finding for a person."""
        claim = self.claim
        where = "/".join(part for part in (claim.dataset, claim.split) if part)
        if claim.conditions:
            given = ", ".join(f"{k}={v}" for k, v in sorted(claim.conditions.items()))
            where = f"{where} ({given})" if where else f"({given})"
        text = f"{self.status:<12} {claim.kind} = {shown(claim.value)} {claim.unit}"
        if where:
            text += f" on {where}"
        if self.measured is not None:
            text += f", measured {shown(self.measured)}"
        return f"{text}: {self.why}" if self.why else text


def voided(current: CurrentClaim, names: dict[int, str]) -> Finding:
    """The finding of a claim that a later stage voided."""
    by = current.voided_by
    stage = f"stage {by} ({names[by]})" if by is not None else "a later stage"
    return Finding(
        current.claim, current.stage, "void", why=f"{stage} does not keep it; audit again after it"
    )


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        findings: one a claim, oldest first.
        authenticated: a trusted key signed the artefact.
        strict: an unverifiable claim counts as a failure.
        required: the recipe's requirements and their verdicts; None for a bare model folder.
        lines_inherited: lines of the passport that the trusted key did not sign itself.
        signed_by: keyid of the trusted key, where there is one.
    """

    findings: tuple[Finding, ...]
    authenticated: bool
    strict: bool = False
    required: tuple[Required, ...] | None = None
    lines_inherited: int = 0
    signed_by: str | None = field(default=None)

    @property
    def ok(self) -> bool:
        """No claim fails, no requirement is missed, and in strict mode all could be measured."""
        bad = {"fails", "unverifiable"} if self.strict else {"fails"}
        return all(f.status not in bad for f in self.findings) and all(
            r.ok for r in self.required or ()
        )

    @property
    def exit_code(self) -> int:
        """0 when all is well, else 3. (A damaged or untrusted artefact raises: exit 7.)"""
        return 0 if self.ok else ClaimError.exit_code

    @property
    def claims(self) -> list[dict[str, Any]]:
        """The findings as plain rows."""
        return [finding.row() for finding in self.findings]

    def as_json(self) -> dict[str, Any]:
        """What `verify --json` prints; `require` is there for run folders only."""
        out: dict[str, Any] = {
            "ok": self.ok,
            "authenticated": self.authenticated,
            "claims": self.claims,
        }
        if self.required is not None:
            out["require"] = [item.row() for item in self.required]
        return out

    def words(self) -> str:
        """Whose word the artefact is, in one line."""
        if not self.authenticated or self.signed_by is None:
            return NOT_AUTHENTICATED
        text = f"authenticated by key {self.signed_by[:16]}"
        if self.lines_inherited:
            text += f", which vouches for {self.lines_inherited} lines that it did not sign"
        return text

    def verdict(self, count: Mapping[str, int]) -> str:
        """The verdict, which never promises more than was measured.

        Args:
            count: number of claims of each status.
        """
        if not self.ok:
            return "NOT verified"
        if count.get("unverifiable"):
            return "verified in part" if count.get("holds") else "nothing could be verified"
        return "verified"

    def lines(self) -> list[str]:
        """The verification for a person: the verdict, then one line a claim and requirement."""
        count = Counter[str](finding.status for finding in self.findings)
        tally = ", ".join(f"{n} {status}" for status, n in sorted(count.items())) or "no claims"
        missed = sum(not item.ok for item in self.required or ())
        if missed:
            tally += f"; {missed} of {len(self.required or ())} requirements missed"
        return [
            f"{self.verdict(count)}: {tally}; {self.words()}",
            *(finding.line() for finding in self.findings),
            *(item.line() for item in self.required or ()),
        ]
