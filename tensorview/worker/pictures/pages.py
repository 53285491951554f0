"""Every view's picture by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorview.worker.frame import POLYDATA_CHANNELS
from tensorview.worker.pictures import (
    correlation,
    distribution,
    maps,
    scalars,
    trajectory,
    weights,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tensorview.worker.frame import Frame

VIEWS = POLYDATA_CHANNELS
SIZE = (1280, 960)

_PAGES = {
    "weights": weights.draw,
    "trajectory": trajectory.draw,
    "distribution": distribution.draw,
    "correlation": correlation.draw,
    "scalars": scalars.draw,
}


def draw(
    view: str, frame: Frame, *, size: tuple[int, int] = SIZE, sample: int | None = None
) -> NDArray[Any]:
    """Draw one view of a frame offscreen.

    Ends the process where there is no OpenGL library: ask `opengl.missing` first.

    Args:
        view: one of `VIEWS`.
        frame: of any source: made, read back, or received.
        size: width and height in pixels; from about 640 x 480 on, all text has its place.
        sample: of the probe, for ``maps``; None for the mean over it.

    Returns:
        Shape ``(height, width, 3)``, uint8, row 0 at the top. Same frame, same pixels on the same
        machine.

    Raises:
        ConfigurationError: the frame has no maps of *sample*.
    """
    if view == "maps":
        return maps.draw(frame, size=size, sample=sample)
    return _PAGES[view](frame, size=size)
