"""A saved run, or one that is still being written: its ``.pvd`` files under ParaView's own time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from paraview import servermanager
from paraview.simple import GetAnimationScene, GetTimeKeeper, ReloadFiles

from tensorview.client.window.plugin import register
from tensorview.client.window.upkeep import keep_quiet
from tensorview.pvd import MAX_BYTES, listed_files
from tensorview.whole_files import open_inside
from tensorview.worker.frame import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensorview.run import Run

LOOK_SECONDS = 1.0
"""How often a run is asked for new captures."""


class ReplayFeed:
    """Reads a run through one ParaView reader a channel; ParaView's time controls choose the step.

    Args:
        run: as `Run.open` returned it; later captures are found by looking again.

    Attributes:
        sources: by channel, as far as files are there yet.
    """

    def __init__(self, run: Run) -> None:
        self.run_path = run.path
        self._id = run.id
        self.sources: dict[str, Any] = {}
        self._refused: set[str] = set()
        self._written: dict[str, tuple[int, int]] = {}
        self._look_at = 0.0
        self._scene = GetAnimationScene()
        self._scene.PlayMode = "Snap To TimeSteps"
        self._clock = GetTimeKeeper()
        self._shown: float | None = None

    @property
    def status(self) -> str:
        """What to say of the run, empty while all is as it should be."""
        if self._refused:
            return f"not opened, since tensorview has not written it: {min(self._refused)}"
        return "" if self.sources else f"waiting for the first capture in {self.run_path}"

    def run(self) -> tuple[str, str]:
        """Return directory and id of the run."""
        return str(self.run_path), self._id

    @property
    def time(self) -> float:
        """The step that ParaView's time controls stand at."""
        return float(self._clock.Time)

    def before_drawing(self, prepare: Callable[[], None]) -> None:
        """Have *prepare* called when the time has changed, before ParaView draws it."""
        self._clock.SMProxy.GetProperty("Time").AddObserver("ModifiedEvent", lambda *_: prepare())

    def moved(self) -> bool:
        """Say whether the time is another one than at the last call."""
        former, self._shown = self._shown, self.time
        return bool(self.sources) and former != self._shown

    def poll(self) -> bool:
        """Follow files and time; say whether there is anything new to show."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            self._follow()
        return self.moved()

    def _follow(self) -> None:
        changed = [
            channel
            for channel in CHANNELS
            if self._has_changed(channel) and self._stays_inside(channel)
        ]
        if not changed:
            return
        before = self._steps()
        at_end = not before or self.time >= before[-1]
        for channel in changed:
            if channel in self.sources:
                ReloadFiles(self.sources[channel])
            else:
                path = self.run_path / f"{channel}.pvd"
                self.sources[channel] = servermanager.sources.PVDReader(FileName=str(path))
                register(self.sources[channel], name=path.name)
                keep_quiet(self.sources[channel])  # what is looked at is the filter behind it
        self._scene.UpdateAnimationUsingDataTimeSteps()
        steps = self._steps()
        if at_end and steps:
            self._scene.AnimationTime = steps[-1]
            self._shown = None

    def _has_changed(self, channel: str) -> bool:
        try:
            found = (self.run_path / f"{channel}.pvd").stat()
        except OSError:  # not written yet
            return False
        former = self._written.get(channel)
        self._written[channel] = found.st_mtime_ns, found.st_size
        return former != self._written[channel]

    def _stays_inside(self, channel: str) -> bool:
        """Whether ParaView, which opens whatever a list names, may be given that of *channel*."""
        name = f"{channel}.pvd"
        try:
            with open_inside(self.run_path, name, limit=MAX_BYTES) as stream:
                inside = listed_files(stream.read()) is not None
        except OSError:
            inside = False
        (self._refused.discard if inside else self._refused.add)(name)
        return inside

    def _steps(self) -> list[float]:
        steps: set[float] = set()
        for source in self.sources.values():
            steps.update(float(step) for step in source.TimestepValues)
        return sorted(steps)
