"""Where frames go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tensorview.worker.frame import Frame


class Sink(Protocol):
    """What a worker writes frames to."""

    @property
    def state(self) -> str:
        """One word for `Watcher.status()`."""

    def write(self, frame: Frame) -> bool:
        """Take one frame; raise what went wrong with it, and stay usable.

        Returns:
            Whether it got to somebody: files are there to be read, a viewer was connected.
        """

    def idle(self) -> None:
        """Called about twice a second while no frame comes."""

    def close(self) -> None:
        """Give everything back."""
