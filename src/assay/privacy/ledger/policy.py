"""What a data owner allows, and what a run asks for."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from assay.config import Config, dump
from assay.errors import BudgetError
from assay.files import canonical_json, sha256
from assay.privacy.events import Event

#: epsilon and Renyi divergences are counted in billionths
NANO = 10**9
#: a longer run is no run, and its cost no number
MOST_STEPS = 10**12
_LABEL = 200


def nano(value: float) -> Fraction:
    """A number in billionths, exactly as it is written: 0.1 is a tenth, not the nearest double."""
    return Fraction(repr(value)) * NANO


def shown(value: int | None) -> str:
    """Billionths as a short number."""
    return "infinite" if value is None else f"{value / NANO:.4g}"


def stored(value: Any) -> Any:
    """Plain data in which no float is left: each is its shortest decimal, as text."""
    if isinstance(value, dict):
        return {key: stored(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [stored(one) for one in value]
    return repr(value) if isinstance(value, float) else value


class Budget(Config):
    """What may be learnt of one person, of all that is ever trained on some data.

    Attributes:
        data: pattern (`*`, `?`, `[...]`) of the keyed digests of data sets it is for.
        unit: pattern of privacy units it is for: `row`, or a column's name.
        epsilon: the most that all runs together may cost, at `delta`; more than 0.
        delta: in [0, 1); with 0 only pure mechanisms are granted.
        together: data sets that match share the one budget: for data that grow, where each
            version has a digest of its own and the people are the same. Else each has its own.
        orders: Renyi orders of the filter, which share `delta` evenly; by default the one that
            suits Gaussian noise best. Fixed for an account by its first run.

    Raises:
        ValueError: a number out of range.
    """

    data: str = Field(default="*", min_length=1, max_length=_LABEL)
    unit: str = Field(default="*", min_length=1, max_length=_LABEL)
    epsilon: float = Field(gt=1e-9, le=1e6)
    delta: float = Field(default=0.0, ge=0, lt=1)
    together: bool = False
    orders: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if 0 < self.delta < 1e-100:
            raise ValueError("delta is too small to be counted with; write 0 for pure mechanisms")
        if self.orders is not None and (not self.orders or len(set(self.orders)) > 8):
            raise ValueError("orders shares delta among 1 to 8 orders; leave it out for one")
        return self

    def covers(self, data: str, unit: str) -> bool:
        """Whether it is for that data set and unit."""
        return fnmatchcase(data, self.data) and fnmatchcase(unit, self.unit)

    def account(self, data: str, unit: str) -> tuple[str, str]:
        """What is charged: the data set, or all that share the budget; and the unit."""
        return (self.data if self.together else data), unit


class Policy(Config):
    """What a data owner allows.

    Attributes:
        budgets: the first that covers a data set and unit is its budget; without one it may not
            be used at all.
        stages: patterns of the stages that may run.
        models: patterns of the models that may be trained.
        smallest_cohort: the fewest privacy units that a run may use.
        largest_epsilon: the most that one run may cost, at the budget's delta.
        keys: Ed25519 public keys of owners (64 hex digits); where there is one, a run needs a
            grant signed by any of them.

    Raises:
        ValueError: no budget, or no such key.
    """

    budgets: tuple[Budget, ...] = Field(min_length=1)
    stages: tuple[str, ...] = ("*",)
    models: tuple[str, ...] = ("*",)
    smallest_cohort: int = Field(default=1, ge=1)
    largest_epsilon: float | None = Field(default=None, gt=0, le=1e6)
    keys: tuple[str, ...] = ()

    @field_validator("keys")
    @classmethod
    def _keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for key in keys:
            if not re.fullmatch(r"[0-9a-f]{64}", key):
                raise ValueError(f"{key!r} is no Ed25519 public key; give its 64 hex digits")
        return keys

    def budget(self, data: str, unit: str) -> Budget | None:
        """The budget of a data set and unit, if there is one."""
        return next((one for one in self.budgets if one.covers(data, unit)), None)


class Request(Config):
    """What a run asks for: all that it will ever release of private data.

    Attributes:
        recipe: the recipe's name.
        model: the model it starts from.
        stages: the stages it runs.
        n_units: privacy units of the smallest data set that it reads.
        events: every private event, as it will be used.
        grant: the owner's signed permission (the text of the file), where the policy wants one.
    """

    recipe: str = Field(min_length=1, max_length=_LABEL)
    model: str = Field(max_length=_LABEL)
    stages: tuple[str, ...]
    n_units: int = Field(ge=1, le=10**15)
    events: tuple[Event, ...] = Field(min_length=1, max_length=10_000)
    grant: str | None = None

    def plain(self) -> dict[str, Any]:
        """What is asked for, without who allowed it, and without floats."""
        found: dict[str, Any] = stored(dump(self))
        del found["grant"]
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of what is asked for; a grant does not change it."""
        return sha256(canonical_json(self.plain()))


def _numbers(event: Event) -> Iterable[tuple[str, float | None]]:
    yield "noise_multiplier", event.noise_multiplier
    yield "epsilon", event.epsilon
    yield "sampling", event.sampling


def refuse_strange(request: Request, where: str) -> None:
    """Refuse numbers that cannot be counted with, however the request was built.

    Raises:
        BudgetError: one is NaN, infinite, negative or subnormal, there is no noise at all, or
            there are more steps than anything takes.
    """
    for place, event in enumerate(request.events):
        here = f"{where}: events[{place}]"
        for name, value in _numbers(event):
            if value is None:
                continue
            if not math.isfinite(value) or value < 0:
                raise BudgetError(
                    f"{name} is {value!r}", where=here, mend="give a finite number that is not < 0"
                )
            if 0 < value < sys.float_info.min:
                raise BudgetError(
                    f"{name} is {value!r}, too small to be counted with",
                    where=here,
                    mend="give 0 or a number above 1e-300",
                )
        if event.mechanism == "gaussian" and not event.noise_multiplier:
            raise BudgetError(
                "no noise: its epsilon is infinite", where=here, mend="give a noise_multiplier"
            )
        if event.noise_multiplier and not 1e-6 <= event.noise_multiplier <= 1e12:
            raise BudgetError(
                f"noise_multiplier is {event.noise_multiplier!r}",
                where=here,
                mend="give one in 1e-6..1e12",
            )
        if not 1 <= event.steps <= MOST_STEPS or not 0 < event.sampling <= 1:
            raise BudgetError(
                f"{event.steps} steps at rate {event.sampling:g}",
                where=here,
                mend=f"give 1..{MOST_STEPS:.0e} steps and a rate in (0, 1]",
            )


def refuse_by_policy(policy: Policy, request: Request, where: str) -> None:
    """Check all of a policy but budgets and signatures.

    Raises:
        BudgetError: a stage, the model or the size of the cohort is not allowed.
    """
    wanted = [("stage", name, policy.stages) for name in request.stages]
    for kind, name, patterns in [*wanted, ("model", request.model, policy.models)]:
        if not any(fnmatchcase(name, pattern) for pattern in patterns):
            allowed = ", ".join(patterns) or "none"
            raise BudgetError(
                f"the owner's policy does not allow the {kind} {name!r}",
                where=where,
                mend=f"allowed: {allowed}; use one of these, or ask the owner",
            )
    if request.n_units < policy.smallest_cohort:
        raise BudgetError(
            f"{request.n_units} privacy units are fewer than the policy allows",
            where=where,
            mend=f"use at least {policy.smallest_cohort}",
        )
