"""A worker's sign of life: what it is at and since when, in memory that the training reads at will.

Nothing is handed over here, so that a value that is just being written does no harm.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import threading
import time
from typing import TYPE_CHECKING

from tensorview.slots import open_unlinked

if TYPE_CHECKING:
    from collections.abc import Iterator

BEAT_SECONDS = 0.5

IDLE, BUSY, DIALLING = range(3)
"""Waiting for work; at work; calling a viewer that has not answered yet."""

_BEAT = struct.Struct("<d")
_ACTIVITY = struct.Struct("<dQ")
_ACTIVITY_OFFSET = 64  # apart from the beat, which another thread writes


class Pulse:
    """One page of memory that a worker writes and the training reads.

    Args:
        fd: of the page, in a worker; None makes one.

    Raises:
        TransportError: there is no memory for it.
    """

    def __init__(self, fd: int | None = None) -> None:
        self.fd = open_unlinked(mmap.PAGESIZE) if fd is None else fd
        try:
            self._page = mmap.mmap(self.fd, mmap.PAGESIZE)
        except OSError:
            os.close(self.fd)
            raise

    def reset(self) -> None:
        """Begin anew, for a worker that is to be started."""
        self._page[:] = bytes(mmap.PAGESIZE)

    def beat(self) -> None:
        """Say that the worker lives. Times are of the machine's monotonic clock, in seconds."""
        _BEAT.pack_into(self._page, 0, time.monotonic())

    def begin(self, activity: int) -> None:
        """Say what the worker is at from now on."""
        _ACTIVITY.pack_into(self._page, _ACTIVITY_OFFSET, time.monotonic(), activity)

    @property
    def activity(self) -> int:
        """What the worker is at."""
        return int(_ACTIVITY.unpack_from(self._page, _ACTIVITY_OFFSET)[1])

    @property
    def held_seconds(self) -> float:
        """For how long the worker has been at one thing, or has given no sign; 0 before it began.

        A thread of a worker that waits inside VTK gives none: VTK keeps Python's lock.
        """
        (beat,) = _BEAT.unpack_from(self._page, 0)
        since, activity = _ACTIVITY.unpack_from(self._page, _ACTIVITY_OFFSET)
        if not beat:
            return 0.0
        now = time.monotonic()
        if activity == DIALLING:  # what was computed before may have kept the lock for long
            return float(now - since)
        return float(now - min(beat, since)) if activity != IDLE else float(now - beat)

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Beat from a thread of its own."""
        ended = threading.Event()

        def beat() -> None:
            self.beat()
            while not ended.wait(BEAT_SECONDS):
                self.beat()

        thread = threading.Thread(target=beat, name="pulse", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def close(self) -> None:
        """Give the page back."""
        self._page.close()
        os.close(self.fd)
