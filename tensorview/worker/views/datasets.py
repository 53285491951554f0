"""From numpy to VTK: the one place that builds VTK objects.

Arrays are filled where VTK keeps them, without a copy on the way. One that is the same in frame
after frame may be the same object there: nothing writes to it once it was made.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

import numpy as np
from vtkmodules.util.numpy_support import create_vtk_array, get_vtk_array_type
from vtkmodules.vtkCommonCore import vtkDataArray, vtkPoints, vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkImageData, vtkPolyData

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray
    from vtkmodules.vtkCommonDataModel import vtkDataObject

    from tensorview.worker.views.layout import Placement

    Columns: TypeAlias = Mapping[str, "vtkDataArray | NDArray[Any]"]

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


def allocate(
    name: str, *, shape: tuple[int, ...], dtype: DTypeLike
) -> tuple[vtkDataArray, NDArray[Any]]:
    """Make a named VTK array that is still to be filled.

    Args:
        name: of the array.
        shape: ``(n,)`` or ``(n, components)``.
        dtype: of its numbers.

    Returns:
        The array, and its memory as a numpy array of *shape*.
    """
    result: Any = _kind(np.dtype(dtype))()
    result.SetName(name)
    result.SetNumberOfComponents(shape[1] if len(shape) > 1 else 1)
    result.SetNumberOfTuples(shape[0])
    # The buffer that VTK gives keeps the array alive.
    return result, np.frombuffer(result, dtype).reshape(shape)


def array(name: str, values: NDArray[Any]) -> vtkDataArray:
    """Copy *values*, shape ``(n,)`` or ``(n, components)``, into a named VTK array."""
    result, memory = allocate(name, shape=values.shape, dtype=values.dtype)
    memory[...] = values
    return result


def joined(name: str, parts: Sequence[NDArray[Any]], *, dtype: DTypeLike) -> vtkDataArray:
    """Copy *parts*, each of shape ``(n,)`` or all ``(n, components)``, one behind the other.

    Args:
        name: of the array.
        parts: what it is made of.
        dtype: the least that the array has.
    """
    parts = [np.empty((0, *(parts[0].shape[1:] if parts else ())), dtype), *parts]
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    result, memory = allocate(name, shape=shape, dtype=np.result_type(*parts))
    np.concatenate(parts, out=memory)
    return result


def ids(values: ArrayLike) -> bytes:
    """Return int32 numbers in a form that can be looked up; `of_ids` gives them back."""
    return np.asarray(values, np.int32).tobytes()


def of_ids(key: bytes) -> NDArray[Any]:
    """Return the numbers that `ids` was given."""
    return np.frombuffer(key, np.int32)


def numbers(name: str, values: ArrayLike, *, dtype: DTypeLike = np.float64) -> vtkDataArray:
    """Make a small array of shape ``(n,)``; the same object for the same numbers."""
    return _numbers(name, np.array(values, dtype).tobytes(), np.dtype(dtype))


@functools.lru_cache(maxsize=1024)
def _numbers(name: str, values: bytes, dtype: np.dtype[Any]) -> vtkDataArray:
    # Bytes tell 0 from -0, which are equal as numbers.
    return array(name, np.frombuffer(values, dtype))


@functools.lru_cache(maxsize=1024)
def texts(name: str, values: tuple[str, ...]) -> vtkStringArray:
    """Make a small string array; the same object for the same texts."""
    return strings(name, values)


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
    ids = np.asarray(connectivity, np.int32).reshape(-1)
    result.SetData(array("offsets", offsets), array("connectivity", ids))
    return result


def equal_cells(connectivity: NDArray[Any]) -> vtkCellArray:
    """Make cells of shape ``(cells, points per cell)``."""
    count, size = connectivity.shape
    return ragged_cells(np.full(count, size, np.int32), connectivity)


def points_at(coordinates: vtkDataArray | NDArray[Any]) -> vtkPoints:
    """Make points of *coordinates*, shape ``(n, 3)``; numpy's are stored as float32."""
    result = vtkPoints()
    if not isinstance(coordinates, vtkDataArray):
        coordinates = array("Points", np.asarray(coordinates, np.float32).reshape(-1, 3))
    result.SetData(coordinates)
    return result


def polydata(
    points: vtkPoints | NDArray[Any],
    *,
    verts: vtkCellArray | None = None,
    lines: vtkCellArray | None = None,
    polys: vtkCellArray | None = None,
    strips: vtkCellArray | None = None,
    point_data: Columns | None = None,
    cell_data: Columns | None = None,
) -> vtkPolyData:
    """Make a polydata.

    Args:
        points: ready, or of shape ``(n, 3)`` and to be stored as float32.
        verts: cells 0 to the number of verts; *lines*, *polys* and *strips* follow in this order.
        lines: polylines.
        polys: polygons.
        strips: triangle strips.
        point_data: arrays by name, one row a point.
        cell_data: arrays by name, one row a cell.
    """
    result = vtkPolyData()
    result.SetPoints(points if isinstance(points, vtkPoints) else points_at(points))
    for given, setter in (
        (verts, result.SetVerts),
        (lines, result.SetLines),
        (polys, result.SetPolys),
        (strips, result.SetStrips),
    ):
        if given is not None:
            setter(given)
    for data, columns in (
        (result.GetPointData(), point_data or {}),
        (result.GetCellData(), cell_data or {}),
    ):
        for name, column in columns.items():
            data.AddArray(column if isinstance(column, vtkDataArray) else array(name, column))
    return result


def image(
    names: Sequence[str], *, shape: tuple[int, int], dtype: DTypeLike, placement: Placement
) -> tuple[vtkImageData, list[NDArray[Any]]]:
    """Make a flat image with one cell a pixel, at z = 0 exactly where *placement* puts it.

    Args:
        names: of its cell arrays.
        shape: height and width in pixels.
        dtype: of its pixels.
        placement: of the lattice of pixels.

    Returns:
        The image, and the memory of each cell array, to be filled: of *shape*, row 0 at the top.
    """
    height, width = shape
    result = vtkImageData()
    result.SetDimensions(width + 1, height + 1, 1)
    bottom = placement.top - placement.pixel_height * height
    result.SetOrigin(_as_written(placement.left), _as_written(bottom), 0.0)
    spacing = _as_written(placement.pixel_width), _as_written(placement.pixel_height)
    # Where pixels are deeper than wide, ParaView's slice of the image lies outside what it draws.
    result.SetSpacing(*spacing, min(spacing))
    pixels = []
    for name in names:
        column, memory = allocate(name, shape=(height * width,), dtype=dtype)
        result.GetCellData().AddArray(column)
        pixels.append(memory.reshape(shape)[::-1])  # VTK counts rows from below.
    return result, pixels


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
    # VTK's own writers keep six digits of origin and spacing: so what ParaView saves is the same.
    return float(f"{length:.6g}")


def _encode(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(
        lambda found: quote(found[0].encode("utf-8", "surrogatepass"), safe=""), text
    )


@functools.cache
def _kind(dtype: np.dtype[Any]) -> type[vtkDataArray]:
    """Class of VTK's arrays of *dtype*."""
    return type(create_vtk_array(get_vtk_array_type(dtype)))
