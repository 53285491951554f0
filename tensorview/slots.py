"""Slots of shared memory: one unlinked file, of which two processes map what they need."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from pathlib import Path

from tensorview.encoding import MAX_BYTES
from tensorview.errors import TransportError

SLOT_STRIDE = MAX_BYTES
"""Distance between slots in the file. It is sparse: only what a slot really needs is allocated."""
MAPPED_SLOTS = 8
"""At once: each mapping takes a descriptor, which a training may be short of."""


class Mappings:
    """Slots of a file in the memory of this process; those that were used last stay mapped.

    Args:
        fd: of the file.
        writable: whether this process fills them, or reads alone.
    """

    def __init__(self, fd: int, *, writable: bool) -> None:
        self._fd = fd
        self._access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._maps: dict[int, mmap.mmap] = {}  # the one that was used last comes last

    def of(self, slot: int, nbytes: int) -> mmap.mmap:
        """Return the mapping of at least *nbytes* of *slot*.

        Raises:
            OSError: no descriptor or address space is left for it.
        """
        mapping = self._maps.pop(slot, None)
        if mapping is None or len(mapping) < nbytes:
            if len(self._maps) == MAPPED_SLOTS:
                del self._maps[next(iter(self._maps))]
            size, offset = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE, slot * SLOT_STRIDE
            mapping = mmap.mmap(self._fd, size, access=self._access, offset=offset)
        self._maps[slot] = mapping
        return mapping

    def clear(self) -> None:
        """Give all back."""
        self._maps.clear()


class SlotFile:
    """An unlinked file that two processes map slot by slot.

    Raises:
        TransportError: neither shared memory nor the temporary directory takes the file.
    """

    def __init__(self) -> None:
        self.fd = open_unlinked(2**20)
        self._sizes: dict[int, int] = {}
        self._mappings = Mappings(self.fd, writable=True)

    def reserve(self, slot: int, nbytes: int) -> memoryview:
        """Make *nbytes* of *slot* writable.

        Raises:
            TransportError: the memory is not there. (Writing to a full tmpfs without asking
                first would kill this process with SIGBUS.)
        """
        size = self._sizes.get(slot, 0)
        try:
            if size < nbytes:
                # A quarter more than asked: snapshots grow as trajectories do.
                size = min(SLOT_STRIDE, -(-(nbytes * 5 // 4) // mmap.PAGESIZE) * mmap.PAGESIZE)
                _allocate(self.fd, slot * SLOT_STRIDE, size)
                self._sizes[slot] = size
            return memoryview(self._mappings.of(slot, size))
        except OSError as error:
            raise TransportError(
                f"Cannot hand over a snapshot of {nbytes} bytes: {error.strerror}. "
                f"Free shared memory, or watch fewer layers with layers=[...]."
            ) from None

    def sizes(self) -> dict[int, int]:
        """Bytes that each slot takes."""
        return dict(self._sizes)

    def release(self, slot: int) -> None:
        """Give the memory of *slot* back."""
        size = self._sizes.pop(slot)
        with contextlib.suppress(OSError):  # a file system that cannot punch holes
            self._mappings.of(slot, size).madvise(mmap.MADV_REMOVE)

    def close(self) -> None:
        """Give mappings and file back."""
        self._mappings.clear()
        os.close(self.fd)


def open_unlinked(nbytes: int) -> int:
    """Open a file of *nbytes* in memory that has no name, so that nobody else can open it.

    Raises:
        TransportError: neither shared memory nor the temporary directory takes it.
    """
    tried = []
    for place in (Path("/dev/shm"), Path(tempfile.gettempdir())):  # noqa: S108  # POSIX shared memory
        try:
            fd, path = tempfile.mkstemp(prefix="tensorview-", dir=place)
            os.unlink(path)  # noqa: PTH108  # mkstemp returns a string
        except OSError as error:
            tried.append(f"{place}: {error.strerror}")
            continue
        try:
            _allocate(fd, 0, nbytes)
        except OSError as error:
            os.close(fd)
            tried.append(f"{place}: {error.strerror}")
            continue
        return fd
    raise TransportError(f"No place to hand snapshots over ({'; '.join(tried)}). Set TMPDIR.")


def _allocate(fd: int, offset: int, nbytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, offset, nbytes)
    else:  # macOS: the temporary directory is a disk, not memory
        os.ftruncate(fd, max(os.fstat(fd).st_size, offset + nbytes))
