"""Measure what a training pays for being watched, and what TensorBoard and wandb take for less.

One training step in turn with and without; every contestant trains a model of its own.
"""

import contextlib
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

import tensorview
from benchmarks.speed.rows import Row, alternate, main, ratio
from benchmarks.speed.trainings import Training, lenet, resnet, viewer

MICROSECONDS = 1e6
MILLISECONDS = 1e3


def measure(*, quick: bool) -> Iterator[Row]:
    """Measure rows 1 to 5."""
    logging.getLogger("tensorview").setLevel(logging.ERROR)
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with viewer(folder) as port:
            yield from every_fifty(
                lenet, port=port, folder=folder, quick=quick, number="1", limit=1.02, steps=150
            )
            torch.set_num_threads(cores)
            yield from every_fifty(
                lenet,
                port=port,
                folder=folder,
                quick=quick,
                number=f"1, {cores} threads",
                limit=1.02,
                steps=150,
            )
            torch.set_num_threads(1)
            yield from against_peers(port=port, folder=folder, quick=quick)
            yield from every_fifty(
                resnet, port=port, folder=folder, quick=quick, number="4", limit=1.01, steps=50
            )
    yield idle_hook(quick=quick)


def every_fifty(
    make, *, port: int, folder: Path, quick: bool, number: str, limit: float, steps: int
) -> Iterator[Row]:
    """Compare blocks of steps, some of them captured, with blocks of a training without us.

    A capture lies half a period before its block ends, so that what the workers do with it falls
    into the same block.
    """
    watched, alone = make(), make()
    every = 2 if quick else 50
    steps = 2 if quick else steps
    with tensorview.watch(
        watched.model,
        watched.optimizer,
        every=every,
        run_dir=folder / f"{number}-run",
        live=f"localhost:{port}",
    ) as watcher:
        watched.seconds(every // 2)
        with_us, without = alternate(
            lambda: watched.seconds(steps),
            lambda: alone.seconds(steps),
            rounds=2 if quick else 6,
        )
        cost = watcher.status().cost
    yield Row(
        number=number,
        work=f"{type(alone.model).__name__}, every={every}, files and live: step with / without",
        value=ratio(with_us, without),
        unit="x",
        target=limit,
        figures={
            "with [ms]": statistics.median(with_us) * MILLISECONDS,
            "without [ms]": statistics.median(without) * MILLISECONDS,
            "own account [%]": 100 * cost,
        },
    )


def against_peers(*, port: int, folder: Path, quick: bool) -> Iterator[Row]:
    """Compare what one captured step takes longer: ours, TensorBoard's and wandb's."""
    steps = 2 if quick else 20
    alone, watched, boarded, tracked = lenet(), lenet(), lenet(), lenet()
    with contextlib.ExitStack() as stack:
        board = stack.enter_context(tensorboard(boarded, folder / "tensorboard"))
        track = stack.enter_context(wandb(tracked, folder / "wandb"))
        watcher = stack.enter_context(
            tensorview.watch(
                watched.model,
                watched.optimizer,
                every=1,
                run_dir=folder / "run",
                live=f"localhost:{port}",
            )
        )
        plain, ours, theirs, tracks = alternate(
            lambda: alone.seconds(steps),
            lambda: watched.seconds(steps),
            lambda: board(steps),
            lambda: track(steps),
            rounds=2 if quick else 12,
        )
        status = watcher.status()
    extra, board_extra, wandb_extra = (
        [with_it - without for with_it, without in zip(seconds, plain, strict=True)]
        for seconds in (ours, theirs, tracks)
    )
    figures = {
        "ours [ms]": statistics.median(extra) * MILLISECONDS,
        "step alone [ms]": statistics.median(plain) * MILLISECONDS,
    }
    dropped = {f"{name} dropped": float(sink.dropped) for name, sink in status.sinks.items()}
    floor = f"the probe's own pass: {probe_seconds(alone) * MILLISECONDS:.1f} ms"
    yield Row(
        number="2",
        work="LeNet-5, every=1, all views, files and live: extra time a captured step / "
        "TensorBoard's histograms of weights, gradients and activations",
        value=ratio(extra, board_extra),
        unit="x",
        target=0.2,
        figures=figures
        | {"TensorBoard [ms]": statistics.median(board_extra) * MILLISECONDS}
        | dropped,
        floor=floor,
    )
    yield Row(
        number="3",
        work='the same / wandb.watch(log="all"), which has no activations',
        value=ratio(extra, wandb_extra),
        unit="x",
        target=0.5,
        figures=figures | {"wandb [ms]": statistics.median(wandb_extra) * MILLISECONDS},
        floor=floor,
    )


def probe_seconds(training: Training, *, samples: int = 64) -> float:
    """Time the model alone on as many samples as the probe has."""
    images = training.images[:samples]
    with torch.no_grad():
        (seconds,) = alternate(lambda: void(training.model(images)), rounds=20)
    return statistics.median(seconds)


def void(_: object) -> None:
    """Let a result go, so that the call is timed as a whole."""


@contextlib.contextmanager
def tensorboard(training: Training, folder: Path):
    """Yield a function that trains with histograms of all a layer has, at each step."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # seconds

    layers = {
        name: module for name, module in training.model.named_modules() if hasattr(module, "weight")
    }
    seen = {}
    hooks = [
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.__setitem__(name, output.detach())
        )
        for name, module in layers.items()
    ]
    count = 0

    def train(steps: int) -> float:
        nonlocal count
        started = time.perf_counter()
        for _ in range(steps):
            training.step()
            for name, module in layers.items():
                writer.add_histogram(f"{name}/weight", module.weight.detach(), count)
                writer.add_histogram(f"{name}/gradient", module.weight.grad, count)
                writer.add_histogram(f"{name}/activation", seen[name], count)
            count += 1
        return (time.perf_counter() - started) / steps

    with SummaryWriter(str(folder)) as writer:
        yield train
    for hook in hooks:
        hook.remove()


@contextlib.contextmanager
def wandb(training: Training, folder: Path):
    """Yield a function that trains under ``wandb.watch(log="all")``, offline, at each step."""
    import wandb as peer  # noqa: PLC0415  # seconds

    folder.mkdir()
    os.environ |= {
        "WANDB_SILENT": "true",
        "WANDB_DIR": str(folder),
        "WANDB_DATA_DIR": str(folder),
        "WANDB_CACHE_DIR": str(folder),
        "WANDB_CONFIG_DIR": str(folder),
    }
    with peer.init(mode="offline", dir=str(folder), project="speed") as run:
        run.watch(training.model, log="all", log_freq=1)

        def train(steps: int) -> float:
            started = time.perf_counter()
            for _ in range(steps):
                training.step()
                run.log({})
            return (time.perf_counter() - started) / steps

        yield train


def idle_hook(*, quick: bool) -> Row:
    """Time optimizer steps that are not captured, against those of an unwatched optimizer."""
    calls = 100 if quick else 5000

    def optimizer():
        parameter = torch.nn.Linear(1, 1)
        found = torch.optim.SGD(parameter.parameters(), lr=0.0)
        parameter(torch.zeros(1, 1)).sum().backward()
        return parameter, found

    (watched, ours), (_, theirs) = optimizer(), optimizer()

    def steps(stepped):
        started = time.perf_counter()
        for _ in range(calls):
            stepped.step()
        return (time.perf_counter() - started) / calls

    with (
        tempfile.TemporaryDirectory() as folder,
        tensorview.watch(
            watched,
            ours,
            every=10**9,
            probe=torch.zeros(1, 1),
            run_dir=Path(folder) / "run",
            live="auto",
        ),
    ):
        ours.step()  # the first one is captured
        with_us, without = alternate(lambda: steps(ours), lambda: steps(theirs), rounds=7)
    return Row(
        number="5",
        work="an optimizer step without a capture: what our hooks add",
        value=(statistics.median(with_us) - statistics.median(without)) * MICROSECONDS,
        unit="us",
        target=20.0,
        figures={
            "with [us]": statistics.median(with_us) * MICROSECONDS,
            "without [us]": statistics.median(without) * MICROSECONDS,
        },
    )


if __name__ == "__main__":
    main(measure)
