"""What a run runs on: the machine, its threads, and the versions of what it uses."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scikit-learn",
    "pyarrow",
    "safetensors",
    "onnx",
    "onnxruntime",
)


def default_threads() -> int:
    """The cores this process may use, at most 8: beyond that small models only wait."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    return max(1, min(8, cores))


def tuning_folder() -> Path:
    """Where timings of this machine are remembered."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "assay" / "tuning"


def machine_name() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def environment(threads: int, seed: int) -> dict[str, Any]:
    """What `environment.json` holds: versions, machine, threads and seed."""
    from assay import __version__

    found = {"assay": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "versions": found,
        "platform": platform.platform(),
        "machine": machine_name(),
        "cores": default_threads(),
        "threads": threads,
        "seed": seed,
        "executable": Path(sys.executable).name,
    }
