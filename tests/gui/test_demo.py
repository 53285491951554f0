"""`make demo` where there is a display: the window opens on the training by itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageGrab

from tensorview.run import Run
from tests.doubles import virtual_display, wait_until
from tests.gui.desk import ALL_FOUR, is_coloured

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.mark.paraview
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_opens_the_window(tmp_path):
    """The training is seen in four coloured views; Ctrl-C closes all of it."""
    with virtual_display(size=(1600, 1000)) as display, (tmp_path / "said").open("wb") as said:
        environment = {**os.environ, "DISPLAY": display, "XDG_CONFIG_HOME": str(tmp_path)}
        demo = subprocess.Popen(
            [sys.executable, DEMO],
            cwd=tmp_path,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until(
                lambda: (
                    is_coloured(np.asarray(ImageGrab.grab(xdisplay=display).convert("RGB")))
                    == ALL_FOUR
                ),
                seconds=200,
                what=lambda: f"four coloured views; said: {(tmp_path / 'said').read_text()}",
            )
            (run,) = (tmp_path / "tensorview_runs").iterdir()
            assert Run.open(run).steps()
            os.killpg(demo.pid, signal.SIGINT)
            demo.wait(30)
        finally:
            if demo.poll() is None:
                os.killpg(demo.pid, signal.SIGKILL)
                demo.wait()

    assert "Closed." in (tmp_path / "said").read_text()
