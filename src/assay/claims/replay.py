"""Which claims of a passport still stand: computed by replay, never stored.

A stage record voids every claim whose kind it does not keep; the claims that follow the record are
that stage's own and stand right after it; a later claim of the same identity supersedes an earlier
one. Claims inherited from a base model's passport are replayed in the same way: the chain simply
goes on with another origin.

The replay trusts the effects that were *recorded* when the stage ran. They depend on the plan as
it then was, so they are not recomputed here. What a forger gains by editing them in an unsigned
passport is little: `assay.verify` measures every measured claim again, so a claim kept by a lie
is found wrong (`fails`); a historical one is recomputed from what was recorded as used. Against a
forger of that record too, sign the passport.

Stages are numbered relative to the last run in the passport: 0, 1, ... are its own, -1 is the last
stage of the run before it (the base model's), and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from assay.claims.claim import Claim
from assay.claims.records import Origin, Record, StageRecord


@dataclass(frozen=True)
class CurrentClaim:
    """The newest claim of its identity.

    Attributes:
        claim: what is claimed.
        stage: number of the stage that made it.
        carried: it still stands: every later stage keeps its kind.
        voided_by: number of the first stage that did not keep it, None while it is carried.
    """

    claim: Claim
    stage: int
    carried: bool = True
    voided_by: int | None = None


@dataclass(frozen=True)
class PlacedStage:
    """A stage record in its run.

    Attributes:
        number: its number, relative to the last run; negative for inherited ones.
        record: the stage record.
        origin: how its run began.
        run: which origin of the passport that is, from 0.
        claims: what it claimed.
    """

    number: int
    record: StageRecord
    origin: Origin
    run: int
    claims: tuple[Claim, ...] = ()


def stages(records: Sequence[Record]) -> list[PlacedStage]:
    """All stages of a passport in order, with their claims."""
    found: list[PlacedStage] = []
    origin: Origin | None = None
    run, before = -1, 0
    for record in records:
        if record.origin is not None:
            origin, run, before = record.origin, run + 1, len(found)
        elif record.stage is not None and origin is not None:
            found.append(PlacedStage(len(found), record.stage, origin, run))
        elif record.claim is not None:
            found[-1] = replace(found[-1], claims=(*found[-1].claims, record.claim.claim))
    return [replace(stage, number=stage.number - before) for stage in found]


def replay(records: Sequence[Record]) -> list[CurrentClaim]:
    """The newest claim of each identity, oldest first, and whether it is still carried."""
    state: dict[str, CurrentClaim] = {}
    for stage in stages(records):
        for identity, current in state.items():
            if current.carried and not stage.record.effects.does_keep(current.claim.kind):
                state[identity] = replace(current, carried=False, voided_by=stage.number)
        for claim in stage.claims:
            identity = claim.identity()
            state.pop(identity, None)
            state[identity] = CurrentClaim(claim, stage.number)
    return list(state.values())
