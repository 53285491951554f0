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


@pytest.fixture(scope="module")
def pace():
    """Seconds that five frames took, and waits before a frame is offered again."""
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
    return json.loads(said[-1])


def test_a_frame_takes_its_time_at_least(pace):
    """What is asked of the cores of training and viewer has a bound."""
    taken, _ = pace

    assert taken >= 5 * 0.3


def test_a_frame_is_offered_again_ever_more_rarely(pace):
    """One that has just connected is served soon, and is not held up by what it has had."""
    _, waits = pace

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]
