"""The Model: network, structure, signature, task, preprocessing and passport, as one value."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from assay import files
from assay.claims import ModelCard
from assay.claims.passport import Passport
from assay.config import dump, dump_part
from assay.models.architecture import Architecture
from assay.models.predictions import length_batches, predict_rows, unscale
from assay.models.structure import Structure
from assay.models.weights import encode_weights

if TYPE_CHECKING:
    from assay.claims.signing import Signer
    from assay.data.preprocessing import Encoded, Preprocessing
    from assay.models.predictions import Predictions

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


@dataclass
class Model:
    """A network and everything needed to use it and to know it.

    Stages never change a model that they are given: they work on a `copy`.

    Attributes:
        network: any module with `network(**inputs) -> [N, K]`.
        architecture: how the trunk is built.
        structures: transforms applied to it, in order.
        task: what the outputs mean.
        preprocessing: from rows of a table to the network's inputs.
        classes: class names in the order of the outputs; None for a regression.
        card: what is known of the base model.
        passport: records and claims so far.
        extra: further files of the model's folder (an export): name -> where it lies now.
        folder: the folder it was loaded from, if any.
        source_digest: SHA-256 of the pretrained weights it was built from, if any.
    """

    network: nn.Module
    architecture: Architecture
    structures: tuple[Structure, ...]
    task: Any
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    card: ModelCard
    passport: Passport = field(default_factory=Passport)
    extra: dict[str, Path] = field(default_factory=dict)
    folder: Path | None = None
    source_digest: str | None = None

    def copy(self) -> Model:
        """An independent copy: its network shares no memory with this one's."""
        return replace(self, network=copy.deepcopy(self.network), extra=dict(self.extra))

    def with_passport(self, passport: Passport) -> Model:
        """The same with another passport."""
        return replace(self, passport=passport)

    def with_file(self, name: str, path: Path) -> Model:
        """The same with one more file in its folder."""
        return replace(self, extra={**self.extra, name: path})

    def without_files(self) -> Model:
        """The same without further files (they speak of other weights once a stage has run)."""
        return replace(self, extra={})

    def relocated(self, folder: Path) -> Model:
        """The same as saved in a folder: its further files lie there now."""
        extra = {name: folder / name for name in self.extra}
        return replace(self, extra=extra, folder=folder)

    def with_structure(self, structure: Structure, seed: int) -> Model:
        """A copy with one more structure; its new parameters are initialised from `seed`."""
        network = copy.deepcopy(self.network)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = structure.apply(network)
        return replace(
            self, network=network, structures=(*self.structures, structure), extra=dict(self.extra)
        )

    def blocks(self) -> list[str]:
        """Module names of the repeated blocks in execution order: the longest list of like modules
        in the network (empty where there is none).
        """
        best: list[str] = []
        for name, module in self.network.named_modules():
            if isinstance(module, (nn.ModuleList, nn.Sequential)):
                names = [
                    f"{name}.{child}"
                    for child, m in module.named_children()
                    if any(True for _ in m.parameters())
                ]
                if len(names) > len(best):
                    best = names
        return best

    def parameter_count(self) -> int:
        """Number of parameters of the network."""
        return sum(p.numel() for p in self.network.parameters())

    def support(self) -> dict[str, torch.Tensor]:
        """Parameter name -> where it may be non-zero, over all structures."""
        out: dict[str, torch.Tensor] = {}
        for structure in self.structures:
            for name, mask in structure.support(self.network).items():
                out[name] = out[name] & mask if name in out else mask
        return out

    def outputs(self, encoded: Encoded, batch_size: int = 64) -> npt.NDArray[np.float32]:
        """Outputs of all rows, in order, in float32 evaluation mode.

        Rows are batched by length, the same way every time.

        Returns:
            `[N, K]`: logits, or (regression) values in the target's own unit.
        """
        was_training = self.network.training
        self.network.eval()
        out: npt.NDArray[np.float32] | None = None
        try:
            with torch.inference_mode():
                for rows in length_batches(encoded.lengths(), batch_size):
                    inputs = {
                        k: torch.from_numpy(v) for k, v in encoded.batch(rows, pad_to=8).items()
                    }
                    result = self.network(**inputs).to(torch.float32).numpy()
                    if out is None:
                        out = np.empty((len(encoded), result.shape[1]), dtype=np.float32)
                    out[rows] = result
        finally:
            self.network.train(was_training)
        if out is None:
            raise ValueError("no rows")
        return unscale(out, self.preprocessing.target)

    def predict(self, rows: Any) -> Predictions:
        """Predict for a pyarrow table, a list of dicts, or the path of a table.

        Rows keep their ids where there is an id column.
        """
        return predict_rows(
            rows, self.preprocessing, self.task, self.classes, lambda encoded: self.outputs(encoded)
        )

    def signature(self) -> dict[str, Any]:
        """Names, types and ranks of inputs and outputs."""
        return {
            "inputs": {
                name: {"dtype": dtype, "rank": rank}
                for name, (dtype, rank) in self.preprocessing.inputs.items()
            },
            "outputs": {"outputs": {"dtype": "float32", "rank": 2}},
        }

    def config(self) -> dict[str, Any]:
        """What `config.json` holds."""
        from assay import __version__

        return {
            "assay_version": __version__,
            "card": dump(self.card),
            "architecture": dump_part(self.architecture),
            "structures": [dump_part(s) for s in self.structures],
            "task": dump_part(self.task),
            "classes": list(self.classes) if self.classes is not None else None,
            "signature": self.signature(),
        }

    def subject(self) -> str:
        """SHA-256 of the weights file that `save` writes."""
        return files.sha256(encode_weights(self.network.state_dict()))

    def save(
        self, folder: Path, signer: Signer | None = None, like: Path | None = None
    ) -> Passport:
        """Write the model's folder; an older one of that name is replaced at the end.

        Args:
            folder: where.
            signer: signs the passport's new lines and its head.
            like: a folder that holds the same weights: they are linked instead of written again.

        Returns:
            The passport as written.

        Raises:
            LoadError: it cannot be written; what was there before is untouched.
        """
        temporary = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            make_folder(temporary)
            if like is None or not link_file(like / WEIGHTS, temporary / WEIGHTS):
                files.write_bytes(temporary / WEIGHTS, encode_weights(self.network.state_dict()))
            files.write_json(temporary / CONFIG, self.config())
            names = [WEIGHTS, CONFIG, *self.preprocessing.save(temporary)]
            for name, path in sorted(self.extra.items()):
                copy_file(path, temporary / name)
                names.append(name)
            written = self.passport.write(temporary, names, signer)
            swap_folders(temporary, folder)
            return written
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def link_file(source: Path, target: Path) -> bool:
    """Hard-link a file; False where the file system cannot."""
    try:
        target.hardlink_to(source)
    except OSError:
        return False
    return True


def make_folder(path: Path) -> None:
    """Make a folder and its parents.

    Raises:
        LoadError: it cannot be made.
    """
    from assay.errors import LoadError

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoadError(
            f"cannot make this folder: {error.strerror}",
            where=str(path),
            mend="choose another with --out",
        ) from error


def copy_file(source: Path, target: Path) -> None:
    """Copy a file atomically."""
    with files.atomic(target) as stream, source.open("rb") as data:
        shutil.copyfileobj(data, stream)


def swap_folders(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`; the old one is removed last."""
    files.sync_folder(new)
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        new.rename(folder)
    files.sync_folder(folder.parent)
