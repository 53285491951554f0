"""Datasets as the bytes of VTK's XML files, put together here.

VTK's own writers compress everything anew in every file. Most of a dataset is the same from capture
to capture, though: which points make a cell, and whose value it shows. Here that is compressed
once, and well; values, which are noise to a compressor, are stored as they are.

Source: https://docs.vtk.org/en/latest/design_documents/VTKFileFormats.html
"""

from __future__ import annotations

import struct
import sys
import zlib
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from vtkmodules.vtkCommonCore import vtkAbstractArray
    from vtkmodules.vtkCommonDataModel import (
        vtkCellArray,
        vtkDataSet,
        vtkFieldData,
        vtkImageData,
        vtkPolyData,
    )

    Part: TypeAlias = "bytes | memoryview"

PADDING = b" " * 8192
"""Between a file's header and its values. VTK before 9.3.1 hands blocks of 4 KiB to expat, and
expat since 2.6 (2.5 with the fixes that distributions brought) puts off parsing the end of a block
until two more are there. Without them VTK would read values as XML and fail: so it does in the
ParaView 5.11 of Debian 12 and Ubuntu 24.04, with most files that VTK itself writes."""

END = b"\n</AppendedData></VTKFile>\n"
CELLS = ("Verts", "Lines", "Strips", "Polys")
_KINDS = {"f": "Float", "i": "Int", "u": "UInt"}
_BLOCK = 0xFFFF
"""Most bytes of a stored block of zlib."""


class Memo:
    """Compressed arrays, kept from one frame for the next.

    Arrays are known by VTK's time of their last modification, which no two arrays share.
    """

    def __init__(self) -> None:
        self._before: dict[int, bytes] = {}
        self._now: dict[int, bytes] = {}

    def next_frame(self) -> None:
        """Forget what the last frame did not have."""
        self._before, self._now = self._now, {}

    def compressed(self, array: vtkAbstractArray, values: NDArray[Any]) -> bytes:
        """Return *values*, the content of *array*, compressed."""
        time = array.GetMTime()
        # A higher level makes ids hardly smaller.
        found = self._now.get(time) or self._before.get(time) or zlib.compress(values.data, 1)
        self._now[time] = found
        return found


def encode(dataset: vtkPolyData | vtkImageData, *, memo: Memo | None = None) -> bytes:
    """Return *dataset* as the bytes of a ``.vtp`` or ``.vti`` file, every value bit for bit.

    Args:
        dataset: its arrays' names are safe in XML: `tensorview.worker.views.datasets.safe_name`.
        memo: of a sink that writes frame after frame. The bytes are the same without it.
    """
    return b"".join(encode_parts(dataset, memo=memo))


def encode_parts(dataset: vtkPolyData | vtkImageData, *, memo: Memo | None = None) -> list[Part]:
    """Return the same in parts, which are views of the dataset's arrays and change with them."""
    if dataset.IsA("vtkImageData"):
        return _encode_image(dataset)
    return _encode_polydata(dataset, memo=memo or Memo())


def _encode_image(image: vtkImageData) -> list[Part]:
    """Pixels are values throughout, so nothing is compressed."""
    parts = _Parts(lambda _, values: [struct.pack("=Q", values.nbytes), values.data])
    extent = _spaced(image.GetExtent())
    return parts.file(
        'type="ImageData"',
        f'<ImageData WholeExtent="{extent}" Origin="{_spaced(image.GetOrigin())}" '
        f'Spacing="{_spaced(image.GetSpacing())}">{parts.field_data(image.GetFieldData())}'
        f'<Piece Extent="{extent}">{parts.attributes(image)}</Piece></ImageData>',
    )


def _encode_polydata(polydata: vtkPolyData, *, memo: Memo) -> list[Part]:
    """Integers are compressed, and points where quads lie on a lattice of them."""
    points = polydata.GetPoints() and polydata.GetPoints().GetData()
    on_lattice = polydata.GetNumberOfPolys() > 0

    def pack(array: vtkAbstractArray, values: NDArray[Any]) -> list[Part]:
        if not values.size:
            return [bytes(24)]
        if values.dtype.kind in "iu" or (on_lattice and array is points):
            block: list[Part] = [memo.compressed(array, values)]
        else:
            block = list(_stored(values.view(np.uint8).data))
        return [struct.pack("=4Q", 1, values.nbytes, 0, sum(map(len, block))), *block]

    parts = _Parts(pack)
    counts = "".join(f' NumberOf{n}="{getattr(polydata, f"GetNumberOf{n}")()}"' for n in CELLS)
    cells = "".join(f"<{n}>{parts.cells(getattr(polydata, f'Get{n}')())}</{n}>" for n in CELLS)
    return parts.file(
        'type="PolyData" compressor="vtkZLibDataCompressor"',
        f"<PolyData>{parts.field_data(polydata.GetFieldData())}"
        f'<Piece NumberOfPoints="{polydata.GetNumberOfPoints()}"{counts}>'
        f"{parts.attributes(polydata)}<Points>{parts.array(points) if points else ''}</Points>"
        f"{cells}</Piece></PolyData>",
    )


class _Parts:
    """What stands behind a file's header, and the elements of the header that point there.

    Args:
        pack: from an array and its values, of shape ``(n,)``, to what stands in the file.
    """

    def __init__(self, pack: Callable[[vtkAbstractArray, NDArray[Any]], list[Part]]) -> None:
        self._pack = pack
        self._parts: list[Part] = []
        self._size = 0

    def file(self, attributes: str, content: str) -> list[Part]:
        """Return the whole file, its element ``VTKFile`` with *attributes* and *content*."""
        header = (
            f'<VTKFile {attributes} version="1.0" header_type="UInt64" '
            f'byte_order="{sys.byteorder.capitalize()}Endian">{content}'
            f'<AppendedData encoding="raw">'
        )
        return [header.encode(), PADDING, b"_", *self._parts, END]

    def array(self, array: Any, *, attributes: str = "") -> str:
        """Add an array."""
        if array.IsA("vtkStringArray"):
            texts = (array.GetValue(index) for index in range(array.GetNumberOfValues()))
            values = np.frombuffer("".join(f"{text}\0" for text in texts).encode(), np.uint8)
            element, kind = "Array", "String"
        else:
            values = vtk_to_numpy(array).reshape(-1)
            element = "DataArray"
            kind = f"{_KINDS[values.dtype.kind]}{8 * values.dtype.itemsize}"
        if array.GetNumberOfComponents() > 1:
            attributes += f' NumberOfComponents="{array.GetNumberOfComponents()}"'
        return self._element(
            f'{element} type="{kind}" Name="{array.GetName()}"{attributes}', array, values
        )

    def field_data(self, field: vtkFieldData) -> str:
        """Add arrays whose lengths are their own."""
        arrays = [field.GetAbstractArray(index) for index in range(field.GetNumberOfArrays())]
        elements = (
            self.array(array, attributes=f' NumberOfTuples="{array.GetNumberOfTuples()}"')
            for array in arrays
        )
        return f"<FieldData>{''.join(elements)}</FieldData>"

    def attributes(self, dataset: vtkDataSet) -> str:
        """Add the arrays of points and of cells."""
        result = ""
        for name in ("PointData", "CellData"):
            data = getattr(dataset, f"Get{name}")()
            active = f' Scalars="{data.GetScalars().GetName()}"' if data.GetScalars() else ""
            arrays = (data.GetAbstractArray(index) for index in range(data.GetNumberOfArrays()))
            result += f"<{name}{active}>{''.join(map(self.array, arrays))}</{name}>"
        return result

    def cells(self, cells: vtkCellArray) -> str:
        """Add connectivity and offsets, which begin at the end of the first cell in a file."""
        connectivity, offsets = cells.GetConnectivityArray(), cells.GetOffsetsArray()
        return "".join(
            self._element(f'DataArray type="Int{8 * ids.itemsize}" Name="{name}"', array, ids)
            for name, array, ids in (
                ("connectivity", connectivity, vtk_to_numpy(connectivity)),
                ("offsets", offsets, vtk_to_numpy(offsets)[1:]),
            )
        )

    def _element(self, start: str, array: vtkAbstractArray, values: NDArray[Any]) -> str:
        parts = self._pack(array, values)
        offset = self._size
        self._parts += parts
        self._size += sum(memoryview(part).nbytes for part in parts)
        return f'<{start} format="appended" offset="{offset}"/>'


def _stored(data: memoryview) -> Iterator[Part]:
    """Yield *data*, at least a byte, as a stream of zlib that does not compress it.

    Five times as fast as zlib's level 0. Source: RFC 1950 and RFC 1951, section 3.2.4.
    """
    yield b"\x78\x01"
    for first in range(0, len(data), _BLOCK):
        block = data[first : first + _BLOCK]
        is_last = first + _BLOCK >= len(data)
        yield struct.pack("<BHH", is_last, len(block), _BLOCK - len(block))
        yield block
    yield struct.pack(">I", zlib.adler32(data))


def _spaced(numbers: tuple[float, ...]) -> str:
    return " ".join(map(repr, numbers))
