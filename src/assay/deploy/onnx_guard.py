"""Looking at an ONNX file before a runtime does, so that a small file cannot ask for all memory.

The few fields that matter are read straight from the protobuf encoding: the library `onnx` is not
needed to predict, and parsing is what one does not want to do with an untrusted file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from assay.errors import ArtefactError

#: protobuf itself allows no more
MAX_FILE = 2**31 - 1
#: graphs inside nodes inside graphs
MAX_DEPTH = 16
#: bytes an element of a data type takes (onnx.proto3, TensorProto.DataType); packed ones less
_SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16}
_SIZES |= {16: 2}

# field numbers of onnx.proto3
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE, _FUNCTION_NODE = 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE = (22, 23)
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_TENSOR_TYPED = (4, 5, 6, 7, 10, 11)
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14


def check_onnx(path: Path) -> None:
    """Refuse an ONNX file that lies about its tensors or points outside itself.

    Every tensor must lie in the file, at the size that its shape says; nothing external, nothing
    sparse. What nodes compute is bounded by the runtime's memory limit, not here.

    Raises:
        ArtefactError: the file is missing, damaged, too large, or not sound.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise ArtefactError("larger than 2 GB", where=str(path), mend="export it again")
        data = path.read_bytes()
    except OSError as error:
        raise ArtefactError(
            f"cannot read: {error.strerror}", where=str(path), mend="restore the file"
        ) from error
    try:
        _check_model(memoryview(data))
    except _UnsoundError as error:
        raise ArtefactError(
            f"not a sound ONNX file: {error}", where=str(path), mend="restore it or export again"
        ) from None


class _UnsoundError(Exception):
    """What is wrong with the file."""


def _check_model(data: memoryview) -> None:
    graphs = 0
    for number, value in _fields(data):
        if number == _MODEL_GRAPH:
            graphs += 1
            _check_graph(_message(value), 0)
        elif number == _MODEL_FUNCTIONS:
            for inner, node in _fields(_message(value)):
                if inner == _FUNCTION_NODE:
                    _check_node(_message(node), 0)
    if graphs != 1:
        raise _UnsoundError(f"it holds {graphs} graphs")


def _check_graph(data: memoryview, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _UnsoundError("graphs are nested too deeply")
    for number, value in _fields(data):
        if number == _GRAPH_NODE:
            _check_node(_message(value), depth)
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(_message(value))
        elif number == _GRAPH_SPARSE:
            raise _UnsoundError("it holds sparse tensors")


def _check_node(data: memoryview, depth: int) -> None:
    for number, attribute in _fields(data):
        if number != _NODE_ATTRIBUTE:
            continue
        for inner, value in _fields(_message(attribute)):
            if inner in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                _check_tensor(_message(value))
            elif inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                _check_graph(_message(value), depth + 1)
            elif inner in _ATTRIBUTE_SPARSE:
                raise _UnsoundError("it holds sparse tensors")


def _check_tensor(data: memoryview) -> None:
    dims: list[int] = []
    kind, held, raw, name = 0, 0, False, ""
    for number, value in _fields(data):
        if number == _TENSOR_DIMS:
            dims += [value] if isinstance(value, int) else list(_varints(value))
        elif number == _TENSOR_TYPE and isinstance(value, int):
            kind = value
        elif number == _TENSOR_NAME:
            name = bytes(_message(value)[:80]).decode("utf-8", errors="replace")
        elif number == _TENSOR_RAW:
            raw, held = True, held + len(_message(value))
        elif number in _TENSOR_TYPED:
            held += 8 if isinstance(value, int) else len(value)
        elif number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            raise _UnsoundError(f"the tensor {name!r} lies in another file")
    # a varint of a negative number has its highest bit set
    if any(d >= 2**63 for d in dims):
        raise _UnsoundError(f"the tensor {name!r} has a negative size")
    elements = math.prod(dims)
    size = _SIZES.get(kind)
    if raw and size is not None and elements * size != held:
        raise _UnsoundError(f"the tensor {name!r} is not as large as its shape says")
    if elements > 2 * held and elements > 0:  # two 4-bit numbers share a byte
        raise _UnsoundError(f"the tensor {name!r} holds less than its shape says")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _UnsoundError("a number stands where a message should")
    return value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, varint or bytes) of each field of a message; fixed-width ones as bytes."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _UnsoundError("an unknown encoding")
        if length > end - at:
            raise _UnsoundError("it is cut short")
        yield key >> 3, data[at : at + length]
        at += length


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _UnsoundError("it is cut short")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
