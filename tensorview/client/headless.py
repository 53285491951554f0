"""A live ParaView client without a window: records what it receives as a run directory.

Runs under ParaView's own Python, as ``bootstrap.py client.headless OPTIONS``. It listens as the
ParaView window does, so it records what a person there would be shown.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from tensorview.client.link import Link, numbers
from tensorview.run import Run
from tensorview.worker.frame import Frame
from tensorview.worker.sinks.files import FileSink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vtkmodules.vtkCommonDataModel import vtkDataObject

POLL_SECONDS = 0.01


def main(options: dict[str, Any]) -> int:
    """Listen on ``port``, record into ``run_dir``, and print one JSON line a recorded frame.

    It ends with SIGTERM, or after ``idle_seconds`` without a frame.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    about = {"name": "received live", "port": options["port"]}
    run = Run.create(options["run_dir"], settings=about)
    with contextlib.closing(FileSink(str(run.path), formats=("vtp",))) as sink:
        link = Link.listen(port=options["port"])
        _say(listening=options["port"])
        last = time.monotonic()
        while time.monotonic() - last < options["idle_seconds"]:
            datasets = link.receive()
            if datasets is None:
                time.sleep(POLL_SECONDS)
                continue
            frame = _frame(datasets)
            sink.write(frame)
            _say(step=frame.step, capture=frame.capture)
            last = time.monotonic()
    return 0


def _frame(datasets: Mapping[str, vtkDataObject]) -> Frame:
    (step,), (capture,) = numbers(datasets, "step"), numbers(datasets, "capture")
    return Frame(step=step, capture=capture, datasets=dict(datasets))


def _say(**message: Any) -> None:
    # pvpython's own standard output ignores a request to flush.
    print(json.dumps(message), file=sys.__stdout__, flush=True)
