"""What a run costs, in integers that err on the side of the owner."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.privacy import accountant
from assay.privacy.events import Event
from assay.privacy.ledger.policy import NANO, nano

#: more than rounding of doubles can have lost
_SLACK = 1 + 1e-9


@dataclass(frozen=True)
class Cost:
    """What a run costs of one account.

    Attributes:
        data: digest of the data set.
        unit: the privacy unit.
        delta: at which `epsilon` holds.
        epsilon: by privacy loss distributions, in billionths, rounded up; None: infinite.
        pure: sum of epsilons, in billionths, where every event is pure; else None.
        orders: the orders that the filter of the account watches from its first run on.
        renyi: Renyi divergence at each order of the ledger, in billionths, rounded up; None
            where it is infinite or could not be computed.
    """

    data: str
    unit: str
    delta: float
    epsilon: int | None
    pure: int | None
    orders: tuple[float, ...]
    renyi: tuple[int | None, ...]

    @property
    def about(self) -> tuple[str, str]:
        """(data, unit)."""
        return self.data, self.unit

    def plain(self) -> dict[str, Any]:
        """As it is stored, without floats."""
        return {
            "data": self.data,
            "unit": self.unit,
            "delta": repr(self.delta),
            "epsilon": self.epsilon,
            "pure": self.pure,
            "orders": [repr(order) for order in self.orders],
            "renyi": list(self.renyi),
        }

    @classmethod
    def read(cls, item: Mapping[str, Any]) -> Cost:
        """From stored data.

        Raises:
            ValueError: it is none (or a TypeError or KeyError).
        """
        integers = [item["epsilon"], item["pure"], *item["renyi"]]
        if any(one is not None and (type(one) is not int or one < 0) for one in integers):
            raise ValueError("a cost is no whole number of billionths")
        return cls(
            data=str(item["data"]),
            unit=str(item["unit"]),
            delta=float(item["delta"]),
            epsilon=item["epsilon"],
            pure=item["pure"],
            orders=tuple(float(order) for order in item["orders"]),
            renyi=tuple(item["renyi"]),
        )


def rounded_up(value: float, least: int = 0) -> int | None:
    """A divergence in billionths, rounded up past the error of doubles; None: no number."""
    if not math.isfinite(value) or value < 0 or value > 1e9:
        return None
    return max(least, math.ceil(value * NANO * _SLACK))


def pure_sum(events: Sequence[Event]) -> int | None:
    """The sum of epsilons in billionths, where every event is pure; else None."""
    if any(event.mechanism != "pure" or event.epsilon is None for event in events):
        return None
    return sum(math.ceil(nano(event.epsilon or 0.0) * event.steps) for event in events)


def cost_of(
    events: Sequence[Event], delta: float, orders: Sequence[float], watched: Sequence[float]
) -> Cost:
    """What events about one data set and unit cost together.

    Args:
        events: at least one.
        delta: of the budget; 0 counts pure events only.
        orders: of the ledger.
        watched: the account's orders.
    """
    data, unit = events[0].about
    # something that was released costs something
    least = int(any(event.mechanism != "pure" or event.epsilon for event in events))
    pure = pure_sum(events)
    try:
        divergences = accountant.renyi(events, orders)
        found = accountant.epsilon(events, delta) if delta else math.inf
    except (OverflowError, FloatingPointError, ZeroDivisionError):
        divergences, found = [math.inf] * len(orders), math.inf
    epsilon = rounded_up(found, least)
    # what delta gains on one pure release is not worth a second number for it
    if pure is not None and (epsilon is None or epsilon > 0.999 * pure):
        epsilon = pure
    renyi = tuple(rounded_up(float(one), least) for one in divergences)
    return Cost(data, unit, delta, epsilon, pure, tuple(watched), renyi)
