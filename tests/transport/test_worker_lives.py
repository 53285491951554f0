"""How workers die and are started again, shown by workers that are a few lines of the shell."""

import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tensorview import launch, processes, pulse, restarts, supervisor
from tensorview.encoding import EncodedSnapshot
from tensorview.launch import WorkerCommand, last_words
from tensorview.lifeline import Lifeline
from tensorview.outputs import Outputs
from tensorview.processes import Progress, Signs
from tensorview.pulse import DIALLING, Pulse
from tensorview.settings import LiveTarget
from tensorview.supervisor import WorkerHandle
from tensorview.transport import ORPHAN_SECONDS, Receiver, Sender
from tensorview.worker import main, views
from tests.doubles import crashing_python, wait_until
from tests.snapshots import make_snapshot

BEGIN_AND_DIE = (
    """fd=$(echo "$3" | sed 's/.*"fds": .\\([0-9]*\\).*/\\1/')\n"""
    "dd bs=24 count=1 status=none < /proc/self/fd/$fd > /dev/null\n"
    "exit 1"
)
SLEEP = "exec sleep 60"


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(restarts, "CRASH_SECONDS", 0.02)
    monkeypatch.setattr(restarts, "FIRST_CALL_SECONDS", 0.02)
    monkeypatch.setattr(supervisor, "CLOSE_SECONDS", {"live": 0.2, "files": 0.2})


@contextlib.contextmanager
def handle(tmp_path, how, *, name="files"):
    worker = WorkerHandle(
        name=name,
        command=WorkerCommand(
            python=crashing_python(tmp_path, how),
            options={"sink": name, "host": "localhost", "port": 11111},
            environment={},
            log_path=tmp_path / "worker.log",
            foreign_python=True,
        ),
        latest_wins=name == "live",
    )
    try:
        yield worker
    finally:
        worker.close()


def encoded(step=50):
    return EncodedSnapshot(make_snapshot(np.random.default_rng(0), step=step))


def polled(worker, condition):
    def holds():
        worker.poll()
        return condition()

    return holds


def test_f1_a_worker_that_dies_before_it_begins_costs_no_capture(tmp_path, caplog):
    """Where none can open the run for a while, captures wait for the one that can."""
    with handle(tmp_path, "exit 1") as worker:
        for step in (50, 100):
            worker.publish(encoded(step))
        four = polled(worker, lambda: worker._restarts.crashes == 4)
        wait_until(four, seconds=10, what="four ends")

        assert (worker._sender.in_flight, worker.dropped) == (2, 0)
    assert "twice" not in caplog.text


def test_l7_a_capture_that_ends_its_worker_twice_is_left_out(tmp_path, caplog):
    """It alone, and only once it has: another one may be ended by the next."""
    with handle(tmp_path, BEGIN_AND_DIE) as worker:
        for step in (50, 100):
            worker.publish(encoded(step))
        wait_until(polled(worker, lambda: worker.dropped), seconds=10, what="a loss")

        assert (worker._restarts.crashes, worker._sender.in_flight) == (2, 1)
        wait_until(polled(worker, lambda: worker.dropped == 2), seconds=10, what="the other")
        assert worker._restarts.crashes == 4
    assert caplog.text.count("A capture ended the files worker twice and is left out.") == 1


def test_l7_a_worker_that_cannot_be_started_just_now_is_tried_again(tmp_path, caplog, monkeypatch):
    """A lack of processes or descriptors that passes costs nothing; one that stays is named."""
    real, refusals = supervisor.start, [1, 1]

    def start(*arguments):
        if refusals:
            refusals.pop()
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return real(*arguments)

    with handle(tmp_path, SLEEP) as worker:
        monkeypatch.setattr(supervisor, "start", start)
        worker.publish(encoded())
        pid = worker.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(polled(worker, lambda: worker.pid != pid), seconds=10, what="a start")
        assert (worker._sender.in_flight, worker.dropped, caplog.text) == (1, 0, "")
        refusals += [1] * 9
        os.kill(worker.pid, signal.SIGKILL)
        failed = polled(worker, lambda: worker.state == "failed")
        wait_until(failed, seconds=10, what="the end")
        assert worker.dropped == 1
    (error,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert "cannot be started again: [Errno 11] Resource temporarily unavailable. Its" in error


def test_l9_a_file_worker_that_turns_in_circles_is_given_up(tmp_path, monkeypatch):
    """To use the processor is no progress for ever: nothing is delivered, nothing written."""
    monkeypatch.setattr(processes, "COMPUTING_SECONDS", 0.5)
    with handle(tmp_path, "while :; do :; done") as worker:
        worker.publish(encoded())
        # Where it is not given up, the test shall end as well.
        rescue = threading.Timer(10, os.kill, (worker.pid, signal.SIGKILL))
        rescue.start()
        began = time.monotonic()
    took = time.monotonic() - began
    rescue.cancel()
    rescue.join()

    assert took < 5.0
    assert worker.dropped == 1


def test_l9_one_call_to_a_slow_disk_is_no_standstill(monkeypatch):
    """A worker that waits in an fsync uses no processor, and may do so as long as an orphan may."""
    signs, now = Signs("S", 0, 0), 0.0
    monkeypatch.setattr(processes, "signs_of", lambda _: signs)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = Progress(1, left=2)
    moved = []
    for state, cpu, written in [("S", 0, 0), ("D", 0, 0), ("S", 1, 0), ("S", 1, 0), ("S", 1, 9)]:
        now += 1.0
        signs = Signs(state, cpu, written)
        progress.look(left=2)
        moved.append(progress.moved)
    for _ in range(30):
        now += 1.0
        signs = Signs("D", 1, 9)
        progress.look(left=2)

    assert moved == [0.0, 2.0, 3.0, 3.0, 5.0]
    assert progress.moved == 5.0 + ORPHAN_SECONDS - 1.0


def test_l9_a_live_worker_that_somebody_stopped_ends_too(tmp_path):
    """What is stopped would take note of its end only once it goes on."""
    with handle(tmp_path, SLEEP, name="live") as worker:
        os.kill(worker.pid, signal.SIGSTOP)

    assert worker._process.returncode == -signal.SIGUSR1


def test_l9_a_worker_whose_training_has_ended_already_ends():
    """No signal comes any more of an end that was before it hung on."""
    lifeline = Lifeline()
    fd = os.dup(lifeline.worker_fd)
    lifeline.close()
    script = (
        "import sys, time; from tensorview.lifeline import hang_on; hang_on(int(sys.argv[1]));"
        "time.sleep(60)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(fd)], pass_fds=[fd], timeout=20, check=False
        )
    finally:
        os.close(fd)

    assert done.returncode == -signal.SIGUSR1


def test_l9_a_worker_ends_with_its_training_whatever_started_it():
    """A thread that has ended long since, in a training that ignores and blocks the signal."""
    script = (
        "import sys, time; from tensorview.lifeline import hang_on; hang_on(int(sys.argv[1]));"
        "print('hangs on', flush=True); time.sleep(60)"
    )
    lifeline, started = Lifeline(), []

    def start():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        fd = lifeline.worker_fd
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", script, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE
            )
        )

    former = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, former)
    with started[0] as worker:
        try:
            assert worker.stdout.readline()
            lifeline.close()
            assert worker.wait(10) == -signal.SIGUSR1
        finally:
            worker.kill()


def test_l7_a_worker_that_crashes_in_every_call_is_given_up(tmp_path, monkeypatch, caplog):
    """Only a call that did not come back, so that it was ended, is repeated for ever."""
    monkeypatch.setattr(Pulse, "activity", property(lambda _: DIALLING))
    with handle(tmp_path, "kill -SEGV $$", name="live") as worker:
        for step in range(50, 250, 50):
            worker.publish(encoded(step))
        wait_until(polled(worker, lambda: worker.state == "failed"), seconds=10, what="the end")

    assert "ended 5 times in a row" in caplog.text
    assert "something is wrong" in caplog.text
    assert "twice" not in caplog.text


def test_l5_that_a_viewer_cannot_be_reached_is_said_once(tmp_path, monkeypatch, caplog):
    """One WARNING with the port; calls go on for ever, and keep the snapshot that they are for."""
    monkeypatch.setattr(Pulse, "activity", property(lambda _: DIALLING))
    with handle(tmp_path, "kill -KILL $$", name="live") as worker:
        worker.publish(encoded())
        monkeypatch.setattr(restarts, "LAST_CALL_SECONDS", 0.02)
        calls = polled(worker, lambda: worker._restarts.unanswered > 6)
        wait_until(calls, seconds=10, what="calls")

        assert worker.state == "unreachable"
        assert worker.dropped == 0
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warning == (
        "Whoever listens on port 11111 of localhost does not answer as a ParaView client does. The "
        "live worker calls again, every 60 s at least; `tensorview doctor` says who it is."
    )


def test_l5_an_unanswered_call_is_given_more_time_each_time(tmp_path):
    """10, 20, 40, 60 s: a viewer may share a busy machine."""
    with handle(tmp_path, SLEEP, name="live") as worker:
        patience = []
        for worker._restarts.unanswered in range(5):
            patience.append(worker._patience)

    assert patience == [10.0, 20.0, 40.0, 60.0, 60.0]


def test_l5_a_slow_pipeline_is_no_unanswered_call(monkeypatch):
    """VTK keeps Python's lock while it computes: how old the beat is says nothing of the call."""
    with contextlib.closing(Pulse()) as page:
        page.beat()
        now = time.monotonic()
        monkeypatch.setattr(pulse.time, "monotonic", lambda: now + 15.0)
        page.begin(DIALLING)
        monkeypatch.setattr(pulse.time, "monotonic", lambda: now + 18.0)

        assert page.held_seconds == pytest.approx(3.0)


def test_l7_what_a_dead_worker_had_written_is_not_written_again(tmp_path, monkeypatch):
    """At the end, too, its last words are heard before the next one is started."""
    with handle(tmp_path, SLEEP) as worker:
        worker.publish(encoded())
        os.kill(worker.pid, signal.SIGKILL)
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        for _ in range(2):  # the second one is of nothing that is on its way
            os.write(worker._sender.worker_fds[1], b'{"done": 0, "reached": true}\n')
        monkeypatch.setattr(supervisor, "start", lambda *_: pytest.fail("it was started again"))

    assert (worker.delivered, worker.dropped) == (1, 0)


def test_f1_an_orphaned_file_worker_says_what_it_left(monkeypatch, capsys):
    """It writes for 10 s, no longer, and its log has the number of captures that are missing."""
    monkeypatch.setattr(main, "ORPHAN_SECONDS", 0.5)
    monkeypatch.setattr(views, "make_frame", lambda snapshot: snapshot)
    written = []

    class Sink:
        state = "ready"

        def write(self, frame):
            time.sleep(0.3)
            written.append(frame.step)
            return True

    with contextlib.closing(Sender(slots=6, max_bytes=2**30)) as sender:
        for step in range(50, 350, 50):
            sender.send(encoded(step))
        token, ack, slots = sender.worker_fds
        with contextlib.closing(Pulse()) as page:
            worker = main.Worker(
                receiver=Receiver(token_fd=token, ack_fd=ack, slot_fd=slots),
                parent=-1,
                outlives_parent=True,
                pulse=page,
            )
            worker.run(Sink())

    assert written == [50, 100]
    assert "4 captures that it had handed over are not written." in capsys.readouterr().err


def test_l8_a_fault_of_every_frame_is_logged_once(capsys):
    """A worker's log does not grow with the frames; another fault is there as well."""
    for text in ("one", "one", "another"):
        main.log_error(ValueError(f"{text} in {__name__}"))
    for number in range(2 * main.MAX_LOGGED):
        main.log_error(ValueError(f"{number} in {__name__}"))
    told = capsys.readouterr().err
    main._logged.clear()

    assert told.count(f"ValueError: one in {__name__}\n") == 1
    assert told.count(f"ValueError: another in {__name__}\n") == 1
    assert told.count("ValueError") <= main.MAX_LOGGED


def test_l7_last_words_are_read_from_the_end_alone(tmp_path):
    """However long a log is; and not from what somebody put in its place."""
    log = tmp_path / "worker.log"
    log.write_text("long ago\n" * 10_000 + "at\nthe\nend\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(log)

    assert last_words(log) == "at | the | end"
    log.write_text("x" * 10 * launch.LAST_BYTES)
    assert len(last_words(log)) == launch.LAST_BYTES
    for name in ("pipe", "link", "missing"):
        assert last_words(tmp_path / name) == "(none)"


def test_f10_outputs_that_cannot_be_made_leave_no_worker(tmp_path, monkeypatch):
    """Whatever fails after the first worker was started, it is ended."""
    monkeypatch.setattr("tensorview.outputs.WorkerHandle", lambda **_: worker)
    monkeypatch.setattr("tensorview.outputs.viewer_listens", lambda _: 1 / 0)
    with handle(tmp_path, SLEEP) as worker:
        with pytest.raises(ZeroDivisionError):
            Outputs(
                run_path=tmp_path,
                formats=("vtp",),
                live=LiveTarget(host="localhost", port=1, at_once=False),
                pipeline=None,
                paraview=None,
            )

        assert worker.state == "closed"
