"""`tensorview view` refuses in one sentence, before anything opens."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tensorview.client import view as view_module
from tensorview.client.paraview import ParaView
from tensorview.client.view import FIRST_SETTINGS, prepare_settings
from tests.doubles import Listener, free_port, virtual_display


def view(*arguments, **environment):
    """Run the command with an environment changed by *environment*; None leaves a variable out."""
    changed = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-m", "tensorview", "view", *map(str, arguments)],
        env={name: value for name, value in changed.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def display():
    with virtual_display() as name:
        yield name


def test_without_display_it_says_what_to_do_instead():
    """Neither a variable that is not set, nor a server that is gone, gets as far as ParaView."""
    advice = (
        "Run it on a machine with a screen or over `ssh -X`, or make pictures with `tensorview "
        "export`.\n"
    )
    unset = view(DISPLAY=None, WAYLAND_DISPLAY=None)
    gone = view(DISPLAY=":4711", WAYLAND_DISPLAY=None)
    garbage = view(DISPLAY="somewhere", WAYLAND_DISPLAY=None)

    where = "tensorview: There is no display: "
    assert (unset.returncode, unset.stdout) == (1, "")
    assert unset.stderr == f"{where}DISPLAY is not set. {advice}"
    assert gone.stderr == f"{where}nothing answers at DISPLAY=:4711. {advice}"
    assert garbage.stderr == f"{where}nothing answers at DISPLAY=somewhere. {advice}"


def test_a_taken_port_is_named_with_who_has_it(display):
    """ParaView itself would open, say nothing, and wait for ever."""
    port = free_port()
    with Listener(port=port):
        result = view("--port", port, DISPLAY=display)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"tensorview: Port {port} is taken by ")
    assert result.stderr.endswith(
        f"(pid {os.getpid()}): use that window, close it, or give another --port (and "
        f"live='localhost:PORT' to the training).\n"
    )


@pytest.mark.parametrize("port", ["0", "70000"])
def test_a_port_that_cannot_be_is_refused(display, port):
    """So is a number that no port has."""
    result = view("--port", port, DISPLAY=display)

    assert result.stderr == (
        f"tensorview: Port {port} cannot be used: expected 1 to 65535; ParaView's own is 22222.\n"
    )


def test_a_missing_run_is_refused(tmp_path, display):
    """Nothing opens on a directory that holds no run."""
    result = view(tmp_path, DISPLAY=display)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"tensorview: Cannot open run '{tmp_path}': there is no run.json in it.\n"
    )


def test_l8_without_paraview_it_says_how_to_get_it(tmp_path, display):
    """The sentence names what to install."""
    result = view(DISPLAY=display, PATH=str(tmp_path), HOME=str(tmp_path), TENSORVIEW_PVPYTHON="")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("tensorview: No ParaView found. Install ParaView 5.9 or newer")


def fake_pvpython(folder, version):
    """Write a Python that says it is a ParaView of *version*."""
    path = folder / "pvpython"
    found = f'{{"paraview": {version}, "python": "3", "numpy": "1", "vtk": "9"'
    found += ', "catalyst": true, "live": true}'
    path.write_text(f"#!/bin/sh\necho 'tensorview-probe:{found}'\n")
    path.chmod(0o755)
    return path


def test_l8_a_paraview_that_is_too_old_is_named(tmp_path, display):
    """With its path and version."""
    pvpython = fake_pvpython(tmp_path, [5, 4, 1])
    result = view(DISPLAY=display, TENSORVIEW_PVPYTHON=str(pvpython))

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"tensorview: {pvpython} is ParaView 5.4.1: too old. Install")


def test_a_paraview_without_a_window_is_named(tmp_path, display):
    """A ParaView for servers has Python, but no window beside it."""
    pvpython = fake_pvpython(tmp_path, [5, 11, 0])
    result = view(DISPLAY=display, TENSORVIEW_PVPYTHON=str(pvpython))

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(
        f"tensorview: There is {pvpython}, but no ParaView window beside it: "
        f"{tmp_path / 'paraview'} is missing. Install ParaView"
    )


def test_a_window_that_fails_leaves_its_last_words(tmp_path, display):
    """What ParaView said before its end is told, not only that it ended."""
    pvpython = fake_pvpython(tmp_path, [5, 11, 0])
    window = tmp_path / "paraview"
    window.write_text("#!/bin/sh\necho cannot open the window >&2\nexit 3\n")
    window.chmod(0o755)
    result = view(
        "--port",
        free_port(),
        DISPLAY=display,
        TENSORVIEW_PVPYTHON=str(pvpython),
        XDG_CONFIG_HOME=str(tmp_path / "config"),
    )

    assert result.returncode == 1
    assert result.stderr == (
        "tensorview: ParaView ended with exit code 3. Its last words: cannot open the window\n"
    )


@pytest.mark.paraview
@pytest.mark.timeout(120)
def test_what_fails_inside_paraview_ends_it(tmp_path, display):
    """It does not stay open with nothing in it: here the port is taken at the last moment."""
    with socket.socket() as taken:
        taken.bind(("", 0))  # without listening, so that nothing is noticed before
        port = taken.getsockname()[1]
        result = view("--port", port, DISPLAY=display, XDG_CONFIG_HOME=str(tmp_path / "config"))

    assert result.returncode == 1
    assert result.stderr.startswith("tensorview: ParaView ended with exit code 1. Its last words: ")
    assert result.stderr.endswith(f"Cannot listen on port {port}: Address already in use.\n")


@pytest.mark.parametrize(
    ("version", "name"), [((5, 11, 0), "ParaView5.11.0.ini"), ((6, 1, 1), "ParaView.ini")]
)
def test_settings_are_our_own_and_kept(tmp_path, monkeypatch, version, name):
    """The user's own ParaView settings stay as they are; what is changed in ours survives."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    users = tmp_path / "ParaView" / name
    users.parent.mkdir()
    users.write_text("the user's own")
    paraview = ParaView(
        pvpython=tmp_path / "pvpython", version=version, python="3", numpy="1", vtk="9"
    )
    folder = prepare_settings(paraview)
    first = (folder / "ParaView" / name).read_text()
    (folder / "ParaView" / name).write_text("changed by hand")
    prepare_settings(paraview)

    assert first == FIRST_SETTINGS
    assert folder == tmp_path / "tensorview"
    assert (folder / "ParaView" / name).read_text() == "changed by hand"
    assert users.read_text() == "the user's own"
    assert list((folder / "ParaView" / "Macros").glob("*.py"))


def test_settings_that_cannot_be_written_are_named(tmp_path, display):
    """Before anything opens."""
    pvpython = fake_pvpython(tmp_path, [5, 11, 0])
    (tmp_path / "paraview").touch()
    (tmp_path / "file").touch()
    result = view(
        "--port",
        free_port(),
        DISPLAY=display,
        TENSORVIEW_PVPYTHON=str(pvpython),
        XDG_CONFIG_HOME=str(tmp_path / "file"),
    )

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"tensorview: Cannot write ParaView's settings for us: {tmp_path / 'file'}"
        f"/tensorview/ParaView: Not a directory. Set XDG_CONFIG_HOME to a directory that can be "
        f"written.\n"
    )


def test_the_layout_macro_goes_to_the_users_own_paraview(tmp_path):
    """One command, for those who prefer Catalyst > Connect; no display is needed for it."""
    result = view("--install-macro", XDG_CONFIG_HOME=str(tmp_path), DISPLAY=None)
    (macro,) = (tmp_path / "ParaView" / "Macros").glob("*.py")

    assert result.returncode == 0
    assert result.stdout.startswith(f"{macro} is a button of your own ParaView from its next start")
    assert "window.adopt()" in macro.read_text()


def test_the_start_script_is_there():
    """What ParaView is told to run exists."""
    assert view_module.START_SCRIPT.is_file()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_paraview_ends_with_the_command(tmp_path, end):
    """A session that is closed, or a job that is ended, leaves no window behind."""
    script = f"""
import os, signal, sys
from pathlib import Path
from tensorview.client.view import _run

waits = "import os, signal; os.kill(os.getppid(), {int(end)}); signal.pause()"
print(_run([sys.executable, "-c", waits], environment=dict(os.environ), log_path=Path("log")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout == "0\n"
