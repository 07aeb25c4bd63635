"""What every structure is: a serialised transform of a network, applied at every load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from assay.config import Config

if TYPE_CHECKING:
    import torch


#: structures that map the head's outputs, fitted after it; one takes the place of another
MAPS = frozenset({"temperature", "isotonic"})


class Structure(Config):
    """One transform of the network. Registered as kind `structure`; its fields are all that JSON
    keeps of it, tensors live in the network's `state_dict`.

    Structures are applied in order to a freshly built network; the weights are loaded afterwards,
    so `apply` need only make the right modules, parameters and buffers. `apply` must not depend on
    the values of weights and must work on the meta device.
    """

    @classmethod
    def examples(cls) -> list[Self]:
        """Canonical settings, swept by the composition matrix."""
        return [cls()]

    def apply(self, network: torch.nn.Module) -> torch.nn.Module:
        """Transform in place (or wrap); return the network to use from now on."""
        raise TypeError(f"{type(self).__name__} does nothing")

    def support(self, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Parameter name -> bool tensor of its shape: where the parameter may be non-zero.

        The training loop keeps every other coordinate at zero, whatever moves the parameters.
        """
        return {}
