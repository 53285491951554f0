"""A file of lines that others append to: writing one whole, and reading on as it grows."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tensorview.whole_files import open_inside, open_to_append

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

PIECE_BYTES = 64 * 2**10
PIECES = 64
"""Of what is no line, that much is passed over at once."""
ENOUGH_LINES = 256


def append_line(folder: Path, name: str, line: bytes) -> None:
    """Append *line*, which ends in a line break, in one write; make the file where there is none.

    What an interrupted writer left half written before it is closed by a line break. An empty
    *line* does just that.

    Raises:
        OSError: it is not a plain file, or there is no room; nothing waits.
    """
    descriptor = open_to_append(folder / name)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


class Tail:
    """Reads the lines of a file as they come, each once and in order; never waits.

    A file that is put in its place is read from its start, and so is one that was cut short.

    Args:
        folder: of the file.
        name: of the file; missing ones may come later.
        max_line_bytes: longer lines are passed over.
        from_end: leave out what the file holds now.
        owner: user id that the file must have, None for any.

    Attributes:
        passed_over: lines that were too long, or no JSON object at first sight.
        total: bytes read.
        problem: why the file cannot be read, "" where it can or is not there.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        max_line_bytes: int,
        from_end: bool,
        owner: int | None = None,
    ) -> None:
        self.passed_over = 0
        self.total = 0
        self.problem = ""
        self._folder = folder
        self._name = name
        self._max_line_bytes = max_line_bytes
        self._owner = owner
        self._stream: BinaryIO | None = None
        self._known: tuple[int, int] | None = None
        self._offset = 0
        self._rest = b""
        self._skipping = False
        self._open()
        if from_end and self._stream is not None:
            self._offset = os.fstat(self._stream.fileno()).st_size

    def read(self) -> list[bytes]:
        """Return the lines that were completed since the last call; a bounded share of them.

        Raises:
            OSError: the disk fails.
        """
        self._open()
        if self._stream is None:
            return []
        descriptor = self._stream.fileno()
        if os.fstat(descriptor).st_size < self._offset:
            self._start_anew()
        lines: list[bytes] = []
        for _ in range(PIECES):
            piece = os.pread(descriptor, PIECE_BYTES, self._offset)
            self._offset += len(piece)
            self.total += len(piece)
            lines += self._complete(piece)
            if len(piece) < PIECE_BYTES or len(lines) >= ENOUGH_LINES:
                break
        return lines

    def close(self) -> None:
        """Let go of the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _open(self) -> None:
        """Follow the name to the file that bears it now."""
        try:
            status = os.lstat(self._folder / self._name)
        except OSError:
            self._known, self.problem = None, ""
            self.close()
            return
        # While a file is held open no other one gets its number.
        if self._known == (status.st_dev, status.st_ino):
            return
        self._known = status.st_dev, status.st_ino
        self.close()
        self._start_anew()
        if self._owner not in (None, status.st_uid):
            self.problem = "it belongs to somebody else"
            return
        try:
            self._stream = open_inside(self._folder, self._name, limit=2**63)
            self.problem = ""
        except OSError as error:
            self.problem = error.strerror or str(error)

    def _start_anew(self) -> None:
        self._offset = 0
        self._rest = b""
        self._skipping = False

    def _complete(self, piece: bytes) -> list[bytes]:
        """Return the lines that *piece* completes; keep what comes after the last line break."""
        *ended, rest = piece.split(b"\n")
        if not ended:
            if not self._skipping:
                self._keep(self._rest + rest)
            return []
        first = b"" if self._skipping else self._rest + ended[0]
        self._skipping = False
        self._keep(rest)
        found = [line for line in (first, *ended[1:]) if line.strip()]
        lines = [line for line in found if line[:1] == b"{" and len(line) < self._max_line_bytes]
        self.passed_over += len(found) - len(lines)
        return lines

    def _keep(self, rest: bytes) -> None:
        self._rest = rest
        if len(rest) >= self._max_line_bytes:
            self._rest, self._skipping = b"", True
            self.passed_over += 1
