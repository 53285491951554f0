"""Datasets from the bytes that `tensorview.worker.vtk_xml.encode` makes, and from no others.

VTK's own reader believes what a file says of its sizes and indices, and ends the process over it.
A size and a CRC in the manifest prove that a file is the one that was written, not that who wrote
it meant well. So VTK parses nothing here: it is given arrays that were checked.

The header is read by the few words that `encode` writes. It has no entities, comments or document
types, and nothing can be nested that is not nested there.
"""

from __future__ import annotations

import math
import re
import struct
import sys
import zlib
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkImageData, vtkPolyData

from tensorview.errors import RunError
from tensorview.worker.views.datasets import array, strings
from tensorview.worker.vtk_xml import CELLS, END, PADDING

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from vtkmodules.vtkCommonCore import vtkAbstractArray
    from vtkmodules.vtkCommonDataModel import vtkDataSet, vtkFieldData

MAX_HEADER_BYTES = 16 * 2**20
MAX_GROWTH = 100
"""Bytes in memory for a byte in the file. Integers that repeat shrink to a hundredth at most, and
beside them are values that do not shrink."""

_START = b'<AppendedData encoding="raw">'
_TAG = re.compile(r'<(/?)([A-Za-z]{1,16})((?: [A-Za-z_]{1,20}="[^"<>&]*")*)(/?)>')
_ATTRIBUTE = re.compile(r' ([A-Za-z_]+)="([^"]*)"')
_WHOLE = re.compile(r"[0-9]{1,18}")
_TYPES = {f"Float{bits}": f"f{bits // 8}" for bits in (32, 64)}
_TYPES |= {f"Int{bits}": f"i{bits // 8}" for bits in (8, 16, 32, 64)}
_TYPES |= {f"UInt{bits}": f"u{bits // 8}" for bits in (8, 16, 32, 64)}
_LEAST_POINTS = {"Verts": 1, "Lines": 2, "Strips": 3, "Polys": 3}
_FILE = {
    "version": "1.0",
    "header_type": "UInt64",
    "byte_order": f"{sys.byteorder.capitalize()}Endian",
}


def decode_polydata(data: bytes, *, source: str = "a dataset") -> vtkPolyData:
    """Return what `encode` made of a polydata.

    Args:
        data: of a file.
        source: what to call it where it is refused.

    Raises:
        RunError: these are other bytes; says at which byte they differ from what was expected.
    """
    file = _File(data, source, {"type": "PolyData", "compressor": "vtkZLibDataCompressor"} | _FILE)
    result = vtkPolyData()
    file.begin("PolyData")
    file.field_data(result.GetFieldData())
    counts = file.begin("Piece", "NumberOfPoints", *(f"NumberOf{name}" for name in CELLS))
    points, *cells = (file.whole(text) for text in counts)
    # Attributes come first in the file, but VTK counts what they belong to by points and cells.
    file.attributes(result, points=points, cells=sum(cells))
    file.begin("Points")
    if not file.ends("Points"):
        coordinates = file.array(tuples=points, components=3)
        if not np.isfinite(coordinates[1]).all():
            file.refuse("coordinates that are not finite")
        result.SetPoints(vtkPoints())
        result.GetPoints().SetData(file.made(coordinates))
        file.end("Points")
    elif points:
        file.refuse("no coordinates of its points")
    for name, count in zip(CELLS, cells, strict=True):
        file.begin(name)
        made = file.cells(count, points=points, least=_LEAST_POINTS[name])
        getattr(result, f"Set{name}")(made)
        file.end(name)
    file.close("Piece", "PolyData")
    return result


def decode_image(data: bytes, *, source: str = "a dataset") -> vtkImageData:
    """Return what `encode` made of an image. See `decode_polydata`."""
    file = _File(data, source, {"type": "ImageData"} | _FILE)
    result = vtkImageData()
    whole, origin, spacing = file.begin("ImageData", "WholeExtent", "Origin", "Spacing")
    extent = [file.whole(text) for text in whole.split(" ")]
    if len(extent) != 6 or any(extent[::2]) or extent[5] or not all(extent[1:4:2]):
        file.refuse(f"an image of extent {whole[:80]!r}")
    width, height = extent[1], extent[3]
    if width * height > len(data):
        file.refuse(f"an image of {width} x {height} pixels in {len(data)} bytes")
    result.SetExtent(extent)
    result.SetOrigin(file.numbers(origin))
    result.SetSpacing(file.numbers(spacing))
    file.field_data(result.GetFieldData())
    if file.begin("Piece", "Extent") != [whole]:
        file.refuse("only a piece of an image")
    file.attributes(result, points=(width + 1) * (height + 1), cells=width * height)
    file.close("Piece", "ImageData")
    return result


class _File:
    """Reads the header from front to back, and all values, each byte once.

    Args:
        data: of the file.
        source: what to call it.
        attributes: that its first element must have.
    """

    def __init__(self, data: bytes, source: str, attributes: dict[str, str]) -> None:
        self._data = memoryview(data)
        self._source = source
        self._header = ""
        self._at = 0
        stop = data.find(_START, 0, MAX_HEADER_BYTES)
        if stop < 0:
            self.refuse("no values behind its header")
        try:
            self._header = str(self._data[:stop], "utf-8")
        except UnicodeDecodeError as error:
            self.refuse("a header that is not UTF-8", at=error.start)
        self._place = stop + len(_START) + len(PADDING) + 1
        if data[stop + len(_START) : self._place] != PADDING + b"_":
            self.refuse("no padding before its values", at=stop)
        if not data.endswith(END):
            self.refuse("an end that is cut off", at=len(data))
        self._first, self._last = self._place, len(data) - len(END)
        self._taken: list[tuple[int, int]] = []
        self._left = MAX_GROWTH * len(data)
        self._compressed = "compressor" in attributes
        if self.begin("VTKFile", *attributes) != list(attributes.values()):
            self.refuse("another kind of dataset, or byte order")

    def refuse(self, what: str, *, at: int | None = None) -> NoReturn:
        """Say what is wrong, and at which byte: where the header was read to, or *at*."""
        place = len(self._header[: self._at].encode()) if at is None else at
        raise RunError(
            f"Cannot decode {self._source}: at byte {place} it has {what}, which tensorview does "
            f"not write."
        )

    def begin(self, tag: str, *names: str) -> list[str]:
        """Take a start tag with exactly the attributes *names*; return their values."""
        attributes = self._begin(tag)
        if list(attributes) != list(names):
            self.refuse(f"other attributes of <{tag}>")
        return list(attributes.values())

    def end(self, tag: str) -> None:
        """Take an end tag."""
        if not self.ends(tag):
            self.refuse(f"no end of <{tag}>")

    def ends(self, tag: str) -> bool:
        """Take an end tag, if it comes next."""
        text = f"</{tag}>"
        found = self._header.startswith(text, self._at)
        self._at += len(text) * found
        return found

    def close(self, *tags: str) -> None:
        """Take the end tags of *tags*; nothing may be left then, of header and values."""
        for tag in tags:
            self.end(tag)
        if self._at != len(self._header):
            self.refuse("more than one dataset")
        end = self._first
        for first, last in sorted(self._taken):
            if first != end:
                self.refuse("values that belong to no array, or to two", at=end)
            end = last
        if end != self._last:
            self.refuse("values that belong to no array", at=end)

    def whole(self, text: str) -> int:
        """Read a number, 0 or more."""
        if not _WHOLE.fullmatch(text):
            self.refuse(f"{text[:40]!r} where a whole number should be")
        return int(text)

    def numbers(self, text: str) -> tuple[float, float, float]:
        """Read three finite numbers."""
        try:
            x, y, z = map(float, text.split(" "))
        except ValueError:
            x = y = z = math.nan
        if not all(map(math.isfinite, (x, y, z))):
            self.refuse(f"{text[:40]!r} where three numbers should be")
        return x, y, z

    def field_data(self, field: vtkFieldData) -> None:
        """Take arrays whose lengths are their own."""
        self.begin("FieldData")
        self._arrays(field, "FieldData", tuples=None)

    def attributes(self, dataset: vtkDataSet, *, points: int, cells: int) -> None:
        """Take the arrays of points and of cells."""
        for tag, tuples in (("PointData", points), ("CellData", cells)):
            data = getattr(dataset, f"Get{tag}")()
            attributes = self._begin(tag)
            self._arrays(data, tag, tuples=tuples)
            active = attributes.pop("Scalars", None)
            if attributes or (active is not None and data.GetArray(active) is None):
                self.refuse(f"other attributes of <{tag}>")
            if active is not None:
                data.SetActiveScalars(active)

    def cells(self, count: int, *, points: int, least: int) -> vtkCellArray:
        """Take *count* cells, each of *least* points or more, out of *points*."""
        names, ids = zip(*(self.array(tuples=n, components=1) for n in (None, count)), strict=True)
        connectivity, ends = ids
        if names != ("connectivity", "offsets") or any(part.dtype.kind != "i" for part in ids):
            self.refuse("other arrays of its cells")
        offsets = np.concatenate([np.zeros(1, ends.dtype), ends])
        # Bounded first, so that no difference overflows.
        bounded = 0 <= offsets.min() <= offsets.max() == offsets[-1] == len(connectivity)
        if not bounded or (np.diff(offsets) < least).any():
            self.refuse("cells that do not share its points out")
        if connectivity.size and not 0 <= connectivity.min() <= connectivity.max() < points:
            self.refuse("cells of points that it does not have")
        result = vtkCellArray()
        result.SetData(array("offsets", offsets), array("connectivity", connectivity))
        return result

    def made(self, named: tuple[str, NDArray[Any] | list[str]]) -> vtkAbstractArray:
        """Return an array as VTK's."""
        name, values = named
        return strings(name, values) if isinstance(values, list) else array(name, values)

    def array(self, *, tuples: int | None, components: int) -> tuple[str, NDArray[Any]]:
        """Take an array of numbers, of as many *tuples*, or of any length."""
        name, values = self._array(tuples=tuples)
        if isinstance(values, list) or values.shape[1:] != ((components,) * (components > 1)):
            self.refuse(f"other values in {name!r}")
        return name, values

    def _arrays(self, field: vtkFieldData, tag: str, *, tuples: int | None) -> None:
        while not self.ends(tag):
            name, values = self._array(tuples=tuples)
            if field.GetAbstractArray(name) is not None:
                self.refuse(f"two arrays {name!r}")
            field.AddArray(self.made((name, values)))

    def _begin(self, tag: str) -> dict[str, str]:
        found = _TAG.match(self._header, self._at)
        if not found or found[1] or found[4] or found[2] != tag:
            self.refuse(f"no <{tag}>")
        return self._take(found)

    def _take(self, found: re.Match[str]) -> dict[str, str]:
        pairs = _ATTRIBUTE.findall(found[3])
        attributes = dict(pairs)
        if len(attributes) < len(pairs):
            self.refuse("an attribute twice")
        self._at = found.end()
        return attributes

    def _array(self, *, tuples: int | None) -> tuple[str, NDArray[Any] | list[str]]:
        found = _TAG.match(self._header, self._at)
        if not found or found[1] or not found[4] or found[2] not in ("Array", "DataArray"):
            self.refuse("no array")
        attributes = {"NumberOfComponents": "1"} | self._take(found)
        if tuples is None and "NumberOfTuples" in attributes:
            tuples = self.whole(attributes.pop("NumberOfTuples"))
        try:
            kind, name = attributes.pop("type"), attributes.pop("Name")
            components = self.whole(attributes.pop("NumberOfComponents"))
            offset = self.whole(attributes.pop("offset"))
        except KeyError as error:
            self.refuse(f"an array without {error}")
        if attributes != {"format": "appended"} or not name or not 1 <= components <= 16:
            self.refuse("other attributes of an array")
        self._place = self._first + offset
        if found[2] == "Array":
            if kind != "String" or tuples is None or components > 1:
                self.refuse(f"{name!r} of type {kind!r}")
            return name, self._texts(name, tuples)
        if kind not in _TYPES:
            self.refuse(f"{name!r} of type {kind!r}")
        dtype = np.dtype(_TYPES[kind])
        size = None if tuples is None else tuples * components * dtype.itemsize
        values = self._values(name, size)
        if len(values) % (components * dtype.itemsize):
            self.refuse(f"half a value in {name!r}")
        flat: NDArray[Any] = np.frombuffer(values, dtype)
        return name, flat.reshape(-1, components) if components > 1 else flat

    def _texts(self, name: str, count: int) -> list[str]:
        try:
            *texts, rest = str(self._values(name, None), "utf-8").split("\0")
        except UnicodeDecodeError:
            self.refuse(f"text in {name!r} that is not UTF-8")
        if rest or len(texts) != count:
            self.refuse(f"other texts in {name!r}")
        return texts

    def _values(self, name: str, size: int | None) -> bytes | memoryview:
        """Take the values of an array, of *size* bytes, or of as many as it says."""
        at = self._place
        values = self._unpacked(name, size) if self._compressed else self._plain(name, size)
        self._taken.append((at, self._place))
        return values

    def _plain(self, name: str, size: int | None) -> memoryview:
        (said,) = self._unpack("=Q")
        return self._next(self._checked(name, said, size))

    def _unpacked(self, name: str, size: int | None) -> bytes:
        at = self._place
        blocks, said, rest = self._unpack("=3Q")
        self._checked(name, said, size)
        if not blocks and not said and not rest:
            return b""
        (packed,) = self._unpack("=Q")
        if blocks != 1 or rest or not said:
            self.refuse(f"{name!r} in {blocks} blocks", at=at)
        stream = zlib.decompressobj()
        try:
            # One byte more than there should be: the check sum is read only where there is room.
            values = stream.decompress(self._next(packed), said + 1)
        except zlib.error:
            values = b""
        if len(values) != said or not stream.eof or stream.unused_data:
            self.refuse(f"{name!r} not as it was compressed", at=at)
        return values

    def _checked(self, name: str, said: int, size: int | None) -> int:
        self._left -= said
        if said != (said if size is None else size) or self._left < 0:
            self.refuse(f"{said} bytes of {name!r}", at=self._place)
        return said

    def _unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self._next(struct.calcsize(form)))

    def _next(self, size: int) -> memoryview:
        first, self._place = self._place, self._place + size
        if self._place > self._last:
            self.refuse("values that are cut off", at=first)
        return self._data[first : self._place]
