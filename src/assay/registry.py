"""Where techniques meet the core: parts register themselves, the core looks them up by name.

Every part is a frozen pydantic model decorated with `@register(kind, name)`. A kind names a
package; its modules (those whose name does not start with an underscore) are imported on the
first look-up, so a new file there is all that it takes to add a part.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from assay.config import Config
from assay.errors import UsageError, did_you_mean
from assay.files import file_digest

#: kind of part -> the package whose modules hold the parts of that kind
KINDS: dict[str, str] = {
    "stage": "assay.stages",
    "term": "assay.training.objectives",
    "parameters": "assay.training.parameters",
    "step": "assay.training.steps",
    "place": "assay.training.places",
    "augmentation": "assay.training.augmentations",
    "structure": "assay.models.structures",
    "architecture": "assay.models.architectures",
    "audit": "assay.audit",
    "task": "assay.tasks",
    "sample": "assay.data.samples",
}

C = TypeVar("C", bound=type[Config])

_parts: dict[str, dict[str, type[Config]]] = {kind: {} for kind in KINDS}
_discovered: set[str] = set()


def register(kind: str, name: str) -> Callable[[C], C]:
    """Class decorator: make a part known to recipes under `name`.

    Raises:
        ValueError: the kind is unknown, or the name is taken by another class.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind of part {kind!r}; {did_you_mean(kind, KINDS)}")

    def decorate(cls: C) -> C:
        taken = _parts[kind].get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise ValueError(f"{kind} {name!r} is already {taken.__module__}.{taken.__qualname__}")
        cls.part_kind = kind
        cls.part_name = name
        _parts[kind][name] = cls
        return cls

    return decorate


def unregister(kind: str, name: str) -> None:
    """Forget a part (for tests that register one)."""
    _parts[kind].pop(name, None)


def discover(kind: str) -> None:
    """Import the modules that hold the parts of a kind, once."""
    if kind in _discovered:
        return
    _discovered.add(kind)
    try:
        package = importlib.import_module(KINDS[kind])
        for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg):
            if not module.startswith("_"):
                importlib.import_module(f"{package.__name__}.{module}")
    except BaseException:
        _discovered.discard(kind)  # half a kind must not pass for the whole of it
        raise


def names(kind: str) -> list[str]:
    """The names of all parts of a kind, sorted."""
    discover(kind)
    return sorted(_parts[kind])


def parts(kind: str) -> dict[str, type[Config]]:
    """All parts of a kind by name."""
    discover(kind)
    return {name: _parts[kind][name] for name in sorted(_parts[kind])}


def find(kind: str, name: str, where: str | None = None) -> type[Config]:
    """The part of that kind and name.

    Raises:
        UsageError: there is none; says which name is closest.
    """
    discover(kind)
    try:
        return _parts[kind][name]
    except KeyError:
        raise UsageError(
            f"unknown {kind} {name!r}", where=where, mend=did_you_mean(name, _parts[kind])
        ) from None


def load_user_file(path: Path, allowed: bool) -> None:
    """Run a user's Python file so that the parts in it register themselves.

    Args:
        path: the file a recipe names under `uses`.
        allowed: whether the user allowed this file on the command line.

    Raises:
        UsageError: the file is missing, not allowed, or fails when run.
    """
    if not path.is_file():
        raise UsageError("no such file", where=f"uses: {path}", mend="correct the path")
    if not allowed:
        raise UsageError(
            "the recipe wants to run this Python file",
            where=f"uses: {path}",
            mend=f"read it, then allow it with --allow {path}",
        )
    name = f"assay_user_{file_digest(path)[:16]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError("not a Python file", where=f"uses: {path}", mend="name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(
            f"fails when run: {type(error).__name__}: {error}",
            where=f"uses: {path}",
            mend="mend the file",
        ) from error
