"""What parts need and break, declared, so that what cannot go together is refused before it runs.

Parts never test for each other's class. A part names the *properties* it needs and those it
breaks; two parts conflict when one breaks what the other needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from assay.config import Config

#: property -> what it means
PROPERTIES: dict[str, str] = {
    "input_gradients": "gradients reach the network's inputs",
    "prefix_cache": "the frozen prefix runs once and is fed from a cache",
    "row_independence": "the loss of a row depends on that row alone",
    "sgd_updates": "an update is the gradient times a rate (plain SGD)",
    "labels": "rows carry labels",
    "class_logits": "the network gives one logit a class",
    "two_classes": "there are two classes",
    "scalar_output": "the network gives one real number a row",
    "token_inputs": "inputs are token ids",
    "feature_inputs": "inputs are real features",
    "pixel_inputs": "inputs are images",
    "pretrained": "the model comes with weights learnt from data",
    "trained_before": "a stage before this one trains the model",
    "valid_split": "there are validation rows apart from the training rows",
    "linear_layers": "the network has linear layers",
    "dense_weights": "every weight may take any value",
    "full_precision": "gradients are computed in float32",
    "one_rate_schedule": "at most one schedule drives the learning rate",
    "teacher": "the stage names a teacher",
    "inner_maps": "the network has maps of attention or of channels inside",
    "moving_trunk": "weights below the head move",
    "one_optimiser": "exactly one optimiser takes the step",
    "smooth_outputs": "gradients pass what follows the head",
    "one_mixture": "an image is made of two rows at most",
}


class Capabilities(Config):
    """What a part needs, gives and breaks, in the words of `PROPERTIES`.

    Attributes:
        needs: properties that must hold.
        gives: properties that it establishes (tasks, data and models give; parts rarely do).
        breaks: properties it takes away from the others.
        why: property -> why it is needed or broken, for the refusal.
        mend: property -> the way out, for the refusal.
    """

    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()
    breaks: frozenset[str] = frozenset()
    why: dict[str, str] = Field(default_factory=dict)
    mend: dict[str, str] = Field(default_factory=dict)


class Refusal(Config):
    """Why a combination is refused, where, and the way out."""

    what: str
    where: str = ""
    mend: str = ""


#: properties that hold unless a part breaks them; all others must be given
_BY_DEFAULT = frozenset(
    {
        "prefix_cache",
        "row_independence",
        "input_gradients",
        "dense_weights",
        "full_precision",
        "one_rate_schedule",
        "one_optimiser",
        "one_mixture",
        "sgd_updates",
        "moving_trunk",
    }
)


def conflicts(capabilities: Iterable[tuple[str, Capabilities]]) -> list[Refusal]:
    """Every pair of a need and its breaker, and every need that nobody gives.

    Args:
        capabilities: (name of the part as the user wrote it, what it declares).
    """
    parts = list(capabilities)
    given = _BY_DEFAULT.union(*(c.gives for _, c in parts)) if parts else _BY_DEFAULT
    found: list[Refusal] = []
    for name, part in parts:
        for need in sorted(part.needs):
            breakers = [(n, c) for n, c in parts if need in c.breaks and n != name]
            meaning = part.why.get(need) or PROPERTIES.get(need, need)
            for other, breaker in breakers:
                forbids = f"does not allow that {PROPERTIES.get(need, need)}"
                reason = breaker.why.get(need) or forbids
                found.append(
                    Refusal(
                        what=f"{name} needs that {meaning}, but {other} {reason}",
                        where=name,
                        mend=breaker.mend.get(need)
                        or part.mend.get(need)
                        or f"leave out {name} or {other}",
                    )
                )
            if not breakers and need not in given:
                found.append(
                    Refusal(
                        what=f"{name} needs that {meaning}",
                        where=name,
                        mend=part.mend.get(need) or f"leave out {name}",
                    )
                )
    return found


def of(part: Any, context: Any) -> Capabilities:
    """The capabilities a part declares in a context (none, where it declares nothing)."""
    declare = getattr(part, "capabilities", None)
    return declare(context) if declare is not None else Capabilities()
