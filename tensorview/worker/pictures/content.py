"""What a frame holds for one view: its header, and layer by layer what to draw."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy

from tensorview.worker.datasets import arrays, blocks
from tensorview.worker.frame import ATLAS_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkImageData, vtkPolyData

    from tensorview.worker.frame import Frame


_Content = TypeVar("_Content")


class Header(NamedTuple):
    """What a picture says of its frame.

    Attributes:
        run: the run's name.
        step: optimizer steps done.
        loss: NaN where none was logged.
    """

    run: str
    step: int
    loss: float

    @property
    def progress(self) -> str:
        """How far the run is, for a title: ``step 1,280   loss 0.03063``."""
        loss = f"   loss {self.loss:.4g}" if math.isfinite(self.loss) else ""
        return f"step {self.step:,}{loss}"


class Place(NamedTuple):
    """The panel of one layer.

    Attributes:
        name: of the layer.
        title: name, then what the view says of the layer, two blanks between the parts.
        bounds: ``x0 x1 y0 y1 z0 z1``.
    """

    name: str
    title: str
    bounds: tuple[float, ...]

    @property
    def details(self) -> list[str]:
        """Parts of the title behind the name."""
        return [part for part in self.title[len(self.name) :].split("  ") if part]


class Cells(NamedTuple):
    """Cells of one kind of one layer.

    Attributes:
        points: shape ``(n, 3)``.
        sizes: shape ``(cells,)``, points of each cell.
        connectivity: ids of *points*, cell by cell.
        data: the polydata's cell arrays, one row a cell.
        point_data: its point arrays, one row a point.
        first: id of the first cell in the polydata.
    """

    points: NDArray[Any]
    sizes: NDArray[Any]
    connectivity: NDArray[Any]
    data: dict[str, NDArray[Any]]
    point_data: dict[str, NDArray[Any]]
    first: int


class Tiles(NamedTuple):
    """One layer's image of an atlas, row 0 at the top.

    Attributes:
        pixels: cell arrays by name, shape ``(height, width)``.
        columns: tiles in a row.
        tile_width: in pixels.
        tile_height: in pixels.
        gutter: pixels between tiles.
        filters: true filter of each tile.
        groups: group of each tile, None where no activations are shown.
        windows: of weights: columns, rows, width, height and gap of a tile's windows, in pixels,
            and how many there are.
        color_range: of the array to colour by.
        extent: of the image in the world, ``x0 x1 y0 y1``.
    """

    pixels: dict[str, NDArray[Any]]
    columns: int
    tile_width: int
    tile_height: int
    gutter: int
    filters: NDArray[Any]
    groups: NDArray[Any] | None
    windows: tuple[int, ...]
    color_range: tuple[float, float]
    extent: tuple[float, float, float, float]

    def corners(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return left and top pixel of every tile."""
        index = np.arange(len(self.filters))
        return (
            index % self.columns * (self.tile_width + self.gutter),
            index // self.columns * (self.tile_height + self.gutter),
        )

    def between(self) -> NDArray[Any]:
        """Find the pixels outside of tiles, shape ``(height, width)``, bool."""
        left, top = self.corners()
        result = np.ones(next(iter(self.pixels.values())).shape, bool)
        rows = top[:, None, None] + np.arange(self.tile_height)[:, None]
        result[rows, left[:, None, None] + np.arange(self.tile_width)] = False
        return result

    def boxes(self) -> NDArray[Any]:
        """Return every tile's place in the world, shape ``(tiles, 4)``: x0 x1 y0 y1."""
        height, width = next(iter(self.pixels.values())).shape
        x0, x1, y0, y1 = self.extent
        left, top = self.corners()
        across, down = (x1 - x0) / width, (y1 - y0) / height
        return np.stack(
            [
                x0 + across * left,
                x0 + across * (left + self.tile_width),
                y1 - down * (top + self.tile_height),
                y1 - down * top,
            ],
            axis=1,
        )


def header(frame: Frame) -> Header:
    """Read what every dataset of a frame says of it."""
    for dataset in _all_datasets(frame):
        found = arrays(dataset.GetFieldData())
        if {"name", "step", "loss"} <= set(found):
            return Header(
                run=str(found["name"][0]), step=int(found["step"][0]), loss=float(found["loss"][0])
            )
    return Header(run="", step=frame.step, loss=float("nan"))


def places(dataset: vtkPolyData | vtkImageData) -> list[Place]:
    """Read the panels that a dataset tells of, indexed by its ``layer`` array."""
    found = arrays(dataset.GetFieldData())
    if "layer_bounds" not in found:
        return []
    bounds = np.asarray(found["layer_bounds"], float).reshape(-1, 6)
    return [
        Place(str(name), str(title), tuple(box))
        for name, title, box in zip(
            found["layers"], found["layer_titles"], bounds.tolist(), strict=True
        )
    ]


def cells(polydata: vtkPolyData, kind: str, *, layer: int) -> Cells | None:
    """Take one layer's cells of one kind out of a polydata.

    Args:
        polydata: of a view; cells of a kind are in order of layer, and share no points with others.
        kind: ``"lines"``, ``"polys"``, ``"strips"`` or ``"verts"``.
        layer: value of the ``layer`` array.

    Returns:
        None where there are none.
    """
    order: dict[str, vtkCellArray] = {
        "verts": polydata.GetVerts(),
        "lines": polydata.GetLines(),
        "polys": polydata.GetPolys(),
        "strips": polydata.GetStrips(),
    }
    first = 0
    for name, group in order.items():
        if name == kind:
            break
        first += group.GetNumberOfCells()
    count = order[kind].GetNumberOfCells()
    data = arrays(polydata.GetCellData())
    if not count or "layer" not in data:
        return None
    rows = np.flatnonzero(np.asarray(data["layer"])[first : first + count] == layer)
    if not len(rows):
        return None
    begin, end = int(rows[0]), int(rows[-1]) + 1
    offsets = vtk_to_numpy(order[kind].GetOffsetsArray())
    connectivity = vtk_to_numpy(order[kind].GetConnectivityArray())
    ids = connectivity[offsets[begin] : offsets[end]]
    low, high = (int(ids.min()), int(ids.max()) + 1) if len(ids) else (0, 0)
    points = vtk_to_numpy(polydata.GetPoints().GetData())
    return Cells(
        points=points[low:high],
        sizes=np.diff(offsets[begin : end + 1]),
        connectivity=ids - low,
        data={k: np.asarray(v)[first + begin : first + end] for k, v in data.items()},
        point_data={k: np.asarray(v)[low:high] for k, v in arrays(polydata.GetPointData()).items()},
        first=first + begin,
    )


def tiles(image: vtkImageData) -> Tiles:
    """Read one image of an atlas."""
    field = arrays(image.GetFieldData())
    columns, _, tile_width, tile_height, gutter = (int(number) for number in field["tiles"])
    width, height = (side - 1 for side in image.GetDimensions()[:2])
    low, high = (float(number) for number in field["color_range"])
    x0, x1, y0, y1 = image.GetBounds()[:4]
    groups = field.get("tile_groups")
    windows: tuple[int, ...] = ()
    if "windows" in field:
        windows = (*(int(number) for number in field["windows"]), len(field["window_channels"]))
    return Tiles(
        pixels={
            name: np.asarray(values).reshape(height, width)[::-1]
            for name, values in arrays(image.GetCellData()).items()
        },
        columns=columns,
        tile_width=tile_width,
        tile_height=tile_height,
        gutter=gutter,
        filters=np.asarray(field["tile_filters"]),
        groups=None if groups is None else np.asarray(groups),
        windows=windows,
        color_range=(low, high),
        extent=(x0, x1, y0, y1),
    )


def gather(
    view: str,
    frame: Frame,
    *,
    from_cells: Callable[[vtkPolyData, int], _Content | None],
    from_tiles: Callable[[Tiles], _Content],
) -> list[tuple[Place, _Content | None]]:
    """Read every layer's content of a view, in reading order of their panels.

    Args:
        view: with or without an atlas.
        frame: what to read.
        from_cells: reads one layer, by its number, of the polydata.
        from_tiles: reads one layer of the atlas.

    Returns:
        All layers of the frame, so that a layer has the same number in every view, with None where
        the view has nothing of one; no layer where it has nothing of any.
    """
    polydata: Any = frame.datasets[view]
    found: dict[str, tuple[Place, _Content | None]] = {
        place.name: (place, content)
        for index, place in enumerate(places(polydata))
        if (content := from_cells(polydata, index)) is not None
    }
    if f"{view}_atlas" in ATLAS_CHANNELS:
        atlas: Any = frame.datasets[f"{view}_atlas"]
        for _, image in blocks(atlas):
            place = places(image)[0]
            found[place.name] = place, from_tiles(tiles(image))
    if not found:
        return []
    everyone = {place.name: (place, None) for place in layers(frame)}
    return sorted((everyone | found).values(), key=lambda entry: reading_order(entry[0]))


def layers(frame: Frame) -> list[Place]:
    """Return a panel of every layer that any dataset of a frame tells of, in reading order."""
    everyone = {place.name: place for dataset in _all_datasets(frame) for place in places(dataset)}
    return sorted(everyone.values(), key=reading_order)


def reading_order(place: Place) -> tuple[float, float]:
    """Sort panels row by row from the top."""
    return -place.bounds[2], place.bounds[0]


def _all_datasets(frame: Frame) -> Iterable[Any]:
    for channel, dataset in frame.datasets.items():
        found: Any = dataset
        if channel in ATLAS_CHANNELS:
            yield from (image for _, image in blocks(found))
        else:
            yield found
