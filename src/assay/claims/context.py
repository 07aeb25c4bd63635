"""What a plan knows without opening data or building a network."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from assay.config import Config


class DataCard(Config):
    """What is known of a data set before it is opened.

    Attributes:
        name: its name in claims.
        modality: `text` or `tabular` (later `image`, `audio`).
        splits: names of the splits it will have.
        rows: number of rows, if known.
        label: the label column.
        classes: number of classes, if known (0: not a classification).
        sensitive: sensitive columns.
        unit: column of the privacy unit (None: a row).
        private: readings that influence the model are charged.
        noised: sums over private rows are noised, and charged.
        license: terms under which the data may be used, if known.
        remote: it would be fetched over the network.
    """

    name: str
    modality: str = "tabular"
    splits: tuple[str, ...] = ("train", "valid", "test")
    rows: int | None = None
    label: str | None = None
    classes: int | None = None
    sensitive: tuple[str, ...] = ()
    unit: str | None = None
    private: bool = False
    noised: bool = False
    license: str = "unknown"
    remote: bool = False


class ModelCard(Config):
    """What is known of a network before it is built.

    Attributes:
        name: as in the recipe.
        architecture: registered architecture.
        modality: what it reads: `text`, `tabular`.
        parameters: number of parameters, if known.
        blocks: number of repeated blocks, if known.
        pretrained: it comes with weights learnt from data.
        license: terms of the weights.
        remote: it would be fetched over the network.
    """

    name: str
    architecture: str = ""
    modality: str = "tabular"
    parameters: int | None = None
    blocks: int | None = None
    pretrained: bool = False
    license: str = "unknown"
    remote: bool = False


class PlanContext(Config):
    """The state of a plan before a stage: everything `effects` may depend on.

    Attributes:
        model: the base model's card.
        data: the data set's card.
        task: the task (a registered task part).
        structures: part names of the structures the network has by now.
        carried: kinds of claim that hold by now -> index of the stage that measured them.
        stage: index of the stage.
        stages: the whole list of stages (configs), for stages that replay earlier ones.
    """

    model: ModelCard
    data: DataCard
    task: Any
    structures: tuple[str, ...] = ()
    carried: dict[str, int] = Field(default_factory=dict)
    stage: int = 0
    stages: tuple[Any, ...] = ()
