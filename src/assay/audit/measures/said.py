"""What a model says of a split, computed once for all that ask in one process.

An audit and the export after it look at the same rows of the same network. Answers are kept under
the digest of everything they depend on, weights included, so that no answer can be stale.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from assay.config import dump
from assay.errors import LoadError
from assay.files import canonical_json, sha256

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.models.model import Model
    from assay.models.predictions import Predictions

#: answers kept
_SIZE = 4
_kept: OrderedDict[str, Predictions] = OrderedDict()


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
    key = _key(model, data, split)
    if key not in _kept:
        _kept[key] = model.predict(rows)
        while len(_kept) > _SIZE:
            _kept.popitem(last=False)
    return _kept[key]


def forget() -> None:
    """Forget all answers, so that what is measured again is computed again."""
    _kept.clear()


def _key(model: Model, data: Dataset, split: str) -> str:
    import torch

    about = [
        model.subject(),
        type(model.network).__qualname__,
        model.config(),
        sha256(canonical_json(dump(model.preprocessing))),
        data.digest,
        split,
        torch.get_num_threads(),
    ]
    return sha256(canonical_json(about))
