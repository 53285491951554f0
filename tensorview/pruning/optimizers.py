"""Finding the optimizers that hold a model's parameters."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from torch.optim import Optimizer

if TYPE_CHECKING:
    from torch import nn


def optimizers_of(model: nn.Module) -> list[Optimizer]:
    """Return every `torch.optim.Optimizer` alive that updates a parameter of *model*.

    They are looked for, rather than asked for: one that was forgotten would go on with state of the
    old shape, and fail in the midst of the training.
    """
    parameters = {id(parameter) for parameter in model.parameters()}
    return [
        found
        for found in gc.get_objects()
        # By its type: some objects compute their ``__class__``.
        if issubclass(type(found), Optimizer)
        and any(
            id(parameter) in parameters
            for group in getattr(found, "param_groups", ())
            for parameter in group["params"]
        )
    ]
