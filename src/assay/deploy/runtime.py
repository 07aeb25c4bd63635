"""Predicting with an exported model in ONNX Runtime: no torch, no transformers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assay.errors import ArtefactError, LoadError
from assay.models.predictions import Predictions, length_batches, predict_rows, unscale

if TYPE_CHECKING:
    import onnxruntime

    from assay.data.preprocessing import Encoded, Preprocessing

GRAPH = "model.onnx"
#: rows are padded to a multiple of this, as `Model.outputs` pads them
PAD_TO = 8

_limited = False


def memory_limit() -> int:
    """Most bytes that all sessions of this process may use for tensors: half of the machine's."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _limit_memory() -> None:
    """Give the process's sessions one arena that stops at `memory_limit()` bytes, once."""
    global _limited
    if _limited:
        return
    import onnxruntime as ort

    arena = ort.OrtArenaCfg(
        {
            "max_mem": memory_limit(),
            "arena_extend_strategy": 1,  # as much as is asked for, not the next power of two
            "initial_chunk_size_bytes": -1,
            "max_dead_bytes_per_chunk": -1,
            "initial_growth_chunk_size_bytes": -1,
        }
    )
    place = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(place, arena)
    _limited = True


def open_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open an ONNX graph on the CPU, its memory bounded.

    Args:
        path: the file.
        threads: intra-op threads.

    Raises:
        LoadError: ONNX Runtime is not installed.
        ArtefactError: the file is damaged, lies about its tensors, or points outside itself.
    """
    from assay.deploy.onnx_guard import check_onnx

    try:
        import onnxruntime as ort
    except ImportError:
        raise LoadError(
            "ONNX Runtime is not installed", where=str(path), mend="pip install 'assay[export]'"
        ) from None
    check_onnx(path)
    _limit_memory()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its errors are raised as well
    options.add_session_config_entry("session.use_env_allocators", "1")
    # spinning threads starve a busy machine
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its errors share no base class
        raise ArtefactError(
            f"ONNX Runtime cannot load the graph: {_first_line(error)}",
            where=str(path),
            mend="restore it or export again",
        ) from None


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__


def _rows_at_once(encoded: Encoded) -> int:
    if encoded.offsets is not None:
        return 8
    return 32 if any(array.ndim == 4 for array in encoded.arrays.values()) else 1024


class OnnxNetwork:
    """A graph and how to run encoded rows through it.

    Args:
        path: the ONNX file.
        inputs: the names that it must take.
        threads: intra-op threads.

    Raises:
        LoadError: ONNX Runtime is not installed.
        ArtefactError: the file is unsound, or takes other inputs.
    """

    def __init__(self, path: Path, inputs: set[str], threads: int = 1) -> None:
        self.path = path
        self.session = open_session(path, threads)
        taken = {item.name for item in self.session.get_inputs()}
        if not taken <= inputs or len(self.session.get_outputs()) != 1:
            raise ArtefactError(
                f"the graph takes {sorted(taken)}, the model has {sorted(inputs)}",
                where=str(path),
                mend="export the model again",
            )
        self._taken = taken

    def outputs(self, encoded: Encoded, batch_size: int | None = None) -> npt.NDArray[np.float32]:
        """Outputs of all rows in order, `[N, K]` as the network gives them.

        Rows are sorted by length and padded as `Model.outputs` does. Batches are small where rows
        are large (8 texts stay in the processor's cache) and large where they are small.

        Raises:
            ArtefactError: the graph cannot be run, or asks for too much memory.
        """
        out: npt.NDArray[np.float32] | None = None
        size = batch_size or _rows_at_once(encoded)
        for rows in length_batches(encoded.lengths(), size):
            batch = encoded.batch(rows, pad_to=PAD_TO)
            feed = {name: array for name, array in batch.items() if name in self._taken}
            try:
                result = np.asarray(self.session.run(None, feed)[0], dtype=np.float32)
            except Exception as error:  # noqa: BLE001 - its errors share no base class
                raise ArtefactError(
                    f"the graph cannot be run: {_first_line(error)}",
                    where=str(self.path),
                    mend="export the model again",
                ) from None
            if result.ndim != 2 or len(result) != len(rows):
                raise ArtefactError(
                    f"the graph gives {list(result.shape)} for {len(rows)} rows",
                    where=str(self.path),
                    mend="export the model again",
                )
            if out is None:
                out = np.empty((len(encoded), result.shape[1]), dtype=np.float32)
            out[rows] = result
        if out is None:
            raise ValueError("no rows")
        return out


def predict_with(
    network: OnnxNetwork,
    rows: Any,
    preprocessing: Preprocessing,
    task: Any,
    classes: tuple[str, ...] | None,
) -> Predictions:
    """Predict rows (see `assay.models.predictions.predict_rows`) through a graph."""

    def outputs(encoded: Encoded) -> npt.NDArray[np.float32]:
        return unscale(network.outputs(encoded), preprocessing.target)

    return predict_rows(rows, preprocessing, task, classes, outputs)


def exported(path: Path) -> Path | None:
    """The model's folder (`path`, or `path/model` of a run) if it holds an ONNX graph."""
    for folder in (path, path / "model"):
        if (folder / "head.json").is_file():
            return folder if (folder / GRAPH).is_file() else None
    return None


class OnnxPredictor:
    """An exported model: predicts as `Model.predict` does, without torch.

    Args:
        folder: the model's folder, or a run's.
        threads: intra-op threads.

    Raises:
        LoadError: there is no exported model, or ONNX Runtime is not installed.
        ArtefactError: a file is damaged, missing, or does not fit the others.
    """

    def __init__(self, folder: Path | str, threads: int = 1) -> None:
        from assay.claims.passport import Passport
        from assay.config import build_part
        from assay.data.preprocessing import load_preprocessing
        from assay.errors import AssayError
        from assay.files import read_json

        found = exported(Path(folder))
        if found is None:
            raise LoadError(
                "no exported model",
                where=str(folder),
                mend="add the stage 'export: onnx' to its recipe",
            )
        Passport.read(found)  # every file is what the head says
        config = read_json(found / "config.json")
        try:
            self.task = build_part("task", config["task"])
            classes = config["classes"]
        except (KeyError, TypeError) as error:
            raise ArtefactError(
                f"not a complete model configuration: {error}",
                where=str(found / "config.json"),
                mend="restore the file",
            ) from None
        except AssayError as error:
            raise ArtefactError(
                error.what, where=str(found / "config.json"), mend=error.mend
            ) from None
        self.classes = tuple(classes) if classes is not None else None
        self.preprocessing = load_preprocessing(found)
        self.network = OnnxNetwork(found / GRAPH, set(self.preprocessing.inputs), threads)

    def predict(self, rows: Any) -> Predictions:
        """Predict for a pyarrow table, a list of dicts, or the path of a table.

        Raises:
            LoadError: the rows cannot be read or do not fit.
            ArtefactError: the graph cannot be run.
        """
        return predict_with(self.network, rows, self.preprocessing, self.task, self.classes)
