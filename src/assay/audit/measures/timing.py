"""Latency claims of a model in the runtimes that it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from assay.audit.measures.cost import batch_of
from assay.audit.measures.latency import Latency, fingerprint, measure, torch_threads
from assay.claims import Claim
from assay.errors import UsageError

if TYPE_CHECKING:
    from assay.data.preprocessing import Encoded
    from assay.models.model import Model

ONNX = "model.onnx"


def time_model(
    model: Model,
    rows: Encoded,
    batches: Sequence[int],
    runtimes: Sequence[str] | None,
    threads: int,
    seconds: float,
) -> list[Claim]:
    """Claims `latency.p50_ms` and `latency.p99_ms` for each runtime and batch size.

    Args:
        model: the model.
        rows: rows that batches are taken from.
        batches: batch sizes.
        runtimes: `torch`, `onnxruntime`; None for torch, and ONNX Runtime where there is a graph.
        threads: intra-op threads.
        seconds: time for the timed calls of each.

    Raises:
        UsageError: ONNX Runtime is asked for and the model has no `model.onnx`.
    """
    if runtimes is None:
        runtimes = ("torch", "onnxruntime") if ONNX in model.extra else ("torch",)
    out: list[Claim] = []
    for runtime in runtimes:
        runner = _torch_runner(model) if runtime == "torch" else _onnx_runner(model, threads)
        machine = fingerprint(runtime, threads)
        for size in batches:
            inputs = batch_of(rows, size)
            with torch_threads(threads):
                found = measure(runner(inputs), seconds=seconds)
            shapes = {name: list(array.shape) for name, array in inputs.items()}
            out += _claims(found, runtime, size, threads, machine, shapes)
    return out


def _claims(
    found: Latency,
    runtime: str,
    batch: int,
    threads: int,
    machine: dict[str, str | int],
    shapes: dict[str, list[int]],
) -> list[Claim]:
    values = {"p50": (found.p50, found.blocks_p50), "p99": (found.p99, found.blocks_p99)}
    return [
        Claim(
            kind=f"latency.{name}_ms",
            value=round(value, 6),
            unit="ms",
            conditions={"batch": batch, "runtime": runtime, "threads": threads},
            method=f"{found.calls} calls in {len(blocks)} blocks after a warm-up",
            details={"machine": machine, "best": min(blocks), "inputs": shapes},
        )
        for name, (value, blocks) in values.items()
    ]


Runner = Callable[[dict[str, npt.NDArray[Any]]], Callable[[], object]]


def _torch_runner(model: Model) -> Runner:
    import torch

    network = model.network.eval()

    def prepare(arrays: dict[str, npt.NDArray[Any]]) -> Callable[[], object]:
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}

        def call() -> object:
            with torch.inference_mode():
                return network(**inputs)

        return call

    return prepare


def _onnx_runner(model: Model, threads: int) -> Runner:
    from assay.deploy.runtime import open_session

    if ONNX not in model.extra:
        raise UsageError(
            "the model has no ONNX graph to time",
            where="audit.efficiency.runtimes",
            mend="put 'export: onnx' before this audit, or leave out onnxruntime",
        )
    session = open_session(model.extra[ONNX], threads)

    def prepare(arrays: dict[str, npt.NDArray[Any]]) -> Callable[[], object]:
        return lambda: session.run(None, arrays)

    return prepare
