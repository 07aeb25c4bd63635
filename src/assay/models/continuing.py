"""Going on from a model that was made here: as it is, or with a head for other classes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from assay.claims import Effects
from assay.claims.records import StageRecord
from assay.errors import UsageError
from assay.files import derive_seed
from assay.models.model import Model
from assay.models.structure import MAPS
from assay.models.structures.head import Head

if TYPE_CHECKING:
    from assay.data.dataset import Dataset

#: claims of how the trunk's weights came about, which another head leaves true
_HISTORY = ("privacy.epsilon", "federation.*", "transfer.*", "lineage.*")
#: claims that the order of its rows leaves true
_SHAPE = ("size.*", "sparsity.*")


def continued(model: Model, task: Any, dataset: Dataset, seed: int, door: Any) -> Model:
    """A model to go on from, with its passport.

    Args:
        model: as loaded.
        task: the task now.
        dataset: the data now.
        seed: for a new head.
        door: where the scale of a regression's targets is asked for.

    Returns:
        The model itself where task and classes are the same. Its classes in another order: the
        rows of its head are put in that order. Else it gets a new head. What changes the outputs
        is recorded in the passport, which voids all that was claimed of them.

    Raises:
        UsageError: it needs a new head and carries structures that were made for the old one.
    """
    same_task = model.task.part_name == task.part_name
    if same_task and model.classes == dataset.classes:
        return model
    if same_task and sorted(model.classes or ()) == sorted(dataset.classes or ()):
        turned = _reordered(model, dataset.classes or ())
        return _recorded(turned, "its classes in another order", (*_HISTORY, *_SHAPE))
    return _recorded(_new_head(model, task, dataset, seed, door), "a new head", _HISTORY)


def anew(model: Model, task: Any, dataset: Dataset, seed: int, door: Any) -> Model:
    """The architecture of a model that was made here, initialised, with a head for the task.

    Nothing is left of what was learnt but the preprocessing, which both starts share.

    Raises:
        UsageError: it carries structures that were made for its weights.
    """
    from assay.claims.passport import Passport

    own = [s for s in model.structures if s.part_name not in MAPS]
    if len(own) != 1 or not isinstance(own[0], Head):
        raise UsageError(
            "a model folder with structures (adapters, masks) cannot start from scratch",
            where="model",
            mend="merge its adapters first, or name the model it was built from",
        )
    started = _new_head(model, task, dataset, seed, door)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "network"))
        network = started.structures[0].apply(model.architecture.build())
    return replace(started, network=network.eval(), passport=Passport(), source_digest=None)


def _reordered(model: Model, classes: tuple[str, ...]) -> Model:
    order = [(model.classes or ()).index(name) for name in classes]
    changed = replace(model.copy().without_files(), classes=classes)
    with torch.no_grad():
        head = changed.network.get_submodule("head")
        for name, tensor in head.state_dict().items():
            if not name.endswith("lora_A"):  # its rows are not classes
                tensor.copy_(tensor[order])
        for knots in changed.network.get_submodule("calibration").buffers():
            if knots.dim() == 2:  # one row a class
                knots.copy_(knots[order])
    return changed


def _new_head(model: Model, task: Any, dataset: Dataset, seed: int, door: Any) -> Model:
    from assay.data.preprocessing import fit_target

    # a map of the old head's outputs goes with that head
    own = [s for s in model.structures if s.part_name not in MAPS]
    first = own[0] if own else None
    if not isinstance(first, Head) or len(own) != 1:
        raise UsageError(
            f"the model was made for {model.task.part_name} with other classes, and carries "
            "structures that hold its head",
            where="model",
            mend="merge its adapters first, or use data with the same classes",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "network"))
        head = first.model_copy(update={"outputs": task.outputs(dataset.classes)})
        network = head.apply(model.copy().network.get_submodule("backbone"))
    target = fit_target(dataset, "train", door) if dataset.classes is None else None
    return replace(
        model.without_files(),
        network=network.eval(),
        structures=(head,),
        task=task,
        preprocessing=model.preprocessing.model_copy(update={"target": target}),
        classes=dataset.classes,
        card=model.card.model_copy(
            update={"parameters": sum(p.numel() for p in network.parameters())}
        ),
    )


def _recorded(model: Model, what: str, keeps: tuple[str, ...]) -> Model:
    """The model with a record of what was done to its head, where it has a passport."""
    if model.passport.origin is None:
        return model
    last = next((r.stage for r in reversed(model.passport.records) if r.claim is None), None)
    record = StageRecord(
        index=last.index + 1 if last is not None else 0,
        name="head",
        effects=Effects(keeps=keeps, notes=(what,)),
        subject=model.subject(),
    )
    return model.with_passport(model.passport.with_stage(record))
