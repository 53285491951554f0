"""`tensorview replay` as it looks in a terminal."""

import os
import signal
import subprocess
import sys

import pytest

import tensorview
from tests.doubles import free_port
from tests.networks import make_training, train_steps


@pytest.mark.paraview
@pytest.mark.timeout(120)
def test_ctrl_c_ends_a_replay_without_a_word(tmp_path):
    """ParaView's own handler would print a stack trace, and its loader warnings."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=1, run_dir=tmp_path / "run", live=False):
        train_steps(model, optimizer, 2)
    port = free_port()
    command = [sys.executable, "-m", "tensorview", "replay", tmp_path / "run"]
    with subprocess.Popen(
        [*command, "--to", f"localhost:{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509  # no threads here
    ) as process:
        first = process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stdout.read()

    assert first == (
        f"Waiting for a viewer at localhost:{port} (in ParaView: Catalyst > Connect). Ctrl-C "
        f"gives up.\n"
    )
    assert (process.returncode, rest) == (130, "")
