"""What every architecture is: a serialised recipe for an untrained trunk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Self

from assay.config import Config

if TYPE_CHECKING:
    import torch


_weights_follow: ContextVar[bool] = ContextVar("weights_follow", default=False)


@contextmanager
def weights_follow() -> Iterator[None]:
    """Within it, `build` may skip costly initialisation: weights are loaded over it at once."""
    token = _weights_follow.set(True)
    try:
        yield
    finally:
        _weights_follow.reset(token)


def skips_initialisation() -> bool:
    """Whether `build` runs within `weights_follow`."""
    return _weights_follow.get()


class Architecture(Config):
    """Builds a trunk. Registered as kind `architecture`; its fields are all that JSON keeps of it.

    A user's own network becomes one by a subclass in a file named under `uses`.
    """

    #: what the trunk reads: `text`, `tabular` or `image`
    modality: ClassVar[str] = "tabular"
    #: the field `inputs` is filled in from the data
    inputs_from_data: ClassVar[bool] = False
    #: the trunk has linear layers, on which adapters can go
    linear: ClassVar[bool] = True
    #: the trunk gives states of tokens, which the head pools
    tokens: ClassVar[bool] = False

    def fitted(self, preprocessing: Any) -> Self:
        """The same with what only the preprocessing knows: a number of features, of tokens, the
        size of images.
        """
        found = {"inputs": "width", "vocab_size": "vocabulary"}
        fields = type(self).model_fields
        known = {k: getattr(preprocessing, v, None) for k, v in found.items() if k in fields}
        return self.model_copy(update=known)

    def build(self) -> torch.nn.Module:
        """A freshly initialised trunk (must also work on the meta device)."""
        raise TypeError(f"{type(self).__name__} builds nothing")

    def width(self) -> int:
        """H, the width of the trunk's output."""
        raise TypeError(f"{type(self).__name__} names no width")

    def parameter_count(self) -> int | None:
        """Number of parameters of the trunk, if it can be told without building it."""
        return None

    def block_count(self) -> int | None:
        """Number of repeated blocks, likewise."""
        return None

    def longest(self) -> int | None:
        """Length of the longest input in tokens, where there is a bound."""
        return None
