"""The atlas form: layers too large for cells, each as one image in its panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet, vtkMultiBlockDataSet

from tensorview.worker.views.datasets import safe_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkImageData

    from tensorview.snapshot import Layer
    from tensorview.worker.views.layout import PanelLayer


class AtlasImage(NamedTuple):
    """One layer's image, and how to find a filter in it.

    Attributes:
        image: cell arrays with one value a pixel, NaN in gutters and where a tile is missing.
        tiles: columns, rows, tile width, tile height, gutter; in pixels.
        filters: true filter of each tile, row by row from the top.
        groups: group of each tile; None where no activations are shown.
        color_array: the array to colour by.
        color_range: its range.
    """

    image: vtkImageData
    tiles: tuple[int, int, int, int, int]
    filters: NDArray[Any]
    groups: NDArray[Any] | None
    color_array: str
    color_range: tuple[float, float]


class AtlasView(NamedTuple):
    """A view that has an atlas form.

    Attributes:
        size: number of cells of a layer, 0 where it has nothing for this view.
        limit: most cells of a layer that are still drawn as cells.
        budget: most cells of all layers.
        draw: draws one layer.
    """

    size: Callable[[Layer], int]
    limit: int
    budget: int
    draw: Callable[[PanelLayer], AtlasImage]


def split(
    layers: Sequence[PanelLayer], *, form: str, view: AtlasView
) -> tuple[list[PanelLayer], list[PanelLayer]]:
    """Divide layers into those drawn as cells and those drawn as images.

    Args:
        layers: of one view.
        form: ``"auto"`` (as images what is above the view's limit, and the largest of the rest
            where they are too many cells together), ``"cells"`` or ``"atlas"``.
        view: says what is too large.
    """
    if form == "cells":
        return list(layers), []
    room = view.budget if form == "auto" else 0
    small = set()
    for entry in sorted(layers, key=lambda entry: view.size(entry.layer)):
        size = view.size(entry.layer)
        if size <= min(room, view.limit):
            small.add(entry.index)
            room -= size
    return (
        [entry for entry in layers if entry.index in small],
        [entry for entry in layers if entry.index not in small],
    )


def blocks(images: Sequence[tuple[str, vtkImageData]]) -> vtkMultiBlockDataSet:
    """Gather images under their layers' names."""
    result = vtkMultiBlockDataSet()
    for index, (name, image) in enumerate(images):
        result.SetBlock(index, image)
        result.GetMetaData(index).Set(vtkCompositeDataSet.NAME(), safe_text(name))
    return result
