"""Coloured shapes and images of the world, for the renderer of a panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkFiltersCore import vtkTubeFilter
from vtkmodules.vtkFiltersSources import vtkPlaneSource, vtkSphereSource
from vtkmodules.vtkRenderingCore import vtkActor, vtkLight, vtkPolyDataMapper, vtkTexture

from tensorview.worker.pictures.colours import to_bytes
from tensorview.worker.pictures.scene import SUPERSAMPLING
from tensorview.worker.views.datasets import equal_cells, polydata, ragged_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkRenderingCore import vtkRenderer

    from tensorview.worker.pictures.colours import Colour
    from tensorview.worker.pictures.content import Cells

AMBIENT, ROUND_AMBIENT = 0.48, 0.88
"""Share of light without direction: for blocks, and for tubes and balls."""
BRIGHTNESS = 1.2
"""Of a surface that faces the light; those that face up are then as bright as their colour."""
CRISP = 3
"""Least size of an image's pixel, in rendered pixels, at which its edges are sharp: smaller ones
would differ in size by a visible share."""
LEAST_SEGMENT = 0.01
"""Shortest segment of a tube by its radius; VTK cannot turn a tube on the spot."""
LIGHT = (-0.45, -0.75, 1.0)
"""Where light comes from: the left, the front, above."""


def strips(cells: Cells, *, colours: NDArray[Any], lit: bool = False) -> vtkActor:
    """Show triangle strips in a colour each, shape ``(cells, 3)``."""
    return _shape(
        cells.points,
        colours=colours,
        lit=lit,
        strips=ragged_cells(cells.sizes, cells.connectivity),
    )


def quads(corners: NDArray[Any], *, colours: NDArray[Any]) -> vtkActor:
    """Show quads of corners of shape ``(n, 4, 3)`` in a colour each, shape ``(n, 3)``."""
    ids = np.arange(4 * len(corners)).reshape(-1, 4)
    return _shape(corners.reshape(-1, 3), colours=colours, lit=False, polys=equal_cells(ids))


def polygons(cells: Cells, *, colours: NDArray[Any]) -> vtkActor:
    """Show polygons in a colour each, shape ``(cells, 3)``."""
    return _shape(
        cells.points,
        colours=colours,
        lit=False,
        polys=ragged_cells(cells.sizes, cells.connectivity),
    )


def lines(
    points: NDArray[Any], segments: NDArray[Any], *, colours: NDArray[Any], width: float
) -> vtkActor:
    """Show straight lines.

    Args:
        points: shape ``(n, 3)``.
        segments: shape ``(m, 2)``, ids of points.
        colours: shape ``(m, 3)``.
        width: in rendered pixels.
    """
    actor = _shape(points, colours=colours, lit=False, lines=equal_cells(segments))
    actor.GetProperty().SetLineWidth(width)
    return actor


def image(
    pixels: NDArray[Any], extent: Sequence[float], *, screen_width: float, z: float = 0.0
) -> vtkActor:
    """Show an image flat in the world: crisp where it is enlarged, averaged where it shrinks.

    Args:
        pixels: colours, shape ``(height, width, 3)``, row 0 at the top.
        extent: ``x0 x1 y0 y1``.
        screen_width: its width in the picture, in pixels.
        z: its height in the world.
    """
    x0, x1, y0, y1 = extent
    height, width = pixels.shape[:2]
    pixels = np.repeat(np.repeat(pixels, 1 + (height == 1), axis=0), 1 + (width == 1), axis=1)
    height, width = pixels.shape[:2]  # of one pixel, VTK makes a texture with swapped axes
    source = rgb_image(to_bytes(pixels))
    texture = vtkTexture()
    texture.SetInputData(source)
    texture.SetColorModeToDirectScalars()
    texture.RepeatOff()
    texture.EdgeClampOn()
    rendered_pixels = screen_width * SUPERSAMPLING
    texture.SetInterpolate(width * CRISP > rendered_pixels)
    texture.SetMipmap(width > rendered_pixels)
    plane = vtkPlaneSource()
    plane.SetOrigin(x0, y0, z)
    plane.SetPoint1(x1, y0, z)
    plane.SetPoint2(x0, y1, z)
    actor = _actor(plane.GetOutputPort(), lit=False)
    actor.SetTexture(texture)
    return actor


def rgb_image(pixels: NDArray[Any]) -> vtkImageData:
    """Copy a picture of shape ``(height, width, 3)``, uint8, row 0 at the top."""
    height, width = pixels.shape[:2]
    result = vtkImageData()
    result.SetDimensions(width, height, 1)
    rows = np.ascontiguousarray(pixels[::-1]).reshape(-1, 3)
    result.GetPointData().SetScalars(numpy_to_vtk(rows, deep=True))
    return result


def tube(points: NDArray[Any], *, colours: NDArray[Any], radius: float) -> vtkActor:
    """Show a tube through points of shape ``(n, 3)``, in a colour each, shape ``(n, 3)``."""
    moved = np.linalg.norm(np.diff(points, axis=0), axis=1) > radius * LEAST_SEGMENT
    kept = np.concatenate([[True], moved])
    count = int(kept.sum())
    line = ragged_cells(np.array([count]), np.arange(count))
    shape = polydata(points[kept], lines=line, point_data={"colours": to_bytes(colours[kept])})
    shape.GetPointData().SetActiveScalars("colours")
    tubes = vtkTubeFilter()
    tubes.SetInputData(shape)
    tubes.SetRadius(radius)
    tubes.SetNumberOfSides(12)
    tubes.CappingOn()
    return _actor(tubes.GetOutputPort(), lit=True, ambient=ROUND_AMBIENT)


def ball(centre: Sequence[float], *, radius: float, colour: Colour) -> vtkActor:
    """Show a small sphere."""
    source = vtkSphereSource()
    source.SetCenter(*centre)
    source.SetRadius(radius)
    source.SetThetaResolution(24)
    source.SetPhiResolution(24)
    actor = _actor(source.GetOutputPort(), lit=True, ambient=ROUND_AMBIENT)
    actor.GetProperty().SetColor(*colour)
    return actor


def light(renderer: vtkRenderer) -> None:
    """Light a panel from one side, so that heights can be read."""
    lamp = vtkLight()
    lamp.SetLightTypeToSceneLight()
    lamp.SetPosition(*LIGHT)
    lamp.SetFocalPoint(0, 0, 0)
    renderer.AutomaticLightCreationOff()
    renderer.AddLight(lamp)


def _shape(
    points: NDArray[Any], *, colours: NDArray[Any], lit: bool, **cells: vtkCellArray
) -> vtkActor:
    shape = polydata(points, cell_data={"colours": to_bytes(colours)}, **cells)
    shape.GetCellData().SetActiveScalars("colours")
    return _actor(shape, lit=lit)


def _actor(source: Any, *, lit: bool, ambient: float = AMBIENT) -> vtkActor:
    mapper = vtkPolyDataMapper()
    if hasattr(source, "GetProducer"):
        mapper.SetInputConnection(source)
    else:
        shape: vtkPolyData = source
        mapper.SetInputData(shape)
    mapper.SetColorModeToDirectScalars()
    actor = vtkActor()
    actor.SetMapper(mapper)
    look = actor.GetProperty()
    look.SetAmbient(ambient if lit else 1.0)
    look.SetDiffuse(BRIGHTNESS - ambient if lit else 0.0)
    return actor
