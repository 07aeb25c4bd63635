"""assay: adapt a pretrained model and keep every claim about it checkable.

>>> import assay
>>> assay.Recipe.__name__, callable(assay.load_model)
('Recipe', True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.models.load import load_model
    from assay.recipe.schema import Recipe

__version__ = "0.2.0"

__all__ = ["Recipe", "__version__", "load_model"]

#: public name -> the module it is imported from on first use (`import assay` stays light)
_LAZY = {"Recipe": "assay.recipe.schema", "load_model": "assay.models.load"}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, those not yet imported too."""
    return sorted(__all__)
