"""Stand-ins for what tensorview meets in the world: viewers of every temper, disks that fail."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import random
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorview.client.recorder import Recorder
from tensorview.launch import BOOTSTRAP
from tensorview.outputs import Outputs, find_live
from tensorview.processes import signs_of
from tensorview.settings import DEFAULT_PORT, LiveTarget

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = bool(os.environ.get("TENSORVIEW_LONG_TESTS"))
"""Whether tests that have a long form are to take it."""
POLL_SECONDS = 0.02


def is_running(pid: int) -> bool:
    """Say whether there is such a process that has not ended."""
    signs = signs_of(pid)
    return signs is not None and signs.state not in "ZX"


def open_files(pid: int | None = None) -> int:
    """Count what a process holds open, of this one where *pid* is None."""
    return sum(1 for _ in Path(f"/proc/{pid or 'self'}/fd").iterdir())


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition, *, seconds, what="the condition"):
    """Wait for *condition*; fail the test with *what* (a text, or what makes it) in the end.

    Asking takes a fifth of a core at most: what is waited for needs it.
    """
    deadline = time.monotonic() + seconds
    asked = time.thread_time()
    while not condition():
        text = "" if time.monotonic() < deadline else what() if callable(what) else what
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {text}"
        time.sleep(max(POLL_SECONDS, 4 * (time.thread_time() - asked)))
        asked = time.thread_time()


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


class PausingViewer(Viewer):
    """One whose user presses Pause and Continue in ParaView's menu Catalyst."""

    _program = Path(__file__).with_name("live") / "pausing_in_paraview.py", BOOTSTRAP

    def pause(self) -> None:
        """Hold the training's worker, which then waits for us."""
        self.process.send_signal(signal.SIGUSR1)

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGUSR2)


UNUSABLE_PARAVIEWS = {
    "broken": ("echo no Python here >&2; exit 1", "does not run Python scripts"),
    "too old": (
        """echo 'tensorview-probe:{"paraview": [5, 6, 0]}'""",
        "is ParaView 5.6.0: too old",
    ),
    "no Catalyst": (
        """echo 'tensorview-probe:{"paraview": [5, 11, 0], "error": "ImportError: no Catalyst"}'""",
        "cannot be used for Catalyst (ImportError: no Catalyst)",
    ),
}
"""What its ``pvpython`` does when it is asked what it can do, and how that is said."""


def unusable_pvpython(folder: Path, kind: str) -> tuple[str, str]:
    """Return path of a ``pvpython`` of `UNUSABLE_PARAVIEWS`, and how it is said."""
    script, words = UNUSABLE_PARAVIEWS[kind]
    path = folder / "pvpython"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path), words


def crashing_python(folder: Path, how: str) -> tuple[str, ...]:
    """Return the command of an interpreter that says a few words and dies.

    Args:
        folder: where it is put.
        how: it dies, as a line of the shell.
    """
    script = folder / "crashing-python"
    script.write_text(
        f"#!/bin/sh\necho at work\necho for a while\necho something is wrong >&2\n{how}\n"
    )
    script.chmod(0o755)
    return (str(script),)


TEMPERS = ("silent", "closes", "garbage", "drips", "announces 2 GiB", "never accepts")


class Listener:
    """Holds a port as no viewer does. A context manager.

    Args:
        port: to hold.
        temper: one of `TEMPERS`: what it does with a connection.
    """

    def __init__(self, *, port: int, temper: str = "silent") -> None:
        self._server = socket.create_server(("127.0.0.1", port))
        self._server.settimeout(0.1)
        self._temper = temper
        self.accepted: list[socket.socket] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        while not self._stop.is_set() and self._temper != "never accepts":
            with contextlib.suppress(TimeoutError):
                self.accepted.append(self._server.accept()[0])
                self._treat(self.accepted[-1])
            if self._temper == "drips":
                for connection in self.accepted:
                    with contextlib.suppress(OSError):
                        connection.send(b"v")

    def _treat(self, connection: socket.socket) -> None:
        if self._temper == "closes":
            connection.close()
        elif self._temper == "garbage":
            connection.send(random.Random(0).randbytes(4096))
        elif self._temper == "announces 2 GiB":
            connection.send(struct.pack("<i", 2**31 - 1) + b"paraview")

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()
        for connection in [*self.accepted, self._server]:
            connection.close()


class SlowWire:
    """Carries bytes from workers to a viewer and back, and can stop in the middle of a frame.

    A context manager. It accepts connections before, and carries them from then on.

    Args:
        to: port of the viewer.
    """

    def __init__(self, *, to: int) -> None:
        self._to = to
        self._server = socket.socket()
        # So that a worker is held soon: the kernel would take some megabytes from it.
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        self._server.bind(("127.0.0.1", 0))
        self._server.listen()
        self.port = self._server.getsockname()[1]
        self._sockets = [self._server]
        self._threads: list[threading.Thread] = []
        self._left = 0
        self._flows = threading.Event()
        self._flows.set()
        self.held = threading.Event()

    def hold(self, *, after: int) -> None:
        """Stop once *after* more bytes of a worker have passed; ``held`` is set then."""
        self._left = after
        self._flows.clear()

    def let_go(self) -> None:
        """Carry on."""
        self._flows.set()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # shut down at the end
            while True:
                worker, viewer = self._server.accept()[0], socket.socket()
                self._sockets += [worker, viewer]
                if viewer.connect_ex(("127.0.0.1", self._to)):
                    worker.shutdown(socket.SHUT_RDWR)
                else:
                    self._start(self._carry, worker, viewer, self._wait)
                    self._start(self._carry, viewer, worker, lambda _: None)

    def _wait(self, piece: bytes) -> None:
        if not self._flows.is_set():
            self._left -= len(piece)
            if self._left < 0:
                self.held.set()
                self._flows.wait()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket, wait: Callable[[bytes], None]) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(2**14):
                wait(piece)
                target.sendall(piece)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def __enter__(self) -> SlowWire:
        self._start(self._serve)
        return self

    def __exit__(self, *_) -> None:
        self.let_go()
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()


FILE_FAULTS = [
    *itertools.product(
        ("open", "write", "fsync", "replace", "mkdir"), (errno.EIO, errno.ENOSPC, errno.EINTR)
    ),
    ("write", 0),
]
"""Calls and numbers of errors; 0 for a write that writes half, and none too many."""


class FailingFiles:
    """A disk on which one call goes wrong. A context manager, on which `fail` arms it.

    Attributes:
        error: number of the error that comes.
        failed: whether the call that was to fail has been made.
    """

    def __init__(self) -> None:
        self._call, self._left, self.error = "", 0, 0
        self.failed = False
        self._stack = contextlib.ExitStack()

    def fail(self, call: str, *, nth: int, error: int) -> None:
        """Let the *nth* call from now on fail, counted from 0.

        Args:
            call: of `FILE_FAULTS`, as our code makes it, through `pathlib` or `os`. A write that
                fails has written half before, unless it was interrupted.
            nth: which one.
            error: number of the error; 0 lets a write write half, and every one after it, too.
        """
        self._call, self._left, self.error, self.failed = call, nth, error, False

    def heal(self) -> None:
        """Let nothing fail any more."""
        self._call = ""

    def is_due(self, call: str) -> bool:
        """Count a call; say whether it is to go wrong."""
        if call != self._call:
            return False
        self._left -= 1
        due = self._left == -1 or (self.error == 0 and self._left < 0)
        self.failed = self.failed or due
        return due

    def stumble(self) -> None:
        """Raise the error, if there is to be one."""
        if self.error:
            raise OSError(self.error, os.strerror(self.error))

    def __enter__(self) -> FailingFiles:
        for owner, call in ((Path, "replace"), (Path, "mkdir"), (os, "fsync")):
            self._patch(owner, call, self._failing(call, getattr(owner, call)))
        self._patch(Path, "open", self._failing("open", self._open(Path.open)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _patch(self, owner: Any, name: str, value: Any) -> None:
        self._stack.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    def _failing(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def maybe(*arguments: Any, **keywords: Any) -> Any:
            if self.is_due(call):
                self.stumble()
            return real(*arguments, **keywords)

        return maybe

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Path, mode: str = "r", buffering: int = -1, **keywords: Any) -> Any:
            if "b" not in mode or mode == "rb":
                return real(path, mode, buffering, **keywords)
            raw = _FailingFile(path, mode.replace("b", ""), disk=self)
            if buffering == 0:
                return raw
            return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

        return opened


class _FailingFile(io.FileIO):
    """A file on a `FailingFiles`."""

    def __init__(self, path: Path, mode: str, *, disk: FailingFiles) -> None:
        super().__init__(path, mode)
        self._disk = disk

    def write(self, data: Any) -> int:
        if self._disk.is_due("write"):
            if self._disk.error == errno.EINTR:
                self._disk.stumble()
            written = super().write(memoryview(data)[: -(-len(data) // 2)])
            self._disk.stumble()
            return written
        return super().write(data)
