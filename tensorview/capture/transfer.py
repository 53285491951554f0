"""Bringing results from the device to the host without waiting for either."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

_NUMPY_DTYPES = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int64: np.int64,
    torch.bool: np.bool_,
}


class ResultMemory:
    """Memory for results, used again once nobody holds an array in it.

    New memory at each capture would cost the system as much as to fill it, and leave holes in the
    training's heap. Two pieces are kept: that of the newest snapshot, and one for the next.
    """

    def __init__(self) -> None:
        self._pieces: list[NDArray[np.uint8]] = []

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """Return *nbytes* that nobody else holds."""
        for index in range(len(self._pieces)):
            if _references(self._pieces, index) == _ALONE and len(self._pieces[index]) >= nbytes:
                return self._pieces[index][:nbytes]
        self._pieces = [*self._pieces[-1:], np.empty(nbytes, np.uint8)]
        return self._pieces[-1][:]


def _references(pieces: list[NDArray[np.uint8]], index: int) -> int:
    """How many hold a piece, those included who look; an array holds what it is a view of."""
    return sys.getrefcount(pieces[index])


# Counted rather than known, since it differs between versions of Python.
_ALONE = _references([np.empty(0, np.uint8)], 0)


class HostMemory:
    """Page-locked buffers, which a device can write to on its own, and room for what they receive.

    Both are kept for the next capture.

    Attributes:
        results: where what was received is put.
    """

    def __init__(self) -> None:
        self.results = ResultMemory()
        self._free: list[Tensor] = []

    def take(self, nbytes: int) -> Tensor:
        """Return a buffer of at least *nbytes*."""
        fitting = [buffer for buffer in self._free if len(buffer) >= nbytes]
        if not fitting:
            self._free.clear()
            return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True, device="cpu")
        best = min(fitting, key=len)
        self._free = [buffer for buffer in self._free if buffer is not best]
        return best

    def give_back(self, buffer: Tensor) -> None:
        """Let the next capture have *buffer*."""
        self._free.append(buffer)


class Transfer:
    """Tensors on their way to the host.

    Args:
        tensors: float32, float64, int64 or bool, on any device. They are packed in the order of the
            device's work, so they may change afterwards; of CUDA the pack crosses on a stream of
            its own, beside what the training does next.
        pool: of buffers.
    """

    def __init__(self, tensors: Sequence[Tensor], *, pool: HostMemory) -> None:
        self._pool = pool
        self._specs = [(tensor.dtype, tuple(tensor.shape)) for tensor in tensors]
        self._parts = [_Part(tensors, members, pool) for members in _by_device(tensors)]

    def ready(self) -> bool:
        """Whether `finish` returns at once."""
        events = [part.event for part in self._parts if part.event is not None]
        return all(bool(event.query()) for event in events)  # type: ignore[no-untyped-call]

    def finish(self) -> list[NDArray[Any]]:
        """Return the arrays, which own their numbers; waits where they are not `ready`."""
        arrays: dict[int, NDArray[Any]] = {}
        for part in self._parts:
            if part.event is not None:
                part.event.synchronize()
            buffer = part.host[: part.nbytes].numpy()
            if part.event is not None:
                received = buffer
                buffer = self._pool.results.take(part.nbytes)
                np.copyto(buffer, received)
                self._pool.give_back(part.host)
            for index, (start, stop) in part.places.items():
                dtype, shape = self._specs[index]
                arrays[index] = buffer[start:stop].view(_NUMPY_DTYPES[dtype]).reshape(shape)
        return [arrays[index] for index in range(len(self._specs))]


class _Part:
    """What comes from one device, as one run of bytes: one copy, one event."""

    def __init__(self, tensors: Sequence[Tensor], members: list[int], pool: HostMemory) -> None:
        # Wider items first, so that every array lies at a multiple of its item's size.
        members = sorted(members, key=lambda index: -tensors[index].element_size())
        pieces = [tensors[index].contiguous().view(-1).view(torch.uint8) for index in members]
        self.places: dict[int, tuple[int, int]] = {}
        self.nbytes = 0
        for index, piece in zip(members, pieces, strict=True):
            self.places[index] = self.nbytes, self.nbytes + len(piece)
            self.nbytes += len(piece)
        self.event: torch.cuda.Event | None = None
        if not pieces[0].is_cuda:
            self.host = torch.from_numpy(pool.results.take(self.nbytes))
            torch.cat(pieces, out=self.host)
        else:
            packed = torch.cat(pieces)
            self.host = pool.take(self.nbytes)
            side = _copy_stream(packed.device)
            # The copy waits for the results, and nothing of the training's waits for the copy.
            side.wait_stream(torch.cuda.current_stream(packed.device))
            with torch.cuda.stream(side):
                self.host[: self.nbytes].copy_(packed, non_blocking=True)
            packed.record_stream(side)  # its memory is not used anew before it was copied
            self.event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.event.record(side)


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _by_device(tensors: Sequence[Tensor]) -> list[list[int]]:
    found: dict[torch.device, list[int]] = {}
    for index, tensor in enumerate(tensors):
        found.setdefault(tensor.device, []).append(index)
    return list(found.values())
