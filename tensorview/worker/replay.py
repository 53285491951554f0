"""Send the captures of a saved run to a live client. Runs under ParaView's own Python."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from typing import Any

from vtkmodules.vtkCommonCore import vtkLogger

from tensorview.errors import RemovedStepError
from tensorview.run import Run
from tensorview.worker.datasets import read_frame
from tensorview.worker.sinks.live import LiveSink

WAIT_SECONDS = 0.2
SETTLE_SECONDS = 1.5
"""A client that has just connected asks for its channels at the next frame it sees."""


def main(options: dict[str, Any]) -> int:
    """Wait for the viewer, send every capture in its own time, and end the connection."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ParaView's own prints a stack trace
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)  # its warnings are none for a user
    run = Run.open(options["run_dir"])
    steps = run.steps()
    sink = LiveSink(host=options["host"], port=options["port"], script=options["script"])
    with contextlib.closing(sink):
        first = read_frame(run, steps[0])
        sink.write(first)
        if sink.state != "connected":
            print(
                f"Waiting for a viewer at {options['host']}:{options['port']} "
                f"(in ParaView: Catalyst > Connect). Ctrl-C gives up.",
                file=sys.__stdout__,  # pvpython's own ignores a request to flush
                flush=True,
            )
        while sink.state != "connected":
            time.sleep(WAIT_SECONDS)
            sink.write(first)
        settled = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < settled:
            time.sleep(WAIT_SECONDS)
            sink.write(first)
        reached = 1
        for step in steps[1:]:
            due = time.monotonic() + options["seconds"]
            with contextlib.suppress(RemovedStepError):  # the run is still being written
                reached += sink.write(read_frame(run, step))
            time.sleep(max(0.0, due - time.monotonic()))
    print(f"{reached} of {len(steps)} captures reached the viewer.", flush=True)
    return 0
