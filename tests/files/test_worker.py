"""What a worker tells the training process: answers, faults, whether anyone was reached."""

from __future__ import annotations

import contextlib
import json
import os

import numpy as np
import pytest

from tensorview.client.paraview import find_paraview
from tensorview.encoding import EncodedSnapshot
from tensorview.errors import SnapshotError
from tensorview.launch import WorkerCommand, start
from tensorview.lifeline import Lifeline
from tensorview.outputs import Outputs, catalyst_script
from tensorview.pulse import Pulse
from tensorview.run import Run
from tensorview.transport import Sender
from tensorview.worker import main
from tensorview.worker.main import MAX_FAULT_BYTES, MAX_FAULT_CHARACTERS, Worker
from tensorview.worker.sinks.memory import MemorySink
from tests.doubles import Viewer, free_port, wait_until
from tests.snapshots import make_snapshot


class Heard:
    """A receiver that has some snapshots to give, and keeps what is said."""

    def __init__(self, *snapshots):
        self._received = list(enumerate(snapshots))
        self.said = []

    def receive(self, _):
        if not self._received:
            raise EOFError
        return self._received.pop(0)

    def say(self, **message):
        self.said.append(message)


class Unwatched(MemorySink):
    """A viewer's sink without a viewer."""

    def write(self, frame):
        super().write(frame)
        return False


class Broken(MemorySink):
    """A sink that fails with an error of the system."""

    def __init__(self, *error):
        super().__init__()
        self._error = error

    def write(self, _):
        raise OSError(*self._error)


def snapshot():
    return make_snapshot(np.random.default_rng(0))


def answers(sink, *snapshots):
    heard = Heard(*snapshots)
    with contextlib.closing(Pulse()) as pulse:
        Worker(receiver=heard, parent=os.getppid(), outlives_parent=True, pulse=pulse).run(sink)
    return [message for message in heard.said if "done" in message]


def test_an_answer_says_whether_somebody_was_reached():
    """What nobody received is not to be counted as delivered."""
    damaged = SnapshotError("damaged")

    assert answers(MemorySink(), snapshot(), damaged) == [
        {"done": 0, "fault": "", "reached": True},
        {"done": 1, "fault": "damaged", "cause": "SnapshotError ", "reached": False},
    ]
    assert answers(Unwatched(), snapshot()) == [{"done": 0, "fault": "", "reached": False}]
    assert answers(Broken(28, "full"), snapshot()) == [
        {"done": 0, "fault": "OSError: [Errno 28] full", "cause": "OSError 28", "reached": False}
    ]


def test_f7_a_worker_whose_training_is_gone_no_longer_steps_back(tmp_path, monkeypatch):
    """On a busy machine it would be starved, and who goes on with the run would wait for it."""
    monkeypatch.setattr(main, "AUTOGROUP", tmp_path / "autogroup")
    with contextlib.closing(Pulse()) as pulse:
        Worker(receiver=Heard(), parent=0, outlives_parent=True, pulse=pulse).run(MemorySink())

    assert (tmp_path / "autogroup").read_text() == "0"


@pytest.mark.parametrize("character", ["x", "\n", "\0", "é", "\N{GRINNING FACE}"])
def test_a_fault_goes_out_in_one_piece(character):
    """However long a message is, a pipe takes it at once, and its beginning is kept."""
    (answer,) = answers(Broken(character * 100_000), snapshot())

    assert len(json.dumps(answer)) < 4096
    assert MAX_FAULT_BYTES // 4 <= len(json.dumps(answer["fault"])) <= MAX_FAULT_BYTES
    assert len(answer["fault"]) <= MAX_FAULT_CHARACTERS
    assert answer["fault"].startswith(f"OSError: {character}")


@pytest.mark.parametrize("name", ["weights.pvd", ".scalars.csv.tmp"])
def test_what_cannot_be_written_at_the_end_is_said(tmp_path, name):
    """A .pvd or scalars.csv that is out of date is a fault, though every capture is safe."""
    path = Run.create(tmp_path / "run", settings={}).path
    outputs = Outputs(run_path=path, formats=("vtp",), live=None, pipeline=None, paraview=None)
    worker = outputs.workers["files"]

    def ready():
        outputs.poll()
        return worker.state == "ready"

    wait_until(ready, seconds=20, what="the worker")
    (path / name).mkdir()
    outputs.publish(snapshot())
    outputs.close()

    named = "scalars.csv" if "csv" in name else ".pvd files"
    assert worker.last_fault.startswith(f"files sink: Cannot bring {named} of run '{path}' up to")
    assert ": Is a directory. " in worker.last_fault
    assert worker._process.returncode == 1
    assert Run.open(path).steps() == (snapshot().step,)


@pytest.mark.paraview
def test_a_live_frame_reaches_somebody_once_a_viewer_is_connected(tmp_path):
    """Without a viewer the live worker answers that nobody was reached."""
    port = free_port()
    command = WorkerCommand(
        python=(str(find_paraview().pvpython),),
        options={
            "sink": "live",
            "host": "localhost",
            "port": port,
            "script": str(catalyst_script("live.py")),
        },
        environment={},
        log_path=tmp_path / "log",
        foreign_python=True,
    )
    sender = Sender(slots=2, max_bytes=2**30)
    pulse = Pulse()
    lifeline = Lifeline()
    process = start(command, (*sender.worker_fds, pulse.fd, lifeline.worker_fd))
    said = []

    def reached():
        assert sender.send(EncodedSnapshot(snapshot()))
        before = len(said)

        def answered():
            said.extend(message for message in sender.messages() if "done" in message)
            return len(said) > before

        wait_until(answered, seconds=20, what="an answer")
        assert said[-1]["fault"] == ""
        return said[-1]["reached"]

    try:
        assert [reached(), reached()] == [False, False]
        with Viewer(tmp_path, port=port):
            wait_until(reached, seconds=20, what="a viewer")
    finally:
        sender.end()
        process.wait(10)
        lifeline.close()
        sender.close()
