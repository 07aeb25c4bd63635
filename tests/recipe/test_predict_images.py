"""A model of images, from a folder to predictions for another folder."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.cli import invoke

RECIPE = """
model: {name: cnn, image_size: 8, settings: {widths: [4], depth: 1}}
data: {path: pets, drop_undecodable: true}
stages:
- finetune: {epochs: 2, step: {adamw: {lr: 1.0e-2}, precision: fp32}}
- audit: {quality: {bootstrap: 0, baselines: false}}
- export
"""


def picture(path: Path, seed: int, light: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (10 + seed % 3, 12, 3)
    grey = np.random.default_rng(seed).integers(0, 60, shape, dtype=np.uint8) + 180 * light
    Image.fromarray(grey.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a run `a`, and what was said while it ran."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(60):
        picture(folder / "pets" / ("light" if i % 2 else "dark") / f"{i}.png", i, bool(i % 2))
    (folder / "pets" / "dark" / "x.jpg").write_bytes(b"\xff\xd8\xff")
    picture(folder / "new" / "b.png", 100, light=True)
    picture(folder / "new" / "deep" / "a.gif", 101, light=False)
    (folder / "r.yaml").write_text(RECIPE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "assay", "run", "r.yaml", "--out", "a", "--threads", "1"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_run_says_what_it_left_out(made: tuple[Path, str]) -> None:
    assert "left out: 1 rows whose pictures do not decode" in made[1]


def test_predicting_a_folder_needs_no_torch(made: tuple[Path, str]) -> None:
    folder, _ = made
    code = (
        "import sys, json; from assay.cli import invoke\n"
        "code = invoke(['predict', 'a', 'new', '--out', 'onnx.csv'])\n"
        "print(json.dumps([code, 'torch' in sys.modules, 'transformers' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, False, False]
    found = rows(folder / "onnx.csv")
    # rows are called by their path below the folder, with slashes everywhere
    assert [row["id"] for row in found] == ["b.png", "deep/a.gif"]
    assert list(found[0]) == ["id", "prediction", "probability_dark", "probability_light"]
    assert float(found[0]["probability_light"]) > float(found[1]["probability_light"])


def test_torch_and_the_export_predict_alike(
    made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.recipe import doctor

    monkeypatch.chdir(made[0])
    assert invoke(["predict", "a", "new", "--out", "one.csv"]) == 0
    monkeypatch.setattr(doctor, "has_module", lambda name: False)
    assert invoke(["predict", "a", "new", "--out", "two.csv"]) == 0
    for one, two in zip(rows(Path("one.csv")), rows(Path("two.csv")), strict=True):
        assert (one["id"], one["prediction"]) == (two["id"], two["prediction"])
        assert abs(float(one["probability_dark"]) - float(two["probability_dark"])) < 1e-5


def test_one_picture(made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made[0])
    assert invoke(["predict", "a", "new/b.png", "--out", "b.csv"]) == 0
    assert [row["id"] for row in rows(Path("b.csv"))] == ["b.png"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("pets", "picture dark/x.jpg: it is no picture of a known kind, or its head is damaged"),
        ("pets/dark/x.jpg", "picture x.jpg: it is no picture of a known kind"),
        ("a/checkpoints", "the folder holds no pictures"),
        ("nowhere", "no such file"),
    ],
)
def test_what_cannot_be_predicted(
    made: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: str,
    message: str,
) -> None:
    monkeypatch.chdir(made[0])
    Path("a/checkpoints").mkdir(parents=True, exist_ok=True)
    assert invoke(["predict", "a", given, "--out", "no.csv"]) == 4
    assert message in capsys.readouterr().err
    assert not Path("no.csv").exists()


def test_the_column_of_pictures_may_have_another_name(
    made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.models.load import load_model
    from assay.models.predictions import as_table

    monkeypatch.chdir(made[0])
    model: Any = load_model(Path("a/model"))
    table = as_table("new")
    assert table.column_names == ["file", "image"]
    expected = model.predict(table)
    renamed = model.preprocessing.model_copy(update={"column": "photo"})
    monkeypatch.setattr(model, "preprocessing", renamed)
    found = model.predict(table)
    assert found.ids == expected.ids == ["b.png", "deep/a.gif"]
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
