"""The audit `privacy`: what is trained on what, what is claimed, and a run that is verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.audit.measures.privacy import thinned
from assay.audit.privacy import PrivacyAudit
from assay.claims import Claim
from assay.claims.passport import Passport
from assay.config import build, build_part
from assay.data.config import DataConfig
from assay.data.dataset import Dataset
from assay.errors import LoadError, UsageError
from assay.files import canonical_json
from assay.models.predictions import Predictions
from assay.privacy.attacks.planting import plant, shadow_sets
from assay.recipe.plan import PlanError, plan
from assay.recipe.run import run
from assay.recipe.schema import Recipe
from assay.verify.check import verify

Make = Callable[..., Any]

KINDS = {
    "privacy.membership_auc",
    "privacy.membership_advantage",
    "privacy.tpr_at_low_fpr",
    "privacy.epsilon_lower_bound",
}


# -- stand-ins ------------------------------------------------------------------------------------


class Says:
    """Stands in for a model: sure of the labels it was trained on, if it memorises."""

    def __init__(self, data: Dataset, memory: float, claims: list[Claim] | None = None) -> None:
        self.data, self.memory = data, memory
        self.network, self.preprocessing = torch.nn.Identity(), None
        self.passport = _Claims(claims or [])

    def subject(self) -> str:
        return f"{self.memory} {self.data.digest}"

    def config(self) -> dict[str, Any]:
        return {}

    def predict(self, rows: Any) -> Predictions:
        names = {name: i for i, name in enumerate(self.data.table["id"].to_pylist())}
        places = np.array([names[name] for name in rows["id"].to_pylist()])
        noise = np.random.default_rng(int(self.data.digest[:8], 16)).normal(size=len(names))[places]
        trained = np.isin(places, self.data.splits["train"])
        if self.data.classes is None:
            near = np.where(trained, 0.0, 10 * self.memory) + 1.0 + np.abs(noise)
            return Predictions(ids=places.tolist(), values=self.data.labels[places] + near)
        logit = noise + self.memory * trained * np.where(self.data.labels[places] == 1, 1, -1)
        p = 1 / (1 + np.exp(-logit))
        both = np.stack([1 - p, p], axis=1)
        return Predictions(
            ids=places.tolist(),
            classes=self.data.classes,
            probabilities=both / both.sum(1)[:, None],
        )


class _Claims:
    def __init__(self, claims: list[Claim]) -> None:
        self.claims = claims

    def current(self) -> list[tuple[Claim, int, bool]]:
        return [(claim, 0, claim.method != "void") for claim in self.claims]


def facts(noise: float, insecure: bool = False) -> dict[str, Any]:
    """What a private stage says it used."""
    event = {"mechanism": "gaussian", "noise_multiplier": noise, "sampling": 0.1, "steps": 20}
    return {"private": {"events": [event], "delta": 1e-5, "insecure": insecure}}


class Retrain:
    """Stands in for the stages before."""

    def __init__(self, memory: float, private: dict[str, Any] | None = None) -> None:
        self.memory, self.private = memory, private
        self.seen: list[tuple[Dataset, int, str]] = []

    def __call__(
        self, data: Dataset, seed: int, start: str, *, min_steps: int = 0, told: Any = None
    ) -> Any:
        assert min_steps == 0
        self.seen.append((data, seed, start))
        told(self.private or {"steps": 3})
        return Says(data, self.memory)


def epsilon_claim(value: float, unit: str = "row", **more: Any) -> Claim:
    return Claim(
        kind="privacy.epsilon",
        value=value,
        unit="epsilon",
        nature="historical",
        conditions={"delta": 1e-5, "unit": unit},
        **more,
    )


def audited(
    make_data: Make,
    make_context: Make,
    memory: float = 20.0,
    claims: list[Claim] | None = None,
    rows: int = 1000,
    private: dict[str, Any] | None = None,
    kind: str = "binary",
    **settings: Any,
) -> tuple[Any, Retrain, Dataset]:
    """(context, trainings, data) after an audit of a stand-in."""
    data = make_data(kind, rows)
    retrain = Retrain(memory, private)
    context = make_context(data, retrain=retrain, progress=Heard())
    PrivacyAudit(**settings).measure(Says(data, memory, claims), context)  # type: ignore[arg-type]
    return context, retrain, data


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def update(self, done: int, total: int, text: str = "") -> None:
        assert 0 <= done <= total

    def say(self, text: str) -> None:
        self.lines.append(text)


def number(claim: Claim) -> float:
    assert isinstance(claim.value, int | float)
    return float(claim.value)


def of_kind(context: Any, kind: str, **conditions: Any) -> Claim:
    (found,) = [
        claim
        for claim in context.claims
        if claim.kind == f"privacy.{kind}"
        and all(claim.conditions.get(k) == v for k, v in conditions.items())
    ]
    return found  # type: ignore[no-any-return]


# -- data sets for attacks ------------------------------------------------------------------------


def in_units(folder: Path, rows: int = 120, per_unit: int = 3, label: str = "y") -> Dataset:
    """A table whose patients have `per_unit` rows each, of either class."""
    rng = np.random.default_rng(0)
    lines = ["id,a,patient,y"]
    lines += [
        f"r{i},{rng.normal():.4f},p{i // per_unit},{'yes' if rng.random() < 0.5 else 'no'}"
        for i in range(rows)
    ]
    (folder / "units.csv").write_text("\n".join(lines) + "\n")
    config = build(
        DataConfig,
        {
            "path": "units.csv",
            "label": label,
            "id": "id",
            "unit": "patient",
            "splits": {"valid": 0.2, "test": 0.3},
        },
    )
    return config.load(folder, build_part("task", "tabular-classification"))


def test_shadow_sets_are_halves_that_keep_units_whole(tmp_path: Path) -> None:
    data = in_units(tmp_path)
    found = shadow_sets(data, "test", 6, seed=1)
    members, others = data.positions("train"), data.positions("test")
    assert found.rows.tolist() == [*members, *others]
    assert found.inside.sum(axis=0).tolist() == [3] * len(found.rows)
    units = data.unit_of[found.rows]
    seen = set()
    for inside, half in zip(found.inside, found.sets, strict=True):
        train = half.positions("train")
        assert sorted(found.rows[inside]) == train.tolist()
        assert len(train) <= len(members)
        assert abs(len(train) - len(found.rows) / 2) <= 3
        assert not set(units[inside]) & set(units[~inside])
        assert half.positions("valid").tolist() == data.positions("valid").tolist()
        assert "test" not in half.splits
        seen.add(tuple(train))
    assert len(seen) == 6
    again = shadow_sets(data, "test", 6, seed=1)
    assert np.array_equal(again.inside, found.inside)
    assert not np.array_equal(shadow_sets(data, "test", 6, seed=2).inside, found.inside)
    assert data.opened == set()


def test_no_half_has_more_rows_than_there_are_training_rows(tmp_path: Path) -> None:
    whole = in_units(tmp_path)
    units = whole.unit_of
    data = whole.with_splits(
        {"train": np.flatnonzero(units < 8), "test": np.flatnonzero(units >= 8)}
    )
    found = shadow_sets(data, "test", 8, seed=0)
    assert (found.inside.sum(axis=1) <= 24).all()
    assert (found.inside[:, 24:].sum(axis=0) == 4).all()
    assert 36 <= len(found.rows) <= 48


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    data = in_units(tmp_path)
    few = data.with_splits({"train": data.positions("train")[:3], "test": data.positions("test")})
    with pytest.raises(LoadError, match="too few rows or units to halve"):
        shadow_sets(few, "test", 2, seed=0)
    with pytest.raises(LoadError, match="1 training units are too few for canaries"):
        plant(few, 10, seed=0)


def test_canaries_are_whole_units_with_wrong_labels(tmp_path: Path) -> None:
    data = in_units(tmp_path, rows=600)
    found = plant(data, 40, seed=1)
    assert len(found.included) == 40
    assert 8 <= found.included.sum() <= 32
    assert np.array_equal(found.labels, 1 - data.labels[found.rows])
    assert len(found.rows) == 120
    units = data.unit_of[found.rows]
    assert all(len(set(units[found.unit == i])) == 1 for i in range(40))
    train = found.dataset.positions("train")
    left_out = found.rows[~found.included[found.unit]]
    assert sorted([*train, *left_out]) == sorted(data.positions("train"))
    kept = found.rows[found.included[found.unit]]
    assert np.array_equal(found.dataset.labels[kept], 1 - data.labels[kept])
    plain = np.setdiff1d(train, kept)
    assert np.array_equal(found.dataset.labels[plain], data.labels[plain])
    assert len(plain) >= len(data.positions("train")) / 2
    for split in ("valid", "test"):
        assert np.array_equal(found.dataset.positions(split), data.positions(split))
    assert len(plant(data, 10_000, seed=1).included) == 50  # half of a hundred


def test_coins_are_fair_and_of_the_seed(make_data: Make) -> None:
    data = make_data("three", 400)
    coins = np.concatenate([plant(data, 80, seed).included for seed in range(50)])
    assert abs(coins.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(coins))
    assert np.array_equal(plant(data, 80, 3).rows, plant(data, 80, 3).rows)
    wrong = np.concatenate([plant(data, 80, s).labels for s in range(50)])
    true = np.concatenate([data.labels[plant(data, 80, s).rows] for s in range(50)])
    assert (wrong != true).all()
    shift = np.bincount((wrong - true) % 3, minlength=3)
    assert abs(shift[1] - shift[2]) < 5 * np.sqrt(len(true))  # each other class as often


def test_canaries_of_a_regression_exchange_values(make_data: Make) -> None:
    data = make_data("number", 300)
    found = plant(data, 60, seed=0)
    assert sorted(found.labels) == sorted(data.labels[found.rows])
    assert (found.labels != data.labels[found.rows]).all()


# -- claims ---------------------------------------------------------------------------------------


def test_a_model_that_memorises_is_caught(make_data: Make, make_context: Make) -> None:
    context, retrain, data = audited(make_data, make_context, shadows=4)
    assert {claim.kind for claim in context.claims} == KINDS
    assert {claim.nature for claim in context.claims} == {"measured"}
    members = data.size("train")
    assert members == data.size("test") == 400
    for conditions in (
        {"attack": "threshold"},
        {"attack": "lira", "shadows": 4, "variant": "online"},
    ):
        area = of_kind(context, "membership_auc", **conditions)
        assert area.value == pytest.approx(1.0, abs=1e-3)
        assert area.interval is not None and area.interval[0] > 0.98
        assert area.conditions == conditions
        # halves of training rows and others together have at most as many rows as there were
        assert area.n == 2 * members - (2 if "shadows" in conditions else 0)
        assert (area.split, area.level) == ("test", 0.95)
        assert number(of_kind(context, "membership_advantage", **conditions)) > 0.99
        for fpr in (0.01, 0.001):
            assert number(of_kind(context, "tpr_at_low_fpr", fpr=fpr, **conditions)) > 0.99
    bound = of_kind(context, "epsilon_lower_bound")
    assert bound.conditions == {
        "attack": "canaries",
        "method": "one run",
        "canaries": 200,
        "delta": 1e-5,
    }
    assert (bound.n, bound.split, bound.interval) == (200, "train", None)
    assert isinstance(bound.value, float) and bound.value > 3
    assert bound.details["right"] == bound.details["guesses"]
    assert bound.details["few"] is True
    assert "claimed_epsilon" not in bound.details
    assert "200 canaries, as many as the data allow here" in context.progress.lines[0]
    assert [start for *_, start in retrain.seen] == ["pretrained"] * 5
    assert len({seed for _, seed, _ in retrain.seen}) == 5
    assert all(part.size("train") <= data.size("train") for part, *_ in retrain.seen)
    assert data.opened == {"train", "test"}


def test_a_model_that_does_not_memorise_is_not(make_data: Make, make_context: Make) -> None:
    context, *_ = audited(make_data, make_context, memory=0.0, shadows=4, level=0.999)
    for attack in ("threshold", "lira"):
        area = of_kind(context, "membership_auc", attack=attack)
        assert area.interval is not None
        assert area.interval[0] <= 0.5 <= area.interval[1]
    assert of_kind(context, "epsilon_lower_bound").value == 0.0


def test_regressions_are_attacked_too(make_data: Make, make_context: Make) -> None:
    context, *_ = audited(make_data, make_context, kind="number", shadows=2, online=False)
    assert number(of_kind(context, "membership_auc", attack="threshold")) > 0.9
    assert number(of_kind(context, "membership_auc", attack="lira", variant="offline")) > 0.7
    assert number(of_kind(context, "epsilon_lower_bound")) > 0.5


def test_only_what_was_asked_for_is_done(make_data: Make, make_context: Make) -> None:
    context, retrain, data = audited(
        make_data, make_context, attacks="threshold", rows=300, fpr=(0.1,)
    )
    assert retrain.seen == []
    assert len(context.claims) == 3
    kept = context.evidence["privacy"]
    assert [curve["attack"] for curve in kept["curves"]] == ["threshold"]
    assert kept["canaries"] is None
    assert of_kind(context, "tpr_at_low_fpr").conditions == {"attack": "threshold", "fpr": 0.1}
    context, retrain, data = audited(make_data, make_context, attacks=("canaries",), rows=300)
    assert len(retrain.seen) == len(context.claims) == 1
    assert data.opened == {"train"}


def test_fewer_rows_are_scored_where_asked(make_data: Make, make_context: Make) -> None:
    data = make_data("binary", 400)
    context = make_context(data, retrain=Retrain(20.0))
    audit = PrivacyAudit(attacks=("threshold", "lira"), shadows=2, rows=30)
    audit.measure(Says(data, 20.0), context)  # type: ignore[arg-type]
    assert {(c.n, c.details["members"], c.details["others"]) for c in context.claims} == {
        (60, 30, 30)
    }


def test_units_are_what_is_counted(tmp_path: Path, make_context: Make) -> None:
    data = in_units(tmp_path, rows=600)
    context = make_context(data, retrain=Retrain(20.0))
    PrivacyAudit(shadows=2).measure(Says(data, 20.0), context)  # type: ignore[arg-type]
    units = {s: len(set(data.unit_of[data.splits[s]])) for s in ("train", "test")}
    for attack in ("threshold", "lira"):
        area = of_kind(context, "membership_auc", attack=attack)
        assert (area.details["members"], area.details["others"]) == (units["train"], units["test"])
    assert of_kind(context, "epsilon_lower_bound").n == units["train"] // 2


# -- both numbers ---------------------------------------------------------------------------------


def test_the_claimed_epsilon_stands_beside_its_lower_bound(
    make_data: Make, make_context: Make
) -> None:
    claims = [epsilon_claim(8.0, "patient"), epsilon_claim(40.0), epsilon_claim(1.0, method="void")]
    context, *_ = audited(make_data, make_context, claims=claims, attacks=("canaries",))
    details = of_kind(context, "epsilon_lower_bound").details
    assert details["claimed_epsilon"] == 40.0
    assert details["claimed_delta"] == 1e-5
    assert details["contradicts"] is False
    assert not any("is not true" in line for line in context.progress.lines)


def test_a_contradiction_is_said_plainly(make_data: Make, make_context: Make) -> None:
    claims = [epsilon_claim(1.0)]
    context, *_ = audited(make_data, make_context, claims=claims, attacks=("canaries",))
    bound = of_kind(context, "epsilon_lower_bound")
    assert bound.details["contradicts"] is True
    assert context.evidence["privacy"]["canaries"]["contradicts"] is True
    (line,) = [line for line in context.progress.lines if "is not true" in line]
    assert f"at least {bound.value:.2f}, and the passport claims 1.00: that is not true" in line


def test_epsilon_is_bounded_at_the_claimed_delta(make_data: Make, make_context: Make) -> None:
    claim = epsilon_claim(1.0)
    claim = claim.model_copy(update={"conditions": {"delta": 1e-7, "unit": "row"}})
    context, *_ = audited(make_data, make_context, claims=[claim], attacks=("canaries",))
    assert of_kind(context, "epsilon_lower_bound").conditions["delta"] == 1e-7
    # at a smaller delta epsilon may be greater: that is no contradiction
    context, *_ = audited(
        make_data, make_context, claims=[claim], attacks=("canaries",), delta=1e-9
    )
    bound = of_kind(context, "epsilon_lower_bound")
    assert bound.conditions["delta"] == 1e-9
    assert bound.details["contradicts"] is False
    other = claim.model_copy(update={"dataset": "other"})
    context, *_ = audited(make_data, make_context, claims=[other], attacks=("canaries",))
    assert "claimed_epsilon" not in of_kind(context, "epsilon_lower_bound").details


def test_what_the_training_with_canaries_costs_is_known(
    make_data: Make, make_context: Make
) -> None:
    """It has fewer units than the claimed one and may cost more: that is no contradiction."""
    from assay.privacy.accountant import epsilon
    from assay.privacy.events import Event

    costs = {
        noise: epsilon([Event(noise_multiplier=noise, sampling=0.1, steps=20)], 1e-5)
        for noise in (0.5, 4.0)
    }
    assert costs[4.0] < 1 < 5 < costs[0.5]
    for noise, contradicts in ((0.5, False), (4.0, True), (0.0, True)):
        context, *_ = audited(
            make_data,
            make_context,
            claims=[epsilon_claim(1.0)],
            private=facts(noise),
            attacks=("canaries",),
        )
        bound = of_kind(context, "epsilon_lower_bound")
        assert 1 < bound.value < 5  # type: ignore[operator]
        line = "passport claims 1.00: that is not true"
        assert any(line in said for said in context.progress.lines) is contradicts
        # without noise nothing finite is accounted for
        assert bound.details["accounted_epsilon"] == costs.get(noise)
        assert bound.details["contradicts"] is contradicts


def test_accounting_that_is_not_true_is_said_without_a_claim(
    make_data: Make, make_context: Make
) -> None:
    for noise, contradicts in ((0.5, False), (4.0, True), (0.0, False)):
        context, *_ = audited(make_data, make_context, private=facts(noise), attacks=("canaries",))
        details = of_kind(context, "epsilon_lower_bound").details
        assert details["contradicts"] is contradicts
        said = [line for line in context.progress.lines if "the accountant says" in line]
        assert len(said) == contradicts


# -- agreement ------------------------------------------------------------------------------------


def test_when_a_claim_is_found_to_be_wrong(make_data: Make, make_context: Make) -> None:
    context, *_ = audited(make_data, make_context, memory=1.0, shadows=2)
    audit = PrivacyAudit()
    for again in context.claims:
        assert audit.agrees(again, again) == "holds"
        off = again.model_copy(update={"value": again.value + 0.002})
        assert audit.agrees(off, again) == "fails"
        assert audit.agrees(again.model_copy(update={"value": "much"}), again) == "fails"
        if again.interval is None:
            continue
        for change in ({"machine": {"cpu": "another"}}, {"random": True}):
            told = again.model_copy(update={"details": {**again.details, **change}})
            near = off.model_copy(update={"details": told.details})
            assert audit.agrees(near, told if "random" in change else again) == "holds"
            far = near.model_copy(update={"value": again.interval[1] + 0.01})
            assert audit.agrees(far, told if "random" in change else again) == "fails"
    other = Claim(kind="privacy.epsilon", value=1.0, unit="epsilon")
    assert audit.agrees(other, other) is None


def test_bounds_of_noisy_trainings_agree_up_to_chance(make_data: Make, make_context: Make) -> None:
    from assay.privacy.attacks.canaries import SHARES, lower_bound

    context, *_ = audited(make_data, make_context, memory=1.0, attacks=("canaries",))
    again = of_kind(context, "epsilon_lower_bound")
    again = again.model_copy(update={"details": {**again.details, "random": True}})
    audit = PrivacyAudit()
    m = again.n
    assert m == 200

    def told(right: int, value: float | None = None) -> Claim:
        level = 1 - 0.05 / len(SHARES)
        details = {**again.details, "guesses": m, "right": right, "right_of_all": right}
        said = lower_bound(m, m, right, 1e-5, level) if value is None else value
        return again.model_copy(update={"value": said, "details": details})

    now = again.details["right_of_all"]
    assert audit.agrees(told(now + 8), again) == "holds"
    assert audit.agrees(told(m), again) == "fails"
    assert audit.agrees(told(now + 8, value=0.01), again) == "fails"  # not what it shows
    assert audit.agrees(told(m + 10, value=9.0), again) == "fails"


def test_private_trainings_are_known_to_end_otherwise(make_data: Make, make_context: Make) -> None:
    data = make_data("binary", 400)
    for private, random in ((None, False), (facts(1.0), True), (facts(1.0, True), False)):
        context = make_context(data, retrain=Retrain(5.0, private))
        PrivacyAudit(shadows=2).measure(Says(data, 5.0), context)  # type: ignore[arg-type]
        assert of_kind(context, "epsilon_lower_bound").details["random"] is random
        assert of_kind(context, "membership_auc", attack="lira").details["random"] is random
        assert "random" not in of_kind(context, "membership_auc", attack="threshold").details


# -- evidence, settings, plan ---------------------------------------------------------------------


def test_evidence_is_a_thin_curve(make_data: Make, make_context: Make) -> None:
    context, *_ = audited(make_data, make_context, memory=1.0, shadows=2)
    kept = context.evidence["privacy"]
    canonical_json(kept)
    assert [curve["attack"] for curve in kept["curves"]] == ["threshold", "lira"]
    for curve in kept["curves"]:
        assert (curve["fpr"][0], curve["tpr"][0]) == (0.0, 0.0)
        assert (curve["fpr"][-1], curve["tpr"][-1]) == (1.0, 1.0)
        assert curve["fpr"] == sorted(curve["fpr"]) and curve["tpr"] == sorted(curve["tpr"])
        area = of_kind(context, "membership_auc", attack=curve["attack"])
        assert [curve["auc"], curve["low"], curve["high"]] == [area.value, *area.interval]  # type: ignore[misc]
    assert set(kept["canaries"]) == {
        "epsilon",
        "delta",
        "level",
        "canaries",
        "guesses",
        "right",
        "claimed",
        "accounted",
        "contradicts",
    }


def test_a_thinned_curve_keeps_its_ends_and_its_low_rates() -> None:
    alarms = np.sort(np.concatenate([np.zeros(50), np.arange(1, 5001) / 5000]))
    chosen = thinned(alarms)
    assert len(chosen) <= 202
    assert (chosen[0], chosen[-1]) == (0, len(alarms) - 1)
    assert 49 in chosen  # the most that is found without any false alarm
    kept = alarms[chosen]
    assert ((kept > 0) & (kept < 0.01)).sum() > 20
    assert thinned(np.array([0.0, 0.5, 1.0])).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "settings",
    [
        {"shadows": 3},
        {"shadows": 0},
        {"fpr": [0.0]},
        {"fpr": []},
        {"attacks": []},
        {"attacks": ["guess"]},
        {"canaries": 1},
        {"delta": 1.0},
        {"level": 0.5},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        build(PrivacyAudit, settings, "audit.privacy")


def test_it_needs_stages_to_run_anew(make_data: Make, make_context: Make) -> None:
    data = make_data()
    with pytest.raises(UsageError, match="run anew"):
        PrivacyAudit().measure(Says(data, 1.0), make_context(data))  # type: ignore[arg-type]
    assert not PrivacyAudit(attacks=("threshold",)).retrains()


STAGES = [
    {"finetune": {"epochs": 40, "batch": 16, "step": {"adamw": 0.02}}},
    {"audit": {"privacy": {"shadows": 2, "canaries": 60}}},
]


def recipe(folder: Path, stages: list[Any] = STAGES, rows: int = 150) -> Recipe:
    from tests.tiny import write_table

    write_table(folder / "table.csv", rows=rows)
    return build(
        Recipe,
        {
            "model": {"name": "mlp", "settings": {"hidden": [16]}},
            "data": {
                "path": str(folder / "table.csv"),
                "label": "label",
                "drop": ["patient"],
                "private": True,
            },
            "stages": stages,
        },
    )


def test_the_plan_knows_it_as_a_disclosure(tmp_path: Path) -> None:
    stage = plan(recipe(tmp_path)).stages[1]
    assert set(stage.adds) == KINDS
    assert {read.split for read in stage.reads} == {"train", "test"}
    assert stage.disclosures == stage.reads
    assert stage.voids == ()
    one, many = (
        plan(recipe(tmp_path, [STAGES[0], {"audit": {"privacy": {"shadows": s}}}])).stages[1]
        for s in (2, 20)
    )
    assert many.estimate.seconds > 3 * one.estimate.seconds > 0
    watched = {"finetune": {"step": {"adamw": 0.01, "early_stopping": {}}}}
    read = plan(recipe(tmp_path, [watched, STAGES[1]])).stages[1].reads
    assert {r.split for r in read} == {"train", "valid", "test"}


def test_an_audit_before_any_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="a stage before it trains the model"):
        plan(recipe(tmp_path, [{"audit": {"privacy": {}}}, STAGES[0]]))
    plan(recipe(tmp_path, [{"audit": {"privacy": {"attacks": "threshold"}}}]))


def test_a_run_is_audited_and_verified(tmp_path: Path, workspace: Path) -> None:
    done = run(recipe(tmp_path), out=tmp_path / "run", threads=1)
    passport, _ = Passport.read(done.folder / "model")
    claims = {c.identity(): c for c, *_ in passport.current() if c.kind in KINDS}
    assert {c.kind for c in claims.values()} == KINDS
    lira = [c for c in claims.values() if c.conditions.get("attack") == "lira"]
    assert all(c.details["random"] is False for c in lira)
    found = verify(done.folder)
    told = {f.claim.identity(): f.status for f in found.findings}
    assert {told[identity] for identity in claims} == {"holds"}
    # without training anew the shadow models' claims are not known
    quick = {f.claim.identity(): f.status for f in verify(done.folder, retrain=False).findings}
    assert {quick[identity] for identity in claims} == {"unverifiable"}
