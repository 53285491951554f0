"""A live client in a process of its own, which tells when which frame came."""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tensorview.client.paraview import find_paraview
from tensorview.launch import BOOTSTRAP, worker_environment

HERE = Path(__file__).parent
WAIT_SECONDS = 60.0
POLL_SECONDS = 0.002
PUBLISH_EVERY_SECONDS = 0.03
"""More often than frames can arrive."""


class Client:
    """A headless client that keeps account of what has come. A context manager."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> "Client":  # noqa: PYI034  # typing.Self needs Python 3.11
        """Wait until it listens."""
        self._log = Path(self._ends.enter_context(tempfile.TemporaryDirectory())) / "client.log"
        output = self._ends.enter_context(self._log.open("wb"))
        process = in_paraview("live_client.py", BOOTSTRAP, self.port, output=output)
        self._process = self._ends.enter_context(process)
        self._ends.callback(self._process.kill)
        deadline = time.monotonic() + WAIT_SECONDS
        while not self._said() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._ends.close()

    def step_aside(self) -> None:
        """From now on take only what the others leave, as if it were on another machine."""
        os.setpriority(os.PRIO_PROCESS, self._process.pid, 19)
        autogroup = Path(f"/proc/{self._process.pid}/autogroup")
        if autogroup.exists():  # niceness counts within a session only
            autogroup.write_text("19")

    def frames_after(self, moment: float) -> list[dict]:
        """Return step, capture, largest activation and time of each frame that came later."""
        return [found for found in self._said() if found.get("at", 0.0) > moment]

    def _said(self) -> list[dict]:
        # ParaView's own messages stand between its lines.
        lines = self._log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def in_paraview(script: str, *arguments: object, output=subprocess.DEVNULL) -> subprocess.Popen:
    """Start one of the scripts beside this file in ParaView's Python."""
    return subprocess.Popen(
        [find_paraview().pvpython, HERE / script, *map(str, arguments)],
        start_new_session=True,  # as another program: no part of the training's share
        env=worker_environment(os.environ, foreign_python=True),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )


def until_connected(publish, client: Client) -> None:
    """Publish until frames arrive."""
    deadline = time.monotonic() + WAIT_SECONDS
    while len(client.frames_after(0.0)) < 3:
        if time.monotonic() > deadline:
            raise TimeoutError("no frame has come to the client")
        publish()
        time.sleep(PUBLISH_EVERY_SECONDS)
