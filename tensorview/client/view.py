"""`tensorview view`: start the user's ParaView as our window."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tensorview.client.paraview import INSTALL_HINT, NO_MPI, find_paraview
from tensorview.client.window.macros import install_macro, write_macros
from tensorview.client.window.toolbars import first_layout
from tensorview.errors import ParaViewError
from tensorview.launch import BOOTSTRAP, worker_environment
from tensorview.run import Run
from tensorview.settings import check_port
from tensorview.sockets import listener, viewer_listens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensorview.client.paraview import ParaView

START_SCRIPT = Path(__file__).parent / "window" / "start.py"
X11_TCP_PORT = 6000
DISPLAY_SECONDS = 5.0
LAST_WORDS = 3

# Written once: what a person changes later in this ParaView is kept.
FIRST_SETTINGS = f"""[General]
GeneralSettings.ShowWelcomeDialog=0
OutputMessages.AlwaysOpenForNewMessages=false

[MainWindow]
Layout={first_layout()}
Size=@Size(1600 960)
"""
FIRST_USER_SETTINGS = """{
  "settings": {"GeneralSettings": {"AutoApply": 1}}
}
"""
"""So that a tick in the list of layers shows at once."""


def view(run_dir: str | os.PathLike[str] | None, *, port: int) -> int:
    """Open ParaView on a run, or on the trainings that come to a port, until it is closed.

    Args:
        run_dir: a run directory, finished or still growing; None waits for trainings.
        port: to listen on, where there is no *run_dir*.

    Returns:
        ParaView's exit code.

    Raises:
        RunError: there is no run in *run_dir*.
        ParaViewError: no usable ParaView, no display, or *port* is taken.
        ConfigurationError: there can be no such *port*.
    """
    run = None if run_dir is None else Run.open(run_dir)
    check_port(port)
    refuse_without_display(os.environ)
    if run is None and viewer_listens(port):
        raise ParaViewError(
            f"Port {port} is taken by {listener(port)}: use that window, close it, or give "
            f"another --port (and live='localhost:PORT' to the training)."
        )
    command = [str(find_window(find_paraview())), NO_MPI, f"--script={START_SCRIPT}"]
    with tempfile.TemporaryDirectory(prefix="tensorview-") as scratch:
        log_path = Path(scratch) / "paraview.log"
        environment = worker_environment(os.environ, foreign_python=True)
        environment |= {
            "XDG_CONFIG_HOME": str(prepare_settings(find_paraview())),
            "TENSORVIEW_WINDOW": json.dumps(
                {
                    "bootstrap": str(BOOTSTRAP),
                    "port": port,
                    "run_dir": "" if run is None else str(run.path.absolute()),
                    "log_path": str(log_path),
                }
            ),
        }
        waits = f"waits for a training on port {port}" if run is None else f"shows {run.path}"
        sys.stdout.write(f"ParaView opens and {waits}. Ctrl-C closes it.\n")
        sys.stdout.flush()
        code = _run(command, environment=environment, log_path=log_path)
        if code:
            words = log_path.read_text(errors="replace").split("\n")
            last = " / ".join([line for line in words if line.strip()][-LAST_WORDS:])
            raise ParaViewError(f"ParaView ended with exit code {code}. Its last words: {last}")
    return 0


def _run(command: list[str], *, environment: dict[str, str], log_path: Path) -> int:
    """Run ParaView to its end, which is ours as well; return its exit code."""
    with (
        log_path.open("ab") as log,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        ) as paraview,
    ):
        ends = [signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else somebody wants it to stay
            ends.append(signal.SIGHUP)
        former = {end: signal.signal(end, lambda *_: paraview.terminate()) for end in ends}
        try:
            code = paraview.wait()
        except BaseException:
            paraview.terminate()
            raise
        finally:
            for end, handler in former.items():
                signal.signal(end, handler)
    return 0 if code == -signal.SIGTERM else code


def find_window(paraview: ParaView) -> Path:
    """Return the program with ParaView's window, which stands beside its Python.

    Raises:
        ParaViewError: it is not there.
    """
    program = paraview.pvpython.resolve().with_name("paraview")
    if not program.exists():
        raise ParaViewError(
            f"There is {paraview.pvpython}, but no ParaView window beside it: {program} is "
            f"missing. {INSTALL_HINT}"
        )
    return program


def refuse_without_display(environment: Mapping[str, str]) -> None:
    """Return if a window can be opened.

    Raises:
        ParaViewError: it cannot, and what to do instead.
    """
    instead = (
        "Run it on a machine with a screen or over `ssh -X`, or make pictures with "
        "`tensorview export`."
    )
    if sys.platform == "darwin" or environment.get("WAYLAND_DISPLAY"):
        return
    display = environment.get("DISPLAY", "")
    if not display:
        raise ParaViewError(f"There is no display: DISPLAY is not set. {instead}")
    if not _answers(display):
        raise ParaViewError(f"There is no display: nothing answers at DISPLAY={display}. {instead}")


def _answers(display: str) -> bool:
    """Whether an X server accepts connections at *display*, for example ``:0`` or ``host:10.0``."""
    host, _, rest = display.rpartition(":")
    number = rest.partition(".")[0]
    if not number.isdigit():
        return False
    local = f"/tmp/.X11-unix/X{number}"  # noqa: S108  # where X servers listen
    tries: list[tuple[int, str | tuple[str, int]]] = []
    if host in ("", "unix"):
        tries = [(socket.AF_UNIX, local), (socket.AF_UNIX, f"\0{local}")]
    tries.append((socket.AF_INET, (host or "localhost", X11_TCP_PORT + int(number))))
    for family, address in tries:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.settimeout(DISPLAY_SECONDS)
                probe.connect(address)
        except OSError:
            continue
        return True
    return False


def add_layout_macro() -> int:
    """Add the macro that lays out a *Catalyst > Connect* to the user's own ParaView.

    Returns:
        0.

    Raises:
        ParaViewError: its folder cannot be written.
    """
    try:
        path = install_macro(_settings() / "ParaView" / "Macros")
    except OSError as error:
        raise ParaViewError(
            f"Cannot write the macro: {error.filename}: {error.strerror}."
        ) from None
    sys.stdout.write(
        f"{path} is a button of your own ParaView from its next start on. Press it once a training "
        f"has come to Catalyst > Connect.\n"
    )
    return 0


def prepare_settings(paraview: ParaView) -> Path:
    """Make a configuration directory of our own for ParaView, and return it.

    The user's own ParaView settings stay untouched.

    Raises:
        ParaViewError: it cannot be written.
    """
    own = _settings() / "tensorview"
    folder = own / "ParaView"
    version = ".".join(map(str, paraview.version))
    # Since version 6 all ParaViews share one file.
    name = "ParaView.ini" if paraview.version >= (6,) else f"ParaView{version}.ini"
    first = {name: FIRST_SETTINGS, "ParaView-UserSettings.json": FIRST_USER_SETTINGS}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in first.items():
            if not (folder / file).exists():
                (folder / file).write_text(text, encoding="utf-8")
        write_macros(folder / "Macros")
    except OSError as error:
        raise ParaViewError(
            f"Cannot write ParaView's settings for us: {error.filename}: {error.strerror}. Set "
            f"XDG_CONFIG_HOME to a directory that can be written."
        ) from None
    return own


def _settings() -> Path:
    """Return the user's configuration directory."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
