"""The stage `export`: the model in a form that other programs run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from assay.claims import Capabilities, Claim, Effects, Estimate, PlanContext, Read
from assay.claims.claim import Status
from assay.errors import ClaimError, UsageError
from assay.registry import register
from assay.stages.base import Stage

if TYPE_CHECKING:
    from assay.data.preprocessing import Encoded
    from assay.deploy.agreement import Agreement
    from assay.deploy.runtime import OnnxNetwork
    from assay.models.model import Model
    from assay.training.context import RunContext

#: claims of what the network does and weighs, which stay true when both files do the same
_BEHAVIOUR = ("quality.*", "calibration.*", "conformal.*", "fairness.*", "size.*", "sparsity.*")
#: claims of how the weights came about: they are not touched
_HISTORY = ("privacy.epsilon", "federation.*", "transfer.*", "lineage.*")


@register("stage", "export")
class ExportStage(Stage):
    """Write the model in another format; its weights stay as they are.

    `onnx` adds `model.onnx` to the model's folder (any batch size and sequence length, one file)
    and measures in ONNX Runtime on every row of `split` how well it agrees: `agreement.top1`,
    the share of rows decided alike, and `agreement.max_abs`, the largest difference of a
    probability (of a regression: of a value, in standard deviations of the training targets). The
    stage fails (exit 3) unless all decisions match, ties within the tolerance excepted, and
    probabilities agree to the tolerance. `assay predict` uses the graph from then on.

    Then claims of quality, calibration, fairness, size and sparsity are kept. Robustness,
    certificates and explanations are void: they look at more than the rows that were compared. A
    latency is kept as long as no graph was there before: it names its runtime, and what ran then
    is still there.

    `huggingface` writes the trunk (adapters merged) as a folder for `AutoModel` beside the model's
    folder, with its tokenizer and the head's weights; `peft` writes the trunk without adapters and
    the adapters as a folder for `PeftModel`. The model itself does not change.

    Attributes:
        format: what to write.
        opset: operator set of the ONNX graph.
        tolerance: of probabilities.
        split: rows on which agreement is measured.
    """

    shorthand: ClassVar[str | None] = "format"

    format: Literal["onnx", "huggingface", "peft"] = "onnx"
    opset: int = Field(default=18, ge=18, le=23)
    tolerance: float = Field(default=1e-4, gt=0, le=1e-4)
    split: str = "test"

    @classmethod
    def examples(cls) -> list[Self]:
        """Each format."""
        return [cls(format="onnx"), cls(format="huggingface"), cls(format="peft")]

    def effects(self, context: PlanContext) -> Effects:
        """See the class."""
        if self.format != "onnx":
            return Effects(keeps=("*",), notes=("writes a folder beside the model's",))
        keeps: tuple[str, ...] = _BEHAVIOUR + _HISTORY
        if not any(_is_onnx(stage) for stage in context.stages[: context.stage]):
            keeps += ("latency.*",)
        return Effects(
            adds=("agreement.top1", "agreement.max_abs"),
            keeps=keeps,
            reads=(Read(split=self.split, influences=("claims",), why="agreement is measured"),),
            notes=("fails unless ONNX Runtime predicts the same on every audited row",),
        )

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Other formats are for transformers; PEFT needs adapters."""
        if self.format == "onnx":
            return Capabilities()
        needs, gives = {"token_inputs"}, set()
        if self.format == "peft":
            needs.add("adapters")
            gives |= {"adapters"} if "lora" in context.structures else set()
        return Capabilities(
            needs=frozenset(needs),
            gives=frozenset(gives),
            why={
                "token_inputs": "the network is a transformer",
                "adapters": "there are adapters to write",
            },
            mend={
                "token_inputs": "export to onnx instead",
                "adapters": "export before merging, after a finetune with 'parameters: lora'",
            },
        )

    def estimate(self, context: PlanContext) -> Estimate:
        """Tracing takes seconds; agreement one prediction a row, twice."""
        rows = (context.data.rows or 1000) * 0.2
        heavy = {"text": 0.04, "image": 4e-3}.get(context.model.modality, 1e-4)
        return Estimate(
            seconds=10.0 + rows * heavy,
            bytes=4 * 4 * (context.model.parameters or 0),
            basis="tracing, and every audited row twice",
        )

    def run(self, model: Model, context: RunContext) -> Model:
        """See the class.

        Raises:
            ClaimError: the graph does not predict the same.
            LoadError: the network cannot be exported, or the split is empty.
            UsageError: a folder beside the model is asked for and there is no run.
        """
        if self.format != "onnx":
            return self._write_folder(model, context)
        import torch

        from assay.deploy.onnx_export import export_onnx
        from assay.deploy.runtime import GRAPH

        encoded = _encoded(model, context, self.split)
        batch = encoded.batch(_two(len(encoded)), pad_to=8)
        path = _scratch(context) / GRAPH
        export_onnx(
            model.network,
            {name: torch.from_numpy(array) for name, array in batch.items()},
            encoded.offsets is not None,
            path,
            self.opset,
        )
        exported = model.with_file(GRAPH, path)
        found = self._agreement(exported, context)
        if not found.holds(self.tolerance):
            row = context.dataset.ids(self.split)[found.at]
            raise ClaimError(
                f"the ONNX graph does not agree: {found.flips} of {found.n} decisions differ, the "
                f"largest difference is {found.max_abs:.2g} (row {row})",
                where=f"stage {context.stage} (export)",
                mend="leave out the export, or report the network as one that cannot be exported",
            )
        self._claim(found, context)
        context.record(opset=self.opset, bytes=path.stat().st_size)
        return exported

    def measure(self, model: Model, context: RunContext) -> None:
        """Compare the graph in the model's folder with its weights again."""
        if self.format == "onnx":
            self._claim(self._agreement(model, context), context)

    def agrees(self, claim: Claim, again: Claim) -> Status:
        """Decisions match but for ties; the difference is still within the tolerance.

        A claim that is stronger than what is measured fails all the same.
        """
        if not isinstance(claim.value, (int, float)) or not isinstance(again.value, (int, float)):
            return "fails"
        if claim.kind == "agreement.top1":
            slack = again.details["ties"] / max(again.n or 1, 1) + 1e-9
            return "holds" if again.value >= claim.value - slack else "fails"
        ok = again.value <= self.tolerance and 0 <= claim.value <= self.tolerance
        return "holds" if ok else "fails"

    def _agreement(self, model: Model, context: RunContext) -> Agreement:
        from assay.audit.measures.said import said
        from assay.deploy.agreement import agreement
        from assay.deploy.runtime import predict_with

        ours = said(model, context.dataset, self.split)
        theirs = predict_with(
            _network(model, context.threads),
            context.dataset.rows(self.split),
            model.preprocessing,
            model.task,
            model.classes,
        )
        target = model.preprocessing.target
        scale = target.std if target is not None else 1.0
        return agreement(ours, theirs, self.tolerance, scale)

    def _claim(self, found: Agreement, context: RunContext) -> None:
        values = {"top1": (found.top1, "fraction"), "max_abs": (found.max_abs, "probability")}
        for name, (value, unit) in values.items():
            context.claim(
                Claim(
                    kind=f"agreement.{name}",
                    value=value,
                    unit=unit if context.dataset.classes or name == "top1" else "target std",
                    dataset=context.dataset.card.name,
                    split=self.split,
                    conditions={"runtime": "onnxruntime"},
                    method="ONNX Runtime against torch, every row",
                    n=found.n,
                    details={"ties": found.ties, "flips": found.flips},
                )
            )

    def _write_folder(self, model: Model, context: RunContext) -> Model:
        from assay.deploy import huggingface

        if context.folder is None:
            raise UsageError(
                "there is no run to write into",
                where=f"export: {self.format}",
                mend="call assay.deploy.huggingface with a folder",
            )
        folder = context.folder / self.format
        if self.format == "peft":
            files = huggingface.export_peft(model, folder)
        else:
            files = huggingface.export_huggingface(model, folder)
        context.record(folder=folder.name, files=files)
        context.progress.say(f"{self.format}: {folder}")
        return model


def _is_onnx(stage: object) -> bool:
    return isinstance(stage, ExportStage) and stage.format == "onnx"


def _two(rows: int) -> Any:
    import numpy as np

    return np.resize(np.arange(rows), 2)


def _encoded(model: Model, context: RunContext, split: str) -> Encoded:
    from assay.errors import LoadError

    data = context.dataset
    if split not in data.splits or not data.size(split):
        raise LoadError(
            f"the split {split!r} has no rows to compare on",
            where=f"data {data.card.name}",
            mend="one of: " + ", ".join(s for s in data.splits if data.size(s)),
        )
    return model.preprocessing.encode(data.rows(split))


def _scratch(context: RunContext) -> Path:
    """The stage's folder, or where there is none one that is gone when the process ends."""
    import atexit
    import shutil

    if context.work is not None:
        return context.work
    folder = Path(tempfile.mkdtemp(prefix="assay-export-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _network(model: Model, threads: int) -> OnnxNetwork:
    from assay.deploy.runtime import GRAPH, OnnxNetwork
    from assay.errors import ArtefactError

    if GRAPH not in model.extra:
        raise ArtefactError(
            f"there is no {GRAPH}", where=str(model.folder), mend="restore it or export again"
        )
    return OnnxNetwork(model.extra[GRAPH], set(model.preprocessing.inputs), threads)
