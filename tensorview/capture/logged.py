"""Scalars that the user logs: kept as they are given, read only at a capture."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from tensorview.capture.transfer import HostMemory, Transfer

log = logging.getLogger("tensorview")

RESERVED = "step"


class LoggedScalars:
    """What was logged since the last capture; of one name, the last value."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._refused: set[str] = set()
        self._pool = HostMemory()

    def add(self, name: str, value: Any) -> None:
        """Keep *value*, a number or a tensor of one element; anything else is named once."""
        why = "is a name of ours" if name == RESERVED else ""
        if isinstance(value, Tensor):
            why = why or _why_not(value)
            value = value.detach()
        else:
            try:
                value = float(value)
            except Exception:  # noqa: BLE001  # of whatever it is
                why = why or f"is {type(value).__name__}, not a number"
        if not why:
            self._values[name] = value
        elif name not in self._refused:
            self._refused.add(name)
            log.warning("log(%s=...) is left out: it %s.", name, why)

    def begin(self) -> PendingScalars:
        """Send all tensors to the host without waiting, and start anew."""
        values, self._values = self._values, {}
        return PendingScalars(values, pool=self._pool)


def _why_not(value: Tensor) -> str:
    """Say why a tensor cannot be logged, "" where it can."""
    is_odd = value.is_quantized or value.is_meta or value.is_nested
    if is_odd or value.layout is not torch.strided:
        return "is a tensor that holds no plain numbers"
    if value.numel() != 1 or value.is_complex():
        return f"has shape {tuple(value.shape)}, not one real element"
    return ""


class PendingScalars:
    """Logged values on their way from the device."""

    def __init__(self, values: dict[str, Any], *, pool: HostMemory) -> None:
        self._values = values
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        self._names = list(tensors)
        with torch.no_grad():
            doubles = [value.reshape(1).double() for value in tensors.values()]
        self._transfer = Transfer(doubles, pool=pool)

    def ready(self) -> bool:
        """Whether `finish` returns at once."""
        return self._transfer.ready()

    def finish(self) -> dict[str, float]:
        """Return the numbers."""
        arrived = dict(zip(self._names, self._transfer.finish(), strict=True))
        return {
            name: float(arrived[name][0]) if name in arrived else value
            for name, value in self._values.items()
        }
