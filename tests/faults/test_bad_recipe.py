"""A recipe that is wrong: one line, exit code 2, and nothing is left."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import SMALL, tree

MLP = "{name: mlp, settings: {hidden: [4], dropout: 0.2}}"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcde", "bcdef", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"\xff\xfe\x00", "bad.yaml:1: not UTF-8 text; save the file as UTF-8"),
        ("model: \0", "bad.yaml: not valid YAML: unacceptable character"),
        ("model: [", "bad.yaml:1: not valid YAML: expected the node content"),
        ("model:\n\t- a", "bad.yaml:2: not valid YAML: a tab where YAML wants spaces"),
        ("seed: 1\nseed: 2\n", "bad.yaml:2: not valid YAML: the key 'seed' stands twice"),
        ("", "bad.yaml: the recipe is empty; write one with: assay init"),
        ("- a", "bad.yaml: expected keys such as model, data and stages at the top, got a list"),
        ("hello", "bad.yaml: expected keys such as model, data and stages at the top, got the"),
        (BOMB, "bad.yaml:1: too deep or too large for a recipe; remove nested aliases"),
        ("!!python/object/apply:os.system [ls]", "bad.yaml:1: not valid YAML: "),
    ],
)
def test_what_is_no_yaml(small: Path, assay: Any, text: str | bytes, line: str) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    Path("bad.yaml").write_bytes(data)
    refused(small, assay, line)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("model:", "modle:", "modle: unknown key 'modle'; did you mean 'model'?"),
        ("finetune", "finetun", "unknown stage 'finetun'; did you mean 'finetune'?"),
        ("epochs", "epoch", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("adamw", "adamv", "unknown step 'adamv'; did you mean 'adam'?"),
        ("{lr: 0.01}", "{lr: 1, rate: 1}", "stages[0].finetune.step.adamw.rate: unknown key"),
        ("quality", "qality", "unknown audit 'qality'; did you mean 'quality'?"),
        ("{lr: 0.01}", "{}", "stages[0].finetune.step.adamw.lr: this key is missing; add it"),
        ("epochs: 2", "epochs: many", "stages[0].finetune.epochs: input should be a valid number"),
        ("epochs: 2", "epochs: .nan", "epochs: input should be a finite number, got nan"),
        ("epochs: 2", "epochs: -1", "epochs: input should be greater than 0, got -1"),
        ("batch: 16", "batch: 2.5", "batch: input should be a valid integer"),
        ("batch: 16", "batch: [16]", "batch: input should be a valid integer"),
        ("seed: 3", "seed: x", "seed: input should be a valid integer"),
        ("rows.csv", "[1]", "data.path: input should be a valid string, got [1]"),
        ("[4]", "[0]", "model.settings.hidden[0]: input should be greater than or equal to 1"),
        ("[4]", "wide", "model.settings.hidden: input should be a valid tuple, got 'wide'"),
        ("- finetune", "  finetune", "bad.yaml:"),
        ("mlp", "mpl", "model: no model 'mpl': neither a known name nor a folder; did you mean"),
        (MLP, "./there", "model: no model './there': neither a known name nor a folder"),
        (MLP, "rows.csv", "model: "),
        ("{path: rows.csv, label: label}", "hdma", "unknown sample 'hdma'; did you mean 'hmda'?"),
        (", label: label", "", "data: which column is to be predicted is not said; give 'label:'"),
        ("label: label", "label: label, splits: {valid: 0.5, test: 0.5}", "nothing to train on"),
        ("label: label", "label: label, splits: {by: time}", "data.splits: "),
    ],
)
def test_what_is_misspelt_or_of_another_type(
    small: Path, assay: Any, old: str, new: str, line: str
) -> None:
    assert old in SMALL
    Path("bad.yaml").write_text(SMALL.replace(old, new))
    refused(small, assay, line)


NO_VALID = {"label: label": "label: label, splits: {valid: 0}"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"seed: 3": "task: text-classification"}, "task: text-classification is for text data"),
        ({"seed: 3": "task: image-clasification"}, "unknown task 'image-clasification'; did"),
        (
            {MLP: "minilm-l6", "seed: 3": "task: tabular-classification"},
            "tabular-classification is for tabular data, but rows is text; leave",
        ),
        ({**NO_VALID, "fp32": "fp32, early_stopping: 1"}, "step.early_stopping needs that there"),
        ({**NO_VALID, "fp32": "fp32, plateau: 1"}, "step.plateau needs that there is a validation"),
        ({"seed: 3": "require: {fairness.gap: '<= 0.1'}"}, "no stage measures fairness.gap"),
        (
            {"seed: 3": "require: {quality.auroc: good}"},
            "require.quality.auroc: expected a comparison with a number, got 'good'",
        ),
        ({"epochs: 2": "epochs: 2, objective: {}"}, "nothing to learn; name a term"),
        ({"adamw: {lr: 0.01}": "ema: 0.9"}, "the step has no optimiser; add one"),
        (
            {"adamw: {lr: 0.01}": "adamw: {lr: 0.01}, sgd: {lr: 1}"},
            "2 optimiser parts in one step: adamw, sgd; keep one",
        ),
        (
            {"epochs: 2": "epochs: 2, parameters: {last: 0}"},
            "parameters.last.n: input should be greater than or equal to 1",
        ),
        (
            {"- audit": "- merge\n- audit"},
            "merge needs that there are adapters to merge; leave it out, or",
        ),
        (
            {"- audit": "- export: huggingface\n- audit"},
            "export needs that the network is a transformer; export to onnx",
        ),
    ],
)
def test_what_does_not_fit_together(
    small: Path, assay: Any, changes: dict[str, str], line: str
) -> None:
    text = SMALL
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    Path("bad.yaml").write_text(text)
    refused(small, assay, line)


def refused(small: Path, assay: Any, line: str) -> None:
    """Both commands say the same and leave nothing."""
    there = tree(small)
    for command in ("plan", "run"):
        said = assay(command, "bad.yaml")
        assert (said.code, said.out) == (2, ""), said
        assert said.err.startswith("error: ")
        assert line in said.err
        assert said.err.count("\n") == 1
        assert not re.search(r"Traceback|bug in assay|pydantic", said.err)
        assert tree(small) == there


def test_what_is_not_there(small: Path, assay: Any) -> None:
    there = tree(small)
    for name, line in (
        ("nope.yaml", "error: nope.yaml: no such file; correct the path\n"),
        (".", "error: .: this is a folder, not a recipe; name a YAML file\n"),
        ("rows.csv/x.yaml", "error: rows.csv/x.yaml: "),
    ):
        for command in ("plan", "run"):
            said = assay(command, name)
            assert (said.code, said.out) == (2, "")
            assert said.err.startswith(line)
            assert said.err.count("\n") == 1
    for arguments, line in (
        (["--set", "stages.finetune.epoch=2"], "--set stages.finetune.epoch=2: no 'epoch' in"),
        (["--set", "nothing"], "--set nothing: "),
        (["--seed", "-1"], "Invalid value for '--seed'"),
        (["--threads", "0"], "Invalid value for '--threads'"),
        (["--sign", "nokey"], "nokey: cannot read the key: No such file or directory; make one"),
        (["--sign", "rows.csv"], "rows.csv: "),
        (["--colour"], "No such option"),
    ):
        said = assay("run", "small.yaml", *arguments)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith(f"error: {line}")
        assert said.err.count("\n") == 1
    assert tree(small) == there
