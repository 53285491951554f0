"""Long runs: what the last of 10,000 captures costs against an early one, in time, memory, disk."""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F  # noqa: N812

import tensorview
from benchmarks.speed.rows import Row, main, ratio

BATCH = 32
ROUND = 10
SETTLED = 2000
"""Captures after which memory is to be flat."""
AHEAD = 20
"""Captures that the file worker, which is slower, may be behind: else it would hold us up."""
HANG_SECONDS = 120.0


class Net(nn.Module):
    """Three layers for images of 8 x 8: small, so that many captures can be had."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 8, 3)
        self.fc = nn.Linear(72, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From images ``(N, 1, 8, 8)`` to scores ``(N, 10)``."""
        x = F.max_pool2d(F.relu(self.conv1(images)), 2, padding=1)
        return self.fc(F.relu(self.conv2(x)).flatten(1))


class Training:
    """A training on handwritten digits, each step captured, all views written to files.

    Args:
        run_dir: of its run.
    """

    def __init__(self, run_dir: Path) -> None:
        digits = load_digits()
        self._images = torch.tensor(digits.images / 16.0, dtype=torch.float32)[:, None]
        self._labels = torch.tensor(digits.target)
        torch.manual_seed(0)
        self._model = Net()
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.01, momentum=0.9)
        self.run_dir = run_dir
        self.watcher = tensorview.watch(
            self._model, self._optimizer, every=1, run_dir=run_dir, live=False, strict=True
        )
        self.worker = self.watcher._outputs.workers["files"].pid  # noqa: SLF001  # nobody else asks
        self.captures = 0

    def go_on(self, count: int) -> tuple[float, float, float]:
        """Train on for *count* captures, until their files are there.

        Returns:
            Of one capture: seconds of wall time in the training process that are ours, seconds of
            CPU time in the training process, all of it, and in the file worker.
        """
        before = self._spent()
        for _ in range(count):
            chosen = torch.randint(len(self._images), (BATCH,))
            loss = F.cross_entropy(self._model(self._images[chosen]), self._labels[chosen])
            self._optimizer.zero_grad()
            loss.backward()
            self.watcher.log(loss=loss)
            self._optimizer.step()
            self.captures += 1
            self._wait(behind=AHEAD)
        self._wait(behind=0)
        ours, process, worker = (
            (b - a) / count for a, b in zip(before, self._spent(), strict=True)
        )
        return ours, process, worker

    def _wait(self, *, behind: int) -> None:
        deadline = time.monotonic() + HANG_SECONDS
        while self.captures - self.watcher.status().sinks["files"].delivered > behind:
            if time.monotonic() > deadline:
                raise TimeoutError("the file worker does not keep up")
            time.sleep(0.002)

    def _spent(self) -> tuple[float, float, float]:
        ours = self.watcher._guard.seconds  # noqa: SLF001  # status() gives the share alone
        return ours, time.process_time(), _cpu_seconds(self.worker)

    def bytes_on_disk(self) -> int:
        """What the files of the last capture take."""
        return sum(file.stat().st_size for file in self.run_dir.glob(f"*/{self.captures:08d}.vtp"))


def _cpu_seconds(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def anonymous_mebibytes(pid: int) -> float:
    """Memory of a process that no file stands behind, shared memory left out."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith("RssAnon:"))
    return int(kibibytes) / 1024


def measure(*, quick: bool) -> Iterator[Row]:
    """Compare the last hundred captures of a long run with the second hundred of a new one."""
    captures, block = (60, 20) if quick else (10_000, 100)
    settled = min(SETTLED, captures // 2)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as watched:
        old = Training(Path(folder) / "old")
        watched.callback(old.watcher.close)
        disk, memory = {}, {}
        for stop in sorted({block, 1000, settled, captures - block}):
            if old.captures < stop < captures:
                old.go_on(stop - old.captures)
                disk[stop] = old.bytes_on_disk() / 1024
                memory[stop] = anonymous_mebibytes(os.getpid()), anonymous_mebibytes(old.worker)
        young = Training(Path(folder) / "young")
        watched.callback(young.watcher.close)
        young.go_on(block)
        late, early = [], []
        for _ in range(block // ROUND):
            late.append(old.go_on(ROUND))
            early.append(young.go_on(ROUND))
        disk[old.captures] = old.bytes_on_disk() / 1024
    spent = {
        "our part of the training process": 0,
        "CPU time of the training process": 1,
        "CPU time of the file worker": 2,
    }
    for what, index in spent.items():
        last, second = ([seconds[index] for seconds in each] for each in (late, early))
        yield Row(
            number="13",
            work=f"last {block} of {captures:,} captures against the second {block}: {what}",
            value=ratio(last, second),
            unit="x",
            target=1.1,
            figures={
                f"last {block}, a capture [ms]": 1e3 * statistics.mean(last),
                f"second {block} [ms]": 1e3 * statistics.mean(second),
            },
        )
    end = captures - block
    for index, process in enumerate(("training process", "file worker")):
        yield Row(
            number="13",
            work=f"anonymous memory after {end:,} captures against {settled:,}: {process}",
            value=memory[end][index] / memory[settled][index],
            unit="x",
            target=1.1,
            figures={f"after {stop:,} [MiB]": found[index] for stop, found in memory.items()},
        )
    early_stop = min(1000, settled)
    yield Row(
        number="13",
        work=f"files of capture {captures:,} against capture {early_stop:,}: size",
        value=disk[captures] / disk[early_stop],
        unit="x",
        target=1.1,
        figures={f"at {stop:,} [KiB]": found for stop, found in disk.items()},
    )


if __name__ == "__main__":
    main(measure)
