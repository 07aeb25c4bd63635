"""The audit `quality`: what it claims, reads, keeps, and when a claim is found to be wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from assay.audit.quality import QualityAudit
from assay.claims import Claim
from assay.config import build
from assay.data.dataset import Dataset
from assay.errors import LoadError, UsageError
from assay.models.model import Model
from assay.models.predictions import Predictions
from assay.training.context import RunContext

Make = Callable[..., Any]


class Says:
    """Stands in for a model: right about a given share of the rows of each split."""

    def __init__(self, data: Dataset, share: float = 0.8, probability: float = 0.9) -> None:
        self.data, self.share, self.probability = data, share, probability
        self.network, self.preprocessing = torch.nn.Identity(), None

    def subject(self) -> str:
        return ""

    def config(self) -> dict[str, Any]:
        return {}

    def predict(self, rows: Any) -> Predictions:
        ids = rows["id"].to_pylist()
        place = {name: i for i, name in enumerate(self.data.table["id"].to_pylist())}
        truth = self.data.labels[[place[name] for name in ids]].astype(int)
        k = len(self.data.classes or ())
        said = truth.copy()
        wrong = np.arange(len(ids)) >= round(self.share * len(ids))
        said[wrong] = (said[wrong] + 1) % k
        p = np.full((len(ids), k), (1 - self.probability) / (k - 1))
        p[np.arange(len(ids)), said] = self.probability
        return Predictions(ids=ids, classes=self.data.classes, probabilities=p)


def measured(audit: QualityAudit, model: Any, context: RunContext) -> dict[str, Claim]:
    audit.measure(model, context)
    return {claim.kind.removeprefix("quality."): claim for claim in context.claims}


def test_claims_of_a_binary_task(make_data: Make, make_context: Make) -> None:
    data = make_data()
    context = make_context(data)
    found = measured(QualityAudit(bootstrap=300), Says(data), context)
    assert found["accuracy"].value == pytest.approx(0.8)
    assert found["accuracy"].method == "Wilson"
    assert (found["accuracy"].n, found["accuracy"].split) == (60, "test")
    assert found["accuracy"].conditions == {}
    assert found["sensitivity"].conditions == {"threshold": 0.5}
    low, high = found["auroc"].interval or (0, 0)
    assert low < float(found["auroc"].value) < high  # type: ignore[arg-type]
    assert set(found["accuracy"].details["baselines"]) == {
        "majority",
        "logistic",
        "gradient boosting",
    }
    assert data.opened == {"train", "test"}
    assert all(claim.kind.startswith("quality.") for claim in context.claims)


def test_evidence_is_laid_out_as_the_report_reads_it(make_data: Make, make_context: Make) -> None:
    from assay.files import canonical_json

    data = make_data()
    context = make_context(data)
    measured(QualityAudit(bootstrap=0), Says(data), context)
    kept = context.evidence["quality"]
    canonical_json(kept)  # plain JSON, no NaN
    assert kept["confusion"]["labels"] == ["no", "yes"]
    assert np.sum(kept["confusion"]["matrix"]) == kept["n"] == 60
    assert kept["curve_roc"][0] == [0.0, 0.0]
    assert kept["curve_roc"][-1] == [1.0, 1.0]
    assert {"name", "metrics"} <= set(kept["baselines"][0])
    assert len(kept["mistakes"]) == 12
    assert {m["id"] for m in kept["mistakes"]} <= set(data.ids("test"))
    assert sum(b["count"] for b in kept["reliability"]) == 60


def test_equal_context_measures_equally(
    make_data: Make, make_model: Make, make_context: Make
) -> None:
    data = make_data()
    model: Model = make_model(data)
    once = measured(QualityAudit(), model, make_context(data))
    again = measured(QualityAudit(), model, make_context(data))
    assert once == again
    assert [QualityAudit().agrees(once[k], again[k]) for k in once] == ["holds"] * len(once)


def test_three_classes_and_regression(
    make_data: Make, make_model: Make, make_context: Make
) -> None:
    data = make_data("three")
    context = make_context(data)
    found = measured(QualityAudit(bootstrap=50), make_model(data), context)
    assert set(found) == {
        "accuracy", "balanced_accuracy", "macro_f1", "auroc", "auprc", "log_loss", "brier",
    }  # fmt: skip
    assert set(context.evidence["quality"]["curves_roc"]) == set(data.classes or ())
    data = make_data("number")
    context = make_context(data)
    found = measured(QualityAudit(bootstrap=50), make_model(data), context)
    assert set(found) == {"rmse", "mae", "r2", "median_ae"}
    assert found["rmse"].details["baselines"].keys() == {"mean", "ridge", "gradient boosting"}
    assert found["rmse"].details["baselines"]["ridge"] < found["rmse"].details["baselines"]["mean"]
    assert len(context.evidence["quality"]["scatter"]) == 60


def test_operating_point_is_chosen_on_validation_rows(
    make_data: Make, make_model: Make, make_context: Make
) -> None:
    data = make_data()
    audit = QualityAudit(operating_point="sensitivity >= 0.9", bootstrap=0, baselines=False)
    context = make_context(data)
    model = make_model(data)
    data.opened.clear()
    found = measured(audit, model, context)
    assert found["sensitivity"].conditions == {"operating_point": "sensitivity>=0.9"}
    assert found["accuracy"].conditions == {}
    assert data.opened == {"valid", "test"}
    assert {(r.split, r.influences) for r in audit.reads(context.plan)} == {
        ("test", ("claims", "report")),
        ("valid", ("choice",)),
    }
    assert "valid_split" in audit.capabilities(context.plan).needs


def test_what_is_read_is_declared(make_data: Make, make_context: Make) -> None:
    data = make_data()
    context = make_context(data)
    for audit in (QualityAudit(), QualityAudit(baselines=False), QualityAudit(split="train")):
        data.opened.clear()
        audit.measure(Says(data), context)  # type: ignore[arg-type]
        assert {read.split for read in audit.reads(context.plan)} == data.opened
        assert all(read.disclosure for read in audit.reads(context.plan))


def test_a_forged_value_fails(make_data: Make, make_context: Make) -> None:
    data = make_data()
    found = measured(QualityAudit(bootstrap=0), Says(data), make_context(data))
    audit = QualityAudit()
    for name, by in (("accuracy", 1 / 60), ("auroc", 0.001), ("log_loss", 0.001)):
        forged = found[name].model_copy(update={"value": float(found[name].value) + by})  # type: ignore[arg-type]
        assert audit.agrees(forged, found[name]) == "fails"
    assert (
        audit.agrees(found["accuracy"].model_copy(update={"value": "good"}), found["auroc"])
        == "fails"
    )
    other = Claim(kind="size.bytes", value=1, unit="bytes")
    assert audit.agrees(other, other) is None


def test_ties_may_fall_either_way_on_another_machine(make_data: Make, make_context: Make) -> None:
    data = make_data()
    tied = measured(QualityAudit(bootstrap=0), Says(data, probability=0.50001), make_context(data))
    assert tied["accuracy"].details["slack"] == 1.0
    clear = measured(QualityAudit(bootstrap=0), Says(data), make_context(data))
    assert clear["accuracy"].details["slack"] == 0.0


class Retrain:
    """Stands in for the stages before the audit; remembers what it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[Dataset, int, str]] = []

    def __call__(self, data: Dataset, seed: int, start: str) -> Any:
        self.seen.append((data, seed, start))
        return Says(data, share=0.7 + 0.02 * (len(self.seen) % 5))


def test_out_of_fold(make_data: Make, make_context: Make) -> None:
    data: Dataset = make_data()
    retrain = Retrain()
    audit = QualityAudit(folds=3, repeats=2)
    context = make_context(data, retrain=retrain)
    found = measured(audit, None, context)
    assert len(retrain.seen) == 6
    assert {start for _, _, start in retrain.seen} == {"pretrained"}
    for part, _, _ in retrain.seen:
        rows = np.concatenate([part.positions(s) for s in ("train", "valid", "test")])
        assert sorted(rows) == list(range(150))
        assert part.size("test") == 50
        assert part.size("valid") == pytest.approx(100 / 3, abs=2)
    accuracy = found["accuracy"]
    assert accuracy.conditions == {"resampling": "2x3 out-of-fold"}
    assert accuracy.split == "out-of-fold"
    assert accuracy.value == pytest.approx(np.mean(accuracy.details["folds"]))
    assert len(accuracy.details["folds"]) == 6
    assert "Nadeau" in accuracy.method
    assert set(accuracy.details["baselines"]) == {"majority", "logistic", "gradient boosting"}
    assert context.evidence["quality"]["n"] == 150
    assert data.opened == set(data.splits) == {r.split for r in audit.reads(context.plan)}


def test_out_of_fold_elsewhere_must_lie_within_the_interval(
    make_data: Make, make_context: Make
) -> None:
    data = make_data()
    context = make_context(data, retrain=Retrain())
    again = measured(QualityAudit(folds=3, baselines=False), None, context)["accuracy"]
    near = again.model_copy(update={"value": float(again.value) + 0.005})  # type: ignore[arg-type]
    audit = QualityAudit(folds=3)
    assert audit.agrees(near, again) == "fails"  # same machine: exactly
    elsewhere = {**again.details, "machine": {"cpu": "another"}}
    assert audit.agrees(near.model_copy(update={"details": elsewhere}), again) == "holds"
    far = near.model_copy(update={"details": elsewhere, "value": 0.99})
    assert audit.agrees(far, again) == "fails"


def test_what_cannot_be_measured_is_said_in_one_line(
    make_data: Make, make_model: Make, make_context: Make
) -> None:
    data = make_data("three")
    model, context = make_model(data), make_context(data)
    with pytest.raises(UsageError, match="'sensitivity' does not apply"):
        QualityAudit(metrics=("sensitivity",)).measure(model, context)
    with pytest.raises(UsageError, match="two classes"):
        QualityAudit(operating_point="ppv>=0.5").measure(model, context)
    with pytest.raises(LoadError, match="no rows to audit"):
        QualityAudit(split="later").measure(model, context)
    with pytest.raises(UsageError, match="run anew"):
        QualityAudit(folds=2).measure(model, context)
    with pytest.raises(UsageError, match="no operating point"):
        build(QualityAudit, {"operating_point": "recall>0.5"}, "audit.quality")
    with pytest.raises(UsageError, match="repeats without folds"):
        build(QualityAudit, {"repeats": 3}, "audit.quality")


def test_an_undefined_metric_is_left_out_unless_asked_for(
    make_data: Make, make_context: Make
) -> None:
    data: Dataset = make_data()
    positive = data.positions("test")[data.targets("test") == 1]
    rest = np.setdiff1d(np.arange(150), positive)
    data = data.with_splits({"train": rest, "test": positive})
    found = measured(QualityAudit(bootstrap=0), Says(data), make_context(data))
    assert "auroc" not in found
    assert "accuracy" in found
    with pytest.raises(LoadError, match="auroc is undefined"):
        QualityAudit(metrics=("auroc",)).measure(Says(data), make_context(data))  # type: ignore[arg-type]
