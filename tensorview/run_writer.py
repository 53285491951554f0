"""The write side of a run directory: captures are committed whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
import zlib
from collections import deque
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING

from tensorview.errors import RunError
from tensorview.manifest import MANIFEST, Entry, Removal, file_name, needed, read_entries, to_line
from tensorview.orphans import orphans, refuse_lost_manifest
from tensorview.pvd import Collection, flush_all
from tensorview.run import MAX_MANIFEST_BYTES, Run
from tensorview.thinning import CommittedCapture, Thinner
from tensorview.whole_files import (
    open_inside,
    open_temporary,
    refuse_links,
    remove_inside,
    temporary_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
LINGER_SECONDS = 10.0
"""Clients look for new lists once a second."""
SHRINK_BYTES = 4 * 2**20
"""Of a manifest from which captures were removed, before it is written anew for the first time;
then whenever it has doubled."""
SETTLE_SECONDS = 1.0
"""From one time that lists are written and the manifest is forced to disk to the next, while
captures follow each other without a pause: either may take as long as the files of a capture."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NewFile:
    """One file to commit.

    Attributes:
        view: name of the view, or of its atlas.
        layer: full name for a file that holds one layer, else None.
        suffix: ``".vtp"``, ``".vti"`` or ``".csv"``.
        data: the whole content, or its parts in order.
    """

    view: str
    layer: str | None
    suffix: str
    data: bytes | list[bytes | memoryview]

    @property
    def parts(self) -> list[bytes | memoryview]:
        """What is written, piece by piece: to join large ones would cost as much as to write."""
        return [self.data] if isinstance(self.data, bytes) else self.data

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(memoryview(part).nbytes for part in self.parts)

    @property
    def crc32(self) -> int:
        """`zlib.crc32` of the content."""
        return reduce(lambda crc, part: zlib.crc32(part, crc), self.parts, 0)


class RunWriter:
    """Commits captures to a run directory, one writer at a time.

    Opening sweeps what a killed writer left half done: `orphans`, a cut last line of the manifest,
    ``.pvd`` files that lag behind.

    Attributes:
        last_step: that the run has a capture of, -1 without any.
    """

    def __init__(self, path: str | os.PathLike[str], *, keep: int | None = None) -> None:
        """Open a run that `Run.create` made.

        Args:
            path: its directory.
            keep: captures that are `tensorview.thinning.superfluous` are removed; None keeps all.

        Raises:
            RunError: there is no run, its manifest is lost, or it cannot be written.
        """
        run = Run.open(path)
        left = orphans(run)
        refuse_lost_manifest(run, left)
        self.path: Path = run.path
        # Of a long run the files of its last step alone, unless earlier steps are written again.
        self.last_step = max(run.files, default=-1)
        self._files: dict[int, set[str]] = {self.last_step: set(run.files.get(self.last_step, ()))}
        self._lists: dict[str, Collection] = {}
        self._thinner: Thinner | None = None
        if keep is not None:
            there = [_committed(step, files.values()) for step, files in run.files.items()]
            self._thinner = Thinner(there, keep=keep)
        self._leaving: deque[tuple[float, Path]] = deque()
        self._shrinks_at = SHRINK_BYTES
        self._stated_before = run.next_capture
        self._settled = -math.inf
        self._is_settled = False
        with contextlib.ExitStack() as opened:
            try:
                self._manifest = opened.enter_context(
                    (self.path / MANIFEST).open("ab+", buffering=0)
                )
                _cut_tail(self._manifest.fileno())
                for orphan in left:
                    remove_inside(self.path, orphan)
                for files in run.files.values():
                    for view in by_view(files.values()):
                        self._list_of(view)
                self._is_settled = self._has_room_for_lists()
            except OSError as error:
                raise RunError(f"Cannot write run '{path}': {error.strerror}.") from None
            opened.pop_all()

    def commit(self, files: Sequence[NewFile], *, step: int, capture: int) -> None:
        """Write all files of one capture, then state them in the manifest.

        A step that was written before is replaced as a whole. A capture that a former writer
        stated, and ended before it could say so, is there.

        Raises:
            OSError: nothing of this capture was kept, and everything earlier is as it was.
            RunError: likewise, since the manifest is not what it was, or the run was moved.
        """
        self.refuse_lost_run()
        entries = [
            Entry(
                step,
                capture,
                file.view,
                file.layer,
                file_name(file.view, step=step, layer=file.layer, suffix=file.suffix),
                file.size,
                file.crc32,
            )
            for file in files
        ]
        if capture < self._stated_before and all(map(self._holds, entries)):
            return
        known = self._known_files(step)
        paths = {entry.file: self.path / entry.file for entry in entries}
        gone = known - paths.keys()
        settles = bool(gone) or time.monotonic() - self._settled >= SETTLE_SECONDS
        with contextlib.ExitStack() as temporaries, contextlib.ExitStack() as placed:
            for file, path in zip(files, paths.values(), strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                refuse_links(path.parent, below=self.path)
                temporaries.callback(temporary_path(path).unlink, missing_ok=True)
                with open_temporary(path) as stream:
                    stream.writelines(file.parts)
            for name in paths.keys() - known:
                placed.callback(paths[name].unlink, missing_ok=True)
                temporary_path(paths[name]).replace(paths[name])
            self._state(entries, sync=settles)
            placed.pop_all()
            # Stated before they are replaced: so old and new content are both known as whole.
            for name in paths.keys() & known:
                temporary_path(paths[name]).replace(paths[name])
        if step > self.last_step:
            self.last_step = step
            self._files.clear()
        else:  # what was to leave has come back
            written = set(paths.values())
            self._leaving = deque(item for item in self._leaving if item[1] not in written)
        self._files[step] = set(paths)
        self._list(step, entries)
        if self._thinner is not None and entries:
            self._thinner.add(_committed(step, entries))
        # The capture is safe; what is due is tried again.
        with contextlib.suppress(OSError, RunError):
            for name in gone:
                remove_inside(self.path, name)
            self._thin(at_end=False)
            if settles:
                self._write_lists()

    def _holds(self, entry: Entry) -> bool:
        """Whether a file is there with just this content."""
        try:
            with open_inside(self.path, entry.file, limit=entry.size) as stream:
                return zlib.crc32(stream.read()) == entry.crc32
        except OSError:
            return False

    def idle(self) -> None:
        """Bring lists and disk up to date, as far as that is due; what fails is tried again."""
        if not self._is_settled:
            with contextlib.suppress(OSError, RunError):
                self._sync()
                self._write_lists()

    def remove_after(self, step: int) -> int:
        """Remove the captures of later steps, which will be done again; return how many.

        Raises:
            OSError: some files are still there; they are orphans.
            RunError: the manifest is not what it was.
        """
        found = Run.open(self.path).files
        going = [_committed(at, files.values()) for at, files in found.items() if at > step]
        self._remove(going)
        self._unlink_leaving(before=math.inf)
        self.last_step = max((earlier for earlier in found if earlier <= step), default=-1)
        return len(going)

    def close(self) -> None:
        """Thin for the last time, and bring every ``.pvd`` up to date.

        Raises:
            OSError: that was not possible; the captures themselves are safe.
            RunError: likewise, since the manifest is not what it was, or the run was moved.
        """
        lists = list(self._lists.values())
        try:
            if not self._manifest.closed:
                self.refuse_lost_run()
                self._thin(at_end=True)
                self._sync()
        except RunError:
            lists = []  # they may be another run's
            raise
        finally:
            self._manifest.close()
            flush_all(lists)

    def refuse_lost_run(self) -> None:
        """Return if the manifest that we hold open is still the one of the run.

        Else a directory that somebody moved, removed, or made another run in would be written to.

        Raises:
            RunError: it is not.
        """
        if self._manifest.closed:
            return
        with contextlib.suppress(OSError):
            if os.path.samestat((self.path / MANIFEST).lstat(), os.fstat(self._manifest.fileno())):
                return
        raise RunError(
            f"Cannot write run '{self.path}': its {MANIFEST} is not there any more, or another "
            f"one. Put back what was moved."
        )

    def _known_files(self, step: int) -> set[str]:
        """Return what was committed at *step*, to be replaced."""
        if step < self.last_step and len(self._files) == 1:
            found = Run.open(self.path).files
            self._files = {step: set(files) for step, files in found.items()}
        return self._files.get(step, set())

    def _thin(self, *, at_end: bool) -> None:
        """Remove captures that are superfluous."""
        if self._thinner is not None:
            self._remove(self._thinner.going(at_end=at_end))
        self._unlink_leaving(before=math.inf if at_end else time.monotonic())

    def _remove(self, going: Sequence[CommittedCapture]) -> None:
        """Remove captures from the manifest, then from lists; their files are to leave.

        Files outlive their step by `LINGER_SECONDS`, as long as a client may go by an older list.
        """
        if not going:
            return
        self._state([Removal(capture.step, capture.number) for capture in going], sync=True)
        after = time.monotonic() + LINGER_SECONDS
        for capture in going:
            if self._thinner is not None:
                self._thinner.forget(capture)
            self._files.pop(capture.step, None)
            self._list(capture.step, [])
            self._leaving.extend((after, self.path / name) for name in capture.files)
        # On a full disk there is room once files have left; lists are tried again until then.
        with contextlib.suppress(OSError):
            flush_all(self._lists.values())
        if os.fstat(self._manifest.fileno()).st_size >= self._shrinks_at:
            self._shrink_manifest()

    def _shrink_manifest(self) -> None:
        """Write the manifest anew without what was removed."""
        path = self.path / MANIFEST
        with contextlib.ExitStack() as undo:
            undo.callback(temporary_path(path).unlink, missing_ok=True)
            with path.open("rb") as stream, open_temporary(path) as shrunk:
                shrunk.writelines(map(to_line, needed(read_entries(stream)[0])))
                size = shrunk.tell()
                shrunk.flush()
                os.fsync(shrunk.fileno())
            manifest = undo.enter_context(temporary_path(path).open("ab+", buffering=0))
            temporary_path(path).replace(path)
            undo.pop_all()
        self._manifest.close()
        self._manifest = manifest
        self._shrinks_at = min(max(2 * size, SHRINK_BYTES), MAX_MANIFEST_BYTES // 2)

    def _unlink_leaving(self, *, before: float) -> None:
        while self._leaving and self._leaving[0][0] <= before:
            path = self._leaving.popleft()[1]
            remove_inside(self.path, path.relative_to(self.path).as_posix())

    def _state(self, entries: Sequence[Entry | Removal], *, sync: bool) -> None:
        """Append *entries* to the manifest, and if asked wait for the disk; or leave it as is."""
        descriptor = self._manifest.fileno()
        end = os.fstat(descriptor).st_size
        data = b"".join(map(to_line, entries))
        if end + len(data) > MAX_MANIFEST_BYTES:
            raise OSError(errno.EFBIG, f"{MANIFEST} is full: watch with keep=, or in a new run_dir")
        try:
            while data:
                data = data[self._manifest.write(data) or 0 :]
            if sync:
                self._sync()
        except BaseException:
            os.ftruncate(descriptor, end)
            raise
        self._is_settled = False

    def _sync(self) -> None:
        """Wait until the manifest is on disk."""
        os.fsync(self._manifest.fileno())

    def _has_room_for_lists(self) -> bool:
        """Write them, unless the disk is full; there may be room again before the next capture."""
        try:
            for listed in self._lists.values():
                listed.flush()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            return False
        return True

    def _write_lists(self) -> None:
        self.refuse_lost_run()
        flush_all(self._lists.values(), due_alone=True)
        self._settled, self._is_settled = time.monotonic(), True

    def _list(self, step: int, entries: list[Entry]) -> None:
        """Tell each view's collection which of its files show *step*."""
        shown = by_view(entries)
        for view in shown:
            self._list_of(view)
        for view, listed in self._lists.items():
            listed.set(step, shown.get(view, []))

    def _list_of(self, view: str) -> Collection:
        if view not in self._lists:
            find = partial(self._find, view)
            self._lists[view] = Collection(self.path / f"{view}.pvd", find=find)
        return self._lists[view]

    def _find(self, view: str) -> dict[int, list[Entry]]:
        """Return what the manifest says of *view*, by step."""
        found = {
            step: by_view(files.values()).get(view, [])
            for step, files in Run.open(self.path).files.items()
        }
        return {step: entries for step, entries in found.items() if entries}


def by_view(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Return by view those of *entries* that ParaView can show."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if not entry.file.endswith(".csv"):
            found.setdefault(entry.view, []).append(entry)
    return found


def _committed(step: int, entries: Iterable[Entry]) -> CommittedCapture:
    files = list(entries)
    return CommittedCapture(files[0].capture, step, tuple(entry.file for entry in files))


def _cut_tail(descriptor: int) -> None:
    """Cut what follows the last intact line of a manifest, so that the next starts a line."""
    with open(descriptor, "rb", closefd=False) as stream:
        stream.seek(0)
        _, intact, _ = read_entries(stream)
    if intact < os.fstat(descriptor).st_size:
        os.ftruncate(descriptor, intact)
