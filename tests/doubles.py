"""Stand-ins for what tensorview meets in the world: viewers of every temper."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from tensorview.client.paraview import find_paraview
from tensorview.run import Run
from tensorview.supervisor import BOOTSTRAP, worker_environment

POLL_SECONDS = 0.02


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition, *, seconds, what="the condition"):
    """Wait for *condition*; fail the test with *what* when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(POLL_SECONDS)


class Viewer:
    """A real headless ParaView client that records what it receives. A context manager."""

    def __init__(self, folder: Path, *, port: int) -> None:
        self.port = port
        self.run_dir = folder / f"received-{time.monotonic_ns()}"
        options = {"port": port, "run_dir": str(self.run_dir), "idle_seconds": 60}
        self.process = subprocess.Popen(
            [find_paraview().pvpython, BOOTSTRAP, "client.headless", json.dumps(options)],
            env=worker_environment(os.environ, foreign_python=True),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(self.process.stdout)

    def wait_listening(self) -> None:
        """Return once it listens."""
        wait_until(
            lambda: any("listening" in x for x in self.lines) or self.process.poll() is not None,
            seconds=30,
            what="a listener",
        )
        assert self.process.poll() is None, "".join(self.lines)

    def steps(self) -> list[int]:
        """Return the steps that it recorded so far."""
        return [json.loads(line)["step"] for line in list(self.lines) if line.startswith('{"step"')]

    def run(self) -> Run:
        """Open what it recorded."""
        return Run.open(self.run_dir)

    def freeze(self) -> None:
        """Stop it, as a debugger or a hung window would."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Viewer:
        self.wait_listening()
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.thaw()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(5)
        self.process.stdout.close()


class SilentListener:
    """Accepts connections and never says a word. A context manager."""

    def __init__(self, *, port: int) -> None:
        self._server = socket.create_server(("127.0.0.1", port))
        self._server.settimeout(0.1)
        self.accepted: list[socket.socket] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                self.accepted.append(self._server.accept()[0])

    def __enter__(self) -> SilentListener:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()
        for connection in [*self.accepted, self._server]:
            connection.close()
