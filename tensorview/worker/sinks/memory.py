"""Frames kept in memory, for tests and for looking at them in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorview.worker.frame import Frame


class MemorySink:
    """Keep every frame, oldest first, in ``frames``."""

    state = "ready"

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def write(self, frame: Frame) -> bool:
        """Append *frame*; it always gets there."""
        self.frames.append(frame)
        return True

    def idle(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to give back."""
