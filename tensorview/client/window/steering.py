"""What buttons do: commands to the training that is shown, and what it answers."""

from __future__ import annotations

import shlex
import textwrap
import time
from typing import TYPE_CHECKING, Any

from tensorview.errors import RunError, TensorviewError
from tensorview.run import read_run_id
from tensorview.steering import Answers, send

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensorview.client.window.selection import Selection
    from tensorview.steering import Answer

ORIGIN = "paraview"
PATIENCE_SECONDS = 5.0
"""After which the person who presses a button is told that there is no answer yet."""

LINE = 96
"""Letters in a line of the status, which shares the window's width with a second view."""

COMMANDS: dict[str, tuple[str, dict[str, Any]]] = {
    "capture": ("capture", {}),
    "less": ("every", {"factor": 2.0}),
    "more": ("every", {"factor": 0.5}),
    "all": ("focus", {"layer": None}),
    "halve": ("learning_rate", {"factor": 0.5}),
    "pause": ("pause", {}),
    "resume": ("resume", {}),
    "stop": ("stop", {}),
}
"""Command and arguments of the buttons that need no selection."""


class Steering:
    """Sends commands through the run directory, and tells what comes of them.

    Args:
        say: writes the status line.
        selection: what some commands are about.
    """

    def __init__(self, say: Callable[[str], None], selection: Selection) -> None:
        self._say = say
        self._selection = selection
        self._run = "", ""
        self._answers: Answers | None = None
        self._pause = ""
        self._last = ""
        self._sent: dict[str, float] = {}

    def run_is(self, run_dir: str, run_id: str) -> None:
        """Steer another run, if it is another one.

        Args:
            run_dir: its directory on the machine of its training, "" for none.
            run_id: `tensorview.run.Run.id`.
        """
        if (run_dir, run_id) == self._run:
            return
        self._run = run_dir, run_id
        if self._answers is not None:
            self._answers.close()
        self._answers = None
        self._sent.clear()
        self._pause = ""
        self._look()
        self._tell("")

    def _look(self) -> None:
        """Follow the answers in the run directory, as soon as it can be seen from here."""
        if self._answers is None and _is_here(*self._run):
            self._answers = Answers(self._run[0])
            for answer in self._read():
                self._follow_pause(answer)

    def press(self, name: str) -> None:
        """Do what a button is for; raises nothing.

        Args:
            name: one of the values of `tensorview.client.window.macros.BUTTONS`.
        """
        try:
            self._press(name)
        except TensorviewError as error:
            self._tell(str(error))
        except Exception as error:  # noqa: BLE001  # ParaView would open a box with a traceback
            self._tell(f"The button failed: {type(error).__name__}: {error}")

    def poll(self) -> None:
        """Tell what has been answered since the last call; never waits."""
        for answer in self._read():
            self._follow_pause(answer)
            if answer.state in ("listening", "closed"):
                continue
            self._sent.pop(answer.id, None)
            by = "" if answer.origin == ORIGIN else f"{answer.origin}: "
            self._tell("" if answer.message == self._pause else by + answer.message)
        training = self._answers.training if self._answers is not None else None
        if self._pause and (training is None or training.is_gone):
            self._pause = ""
            self._tell("The training has ended.")
        late = [sent for sent, when in self._sent.items() if time.monotonic() > when]
        for sent in late:
            del self._sent[sent]
            self._tell("No answer yet: the training reads commands between its steps.")

    def _press(self, name: str) -> None:
        commands = self._commands(name)
        run_dir, _ = self._run
        if not run_dir:
            raise RunError(
                "There is nothing to steer: no training has come, or it has no run directory."
            )
        self._look()
        if self._answers is None:
            lines = "\n".join(ctl_line(run_dir, *command) for command in commands)
            raise RunError(f"The run directory is not on this machine. Where it is, type:\n{lines}")
        self.poll()
        training = self._answers.training
        if training is None or training.is_gone:
            raise RunError(f"Nobody listens to commands: the training of {run_dir} has ended.")
        for command, arguments in commands:
            sent = send(run_dir, command, origin=ORIGIN, **arguments)
            self._sent[sent] = time.monotonic() + PATIENCE_SECONDS
        self._tell(f"Sent: {', '.join(command for command, _ in commands)}.")

    def _commands(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the commands of a button, with their arguments.

        Raises:
            RunError: they need another selection.
        """
        if name in COMMANDS:
            return [COMMANDS[name]]
        filters = self._selection.filters
        if not filters:
            raise RunError("Nothing is selected: pick cells of a layer with ParaView's own tools.")
        if name == "mark":
            return [
                ("select", {"layer": layer, "filters": list(numbers)})
                for layer, numbers in filters.items()
            ]
        if len(filters) > 1:
            raise RunError(f"Select in one layer only: {', '.join(filters)} are selected.")
        (layer,) = filters
        return [(name, {"layer": layer})]

    def _read(self) -> list[Answer]:
        if self._answers is None:
            return []
        try:
            return self._answers.read()
        except RunError as error:
            self._answers.close()
            self._answers = None
            self._tell(str(error))
            return []

    def _follow_pause(self, answer: Answer) -> None:
        is_pause = answer.command == "pause" and answer.state == "applied"
        if answer.state == "paused" or (
            is_pause and answer.arguments.get("step") in (None, answer.step)
        ):
            self._pause = answer.message
        if answer.state in ("resumed", "listening", "closed"):
            self._pause = ""

    def _tell(self, text: str) -> None:
        lines = [line for part in (self._pause, text) for line in part.splitlines()]
        wrap = textwrap.TextWrapper(LINE, break_long_words=False, break_on_hyphens=False).wrap
        self._say("\n".join(short for line in lines for short in wrap(line)))


def ctl_line(run_dir: str, command: str, arguments: dict[str, Any]) -> str:
    """Return the line for a shell that does the same as `tensorview.steering.send`."""
    words = ["tensorview", "ctl", run_dir, command.replace("_", "-")]
    words += ["--factor", f"{arguments['factor']:g}"] if "factor" in arguments else []
    words += [arguments["layer"]] if arguments.get("layer") else []
    words += [str(number) for number in arguments.get("filters", ())]
    return shlex.join(words)


def _is_here(run_dir: str, run_id: str) -> bool:
    """Whether the directory of that name on this machine is that of the run."""
    try:
        return bool(run_dir) and read_run_id(run_dir) == run_id
    except RunError:
        return False
