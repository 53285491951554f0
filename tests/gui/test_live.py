"""The real ParaView window on real trainings: nobody clicks, and the picture is there."""

import dataclasses
import time

import numpy as np
import pytest

from tensorview.run import Run
from tensorview.sockets import viewer_listens
from tests.doubles import LONG, free_port, open_live, wait_until
from tests.gui.desk import ALL_FOUR, Desk, is_coloured
from tests.snapshots import make_layer, make_snapshot

pytestmark = [pytest.mark.paraview, pytest.mark.slow, pytest.mark.timeout(300)]


FRAMES = 500 if LONG else 40


THRESHOLD = """
threshold = FindSource("Threshold1")
found = {"there": threshold is not None}
if threshold:
    data = threshold.GetClientSideObject().GetOutputDataObject(0)
    notes = arrays(threshold.Input.GetClientSideObject().GetOutputDataObject(0).GetFieldData())
    found["cells"] = data.GetNumberOfCells()
    found["step"] = int(notes["step"][0])
"""
STEP = """
notes = arrays(window.feed.sources["scalars"].GetClientSideObject().GetOutputDataObject(0)
               .GetFieldData())
found = {"step": int(notes["step"][0]), "run": window.feed.run()[0]}
"""


@pytest.fixture(scope="module")
def listening(tmp_path_factory):
    """Yield a window that waits for trainings, and its port."""
    port = free_port()
    with Desk(tmp_path_factory.mktemp("listening"), "--port", port) as desk:
        desk.wait_until_ready()
        wait_until(lambda: viewer_listens(port), seconds=60, what="the window to listen")
        yield desk, port


def test_one_window_sees_one_training_after_another(tmp_path, train, listening):
    """The window may come first; pictures resume, also after a training that was killed; what the
    user added stays; no box opens."""
    desk, port = listening

    def shown(run):
        found = desk.ask(STEP)
        return found["run"] == str(tmp_path / run) and found["step"] > 20

    first = train("first", port=port)
    desk.see_all()
    desk.add_filter("Threshold", to="weights")
    wait_until(lambda: desk.ask(THRESHOLD).get("cells"), seconds=60, what="the Threshold")
    first.kill()
    first.wait()
    second = train("second", port=port, steps=50)
    wait_until(lambda: shown("second"), seconds=60, what="the second training")
    second.wait()
    train("third", port=port)
    wait_until(lambda: shown("third"), seconds=60, what="the third training")
    threshold = desk.ask(THRESHOLD)
    names = desk.ask("found = [name for name, _ in GetSources()]")

    assert is_coloured(desk.shot()) == ALL_FOUR
    assert threshold["there"]
    assert threshold["cells"] > 0
    assert {"layers", "live weights", "weights"} <= set(names)
    assert desk.dialogs() == []


COUNTED = """
import sys
if not hasattr(sys, "shown"):
    sys.shown = 0
    render = window.tabs.render
    def counting():
        sys.shown += 1
        render()
    window.tabs.render = counting
found = sys.shown
"""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_memory_stays_flat_over_many_frames(tmp_path, listening):
    """From frame to frame nothing is kept: after a start, all further frames take no 20 MiB."""
    desk, port = listening
    rng = np.random.default_rng(0)
    snapshot = make_snapshot(rng, layers=[make_layer(rng, name="conv", filters=16)], step=10)
    run = Run.create(tmp_path / "run", settings={"name": "long"}).path
    outputs = open_live(run, port=port)
    memory = {}
    try:
        for step in range(10, 100_000, 10):
            outputs.publish(dataclasses.replace(snapshot, step=step, capture=step))
            time.sleep(0.1)
            if step % 500 == 0:
                shown = desk.ask(COUNTED)
                memory[shown] = desk.memory()
                if shown >= FRAMES:
                    break
    finally:
        outputs.close()
    settled = [value for shown, value in memory.items() if shown >= 20]

    assert max(memory) >= FRAMES
    assert settled[-1] - settled[0] < 20
    assert desk.dialogs() == []
