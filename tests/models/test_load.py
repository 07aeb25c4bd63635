"""A model's folder loads anywhere in a new process, and whatever is wrong with it is refused."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import Bench, save

from assay.config import build_part
from assay.errors import ArtefactError, LoadError
from assay.models.load import load_model, model_folder
from assay.models.model import Model
from assay.models.structures.mask import mask_model
from assay.models.weights import encode_weights, read_weights


def with_structures(model: Model) -> Model:
    """Adapters that do something, and a mask."""
    lora = build_part("structure", {"lora": {"rank": 2, "alpha": 4, "dropout": 0.1}})
    model = model.with_structure(lora, seed=1)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.endswith("lora_B"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator()))
    name = next(n for n, p in model.network.named_parameters() if n.endswith("weight"))
    weight = model.network.get_parameter(name)
    return mask_model(model, {name: torch.rand(weight.shape, generator=generator()) > 0.5})


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(9)


def said(model: Model, found: Bench) -> Any:
    return model.predict(found.dataset.rows("test")).probabilities


IN_A_NEW_PROCESS = """
import sys
import numpy as np
from assay.models.load import load_model
from assay.models.predictions import as_table

for folder, rows in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    said = load_model(folder).predict(rows)
    np.save(rows + ".npy", said.probabilities)
"""


def test_a_moved_folder_says_the_same_in_a_new_process(
    table: Bench, text: Bench, tmp_path: Path
) -> None:
    from pyarrow import parquet

    given: list[str] = []
    expected = {}
    for name, found in (("table", table), ("text", text)):
        for model in (found.model, with_structures(found.model)):
            place = f"{name}{len(model.structures)}"
            save(found, tmp_path / "made" / place, model)
            rows = str(tmp_path / f"{place}.parquet")
            parquet.write_table(found.dataset.rows("test"), rows)
            expected[rows] = said(model, found)
            given += [str(tmp_path / "moved" / place), rows]
    (tmp_path / "made").rename(tmp_path / "moved")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS, *given],
        cwd=elsewhere,
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for rows, probabilities in expected.items():
        assert np.array_equal(np.load(rows + ".npy"), probabilities), rows


@pytest.mark.parametrize("which", ["table", "text"])
def test_what_is_loaded_is_what_was_saved(
    which: str, table: Bench, text: Bench, tmp_path: Path
) -> None:
    found = {"table": table, "text": text}[which]
    model = save(found, tmp_path / "m", with_structures(found.model))
    again = load_model(tmp_path / "m")
    assert again.config() == model.config()
    assert again.preprocessing == model.preprocessing
    assert again.passport == model.passport
    assert (again.subject(), again.folder) == (model.subject(), tmp_path / "m")
    assert again.support().keys() == model.support().keys()
    first = {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()}
    again.save(tmp_path / "again")
    assert {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()} == first


def test_a_run_and_its_model_are_named_alike(table: Bench, tmp_path: Path) -> None:
    save(table, tmp_path / "run" / "model")
    assert model_folder(tmp_path / "run") == model_folder(tmp_path / "run" / "model")
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(LoadError, match="neither a model nor a run"):
            load_model(path)


def test_loading_leaves_the_generator_alone(text: Bench, tmp_path: Path) -> None:
    save(text, tmp_path / "m")
    before = torch.random.get_rng_state()
    load_model(tmp_path / "m")
    assert torch.equal(before, torch.random.get_rng_state())


# -- damage ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(table: Bench, tmp_path: Path) -> Path:
    """A saved table model with adapters and a mask."""
    save(table, tmp_path / "m", with_structures(table.model))
    return tmp_path / "m"


def rehead(folder: Path) -> None:
    """Forge a head that names the digests of the files as they are now (no signature stops it)."""
    from assay.files import canonical_json, file_digest

    head = json.loads((folder / "head.json").read_bytes())
    head["files"] = {name: file_digest(folder / name) for name in head["files"]}
    (folder / "head.json").write_bytes(canonical_json(head) + b"\n")


def refused(folder: Path) -> ArtefactError:
    with pytest.raises(ArtefactError) as caught:
        load_model(folder)
    assert caught.value.exit_code == 7
    assert "\n" not in caught.value.line()
    return caught.value


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "preprocessing.json", "claims.jsonl", "head.json"]
)
@pytest.mark.parametrize("where", [0, 0.5, -1])
def test_one_flipped_bit_anywhere_is_noticed(name: str, where: float, folder: Path) -> None:
    data = bytearray((folder / name).read_bytes())
    data[int(where * len(data)) if where >= 0 else -1] ^= 1
    (folder / name).write_bytes(data)
    refused(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "preprocessing.json", "claims.jsonl"])
def test_a_missing_file_and_one_too_many_are_noticed(name: str, folder: Path) -> None:
    (folder / "note.txt").write_text("hello")
    assert "note.txt" in refused(folder).line()
    (folder / "note.txt").unlink()
    (folder / name).unlink()
    assert name.partition(".")[0] in refused(folder).line()


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(header: str | bytes, content: bytes) -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw)) + raw + content


def twice(data: bytes) -> bytes:
    header, content = header_of(data)
    name = next(iter(header))
    text = json.dumps(header)
    return with_header(text[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}", content)


def header_as(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        header, content = header_of(data)
        return with_header(json.dumps(change(header)), content)

    return apply


def overlapping(header: dict[str, Any]) -> dict[str, Any]:
    names = [n for n in header if header[n]["dtype"] == "F32"]
    like = [n for n in names if header[n]["shape"] == header[names[0]]["shape"]]
    return {**header, names[1]: header[like[0]]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:-1], "truncated"),
        (lambda data: data[: len(data) // 3], "truncated"),
        (lambda data: data + b"\0", "bytes to spare"),
        (lambda data: b"", "truncated"),
        (lambda data: data[:7], "truncated"),
        (lambda data: struct.pack("<Q", 1 << 62) + data[8:], "not a safetensors file"),
        (lambda data: with_header("{", data[9:]), "not valid JSON"),
        (lambda data: with_header(b"\xff\xfe", data[9:]), "not valid JSON"),
        (twice, "stands twice"),
        (header_as(lambda h: [h]), "names no tensors"),
        (header_as(lambda h: dict.fromkeys(h, 3)), "names no tensors"),
        (header_as(lambda h: {n: {**i, "data_offsets": "0"} for n, i in h.items()}), ""),
        (header_as(lambda h: {n: {**i, "dtype": "F99"} for n, i in h.items()}), "cannot be read"),
        (header_as(lambda h: {n: {**i, "shape": [-1]} for n, i in h.items()}), "cannot be read"),
        (header_as(overlapping), "cannot be read"),
    ],
)
def test_files_that_are_no_sound_weights(
    change: Callable[[bytes], bytes], says: str, folder: Path
) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    refused(folder)
    rehead(folder)
    error = refused(folder)
    assert says in error.what
    assert error.where == str(path)


def first(tensors: dict[str, torch.Tensor], value: Any) -> dict[str, torch.Tensor]:
    name = next(n for n, t in tensors.items() if t.is_floating_point() and t.dim() == 2)
    return {**tensors, name: value(tensors[name])}


def spoilt(number: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def spoil(tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor.clone()
        changed[-1, -1] = number
        return changed

    return spoil


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: first(t, spoilt(float("nan"))), "NaN or infinite"),
        (lambda t: first(t, spoilt(float("inf"))), "NaN or infinite"),
        (lambda t: first(t, lambda x: x.T.contiguous()), "of another shape"),
        (lambda t: first(t, lambda x: x[:1]), "of another shape"),
        (lambda t: dict(list(t.items())[1:]), "is missing"),
        (lambda t: {**t, "more": torch.zeros(2)}, "'more' is surplus"),
        (lambda t: {}, "is missing"),
    ],
)
def test_weights_of_another_network(change: Callable[..., Any], says: str, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(encode_weights(change(read_weights(path))))
    rehead(folder)
    assert says in refused(folder).what


def part(name: str, **settings: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """`config.json` with other settings of its architecture or of one of its structures."""

    def change(config: dict[str, Any]) -> dict[str, Any]:
        for held in (config["architecture"], *config["structures"]):
            if name in held:
                held[name].update(settings)
        return config

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda c: {},
        lambda c: [c],
        lambda c: {**c, "architecture": {"no-such": {}}},
        lambda c: {**c, "architecture": None},
        lambda c: {**c, "architecture": {"mlp": {"hidden": [6, 5], "inputs": 5, "odd": 1}}},
        lambda c: {**c, "structures": []},
        lambda c: {**c, "structures": c["structures"][::-1]},
        lambda c: {**c, "structures": [*c["structures"], c["structures"][1]]},
        lambda c: {**c, "structures": 3},
        lambda c: {**c, "task": {"no-such": {}}},
        lambda c: {**c, "task": {"tabular-regression": {}}},
        lambda c: {**c, "classes": ["only"]},
        lambda c: {**c, "classes": ["a", "b", "c"]},
        lambda c: {**c, "classes": None},
        lambda c: {**c, "classes": 3},
        lambda c: {**c, "card": {}},
        part("mlp", hidden=[6, 7]),
        part("mlp", hidden=[10**7, 10**7]),
        part("mlp", activation="none"),
        part("head", outputs=3),
        part("head", width=-1),
        part("lora", targets=["nowhere"]),
        part("lora", rank=3),
        part("mask", names=["head.bias"]),
        part("mask", names=["nowhere"]),
    ],
)
def test_a_configuration_that_was_tampered_with(change: Callable[[Any], Any], folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(change(config)))
    assert "config.json" in str(refused(folder).where)
    rehead(folder)
    refused(folder)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"kind": "image"}', '{"kind": "tabular"}', '{"kind": [1]}']
)
def test_a_preprocessing_that_was_tampered_with(content: str, folder: Path) -> None:
    (folder / "preprocessing.json").write_text(content)
    rehead(folder)
    refused(folder)


def test_a_pickle_is_never_read(folder: Path, table: Bench) -> None:
    network = load_model(folder).network
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "model.safetensors")
    rehead(folder)
    assert "safetensors" in refused(folder).what


def test_saving_replaces_at_the_end_or_not_at_all(
    folder: Path, table: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("assay.files.os.fsync", full)
        with pytest.raises(LoadError, match="No space left"):
            table.model.save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    save(table, folder)
    assert load_model(folder).subject() == table.model.subject()
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_further_files_travel_with_the_model(folder: Path, table: Bench, tmp_path: Path) -> None:
    graph = tmp_path / "graph"
    graph.write_bytes(b"a graph")
    save(table, tmp_path / "a", table.model.with_file("model.onnx", graph))
    graph.unlink()
    again = load_model(tmp_path / "a")
    assert again.extra == {"model.onnx": tmp_path / "a" / "model.onnx"}
    again.save(tmp_path / "b")
    assert (tmp_path / "b" / "model.onnx").read_bytes() == b"a graph"
    shutil.rmtree(tmp_path / "a")
    assert load_model(tmp_path / "b").extra == {"model.onnx": tmp_path / "b" / "model.onnx"}
