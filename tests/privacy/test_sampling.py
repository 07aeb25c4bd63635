"""Tests of sampling: exact under Poisson sampling, and each way to do it wrong is caught."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from assay.privacy.attacks.sampling import Checked, examine, failed

Record = np.ndarray
RATE = 0.05
#: chance that one of these tests cries wolf about a right record
ALARM = 1e-6
NAMES = ["rate", "batch_sizes", "unit_counts", "steps", "units"]


def poisson(rng: np.random.Generator, steps: int = 200, units: int = 400) -> Record:
    return rng.random((steps, units)) < RATE


def shuffled(rng: np.random.Generator, steps: int = 200, units: int = 400) -> Record:
    """Epochs of batches of one size: what most loaders do."""
    size = round(RATE * units)
    record = np.zeros((steps, units), dtype=bool)
    order = rng.permutation(units)
    for step in range(steps):
        at = step * size % units
        if at == 0:
            order = rng.permutation(units)
        record[step, order[at : at + size]] = True
    return record


def fixed_size(rng: np.random.Generator, steps: int = 200, units: int = 400) -> Record:
    """Batches of one size, drawn anew each step."""
    size = round(RATE * units)
    record = np.zeros((steps, units), dtype=bool)
    for step in range(steps):
        record[step, rng.permutation(units)[:size]] = True
    return record


def in_runs(rng: np.random.Generator, steps: int = 200, units: int = 400) -> Record:
    """Neighbouring units share their coin: rows of a file that are read together."""
    return np.repeat(rng.random((steps, units // 2)) < RATE, 2, axis=1)


def repeated(rng: np.random.Generator, steps: int = 200, units: int = 400) -> Record:
    """Each batch is used twice."""
    return np.repeat(rng.random((steps // 2, units)) < RATE, 2, axis=0)


def favourites(rng: np.random.Generator, steps: int = 200, units: int = 400) -> Record:
    """Some units are drawn thrice as often, at the right rate on the average."""
    rates = np.where(np.arange(units) % 2 == 0, 1.5, 0.5) * RATE
    return rng.random((steps, units)) < rates


def wrong_rate(rng: np.random.Generator, steps: int = 200, units: int = 400) -> Record:
    return rng.random((steps, units)) < 1.1 * RATE


def names(found: list[Checked]) -> set[str]:
    return {one.name for one in found}


@pytest.mark.parametrize("seed", range(10))
def test_poisson_sampling_passes(seed: int) -> None:
    assert failed(poisson(np.random.default_rng(seed)), RATE, ALARM) == []


@pytest.mark.parametrize(
    ("build", "caught"),
    [
        (shuffled, {"batch_sizes", "unit_counts", "steps"}),
        (fixed_size, {"batch_sizes"}),
        (in_runs, {"batch_sizes", "units"}),
        (repeated, {"unit_counts", "steps"}),
        (favourites, {"unit_counts"}),
        (wrong_rate, {"rate"}),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_wrong_sampling_is_caught(
    build: Callable[[np.random.Generator], Record], caught: set[str], seed: int
) -> None:
    record = build(np.random.default_rng(seed))
    assert caught <= names(failed(record, RATE, ALARM))


@pytest.mark.parametrize("build", [shuffled, fixed_size, repeated])
def test_wrong_sampling_at_the_right_rate_is_not_a_wrong_rate(
    build: Callable[[np.random.Generator], Record],
) -> None:
    assert "rate" not in names(failed(build(np.random.default_rng(0)), RATE, ALARM))


def test_false_alarms_are_as_rare_as_they_say() -> None:
    """p below x at most x of the time, for each test; a thousandth is chance."""
    rng = np.random.default_rng(0)
    found = np.array(
        [[one.p_value for one in examine(rng.random((30, 40)) < 0.2, 0.2)] for _ in range(500)]
    )
    for level in (0.01, 0.05, 0.2):
        for column in found.T:
            alarms = int((column < level).sum())
            assert binomtest(alarms, 500, level, alternative="greater").pvalue > 1e-3
    assert (found[:, 1:3] < 0.2).mean() > 0.12  # and they are not blind


def test_dispersion_is_the_exact_distribution() -> None:
    """Two batches of up to three units, all outcomes counted."""
    rate, counts = 0.3, (3, 1)
    record = np.array([[1, 1, 1], [1, 0, 0]], dtype=bool)
    seen = sum((c - 1) ** 2 for c in counts)  # 0.9 rounds to 1
    weights: dict[int, float] = {}
    for a in range(4):
        for b in range(4):
            d = (a - 1) ** 2 + (b - 1) ** 2
            weights[d] = weights.get(d, 0) + binom.pmf(a, 3, rate) * binom.pmf(b, 3, rate)
    below = sum(w for d, w in weights.items() if d <= seen)
    above = sum(w for d, w in weights.items() if d >= seen)
    (found,) = [one for one in examine(record, rate) if one.name == "batch_sizes"]
    assert found.p_value == pytest.approx(min(1, 2 * min(below, above)), rel=1e-9)
    assert found.seen == seen
    assert found.expected == pytest.approx(sum(d * w for d, w in weights.items()))


def test_a_record_of_many_units_is_judged_too() -> None:
    rng = np.random.default_rng(3)
    assert failed(rng.random((50, 20_000)) < 0.01, 0.01) == []
    constant = np.zeros((50, 20_000), dtype=bool)
    for step in constant:
        step[rng.permutation(20_000)[:200]] = True
    assert names(failed(constant, 0.01)) == {"batch_sizes"}


def test_every_test_is_reported() -> None:
    found = examine(poisson(np.random.default_rng(0)), RATE)
    assert [one.name for one in found] == NAMES


@pytest.mark.parametrize(
    ("record", "rate"),
    [
        (np.zeros((1, 5), dtype=bool), 0.1),
        (np.zeros((5, 1), dtype=bool), 0.1),
        (np.zeros(5, dtype=bool), 0.1),
        (np.zeros((5, 5), dtype=bool), 0.0),
        (np.zeros((5, 5), dtype=bool), 1.0),
    ],
)
def test_what_is_no_record_is_refused(record: Record, rate: float) -> None:
    with pytest.raises(ValueError, match="expected inclusions"):
        examine(record, rate)
