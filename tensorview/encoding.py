"""A snapshot as bytes in a slot of `tensorview.transport`: a header, a JSON table and raw arrays.

Arrays are in C order; nothing in it is executed.
"""

from __future__ import annotations

import json
import math
import struct
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.errors import SnapshotError, TransportError, printable
from tensorview.snapshot import MAX_SNAPSHOT_BYTES, Snapshot, from_table, to_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"tensorvw"
HEADER = struct.Struct("<8sQQ")  # magic, bytes of the table, bytes of the whole frame
ALIGNMENT = 64
MAX_TABLE_BYTES = 4 * 2**20
MAX_BYTES = MAX_SNAPSHOT_BYTES + 8 * 2**20
PLAIN_KINDS = "biuf"  # bool, int, unsigned, float: everything a snapshot may hold


class EncodedSnapshot:
    """A snapshot ready to be copied into slots: table and arrays, with the size they need.

    It is encoded when it is first asked for, which is never where no slot is free, and once for
    all workers.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    @property
    def step(self) -> int:
        """Step of the snapshot."""
        return self._snapshot.step

    @property
    def nbytes(self) -> int:
        """Bytes that it takes.

        Raises:
            TransportError: more than can be handed over.
        """
        return self._layout.nbytes

    @cached_property
    def _layout(self) -> _Layout:
        table, arrays = to_table(self._snapshot)
        offset = 0
        places: list[tuple[str, tuple[int, ...], int]] = []
        for array in arrays:
            places.append((array.dtype.str, array.shape, offset))
            offset += _aligned(array.nbytes)
        text = json.dumps({**table, "arrays": places}, allow_nan=False).encode()
        data_start = _aligned(HEADER.size + len(text))
        nbytes = data_start + offset
        if nbytes > MAX_BYTES or len(text) > MAX_TABLE_BYTES:
            raise TransportError(
                f"Cannot hand over the snapshot of step {self.step}: it takes {nbytes} "
                f"bytes, at most {MAX_BYTES} fit. Watch fewer layers with layers=[...]."
            )
        starts = [data_start + offset for _, _, offset in places]
        return _Layout(text, list(zip(starts, arrays, strict=True)), nbytes)

    def write(self, buffer: memoryview) -> None:
        """Copy everything into *buffer*, which holds at least ``nbytes``."""
        table, parts, nbytes = self._layout
        HEADER.pack_into(buffer, 0, MAGIC, len(table), nbytes)
        buffer[HEADER.size : HEADER.size + len(table)] = table
        for start, array in parts:
            target: NDArray[Any] = np.ndarray(array.shape, array.dtype, buffer, start)
            np.copyto(target, array)


class _Layout(NamedTuple):
    """What is written into a slot: the JSON table, each array with its first byte, and the size."""

    table: bytes
    parts: list[tuple[int, NDArray[Any]]]
    nbytes: int


def decode(buffer: memoryview) -> Snapshot:
    """Read a snapshot out of a slot; its arrays are private copies.

    Raises:
        SnapshotError: the bytes are damaged, or lie about their sizes.
    """
    try:
        magic, table_bytes, frame_bytes = HEADER.unpack_from(buffer, 0)
    except struct.error:
        raise SnapshotError(
            f"Cannot read a snapshot: only {len(buffer)} bytes are there."
        ) from None
    if magic != MAGIC:
        raise SnapshotError("Cannot read a snapshot: the bytes do not start like one.")
    if frame_bytes > len(buffer) or table_bytes > min(MAX_TABLE_BYTES, len(buffer) - HEADER.size):
        raise SnapshotError(
            f"Cannot read a snapshot: it announces {frame_bytes} bytes with a table of "
            f"{table_bytes}, but {len(buffer)} are there."
        )
    try:
        table = json.loads(bytes(buffer[HEADER.size : HEADER.size + table_bytes]))
        places = table.pop("arrays")
        data = buffer[_aligned(HEADER.size + table_bytes) : frame_bytes]
        arrays = [_array(data, *place) for place in places]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SnapshotError(
            f"Cannot read a snapshot: its table is damaged ({printable(error)})."
        ) from None
    return from_table(table, arrays)


def _array(data: memoryview, dtype: str, shape: list[int], offset: int) -> NDArray[Any]:
    kind = np.dtype(dtype)
    if kind.kind not in PLAIN_KINDS:
        raise ValueError(f"dtype {dtype!r} is not a plain number")
    if not all(isinstance(n, int) and n >= 0 for n in [*shape, offset]):
        raise ValueError("negative or fractional sizes")
    nbytes = math.prod(shape) * kind.itemsize
    if offset + nbytes > len(data):
        raise ValueError(f"{nbytes} bytes at {offset} are more than the {len(data)} there")
    flat: NDArray[Any] = np.frombuffer(data[offset : offset + nbytes], kind)
    return flat.reshape(shape).copy()


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
