"""One writer a run directory: a training and the file worker that writes for it hold its lock.

The kernel gives the lock back when the last process that holds it has ended, however it ended.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
import time
from typing import TYPE_CHECKING

from tensorview.errors import BusyRunError, RunError, UnwritableRunError
from tensorview.processes import signs_of
from tensorview.transport import ORPHAN_SECONDS

with contextlib.suppress(ImportError):  # on Windows, where `watch` says so in a sentence
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("tensorview")

LOCK_FILE = "lock"
MAX_OWNER_BYTES = 512
WAIT_SECONDS = ORPHAN_SECONDS + 20.0
"""A file worker may begin a capture just before its time is up, and has lists to write."""
POLL_SECONDS = 0.05

_OURS = re.compile(rb"\0*|[0-9]+ \S+\n")
"""After a power failure a file may hold zeros in place of what was written."""
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


class RunLock:
    """Holds a run directory, by ``flock`` on the file ``lock`` in it, until `close`.

    Processes forked from this one drop their share of it; those that are given the descriptor keep
    theirs.

    Attributes:
        fd: of the file, to be handed to the file worker; -1 once closed.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock of the run directory *path*.

        Waits up to `WAIT_SECONDS` for the file worker of a training that has ended.

        Raises:
            BusyRunError: somebody holds it, who is named.
            RunError: the file ``lock`` is somebody else's.
            UnwritableRunError: the file cannot be opened or written.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.ExitStack() as undo:
            try:
                self.fd = os.open(path / LOCK_FILE, flags, 0o600)
                undo.callback(os.close, self.fd)
                self._take(path)
                self._refuse_what_is_not_ours(path)
                os.ftruncate(self.fd, 0)
                os.pwrite(self.fd, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
            except OSError as error:
                raise UnwritableRunError(
                    f"Cannot write in run '{path}': {LOCK_FILE}: {error.strerror}. "
                    f"Make it writable."
                ) from None
            undo.pop_all()
        _held.add(self)

    def _take(self, path: Path) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        said = False
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid, host = self._owner()
                if time.monotonic() >= deadline or not _has_ended(pid, host):
                    raise BusyRunError(
                        f"Cannot write in run '{path}': process {pid} on {host} writes in it. "
                        f"Wait until it has ended, or give another run_dir."
                    ) from None
                if not said:
                    said = True
                    log.info("Process %s, which wrote in '%s', is finishing its files.", pid, path)
                time.sleep(POLL_SECONDS)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                log.warning(
                    "The file system of '%s' has no locks: do not start a second training in it.",
                    path,
                )
                return
            else:
                return

    def _refuse_what_is_not_ours(self, path: Path) -> None:
        text = os.pread(self.fd, MAX_OWNER_BYTES, 0)
        if not _OURS.fullmatch(text):
            raise RunError(
                f"Cannot write in run '{path}': its file {LOCK_FILE} is not one of tensorview. "
                f"Move it away."
            )

    def _owner(self) -> tuple[str, str]:
        """Who wrote itself into the file: process id and host."""
        text = os.pread(self.fd, MAX_OWNER_BYTES, 0).decode(errors="replace")
        pid, _, host = text.strip().partition(" ")
        return (pid, host) if pid.isdecimal() and host.isprintable() else ("unknown", "this host")

    def close(self) -> None:
        """Give our share of the lock back."""
        _held.discard(self)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _has_ended(pid: str, host: str) -> bool:
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    # One that nobody has waited for, as in a container without an init, keeps its number.
    signs = signs_of(int(pid))
    return signs is not None and signs.state in "ZX"


_held: set[RunLock] = set()


def _drop_all() -> None:
    for lock in list(_held):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_all)
