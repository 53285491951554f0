"""The real ParaView window on a network of 54 layers and 23 million weights."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.speed.large import IS_READY, TRAINING, WEIGHTS_TAB, ink
from tests.doubles import free_port, wait_until
from tests.gui.desk import ACTIVATIONS_TAB, Desk, page, quarters
from tests.steering.test_ctl import ctl

PARTS = {
    "overview": ((370, 189), quarters),
    "weights": (WEIGHTS_TAB, lambda shot: [shot[page(shot)]]),
    "trajectory": ((605, 189), lambda shot: [shot[page(shot)]]),
    "activations": (
        ACTIVATIONS_TAB,
        lambda shot: np.array_split(shot[page(shot)], 3, axis=1),
    ),
    "health": ((851, 189), lambda shot: np.array_split(shot[page(shot)], 3, axis=1)),
}
"""Of each tab: where it is clicked, and how its page is cut into what must not be blank."""
FIRST_BOX = (20, 573)
"""Of the list of layers."""
LAYER = "layer3.2.conv2"
LAYERS = 54
SECONDS = 60
"""Hang limit of each picture and answer; on an idle machine of two cores most take one or two."""
SHOWN = """
display = window.tabs._displays["overview"][0]
found = [place.name for place in display._notes.places]
"""


@pytest.mark.paraview
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_large_network_is_seen_and_handled(tmp_path):
    """Every tab has its picture, a view turns under the mouse, a choice of layers is followed."""
    port, run = free_port(), tmp_path / "run"

    def in_front(names):
        return lambda: desk.ask(SHOWN) == names

    with Desk(tmp_path, "--port", port) as desk, (tmp_path / "log").open("wb") as log:
        wait_until(lambda: desk.ask(IS_READY), seconds=SECONDS, what="the window")
        command = [sys.executable, TRAINING, "ResNet50", "32", run, str(port)]
        training = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ})
        try:
            wait_until(
                lambda: min(map(ink, quarters(desk.shot()))) > 0.02,
                seconds=2 * SECONDS,
                what="a first picture",
            )
            ctl(run, "pause")
            for tab, (place, parts) in PARTS.items():
                desk.click(*place)
                wait_until(
                    lambda parts=parts: min(map(ink, parts(desk.shot()))) > 0.02,
                    seconds=SECONDS,
                    what=f"all of {tab}",
                )
            desk.click(*WEIGHTS_TAB)
            wait_until(lambda: ink(desk.shot()[page(desk.shot())]) > 0.1, seconds=SECONDS)
            time.sleep(1)
            before = desk.shot().astype(int)
            desk.xdotool("mousemove", 800, 500, "mousedown", 1)
            desk.xdotool("mousemove", 880, 540)
            desk.xdotool("mousemove", 920, 560)
            wait_until(
                lambda: (np.abs(desk.shot() - before).max(axis=2) > 30).mean() > 0.05,
                seconds=SECONDS,
                what="a view that turns with the mouse",
            )
            desk.xdotool("mouseup", 1)
            desk.click(*PARTS["overview"][0])
            every = desk.ask(SHOWN)
            desk.click(*FIRST_BOX)
            wait_until(in_front(every[1:]), seconds=SECONDS, what="all layers but the first")
            focused = ctl(run, "focus", LAYER), ctl(run, "capture")
            wait_until(in_front([LAYER]), seconds=SECONDS, what="the layer in focus")
            desk.click(*WEIGHTS_TAB)
            wait_until(
                lambda: ink(desk.shot()[page(desk.shot())]) > 0.1,
                seconds=SECONDS,
                what="the layer in focus, though the view was turned before",
            )
            assert desk.dialogs() == []
        finally:
            training.kill()
            training.wait()

    assert len(every) == LAYERS
    assert [code for code, _ in focused] == [0, 0]
