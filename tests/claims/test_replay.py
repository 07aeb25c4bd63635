from __future__ import annotations

from collections.abc import Callable

import pytest

from assay.claims import Claim, Effects
from assay.claims.passport import Origin, Passport, StageRecord
from assay.claims.replay import CurrentClaim
from assay.files import sha256

MakeClaim = Callable[..., Claim]


def stage(index: int, keeps: tuple[str, ...] = (), name: str = "x") -> StageRecord:
    return StageRecord(index=index, name=name, effects=Effects(keeps=keeps), subject=sha256(b"w"))


@pytest.fixture
def begun(origin: Origin) -> Passport:
    return Passport().append(origin)


def test_an_empty_passport_claims_nothing(begun: Passport) -> None:
    assert Passport().replay() == []
    assert begun.replay() == []
    assert Passport().origin is None


def test_a_stages_own_claims_stand_right_after_it(begun: Passport, claim: MakeClaim) -> None:
    passport = begun.with_stage(stage(0), [claim()])
    assert passport.replay() == [CurrentClaim(claim(), 0)]
    assert passport.current() == [(claim(), 0, True)]


def test_the_default_is_void(begun: Passport, claim: MakeClaim) -> None:
    passport = begun.with_stage(stage(0), [claim()]).with_stage(stage(1))
    assert passport.replay() == [CurrentClaim(claim(), 0, carried=False, voided_by=1)]


def test_what_is_kept_is_carried(begun: Passport, claim: MakeClaim) -> None:
    quality, size = claim(), claim("size.bytes", 9.0, dataset=None, split=None)
    passport = begun.with_stage(stage(0), [quality, size]).with_stage(stage(1, ("quality.*",)))
    assert passport.replay() == [CurrentClaim(quality, 0), CurrentClaim(size, 0, False, 1)]


def test_void_stays_void_and_names_the_first_stage(begun: Passport, claim: MakeClaim) -> None:
    passport = begun.with_stage(stage(0), [claim()])
    passport = passport.with_stage(stage(1)).with_stage(stage(2, ("*",))).with_stage(stage(3))
    assert passport.replay() == [CurrentClaim(claim(), 0, carried=False, voided_by=1)]


def test_measuring_again_supersedes(begun: Passport, claim: MakeClaim) -> None:
    old, new, other = claim(value=0.9), claim(value=0.8), claim(split="valid")
    passport = begun.with_stage(stage(0), [old, other]).with_stage(stage(1))
    passport = passport.with_stage(stage(2, ("*",)), [new])
    assert passport.replay() == [CurrentClaim(other, 0, False, 1), CurrentClaim(new, 2)]


def test_other_conditions_are_another_claim(begun: Passport, claim: MakeClaim) -> None:
    one, two = claim(conditions={"batch": 1}), claim(conditions={"batch": 32})
    assert len(begun.with_stage(stage(0), [one, two]).replay()) == 2


def test_claims_of(begun: Passport, claim: MakeClaim) -> None:
    passport = begun.with_stage(stage(0), [claim(value=0.9)]).with_stage(stage(1), [claim()])
    assert passport.claims_of(0) == [claim(value=0.9)]
    assert passport.claims_of(1) == [claim()]
    assert passport.claims_of(2) == []


def test_a_base_models_claims_are_inherited(
    begun: Passport, origin: Origin, claim: MakeClaim
) -> None:
    base = begun.with_stage(stage(0)).with_stage(stage(1), [claim()])
    start = base.append(origin.model_copy(update={"recipe": "next"}))
    assert start.origin is not None
    assert start.origin.recipe == "next"
    assert start.replay() == [CurrentClaim(claim(), -1)]
    audited = start.with_stage(stage(0, ("*",)), [claim("size.bytes", 1.0)])
    assert [(c.stage, c.carried) for c in audited.replay()] == [(-1, True), (0, True)]
    assert [(p.number, p.run, p.record.index) for p in audited.stages()] == [
        (-2, 0, 0),
        (-1, 0, 1),
        (0, 1, 0),
    ]
    assert [p.origin.recipe for p in audited.stages()] == ["reviews", "reviews", "next"]
    assert audited.claims_of(-1) == [claim()]
    tuned = start.with_stage(stage(0))
    assert tuned.replay() == [CurrentClaim(claim(), -1, carried=False, voided_by=0)]


def test_misplaced_records_are_refused(begun: Passport, claim: MakeClaim) -> None:
    with pytest.raises(ValueError, match="expected"):
        begun.with_stage(stage(1))
    with pytest.raises(ValueError, match="not JSON serializable"):
        begun.with_stage(stage(0), [claim(details={"curve": object()})])
    with pytest.raises(ValueError, match=r"cannot append.*JSON compliant"):
        begun.with_stage(stage(0), [claim(details={"x": float("nan")})])
    assert len(begun.records) == 1
