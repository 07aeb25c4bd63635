"""Every command and block of the README does what the README says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Shell = Callable[[str], "subprocess.CompletedProcess[str]"]
Blocks = Callable[[str, str], list[str]]

#: what stands for a command that installs, or that runs this very test
INSTEAD = {"make demo": "test_make_demo", "make test": "test_make_test"}


def commands(block: str) -> list[str]:
    """The lines of a shell block without their comments."""
    lines = (re.sub(r"\s+#.*$", "", line).strip() for line in block.splitlines())
    return [line for line in lines if line]


def first_and_last(text: str) -> tuple[str, str]:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0].strip(), lines[-1].strip()


def names_report(line: str, folder: str) -> bool:
    """Whether a printed line tells where the report of a run is."""
    return line.replace("\\", "/").endswith(f"{folder}/report.html")


def test_the_two_commands_come_first_and_no_command_is_left_out(blocks: Blocks) -> None:
    first, *others = [commands(block) for block in blocks("README.md", "sh")]
    assert first == list(INSTEAD)
    for line in (line for block in others for line in block):
        assert line.startswith("assay "), f"say in this test how to run: {line}"


def test_the_shortest_path(blocks: Blocks, shell: Shell, workspace: Path) -> None:
    _, path = blocks("README.md", "sh")
    printed = {line.split()[1]: shell(line).stdout for line in commands(path)}
    assert list(printed) == ["init", "plan", "run", "verify"]
    assert all(names_report(line, "runs/mine/1") for line in first_and_last(printed["run"]))
    run = workspace / "runs/mine/1"
    assert (run / "report.html").stat().st_size > 0
    claims = json.loads((run / "claims.json").read_text(encoding="utf-8"))
    assert claims["ok"] is True
    assert {"quality.auroc", "size.bytes"} <= {claim["kind"] for claim in claims["claims"]}

    # what the README says next of predict and compare
    columns = json.loads(shell("assay data breast_cancer --json").stdout)["columns"]
    names = [name for name, column in columns.items() if column["role"] == "feature"]
    rows = "".join(",".join(value for _ in names) + "\n" for value in ("0.5", "1.5"))
    (workspace / "rows.csv").write_text(",".join(names) + "\n" + rows, encoding="utf-8")
    assert "onnx" in shell("assay predict runs/mine/1/model rows.csv --out predictions.csv").stdout
    header, *predicted = (workspace / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert len(predicted) == 2
    assert all(name in header for name in ("benign", "malignant"))
    one_stage = "'stages=[{finetune: {epochs: 2}}]'"
    shell(f"assay run mine.yaml --out other --seed 1 --set {one_stage} --set require=null")
    assert "accuracy" in shell("assay compare runs/mine/1 other").stdout


def test_the_python_block(blocks: Blocks, workspace: Path) -> None:
    (block,) = blocks("README.md", "python")
    check = "\nassert model.classes and type(model).__name__ == 'Model'\nassert run is not None\n"
    done = subprocess.run(
        [sys.executable, "-c", block + check],
        cwd=workspace,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "quality.auroc" in done.stdout


def test_make_test(root: Path) -> None:
    """`make test` cannot run inside itself: it is seen to run lint, types, tests and doctests."""
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "test"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    for part in ("ruff check", "mypy --strict", "-m pytest", "--doctest-modules src tests"):
        assert part in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("name", ["reviews", "credit"])
def test_make_demo(name: str, root: Path, shell: Shell, workspace: Path) -> None:
    """The recipe that `make demo` runs, and the other one of the table: both keep their promise."""
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    assert "assay run recipes/reviews.yaml" in makefile
    printed = shell(f"assay run {root}/recipes/{name}.yaml --out runs/{name}/1").stdout
    assert all(names_report(line, f"runs/{name}/1") for line in first_and_last(printed))
    claims = json.loads((workspace / f"runs/{name}/1/claims.json").read_text(encoding="utf-8"))
    assert claims["ok"] is True
    assert all(item["ok"] for item in claims["require"])
