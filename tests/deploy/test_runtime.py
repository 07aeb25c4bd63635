"""ONNX files that lie, point elsewhere or ask for all memory are refused."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from assay.data.preprocessing import Encoded
from assay.deploy import runtime
from assay.deploy.onnx_guard import check_onnx
from assay.errors import ArtefactError, LoadError

FLOAT = TensorProto.FLOAT


def graph(nodes: list[Any], tensors: list[Any], rank: int = 2) -> onnx.ModelProto:
    """A graph from `x` `[N, 3]` to `y`."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", FLOAT, ["batch", 3])],
            [helper.make_tensor_value_info("y", FLOAT, [None] * rank)],
            tensors,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


def linear() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "w")
    return graph([helper.make_node("MatMul", ["x", "w"], ["y"])], [weight])


def written(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


ROWS = Encoded({"x": np.arange(12, dtype=np.float32).reshape(4, 3)})


def test_a_sound_graph_runs(tmp_path: Path) -> None:
    network = runtime.OnnxNetwork(written(linear(), tmp_path), {"x"})
    np.testing.assert_array_equal(network.outputs(ROWS, batch_size=3)[:, 0], [3, 12, 21, 30])


def test_a_small_file_cannot_ask_for_all_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = runtime.memory_limit() // 4 + 1
    shape = numpy_helper.from_array(np.array([size, 1], dtype=np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["top"], keepdims=1),
        helper.make_node("Add", ["x", "top"], ["y"]),
    ]
    path = written(graph(nodes, [shape]), tmp_path)
    assert path.stat().st_size < 300
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network = runtime.OnnxNetwork(path, {"x"})
    with pytest.raises(ArtefactError, match="cannot be run") as caught:
        network.outputs(ROWS)
    assert "\n" not in caught.value.line()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


def test_a_tensor_that_holds_less_than_its_shape_says(tmp_path: Path) -> None:
    proto = linear()
    proto.graph.initializer[0].dims[0] = 2**33
    with pytest.raises(ArtefactError, match="not as large as its shape says"):
        check_onnx(written(proto, tmp_path))
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[2**40], float_data=[1.0])
    with pytest.raises(ArtefactError, match="holds less"):
        check_onnx(written(graph([], [tensor]), tmp_path))
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[-1, 3], float_data=[1.0])
    with pytest.raises(ArtefactError, match="negative size"):
        check_onnx(written(graph([], [tensor]), tmp_path))


def test_tensors_in_other_files_are_refused(tmp_path: Path) -> None:
    proto = linear()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    with pytest.raises(ArtefactError, match="lies in another file"):
        runtime.open_session(written(proto, tmp_path))


def test_tensors_inside_nodes_and_inner_graphs_are_looked_at(tmp_path: Path) -> None:
    bad = TensorProto(name="w", data_type=FLOAT, dims=[2**40], float_data=[1.0])
    node = helper.make_node("Constant", [], ["c"], value=bad)
    with pytest.raises(ArtefactError, match="holds less"):
        check_onnx(written(graph([node], []), tmp_path))
    inner = helper.make_graph([node], "inner", [], [])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    with pytest.raises(ArtefactError, match="holds less"):
        check_onnx(written(graph([branch], []), tmp_path))
    deep = helper.make_graph([], "deepest", [], [])
    for _ in range(20):
        deep = helper.make_graph(
            [helper.make_node("If", ["x"], ["y"], then_branch=deep)], "d", [], []
        )
    with pytest.raises(ArtefactError, match="nested"):
        check_onnx(written(graph(list(deep.node), []), tmp_path))


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = written(linear(), tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(ArtefactError):
        runtime.open_session(path)
    path.write_bytes(b"")
    with pytest.raises(ArtefactError, match="0 graphs"):
        runtime.open_session(path)
    path.unlink()
    with pytest.raises(ArtefactError, match="cannot read"):
        runtime.open_session(path)


@given(data=st.binary(max_size=60))
def test_any_bytes_are_pass_or_are_refused_by_our_own_error(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "model.onnx"
    path.write_bytes(data)
    with contextlib.suppress(ArtefactError):  # any other error fails
        check_onnx(path)


def test_other_inputs_and_outputs_are_refused(tmp_path: Path) -> None:
    path = written(linear(), tmp_path)
    with pytest.raises(ArtefactError, match="takes"):
        runtime.OnnxNetwork(path, {"features"})
    flat = graph([helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], [], rank=0)
    network = runtime.OnnxNetwork(written(flat, tmp_path), {"x"})
    with pytest.raises(ArtefactError, match="for 4 rows"):
        network.outputs(ROWS)


def test_a_graph_that_cannot_be_loaded(tmp_path: Path) -> None:
    unknown = graph([helper.make_node("NoSuchOperator", ["x"], ["y"])], [])
    with pytest.raises(ArtefactError, match="cannot load"):
        runtime.open_session(written(unknown, tmp_path))


def test_without_onnx_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(LoadError, match=r"assay\[export\]"):
        runtime.open_session(written(linear(), tmp_path))
