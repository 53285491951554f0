"""`tensorview replay`: send a saved run over the live sink, as if it were training now."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

from tensorview.client.paraview import NO_MPI, find_paraview
from tensorview.errors import ConfigurationError, RunError
from tensorview.launch import BOOTSTRAP, worker_environment
from tensorview.outputs import catalyst_script
from tensorview.run import Run
from tensorview.settings import parse_live

if TYPE_CHECKING:
    from pathlib import Path


def replay(run_dir: str | Path, *, to: str, rate: float) -> int:
    """Re-stream every capture of a run to the viewer that listens at *to*.

    Args:
        run_dir: a run directory.
        to: ``host:port`` of the viewer; waits until one is there.
        rate: captures a second.

    Returns:
        Exit code of the worker that sends.

    Raises:
        RunError: no run, or nothing captured in it.
        ConfigurationError: *to* or *rate* cannot be used.
        ParaViewError: no usable ParaView.
    """
    run = Run.open(run_dir)
    if not run.steps():
        raise RunError(f"Cannot replay {str(run.path)!r}: it holds no capture yet.")
    target = parse_live(to, wanted=True)
    if target is None or not 0 < rate <= 1000:  # faster than any screen
        raise ConfigurationError(
            f"rate={rate:g} cannot be used: expected captures a second, above 0."
        )
    options = {
        "run_dir": str(run.path),
        "host": target.host,
        "port": target.port,
        "script": str(catalyst_script("live.py")),
        "seconds": 1.0 / rate,
    }
    pvpython = str(find_paraview().pvpython)
    command = [pvpython, NO_MPI, str(BOOTSTRAP), "worker.replay", json.dumps(options)]
    environment = worker_environment(os.environ, foreign_python=True)
    return subprocess.run(command, env=environment, check=False).returncode
