"""The picture of the maps: every feature map as an image, framed in the colour of its group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.errors import ConfigurationError
from tensorview.snapshot import GROUP_DEAD
from tensorview.worker.pictures import colours, props
from tensorview.worker.pictures.content import Cells, Tiles, cells, gather, header
from tensorview.worker.pictures.groups import group_keys
from tensorview.worker.pictures.page import Key, Page
from tensorview.worker.pictures.scene import SUPERSAMPLING, Eye

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData
    from vtkmodules.vtkRenderingCore import vtkRenderer

    from tensorview.worker.frame import Frame

FRAME_OF_GUTTER, FRAME_OF_TILE = 0.35, 0.08
"""Width of a frame in an atlas as a share of the gutter, and at most of a tile's longer side."""
LEAST_CROSSED = 7.0
"""Least side of a map, in pixels, for a cross that can be seen as one."""

_SIDES = ((0, 1), (1, 2), (2, 3), (3, 0))


class _Maps(NamedTuple):
    """One layer's maps.

    Attributes:
        quads: of the maps, None for an atlas.
        tiles: of an atlas, else None.
        values: activations by their layer's range, one a quad or pixel.
        frames: inner and outer rectangle of each, shape ``(C, 2, 4)``: x0 x1 y0 y1.
        groups: shape ``(C,)``.
    """

    quads: Cells | None
    tiles: Tiles | None
    values: NDArray[Any]
    frames: NDArray[Any]
    groups: NDArray[Any]


def draw(frame: Frame, *, size: tuple[int, int], sample: int | None = None) -> NDArray[Any]:
    """Draw the maps of a frame.

    Args:
        frame: what to draw.
        size: width and height of the picture in pixels.
        sample: of the probe, None for the mean over it.

    Raises:
        ConfigurationError: the frame has no maps of *sample*.
    """
    which = "mean over the probe" if sample is None else f"sample {sample} of the probe"
    page = Page(f"Feature maps, {which}", header=header(frame), size=size)
    found = gather(
        "maps",
        frame,
        from_cells=lambda polydata, layer: _from_cells(polydata, layer, sample=sample),
        from_tiles=lambda tiles: _from_tiles(tiles, sample=sample),
    )
    if not found:
        page.nothing()
        return page.render()
    broken = False
    for (place, maps), slot in zip(found, page.grid(len(found)), strict=True):
        renderer, projection = page.scene.panel(
            slot.rectangle, bounds=(*place.bounds[:4], 0, 0), eye=Eye(), background=colours.PAGE
        )
        page.panel_title(slot, place)
        pixels = colours.ramp_colours(
            maps.values, colours.SEQUENTIAL, low=0, high=1, not_finite=colours.NOT_FINITE
        )
        if maps.tiles is None:
            assert maps.quads is not None
            renderer.AddActor(props.polygons(maps.quads, colours=pixels))
            broken |= not np.isfinite(maps.values).all()
        else:
            between = maps.tiles.between()
            pixels[between] = colours.PAGE
            width = projection.scale * (maps.tiles.extent[1] - maps.tiles.extent[0])
            renderer.AddActor(props.image(pixels, maps.tiles.extent, screen_width=width))
            broken |= not np.isfinite(maps.values[~between]).all()
        _add_frames(renderer, maps, crossed=projection.scale * _side(maps) > LEAST_CROSSED)
    page.colour_bar(
        colours.SEQUENTIAL,
        title="activation\nby range of its layer",
        low=0,
        high=1,
        labels=[(0, "low"), (1, "high")],
    )
    groups = np.concatenate([maps.groups for _, maps in found])
    page.legend(group_keys(groups, mark="frame"), title="frames")
    if broken:
        page.legend([Key(colours.NOT_FINITE, "not finite")])
    return page.render()


def _from_cells(polydata: vtkPolyData, layer: int, *, sample: int | None) -> _Maps | None:
    quads = cells(polydata, "polys", layer=layer)
    strips = cells(polydata, "strips", layer=layer)
    if quads is None or strips is None:
        return None
    values = quads.data["activation_scaled"]
    if sample is not None:
        low, high = _range(quads.data["activation"], values)
        values = (_sample(quads.data, sample) - low) / (high - low)
    corners = strips.points.reshape(-1, 8, 3)  # 0 to 3 inner, 4 to 7 outer, from the lower left
    frames = [corners[:, [i, i + 2], axis] for i in (0, 4) for axis in (0, 1)]
    return _Maps(
        quads=quads,
        tiles=None,
        values=values,
        frames=np.stack(frames, axis=1).reshape(-1, 2, 4),
        groups=strips.data["group"],
    )


def _from_tiles(tiles: Tiles, *, sample: int | None) -> _Maps:
    low, high = tiles.color_range
    values = tiles.pixels["activation"] if sample is None else _sample(tiles.pixels, sample)
    inner = tiles.boxes()
    pixel = (inner[0, 1] - inner[0, 0]) / tiles.tile_width
    longer = max(tiles.tile_width, tiles.tile_height)
    width = pixel * min(FRAME_OF_GUTTER * tiles.gutter, FRAME_OF_TILE * longer)
    outer = inner + width * np.array([-1, 1, -1, 1])
    assert tiles.groups is not None
    return _Maps(
        quads=None,
        tiles=tiles,
        values=(values - low) / (high - low),
        frames=np.stack([inner, outer], axis=1),
        groups=tiles.groups,
    )


def _sample(pixels: dict[str, NDArray[Any]], sample: int) -> NDArray[Any]:
    name = f"activation_sample_{sample}"
    if name not in pixels:
        held = sorted(int(n.rpartition("_")[2]) for n in pixels if n.startswith("activation_sam"))
        raise ConfigurationError(
            f"sample={sample} cannot be drawn: the run holds maps of samples {held}."
        )
    return pixels[name]


def _range(activation: NDArray[Any], scaled: NDArray[Any]) -> tuple[float, float]:
    """Return the activations whose scaled values are 0 and 1; as they are where all are equal."""
    usable = np.isfinite(activation) & np.isfinite(scaled)
    if not usable.any():
        return 0.0, 1.0
    a, s = activation[usable].astype(float), scaled[usable].astype(float)
    first, last = int(a.argmin()), int(a.argmax())
    if s[last] <= s[first]:
        return 0.0, max(1.0, float(a[last]))
    span = (a[last] - a[first]) / (s[last] - s[first])
    low = a[first] - span * s[first]
    return low, low + span


def _side(maps: _Maps) -> float:
    """Return the shorter side of a map in the world."""
    x0, x1, y0, y1 = maps.frames[0, 0]
    return float(min(x1 - x0, y1 - y0))


def _add_frames(renderer: vtkRenderer, maps: _Maps, *, crossed: bool) -> None:
    """Frame maps by group, and cross out the dead ones if *crossed*."""
    inner, outer = (
        maps.frames[:, i][:, [0, 2, 1, 2, 1, 3, 0, 3]].reshape(-1, 4, 2) for i in (0, 1)
    )
    sides = [[outer[:, i], outer[:, j], inner[:, j], inner[:, i]] for i, j in _SIDES]
    flat = np.array(sides).transpose(2, 0, 1, 3).reshape(-1, 4, 2)
    colour = np.repeat(colours.group_colours(maps.groups), len(_SIDES), axis=0)
    renderer.AddActor(props.quads(_raised(flat), colours=colour))
    dead = maps.groups == GROUP_DEAD
    if crossed and dead.any():
        ends = _raised(inner[dead]).reshape(-1, 3)
        ids = 4 * np.arange(dead.sum())[:, None, None] + np.array([[0, 2], [1, 3]])
        ids = ids.reshape(-1, 2)
        tone = np.broadcast_to(np.array(colours.NO_GROUP), (len(ids), 3))
        renderer.AddActor(props.lines(ends, ids, colours=tone, width=float(SUPERSAMPLING)))


def _raised(flat: NDArray[Any]) -> NDArray[Any]:
    """Put points of shape ``(..., 2)`` a little above the maps."""
    return np.concatenate([flat, np.full((*flat.shape[:-1], 1), 0.01)], axis=-1)
