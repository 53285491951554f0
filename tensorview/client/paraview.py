"""Finding the user's ParaView: its Python, its version, and whether Catalyst Live is in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tensorview.errors import ParaViewError

PVPYTHON_VARIABLE = "TENSORVIEW_PVPYTHON"
OLDEST_VERSION = (5, 9)
USUAL_PLACES = ("/opt", "/usr/local", "~", "~/Applications", "~/software", "/Applications")
PROBE_SECONDS = 60.0
INSTALL_HINT = (
    "Install ParaView 5.9 or newer (Debian and Ubuntu: apt install paraview python3-paraview; else "
    f"paraview.org), or set {PVPYTHON_VARIABLE} to its pvpython."
)

NO_MPI = "--no-mpi"
"""For ParaView's Python and window. Open MPI would listen on a port of its own on all addresses,
take half a second to start, and in a training under ``mpirun`` pass for a rank of it."""

# What the probe prints may stand among ParaView's own messages, hence the mark.
MARK = "tensorview-probe:"
PROBE_SCRIPT = f"""
import json, sys
found = {{"python": sys.version.split()[0]}}
try:
    from vtkmodules.vtkCommonCore import vtkVersion
    found["vtk"] = vtkVersion.GetVTKVersion()
    import numpy
    found["numpy"] = numpy.__version__
    from paraview.modules.vtkRemotingServerManager import vtkSMProxyManager as m
    found["paraview"] = m.GetVersionMajor(), m.GetVersionMinor(), m.GetVersionPatch()
    from paraview.catalyst import bridge
    found["catalyst"] = True
    import paraview.modules.vtkRemotingLive
    found["live"] = True
except Exception as error:
    found["error"] = f"{{type(error).__name__}}: {{error}}"
print("{MARK}" + json.dumps(found))
"""


@dataclass(frozen=True, kw_only=True)
class ParaView:
    """A ParaView that can run our live worker.

    Attributes:
        pvpython: its Python interpreter.
        version: for example ``(5, 11, 0)``.
        python: version of that Python.
        numpy: version of its numpy.
        vtk: version of its VTK.
    """

    pvpython: Path
    version: tuple[int, int, int]
    python: str
    numpy: str
    vtk: str


def find_pvpython() -> Path | None:
    """Look in ``TENSORVIEW_PVPYTHON``, then on PATH, then in the usual places."""
    if named := os.environ.get(PVPYTHON_VARIABLE):
        return Path(named)
    if on_path := shutil.which("pvpython"):
        return Path(on_path)
    for place in USUAL_PLACES:
        # Kitware's archives unpack to ParaView-<version>-.../bin/pvpython.
        found = sorted(Path(place).expanduser().glob("ParaView*/bin/pvpython"))
        if found:
            return found[-1]
    return None


@cache
def find_paraview() -> ParaView:
    """Find ParaView and make sure that it can do Catalyst Live.

    Raises:
        ParaViewError: none found, it does not start, it is too old, or Catalyst is missing.
    """
    pvpython = find_pvpython()
    if pvpython is None:
        raise ParaViewError(f"No ParaView found. {INSTALL_HINT}")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    try:
        result = subprocess.run(
            [pvpython, NO_MPI, "-c", PROBE_SCRIPT],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ParaViewError(f"Cannot start {pvpython}: {error}. {INSTALL_HINT}") from None
    lines = [line for line in result.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ParaViewError(f"{pvpython} does not run Python scripts ({last}). {INSTALL_HINT}")
    found = json.loads(lines[-1].removeprefix(MARK))
    return _checked(pvpython, found)


def _checked(pvpython: Path, found: dict[str, Any]) -> ParaView:
    version = tuple(found.get("paraview", ()))
    if version and version < OLDEST_VERSION:
        raise ParaViewError(
            f"{pvpython} is ParaView {'.'.join(map(str, version))}: too old. {INSTALL_HINT}"
        )
    for part, name in (("catalyst", "Catalyst"), ("live", "Catalyst Live")):
        if not found.get(part):
            raise ParaViewError(
                f"{pvpython} cannot be used for {name} ({found.get('error', 'not found')}). "
                f"{INSTALL_HINT}"
            )
    return ParaView(
        pvpython=pvpython,
        version=version,
        python=str(found["python"]),
        numpy=str(found["numpy"]),
        vtk=str(found["vtk"]),
    )
