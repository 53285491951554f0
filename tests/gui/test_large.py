"""The real ParaView window on a deep network: every tab, the mouse, and the list of layers."""

import numpy as np
import pytest

from benchmarks.speed.large import WEIGHTS_TAB, beside, ink, looked_at
from tests.doubles import LONG, wait_until
from tests.gui.desk import ACTIVATIONS_TAB, page, quarters
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
NETWORK, LAYERS = ("ResNet50", 54) if LONG else ("ResNet20", 20)
SECONDS = 60
"""Hang limit of each picture and answer; on an idle machine of two cores most take one or two."""
FRAMED_INK = 0.05
"""Of the page where one layer fills it, though half of its weights are as good as white; as one of
fifty it takes a hundredth."""
SHOWN = """
display = window.tabs._displays["overview"][0]
found = [place.name for place in display._notes.places]
"""


@pytest.mark.paraview
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_deep_network_is_seen_and_handled():
    """It is measured as in the benchmark; every tab has its picture, a choice of layers works."""
    with beside(NETWORK, side=32) as seen:
        desk = seen.desk

        def in_front(names):
            return lambda: desk.ask(SHOWN) == names

        measured = {row.number: row.value for row in looked_at(seen, seconds=1.0)}
        before = desk.shot().astype(int)
        desk.drag((800, 500), (920, 560))
        wait_until(
            lambda: (np.abs(desk.shot() - before).max(axis=2) > 30).mean() > 0.05,
            seconds=SECONDS,
            what="a view that turns with the mouse",
        )
        for tab, (place, parts) in PARTS.items():
            desk.click(*place)
            wait_until(
                lambda parts=parts: min(map(ink, parts(desk.shot()))) > 0.02,
                seconds=SECONDS,
                what=f"all of {tab}",
            )
        desk.click(*PARTS["overview"][0])
        every = desk.ask(SHOWN)
        desk.click(*FIRST_BOX)
        wait_until(in_front(every[1:]), seconds=SECONDS, what="all layers but the first")
        focused = ctl(seen.run, "focus", LAYER), ctl(seen.run, "capture")
        wait_until(in_front([LAYER]), seconds=SECONDS, what="the layer in focus")
        desk.click(*WEIGHTS_TAB)
        wait_until(
            lambda: ink(desk.shot()[page(desk.shot())]) > FRAMED_INK,
            seconds=SECONDS,
            what="the layer in focus, though the view was turned before",
        )
        assert desk.dialogs() == []

    assert len(every) == LAYERS
    assert [code for code, _ in focused] == [0, 0]
    assert measured[f"15 {NETWORK}"] > 0
    assert measured[f"15 {NETWORK}, turning"] > 0
