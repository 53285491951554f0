"""Lines, shapes and texts over a picture, in pixels from its lower left corner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import vtkmodules.vtkRenderingFreeType  # noqa: F401  # registers VTK's fonts
from vtkmodules.vtkRenderingCore import (
    vtkActor2D,
    vtkPolyDataMapper2D,
    vtkTextActor,
    vtkTextProperty,
    vtkTextRenderer,
)

from tensorview.worker.pictures.colours import INK, to_bytes
from tensorview.worker.views.datasets import equal_cells, polydata, ragged_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData
    from vtkmodules.vtkRenderingCore import vtkRenderer

    from tensorview.worker.pictures.colours import Colour

LEAST_FONT_PIXELS = 8.0
ELLIPSIS = "..."
DASH, DASH_GAP = 6.0, 4.0

_ALIGN = {"left": 0, "centre": 1, "right": 2}
_ALIGN_VERTICALLY = {"bottom": 0, "centre": 1, "top": 2}


class Canvas:
    """Draws into the renderer of a picture, later calls over earlier ones.

    Args:
        renderer: covers the whole picture.
        supersampling: pixels of the renderer along each axis for one of the picture.
    """

    def __init__(self, renderer: vtkRenderer, *, supersampling: int) -> None:
        self._renderer = renderer
        self._factor = supersampling

    def rectangles(self, bounds: ArrayLike, *, colours: ArrayLike) -> None:
        """Fill rectangles.

        Args:
            bounds: shape ``(n, 4)``: x0 x1 y0 y1.
            colours: shape ``(n, 3)`` or ``(3,)``.
        """
        x0, x1, y0, y1 = np.asarray(bounds, float).reshape(-1, 4).T
        corners = np.stack([x0, y0, x1, y0, x1, y1, x0, y1], axis=1).reshape(-1, 2)
        self._add(corners, polys=np.arange(len(corners)).reshape(-1, 4), colours=colours, width=1.0)

    def outline(self, bounds: Sequence[float], *, colour: Colour, width: float = 1.0) -> None:
        """Draw the frame of a rectangle ``x0 x1 y0 y1``."""
        x0, x1, y0, y1 = bounds
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
        self.path(corners, colour=colour, width=width)

    def path(self, points: ArrayLike, *, colour: Colour, width: float = 1.0) -> None:
        """Draw one line through points of shape ``(n, 2)``; a gap wherever one is NaN."""
        corners = np.asarray(points, float).reshape(-1, 2)
        finite = np.isfinite(corners).all(axis=1)
        ends = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]]).astype(np.int8)))
        for first, last in ends.reshape(-1, 2):
            if last - first > 1:
                self._add(corners[first:last], polys=None, colours=colour, width=width)

    def cross(self, bounds: Sequence[float], *, colour: Colour, width: float) -> None:
        """Draw both diagonals of a rectangle ``x0 x1 y0 y1``."""
        x0, x1, y0, y1 = bounds
        for points in ([(x0, y0), (x1, y1)], [(x0, y1), (x1, y0)]):
            self.path(points, colour=colour, width=width)

    def dashed(
        self, start: tuple[float, float], end: tuple[float, float], *, colour: Colour, width: float
    ) -> None:
        """Draw a dashed straight line."""
        a, b = np.array(start), np.array(end)
        length = float(np.hypot(*(b - a)))
        for at in np.arange(0, length, DASH + DASH_GAP):
            along = np.array([at, min(at + DASH, length)])[:, None] / length
            self.path(a + (b - a) * along, colour=colour, width=width)

    def dots(self, points: ArrayLike, *, colour: Colour, radius: float) -> None:
        """Draw discs at points of shape ``(n, 2)``; none at NaN."""
        centres = np.asarray(points, float).reshape(-1, 2)
        centres = centres[np.isfinite(centres).all(axis=1)]
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        rim = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        corners = (centres[:, None] + rim).reshape(-1, 2)
        discs = np.arange(len(corners)).reshape(-1, len(angle))
        self._add(corners, polys=discs, colours=colour, width=1.0)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float,
        colour: Colour = INK,
        bold: bool = False,
        align: str = "left",
        vertical: str = "bottom",
        angle: float = 0.0,
    ) -> None:
        """Write one line.

        Args:
            x: of the anchor.
            y: of the anchor.
            text: plain.
            size: of the font, in pixels.
            colour: of the letters.
            bold: heavier letters.
            align: which part of the text is at *x*: ``"left"``, ``"centre"``, ``"right"``.
            vertical: which part is at *y*: ``"bottom"``, ``"centre"``, ``"top"``.
            angle: in degrees against the clock.
        """
        if not text:
            return
        actor = vtkTextActor()
        actor.SetInput(text)
        actor.SetTextProperty(self._font(size, bold=bold))
        font = actor.GetTextProperty()
        font.SetColor(*colour)
        font.SetJustification(_ALIGN[align])
        font.SetVerticalJustification(_ALIGN_VERTICALLY[vertical])
        font.SetOrientation(angle)
        actor.SetPosition(x * self._factor, y * self._factor)
        self._renderer.AddViewProp(actor)

    def width_of(self, text: str, *, size: float, bold: bool = False) -> float:
        """Return the width of a line in pixels."""
        box = [0, 0, 0, 0]
        font = self._font(size, bold=bold)
        vtkTextRenderer.GetInstance().GetBoundingBox(font, text, box, 72)
        return max(0, box[1] - box[0] + 1) / self._factor if text else 0.0

    def fit(self, text: str, *, width: float, size: float, bold: bool = False) -> str:
        """Return *text*, its middle left out as far as it is wider than *width*."""
        if self.width_of(text, size=size, bold=bold) <= width:
            return text
        low, high = 0, len(text)  # letters kept; low fits, high does not
        while high - low > 1:
            kept = (low + high) // 2
            if self.width_of(_elide(text, kept), size=size, bold=bold) <= width:
                low = kept
            else:
                high = kept
        return _elide(text, low)

    def _font(self, size: float, *, bold: bool) -> vtkTextProperty:
        font = vtkTextProperty()
        font.SetFontFamilyToArial()
        font.SetFontSize(round(max(size, LEAST_FONT_PIXELS) * self._factor))
        font.SetBold(bold)
        return font

    def _add(
        self,
        points: NDArray[Any],
        *,
        polys: NDArray[Any] | None,
        colours: ArrayLike,
        width: float,
    ) -> None:
        """Add polygons, or else one line through all points."""
        if not len(points):
            return
        count = 1 if polys is None else len(polys)
        rgb = to_bytes(np.broadcast_to(np.asarray(colours, float), (count, 3)))
        flat = np.concatenate([points * self._factor, np.zeros((len(points), 1))], axis=1)
        if polys is None:
            line = ragged_cells(np.array([len(points)]), np.arange(len(points)))
            shape = polydata(flat, lines=line, cell_data={"colours": rgb})
        else:
            shape = polydata(flat, polys=equal_cells(polys), cell_data={"colours": rgb})
        self._renderer.AddViewProp(_actor(shape, line_width=width * self._factor))


def _actor(shape: vtkPolyData, *, line_width: float) -> vtkActor2D:
    mapper = vtkPolyDataMapper2D()
    mapper.SetInputData(shape)
    mapper.SetScalarModeToUseCellFieldData()
    mapper.ColorByArrayComponent("colours", 0)
    mapper.SetColorModeToDirectScalars()
    actor = vtkActor2D()
    actor.SetMapper(mapper)
    actor.GetProperty().SetLineWidth(line_width)
    return actor


def _elide(text: str, kept: int) -> str:
    head = -(-kept // 2)
    return text[:head] + ELLIPSIS + text[len(text) - (kept - head) :]
