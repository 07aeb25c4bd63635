"""The private door: sums over privacy units, each noised and charged (law 2 of the design)."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from assay.errors import BudgetError, UsageError
from assay.privacy.discrete import LEAST_NOISE, noisy_sum
from assay.privacy.events import Event

if TYPE_CHECKING:
    from assay.privacy.randomness import Stream


class PrivateDoor:
    """An `assay.data.door.Door` whose sums have discrete Gaussian noise, and cost privacy.

    The same questions in the same order get the same answers from the same key, so a resumed run
    asks again for nothing.

    Args:
        stream: where the noise comes from.
        noise_multiplier: of every question: standard deviation of its noise over its bound; at
            least 2^-6.
        data: keyed digest of the data set's content.
        unit: the privacy unit: `row`, or the column whose values name units.
        questions: how many may be asked (None: any number; the events say what they cost).

    Attributes:
        noise_multiplier: see above; whoever asks may allow for it.
        events: one Gaussian event a question, in the order asked.
        asked: the questions' names.

    Raises:
        UsageError: so little noise that it hides nothing.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        noise_multiplier: float,
        data: str,
        unit: str,
        questions: int | None = None,
    ) -> None:
        if not LEAST_NOISE <= noise_multiplier < math.inf:
            raise UsageError(
                f"a noise multiplier of {noise_multiplier:g} hides nobody in a sum",
                where="bounded_sum",
                mend=f"use at least {LEAST_NOISE}, and for privacy worth the name at least 1",
            )
        self.noise_multiplier = float(noise_multiplier)
        self.events: list[Event] = []
        self.asked: list[str] = []
        self._stream, self._data, self._unit = stream, data, unit
        self._questions = questions
        self._times: Counter[str] = Counter()

    @classmethod
    def within(
        cls,
        stream: Stream,
        *,
        epsilon: float,
        delta: float,
        questions: int,
        data: str,
        unit: str,
    ) -> Self:
        """A door whose questions together cost at most (epsilon, delta), equal noise to each.

        Args:
            stream: where the noise comes from.
            epsilon: that all questions together may cost.
            delta: in (0, 1).
            questions: how many will be asked at most, as planned.
            data: as above.
            unit: as above.

        Raises:
            UsageError: no noise is enough for so small an epsilon.
        """
        from assay.privacy.accountant import noise_multiplier

        noise = noise_multiplier(epsilon, delta, 1.0, questions)
        return cls(stream, noise_multiplier=noise, data=data, unit=unit, questions=questions)

    def bounded_sum(
        self, name: str, values: npt.NDArray[np.float64], bound: float
    ) -> npt.NDArray[np.float64]:
        """Sum `values` `[U, ...]` over units, each clipped to L2 norm `bound`, noised and charged.

        The noise of each number has standard deviation `noise_multiplier * bound` (see
        `assay.privacy.discrete.noisy_sum`), so a sum may be negative where the true one is not.

        Raises:
            UsageError: nothing bounds what one unit adds, or there are too many numbers.
            BudgetError: more is asked than was planned.
        """
        if math.isinf(bound):
            raise UsageError(
                f"nothing bounds what one privacy unit adds to {name}, so no noise can hide it",
                where=name,
                mend="declare bounds ('columns: {NAME: {bounds: [LOW, HIGH]}}'; for class weights "
                "'unit_rows'), or leave it out",
            )
        if self._questions is not None and len(self.asked) >= self._questions:
            raise BudgetError(
                f"{name} is question {len(self.asked) + 1} of {self._questions} planned",
                where=name,
                mend="declare what can be declared, or plan for more questions",
            )
        shape = "x".join(map(str, np.shape(values)[1:]))
        # all that makes a question: another one never gets this one's noise
        purpose = f"door/{self._data}/{self._unit}/{name}/{shape}/{bound!r}/{self.noise_multiplier}"
        answer = noisy_sum(
            values,
            bound,
            self.noise_multiplier,
            self._stream,
            purpose=purpose,
            step=self._times[purpose],
        )
        self._times[purpose] += 1
        self.charge(name)
        return answer

    def charge(self, name: str) -> None:
        """Charge for a question; by itself, for one that was answered before a run was stopped."""
        self.asked.append(name)
        self.events.append(
            Event(
                noise_multiplier=self.noise_multiplier,
                data=self._data,
                unit=self._unit,
                what=name,
            )
        )


def charged(door: object) -> tuple[dict[str, Any], ...]:
    """What a door has charged so far, as a record keeps it; a plain door charges nothing."""
    events = getattr(door, "events", ())
    return tuple(event.model_dump(exclude_none=True) for event in events)
