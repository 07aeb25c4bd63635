"""What a stage declares is true: each runs between two audits, and is held to its word.

Every registered stage is swept with its `examples()` over models of several kinds. A stage's own
`uses:` file can be held to the same: `untruths` is all there is to it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from tests.tiny import (
    Bench,
    bench,
    save,
    table_bench,
    text_bench,
    write_reviews,
    write_table,
    write_tokenizer,
)

from assay import registry
from assay.claims import Claim, Effects, PlanContext, Read
from assay.config import build_part, dump_part
from assay.data.config import DataConfig
from assay.models.hub import ModelConfig
from assay.models.load import load_model
from assay.models.model import Model
from assay.models.structures.lora import Lora
from assay.models.structures.mask import mask_model
from assay.recipe.walk import _ask
from assay.stages.base import Stage
from assay.training.context import RunContext

#: two probabilities this near may change places
TIES = 1e-4
#: families of claims about what the network computes
BEHAVIOUR = ("quality.*", "calibration.*", "fairness.*", "robustness.*", "explanation.*")
AUDIT = build_part(
    "stage",
    {"audit": {"quality": {"bootstrap": 0, "baselines": False}, "efficiency": {"batches": []}}},
)


def everything(found: Bench, model: Model) -> list[np.ndarray[Any, Any]]:
    """What every way to run the model says of every row of the table, `[N, K]` each.

    The table is looked at directly: no split is opened by that.
    """
    rows = found.dataset.table
    said = [model.predict(rows)]
    if "model.onnx" in model.extra:
        from assay.deploy.runtime import OnnxNetwork, predict_with

        graph = OnnxNetwork(model.extra["model.onnx"], set(model.preprocessing.inputs), 1)
        said.append(predict_with(graph, rows, model.preprocessing, model.task, model.classes))
    if model.preprocessing.target is not None:
        scale = model.preprocessing.target.std
        return [np.asarray(s.values)[:, None] / scale for s in said]
    return [np.asarray(s.probabilities) for s in said]


def changed(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> bool:
    """Whether a prediction differs by more than a tie."""
    return before.shape != after.shape or bool((np.abs(before - after) > TIES).any())


def measured(found: Bench, model: Model, context: RunContext) -> list[Claim]:
    """What the audits claim of a model, in a context of their own."""
    plan = context.plan.model_copy(
        update={"structures": tuple(s.part_name for s in model.structures)}
    )
    own = replace(context, plan=plan, claims=[], evidence={}, used={})
    AUDIT.run(model, own)
    return own.claims


def untruths(stage: Stage, found: Bench, model: Model, folder: Path) -> list[str]:
    """Run a stage between two audits; what of its declaration is not so.

    Args:
        stage: the stage.
        found: the data, and the model before any structure was added.
        model: what the stage is given.
        folder: an empty folder.
    """
    (folder / "work").mkdir(parents=True)
    context = found.context(
        folder / "work", model, folder=folder, retrain=lambda data, seed, start, **how: model.copy()
    )
    said: Effects = stage.effects(context.plan)
    before = everything(found, model)[0]
    weights, audited = model.subject(), measured(found, model, context)
    found.dataset.opened.clear()
    given = stage.run(model, context)
    opened = set(found.dataset.opened)
    if given.passport.origin is None:
        given = save(found, folder / "model", given)
    after = load_model(folder / "model")  # what is handed on, not what is in memory

    out = [f"the model it was given changed: {model.subject()}"] * (model.subject() != weights)
    out += [
        f"keeps {kind}, and predictions changed"
        for kind in BEHAVIOUR
        if any(fnmatchcase(kind, k) or fnmatchcase(k, kind) for k in said.keeps)
        and any(changed(before, one) for one in everything(found, after))
    ]
    out += [f"opens {s}, reads no {s}" for s in sorted(opened - {r.split for r in said.reads})]
    kinds = {claim.kind for claim in context.claims}
    out += [f"claims {kind}, adds no {kind}" for kind in sorted(kinds) if not said.does_add(kind)]
    out += [
        f"adds {pattern}, claims no {pattern}"
        for pattern in said.adds
        if not any(Effects(adds=(pattern,)).does_add(kind) for kind in kinds)
    ]
    out += _structures(model, after, said)
    again = {c.identity(): c for c in measured(found, after, context)}
    for claim in audited:
        now = again.get(claim.identity())
        if said.does_keep(claim.kind) and (now is None or AUDIT.agrees(claim, now) != "holds"):
            out.append(f"keeps {claim.kind}, and it changed")
    return out


def _structures(before: Model, after: Model, said: Effects) -> list[str]:
    first, then = (Counter(s.part_name for s in m.structures) for m in (before, after))
    out = []
    for name in sorted({*first, *then, *said.structure_adds, *said.structure_removes}):
        for word, happened, declared in (
            ("adds", then[name] > first[name], name in said.structure_adds),
            ("removes", then[name] < first[name], name in said.structure_removes),
        ):
            if happened != declared:
                does = f"{word} the structure {name}"
                out.append(f"{does} and does not say so" if happened else f"says it {does}")
    return out


# -- models of several kinds ----------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of model that a stage may meet: data, and the structures on top of the head."""

    data: Literal["table", "text", "numbers"]
    structures: tuple[str, ...] = ()
    exported: bool = False
    pretrained: bool = False

    def __str__(self) -> str:
        marks = [n for n in ("exported", "pretrained") if getattr(self, n)]
        return "-".join((self.data, *self.structures, *marks))


KINDS = [
    Kind("table"),
    Kind("table", ("lora", "mask")),
    Kind("table", exported=True),
    Kind("numbers", ("mask",)),
    Kind("text", ("mask",)),
    Kind("text", ("lora",)),
    Kind("table", pretrained=True),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conformance")
    write_table(folder / "table.csv", rows=80)
    write_reviews(folder / "reviews.jsonl")
    write_tokenizer(folder / "words")
    return folder


@pytest.fixture(scope="module")
def make(home: Path) -> Callable[[Kind], tuple[Bench, Model]]:
    """A kind -> its data and model."""

    @functools.cache
    def benches(data: str) -> Bench:
        if data == "text":
            return text_bench(home)
        if data == "table":
            return table_bench(home)
        task = build_part("task", "tabular-regression")
        config = DataConfig(path="table.csv", label="b", drop=("patient", "label"))
        return bench(config, ModelConfig(name="mlp", settings={"hidden": [6, 5]}), home, task)

    @functools.cache
    def made(kind: Kind) -> tuple[Bench, Model]:
        found = benches(kind.data)
        if kind.pretrained:
            card = found.model.card.model_copy(update={"pretrained": True})
            found = replace(found, model=replace(found.model, card=card))
        model = found.model
        if "mask" in kind.structures:
            weights = [n for n, p in model.network.named_parameters() if p.dim() == 2]
            name = next(n for n in weights if "embeddings" not in n)
            weight = model.network.get_parameter(name)
            model = mask_model(model, {name: torch.arange(weight.numel()).view_as(weight) % 2 == 0})
        # trained, so that it calls rows of every class; adapters are those of the examples, which
        # the examples then train further
        choice = "lora" if "lora" in kind.structures else "full"
        settings = {"parameters": _example("parameters", choice), "step": {"adamw": 0.02}}
        train = build_part("stage", {"finetune": {**settings, "epochs": 15, "batch": 8}})
        model = train.run(model, found.context(None, model))
        if kind.exported:
            work = home / "exported"
            work.mkdir()
            model = build_part("stage", "export").run(model, found.context(work, model))
        return found, model

    return made


def _example(kind: str, name: str) -> Any:
    found: Any = registry.find(kind, name)
    return found.examples()[0]


def refused(stage: Stage, found: Bench, model: Model) -> bool:
    """Whether the plan refuses the stage for such a model."""
    return bool(_ask(stage, found.context(None, model).plan, fits=True)[3])


def examples() -> Iterator[tuple[str, Stage]]:
    """Every registered stage with each of its canonical settings."""
    stages: dict[str, Any] = registry.parts("stage")
    for name, cls in stages.items():
        for i, stage in enumerate(cls.examples()):
            yield f"{name}{i}", stage


EXAMPLES = list(examples())


@pytest.mark.parametrize(("name", "stage"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_what_a_stage_declares_is_true(
    name: str,
    stage: Stage,
    make: Callable[[Kind], tuple[Bench, Model]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran = 0
    for kind in KINDS:
        found, model = make(kind)
        if refused(stage, found, model):
            continue
        folder = tmp_path / str(kind)
        folder.mkdir()
        monkeypatch.chdir(folder)
        if "objective.distillation" in dict(stage.parts()):
            save(found, folder / "teacher")
        assert untruths(stage, found, model, folder / "run") == [], f"of {kind}"
        ran += 1
    assert ran, f"the plan refuses {name} for every kind of model that is tried"


# -- a stage that lies ----------------------------------------------------------------------------


class Liar(Stage):
    """Does one thing and declares whatever it is told to."""

    does: str = "nothing"
    said: Effects = Effects(keeps=("*",))

    def effects(self, context: PlanContext) -> Effects:
        return self.said

    def run(self, model: Model, context: RunContext) -> Model:
        given = model if self.does == "changes the given model" else model.copy()
        with torch.no_grad():
            bias = given.network.get_parameter("head.bias")
            if self.does in ("changes predictions", "changes the given model"):
                bias[0] += 0.5
            if self.does == "changes them within ties":
                bias[0] += 1e-5
        if self.does == "opens valid":
            context.dataset.ids("valid")
        if self.does == "opens valid by another name":
            rows = context.dataset.splits["valid"]
            context.dataset.with_splits({"train": rows}).targets("train")
        if self.does == "claims":
            context.claim(Claim(kind="fairness.gap", value=0.0, unit="fraction"))
        if self.does == "adds a mask":
            weight = given.network.get_parameter("head.weight")
            given = mask_model(given, {"head.weight": torch.ones_like(weight, dtype=torch.bool)})
        if self.does == "removes a mask":
            kept = tuple(s for s in given.structures if s.part_name != "mask")
            for module in given.network.modules():
                for name in [n for n in module._buffers if n.endswith("__mask")]:
                    del module._buffers[name]
            given = replace(given, structures=kept)
        if self.does == "fills zeros":
            for name, mask in given.support().items():
                given.network.get_parameter(name).data[~mask] = 1e-9
        if self.does == "grows":
            given = given.with_structure(Lora(rank=1, targets=("layers.0.0",)), seed=0)
        return given


@pytest.fixture(autouse=True)
def liar() -> Iterator[None]:
    registry.register("stage", "liar")(Liar)
    yield
    registry.unregister("stage", "liar")


TEST = Read(split="test", influences=("claims",))
EPSILON = ("privacy.*",)


@pytest.mark.parametrize(
    ("does", "said", "caught"),
    [
        # (a) keeps a kind of behaviour, and a prediction changes beyond ties
        (
            "changes predictions",
            {"keeps": ("calibration.ece",)},
            {"keeps calibration.*, and predictions changed"},
        ),
        (
            "changes predictions",
            {"keeps": ("fairness.*", *EPSILON)},
            {"keeps fairness.*, and predictions changed"},
        ),
        ("changes them within ties", {"keeps": ("quality.*", "fairness.*")}, set()),
        ("changes predictions", {"keeps": EPSILON}, set()),
        # (b) opens a split that it does not say it reads
        ("opens valid", {"reads": (TEST,)}, {"opens valid, reads no valid"}),
        ("opens valid by another name", {}, {"opens valid, reads no valid"}),
        ("opens valid", {"reads": (TEST.model_copy(update={"split": "valid"}),)}, set()),
        # (c) claims what it does not add, or adds what it does not claim
        ("claims", {}, {"claims fairness.gap, adds no fairness.gap"}),
        ("claims", {"adds": ("fairness.*",)}, set()),
        (
            "nothing",
            {"adds": ("fairness.*", "size.bytes")},
            {"adds fairness.*, claims no fairness.*", "adds size.bytes, claims no size.bytes"},
        ),
        # (d) structures other than those declared
        ("adds a mask", {"keeps": EPSILON}, {"adds the structure mask and does not say so"}),
        ("adds a mask", {"structure_adds": ("mask",)}, set()),
        ("nothing", {"structure_adds": ("lora",)}, {"says it adds the structure lora"}),
        ("nothing", {"structure_removes": ("head",)}, {"says it removes the structure head"}),
        (
            "removes a mask",
            {"structure_adds": ("mask",)},
            {
                "removes the structure mask and does not say so",
                "says it adds the structure mask",
            },
        ),
        ("removes a mask", {"structure_removes": ("mask",)}, set()),
        # (e) keeps a size or zeros that changed
        (
            "grows",
            {"keeps": ("size.*", "quality.*"), "structure_adds": ("lora",)},
            {
                "keeps size.parameters, and it changed",
                "keeps size.bytes, and it changed",
                "keeps size.macs, and it changed",
            },
        ),
        ("grows", {"keeps": ("quality.*",), "structure_adds": ("lora",)}, set()),
        ("fills zeros", {"keeps": ("sparsity.*",)}, {"keeps sparsity.zeros, and it changed"}),
    ],
)
def test_a_stage_that_lies_is_caught(
    does: str,
    said: dict[str, Any],
    caught: set[str],
    make: Callable[[Kind], tuple[Bench, Model]],
    tmp_path: Path,
) -> None:
    masked = does in ("removes a mask", "fills zeros")
    found, model = make(Kind("table", ("mask",) if masked else ()))
    stage = Liar(does=does, said=Effects(**said))
    assert set(untruths(stage, found, model, tmp_path / "run")) == caught


def test_a_stage_that_keeps_all_is_held_to_all(
    make: Callable[[Kind], tuple[Bench, Model]], tmp_path: Path
) -> None:
    found, model = make(Kind("table"))
    assert untruths(Liar(), found, model, tmp_path / "honest") == []
    lies = untruths(Liar(does="changes predictions"), found, model, tmp_path / "liar")
    assert {f"keeps {family}, and predictions changed" for family in BEHAVIOUR} <= set(lies)
    assert any(lie.startswith("keeps quality.") and "it changed" in lie for lie in lies)


def test_a_stage_that_changes_what_it_is_given_is_caught(
    make: Callable[[Kind], tuple[Bench, Model]], tmp_path: Path
) -> None:
    found, model = make(Kind("table"))
    stage = Liar(does="changes the given model", said=Effects())
    (lie,) = untruths(stage, found, replace(model.copy()), tmp_path / "run")
    assert lie.startswith("the model it was given changed")


def test_registering_a_stage_is_what_adds_it() -> None:
    assert isinstance(registry.parts("stage")["liar"], type)
    assert set(registry.names("stage")) == {
        "liar",
        *(name.rstrip("0123456789") for name, _ in EXAMPLES),
    }
    for _, stage in EXAMPLES:
        assert build_part("stage", dump_part(stage)) == stage
