"""Stand-ins for what tensorview meets in the world: viewers of every temper."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from tensorview.client.recorder import Recorder
from tensorview.outputs import Outputs, find_live
from tensorview.settings import DEFAULT_PORT, LiveTarget

POLL_SECONDS = 0.02


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition, *, seconds, what="the condition"):
    """Wait for *condition*; fail the test with *what* (a text, or what makes it) in the end."""
    deadline = time.monotonic() + seconds
    while not condition():
        text = "" if time.monotonic() < deadline else what() if callable(what) else what
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {text}"
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def virtual_display(*, size=(1280, 960)):
    """A screen that nobody sees: yields its name, for DISPLAY."""
    read, write = os.pipe()
    screen = f"{size[0]}x{size[1]}x24"
    # Without -noreset it begins anew when its only client ends, and one that comes then is refused.
    command = ["Xvfb", "-displayfd", str(write), "-noreset", "-screen", "0", screen]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        os.close(write)
        try:
            with os.fdopen(read) as number:
                yield f":{number.readline().strip()}"
        finally:
            server.terminate()


def open_live(folder, *, port=DEFAULT_PORT, at_once=True, pipeline=None, formats=()):
    """Open outputs with a live sink, as a watcher does."""
    live = LiveTarget(host="localhost", port=port, at_once=at_once)
    return Outputs(
        run_path=folder,
        formats=formats,
        live=live,
        pipeline=pipeline,
        paraview=find_live(live, pipeline=pipeline),
    )


class Viewer(Recorder):
    """A real headless ParaView client that can be frozen and killed."""

    def __init__(self, folder: Path, *, port: int) -> None:
        super().__init__(folder / f"received-{time.monotonic_ns()}", port=port)

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

    def stop(self) -> None:
        """End it, frozen or not."""
        if self.process.poll() is None:
            self.thaw()
        super().stop()


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
