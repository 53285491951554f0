"""The picture of the maps: every feature map as an image, framed in the colour of its group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.errors import ConfigurationError
from tensorview.snapshot import GROUP_DEAD
from tensorview.worker.pictures import colours, props
from tensorview.worker.pictures.content import Cells, Tiles, cells, gather
from tensorview.worker.pictures.groups import group_keys
from tensorview.worker.pictures.legend import Bar, Key
from tensorview.worker.pictures.scene import SUPERSAMPLING, Eye

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkPolyData
    from vtkmodules.vtkRenderingCore import vtkRenderer

    from tensorview.worker.frame import Frame
    from tensorview.worker.pictures.content import Place
    from tensorview.worker.pictures.part import Part

FRAME_OF_GUTTER, FRAME_OF_TILE = 0.35, 0.08
"""Width of a frame in an atlas as a share of the gutter, and at most of a tile's longer side."""
BORDER = 0.01
LEAST_FRAME = 0.6
"""Least width of a frame in pixels: thinner ones would be seen here and there only."""
LEAST_CROSSED = 7.0
"""Least side of a map, in pixels, for a cross that can be seen as one."""

ROUNDING = 1e-5
"""Share of a range below which its ends are not told apart."""

UNSIGNED = Bar(colours.SEQUENTIAL, 0, 1, ((0, "low"), (1, "high")))
SIGNED = Bar(colours.WEIGHTS, -1, 1, ((-1, "-range"), (0, "0"), (1, "+range")))
BARS = (UNSIGNED, SIGNED)

_SIDES = ((0, 1), (1, 2), (2, 3), (3, 0))


class _Scale(NamedTuple):
    """How a layer is coloured.

    Attributes:
        bar: in the legend.
        low: activation at its lower end.
        high: activation at its upper end.
        text: both, for the title.
    """

    bar: Bar
    low: float
    high: float
    text: str


class _Maps(NamedTuple):
    """One layer's maps.

    Attributes:
        quads: of the maps, None for an atlas.
        tiles: of an atlas, else None.
        values: activations, one a quad or pixel.
        range: of the layer.
        frames: inner and outer rectangle of each, shape ``(C, 2, 4)``: x0 x1 y0 y1.
        groups: shape ``(C,)``.
    """

    quads: Cells | None
    tiles: Tiles | None
    values: NDArray[Any]
    range: tuple[float, float]
    frames: NDArray[Any]
    groups: NDArray[Any]


def title(sample: int | None) -> str:
    """Name the picture."""
    which = "mean over the probe" if sample is None else f"sample {sample} of the probe"
    return f"Feature maps, {which}"


def draw(part: Part, frame: Frame, *, last: Frame, sample: int | None) -> None:
    """Draw the maps of a frame.

    Layers whose range goes below 0 are coloured by sign.

    Args:
        part: of a picture, empty.
        frame: what to draw.
        last: where the ranges of layers are taken from; its groups are in the legend, too.
        sample: of the probe, None for the mean over it.

    Raises:
        ConfigurationError: the frame has no maps of *sample*.
    """
    found, found_last = _gather(frame, sample=sample), _gather(last, sample=None)
    if not found:
        part.nothing()
        return
    ranges = {place.name: maps.range for place, maps in found_last if maps is not None}
    broken = False
    scales = set()
    for (place, maps), slot in zip(found, part.grid(len(found)), strict=True):
        if maps is None:
            part.absent(slot, place.name, lacks="activations")
            continue
        scale = _scale(*ranges.get(place.name, maps.range))
        scales.add(scale.bar)
        part.panel_title(slot, _with_range(place, scale.text))
        x0, x1, y0, y1 = place.bounds[:4]
        renderer, projection = part.scene.panel(
            slot.rectangle,
            bounds=(x0 - BORDER, x1 + BORDER, y0 - BORDER, y1 + BORDER, 0, 0),
            eye=Eye(),
            background=colours.PAGE,
        )
        pixels = colours.ramp_colours(
            maps.values,
            scale.bar.ramp,
            low=scale.low,
            high=scale.high,
            not_finite=colours.NOT_FINITE,
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
        _add_frames(renderer, maps, scale=projection.scale)
    part.legend.bars(*sorted(scales, key=BARS.index), title="activation\nby range of its layer")
    if broken:
        part.legend.keys([Key(colours.NOT_FINITE, "not finite")])
    groups = [maps.groups for _, maps in found + found_last if maps is not None]
    part.legend.keys(group_keys(np.concatenate(groups), mark="frame"), title="frames")


def _gather(frame: Frame, *, sample: int | None) -> list[tuple[Place, _Maps | None]]:
    return gather(
        "maps",
        frame,
        from_cells=lambda polydata, layer: _from_cells(polydata, layer, sample=sample),
        from_tiles=lambda tiles: _from_tiles(tiles, sample=sample),
    )


def _scale(low: float, high: float) -> _Scale:
    """Choose how to colour a layer by its range."""
    if low >= 0:
        return _Scale(UNSIGNED, low, high, f"{low:.3g} to {high:.3g}")
    most = max(-low, high)
    return _Scale(SIGNED, -most, most, f"±{most:.3g}")


def _with_range(place: Place, text: str) -> Place:
    """Name the range that colours are drawn with, which is the last part of the title."""
    head, gap, _ = place.title.rpartition("  ")
    return place._replace(title=head + gap + text)


def _from_cells(polydata: vtkPolyData, layer: int, *, sample: int | None) -> _Maps | None:
    quads = cells(polydata, "polys", layer=layer)
    strips = cells(polydata, "strips", layer=layer)
    if quads is None or strips is None:
        return None
    mean = quads.data["activation"]
    corners = strips.points.reshape(-1, 8, 3)  # 0 to 3 inner, 4 to 7 outer, from the lower left
    sides = [corners[:, [i, i + 2], axis] for i in (0, 4) for axis in (0, 1)]
    frames = np.stack(sides, axis=1).reshape(-1, 2, 4)
    if quads.data["row"].max() == 0:
        quads, frames = _evenly_framed(quads, frames)
    return _Maps(
        quads=quads,
        tiles=None,
        values=mean if sample is None else _sample(quads.data, sample),
        range=_range(mean, quads.data["activation_scaled"]),
        frames=frames,
        groups=strips.data["group"],
    )


def _evenly_framed(quads: Cells, frames: NDArray[Any]) -> tuple[Cells, NDArray[Any]]:
    """Stretch maps of one row until their frames are as narrow above as at the sides.

    Such maps are many times as wide as high, and so are the pixels that frames are measured in.
    """
    inner, outer = frames[:, 0], frames[:, 1]
    edge = inner[0, 0] - outer[0, 0]
    low, high = outer[:, 2] + edge, outer[:, 3] - edge
    stretch = float((high[0] - low[0]) / (inner[0, 3] - inner[0, 2]))
    middles = np.unique((low + high) / 2)
    y = quads.points[:, 1]
    middle = middles[np.abs(y[:, None] - middles).argmin(axis=1)]
    points, frames = quads.points.copy(), frames.copy()
    points[:, 1] = middle + stretch * (y - middle)
    frames[:, 0, 2], frames[:, 0, 3] = low, high
    return quads._replace(points=points), frames


def _from_tiles(tiles: Tiles, *, sample: int | None) -> _Maps:
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
        values=values,
        range=tiles.color_range,
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
    """Return the activations whose scaled values are 0 and 1."""
    usable = np.isfinite(activation) & np.isfinite(scaled)
    if not usable.any():
        return 0.0, 1.0
    a, s = activation[usable].astype(float), scaled[usable].astype(float)
    first, last = int(a.argmin()), int(a.argmax())
    if s[last] > s[first]:
        span = (a[last] - a[first]) / (s[last] - s[first])
    else:  # one value tells one thing: where nothing speaks against it, the range begins at 0
        span = a[first] / s[first] if a[first] * s[first] > 0 else 1.0
    low = a[first] - span * s[first]
    return _round(low, span), _round(low + span, span)


def _round(end: float, span: float) -> float:
    """Take what differs from 0 by rounding of float32 alone for 0."""
    return 0.0 if abs(end) < ROUNDING * span else end


def _add_frames(renderer: vtkRenderer, maps: _Maps, *, scale: float) -> None:
    """Frame maps by group, and cross out the dead ones, as far as crosses can be seen.

    Args:
        renderer: of the panel.
        maps: one layer's.
        scale: pixels a unit of the world.
    """
    x0, x1, y0, y1 = maps.frames[0, 0]
    crossed = scale * min(x1 - x0, y1 - y0) > LEAST_CROSSED
    frames = maps.frames.copy()
    least = LEAST_FRAME / scale * np.array([-1, 1, -1, 1])
    low, high = [0, 2], [1, 3]
    frames[:, 1, low] = np.minimum(frames[:, 1, low], (frames[:, 0] + least)[:, low])
    frames[:, 1, high] = np.maximum(frames[:, 1, high], (frames[:, 0] + least)[:, high])
    inner, outer = (frames[:, i][:, [0, 2, 1, 2, 1, 3, 0, 3]].reshape(-1, 4, 2) for i in (0, 1))
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
