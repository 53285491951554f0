"""From numpy to VTK: the one place that builds VTK objects."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import vtkPoints, vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkImageData, vtkPolyData

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray
    from vtkmodules.vtkCommonCore import vtkDataArray
    from vtkmodules.vtkCommonDataModel import vtkDataObject

    from tensorview.worker.views.layout import Placement

_NOT_IN_XML = re.compile(r'[\x00-\x1f\x7f<>&"%\ud800-\udfff\ufffe\uffff]')
_NOT_IN_TEXT = re.compile(r"[\x00\ud800-\udfff]")


def safe_name(name: str) -> str:
    """Percent-encode what breaks a VTK file in an array's name: control characters and ``<>&"``.

    ``%`` itself is encoded too, so that `urllib.parse.unquote` gives the name back. The empty name,
    which VTK cannot read back either, becomes ``"%"``.
    """
    return _encode(_NOT_IN_XML, name) or "%"


def safe_text(text: str) -> str:
    """Percent-encode what a VTK string cannot hold: NUL and lone surrogates."""
    return _encode(_NOT_IN_TEXT, text)


def array(name: str, values: NDArray[Any]) -> vtkDataArray:
    """Copy *values*, shape ``(n,)`` or ``(n, components)``, into a named VTK array."""
    result = _owned(values)
    result.SetName(name)
    return result


def strings(name: str, values: Sequence[str]) -> vtkStringArray:
    """Make a string array."""
    result = vtkStringArray()
    result.SetName(name)
    for value in values:
        result.InsertNextValue(safe_text(value))
    return result


def ragged_cells(sizes: NDArray[Any], connectivity: NDArray[Any]) -> vtkCellArray:
    """Make cells of *sizes* points each, with point ids in *connectivity*; any integer dtypes."""
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    result = vtkCellArray()
    result.SetData(_owned(offsets), _owned(np.asarray(connectivity, np.int32).reshape(-1)))
    return result


def equal_cells(connectivity: NDArray[Any]) -> vtkCellArray:
    """Make cells of shape ``(cells, points per cell)``."""
    count, size = connectivity.shape
    return ragged_cells(np.full(count, size, np.int32), connectivity)


def polydata(
    points: NDArray[Any],
    *,
    verts: vtkCellArray | None = None,
    lines: vtkCellArray | None = None,
    polys: vtkCellArray | None = None,
    strips: vtkCellArray | None = None,
    point_data: Mapping[str, NDArray[Any]] | None = None,
    cell_data: Mapping[str, NDArray[Any]] | None = None,
) -> vtkPolyData:
    """Make a polydata.

    Args:
        points: shape ``(n, 3)``; stored as float32.
        verts: cells 0 to the number of verts; *lines*, *polys* and *strips* follow in this order.
        lines: polylines.
        polys: polygons.
        strips: triangle strips.
        point_data: arrays by name, one row a point.
        cell_data: arrays by name, one row a cell.
    """
    result = vtkPolyData()
    coordinates = vtkPoints()
    coordinates.SetData(array("Points", np.asarray(points, np.float32).reshape(-1, 3)))
    result.SetPoints(coordinates)
    for given, setter in (
        (verts, result.SetVerts),
        (lines, result.SetLines),
        (polys, result.SetPolys),
        (strips, result.SetStrips),
    ):
        if given is not None:
            setter(given)
    for name, values in (point_data or {}).items():
        result.GetPointData().AddArray(array(name, values))
    for name, values in (cell_data or {}).items():
        result.GetCellData().AddArray(array(name, values))
    return result


def image(pixels: Mapping[str, NDArray[Any]], *, placement: Placement) -> vtkImageData:
    """Make a flat image with one cell a pixel, at z = 0 exactly where *placement* puts it.

    Args:
        pixels: cell arrays by name, all of shape ``(height, width)``, row 0 at the top.
        placement: of the lattice of pixels.
    """
    height, width = next(iter(pixels.values())).shape
    result = vtkImageData()
    result.SetDimensions(width + 1, height + 1, 1)
    bottom = placement.top - placement.pixel_height * height
    result.SetOrigin(_as_written(placement.left), _as_written(bottom), 0.0)
    result.SetSpacing(_as_written(placement.pixel_width), _as_written(placement.pixel_height), 1.0)
    for name, values in pixels.items():
        # VTK counts rows from below.
        result.GetCellData().AddArray(array(name, values[::-1].reshape(-1)))
    return result


def with_field_data(dataset: vtkDataObject, texts: Mapping[str, str]) -> vtkDataObject:
    """Return a shallow copy that carries *texts* in its field data; of an atlas, in each image's.

    An atlas's images keep their names.
    """
    result = dataset.NewInstance()
    if dataset.IsA("vtkMultiBlockDataSet"):
        for index in range(dataset.GetNumberOfBlocks()):
            result.SetBlock(index, with_field_data(dataset.GetBlock(index), texts))
            result.GetMetaData(index).Copy(dataset.GetMetaData(index))
        return result
    result.ShallowCopy(dataset)
    for name, text in texts.items():
        result.GetFieldData().AddArray(strings(name, [text]))
    return result


def join(
    parts: Sequence[Mapping[str, NDArray[Any]]], *, dtypes: Mapping[str, DTypeLike]
) -> dict[str, NDArray[Any]]:
    """Join the columns of several tables into new arrays.

    Args:
        parts: tables with the same names.
        dtypes: every name and its least dtype, so that no part at all gives empty arrays.
    """
    return {
        name: np.concatenate([np.empty(0, dtype), *(part[name] for part in parts)])
        for name, dtype in dtypes.items()
    }


def _as_written(length: float) -> float:
    # VTK's files keep six digits of origin and spacing: so does every sink.
    return float(f"{length:.6g}")


def _encode(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(
        lambda found: quote(found[0].encode("utf-8", "surrogatepass"), safe=""), text
    )


def _owned(values: NDArray[Any]) -> vtkDataArray:
    # A deep copy, because VTK 9.2 forgets whose memory it is: vtkCellArray.SetData keeps the
    # pointer and drops the numpy array behind it.
    result: vtkDataArray = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
    return result
