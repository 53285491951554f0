"""A run directory: made by the training process, filled by the file worker, read by everyone.

Standard library only, since the training process and the command line import it.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tensorview.errors import (
    RemovedStepError,
    RunError,
    UnreadableFileError,
    UnwritableRunError,
    printable,
)
from tensorview.manifest import MANIFEST, Entry, Removal, latest, layer_part, read_entries
from tensorview.whole_files import create_file, open_inside

RUN_FILE = "run.json"
SCALARS_FILE = "scalars.csv"
SCHEMA_VERSION = 1
MAX_RUN_FILE_BYTES = 2 * 2**20
MAX_MANIFEST_BYTES = 256 * 2**20
DEFAULT_PARENT = Path("tensorview_runs")

# Where these come up another path is asked for; elsewhere the place may become writable.
_NOT_OURS = {errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.ENOTDIR, errno.ENXIO}
"""What lies in a file's place is something else, or too large."""
_WRONG_PATH = {errno.ELOOP, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTDIR}


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What one run directory held when it was opened.

    Attributes:
        path: the directory.
        id: of this run and no other, 32 hexadecimal digits; "" where it was written before runs had
            one.
        created: when the run began, ISO 8601 with time zone.
        settings: what the training process wrote about itself; ``"name"`` is the run's name.
        files: by step in order of time, the files committed at that step, by their path in the run.
        damaged_lines: lines of the manifest that could not be read and were left out.
        next_capture: the number that the next capture of this run gets.
        removed: steps that were removed at some time.
    """

    path: Path
    id: str
    created: str
    settings: dict[str, Any]
    files: dict[int, dict[str, Entry]]
    damaged_lines: int
    next_capture: int
    removed: frozenset[int]
    _manifest: tuple[int, int]
    _former: dict[str, set[tuple[int, int]]]

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, settings: dict[str, Any]) -> Run:
        """Make a run directory, with mode 0700 unless it is there already.

        Of several processes that ask for the same one at once, one gets it.

        Args:
            path: a directory that is missing, or holds no run.
            settings: JSON-ready; ``"name"`` is the run's name.

        Raises:
            RunError: it holds a run, or cannot be a directory.
            UnwritableRunError: it cannot be written.
        """
        path = Path(path)
        if holds_run(path):
            raise _taken(path)
        created = datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds")
        document = {
            "schema": SCHEMA_VERSION,
            "id": uuid.uuid4().hex,
            "created": created,
            "settings": settings,
        }
        data = json.dumps(document, indent=2).encode() + b"\n"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise _unusable(path, error) from None
        try:
            create_file(path / RUN_FILE, data)
        except FileExistsError:
            raise _taken(path) from None
        except OSError as error:
            raise _unusable(path, error) from None
        return cls.open(path)

    @classmethod
    def create_default(
        cls, name: str, *, now: datetime, settings: dict[str, Any], parent: Path = DEFAULT_PARENT
    ) -> Run:
        """Make ``<parent>/<date>-<name>``, with -2, -3, ... when taken; its path is absolute.

        Processes that do so at once get one directory each.

        Raises:
            RunError: *parent* cannot be a directory.
            UnwritableRunError: it cannot be written.
        """
        path, number = parent / f"{now:%Y-%m-%d}-{layer_part(name)}", 1
        try:
            path = base = path.absolute()
            base.parent.mkdir(parents=True, exist_ok=True)
            while not _is_new(path):
                number += 1
                path = base.with_name(f"{base.name}-{number}")
        except (OSError, ValueError) as error:
            raise _unusable(path, error) from None
        return cls.create(path, settings=settings)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """Read what a run directory holds; of a damaged manifest, what is intact.

        Raises:
            RunError: there is no run, or its ``run.json`` cannot be read or trusted.
        """
        path = Path(path)
        document = _read_run_file(path)
        try:
            # Before it is read: lines that come meanwhile make it another one.
            manifest = _identity(path / MANIFEST)
            with open_inside(path, MANIFEST, limit=MAX_MANIFEST_BYTES) as stream:
                entries, _, damaged = read_entries(stream)
        except FileNotFoundError:
            entries, damaged = [], 0  # no capture was committed yet
        except OSError as error:
            raise RunError(f"Cannot read run '{path}': {MANIFEST}: {error.strerror}.") from None
        files = latest(entries)
        former: dict[str, set[tuple[int, int]]] = {}
        for entry in entries:
            if isinstance(entry, Removal):
                continue
            if files.get(entry.step, {}).get(entry.file) is not entry:
                former.setdefault(entry.file, set()).add((entry.size, entry.crc32))
        return cls(
            path=path,
            id=document.get("id", ""),
            created=document["created"],
            settings=document["settings"],
            files=files,
            damaged_lines=damaged,
            next_capture=1 + max((entry.capture for entry in entries), default=-1),
            removed=frozenset(entry.step for entry in entries if isinstance(entry, Removal)),
            _manifest=manifest,
            _former=former,
        )

    def steps(self, view: str | None = None) -> tuple[int, ...]:
        """Return the steps at which *view* was written, or any view, in order of time."""
        return tuple(
            step
            for step, files in self.files.items()
            if view is None or any(entry.view == view for entry in files.values())
        )

    def entries(self, step: int, *, view: str, suffix: str) -> tuple[Entry, ...]:
        """Return the files of one view at one step, layer by layer for an atlas."""
        return tuple(
            entry
            for entry in self.files.get(step, {}).values()
            if entry.view == view and entry.file.endswith(suffix)
        )

    def read_bytes(self, view: str, step: int, *, layer: str | None = None) -> bytes:
        """Return a view's dataset file, or one layer's of an atlas, once it is proved whole.

        Raises:
            RunError: there is none, or it is not what was committed.
        """
        suffix = ".vtp" if layer is None else ".vti"
        for entry in self.entries(step, view=view, suffix=suffix):
            if entry.layer == layer:
                return self.read(entry)
        wanted = view if layer is None else f"{view} of layer {layer!r}"
        raise RunError(f"Cannot read {wanted} at step {step} of run '{self.path}': not written.")

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of a committed file, once size and CRC are proved.

        A writer that replaces a file states the new content first, so that what any line of the
        manifest states of it is whole.

        Raises:
            RemovedStepError: the training has removed it since this was opened.
            UnreadableFileError: permission, descriptors or the disk lack to say what it holds.
            RunError: it is missing, cut short, changed, or not a plain file inside the run.
        """
        whole = {(entry.size, entry.crc32), *self._former.get(entry.file, ())}
        sizes = {size for size, _ in whole}
        problem = f"Cannot read '{entry.file}' of run '{self.path}'"
        try:
            with open_inside(self.path, entry.file, limit=max(sizes)) as stream:
                data = stream.read()
        except FileNotFoundError as error:
            has_changed = _identity(self.path / MANIFEST) != self._manifest
            if has_changed and entry.step not in Run.open(self.path).files:
                raise RemovedStepError(
                    f"{problem}: the training has removed step {entry.step} since, as keep= of "
                    f"watch() asks. Open the run anew."
                ) from None
            raise RunError(f"{problem}: {error.strerror}.") from None
        except OSError as error:
            kind = RunError if error.errno in _NOT_OURS else UnreadableFileError
            raise kind(f"{problem}: {error.strerror}.") from None
        if len(data) not in sizes:
            raise RunError(
                f"{problem}: it is damaged, it ends at byte {len(data)} instead of {entry.size}."
            )
        if (len(data), zlib.crc32(data)) not in whole:
            raise RunError(
                f"{problem}: it is damaged, the CRC of its {len(data)} bytes is not the one that "
                f"was committed."
            )
        return data


def holds_run(path: Path) -> bool:
    """Whether there is a run in *path*, in whatever state."""
    return os.path.lexists(path / RUN_FILE) or os.path.lexists(path / MANIFEST)


def read_run_id(path: str | os.PathLike[str]) -> str:
    """Return `Run.id` alone, which takes no longer for a long run.

    Raises:
        RunError: there is no run, or its ``run.json`` cannot be read or trusted.
    """
    return str(_read_run_file(Path(path)).get("id", ""))


def _read_run_file(path: Path) -> dict[str, Any]:
    """Return what the run in *path* says of itself, its parts checked."""
    try:
        with open_inside(path, RUN_FILE, limit=MAX_RUN_FILE_BYTES) as stream:
            found: Any = json.load(stream)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"Cannot open run '{path}': there is no {RUN_FILE} in it.") from None
    except OSError as error:
        raise RunError(f"Cannot open run '{path}': {RUN_FILE}: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise RunError(f"Cannot open run '{path}': its {RUN_FILE} is damaged.") from None
    if not isinstance(found, dict) or type(found.get("schema")) is not int:
        raise RunError(f"Cannot open run '{path}': its {RUN_FILE} is not that of a run.")
    if found["schema"] != SCHEMA_VERSION:
        raise RunError(
            f"Cannot open run '{path}': it has schema version {printable(found['schema'])}, "
            f"expected {SCHEMA_VERSION}. Use the tensorview that wrote it."
        )
    texts = found.get("created"), found.get("id", "")
    if not all(isinstance(text, str) for text in texts) or not isinstance(
        found.get("settings"), dict
    ):
        raise RunError(f"Cannot open run '{path}': its {RUN_FILE} is not that of a run.")
    return found


def _described(path: Path) -> str:
    """Say which run *path* holds, as far as it can be read."""
    try:
        found = _read_run_file(path)
    except RunError:
        return "a run that cannot be read"
    name = found["settings"].get("name", "unknown name")
    return f"a run of {printable(name)} from {printable(found['created'][:10])}"


def _is_new(path: Path) -> bool:
    """Make the directory *path*; of several processes that do so at once, one has made it."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _identity(path: Path) -> tuple[int, int]:
    """Return what changes when a manifest does, which grows or is replaced."""
    try:
        found = path.lstat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_size


def _taken(path: Path) -> RunError:
    return RunError(
        f"Cannot write a run in '{path}': it already holds {_described(path)}. "
        f"Give another run_dir, remove it, or give start_step= to continue it."
    )


def _unusable(path: Path, error: OSError | ValueError) -> RunError:
    """Say why no run can be written in *path*, and whether that lies in the path itself."""
    if isinstance(error, ValueError):  # a NUL byte, or a character the file system cannot encode
        return RunError(f"Cannot write a run in {str(path)!r}: {error}. Give another run_dir.")
    reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        for place in (path, *path.parents):
            if os.path.lexists(place) and not place.is_dir():
                reason = f"{'it' if place == path else repr(str(place))} is not a directory"
    kind = RunError if error.errno in _WRONG_PATH else UnwritableRunError
    return kind(f"Cannot write a run in '{path}': {reason}. Give another run_dir.")
