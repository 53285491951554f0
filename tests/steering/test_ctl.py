"""`tensorview ctl` on a training in a process of its own."""

import contextlib
import re
import signal
import subprocess
import sys
import time

import pytest

from tensorview import steering
from tensorview.run import Run
from tests.doubles import wait_until
from tests.steering.helpers import lines, messages

TRAINING = """
import sys, time
import tensorview
from tests.networks import *
model, optimizer = make_training()
with tensorview.watch(
    model, optimizer, every=10**9, run_dir=sys.argv[1], live=False, allow=sys.argv[2].split(",")
) as watcher:
    print("ready", flush=True)
    while not watcher.should_stop:
        train_steps(model, optimizer, 1)
        time.sleep(0.02)
"""


@contextlib.contextmanager
def training(folder, *, allow=steering.PERMISSIONS):
    """Yield a training's process and its run directory; end it."""
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(folder / "run"), ",".join(allow)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process, folder / "run"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run of a training that allows everything."""
    with training(tmp_path_factory.mktemp("ctl")) as (_process, path):
        yield path


def ctl(run, *arguments):
    """Return exit code and what is printed; errors come last."""
    done = subprocess.run(
        [sys.executable, "-m", "tensorview", "ctl", str(run), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


APPLIED = [
    (["capture"], r"Step \d+ is captured\."),
    (["every", "100000"], r"Every 100000 steps are captured from now on\."),
    (["every", "--factor", "2"], r"Every 200000 steps are captured from now on\."),
    (["focus", "conv1"], r"conv1 is in focus\. Step \d+ is captured\."),
    (["focus"], r"No layer is in focus\. Step \d+ is captured\."),
    (["select", "conv2", "3", "5"], r"Selected in conv2: 3, 5\."),
    (["select", "conv2"], r"Nothing of conv2 is selected\."),
    (["learning-rate", "1e-4"], r"The learning rate is 0\.0001; a scheduler may overwrite it\."),
    (["learning-rate", "--factor", "0.5"], r"The learning rate is 0\.5 times what it was; .*"),
    (["pause", "--at-step", "1000000"], r"Training will pause after step 1000000, .* 300 s\."),
    (["pause", "--seconds", "60"], r"Training is paused after step \d+, for at most 60 s\."),
    (["resume"], r"Training goes on after step \d+\."),
]


def test_every_command_is_obeyed_and_its_sentence_printed(run):
    """Exit code 0, and the answer is in the run's file too, with its origin."""
    for arguments, sentence in APPLIED:
        code, text = ctl(run, *arguments)

        assert code == 0, text
        assert re.fullmatch(sentence, text), text
        assert lines(run)[-1]["origin"] == "ctl"
        assert text in messages(run, "applied")


REFUSED = [
    (["focus", "conv9"], r"There is no watched layer 'conv9'\. Did you mean 'conv2' or 'conv1'\?"),
    (["resume"], r"Training is not paused\."),
    (["prune", "fc"], r"Cannot prune layer 'fc': no other layer reads its filters\."),
    (["prune", "conv1", "0", "9"], r"Layer 'conv1' has 4 filters, 0 to 3: there is no 9\."),
    (
        ["every", "0"],
        r"tensorview: every cannot take steps=0: expected a whole number, 1 or more\.",
    ),
    (["every"], r"tensorview: every takes one argument, steps or factor; 0 were given\."),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED)
def test_what_is_refused_is_exit_code_1(run, arguments, sentence):
    """And one sentence says why."""
    code, text = ctl(run, *arguments)

    assert code == 1
    assert re.fullmatch(sentence, text), text


def test_status_shows_what_happened(run):
    """Who listens, what it allows, and the last answers."""
    ctl(run, "capture")
    code, text = ctl(run, "status")

    assert code == 0
    assert re.search(
        r"^step +\d+  applied    capture from ctl: Step \d+ is captured\.$", text, re.MULTILINE
    )


def test_stop_ends_a_loop_that_reads_it(tmp_path):
    """The training's own `while not watcher.should_stop` is over; then nobody listens."""
    with training(tmp_path) as (process, run):
        code, text = ctl(run, "stop")
        assert (code, text) == (
            0,
            "watcher.should_stop is set: training ends where its loop reads it.",
        )
        assert process.wait(30) == 0
    code, text = ctl(run, "capture")
    over = f"tensorview: Cannot steer run '{run}': its training is over, or watched no more."
    assert (code, text) == (1, over)
    assert "closed" in ctl(run, "status")[1].splitlines()[-1]


def test_a_killed_training_is_found_out(tmp_path):
    """It could not say that it is over; its process is gone."""
    with training(tmp_path) as (process, run):
        process.kill()
        process.wait()
        code, text = ctl(run, "capture")
        said = ctl(run, "status")[1].splitlines()

    assert said[-1] == f"Its training, process {process.pid}, has ended: nobody listens."
    gone = f"tensorview: Cannot steer run '{run}': its training, process {process.pid}, has ended."
    assert (code, text) == (1, gone)


def test_a_training_between_two_steps_answers_later(tmp_path):
    """The client does not wait for ever, and the command stays in line."""
    with training(tmp_path) as (process, run):
        process.send_signal(signal.SIGSTOP)
        code, text = ctl(run, "capture", "--wait", "0.5")
        assert code == 1
        assert text == (
            f"No answer within 0.5 s: the training has not reached its next step. The command "
            f"stays in line; 'tensorview ctl {run} status' shows what becomes of it."
        )
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: messages(run, "applied"), seconds=30)


def test_what_is_not_allowed_is_refused_by_name(tmp_path):
    """The sentence says what the training's watch would need."""
    with training(tmp_path, allow=["capture"]) as (_process, run):
        code, text = ctl(run, "pause")

    assert (code, text) == (
        1,
        "'pause' is not allowed: watch() would need allow=('capture', 'pause').",
    )


def test_where_nobody_ever_listened_is_one_sentence(tmp_path):
    """No run, no training, no wait."""
    started = time.monotonic()
    assert ctl(tmp_path, "capture") == (
        1,
        f"tensorview: Cannot open run '{tmp_path}': there is no run.json in it.",
    )
    path = Run.create(tmp_path / "run", settings={"name": "old"}).path
    assert ctl(path, "capture") == (
        1,
        f"tensorview: Cannot steer run '{path}': its training does not listen to commands.",
    )
    assert ctl(path, "status") == (0, "No training listens to commands.")
    assert time.monotonic() - started < 30
    assert not (path / "commands.jsonl").exists()


def test_clients_need_nothing_but_pythons_own_library():
    """`ctl` and the window run under any Python 3.10, ParaView's too."""
    script = (
        "import sys, tensorview.steering.ctl; "
        "print([m for m in ('numpy', 'torch', 'vtkmodules') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )

    assert done.stdout.strip() == "[]"
