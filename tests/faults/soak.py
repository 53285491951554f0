"""A long training under every fault at once: files and live on, nothing lost that is not counted.

The viewer is killed every 30 s and started again, a worker is killed every 60 s (in a short run,
six times in all), files and live in turn, and the disk is full twice for 10 s, in the midst of
which the file worker is killed. Then the same training runs unwatched.

Usage: python -m tests.faults.soak [--minutes 10]
"""

import argparse
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import tensorview
from tensorview.check import prove
from tensorview.run import Run
from tensorview.slots import MAPPED_SLOTS
from tests.doubles import Viewer, free_port, open_files
from tests.networks import make_training, train_steps

VIEWER_SECONDS, WORKER_SECONDS, FULL_SECONDS = 30.0, 60.0, 10.0
STEP_SECONDS = 0.02
EVERY = 5
SETTLING_SHARE = 0.2
"""Of the time, until memory is to be flat."""
MAX_SLOPE = 1.0
"""MiB a minute."""
FIRST_FRAME_SECONDS = 3.0
"""From a viewer that listens to its first frame."""


def train(run: str, port: str, seconds: str) -> None:
    """Train for so long, watched; say what came of it as one line of JSON."""
    deadline = time.monotonic() + float(seconds)
    memory = []
    model, optimizer = make_training()
    losses = []
    with tensorview.watch(
        model, optimizer, every=EVERY, run_dir=run, live=f"localhost:{port}"
    ) as watcher:
        while time.monotonic() < deadline:
            losses += train_steps(model, optimizer, 1)
            time.sleep(STEP_SECONDS)
            if len(losses) % 50 == 0:
                memory.append((time.monotonic(), anonymous_mib(), open_files()))
    status = watcher.status()
    found = {
        "steps": len(losses),
        "digest": digest(model, losses),
        "captures": status.captures,
        "faults": status.faults,
        "memory": memory,
        "sinks": {
            name: {"delivered": sink.delivered, "dropped": sink.dropped}
            for name, sink in status.sinks.items()
        },
    }
    sys.stdout.write(json.dumps(found))


def digest(model: torch.nn.Module, losses: list[float]) -> str:
    """Return a hash of all that a training leaves behind."""
    found = hashlib.sha256(np.array(losses).tobytes())
    for value in model.state_dict().values():
        found.update(value.numpy().tobytes())
    found.update(torch.get_rng_state().numpy().tobytes())
    return found.hexdigest()


def anonymous_mib() -> float:
    """Return the anonymous memory of this process."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    return 0.0


def worker_of(training: int, sink: str) -> int | None:
    """Return the process id of a training's worker, None where there is none just now."""
    children = Path(f"/proc/{training}/task/{training}/children").read_text().split()
    for child in children:
        with contextlib.suppress(OSError):
            if f'"sink": "{sink}"' in Path(f"/proc/{child}/cmdline").read_text():
                return int(child)
    return None


class Harm:
    """Does what is to go wrong, each at its time.

    Attributes:
        done: how often each fault was done.
        frames: that came to viewers.
        silent: logs of viewers to which none came.
        slowest: seconds that the first frame of a viewer took at most.
    """

    def __init__(self, training: int, folder: Path, *, port: int, seconds: float) -> None:
        self.done = {"viewer killed": 0, "file worker killed": 0, "live worker killed": 0}
        self.done["disk full"] = 0
        self.frames = 0
        self.silent: list[str] = []
        self.slowest = 0.0
        self._waiting_since: float | None = None
        self._training = training
        self._folder = folder
        self._port = port
        self._viewer: Viewer | None = None
        now = time.monotonic()
        self._apart = min(WORKER_SECONDS, seconds / 6)
        self._viewer_at, self._worker_at = now, now + self._apart
        self._full_at = [now + seconds / 3, now + 2 * seconds / 3]
        self._free_at: float | None = None
        self._limited: int | None = None

    def go_on(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if now >= self._viewer_at:
            self._viewer_at = now + VIEWER_SECONDS
            self.end_viewer()
            self._viewer = Viewer(self._folder, port=self._port)
            self._viewer.__enter__()
            if self.done["viewer killed"]:  # else the worker itself is just starting
                self._waiting_since = time.monotonic()
        if self._viewer is not None and self._waiting_since is not None and self._viewer.steps():
            self.slowest = max(self.slowest, time.monotonic() - self._waiting_since)
            self._waiting_since = None
        if now >= self._worker_at:
            full = self._free_at is not None
            files = full or self.done["file worker killed"] < self.done["live worker killed"]
            sink = "files" if files else "live"
            pid = worker_of(self._training, sink)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                self._worker_at = now + self._apart
                self.done["file worker killed" if files else "live worker killed"] += 1
                self._waiting_since = self._waiting_since if files else None
        if self._full_at and now >= self._full_at[0]:
            self._full_at.pop(0)
            self._free_at = now + FULL_SECONDS
            self._worker_at = now + FULL_SECONDS / 3
            self.done["disk full"] += 1
        if self._free_at is not None:
            self._limit(full=now < self._free_at)
            self._free_at = self._free_at if now < self._free_at else None

    def _limit(self, *, full: bool) -> None:
        """Let the file worker, which may be another one by now, write nothing or all."""
        pid = worker_of(self._training, "files")
        if pid is not None and (pid != self._limited or not full):
            self._limited = pid
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (0 if full else hard, hard))

    def end_viewer(self) -> None:
        """Kill the viewer that there is."""
        if self._viewer is not None:
            frames = len(self._viewer.steps())
            self.frames += frames
            if not frames:
                self.silent.append(f"{self._viewer.run_dir.name}.log")
            self._viewer.kill()
            self._viewer.stop()
            self.done["viewer killed"] += 1
            self._viewer = None


def soak(minutes: float, folder: Path) -> bool:
    """Run it; print a table; return whether every promise was kept."""
    seconds, port, path = 60.0 * minutes, free_port(), folder / "run"
    command = [sys.executable, "-m", "tests.faults.soak", "--train", path, port, seconds]
    with (folder / "said").open("w") as said:
        training = subprocess.Popen(list(map(str, command)), stdout=said)
    harm = Harm(training.pid, folder, port=port, seconds=seconds)
    try:
        while training.poll() is None:
            harm.go_on()
            time.sleep(0.1)
    finally:
        training.kill()
        training.wait()
        harm.end_viewer()
    found = json.loads((folder / "said").read_text())
    model, optimizer = make_training()
    same = digest(model, train_steps(model, optimizer, found["steps"])) == found["digest"]
    proof, files = prove(path), found["sinks"]["files"]
    lost = found["captures"] - files["dropped"] - len(Run.open(path).files)
    moments, memory, descriptors = np.array(found["memory"]).T
    late = moments > moments[0] + SETTLING_SHARE * seconds
    slope = 60.0 * np.polyfit(moments[late], memory[late], 1)[0]
    rows = {
        **{name: (count, count > 0) for name, count in harm.done.items()},
        "steps": (found["steps"], True),
        "captures": (found["captures"], True),
        "captures on disk": (len(Run.open(path).files), True),
        "captures counted as dropped": (files["dropped"], True),
        "captures lost beyond those": (lost, lost == 0),
        "damaged files, orphans, wrong lists": (
            len(proof.damaged) + len(proof.orphans) + len(proof.lists),
            proof.whole,
        ),
        "frames at viewers": (harm.frames, harm.frames > 0),
        # The last may just have begun.
        "viewers without a frame": (len(harm.silent), len(harm.silent) <= 1),
        "slowest first frame at a viewer, s": (
            round(harm.slowest, 1),
            harm.slowest <= FIRST_FRAME_SECONDS or minutes < 2,
        ),
        "faults in the training": (found["faults"], found["faults"] == 0),
        "memory, MiB a minute": (round(float(slope), 3), slope <= MAX_SLOPE or minutes < 2),
        "descriptors, last less first": (
            int(descriptors[-1] - descriptors[late][0]),
            descriptors[-1] - descriptors[late][0] <= MAPPED_SLOTS + 3,
        ),
        "training as unwatched, bit for bit": (same, same),
    }
    for name, (value, kept) in rows.items():
        sys.stdout.write(f"{name:40} {value!s:>10} {'' if kept else '  BROKEN'}\n")
    kept = all(kept for _, kept in rows.values())
    if not kept:
        sys.stdout.write(f"Logs are left in {folder}; silent: {', '.join(harm.silent)}\n")
    return kept


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(*options.train)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="tensorview-soak-"))
    if not soak(options.minutes, folder):
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
