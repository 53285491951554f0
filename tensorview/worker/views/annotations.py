"""Field data: what a client needs to draw every frame of a run the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy

from tensorview.worker.views.datasets import array, strings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, DTypeLike
    from vtkmodules.vtkCommonCore import vtkDataArray
    from vtkmodules.vtkCommonDataModel import vtkDataSet, vtkPolyData

    from tensorview.snapshot import Layer, Snapshot
    from tensorview.worker.views.atlas import AtlasImage


class LayerNote(NamedTuple):
    """What is said of one layer: its name, title, and bounds ``x0 x1 y0 y1 z0 z1``."""

    name: str
    title: str
    bounds: tuple[float, ...]


def annotate(
    dataset: vtkDataSet,
    *,
    snapshot: Snapshot,
    notes: Sequence[LayerNote],
    bounds: tuple[float, ...],
    color_array: str,
    color_range: tuple[float, float],
) -> None:
    """Put the arrays that `tensorview.worker.frame` names into the field data of *dataset*.

    Args:
        dataset: changed in place.
        snapshot: what it was made of.
        notes: one a layer.
        bounds: of the whole view.
        color_array: the array to colour by.
        color_range: its range.
    """
    for entry in (
        _numbers("step", [snapshot.step], dtype=np.int64),
        _numbers("capture", [snapshot.capture], dtype=np.int64),
        _numbers("loss", [last_loss(snapshot)]),
        strings("name", [snapshot.name]),
        strings("focus", [snapshot.focus]),
        strings("layers", [note.name for note in notes]),
        strings("layer_titles", [note.title for note in notes]),
        _numbers("layer_bounds", [bound for note in notes for bound in note.bounds]),
        _numbers("bounds", bounds),
        strings("color_array", [color_array]),
        _numbers("color_range", color_range),
    ):
        dataset.GetFieldData().AddArray(entry)
    # ParaView colours what is shown for the first time by its active scalars.
    for attributes in (dataset.GetPointData(), dataset.GetCellData()):
        if attributes.HasArray(color_array):
            attributes.SetActiveScalars(color_array)


def add_original_filters(polydata: vtkPolyData, *, layers: Sequence[Layer]) -> None:
    """Add to every cell array of filters one of what these were before any was removed.

    ``filter`` gets ``original_filter``, and those of a correlation likewise.

    Args:
        polydata: changed in place.
        layers: indexed by its cell array ``layer``.
    """
    cells = polydata.GetCellData()
    originals = [np.empty(0, np.int32), *(layer.original_filters for layer in layers)]
    first = np.cumsum([len(part) for part in originals])[:-1]
    for name in ("filter", "filter_a", "filter_b"):
        if cells.HasArray(name):
            layer, number = (vtk_to_numpy(cells.GetArray(each)) for each in ("layer", name))
            found = np.concatenate(originals)[first[layer] + number]
            cells.AddArray(array(f"original_{name}", found))


def annotate_tiles(drawn: AtlasImage, *, layer: Layer) -> None:
    """Put the geometry of an atlas image's tiles into its field data, and whose they are."""
    field_data = drawn.image.GetFieldData()
    field_data.AddArray(_numbers("tiles", drawn.tiles, dtype=np.int32))
    field_data.AddArray(_numbers("tile_filters", drawn.filters, dtype=np.int32))
    originals = layer.original_filters[drawn.filters]
    field_data.AddArray(_numbers("tile_original_filters", originals, dtype=np.int32))
    if drawn.groups is not None:
        field_data.AddArray(_numbers("tile_groups", drawn.groups, dtype=np.int32))


def last_loss(snapshot: Snapshot) -> float:
    """Loss at this capture, NaN where none was logged."""
    losses = snapshot.scalars.get("loss", snapshot.trajectory_losses)
    return float(losses[-1]) if len(losses) else float("nan")


def _numbers(name: str, values: ArrayLike, *, dtype: DTypeLike = np.float64) -> vtkDataArray:
    return array(name, np.array(values, dtype))
