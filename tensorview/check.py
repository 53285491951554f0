"""Proving a run directory against its manifest, and dropping what is damaged."""

from __future__ import annotations

import contextlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tensorview.errors import RunError, UnreadableFileError
from tensorview.manifest import MANIFEST, to_line
from tensorview.orphans import orphans, refuse_lost_manifest
from tensorview.pvd import MAX_BYTES, listed_files
from tensorview.run import Run
from tensorview.run_lock import RunLock
from tensorview.run_writer import RunWriter, by_view
from tensorview.whole_files import open_inside, remove_inside, replace_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from tensorview.manifest import Entry


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was found in a run directory.

    Attributes:
        run: as it was opened.
        whole_files: of the manifest, each with size and CRC of what is there: a writer that ended
            before it replaced a file has left what an earlier line states.
        damaged: by file of the manifest, a sentence that says what is wrong with it.
        lists: by ``.pvd`` file, likewise.
        orphans: files that no line of the manifest states.
        unreadable: those of `damaged` of which that is not known, since they cannot be read.
    """

    run: Run
    whole_files: list[Entry]
    damaged: dict[str, str]
    lists: dict[str, str]
    orphans: list[str]
    unreadable: list[str]

    @property
    def whole(self) -> bool:
        """Whether there is nothing to repair."""
        return not (self.damaged or self.lists or self.orphans or self.run.damaged_lines)

    @property
    def hindrance(self) -> str:
        """Why `repair` refuses this run, which might lose what is whole; "" where it does not."""
        try:
            refuse_lost_manifest(self.run, self.orphans)
        except RunError as error:
            return str(error)
        if not self.unreadable:
            return ""
        return (
            f"Cannot repair run '{self.run.path}': {len(self.unreadable)} of its files, such as "
            f"'{self.unreadable[0]}', cannot be read, so they may be whole. Make them readable."
        )

    def __str__(self) -> str:
        """One line a finding, and a summary."""
        lines = [*self.damaged.values(), *self.lists.values()]
        lines += [f"'{file}' is in no line of {MANIFEST}." for file in self.orphans]
        if self.run.damaged_lines:
            lines.append(f"{self.run.damaged_lines} lines of {MANIFEST} cannot be read.")
        files = sum(map(len, self.run.files.values()))
        lines.append(
            f"{self.run.path}: {len(self.run.files)} captures, {files} files, "
            f"{len(self.damaged)} of them damaged or missing."
        )
        return "\n".join(lines)


def prove(path: str | os.PathLike[str]) -> Proof:
    """Read every file of a run, and compare it with what the manifest states.

    Raises:
        RunError: there is no run, or its ``run.json`` cannot be read or trusted.
    """
    run = Run.open(path)
    whole_files, damaged, unreadable = [], {}, []
    for files in run.files.values():
        for file, entry in files.items():
            try:
                data = run.read(entry)
            except RunError as error:
                damaged[file] = str(error)
                if isinstance(error, UnreadableFileError):
                    unreadable.append(file)
            else:
                whole_files.append(entry._replace(size=len(data), crc32=zlib.crc32(data)))
    return Proof(
        run=run,
        whole_files=whole_files,
        damaged=damaged,
        lists=dict(_wrong_lists(run)),
        orphans=orphans(run),
        unreadable=unreadable,
    )


def repair(path: str | os.PathLike[str]) -> Proof:
    """Drop what is damaged from a run, sweep orphans, and bring its ``.pvd`` files up to date.

    Returns:
        What was found before.

    Raises:
        RunError: it or a file of it cannot be read, its manifest has lost lines, or another
            process writes in it; nothing was changed.
        UnwritableRunError: it cannot be written.
    """
    Run.open(path)  # no lock is made where there is no run
    with contextlib.closing(RunLock(Path(path))):
        proof = prove(path)
        if proof.whole:
            return proof
        run = proof.run
        if proof.hindrance:
            raise RunError(proof.hindrance)
        try:
            replace_file(run.path / MANIFEST, b"".join(map(to_line, proof.whole_files)))
            for file in (*proof.damaged, *proof.lists, *proof.orphans):
                with contextlib.suppress(OSError):  # a folder, or behind a link: not ours to remove
                    remove_inside(run.path, file)
            RunWriter(path).close()
        except OSError as error:
            raise RunError(f"Cannot repair run '{run.path}': {error.strerror}.") from None
    return proof


def _wrong_lists(run: Run) -> Iterator[tuple[str, str]]:
    """Yield each ``.pvd`` that does not list what the manifest states, with what is wrong."""
    stated: dict[str, set[tuple[int, str]]] = {}
    for step, files in run.files.items():
        for view, entries in by_view(files.values()).items():
            stated.setdefault(view, set()).update((step, entry.file) for entry in entries)
    for view, wanted in stated.items():
        name = f"{view}.pvd"
        try:
            with open_inside(run.path, name, limit=MAX_BYTES) as stream:
                listed = listed_files(stream.read())
        except OSError as error:
            yield name, f"Cannot read '{name}': {error.strerror}."
            continue
        if listed is None:
            yield name, f"'{name}' is not as tensorview writes it."
            continue
        found = set(listed)
        missing, extra = len(wanted - found), len(found - wanted)
        if missing or extra:
            yield (
                name,
                f"'{name}' lacks {missing} files of the run, and lists {extra} that are not.",
            )
