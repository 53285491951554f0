"""The client's end of Catalyst Live."""

import json
import subprocess
from pathlib import Path

import pytest

from tensorview.client.paraview import find_paraview
from tensorview.launch import BOOTSTRAP

pytestmark = pytest.mark.paraview

SCRIPT = Path(__file__).with_name("link_in_paraview.py")


@pytest.fixture(scope="module")
def captures():
    """Numbers of captures that a client has seen, see `link_in_paraview.py`."""
    done = subprocess.run(
        [find_paraview().pvpython, SCRIPT, BOOTSTRAP],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("[")]

    assert said, done.stdout + done.stderr
    return json.loads(said[-1])


def test_a_training_that_never_pauses_is_seen_capture_by_capture(captures):
    """However fast captures come, none of them holds the client until there are no more."""
    first, second, third, _ = captures

    assert [second - first, third - second] == [1, 1]


def test_what_paraview_s_own_window_took_is_seen(captures):
    """Where its menu made the connection, it serves that between our own looks, too."""
    assert captures[3] == captures[2] + 1
