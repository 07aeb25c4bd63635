"""One accountant: what a sequence of private events costs, and the noise that a cost allows.

Within a recipe, whose events are fixed before it starts, privacy loss distributions compose them
(PLD; Koskela et al. 2020, arXiv 1906.03049; `dp-accounting` computes, rounding up). Across recipes,
chosen after seeing what came before, a ledger sums Renyi divergences (`renyi`), which a filter may
stop at a budget (Feldman and Zrnic 2021, arXiv 2008.11193).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from assay.errors import LoadError, UsageError
from assay.privacy.events import Event

#: width of the bins of privacy loss for what is claimed, and for searches, which end with it
INTERVAL = 1e-4
_COARSE = 1e-3
#: above it an epsilon promises nothing: the (greater) one of Renyi divergences will do
_HUGE = 60.0
#: noise multipliers are searched in this range
_LEAST, _MOST = 0.05, 1e6
#: Renyi orders that `renyi` gives
ORDERS: tuple[float, ...] = (
    *(1 + x / 10 for x in range(1, 100)),
    *range(11, 65),
    *(80.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0, 768.0, 1024.0),
)


def _library() -> Any:
    try:
        import dp_accounting
    except ImportError:
        raise LoadError(
            "accounting for privacy needs dp-accounting",
            where="privacy",
            mend="pip install 'assay[private]'",
        ) from None
    return dp_accounting


def _key(events: Sequence[Event]) -> tuple[tuple[Any, ...], ...]:
    """What of events decides their cost: equal mechanisms are composed at once."""
    found: dict[tuple[Any, ...], int] = {}
    for event in events:
        mechanism = (event.mechanism, event.noise_multiplier, event.epsilon, event.sampling)
        found[mechanism] = found.get(mechanism, 0) + event.steps
    return tuple(sorted((*k, n) for k, n in found.items()))


def _event(entry: tuple[Any, ...]) -> Any:
    library = _library()
    mechanism, noise, epsilon, sampling, steps = entry
    if mechanism == "pure":
        # of all (epsilon, 0)-private mechanisms randomised response loses most
        one = library.LaplaceDpEvent(1 / epsilon)
    else:
        one = library.GaussianDpEvent(noise)
        if sampling < 1:
            one = library.PoissonSampledDpEvent(sampling, one)
    return library.SelfComposedDpEvent(one, steps)


def _private(key: tuple[tuple[Any, ...], ...]) -> bool:
    """Whether every event is noised at all."""
    return all(noise is None or noise > 0 for _, noise, *_ in key)


@lru_cache(maxsize=256)
def _pld(key: tuple[tuple[Any, ...], ...], interval: float) -> Any:
    from dp_accounting.pld import common, privacy_loss_distribution
    from dp_accounting.pld.pld_privacy_accountant import PLDAccountant

    accountant = PLDAccountant(
        _library().NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=interval
    )
    whole = None
    for entry in key:
        mechanism, _, epsilon, _, steps = entry
        if mechanism == "pure":
            parameters = common.DifferentialPrivacyParameters(epsilon, 0.0)
            one = privacy_loss_distribution.from_privacy_parameters(
                parameters, value_discretization_interval=interval
            ).self_compose(steps)
            whole = one if whole is None else whole.compose(one)
        else:
            accountant.compose(_event(entry))
    known = accountant._pld
    return known if whole is None else known.compose(whole)


def epsilon(events: Sequence[Event], delta: float, interval: float = INTERVAL) -> float:
    """The smallest epsilon at `delta` that the accountant can show for all events together.

    Args:
        events: about one data set and one privacy unit.
        delta: in (0, 1).
        interval: width of the bins of privacy loss; the result is rounded up by them.

    Returns:
        Epsilon; infinite when some event has no noise, 0 without events.

    Raises:
        ValueError: `delta` is not in (0, 1).
    """
    if not 0 < delta < 1:
        raise ValueError(f"expected delta in (0, 1), not {delta}")
    return _epsilon(
        _key([e for e in events if e.mechanism != "pure" or e.epsilon]), delta, interval
    )


@lru_cache(maxsize=1024)
def _epsilon(key: tuple[tuple[Any, ...], ...], delta: float, interval: float) -> float:
    if not key:
        return 0.0
    if not _private(key):
        return math.inf
    loose = from_renyi(_renyi(key, ORDERS), delta)
    if loose > _HUGE:
        return loose
    found = min(loose, float(_pld(key, interval).get_epsilon_for_delta(delta)))
    pure = [e for e in key if e[0] == "pure"]
    if len(pure) == len(key):
        # plain addition is exact for pure events, where the bins round up
        found = min(found, sum(e[2] * e[4] for e in pure))
    return found


def delta(events: Sequence[Event], epsilon: float, interval: float = INTERVAL) -> float:
    """The smallest delta at `epsilon`; 1 when some event has no noise."""
    key = _key([e for e in events if e.mechanism != "pure" or e.epsilon])
    if not key:
        return 0.0
    if not _private(key) or from_renyi(renyi(events), 1e-6) > _HUGE:
        return 1.0
    return float(_pld(key, interval).get_delta_for_epsilon(epsilon))


@lru_cache(maxsize=256)
def noise_multiplier(
    target: float, delta: float, sampling: float, steps: int, interval: float = INTERVAL
) -> float:
    """The least noise multiplier (to a thousandth) whose Gaussian steps cost at most `target`.

    Args:
        target: epsilon that all steps together may cost.
        delta: in (0, 1).
        sampling: probability with which a unit takes part in a step.
        steps: number of steps.
        interval: see `epsilon`; the found multiplier meets the target at this width.

    Raises:
        UsageError: no noise is enough, or the least that is searched already is.
    """

    def cost(noise: float, interval: float) -> float:
        event = Event(noise_multiplier=noise, sampling=sampling, steps=steps)
        return epsilon([event], delta, interval)

    def loose(noise: float) -> float:
        event = Event(noise_multiplier=noise, sampling=sampling, steps=steps)
        return from_renyi(renyi([event]), delta)

    if loose(_MOST) > target:
        raise UsageError(
            f"no noise gives epsilon {target:g} at delta {delta:g}",
            where="step.private",
            mend="ask for a greater epsilon, fewer steps or a smaller batch",
        )
    # Renyi divergences are cheap and cost more than distributions: they bound the search
    low, high = _LEAST, _MOST
    while high > 1.1 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if loose(middle) > target else (low, middle)
    low = max(_LEAST, high / 2)
    while high - low > 1e-3 * high:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if cost(middle, _COARSE) > target else (low, middle)
    # the coarse search errs on the side of more noise: come down on the fine scale
    found = math.ceil(high * 1000) / 1000
    while cost(found, interval) > target:
        found = round(found + 0.001, 3)
    while found > 2 * _LEAST and cost(round(found - 0.001, 3), interval) <= target:
        found = round(found - 0.001, 3)
    return found


def curve(
    noise: float, delta: float, sampling: float, steps: int, points: int = 8
) -> list[tuple[int, float]]:
    """(steps, epsilon after them) at `points` places up to `steps`."""
    places = sorted({max(1, round(steps * (i + 1) / points)) for i in range(points)})
    return [
        (n, epsilon([Event(noise_multiplier=noise, sampling=sampling, steps=n)], delta, _COARSE))
        for n in places
    ]


def renyi(events: Sequence[Event], orders: Sequence[float] = ORDERS) -> list[float]:
    """Renyi divergence of all events together at each order; infinite without noise."""
    key = _key([e for e in events if e.mechanism != "pure" or e.epsilon])
    if not _private(key):
        return [math.inf] * len(orders)
    return _renyi(key, tuple(orders))


def _renyi(key: tuple[tuple[Any, ...], ...], orders: tuple[float, ...]) -> list[float]:
    total = [0.0] * len(orders)
    for *mechanism, steps in key:
        one = _renyi_once(tuple(mechanism), orders)
        total = [t + steps * r for t, r in zip(total, one, strict=True)]
    return total


@lru_cache(maxsize=1024)
def _renyi_once(mechanism: tuple[Any, ...], orders: tuple[float, ...]) -> tuple[float, ...]:
    """Of one release: plans ask for the same mechanism over many numbers of steps."""
    from dp_accounting.rdp.rdp_privacy_accountant import RdpAccountant

    name, _, eps, _ = mechanism
    if name == "pure":
        # Bun and Steinke 2016, arXiv 1605.02065: at most epsilon, and at most a epsilon^2 / 2
        return tuple(min(eps, order * eps * eps / 2) for order in orders)
    # orders near 1 may not converge: they then count as infinite, which is no error
    logging.getLogger("absl").setLevel(logging.ERROR)
    accountant = RdpAccountant(list(orders), _library().NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(_event((*mechanism, 1)))
    return tuple(float(r) for r in accountant._rdp)


def from_renyi(
    divergences: Sequence[float], delta: float, orders: Sequence[float] = ORDERS
) -> float:
    """Epsilon at `delta` of Renyi divergences (Canonne et al. 2020, arXiv 2004.00010)."""
    from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon

    found, _ = compute_epsilon(list(orders), list(divergences), delta)
    return float(found)
