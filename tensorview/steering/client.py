"""The client's side: sending a command, and reading what the training answers."""

from __future__ import annotations

import json
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorview.errors import RunError
from tensorview.run import read_run_id
from tensorview.steering.commands import (
    ANSWERS_FILE,
    COMMANDS_FILE,
    MAX_LINE_BYTES,
    Command,
    check_arguments,
    to_line,
)
from tensorview.steering.lines import Tail, append_line

POLL_SECONDS = 0.05
MAX_ANSWER_BYTES = 8 * MAX_LINE_BYTES
_TEXTS = ("id", "command", "origin", "state", "message")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One line of ``steering.jsonl``.

    Attributes:
        id: of the command; "" where the line answers none.
        command: its name.
        arguments: of it.
        origin: who sent it.
        step: of the training, optimizer steps done.
        state: ``"applied"``, ``"refused"`` (not allowed, or it cannot be done), ``"ignored"`` (it
            was for another run), ``"failed"`` (a fault of ours); ``"paused"`` where a breakpoint
            is reached and ``"resumed"`` where a pause ends; ``"listening"`` and ``"closed"`` for
            the training's first and last line.
        message: one sentence.
    """

    id: str
    command: str
    arguments: dict[str, Any]
    origin: str
    step: int
    state: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Training:
    """Who listens to commands for a run.

    Attributes:
        pid: of the training process.
        host: it runs on.
        allow: the permissions that its ``watch`` gave.
    """

    pid: int
    host: str
    allow: tuple[str, ...]

    @property
    def is_gone(self) -> bool:
        """Whether its process has ended; False where it runs on another machine."""
        if self.host != os.uname().nodename:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass
        return False


class Answers:
    """Follows what the training of one run answers.

    Args:
        run_dir: the run directory; ``steering.jsonl`` may come later.

    Attributes:
        training: who listens, None where nobody does, or not any more.
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        self.training: Training | None = None
        self._tail = Tail(
            Path(run_dir), ANSWERS_FILE, max_line_bytes=MAX_ANSWER_BYTES, from_end=False
        )

    def read(self) -> list[Answer]:
        """Return what was answered since the last call, in order; never waits."""
        answers: list[Answer] = []
        try:
            while lines := self._tail.read():
                answers += filter(None, map(self._understand, lines))
        except OSError as error:
            raise RunError(f"Cannot read {ANSWERS_FILE}: {error.strerror}.") from None
        return answers

    def _understand(self, line: bytes) -> Answer | None:
        try:
            found: Any = json.loads(line)
            if found["state"] == "listening":
                self.training = Training(
                    pid=int(found["pid"]), host=str(found["host"]), allow=tuple(found["allow"])
                )
            if found["state"] == "closed":
                self.training = None
            answer = Answer(
                arguments=found["arguments"],
                step=found["step"],
                **{name: _shown(found[name]) for name in _TEXTS},
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None  # not a line of ours
        return answer if type(answer.step) is int else None

    def close(self) -> None:
        """Let go of the file."""
        self._tail.close()

    def __enter__(self) -> Answers:  # noqa: PYI034  # typing.Self needs Python 3.11
        """Return itself; the end of the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _shown(text: Any) -> str:
    """Return a text as a terminal can show it, which somebody else's run may want to command."""
    if not isinstance(text, str):
        raise TypeError
    return "".join(character if character.isprintable() else " " for character in text)


def send(
    run_dir: str | os.PathLike[str], command: str, *, origin: str = "python", **arguments: Any
) -> str:
    """Ask the training of a run for something; it reads that within its next steps.

    Args:
        run_dir: the run directory.
        command: one of `tensorview.steering.COMMANDS`.
        origin: who asks, in a word.
        arguments: of the command: ``every`` takes ``steps`` or ``factor``; ``focus`` takes
            ``layer``, None for all; ``select`` takes ``layer`` and ``filters``; ``pause`` takes
            ``seconds`` at most and the ``step`` to wait for; ``learning_rate`` takes ``value`` or
            ``factor``; ``prune`` takes ``layer`` and ``filters``, None for the flagged ones.

    Returns:
        Id of the command, for `wait`.

    Raises:
        ConfigurationError: no such command, or arguments that it does not take.
        RunError: there is no run, or nothing can be written there.
    """
    checked = check_arguments(command, arguments)
    run = read_run_id(run_dir)
    sent = Command(id=uuid.uuid4().hex, run=run, command=command, arguments=checked, origin=origin)
    line = to_line(sent)
    try:
        append_line(Path(run_dir), COMMANDS_FILE, line)
    except OSError as error:
        raise RunError(
            f"Cannot steer run '{run_dir}': {COMMANDS_FILE}: {error.strerror}."
        ) from None
    return sent.id


def wait(run_dir: str | os.PathLike[str], command_id: str, seconds: float) -> Answer | None:
    """Return the answer to a command, None if none came within *seconds*, or none will come.

    Args:
        run_dir: the run directory.
        command_id: what `send` returned.
        seconds: to wait at most; 0 looks once.

    Raises:
        RunError: the answers cannot be read.
    """
    deadline = time.monotonic() + seconds
    with Answers(run_dir) as answers:
        while True:
            for answer in answers.read():
                if answer.id == command_id:
                    return answer
            nobody = answers.training is None or answers.training.is_gone
            if nobody or time.monotonic() >= deadline:
                return None
            time.sleep(POLL_SECONDS)
