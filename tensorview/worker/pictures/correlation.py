"""The picture of the correlation: heat maps, with the groups of rows and columns at their sides."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.snapshot import GROUP_DEAD
from tensorview.worker.pictures import colours, props
from tensorview.worker.pictures.content import Tiles, cells, gather
from tensorview.worker.pictures.groups import group_keys
from tensorview.worker.pictures.legend import Bar, Key
from tensorview.worker.pictures.scene import Eye

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    from tensorview.worker.frame import Frame
    from tensorview.worker.pictures.content import Place
    from tensorview.worker.pictures.part import Part

TITLE = "Correlation of feature maps"
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


def draw(part: Part, frame: Frame, *, last: Frame) -> None:
    """Draw the correlation of a frame.

    Args:
        part: of a picture, empty.
        frame: what to draw.
        last: its groups are in the legend, too.
    """
    found = _gather(frame)
    if not found:
        part.nothing()
        return
    edge = 1.5 * SIDE
    for (place, heat), slot in zip(found, part.grid(len(found)), strict=True):
        if heat is None:
            part.absent(slot, place.name, lacks="activations")
            continue
        x0, x1, y0, y1 = heat.extent
        bounds = (x0 - edge, x1, y0, y1 + edge, 0, 0)
        renderer, projection = part.scene.panel(
            slot.rectangle, bounds=bounds, eye=Eye(), background=colours.PAGE
        )
        part.panel_title(slot, place)
        pixels = colours.ramp_colours(
            heat.pcc, colours.DIVERGING, low=-1, high=1, not_finite=colours.UNDEFINED
        )
        width = projection.scale * (x1 - x0)
        renderer.AddActor(props.image(pixels, heat.extent, screen_width=width))
        strip = colours.group_colours(heat.groups)
        for pixels, extent in (
            (strip[:, None], (x0 - edge, x0 - SIDE / 2, y0, y1)),
            (strip[None], (x0, x1, y1 + SIDE / 2, y1 + edge)),
        ):
            renderer.AddActor(props.image(pixels, extent, screen_width=width))
    part.legend.bars(Bar(colours.DIVERGING, -1, 1), title="Pearson r")
    maps = [heat for _, heat in found + _gather(last) if heat is not None]
    keys = group_keys(np.concatenate([heat.groups for heat in maps]), dead="dead or not finite")
    part.legend.keys(keys, title="groups (at the sides)")
    if not all(np.isfinite(heat.pcc).all() for heat in maps):
        part.legend.keys([Key(colours.UNDEFINED, "not defined")])


def _gather(frame: Frame) -> list[tuple[Place, _HeatMap | None]]:
    return gather("correlation", frame, from_cells=_from_cells, from_tiles=_from_tiles)


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
