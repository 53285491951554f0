"""The file sink: every frame becomes files in a run directory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tensorview.errors import RunError, UnwritableRunError
from tensorview.run import SCALARS_FILE
from tensorview.run_writer import NewFile, RunWriter
from tensorview.settings import FORMATS
from tensorview.worker.csv_text import csv_bytes
from tensorview.worker.datasets import blocks
from tensorview.worker.frame import ATLAS_CHANNELS, POLYDATA_CHANNELS
from tensorview.worker.sinks.scalars_csv import ScalarsCsv
from tensorview.worker.tables import tables
from tensorview.worker.vtk_xml import Memo, encode_parts

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from tensorview.worker.frame import Frame


class FileSink:
    """Write frames to a run that `Run.create` made.

    A polydata without points and an atlas without blocks get no file.
    """

    def __init__(
        self,
        run_path: str | os.PathLike[str],
        *,
        formats: tuple[str, ...],
        keep: int | None = None,
    ) -> None:
        """Open the run for writing.

        Args:
            run_path: its directory.
            formats: some of `FORMATS`: ``"vtp"`` for datasets, ``"csv"`` for tables.
            keep: thins old captures, see `tensorview.thinning`; None keeps all.

        Raises:
            RunError: there is no run, or it cannot be written.
        """
        unknown = [name for name in formats if name not in FORMATS]
        if unknown or not formats:
            raise RunError(f"Cannot write files as {unknown or formats!r}: formats are {FORMATS}.")
        self._formats = formats
        self._writer = RunWriter(run_path, keep=keep)
        self._scalars = ScalarsCsv(self._writer.path, last_step=self._writer.last_step)
        self._memo = Memo()

    @property
    def state(self) -> str:
        """``"ready"``: between frames this sink waits for nobody."""
        return "ready"

    def write(self, frame: Frame) -> bool:
        """Commit one frame; then everyone can read it, so this returns True.

        Raises:
            UnwritableRunError: a file could not be written. Nothing of the frame was kept and
                earlier files are as they were.
            RunError: likewise, since the run is not what it was.
        """
        self._memo.next_frame()
        files = list(_files(frame, formats=self._formats, memo=self._memo))
        where, advice = self._writer.path, "Captures are dropped until files can be written again."
        with _unwritable(f"Cannot write step {frame.step} of run '{where}'", advice):
            self._writer.commit(files, step=frame.step, capture=frame.capture)
        for table in tables("scalars", frame.datasets["scalars"]):
            self._scalars.add(frame.step, {name: float(table[name][-1]) for name in table})
        return True

    def idle(self) -> None:
        """Bring ``.pvd`` files up to date."""
        self._writer.idle()

    def close(self) -> None:
        """Bring ``.pvd`` files and ``scalars.csv`` up to date.

        Raises:
            UnwritableRunError: that was not possible; the captures themselves are safe.
            RunError: likewise, since the run is not what it was.
        """
        problem = f"of run '{self._writer.path}' up to date"
        advice = "Its captures are safe; `tensorview check --repair` writes these anew."
        try:
            self._writer.refuse_lost_run()
            with _unwritable(f"Cannot bring {SCALARS_FILE} {problem}", "Its captures are safe."):
                self._scalars.close()
        finally:
            with _unwritable(f"Cannot bring .pvd files {problem}", advice):
                self._writer.close()


@contextlib.contextmanager
def _unwritable(problem: str, advice: str) -> Iterator[None]:
    """Say what cannot be written, why, and what that means.

    Raises:
        UnwritableRunError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        reason = f"{error.filename}: {reason}" if error.filename else reason
        raise UnwritableRunError(f"{problem}: {reason}. {advice}") from error


def _files(frame: Frame, *, formats: tuple[str, ...], memo: Memo) -> Iterator[NewFile]:
    """Encode a frame."""
    for channel in POLYDATA_CHANNELS:
        dataset = frame.datasets[channel]
        if "vtp" in formats and dataset.GetNumberOfPoints():
            parts = encode_parts(dataset, memo=memo)
            yield NewFile(view=channel, layer=None, suffix=".vtp", data=parts)
        if "csv" in formats and channel != "scalars":
            atlas = f"{channel}_atlas"
            found = tables(channel, dataset)
            if atlas in ATLAS_CHANNELS:
                found += tables(atlas, frame.datasets[atlas])
            if found:
                yield NewFile(view=channel, layer=None, suffix=".csv", data=csv_bytes(found))
    if "vtp" in formats:
        for channel in ATLAS_CHANNELS:
            for layer, image in blocks(frame.datasets[channel]):
                yield NewFile(view=channel, layer=layer, suffix=".vti", data=encode_parts(image))
