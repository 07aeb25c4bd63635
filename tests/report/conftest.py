"""Run folders as a run leaves them: reviews (text), credit (regression), and odd ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest

RECIPE = """\
name: reviews
# food reviews, label great or other
model: minilm-l6
data:
  name: food-reviews
  text: [product, review]
  label: score
  splits: {valid: 0.1, test: 0.2, by: stratified, seed: 0}
task: text-classification
seed: 7
stages:
  - finetune:
      objective: {supervised: {label_smoothing: 0.05}}
      parameters: full
      step: {adamw: {lr: 5.0e-5}, one_cycle: {warmup: 0.1}, precision: bf16}
      epochs: 2
  - audit: {quality: {}, efficiency: {}}
  - finetune:
      objective: supervised
      parameters: {lora: {rank: 8, merge: true}}
      step: {adamw: {lr: 1.0e-4}, linear: {}}
      epochs: 1
  - audit: {quality: {}, efficiency: {}}
  - export: {onnx: {}}
require:
  quality.accuracy: ">= 0.84"
  size.bytes: "<= 100000000"
  latency.p50_ms: "<= 50"
"""


def write(folder: Path, name: str, value: Any) -> None:
    """Write one file of a run folder: text, lines of JSON, or JSON."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, str):
        path.write_text(value, encoding="utf-8")
    elif name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(line) + "\n" for line in value), encoding="utf-8")
    else:
        path.write_text(json.dumps(value), encoding="utf-8")


def claim(kind: str, value: Any, unit: str, stage: int, **more: Any) -> dict[str, Any]:
    """One row of claims.json."""
    row = {
        "kind": kind,
        "value": value,
        "unit": unit,
        "dataset": None,
        "split": None,
        "conditions": {},
        "measured": None,
        "interval": None,
        "n": None,
        "status": "holds",
        "stage": stage,
        "method": "",
        "nature": "measured",
        "level": 0.95,
    }
    return row | more


def statement(record: dict[str, Any]) -> dict[str, Any]:
    """A record of the passport as an in-toto Statement."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://example.org/assay/record/v1",
        "subject": [],
        "predicate": record,
    }


QUALITY = {
    "accuracy": 0.857,
    "auroc": 0.9211,
    "balanced_accuracy": 0.8373,
    "macro_f1": 0.8389,
    "auprc": 0.9497,
    "sensitivity": 0.8997,
    "specificity": 0.7749,
}
BASELINES = [
    {
        "name": "majority",
        "metrics": {
            "accuracy": 0.658,
            "auroc": 0.5,
            "balanced_accuracy": 0.5,
            "macro_f1": 0.3969,
            "auprc": 0.658,
            "sensitivity": 1.0,
            "specificity": 0.0,
        },
    },
    {
        "name": "tf-idf + logistic",
        "metrics": {
            "accuracy": 0.805,
            "auroc": 0.8712,
            "balanced_accuracy": 0.7702,
            "macro_f1": 0.7776,
            "auprc": 0.9152,
            "sensitivity": 0.8891,
            "specificity": 0.6512,
        },
        "intervals": {"accuracy": [0.78, 0.829]},
    },
]


def qualities(stage: int, shift: float = 0.0, **more: Any) -> list[dict[str, Any]]:
    """The claims of a quality audit on the test split."""
    return [
        claim(
            f"quality.{name}",
            round(value - shift, 4),
            "fraction",
            stage,
            dataset="food-reviews",
            split="test",
            n=1000,
            method="bootstrap 2000, percentile",
            interval=[round(value - shift - 0.0222, 4), round(value - shift + 0.0208, 4)],
            **more,
        )
        for name, value in QUALITY.items()
    ]


def costs(stage: int) -> list[dict[str, Any]]:
    """The claims of an efficiency audit."""
    rows = [
        claim("size.parameters", 22713986, "count", stage),
        claim("size.bytes", 90902144, "bytes", stage),
    ]
    for batch, p50, p99 in ((1, 39.04, 44.7), (32, 1187.2, 1302.9)):
        for name, value in (("p50_ms", p50), ("p99_ms", p99)):
            conditions = {"batch": batch, "runtime": "torch", "threads": 2}
            rows.append(claim(f"latency.{name}", value, "ms", stage, conditions=conditions))
    return rows


def curves() -> list[dict[str, Any]]:
    """metrics.jsonl of two training stages: means of a few steps, and of each epoch."""
    lines: list[dict[str, Any]] = []
    for number, steps, start, per in ((0, 226, 0.70, 113), (2, 114, 0.31, 114)):
        for step in range(1, steps + 1):
            low = 0.29 if number == 0 else 0.255
            loss = low + (start - low) * math.exp(-step / 45) + 0.012 * math.sin(1.9 * step)
            at = {"stage": number, "step": step, "epoch": round(step / per, 4)}
            if step % 4 == 0:
                lines.append(
                    at | {"kind": "step", "split": "train", "loss": round(loss, 8), "lr": 5e-5}
                )
            if step % per == 0:
                valid = 0.335 + (start - 0.335) * math.exp(-step / 42)
                lines.append(at | {"kind": "epoch", "split": "train", "loss": round(loss, 8)})
                lines.append(
                    at
                    | {"kind": "epoch", "split": "valid", "loss": round(valid, 8)}
                    | {"accuracy": round(1.02 - valid / 2.05, 8)}
                )
    return lines


def roc(auc: float, points: int = 60) -> list[list[float]]:
    """A binormal ROC curve of that area."""
    normal = NormalDist()
    d = math.sqrt(2) * normal.inv_cdf(auc)
    inner = [i / points for i in range(1, points)]
    return [[0, 0], *([x**2, normal.cdf(normal.inv_cdf(x**2) + d)] for x in inner), [1, 1]]


def stage(index: int, name: str, keeps: list[str], adds: list[str], **more: Any) -> dict[str, Any]:
    """The passport's record of a stage."""
    effects = {
        "adds": adds,
        "keeps": keeps,
        "reads": more.pop("reads", []),
        "moves": "",
        "notes": [],
    }
    effects["moves"] = more.pop("moves", "")
    return {
        "type": "stage",
        "stage": {
            "index": index,
            "name": name,
            "config": {},
            "effects": effects,
            "used": more.pop("used", {}),
            "subject": "0" * 64,
        },
    }


def read(split: str, influences: list[str], why: str) -> dict[str, Any]:
    """One reading of data."""
    return {"split": split, "influences": influences, "why": why, "private": False}


TRAINING_READS = [
    read("train", ["weights"], "gradients"),
    read("valid", ["choice", "report"], "which epoch is kept, curves"),
]
AUDIT_READS = [read("test", ["claims", "report"], "quality of the finished model")]


def stated(index: int, row: dict[str, Any]) -> dict[str, Any]:
    """The passport's record of a claim."""
    kept = {key: value for key, value in row.items() if key not in ("status", "stage", "measured")}
    return {"type": "claim", "claim": {"stage": index, "claim": kept}}


def bin_of(p: int) -> dict[str, Any]:
    """A bin of a reliability diagram."""
    middle = p / 10 + 0.05
    wave = 0.07 * math.sin((p + 0.5) * 0.62)
    return {
        "from": p / 10,
        "to": p / 10 + 0.1,
        "count": 100,
        "confidence": middle,
        "frequency": round(middle - wave, 3),
    }


def reviews_stages() -> list[dict[str, Any]]:
    """Passport records of the five stages."""
    measured = ["quality.*", "size.*", "latency.*"]
    used = {"precision": "bf16", "steps": 226, "memory_format": "contiguous", "threads": 2}
    return [
        stage(
            0,
            "finetune",
            [],
            [],
            reads=TRAINING_READS,
            used=used,
            moves="all 22.7 M parameters and the head",
        ),
        stage(1, "audit", ["*"], measured, reads=AUDIT_READS),
        stage(
            2,
            "finetune",
            ["size.*"],
            [],
            reads=TRAINING_READS,
            used={"precision": "bf16", "steps": 113, "merged": True},
            moves="LoRA of rank 8 on query and value, merged",
        ),
        stage(3, "audit", ["*"], measured, reads=AUDIT_READS),
        stage(
            4,
            "export",
            ["quality.*", "size.parameters"],
            ["agreement.top1", "size.bytes", "latency.*"],
            reads=[read("test", ["claims"], "agreement on real inputs")],
            used={"runtime": "onnxruntime 1.32"},
        ),
    ]


ORIGIN = {
    "type": "origin",
    "origin": {
        "recipe": "reviews",
        "assay": "0.1.0",
        "model": {
            "name": "minilm-l6",
            "architecture": "bert",
            "modality": "text",
            "parameters": 22713216,
            "blocks": 6,
            "pretrained": True,
            "license": "Apache-2.0",
        },
        "data": {
            "name": "food-reviews",
            "modality": "text",
            "rows": 5000,
            "label": "score",
            "classes": 2,
            "sensitive": [],
            "unit": None,
            "private": False,
            "license": "GPL-3.0",
            "split_rows": {"train": 3600, "valid": 400, "test": 1000},
        },
        "data_digest": "4f1e" * 16,
    },
}

ENVIRONMENT = {
    "cores": 2,
    "executable": "python3",
    "machine": "Intel Xeon @ 2.90 GHz",
    "platform": "Linux-6.1-x86_64-with-glibc2.36",
    "seed": 7,
    "threads": 2,
    "versions": {
        "assay": "0.1.0",
        "numpy": "2.4.6",
        "onnxruntime": "1.32.0",
        "pyarrow": "26.0.1",
        "python": "3.11.7",
        "safetensors": "0.8.0",
        "scikit-learn": "1.9.1",
        "tokenizers": "0.23.3",
        "torch": "2.13.0+cpu",
        "transformers": "5.23.0",
    },
}


def reviews(folder: Path, ok: bool = True) -> Path:
    """A whole run of the reviews recipe; not `ok`: the required accuracy is just missed."""
    folder.mkdir(parents=True)
    shift = 0.0 if ok else 0.0171
    valid = claim(
        "quality.accuracy",
        0.8475,
        "fraction",
        1,
        dataset="food-reviews",
        split="valid",
        n=400,
        interval=[0.81, 0.8825],
        status="void",
    )
    final = qualities(3, shift)
    exported = [
        claim(
            "agreement.top1",
            1.0,
            "fraction",
            4,
            dataset="food-reviews",
            split="test",
            n=1000,
            conditions={"runtime": "onnxruntime"},
        ),
        claim("size.bytes", 91120331, "bytes", 4),
        *(
            claim(
                f"latency.{name}",
                value,
                "ms",
                4,
                conditions={
                    "batch": 1,
                    "runtime": "onnxruntime",
                    "threads": 2,
                },
            )
            for name, value in (("p50_ms", 21.37), ("p99_ms", 24.9))
        ),
    ]
    history = [
        *((1, c) for c in [*qualities(1, 0.0119), valid, *costs(1)]),
        *((3, c) for c in [*final, *costs(3)]),
        *((4, c) for c in exported),
    ]
    eager = [c | {"status": "void"} for c in costs(3) if c["kind"].startswith("latency")]
    current = [*final, valid, costs(3)[0], *eager, *exported]
    accuracy = final[0]["value"]
    require = [
        {
            "kind": "quality.accuracy",
            "bound": ">= 0.84",
            "value": accuracy,
            "ok": ok,
            "miss": 0.0 if ok else 0.84 - accuracy,
            "where": "",
        },
        {
            "kind": "size.bytes",
            "bound": "<= 100000000",
            "value": 91120331,
            "ok": True,
            "miss": 0.0,
            "where": "",
        },
        {
            "kind": "latency.p50_ms",
            "bound": "<= 50",
            "value": 21.37,
            "ok": True,
            "miss": 0.0,
            "where": "",
        },
    ]
    write(folder, "recipe.yaml", RECIPE)
    write(folder, "environment.json", ENVIRONMENT)
    write(folder, "plan.json", {"task": "text-classification"})
    write(folder, "metrics.jsonl", curves())
    write(
        folder,
        "timings.jsonl",
        [{"stage": i, "seconds": s} for i, s in enumerate((171.3, 24.8, 66.0, 24.9, 31.2))],
    )
    write(
        folder,
        "evidence/3-quality.json",
        {
            "confusion": {"labels": ["great", "other"], "matrix": [[592, 66], [77, 265]]},
            "baselines": BASELINES,
            "curve_roc": roc(0.9211),
            "n": 1000,
            "metrics": QUALITY,
            "reliability": [bin_of(p) for p in range(10)],
            "mistakes": [
                {"id": 4211, "label": "other", "prediction": "great", "probability": 0.998117},
                {"id": 4876, "label": "great", "prediction": "other", "probability": 0.991502},
                {"id": 4019, "label": "other", "prediction": "great", "probability": 0.986034},
            ],
            "split": "test",
            "dataset": "food-reviews",
        },
    )
    write(folder, "claims.json", {"ok": ok, "claims": current, "require": require})
    records: list[dict[str, Any]] = [ORIGIN]
    for record in reviews_stages():
        index = record["stage"]["index"]
        records.append(record)
        records += [stated(index, c) for stage, c in history if stage == index]
    write(folder, "model/claims.jsonl", [statement(record) for record in records])
    write(folder, "model/head.json", {"count": len(records), "last": "9b3a" * 16, "files": {}})
    return folder


def regression(folder: Path) -> Path:
    """A regression on mortgages, without a passport: all comes from claims.json and plan.json."""
    folder.mkdir(parents=True)
    about = {"dataset": "hmda", "split": "test", "n": 476}
    rows = [
        claim("quality.rmse", 12843.7, "label", 1, interval=[12110.0, 13602.4], **about),
        claim("quality.mae", 9120.4, "label", 1, interval=[8640.0, 9633.1], **about),
        claim("quality.r2", 0.612, "fraction", 1, interval=[0.57, 0.651], **about),
        claim("size.parameters", 4353, "count", 1),
    ]
    card = {"name": "hmda", "modality": "tabular", "rows": 2380, "label": "amount"}
    card |= {"sensitive": ["afam"], "unit": "applicant", "private": True, "license": "GPL-2"}
    stages = [
        {"index": 0, "name": "finetune", "keeps": [], "adds": [], "reads": TRAINING_READS},
        {"index": 1, "name": "audit", "keeps": ["quality.*", "size.*"], "reads": AUDIT_READS},
    ]
    lines = [
        {"stage": 0, "epoch": e, "split": split, "loss": 1 / e + shift, "rmse": 2e4 / e + shift}
        for e in range(1, 9)
        for split, shift in (("train", 0.0), ("valid", 0.1))
    ]
    evidence = {
        "n": 476,
        "scatter": [[1e3 * i, 1e3 * i + 9e3 * math.sin(i)] for i in range(200)],
        "baselines": [
            {"name": "mean", "metrics": {"rmse": 20611.0, "mae": 15800.0, "r2": 0.0}},
            {"name": "ridge", "metrics": {"rmse": 14020.0, "mae": 10110.0, "r2": 0.54}},
            {"name": "gradient boosting", "metrics": {"rmse": 12790.0, "mae": 9200.0, "r2": 0.615}},
        ],
    }
    require = {"kind": "quality.rmse", "bound": "<= 13000", "value": 12843.7, "ok": True}
    plan = {"task": "tabular-regression", "data": card, "stages": stages}
    write(folder, "recipe.yaml", "name: loans\nmodel: {mlp: {width: 64}}\ndata: hmda\n")
    write(folder, "plan.json", plan)
    write(folder, "metrics.jsonl", lines)
    write(folder, "evidence/1-quality.json", evidence)
    write(folder, "claims.json", {"ok": True, "claims": rows, "require": [require]})
    return folder


@pytest.fixture(scope="session")
def reviews_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose required claims hold."""
    return reviews(tmp_path_factory.mktemp("reviews") / "runs" / "reviews" / "3")


@pytest.fixture
def make_reviews(tmp_path: Path) -> Callable[..., Path]:
    """Make a reviews run to change."""
    return lambda **how: reviews(tmp_path / "runs" / "reviews" / "1", **how)


@pytest.fixture
def regression_run(tmp_path: Path) -> Path:
    """A regression run."""
    return regression(tmp_path / "runs" / "loans" / "1")


#: a grey picture of 2 x 2 pixels
IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAAAAABX3VL4AAAADklEQVR4nGNgYPjPwAAA"
    "BAIBAAyUaKMAAAAASUVORK5CYII="
)


def calibration(off: float) -> dict[str, Any]:
    """What an audit of the probabilities keeps; `off` is how far they are off."""
    bins = [
        {
            "low": b / 10, "high": (b + 1) / 10, "n": 20 * b, "confidence": b / 10 + 0.05,
            "accuracy": b / 10 + 0.05 - off, "ci": [b / 10 - off, b / 10 + 0.1 - off],
        }
        for b in range(5, 10)
    ]  # fmt: skip
    return {
        "split": "test", "n": 700, "ece": off, "bins": bins,
        "conformal": {
            "alpha": 0.1, "coverage": 0.914, "low": 0.891, "high": 0.933, "mean_size": 1.412,
            "sizes": {"0": 5, "1": 440, "2": 255},
        },
    }  # fmt: skip


TRANSFER = {
    "metric": "accuracy", "split": "test", "n": 2000, "k": [10, 50], "seeds": [0, 1],
    "pretrained": [[0.70, 0.72], [0.81, 0.83]], "scratch": [[0.50, 0.54], [0.74, 0.76]],
    "gain": [
        {"k": 10, "value": 0.19, "low": 0.15, "high": 0.23},
        {"k": 50, "value": 0.07, "low": 0.05, "high": 0.09},
    ],
}  # fmt: skip

MISTAKES = {
    "split": "test",
    "rows": [
        {"id": 7, "label": "other", "predicted": "great", "confidence": 0.998,
         "text": "Not as <great> as they say.", "image": None},
        {"id": 9, "label": "great", "predicted": "other", "confidence": 0.97,
         "text": None, "image": IMAGE},
    ],
}  # fmt: skip


def full(folder: Path) -> Path:
    """The reviews with every kind of evidence, and its page."""
    from assay.report.page import write_report

    reviews(folder)
    for name, evidence in (
        ("1-calibration", calibration(0.12)),
        ("3-calibration", calibration(0.01)),
        ("3-transfer", TRANSFER),
        ("3-mistakes", MISTAKES),
    ):
        write(folder, f"evidence/{name}.json", evidence)
    write_report(folder)
    return folder
