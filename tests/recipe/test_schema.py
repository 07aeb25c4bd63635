from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import assay
from assay import registry
from assay.claims import Bound, Requirement
from assay.errors import LoadError, UsageError
from assay.recipe.reading import parse_yaml, write_yaml
from assay.recipe.schema import Recipe

HEAD = "model: mlp\ndata: {path: x.csv, label: y}\n"
GOOD = HEAD + "stages:\n  - probe: {epochs: 2}\n"


def write(folder: Path, text: str, name: str = "r.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path, **options: Any) -> str:
    """The one line with which a recipe is refused."""
    with pytest.raises(UsageError) as caught:
        Recipe.load(path, **options)
    assert caught.value.exit_code == 2
    line = caught.value.line()
    assert "\n" not in line
    return line.removeprefix(f"{path.parent}/")


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "r.yaml: the recipe is empty; write one with: assay init"),
        ("# nothing\n", "r.yaml: the recipe is empty; write one with: assay init"),
        (
            "[1]",
            (
                "r.yaml: expected keys such as model, data and stages at the top, got a list; "
                "see: assay init"
            ),
        ),
        (
            "hello",
            (
                "r.yaml: expected keys such as model, data and stages at the top, got the text "
                "'hello'; see: assay init"
            ),
        ),
        (
            "a: b: c",
            (
                "r.yaml:1: not valid YAML: mapping values are not allowed here at column 5; "
                "correct this line"
            ),
        ),
        (
            "a:\n\t- b",
            (
                "r.yaml:2: not valid YAML: a tab where YAML wants spaces at column 1; "
                "indent with spaces"
            ),
        ),
        (
            "model: mlp\nmodel: x",
            (
                "r.yaml:2: not valid YAML: the key 'model' stands twice at column 1; "
                "remove one of the two"
            ),
        ),
        (
            HEAD + "stages:\n - probe:\n     epochs: 1\n     epochs: 2",
            (
                "r.yaml:6: not valid YAML: the key 'epochs' stands twice at column 6; "
                "remove one of the two"
            ),
        ),
        (
            "x: !!python/object/apply:os.system [ls]",
            (
                "r.yaml:1: not valid YAML: could not determine a constructor for the tag "
                "'tag:yaml.org,2002:python/object/apply:os.system' at column 4; correct this line"
            ),
        ),
        (
            "a: 1\n---\nb: 2",
            "r.yaml:2: not valid YAML: but found another document at column 1; correct this line",
        ),
        (
            "? [a]\n: b",
            "r.yaml:1: not valid YAML: found unhashable key at column 3; correct this line",
        ),
        ("a: &a [*a]", "r.yaml:1: too deep or too large for a recipe; remove nested aliases"),
    ],
)
def test_unreadable_yaml_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    assert refused(write(tmp_path, text)) == line


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert "too deep or too large" in refused(write(tmp_path, "\n".join(levels)))


def test_what_is_no_text_file(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"a: 1\nb: \xff\n")
    assert refused(tmp_path / "r.yaml") == "r.yaml:2: not UTF-8 text; save the file as UTF-8"
    (tmp_path / "r.yaml").write_bytes(b"a: \x00")
    assert refused(tmp_path / "r.yaml").startswith("r.yaml: not valid YAML: unacceptable character")
    assert refused(tmp_path / "none.yaml") == "none.yaml: no such file; correct the path"
    with pytest.raises(UsageError, match="this is a folder, not a recipe; name a YAML file"):
        Recipe.load(tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert Recipe.load(tmp_path / "r.yaml").model.name == "mlp"


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = "[no, on, yes, true, 1e-5, 1.5e3, .5, 010, 0x1F, 1_000, 2024-01-02, 1:30, ~, '1', -3]"
    values, _ = parse_yaml(text, "here")
    assert values == [
        "no", "on", "yes", True, 1e-5, 1500.0, 0.5, 10, 31, 1000, "2024-01-02", "1:30", None,
        "1", -3,
    ]  # fmt: skip
    assert [type(v) for v in values[4:7]] == [float] * 3


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe"))
    | st.sampled_from(["no", "1e5", "0o17", "1_0", "null", "~", "", "2024-01-01", "=", "<<", "0x1"])
)


@given(
    st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner)
        ),
        max_leaves=8,
    )
)
def test_what_is_written_is_read_back(value: Any) -> None:
    again, _ = parse_yaml(write_yaml(value), "here")
    assert again == value


# -- strictness ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            GOOD + "stges: 3",
            "r.yaml:5: stges: unknown key 'stges'; did you mean 'stages'?",
        ),
        (
            "model: mlp\ndata: {path: x.csv, labl: y}\nstages: [probe]",
            "r.yaml:2: data.labl: unknown key 'labl'; did you mean 'label'?",
        ),
        (
            HEAD + "stages:\n- probe:\n    epoch: 3",
            "r.yaml:5: stages[0].probe.epoch: unknown key 'epoch'; did you mean 'epochs'?",
        ),
        (
            HEAD + "stages:\n- probe\n- prob",
            "r.yaml:5: stages[1].prob: unknown stage 'prob'; did you mean 'probe'?",
        ),
        (
            HEAD + "stages:\n- probe:\n    epochs: many",
            (
                "r.yaml:5: stages[0].probe.epochs: input should be a valid integer, unable to "
                "parse string as an integer, got 'many'; correct the value"
            ),
        ),
        (
            HEAD + "stages:\n- probe:\n    rates: {a: .nan}",
            (
                "r.yaml:5: stages[0].probe.rates.a: input should be a finite number, got nan; "
                "correct the value"
            ),
        ),
        (
            HEAD + "stages:\n- probe:\n  epochs: 3",
            (
                "r.yaml:4: stages[0]: expected one stage, got the keys probe, epochs; indent "
                "'epochs' to stand below 'probe', or start it with '- '"
            ),
        ),
        (HEAD + "stages: []", "r.yaml:3: stages: there is no stage; add one, e.g. '- finetune'"),
        (
            HEAD + "stages: probe",
            (
                "r.yaml:3: stages: expected a list of stages, got 'probe'; "
                "write '- finetune: {...}' lines"
            ),
        ),
        (HEAD, "r.yaml: stages: this key is missing; write '- finetune: {...}' lines"),
        ("data: hmda\nstages: [probe]", "r.yaml: model: this key is missing; add it"),
        ("model: mlp\nstages: [probe]", "r.yaml: data: this key is missing; add it"),
        (
            GOOD + "seed: 1.5",
            (
                "r.yaml:5: seed: input should be a valid integer, got a number with a fractional "
                "part, got 1.5; correct the value"
            ),
        ),
        (
            GOOD + "seed: true",
            "r.yaml:5: seed: input should be a valid integer, got True; correct the value",
        ),
        (
            GOOD + "name: ../up",
            (
                "r.yaml:5: name: string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$', "
                "got '../up'; correct the value"
            ),
        ),
        (
            GOOD + "require: {acc: '>= 1'}",
            (
                "r.yaml:5: require.acc: 'acc' is no kind of claim; write family.name, such as "
                "quality.accuracy"
            ),
        ),
        (
            GOOD + "require: {quality.accuracy: 0.8}",
            (
                "r.yaml:5: require.quality.accuracy: expected a comparison with a number, got 0.8; "
                'write ">= 0.8" or "<= 0.8"'
            ),
        ),
        (
            GOOD + "require:\n- {kind: quality.accuracy, bound: '>= 0.8.1'}",
            (
                "r.yaml:6: require[0]: expected a comparison with a number, got '>= 0.8.1'; "
                'write ">= 0.8" or "<= 0.8"'
            ),
        ),
        (
            GOOD + "require:\n- {kind: quality.accuracy, spit: test}",
            "r.yaml:6: require[0].spit: unknown key 'spit'; did you mean 'split'?",
        ),
        (
            GOOD + "task: tabular-clasification",
            (
                "r.yaml:5: task.tabular-clasification: unknown task 'tabular-clasification'; "
                "did you mean 'tabular-classification'?"
            ),
        ),
    ],
)
def test_mistakes_are_named_with_line_and_path(tmp_path: Path, text: str, line: str) -> None:
    found = refused(write(tmp_path, text))
    # pydantic's own wording may vary from version to version; place and remedy do not
    place, _, rest = line.partition(": input should")
    assert found.startswith(place)
    assert found.rpartition("; ")[2] == line.rpartition("; ")[2]
    assert rest or found == line


def test_python_is_as_strict(raw: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="modle: unknown key 'modle'; did you mean 'model'"):
        Recipe(modle="mlp", **raw)
    with pytest.raises(UsageError, match="seed: input should be a valid integer"):
        Recipe(**raw, seed="x")
    with pytest.raises(UsageError, match=r"stages\[1\]\.probee: unknown stage"):
        Recipe(**{**raw, "stages": ["probe", "probee"]})
    with pytest.raises(UsageError, match="model: this key is missing"):
        Recipe(data="hmda", stages=["probe"])


# -- one recipe, many ways to write it -----------------------------------------------------------


def test_yaml_and_python_make_equal_recipes(here: Path, raw: dict[str, Any]) -> None:
    probe: Any = registry.find("stage", "probe")
    path = write(
        here,
        "model: {name: mlp}\ndata:\n  path: x.csv\n  label: y\n  classes: [a, b]\n"
        "stages:\n  - probe: {epochs: 2}\n  - probe\nrequire:\n  quality.accuracy: '>= 0.8'\n"
        "  size.bytes: {bound: '< 1e6', strict: true}\n",
    )
    one = Recipe.load(path)
    two = assay.Recipe(
        **{**raw, "stages": [probe(epochs=2), "probe"]},
        name="r",
        task="tabular-classification",
        require=[
            Requirement(kind="quality.accuracy", bound=Bound(text=">= 0.8")),
            {"kind": "size.bytes", "bound": "< 1e6", "strict": True},
        ],
    )
    assert one == two
    assert Recipe.load(path, seed=3).seed == 3


def test_a_dump_gives_the_recipe_back(here: Path, raw: dict[str, Any]) -> None:
    recipe = Recipe(**raw, require={"a.b": None, "c.d": {"split": "valid", "bound": "== 1"}})
    dumped = recipe.dump()
    assert dumped["stages"][0]["probe"]["epochs"] == 2
    assert dumped["data"]["splits"]["test"] == 0.2
    assert dumped["task"] == {"tabular-classification": {"positive": None}}
    assert dumped["require"][1] == {
        "kind": "c.d", "bound": "== 1", "dataset": None, "split": "valid", "conditions": {},
        "strict": False,
    }  # fmt: skip
    assert Recipe.from_data(dumped) == recipe
    assert Recipe(**dumped) == recipe
    (here / "again.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert Recipe.load(here / "again.yaml", resolved=True) == recipe
    assert Recipe.load(here / "again.yaml").dump() == dumped


def test_the_name_is_that_of_the_file(here: Path) -> None:
    assert Recipe.load(write(here, GOOD, "my recipe (2).yaml")).name == "my-recipe-2"
    assert Recipe.load(write(here, GOOD + "name: other")).name == "other"
    assert Recipe.load(write(here, GOOD, "中.yaml")).name == "recipe"


@pytest.mark.parametrize(
    ("data", "task"),
    [
        ("hmda", "tabular-classification"),
        ({"path": "x.csv", "label": "y"}, "tabular-classification"),
        ({"path": "x.csv", "label": "y", "columns": {"y": {"kind": "numeric"}}},
         "tabular-regression"),
    ],
)  # fmt: skip
def test_the_task_is_inferred(raw: dict[str, Any], data: Any, task: str) -> None:
    assert Recipe(**{**raw, "data": data}).task.part_name == task


def test_a_file_is_text_where_the_model_reads_text(raw: dict[str, Any]) -> None:
    recipe = Recipe(**{**raw, "model": "minilm-l6"})
    assert recipe.task.part_name == "text-classification"
    assert recipe.context().data.modality == "text"


def test_files_are_looked_up_beside_the_recipe_first(here: Path) -> None:
    (here / "sub").mkdir()
    path = write(here / "sub", GOOD)
    assert Recipe.load(path).data.path == "x.csv"
    (here / "sub" / "x.csv").touch()
    assert Recipe.load(path.relative_to(here)).data.path == "sub/x.csv"
    assert Recipe.load(path, resolved=True).data.path == "x.csv"
    (here / "sub" / "mlp").mkdir()
    assert Recipe.load(path).model.name == "mlp"  # a known name is never a folder


# -- parts of the user's own ---------------------------------------------------------------------

PART = """
from assay.claims import Effects
from assay.registry import register
from assay.stages.base import Stage


@register("stage", "mine_{name}")
class Mine(Stage):
    size: int = 1

    def effects(self, context):
        return Effects()
"""


def test_user_files_run_only_when_allowed(here: Path) -> None:
    (here / "part.py").write_text(PART.replace("{name}", "a"), encoding="utf-8")
    path = write(here, HEAD + "uses: part.py\nstages:\n- mine_a: {size: 3}\n").relative_to(here)
    line = refused(path)
    assert line == (
        "r.yaml:3: uses: part.py: the recipe wants to run this Python file; "
        "read it, then allow it with --allow part.py"
    )
    assert "mine_a" not in registry.names("stage")
    try:
        recipe = Recipe.load(path, allow=[here / "part.py"])
        assert recipe.stages[0].size == 3
        assert recipe.uses == ("part.py",)
        assert Recipe.from_data(recipe.dump(), allow=["part.py"]) == recipe
    finally:
        registry.unregister("stage", "mine_a")


def test_user_files_that_cannot_run(here: Path) -> None:
    path = write(here, GOOD + "uses: [none.py]")
    assert "uses: none.py: no such file" in refused(path, allow=["none.py"])
    (here / "none.py").write_text("1 / 0", encoding="utf-8")
    assert "fails when run: ZeroDivisionError" in refused(path, allow=["none.py"])
    assert "uses: expected paths of Python files" in refused(write(here, GOOD + "uses: {a: b}"))


# -- changes from the command line ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("stages.0.probe.epochs=5", ("stages", 0, "probe", "epochs"), 5),
        ("stages[0].probe.epochs=5", ("stages", 0, "probe", "epochs"), 5),
        ("stages.0.epochs=5", ("stages", 0, "probe", "epochs"), 5),
        ("stages.probe.epochs=5", ("stages", 0, "probe", "epochs"), 5),
        ("stages.probe.rates={a: 1e-3}", ("stages", 0, "probe", "rates"), {"a": 1e-3}),
        ("stages.probe.rates.a=2", ("stages", 0, "probe", "rates"), {"a": 2.0}),
        ("stages.fold.epochs=7", ("stages", 1, "fold", "epochs"), 7),
        ("stages.1=probe", ("stages", 1, "probe", "epochs"), 1),
        ("model.settings.hidden=[4]", ("model", "settings"), {"hidden": [4]}),
        ("model=bert", ("model", "name"), "bert"),
        ("data.splits.test=0.3", ("data", "splits", "test"), 0.3),
        ("data.sensitive=[sex]", ("data", "sensitive"), ["sex"]),
        ("data.columns.y.kind=numeric", ("data", "columns", "y", "kind"), "numeric"),
        ("seed=9", ("seed",), 9),
        ("name=other", ("name",), "other"),
        ("task=tabular-regression", ("task",), {"tabular-regression": {"positive": None}}),
        ("require.a.b=>= 2", ("require", 1, "bound"), ">= 2"),
        ("require.quality.accuracy=< 0.1", ("require", 0, "bound"), "< 0.1"),
    ],
)
def test_set(tmp_path: Path, change: str, path: tuple[Any, ...], value: Any) -> None:
    text = GOOD + "  - fold\nrequire: {quality.accuracy: '>= 0.8'}\n"
    found: Any = Recipe.load(write(tmp_path, text), set=[change]).dump()
    for step in path:
        found = found[step]
    assert found == value


def test_set_goes_into_parts_however_they_are_written(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "stages:\n- finetune:\n    objective: supervised\n- audit\n")
    recipe = Recipe.load(
        path,
        set=[
            "stages.finetune.objective.supervised.label_smoothing=0.2",
            "stages.finetune.parameters=head",
            "stages.finetune.step.adamw.lr=0.5",
            "stages.finetune.step.clip_norm=1.0",
            "stages.audit.quality.split=valid",
        ],
    )
    tuned, audit = recipe.dump()["stages"]
    assert tuned["finetune"]["objective"]["supervised"]["label_smoothing"] == 0.2
    assert list(tuned["finetune"]["parameters"]) == ["head"]
    assert tuned["finetune"]["step"]["adamw"]["lr"] == 0.5
    assert list(tuned["finetune"]["step"]) == ["adamw", "clip_norm"]
    assert audit["audit"]["quality"]["split"] == "valid"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("nothing", "expected path=value; write for example stages.0.finetune.epochs=1"),
        ("=3", "expected path=value; write for example stages.0.finetune.epochs=1"),
        ("sed=3", "no 'sed' in the recipe; did you mean 'seed'?"),
        ("stages.0.probe.epoch=1", "no 'epoch' in stages[0].probe; did you mean 'epochs'?"),
        ("stages.7.epochs=1", "no '7' in stages; one of: 0, 1, 2"),
        ("stages.prob.epochs=1", "no 'prob' in stages; did you mean 'probe'?"),
        ("stages.fold.epochs=1", "2 stage parts are named 'fold'; write the index: 1.fold"),
        ("model.nam=x", "no 'nam' in model; did you mean 'name'?"),
        ("data.splits.tset=0.1", "no 'tset' in data.splits; did you mean 'test'?"),
        ("name.first=x", "no 'first' in name; correct the path"),
        ("seed=-1", "seed: input should be greater than or equal to 0, got -1; correct the value"),
        ("stages.0.probe.epochs=x", "stages[0].probe.epochs: input should be a valid integer"),
    ],
)
def test_set_that_leads_nowhere(tmp_path: Path, change: str, line: str) -> None:
    path = write(tmp_path, GOOD + "  - fold\n  - fold\n")
    assert refused(path, set=[change]).startswith(f"--set {change}: {line}")


def test_set_value_that_is_not_yaml(tmp_path: Path) -> None:
    line = refused(write(tmp_path, GOOD), set=["seed=["])
    assert line.startswith("--set seed=[:1: not valid YAML")


# -- the front door ------------------------------------------------------------------------------


def test_the_package_is_light_and_says_what_it_has() -> None:
    assert assay.__all__ == ["Recipe", "__version__", "load_model"]
    assert dir(assay) == sorted(assay.__all__)
    assert assay.Recipe is Recipe
    with pytest.raises(AttributeError, match="no attribute 'recipe_'"):
        _ = assay.recipe_
    code = "import assay, sys; print(sorted(m for m in sys.modules if m.startswith('assay')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['assay']"


def test_model_folders_that_are_none_are_load_errors(here: Path, raw: dict[str, Any]) -> None:
    (here / "net").mkdir()
    with pytest.raises(LoadError, match="no readable config"):
        Recipe(**{**raw, "model": "net"}).plan()
