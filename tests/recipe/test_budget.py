"""A run asks the owner's ledger for its whole cost before it reads a row, and is charged once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import write_table

from assay import Recipe
from assay.claims.passport import Passport
from assay.data.door import LocalDoor
from assay.errors import ArtefactError, BudgetError, UsageError
from assay.privacy.composition import accounts
from assay.privacy.door import PrivateDoor
from assay.privacy.ledger import Budget, Ledger, Policy
from assay.recipe import budget
from assay.recipe.run import again, run
from assay.training.loop import Job
from assay.verify import verify

STEPS = {"adamw": {"lr": 0.01}, "private": {"noise_multiplier": 2.0}}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_OWNER", str(tmp_path / "owner"))
    write_table(tmp_path / "table.csv", rows=2000)
    return tmp_path


def site(epsilon: float, **policy: Any) -> Ledger:
    budgets = (Budget(epsilon=epsilon, delta=1e-5),)
    return Ledger.create(Path("site"), policy=Policy(budgets=budgets, **policy))


def recipe(**changes: Any) -> Recipe:
    data: dict[str, Any] = {
        "path": "table.csv",
        "label": "label",
        "private": True,
        "sum_noise": 8.0,
        "ledger": "site",
        "drop": ["patient"],
        "columns": {"colour": {"categories": ["red", "green"]}},
        **changes.pop("data", {}),
    }
    return Recipe(
        **{
            "name": "p",
            "model": {"name": "mlp", "settings": {"hidden": [4]}},
            "data": {key: value for key, value in data.items() if value is not None},
            "stages": [{"finetune": {"epochs": 1, "batch": 200, "curves": False, "step": STEPS}}],
            **changes,
        }
    )


def spends(ledger: Ledger) -> list[Any]:
    return [row for row in ledger.rows() if row.body["kind"] == "spend"]


def test_a_run_is_charged_once_and_claims_no_more_than_it_reserved(home: Path) -> None:
    ledger = site(50.0)
    done = run(recipe())
    assert len(spends(ledger)) == 1
    run(None, resume=done.folder)  # there is nothing left to do, and nothing to pay for
    assert len(spends(ledger)) == 1

    passport, _ = Passport.read(done.model)
    account = accounts(passport)["table"]
    assert account.private
    assert not account.leaks
    whats = [event.what for event in account.events]
    assert whats[-1] == "gradient steps"
    assert len(whats) > 1, "means and ranges are charged, too"
    assert passport.origin is not None
    (reserved,) = passport.origin.receipt["charged"]
    claim = next(c for c, _, held in passport.current() if held and c.kind == "privacy.epsilon")
    assert isinstance(claim.value, float)
    assert 0 < claim.value <= reserved["epsilon"]
    assert verify(done.folder).ok
    assert not list(done.folder.rglob("*.key"))
    assert done.folder.stat().st_mode & 0o777 == 0o700, "its disclosures are the owner's alone"


def test_what_the_budget_does_not_hold_is_refused_and_leaves_nothing(home: Path) -> None:
    ledger = site(0.5)
    with pytest.raises(BudgetError) as refused:
        run(recipe())
    assert refused.value.exit_code == 5
    assert refused.value.mend
    assert not spends(ledger)
    assert not (home / "runs").exists()


def test_the_policy_speaks_of_stages_models_and_cohorts(home: Path) -> None:
    for policy in ({"stages": ("audit",)}, {"models": ("bert",)}, {"smallest_cohort": 5000}):
        ledger = Ledger.create(
            Path(f"site-{len(str(policy))}"),
            policy=Policy(budgets=(Budget(epsilon=50.0, delta=1e-5),), **policy),
        )
        with pytest.raises(BudgetError):
            run(recipe(data={"ledger": f"site-{len(str(policy))}"}))
        assert not spends(ledger)


def test_a_ledger_grants_nothing_to_a_recipe_that_is_not_private(home: Path) -> None:
    site(50.0)
    stages = [{"finetune": {"epochs": 1, "curves": False}}]
    with pytest.raises(BudgetError, match="nothing in this recipe is private"):
        run(recipe(stages=stages, data={"sum_noise": None}))


def test_a_lost_ledger_stops_the_run(home: Path) -> None:
    with pytest.raises(Exception, match="site"):
        run(recipe())
    ledger = site(50.0)
    database = next(p for p in Path("site").iterdir() if p.suffix == ".sqlite")
    database.write_bytes(b"no database")
    with pytest.raises(ArtefactError):
        run(recipe())
    assert ledger is not None


@pytest.mark.parametrize("name", ["sum_noise", "ledger", "grant"])
def test_settings_of_private_data_need_private_data(name: str) -> None:
    value = 3.0 if name == "sum_noise" else "x"
    with pytest.raises(UsageError, match="private"):
        recipe(data={"private": None, "sum_noise": None, "ledger": None, name: value})


def test_plain_sums_void_epsilon_and_noised_ones_do_not(home: Path) -> None:
    plain = recipe(data={"sum_noise": None, "ledger": None}).plan()
    noised = recipe().plan()
    assert "privacy.epsilon" not in plain.carries
    assert "privacy.epsilon" in noised.carries
    assert any(v.kind == "privacy.epsilon" for v in plain.stages[0].voids)
    done = run(recipe(data={"sum_noise": None, "ledger": None}))
    assert not [c for c in done.claims["claims"] if c["kind"] == "privacy.epsilon"]


def test_every_event_is_planned(home: Path) -> None:
    """Class weights ask the door, too."""
    terms = {"supervised": {"class_weights": "balanced", "unit_rows": 1}}
    stage = {"epochs": 1, "batch": 200, "curves": False, "step": STEPS, "objective": terms}
    made = recipe(stages=[{"finetune": stage}], data={"ledger": None})
    dataset = made.data.load(home, made.task)
    said = budget.planned(made, dataset)
    done = run(made)
    used = accounts(Passport.read(done.model)[0])["table"].events
    assert {e.what for e in said} == {"preprocessing", "gradient steps", "sums"}
    assert "supervised.class_counts" in {e.what for e in used}
    sums = [e for e in used if e.what != "gradient steps"]
    assert len(sums) <= sum(e.steps for e in said if e.what != "gradient steps")
    steps = [next(e for e in events if e.what == "gradient steps") for events in (said, used)]
    assert steps[0] == steps[1]


def test_a_killed_run_goes_on_under_the_same_charge(home: Path) -> None:
    ledger = site(50.0)
    stage = {"epochs": 20, "batch": 20, "curves": False, "step": STEPS}
    made = recipe(stages=[{"finetune": stage}])
    Path("r.yaml").write_text(made.to_yaml())
    command = [sys.executable, "-m", "assay", "run", "r.yaml", "--out", "out"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ), text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("private:"):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(spends(ledger)) == 1
    (key,) = Path("out").rglob("secret/*.key")
    assert key.stat().st_mode & 0o777 == 0o600
    run(None, resume=Path("out"))
    assert len(spends(ledger)) == 1


def test_another_key_is_another_run_and_is_charged_anew(home: Path) -> None:
    """Who deletes the key draws other noise: that is a second release."""
    ledger = site(50.0)
    made = recipe()
    dataset = made.data.load(home, made.task)
    folder = home / "secret"
    first = budget.secret_of(dataset, folder)
    assert budget.reserve(made, dataset, first) == budget.reserve(made, dataset, first)
    assert first is not None
    first.destroy()
    budget.reserve(made, dataset, budget.secret_of(dataset, folder))
    assert len(spends(ledger)) == 2


def steered(**more: Any) -> Recipe:
    step = {**STEPS, "early_stopping": 5}
    stage = {"epochs": 3, "batch": 100, "step": step, **more}
    return recipe(stages=[{"finetune": stage}], data={"ledger": None})


def test_early_stopping_by_noised_losses_is_charged_and_keeps_epsilon(home: Path) -> None:
    made = steered()
    assert "privacy.epsilon" in made.plan().carries
    done = run(made)
    used = accounts(Passport.read(done.model)[0])["table"]
    assert not used.leaks
    asked = [e.what for e in used.events if e.what.startswith("validation loss")]
    assert asked == [f"validation loss {i}" for i in range(3)]
    dataset = made.data.load(home, made.task)
    (sums,) = [e for e in budget.planned(made, dataset) if e.what == "sums"]
    assert sums.steps >= len(asked)
    text = (done.folder / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    curve = [line for line in lines if line["kind"] == "epoch" and line["split"] == "valid"]
    assert all(abs(line["noised_loss"] - line["loss"]) > 1e-9 for line in curve)


def test_a_resumed_job_stays_charged_for_what_it_asked(home: Path) -> None:
    made = steered()
    dataset = made.data.load(home, made.task)
    secret = budget.secret_of(dataset, home / "secret")
    assert secret is not None

    def job() -> Job:
        door = budget.door_of(made, dataset, secret, "stage 0")
        model = made.model.load(home, made.task, dataset, 0, door=LocalDoor())
        context = again(made, model, dataset, 0, 0, 1)
        work = home / "work"
        work.mkdir(exist_ok=True)
        return Job(made.stages[0], model, replace(context, door=door, secret=secret, work=work))

    first = job()
    for _ in range(first.steps_per_epoch + 1):
        first.step()
    first.checkpoint()
    first.close()
    second = job()
    made.stages[0].place.run(second)
    second.finish()
    door = second.context.door
    assert isinstance(door, PrivateDoor)
    assert door.asked == [f"validation loss {i}" for i in range(3)]
