"""The picture of the correlation: heat maps, with the groups of rows and columns at their sides."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.snapshot import GROUP_DEAD
from tensorview.worker.pictures import colours, props
from tensorview.worker.pictures.content import Tiles, cells, gather, header
from tensorview.worker.pictures.groups import group_keys
from tensorview.worker.pictures.page import Key, Page
from tensorview.worker.pictures.scene import Eye

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    from tensorview.worker.frame import Frame

SIDE = 0.035
"""Width of the strip of groups, and half as much between it and the map, in panel units."""


class _HeatMap(NamedTuple):
    """One layer's heat map.

    Attributes:
        pcc: shape ``(C, C)``, row 0 at the top.
        groups: shape ``(C,)``.
        extent: ``x0 x1 y0 y1``.
    """

    pcc: NDArray[Any]
    groups: NDArray[Any]
    extent: tuple[float, ...]


def draw(frame: Frame, *, size: tuple[int, int]) -> NDArray[Any]:
    """Draw the correlation of a frame."""
    page = Page("Correlation of feature maps", header=header(frame), size=size)
    found = gather("correlation", frame, from_cells=_from_cells, from_tiles=_from_tiles)
    if not found:
        page.nothing()
        return page.render()
    edge = 1.5 * SIDE
    grid = page.grid(len(found))
    for (place, heat), slot in zip(found, grid, strict=True):
        x0, x1, y0, y1 = heat.extent
        bounds = (x0 - edge, x1, y0, y1 + edge, 0, 0)
        renderer, projection = page.scene.panel(
            slot.rectangle, bounds=bounds, eye=Eye(), background=colours.PAGE
        )
        page.panel_title(slot, place)
        pixels = colours.ramp_colours(
            heat.pcc, colours.DIVERGING, low=-1, high=1, not_finite=colours.UNDEFINED
        )
        width = projection.scale * (x1 - x0)
        renderer.AddActor(props.image(pixels, heat.extent, screen_width=width))
        strip = colours.group_colours(heat.groups)
        for part, extent in (
            (strip[:, None], (x0 - edge, x0 - SIDE / 2, y0, y1)),
            (strip[None], (x0, x1, y1 + SIDE / 2, y1 + edge)),
        ):
            renderer.AddActor(props.image(part, extent, screen_width=width))
    page.colour_bar(colours.DIVERGING, title="Pearson r", low=-1, high=1)
    groups = np.concatenate([heat.groups for _, heat in found])
    keys = group_keys(groups, dead="dead or not finite")
    page.legend(keys, title="groups (at the sides)")
    if not all(np.isfinite(heat.pcc).all() for _, heat in found):
        page.legend([Key(colours.UNDEFINED, "not defined")])
    return page.render()


def _from_cells(polydata: vtkPolyData, layer: int) -> _HeatMap | None:
    found = cells(polydata, "polys", layer=layer)
    if found is None:
        return None
    count = math.isqrt(len(found.sizes))
    pcc = found.data["pcc"].reshape(count, count)
    groups = np.diagonal(found.data["group"].reshape(count, count)).copy()
    groups[np.isnan(np.diagonal(pcc))] = GROUP_DEAD
    low, high = found.points.min(axis=0), found.points.max(axis=0)
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    return _HeatMap(pcc, groups, extent)


def _from_tiles(tiles: Tiles) -> _HeatMap:
    assert tiles.groups is not None
    return _HeatMap(tiles.pixels["pcc"], tiles.groups, tiles.extent)
