"""`tensorview doctor`: what is on this machine, and what to do next."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass

from tensorview.client.paraview import PVPYTHON_VARIABLE, find_paraview
from tensorview.client.view import refuse_without_display
from tensorview.errors import ParaViewError, TransportError
from tensorview.settings import DEFAULT_PORT
from tensorview.slots import SlotFile
from tensorview.sockets import listener, viewer_listens


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at: its name, what was found, and what to do if that is not enough."""

    name: str
    found: str
    advice: str = ""


def examine(*, port: int = DEFAULT_PORT) -> list[Finding]:
    """Look at everything a live picture needs; needs ParaView to start once (a few seconds)."""
    return [
        Finding(name="Python", found=f"{platform.python_version()} ({sys.executable})"),
        _package("torch", "pip install torch"),
        _package("numpy", "pip install numpy"),
        _package("vtk", "pip install vtk"),
        *_paraview(),
        _shared_memory(),
        _port(port),
        _display(),
    ]


def report(findings: list[Finding], *, port: int = DEFAULT_PORT) -> str:
    """Lay the findings out, a line each, with a verdict and the next step."""
    width = max(len(finding.name) for finding in findings)
    lines = [
        f"{'FAIL' if finding.advice else 'ok':4}  {finding.name:{width}}  {finding.found}"
        for finding in findings
    ]
    advice = [f"      {finding.name}: {finding.advice}" for finding in findings if finding.advice]
    verdict = ["Not everything is in place:", *advice] if advice else _next_step(port)
    return "\n".join([*lines, "", *verdict])


def _next_step(port: int) -> list[str]:
    live = f", live='localhost:{port}'" if port != DEFAULT_PORT else ""
    option = f" --port {port}" if port != DEFAULT_PORT else ""
    return [
        f"Everything is in place. Next: add tensorview.watch(model, optimizer{live})",
        f"to a training, type tensorview view{option}, and start the training.",
    ]


def _package(name: str, advice: str) -> Finding:
    # The version is read without importing: torch and vtk take seconds.
    try:
        return Finding(name=name, found=importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name=name, found="not installed", advice=advice)


def _paraview() -> list[Finding]:
    try:
        paraview = find_paraview()
    except ParaViewError as error:
        what, _, advice = str(error).partition(". ")
        return [Finding(name="ParaView", found=what, advice=advice or what)]
    origin = f", from {PVPYTHON_VARIABLE}" if os.environ.get(PVPYTHON_VARIABLE) else ""
    version = ".".join(map(str, paraview.version))
    return [
        Finding(name="ParaView", found=f"{version} ({paraview.pvpython}{origin})"),
        Finding(
            name="its Python",
            found=f"{paraview.python}, numpy {paraview.numpy}, VTK {paraview.vtk}",
        ),
        Finding(name="Catalyst", found="yes, with Live"),
    ]


def _shared_memory() -> Finding:
    try:
        slots = SlotFile()
    except TransportError as error:
        return Finding(name="shared memory", found="no", advice=str(error))
    usage = os.fstatvfs(slots.fd)
    slots.close()
    free = usage.f_bavail * usage.f_frsize / 2**20
    return Finding(name="shared memory", found=f"{free:.0f} MiB free")


def _port(port: int) -> Finding:
    if not viewer_listens(port):
        return Finding(name=f"port {port}", found="free: no viewer listens yet")
    who = listener(port)
    note = ", so live starts by itself" if port == DEFAULT_PORT else ""
    if not who.startswith(("paraview", "pv")):
        note = " (if that is neither a viewer nor an SSH tunnel to one, give another --port)"
    return Finding(name=f"port {port}", found=f"{who} listens{note}")


def _display() -> Finding:
    # Only a window needs one; training, files and export do not.
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not display and sys.platform != "darwin":
        return Finding(name="display", found="none: ParaView's window opens on another machine")
    try:
        refuse_without_display(os.environ)
    except ParaViewError as error:
        what, _, advice = str(error).partition(". ")
        return Finding(name="display", found=what, advice=advice)
    return Finding(name="display", found=display or "yes")
