"""The workers of one run: which there are, and when the live one starts."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorview.client.paraview import INSTALL_HINT, NO_MPI, ParaView, find_paraview, find_pvpython
from tensorview.continuing import continue_run
from tensorview.encoding import EncodedSnapshot
from tensorview.errors import (
    BusyRunError,
    ParaViewError,
    RunError,
    TransportError,
    UnwritableRunError,
)
from tensorview.launch import WorkerCommand
from tensorview.run import RUN_FILE, Run, holds_run
from tensorview.run_lock import RunLock
from tensorview.sockets import HERE, viewer_listens
from tensorview.status import SinkStatus
from tensorview.supervisor import WorkerHandle

if TYPE_CHECKING:
    from tensorview.settings import LiveTarget, Settings
    from tensorview.snapshot import Snapshot

log = logging.getLogger("tensorview")

LOOK_SECONDS = 1.0
"""How often ``live="auto"`` looks for a listening viewer."""
POLL_SECONDS = 1.0
"""How often workers are looked after between captures."""


def catalyst_script(name: str) -> Path:
    """Path of a Catalyst script that we ship: beside the package, or inside it in a wheel."""
    package = Path(__file__).parent
    inside = package / "catalyst_scripts" / name
    return inside if inside.exists() else package.parent / "catalyst_scripts" / name


def find_live(live: LiveTarget | None, *, pipeline: Path | None) -> ParaView | None:
    """Find the ParaView of a live sink that is to start at once; None for one that may wait.

    Raises:
        ParaViewError: there is no usable one, or the pipeline would crash it.
    """
    if live is None or not live.at_once:
        return None
    paraview = find_paraview()
    if pipeline is not None:
        _refuse_to_render_without_display(pipeline, paraview)
    return paraview


def open_run(settings: Settings, description: dict[str, Any]) -> tuple[Run, RunLock] | None:
    """Make the run, or go on with one; None, with one WARNING, where none can be written.

    Raises:
        RunError: there is a run that is not to be continued, or something else in the way.
    """
    about = {"name": settings.name, "every": settings.every, "views": settings.views, **description}
    try:
        if settings.run_dir is None:
            now = datetime.now().astimezone()
            run = Run.create_default(settings.name, now=now, settings=about)
        elif settings.start_step is not None and holds_run(settings.run_dir):
            return continue_run(
                settings.run_dir, after_step=settings.start_step, layers=description["layers"]
            )
        else:
            run = Run.create(settings.run_dir, settings=about)
        lock = _lock_new(run)
    except UnwritableRunError as error:
        log.warning("%s Nothing is written, live only.", error)
        return None
    log.info("Writing to %s.", run.path)
    return run, lock


def _lock_new(run: Run) -> RunLock:
    """Take the lock of a run that was just made; where that fails there is no run, as before.

    Raises:
        RunError: as `RunLock`, such as for a file of somebody else of that name.
    """
    try:
        return RunLock(run.path)
    except BusyRunError:  # who was faster to take the lock goes on with this run
        raise
    except RunError:
        (run.path / RUN_FILE).unlink(missing_ok=True)
        raise


class Outputs:
    """Hands each snapshot to the workers that are there.

    Args:
        run_path: where files and logs go; None for neither.
        keep: thins old captures on disk, see `tensorview.thinning`; None keeps all.
        run_id: `tensorview.run.Run.id` of it.
        lock: of that run; the file worker holds it too. None where nobody else knows the run.
        formats: of the file sink; empty for none.
        live: where a viewer is expected; None for no live sink.
        pipeline: the Catalyst script; None for ours.
        paraview: what `find_live` found.

    Attributes:
        workers: by sink name, ``"files"`` and ``"live"``, those that were started.
        live: None once it is clear that there will be no live sink.

    """

    def __init__(
        self,
        *,
        run_path: Path | None,
        formats: tuple[str, ...],
        live: LiveTarget | None,
        pipeline: Path | None,
        paraview: ParaView | None,
        keep: int | None = None,
        run_id: str = "",
        lock: RunLock | None = None,
    ) -> None:
        self.workers: dict[str, WorkerHandle] = {}
        self._run_path = run_path
        self._run_id = run_id
        self.live = live
        self._script = pipeline or catalyst_script("live.py")
        self._look_at = self._poll_at = 0.0
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            if run_path is not None and formats:
                self._start("files", _files_command(run_path, formats, keep, lock))
            if live and paraview:
                self._start("live", self._live_command(live, paraview.pvpython))
            if self.live and self.live.host in HERE and not viewer_listens(self.live.port):
                log.info(
                    "No viewer listens on port %d yet: the first that does is sent to.",
                    self.live.port,
                )
            undo.pop_all()

    def publish(self, snapshot: Snapshot) -> None:
        """Hand *snapshot* to every worker; a file worker may hold it up within its bound."""
        self._look_for_viewer()
        encoded = EncodedSnapshot(snapshot)
        for worker in self.workers.values():
            worker.publish(encoded)

    def idle(self, snapshot: Snapshot | None) -> None:
        """Keep viewers served while training stands still; one that comes gets *snapshot*."""
        known = set(self.workers)
        self._look_for_viewer()
        for name in self.workers.keys() - known:
            if snapshot is not None:
                self.workers[name].publish(EncodedSnapshot(snapshot))
        self.poll()

    def status(self) -> dict[str, SinkStatus]:
        """Say how each worker does, by sink name."""
        return {
            name: SinkStatus(
                state=worker.state,
                delivered=worker.delivered,
                dropped=worker.dropped,
                fault=worker.last_fault,
            )
            for name, worker in self.workers.items()
        }

    def poll(self) -> None:
        """Take note of what the workers said."""
        for worker in self.workers.values():
            worker.poll()

    @property
    def are_due(self) -> bool:
        """Whether it is time for `look_after`; costs next to nothing."""
        return time.monotonic() >= self._poll_at

    def look_after(self) -> None:
        """Do as `poll` does, once a second: a worker may die between captures, too."""
        self._poll_at = time.monotonic() + POLL_SECONDS
        self.poll()

    def end(self) -> None:
        """Ask every worker to end once it has served its queue. Never waits."""
        for worker in self.workers.values():
            worker.end()

    def close(self) -> None:
        """End every worker; the live one first, since it holds nothing that would be lost."""
        with contextlib.ExitStack() as ends:  # one given up by Ctrl-C does not spare the other
            for name in sorted(self.workers):
                ends.callback(self.workers[name].close)
            self.end()

    def _look_for_viewer(self) -> None:
        now = time.monotonic()
        if self.live is None or "live" in self.workers or now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        if not viewer_listens(self.live.port):
            return
        # Asking ParaView what it can do takes a second, so here it must show by itself.
        pvpython = find_pvpython()
        if pvpython is None:
            log.warning("A viewer listens on port %d, but %s", self.live.port, INSTALL_HINT)
            self.live = None
            return
        log.info("A viewer listens on port %d: sending to it.", self.live.port)
        self._start("live", self._live_command(self.live, pvpython))

    def _start(self, name: str, command: WorkerCommand) -> None:
        try:
            self.workers[name] = WorkerHandle(
                name=name, command=command, latest_wins=name == "live"
            )
        except (OSError, TransportError) as error:
            log.error("The %s sink is off: %s", name, error)
            if name == "live":
                self.live = None

    def _live_command(self, live: LiveTarget, pvpython: Path) -> WorkerCommand:
        return WorkerCommand(
            python=(str(pvpython), NO_MPI),
            options={
                "sink": "live",
                "host": live.host,
                "port": live.port,
                "script": str(self._script),
                "run_dir": str(self._run_path or ""),
                "run_id": self._run_id,
            },
            environment={"TENSORVIEW_PICTURES": str((self._run_path or Path()) / "pictures")},
            log_path=self._run_path and self._run_path / "worker-live.log",
            foreign_python=True,
        )


def _files_command(
    run_path: Path, formats: tuple[str, ...], keep: int | None, lock: RunLock | None
) -> WorkerCommand:
    return WorkerCommand(
        python=(sys.executable,),
        options={"sink": "files", "run_dir": str(run_path), "formats": formats, "keep": keep},
        environment={},
        log_path=run_path / "worker-files.log",
        foreign_python=False,
        inherited=(lock.fd,) if lock else (),
    )


def _refuse_to_render_without_display(script: Path, paraview: ParaView) -> None:
    """Refuse a script that would crash ParaView 5.

    Raises:
        ParaViewError: *script* renders, there is no display, and this ParaView needs one.
    """
    renders = "CreateExtractor('PNG'" in (text := script.read_text(errors="replace"))
    renders = renders or 'CreateExtractor("PNG"' in text or "SaveScreenshot(" in text
    if renders and paraview.version < (6,) and not os.environ.get("DISPLAY"):
        version = ".".join(map(str, paraview.version))
        raise ParaViewError(
            f"The Catalyst script {script.name} renders pictures, and ParaView {version} crashes "
            f"when it renders without a display. Start the training under xvfb-run, or set DISPLAY."
        )
