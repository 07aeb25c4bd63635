"""What the choices share: the names of the head's parameters, and those of the last blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.errors import UsageError

if TYPE_CHECKING:
    from assay.models.model import Model

HEAD = "head."


def head_names(model: Model, where: str) -> list[str]:
    """Names of the parameters of the head.

    Raises:
        UsageError: the network has none.
    """
    names = [name for name, _ in model.network.named_parameters() if name.startswith(HEAD)]
    if not names:
        raise UsageError(
            "the network has no head",
            where=where,
            mend="use parameters: full, or a model with a head",
        )
    return names


def last_blocks(model: Model, count: int, where: str) -> tuple[str, ...]:
    """Module names of the last `count` blocks.

    Raises:
        UsageError: there are fewer.
    """
    blocks = model.blocks()
    if count > len(blocks):
        raise UsageError(
            f"the network has {len(blocks)} blocks, not {count}",
            where=where,
            mend=f"ask for at most {len(blocks)}, or use parameters: full",
        )
    return tuple(blocks[len(blocks) - count :])


def within(name: str, modules: tuple[str, ...]) -> bool:
    """Whether a parameter or module lies in one of the modules (or is it)."""
    return any(name == module or name.startswith(module + ".") for module in modules)
