"""Whatever a viewer does, and if none ever comes: the training does not wait, and hears little."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tensorview import supervisor
from tensorview.encoding import EncodedSnapshot
from tests.doubles import LONG, PausingViewer, free_port, open_live, wait_until
from tests.snapshots import make_layer, make_snapshot

pytestmark = pytest.mark.paraview


@pytest.mark.parametrize("at_once", [False, True], ids=["auto", "asked for"])
def test_l1_without_a_viewer_there_is_one_info(tmp_path, caplog, at_once):
    """1,000 captures, one INFO that says where a viewer is expected, nothing louder."""
    port = free_port()
    snapshot = make_snapshot(np.random.default_rng(0))
    with caplog.at_level(logging.DEBUG, logger="tensorview"):
        outputs = open_live(tmp_path, port=port, at_once=at_once)
        for _ in range(1000):
            outputs.publish(snapshot)
        outputs.close()

    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.INFO,
            f"No viewer listens on port {port} yet: the first that does is sent to.",
        )
    ]


@dataclass
class Held:
    """What happened while a viewer took nothing.

    Attributes:
        longest: seconds that handing a snapshot over took at most.
        states: of the live sink, from the first second in which it was stalled.
        shared: bytes of shared memory at the end.
        grown: bytes by which this process grew.
        shown_after: seconds from the viewer's going on to the newest snapshot at it.
        pids: of the live worker.
        uncounted: snapshots that were neither delivered nor dropped in the end.
    """

    longest: float
    states: set[str]
    shared: int
    grown: int
    shown_after: float
    pids: set[int]
    uncounted: int


HELD_SECONDS = supervisor.HANDSHAKE_SECONDS + 1.0
"""A viewer that has taken frames is not called anew, however long it takes none."""
SHORT_SECONDS = HELD_SECONDS if LONG else 4.0
SNAPSHOT_BYTES = 4_000_000


def anonymous_bytes():
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("RssAnon:")
    )
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """Hold a viewer twice: stop its process, then press Pause in it."""
    folder, port = tmp_path_factory.mktemp("held"), free_port()
    rng = np.random.default_rng(0)
    layer = make_layer(rng, filters=64, map_size=(90, 90))
    steps = iter(range(50, 10**9, 50))
    outputs = open_live(folder, port=port)
    worker = outputs.workers["live"]
    published = 0

    def publish():
        nonlocal published
        snapshot = make_snapshot(rng, layers=[layer], step=next(steps))
        started = time.monotonic()
        outputs.publish(snapshot)
        published += 1
        return snapshot.step, time.monotonic() - started

    def hold(viewer, stop, go_on, *, seconds):
        def connected():
            publish()
            time.sleep(0.1)
            return worker.state == "connected" and len(viewer.steps()) > 1

        wait_until(connected, seconds=60, what="frames")
        before, pids = anonymous_bytes(), {worker.pid}
        stop()
        longest, states = 0.0, set()
        until = time.monotonic() + seconds + supervisor.STALLED_SECONDS["live"]
        while time.monotonic() < until:
            last, took = publish()
            longest = max(longest, took)
            pids.add(worker.pid)
            if states or worker.state == "stalled":
                states.add(worker.state)
            time.sleep(0.05)
        shared = sum(worker._sender._file.sizes().values())
        grown = anonymous_bytes() - before
        began = time.monotonic()
        go_on()
        wait_until(lambda: viewer.steps()[-1:] == [last], seconds=15, what="the newest frame")
        shown_after = time.monotonic() - began

        def uncounted():
            outputs.poll()
            return published - worker.delivered - worker.dropped

        wait_until(lambda: not uncounted(), seconds=10, what="every snapshot to be counted")
        wait_until(lambda: worker.state == "connected", seconds=5, what="the state")
        pids.add(worker.pid)
        return Held(longest, states, shared, grown, shown_after, pids, uncounted())

    try:
        with PausingViewer(folder, port=port) as viewer:
            found = {
                "stopped": hold(viewer, viewer.freeze, viewer.thaw, seconds=HELD_SECONDS),
                "paused": hold(viewer, viewer.pause, viewer.resume, seconds=SHORT_SECONDS),
            }
    finally:
        outputs.close()
    nbytes = EncodedSnapshot(make_snapshot(rng, layers=[layer])).nbytes
    assert nbytes > SNAPSHOT_BYTES
    return found


def prove_that_nothing_waited(held):
    assert held.longest < 0.5
    assert held.states == {"stalled"}
    assert held.shared <= 2 * SNAPSHOT_BYTES * 3 // 2
    assert held.grown < 16 * SNAPSHOT_BYTES
    assert len(held.pids) == 1
    assert held.uncounted == 0


@pytest.mark.long
def test_l2_a_stopped_viewer_holds_nobody(held):
    """Stopped for 10 s, while snapshots of 4 MB come: the hook never waits, memory stays bounded.

    The sink is `stalled`, its worker left alone; the newest snapshot is shown as soon as the viewer
    goes on (within 2 s on a free machine), and what it did not get is counted exactly.
    """
    prove_that_nothing_waited(held["stopped"])
    assert held["stopped"].shown_after < 6.0


@pytest.mark.long
def test_l3_a_paused_viewer_holds_nobody(held):
    """The same where somebody presses Pause, and then Continue, in ParaView's menu."""
    prove_that_nothing_waited(held["paused"])
    assert held["paused"].shown_after < 6.0
