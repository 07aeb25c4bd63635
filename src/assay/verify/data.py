"""Open the data that an artefact was made from, or say why they cannot be had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.claims.records import Origin
from assay.config import build
from assay.errors import AssayError, LoadError
from assay.privacy.naming import digest_of

if TYPE_CHECKING:
    from assay.data.dataset import Dataset


@dataclass(frozen=True)
class Absent:
    """Stands for data that cannot be had: its card is known, any look inside says why.

    So a stage whose claims need no data (sizes) still measures them.
    """

    card: Any
    why: str

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise LoadError(self.why, where=f"data {self.card.name}", mend="name the data with --data")


def open_data(origin: Origin, folder: Path, data: str | None, task: Any) -> Dataset | Absent:
    """Open the data of a run and check that they are those it recorded.

    A relative path in the record starts from the folder the run was started in, which may be
    elsewhere now: it is looked up from the current folder and then from every folder above the
    artefact.

    Args:
        origin: how the run began.
        folder: the artefact's folder.
        data: where the data are now, if not there.
        task: the task that they are opened for.
    """
    from assay.data.config import DataConfig

    try:
        config = build(DataConfig, origin.data_config, "data")
        if data is not None:
            config = config.model_copy(update={"path": str(Path(data).absolute())})
        bases = bases_of(origin, folder, config.path)
    except AssayError as error:
        return Absent(origin.data, error.line())
    if not bases:
        return Absent(origin.data, f"the data are not there: {data or config.path}")
    opened: Dataset | Absent = Absent(origin.data, "the data are not there")
    for base in bases:
        try:
            opened = _checked(config.load(base, task), origin)
        except ImportError as error:
            opened = Absent(origin.data, f"a package is missing: {error.name or error}")
        except AssayError as error:
            opened = Absent(origin.data, error.line())
        if not isinstance(opened, Absent):
            break
    return opened


def bases_of(origin: Origin, folder: Path, path: str | None) -> list[Path]:
    """Folders from which a recorded path leads to something, the nearest first.

    Args:
        origin: how the run began.
        folder: the artefact's folder.
        path: the path; None for something that is no file.
    """
    here = Path.cwd()
    if path is None:
        return [here / origin.data_base]
    starts = dict.fromkeys([here, *folder.resolve().parents])
    bases = dict.fromkeys((start / origin.data_base).resolve() for start in starts)
    there = {(base / path).resolve(): base for base in reversed(bases) if (base / path).exists()}
    return [base for base in bases if base in there.values()]


def _checked(dataset: Dataset, origin: Origin) -> Dataset | Absent:
    digest = digest_of(dataset)
    if digest != origin.data_digest:
        return Absent(
            origin.data,
            "the data have changed since the run: their digest is "
            f"{digest[:16]}, the run recorded {origin.data_digest[:16]}",
        )
    if dataset.card.name != origin.data.name:  # opened from a file of another name
        dataset = dataset.with_splits(dataset.splits, name=origin.data.name)
    return dataset
