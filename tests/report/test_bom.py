"""The bill of materials: valid by the official schema, exact, the same for the same files."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from assay.report.bom import write_bom
from tests.report.conftest import ORIGIN, claim, regression, stage, statement, write


def made(folder: Path) -> dict[str, Any]:
    """The document of a run, after the official schema has passed it."""
    path = write_bom(folder)
    assert path == folder / "bom.cdx.json"
    text = path.read_text(encoding="utf-8")
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert problem is None, str(problem)[:500]
    value = json.loads(text)
    assert isinstance(value, dict)
    refs = list(_refs(value))
    assert len(refs) == len(set(refs)), "a bom-ref stands twice"
    named = {d["ref"] for d in value["dependencies"]}
    named |= {ref for d in value["dependencies"] for ref in d.get("dependsOn", [])}
    assert named <= set(refs)
    return value


def _refs(value: Any) -> Any:
    if isinstance(value, dict):
        if "bom-ref" in value:
            yield value["bom-ref"]
        for inner in value.values():
            yield from _refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _refs(inner)


def properties(of: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["value"] for row in of.get("properties", [])}


def test_the_model(reviews_run: Path) -> None:
    model = made(reviews_run)["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == (
        "machine-learning-model",
        "reviews",
        "3",
    )
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    (base,) = model["pedigree"]["ancestors"]
    assert (base["name"], properties(base)["assay:relation"]) == ("minilm-l6", "base model")
    card = model["modelCard"]
    assert card["modelParameters"] == {
        "task": "text-classification",
        "architectureFamily": "bert",
        "modelArchitecture": "minilm-l6",
        "datasets": [{"ref": "data:0"}],
        "inputs": [{"format": "string"}],
        "outputs": [{"format": "probability of each class"}],
    }
    assert card["quantitativeAnalysis"]["performanceMetrics"][0] == {
        "type": "quality.accuracy",
        "value": "0.857",
        "slice": "food-reviews, test split, n = 1000",
        "confidenceInterval": {"lowerBound": "0.8348", "upperBound": "0.8778"},
    }
    assert (
        "Numbers are estimates from 1,000 rows; read them with their intervals."
        in card["considerations"]["technicalLimitations"]
    )


def test_files_are_hashed_as_they_lie(make_reviews: Callable[..., Path]) -> None:
    folder = make_reviews()
    write(folder, "model/model.safetensors", "weights")
    model = made(folder)["metadata"]["component"]
    hashes = {part["name"]: part["hashes"][0]["content"] for part in model["components"]}
    assert hashes == {
        f"model/{name}": hashlib.sha256((folder / "model" / name).read_bytes()).hexdigest()
        for name in ("claims.jsonl", "head.json", "model.safetensors")
    }
    expected = hashlib.sha256(b"weights").hexdigest()
    assert model["hashes"] == [{"alg": "SHA-256", "content": expected}]


def test_data_and_libraries(reviews_run: Path) -> None:
    document = made(reviews_run)
    data, *libraries = document["components"]
    assert (data["type"], data["name"]) == ("data", "food-reviews")
    assert data["licenses"] == [{"license": {"name": "GPL-3.0"}}]
    assert properties(data) == {"assay:digest": "4f1e" * 16, "assay:read_by": "this run"}
    (told,) = data["data"]
    assert told["classification"] == "not declared private"
    assert properties(told["contents"])["assay:rows_test"] == "1000"
    purls = {part["name"]: (part["type"], part["purl"]) for part in libraries}
    assert purls["torch"] == ("library", "pkg:pypi/torch@2.13.0%2Bcpu")
    assert purls["python"] == ("platform", "pkg:generic/python@3.11.7")
    assert document["dependencies"][0] == {
        "ref": "model",
        "dependsOn": [part["bom-ref"] for part in document["components"]] + ["base:0"],
    }


def test_claims_stand_with_their_status(reviews_run: Path) -> None:
    declared = made(reviews_run)["declarations"]
    rows = json.loads((reviews_run / "claims.json").read_text())["claims"]
    assert len(declared["claims"]) == len(declared["evidence"]) == len(rows)
    first = declared["claims"][0]
    assert first["target"] == "model"
    assert first["predicate"] == (
        "quality.accuracy = 0.857 [0.8348, 0.8778] at level 0.95 "
        "on food-reviews, test split, n = 1000"
    )
    assert first["reasoning"] == "holds: true of the model as it is handed on"
    (every,) = declared["attestations"][0]["map"]
    count = {s: sum(row["status"] == s for row in rows) for s in ("holds", "void")}
    assert (len(every["claims"]), len(every["counterClaims"])) == (count["holds"], count["void"])
    for ref in every["counterClaims"]:
        void = declared["claims"][int(ref.partition(":")[2])]
        assert void["reasoning"].startswith("void: ") and "evidence" not in void


@pytest.mark.parametrize("ok", [True, False])
def test_requirements_are_answered(make_reviews: Callable[..., Path], ok: bool) -> None:
    document = made(make_reviews(ok=ok))
    (standard,) = document["definitions"]["standards"]
    assert [item["text"] for item in standard["requirements"]] == [
        "quality.accuracy >= 0.84", "size.bytes <= 100000000", "latency.p50_ms <= 50"
    ]  # fmt: skip
    answers = document["declarations"]["attestations"][1]["map"]
    assert [row["conformance"]["score"] for row in answers] == [int(ok), 1, 1]
    assert all(len(row["claims"]) == 1 for row in answers)


def test_only_what_holds_is_a_metric(make_reviews: Callable[..., Path]) -> None:
    folder = make_reviews()
    claims = json.loads((folder / "claims.json").read_text())
    for row, status in zip(claims["claims"], ["fails", "void", "unverifiable"] * 99, strict=False):
        row["status"] = status
    write(folder, "claims.json", claims)
    document = made(folder)
    assert "quantitativeAnalysis" not in document["metadata"]["component"]["modelCard"]
    (every,) = document["declarations"]["attestations"][0]["map"]
    assert every["claims"] == []
    assert len(every["counterClaims"]) == sum(
        row["status"] != "unverifiable" for row in claims["claims"]
    )


def test_the_same_files_give_the_same_bytes(make_reviews: Callable[..., Path]) -> None:
    folder = make_reviews()
    first = write_bom(folder).read_bytes()
    assert write_bom(folder).read_bytes() == first
    write(folder, "model/extra.txt", "x")
    second = write_bom(folder).read_bytes()
    assert json.loads(first)["serialNumber"] != json.loads(second)["serialNumber"]


def test_private_data_disclose_no_row(tmp_path: Path) -> None:
    folder = regression(tmp_path / "1")
    row = {"id": "patient-17", "text": "a private sentence"}
    write(folder, "evidence/1-mistakes.json", {"split": "test", "rows": [row]})
    document = made(folder)
    path = folder / "bom.cdx.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "patient-17" not in path.read_text() and "private sentence" not in path.read_text()
    (data,) = (part for part in document["components"] if part["type"] == "data")
    assert data["data"][0]["classification"] == "private"
    assert data["data"][0]["sensitiveData"] == ["afam"]


def test_teachers_and_what_they_read(tmp_path: Path) -> None:
    folder = tmp_path / "1"
    origin = {"model": "big", "model_license": "mit", "data": "old", "data_digest": "a" * 64}
    lineage = {"digest": "b" * 64, "origins": [origin | {"data_private": True}]}
    used = {
        "teachers": {"runs/t/1": "b" * 64, "current": "c" * 64},
        "inherits": {"runs/t/1": lineage},
        "student": {"name": "tiny", "model_digest": "d" * 64},
    }
    records = [ORIGIN, stage(0, "distill", [], [], used=used)]
    write(folder, "model/claims.jsonl", [statement(record) for record in records])
    document = made(folder)
    told = {
        part["name"]: properties(part)
        for part in document["metadata"]["component"]["pedigree"]["ancestors"]
    }
    assert {name: row["assay:relation"] for name, row in told.items()} == {
        "minilm-l6": "base model, replaced by its student",
        "tiny": "student before it learnt",
        "runs/t/1": "teacher",
        "current": "teacher",
    }
    assert told["runs/t/1"]["assay:base_models"] == "big"
    data = {part["name"]: part for part in document["components"] if part["type"] == "data"}
    assert data["old"]["data"][0]["classification"] == "private"
    assert properties(data["old"])["assay:read_by"] == "the teacher runs/t/1"


def test_one_file_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "1", "metrics.jsonl", "")
    document = made(tmp_path / "1")
    assert "definitions" not in document
    assert document["declarations"]["claims"] == []


def test_nothing_a_user_names_breaks_it(tmp_path: Path) -> None:
    name = "名 \ud800\x00<b>\n" + "é" * 300
    folder = tmp_path / "1"
    write(folder, "recipe.yaml", "name: [1, 2]\n")
    write(folder, "environment.json", {"versions": {name: name, "": "1", "x": None, "y": 3}})
    card = {"name": name, "license": name, "pretrained": True, "architecture": 7, "modality": name}
    data = {"name": name, "label": name, "sensitive": [name, None], "private": "?", "unit": name}
    write(folder, "plan.json", {"model": card, "data": data, "task": name})
    about = {"dataset": name, "split": name, "conditions": {name: name}}
    odd = [
        claim("quality.accuracy", 0.5, "fraction", 0, **about),
        claim("quality.accuracy", 0.5, "fraction", 0, **about),
        claim("", None, "", 0, interval=[0.1]),
        claim("quality.auroc", "0.5", "fraction", 0, interval=["a", "b"], n=True),
        {"status": "odd"},
        {},
    ]  # fmt: skip
    require: list[dict[str, Any]] = [{}, {"kind": name, "bound": {"text": ">= 1"}, "line": name}]
    write(folder, "claims.json", {"claims": odd, "require": require})
    document = made(folder)
    metrics = document["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]
    assert [m["type"] for m in metrics["performanceMetrics"]] == ["quality.accuracy"]
    assert len(document["declarations"]["claims"]) == len(odd)


def test_a_value_that_is_no_number_is_said_to_be_none(tmp_path: Path) -> None:
    from assay.report.bom import document
    from assay.report.reading import RunFiles

    row = claim("quality.r2", float("nan"), "fraction", 0, interval=[float("-inf"), 0.1])
    text = json.dumps(document(RunFiles("1", "r", "1", claims=(row,)), {}), allow_nan=False)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert "quality.r2 = not a finite number" in text and "performanceMetrics" not in text
