"""Lower bounds on epsilon from what an attacker guesses right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.privacy.attacks.membership import Bools, Floats, clopper_pearson

#: shares of the canaries that are guessed, fixed before any score is seen
SHARES: tuple[float, ...] = (1 / 32, 1 / 8, 1 / 4, 1 / 2, 1.0)
#: epsilon is searched up to here: no number of canaries that anyone trains on shows more
_MOST = 64.0


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float = 0.0) -> float:
    """How likely at least `right` of `guesses` are under (epsilon, delta)-privacy, at most.

    Theorem 5.2 of Steinke, Nasr and Jagielski 2023 (Privacy auditing with one training run, arXiv
    2305.08846). Each of the canaries was included by a fair coin. Under pure privacy each guess is
    right with probability at most `q = e^epsilon / (1 + e^epsilon)`, whatever the others are, so
    that the number of right ones is at most a binomial W; delta adds at most
    `2 m delta max_i P[right - i <= W < right] / i`.

    Args:
        canaries: m, how many coins were thrown.
        guesses: how many of them were guessed, at most m.
        right: how many of the guesses were right.
        epsilon: at least 0.
        delta: in [0, 1).

    Raises:
        ValueError: more right than guessed, or more guessed than there are.
    """
    from scipy.stats import binom

    if not 0 <= right <= guesses <= canaries:
        raise ValueError(f"{right} right of {guesses} guesses of {canaries} canaries cannot be")
    q = 1 / (1 + math.exp(-epsilon))
    found = float(binom.sf(right - 1, guesses, q))
    if delta > 0 and right > 0:
        below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, q))
        found += 2 * canaries * delta * float((below / np.arange(1, right + 1)).max())
    return min(1.0, found)


def lower_bound(
    canaries: int, guesses: int, right: int, delta: float = 0.0, level: float = 0.95
) -> float:
    """The greatest epsilon that so many right guesses rule out, with confidence `level`.

    Args:
        canaries: how many coins were thrown.
        guesses: how many were guessed; chosen without looking at the coins.
        right: how many of the guesses were right.
        delta: the delta at which epsilon is bounded.
        level: one-sided confidence.

    Returns:
        At least 0, at most 64.
    """
    alpha = 1 - level
    if p_value(canaries, guesses, right, 0.0, delta) > alpha:
        return 0.0
    low, high = 0.0, 1.0
    while high < _MOST and p_value(canaries, guesses, right, high, delta) <= alpha:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        ruled_out = p_value(canaries, guesses, right, middle, delta) <= alpha
        low, high = (middle, high) if ruled_out else (low, middle)
    return low


def guess(scores: Floats, plus: int, minus: int) -> npt.NDArray[np.int8]:
    """Guess `plus` of the highest scores included, `minus` of the lowest not, and no others.

    Among equal scores the order of the canaries decides, which must not depend on the coins.

    Returns:
        `[m]` of 1 (included), -1 (not included) and 0 (no guess).
    """
    order = np.argsort(scores, kind="stable")
    said = np.zeros(len(scores), dtype=np.int8)
    said[order[:minus]] = -1
    said[order[len(scores) - plus :]] = 1
    return said


@dataclass(frozen=True)
class OneRun:
    """What one training with canaries shows.

    Attributes:
        epsilon: lower bound; 0 where nothing is shown.
        canaries: how many there were.
        guesses: how many were guessed for that bound.
        right: how many of these guesses were right.
        level: confidence, all choices of the number of guesses together.
        tried: numbers of guesses that were tried, each at its share of `1 - level`.
    """

    epsilon: float
    canaries: int
    guesses: int
    right: int
    level: float
    tried: tuple[int, ...]


def one_run(
    scores: Floats,
    included: Bools,
    delta: float = 0.0,
    level: float = 0.95,
    shares: Sequence[float] = SHARES,
) -> OneRun:
    """The one-run audit (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846).

    Few sure guesses show a great epsilon, many show a small one. So several numbers of guesses are
    tried, half of each among the highest and half among the lowest scores. They are fixed before
    any score is seen, and `1 - level` is divided among them (Bonferroni): the best bound keeps the
    level.

    Args:
        scores: `[m]` of each canary under the one model; they may not depend on `included` but
            through the model. Higher: likelier included.
        included: `[m]` how the fair coins fell.
        delta: the delta at which epsilon is bounded.
        level: one-sided confidence of the bound.
        shares: of the canaries that are guessed.

    Raises:
        ValueError: there are no canaries.
    """
    m = len(scores)
    if not m:
        raise ValueError("an audit without canaries shows nothing")
    tried = tuple(sorted({max(1, round(share * m)) for share in shares}))
    each = 1 - (1 - level) / len(tried)
    best: OneRun | None = None
    for count in tried:
        said = guess(scores, count - count // 2, count // 2)
        right = int((said[included] == 1).sum() + (said[~included] == -1).sum())
        found = lower_bound(m, count, right, delta, each)
        if best is None or found > best.epsilon:
            best = OneRun(found, m, count, right, level, tried)
    assert best is not None
    return best


def from_rates(
    true_positives: int,
    members: int,
    false_positives: int,
    others: int,
    delta: float = 0.0,
    level: float = 0.95,
) -> float:
    """Lower bound on epsilon from independent runs with and without one unit.

    (epsilon, delta)-privacy keeps `TPR <= e^epsilon FPR + delta` and `1 - FPR <= e^epsilon (1 -
    TPR) + delta` (Kairouz et al. 2015, arXiv 1311.0776). The rates are replaced by the worse ends
    of their intervals (Clopper and Pearson 1934), each at half of `1 - level`.

    Args:
        true_positives: runs with the unit that the attack called so.
        members: runs with the unit.
        false_positives: runs without it that the attack called runs with it.
        others: runs without it.
        delta: the delta at which epsilon is bounded.
        level: one-sided confidence. The attack's threshold must have been fixed on other runs.

    Returns:
        At least 0.
    """
    hits = clopper_pearson(true_positives, members, level)[0]
    alarms = clopper_pearson(false_positives, others, level)[1]
    ratios = [(hits - delta) / alarms]
    if hits < 1:
        ratios.append((1 - alarms - delta) / (1 - hits))
    return max(0.0, math.log(max(1e-300, *ratios)))
