"""Ways to spoil bytes. Each takes a generator of random numbers and good bytes."""

from __future__ import annotations

import json
import re
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

NUMBERS = (
    0,
    1,
    2,
    7,
    255,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
SMALL = (-1, -2, 0, 1, 2, 100, 2**20, 2**31 - 1, -(2**31))
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1.5, -0.0, 2**31, 2**63, -(2**63), 10**30, 1e308),
    *(float("nan"), float("inf"), "", "..", "../x", "../../etc/passwd", "/etc/passwd", "a/b"),
    *("\0", "\ud800", "\x1b[2J", "=1+1", "x" * 5000, [], {}, [[]], {"": {}}, [0] * 1000),
)
TOO_DEEP = b"[" * 100_000
DEEP = json.loads("[" * 400 + "]" * 400)
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
)
_NUMBER = re.compile(rb"(?<![\w.])-?\d+(?![\w.])")
_QUOTED = re.compile(rb'"[^"\n]{0,200}"')
_BLOCK = re.compile(rb'offset="(\d+)"')
_PADDING = b" " * 8192


def spoil(rng: random.Random, data: bytes, *, others: Sequence[bytes]) -> bytes:
    """Apply one to three mutators to *data*; *others* are good too."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(MUTATORS)(rng, data, others)
    return data


def flip_bits(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Flip a few bits."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        result[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(result)


def truncate(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Cut the end off."""
    return data[: rng.choice((0, 1, _place(rng, data), _place(rng, data), max(0, len(data) - 1)))]


def zero_tail(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Overwrite the end with zeros, as file systems do after a power failure."""
    start = _place(rng, data)
    return data[:start] + bytes(len(data) - start)


def splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Go on in the middle with another file."""
    other = rng.choice(others)
    return data[: _place(rng, data)] + other[_place(rng, other) :]


def move_chunk(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Leave a chunk out, or put it somewhere else as well."""
    first = _place(rng, data)
    chunk = data[first : first + rng.choice((1, 4, 8, 60, 500))]
    if rng.random() < 0.5:
        return data[:first] + data[first + len(chunk) :]
    there = _place(rng, data)
    return data[:there] + chunk + data[there:]


def lie_in_binary(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Write an 8 or 4 byte number of importance over others."""
    result = bytearray(data)
    form = rng.choice(("<Q", "<I", ">I"))
    size = struct.calcsize(form)
    if len(data) >= size:
        at = min(_place(rng, data), len(data) - size)
        struct.pack_into(form, result, at, rng.choice(NUMBERS) % 256**size)
    return bytes(result)


def lie_in_text(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Replace a number that is written out."""
    number = rng.choice((*NUMBERS, *SMALL, 10**40, "1e5", "", "nan"))
    return _replace(rng, _NUMBER, data, str(number).encode())


def swap_texts(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Put one quoted text in the place of another, or something strange."""
    strange = ('""', '"../../x"', '"/etc/passwd"', '"\\u0000"', '"\\ud800"', '"NaN"', '"String"')
    found = _QUOTED.findall(data[:65536])
    return _replace(rng, _QUOTED, data, rng.choice([*found, *(text.encode() for text in strange)]))


def lie_in_values(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Change numbers in a compressed array of a VTK file, and put it in as if nothing was wrong."""
    start = data.find(_PADDING + b"_") + len(_PADDING) + 1
    offsets = [int(found[1]) for found in _BLOCK.finditer(data[:start])]
    if not offsets or b"compressor" not in data[:start]:
        return lie_in_binary(rng, data, ())
    offset = rng.choice(offsets)
    try:
        blocks, size, _, packed = struct.unpack_from("<4Q", data, start + offset)
        first = start + offset + 32
        values = bytearray(zlib.decompress(data[first : first + packed]) if blocks == 1 else b"")
    except (struct.error, zlib.error):
        return data
    for _ in range(rng.choice((1, 1, 3)) if len(values) >= 4 else 0):
        at = rng.randrange(len(values) // 4) * 4
        struct.pack_into("<i", values, at, rng.choice((*SMALL, rng.randrange(1000))))
    if rng.random() < 0.1:
        values += bytes(rng.choice((4, 8, 2**20)))
    fresh = zlib.compress(bytes(values), 1)
    said = len(values) if rng.random() < 0.9 else size
    block = struct.pack("<4Q", 1, said, 0, len(fresh)) + fresh
    grown = len(block) - 32 - packed if blocks else len(block) - 24
    header = _BLOCK.sub(
        lambda found: b'offset="%d"' % (int(found[1]) + grown * (int(found[1]) > offset)),
        data[:start],
    )
    return (
        header + data[start : start + offset] + block + data[start + offset + len(block) - grown :]
    )


MUTATORS: tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...] = (
    *(flip_bits, truncate, zero_tail, splice, move_chunk, lie_in_binary, lie_in_text, swap_texts),
)


def spoil_json(rng: random.Random, document: Any) -> Any:
    """Return *document* with something in it replaced, left out, renamed or put elsewhere."""
    places: list[tuple[Any, Any]] = []
    document = json.loads(json.dumps(document))
    _collect(document, places)
    if not places or rng.random() < 0.03:
        return rng.choice(VALUES)
    holder, key = rng.choice(places)
    choice = rng.random()
    if choice < 0.7:
        holder[key] = rng.choice((*VALUES, DEEP))
    elif choice < 0.8:
        del holder[key]
    elif choice < 0.9 and isinstance(holder, dict):
        holder[rng.choice(("", "x", "file", "schema", "\0"))] = holder.pop(key)
    else:
        other, there = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[there])) if there in _keys(other) else None
    return document


def spoil_lines(rng: random.Random, data: bytes) -> bytes:
    """Change a line of JSON, its order or number, or what stands between lines."""
    lines = data.splitlines(keepends=True) or [b"\n"]
    at = rng.randrange(len(lines))
    choice = rng.random()
    if choice < 0.6:
        try:
            lines[at] = json.dumps(spoil_json(rng, json.loads(lines[at]))).encode() + b"\n"
        except ValueError:
            lines[at] = b"{}\n"
    elif choice < 0.7:
        lines.insert(rng.randrange(len(lines)), lines[at])
    elif choice < 0.8:
        del lines[at]
    elif choice < 0.9:
        lines[at] = rng.choice((TOO_DEEP, BOMB, b"\n" * 100, b"x" * 70_000, b"\0" * 5000)) + b"\n"
    else:
        lines[at] = lines[at].rstrip(b"\n") * rng.choice((1, 2))
    return b"".join(lines)


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    if isinstance(value, (dict, list)):
        for key in _keys(value):
            places.append((value, key))
            _collect(value[key], places)


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value)))


def _replace(rng: random.Random, pattern: re.Pattern[bytes], data: bytes, by: bytes) -> bytes:
    found = list(pattern.finditer(data[:65536]))
    if not found:
        return data
    match = rng.choice(found)
    return data[: match.start()] + by + data[match.end() :]


def _place(rng: random.Random, data: bytes) -> int:
    """Choose a byte, seldom one of the padding that makes up most of a small VTK file."""
    padding = data.find(_PADDING)
    if padding < 0 or rng.random() < 0.05:
        return rng.randrange(len(data) or 1)
    if rng.random() < 0.5:
        return rng.randrange(padding or 1)
    return min(len(data) - 1, rng.randrange(padding + len(_PADDING), len(data) + 1))
