"""Large layers as textures: an atlas of a million values as cells would take a second a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkFiltersSources import vtkPlaneSource
from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper, vtkTexture

from tensorview.client.window.colour_maps import mapped
from tensorview.worker.pictures.colours import to_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

BEHIND = -1e-3
"""Height in the world, so that cells which the user shows of an atlas are seen before it."""


class Images:
    """The images of one view.

    Args:
        view: ParaView's render view.
    """

    def __init__(self, view: Any) -> None:
        self._renderer = view.GetClientSideObject().GetRenderer()
        self._actors: list[vtkActor] = []

    def show(
        self, images: list[Any], *, array: str, table: Any, pixel: float, gutters: bool
    ) -> None:
        """Show images in place of those shown before.

        Args:
            images: those without a cell array *array* are left out.
            array: what to colour by.
            table: ParaView's colour map.
            pixel: how much of the world a pixel of the screen covers.
            gutters: whether NaN stands for nothing.
        """
        for actor in self._actors:
            self._renderer.RemoveActor(actor)
        self._actors = []
        for image in images:
            values = image.GetCellData().GetArray(array)
            if values is None:
                continue
            bounds = image.GetBounds()
            width, height = (max(1, side - 1) for side in image.GetDimensions()[:2])
            room = [round((bounds[2 * axis + 1] - bounds[2 * axis]) / pixel) for axis in (1, 0)]
            shown = shrunk(vtk_to_numpy(values).reshape(height, width), room=(room[0], room[1]))
            actor = _textured(_coloured(shown, table, gutters=gutters), bounds)
            self._renderer.AddActor(actor)
            self._actors.append(actor)


def shrunk(values: NDArray[Any], *, room: tuple[int, int]) -> NDArray[Any]:
    """Make an image no larger than it is drawn: of all values in a pixel, the furthest from zero.

    A mean would turn every large layer white.

    Args:
        values: shape ``(height, width)``, NaN where there is nothing.
        room: height and width on the screen, in pixels.

    Returns:
        Same dtype; NaN where all values of a pixel are.
    """
    highest = lowest = values
    for axis in (0, 1):
        side = highest.shape[axis]
        count = min(side, max(1, room[axis]))
        if count < side:
            starts = np.arange(count) * side // count
            highest = np.fmax.reduceat(highest, starts, axis=axis)
            lowest = np.fmin.reduceat(lowest, starts, axis=axis)
    return np.where(highest > -lowest, highest, lowest)


def _coloured(values: NDArray[Any], table: Any, *, gutters: bool) -> vtkImageData:
    """Colour values of shape ``(height, width)``, row 0 below."""
    flat = np.ascontiguousarray(values).ravel()
    pixels = np.full((len(flat), 4), 255, np.uint8)
    pixels[:, :3] = mapped(flat, table)
    is_nan = np.isnan(flat)
    pixels[is_nan, :3] = to_bytes(np.array(table.NanColor))
    pixels[is_nan, 3] = 0 if gutters else 255
    height, width = values.shape
    rows = pixels.reshape(height, width, 4)
    # Of one pixel, VTK makes a texture with swapped axes.
    rows = np.repeat(np.repeat(rows, 1 + (height == 1), axis=0), 1 + (width == 1), axis=1)
    result = vtkImageData()
    result.SetDimensions(rows.shape[1], rows.shape[0], 1)
    result.GetPointData().SetScalars(numpy_to_vtk(rows.reshape(-1, 4), deep=True))
    return result


def _textured(image: vtkImageData, bounds: Any) -> vtkActor:
    texture = vtkTexture()
    texture.SetInputData(image)
    texture.SetColorModeToDirectScalars()
    texture.RepeatOff()
    texture.EdgeClampOn()
    texture.InterpolateOff()
    plane = vtkPlaneSource()
    plane.SetOrigin(bounds[0], bounds[2], BEHIND)
    plane.SetPoint1(bounds[1], bounds[2], BEHIND)
    plane.SetPoint2(bounds[0], bounds[3], BEHIND)
    mapper = vtkPolyDataMapper()
    mapper.SetInputConnection(plane.GetOutputPort())
    actor = vtkActor()
    actor.SetMapper(mapper)
    actor.SetTexture(texture)
    actor.GetProperty().LightingOff()
    actor.SetPickable(False)
    return actor
