"""Broken builds of the private step itself are caught, by the audit `privacy` and by its batches.

Each training row has a category of its own, so that a linear model has a weight for each row alone:
nothing hides a row but clipping and noise. The audit is run as a recipe runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.audit.privacy import PrivacyAudit
from assay.claims import Claim
from assay.claims.passport import Passport
from assay.config import build
from assay.data.dataset import Dataset
from assay.data.door import LocalDoor
from assay.models.load import load_model
from assay.privacy.attacks.sampling import failed
from assay.recipe.run import again, run
from assay.recipe.schema import Recipe
from assay.training.batches import Batch
from assay.training.bookkeeping.matrix import Linear
from assay.training.poisson import PoissonSource
from assay.training.private import PrivateEngine

ROWS, EPOCHS, BATCH, NOISE = 2060, 4, 200, 4.0
#: far shorter than any gradient here
CLIP = 0.01

Patch = pytest.MonkeyPatch


@dataclass
class Seen:
    """What a run showed.

    Attributes:
        claims: of its model, by kind.
        lines: what it told the person.
        taken: for each training, who was in which step, `[T, U]`.
        rate: that was accounted for in the first training.
    """

    claims: dict[str, Claim] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    taken: list[np.ndarray] = field(default_factory=list)
    rate: float = 0.0

    def update(self, done: int, total: int, text: str = "") -> None:
        """See `Progress`."""

    def say(self, text: str) -> None:
        """See `Progress`."""
        self.lines.append(text)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = np.random.default_rng(0).choice(["yes", "no"], ROWS)
    path = tmp_path_factory.mktemp("builds") / "who.csv"
    lines = ["who,y", *(f"u{i},{label}" for i, label in enumerate(labels))]
    path.write_text("\n".join(lines) + "\n")
    return path


def recipe(table: Path, private: bool, **step: Any) -> Recipe:
    dp = {"noise_multiplier": NOISE, "clip": CLIP, **step}
    who = {"kind": "categorical", "missing": False, "categories": [f"u{i}" for i in range(ROWS)]}
    return build(
        Recipe,
        {
            "model": {"name": "mlp", "settings": {"hidden": []}},
            "data": {
                "path": str(table),
                "label": "y",
                "classes": ["no", "yes"],
                "private": private,
                "columns": {"who": who},
                "splits": {"valid": 0, "test": 0.01},
            },
            "stages": [
                {"finetune": {
                    "epochs": EPOCHS, "batch": BATCH, "step": {"sgd": 2000.0, "private": dp},
                }},
                {"audit": {"privacy": {"attacks": ["canaries"]}}},
            ],
        },
    )  # fmt: skip


def recorded(patch: Patch, seen: Seen) -> None:
    """Record who is handed out in each step of each training."""
    logical, known = PoissonSource.logical, {}

    def recording(self: PoissonSource, state: Any, model: Any = None) -> Any:
        pieces: list[Batch]
        pieces, after = logical(self, state, model)
        if id(self) not in known:
            known[id(self)] = self  # kept alive, so that no other gets its id
            seen.taken.append(np.zeros((0, self.n_units), dtype=bool))
            seen.rate = seen.rate or self.rate
        row = np.zeros((1, self.n_units), dtype=bool)
        for piece in pieces:
            row[0, self.rows.units[piece.rows.numpy()]] = True
        place = list(known).index(id(self))
        seen.taken[place] = np.concatenate([seen.taken[place], row])
        return pieces, after

    patch.setattr(PoissonSource, "logical", recording)


def audited(table: Path, out: Path, patch: Patch, private: bool = False, **step: Any) -> Seen:
    """Run the recipe, with whatever was broken."""
    seen = Seen()
    recorded(patch, seen)
    done = run(recipe(table, private, **step), out=out, threads=1, progress=seen)
    passport, _ = Passport.read(done.folder / "model")
    seen.claims = {claim.kind: claim for claim, *_ in passport.current()}
    return seen


# -- how a build is broken ------------------------------------------------------------------------


def nothing(patch: Patch) -> None:
    """The build as it is."""


def no_noise(patch: Patch) -> None:
    """Noise is accounted for and never added."""
    finish = PrivateEngine.finish

    def finishing(self: PrivateEngine, flats: Any) -> Any:
        noise, self.noise = self.noise, 0.0
        try:
            return finish(self, flats)
        finally:
            self.noise = noise

    patch.setattr(PrivateEngine, "finish", finishing)


def noise_of_a_mean(patch: Patch) -> None:
    """Noise for a mean is added to the sum: it is divided by the batch size twice."""
    finish = PrivateEngine.finish

    def finishing(self: PrivateEngine, flats: Any) -> Any:
        noise, self.noise = self.noise, self.noise / self.source.expected
        try:
            return finish(self, flats)
        finally:
            self.noise = noise

    patch.setattr(PrivateEngine, "finish", finishing)


def unclipped(patch: Patch) -> None:
    """The weights of linear layers get each row's gradient as it is."""
    add = Linear.add

    def adding(self: Linear, role: str, factors: Any, total: Any, shared: Any) -> None:
        add(self, role, torch.ones_like(factors) if role == "weight" else factors, total, shared)

    patch.setattr(Linear, "add", adding)


def everyone(patch: Patch) -> None:
    """All rows are in every step, and the rate accounted for is a tenth."""
    patch.setattr(PoissonSource, "taken", lambda self, step: np.ones(self.n_units, dtype=bool))


def wrong_rate(patch: Patch) -> None:
    """A fifth more rows are taken than is accounted for."""

    def taken(self: PoissonSource, step: int) -> Any:
        rate = 1.2 * self.rate
        return self.stream.bernoulli("sampling", step, self.n_units, rate).numpy()

    patch.setattr(PoissonSource, "taken", taken)


def shuffled(patch: Patch) -> None:
    """Batches of one size in a new order each epoch."""

    def taken(self: PoissonSource, step: int) -> Any:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng(epoch).permutation(self.n_units)
        chosen = np.zeros(self.n_units, dtype=bool)
        size = -(-self.n_units // self.steps_per_epoch)
        chosen[order[place * size : (place + 1) * size]] = True
        return chosen

    patch.setattr(PoissonSource, "taken", taken)


# -- what catches it ------------------------------------------------------------------------------


@pytest.fixture
def seen(request: pytest.FixtureRequest, table: Path, tmp_path: Path, monkeypatch: Patch) -> Seen:
    breaks: Callable[[Patch], None] = request.param
    breaks(monkeypatch)
    # the draws of sampling and noise are fixed here, or tests would fail by chance
    return audited(table, tmp_path / "run", monkeypatch, insecure_seed=1)


def bound_of(seen: Seen) -> tuple[float, float, Claim]:
    """(lower bound, epsilon that the accountant gives that training, the claim)."""
    claim = seen.claims["privacy.epsilon_lower_bound"]
    value, accounted = claim.value, claim.details["accounted_epsilon"]
    assert isinstance(value, float) and isinstance(accounted, float)
    assert claim.n is not None and claim.n >= 1000
    return value, accounted, claim


@pytest.mark.parametrize("seen", [nothing], indirect=True)
def test_the_private_step_passes(seen: Seen) -> None:
    value, accounted, claim = bound_of(seen)
    assert value <= accounted
    assert 0.6 < accounted < 0.8
    assert claim.details["contradicts"] is False
    assert not any("not true" in line for line in seen.lines)
    assert len(seen.taken) == 2  # the model, and the one with canaries
    for taken in seen.taken:
        assert taken.shape[0] == EPOCHS * round(taken.shape[1] / BATCH)
    assert failed(seen.taken[0], seen.rate) == []


@pytest.mark.parametrize("seen", [no_noise, noise_of_a_mean, unclipped, everyone], indirect=True)
def test_a_broken_private_step_is_caught_by_the_audit(seen: Seen) -> None:
    value, accounted, claim = bound_of(seen)
    assert value > 1.5 * accounted
    assert claim.details["contradicts"] is True
    assert sum("not true" in line for line in seen.lines) == 1


@pytest.mark.parametrize(
    ("seen", "caught"),
    [
        (wrong_rate, {"rate"}),
        (everyone, {"rate"}),
        (shuffled, {"batch_sizes", "unit_counts", "steps"}),
    ],
    indirect=["seen"],
)
def test_wrong_sampling_is_caught_by_the_record_of_batches(seen: Seen, caught: set[str]) -> None:
    names = {one.name for one in failed(seen.taken[0], seen.rate)}
    assert names >= caught
    assert "rate" in caught or "rate" not in names


def test_both_numbers_stand_in_the_claim(table: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    """The claim is of a run with the operating system's randomness; what is attacked has fixed
    draws, or the test would fail by chance.
    """
    no_noise(monkeypatch)
    asked = recipe(table, private=True)
    asked = asked.model_copy(update={"stages": asked.stages[:1]})
    done = run(asked, out=tmp_path / "run", threads=1)
    model = load_model(done.folder / "model")
    (claimed,) = [c for c, *_ in model.passport.current() if c.kind == "privacy.epsilon"]
    assert model.passport.origin is not None
    begun = Passport().append(model.passport.origin)
    attacked = recipe(table, private=True, insecure_seed=1).stages[0]
    data = asked.data.load(asked.base, asked.task)

    def retrain(
        dataset: Dataset, seed: int, start: str, *, min_steps: int = 0, told: Any = None
    ) -> Any:
        fresh = asked.model.load(asked.base, asked.task, dataset, seed, door=LocalDoor())
        context = again(asked, fresh, dataset, 0, seed, 1)
        after = attacked.run(fresh.with_passport(begun), context)
        told(context.used)
        return after

    seen = Seen()
    context = replace(again(asked, model, data, 1, 0, 1), retrain=retrain, progress=seen)
    PrivacyAudit(attacks=("canaries",)).measure(model, context)
    seen.claims = {claim.kind: claim for claim in context.claims}
    value, accounted, bound = bound_of(seen)
    assert bound.details["claimed_epsilon"] == claimed.value
    assert bound.details["claimed_delta"] == claimed.conditions["delta"]
    assert bound.unit == claimed.unit
    assert claimed.value < accounted < value / 2  # type: ignore[operator]
    assert bound.details["contradicts"] is True
    assert bound.details["random"] is False
    (line,) = [line for line in seen.lines if "not true" in line]
    assert f"the passport claims {claimed.value:.2f}" in line
