"""The picture as VTK sees it: one renderer a panel, a canvas over all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  # registers VTK's renderer
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkUnsignedCharArray
from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow

from tensorview.worker.pictures.canvas import Canvas

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tensorview.worker.pictures.colours import Colour

SUPERSAMPLING = 2
"""Rendered pixels along each axis for one of the picture, averaged: smooth edges, no moire."""


class Rectangle(NamedTuple):
    """Part of a picture, in pixels from its lower left corner."""

    left: float
    right: float
    bottom: float
    top: float

    @property
    def width(self) -> float:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """In pixels."""
        return self.top - self.bottom

    def grown(self, by: float) -> Rectangle:
        """Move every side outwards."""
        return Rectangle(self.left - by, self.right + by, self.bottom - by, self.top + by)


class Eye(NamedTuple):
    """Where a parallel camera looks from, in degrees; +y is up in the picture.

    Attributes:
        elevation: 90 is straight from above, 0 from the side of small y.
        azimuth: turns the camera to the right.
    """

    elevation: float = 90.0
    azimuth: float = 0.0

    def axes(self) -> NDArray[Any]:
        """Return the world's directions right, up and towards the eye; shape ``(3, 3)``, rows."""
        around, above = np.radians(self.azimuth), np.radians(self.elevation)
        right = np.array([np.cos(around), np.sin(around), 0.0])
        level = np.array([-np.sin(around), np.cos(around), 0.0])
        z = np.array([0.0, 0.0, 1.0])
        up = np.sin(above) * level + np.cos(above) * z
        return np.array([right, up, np.cross(right, up)])


class Projection(NamedTuple):
    """From the world to pixels of the picture.

    Attributes:
        axes: of an `Eye`.
        centre: point of the world that is seen at *pixel*.
        pixel: x and y in the picture.
        scale: pixels a unit of the world.
    """

    axes: NDArray[Any]
    centre: NDArray[Any]
    pixel: NDArray[Any]
    scale: float

    def __call__(self, points: ArrayLike) -> NDArray[Any]:
        """Project points of shape ``(n, 3)`` to ``(n, 2)``."""
        away = np.asarray(points, float).reshape(-1, 3) - self.centre
        projected: NDArray[Any] = self.pixel + self.scale * away @ self.axes[:2].T
        return projected


class Stage:
    """The offscreen window in which scenes of one size are rendered, one after another.

    Making a window and its shaders takes longer than to render most scenes. A context manager.

    Args:
        size: width and height of the pictures in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.window = vtkRenderWindow()
        self.window.SetOffScreenRendering(True)
        self.window.SetMultiSamples(0)  # averaging does it
        self.window.SetSize(size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING)
        self.window.SetNumberOfLayers(2)

    def __enter__(self) -> Stage:  # noqa: PYI034  # typing.Self needs Python 3.11
        """Return the stage."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the window back."""
        self.window.Finalize()


class Scene:
    """A picture in the making; it takes the place of the stage's former one.

    Args:
        stage: where it is rendered.
        background: of the page.
    """

    def __init__(self, stage: Stage, *, background: Colour) -> None:
        self.size = stage.size
        self._window = stage.window
        for former in list(self._window.GetRenderers()):
            self._window.RemoveRenderer(former)
        page = vtkRenderer()
        page.SetBackground(*background)
        self._window.AddRenderer(page)
        overlay = vtkRenderer()
        overlay.SetLayer(1)
        self._window.AddRenderer(overlay)
        self.canvas = Canvas(overlay, supersampling=SUPERSAMPLING)

    def panel(
        self,
        rectangle: Rectangle,
        *,
        bounds: ArrayLike,
        eye: Eye,
        background: Colour,
    ) -> tuple[vtkRenderer, Projection]:
        """Add a renderer that shows a box of the world as large as possible.

        Args:
            rectangle: its place in the picture.
            bounds: of the box, ``x0 x1 y0 y1 z0 z1``.
            eye: where it is seen from.
            background: of the rectangle.
        """
        renderer = vtkRenderer()
        renderer.SetBackground(*background)
        width, height = self.size
        renderer.SetViewport(
            rectangle.left / width,
            rectangle.bottom / height,
            rectangle.right / width,
            rectangle.top / height,
        )
        self._window.AddRenderer(renderer)
        axes, corners = eye.axes(), box_corners(bounds)
        across = corners @ axes[:2].T
        extent = np.maximum(np.ptp(across, axis=0), 1e-9)
        scale = float(min(rectangle.width / extent[0], rectangle.height / extent[1]))
        middle = (across.min(axis=0) + across.max(axis=0)) / 2
        centre = middle @ axes[:2] + corners.mean(axis=0) @ axes[2] * axes[2]
        depth = float(np.ptp(corners @ axes[2])) + 1
        camera = renderer.GetActiveCamera()
        camera.ParallelProjectionOn()
        camera.SetFocalPoint(*centre)
        camera.SetPosition(*(centre + depth * axes[2]))
        camera.SetViewUp(*axes[1])
        camera.SetParallelScale(rectangle.height / 2 / scale)
        camera.SetClippingRange(depth * 1e-3, depth * 2)
        pixel = np.array(
            [(rectangle.left + rectangle.right) / 2, (rectangle.bottom + rectangle.top) / 2]
        )
        return renderer, Projection(axes, centre, pixel, scale)

    def render(self) -> NDArray[Any]:
        """Return the picture, shape ``(H, W, 3)``, uint8, row 0 at the top."""
        self._window.Render()
        width, height = (side * SUPERSAMPLING for side in self.size)
        pixels = vtkUnsignedCharArray()
        self._window.GetPixelData(0, 0, width - 1, height - 1, 0, pixels, 0)
        rows = vtk_to_numpy(pixels).reshape(height, width, 3)
        return np.ascontiguousarray(_averaged(rows)[::-1])


def _averaged(pixels: NDArray[Any]) -> NDArray[Any]:
    """Average squares of pixels, shape ``(H, W, 3)``, uint8, in integers: floats take long."""
    rows = pixels[::SUPERSAMPLING].astype(np.uint16)
    for i in range(1, SUPERSAMPLING):
        rows += pixels[i::SUPERSAMPLING]
    total = rows[:, ::SUPERSAMPLING].copy()
    for i in range(1, SUPERSAMPLING):
        total += rows[:, i::SUPERSAMPLING]
    total += SUPERSAMPLING**2 // 2
    total //= SUPERSAMPLING**2
    result: NDArray[Any] = total.astype(np.uint8)
    return result


def box_corners(bounds: ArrayLike) -> NDArray[Any]:
    """Return the corners of a box ``x0 x1 y0 y1 z0 z1``, shape ``(8, 3)``, x fastest."""
    x, y, z = np.asarray(bounds, float).reshape(3, 2)
    return np.array([(x[i & 1], y[i >> 1 & 1], z[i >> 2]) for i in range(8)])
