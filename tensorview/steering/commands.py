"""What can be asked of a training, and what a line that asks it looks like."""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tensorview.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

COMMANDS_FILE = "commands.jsonl"
ANSWERS_FILE = "steering.jsonl"

ALLOWED_BY_DEFAULT = ("capture", "every", "focus", "select")
PERMISSIONS = (*ALLOWED_BY_DEFAULT, "pause", "stop", "learning_rate", "prune")
"""What ``watch(allow=...)`` may name."""

MAX_LINE_BYTES = 16 * 2**10
"""Room for every filter of a wide layer."""

MAX_PAUSE_SECONDS = 86400.0
_MAX_STEPS = 10**15
_MAX_ID_LENGTH = 64
_MAX_ORIGIN_LENGTH = 32
_NEEDED: Any = object()


@dataclass(frozen=True, kw_only=True)
class _Parameter:
    """One argument of a command: what it takes, in words too, and what it is when left out."""

    accepts: Callable[[Any], bool]
    expected: str
    default: Any = _NEEDED


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """One command.

    Attributes:
        needs: the permission.
        parameters: by name.
        choice: exactly one of the parameters is given.
    """

    needs: str
    parameters: dict[str, _Parameter]
    choice: bool = False


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= _MAX_STEPS


def _is_number(value: Any, least: float, most: float) -> bool:
    return type(value) in (int, float) and least <= value <= most  # also False for NaN


def _is_layer(value: Any) -> bool:
    return isinstance(value, str)


def _are_filters(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(_is_whole(item, 0) for item in value)


_LAYER = _Parameter(accepts=_is_layer, expected="a layer's name")
_FACTOR = _Parameter(
    accepts=lambda value: _is_number(value, 1e-12, 1e12), expected="a number above 0"
)
_STEP = _Parameter(
    accepts=lambda value: value is None or _is_whole(value, 1),
    expected="a whole number, 1 or more",
    default=None,
)
_SECONDS = _Parameter(
    accepts=lambda value: _is_number(value, 1e-3, MAX_PAUSE_SECONDS),
    expected=f"seconds, above 0 and at most {MAX_PAUSE_SECONDS:.0f}",
    default=300,
)

_KINDS = {
    "capture": _Kind(needs="capture", parameters={}),
    "every": _Kind(
        needs="every",
        parameters={
            "steps": _Parameter(
                accepts=lambda value: _is_whole(value, 1), expected="a whole number, 1 or more"
            ),
            "factor": _FACTOR,
        },
        choice=True,
    ),
    "focus": _Kind(
        needs="focus",
        parameters={
            "layer": _Parameter(
                accepts=lambda value: value is None or _is_layer(value),
                expected="a layer's name, or None for all",
                default=None,
            )
        },
    ),
    "select": _Kind(
        needs="select",
        parameters={
            "layer": _LAYER,
            "filters": _Parameter(accepts=_are_filters, expected="a list of filters' numbers"),
        },
    ),
    "pause": _Kind(needs="pause", parameters={"seconds": _SECONDS, "step": _STEP}),
    "resume": _Kind(needs="pause", parameters={}),
    "stop": _Kind(needs="stop", parameters={}),
    "learning_rate": _Kind(
        needs="learning_rate",
        parameters={
            "value": _Parameter(
                accepts=lambda value: _is_number(value, 0.0, 1e300), expected="a number, 0 or more"
            ),
            "factor": _FACTOR,
        },
        choice=True,
    ),
    "prune": _Kind(
        needs="prune",
        parameters={
            "layer": _LAYER,
            "filters": _Parameter(
                accepts=lambda value: value is None or _are_filters(value),
                expected="a list of filters' numbers, or None for the flagged ones",
                default=None,
            ),
        },
    ),
}

COMMANDS = tuple(_KINDS)


@dataclass(frozen=True, kw_only=True)
class Command:
    """One line of ``commands.jsonl``.

    Attributes:
        id: random, chosen by who sends it.
        run: `tensorview.run.Run.id` of the run that it is for.
        command: what to do, one of `COMMANDS` if it is to be done.
        arguments: of it, unchecked.
        origin: who sends it, in a word: ``"ctl"``, ``"python"``, ``"paraview"``.
    """

    id: str
    run: str
    command: str
    arguments: dict[str, Any]
    origin: str


def permission(command: str) -> str:
    """Return what ``allow=`` must name for *command*, "" where there is no such command."""
    return _KINDS[command].needs if command in _KINDS else ""


def check_arguments(command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of *command*, those that were left out added.

    Raises:
        ConfigurationError: no such command, or arguments that it does not take.
    """
    if command not in _KINDS:
        raise ConfigurationError(
            f"There is no command {shortened(command)}. {near_matches(command, COMMANDS)}"
        )
    kind = _KINDS[command]
    for name, value in arguments.items():
        if name not in kind.parameters:
            takes = f"expected {' or '.join(kind.parameters)}" if kind.parameters else "it has none"
            raise ConfigurationError(f"{command} takes no argument {shortened(name)}: {takes}.")
        parameter = kind.parameters[name]
        if not parameter.accepts(value):
            raise ConfigurationError(
                f"{command} cannot take {name}={shortened(value)}: expected {parameter.expected}."
            )
    if kind.choice:
        if len(arguments) != 1:
            raise ConfigurationError(
                f"{command} takes one argument, {' or '.join(kind.parameters)}; "
                f"{len(arguments)} were given."
            )
        return dict(arguments)
    for name, parameter in kind.parameters.items():
        if name not in arguments and parameter.default is _NEEDED:
            raise ConfigurationError(f"{command} needs {name}: {parameter.expected}.")
    defaults = {name: parameter.default for name, parameter in kind.parameters.items()}
    return defaults | arguments


def to_line(command: Command) -> bytes:
    """Return the line of *command*.

    Raises:
        ConfigurationError: it would be longer than any reader takes.
    """
    line = json.dumps(asdict(command), separators=(",", ":")).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise ConfigurationError(
            f"{command.command} cannot be sent: its arguments take {len(line)} bytes, expected at "
            f"most {MAX_LINE_BYTES}. Give fewer filters."
        )
    return line


def from_line(line: bytes) -> Command | None:
    """Read a line of ``commands.jsonl``; None where it is no command at all."""
    try:
        found: Any = json.loads(line)
        command = Command(**found)
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (command.id, command.run, command.command, command.origin)
    if (
        all(isinstance(text, str) and text.isprintable() for text in texts)
        and 1 <= len(command.id) <= _MAX_ID_LENGTH
        and len(command.origin) <= _MAX_ORIGIN_LENGTH
        and isinstance(command.arguments, dict)
    ):
        return command
    return None


def near_matches(name: str, known: Collection[str]) -> str:
    """Say in a sentence what *name* may have been meant to be."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    return f"Expected one of {', '.join(list(known)[:10])}{', ...' * (len(known) > 10)}."


def shortened(value: Any) -> str:
    """Return the repr of what a client sent, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
