"""Weigh what a watched training process holds more than an unwatched one.

Anonymous memory alone: shared memory, through which snapshots go, has a bound of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.speed.client import Client
from benchmarks.speed.rows import Row, main
from benchmarks.speed.workloads import lenet

MEBIBYTE = 2**20


def measure(*, quick: bool) -> Iterator[Row]:
    """Measure row 14: LeNet-5, every step captured, files and live, all views."""
    rounds, steps = (1, 4) if quick else (3, 200)
    with tempfile.TemporaryDirectory() as name, Client() as client:
        pairs = [
            (train(steps, port=client.port, folder=Path(name) / str(number)), train(steps))
            for number in range(rounds)
        ]
    added = statistics.median(with_us["bytes"] - alone["bytes"] for with_us, alone in pairs)
    snapshot = pairs[0][0]["snapshot"]
    yield Row(
        number="14",
        work="LeNet-5, every=1, files and live: anonymous memory added to the training process, "
        "less two snapshots",
        value=(added - 2 * snapshot) / MEBIBYTE,
        unit="MiB",
        target=64.0,
        figures={
            "added [MiB]": added / MEBIBYTE,
            "one snapshot [MiB]": snapshot / MEBIBYTE,
            "the training alone [MiB]": pairs[0][1]["bytes"] / MEBIBYTE,
        },
    )


def train(steps: int, *, port: int = 0, folder: Path | None = None) -> dict[str, int]:
    """Train in a process of its own, watched if there is a folder; return what it held."""
    command = [sys.executable, "-m", "benchmarks.speed.memory", "--train", str(steps)]
    command += ["--port", str(port), "--run-dir", str(folder)] if folder else []
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    return json.loads(output.stdout.splitlines()[-1])


def train_here(steps: int, *, port: int, run_dir: str) -> None:
    """Train, and print anonymous bytes held and bytes of a snapshot."""
    training = lenet()
    watcher = None
    if run_dir:
        import tensorview  # noqa: PLC0415  # what it loads counts

        watcher = tensorview.watch(
            training.model, training.optimizer, every=1, run_dir=run_dir, live=f"localhost:{port}"
        )
    training.seconds(steps)
    snapshot = 0
    held = anonymous_bytes()
    if watcher is not None:
        from tensorview.encoding import EncodedSnapshot  # noqa: PLC0415

        snapshot = EncodedSnapshot(watcher.snapshot()).nbytes
        watcher.close()
    print(json.dumps({"bytes": held, "snapshot": snapshot}))


def anonymous_bytes() -> int:
    """Resident memory of this process that no file and no other process has a part in."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status does not tell RssAnon")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--train", type=int)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--run-dir", default="")
    own, _ = parser.parse_known_args()
    if own.train:
        train_here(own.train, port=own.port, run_dir=own.run_dir)
    else:
        main(measure)
