"""How a run began, as its passport records it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from assay.claims.records import Origin
from assay.config import dump, dump_part
from assay.privacy.naming import digest_of

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.models.model import Model
    from assay.recipe.schema import Recipe


def origin_of(
    recipe: Recipe,
    model: Model,
    dataset: Dataset,
    threads: int,
    charged: tuple[dict[str, Any], ...],
    receipt: dict[str, Any],
) -> Origin:
    """The record of a beginning.

    Args:
        recipe: the recipe.
        model: the model before the first stage.
        dataset: its data.
        threads: intra-op threads.
        charged: private events of building the model.
        receipt: of the ledger of the data's owner.
    """
    from assay import __version__

    digest = {"model_digest": model.source_digest} if model.source_digest else {}
    reads = recipe.model.reads(recipe.base, dataset=dataset)
    return Origin(
        recipe=recipe.name,
        assay=__version__,
        seed=recipe.seed,
        threads=threads,
        task=dump_part(recipe.task),
        model=model.card,
        base=dump(recipe.model),
        data=dataset.card,
        data_digest=digest_of(dataset),
        data_config=dump(recipe.data),
        data_base=os.path.relpath(recipe.base),
        reads=tuple(r.model_copy(update={"private": dataset.card.noised}) for r in reads),
        charged=charged,
        receipt=receipt,
        **digest,
    )
