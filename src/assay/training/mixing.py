"""Losses of images that were made of two rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from assay.training.batches import partnered
from assay.training.parts import Call, Losses


def losses_of(term: Any, call: Call, state: Any) -> Losses:
    """A term's losses; in a mixture, shared between each row's own target and its partner's.

    The network's outputs are computed once. So any term learns from mixed images without knowing.
    """
    own: Losses = term.loss(call, state)
    if call.batch.mixture is None:
        return own
    share = call.batch.mixture[1]
    other: Losses = term.loss(replace(call, batch=partnered(call.batch)), state)
    rows = {k: share * v + (1 - share) * other.rows[k] for k, v in own.rows.items()}
    return Losses(rows, own.units, own.metrics)
