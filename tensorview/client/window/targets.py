"""What a click hits where a filter has no cells: a rectangle behind its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from paraview.simple import GetActiveSource, SetActiveSource, Show, TrivialProducer
from vtkmodules.vtkCommonDataModel import vtkPolyData

from tensorview.client.window.filters import extents, owners
from tensorview.client.window.live import give
from tensorview.client.window.notes import leaves
from tensorview.worker.datasets import arrays
from tensorview.worker.pictures.colours import PAGE
from tensorview.worker.pictures.content import tiles
from tensorview.worker.views.datasets import equal_cells, polydata, strings

if TYPE_CHECKING:
    from numpy.typing import NDArray

TARGETED = ("distribution", "weights_atlas", "maps_atlas", "correlation_atlas")
"""Channels with such places: densities are thin, and atlases are drawn as textures."""
BEHIND = -0.02
"""Height in the world: behind the textures and windows that hide it."""


class Target:
    """The rectangles of one channel: cells of a source of their own, one a filter.

    Args:
        channel: Catalyst's.

    Attributes:
        source: an entry of the Pipeline Browser, since ParaView picks nothing else.
    """

    def __init__(self, channel: str) -> None:
        active = GetActiveSource()
        self.source = TrivialProducer(registrationName=f"{channel} windows")
        SetActiveSource(active)
        self._key: Any = None
        self._views: set[str] = set()
        give(self.source, vtkPolyData())

    def follow(self, channel_source: Any) -> None:
        """Put the rectangles where the filters of the channel are now."""
        dataset = channel_source.GetClientSideObject().GetOutputDataObject(0)
        parts = [part for part in map(_rectangles, leaves(dataset)) if part is not None]
        names = list(dict.fromkeys(name for part in parts for name in part[0]))
        layer = [names.index(name) for part in parts for name in part[0]]
        numbers = np.concatenate([np.empty(0, np.int32), *(part[1] for part in parts)])
        boxes = np.concatenate([np.empty((0, 4)), *(part[2] for part in parts)])
        key = names, layer, numbers.tobytes(), boxes.tobytes()
        if key == self._key:
            return
        self._key = key
        corners = np.full((len(boxes), 4, 3), BEHIND)
        corners[:, :, 0], corners[:, :, 1] = boxes[:, [0, 1, 1, 0]], boxes[:, [2, 2, 3, 3]]
        shape = polydata(
            corners.reshape(-1, 3),
            polys=equal_cells(np.arange(4 * len(boxes)).reshape(-1, 4)),
            cell_data={"layer": np.array(layer, np.int32), "filter": numbers},
        )
        shape.GetFieldData().AddArray(strings("layers", names))
        give(self.source, shape)

    def show(self, view: Any) -> None:
        """Show them in a view, once: what the user does with them there is not undone."""
        name = view.SMProxy.GetGlobalIDAsString()
        if name in self._views:
            return
        self._views.add(name)
        shown = Show(self.source, view)
        shown.SetRepresentationType("Surface")
        shown.ColorArrayName = [None, ""]
        shown.AmbientColor = shown.DiffuseColor = list(PAGE)
        shown.Ambient, shown.Diffuse = 1.0, 0.0
        shown.SelectionVisibility = 0


def _rectangles(part: Any) -> tuple[list[str], NDArray[Any], NDArray[Any]] | None:
    """Return layer, number and rectangle of every filter in a dataset, None for none."""
    if part.IsA("vtkImageData"):
        # Its tiles say so; its pixels, perhaps a million, need not be asked.
        notes = arrays(part.GetFieldData())
        if "tiles" not in notes:
            return None
        drawn = tiles(part)
        numbers = drawn.filters.astype(np.int32)
        return [str(notes["layers"][0])] * len(numbers), numbers, drawn.boxes()
    found = owners(part)
    if found is None:
        return None
    filters = found.touched(np.ones(part.GetNumberOfCells(), bool))
    names = [layer for layer, numbers in filters.items() for _ in numbers]
    each = np.array([number for numbers in filters.values() for number in numbers], np.int32)
    return names, each, extents(part, filters)
