"""Field data: what a client needs to draw every frame of a run the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tensorview.worker.views.datasets import numbers, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vtkmodules.vtkCommonDataModel import vtkDataSet

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
    field_data = dataset.GetFieldData()
    for entry in (
        numbers("step", [snapshot.step], dtype=np.int64),
        numbers("capture", [snapshot.capture], dtype=np.int64),
        numbers("loss", [last_loss(snapshot)]),
        texts("name", (snapshot.name,)),
        texts("focus", (snapshot.focus,)),
        texts("layers", tuple(note.name for note in notes)),
        texts("layer_titles", tuple(note.title for note in notes)),
        numbers("layer_bounds", [bound for note in notes for bound in note.bounds]),
        numbers("bounds", bounds),
        texts("color_array", (color_array,)),
        numbers("color_range", color_range),
    ):
        field_data.AddArray(entry)
    # ParaView colours what is shown for the first time by its active scalars.
    for attributes in (dataset.GetPointData(), dataset.GetCellData()):
        if attributes.HasArray(color_array):
            attributes.SetActiveScalars(color_array)


def annotate_tiles(drawn: AtlasImage, *, layer: Layer) -> None:
    """Put the geometry of an atlas image's tiles into its field data, and whose they are."""
    field_data = drawn.image.GetFieldData()
    field_data.AddArray(numbers("tiles", drawn.tiles, dtype=np.int32))
    field_data.AddArray(numbers("tile_filters", drawn.filters, dtype=np.int32))
    originals = layer.original_filters[drawn.filters]
    field_data.AddArray(numbers("tile_original_filters", originals, dtype=np.int32))
    if drawn.groups is not None:
        field_data.AddArray(numbers("tile_groups", drawn.groups, dtype=np.int32))


def last_loss(snapshot: Snapshot) -> float:
    """Loss at this capture, NaN where none was logged."""
    losses = snapshot.scalars.get("loss", snapshot.trajectory_losses)
    return float(losses[-1]) if len(losses) else float("nan")
