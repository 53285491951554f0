"""Texts and swatches over a view: crisp, few, and no entries in the Pipeline Browser.

They are drawn by VTK in the renderer that ParaView keeps for such things, without proxies: fifty
titles cost next to nothing, and go when their view goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkPolyData
from vtkmodules.vtkRenderingCore import (
    vtkActor2D,
    vtkCoordinate,
    vtkPolyDataMapper2D,
    vtkTextActor,
)

from tensorview.client.window.cameras import size_in_points
from tensorview.worker.pictures.canvas import Canvas
from tensorview.worker.pictures.colours import INK, PAGE, to_bytes
from tensorview.worker.views.datasets import equal_cells, polydata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorview.worker.pictures.colours import Colour

VEIL = 0.75
_ALIGN = {"left": 0, "centre": 1, "right": 2}
_ALIGN_VERTICALLY = {"bottom": 0, "centre": 1, "top": 2}


class Labels:
    """What is written over one view; written anew between `begin` and `end`.

    Args:
        view: ParaView's render view, or a view of charts.
    """

    def __init__(self, view: Any) -> None:
        self._view = view
        drawn = view.GetClientSideObject()
        is_chart = hasattr(drawn, "GetContextView")
        self._renderer = (
            drawn.GetContextView().GetRenderer() if is_chart else drawn.GetNonCompositedRenderer()
        )
        self._canvas = Canvas(self._renderer, supersampling=1)
        self._texts: list[vtkTextActor] = []
        self._used = 0
        self._boxes: list[tuple[float, ...]] = []
        self._tones: list[Colour] = []
        self._swatches = vtkActor2D()
        self._mapper = vtkPolyDataMapper2D()
        self._mapper.SetInputData(vtkPolyData())
        place = vtkCoordinate()
        place.SetCoordinateSystemToNormalizedViewport()
        self._mapper.SetTransformCoordinate(place)
        self._mapper.SetColorModeToDirectScalars()
        self._swatches.SetMapper(self._mapper)
        self._renderer.AddViewProp(self._swatches)

    def begin(self) -> None:
        """Start with nothing."""
        self._used = 0
        self._boxes, self._tones = [], []

    def end(self) -> None:
        """Take away what was not written again."""
        for text in self._texts[self._used :]:
            text.SetVisibility(False)
        corners = [
            corner
            for x0, x1, y0, y1 in self._boxes
            for corner in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        ]
        flat = np.zeros((len(corners), 3))
        if corners:
            flat[:, :2] = np.array(corners) / self.size
        ids = np.arange(len(corners)).reshape(-1, 4)
        tones = to_bytes(np.array(self._tones, float).reshape(-1, 3))
        shape = polydata(flat, polys=equal_cells(ids), cell_data={"colours": tones})
        shape.GetCellData().SetActiveScalars("colours")
        self._mapper.SetInputData(shape)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the view in points."""
        return size_in_points(self._view)

    def fit(self, text: str, *, width: float, size: float, bold: bool = False) -> str:
        """Return *text*, its middle left out as far as it is wider than *width* points."""
        return self._canvas.fit(text, width=width, size=size, bold=bold)

    def width_of(self, text: str, *, size: float, bold: bool = False) -> float:
        """Return the width of a line in points."""
        return self._canvas.width_of(text, size=size, bold=bold)

    def text(
        self,
        at: Sequence[float],
        text: str,
        *,
        size: float,
        colour: Colour = INK,
        bold: bool = False,
        align: str = "left",
        vertical: str = "bottom",
    ) -> None:
        """Write lines.

        Args:
            at: two numbers: points from the lower left corner; three: a point of the world.
            text: divided by line feeds.
            size: of the font in points.
            colour: of the letters.
            bold: heavier letters.
            align: which part of the text is at *at*: ``"left"``, ``"centre"``, ``"right"``.
            vertical: which part: ``"bottom"``, ``"centre"``, ``"top"``.
        """
        if self._used == len(self._texts):
            self._texts.append(vtkTextActor())
            self._texts[-1].SetPickable(False)
            self._renderer.AddViewProp(self._texts[-1])
        actor = self._texts[self._used]
        self._used += 1
        actor.SetVisibility(True)
        actor.SetInput(text)
        font = actor.GetTextProperty()
        font.SetFontFamilyToArial()
        font.SetFontSize(max(1, round(size)))
        font.SetBold(bold)
        font.SetColor(*colour)
        font.SetJustification(_ALIGN[align])
        font.SetVerticalJustification(_ALIGN_VERTICALLY[vertical])
        font.SetBackgroundColor(*PAGE)
        # What stays in its place may have data behind it, once the user has zoomed.
        font.SetBackgroundOpacity(VEIL if len(at) == 2 else 0.0)
        place = actor.GetPositionCoordinate()
        if len(at) == 3:
            place.SetCoordinateSystemToWorld()
            place.SetValue(*at)
        else:
            # As shares, so that a screenshot of another size has it at the same place.
            place.SetCoordinateSystemToNormalizedViewport()
            width, height = self.size
            place.SetValue(at[0] / width, at[1] / height, 0)

    def swatch(self, box: Sequence[float], *, colour: Colour) -> None:
        """Fill a rectangle ``x0 x1 y0 y1``, in points from the lower left corner."""
        self._boxes.append(tuple(box))
        self._tones.append(colour)
