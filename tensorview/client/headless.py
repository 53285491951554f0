"""A live ParaView client without a window: records what it receives as a run directory.

Runs under ParaView's own Python, as ``bootstrap.py client.headless OPTIONS``. It listens as the
ParaView window does, so it records what a person there would be shown.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from paraview import live, servermanager
from paraview.modules.vtkRemotingCore import vtkProcessModule
from paraview.vtk.vtkCommonCore import vtkObject

from tensorview.errors import ParaViewError
from tensorview.run import Run
from tensorview.worker.frame import CHANNELS, POLYDATA_CHANNELS, Frame
from tensorview.worker.sinks.files import FileSink

if TYPE_CHECKING:
    from vtkmodules.vtkCommonDataModel import vtkDataObject

POLL_SECONDS = 0.01


def main(options: dict[str, Any]) -> int:
    """Listen on ``port``, record into ``run_dir``, and print one JSON line a recorded frame.

    It ends with SIGTERM, or after ``idle_seconds`` without a frame.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    about = {"name": "received live", "port": options["port"]}
    run = Run.create(options["run_dir"], settings=about)
    with contextlib.closing(FileSink(str(run.path), formats=("vtp",))) as sink:
        client = HeadlessClient(port=options["port"])
        _say(listening=options["port"])
        last = time.monotonic()
        while time.monotonic() - last < options["idle_seconds"]:
            frame = client.receive()
            if frame is None:
                time.sleep(POLL_SECONDS)
                continue
            sink.write(frame)
            _say(step=frame.step, capture=frame.capture)
            last = time.monotonic()
    return 0


def _say(**message: Any) -> None:
    # pvpython's own standard output ignores a request to flush.
    print(json.dumps(message), file=sys.__stdout__, flush=True)


class HeadlessClient:
    """Listens for one training after another.

    Raises:
        ParaViewError: *port* is taken. (ParaView itself would say nothing and wait for ever.)
    """

    def __init__(self, *, port: int) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError as error:
                raise ParaViewError(f"Cannot listen on port {port}: {error.strerror}.") from None
        self._port = port
        self._display = servermanager.ActiveConnection
        self._listen()

    def _listen(self) -> None:
        self._link = live.ConnectToCatalyst("localhost", self._port)
        self._link.AddObserver("ConnectionClosedEvent", self._on_closed)
        self._link.AddObserver("UpdateEvent", self._on_update)
        self._extracts: dict[str, Any] = {}
        self._newest = -1
        self._closed = False
        self._updated = False

    def _on_closed(self, *_: Any) -> None:
        self._closed = True

    def _on_update(self, *_: Any) -> None:
        self._updated = True

    def receive(self) -> Frame | None:
        """Return the next frame, None if no new one has come."""
        _process_events()
        if self._updated and self._extracts:
            self._updated = False
            return self._new_frame()  # also the last one before the end of a run
        if self._closed:
            self._disconnect()
            self._listen()
        elif not self._extracts:
            self._ask_for_channels()
        return None

    def _ask_for_channels(self) -> None:
        manager = self._link.GetInsituProxyManager()
        if manager is None:
            return
        count = manager.GetNumberOfProxies("sources")
        known = {manager.GetProxyName("sources", index) for index in range(count)}
        if known.issuperset(CHANNELS):
            self._extracts = {
                name: self._link.CreateExtract("sources", name, 0) for name in CHANNELS
            }

    def _new_frame(self) -> Frame | None:
        datasets = {
            name: extract.GetClientSideObject().GetOutputDataObject(0)
            for name, extract in self._extracts.items()
        }
        # The first update may come before any data, and an empty dataset arrives without a number.
        captures = {_number(datasets[name], "capture") for name in POLYDATA_CHANNELS} - {None}
        if len(captures) != 1 or captures == {self._newest}:
            return None
        (self._newest,) = captures
        copies = {name: data.NewInstance() for name, data in datasets.items()}
        for name, copy in copies.items():
            copy.DeepCopy(datasets[name])
        (step,) = {_number(copies[name], "step") for name in POLYDATA_CHANNELS} - {None}
        return Frame(step=step, capture=self._newest, datasets=copies)

    def _disconnect(self) -> None:
        manager = self._link.GetInsituProxyManager()
        self._link = None
        if manager is not None:
            session = vtkProcessModule.GetProcessModule().GetSessionID(manager.GetSession())
            servermanager.vtkSMSession.Disconnect(session)
            servermanager.SetActiveConnection(self._display)


def _process_events() -> None:
    manager = vtkProcessModule.GetProcessModule().GetNetworkAccessManager()
    # The end of every connection is reported as an error, though nothing is wrong.
    vtkObject.GlobalWarningDisplayOff()
    try:
        while manager.ProcessEvents(1) == 1:
            pass
    finally:
        vtkObject.GlobalWarningDisplayOn()


def _number(data: vtkDataObject, name: str) -> Any:
    array = data.GetFieldData().GetArray(name)
    return None if array is None else int(array.GetValue(0))
