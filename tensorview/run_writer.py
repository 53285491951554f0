"""The write side of a run directory: captures are committed whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorview.errors import RunError
from tensorview.manifest import MANIFEST, Entry, file_name, read_entries, to_line
from tensorview.pvd import Collection
from tensorview.run import Run
from tensorview.whole_files import temporary_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, eq=False)
class NewFile:
    """One file to commit.

    Attributes:
        view: name of the view, or of its atlas.
        layer: full name for a file that holds one layer, else None.
        suffix: ``".vtp"``, ``".vti"`` or ``".csv"``.
        data: the whole content.
    """

    view: str
    layer: str | None
    suffix: str
    data: bytes


class RunWriter:
    """Commits captures to a run directory, one writer at a time.

    Opening sweeps what a killed writer left half done: temporary files, a cut last line of the
    manifest, ``.pvd`` files that lag behind.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a run that `Run.create` made.

        Raises:
            RunError: there is no run, or it cannot be written.
        """
        run = Run.open(path)
        self.path: Path = run.path
        self._steps: dict[int, dict[str, Entry]] = run.files
        self._collections: dict[str, Collection] = {}
        with contextlib.ExitStack() as opened:
            try:
                self._manifest = opened.enter_context(
                    (self.path / MANIFEST).open("ab+", buffering=0)
                )
                _cut_tail(self._manifest.fileno())
                for temporary in self.path.rglob(".*.tmp"):
                    temporary.unlink()
                for step, files in self._steps.items():
                    self._list(step, list(files.values()))
                for collection in self._collections.values():
                    collection.flush()
            except OSError as error:
                raise RunError(f"Cannot write run '{path}': {error.strerror}.") from None
            opened.pop_all()

    def commit(self, files: Sequence[NewFile], *, step: int, capture: int) -> None:
        """Write all files of one capture, then state them in the manifest.

        A step that was written before is replaced as a whole.

        Raises:
            OSError: nothing of this capture was kept, and everything earlier is as it was.
        """
        entries = [
            Entry(
                step,
                capture,
                file.view,
                file.layer,
                file_name(file.view, step=step, layer=file.layer, suffix=file.suffix),
                len(file.data),
                zlib.crc32(file.data),
            )
            for file in files
        ]
        known = self._steps.get(step, {})
        paths = {entry.file: self.path / entry.file for entry in entries}
        with contextlib.ExitStack() as temporaries, contextlib.ExitStack() as placed:
            for file, path in zip(files, paths.values(), strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporaries.callback(temporary_path(path).unlink, missing_ok=True)
                temporary_path(path).write_bytes(file.data)
            for name in paths.keys() - known.keys():
                placed.callback(paths[name].unlink, missing_ok=True)
                temporary_path(paths[name]).replace(paths[name])
            self._state(entries)
            placed.pop_all()
            # Stated before they are replaced: so old and new content are both known as whole.
            for name in paths.keys() & known.keys():
                temporary_path(paths[name]).replace(paths[name])
        self._steps[step] = {entry.file: entry for entry in entries}
        self._list(step, entries)
        with contextlib.suppress(OSError):  # The capture is safe; what is due is tried again.
            for name in known.keys() - paths.keys():
                (self.path / name).unlink(missing_ok=True)
            for collection in self._collections.values():
                collection.flush_if_due()

    def close(self) -> None:
        """Bring every ``.pvd`` up to date.

        Raises:
            OSError: that was not possible; the captures themselves are safe.
        """
        self._manifest.close()
        for collection in self._collections.values():
            collection.flush()

    def _state(self, entries: list[Entry]) -> None:
        """Append *entries* to the manifest and wait until they are on disk, or leave it as is."""
        descriptor = self._manifest.fileno()
        end = os.fstat(descriptor).st_size
        data = b"".join(map(to_line, entries))
        try:
            while data:
                data = data[self._manifest.write(data) or 0 :]
            os.fsync(descriptor)
        except BaseException:
            os.ftruncate(descriptor, end)
            raise

    def _list(self, step: int, entries: list[Entry]) -> None:
        """Tell each view's collection which of its files show *step*."""
        shown: dict[str, list[Entry]] = {}
        for entry in entries:
            if not entry.file.endswith(".csv"):
                shown.setdefault(entry.view, []).append(entry)
        for view in shown.keys() - self._collections.keys():
            self._collections[view] = Collection(self.path / f"{view}.pvd")
        for view, collection in self._collections.items():
            collection.set(step, shown.get(view, []))


def _cut_tail(descriptor: int) -> None:
    """Cut what follows the last intact line of a manifest, so that the next starts a line."""
    with open(descriptor, "rb", closefd=False) as stream:
        stream.seek(0)
        _, intact, _ = read_entries(stream)
    if intact < os.fstat(descriptor).st_size:
        os.ftruncate(descriptor, intact)
