"""What the datasets of a view say of themselves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.worker.datasets import arrays
from tensorview.worker.pictures.content import Header, Place, places

if TYPE_CHECKING:
    from collections.abc import Iterable


class Notes(NamedTuple):
    """What is written around a view.

    Attributes:
        run: its name, empty as long as there are no data.
        step: optimizer steps done.
        loss: NaN where none was logged.
        bounds: of all that is shown: x0 x1 y0 y1 z0 z1; None for nothing.
        places: panels of the layers that are shown.
    """

    run: str = ""
    step: int = 0
    loss: float = math.nan
    bounds: tuple[float, ...] | None = None
    places: tuple[Place, ...] = ()


def leaves(dataset: Any) -> list[Any]:
    """Return the datasets that a composite one is made of, or else the dataset alone."""
    if dataset is None:
        return []
    if not dataset.IsA("vtkCompositeDataSet"):
        return [dataset]
    found = []
    iterator = dataset.NewIterator()
    iterator.InitTraversal()
    while not iterator.IsDoneWithTraversal():
        found.append(iterator.GetCurrentDataObject())
        iterator.GoToNextItem()
    return found


def array_names(dataset: Any) -> set[tuple[str, str]]:
    """Return the names of all arrays of a dataset or its leaves, each with what it belongs to."""
    return {
        (kind, data.GetArrayName(index))
        for leaf in leaves(dataset)
        for kind, data in (("point", leaf.GetPointData()), ("cell", leaf.GetCellData()))
        for index in range(data.GetNumberOfArrays())
    }


def read_notes(datasets: Iterable[Any]) -> Notes:
    """Read what the cells and the images of one view say; where both speak, the cells' word."""
    result = Notes()
    boxes = []
    by_name: dict[str, Place] = {}
    for dataset in datasets:
        found = arrays(dataset.GetFieldData())
        if not {"step", "loss", "name", "bounds", "layer_bounds"} <= set(found):
            continue
        if not result.run:
            result = result._replace(
                run=str(found["name"][0]), step=int(found["step"][0]), loss=float(found["loss"][0])
            )
        box = np.asarray(found["bounds"], float)
        if np.isfinite(box).all():
            boxes.append(box)
        for place in places(dataset):
            if np.isfinite(place.bounds).all():
                by_name.setdefault(place.name, place)
    if boxes:
        low, high = np.min(boxes, axis=0)[::2], np.max(boxes, axis=0)[1::2]
        bounds = tuple(np.stack([low, high], axis=1).ravel().tolist())
        result = result._replace(bounds=bounds)
    return result._replace(places=tuple(by_name.values()))


def header(notes: Notes) -> str:
    """Return what stands behind a view's name, empty as long as there are no data."""
    if not notes.run:
        return ""
    return f"{notes.run}   {Header(notes.run, notes.step, notes.loss).progress}"
