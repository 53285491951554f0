"""Starting, watching, restarting and ending worker processes.

One `WorkerHandle` a sink. Nothing here waits on a worker except `WorkerHandle.close`, and the file
sink's hand-over, within its stated bound.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorview.errors import TransportError
from tensorview.transport import Sender, wait_readable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensorview.encoding import EncodedSnapshot

log = logging.getLogger("tensorview")

BOOTSTRAP = Path(__file__).parent / "worker" / "bootstrap.py"
FILES_QUEUE_BYTES = 256 * 2**20
FILES_SLOTS = 256
"""Small snapshots queue up to this number, which a file worker can write in the `ORPHAN_SECONDS`
that it has after a killed training."""
STALL_SECONDS_PER_MINUTE = 1.0
CRASHES_IN_A_ROW = 5
RESTART_DELAY_SECONDS = 1.0
CLOSE_SECONDS = {"live": 1.5, "files": 3.0}
"""How long each worker may stand still at the end: 5 s in all, with `KILL_SECONDS` for a live
worker that a viewer holds in a message."""
POLL_SECONDS = 0.05
SAY_SO_SECONDS = 2.0
KILL_SECONDS = 0.5

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


def start(command: WorkerCommand, fds: tuple[int, int, int]) -> subprocess.Popen[bytes]:
    """Start a worker that inherits only the descriptors *fds*."""
    environment = worker_environment(os.environ, foreign_python=command.foreign_python)
    environment |= command.environment
    options = {
        **command.options,
        "fds": fds,
        "parent": os.getpid(),
        # The kernel ends the worker with the *thread* that started it, so only the main one counts.
        "die_with_parent": threading.current_thread() is threading.main_thread(),
    }
    output: Any = subprocess.DEVNULL
    if command.log_path is not None:
        output = command.log_path.open("ab")
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
        if command.log_path is not None:
            output.close()


class WorkerHandle:
    """One worker process and what is on its way to it.

    Args:
        name: of the sink, for messages: ``"files"`` or ``"live"``.
        command: how to start the worker.
        latest_wins: True overwrites an unread snapshot (live); False queues (files).

    Raises:
        TransportError: no memory to hand snapshots over in.
        OSError: the worker's interpreter cannot be started.
    """

    def __init__(self, *, name: str, command: WorkerCommand, latest_wins: bool) -> None:
        self.name = name
        self.state = "starting"
        self.dropped = 0
        self.delivered = 0
        self.last_fault = ""
        self._command = command
        self._latest_wins = latest_wins
        slots = 2 if latest_wins else FILES_SLOTS
        # The bound for live is its two slots; for files the queue's bytes.
        max_bytes = sys.maxsize if latest_wins else FILES_QUEUE_BYTES
        self._sender = Sender(slots=slots, max_bytes=max_bytes)
        self._crashes = 0
        self._restart_at = 0.0
        self._stalls: deque[tuple[float, float]] = deque()  # (when, seconds)
        self._causes_logged: set[str] = set()
        self._closed = False
        try:
            self._process = start(command, self._sender.worker_fds)
        except OSError:
            self._sender.close()
            raise
        _open_handles.add(self)

    @property
    def pid(self) -> int:
        """Process id of the worker as last started."""
        return self._process.pid

    def publish(self, encoded: EncodedSnapshot) -> None:
        """Hand a snapshot over, or count it as dropped. Raises nothing."""
        self.poll()
        if self.state == "failed":
            self.dropped += 1
            return
        try:
            if self._latest_wins:
                self.dropped += len(self._sender.take_back())
            sent = self._sender.send(encoded) or (
                not self._latest_wins and self._send_after_stall(encoded)
            )
        except TransportError as error:
            self._lose("memory", str(error))
            return
        if not sent and self._latest_wins:
            self.dropped += 1
        elif not sent:
            self._lose(
                "slow",
                f"The {self.name} worker does not keep up: snapshots are dropped, the first at "
                f"step {encoded.step}. Capture less often with every=, or fewer layers or views.",
            )

    def _send_after_stall(self, encoded: EncodedSnapshot) -> bool:
        """Wait for a free slot as long as this minute's allowance lasts."""
        started = time.monotonic()
        while self._stalls and self._stalls[0][0] < started - 60.0:
            self._stalls.popleft()
        allowance = STALL_SECONDS_PER_MINUTE - sum(seconds for _, seconds in self._stalls)
        if allowance <= 0:
            return False
        sent = False
        while not sent and (left := started + allowance - time.monotonic()) > 0:
            wait_readable(self._sender.ack_fd, left)
            self.poll()
            sent = self._sender.send(encoded)
        self._stalls.append((started, time.monotonic() - started))
        return sent

    def _lose(self, cause: str, text: str) -> None:
        self.dropped += 1
        self._report(cause, text)

    def _report(self, cause: str, text: str) -> None:
        """Log the first fault of each cause; `status()` keeps the last."""
        self.last_fault = text
        if cause not in self._causes_logged:
            self._causes_logged.add(cause)
            log.error("%s", text)

    def poll(self) -> None:
        """Read what the worker said; start it again if it died. Never waits."""
        for message in self._sender.messages():
            if "state" in message:
                self.state = message["state"]
            fault = message.get("fault")
            cause = str(fault).partition(":")[0]
            if "done" in message:
                if fault:
                    self._lose(cause, f"{self.name} sink: {fault}")
                else:
                    self._crashes = 0
                    self.delivered += message["reached"]
            elif fault:
                self._report(cause, f"{self.name} sink: {fault}")
        if self.state == "failed" or self._closed or self._process.poll() is None:
            return
        self._revive()

    def _revive(self) -> None:
        now = time.monotonic()
        if self._restart_at == 0.0:
            self._crashes += 1
            if self._crashes >= CRASHES_IN_A_ROW:
                self._fail()
                return
            self._restart_at = now + RESTART_DELAY_SECONDS
            self.state = "restarting"
        if now < self._restart_at:
            return
        self._restart_at = 0.0
        if self._latest_wins:
            self.dropped += self._sender.in_flight
            self._sender.take_back()
            self._sender.forget_all()
        elif self._crashes > 1 and self._sender.forget_oldest():
            self._lose("crash", f"A capture ended the {self.name} worker twice and is left out.")
        self._sender.resend()
        try:
            self._process = start(self._command, self._sender.worker_fds)
        except OSError as error:
            self._fail(f" It cannot be started again: {error}.")

    def _fail(self, why: str = "") -> None:
        self.state = "failed"
        lost = self._sender.in_flight
        self.dropped += lost
        self._report(
            "crashes",
            f"The {self.name} worker ended {self._crashes} times in a row without delivering "
            f"anything and stays off; {lost} captures are lost.{why} Its last words: "
            f"{self._last_words()}",
        )

    def _last_words(self) -> str:
        path = self._command.log_path
        try:
            lines = path.read_text(errors="replace").splitlines() if path else []
        except OSError:
            lines = []
        return " | ".join(line.strip() for line in lines[-3:]) or "(none)"

    def close(self) -> None:
        """End the worker; a file worker may first write its queue, as long as it moves on.

        Ctrl-C gives up.
        """
        if self._closed:
            return
        self._closed = True
        _open_handles.discard(self)
        try:
            if not self._latest_wins and self._sender.in_flight and self._has_died():
                self._sender.resend()
                with contextlib.suppress(OSError):  # then the loss is reported below
                    self._process = start(self._command, self._sender.worker_fds)
            self._sender.end()
            self._let_hurry()
            self._drain()
        finally:
            self._kill()
            lost = self._sender.in_flight
            if lost and self.state != "failed" and not self._latest_wins:
                self.dropped += lost
                self._report("unwritten", f"The {self.name} worker left {lost} captures unwritten.")
            self.state = "failed" if self.state == "failed" else "closed"
            self._sender.close()

    def _let_hurry(self) -> None:
        """Take back what the worker did to come after the training, which now waits for it."""
        if self._process.poll() is None:  # else its number may be somebody else's by now
            with contextlib.suppress(OSError):  # no autogroups here, or one was changed just now
                Path(f"/proc/{self.pid}/autogroup").write_text("0")

    def _has_died(self) -> bool:
        return self.state != "failed" and self._process.poll() is not None

    def _drain(self) -> None:
        started = moved = time.monotonic()
        progress = self._progress()
        said_so = False
        while self._process.poll() is None and time.monotonic() < moved + CLOSE_SECONDS[self.name]:
            if wait_readable(self._sender.ack_fd, POLL_SECONDS):
                self.poll()
            if not self._latest_wins and progress != (progress := self._progress()):
                moved = time.monotonic()
            if not said_so and moved > started + SAY_SO_SECONDS:
                said_so = True
                log.warning(
                    "Still writing the last %d captures; Ctrl-C gives up.", self._sender.in_flight
                )
        self.poll()

    def _progress(self) -> tuple[int, str]:
        """Something that changes while the worker works: captures delivered, CPU time used."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended, or there is no /proc
            return self.delivered, ""
        return self.delivered, "/".join(fields[11:13])  # utime, stime: proc(5)

    def _kill(self) -> None:
        if self._process.poll() is None:
            # A live worker ends by SIGUSR1, for which it first sends a message that it has begun.
            self._process.send_signal(signal.SIGUSR1 if self._latest_wins else signal.SIGKILL)
        # One that hangs in the kernel, on a dead file server, or in such a message, is left to it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_SECONDS)

    def abandon(self) -> None:
        """In a forked child: drop our copies, so that the worker sees its parent's end."""
        for fd in self._sender.all_fds:
            if fd >= 0:
                os.close(fd)


_open_handles: set[WorkerHandle] = set()


def _abandon_all() -> None:
    for handle in list(_open_handles):
        handle.abandon()
    _open_handles.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where `watch` says so in a sentence
    os.register_at_fork(after_in_child=_abandon_all)
