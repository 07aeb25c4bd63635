"""The stage `export: onnx` and predicting without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.claims import Claim
from assay.config import build, dump
from assay.data.dataset import Dataset
from assay.deploy.runtime import OnnxPredictor, exported
from assay.errors import ArtefactError, ClaimError, LoadError
from assay.models.model import Model
from assay.stages.export import ExportStage
from assay.training.context import RunContext

Make = Callable[..., Any]
Exported = tuple[Model, Dataset, RunContext]


@pytest.fixture(scope="module", params=["text", "table", "number"])
def done(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_data: Make,
    make_model: Make,
    make_context: Make,
) -> Exported:
    """A model of each kind, exported and saved."""
    kind = request.param
    data = make_data(kind)
    work = tmp_path_factory.mktemp(kind)
    context = make_context(kind, data, work=work)
    model = ExportStage().run(make_model(kind, data), context)
    model.save(work / "model")
    return model, data, context


def test_agreement_is_claimed_on_every_row(done: Exported) -> None:
    model, data, context = done
    found = {claim.kind: claim for claim in context.claims}
    assert set(found) == {"agreement.top1", "agreement.max_abs"}
    assert found["agreement.top1"].value == 1.0
    assert 0 <= float(found["agreement.max_abs"].value) < 1e-5  # type: ignore[arg-type]
    assert found["agreement.top1"].n == data.size("test")
    assert context.used["bytes"] == model.extra["model.onnx"].stat().st_size


def test_the_predictor_says_what_the_model_says(done: Exported) -> None:
    model, data, context = done
    assert context.work is not None
    rows = data.rows("test")
    ours, theirs = model.predict(rows), OnnxPredictor(context.work / "model").predict(rows)
    assert list(ours.ids) == list(theirs.ids) == data.ids("test")
    assert ours.classes == theirs.classes
    if ours.probabilities is None:
        np.testing.assert_allclose(theirs.values, ours.values, rtol=1e-5)  # type: ignore[arg-type]
    else:
        np.testing.assert_allclose(theirs.probabilities, ours.probabilities, atol=1e-6)  # type: ignore[arg-type]
        assert ours.labels == theirs.labels
    assert ours.to_table().schema == theirs.to_table().schema


def test_a_saved_export_is_measured_again_alike(done: Exported, make_context: Make) -> None:
    from assay.models.load import load_model

    _, data, context = done
    assert context.work is not None
    loaded = load_model(context.work / "model")
    again = RunContext(dataset=data, plan=context.plan)
    stage = ExportStage()
    stage.measure(loaded, again)
    for claim, measured in zip(context.claims, again.claims, strict=True):
        assert claim.identity() == measured.identity()
        assert stage.agrees(claim, measured) == "holds"


def test_exporting_twice_gives_equal_bytes(
    make_data: Make, make_model: Make, make_context: Make, tmp_path: Path
) -> None:
    data = make_data("table")
    model = make_model("table", data)
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        context = make_context("table", data, work=tmp_path / name)
        after = ExportStage().run(model, context)
        found.append(after.extra["model.onnx"].read_bytes())
    assert found[0] == found[1]
    assert str(Path(__file__).parent.parent.parent).encode() not in found[0]
    assert b"site-packages" not in found[0]
    assert "model.onnx" not in model.extra


def test_any_batch_and_any_length(done: Exported) -> None:
    model, _, context = done
    assert context.work is not None
    predictor = OnnxPredictor(context.work / "model")
    session = predictor.network.session
    names = {item.name: item.shape for item in session.get_inputs()}
    assert all(shape[0] == "batch" for shape in names.values())
    if "input_ids" not in names:
        return
    for n, length in ((1, 1), (3, 17), (70, 32)):
        ids = np.arange(n * length).reshape(n, length) % 50
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        with torch.inference_mode():
            want = model.network(**{k: torch.from_numpy(v) for k, v in feed.items()})
        np.testing.assert_allclose(session.run(None, feed)[0], want.numpy(), atol=1e-5)


def test_predicting_needs_neither_torch_nor_transformers(done: Exported) -> None:
    _, data, context = done
    assert context.work is not None
    if "text" not in data.table.column_names and data.classes is None:
        return  # one subprocess for text and one for tables are enough
    rows = [{k: v for k, v in row.items() if k != "y"} for row in data.rows("test").to_pylist()[:3]]
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from assay.deploy.runtime import OnnxPredictor\n"
        "said = OnnxPredictor(Path(sys.argv[1])).predict(json.loads(sys.argv[2]))\n"
        "said.write(Path(sys.argv[1]) / 'out.csv')\n"
        "names = {n.partition('.')[0] for n in sys.modules}\n"
        "print(sorted(names & {'torch', 'transformers', 'onnx', 'sklearn', 'scipy'}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(context.work), json.dumps(rows)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
    assert len((context.work / "out.csv").read_text().splitlines()) == 4


def test_a_graph_that_disagrees_stops_the_run(
    make_data: Make, make_model: Make, make_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.deploy import onnx_export

    data = make_data("table")
    model, other = make_model("table", data), make_model("table", data, seed=5)
    real = onnx_export.export_onnx
    monkeypatch.setattr(onnx_export, "export_onnx", lambda _, *rest: real(other.network, *rest))
    context = make_context("table", data)
    with pytest.raises(ClaimError, match="does not agree") as caught:
        ExportStage().run(model, context)
    assert caught.value.exit_code == 3
    assert "largest difference" in caught.value.line()
    assert context.claims == []


def test_a_damaged_export_is_refused(done: Exported, tmp_path: Path) -> None:
    import shutil

    _, _, context = done
    assert context.work is not None
    shutil.copytree(context.work / "model", tmp_path / "model")
    assert exported(tmp_path) == tmp_path / "model"
    with (tmp_path / "model" / "model.onnx").open("r+b") as stream:
        stream.seek(100)
        stream.write(b"\x00\x01")
    with pytest.raises(ArtefactError):
        OnnxPredictor(tmp_path)


def test_a_model_without_an_export_says_so(
    make_data: Make, make_model: Make, tmp_path: Path
) -> None:
    data = make_data("table")
    make_model("table", data).save(tmp_path / "model")
    assert exported(tmp_path) is None
    with pytest.raises(LoadError, match="no exported model"):
        OnnxPredictor(tmp_path)


def test_what_it_keeps(make_data: Make, make_context: Make) -> None:
    plan = make_context("table", make_data("table")).plan
    effects = ExportStage().effects(plan)
    for kind in ("quality.auroc", "fairness.gap", "size.bytes", "sparsity.zeros", "latency.p50_ms"):
        assert effects.does_keep(kind), kind
    assert effects.does_keep("privacy.epsilon")
    for kind in ("robustness.pgd_accuracy", "explanation.deletion_auc", "certificate.radius"):
        assert not effects.does_keep(kind), kind
    assert effects.does_add("agreement.top1")
    assert [(r.split, r.disclosure) for r in effects.reads] == [("test", True)]
    second = plan.model_copy(update={"stage": 1, "stages": (ExportStage(), ExportStage())})
    assert not ExportStage().effects(second).does_keep("latency.p50_ms")
    assert ExportStage(format="huggingface").effects(plan).keeps == ("*",)
    assert build(ExportStage, "onnx") == ExportStage() == build(ExportStage, dump(ExportStage()))


def test_agreement_of_forged_claims() -> None:
    stage = ExportStage()

    def claim(name: str, value: float, ties: int = 0) -> Claim:
        details = {"ties": ties, "flips": 0}
        return Claim(kind=f"agreement.{name}", value=value, unit="", n=100, details=details)

    assert stage.agrees(claim("top1", 1.0), claim("top1", 1.0)) == "holds"
    assert stage.agrees(claim("top1", 1.0), claim("top1", 0.99)) == "fails"
    assert stage.agrees(claim("top1", 1.0), claim("top1", 0.99, ties=1)) == "holds"
    assert stage.agrees(claim("max_abs", 1e-7), claim("max_abs", 5e-7)) == "holds"
    assert stage.agrees(claim("max_abs", 1e-7), claim("max_abs", 2e-4)) == "fails"


def test_a_network_that_cannot_be_exported(
    make_data: Make, make_model: Make, make_context: Make
) -> None:
    class Odd(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(np.asarray(features.tolist(), dtype=np.float32))[:, :3]

    data = make_data("table")
    model = replace(make_model("table", data), network=Odd())
    with pytest.raises(LoadError, match="cannot export"):
        ExportStage().run(model, make_context("table", data))
    with pytest.raises(LoadError, match="no rows to compare"):
        ExportStage(split="later").run(model, make_context("table", data))
