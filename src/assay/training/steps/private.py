"""Private steps: DP-SGD."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from assay.claims import Capabilities, PlanContext
from assay.registry import register
from assay.training.parts import Setting, Setup

#: rows that go through the network at once, by default
_PIECE = {"text": 32}
_PIECE_ELSE = 256


@register("step", "private")
class Private(Setting):
    """Differentially private steps (Abadi et al. 2016, arXiv 1607.00133).

    Each step takes every privacy unit with the same probability (Poisson sampling), sums the
    gradients of each unit's rows, bounds the norm of that sum, adds the sums and Gaussian noise,
    and divides by the number of units expected. The stage's `batch`, times `accumulate`, is that
    number; batches have any size, also none.

    Attributes:
        epsilon: what all steps of the stage may cost together at `delta`; the noise follows.
        delta: in (0, 1); well below 1 over the number of units.
        noise_multiplier: standard deviation of the noise over the bound, instead of `epsilon`.
        clip: the bound, an L2 norm; or `auto`: every unit's gradient is scaled to norm 1 (Bu et
            al. 2022, arXiv 2206.07136).
        rows_per_unit: rows of a unit that a step takes at most, chosen anew each time.
        piece: rows that go through the network at once (default: 256; of texts 32).
        insecure_seed: draw sampling and noise from this number: anyone who knows it can take the
            noise away, so the claim fails. For tests and demonstrations.

    Raises:
        ValueError: not exactly one of `epsilon` and `noise_multiplier`.
    """

    shorthand: ClassVar[str | None] = "epsilon"
    private: ClassVar[bool] = True
    epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    delta: float = Field(default=1e-5, gt=0, lt=1)
    noise_multiplier: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    clip: float | Literal["auto"] = 1.0
    rows_per_unit: int = Field(default=8, ge=1)
    piece: int | None = Field(default=None, ge=1)
    insecure_seed: int | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("give either epsilon or noise_multiplier")
        if self.clip != "auto" and not 0 < self.clip < float("inf"):
            raise ValueError("clip is a positive number, or auto")
        return self

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls(noise_multiplier=0.5, clip=1.0), cls(noise_multiplier=0.5, clip="auto")]

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Each unit's gradient must be its own, and exact."""
        return Capabilities(
            needs=frozenset({"row_independence", "full_precision"}),
            why={
                "row_independence": "a unit's loss depends on that unit alone",
                "full_precision": "norms are bounded in float32",
            },
        )

    def rate(self, units: int, expected: float) -> float:
        """Probability with which a unit is taken in a step.

        Args:
            units: privacy units in all.
            expected: units expected in a step.
        """
        return min(1.0, expected / max(1, units))

    def steps(self, units: int, expected: float, epochs: float) -> int:
        """Steps of a stage: in an epoch a unit is expected to be taken once."""
        return max(1, math.ceil(epochs * max(1, round(1 / self.rate(units, expected)))))

    def multiplier(self, rate: float, steps: int) -> float:
        """The noise multiplier: as given, or the least that `epsilon` allows."""
        if self.noise_multiplier is not None:
            return self.noise_multiplier
        from assay.privacy.accountant import noise_multiplier

        assert self.epsilon is not None
        return noise_multiplier(self.epsilon, self.delta, rate, steps)

    def event(self, units: int, expected: float, epochs: float, data: str, unit: str) -> Any:
        """The private event (`assay.privacy.events.Event`) that a stage will be, at most.

        Args:
            units: privacy units in all.
            expected: units expected in a step.
            epochs: of the stage.
            data: keyed digest of the data.
            unit: the privacy unit.
        """
        from assay.privacy.events import Event

        rate, steps = self.rate(units, expected), self.steps(units, expected, epochs)
        return Event(
            noise_multiplier=self.multiplier(rate, steps),
            sampling=rate,
            steps=steps,
            data=data,
            unit=unit,
            what="gradient steps",
        )

    def forecast(self, units: int, expected: float, epochs: float) -> tuple[str, ...]:
        """What it will cost, for a plan: epsilon against steps and against noise.

        Args:
            units: privacy units, as far as they are known.
            expected: units expected in a step.
            epochs: of the stage.
        """
        from assay.privacy.accountant import curve

        rate, steps = self.rate(units, expected), self.steps(units, expected, epochs)
        noise = self.multiplier(rate, steps)
        if noise == 0:
            return ("private: there is no noise, and so no privacy",)
        after = ", ".join(f"{e:.2f} after {n:,}" for n, e in curve(noise, self.delta, rate, steps))
        others = [round(noise * factor, 2) for factor in (0.7, 1.4, 2.0)]
        ends = [(n, curve(n, self.delta, rate, steps, 1)[-1][1]) for n in others if n > 0]
        more = ", ".join(f"{e:.2f} with noise {n:g}" for n, e in ends)
        begin = f"private: with about {units:,} units, noise multiplier {noise:.3g}"
        return (
            f"{begin}, each unit taken with probability {rate:.3g} in each of {steps:,} steps",
            f"epsilon at delta {self.delta:g}: {after} steps; {more}",
        )

    def check(self, network: Any) -> None:
        """Refuse a network in which a unit has no gradient of its own.

        Args:
            network: with `requires_grad` set on what moves; may be on the meta device.

        Raises:
            UsageError: names the module, and the way out.
        """
        from assay.training.private import refuse_mixing

        refuse_mixing(network)

    def source(self, setup: Setup, rows: Any, batches: int) -> Any:
        """Poisson sampling of units in the place of shuffled rows."""
        from assay.training.private import sampling

        modality = setup.context.task.modality
        piece = self.piece or _PIECE.get(modality, _PIECE_ELSE)
        return sampling(self, setup, rows, batches, piece)

    def engine(self, setup: Setup) -> Any:
        """Clipped sums and noise."""
        from assay.training.private import PrivateEngine

        return PrivateEngine.make(self, setup)
