"""See inside a neural network while it trains: weights and activations, live in ParaView.

Two lines in a training script::

    import tensorview
    tensorview.watch(model, optimizer, every=50)

Importing this package loads no third-party module; `watch` does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tensorview.errors import (
    CaptureError,
    ConfigurationError,
    ParaViewError,
    PruningError,
    RunError,
    SnapshotError,
    TensorviewError,
    TransportError,
)
from tensorview.status import SinkStatus, Status

if TYPE_CHECKING:
    from tensorview.analysis.health import Flag
    from tensorview.api import watch
    from tensorview.pruning.plan import Plan
    from tensorview.pruning.policy import PrunePolicy
    from tensorview.watcher import Watcher

__version__ = "0.1.0.dev0"

__all__ = [
    "CaptureError",
    "ConfigurationError",
    "Flag",
    "ParaViewError",
    "Plan",
    "PrunePolicy",
    "PruningError",
    "RunError",
    "SinkStatus",
    "SnapshotError",
    "Status",
    "TensorviewError",
    "TransportError",
    "Watcher",
    "watch",
]

_LAZY = {
    "Flag": "tensorview.analysis.health",
    "Plan": "tensorview.pruning.plan",
    "PrunePolicy": "tensorview.pruning.policy",
    "Watcher": "tensorview.watcher",
    "watch": "tensorview.api",
}


def __getattr__(name: str) -> object:
    """Load what needs torch or numpy when it is first asked for."""
    if name in _LAZY:
        globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
        return globals()[name]
    raise AttributeError(f"module 'tensorview' has no attribute {name!r}")
