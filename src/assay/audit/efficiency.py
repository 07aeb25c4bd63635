"""The audit `efficiency`: what the model costs in bytes, arithmetic and time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from assay.audit.base import Audit, keep
from assay.claims import Claim, PlanContext, Read
from assay.claims.claim import Status
from assay.registry import register

if TYPE_CHECKING:
    from assay.data.preprocessing import Encoded
    from assay.models.model import Model

#: a latency holds when it is measured again within this factor
FACTOR = 2.0


@register("audit", "efficiency")
class EfficiencyAudit(Audit):
    """Size, arithmetic and latency of the model as it is saved.

    Claims `size.parameters`, `size.bytes` (of `model.safetensors`), `size.macs` (multiply-
    accumulates of one forward pass on the audited row of median length; matrix products,
    convolutions and attention only), `latency.p50_ms` and `latency.p99_ms` of the network's
    forward pass (preprocessing is not in it) for each batch size and runtime, and where the network
    has masks `sparsity.zeros`: the share of all its parameters that they keep at exactly zero.

    Attributes:
        split: rows that the timed inputs are taken from.
        batches: batch sizes.
        seconds: time spent on timed calls for each batch size and runtime.
        runtimes: what to time: `torch`, `onnxruntime`; by default torch, and ONNX Runtime too
            where the model has been exported.
    """

    split: str = "test"
    batches: tuple[int, ...] = (1, 32)
    seconds: float = Field(default=1.0, gt=0, le=600)
    runtimes: tuple[Literal["torch", "onnxruntime"], ...] | None = None

    @classmethod
    def examples(cls) -> list[Self]:
        """See `Audit.examples`."""
        return [cls(seconds=0.01), cls(batches=())]

    def adds(self, context: PlanContext) -> tuple[str, ...]:
        """Sizes and latencies; zeros where there are masks."""
        kinds = ["size.parameters", "size.bytes", "size.macs"]
        kinds += ["latency.p50_ms", "latency.p99_ms"] if self.batches else []
        kinds += ["sparsity.zeros"] if "mask" in context.structures else []
        return tuple(kinds)

    def reads(self, context: PlanContext) -> tuple[Read, ...]:
        """A few rows, whose lengths decide how long a prediction takes."""
        return (Read(split=self.split, influences=("claims",), why="inputs that are timed"),)

    def estimate_seconds(self, context: PlanContext) -> float:
        """The time set for timing."""
        return (self.seconds + 0.5) * len(self.batches) * len(self.runtimes or ("torch",)) + 1.0

    def measure(self, model: Model, context: Any) -> None:
        """See the class.

        Raises:
            LoadError: the split is empty.
            UsageError: ONNX Runtime is asked for and the model was not exported.
        """
        from assay.audit.measures import cost
        from assay.audit.measures.timing import time_model

        rows = cost.encoded_rows(model, context.dataset, self.split)
        claims = self._sizes(model, rows, context)
        timed = time_model(model, rows, self.batches, self.runtimes, context.threads, self.seconds)
        for claim in (*claims, *timed):
            context.claim(claim)
        kept: dict[str, Any] = {c.kind.partition(".")[2]: c.value for c in claims}
        kept["latency"] = [
            {"kind": c.kind, "ms": c.value, **c.conditions, "machine": c.details["machine"]}
            for c in timed
        ]
        keep(context, self.part_name, kept)

    def _sizes(self, model: Model, rows: Encoded, context: Any) -> list[Claim]:
        from assay.audit.measures import cost

        counts, inputs = cost.counts(model.network), cost.one_example(rows)
        shapes = {name: list(tensor.shape) for name, tensor in inputs.items()}
        claims = [
            Claim(
                kind="size.parameters",
                value=counts.parameters,
                unit="count",
                details={"nonzero": counts.nonzero},
            ),
            Claim(
                kind="size.bytes",
                value=cost.bytes_on_disk(model),
                unit="bytes",
                method="model.safetensors",
            ),
            Claim(
                kind="size.macs",
                value=cost.macs(model.network, inputs),
                unit="count",
                dataset=context.dataset.card.name,
                split=self.split,
                method="torch.utils.flop_counter / 2, one example of median length",
                details={"inputs": shapes},
            ),
        ]
        if "mask" in {structure.part_name for structure in model.structures}:
            masked = counts.masked_zeros / counts.masked if counts.masked else 0.0
            claims.append(
                Claim(
                    kind="sparsity.zeros",
                    value=counts.zeros,
                    unit="fraction",
                    method="share of all parameters that masks keep at exactly zero",
                    details={"of_masked": masked, "masked": counts.masked},
                )
            )
        return claims

    def agrees(self, claim: Claim, again: Claim) -> Status | None:
        """Sizes exactly. A latency is `unverifiable` on another machine or runtime; on the same one
        it holds when it is measured again at no more than twice the claim.

        Clocks are noisy and machines are shared, so a latency claims an order of cost: the new
        measurement counts by its least disturbed block, and being faster is no failure. Being
        slower is one only while no other work waits for the processors.
        """
        if claim.kind.startswith("latency."):
            return _latency_agrees(claim, again)
        if claim.kind.startswith(("size.", "sparsity.")):
            return "holds" if claim.value == again.value else "fails"
        return None


def _latency_agrees(claim: Claim, again: Claim) -> Status:
    from assay.audit.measures.latency import same_machine

    if not same_machine(claim.details.get("machine"), again.details.get("machine")):
        return "unverifiable"
    best = again.details.get("best")
    if not isinstance(claim.value, (int, float)) or not isinstance(best, (int, float)):
        return "fails"
    if best <= FACTOR * claim.value:
        return "holds"
    # slower than claimed while others use the processors says nothing about the model
    return "unverifiable" if _busy() else "fails"


def _busy() -> bool:
    """Whether more processes want to run than there are processors (where the system tells)."""
    try:
        waiting, _, _ = os.getloadavg()
    except (AttributeError, OSError):
        return False
    return waiting > (os.cpu_count() or 1)
