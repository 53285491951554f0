"""Starting worker processes: which interpreter, in what environment, with which descriptors."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorview.whole_files import open_to_append

if TYPE_CHECKING:
    from collections.abc import Mapping

BOOTSTRAP = Path(__file__).parent / "worker" / "bootstrap.py"
LAST_BYTES = 8192
"""Of a worker's log: enough for a few lines, and soon read."""

# A worker has one thread: two would take cores from the training.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VTK_SMP_BACKEND_IN_USE": "Sequential",
    "VTK_SMP_MAX_THREADS": "1",
    # Keep freed memory for the next frame: to get its pages anew each time is a third of the work
    # of a client that receives large frames. (glibc takes no higher threshold than this.)
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
    "PYTHONDONTWRITEBYTECODE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


@dataclass(frozen=True, kw_only=True)
class WorkerCommand:
    """How to start one kind of worker.

    Attributes:
        python: the interpreter, and arguments of its own.
        options: for ``tensorview.worker.main``: ``sink`` and what that sink needs.
        environment: added to the worker's environment.
        log_path: where its standard output and error go; None for nowhere.
        foreign_python: the interpreter is not ours, so no ``PYTHON*`` variable reaches it.
        inherited: descriptors that it holds open as long as it runs.
    """

    python: tuple[str, ...]
    options: dict[str, Any]
    environment: dict[str, str]
    log_path: Path | None
    foreign_python: bool
    inherited: tuple[int, ...] = ()


def worker_environment(environment: Mapping[str, str], *, foreign_python: bool) -> dict[str, str]:
    """Return *environment* without what would change or slow a worker.

    Args:
        environment: of this process.
        foreign_python: the worker runs under another Python, so no ``PYTHON*`` may reach it.
    """
    kept = {
        key: value
        for key, value in environment.items()
        if key not in ("VIRTUAL_ENV", "LD_PRELOAD")
        and not (foreign_python and key.startswith("PYTHON"))
    }
    return kept | WORKER_ENVIRONMENT


def hold_standard_streams() -> None:
    """Open those of standard input, output and error that a training has closed, to nowhere.

    Else what is opened next gets their numbers: a slot of shared memory, to which is then printed.
    They stay open: a mapping that others still use has a number, too.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def start(command: WorkerCommand, fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Start a worker that inherits only the descriptors *fds*."""
    environment = worker_environment(os.environ, foreign_python=command.foreign_python)
    environment |= command.environment
    options = {
        **command.options,
        "fds": fds,
        "parent": os.getpid(),
    }
    output = _open_log(command.log_path)
    try:
        return subprocess.Popen(
            [*command.python, str(BOOTSTRAP), "worker.main", json.dumps(options)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(*fds, *command.inherited),
            start_new_session=True,  # Ctrl-C is for the training
        )
    finally:
        os.close(output)


def _open_log(log_path: Path | None) -> int:
    """Return the descriptor that a worker writes its log to; to nowhere, where that cannot be."""
    if log_path is not None:
        # In a run of somebody else it may be a link, or a pipe that nobody reads.
        with contextlib.suppress(OSError):
            return open_to_append(log_path)
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def last_words(log_path: Path | None) -> str:
    """Return the last lines of a worker's log, of its last 8 KiB at most, on one line."""
    text = b""
    if log_path is not None:
        # Who can put a pipe or a link in its place shall not hold or tell the training anything.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(OSError), open(os.open(log_path, flags), "rb") as log:  # noqa: PTH123  # of a descriptor
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_BYTES))
            text = log.read(LAST_BYTES)
    lines = text.decode(errors="replace").splitlines()
    return " | ".join(line.strip() for line in lines[-3:]) or "(none)"
