"""What the kernel tells of a process, in ``/proc``; see proc(5)."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import NamedTuple

from tensorview.transport import ORPHAN_SECONDS

COMPUTING_SECONDS = 30.0
"""No capture takes so long to be made that nothing is written meanwhile."""


class Signs(NamedTuple):
    """Signs of life of a process.

    Attributes:
        state: one letter: ``"D"`` waits for a device, ``"Z"`` and ``"X"`` have ended.
        cpu: time used, in clock ticks.
        written: bytes, to whatever.
    """

    state: str
    cpu: int
    written: int


def signs_of(pid: int) -> Signs | None:
    """Return what is known of a process; None where there is none, or no ``/proc``."""
    folder = Path(f"/proc/{pid}")
    try:
        # Its name, in parentheses, may be any bytes.
        fields = (folder / "stat").read_bytes().rpartition(b")")[2].decode().split()
    except OSError:
        return None
    written = 0
    with contextlib.suppress(OSError):  # another user's
        told = dict(line.split(": ") for line in (folder / "io").read_text().splitlines())
        written = int(told["wchar"])
    return Signs(state=fields[0], cpu=int(fields[11]) + int(fields[12]), written=written)


class Progress:
    """Judges whether a worker that is to end gets on with what it has left.

    It does while it delivers or writes; for a bounded time also while it only computes, or waits
    for a device in one call.

    Args:
        pid: of the worker.
        left: captures that it has not answered.

    Attributes:
        moved: when it last got on, by the monotonic clock.
    """

    def __init__(self, pid: int, *, left: int) -> None:
        self._pid = pid
        self._wrote = self.moved = time.monotonic()
        self._left = left
        self._signs = signs_of(pid)

    def look(self, *, left: int | None = None) -> None:
        """Look at it, with as many captures *left* now; None where that is not known."""
        now = time.monotonic()
        former, signs = self._signs, signs_of(self._pid)
        quiet = now - self._wrote
        left = self._left if left is None else left
        if left != self._left or _differ(former, signs, "written"):
            self._wrote = self.moved = now
        elif (_differ(former, signs, "cpu") and quiet < COMPUTING_SECONDS) or (
            signs is not None and signs.state == "D" and quiet < ORPHAN_SECONDS
        ):
            self.moved = now
        self._left, self._signs = left, signs


def _differ(former: Signs | None, signs: Signs | None, name: str) -> bool:
    return getattr(former, name, None) != getattr(signs, name, None)
