"""What a run will cost in privacy, known before it reads a row, and asking the owner's ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.errors import BudgetError, LoadError
from assay.privacy.door import PrivateDoor
from assay.privacy.events import Event
from assay.privacy.naming import name_of
from assay.privacy.randomness import Stream

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.data.door import Door
    from assay.recipe.schema import Recipe

#: sums that fitting a table asks for beside one a column
_MORE = 2


def units_of(dataset: Dataset) -> int:
    """Number of privacy units among the training rows; no row is read."""
    return len(np.unique(dataset.unit_of[dataset.positions("train")]))


def unit_name(dataset: Dataset) -> str:
    """The privacy unit in words."""
    return dataset.schema.unit or "row"


def questions(recipe: Recipe, dataset: Dataset) -> int:
    """How many sums building the model will ask for, at most."""
    from assay.data.declared import undeclared_of

    if not recipe.model.reads(recipe.base, dataset=dataset):
        return 0
    return len(undeclared_of(dataset)) + _MORE


def planned(recipe: Recipe, dataset: Dataset) -> list[Event]:
    """Every private event of a run, as it will be used at most."""
    if not dataset.card.private:
        return []
    data, unit, found = name_of(dataset), unit_name(dataset), []
    noise = recipe.data.sum_noise
    asked = questions(recipe, dataset) if noise is not None else 0
    if noise is not None and asked:
        found.append(
            Event(noise_multiplier=noise, steps=asked, data=data, unit=unit, what="preprocessing")
        )
    for stage in recipe.stages:
        found += stage.charges(units_of(dataset), data, unit, noise)
    return found


def secret_of(dataset: Dataset, folder: Path) -> Stream | None:
    """What all private randomness of a run comes from; None where the data are not private.

    It also names the run in the owner's ledger: other draws are another run, charged anew.

    Args:
        dataset: the data.
        folder: where the key is kept while the run lasts.
    """
    return Stream.open(folder) if dataset.card.private else None


def door_of(
    recipe: Recipe, dataset: Dataset, secret: Stream | None, name: str, most: int | None = None
) -> Door:
    """The door for sums over private rows: noised where the recipe says by how much.

    Args:
        recipe: with its `data`.
        dataset: the data.
        secret: of the run.
        name: of the door; each has noise of its own.
        most: sums that may be asked for; None: any number.
    """
    from assay.data.door import LocalDoor

    noise = recipe.data.sum_noise
    if secret is None or noise is None:
        return LocalDoor()
    return PrivateDoor(
        secret.derive(f"door {name}"),
        noise_multiplier=noise,
        data=name_of(dataset),
        unit=unit_name(dataset),
        questions=most,
    )


def reserve(recipe: Recipe, dataset: Dataset, secret: Stream | None) -> dict[str, Any]:
    """Ask the owner's ledger for all that a run will cost; asking again charges nothing.

    Args:
        recipe: the recipe.
        dataset: its data.
        secret: of the run.

    Returns:
        The receipt, as the passport records it; empty where the data name no ledger.

    Raises:
        BudgetError: it is refused, or would read private rows without being charged.
        LoadError: the ledger cannot be reached.
        ArtefactError: it is damaged.
    """
    place = recipe.data.ledger
    if place is None or secret is None:
        return {}
    from assay.privacy.ledger import Ledger, Request

    events = planned(recipe, dataset)
    where = f"data.ledger: {place}"
    if not events:
        raise BudgetError(
            "nothing in this recipe is private, and the owner's ledger grants nothing else",
            where=where,
            mend="add 'private' to 'step', and 'private: true' to 'data'",
        )
    site = place if "://" in place else recipe.base / place
    receipt = Ledger.open(site).reserve(
        secret.bytes("run", 0, 16).hex(),
        Request(
            recipe=recipe.name,
            model=recipe.model.name,
            stages=tuple(stage.part_name for stage in recipe.stages),
            n_units=units_of(dataset),
            events=tuple(events),
            grant=_grant(recipe),
        ),
    )
    return receipt.model_dump(mode="json")


def _grant(recipe: Recipe) -> str | None:
    if recipe.data.grant is None:
        return None
    path = recipe.base / recipe.data.grant
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(
            f"the owner's grant cannot be read: {error}",
            where=f"data.grant: {path}",
            mend="ask the owner for one: assay site grant",
        ) from error
