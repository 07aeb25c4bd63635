"""Broken builds of private training are caught: by canaries, and by the record of its batches.

The reference is DP-SGD (Abadi et al. 2016, arXiv 1607.00133) as short as it can be. Each canary has
an input of its own, hence a dimension of the gradient of its own: nothing hides it but clipping and
noise, which is what the attack is to judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from assay.privacy import accountant
from assay.privacy.attacks.canaries import OneRun, one_run
from assay.privacy.attacks.sampling import failed
from assay.privacy.events import Event

DELTA = 1e-5
CANARIES, OTHERS, FEATURES = 1000, 200, 5
#: what the canaries' own input is: their gradients are far longer than the clipping norm
LOUD = 50.0
#: so little that no canary is ever learnt: its gradient stays as long as it was
RATE_OF_LEARNING = 0.01


def poisson(build: Build, units: int, rng: np.random.Generator) -> np.ndarray:
    """Each unit is in each step with the same probability."""
    return rng.random((build.steps, units)) < build.rate


def shuffled(build: Build, units: int, rng: np.random.Generator) -> np.ndarray:
    """Batches of one size, each unit once an epoch."""
    size = round(build.rate * units)
    taken = np.zeros((build.steps, units), dtype=bool)
    order = np.concatenate([rng.permutation(units) for _ in range(build.steps)])
    for step in range(build.steps):
        taken[step, order[step * size : (step + 1) * size]] = True
    return taken


@dataclass(frozen=True)
class Build:
    """A private training, as it is and as it was accounted for.

    Attributes:
        rate: the rate at which units are really taken.
        steps: their number.
        noise: noise multiplier that is really used.
        unclipped: a layer whose gradients are not clipped.
        sampling: how batches are really made.
    """

    rate: float = 0.1
    steps: int = 40
    noise: float = 4.0
    unclipped: str = ""
    sampling: Callable[[Build, int, np.random.Generator], np.ndarray] = poisson


RIGHT = Build()


def claimed_epsilon() -> float:
    """What the accountant says of the right build: what every build claims."""
    event = Event(noise_multiplier=RIGHT.noise, sampling=RIGHT.rate, steps=RIGHT.steps)
    return accountant.epsilon([event], DELTA)


def train(build: Build, included: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression on all units, private for each.

    Args:
        build: how.
        included: `[CANARIES]` which canaries are in the training data.
        seed: of data, batches and noise.

    Returns:
        (the weights of the canaries' own inputs `[CANARIES]`, who was in which step `[T, U]`).
    """
    rng = np.random.default_rng(seed)
    owners = np.flatnonzero(included)
    units = len(owners) + OTHERS
    x = np.zeros((units, FEATURES + 1))
    x[len(owners) :, :FEATURES] = rng.normal(size=(OTHERS, FEATURES))
    x[:, FEATURES] = 1.0
    y = np.concatenate([np.ones(len(owners)), x[len(owners) :, 0] > 0])
    own = np.zeros((units, CANARIES))
    own[np.arange(len(owners)), owners] = LOUD
    layers = {"shared": np.zeros(FEATURES + 1), "own": np.zeros(CANARIES)}
    taken = build.sampling(build, units, rng)
    for step in taken:
        logits = x[step] @ layers["shared"] + own[step] @ layers["own"]
        apart = 1 / (1 + np.exp(-np.clip(logits, -500, 500))) - y[step]
        each = {"shared": apart[:, None] * x[step], "own": apart[:, None] * own[step]}
        clipped = [g for name, g in each.items() if name != build.unclipped]
        norms = np.sqrt(sum(np.square(g).sum(axis=1) for g in clipped))
        factors = np.minimum(1.0, 1.0 / np.maximum(norms, 1e-12))[:, None]
        for name, gradients in each.items():
            kept = gradients if name == build.unclipped else factors * gradients
            total = kept.sum(axis=0) + build.noise * rng.normal(size=layers[name].shape)
            layers[name] -= RATE_OF_LEARNING / (RIGHT.rate * units) * total
    return layers["own"], taken


def attack(build: Build, seed: int) -> OneRun:
    """The one-run audit of a build."""
    included = np.random.default_rng([seed, 1]).random(CANARIES) < 0.5
    scores, _ = train(build, included, seed)
    return one_run(scores, included, DELTA)


@pytest.mark.parametrize("seed", range(5))
def test_the_right_build_passes(seed: int) -> None:
    assert attack(RIGHT, seed).epsilon <= claimed_epsilon()


def test_the_attack_sees_something_of_the_right_build() -> None:
    """With less noise its bound is well above nothing, and still below epsilon."""
    build = replace(RIGHT, noise=1.0)
    event = Event(noise_multiplier=1.0, sampling=build.rate, steps=build.steps)
    found = attack(build, 0).epsilon
    assert 0.3 < found < accountant.epsilon([event], DELTA)


@pytest.mark.parametrize(
    "build",
    [
        replace(RIGHT, noise=0.0),
        replace(RIGHT, noise=RIGHT.noise / 20),  # the noise is divided by the batch size twice
        replace(RIGHT, unclipped="own"),
        replace(RIGHT, rate=1.0),
    ],
    ids=["no noise", "little noise", "a layer unclipped", "all units in every step"],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_broken_build_is_caught_by_its_canaries(build: Build, seed: int) -> None:
    assert attack(build, seed).epsilon > 2 * claimed_epsilon()


def test_clipping_another_layer_does_not_hide_it() -> None:
    """The layer that is not clipped is the one that tells; one that tells nothing is harmless."""
    assert attack(replace(RIGHT, unclipped="shared"), 0).epsilon <= claimed_epsilon()


@pytest.mark.parametrize(
    ("build", "caught"),
    [
        (RIGHT, set()),
        (replace(RIGHT, rate=1.2 * RIGHT.rate), {"rate"}),
        (replace(RIGHT, rate=0.8 * RIGHT.rate), {"rate"}),
        (replace(RIGHT, sampling=shuffled), {"batch_sizes", "unit_counts", "steps"}),
    ],
    ids=["right", "rate too high", "rate too low", "shuffled"],
)
def test_the_record_of_batches_tells_how_they_were_made(build: Build, caught: set[str]) -> None:
    included = np.ones(CANARIES, dtype=bool)
    for seed in range(3):
        _, taken = train(build, included, seed)
        found = {one.name for one in failed(taken, RIGHT.rate)}
        assert found >= caught if caught else not found
