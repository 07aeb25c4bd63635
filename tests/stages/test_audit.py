"""The stage `audit`: how it is written, what it declares, whom it asks."""

from __future__ import annotations

from typing import Any

import pytest

from assay import registry
from assay.claims import Claim, DataCard, ModelCard, PlanContext, conflicts
from assay.config import build, build_part, dump, dump_part
from assay.errors import UsageError
from assay.stages.audit import AuditStage

PLAN = PlanContext(
    model=ModelCard(name="m"),
    data=DataCard(name="d", label="y"),
    task=registry.find("task", "tabular-classification")(),
)


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("quality", ["quality"]),
        (None, ["quality"]),
        ({"efficiency": None}, ["efficiency"]),
        ({"quality": {"folds": 5}, "efficiency": {}}, ["quality", "efficiency"]),
        ([{"quality": {}}, {"quality": {"folds": 5}}], ["quality", "quality"]),
    ],
)
def test_the_mapping_under_audit_is_the_mapping_of_audits(written: Any, names: list[str]) -> None:
    stage = build_part("stage", {"audit": written}, "stages[1]")
    assert isinstance(stage, AuditStage)
    assert [name for name, _ in stage.parts()] == names
    assert build(AuditStage, dump(stage)) == stage
    assert build_part("stage", dump_part(stage)) == stage


def test_python_writes_the_same() -> None:
    stage = AuditStage(audits={"quality": {"folds": 5}})
    assert stage == build(AuditStage, {"quality": {"folds": 5}})
    assert dump(stage)["quality"]["folds"] == 5


@pytest.mark.parametrize(
    ("written", "where", "says"),
    [
        ({"qualty": {}}, "stages[1].audit.qualty", "did you mean 'quality'"),
        ({"quality": {"fold": 5}}, "stages[1].audit.quality.fold", "did you mean 'folds'"),
        ({"quality": {"folds": "x"}}, "stages[1].audit.quality.folds", "integer"),
        ({}, "stages[1].audit", "an audit of nothing"),
        (5, "stages[1].audit", "expected names of audit parts"),
        (["quality", "efficiency"], "stages[1].audit", "mapping from name to settings"),
    ],
)
def test_mistakes_are_named_with_their_path(written: Any, where: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_part("stage", {"audit": written}, "stages[1]")
    assert caught.value.where == where
    assert says in caught.value.line()


def test_effects_keep_all_and_add_what_the_parts_do() -> None:
    stage = build(AuditStage, {"quality": {}, "efficiency": {}})
    effects = stage.effects(PLAN)
    assert effects.keeps == ("*",)
    assert effects.does_add("quality.auroc")
    assert effects.does_add("latency.p50_ms")
    assert not effects.does_add("fairness.gap")
    assert {read.split for read in effects.reads} == {"train", "test"}
    assert all(read.disclosure for read in effects.reads)
    assert effects.moves == ""
    twice = build(AuditStage, [{"quality": {}}, {"quality": {"metrics": ["auroc"]}}])
    assert len(twice.effects(PLAN).reads) == 2


@pytest.mark.parametrize(
    ("task", "classes", "refused"),
    [
        ("tabular-classification", 2, False),
        ("tabular-classification", None, False),  # it is not known yet
        ("tabular-classification", 3, True),
        ("tabular-regression", 0, True),
    ],
)
def test_a_rule_for_the_operating_point_needs_two_classes(
    task: str, classes: int | None, refused: bool
) -> None:
    plan = PLAN.model_copy(
        update={
            "task": registry.find("task", task)(),
            "data": PLAN.data.model_copy(update={"classes": classes}),
        }
    )
    stage = build(AuditStage, {"quality": {"operating_point": "sensitivity>=0.9"}})
    declared = [(n, p.capabilities(plan)) for n, p in stage.parts()]
    found = conflicts([*declared, ("task", plan.task.capabilities(plan))])
    assert [r.mend for r in found if "two classes" in r.what] == [
        "leave out operating_point"
    ] * refused


def test_estimates_add_up() -> None:
    both = build(AuditStage, {"quality": {}, "efficiency": {}}).estimate(PLAN)
    one = build(AuditStage, "quality").estimate(PLAN)
    assert both.seconds > one.seconds > 0


class _Context:
    """What `measure` looks at here."""

    retrain = None

    def __init__(self) -> None:
        self.measured: list[str] = []


def test_measuring_again_leaves_out_what_cannot_be_trained_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from assay.audit.efficiency import EfficiencyAudit
    from assay.audit.quality import QualityAudit

    for cls in (QualityAudit, EfficiencyAudit):
        monkeypatch.setattr(cls, "measure", lambda self, _, c: c.measured.append(self.part_name))
    stage = build(AuditStage, {"quality": {"folds": 2}, "efficiency": {}})
    context = _Context()
    stage.measure(None, context)  # type: ignore[arg-type]
    assert context.measured == ["efficiency"]
    model = object()
    context = _Context()
    assert stage.run(model, context) is model  # type: ignore[arg-type]
    assert context.measured == ["quality", "efficiency"]


def test_agreement_is_the_audits_own() -> None:
    stage = build(AuditStage, {"quality": {}, "efficiency": {}})
    size = Claim(kind="size.bytes", value=10**9, unit="bytes")
    assert stage.agrees(size, size.model_copy(update={"value": 10**9 + 1})) == "fails"
    quality = Claim(kind="quality.accuracy", value=0.8, unit="fraction")
    near = Claim(kind="quality.accuracy", value=0.81, unit="fraction", details={"slack": 0.02})
    assert stage.agrees(quality, near) == "holds"
    assert stage.agrees(near, quality.model_copy(update={"details": {"slack": 0.0}})) == "fails"
    unknown = Claim(kind="other.thing", value=1.0, unit="")
    assert stage.agrees(unknown, unknown.model_copy(update={"value": 1.0 + 1e-9})) == "holds"
