"""Starting, watching, restarting and ending worker processes.

One `WorkerHandle` a sink. Nothing here waits on a worker except `WorkerHandle.close`, and the file
sink's hand-over, within its stated bound.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from tensorview.errors import TransportError
from tensorview.launch import last_words, start
from tensorview.lifeline import Lifeline
from tensorview.processes import Progress
from tensorview.pulse import DIALLING, Pulse
from tensorview.restarts import LAST_CALL_SECONDS, Restarts
from tensorview.transport import Sender, wait_readable

if TYPE_CHECKING:
    from tensorview.encoding import EncodedSnapshot
    from tensorview.launch import WorkerCommand

log = logging.getLogger("tensorview")

FILES_QUEUE_BYTES = 256 * 2**20
FILES_SLOTS = 256
"""Small snapshots queue up to this number, which a file worker can write in the `ORPHAN_SECONDS`
that it has after a killed training."""
STALL_SECONDS_PER_MINUTE = 1.0
HANDSHAKE_SECONDS, LONGEST_HANDSHAKE_SECONDS = 10.0, 60.0
"""Who takes a call answers it within this time, or the live worker is ended and calls again; with
twice the patience each time, for a viewer may share a busy machine."""
STALLED_SECONDS = {"live": 2.0, "files": 10.0}
"""A worker that is at one thing for longer is said to be stalled, and left alone."""
CLOSE_SECONDS = {"live": 1.5, "files": 3.0}
"""How long each worker may stand still at the end: 5 s in all, with `KILL_SECONDS` for a live
worker that a viewer holds in a message."""
POLL_SECONDS = 0.05
SAY_SO_SECONDS = 2.0
KILL_SECONDS = 0.5


class WorkerHandle:
    """One worker process and what is on its way to it.

    Args:
        name: of the sink, for messages: ``"files"`` or ``"live"``.
        command: how to start the worker.
        latest_wins: True overwrites an unread snapshot (live); False queues (files).

    Attributes:
        delivered: snapshots whose frames got to somebody.
        dropped: snapshots whose frames did not, or never will.
        last_fault: the last thing that went wrong, "" for nothing.

    Raises:
        TransportError: no memory to hand snapshots over in.
        OSError: the worker's interpreter cannot be started.
    """

    def __init__(self, *, name: str, command: WorkerCommand, latest_wins: bool) -> None:
        self.name = name
        self.dropped = 0
        self.delivered = 0
        self.last_fault = ""
        self._command = command
        self._latest_wins = latest_wins
        slots = 2 if latest_wins else FILES_SLOTS
        # The bound for live is its two slots; for files the queue's bytes.
        max_bytes = sys.maxsize if latest_wins else FILES_QUEUE_BYTES
        self._sender = Sender(slots=slots, max_bytes=max_bytes)
        self._restarts = Restarts()
        self._said = ""
        self._suspect: bytes | None = None  # what a file worker was at when it ended
        self._refusal = ""  # why it could not be started again
        self._end = ""  # "failed" or "closed"
        self._progress: Progress | None = None  # from when it was asked to end
        self._ended_call = False  # a call that nobody answered, by killing the worker
        self._stalls: deque[tuple[float, float]] = deque()  # (when, seconds)
        self._causes_logged: set[str] = set()
        with contextlib.ExitStack() as undo:
            undo.callback(self._sender.close)
            self._pulse = Pulse()
            undo.callback(self._pulse.close)
            self._lifeline = Lifeline()
            undo.callback(self._lifeline.close)
            self._process = start(command, self._worker_fds)
            undo.pop_all()
        _open_handles.add(self)

    @property
    def _worker_fds(self) -> tuple[int, ...]:
        return *self._sender.worker_fds, self._pulse.fd, self._lifeline.worker_fd

    @property
    def state(self) -> str:
        """How the worker does, in one word.

        Live: ``"waiting"`` for a viewer, ``"connected"``, ``"stalled"`` by one that takes nothing,
        ``"unreachable"`` where somebody holds the port who does not answer. Files: ``"ready"``,
        ``"stalled"``, ``"starting"``. Of both: ``"failed"`` for good, ``"closed"``.
        """
        if self._end:
            return self._end
        if self._restarts.unanswered:
            return "unreachable"
        serves = self._said == "connected" if self._latest_wins else bool(self._said)
        if serves and self._pulse.held_seconds > STALLED_SECONDS[self.name]:
            return "stalled"
        return self._said or ("waiting" if self._latest_wins else "starting")

    @property
    def pid(self) -> int:
        """Process id of the worker as last started."""
        return self._process.pid

    def publish(self, encoded: EncodedSnapshot) -> None:
        """Hand a snapshot over, or count it as dropped. Raises nothing."""
        self.poll()
        if self._end:
            self.dropped += 1
            return
        if self._progress is not None:
            self._lose("ended", f"Captures from step {encoded.step} on come too late: we close.")
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

    def _report(self, cause: str, text: str, *, level: int = logging.ERROR) -> None:
        """Log the first fault of each cause; `status()` keeps the last."""
        self.last_fault = text
        if cause not in self._causes_logged:
            self._causes_logged.add(cause)
            log.log(level, "%s", text)

    def poll(self) -> None:
        """Read what the worker said; start it again if it died. Never waits."""
        has_ended = self._process.poll() is not None  # if so, all that it said is there
        self._listen()
        if self._end or self._progress is not None:
            return
        if has_ended:
            self._revive()
        elif self._pulse.activity == DIALLING and self._pulse.held_seconds > self._patience:
            self._ended_call = True
            self._process.kill()
        if self.state == "unreachable":
            host, port = (self._command.options[name] for name in ("host", "port"))
            self._report(
                "unreachable",
                f"Whoever listens on port {port} of {host} does not answer as a ParaView client "
                f"does. The live worker calls again, every {LAST_CALL_SECONDS:.0f} s at least; "
                f"`tensorview doctor` says who it is.",
                level=logging.WARNING,
            )

    def _listen(self) -> None:
        for message in self._sender.messages():
            if "state" in message:
                self._said = message["state"]
            fault, cause = message.get("fault"), message.get("cause", "")
            if "done" in message:
                self._restarts.answered()
                if fault:
                    self._lose(cause, f"{self.name} sink: {fault}")
                elif message.get("reached"):
                    self._restarts.delivered()
                    self.delivered += 1
            elif fault:
                self._report(cause, f"{self.name} sink: {fault}")

    @property
    def _patience(self) -> float:
        return float(
            min(HANDSHAKE_SECONDS * 2**self._restarts.unanswered, LONGEST_HANDSHAKE_SECONDS)
        )

    def _revive(self) -> None:
        """Start the worker again, once that is due; what it had not acknowledged is offered anew.

        A snapshot that may have ended it is not: of live ones all, of files the one it was at when
        it ended before, too.
        """
        # One that dies of a call by itself has crashed; that it is killed is usually our doing.
        # Where SIGCHLD is ignored, or others wait for all children, its status is not known.
        unanswered = self._pulse.activity == DIALLING and (
            self._ended_call or self._process.returncode == -signal.SIGKILL
        )
        self._restarts.take_note(dialling=unanswered)
        if self._restarts.given_up:
            self._fail()
            return
        if not self._restarts.is_due():
            return
        if not self._latest_wins:
            self._leave_out_what_ends_it()
        elif not unanswered:
            self.dropped += self._sender.in_flight
            self._sender.take_back()
            self._sender.forget_all()
        self._said = ""
        self._start_again()

    def _leave_out_what_ends_it(self) -> None:
        begun = self._sender.begun()
        if begun is not None and begun == self._suspect:
            self._sender.forget(begun)
            self._lose("crash", f"A capture ended the {self.name} worker twice and is left out.")
        self._suspect = begun or self._suspect

    def _start_again(self) -> None:
        self._sender.resend()
        self._pulse.reset()
        self._ended_call = False
        try:
            self._process = start(self._command, self._worker_fds)
            self._refusal = ""
        except OSError as error:  # such as no descriptor or process left just now
            self._refusal = f" It cannot be started again: {error}."
            self._restarts.take_note(dialling=False)

    def _fail(self) -> None:
        self._end = "failed"
        lost = self._sender.in_flight
        self.dropped += lost
        self._report(
            "crashes",
            f"The {self.name} worker ended {self._restarts.crashes} times in a row without "
            f"delivering anything and stays off; {lost} captures are lost.{self._refusal} Its last "
            f"words: {last_words(self._command.log_path)}",
        )

    def end(self) -> None:
        """Ask the worker to end once it has served its queue. Never waits."""
        if self._progress is not None:
            return
        if not self._latest_wins and self._has_died():
            self._listen()
            if self._sender.in_flight:
                self._start_again()
        self._progress = Progress(self.pid, left=self._sender.in_flight)
        self._sender.end()
        self._let_hurry()

    def close(self) -> None:
        """End the worker; a file worker may first write its queue, as long as it moves on.

        Ctrl-C gives up.
        """
        if self not in _open_handles:
            return
        _open_handles.discard(self)
        try:
            self.end()
            self._drain()
        finally:
            self._kill()
            lost = self._sender.in_flight
            if lost and not self._end and not self._latest_wins:
                self.dropped += lost
                text = f"The {self.name} worker left {lost} captures unwritten.{self._refusal}"
                self._report("unwritten", text)
            self._end = self._end or "closed"
            self.abandon()

    def _let_hurry(self) -> None:
        """Take back what the worker did to come after the training, which now waits for it."""
        if self._process.poll() is None:  # else its number may be somebody else's by now
            with contextlib.suppress(OSError):  # no autogroups here, or one was changed just now
                Path(f"/proc/{self.pid}/autogroup").write_text("0")

    def _has_died(self) -> bool:
        return not self._end and self._process.poll() is not None

    def _drain(self) -> None:
        progress = self._progress
        started = time.monotonic()
        said_so = False
        while progress is not None and self._process.poll() is None:
            self._listen()
            _look_at_others()
            if not self._latest_wins:
                progress.look(left=self._sender.in_flight)
            if time.monotonic() >= progress.moved + CLOSE_SECONDS[self.name]:
                break
            if not said_so and progress.moved > started + SAY_SO_SECONDS:
                said_so = True
                left = self._sender.in_flight
                what = f"the last {left} captures" if left else "lists of files"
                log.warning("Still writing %s; Ctrl-C gives up.", what)
            wait_readable(self._sender.ack_fd, POLL_SECONDS)
        self._listen()

    def _kill(self) -> None:
        if self._process.poll() is None:
            # A live worker ends by SIGUSR1, for which it first sends a message that it has begun.
            self._process.send_signal(signal.SIGUSR1 if self._latest_wins else signal.SIGKILL)
            self._process.send_signal(signal.SIGCONT)  # one that is stopped hears only SIGKILL
        # One that hangs in the kernel, on a dead file server, or in such a message, is left to it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_SECONDS)

    def abandon(self) -> None:
        """Drop our copies, in a forked child, too: so that the worker sees its parent's end.

        Mappings too: each holds a descriptor of its own, and memory for as long as the child is.
        """
        self._sender.close()
        self._pulse.close()
        self._lifeline.close()


_open_handles: set[WorkerHandle] = set()


def _look_at_others() -> None:
    """See which of the workers that were asked to end, and wait for their turn, get on."""
    for handle in list(_open_handles):
        if handle._progress is not None and not handle._latest_wins:  # noqa: SLF001  # of this class
            handle._progress.look()  # noqa: SLF001


def _abandon_all() -> None:
    for handle in list(_open_handles):
        handle.abandon()
    _open_handles.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where `watch` says so in a sentence
    os.register_at_fork(after_in_child=_abandon_all)
