"""`tensorview doctor` says what is there, what is not, and what to do."""

import socket
import subprocess
import sys

import pytest

from tensorview.client import paraview
from tensorview.client.doctor import examine, report
from tensorview.errors import ParaViewError
from tensorview.sockets import viewer_listens
from tests.doubles import UNUSABLE_PARAVIEWS, free_port, unusable_pvpython


@pytest.fixture(autouse=True)
def _ask_again():
    paraview.find_paraview.cache_clear()
    yield
    paraview.find_paraview.cache_clear()


def doctor(*arguments, **environment):
    import os  # noqa: PLC0415

    return subprocess.run(
        [sys.executable, "-m", "tensorview", "doctor", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.paraview
def test_a_good_machine_is_said_to_be_good():
    """Exit code 0, ParaView's path and version, and the next step."""
    port = free_port()
    result = doctor("--port", str(port), DISPLAY="")

    assert result.returncode == 0, result.stdout
    assert "FAIL" not in result.stdout
    assert "Catalyst       yes, with Live" in result.stdout
    assert result.stdout.endswith(
        f"Everything is in place. Next: add tensorview.watch(model, optimizer, "
        f"live='localhost:{port}')\nto a training, type tensorview view --port {port}, and start "
        f"the training.\n"
    )


def test_l8_no_paraview_is_said_with_what_to_do(tmp_path):
    """Exit code 1, what is missing, and how to install it."""
    result = doctor(PATH=str(tmp_path), HOME=str(tmp_path), TENSORVIEW_PVPYTHON="")

    assert result.returncode == 1
    assert "FAIL  ParaView       No ParaView found" in result.stdout
    assert "apt install paraview python3-paraview" in result.stdout


def is_printed(sentences):
    """Whether the report has both what was found and what to do."""
    found, _, advice = sentences.partition(". ")
    text = report(examine(port=free_port()))
    return found in text and advice in text


@pytest.mark.parametrize("kind", UNUSABLE_PARAVIEWS)
def test_l8_a_paraview_that_cannot_be_used_is_named(tmp_path, monkeypatch, kind):
    """What was found stands in the sentence, and what to install; `doctor` prints the same."""
    pvpython, words = unusable_pvpython(tmp_path, kind)
    monkeypatch.setenv(paraview.PVPYTHON_VARIABLE, pvpython)

    with pytest.raises(ParaViewError) as caught:
        paraview.find_paraview()
    assert pvpython in str(caught.value)
    assert words in str(caught.value)
    assert "Install ParaView 5.9 or newer" in str(caught.value)
    assert is_printed(str(caught.value))


def test_a_pvpython_that_is_not_there_is_named(monkeypatch):
    """A wrong TENSORVIEW_PVPYTHON is not passed over for another ParaView."""
    monkeypatch.setenv(paraview.PVPYTHON_VARIABLE, "/nowhere/pvpython")

    with pytest.raises(ParaViewError, match="Cannot start /nowhere/pvpython"):
        paraview.find_paraview()


def test_a_listening_viewer_is_seen_without_connecting_to_it():
    """The kernel's table tells; the listener gets no connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(0.2)

        assert viewer_listens(port)
        with pytest.raises(TimeoutError):
            server.accept()
    assert not viewer_listens(port)


def test_a_display_that_does_not_answer_is_named(monkeypatch):
    """Its window could not open; none at all is right on a cluster's node."""
    monkeypatch.setenv(paraview.PVPYTHON_VARIABLE, "/nowhere/pvpython")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":4711")
    dead = report(examine(port=free_port()))
    monkeypatch.delenv("DISPLAY")
    none = report(examine(port=free_port()))

    assert "FAIL  display        There is no display: nothing answers at DISPLAY=:4711\n" in dead
    assert "display: Run it on a machine with a screen" in dead
    assert "ok    display        none: ParaView's window opens on another machine\n" in none


def test_the_listener_is_named(monkeypatch):
    """The report says which process holds the port, and what if that is no viewer."""
    monkeypatch.setenv(paraview.PVPYTHON_VARIABLE, "/nowhere/pvpython")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = report(examine(port=port), port=port)

    import os  # noqa: PLC0415

    assert f"(pid {os.getpid()}) listens (if that is neither a viewer nor an SSH tunnel" in text


def test_a_port_out_of_range_is_one_sentence():
    """No traceback, exit code 1."""
    result = doctor("--port", "70000")

    assert result.returncode == 1
    assert result.stderr == (
        "tensorview: Port 70000 cannot be used: expected 1 to 65535; ParaView's own is 22222.\n"
    )
