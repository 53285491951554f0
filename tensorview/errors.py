"""What can go wrong, by the part that says so. Every message is one sentence a user can act on."""

from __future__ import annotations

MAX_SHOWN_CHARACTERS = 120


def printable(value: object) -> str:
    """Return what came from outside as a message can show it: short, and safe for a terminal."""
    text = str(value)
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[: MAX_SHOWN_CHARACTERS - 3]}..."


class TensorviewError(Exception):
    """Base of every error that tensorview raises on purpose."""


class ConfigurationError(TensorviewError, ValueError):
    """An argument cannot be used as given; raised where it is given, before training starts."""


class CaptureError(TensorviewError):
    """A layer or a probe cannot be captured."""


class PruningError(TensorviewError):
    """Filters cannot be removed as asked; nothing was changed."""


class SnapshotError(TensorviewError):
    """Bytes that should hold a snapshot do not."""


class TransportError(TensorviewError):
    """A snapshot could not be handed to a worker."""


class RunError(TensorviewError):
    """A run directory cannot be written, read or trusted."""


class BusyRunError(RunError):
    """Another process writes in a run directory."""


class UnreadableFileError(RunError):
    """A file of a run cannot be read just now; what it holds may be whole."""


class RemovedStepError(RunError):
    """A step was removed while the run was read, to save room."""


class UnwritableRunError(RunError):
    """A run directory cannot be written where it should be: no permission, no space."""


class ParaViewError(TensorviewError):
    """ParaView is missing, too old, or its Catalyst cannot be used."""
