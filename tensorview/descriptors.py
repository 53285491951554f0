"""Descriptors of ours are none of standard input, output and error, where a training closed these.

Else what it prints would go to a worker, and a worker's own output would take their place.
"""

from __future__ import annotations

import contextlib
import os

with contextlib.suppress(ImportError):  # on Windows, where `watch` says so in a sentence
    import fcntl

FIRST = 3


def above_standard(fd: int) -> int:
    """Return *fd*, or in its place a copy with a higher number.

    Raises:
        OSError: no descriptor is left; *fd* is closed.
    """
    if fd >= FIRST:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST)
    finally:
        os.close(fd)


def pipe() -> tuple[int, int]:
    """Make a pipe; return its ends for reading and for writing.

    Raises:
        OSError: no descriptor is left.
    """
    read, write = os.pipe()
    return above_standard(read), above_standard(write)
