"""The audit `transfer`: paired rows, the interval's closed forms, and a run that is verified."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, t
from tests.tiny import write_reviews, write_table, write_tokenizer

from assay.audit.measures.intervals import compare
from assay.audit.measures.metrics import Scored
from assay.audit.measures.transfer import few_labels, gain, widening
from assay.audit.transfer import TransferAudit
from assay.config import build, build_part
from assay.data.dataset import Dataset
from assay.errors import LoadError, UsageError
from assay.recipe.plan import plan
from assay.recipe.run import run
from assay.recipe.schema import Recipe
from assay.verify.check import verify

Make = Callable[..., Any]


# -- the interval ---------------------------------------------------------------------------------


def scored(right: Any) -> Scored:
    """Predictions of two classes that are right about the rows said."""
    right = np.asarray(right, dtype=bool)
    targets = np.arange(len(right)) % 2
    said = np.where(right, targets, 1 - targets)
    return Scored(targets, said, np.eye(2)[said])


def drawn(rate: float, rows: int, seed: int) -> Scored:
    return scored(np.random.default_rng(seed).random(rows) < rate)


def test_with_one_seed_it_is_the_paired_bootstrap_over_rows() -> None:
    a, b = drawn(0.9, 200, 0), drawn(0.7, 200, 1)
    units = np.arange(200)
    found = gain("accuracy", [(a, b)], units, resamples=500, seed=4)
    (paired,) = compare(b, a, a.targets, units, metrics=["accuracy"], resamples=500, seed=4)
    assert found.value == pytest.approx(paired.difference)
    assert found.interval == pytest.approx(paired.interval)
    assert (found.pretrained, found.scratch) == ((paired.b,), (paired.a,))


def test_seeds_that_agree_add_nothing() -> None:
    a, b = drawn(0.9, 200, 0), drawn(0.7, 200, 1)
    units = np.arange(200)
    once = gain("accuracy", [(a, b)], units, resamples=500, seed=4)
    thrice = gain("accuracy", [(a, b)] * 3, units, resamples=500, seed=4)
    assert thrice.value == pytest.approx(once.value)
    assert thrice.interval == pytest.approx(once.interval)


@pytest.mark.parametrize("seeds", [3, 10])
def test_spread_of_seeds_is_that_of_student_s_t(seeds: int) -> None:
    """Gains of seeds that hold for every block of rows alike: rows add next to nothing."""
    rows, units = 20_000, np.arange(20_000) % 2  # two units, of the same rows each
    level = np.linspace(0.2, 0.8, seeds)
    place = np.arange(rows) // 2 / (rows / 2)
    pairs = [(scored(place < share), scored(np.zeros(rows))) for share in level]
    found = gain("accuracy", pairs, units, resamples=4000, seed=0)
    assert found.value == pytest.approx(level.mean(), abs=1e-3)
    assert found.interval is not None
    half = (found.interval[1] - found.interval[0]) / 2
    exact = float(t.ppf(0.975, seeds - 1)) * level.std(ddof=1) / math.sqrt(seeds)
    # three seeds have 10 different means only, and ends are clipped to what a gain can be
    assert half == pytest.approx(exact, rel=0.35 if seeds == 3 else 0.1)


def test_widening() -> None:
    assert widening(1, 0.95) == 1.0
    expected = math.sqrt(3 / 2) * t.ppf(0.975, 2) / norm.ppf(0.975)
    assert widening(3, 0.95) == pytest.approx(expected)
    assert widening(10_000, 0.95) == pytest.approx(1.0, abs=1e-3)


def test_variance_is_that_of_rows_and_seeds() -> None:
    """Against the closed form of the two-way bootstrap, by the width of a normal interval."""
    rows, seeds = 400, 6
    pairs = [(drawn(0.6 + 0.05 * i, rows, i), drawn(0.5, rows, 50)) for i in range(seeds)]
    apart = np.array(
        [(a.predicted == a.targets) * 1.0 - (b.predicted == b.targets) for a, b in pairs]
    )
    of_rows = apart.mean(axis=0).var() / rows
    own = apart - apart.mean(axis=0)
    # variance of what a resample of the seeds adds: between seeds, and of each on resampled rows
    of_seeds = (own.mean(axis=1) ** 2 + own.var(axis=1) / rows).sum() / seeds**2
    sd = math.sqrt(of_rows + widening(seeds, 0.95) ** 2 * of_seeds)
    found = gain("accuracy", pairs, np.arange(rows), resamples=20_000, seed=1)
    assert found.interval is not None
    assert (found.interval[1] - found.interval[0]) / 2 == pytest.approx(1.96 * sd, rel=0.05)


def test_no_interval_without_resamples_or_of_one_unit() -> None:
    pair = [(drawn(0.9, 20, 0), drawn(0.7, 20, 1))]
    assert gain("accuracy", pair, np.arange(20), resamples=0).interval is None
    assert gain("accuracy", pair, np.zeros(20, dtype=np.int64)).interval is None


def test_an_undefined_metric_is_refused() -> None:
    one_class = Scored(np.zeros(4, dtype=int), np.zeros(4, dtype=int), np.eye(2)[[0, 0, 0, 0]])
    with pytest.raises(LoadError, match="auroc is undefined"):
        gain("auroc", [(one_class, one_class)], np.arange(4))


# -- what is trained on what ----------------------------------------------------------------------


class Says:
    """Stands in for a trained model: right about a share of the rows."""

    def __init__(self, data: Dataset, share: float) -> None:
        import torch

        self.data, self.share = data, share
        self.network, self.preprocessing = torch.nn.Identity(), None

    def subject(self) -> str:
        return str(self.share)

    def config(self) -> dict[str, Any]:
        return {}

    def predict(self, rows: Any) -> Any:
        from assay.models.predictions import Predictions

        ids = rows["id"].to_pylist()
        place = {name: i for i, name in enumerate(self.data.table["id"].to_pylist())}
        said = self.data.labels[[place[name] for name in ids]].astype(int).copy()
        said[np.arange(len(ids)) >= round(self.share * len(ids))] ^= 1
        return Predictions(ids=ids, classes=self.data.classes, probabilities=np.eye(2)[said])


class Retrain:
    """Stands in for the stages before: pretrained is right about 90 % of rows, scratch 60 %."""

    def __init__(self) -> None:
        self.seen: list[tuple[Dataset, int, str, int]] = []

    def __call__(
        self, data: Dataset, seed: int, start: str, *, min_steps: int = 0, told: Any = None
    ) -> Any:
        self.seen.append((data, seed, start, min_steps))
        told({"steps": min_steps + len(self.seen)})
        told({"merged": True})
        return Says(data, 0.9 if start == "pretrained" else 0.6)


def test_both_sides_learn_from_the_very_same_rows(make_data: Make, make_context: Make) -> None:
    data: Dataset = make_data()
    retrain = Retrain()
    audit = TransferAudit(k=(8, 3), seeds=2, rows=40, min_steps=7, bootstrap=100)
    context = make_context(data, retrain=retrain)
    audit.measure(None, context)  # type: ignore[arg-type]
    assert [start for _, _, start, _ in retrain.seen] == ["pretrained", "scratch"] * 4
    assert {steps for *_, steps in retrain.seen} == {7}
    rows: dict[tuple[int, int], list[int]] = {}
    for i in range(0, 8, 2):
        (one, seed, *_), (other, same, *_) = retrain.seen[i : i + 2]
        assert seed == same
        for split in ("train", "valid", "test"):
            np.testing.assert_array_equal(one.positions(split), other.positions(split))
        k = one.size("train") // 2
        rows[k, seed] = one.positions("train").tolist()
        assert np.bincount(data.labels[one.positions("train")]).tolist() == [k, k]
        assert one.size("valid") == min(2 * k, data.size("valid"))
        assert one.size("test") == 40
    seeds = sorted({seed for _, seed in rows})
    assert set(rows) == {(k, seed) for k in (3, 8) for seed in seeds}
    assert rows[3, seeds[0]] != rows[3, seeds[1]]  # other seeds, other rows
    assert set(rows[3, seeds[0]]) < set(rows[8, seeds[0]])  # fewer are among more


def test_claims_and_evidence(make_data: Make, make_context: Make) -> None:
    from assay.files import canonical_json

    data: Dataset = make_data()
    audit = TransferAudit(k=(3, 8), seeds=2, rows=40, min_steps=7, bootstrap=100)
    context = make_context(data, retrain=Retrain())
    audit.measure(None, context)  # type: ignore[arg-type]
    first, second = context.claims
    assert (first.kind, first.unit, first.nature) == ("transfer.gain", "fraction", "historical")
    assert first.conditions == {"k": 3, "seeds": 2, "metric": "accuracy", "min_steps": 7}
    assert second.conditions["k"] == 8
    assert (first.n, first.split) == (40, "test")
    assert first.value == pytest.approx(0.3)
    assert first.details["pretrained"] == pytest.approx([0.9, 0.9])
    assert first.details["scratch"] == pytest.approx([0.6, 0.6])
    assert first.details["steps"] == {"pretrained": [8, 10], "scratch": [9, 11]}
    assert first.details["labelled"] == [6, 6]
    low, high = first.interval
    assert low < 0.3 < high
    assert "2 seeds" in first.method
    kept = context.evidence["transfer"]
    canonical_json(kept)
    assert kept == {
        "metric": "accuracy",
        "split": "test",
        "n": 40,
        "k": [3, 8],
        "seeds": [0, 1],
        "pretrained": [pytest.approx([0.9, 0.9])] * 2,
        "scratch": [pytest.approx([0.6, 0.6])] * 2,
        "gain": [
            {"k": c.conditions["k"], "value": c.value, "low": c.interval[0], "high": c.interval[1]}
            for c in context.claims
        ],
    }
    assert data.opened == {"test"}  # what the stand-in did not train on it did not open


def test_when_a_claim_is_found_to_be_wrong(make_data: Make, make_context: Make) -> None:
    context = make_context(make_data(), retrain=Retrain())
    audit = TransferAudit(k=(3,), seeds=2, rows=40, bootstrap=100)
    audit.measure(None, context)  # type: ignore[arg-type]
    (again,) = context.claims
    assert audit.agrees(again, again) == "holds"
    near = again.model_copy(update={"value": again.value + 0.01})
    assert audit.agrees(near, again) == "fails"
    elsewhere = {**again.details, "machine": {"cpu": "another"}}
    assert audit.agrees(near.model_copy(update={"details": elsewhere}), again) == "holds"
    far = near.model_copy(update={"details": elsewhere, "value": 0.99})
    assert audit.agrees(far, again) == "fails"
    assert audit.agrees(again.model_copy(update={"value": "much"}), again) == "fails"
    assert audit.agrees(again.model_copy(update={"kind": "size.bytes"}), again) is None


def test_what_cannot_be_measured_is_said_in_one_line(make_data: Make, make_context: Make) -> None:
    data: Dataset = make_data()
    with pytest.raises(UsageError, match="run anew"):
        TransferAudit().measure(None, make_context(data))  # type: ignore[arg-type]
    retrain = Retrain()
    with pytest.raises(LoadError, match="fewer than 70"):
        TransferAudit(k=(3, 70)).measure(None, make_context(data, retrain=retrain))  # type: ignore[arg-type]
    assert retrain.seen == []  # before anything is trained
    for k in ([0], [3, 3], []):
        with pytest.raises(UsageError):
            build(TransferAudit, {"k": k}, "audit.transfer")


def test_few_labels_have_few_to_watch(make_data: Make) -> None:
    few = few_labels(make_data(), 3, 0)
    assert (few.size("train"), few.size("valid"), few.size("test")) == (6, 6, 60)


def test_training_lasts_by_whole_epochs() -> None:
    stage = build_part("stage", {"finetune": {"epochs": 2, "batch": 8}})
    assert stage.lasting(10, 20).epochs == 4  # 3 batches an epoch: 12 steps
    assert stage.lasting(5, 20).epochs == 2  # never less than before
    accumulate = build_part(
        "stage", {"finetune": {"batch": 8, "step": {"adamw": 0.01, "accumulate": 2}}}
    )
    assert accumulate.lasting(10, 20).epochs == 5  # 2 updates an epoch
    assert not stage.lasting(10, 20).curves
    audit = build_part("stage", "audit")
    assert audit.lasting(10, 20) is audit


# -- a recipe -------------------------------------------------------------------------------------


def learnt_folder(home: Path) -> None:
    """A tiny BERT folder whose words already mean what the labels ask for."""
    import torch
    from transformers import BertConfig, BertModel

    tokens = write_tokenizer(home / "learnt")
    config = BertConfig(
        vocab_size=tokens, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=12, max_position_embeddings=32, hidden_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    network = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        # tokens 4 and 5 are `good` and `bad`: far apart, all others near nothing
        words = network.embeddings.word_embeddings.weight
        words.mul_(0.05)
        words[4, :4], words[5, :4] = 6.0, -6.0
        words[4, 4:], words[5, 4:] = -6.0, 6.0
    network.save_pretrained(home / "learnt")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer")
    write_reviews(folder / "reviews.jsonl", rows=160)
    write_table(folder / "table.csv")
    learnt_folder(folder)
    return folder


def recipe(home: Path, *more: Any, **changes: Any) -> Recipe:
    audit = {"k": [3], "seeds": 2, "rows": 30, "min_steps": 15, "bootstrap": 200}
    finetune = {"parameters": "head", "epochs": 1, "batch": 8, "step": {"adamw": {"lr": 0.05}}}
    settings: dict[str, Any] = {
        "name": "few",
        "model": {"name": str(home / "learnt"), "max_length": 16, "dropout": 0.0},
        "data": {"path": str(home / "reviews.jsonl"), "label": "label", "text": ["text"]},
        "stages": [{"finetune": finetune}, {"audit": {"transfer": audit}}, *more],
    }
    return Recipe(**{**settings, **changes})


def test_pretraining_that_helps_is_a_gain_and_is_verified(home: Path, tmp_path: Path) -> None:
    done = run(recipe(home), out=tmp_path / "run", threads=1)
    found = verify(done.folder, strict=True)
    (one,) = [f for f in found.findings if f.claim.kind == "transfer.gain"]
    assert one.status == "holds", one.why
    assert one.measured == one.claim.value  # bit for bit
    assert isinstance(one.claim.value, float)
    assert one.claim.value > 0.1
    assert one.claim.details["steps"] == {"pretrained": [15, 15], "scratch": [15, 15]}
    (none,) = [
        f for f in verify(done.folder, retrain=False).findings if f.claim.kind == "transfer.gain"
    ]
    assert none.status == "unverifiable"


def test_it_goes_on_from_a_folder_of_assay(home: Path, tmp_path: Path) -> None:
    first = recipe(home, stages=[{"finetune": {"epochs": 1, "parameters": "head"}}])
    before = run(first, out=tmp_path / "first", threads=1)
    model = {"name": str(before.folder / "model")}
    done = run(recipe(home, model=model), out=tmp_path / "second", threads=1)
    found = verify(done.folder, strict=True)
    claims = [f for f in found.findings if f.claim.kind == "transfer.gain"]
    assert [f.status for f in claims] == ["holds"]
    assert float(claims[0].claim.value) > 0.1  # type: ignore[arg-type]


def test_a_later_stage_that_keeps_history_keeps_it_and_training_voids_it(home: Path) -> None:
    assert "transfer.gain" in plan(recipe(home, "export")).carries
    again = {"finetune": {"epochs": 1}}
    assert "transfer.gain" not in plan(recipe(home, again)).carries


def refusals(given: Recipe) -> str:
    with pytest.raises(UsageError) as refused:
        plan(given)
    return str(refused.value)


def test_the_plan_refuses_what_cannot_be(home: Path) -> None:
    plan(recipe(home))
    table = {"path": str(home / "table.csv"), "label": "label", "drop": ["patient"]}
    said = refusals(recipe(home, model={"name": "mlp"}, data=table))
    assert "pretrained weights" in said
    stages: list[Any] = [{"audit": {"transfer": {"k": [3]}}}]
    assert "a stage before it trains the model" in refusals(recipe(home, stages=stages))
    stages = [{"finetune": {}}, {"audit": {"transfer": {"metric": "r2"}}}]
    assert "r2 is a metric of the task" in refusals(recipe(home, stages=stages))


def test_validation_rows_are_read_where_they_steer(home: Path) -> None:
    plain = recipe(home)
    watched = recipe(
        home,
        stages=[
            {"finetune": {"step": {"adamw": 0.01, "early_stopping": {}}}},
            {"audit": {"transfer": {"k": [3]}}},
        ],
    )
    read = [{r.split for r in plan(r).stages[1].reads} for r in (plain, watched)]
    assert read == [{"train", "test"}, {"train", "valid", "test"}]


def test_it_costs_more_with_more_seeds(home: Path) -> None:
    def seconds(seeds: int) -> float:
        audit = {"transfer": {"k": [3], "seeds": seeds}}
        stages = [{"finetune": {}}, {"audit": audit}]
        return plan(recipe(home, stages=stages)).stages[1].estimate.seconds

    assert seconds(4) == pytest.approx(2 * seconds(2))
    assert seconds(2) > 0
