"""``.pvd`` files: what ParaView opens as a time series."""

from __future__ import annotations

import contextlib
import re
import zlib
from typing import TYPE_CHECKING

from tensorview.whole_files import open_inside, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from tensorview.manifest import Entry

LAG = 1000
"""A collection of n steps is written once n / `LAG` changed: its share of a capture stays small
however long the run is, and a killed writer leaves at most a thousandth of the steps unlisted."""

MAX_BYTES = 256 * 2**20
"""Of a list that is read."""

_HEAD = b'<?xml version="1.0"?>\n<VTKFile type="Collection" version="0.1">\n<Collection>\n'
_TAIL = b"</Collection>\n</VTKFile>\n"
_LINE = re.compile(
    rb'<DataSet timestep="([0-9]+)" part="[0-9]+" '
    rb'file="([a-z_]+/(?:[^./"<>][^/"<>]*/)?[0-9]{8,}\.vt[ip])"/>'
)


def listed_files(data: bytes) -> list[tuple[int, str]] | None:
    """Return step and path in the run of each file that a ``.pvd`` lists.

    Args:
        data: its content.

    Returns:
        None where a `Collection` has not written it: it may list files outside the run, then.
    """
    if not (data.startswith(_HEAD) and data.endswith(_TAIL)):
        return None
    *lines, rest = data[len(_HEAD) : -len(_TAIL)].split(b"\n")
    found = [_LINE.fullmatch(line) for line in lines]
    if rest or not all(found):
        return None
    return [(int(line[1]), line[2].decode(errors="replace")) for line in found if line]


class Collection:
    """One ``.pvd``, replaced as a whole at each writing.

    What is listed already is kept in the file alone, so that a long run takes no memory for it.

    Args:
        path: of the file.
        find: gives, by step in order of time, what is to be listed; asked at the first writing, and
            where the file is not as it was written.
    """

    def __init__(self, path: Path, *, find: Callable[[], Mapping[int, Sequence[Entry]]]) -> None:
        self._path = path
        self._find = find
        self._written: tuple[int, int] | None = None  # size and CRC
        self._changed: dict[int, bytes] = {}
        self._parts: dict[str | None, int] = {}
        self._steps = 0
        self._last = -1

    def set(self, step: int, entries: Sequence[Entry]) -> None:
        """List *entries* as what is shown at *step*, none for a step that is not in the view.

        A layer keeps its part number from step to step.
        """
        if entries or step <= self._last or step in self._changed:
            self._changed[step] = self._lines(step, entries)

    def flush_if_due(self) -> None:
        """Write the file if enough has changed; what cannot be written stays due."""
        if len(self._changed) * LAG >= self._steps:
            self.flush()

    def flush(self) -> None:
        """Write the file if anything has changed.

        Raises:
            OSError: it is as it was.
            RunError: what is to be listed cannot be found.
        """
        if self._written is not None and not self._changed:
            return
        body = self._read()
        lines: list[bytes | memoryview]
        if body is None:
            found = {step: self._lines(step, entries) for step, entries in self._find().items()}
            lines, steps, last = [*found.values()], len(found), max(found, default=-1)
        elif min(self._changed) > self._last:
            lines = [body, *(new for _, new in sorted(self._changed.items()))]
            steps, last = self._steps + sum(map(bool, self._changed.values())), max(self._changed)
        else:
            known: dict[int, bytes] = {}
            for line in bytes(body).splitlines(keepends=True):
                step = int(line.split(b'"', 2)[1])
                known[step] = known.get(step, b"") + line
            known |= self._changed
            listed = {step: some for step, some in sorted(known.items()) if some}
            lines, steps, last = [*listed.values()], len(listed), max(listed, default=-1)
        data = b"".join((_HEAD, *lines, _TAIL))
        replace_file(self._path, data)
        self._written = len(data), zlib.crc32(data)
        self._steps, self._last = steps, last
        self._changed = {}

    def _read(self) -> memoryview | None:
        """Return the lines of the file as it was written; None where it is another one."""
        if self._written is None:
            return None
        try:
            with open_inside(self._path.parent, self._path.name, limit=self._written[0]) as stream:
                data = stream.read()
        except OSError:
            return None
        if self._written != (len(data), zlib.crc32(data)):
            return None
        return memoryview(data)[len(_HEAD) : -len(_TAIL)]

    def _lines(self, step: int, entries: Sequence[Entry]) -> bytes:
        return "".join(
            f'<DataSet timestep="{step}" part="{self._part(entry.layer)}" file="{entry.file}"/>\n'
            for entry in entries
        ).encode()

    def _part(self, layer: str | None) -> int:
        return self._parts.setdefault(layer, len(self._parts))


def flush_all(collections: Iterable[Collection], *, due_alone: bool = False) -> None:
    """Write each, or those that are due, though others cannot be; raise in the end what failed."""
    with contextlib.ExitStack() as ends:
        for listed in collections:
            ends.callback(listed.flush_if_due if due_alone else listed.flush)
