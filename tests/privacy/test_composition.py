"""One epsilon over all that a model has read: whose, how much, and when none can be claimed.

The accountant is an oracle here; it has tests of its own.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from assay.claims import DataCard, Effects, ModelCard, Read
from assay.claims.lineage import inherited
from assay.claims.passport import Passport
from assay.claims.records import Origin, StageRecord
from assay.errors import UsageError
from assay.files import sha256
from assay.privacy import accountant
from assay.privacy.composition import NOT_COVERED, Account, accounts, claim_of, finite
from assay.privacy.events import Event

STEPS = Read(split="train", influences=("weights",), why="private gradient steps", private=True)
PLAIN = Read(split="train", influences=("weights",), why="gradient steps")
LOOK = Read(split="train", influences=("report",), why="training losses")


def event(noise: float = 1.0, steps: int = 1, **more: Any) -> dict[str, Any]:
    made = Event(**{"noise_multiplier": noise, "steps": steps, "data": "d", **more})
    return made.model_dump(exclude_none=True)


def origin(data: str = "ward", private: bool = True, **more: Any) -> Origin:
    return Origin(
        recipe="r",
        assay="0",
        task={"tabular-classification": {}},
        model=ModelCard(name="mlp"),
        data=DataCard(name=data, private=private),
        data_digest=sha256(data.encode()),
        data_config={},
        **more,
    )


def used(*events: dict[str, Any], delta: float = 1e-5, **more: Any) -> dict[str, Any]:
    private = {"events": list(events), "delta": delta, "insecure": False, "units": 100, **more}
    return {"private": private}


def stage(index: int, told: dict[str, Any], *reads: Read, name: str = "finetune") -> StageRecord:
    return StageRecord(
        index=index, name=name, effects=Effects(reads=reads), used=told, subject=sha256(b"w")
    )


def epsilon_of(*events: dict[str, Any], delta: float = 1e-5) -> float:
    return accountant.epsilon([Event(**e) for e in events], delta)


def only(passport: Passport, **more: Any) -> Account:
    (account,) = accounts(passport, **more).values()
    return account


# -- whose events ---------------------------------------------------------------------------------


def test_all_stages_and_all_runs_count() -> None:
    first, second, third = event(2.0, 10, sampling=0.1), event(3.0, 5), event(4.0, what="sums")
    passport = Passport().append(
        origin(charged=(third,)),
        stage(0, used(first), STEPS, LOOK),
        stage(1, used(second, delta=1e-6), STEPS),
    )
    passport = passport.append(origin(), stage(0, {**used(first), "charged": [third]}, STEPS))
    account = only(passport)
    assert [who for who, _ in account.parts] == [
        "r: preprocessing",
        *("finetune", "finetune", "finetune", "finetune"),
    ]
    events = (third, first, second, first, third)
    assert account.epsilon() == epsilon_of(*events, delta=1e-6)
    assert account.epsilon() < sum(epsilon_of(e, delta=1e-6) for e in events)
    assert account.private
    assert account.units == 100


def test_a_stage_under_way_counts_before_its_record_is_there() -> None:
    passport = Passport().append(origin(), stage(0, used(event(2.0)), STEPS))
    finished = passport.append(stage(1, used(event(3.0)), STEPS))
    under_way = only(passport, stage="finetune", used=used(event(3.0)), reads=(STEPS,))
    assert under_way == only(finished)


def test_without_events_there_is_nothing_to_claim() -> None:
    account = only(Passport().append(origin(), stage(0, {}, LOOK)))
    assert account.epsilon() == 0.0
    assert claim_of(account) is None
    assert accounts(Passport()) == {}


def test_a_teachers_and_its_teachers_events_count() -> None:
    grandparent = inherited(Passport().append(origin(), stage(0, used(event(5.0)), STEPS)))
    parent = inherited(
        Passport().append(
            origin(charged=(event(6.0),)),
            stage(0, {**used(event(4.0)), "inherits": {"old": grandparent}}, STEPS),
        )
    )
    passport = Passport().append(
        origin(), stage(0, {**used(event(3.0)), "inherits": {"folder": parent}}, STEPS)
    )
    account = only(passport)
    assert sorted(account.parts, key=lambda part: part[1].noise_multiplier or 0) == [
        ("finetune", Event(**event(3.0))),
        ("finetune from folder", Event(**event(4.0))),
        ("finetune from folder, from old", Event(**event(5.0))),
        ("finetune from folder", Event(**event(6.0))),
    ]
    assert not account.leaks


def test_a_teacher_that_was_never_private_leaves_no_epsilon() -> None:
    teacher = inherited(Passport().append(origin(), stage(0, {}, PLAIN, LOOK)))
    told = {**used(event(3.0)), "inherits": {"folder": teacher}}
    account = only(Passport().append(origin(), stage(0, told, STEPS)))
    assert account.leaks == ["finetune from folder: gradient steps"]
    assert claim_of(account) is None


def test_a_teacher_of_other_data_has_an_account_of_its_own() -> None:
    theirs = inherited(
        Passport().append(origin("clinic"), stage(0, used(event(4.0, data="c")), STEPS))
    )
    told = {**used(event(3.0)), "inherits": {"folder": theirs}}
    found = accounts(Passport().append(origin("ward"), stage(0, told, STEPS)))
    assert {name: [e.noise_multiplier for e in a.events] for name, a in found.items()} == {
        "ward": [3.0],
        "clinic": [4.0],
    }
    assert found["clinic"].private


def test_the_same_data_under_another_name_are_the_same_data() -> None:
    """What names data in events is a digest of their content."""
    passport = Passport().append(origin("ward"), stage(0, used(event(3.0, data="same")), STEPS))
    passport = passport.append(origin("copy"), stage(0, used(event(4.0, data="same")), STEPS))
    passport = passport.append(origin("else"), stage(0, used(event(5.0, data="other")), STEPS))
    found = accounts(passport)
    both = epsilon_of(event(3.0), event(4.0))
    assert found["ward"].epsilon() == found["copy"].epsilon() == both
    assert found["else"].epsilon() == epsilon_of(event(5.0))


# -- what voids it --------------------------------------------------------------------------------


@pytest.mark.parametrize("influence", ["weights", "structure", "preprocessing", "choice"])
@pytest.mark.parametrize("where", ["stage", "preprocessing"])
def test_an_uncharged_reading_that_reaches_the_model_leaves_no_epsilon(
    influence: Any, where: str
) -> None:
    read = Read(split="valid", influences=(influence, "report"), why="stopping")
    reads = (read,) if where == "stage" else ()
    begun = origin(reads=() if where == "stage" else (read,))
    account = only(Passport().append(begun, stage(0, used(event()), STEPS, *reads)))
    assert account.leaks == [f"{'finetune' if where == 'stage' else 'preprocessing'}: stopping"]
    assert account.unclaimed.endswith("stopping was not charged")
    assert claim_of(account) is None


@pytest.mark.parametrize("influences", [("claims",), ("report",), ("claims", "report")])
def test_a_disclosure_voids_nothing(influences: Any) -> None:
    look = Read(split="test", influences=influences, why="an audit")
    account = only(Passport().append(origin(), stage(0, used(event()), STEPS, look)))
    assert not account.leaks
    assert claim_of(account) is not None


def test_events_about_rows_and_about_patients_do_not_add_up() -> None:
    told = used(event(2.0, unit="row")), used(event(2.0, unit="patient"))
    passport = Passport().append(origin(), stage(0, told[0], STEPS), stage(1, told[1], STEPS))
    account = only(passport)
    assert account.units_named == ("patient", "row")
    assert "does not add up" in account.unclaimed
    assert claim_of(account) is None


def test_an_event_that_is_none_is_refused() -> None:
    passport = Passport().append(origin(), stage(0, used({"noise_multiplier": -1.0}), STEPS))
    with pytest.raises(UsageError, match="events of finetune"):
        accounts(passport)


# -- the claim ------------------------------------------------------------------------------------


def test_the_claim_says_what_it_rests_on() -> None:
    events = (event(2.0, 7, sampling=0.2, unit="patient"), event(3.0, unit="patient"))
    passport = Passport().append(
        origin(charged=(events[1],)), stage(0, used(events[0], delta=1e-4), STEPS)
    )
    claim = claim_of(only(passport))
    assert claim is not None
    assert (claim.kind, claim.unit, claim.nature) == ("privacy.epsilon", "epsilon", "historical")
    assert (claim.dataset, claim.split, claim.n) == ("ward", "train", 100)
    assert claim.conditions == {"delta": 1e-4, "unit": "patient"}
    assert claim.value == epsilon_of(*events, delta=1e-4)
    parts = claim.details["parts"]
    assert [(p["by"], p["epsilon"]) for p in parts] == [
        ("r: preprocessing", epsilon_of(events[1], delta=1e-4)),
        ("finetune", epsilon_of(events[0], delta=1e-4)),
    ]
    assert [Event(**{k: v for k, v in p.items() if k not in ("by", "epsilon")}) for p in parts] == [
        Event(**e) for e in reversed(events)
    ]
    assert claim.details["not_covered"] == list(NOT_COVERED)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (used(event(1.0), insecure=True), "a seed that can be guessed"),
        (used(event(0.0)), "there was no noise"),
        (used(event(1.0), event(0.0)), "there was no noise"),
    ],
)
def test_no_privacy_is_claimed_as_none(told: dict[str, Any], why: str) -> None:
    account = only(Passport().append(origin(), stage(0, told, STEPS)))
    claim = claim_of(account)
    assert claim is not None
    assert claim.value is None
    assert claim.method is not None
    assert why in claim.method


def test_a_teacher_with_a_seed_that_can_be_guessed_makes_it_insecure() -> None:
    theirs = inherited(
        Passport().append(origin(), stage(0, used(event(4.0), insecure=True), STEPS))
    )
    told = {**used(event(3.0)), "inherits": {"folder": theirs}}
    claim = claim_of(only(Passport().append(origin(), stage(0, told, STEPS))))
    assert claim is not None
    assert claim.value is None


def test_the_closed_form_of_one_gaussian() -> None:
    """Balle and Wang 2018, arXiv 1805.06530, theorem 8, solved by bisection."""

    def phi(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    def delta(epsilon: float, noise: float) -> float:
        half, share = 0.5 / noise, epsilon * noise
        return phi(half - share) - math.exp(epsilon) * phi(-half - share)

    low, high = 0.0, 20.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if delta(middle, 2.0) > 1e-5 else (low, middle)
    account = only(Passport().append(origin(), stage(0, used(event(4.0), event(4.0)), STEPS)))
    # two of noise 4 are one of noise 4 / sqrt 2
    twice = only(Passport().append(origin(), stage(0, used(*[event(4.0)] * 4), STEPS)))
    assert twice.epsilon() == pytest.approx(high, abs=2e-3)
    assert high <= twice.epsilon()
    assert account.epsilon() < twice.epsilon()


def test_infinity_is_none_in_json() -> None:
    assert finite(math.inf) is None
    assert finite(2.5) == 2.5
