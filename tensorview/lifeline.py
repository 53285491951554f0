"""What ends a live worker with its training, though a viewer may hold it inside C++ for ever.

A pipe into which nobody writes. When the last who could has ended, the kernel sends the worker a
signal: of the process, however it ended and whichever of its threads started the worker.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal

with contextlib.suppress(ImportError):  # on Windows, where `watch` says so in a sentence
    import fcntl


class Lifeline:
    """The training's side: as long as it is open, the worker may live.

    Attributes:
        worker_fd: for workers to inherit.
    """

    def __init__(self) -> None:
        self.worker_fd, self._end = os.pipe()

    def close(self) -> None:
        """End who hangs on it."""
        os.close(self._end)
        os.close(self.worker_fd)


def hang_on(fd: int) -> None:
    """Let `SIGUSR1` end this process when nobody holds the other end of *fd* any more."""
    # The training may have it ignored or blocked, which a worker inherits.
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGUSR1)
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([fd], [], [], 0)[0]:  # it had ended before
        os.kill(os.getpid(), signal.SIGUSR1)
