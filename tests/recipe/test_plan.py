from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assay.claims import Read
from assay.recipe.plan import EPSILON, Plan, PlanError
from assay.recipe.schema import Recipe

AUDIT = {
    "probe": {
        "adds": ["quality.*"],
        "keeps": ["*"],
        "reads": [{"split": "test", "influences": ["claims"]}],
    }
}
TRAIN = {"probe": {"reads": [{"split": "train", "influences": ["weights"], "why": "training"}]}}


def recipe(raw: dict[str, Any], *stages: Any, require: Any = None, **more: Any) -> Recipe:
    return Recipe(**{**raw, "stages": list(stages), **more}, require=require)


def refusals(made: Recipe, **options: Any) -> list[str]:
    """What a plan is refused with, line by line."""
    with pytest.raises(PlanError) as caught:
        made.plan(**options)
    assert caught.value.exit_code == 2
    lines = [f"{r.where}: {r.what}; {r.mend}" for r in caught.value.refusals]
    assert caught.value.line() == " ".join(lines[0].split())
    return lines


# -- what a plan says ----------------------------------------------------------------------------


def test_stages_add_keep_and_void(raw: dict[str, Any]) -> None:
    size = {"probe": {"adds": ["size.bytes", "size.parameters"], "keeps": ["*"]}}
    partly = {"fold": {"keeps": ["size.bytes", "quality.auroc"], "adds": ["latency.p50_ms"]}}
    plan = recipe(raw, AUDIT, size, partly, AUDIT).plan()
    first, second, third, fourth = plan.stages
    assert first.adds == ("quality.*",)
    assert second.keeps == ("quality.*",)
    assert not first.voids
    assert not second.voids
    assert third.keeps == ("size.bytes",)
    assert {v.kind: v.why for v in third.voids} == {
        "quality.*": "measured by stage 0, not kept, but keeps quality.auroc",
        "size.parameters": "measured by stage 1, not kept",
    }
    assert fourth.keeps == ("size.bytes", "latency.p50_ms")
    assert plan.carries == {"size.bytes": 1, "latency.p50_ms": 2, "quality.*": 3}


def test_a_plan_is_plain_data_and_readable(raw: dict[str, Any]) -> None:
    train = {"probe": {**TRAIN["probe"], "seconds": 90, "structure_adds": ["lora"]}}
    drop = {"fold": {"structure_removes": ["lora"], "structure_adds": ["mask"], "seconds": 30}}
    plan = recipe(raw, train, drop, AUDIT, require={"quality.accuracy": ">= 0.8"}).plan()
    assert [s.structures for s in plan.stages] == [("lora",), ("mask",), ("mask",)]
    assert plan.estimate.seconds == 120
    assert plan.estimate.bytes == 10
    assert [(r.kind, r.bound, r.stage, r.by) for r in plan.require] == [
        ("quality.accuracy", ">= 0.8", 2, "probe")
    ]
    data = json.loads(json.dumps(plan.as_json(), allow_nan=False))
    assert [r["influences"] for r in data["stages"][0]["reads"]] == [["preprocessing"], ["weights"]]
    assert data["stages"][2]["disclosures"][0]["split"] == "test"
    assert data["model"]["name"] == "mlp"
    assert data["require"][0]["stage"] == 2
    lines = plan.lines()
    assert lines[0] == "recipe recipe, seed 0"
    assert "  reads    train -> weights: training" in lines
    assert "  reads    test -> claims (disclosure)" in lines
    assert "  network  +mask, -lora" in lines
    assert "  requires quality.accuracy >= 0.8: measured by stage 2 (probe)" in lines
    assert lines[-1] == "  costs    about 2 min, 10 B of memory (a guess)"
    assert all("\n" not in line for line in lines)


def test_every_default_is_resolved(raw: dict[str, Any]) -> None:
    plan = recipe(raw, {"finetune": {"epochs": 1}}).plan()
    config = plan.stages[0].config
    assert config["epochs"] == 1
    assert "supervised" in config["objective"]
    assert config["batch"] == 32
    assert plan.task == "tabular-classification"
    assert plan.stages[0].moves == "all parameters"


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if building the model read nothing of the data."""
    monkeypatch.setattr("assay.models.hub.ModelConfig.reads", lambda *_, **__: ())


def test_what_building_a_table_model_reads_is_planned(raw: dict[str, Any]) -> None:
    charged: dict[str, Any] = {
        "probe": {
            "adds": [EPSILON],
            "reads": [{"split": "train", "influences": ["weights"], "private": True}],
        }
    }
    (line,) = refusals(
        recipe(raw, charged, require={EPSILON: "<= 3"}, data={**raw["data"], "private": True})
    )
    assert "it reads train for preprocessing (means, spreads and categories" in line
    assert "declared bounds" in line


@pytest.mark.usefixtures("declared")
def test_private_readings_are_charged_or_void_epsilon(raw: dict[str, Any]) -> None:
    private = {**raw["data"], "private": True}
    charged: dict[str, Any] = {
        "probe": {
            "adds": [EPSILON],
            "reads": [{"split": "train", "influences": ["weights"], "private": True}],
        }
    }
    steered = {
        "probe": {
            **charged["probe"],
            "reads": [
                *charged["probe"]["reads"],
                {"split": "valid", "influences": ["choice"], "why": "early stopping"},
            ],
        }
    }
    require = {EPSILON: "<= 3"}
    good = recipe(raw, charged, AUDIT, require=require, data=private).plan()
    assert good.carries[EPSILON] == 0
    assert not any(stage.voids for stage in good.stages)
    (line,) = refusals(recipe(raw, steered, AUDIT, require=require, data=private))
    assert line == (
        "require: privacy.epsilon: stage 0 (probe) voids privacy.epsilon: it reads valid for "
        "choice (early stopping) without being charged; read them through a private step, "
        "bounded sums, public statistics or declared bounds"
    )
    # what was read without being charged stays read: a later private stage does not mend it
    (line,) = refusals(recipe(raw, TRAIN, charged, require=require, data=private))
    assert line.startswith("require: privacy.epsilon: stage 0 (probe) voids privacy.epsilon")
    # the units of other splits are not concerned
    narrow = {EPSILON: {"bound": "<= 3", "split": "train"}}
    assert recipe(raw, steered, require=narrow, data=private).plan().require
    # public data cost nothing
    assert recipe(raw, steered, AUDIT, require=require).plan().carries[EPSILON] == 0


@pytest.mark.usefixtures("declared")
def test_a_void_epsilon_is_shown_with_its_stage_and_the_way_out(raw: dict[str, Any]) -> None:
    plan = recipe(raw, AUDIT, TRAIN, data={**raw["data"], "private": True}).plan()
    (void,) = [v for v in plan.stages[1].voids if v.kind == EPSILON]
    assert void.why == "reads train for weights (training) without being charged"
    assert any("voids    privacy.epsilon: reads train" in line for line in plan.lines())
    assert EPSILON not in plan.carries
    assert not plan.stages[0].voids


def test_a_reading_for_claims_only_is_a_disclosure() -> None:
    assert Read(split="test", influences=("claims", "report")).disclosure
    assert not Read(split="test", influences=("claims", "choice")).disclosure


# -- what a plan refuses -------------------------------------------------------------------------


def test_never_measured_says_what_would_measure_it(raw: dict[str, Any]) -> None:
    (line,) = refusals(recipe(raw, TRAIN, require={"quality.accuracy": ">= 0.8"}))
    assert line == (
        "require: quality.accuracy: no stage measures quality.accuracy, and stage 0 (probe) would "
        "void it; add `audit: quality` after stage 0"
    )
    (line,) = refusals(recipe(raw, TRAIN, require={"quantity.accuracy": None}))
    assert line.endswith(
        "no registered audit or stage measures it: correct the kind, or leave it out"
    )


def test_measured_and_then_voided_says_by_whom(raw: dict[str, Any]) -> None:
    zeros = {"probe": {"adds": ["sparsity.zeros"], "keeps": ["*"]}}
    keep = {"probe": {"keeps": ["sparsity.*"]}}
    require = {"sparsity.zeros": ">= 0.5"}
    assert recipe(raw, zeros, keep, AUDIT, require=require).plan().carries["sparsity.zeros"] == 0
    (line,) = refusals(recipe(raw, TRAIN, zeros, keep, "fold", AUDIT, require=require))
    assert line == (
        "require: sparsity.zeros: stage 3 (fold) voids sparsity.zeros, which stage 1 (probe) "
        "measures before it; audit again after stage 3, or move stage 3 before stage 1"
    )
    assert recipe(raw, zeros, "fold", zeros, require=require).plan().require[0].stage == 2


def test_merging_lora_and_requiring_sparsity_is_refused(raw: dict[str, Any]) -> None:
    tune = {"finetune": {"parameters": {"lora": {"rank": 2}}}}
    zeros = {"probe": {"adds": ["sparsity.zeros"], "keeps": ["*"], "structure_adds": ["mask"]}}
    (line,) = refusals(recipe(raw, zeros, tune, "merge", require={"sparsity.zeros": ">= 0.5"}))
    assert "(merge) voids sparsity.zeros" in line or "(finetune) voids sparsity.zeros" in line
    (line,) = refusals(recipe(raw, tune, "merge", require={"sparsity.zeros": ">= 0.5"}))
    assert "no stage measures sparsity.zeros" in line


def test_ambiguous_requirements_are_refused(raw: dict[str, Any]) -> None:
    other = {"probe": {**AUDIT["probe"], "reads": [{"split": "valid", "influences": ["claims"]}]}}
    (line,) = refusals(recipe(raw, AUDIT, other, require={"quality.accuracy": None}))
    assert line == (
        "require: quality.accuracy: ambiguous: quality.accuracy is measured by stage 0 on test and "
        "stage 1 on valid; name the split: {split: valid, bound: ...}"
    )
    both = recipe(raw, AUDIT, other, require={"quality.accuracy": {"split": "test"}}).plan()
    assert both.require[0].stage == 0
    # the same rows again: the later one supersedes
    assert recipe(raw, AUDIT, AUDIT, require={"quality.x": None}).plan().require[0].stage == 1


def test_a_split_that_is_not_audited(raw: dict[str, Any]) -> None:
    (line,) = refusals(recipe(raw, AUDIT, require={"quality.accuracy": {"split": "valid"}}))
    assert line == (
        "require: quality.accuracy: quality.accuracy is measured on test, not on valid; "
        "audit on valid, or require it on test"
    )


def test_capabilities_that_conflict(raw: dict[str, Any]) -> None:
    (line,) = refusals(recipe(raw, TRAIN, {"fold": {"needs": ["token_inputs"]}}))
    assert line.startswith("stages[1].fold: fold needs that inputs are token ids")
    # the data give validation rows unless told not to split any off
    assert recipe(raw, {"fold": {"needs": ["valid_split"]}}).plan().stages
    bare = {**raw["data"], "splits": {"valid": 0}}
    (line,) = refusals(recipe(raw, {"fold": {"needs": ["valid_split"]}}, data=bare))
    assert "there are validation rows apart from the training rows" in line
    given = {"fold": {"needs": ["feature_inputs", "linear_layers", "labels"]}}
    assert recipe(raw, given).plan().stages


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"model": "minilm-l6", "data": "hmda"},
            (
                "model: minilm-l6 reads text, but hmda is tabular data; "
                "choose a tabular model, or text data"
            ),
        ),
        (
            {"task": "text-classification"},
            (
                "task: text-classification is for text data, but x is tabular; "
                "leave out task to have it inferred"
            ),
        ),
        (
            {"task": "tabular-regression"},
            (
                "task: tabular-regression needs a number, but the label 'y' has 2 classes; "
                "leave out task to have it inferred"
            ),
        ),
    ],
)
def test_model_data_and_task_must_fit(
    raw: dict[str, Any], change: dict[str, Any], line: str
) -> None:
    assert refusals(recipe(raw, "probe", **change)) == [line]


def test_all_reasons_come_at_once_the_main_one_first(raw: dict[str, Any]) -> None:
    lines = refusals(
        recipe(
            raw,
            {"probe": {"needs": ["token_inputs"]}},
            {"probe": {"needs": ["scalar_output"]}},
            require={"quality.accuracy": ">= 0.8", "size.bytes": None},
        )
    )
    assert [line.partition(":")[0] for line in lines] == [
        "stages[0].probe", "stages[1].probe", "require", "require",
    ]  # fmt: skip


def test_a_stage_that_cannot_be_planned_is_named(raw: dict[str, Any]) -> None:
    lines = refusals(recipe(raw, "probe", {"fold": {"fails": "no such thing"}}))
    assert lines == ["stages[1].fold.fails: no such thing; leave it out"]


def test_a_split_that_the_data_do_not_have(raw: dict[str, Any]) -> None:
    bare = {**raw["data"], "splits": {"test": 0}}
    (line,) = refusals(recipe(raw, AUDIT, data=bare))
    assert line == (
        "stages[0].probe: reads the split 'test', which x does not have; one of: train, valid"
    )
    (line,) = refusals(recipe(raw, {"audit": {"quality": {"split": "tset"}}}))
    assert line == (
        "stages[0].audit: reads the split 'tset', which x does not have; did you mean 'test'?"
    )


# -- a base model of ours ------------------------------------------------------------------------


def test_what_a_base_model_carries(raw: dict[str, Any], here: Path) -> None:
    from assay.claims import Claim, DataCard, Effects, ModelCard
    from assay.claims.passport import Origin, Passport, StageRecord
    from assay.files import sha256, write_bytes, write_json

    folder = here / "base"
    folder.mkdir()
    card = ModelCard(name="mlp", architecture="mlp")
    write_bytes(folder / "model.safetensors", b"weights")
    write_json(
        folder / "config.json",
        {"assay_version": "0", "card": card.model_dump(), "structures": [{"lora": {}}]},
    )
    claims = [Claim(kind=f"quality.{n}", value=0.9, unit="fraction", split="test") for n in "ab"]
    record = StageRecord(
        index=0, name="audit", config={}, effects=Effects(), used={}, subject=sha256(b"weights")
    )
    origin = Origin(
        recipe="r", assay="0", seed=0, threads=1, task={"tabular-classification": {}},
        model=card, data=DataCard(name="x"), data_digest="0" * 64, data_config={},
        data_base=".",
    )  # fmt: skip
    Passport().append(origin).with_stage(record, claims).write(folder)
    keep = {"probe": {"keeps": ["quality.a"]}}
    made = recipe(raw, keep, model="base", require={"quality.a": ">= 0.8"})
    plan = made.plan()
    assert plan.carries == {"quality.a": -1}
    assert plan.stages[0].structures == ("lora",)
    assert plan.require[0].by == "inherited"
    (line,) = refusals(recipe(raw, keep, model="base", require={"quality.b": ">= 0.8"}))
    assert line == (
        "require: quality.b: stage 0 (probe) voids quality.b, which the base model carries before "
        "it; audit again after stage 0"
    )


# -- the real network ----------------------------------------------------------------------------


def deep(made: Recipe) -> Plan:
    return made.plan(deep=True)


def test_deep_counts_what_moves(raw: dict[str, Any]) -> None:
    data = {"name": "breast_cancer"}
    model = {"name": "mlp", "settings": {"hidden": [8, 4]}}
    made = recipe(
        raw,
        {"finetune": {"parameters": "head", "epochs": 1}},
        {"finetune": {"parameters": {"lora": {"rank": 2}}, "epochs": 1}},
        AUDIT,
        data=data,
        model=model,
    )
    plan = deep(made)
    trunk, head = 30 * 8 + 8 + 8 * 4 + 4, 4 * 2 + 2
    adapters = 2 * (30 + 8) + 2 * (8 + 4)
    assert plan.deep.parameters == trunk + head
    assert [(s.moving, s.total) for s in plan.deep.stages] == [
        (head, trunk + head),
        (adapters + head, trunk + head + adapters),
        (None, trunk + head + adapters),
    ]
    assert {m.name: m.parameters for m in plan.deep.modules}["head"] == head
    assert plan.deep.stages[0].estimate.seconds > 0
    assert any("10 of 294 parameters move" in line for line in plan.lines())
    assert json.dumps(plan.as_json())


def test_deep_refuses_what_does_not_fit_the_network(raw: dict[str, Any]) -> None:
    made = recipe(
        raw,
        {"finetune": {"parameters": {"last": 9}}},
        data="breast_cancer",
    )
    lines = refusals(made, deep=True)
    assert lines[0].startswith("stages[0].finetune")


def test_deep_does_not_open_private_data(raw: dict[str, Any]) -> None:
    made = recipe(raw, "probe", data={**raw["data"], "private": True})  # x.csv is not there
    assert made.plan(deep=True).deep.notes == (
        "the data are private and were not opened: the number of features is assumed",
    )


def test_a_plan_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "model: minilm-l6\ndata: reviews\nstages:\n- finetune\n- audit\n"
        "require: {quality.accuracy: '>= 0.8'}\n",
        encoding="utf-8",
    )
    code = (
        "import sys; from assay.recipe.schema import Recipe\n"
        "Recipe.load('r.yaml').plan().lines()\n"
        "heavy = 'torch transformers pandas sklearn matplotlib scipy onnxruntime numpy pyarrow'\n"
        "print([name for name in heavy.split() if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
