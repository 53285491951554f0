"""The index of a run directory: which files it holds, what is in them, and whether they are whole.

One JSON line a committed file, and one for every capture whose files were removed later; appended
and never changed, though lines of steps that are there no more may go. A line counts only if
everything in it has the right type and its ``file`` is exactly the name that its view, layer and
step give, so a manifest can point nowhere but at the run's own files.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from typing import BinaryIO

MANIFEST = "manifest.jsonl"
MAX_LINE_BYTES = 2**16
MAX_DAMAGED_LINES = 1000
MAX_FILE_BYTES = 2**30
MAX_PART_CHARACTERS = 200

_VIEW = re.compile(r"[a-z][a-z_]{0,63}")
_SUFFIX = re.compile(r"\.(?:vtp|vti|csv)\Z")
_LIMIT = 2**63
_KEYS = {"step", "capture", "view", "layer", "file", "bytes", "crc32"}
_REMOVAL_KEYS = {"step", "capture", "removed"}


class Entry(NamedTuple):
    """One committed file.

    Attributes:
        step: optimizer steps done.
        capture: number of the capture that wrote it.
        view: name of the view, or of its atlas.
        layer: the layer's full name for a file that holds one layer; None for all layers.
        file: path within the run, ``/`` between its parts.
        size: bytes.
        crc32: `zlib.crc32` of the content.
    """

    step: int
    capture: int
    view: str
    layer: str | None
    file: str
    size: int
    crc32: int


class Removal(NamedTuple):
    """What *capture* wrote of *step* is there no more, to save room; see `tensorview.thinning`."""

    step: int
    capture: int


def layer_part(layer: str) -> str:
    """Name a layer's directory: different for different layers, and safe as a path part.

    `urllib.parse.unquote` gives the layer's name back, except where the result would be longer
    than `MAX_PART_CHARACTERS`: then it ends in ``~`` and a hash, and only the manifest has the
    full name.
    """
    if not layer:
        return "%"  # a lone % encodes nothing else
    part = quote(layer, safe="", errors="surrogatepass").replace("~", "%7E")
    if part.startswith("."):
        part = "%2E" + part[1:]
    if len(part) > MAX_PART_CHARACTERS:
        digest = hashlib.sha256(layer.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        part = f"{part[: MAX_PART_CHARACTERS - 33]}~{digest}"
    return part


def file_name(view: str, *, step: int, layer: str | None, suffix: str) -> str:
    """Return the path within the run of one view, or of one layer of it, at one step."""
    folder = view if layer is None else f"{view}/{layer_part(layer)}"
    return f"{folder}/{step:08d}{suffix}"


def to_line(entry: Entry | Removal) -> bytes:
    """Return the manifest's line for *entry*, with its newline."""
    fields = entry._asdict()
    if isinstance(entry, Removal):
        fields["removed"] = True
    else:
        fields["bytes"] = fields.pop("size")
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Entry | Removal:
    """Read one line of the manifest.

    Raises:
        ValueError: it is not a whole line that this module could have written.
    """
    if not line.endswith(b"\n"):
        raise ValueError("cut short")
    try:
        found: Any = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict) or set(found) not in (_KEYS, _REMOVAL_KEYS):
        raise ValueError("not the expected fields")
    numbers = [found[key] for key in ("step", "capture", "bytes", "crc32") if key in found]
    if not all(type(n) is int and 0 <= n < _LIMIT for n in numbers):
        raise ValueError("numbers out of range")
    if "removed" in found:
        if found["removed"] is not True:
            raise ValueError("not a removal")
        return Removal(found["step"], found["capture"])
    view, layer, file = found["view"], found["layer"], found["file"]
    if not isinstance(view, str) or not _VIEW.fullmatch(view) or not isinstance(file, str):
        raise ValueError("not a view's file")
    if not (layer is None or isinstance(layer, str)) or found["bytes"] > MAX_FILE_BYTES:
        raise ValueError("not a layer's file, or too large")
    suffix = _SUFFIX.search(file)
    step = found["step"]
    if not suffix or file != file_name(view, step=step, layer=layer, suffix=suffix.group()):
        raise ValueError("file name does not fit")
    # Names repeat in every line of a long run.
    layer = layer if layer is None else sys.intern(layer)
    return Entry(
        step, found["capture"], sys.intern(view), layer, file, found["bytes"], found["crc32"]
    )


def read_entries(stream: BinaryIO) -> tuple[list[Entry | Removal], int, int]:
    """Read what is intact of a manifest.

    A line that is damaged is left out; those after it still count, since each stands for itself,
    until `MAX_DAMAGED_LINES` have been left out.

    Returns:
        The entries in order; the offset behind the last intact line, where a writer may go on; and
        the number of lines left out.
    """
    entries: list[Entry | Removal] = []
    offset = intact = damaged = 0
    while damaged < MAX_DAMAGED_LINES and (line := stream.readline(MAX_LINE_BYTES)):
        offset += len(line)
        try:
            entries.append(from_line(line))
        except ValueError:
            damaged += 1
            if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                break  # being written: what comes meanwhile is the rest of it
        else:
            intact = offset
    return entries, intact, damaged


def latest(entries: list[Entry | Removal]) -> dict[int, dict[str, Entry]]:
    """Return, by step in order of time, the files of the last capture that wrote the step.

    A run that is continued from a checkpoint writes steps again; the later capture replaces the
    whole step, also where it has fewer views or layers. A step whose last capture was removed is
    not there.
    """
    steps: dict[int, dict[str, Entry]] = {}
    for entry in entries:
        files = steps.setdefault(entry.step, {})
        other = files and next(iter(files.values())).capture != entry.capture
        if isinstance(entry, Removal):
            if not other:
                del steps[entry.step]
            continue
        if other:
            files.clear()
        files[entry.file] = entry
    return dict(sorted(steps.items()))


def needed(entries: list[Entry | Removal]) -> list[Entry | Removal]:
    """Leave out what states nothing but steps that are there no more.

    Of the others every line stays, since a file may hold what any of them states; and so does the
    last capture's removal, after which numbers go on.
    """
    steps = latest(entries)
    last = max((entry.capture for entry in entries), default=-1)
    return [
        entry
        for entry in entries
        if entry.step in steps or (isinstance(entry, Removal) and entry.capture == last)
    ]
