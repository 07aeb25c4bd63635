"""Private runs as a whole: one epsilon over stages, base models, teachers; killed and resumed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import write_table

from assay import Recipe
from assay.claims import Claim
from assay.claims.passport import Passport
from assay.config import build
from assay.privacy import accountant, keyfile
from assay.privacy.composition import accounts
from assay.privacy.events import Event
from assay.recipe.outcome import Run
from assay.recipe.run import run
from assay.training.loop import Job
from assay.verify import Verification, verify

Patch = pytest.MonkeyPatch
COLUMNS = {
    **{name: {"kind": "numeric", "missing": False, "bounds": [-4, 4]} for name in "abc"},
    "colour": {"kind": "categorical", "missing": False, "categories": ["red", "green"]},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: Patch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_OWNER", str(tmp_path / "owner"))
    write_table(tmp_path / "table.csv", rows=300)
    return tmp_path


def private(noise: float | None = 2.0, **more: Any) -> dict[str, Any]:
    dp = {"noise_multiplier": noise, **more.pop("private", {})}
    step = {"sgd": 0.1, "precision": "fp32", "private": dp, **more.pop("step", {})}
    return {"finetune": {"epochs": 1, "batch": 60, "curves": False, "step": step, **more}}


def recipe(*stages: dict[str, Any], **more: Any) -> Recipe:
    data = {
        "path": "table.csv",
        "label": "label",
        "classes": ["no", "yes"],
        "drop": ["patient"],
        "private": True,
        "columns": COLUMNS,
        **more.pop("data", {}),
    }
    model = more.pop("model", {"name": "mlp", "settings": {"hidden": [4]}})
    return build(Recipe, {"model": model, "data": data, "stages": list(stages), **more})


def claims(folder: Path) -> list[Claim]:
    passport, _ = Passport.read(folder / "model")
    return [c for c, _, held in passport.current() if held and c.kind == "privacy.epsilon"]


def only(folder: Path) -> Claim:
    (claim,) = claims(folder)
    return claim


def weights(done: Run) -> bytes:
    return (done.folder / "model/model.safetensors").read_bytes()


def events(folder: Path, name: str = "table") -> list[Event]:
    passport, _ = Passport.read(folder / "model")
    return accounts(passport)[name].events


def statuses(found: Verification) -> dict[str, str]:
    return {f.claim.kind: f.status for f in found.findings}


# -- one epsilon ----------------------------------------------------------------------------------


def test_two_private_stages_have_one_epsilon_and_verify_finds_it_again(home: Path) -> None:
    done = run(recipe(private(2.0), private(3.0, epochs=2)), out=home / "out")
    used = events(done.folder)
    assert [e.noise_multiplier for e in used] == [2.0, 3.0]
    assert used[1].steps == 2 * used[0].steps
    claim = only(done.folder)
    assert claim.value == accountant.epsilon(used, 1e-5)
    assert claim.value < sum(accountant.epsilon([e], 1e-5) for e in used)
    found = verify(done.folder)
    assert found.ok
    assert statuses(found)["privacy.epsilon"] == "holds"


@pytest.mark.long
def test_a_target_is_met_by_what_was_used(home: Path) -> None:
    step = {"private": {"epsilon": 4.0, "delta": 1e-4}}
    done = run(recipe(private(None, **step)), out=home / "out")
    claim = only(done.folder)
    assert isinstance(claim.value, float)
    assert 3.9 < claim.value <= 4.0
    assert claim.conditions == {"delta": 1e-4, "unit": "row"}


def test_what_a_base_model_was_charged_counts(home: Path) -> None:
    first = run(recipe(private(2.0)), out=home / "first")
    second = run(recipe(private(3.0), model={"name": "first"}), out=home / "second")
    used = events(second.folder)
    assert [e.noise_multiplier for e in used] == [2.0, 3.0]
    assert only(second.folder).value == accountant.epsilon(used, 1e-5)
    alone = only(first.folder).value
    assert isinstance(alone, float)
    assert isinstance(only(second.folder).value, float)
    assert only(second.folder).value > alone  # type: ignore[operator]
    assert verify(second.folder).ok


def test_the_same_rows_under_another_name_are_charged_together(home: Path) -> None:
    run(recipe(private(2.0)), out=home / "first")
    shutil.copy("table.csv", "renamed.csv")
    again = recipe(private(3.0), model={"name": "first"}, data={"path": "renamed.csv"})
    second = run(again, out=home / "second")
    used = events(second.folder, "renamed")
    assert sorted(e.noise_multiplier or 0 for e in used) == [2.0, 3.0]
    both = accountant.epsilon(used, 1e-5)
    assert {c.dataset: c.value for c in claims(second.folder)} == {"table": both, "renamed": both}
    assert verify(second.folder).ok


def test_a_model_of_two_private_data_sets_says_both(home: Path) -> None:
    run(recipe(private(2.0)), out=home / "first")
    write_table(home / "other.csv", rows=280)
    again = recipe(private(3.0), model={"name": "first"}, data={"path": "other.csv"})
    second = run(again, out=home / "second")
    assert {c.dataset for c in claims(second.folder)} == {"table", "other"}
    assert verify(second.folder).ok


@pytest.mark.parametrize("stage", ["distill", "features"])
def test_what_a_teacher_was_charged_counts(home: Path, stage: str) -> None:
    run(recipe(private(2.0)), out=home / "first")
    body = private(3.0)
    if stage == "distill":
        body = {"distill": {**body["finetune"], "teacher": "first"}}
    else:
        objective = {"supervised": 1, "features": {"teacher": "first"}}
        body["finetune"]["objective"] = objective
        body["finetune"]["players"] = {"features": {"step": body["finetune"]["step"]}}
    second = run(recipe(body), out=home / "second")
    assert sorted(e.noise_multiplier or 0 for e in events(second.folder)) == [2.0, 3.0]
    assert only(second.folder).value == accountant.epsilon(events(second.folder), 1e-5)
    assert verify(second.folder).ok


def test_a_teacher_that_was_never_private_leaves_no_claim(home: Path) -> None:
    run(recipe({"finetune": {"epochs": 1, "curves": False}}), out=home / "first")
    body = private(3.0)
    body = {"distill": {**body["finetune"], "teacher": "first"}}
    second = run(recipe(body), out=home / "second")
    assert claims(second.folder) == []


def test_public_training_with_a_teacher_of_a_folder_keeps_no_epsilon(home: Path) -> None:
    """The teacher may have read the rows that epsilon speaks of."""
    run(recipe(private(2.0)), out=home / "first")
    run(recipe({"finetune": {"epochs": 1, "curves": False}}), out=home / "leaky")
    write_table(home / "public.csv", rows=280)
    public = {"path": "public.csv", "private": False}
    plain = {"finetune": {"epochs": 1, "curves": False}}
    alone = run(recipe(plain, model={"name": "first"}, data=public), out=home / "alone")
    assert len(claims(alone.folder)) == 1
    objective = {"supervised": 1, "features": {"teacher": "leaky"}}
    taught = {"finetune": {**plain["finetune"], "objective": objective}}
    second = run(recipe(taught, model={"name": "first"}, data=public), out=home / "taught")
    assert claims(second.folder) == []


# -- what is no privacy ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["insecure_seed", "noise 0"])
def test_a_claim_without_privacy_fails(home: Path, how: str) -> None:
    stage = private(0.0) if how == "noise 0" else private(private={"insecure_seed": 3})
    done = run(recipe(stage), out=home / "out")
    claim = only(done.folder)
    assert claim.value is None
    assert "no privacy" in (claim.method or "")
    found = verify(done.folder)
    assert not found.ok
    assert found.exit_code == 3
    assert statuses(found)["privacy.epsilon"] == "fails"


STEERED: dict[str, dict[str, Any]] = {
    "early stopping": private(step={"early_stopping": 3}),
    "plateau": private(step={"plateau": None}),
    "class weights": private(objective={"supervised": {"class_weights": "balanced"}}),
}


@pytest.mark.parametrize("name", STEERED)
def test_a_choice_by_private_rows_voids_epsilon_in_the_plan_and_in_the_run(
    home: Path, name: str
) -> None:
    made = recipe(STEERED[name])
    plan = made.plan()
    assert "privacy.epsilon" not in plan.carries
    (void,) = [v for v in plan.stages[0].voids if v.kind == "privacy.epsilon"]
    assert void.why.endswith("without being charged")
    assert void.mend
    assert claims(run(made, out=home / "out").folder) == []
    passport, _ = Passport.read(home / "out" / "model")
    assert accounts(passport)["table"].leaks


def test_the_plain_private_recipe_carries_epsilon(home: Path) -> None:
    assert "privacy.epsilon" in recipe(private()).plan().carries


# -- killed and resumed ---------------------------------------------------------------------------


class Killed(BaseException):
    """What no code catches."""


def with_key(patch: Patch) -> None:
    """Every run of the test has the same secret, so that two runs can be compared."""
    patch.setattr("assay.privacy.randomness.os.urandom", lambda n: b"k" * n)


def killed_at(patch: Patch, stage: int, step: int) -> None:
    """Die before that step, in the middle of an epoch, a checkpoint after every other step."""
    taken = Job.step

    def stepping(self: Job) -> None:
        if (self.context.stage, self.steps_done) == (stage, step):
            raise Killed
        taken(self)
        if self.steps_done % 2 == 0 and not self.done:
            self.checkpoint()

    patch.setattr(Job, "step", stepping)


SLOW = [pytest.param(*where, marks=pytest.mark.long) for where in ((0, 1), (0, 5), (1, 4))]


@pytest.mark.parametrize(("stage", "step"), [(1, 3), *SLOW])
def test_a_killed_run_ends_as_one_that_never_stopped(
    home: Path, stage: int, step: int, monkeypatch: Patch
) -> None:
    """The same weights, the same record and the same epsilon; Opacus tells too little."""
    made = recipe(private(2.0, epochs=2, batch=40), private(3.0, epochs=2, batch=40))
    with_key(monkeypatch)
    whole = run(made, out=home / "whole")
    with monkeypatch.context() as patch:
        killed_at(patch, stage, step)
        with pytest.raises(Killed):
            run(made, out=home / "parts")
    keys = list((home / "parts").rglob("*.key"))
    assert keys
    for key in keys:
        assert key.stat().st_mode & 0o777 == 0o600
        assert "model" not in {p.name for p in key.parents}
        keyfile.read(key)  # whole
    (home / "parts" / ".lock").unlink(missing_ok=True)
    parts = run(None, resume=home / "parts")
    assert events(parts.folder) == events(whole.folder)
    assert only(parts.folder) == only(whole.folder)
    assert weights(parts) == weights(whole)
    for done in (whole, parts):
        assert not list(done.folder.rglob("*.key"))
        assert verify(done.folder).ok


def test_two_runs_never_draw_the_same(home: Path) -> None:
    made = recipe(private())
    first, second = run(made, out=home / "a"), run(made, out=home / "b")
    assert weights(first) != weights(second)
    assert only(first.folder).value == only(second.folder).value
