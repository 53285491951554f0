"""Hand snapshots to another process: slots in shared memory, ownership passed by pipe.

The writer maps an unlinked file, fills a slot and writes a *token* into a pipe. Whoever reads a
token owns its slot. The writer keeps the pipe's read end too, so it can take an unread token back
and overwrite the slot: that is how the newest snapshot replaces an older one without waiting.
Acknowledgements come back as JSON lines through a second pipe.

A frame in a slot is a header, a JSON table and raw C-order arrays; nothing in it is executed.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import select
import struct
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensorview.errors import SnapshotError, TransportError
from tensorview.snapshot import MAX_SNAPSHOT_BYTES, Snapshot, from_table, to_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MAGIC = b"tensorvw"
HEADER = struct.Struct("<8sQQ")  # magic, bytes of the table, bytes of the whole frame
TOKEN = struct.Struct("<QQQ")  # slot, bytes of the frame, sequence number
ALIGNMENT = 64
MAX_TABLE_BYTES = 4 * 2**20
SLOT_STRIDE = MAX_SNAPSHOT_BYTES + 8 * 2**20
"""Distance between slots in the file. It is sparse: only what a slot really needs is allocated."""

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
        if nbytes > SLOT_STRIDE or len(text) > MAX_TABLE_BYTES:
            raise TransportError(
                f"Cannot hand over the snapshot of step {self.step}: it takes {nbytes} "
                f"bytes, at most {SLOT_STRIDE} fit. Watch fewer layers with layers=[...]."
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
        raise SnapshotError(f"Cannot read a snapshot: its table is damaged ({error}).") from None
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


def wait_readable(fd: int, timeout_seconds: float) -> bool:
    """Wait until *fd* can be read. (Not ``select``, which ends at 1,024 descriptors.)"""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0, round(timeout_seconds * 1000))))


def _allocate(fd: int, offset: int, nbytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, offset, nbytes)
    else:  # macOS: the temporary directory is a disk, not memory
        os.ftruncate(fd, max(os.fstat(fd).st_size, offset + nbytes))


class SlotFile:
    """An unlinked file that two processes map slot by slot.

    Raises:
        TransportError: neither shared memory nor the temporary directory takes the file.
    """

    def __init__(self) -> None:
        self.fd = _open_unlinked()
        self._maps: dict[int, mmap.mmap] = {}

    def reserve(self, slot: int, nbytes: int) -> memoryview:
        """Make *nbytes* of *slot* writable.

        Raises:
            TransportError: the memory is not there. (Writing to a full tmpfs without asking
                first would kill this process with SIGBUS.)
        """
        mapping = self._maps.get(slot)
        if mapping is None or len(mapping) < nbytes:
            # A quarter more than asked: snapshots grow as trajectories do.
            size = min(SLOT_STRIDE, -(-(nbytes * 5 // 4) // mmap.PAGESIZE) * mmap.PAGESIZE)
            try:
                _allocate(self.fd, slot * SLOT_STRIDE, size)
            except OSError as error:
                raise TransportError(
                    f"Cannot hand over a snapshot of {nbytes} bytes: {error.strerror}. "
                    f"Free shared memory, or watch fewer layers with layers=[...]."
                ) from None
            mapping = mmap.mmap(self.fd, size, offset=slot * SLOT_STRIDE)
            self._maps[slot] = mapping
        return memoryview(mapping)

    def sizes(self) -> dict[int, int]:
        """Bytes that each slot takes."""
        return {slot: len(mapping) for slot, mapping in self._maps.items()}

    def release(self, slot: int) -> None:
        """Give the memory of *slot* back."""
        mapping = self._maps.pop(slot, None)
        if mapping is not None:
            with contextlib.suppress(OSError):  # a file system that cannot punch holes
                mapping.madvise(mmap.MADV_REMOVE)

    def close(self) -> None:
        """Give mappings and file back."""
        self._maps.clear()
        os.close(self.fd)


def _open_unlinked() -> int:
    tried = []
    for place in (Path("/dev/shm"), Path(tempfile.gettempdir())):  # noqa: S108  # POSIX shared memory
        try:
            fd, path = tempfile.mkstemp(prefix="tensorview-", dir=place)
        except OSError as error:
            tried.append(f"{place}: {error.strerror}")
            continue
        os.unlink(path)  # noqa: PTH108  # mkstemp returns a string
        try:
            _allocate(fd, 0, 2**20)
        except OSError as error:
            os.close(fd)
            tried.append(f"{place}: {error.strerror}")
            continue
        return fd
    raise TransportError(f"No place to hand snapshots over ({'; '.join(tried)}). Set TMPDIR.")


class Sender:
    """The training side of one worker's slots. Never waits.

    Args:
        slots: how many snapshots may be under way at once.
        max_bytes: bound on the memory of all slots together.
    """

    def __init__(self, *, slots: int, max_bytes: int) -> None:
        self._file = SlotFile()
        self._max_bytes = max_bytes
        self._free = set(range(slots))
        self._sent: dict[int, bytes] = {}  # slot -> token, not yet acknowledged
        self._sequence = 0
        self._token_read, self._token_write = os.pipe()
        self._ack_read, self._ack_write = os.pipe()
        for fd in (self._token_read, self._token_write, self._ack_read):
            os.set_blocking(fd, False)
        self._line = b""

    @property
    def worker_fds(self) -> tuple[int, int, int]:
        """What the worker inherits: token pipe, acknowledgement pipe, slot file."""
        return self._token_read, self._ack_write, self._file.fd

    @property
    def all_fds(self) -> tuple[int, ...]:
        """Every descriptor of ours, for closing them in forked children."""
        return (*self.worker_fds, self._token_write, self._ack_read)

    @property
    def in_flight(self) -> int:
        """Snapshots handed over and not acknowledged."""
        return len(self._sent)

    def send(self, encoded: EncodedSnapshot) -> bool:
        """Hand a snapshot over; False if no slot within the bounds is free.

        Raises:
            TransportError: the memory for it is not there.
        """
        slot = self._choose(encoded.nbytes) if self._free else None
        if slot is None:
            return False
        encoded.write(self._file.reserve(slot, encoded.nbytes))
        self._free.discard(slot)
        self._sequence += 1
        token = TOKEN.pack(slot, encoded.nbytes, self._sequence)
        self._sent[slot] = token
        os.write(self._token_write, token)
        return True

    def _choose(self, nbytes: int) -> int | None:
        """Choose a free slot: a large enough one if there is, else one that may grow."""
        sizes = self._file.sizes()
        fitting = [slot for slot in self._free if sizes.get(slot, 0) >= nbytes]
        if fitting:
            return min(fitting)
        # Free slots that are too small hold memory that a larger snapshot needs.
        for slot in self._free & sizes.keys():
            if sum(sizes.values()) + nbytes * 5 // 4 <= self._max_bytes:
                break
            self._file.release(slot)
            del sizes[slot]
        if sum(sizes.values()) + nbytes * 5 // 4 > self._max_bytes:
            return None
        return min(self._free)

    def take_back(self) -> list[int]:
        """Take every unread token back, oldest first; its slots are free again."""
        taken: list[int] = []
        while True:
            try:
                token = os.read(self._token_read, TOKEN.size)
            except BlockingIOError:
                return taken
            slot, _, sequence = TOKEN.unpack(token)
            del self._sent[slot]
            self._free.add(slot)
            taken.append(sequence)

    def resend(self) -> int:
        """After a worker's death: offer again, in order, what it had not acknowledged."""
        while True:
            try:
                os.read(self._token_read, TOKEN.size)
            except BlockingIOError:
                break
        tokens = sorted(self._sent.values(), key=lambda token: int(TOKEN.unpack(token)[2]))
        for token in tokens:
            os.write(self._token_write, token)
        return len(tokens)

    def forget_all(self) -> None:
        """Give up every snapshot under way; only where no worker runs."""
        self._free.update(self._sent)
        self._sent.clear()

    def forget_oldest(self) -> bool:
        """Give up the snapshot that the worker was at, if any: one that kills it every time."""
        if not self._sent:
            return False
        slot = min(self._sent, key=lambda slot: int(TOKEN.unpack(self._sent[slot])[2]))
        del self._sent[slot]
        self._free.add(slot)
        return True

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what the worker said since the last call, acknowledgements applied."""
        while True:
            try:
                chunk = os.read(self._ack_read, 65536)
            except BlockingIOError:
                break
            self._line += chunk
        *lines, self._line = self._line.split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:  # torn by the worker's death
                continue
            slot = message.get("done")
            if slot in self._sent:
                del self._sent[slot]
                self._free.add(slot)
            yield message

    @property
    def ack_fd(self) -> int:
        """Readable when the worker said something."""
        return self._ack_read

    def end(self) -> None:
        """Tell the worker that nothing more comes: it sees the end of the token pipe."""
        if self._token_write >= 0:
            os.close(self._token_write)
            self._token_write = -1

    def close(self) -> None:
        """Give every descriptor and mapping back."""
        self.end()
        for fd in (self._token_read, self._ack_read, self._ack_write):
            os.close(fd)
        self._file.close()


class Receiver:
    """The worker's side of the slots."""

    def __init__(self, *, token_fd: int, ack_fd: int, slot_fd: int) -> None:
        self._token_fd = token_fd
        self._ack_fd = ack_fd
        self._slot_fd = slot_fd
        self._maps: dict[int, mmap.mmap] = {}

    def receive(self, timeout_seconds: float) -> tuple[int, Snapshot | SnapshotError] | None:
        """Wait for the next snapshot.

        Returns:
            Slot and snapshot (or what is wrong with it), None when the time is up.

        Raises:
            EOFError: nothing more will come.
        """
        if not wait_readable(self._token_fd, timeout_seconds):
            return None
        try:
            token = os.read(self._token_fd, TOKEN.size)
        except BlockingIOError:  # the writer took it back between the two calls
            return None
        if not token:
            raise EOFError
        slot, nbytes, _ = TOKEN.unpack(token)
        mapping = self._maps.get(slot)
        if mapping is None or len(mapping) < nbytes:
            size = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
            offset = slot * SLOT_STRIDE
            mapping = mmap.mmap(self._slot_fd, size, access=mmap.ACCESS_READ, offset=offset)
            self._maps[slot] = mapping
        try:
            return slot, decode(memoryview(mapping)[:nbytes])
        except SnapshotError as error:
            return slot, error

    def say(self, **message: Any) -> None:
        """Send one message to the training process; ``done=slot`` gives the slot back."""
        os.write(self._ack_fd, json.dumps(message).encode() + b"\n")
