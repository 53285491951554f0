"""A stand-in for a model that may be collected any time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def stand_in_for(model: nn.Module) -> nn.Module:
    """Return what shares all that *model* has without being it, or keeping it alive.

    With it the last step can be captured when the model itself has just been collected.
    """
    kind = type(model)
    if hasattr(kind, "__del__"):  # which is the model's own affair
        kind = type(kind.__name__, (kind,), {"__del__": lambda _: None})
    stand_in: nn.Module = object.__new__(kind)
    object.__setattr__(stand_in, "__dict__", model.__dict__)
    return stand_in
