"""Which of the processes of a distributed training captures, and whether there are others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


def is_first_rank() -> bool:
    """Whether this process is rank 0, the only one that captures; also where there is but one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return os.environ.get("RANK", "0") == "0"


def is_wrapped(model: nn.Module) -> bool:
    """Whether *model* is one of distributed training, also of one process: such keep buffers."""
    parallel = torch.nn.parallel.DistributedDataParallel
    return any(isinstance(module, parallel) for module in model.modules())


def is_only_rank() -> bool:
    """Whether no other process takes part in the training."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size() == 1
    return os.environ.get("WORLD_SIZE", "1") == "1"
