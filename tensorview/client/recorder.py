"""Starting a headless ParaView client that records what it receives live, and ending it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

from tensorview.client.paraview import NO_MPI, find_paraview
from tensorview.errors import ParaViewError
from tensorview.launch import BOOTSTRAP, worker_environment

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.05


class Recorder:
    """A ParaView client without a window, in a process of its own. A context manager.

    Args:
        run_dir: a run directory that it makes; its log stands beside, as ``<run_dir>.log``.
        port: it listens on.
        idle_seconds: it ends by itself after so long without a frame.

    Raises:
        ParaViewError: no usable ParaView, or it cannot listen.
    """

    _program: tuple[str | Path, ...] = BOOTSTRAP, "client.headless"

    def __init__(self, run_dir: Path, *, port: int, idle_seconds: float = 120.0) -> None:
        self.run_dir = run_dir
        self.port = port
        self._log = run_dir.with_name(f"{run_dir.name}.log")
        options = {"port": port, "run_dir": str(run_dir), "idle_seconds": idle_seconds}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [find_paraview().pvpython, NO_MPI, *self._program, json.dumps(options)],
                env=worker_environment(os.environ, foreign_python=True),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_listening(self) -> None:
        """Return once a training can connect.

        Raises:
            ParaViewError: it ended before, with its last words.
        """
        deadline = time.monotonic() + START_SECONDS
        while not any("listening" in message for message in self._messages()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                last = (self._log.read_text(errors="replace").splitlines() or ["nothing"])[-1]
                raise ParaViewError(f"The ParaView client does not listen. Its last words: {last}")
            time.sleep(POLL_SECONDS)

    def steps(self) -> list[int]:
        """Return the steps whose frames it has recorded, in order."""
        return [message["step"] for message in self._messages() if "step" in message]

    def _messages(self) -> list[dict[str, int]]:
        # ParaView's own messages stand between its lines of JSON.
        lines = self._log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def stop(self) -> None:
        """End it; what it has recorded stays."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Recorder:  # noqa: PYI034  # typing.Self needs Python 3.11
        """Wait until it listens."""
        self.wait_listening()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()
