"""The model card: front matter that parses, results that hold, limits that are named."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.report.card import escaped, write_card
from tests.report.conftest import claim, regression, write


def parts(folder: Path) -> tuple[dict[str, Any], str]:
    path = write_card(folder)
    assert path == folder / "card.md"
    text = path.read_text(encoding="utf-8")
    start, front, body = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(front), body


def test_front_matter(reviews_run: Path) -> None:
    front, _ = parts(reviews_run)
    assert {key: front[key] for key in front if key != "model-index"} == {
        "library_name": "assay",
        "tags": ["assay", "text", "bert"],
        "license": "apache-2.0",
        "pipeline_tag": "text-classification",
        "datasets": ["food-reviews"],
        "base_model": "minilm-l6",
    }
    (index,) = front["model-index"]
    assert index["name"] == "reviews"
    (result,) = index["results"]
    assert result["task"] == {"type": "text-classification", "name": "text-classification"}
    assert result["dataset"] == {
        "type": "food-reviews",
        "name": "food-reviews",
        "split": "test",
        "revision": "4f1e" * 16,
    }
    assert result["metrics"][0] == {
        "type": "accuracy",
        "name": "Accuracy",
        "value": 0.857,
        "args": {
            "kind": "quality.accuracy",
            "interval": [0.8348, 0.8778],
            "level": 0.95,
            "n": 1000,
        },
    }


def test_results_are_the_claims_that_hold(reviews_run: Path) -> None:
    front, _ = parts(reviews_run)
    claims = json.loads((reviews_run / "claims.json").read_text())["claims"]
    metrics = [m for r in front["model-index"][0]["results"] for m in r["metrics"]]
    assert [(m["args"]["kind"], m["value"]) for m in metrics] == [
        (c["kind"], c["value"]) for c in claims if c["status"] == "holds" and c["dataset"]
    ]


def test_the_hub_reads_it(reviews_run: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(write_card(reviews_run))
    results = card.data.eval_results
    assert [r.metric_type for r in results[:2]] == ["accuracy", "roc_auc"]
    assert results[0].metric_value == 0.857
    assert card.data.model_name == "reviews"
    assert results[0].metric_args == {
        "kind": "quality.accuracy",
        "interval": [0.8348, 0.8778],
        "level": 0.95,
        "n": 1000,
    }
    assert (results[0].dataset_split, results[0].dataset_revision) == ("test", "4f1e" * 16)
    # what the hub makes of it is the index that the card holds
    front = yaml.safe_load(card.content.split("---\n")[1])
    index = hub.repocard_data.eval_results_to_model_index("reviews", results)
    assert index[0]["name"] == "reviews"
    made = [m for r in index[0]["results"] for m in r["metrics"]]
    written = [m for r in front["model-index"][0]["results"] for m in r["metrics"]]
    key = json.dumps
    assert sorted(map(key, made)) == sorted(map(key, written))


def test_a_student_is_what_is_handed_on(make_reviews: Callable[..., Path]) -> None:
    folder = make_reviews()
    student = {"name": "cnn", "architecture": "cnn", "modality": "text", "pretrained": False}
    write(folder, "model/config.json", {"card": student})
    front, body = parts(folder)
    assert "base_model" not in front
    assert front["tags"] == ["assay", "text", "cnn"]
    assert "# reviews (cnn)" in body


def test_the_body_says_what_a_reader_needs(reviews_run: Path) -> None:
    _, body = parts(reviews_run)
    headings = [line for line in body.splitlines() if line.startswith("#") and "food" not in line]
    assert headings == [
        "# reviews (minilm-l6)", "## Intended use", "## Claims", "## Limits", "## How it was made",
        "## How to use",
        "## How to verify"]  # fmt: skip
    for line in (
        "**All 3 required claims hold.**",
        "| Accuracy | food-reviews, test split | 85.7% | 83.5 to 87.8% | 1,000 | holds |",
        "| Accuracy | food-reviews, valid split | 84.8% | 81.0 to 88.2% | 400 | void |",
        "| Accuracy | 85.7% | at least 84% | holds, 1.7 points to spare |",
        "- Numbers are estimates from 1,000 rows; read them with their intervals.",
        (
            "- Void, because a later stage changed the model: Accuracy; Latency, median; "
            "Latency, 99th percentile."
        ),
        (
            "- No claim is made about calibration, fairness, robustness, explanation, privacy: "
            "they were not measured."
        ),
        "assay verify runs/reviews/3",
        "1. **finetune** Moves all 22.7 M parameters and the head. (2 min 51 s)",
    ):
        assert line in body.splitlines(), line


def test_failed_claims_are_no_results(make_reviews: Callable[..., Path]) -> None:
    folder = make_reviews(ok=False)
    claims = json.loads((folder / "claims.json").read_text())
    for row in claims["claims"]:
        row["status"] = "fails"
    write(folder, "claims.json", claims)
    front, body = parts(folder)
    assert "model-index" not in front
    assert "- Does not hold: Accuracy; AUROC;" in body
    assert "**1 of 3 required claims does not hold.**" in body


def test_a_model_from_scratch_on_private_data(tmp_path: Path) -> None:
    folder = regression(tmp_path / "1")
    front, body = parts(folder)
    assert "license" not in front or front["license"] == "unknown"
    assert "base_model" not in front
    assert front["pipeline_tag"] == "tabular-regression"
    assert "- Sensitive columns of the data: afam." in body
    assert stat.S_IMODE((folder / "card.md").stat().st_mode) == 0o600


def test_one_file_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "1", "metrics.jsonl", "")
    front, body = parts(tmp_path / "1")
    assert front == {"library_name": "assay", "tags": ["assay"], "license": "unknown"}
    assert "- The run measured nothing: how good this model is, is unknown." in body


def test_names_stay_names(tmp_path: Path) -> None:
    name = "a|b <script> **x** [l](u)\n# no\n---\nlicense: mit"
    folder = tmp_path / "1"
    write(folder, "recipe.yaml", f"name: {json.dumps(name)}\n# ```\n")
    write(folder, "plan.json", {"model": {"name": name, "license": name, "pretrained": True},
                                "data": {"name": name, "label": name}, "task": name})  # fmt: skip
    row = claim("quality.accuracy", 0.5, "fraction", 0, dataset=name, split=name, n=3)
    write(folder, "claims.json", {"ok": True, "claims": [row]})
    text = write_card(folder).read_text(encoding="utf-8")
    front = yaml.safe_load(text[4 : text.index("\n---\n\n#")])
    assert front["license_name"] == name
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == name
    body = text[text.index("\n---\n\n#") :]
    assert "<script>" not in body.replace("\\<script\\>", "").split("````yaml")[0]
    assert "a\\|b \\<script\\> \\*\\*x\\*\\*" in body
    assert "````yaml" in body
    assert escaped("*a*\n|") == r"\*a\* \|"
