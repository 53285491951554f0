"""The loop of a worker process: receive a snapshot, make its frame, write it to the sink."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorview.errors import SnapshotError, TensorviewError
from tensorview.lifeline import hang_on
from tensorview.pulse import BUSY, IDLE, Pulse
from tensorview.transport import ORPHAN_SECONDS, Receiver

if TYPE_CHECKING:
    from tensorview.snapshot import Snapshot
    from tensorview.worker.sinks import Sink

NICENESS = 10
"""Of every worker. Beside a training that takes all cores, a live one at 5 would send half as many
frames again, out of the training's time."""
FRAME_SECONDS = 0.1
"""From one live frame to the next at least: nobody sees more, and each takes from the cores of
training and viewer. What comes meanwhile is overwritten by what comes after it."""
AUTOGROUP = Path("/proc/self/autogroup")
AUTOGROUP_TRIES, AUTOGROUP_SECONDS = 20, 0.11
"""The kernel takes one such change in a tenth of a second, of all who are not root."""
IDLE_SECONDS = 0.5
MAX_LOGGED = 100
"""Faults that a worker's log tells of, for each capture's may have a text of its own."""
MAX_FAULT_CHARACTERS = 1000
MAX_FAULT_BYTES = 3072
"""As JSON: what a pipe takes in one piece, 4096 bytes on Linux, less the rest of a message."""


def main(options: dict[str, Any]) -> int:
    """Run one worker until the training process says, or is, at an end."""
    token_fd, ack_fd, slot_fd, pulse_fd, lifeline_fd = options["fds"]
    if options["sink"] == "live":
        hang_on(lifeline_fd)
    else:
        _ignore_what_ends_jobs()
    pulse = Pulse(pulse_fd)
    worker = Worker(
        receiver=Receiver(token_fd=token_fd, ack_fd=ack_fd, slot_fd=slot_fd),
        parent=options["parent"],
        outlives_parent=options["sink"] == "files",
        pulse=pulse,
    )
    try:
        sink = open_sink(options, pulse=pulse)
    except (ImportError, OSError, TensorviewError) as error:
        log_error(error)
        worker.say(**told(error))
        return 1
    # Not before: beside a training that takes all cores it would need a minute to start.
    step_back(NICENESS)
    try:
        with contextlib.closing(sink), pulse.beating():
            worker.run(sink)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the last thing we can say
        log_error(error)
        worker.say(**told(error))
        return 1
    return 0


def _ignore_what_ends_jobs() -> None:
    """Write what was handed over, though the end of a job may be told to each of its processes."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def step_back(niceness: int) -> None:
    """Let the training come first, whenever both could run.

    Under Linux's autogroups, which is usual, niceness counts only within a session, and each worker
    has its own: there the session's own niceness is what counts (sched(7)).
    """
    os.nice(niceness)
    set_session_niceness(niceness)


def set_session_niceness(niceness: int) -> None:
    """Set that of this process's session, where there are autogroups; to 0 whoever may."""
    for _ in range(AUTOGROUP_TRIES):
        try:
            AUTOGROUP.write_text(str(niceness))
        except BlockingIOError:  # somebody else has changed one just now
            time.sleep(AUTOGROUP_SECONDS)
        except OSError:  # no autogroups here
            return
        else:
            return


def open_sink(options: dict[str, Any], *, pulse: Pulse) -> Sink:
    """Make the sink that the options name; each imports what only it needs."""
    if options["sink"] == "files":
        from tensorview.worker.sinks.files import FileSink  # noqa: PLC0415

        return FileSink(options["run_dir"], formats=tuple(options["formats"]), keep=options["keep"])
    from tensorview.worker.sinks.live import LiveSink  # noqa: PLC0415

    return LiveSink(
        host=options["host"],
        port=options["port"],
        script=options["script"],
        run_dir=options.get("run_dir", ""),
        run_id=options.get("run_id", ""),
        frame_seconds=FRAME_SECONDS,
        pulse=pulse,
    )


class Worker:
    """Receives snapshots and answers each one.

    Args:
        receiver: our end of the slots.
        parent: process id of the training process.
        outlives_parent: go on for up to `ORPHAN_SECONDS` to write what was handed over.
        pulse: where we say what we are at.
    """

    def __init__(
        self, *, receiver: Receiver, parent: int, outlives_parent: bool, pulse: Pulse
    ) -> None:
        self._receiver = receiver
        self._pulse = pulse
        self._parent = parent
        self._deadline = None if outlives_parent else 0.0
        self._said_state = ""

    def run(self, sink: Sink) -> None:
        """Serve until nothing more comes, or the parent has been gone for too long."""
        while not self._orphaned_too_long():
            self._say_state(sink.state)
            self._pulse.begin(IDLE)
            try:
                received = self._receiver.receive(IDLE_SECONDS)
            except EOFError:
                return
            self._pulse.begin(BUSY)
            if received is None:
                sink.idle()
            else:
                slot, snapshot = received
                self.say(done=slot, **self._deliver(snapshot, sink))
        if self._deadline and (left := self._receiver.unread()):
            print(
                f"The training has been gone for {ORPHAN_SECONDS:.0f} s: {left} captures that it "
                f"had handed over are not written.",
                file=sys.stderr,
            )

    def _deliver(self, snapshot: Snapshot | SnapshotError, sink: Sink) -> dict[str, Any]:
        """Write one snapshot; return ``reached``, and what is `told` of what went wrong."""
        from tensorview.worker.views import make_frame  # noqa: PLC0415  # after the sink's own VTK

        if isinstance(snapshot, SnapshotError):
            return {"reached": False, **told(snapshot)}
        try:
            return {"reached": sink.write(make_frame(snapshot))}
        except Exception as error:  # noqa: BLE001  # one bad frame must not end the sink
            log_error(error)
            return {"reached": False, **told(error)}

    def _orphaned_too_long(self) -> bool:
        if os.getppid() == self._parent:
            return False
        if self._deadline is None:
            self._deadline = time.monotonic() + ORPHAN_SECONDS
            set_session_niceness(0)  # there is no training any more to step back for
        return time.monotonic() >= self._deadline

    def _say_state(self, state: str) -> None:
        if state != self._said_state:
            self._said_state = state
            self.say(state=state)

    def say(self, *, fault: str = "", **message: Any) -> None:
        """Tell the training process, if there still is one.

        Args:
            fault: what went wrong; cut, so that the message goes out in one piece.
            message: ``cause`` of the fault; ``done``, the slot that is free again; ``reached``,
                whether its frame got to somebody; ``state``, of the sink.
        """
        with contextlib.suppress(BrokenPipeError):
            self._receiver.say(fault=cut(fault), **message)


def told(error: Exception) -> dict[str, str]:
    """Return ``fault``, a sentence, and ``cause``: of several with the same, one is logged."""
    cause = error.__cause__ or error
    is_ours = isinstance(error, TensorviewError)
    return {
        "fault": str(error) if is_ours else f"{type(error).__name__}: {error}",
        "cause": f"{type(cause).__name__} {getattr(cause, 'errno', '')}",
    }


def log_error(error: Exception) -> None:
    """Write its traceback to the worker's log, if the disk takes it; of those that say so once."""
    cause = error.__cause__ or error
    text = f"{type(cause).__name__}: {cause}"
    if text in _logged or len(_logged) == MAX_LOGGED:
        return
    _logged.add(text)
    with contextlib.suppress(OSError):
        traceback.print_exception(error)
        sys.stderr.flush()


_logged: set[str] = set()


def cut(text: str) -> str:
    """Return the beginning of *text*, as much as fits into one message."""
    text = text[:MAX_FAULT_CHARACTERS]
    while len(json.dumps(text)) > MAX_FAULT_BYTES:
        text = text[: len(text) // 2]
    return text
