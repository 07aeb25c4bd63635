from __future__ import annotations

import builtins
import errno
import io
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from assay.cli import app, invoke
from assay.errors import ClaimError
from assay.recipe import command, doctor, listing
from assay.recipe import run as run_module
from assay.recipe.outcome import Run
from assay.recipe.progress import Bar, Lines, progress_for
from assay.recipe.schema import Recipe
from assay.recipe.state import open_folder
from assay.recipe.template import TEMPLATES, template

FROZEN = Path(__file__).with_name("cli.json")
TABLE = "model: mlp\ndata: breast_cancer\nstages:\n- finetune: {epochs: 1}\n- audit\n"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands set variables for the libraries they load; no other test shall see them."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(command, "_running", None)


@pytest.fixture
def recipe(workspace: Path) -> Path:
    path = workspace / "r.yaml"
    path.write_text(TABLE, encoding="utf-8")
    return Path("r.yaml")


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def assay(capfd: pytest.CaptureFixture[str]) -> Any:
    def call(*args: object) -> Said:
        code = invoke([str(a) for a in args])
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return call


# -- the command line is frozen ------------------------------------------------------------------


def _described() -> dict[str, Any]:
    """Every command with its parameters: what a script may rely on."""
    group = import_module("typer.main").get_command(app)
    assert isinstance(group, click.Group)

    def parameter(p: click.Parameter) -> dict[str, Any]:
        options = list(p.opts) if isinstance(p, click.Option) else [p.make_metavar(ctx)]
        default = p.default
        return {
            "names": options,
            "type": p.type.name,
            "required": p.required,
            "default": default if isinstance(default, bool | int | str | None) else str(default),
            "multiple": p.multiple,
            "flag": isinstance(p, click.Option) and p.is_flag,
        }

    commands: dict[str, click.Command] = {"assay": group}
    for name, one in group.commands.items():
        below = one.commands if isinstance(one, click.Group) else {}
        commands |= {name: one, **{f"{name} {inner}": two for inner, two in below.items()}}
    described = {}
    for name, one in commands.items():
        ctx = click.Context(one)
        described[name] = [parameter(p) for p in one.params]
    return described


def test_the_command_line_is_frozen() -> None:
    """A change here breaks other people's scripts: add, do not alter.

    To accept additions: `python tests/test_cli.py`, and say so in CHANGELOG.md.
    """
    assert _described() == json.loads(FROZEN.read_text(encoding="utf-8"))


def test_every_command_has_help(assay: Any) -> None:
    top = assay("--help")
    assert top.code == 0
    assert assay().out == top.out
    for name in _described():
        if name != "assay":
            assert name.partition(" ")[0] in top.out
            said = assay(*name.split(), "--help")
            assert (said.code, said.err) == (0, "")
            assert f"Usage: assay {name}" in said.out
    assert assay("--version").out.startswith("assay 0.")


@pytest.mark.parametrize(
    "arguments", [("--help",), ("run", "--help"), ("plan", "r.yaml"), ("models",), ("doctor",)]
)
def test_light_commands_load_nothing_heavy(recipe: Path, arguments: tuple[str, ...]) -> None:
    code = (
        "import sys, json; from assay.cli import invoke\n"
        f"code = invoke({list(arguments)!r})\n"
        "heavy = 'torch transformers pandas sklearn matplotlib scipy onnxruntime numpy pyarrow'\n"
        "print(json.dumps([code, [name for name in heavy.split() if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]


def test_the_module_is_the_command(workspace: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "assay", "plan", "none.yaml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: none.yaml: no such file; correct the path\n"


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["foo"], "No such command 'foo'; see: assay --help"),
        (["plan"], "Missing argument 'RECIPE'; see: assay plan --help"),
        (["plan", "none.yaml"], "none.yaml: no such file; correct the path"),
        (["plan", "r.yaml", "--seed", "x"],
         "Invalid value for '--seed': 'x' is not a valid integer range; see: assay plan --help"),
        (["run"], "no recipe is named; write: assay run RECIPE"),
        (["run", "--resume", "none"], ("none: no run to go on with: there is no recipe.yaml; "
         "name the folder of a run")),
        (["run", "r.yaml", "--out", "a", "--resume", "b"],
         "--out and --resume exclude each other; leave out --out"),
        (["init", "x.yaml", "--template", "tabel"],
         "--template: no template 'tabel'; did you mean 'table'?"),
        (["predict", "m", "i.csv", "--out", "o.txt"], ("o.txt: cannot write predictions as .txt; "
         "name a file that ends in .csv, .parquet, .jsonl")),
        (["data", "digit"], "data.name: unknown sample 'digit'; did you mean 'digits'?"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line_and_2(
    assay: Any, recipe: Path, arguments: list[str], line: str
) -> None:
    said = assay(*arguments)
    assert said.code == 2
    assert said.err == f"error: {line}\n"
    assert said.out == ""
    assert [p.name for p in Path().iterdir()] == ["r.yaml"]
    as_json = assay(*arguments, "--json")
    assert as_json.code == 2
    assert as_json.json["error"]["exit_code"] == 2
    assert as_json.json["error"]["what"] in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["predict", "none", "r.yaml", "--out", "o.csv"], ("none: no such folder; name a folder "
         "with config.json and head.json, or a run that holds model/")),
        (["predict", ".", "none.csv", "--out", "o.csv"], ("none.csv: no such file; "
         "correct the path")),
        (["predict", ".", "r.yaml", "--out", "o.csv"], (".: neither a model nor a run that has "
         "finished; name a folder with config.json and head.json, or a run that holds model/")),
        (["verify", "none"], "none: no such folder; name a model folder or a run folder"),
        (["init", "none/r.yaml"], "none: no such folder; make it first"),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded_is_4(
    assay: Any, recipe: Path, arguments: list[str], line: str
) -> None:
    said = assay(*arguments)
    assert (said.code, said.err) == (4, f"error: {line}\n")
    assert [p.name for p in Path().iterdir()] == ["r.yaml"]


def test_a_refused_plan_lists_every_reason(assay: Any, recipe: Path) -> None:
    recipe.write_text(TABLE + "require: {a.b: '> 1', c.d: '> 1'}\n", encoding="utf-8")
    for name in ("plan", "run"):
        said = assay(name, recipe)
        assert said.code == 2
        lines = said.err.splitlines()
        assert [line.split(":")[2].strip() for line in lines] == ["a.b", "c.d"]
    found = assay("plan", recipe, "--json").json["error"]
    assert [r["where"] for r in found["refusals"]] == ["require: a.b", "require: c.d"]
    assert not Path("runs").exists()


def test_a_bug_is_said_to_be_one(assay: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr(Recipe, "plan", broken)
    said = assay("plan", recipe)
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert said.err.startswith("error: ValueError: two lines (test_cli.py:")
    assert "this is a bug in assay" in said.err
    assert assay("plan", recipe, "--json").json["error"]["exit_code"] == 1
    monkeypatch.setenv("ASSAY_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in assay("plan", recipe).err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_the_disk_refuses_is_4(
    assay: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr(Recipe, "plan", full)
    said = assay("plan", recipe)
    assert said.code == 4
    assert said.err.startswith(f"error: some/file: {os.strerror(number)}; ")


def test_a_part_that_exits_is_no_success(assay: Any, recipe: Path) -> None:
    Path("part.py").write_text("raise SystemExit(0)", encoding="utf-8")
    recipe.write_text(TABLE + "uses: part.py\n", encoding="utf-8")
    said = assay("plan", recipe, "--allow", "part.py")
    assert said.code == 2
    assert said.err == "error: a part stopped the program (0); mend it\n"


def test_a_reader_that_goes_away_is_no_error(workspace: Path) -> None:
    shell = f"{sys.executable} -m assay models; echo code $? >&2"
    done = subprocess.run(
        ["bash", "-c", f"({shell}) | true"], capture_output=True, text=True, check=True
    )
    assert done.stderr == "code 0\n"


# -- init, plan, listings ------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_init_writes_a_recipe_that_plans(assay: Any, workspace: Path, name: str) -> None:
    said = assay("init", "my.yaml", "--template", name)
    assert (said.code, said.out) == (0, "my.yaml\n")
    assert "assay plan my.yaml" in Path("my.yaml").read_text(encoding="utf-8")
    assert "runs/my/<n>" in Path("my.yaml").read_text(encoding="utf-8")
    planned = assay("plan", "my.yaml")
    assert (planned.code, planned.err) == (0, "")
    assert planned.out.startswith("recipe my, seed 0\n")
    again = assay("init", "my.yaml")
    assert again.code == 2
    assert "there is such a file already" in again.err
    assert Path("my.yaml").read_text(encoding="utf-8") == template(name, "my.yaml")
    assert [p.name for p in workspace.iterdir()] == ["my.yaml"]


def test_init_as_json(assay: Any, workspace: Path) -> None:
    assert assay("init", "--json").json == {"path": "recipe.yaml", "template": "text"}


def test_plan_as_json_and_with_changes(assay: Any, recipe: Path) -> None:
    found = assay("plan", recipe, "--json", "--set", "stages.finetune.epochs=4", "--seed", 7).json
    assert found["stages"][0]["config"]["epochs"] == 4
    assert found["seed"] == 7
    assert found["name"] == "r"


def test_models_and_data_say_what_is_there(assay: Any) -> None:
    models = {row["name"]: row for row in assay("models", "--json").json}
    assert models["minilm-l6"]["license"] == "apache-2.0"
    assert models["minilm-l6"]["extra"] == "samples"
    assert {"mlp", "bert"} <= set(models)
    assert "transformer" not in models
    data = {row["name"]: row for row in assay("data", "--json").json}
    assert data["breast_cancer"]["rows"] == 569
    assert data["hmda"]["sensitive"] == ["afam"]
    assert all(row["license"] for row in data.values())
    lines = assay("data").out.splitlines()
    assert lines[0].split()[:2] == ["name", "modality"]
    assert len(lines) == len(data) + 1
    assert assay("models").out.count("\n") == len(models) + 1


def test_a_sample_is_opened_and_described(assay: Any) -> None:
    said = assay("data", "breast_cancer")
    assert said.code == 0
    assert said.out.startswith("breast_cancer: tabular, 569 rows, licence ")
    facts = assay("data", "breast_cancer", "--json").json
    assert sum(split["rows"] for split in facts["splits"].values()) == 569
    assert facts["card"]["label"] == "diagnosis"
    assert facts["columns"]["diagnosis"]["role"] == "label"
    assert len(facts["digest"]) == 64


def test_an_empty_table_says_so() -> None:
    assert listing.table_lines([]) == ["none"]


def test_doctor(assay: Any, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = assay("doctor", "--json")
    names = {check["name"]: check for check in found.json["checks"]}
    assert {"python", "torch", "cores", "threads", "cpu", "memory", "disk", "folder"} <= set(names)
    assert (found.code == 0) == found.json["ok"]
    monkeypatch.setattr(doctor, "LIBRARIES", {"no-such-thing": ("nothing", "")})
    said = assay("doctor")
    assert said.code == 4
    assert "bad     no-such-thing         not installed (nothing)  -> pip install assay" in said.out
    monkeypatch.setattr(doctor, "LIBRARIES", {"no-such-thing": ("nothing", "some")})
    monkeypatch.setattr(doctor, "LITTLE_SPACE", 0)
    said = assay("doctor")
    assert said.code == 0
    assert "pip install 'assay[some]'" in said.out


def test_doctor_names_extras_that_exist(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    for name, (_, extra) in doctor.LIBRARIES.items():
        assert any(item.startswith(name) for item in extras[extra]), name


# -- run -----------------------------------------------------------------------------------------


@dataclass
class FakeRun:
    """Stands for `recipe.run.run`: notes what it was given, leaves a file, gives a result."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)
    raises: BaseException | None = None

    def __call__(self, recipe: Any, **options: Any) -> Run:
        self.calls.append({"recipe": recipe, **options})
        folder = options["resume"] or open_folder(options["out"], recipe.name).path
        folder.mkdir(exist_ok=True)
        options["started"](folder)
        if self.raises is not None and not isinstance(self.raises, KeyboardInterrupt):
            raise self.raises
        (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        if self.raises is not None:
            raise self.raises
        options["progress"].say("at work")
        return Run(
            folder,
            folder / "report.html",
            {"ok": not self.misses, "claims": [{"kind": "a.b"}], "require": []},
            3 if self.misses else 0,
            self.misses,
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    stand_in = FakeRun()
    monkeypatch.setattr(run_module, "run", stand_in)
    return stand_in


def test_run_prints_the_report_first_and_last(assay: Any, recipe: Path, fake: FakeRun) -> None:
    said = assay("run", recipe, "--seed", 5, "--set", "stages.finetune.epochs=2")
    assert said.code == 0
    assert said.out == "runs/r/1/report.html\nruns/r/1/report.html\n"
    assert said.err == "at work\n"
    assert fake.calls[0]["recipe"].seed == 5
    assert fake.calls[0]["recipe"].stages[0].epochs == 2
    assert fake.calls[0]["out"] is None
    assert assay("run", recipe).out.startswith("runs/r/2/")
    assert assay("run", recipe, "--out", "mine").out == "mine/report.html\nmine/report.html\n"


def test_run_as_json(assay: Any, recipe: Path, fake: FakeRun) -> None:
    found = assay("run", recipe, "--json", "--threads", 2).json
    assert found["folder"] == "runs/r/1"
    assert found["model"] == "runs/r/1/model"
    assert found["report"] == "runs/r/1/report.html"
    assert found["exit_code"] == 0
    assert found["claims"] == [{"kind": "a.b"}]
    assert fake.calls[0]["threads"] == 2
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert os.environ["OMP_WAIT_POLICY"] == "passive"


def test_a_missed_requirement_is_3_and_says_by_how_much(
    assay: Any, recipe: Path, fake: FakeRun
) -> None:
    fake.misses.append("a.b = 0.7, required >= 0.8: misses by 0.1")
    said = assay("run", recipe)
    assert said.code == ClaimError.exit_code == 3
    assert said.err == "at work\nerror: a.b = 0.7, required >= 0.8: misses by 0.1\n"
    assert said.out.splitlines()[-1] == "runs/r/1/report.html"


def test_resume_alone_takes_the_folders_recipe(assay: Any, recipe: Path, fake: FakeRun) -> None:
    assay("run", recipe, "--set", "seed=4")
    said = assay("run", "--resume", "runs/r/1")
    assert said.code == 0
    assert fake.calls[1]["resume"] == Path("runs/r/1")
    assert fake.calls[1]["out"] is None
    assert fake.calls[1]["recipe"] == fake.calls[0]["recipe"]
    assert assay("run", recipe, "--resume", "runs/r/1").code == 0


def test_an_interrupted_run_says_how_to_go_on(assay: Any, recipe: Path, fake: FakeRun) -> None:
    fake.raises = KeyboardInterrupt()
    said = assay("run", recipe)
    assert said.code == 130
    assert said.err == "\nstopped; go on with: assay run --resume runs/r/1\n"


def test_a_run_that_fails_at_once_cannot_go_on(assay: Any, recipe: Path, fake: FakeRun) -> None:
    fake.raises = ClaimError("no", where="here", mend="do")
    said = assay("run", recipe)
    assert (said.code, said.err) == (3, "error: here: no; do\n")
    assert command.stopped() == ""


# -- progress ------------------------------------------------------------------------------------


def test_lines_are_few() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    for done in range(1, 101):
        lines.update(done, 100, "loss 1")
    lines.say("done")
    lines.close()
    said = stream.getvalue().splitlines()
    assert said[:2] == ["1/100 loss 1", "10/100 loss 1"]
    assert said[-2:] == ["100/100 loss 1", "done"]
    assert len(said) == 12
    Lines(stream).update(0, 0)
    assert isinstance(progress_for(stream), Lines)


def test_a_bar_keeps_what_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    bar.update(1, 2, "[half]")
    bar.say("a [bold] word")
    bar.update(0, 3)
    bar.update(3, 3)
    bar.update(1, 3)
    bar.close()
    bar.close()
    assert "a [bold] word" in capfd.readouterr().err


# -- the whole way -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small runs, `a` (exported) and `b`, of one task on one data set."""
    folder = tmp_path_factory.mktemp("runs")
    before = Path.cwd()
    os.chdir(folder)
    try:
        head = (
            "model: {name: mlp, settings: {hidden: [8]}}\n"
            "data: {name: breast_cancer}\n"
            "stages:\n"
            "- finetune: {epochs: 2, step: {adamw: {lr: 1.0e-2}, precision: fp32}}\n"
            "- audit: {quality: {bootstrap: 50, baselines: false}}\n"
        )
        tail = "require: {quality.accuracy: '>= 0.5'}\n"
        (folder / "r.yaml").write_text(head + "- export\n" + tail, encoding="utf-8")
        (folder / "s.yaml").write_text(head + tail, encoding="utf-8")
        assert invoke(["run", "r.yaml", "--out", "a", "--threads", "1"]) == 0
        fewer = ["--set", "stages.finetune.epochs=1", "--set", "seed=1"]
        assert invoke(["run", "s.yaml", "--out", "b", "--threads", "1", *fewer]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def runs(two_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(two_runs)
    return two_runs


def _rows(folder: Path) -> Path:
    """Ten rows with ids, as somebody else would have them."""
    from sklearn.datasets import load_breast_cancer

    known: Any = load_breast_cancer()
    path = folder / "rows.csv"
    names = ["id", *known.feature_names]
    rows = [[f"patient {i}", *known.data[i]] for i in range(10)]
    path.write_text(
        "\n".join(",".join(map(str, row)) for row in [names, *rows]) + "\n", encoding="utf-8"
    )
    return path


def test_predict_needs_no_torch_and_keeps_ids(runs: Path, tmp_path: Path) -> None:
    rows, out = _rows(tmp_path), tmp_path / "out.jsonl"
    code = (
        "import sys, json; from assay.cli import invoke\n"
        f"code = invoke(['predict', 'a', {str(rows)!r}, '--out', {str(out)!r}])\n"
        "print(json.dumps([code, 'torch' in sys.modules, 'transformers' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, False, False]
    assert done.stdout.startswith(f"{out}: 10 rows by onnxruntime\n")
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == [f"patient {i}" for i in range(10)]
    shares = [k for k in lines[0] if k.startswith("probability_")]
    assert len(shares) == 2
    assert all(abs(sum(line[k] for k in shares) - 1) < 1e-5 for line in lines)


def test_predict_refuses_to_replace_its_input(runs: Path, tmp_path: Path, assay: Any) -> None:
    rows = _rows(tmp_path)
    said = assay("predict", "a", rows, "--out", rows)
    assert said.code == 2
    assert "the output would replace the input" in said.err


def test_torch_and_the_export_predict_alike(
    runs: Path, tmp_path: Path, assay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _rows(tmp_path)
    assert assay("predict", "a", rows, "--out", tmp_path / "onnx.csv").code == 0
    monkeypatch.setattr(doctor, "has_module", lambda name: False)
    done = assay("predict", "a", rows, "--out", tmp_path / "torch.csv", "--json")
    assert done.json == {"engine": "torch", "out": str(tmp_path / "torch.csv"), "rows": 10}
    one, two = ((tmp_path / f"{n}.csv").read_text().splitlines() for n in ("onnx", "torch"))
    assert [line.split(",")[:2] for line in one] == [line.split(",")[:2] for line in two]


def test_verify_holds_and_report_is_written_again(runs: Path, assay: Any) -> None:
    said = assay("verify", "a", "--json")
    assert said.code == 0, said.err
    assert said.json["ok"]
    assert said.json["authenticated"] is False
    assert {c["status"] for c in said.json["claims"]} <= {"holds", "void", "unverifiable"}
    page = Path("a/report.html").read_bytes()
    Path("a/report.html").unlink()
    assert assay("report", "a").out == "a/report.html\n"
    assert Path("a/report.html").read_bytes() == page


def test_compare_two_models(runs: Path, assay: Any) -> None:
    found = assay("compare", "a", "b/model", "--json").json
    assert (found["dataset"], found["split"]) == ("breast_cancer", "test")
    assert found["rows"] == found["units"] == 113
    assert 0 <= found["same"] <= 1
    accuracy = next(d for d in found["differences"] if d["metric"] == "accuracy")
    assert accuracy["difference"] == pytest.approx(accuracy["b"] - accuracy["a"])
    low, high = accuracy["interval"]
    assert low <= accuracy["difference"] <= high
    lines = assay("compare", "a", "a").out.splitlines()
    assert lines[2] == "on breast_cancer/test: 113 rows, 113 units"
    assert "both decide alike on 100.0% of the rows" in lines
    assert all("differs" not in line for line in lines)
    assert assay("compare", "a", "b", "--split", "tset").code == 4
    assert assay("compare", "a", "b", "--html", "c.html").out.splitlines()[-1] == "c.html"
    assert "<h1" in Path("c.html").read_text(encoding="utf-8")


def test_compare_refuses_other_data(runs: Path, assay: Any) -> None:
    fewer = ["--set", "stages.finetune.epochs=1", "--set", "data.splits.seed=9"]
    if not Path("c").exists():
        assert assay("run", "s.yaml", "--out", "c", "--threads", "1", *fewer).code == 0
    said = assay("compare", "a", "c")
    assert said.code == 2
    assert said.err == (
        "error: a and c: they were made on other rows, or another division, of breast_cancer; "
        "compare models of one data set and the same splits\n"
    )
    assert assay("compare", "a", "none").code == 4


def test_a_finished_run_resumes_to_itself(runs: Path, assay: Any) -> None:
    before = Path("a/model/model.safetensors").read_bytes()
    assert assay("run", "--resume", "a").code == 0
    assert Path("a/model/model.safetensors").read_bytes() == before
    said = assay("run", "r.yaml", "--resume", "a", "--seed", 9)
    assert said.code == 2
    assert "the recipe has changed since this run began (seed)" in said.err


def _freeze() -> None:
    text = json.dumps(_described(), indent=1, sort_keys=True)
    FROZEN.write_text(text + "\n", encoding="utf-8")
    builtins.print(FROZEN)


if __name__ == "__main__":
    _freeze()
