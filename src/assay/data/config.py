"""The `data:` of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from assay import registry
from assay.claims.context import DataCard
from assay.config import Config
from assay.data.schema import Override, as_names, category_name
from assay.data.source import Sample
from assay.errors import UsageError

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.tasks.base import Task

#: words for the validation split in other people's data
SPLIT_NAMES: dict[str, str] = {
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "eval": "valid",
    "training": "train",
    "testing": "test",
}
#: endings of files in which some column must be named as the label
_TABLES = (".csv", ".tsv", ".parquet", ".arrow", ".feather", ".jsonl", ".ndjson", ".gz")


class SplitSpec(Config):
    """How rows are divided into train, valid and test. Splits never share a privacy unit.

    Attributes:
        valid: share of the rows for validation; 0 for none.
        test: share of the rows for the test; 0 for none. Of splits that come with the data, those
            given are kept and only what is missing is taken from the training rows.
        by: `stratified` (each class in its proportion), `grouped` (rows with the same value of
            `column` stay together), `time` (the newest rows are the test; rows of one instant
            stay together), `random`, `hash` (each unit by a keyed hash of its name alone, so that
            no row's place depends on another's), `given` (`column` names the split of each row).
            By default: `grouped` where there is a group or unit column, `hash` where the data are
            private, `stratified` for classes, `random` for numbers.
        column: the column that `grouped`, `time` and `given` look at.
        seed: another seed, another division.

    Raises:
        ValueError: nothing is left for training, or `column` is missing.
    """

    valid: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    by: Literal["stratified", "grouped", "time", "random", "hash", "given"] | None = None
    column: str | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> SplitSpec:
        if self.valid + self.test >= 1:
            raise ValueError("valid and test leave nothing to train on; make them smaller")
        if self.by in ("time", "given") and self.column is None:
            raise ValueError(f"by: {self.by} needs a column; name it with 'column:'")
        return self

    def names(self) -> tuple[str, ...]:
        """The splits that will be made."""
        shares = (("train", 1.0), ("valid", self.valid), ("test", self.test))
        return tuple(name for name, share in shares if share > 0)


class DataConfig(Config):
    """Which data, and what its columns are for. A bare name in a recipe is a sample's.

    Attributes:
        name: a named sample (`assay data` lists them); beside `path`, the data set's name in
            claims (default: that of the file).
        path: a CSV, TSV, Parquet, Arrow, Feather or JSON-lines file; a folder with one such file
            a split (`train.csv`, `test.csv`); a folder saved by Hugging Face `save_to_disk`; or a
            folder of images, one folder a class, perhaps below `train` and `test`.
        label: the column to predict (for a folder of images: the name of the class's folder).
        text: columns of text the network reads (default: those that look like text).
        id: column that names rows (default: their position).
        unit: column of the privacy unit, e.g. the patient (default: a row).
        group: column whose rows stay in one split.
        site: column of the site that owns a row.
        sensitive: columns by which audits split results; they are no features unless
            `columns: {name: {role: feature}}` says so.
        drop: columns to leave out.
        columns: what is known of columns, by name; overrides what is inferred.
        splits: how rows are divided.
        classes: all classes, where they are declared (default: those found in the label column).
        positive: the positive class of two (default: the second of the sorted names).
        private: readings of these data that influence the model are charged.
        sum_noise: noise multiplier of each sum over private rows that preprocessing or a part asks
            for (means, counts); without it such sums are plain, and void any epsilon.
        ledger: the owner's site folder or its ledger's URL (`assay site`): the run reserves its
            cost there before it reads a row.
        grant: file of the owner's signed permission, where the ledger's policy wants one.
        drop_missing_label: leave out rows without a label instead of refusing them.
        drop_undecodable: leave out rows whose picture is missing or cannot be decoded instead of
            refusing them; each is decoded once more for it, and `run` says how many they are.
        license: terms under which the data may be used.

    Raises:
        ValueError: neither name nor path, or a file without a label column.
    """

    shorthand: ClassVar[str | None] = "name"

    name: str | None = None
    path: str | None = None
    label: str | None = None
    text: tuple[str, ...] = ()
    id: str | None = None
    unit: str | None = None
    group: str | None = None
    site: str | None = None
    sensitive: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    columns: dict[str, Override] = Field(default_factory=dict)
    splits: SplitSpec = SplitSpec()
    classes: tuple[str, ...] | None = None
    positive: str | None = None
    private: bool = False
    sum_noise: float | None = Field(default=None, ge=1 / 64, lt=1e6)
    ledger: str | None = None
    grant: str | None = None
    drop_missing_label: bool = False
    drop_undecodable: bool = False
    license: str | None = None

    @field_validator("text", "sensitive", "drop", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("classes", mode="before")
    @classmethod
    def _class_names(cls, value: Any) -> Any:
        return as_names(value)

    @field_validator("positive", mode="before")
    @classmethod
    def _positive_name(cls, value: Any) -> Any:
        return None if value is None else category_name(value)

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.name is None and self.path is None:
            raise ValueError("no data are named; give 'name:' of a sample or 'path:' of a file")
        if self.path is not None and self.label is None and self.path.lower().endswith(_TABLES):
            raise ValueError("which column is to be predicted is not said; give 'label:'")
        if self.classes is not None and len(set(self.classes)) < 2:
            raise ValueError("classes must be two or more different names; list each once")
        if not self.private:
            for name in ("sum_noise", "ledger", "grant"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for private data; add 'private: true'")
        return self

    def sample(self, where: str = "data.name") -> Sample | None:
        """The named sample, None where a file is named.

        Raises:
            UsageError: no such sample; says which name is closest.
        """
        if self.path is not None:
            return None
        name = str(self.name)
        if "/" in name or "." in name:
            raise UsageError(
                f"{name!r} is no sample's name",
                where=where,
                mend=f"for a file write 'data: {{path: {name}, label: ...}}'",
            )
        part = registry.find("sample", name, where)()
        assert isinstance(part, Sample)
        return part

    def card(self, base: Path) -> DataCard:
        """What is known before the data are opened.

        What only the file can tell (rows, classes, splits that come with it) is not in the card;
        an opened data set's own card has it.

        Args:
            base: the folder that `path` is relative to.
        """
        sample = self.sample()
        if sample is not None:
            known = sample.card()
        else:
            name = self.name or Path(str(self.path)).name.split(".")[0]
            known = DataCard(name=name, modality="text" if self.text else "tabular")
            known = self._picture_card(known, base / str(self.path))
        if known.splits == ("train", "valid", "test"):
            splits = ("train", "valid", "test") if self._given() else self.splits.names()
        else:
            splits = tuple(
                s
                for s in ("train", "valid", "test")
                if s in known.splits or s in self.splits.names()
            )
        classes = len(self.classes) if self.classes else known.classes
        label = self.label or known.label
        return known.model_copy(
            update={
                "splits": splits,
                "label": label,
                "classes": classes if label == known.label or self.classes else None,
                "sensitive": tuple(dict.fromkeys((*known.sensitive, *self.sensitive))),
                "unit": self.unit or known.unit,
                "private": self.private or known.private,
                "noised": self.sum_noise is not None,
                "license": self.license or known.license,
            }
        )

    def _picture_card(self, card: DataCard, folder: Path) -> DataCard:
        """The card with what a folder of images, or its description, shows; none is opened."""
        from assay.data.image_folders import (
            LABEL,
            is_image_folder,
            is_saved_with_images,
            split_folders,
        )

        said = any(column.kind == "image" for column in self.columns.values())
        if said or is_saved_with_images(folder, self.drop):
            return card.model_copy(update={"modality": "image"})
        if self.label not in (None, LABEL) or not is_image_folder(folder):
            return card
        splits = tuple(split_folders(folder) or ("train", "valid", "test"))
        return card.model_copy(update={"modality": "image", "label": LABEL, "splits": splits})

    def _given(self) -> bool:
        return self.splits.by == "given"

    def load(self, base: Path, task: Task | None = None) -> Dataset:
        """Open the data.

        Args:
            base: the folder that `path` is relative to.
            task: what is to be predicted (None: inferred from the label column).

        Raises:
            LoadError: the data cannot be read, or cannot be used for the task.
            UsageError: the data are of another modality than the task's.
        """
        from assay.data.loading import load

        return load(self, base, task)
