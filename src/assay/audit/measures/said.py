"""What a model says of a split, computed once for all that ask in one process.

An audit and the export after it look at the same rows of the same network. Answers are kept as long
as that very network lives, under the digest of everything they depend on, its weights included: no
answer can be stale.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

from assay.config import dump
from assay.errors import LoadError
from assay.files import canonical_json, sha256

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.models.model import Model
    from assay.models.predictions import Predictions

#: network -> digest -> answer
_kept: MutableMapping[torch.nn.Module, dict[str, Predictions]] = WeakKeyDictionary()


def said(model: Model, data: Dataset, split: str) -> Predictions:
    """A model's predictions for the rows of a split.

    Raises:
        LoadError: the split has no rows.
    """
    if split not in data.splits or not data.size(split):
        raise LoadError(
            f"the split {split!r} has no rows to audit",
            where=f"data {data.card.name}",
            mend="one of: " + ", ".join(s for s in data.splits if data.size(s)),
        )
    rows = data.rows(split)  # opening the split is recorded whether or not the answer is known
    answers, key = _kept.setdefault(model.network, {}), _key(model, data, split)
    if key not in answers:
        answers[key] = model.predict(rows)
    return answers[key]


def forget() -> None:
    """Forget all answers, so that what is measured again is computed again."""
    _kept.clear()


def _key(model: Model, data: Dataset, split: str) -> str:
    about = [
        model.subject(),
        model.config(),
        sha256(canonical_json(dump(model.preprocessing))),
        data.digest,
        split,
        torch.get_num_threads(),
    ]
    return sha256(canonical_json(about))
