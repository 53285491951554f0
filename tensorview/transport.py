"""Hand snapshots to another process: slots in shared memory, ownership passed by pipe.

The writer maps an unlinked file, fills a slot and writes a *token* into a pipe. Whoever reads a
token owns its slot. The writer keeps the pipe's read end too, so it can take an unread token back
and overwrite the slot: that is how the newest snapshot replaces an older one without waiting.
Acknowledgements come back as JSON lines through a second pipe.

What stands in a slot: `tensorview.encoding`. Where it is: `tensorview.slots`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import struct
from typing import TYPE_CHECKING, Any

from tensorview.encoding import MAX_BYTES, decode
from tensorview.errors import SnapshotError
from tensorview.slots import SLOT_STRIDE, Mappings, SlotFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensorview.encoding import EncodedSnapshot
    from tensorview.snapshot import Snapshot

ORPHAN_SECONDS = 10.0
"""For so long a file worker writes what a training that is gone had handed over."""
TOKEN = struct.Struct("<QQQ")  # slot, bytes of the frame, sequence number
PIECE_BYTES = 65536
MAX_PIECES = 16
"""Of what a worker said are taken at once: one that never stops must not hold the training."""
_MESSAGE: dict[str, type] = {
    "done": int,
    "reached": bool,
    "fault": str,
    "cause": str,
    "state": str,
}
"""What a worker may say, see `tensorview.worker.main.Worker.say`."""


def wait_readable(fd: int, timeout_seconds: float) -> bool:
    """Wait until *fd* can be read. (Not ``select``, which ends at 1,024 descriptors.)"""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0, round(timeout_seconds * 1000))))


class Sender:
    """The training side of one worker's slots. Never waits.

    Args:
        slots: how many snapshots may be under way at once.
        max_bytes: bound on the memory of all slots together.
    """

    def __init__(self, *, slots: int, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._free = set(range(slots))
        self._sent: dict[int, bytes] = {}  # slot -> token, not yet acknowledged
        self._sequence = 0
        with contextlib.ExitStack() as undo:  # where descriptors run short none is kept
            self._file = SlotFile()
            undo.callback(self._file.close)
            self._token_read, self._token_write = os.pipe()
            undo.callback(os.close, self._token_read)
            undo.callback(os.close, self._token_write)
            self._ack_read, self._ack_write = os.pipe()
            undo.pop_all()
        for fd in (self._token_read, self._token_write, self._ack_read):
            os.set_blocking(fd, False)
        self._line = b""

    @property
    def worker_fds(self) -> tuple[int, int, int]:
        """What the worker inherits: token pipe, acknowledgement pipe, slot file."""
        return self._token_read, self._ack_write, self._file.fd

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
        taken = []
        for token in self._unread():
            slot, _, sequence = TOKEN.unpack(token)
            del self._sent[slot]
            self._free.add(slot)
            taken.append(sequence)
        return taken

    def begun(self) -> bytes | None:
        """After a worker's death: the token of the snapshot that it was at, None for none.

        Withdraws what it had not begun: `resend` offers that again.
        """
        unread = set(self._unread())
        return next((token for token in self._sent.values() if token not in unread), None)

    def resend(self) -> int:
        """After a worker's death: offer again, in order, what it had not acknowledged."""
        for _ in self._unread():
            pass
        tokens = sorted(self._sent.values(), key=lambda token: int(TOKEN.unpack(token)[2]))
        for token in tokens:
            os.write(self._token_write, token)
        return len(tokens)

    def _unread(self) -> Iterator[bytes]:
        """Withdraw every unread token, oldest first."""
        with contextlib.suppress(BlockingIOError):
            while True:
                yield os.read(self._token_read, TOKEN.size)

    def forget_all(self) -> None:
        """Give up every snapshot under way; only where no worker runs."""
        self._free.update(self._sent)
        self._sent.clear()

    def forget(self, token: bytes) -> None:
        """Give up one snapshot under way; only where no worker runs."""
        slot = TOKEN.unpack(token)[0]
        del self._sent[slot]
        self._free.add(slot)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what the worker said since the last call, acknowledgements applied."""
        for _ in range(MAX_PIECES):
            try:
                self._line += os.read(self._ack_read, PIECE_BYTES)
            except BlockingIOError:
                break
        *lines, self._line = self._line.split(b"\n")
        if len(self._line) > PIECE_BYTES:
            self._line = b""
        for line in lines:
            message = _understand(line)
            if message is None:
                continue
            slot = message.get("done")
            if slot is not None:
                if slot not in self._sent:  # it was answered, or given up, before
                    continue
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


def _understand(line: bytes) -> dict[str, Any] | None:
    """Return a worker's message; None where it is none, as after the worker's death.

    A live worker hears what comes from the viewer's port, so what it says is not believed.
    """
    try:
        message: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or len(line) > PIECE_BYTES:
        return None
    if any(type(message[name]) is not kind for name, kind in _MESSAGE.items() if name in message):
        return None
    return message


class Receiver:
    """The worker's side of the slots."""

    def __init__(self, *, token_fd: int, ack_fd: int, slot_fd: int) -> None:
        self._token_fd = token_fd
        self._ack_fd = ack_fd
        self._slot_fd = slot_fd
        self._mappings = Mappings(slot_fd, writable=False)

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
        if len(token) < TOKEN.size:  # the end, or nothing that a writer of ours would send
            raise EOFError
        slot, nbytes, _ = TOKEN.unpack(token)
        # Memory beyond the end of the file can be mapped, but not read: that ends a process.
        there = os.fstat(self._slot_fd).st_size - slot * SLOT_STRIDE
        if not 0 < nbytes <= min(MAX_BYTES, there):
            return slot, SnapshotError(
                f"Cannot read a snapshot: {nbytes} bytes are announced in slot {slot}, which has "
                f"at most {max(0, min(MAX_BYTES, there))}."
            )
        mapping = self._mappings.of(slot, nbytes)
        try:
            return slot, decode(memoryview(mapping)[:nbytes])
        except SnapshotError as error:
            return slot, error

    def unread(self) -> int:
        """Take what is there and count it: snapshots that were handed over in vain."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._token_fd, TOKEN.size)) == TOKEN.size:
                count += 1
        return count

    def say(self, **message: Any) -> None:
        """Send one message to the training process; ``done=slot`` gives the slot back."""
        os.write(self._ack_fd, json.dumps(message).encode() + b"\n")
