"""Rectangles around the selected filters, over everything else in a view.

They are drawn by VTK without proxies: they follow from the data and the selection, and are none.
ParaView's own highlight of a selected map or kernel would hide it.
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
WIDTHS = 5.0, 2.5
"""Of the halo and the line in it, in pixels."""
AROUND = np.array([0, 1, 2, 3, 0], np.int32)


class Outlines:
    """The rectangles of one view.

    Args:
        view: ParaView's render view.
    """

    def __init__(self, view: Any) -> None:
        # What is drawn by this renderer lies over the data and moves with them.
        renderer = view.GetClientSideObject().GetNonCompositedRenderer()
        self._mappers = []
        self._boxes = np.empty((0, 4))
        for colour, width in zip((HALO, SELECTED), WIDTHS, strict=True):
            mapper = vtkPolyDataMapper()
            mapper.SetInputData(vtkPolyData())
            mapper.ScalarVisibilityOff()
            actor = vtkActor()
            actor.SetMapper(mapper)
            actor.GetProperty().SetColor(*colour)
            actor.GetProperty().SetLineWidth(width)
            actor.GetProperty().LightingOff()
            actor.SetPickable(False)
            actor.SetUseBounds(False)  # a reset of the camera is the data's
            renderer.AddActor(actor)
            self._mappers.append(mapper)

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
        for mapper in self._mappers:
            mapper.SetInputData(shape)
