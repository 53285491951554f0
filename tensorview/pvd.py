"""``.pvd`` files: what ParaView opens as a time series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorview.whole_files import replace_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tensorview.manifest import Entry

LAG = 1000
"""A collection of n steps is written once n / `LAG` changed: its share of a capture stays small
however long the run is, and a killed writer leaves at most a thousandth of the steps unlisted."""

_HEAD = '<?xml version="1.0"?>\n<VTKFile type="Collection" version="0.1">\n<Collection>\n'
_TAIL = "</Collection>\n</VTKFile>\n"


class Collection:
    """One ``.pvd``, replaced as a whole at each writing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[int, str] = {}
        self._parts: dict[str | None, int] = {}
        self._last = -1
        self._sorted = True
        self._changed = 0

    def set(self, step: int, entries: Sequence[Entry]) -> None:
        """List *entries* as what is shown at *step*, none for a step that is not in the view.

        A layer keeps its part number from step to step.
        """
        lines = "".join(
            f'<DataSet timestep="{step}" part="{self._part(entry.layer)}" file="{entry.file}"/>\n'
            for entry in entries
        )
        if self._lines.get(step, "") == lines:
            return
        self._changed += 1
        if not lines:
            del self._lines[step]
            return
        self._sorted = self._sorted and step >= self._last
        self._last = max(self._last, step)
        self._lines[step] = lines

    def flush_if_due(self) -> None:
        """Write the file if enough has changed; what cannot be written stays due."""
        if self._changed * LAG >= len(self._lines):
            self.flush()

    def flush(self) -> None:
        """Write the file if anything has changed.

        Raises:
            OSError: it is as it was.
        """
        if not self._changed:
            return
        if not self._sorted:
            self._lines = dict(sorted(self._lines.items()))
            self._sorted = True
        replace_file(self._path, "".join((_HEAD, *self._lines.values(), _TAIL)).encode())
        self._changed = 0

    def _part(self, layer: str | None) -> int:
        return self._parts.setdefault(layer, len(self._parts))
