"""Datasets as tidy tables: one row a value, with the indices that say which value it is.

Polydata and atlas images of a view give the same columns. docs/data-format.md lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy

from tensorview.snapshot import GROUP_NONE
from tensorview.worker.datasets import arrays, blocks
from tensorview.worker.paths import read_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkImageData, vtkMultiBlockDataSet, vtkPolyData

Table: TypeAlias = "dict[str, NDArray[Any]]"
"""Columns of equal length by name; texts have dtype object."""


def tables(channel: str, dataset: vtkPolyData | vtkMultiBlockDataSet) -> list[Table]:
    """Return the tables of one dataset of a frame: one, or for an atlas one a layer.

    Args:
        channel: the dataset's name in the frame.
        dataset: of a frame, made or read back; an empty one gives no table.
    """
    view = channel.removesuffix("_atlas")
    if channel != view:
        return [_with_layer(name, _IMAGES[view](image)) for name, image in blocks(dataset)]
    return [_POLYDATA[view](dataset)] if dataset.GetNumberOfPoints() else []


def _with_layer(name: str, table: Table) -> Table:
    rows = len(next(iter(table.values())))
    return {"layer": np.full(rows, name, object), **table}


def _weights(dataset: vtkPolyData) -> Table:
    return _cells(dataset, names=("filter", "in_channel", "row", "col", "weight"))


def _correlation(dataset: vtkPolyData) -> Table:
    return _cells(dataset, names=("filter_a", "filter_b", "group", "pcc"))


def _maps(dataset: vtkPolyData) -> Table:
    cells = arrays(dataset.GetCellData())
    names = ("filter", "group", "row", "col", *_activations(cells))
    table = _cells(dataset, names=names)
    is_pixel = table["row"] >= 0  # the other cells are frames
    return {name: column[is_pixel] for name, column in table.items()}


def _distribution(dataset: vtkPolyData) -> Table:
    """One row a bin; a channel's cells are a strip of four points a bin, then a bar."""
    cells, points = arrays(dataset.GetCellData()), arrays(dataset.GetPointData())
    offsets = vtk_to_numpy(dataset.GetStrips().GetOffsetsArray())
    bins = np.diff(offsets)[::2] // 4
    channel = np.repeat(np.arange(len(bins)), bins)
    number = np.arange(len(channel)) - np.repeat(np.cumsum(bins) - bins, bins)
    left = offsets[::2][channel] + 4 * number
    return {
        "layer": _layer_names(dataset, cells["layer"][::2][channel]),
        "filter": cells["filter"][::2][channel],
        "group": cells["group"][::2][channel],
        "bin": number,
        "activation_low": points["activation"][left],
        "activation_high": points["activation"][left + 2],
        "density": points["density"][left],
        "zero_mass": cells["zero_mass"][::2][channel],
    }


def _trajectory(dataset: vtkPolyData) -> Table:
    """One row a point; a path of which no point is finite is in no cell, and left out."""
    cells, points = arrays(dataset.GetCellData()), arrays(dataset.GetPointData())
    subspaces = arrays(dataset.GetFieldData())["subspaces"]
    length = int(np.argmax(np.append(np.diff(points["step"]) <= 0, True))) + 1
    found = read_paths(dataset)
    if len(found) * length > len(points["step"]):
        raise ValueError("more paths than points")
    first = np.array([path.ids[0] for path in found], np.int64) // length * length
    rows = (first[:, None] + np.arange(length)).reshape(-1)
    cell = np.repeat(np.array([path.cell for path in found], np.int64), length)
    coordinate = points["coordinate"][rows]
    return {
        "layer": _layer_names(dataset, cells["layer"][cell]),
        "subspace": subspaces[cell],
        "step": points["step"][rows],
        "loss": points["loss"][rows],
        "pruned": points.get("pruned", np.zeros(len(points["step"]), np.int32))[rows],
        **{axis: coordinate[:, index] for index, axis in enumerate("xyz")},
    }


def _scalars(dataset: vtkPolyData) -> Table:
    """One row a capture; a NUL, which no CSV reader takes, stays percent-encoded."""
    columns = arrays(dataset.GetPointData())
    return {unquote(name).replace("\x00", "%00"): column for name, column in columns.items()}


def _weights_image(image: vtkImageData) -> Table:
    field = arrays(image.GetFieldData())
    filters, channels = field["tile_filters"], field["window_channels"]
    (tiles,) = _tiles(image, names=("weight",))
    windows = _cut(tiles, grid=field["windows"], count=len(channels))  # (F, I, h, w)
    first = field["tile_first_channels"]
    index = np.indices(windows.shape, np.int32).reshape(4, -1)
    return {
        "filter": filters[index[0]],
        "in_channel": first[index[0]] + channels[index[1]],
        "row": index[2],
        "col": index[3],
        "weight": windows.reshape(-1),
    }


def _maps_image(image: vtkImageData) -> Table:
    field = arrays(image.GetFieldData())
    names = _activations(arrays(image.GetCellData()))
    maps = _tiles(image, names=names)  # each (C, H, W)
    index = np.indices(maps[0].shape, np.int32).reshape(3, -1)
    return {
        "filter": field["tile_filters"][index[0]],
        "group": field["tile_groups"][index[0]],
        "row": index[1],
        "col": index[2],
        **{name: values.reshape(-1) for name, values in zip(names, maps, strict=True)},
    }


def _correlation_image(image: vtkImageData) -> Table:
    field = arrays(image.GetFieldData())
    filters, groups = field["tile_filters"], field["tile_groups"]
    (pcc,) = _tiles(image, names=("pcc",))  # (C, 1, C)
    if pcc.shape != (len(filters), 1, len(groups)):
        raise ValueError(f"a matrix of shape {pcc.shape} for {len(filters)} filters")
    common = (groups[:, None] == groups) & (groups >= 0)
    return {
        "filter_a": np.repeat(filters, len(filters)),
        "filter_b": np.tile(filters, len(filters)),
        "group": np.where(common, groups, GROUP_NONE).reshape(-1),
        "pcc": pcc.reshape(-1),
    }


_POLYDATA: dict[str, Callable[[vtkPolyData], Table]] = {
    "weights": _weights,
    "trajectory": _trajectory,
    "distribution": _distribution,
    "maps": _maps,
    "correlation": _correlation,
    "scalars": _scalars,
}
_IMAGES: dict[str, Callable[[vtkImageData], Table]] = {
    "weights": _weights_image,
    "maps": _maps_image,
    "correlation": _correlation_image,
}


def _cells(dataset: vtkPolyData, *, names: Sequence[str]) -> Table:
    cells = arrays(dataset.GetCellData())
    layer = _layer_names(dataset, cells["layer"])
    return {"layer": layer, **{name: cells[name] for name in names}}


def _activations(names: Iterable[str]) -> list[str]:
    """Return the mean, then the samples in order."""
    samples = (name for name in names if name.startswith("activation_sample_"))
    return ["activation", *sorted(samples, key=lambda name: int(name.rpartition("_")[2]))]


def _layer_names(dataset: vtkPolyData, indices: NDArray[Any]) -> NDArray[Any]:
    names: NDArray[Any] = arrays(dataset.GetFieldData())["layers"][indices]
    return names


def _tiles(image: vtkImageData, *, names: Sequence[str]) -> list[NDArray[Any]]:
    """Cut an image's cell arrays into its tiles, each of shape ``(tiles, height, width)``."""
    field, cells = arrays(image.GetFieldData()), arrays(image.GetCellData())
    width, height, _ = (n - 1 for n in image.GetDimensions())
    count = len(field["tile_filters"])
    from_top = [cells[name].reshape(height, width)[::-1] for name in names]
    return [_cut(pixels, grid=field["tiles"], count=count) for pixels in from_top]


def _cut(pixels: NDArray[Any], *, grid: NDArray[Any], count: int) -> NDArray[Any]:
    """Cut a mosaic into its tiles.

    Args:
        pixels: shape ``(..., height, width)``, row 0 at the top.
        grid: columns, rows, tile width, tile height, gutter.
        count: tiles there are; the last row of the grid may be incomplete.

    Returns:
        Shape ``(..., count, tile height, tile width)``.

    Raises:
        ValueError: that is not how the mosaic is made.
    """
    columns, rows, width, height, gutter = map(int, grid)
    lead = pixels.shape[:-2]
    whole = rows * (height + gutter) - gutter, columns * (width + gutter) - gutter
    if min(rows, columns, gutter) < 0 or count > rows * columns or pixels.shape[-2:] != whole:
        raise ValueError(f"{count} tiles in a grid {grid} of {pixels.shape[-2:]} pixels")
    padded = np.pad(pixels, [(0, 0)] * len(lead) + [(0, gutter)] * 2)
    split = padded.reshape(*lead, rows, height + gutter, columns, width + gutter)
    tiles = np.moveaxis(split, -2, -3).reshape(
        *lead, rows * columns, height + gutter, width + gutter
    )
    return tiles[..., :count, :height, :width]
