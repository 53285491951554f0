"""The training's side: commands are read, let through or refused, obeyed in order, and answered."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tensorview.errors import ConfigurationError, PruningError
from tensorview.run import RUN_FILE
from tensorview.steering.commands import (
    ANSWERS_FILE,
    COMMANDS_FILE,
    MAX_LINE_BYTES,
    Command,
    check_arguments,
    from_line,
    permission,
)
from tensorview.steering.lines import Tail, append_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensorview.guard import Guard
    from tensorview.run import Run
    from tensorview.steering.effects import Controls, Effects

log = logging.getLogger("tensorview")

LOOK_SECONDS = 0.2
PAUSE_POLL_SECONDS = 0.05
MAX_TOTAL_BYTES = 64 * 2**20
MAX_KNOWN_IDS = 10_000
MAX_BREAKPOINTS = 64


@dataclass(frozen=True, kw_only=True)
class _Pause:
    """Why training stands still: the command, and until when at the latest (monotonic seconds)."""

    command: Command
    until: float


class Listener:
    """Listens to the commands of one run.

    What the command file holds when it is made belongs to a former run and is never obeyed.

    Args:
        run: whose directory commands come through.
        allow: permissions, see `tensorview.steering.PERMISSIONS`.
        controls: what the watcher obeys.
        effects: what commands do.
        guard: keeps faults of ours out of the training.

    Attributes:
        paused_seconds: how long it has stood still so far.
    """

    def __init__(
        self,
        run: Run,
        *,
        allow: tuple[str, ...],
        controls: Controls,
        effects: Effects,
        guard: Guard,
    ) -> None:
        self.paused_seconds = 0.0
        self._run = run
        self._allow = allow
        self._controls = controls
        self._effects = effects
        self._guard = guard
        self._look_at = 0.0
        self._step = 0
        self._pause: _Pause | None = None
        self._breakpoints: dict[int, tuple[Command, float]] = {}
        self._known_ids: dict[str, None] = {}
        self._said: set[str] = set()
        self._closed = False
        with contextlib.suppress(OSError):  # then the first look says what is the matter
            append_line(run.path, COMMANDS_FILE, b"")
        self._tail = Tail(
            run.path,
            COMMANDS_FILE,
            max_line_bytes=MAX_LINE_BYTES,
            from_end=True,
            owner=(run.path / RUN_FILE).stat().st_uid,
        )
        pid, host, allowed = os.getpid(), os.uname().nodename, ", ".join(allow) or "nothing"
        message = f"Process {pid} on {host} listens; it allows {allowed}."
        self._answer(None, "listening", message, run=run.id, pid=pid, host=host, allow=allow)

    @property
    def paused(self) -> bool:
        """Whether training stands still."""
        return self._pause is not None

    def is_due(self, step: int) -> bool:
        """Whether `look` may have something to do at *step*; costs next to nothing."""
        return time.monotonic() >= self._look_at or step == self._controls.break_at

    def look(self, step: int, *, idle: Callable[[], None]) -> None:
        """Obey what has come, and return when training may go on.

        Args:
            step: optimizer steps done.
            idle: called every now and then while training is paused, for the first time at once.

        Raises:
            KeyboardInterrupt: in a pause; it ends then.
        """
        self._step = step
        self._obey_all()
        if step == self._controls.break_at:
            self._guard.do(self._reach_breakpoint, step=step, what="a breakpoint")
        if self._pause is None:
            return
        started, before = time.monotonic(), self.paused_seconds
        spent = self._guard.seconds
        try:
            while self._pause is not None:
                self._guard.do(idle, step=step, interruptible=True)
                time.sleep(PAUSE_POLL_SECONDS)
                self.paused_seconds = before + time.monotonic() - started
                self._end_pause_in_time()
                if self._pause is not None and time.monotonic() >= self._look_at:
                    self._obey_all()
        finally:
            self._guard.seconds = spent  # training stood still anyway
            self._go_on("it was interrupted")

    def close(self, step: int) -> None:
        """Stop listening and end a pause; from a signal handler or another thread, too.

        Args:
            step: optimizer steps done.
        """
        if self._closed:
            return
        self._step = step
        self._stop_listening("Training is watched no more.", go_on="the watcher is closed")

    def _stop_listening(self, why: str, *, go_on: str) -> None:
        """Hear nothing any more; so nothing may pause either, since nobody could end that."""
        self._go_on(go_on)
        self._breakpoints.clear()
        self._controls.break_at = 0
        self._closed = True
        self._look_at = math.inf
        self._tail.close()
        self._answer(None, "closed", why)

    def _obey_all(self) -> None:
        self._look_at = time.monotonic() + LOOK_SECONDS
        commands: list[Command] = []
        self._guard.do(lambda: commands.extend(self._read()), step=self._step, what="commands")
        for command in commands:
            obey = partial(self._obey, command)
            self._guard.do(obey, step=self._step, what="a command", interruptible=True)

    def _read(self) -> list[Command]:
        """Return the commands that have come, each id once."""
        commands = []
        for line in self._tail.read():
            command = from_line(line)
            if command is None:
                self._tail.passed_over += 1
            elif command.id not in self._known_ids:
                self._known_ids[command.id] = None
                commands.append(command)
        while len(self._known_ids) > MAX_KNOWN_IDS:
            del self._known_ids[next(iter(self._known_ids))]
        if self._tail.problem:
            self._warn(f"{COMMANDS_FILE} is not read: {self._tail.problem}.")
        if self._tail.passed_over:
            self._warn(f"Lines of {COMMANDS_FILE} that are no commands are skipped.")
        if self._tail.total > MAX_TOTAL_BYTES:
            why = f"{COMMANDS_FILE} is read no more: more than {MAX_TOTAL_BYTES} bytes have come."
            self._warn(why)
            self._stop_listening(why, go_on="commands are read no more")
            return []
        return commands

    def _obey(self, command: Command) -> None:
        name, needs = command.command, permission(command.command)
        if command.run != self._run.id:
            self._answer(command, "ignored", "It was meant for another run.")
            return
        if needs and needs not in self._allow:
            allow = (*self._allow, needs)
            why = f"{name!r} is not allowed: watch() would need allow={allow!r}."
            self._answer(command, "refused", why)
            self._warn(f"A command from {command.origin} was refused: {why}")
            return
        try:
            arguments = check_arguments(name, command.arguments)
            message = self._apply(command, arguments)
        except (ConfigurationError, PruningError) as error:
            self._answer(command, "refused", str(error))
        except Exception as error:
            self._answer(command, "failed", f"{type(error).__name__}: {error}")
            raise
        else:
            self._answer(command, "applied", message)
            log.info("%s, from %s: %s", name, command.origin, message)
            if name in ("resume", "stop"):
                self._go_on(f"{name} from {command.origin}")

    def _apply(self, command: Command, arguments: dict[str, Any]) -> str:
        if command.command == "pause":
            return self._pause_at(command, arguments["step"] or self._step, arguments["seconds"])
        if command.command == "resume":
            if self._pause is None:
                raise ConfigurationError("Training is not paused.")
            return f"Training goes on after step {self._step}."
        return self._effects.apply(command.command, arguments)

    def _pause_at(self, command: Command, step: int, seconds: float) -> str:
        if step < self._step:
            raise ConfigurationError(f"Step {step} is over: training is at step {self._step}.")
        if step == self._step:
            self._pause = _Pause(command=command, until=time.monotonic() + seconds)
            return f"Training is paused after step {step}, for at most {seconds:g} s."
        if len(self._breakpoints) >= MAX_BREAKPOINTS:
            raise ConfigurationError(f"There are {MAX_BREAKPOINTS} breakpoints already.")
        self._breakpoints[step] = command, seconds
        self._controls.break_at = min(self._breakpoints)
        return f"Training will pause after step {step}, for at most {seconds:g} s."

    def _reach_breakpoint(self) -> None:
        command, seconds = self._breakpoints.pop(self._step)
        self._controls.break_at = min(self._breakpoints, default=0)
        self._answer(command, "paused", self._pause_at(command, self._step, seconds))

    def _end_pause_in_time(self) -> None:
        if self._pause is not None and time.monotonic() >= self._pause.until:
            self._go_on("its time is over")

    def _go_on(self, why: str) -> None:
        """End the pause, if there is one."""
        pause, self._pause = self._pause, None
        if pause is not None:
            message = f"Training goes on after step {self._step}: {why}."
            self._answer(pause.command, "resumed", message)
            log.info("%s", message)

    def _answer(self, command: Command | None, state: str, message: str, **more: Any) -> None:
        """Append a line to the answers; a disk that takes none is said once."""
        document = {
            "id": command.id if command else "",
            "command": command.command if command else "",
            "arguments": command.arguments if command else {},
            "origin": command.origin if command else "",
            "step": self._step,
            "state": state,
            "message": message,
            **more,
        }
        line = json.dumps(document, separators=(",", ":")).encode() + b"\n"
        try:
            append_line(self._run.path, ANSWERS_FILE, line)
        except OSError as error:
            self._warn(f"{ANSWERS_FILE} is not written: {error.strerror}.")

    def _warn(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)
