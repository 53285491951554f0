"""``scalars.csv``: one row a capture, for everyone who wants the numbers without VTK."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
from typing import TYPE_CHECKING

from tensorview.errors import RunError
from tensorview.run import SCALARS_FILE
from tensorview.whole_files import open_inside, replace_file
from tensorview.worker.csv_text import line, restore, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

MAX_BYTES = 2**30


class ScalarsCsv:
    """Append a row a capture; write the file anew when a column or an earlier step comes.

    The file is complete up to its last line break, like every file that is appended to.
    """

    def __init__(self, run_path: Path, *, last_step: int) -> None:
        """Go on after the last complete row of what the run still holds.

        Args:
            run_path: the run's directory.
            last_step: that it has a capture of; rows of later ones belong to steps that will be
                done again.

        Raises:
            RunError: the file is not one that this class wrote.
        """
        self._path = run_path / SCALARS_FILE
        self._columns: list[str] = []
        self._last = -1
        self._valid_up_to = math.inf
        self._end = 0
        self._pending: dict[int, dict[str, str]] = {}
        if os.path.lexists(self._path):
            rows, self._end = self._read()
            self._columns = list(dict.fromkeys(name for row in rows.values() for name in row))
            self._last = max(rows, default=-1)
            if self._last > last_step:
                self._valid_up_to = last_step
                with contextlib.suppress(OSError):  # a full disk may be free again when a row comes
                    self._rewrite()

    def add(self, step: int, row: Mapping[str, float]) -> None:
        """Add the row of *step*. What cannot be written is kept, and written with the next one."""
        self._pending[step] = {"step": str(step)} | {
            name: repr(value) for name, value in row.items() if name != "step"
        }
        with contextlib.suppress(OSError, RunError):  # `close` says so if it lasts
            self._flush()

    def close(self) -> None:
        """Write what could not be written yet.

        Raises:
            OSError: it still cannot.
            RunError: the file was changed by someone else.
        """
        self._flush()

    def _flush(self) -> None:
        is_valid = self._valid_up_to == math.inf
        if is_valid and not self._pending:
            return
        known = set(self._columns)
        follows = is_valid and min(self._pending) > self._last and self._path.exists()
        if follows and all(known.issuperset(row) for row in self._pending.values()):
            self._append()
        else:
            self._rewrite()
        self._pending.clear()

    def _append(self) -> None:
        data = to_lines(self._pending.values(), self._columns).encode()
        with self._path.open("r+b") as stream:
            stream.truncate(self._end)  # what a failed or killed writer left
            stream.seek(self._end)
            stream.write(data)
        self._end += len(data)
        self._last = max(self._pending)

    def _rewrite(self) -> None:
        known = self._read()[0] if os.path.lexists(self._path) else {}
        rows = {step: row for step, row in known.items() if step <= self._valid_up_to}
        self._replace(dict(sorted((rows | self._pending).items())))

    def _replace(self, rows: Mapping[int, Mapping[str, str]]) -> None:
        columns = list(dict.fromkeys(name for row in rows.values() for name in row))
        data = (line(map(text, columns)) + to_lines(rows.values(), columns)).encode()
        replace_file(self._path, data)
        # Not before: as long as it fails, the file has the former ones.
        self._columns = columns
        self._end = len(data)
        self._last = max(rows, default=-1)
        self._valid_up_to = math.inf

    def _read(self) -> tuple[dict[int, dict[str, str]], int]:
        """Return the complete rows by step, and where they end."""
        try:
            with open_inside(self._path.parent, SCALARS_FILE, limit=MAX_BYTES) as stream:
                whole, _, _ = stream.read().rpartition(b"\n")
            lines = csv.reader(io.StringIO(whole.decode(), newline=""), strict=True)
            header = [restore(name) for name in next(lines, [])]
            rows = [dict(zip(header, cells, strict=True)) for cells in lines]
            return {int(row["step"]): row for row in rows}, len(whole) + bool(whole)
        except OSError as error:
            raise RunError(f"Cannot continue '{self._path}': {error.strerror}.") from None
        except (ValueError, KeyError, csv.Error):
            raise RunError(
                f"Cannot continue '{self._path}': it is not as it was written. Move it away."
            ) from None


def to_lines(rows: Iterable[Mapping[str, str]], columns: Sequence[str]) -> str:
    """Write rows under *columns*; what a row lacks stays empty."""
    return "".join(line(row.get(name, "") for name in columns) for row in rows)
