"""How often frames are sent live."""

import json
import subprocess
from pathlib import Path

import pytest

from tensorview.client.paraview import find_paraview
from tensorview.launch import BOOTSTRAP
from tensorview.outputs import catalyst_script
from tests.doubles import free_port

pytestmark = pytest.mark.paraview

SCRIPT = Path(__file__).with_name("pace_in_paraview.py")


def test_a_frame_takes_its_time_at_least():
    """What is asked of the cores of training and viewer has a bound."""
    live = catalyst_script("live.py")
    done = subprocess.run(
        [find_paraview().pvpython, SCRIPT, BOOTSTRAP, live, str(free_port())],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    said = done.stdout.splitlines()

    assert said, done.stderr
    assert json.loads(said[-1]) >= 5 * 0.3
