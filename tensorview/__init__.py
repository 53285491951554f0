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
    RunError,
    SnapshotError,
    TensorviewError,
    TransportError,
)
from tensorview.status import SinkStatus, Status

if TYPE_CHECKING:
    from tensorview.watcher import Watcher, watch

__version__ = "0.1.0.dev0"

__all__ = [
    "CaptureError",
    "ConfigurationError",
    "ParaViewError",
    "RunError",
    "SinkStatus",
    "SnapshotError",
    "Status",
    "TensorviewError",
    "TransportError",
    "Watcher",
    "watch",
]

_FROM_WATCH = ("Watcher", "watch")


def __getattr__(name: str) -> object:
    """Load `watch`, and torch with it, when it is first asked for."""
    if name in _FROM_WATCH:
        module = importlib.import_module("tensorview.watcher")
        globals().update({item: getattr(module, item) for item in _FROM_WATCH})
        return globals()[name]
    raise AttributeError(f"module 'tensorview' has no attribute {name!r}")
