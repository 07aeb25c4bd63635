"""A network as an ONNX graph, by torch's exporter; equal networks give equal bytes."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from assay.errors import LoadError
from assay.files import write_bytes

if TYPE_CHECKING:
    import onnx

#: protobuf's limit, with some room for the graph itself
MAX_WEIGHTS = 2**31 - 2**24

OUTPUT = "outputs"
#: the axes of an input that may have any size, and what the graph calls them
AXES = ("batch", "sequence")


class _Positional(torch.nn.Module):
    """A network called by keyword, called by position: exporters want a fixed signature."""

    def __init__(self, network: torch.nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network = network
        self.names = names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.network(**dict(zip(self.names, inputs, strict=True)))
        return result


def export_onnx(
    network: torch.nn.Module,
    inputs: dict[str, torch.Tensor],
    ragged: bool,
    path: Path,
    opset: int = 18,
) -> None:
    """Write a network as one ONNX file.

    Args:
        network: the network; it is put into evaluation mode.
        inputs: example inputs `[N, ...]`, N of at least 2 (and at least 2 tokens).
        ragged: the second axis is a sequence of any length.
        path: where to.
        opset: version of the operator set.

    Raises:
        LoadError: the extra is missing, the network cannot be exported, or is over 2 GB.
    """
    where = "export: onnx"
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise LoadError(
            "exporting needs onnx and onnxscript", where=where, mend="pip install 'assay[export]'"
        ) from None
    size = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    if size > MAX_WEIGHTS:
        raise LoadError(
            f"the weights are {size / 2**30:.1f} GB, an ONNX file holds at most 2",
            where=where,
            mend="leave out the export, or make the model smaller first",
        )
    names = list(inputs)
    free = dict.fromkeys(range(2 if ragged else 1), torch.export.Dim.DYNAMIC)
    training = network.training
    network.eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                _Positional(network, names).eval(),
                tuple(inputs.values()),
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=[OUTPUT],
                dynamic_shapes=(tuple(dict(free) for _ in names),),
                opset_version=opset,
                external_data=False,
            )
    except Exception as error:  # whatever the tracer meets in a network of anyone's making
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise LoadError(
            f"torch cannot export this network: {text[0][:200]}",
            where=where,
            mend="leave out the export, or change the network",
        ) from error
    finally:
        network.train(training)
    assert program is not None
    proto = program.model_proto
    _tidy(proto, 2 if ragged else 1)
    write_bytes(path, proto.SerializeToString(deterministic=True))


def _tidy(proto: onnx.ModelProto, free: int) -> None:
    """Take out what names the machine or the moment (stack traces, paths), and name the axes."""
    graph = proto.graph
    for item in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        _clear(item)
    for function in proto.functions:
        for item in (function, *function.node):
            _clear(item)
    del graph.value_info[:]
    graph.name = "model"
    for value in graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim[:free]):
            dim.dim_param = AXES[axis]
    graph.output[0].type.tensor_type.shape.dim[0].dim_param = AXES[0]


def _clear(item: Any) -> None:
    for name in ("metadata_props", "doc_string"):
        if name in item.DESCRIPTOR.fields_by_name:
            item.ClearField(name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on what it lacks, and on its own future, from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
