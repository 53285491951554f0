"""Rectangles around the selected filters, over everything else in a view.

They are drawn by VTK without proxies: they follow from the data and the selection, and are none.
ParaView's own highlight would cover the maps and kernels that were picked to be looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkPolyData
from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

from tensorview.worker.views.datasets import equal_cells, polydata

if TYPE_CHECKING:
    from numpy.typing import NDArray

SELECTED = (0.93, 0.0, 0.55)
"""A colour that no view gives to data."""
HALO = (1.0, 1.0, 1.0)
LINE_OF_BOX, WIDEST = 0.2, 2.5
"""Width of a line as a share of the smallest side of any rectangle, and at most in pixels."""
LEAST_WITH_HALO = 1.8
"""Width in pixels from which on a line has a halo, twice as wide."""
AROUND = np.array([0, 1, 2, 3, 0], np.int32)


class Outlines:
    """The rectangles of one view.

    Args:
        view: ParaView's render view.
    """

    def __init__(self, view: Any) -> None:
        # What is drawn by this renderer lies over the data and moves with them.
        self._renderer = view.GetClientSideObject().GetNonCompositedRenderer()
        self._boxes = np.empty((0, 4))
        self._mapper = vtkPolyDataMapper()
        self._mapper.SetInputData(vtkPolyData())
        self._halo, self._line = self._actor(HALO), self._actor(SELECTED)
        self._renderer.AddObserver("StartEvent", lambda *_: self._set_widths())

    def show(self, boxes: NDArray[Any]) -> None:
        """Show rectangles x0 x1 y0 y1, shape ``(n, 4)``, in place of those before."""
        if np.array_equal(boxes, self._boxes):
            return
        self._boxes = boxes
        x0, x1, y0, y1 = boxes.T
        z = np.zeros_like(x0)
        corners = np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]])
        ids = 4 * np.arange(len(boxes), dtype=np.int32)[:, None] + AROUND
        shape = polydata(corners.transpose(2, 0, 1).reshape(-1, 3), lines=equal_cells(ids))
        self._mapper.SetInputData(shape)

    def _actor(self, colour: tuple[float, float, float]) -> vtkActor:
        actor = vtkActor()
        actor.SetMapper(self._mapper)
        actor.GetProperty().SetColor(*colour)
        actor.GetProperty().LightingOff()
        actor.SetPickable(False)
        actor.SetUseBounds(False)  # a reset of the camera is the data's
        self._renderer.AddActor(actor)
        return actor

    def _set_widths(self) -> None:
        """Draw small rectangles with thin lines, which would be blots otherwise."""
        if not len(self._boxes):
            return
        smallest = np.diff(self._boxes.reshape(-1, 2), axis=1).min()
        pixel = (
            2 * self._renderer.GetActiveCamera().GetParallelScale() / self._renderer.GetSize()[1]
        )
        width = float(np.clip(LINE_OF_BOX * smallest / pixel, 1.0, WIDEST))
        self._line.GetProperty().SetLineWidth(width)
        self._halo.GetProperty().SetLineWidth(2 * width)
        self._halo.SetVisibility(width >= LEAST_WITH_HALO)
