"""Tables as CSV text that pandas reads back exactly and a spreadsheet does not run.

Texts follow RFC 4180. One that begins like a formula (``= + - @``, in full width too, a tab or a
line break; whether or not behind spaces) or with the mark itself, and one that pandas would take
for a missing value, gets a leading ``'``; a reader drops one leading ``'`` of every text.

Source: OWASP, "CSV Injection".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from tensorview.worker.tables import Table

CHUNK_ROWS = 20_000
"""Rows turned to text at a time: millions of small strings at once cost time and memory."""

_FORMULA = (*"=+-@", *"\uff1d\uff0b\uff0d\uff20", "\t", "\r", "\n", "'")
_SKIPPED = " \ufeff"
"""What spreadsheets drop from the front of a cell: spaces, and the mark of UTF-8 in a file."""
_MISSING = {"", "#N/A", "#N/A N/A", "#NA", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN"}
_MISSING |= {"None", "n/a", "nan", "null"}
_QUOTED = frozenset(',"\r\n')


def csv_bytes(tables: Sequence[Table]) -> bytes:
    """Return *tables* under one header; a column that a table lacks is empty in its rows."""
    names = list(dict.fromkeys(name for table in tables for name in table))
    parts = [line(map(text, names)).encode()]
    for table in tables:
        rows = len(next(iter(table.values())))
        for first in range(0, rows, CHUNK_ROWS):
            count = min(CHUNK_ROWS, rows - first)
            columns = [
                _cells(table[name][first : first + count]) if name in table else [""] * count
                for name in names
            ]
            parts.append("".join(map(line, zip(*columns, strict=True))).encode())
    return b"".join(parts)


def line(cells: Iterable[str]) -> str:
    """Join cells to a line."""
    return ",".join(cells) + "\n"


def text(value: str) -> str:
    """Return a text as a cell."""
    if value.lstrip(_SKIPPED).startswith(_FORMULA) or value in _MISSING:
        value = "'" + value
    if _QUOTED.isdisjoint(value):
        return value
    return '"' + value.replace('"', '""') + '"'


def restore(cell: str) -> str:
    """Return the text of a cell, once a CSV reader has undone the double quotes."""
    return cell.removeprefix("'")


def _cells(column: NDArray[Any]) -> list[str]:
    """Return a column's cells."""
    if column.dtype == object:
        values = column.tolist()
        known = {value: text(value) for value in set(values)}
        return [known[value] for value in values]
    if column.dtype == np.float32:
        # Nine digits determine a float32; the point keeps a column of -0 from becoming integers.
        return list(map("%#.9g".__mod__, column.tolist()))
    return list(map(repr, column.tolist()))
