"""Frames over ParaView Catalyst to a live client. Runs only under ParaView's own Python."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraview.catalyst import bridge, v2_internals
from paraview.modules.vtkPVCatalyst import vtkCPDataDescription

from tensorview.errors import ParaViewError
from tensorview.pulse import DIALLING
from tensorview.restarts import next_call_seconds
from tensorview.sockets import HERE, connected_to, viewer_listens
from tensorview.worker.views.datasets import with_field_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensorview.pulse import Pulse
    from tensorview.worker.frame import Frame

LIVE_URL_VARIABLE = "TENSORVIEW_LIVE_URL"
WAITING_SECONDS = 1.0
"""How often the last frame is offered again while nobody takes it and no new one comes."""
FIRST_REFRESH_SECONDS, LONGEST_REFRESH_SECONDS = 0.5, 16.0
"""The same to a viewer: soon where it has just connected, and can take a first frame only now; then
ever more rarely, for one that has asked for one more channel. Each takes from a viewer as much as a
new one, which the user of a large network would feel at every turn of a view."""


class LiveSink:
    """A Catalyst co-processor with one pipeline script, dialling out to a listening viewer.

    Args:
        host: where the viewer listens.
        port: its port.
        script: path of a Catalyst script of version 2.0.
        run_dir: absolute path of the run directory that a viewer may steer through, "" for none.
        run_id: `tensorview.run.Run.id` of what is sent.
        frame_seconds: from one frame to the next at least, where the script sends live.
        pulse: where it is said when a viewer is called.

    Raises:
        ParaViewError: the script cannot be loaded.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        script: str,
        run_dir: str = "",
        run_id: str = "",
        frame_seconds: float = 0.0,
        pulse: Pulse | None = None,
    ) -> None:
        os.environ[LIVE_URL_VARIABLE] = f"{host}:{port}"
        self._host = host
        self._port = port
        self._unanswered = 0
        self._call_at = 0.0
        self._frame_seconds = frame_seconds
        self._pulse = pulse
        self._script = ScriptProof(script, after=self._say_dialling)
        self._address = {"run_dir": run_dir, "run_id": run_id}
        bridge.initialize()
        bridge.add_pipeline(script, 2)
        self._frame: Frame | None = None
        self._time = -math.inf
        self._count = 0
        self._sent_at = 0.0
        self._refresh_seconds = WAITING_SECONDS
        self.state = "waiting"

    def write(self, frame: Frame) -> bool:
        """Co-process *frame*: blocks for as long as a connected viewer takes, or is paused.

        Returns:
            Whether a viewer is connected once that is done. True for a script without Live, which
            has nobody to wait for.

        Raises:
            ParaViewError: the script failed, or did not run.
        """
        former, self._frame = self._frame, frame
        started = time.monotonic()
        if started < self._call_at:
            return False
        # Catalyst wants time to grow: a frame shown again comes just after itself.
        self._time = max(float(frame.step), math.nextafter(self._time, math.inf))
        description = vtkCPDataDescription()
        description.SetTimeData(self._time, self._count)
        for name in frame.datasets:
            description.AddInput(name)
        self._script.reset()
        if bridge.coprocessor.RequestDataDescription(description):
            for name, dataset in frame.datasets.items():
                addressed = with_field_data(dataset, self._address)
                description.GetInputDescriptionByName(name).SetGrid(addressed)
            bridge.coprocessor.CoProcess(description)
        self._count += 1
        self._sent_at = time.monotonic()
        if self._script.goes_live:
            was_connected = self.state == "connected"
            self._look_who_answered()
            self._wait_longer(was_connected=was_connected, is_old=former is frame)
        self._script.check()
        if not self._script.goes_live:
            return True
        time.sleep(max(0.0, started + self._frame_seconds - self._sent_at))
        return self.state == "connected"

    def _look_who_answered(self) -> None:
        """Say how the call went; who hangs up on us is called again, less and less often."""
        if connected_to(self._port):
            self.state = "connected"
        elif self._host in HERE and viewer_listens(self._port):
            self.state = "unreachable"
        else:
            self.state = "waiting"
        end_by_clock(on=self.state == "connected")
        self._unanswered = self._unanswered + 1 if self.state == "unreachable" else 0
        if self._unanswered:
            self._call_at = self._sent_at + next_call_seconds(self._unanswered)

    def _wait_longer(self, *, was_connected: bool, is_old: bool) -> None:
        """Set when the frame is offered again."""
        if self.state != "connected":
            self._refresh_seconds = WAITING_SECONDS
        elif not was_connected:
            self._refresh_seconds = FIRST_REFRESH_SECONDS
        elif is_old:
            self._refresh_seconds = min(2 * self._refresh_seconds, LONGEST_REFRESH_SECONDS)

    def _say_dialling(self) -> None:
        if self._pulse is not None and self._script.goes_live and self.state != "connected":
            self._pulse.begin(DIALLING)

    def idle(self) -> None:
        """Offer the last frame again now and then."""
        if self._frame and time.monotonic() - self._sent_at > self._refresh_seconds:
            self.write(self._frame)

    def close(self) -> None:
        """End the co-processor, and with it the viewer's connection."""
        bridge.finalize()


def end_by_clock(*, on: bool) -> None:
    """Let ``SIGUSR1``, by which a live worker ends, only start a clock: of 10 s, or end it again.

    A viewer's ParaView reads what follows half a message without a look at the connection, and
    aborts. So a connected worker sends what it has begun, and takes its leave, though the training
    ends. A viewer may hold us inside C++ for ever, where no Python runs: the clock is the kernel's.
    It takes the number of the signal as seconds.
    """
    libc = ctypes.CDLL(None)
    if on:
        libc.signal(signal.SIGUSR1, ctypes.cast(libc.alarm, ctypes.c_void_p))
    else:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


class ScriptProof:
    """Proof that a Catalyst script was loaded and ran.

    ParaView prints a script's exception once and turns every later call into a silent no-op. Its
    own functions that load and run a script are wrapped here so that we hear of it.

    Args:
        script: path of it.
        after: called each time it has run, before ParaView goes live.

    Attributes:
        goes_live: whether the script, once loaded, sends to a live viewer.
    """

    def __init__(self, script: str, *, after: Callable[[], None]) -> None:
        self._name = Path(script).name
        self._load_error: BaseException | None = None
        self._run_error: BaseException | None = None
        self._ran = False
        self.goes_live = True
        load, execute = v2_internals.import_and_validate, v2_internals.do_catalyst_execute

        def proven_load(module_name: str) -> Any:
            try:
                module = load(module_name)
            except BaseException as error:
                self._load_error = error
                raise
            options = getattr(module, "options", None)
            self.goes_live = bool(getattr(options, "EnableCatalystLive", False))
            return module

        def proven_execute(module: Any) -> Any:
            try:
                self._ran = execute(module)
            except BaseException as error:
                self._run_error = error
                raise
            after()
            return self._ran

        v2_internals.import_and_validate = proven_load
        v2_internals.do_catalyst_execute = proven_execute

    def reset(self) -> None:
        """Forget the last run of the script."""
        self._ran, self._run_error = False, None

    def check(self) -> None:
        """Raise what kept the script from running since `reset`."""
        error = self._load_error or self._run_error
        if error is not None:
            raise ParaViewError(
                f"The Catalyst script {self._name} failed: {type(error).__name__}: {error}"
            )
        if not self._ran:
            raise ParaViewError(
                f"The Catalyst script {self._name} did not run: it needs a function "
                f"catalyst_execute(info), and '# script-version: 2.0' as its first line."
            )
