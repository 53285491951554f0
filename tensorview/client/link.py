"""The client's end of Catalyst Live: listens, takes what comes, listens again.

Runs under ParaView's own Python, in the window and without one.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any

from paraview import servermanager
from paraview.modules.vtkRemotingCore import vtkProcessModule
from paraview.vtk.vtkCommonCore import vtkObject

from tensorview.errors import ParaViewError
from tensorview.worker.frame import CHANNELS, POLYDATA_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vtkmodules.vtkCommonDataModel import vtkDataObject


class Link:
    """One training after another, as they come to one port.

    Made by `listen` or `adopt`.

    Args:
        proxy: ParaView's own link, which waits for a training or has one.
        display: the connection that was active before.
        port: that we listen on again after each training; None where ParaView's menu listens.

    Attributes:
        trouble: why no training can come, in a sentence; empty while one can.
    """

    def __init__(self, proxy: Any, *, display: Any, port: int | None) -> None:
        self._display = display
        self._port = port
        self.trouble = ""
        self._take(proxy)

    @classmethod
    def listen(cls, *, port: int) -> Link:
        """Wait for trainings on a port.

        Raises:
            ParaViewError: *port* is taken.
        """
        refuse_taken(port)
        display = servermanager.ActiveConnection or servermanager.Connect()
        return cls(_open(port, display=display), display=display, port=port)

    @classmethod
    def adopt(cls) -> Link | None:
        """Take over the connection that ParaView's own menu has made, None if there is none."""
        for connection in servermanager.Connections:
            manager = connection.Session.GetSessionProxyManager()
            if manager.GetNumberOfProxies("coprocessing"):
                servermanager.SetActiveConnection(connection)  # not the training's
                name = manager.GetProxyName("coprocessing", 0)
                proxy = manager.GetProxy("coprocessing", name)
                return cls(proxy, display=connection, port=None)
        return None

    def _take(self, proxy: Any) -> None:
        self._link = proxy
        proxy.AddObserver("ConnectionClosedEvent", self._on_closed)
        proxy.AddObserver("UpdateEvent", self._on_update)
        self._extracts: dict[str, Any] = {}
        self._newest = -1
        self._closed = False
        self._updated = False

    def _on_closed(self, *_: Any) -> None:
        self._closed = True

    def _on_update(self, *_: Any) -> None:
        self._updated = True

    @property
    def connected(self) -> bool:
        """Whether a training is there."""
        return bool(self._extracts) and not self._closed

    @property
    def ended(self) -> bool:
        """Whether this link is of no more use: it was adopted, and its training is over."""
        return self._closed and self._port is None

    def receive(self) -> dict[str, vtkDataObject] | None:
        """Return the datasets of a new capture by channel, None if no new one has come.

        They are ParaView's own until the next call: copy what is to stay.
        """
        self._process_events()
        # One may have come since the last call: a window of ParaView's serves connections, too.
        updated, self._updated = self._updated, False
        if updated and self._extracts:
            return self._new_frame()  # also the last one before the end of a run
        if not self._closed:
            if not self._extracts:
                self._ask_for_channels()
        elif self._port is not None:
            self._disconnect()
            self._listen_again(self._port)
        return None

    def _process_events(self) -> None:
        """Let ParaView take what has come, one capture at most.

        A training that sends one after another would hold us here for as long as it is faster, and
        none of them would be seen.
        """
        manager = vtkProcessModule.GetProcessModule().GetNetworkAccessManager()
        # The end of every connection is reported as an error, though nothing is wrong.
        vtkObject.GlobalWarningDisplayOff()
        try:
            while not self._updated and manager.ProcessEvents(1) == 1:
                pass
        finally:
            vtkObject.GlobalWarningDisplayOn()

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

    def _new_frame(self) -> dict[str, vtkDataObject] | None:
        datasets = {
            name: extract.GetClientSideObject().GetOutputDataObject(0)
            for name, extract in self._extracts.items()
        }
        # The first update may come before any data.
        captures = numbers(datasets, "capture")
        if len(captures) != 1 or captures == {self._newest}:
            return None
        (self._newest,) = captures
        return datasets

    def _disconnect(self) -> None:
        """Let go of all that belongs to the training that has ended. Once is enough."""
        if self._link is None:
            return
        manager = self._link.GetInsituProxyManager()
        self._link = None
        self._extracts = {}
        self._updated = False
        if manager is not None:
            session = vtkProcessModule.GetProcessModule().GetSessionID(manager.GetSession())
            servermanager.vtkSMSession.Disconnect(session)
            servermanager.SetActiveConnection(self._display)

    def _listen_again(self, port: int) -> None:
        """Wait for the next training; where somebody else has the port, say so and try later."""
        try:
            refuse_taken(port)
        except ParaViewError as error:
            self.trouble = str(error)
        else:
            self.trouble = ""
            self._take(_open(port, display=self._display))


def _open(port: int, *, display: Any) -> Any:
    """Open ParaView's own link on a port; leave *display* the active connection.

    As `paraview.live` does, but for loading `paraview.simple`, which is half of a client's start.
    """
    proxy = servermanager.ConnectToCatalyst("localhost", port)
    manager = vtkProcessModule.GetProcessModule().GetNetworkAccessManager()
    while manager.ProcessEvents(1) == 1:
        pass
    proxy.InvokeCommand("Initialize")
    # The functions of paraview.simple, where that is loaded, belong to the active connection.
    sys.modules.get("paraview.simple", servermanager).SetActiveConnection(display)
    return proxy


def refuse_taken(port: int) -> None:
    """Return if *port* can be listened on: ParaView would say nothing, and wait for ever.

    Raises:
        ParaViewError: it cannot.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ParaViewError(f"Cannot listen on port {port}: {error.strerror}.") from None


def numbers(datasets: Mapping[str, vtkDataObject], name: str) -> set[int]:
    """Return what the datasets say of one number; an empty one arrives without it."""
    found = (datasets[channel].GetFieldData().GetArray(name) for channel in POLYDATA_CHANNELS)
    return {int(array.GetValue(0)) for array in found if array is not None}
