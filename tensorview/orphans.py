"""What a killed writer leaves in a run, and how to tell it from a run that lost its manifest."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from tensorview.errors import RunError
from tensorview.manifest import MANIFEST
from tensorview.run import RUN_FILE, SCALARS_FILE, Run
from tensorview.tabs import TABS
from tensorview.whole_files import temporary_path

if TYPE_CHECKING:
    from collections.abc import Sequence

CAPTURES_A_SECOND = 32
"""At most, more or less. So many may be in files, and in a manifest that is not on disk yet."""

_IS_OURS = re.compile(r"[0-9]{8,}\.(vtp|vti|csv)|\.[0-9]{8,}\.(vtp|vti|csv)\.tmp")


def orphans(run: Run) -> list[str]:
    """Return what a killed writer left in *run*: files that are half written, or not stated.

    Only such as a writer may have made, by folder and name; everything else is the user's.
    """
    stated = {file for files in run.files.values() for file in files}
    views = {view for views in TABS.values() for view in views}
    folders = [run.path / folder for view in views for folder in (view, f"{view}_atlas")]
    replaced = [path.with_name(f"{path.name}.pvd") for path in folders]
    replaced += [run.path / name for name in (RUN_FILE, MANIFEST, SCALARS_FILE)]
    temporaries = [temporary_path(path) for path in replaced]
    found = [path.name for path in temporaries if os.path.lexists(path) and not path.is_dir()]
    for folder in folders:
        # What is behind a link lies elsewhere, and belongs to somebody else.
        for path in folder.rglob("*") if not folder.is_symlink() else ():
            name = path.relative_to(run.path).as_posix()
            if _IS_OURS.fullmatch(path.name) and name not in stated and not path.is_dir():
                found.append(name)
    return sorted(found)


def refuse_lost_manifest(run: Run, orphans: Sequence[str]) -> None:
    """Return if *orphans* are what a killed writer leaves.

    It makes the manifest before any file, and states a capture before it writes the next one. What
    was stated in the last second, a power failure may take back.

    Raises:
        RunError: files of more steps follow what the manifest states, so it has lost lines.
    """
    whole = (path for path in map(PurePosixPath, orphans) if path.suffix != ".tmp")
    last = max(run.files, default=-1)
    later = {step for step in (int(path.stem) for path in whole) if step > last} - run.removed
    begun = 1 if os.path.lexists(run.path / MANIFEST) else 0
    if len(later) > max(begun, min(len(run.files), CAPTURES_A_SECOND)):
        states = f"nothing after step {last}" if run.files else "nothing"
        raise RunError(
            f"Cannot write run '{run.path}': {MANIFEST} states {states}, and there are files of "
            f"{len(later)} steps{' after it' if run.files else ''}. Put it back, or remove "
            f"{'these files' if run.files else 'the folders of the views'}."
        )
