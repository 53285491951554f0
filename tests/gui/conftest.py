"""Trainings beside the window."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

TRAINING = Path(__file__).parent / "training.py"


@contextlib.contextmanager
def trainings(folder):
    """Yield what starts trainings: ``start(name, port=..., steps=..., every=...)``."""
    with contextlib.ExitStack() as ends:

        def start(name, *, port, steps=100_000, every=10):
            log = ends.enter_context((folder / f"{name}.log").open("wb"))
            command = [sys.executable, TRAINING, folder / name, port, steps, every]
            process = subprocess.Popen(
                list(map(str, command)), stdout=log, stderr=subprocess.STDOUT
            )
            ends.callback(process.wait)
            ends.callback(process.kill)
            return process

        yield start


@pytest.fixture
def train(tmp_path):
    """Start trainings in the background, in the folder of the test."""
    with trainings(tmp_path) as start:
        yield start
