"""What pretraining brought: paired gains over seeds and rows, and their interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.audit.measures.intervals import unit_weights
from assay.audit.measures.metrics import METRICS, Floats, Ints, Scored
from assay.audit.measures.quality import predict
from assay.errors import LoadError
from assay.files import derive_seed

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.models.model import Model

PRETRAINED, SCRATCH = "pretrained", "scratch"
#: an interval is given only when the metric is defined on at least this share of the resamples
_DEFINED = 0.9


@dataclass(frozen=True)
class Gain:
    """A metric of both sides on the same rows.

    Attributes:
        value: mean over the seeds of pretrained minus scratch.
        interval: of that mean, for other seeds and other test rows; None where there is none.
        pretrained: the metric, one a seed.
        scratch: likewise.
    """

    value: float
    interval: tuple[float, float] | None
    pretrained: tuple[float, ...]
    scratch: tuple[float, ...]


def widening(seeds: int, level: float) -> float:
    """Factor on the deviations of resampled seeds: few of them say little of their own spread.

    `sqrt(S / (S - 1))` makes the bootstrap's variance of a mean of S the unbiased one, and the
    ratio of Student's quantile with S - 1 degrees of freedom to the normal one accounts for a
    spread that is itself estimated. It tends to 1; for one seed, which shows no spread, it is 1.

    >>> [round(widening(s, 0.95), 2) for s in (1, 3, 100)]
    [1.0, 2.69, 1.02]
    """
    from scipy.stats import norm, t

    if seeds < 2:
        return 1.0
    tail = 0.5 + level / 2
    student = float(t.ppf(tail, seeds - 1)) / float(norm.ppf(tail))
    return math.sqrt(seeds / (seeds - 1)) * student


def gain(
    metric: str,
    pairs: Sequence[tuple[Scored, Scored]],
    units: Ints,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Gain:
    """The mean gain, with a percentile interval that is paired over seeds and over test rows.

    Each resample draws the seeds with replacement and, for all of them and both sides alike, the
    units of the test rows (the two-way bootstrap of Owen 2007, The pigeonhole bootstrap, Annals of
    Applied Statistics 1; arXiv 0712.1111). What the drawn seeds add to the mean over all seeds is
    multiplied by `widening`. With one seed the interval is for other rows only.

    Args:
        metric: of `METRICS`, the greater the better.
        pairs: S of (pretrained, scratch), all on the same N rows in the same order.
        units: `[N]` dense index of each row's privacy unit.
        resamples: of the bootstrap; 0 for no interval.
        seed: equal seeds give equal intervals.
        level: confidence level.

    Raises:
        LoadError: the metric is undefined on these rows.
    """
    value_of = METRICS[metric].value
    ones = np.ones((1, len(units)))
    sides = np.array([[value_of(s, ones)[0] for s in pair] for pair in pairs])
    if not np.isfinite(sides).all():
        raise LoadError(
            f"{metric} is undefined on these rows: a class is missing, or none is called so",
            where="audit.transfer",
            mend="audit more rows or another metric",
        )
    value = float((sides[:, 0] - sides[:, 1]).mean())
    first, second = (tuple(float(v) for v in side) for side in sides.T)
    if not resamples or int(units.max()) == 0:
        return Gain(value, None, first, second)

    def apart(weights: Floats) -> Floats:
        return np.stack([value_of(a, weights) - value_of(b, weights) for a, b in pairs])

    drawn = np.concatenate([apart(w) for w in unit_weights(units, resamples, seed)], axis=1)
    ends = _ends(drawn, np.random.default_rng([seed, 1]), level)
    if ends is not None and METRICS[metric].of != "regression":
        ends = max(-1.0, ends[0]), min(1.0, ends[1])
    return Gain(value, ends, first, second)


def _ends(drawn: Floats, random: np.random.Generator, level: float) -> tuple[float, float] | None:
    """Ends of the interval, given `[S, B]` gains of each seed on each resample of the rows."""
    seeds, count = drawn.shape
    chosen = random.integers(0, seeds, size=(count, seeds))
    mean = drawn.mean(axis=0)
    moved = drawn[chosen.T, np.arange(count)].mean(axis=0) - mean
    values = mean + widening(seeds, level) * moved
    defined = values[np.isfinite(values)]
    if len(defined) < _DEFINED * count:
        return None
    low, high = np.quantile(defined, (0.5 - level / 2, 0.5 + level / 2))
    return float(low), float(high)


def method(seeds: int, resamples: int) -> str:
    """How the gain and its interval were obtained, in words."""
    trained = "both sides trained anew on the same rows, batch norms settled on them"
    if not resamples:
        return trained
    rows = f"bootstrap over units of test rows, {resamples} resamples, percentile"
    if seeds == 1:
        return f"{trained}; paired {rows}; one seed, whose spread is not in the interval"
    return f"{trained}; paired {rows}, nested in one over {seeds} seeds, widened by Student's t"


@dataclass(frozen=True)
class Trained:
    """Both sides for one k.

    Attributes:
        k: labelled units a class.
        pairs: (pretrained, scratch), one a seed.
        steps: side -> optimiser steps taken, one a seed.
        rows: labelled rows, one a seed.
    """

    k: int
    pairs: tuple[tuple[Scored, Scored], ...]
    steps: Mapping[str, tuple[int, ...]]
    rows: tuple[int, ...]


def few_labels(data: Dataset, k: int, seed: int) -> Dataset:
    """`k` training units a class, and no more validation rows than training rows: whoever has few
    labels has few to watch, too.
    """
    few = data.few(k, seed)
    return few.sample("valid", few.size("train"), seed) if "valid" in few.splits else few


def train_both(
    data: Dataset,
    split: str,
    ks: Sequence[int],
    seeds: Sequence[int],
    retrain: Callable[..., Model],
    min_steps: int,
    told: Callable[[int, int], None],
) -> list[Trained]:
    """Train from the pretrained weights and from scratch, on the very same labelled rows.

    Args:
        data: `train` is drawn from, `split` is predicted.
        split: the test rows.
        ks: labelled units a class.
        seeds: each decides which rows are labelled, and all chance in both trainings.
        retrain: see `assay.training.context.Retrain`.
        min_steps: each training stage takes at least so many optimiser steps.
        told: (done, of) trainings.

    Raises:
        LoadError: a class has too few training units (before anything is trained).
    """
    drawn = {(k, seed): few_labels(data, k, seed) for k in ks for seed in seeds}
    done, found = 0, []
    for k in ks:
        pairs: list[tuple[Scored, Scored]] = []
        steps: dict[str, list[int]] = {PRETRAINED: [], SCRATCH: []}
        for seed in seeds:
            few, sides = drawn[k, seed], []
            for start, taken in steps.items():
                told(done, 2 * len(drawn))
                used: list[Mapping[str, Any]] = []
                model = retrain(few, seed, start, min_steps=min_steps, told=used.append)
                taken.append(sum(int(one.get("steps", 0)) for one in used))
                sides.append(predict(model, few, split))
                done += 1
            pairs.append((sides[0], sides[1]))
        rows = tuple(drawn[k, seed].size("train") for seed in seeds)
        counted = {side: tuple(taken) for side, taken in steps.items()}
        found.append(Trained(k, tuple(pairs), counted, rows))
    told(done, 2 * len(drawn))
    return found


def seeds_of(seed: int, count: int) -> list[int]:
    """The seeds of the trainings, all different."""
    return [derive_seed(seed, "transfer", i) for i in range(count)]
