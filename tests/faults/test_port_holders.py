"""Whoever holds the port that a viewer is expected on: training goes on, and calls are repeated."""

import contextlib
import logging
import os
import signal
import time

import numpy as np
import pytest

from tensorview import supervisor
from tensorview.outputs import Outputs
from tensorview.run import Run
from tests.doubles import TEMPERS, Listener, Viewer, free_port, open_live, wait_until
from tests.snapshots import make_snapshot

pytestmark = pytest.mark.paraview


def snapshot(index):
    return make_snapshot(np.random.default_rng(0), step=index)


@pytest.mark.timeout(240)
def test_l5_whoever_holds_the_port_is_called_again_and_again(tmp_path, monkeypatch, caplog):
    """Silent, rude or lying: the hook never waits, the state is `unreachable`, calls go on.

    Ever more rarely, with one WARNING each.
    """
    monkeypatch.setattr(supervisor, "HANDSHAKE_SECONDS", 3.0)
    longest, seen, pids, listeners = 0.0, {}, {}, {}
    with contextlib.ExitStack() as stack:
        outputs = {}
        for temper in TEMPERS:
            port = free_port()
            listeners[temper] = stack.enter_context(Listener(port=port, temper=temper))
            folder = tmp_path / temper
            folder.mkdir()
            outputs[temper] = open_live(folder, port=port)
            stack.callback(outputs[temper].close)
            seen[temper], pids[temper] = [], set()
        index = 0

        def publish():
            nonlocal longest, index
            index += 1
            for temper, output in outputs.items():
                started = time.monotonic()
                output.publish(snapshot(index))
                longest = max(longest, time.monotonic() - started)
                worker = output.workers["live"]
                pids[temper].add(worker.pid)
                if seen[temper][-1:] != [worker.state]:
                    seen[temper].append(worker.state)
            time.sleep(0.1)
            return all("unreachable" in states for states in seen.values())

        wait_until(publish, seconds=120, what=lambda: f"six to be unreachable, got {seen}")
        for _ in range(20):
            publish()

    assert longest < 0.5
    assert all(set(states) <= {"waiting", "unreachable"} for states in seen.values())
    assert len(pids["silent"]) >= 2
    assert 2 <= len(listeners["closes"].accepted) <= 8  # calls, in this minute
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == len(TEMPERS)
    assert all("does not answer as a ParaView client does" in text for text in warnings)


def test_l5_a_viewer_in_the_place_of_a_silent_holder_is_served(tmp_path, monkeypatch):
    """Once the port is a viewer's, frames come to it, the newest first."""
    monkeypatch.setattr(supervisor, "HANDSHAKE_SECONDS", 3.0)
    port = free_port()
    outputs = open_live(tmp_path, port=port)
    try:
        worker = outputs.workers["live"]
        with Listener(port=port):

            def unreachable():
                outputs.publish(snapshot(10))
                return worker.state == "unreachable"

            wait_until(unreachable, seconds=60, what="the holder to be given up")
        with Viewer(tmp_path, port=port) as viewer:

            def served():
                outputs.poll()
                return viewer.steps() == [10]

            wait_until(served, seconds=60, what="the last snapshot at the viewer")
            wait_until(lambda: worker.state == "connected", seconds=10, what="the state")
    finally:
        outputs.close()


def test_a_stopped_file_worker_is_said_to_stall(tmp_path, monkeypatch):
    """Its sign of life comes from a thread of its own, and is missed."""
    monkeypatch.setitem(supervisor.STALLED_SECONDS, "files", 1.5)
    path = Run.create(tmp_path / "run", settings={}).path
    outputs = Outputs(run_path=path, formats=("vtp",), live=None, pipeline=None, paraview=None)
    try:
        worker = outputs.workers["files"]

        def state_is(wanted):
            outputs.poll()
            return worker.state == wanted

        assert state_is("starting")
        wait_until(lambda: state_is("ready"), seconds=30, what="it to be ready")
        os.kill(worker.pid, signal.SIGSTOP)
        wait_until(lambda: state_is("stalled"), seconds=10, what="the state")
        os.kill(worker.pid, signal.SIGCONT)
        wait_until(lambda: state_is("ready"), seconds=10, what="it to go on")
    finally:
        outputs.close()


def test_l5_where_no_child_is_waited_for_calls_are_repeated_too(tmp_path, monkeypatch):
    """SIGCHLD may be ignored by a training: how its worker ended is not known then."""
    monkeypatch.setattr(supervisor, "HANDSHAKE_SECONDS", 2.0)
    port = free_port()
    former = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        outputs = open_live(tmp_path, port=port)
        worker = outputs.workers["live"]
        try:
            with Listener(port=port):

                def unreachable():
                    outputs.publish(snapshot(10))
                    return worker.state == "unreachable"

                wait_until(unreachable, seconds=60, what="the holder to be given up")
                assert worker._restarts.crashes == 0
        finally:
            outputs.close()
    finally:
        signal.signal(signal.SIGCHLD, former)
