"""Measure what a training pays for being watched, and what TensorBoard and wandb take for less.

Steps in turn with and without; every contestant trains a model of its own. Live means a client that
receives what it is sent, in what time the others leave. Training has one thread, so that a core is
left for workers and client; one row gives it all cores.
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
from benchmarks.speed.client import Client, until_connected
from benchmarks.speed.rows import Row, alternate, main, milliseconds, ratio
from benchmarks.speed.workloads import Training, lenet, resnet

MICROSECONDS = 1e6


def measure(*, quick: bool) -> Iterator[Row]:
    """Measure rows 1 to 5."""
    logging.getLogger("tensorview").setLevel(logging.ERROR)
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(1)
    yield now_and_then(lenet, number="1", limit=1.02, steps=150, quick=quick)
    if not quick:
        torch.set_num_threads(cores)
        yield now_and_then(lenet, number=f"1, {cores} threads", limit=1.02, steps=150, quick=False)
        torch.set_num_threads(1)
        yield from every_step(activations="probe", quick=False)
    yield from every_step(activations="batch", quick=quick)
    if not quick:
        yield now_and_then(resnet, number="4", limit=1.01, steps=50, rounds=4, quick=False)
    yield idle_hook(quick=quick)


@contextlib.contextmanager
def watched(training: Training, *, every: int, activations: str = "probe"):
    """Watch a training, files and live, all views; yield the watcher once frames arrive."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Client() as client,
        tensorview.watch(
            training.model,
            training.optimizer,
            every=1,
            activations=activations,
            run_dir=Path(folder) / "run",
            live=f"localhost:{client.port}",
        ) as watcher,
    ):
        until_connected(training.step, client)
        client.step_aside()
        watcher._controls.every = every  # noqa: SLF001  # only until there was a picture each step
        yield watcher


def now_and_then(
    make, *, number: str, limit: float, steps: int, quick: bool, rounds: int = 8
) -> Row:
    """Compare blocks of steps, one in fifty captured, with blocks of an unwatched training.

    Captures lie in the midst of a block, so that what the workers do with them falls into it.
    """
    ours, alone = make(), make()
    every, steps = (2, 2) if quick else (50, steps)
    with watched(ours, every=every) as watcher:
        ours.seconds(every - watcher.status().step % every + every // 2)
        with_us, without = alternate(
            lambda: ours.seconds(steps), lambda: alone.seconds(steps), rounds=2 if quick else rounds
        )
        live = watcher.status().sinks["live"]
    step = statistics.median(without)
    return Row(
        number=number,
        work=f"{type(alone.model).__name__}, every={every}, files and live: step with / without",
        value=ratio(with_us, without),
        unit="x",
        target=limit,
        figures={
            "with [ms]": milliseconds(with_us),
            "without [ms]": milliseconds(without),
            "frames at the client": float(live.delivered),
        },
        floor=f"the probe's own pass alone: {1 + passes(alone) / every / step:.4f}",
    )


def every_step(*, activations: str, quick: bool) -> Iterator[Row]:
    """Compare what one captured step takes longer: ours, TensorBoard's and wandb's."""
    steps = 2 if quick else 20
    alone, ours, boarded, tracked = lenet(), lenet(), lenet(), lenet()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        board = stack.enter_context(tensorboard(boarded, folder / "tensorboard"))
        track = stack.enter_context(wandb(tracked, folder / "wandb"))
        watcher = stack.enter_context(watched(ours, every=1, activations=activations))
        plain, *with_each = alternate(
            lambda: alone.seconds(steps),
            lambda: ours.seconds(steps),
            lambda: board(steps),
            lambda: track(steps),
            rounds=2 if quick else 16,
        )
        sinks = watcher.status().sinks
    extra, board_extra, wandb_extra = (
        [with_it - without for with_it, without in zip(seconds, plain, strict=True)]
        for seconds in with_each
    )
    figures = {
        "ours [ms]": milliseconds(extra),
        "step alone [ms]": milliseconds(plain),
        **{f"{name}, captures dropped": float(sink.dropped) for name, sink in sinks.items()},
    }
    floor = ""
    if activations == "probe":
        floor = f"the probe's own pass: {1e3 * passes(alone):.1f} ms"
    suffix = "" if activations == "probe" else ", batch"
    yield Row(
        number=f"2{suffix}",
        work=f'LeNet-5, every=1, activations="{activations}", all views, files and live: what a '
        "captured step takes longer / with TensorBoard's histograms of the same",
        value=ratio(extra, board_extra),
        unit="x",
        target=0.2,
        figures=figures | {"TensorBoard [ms]": milliseconds(board_extra)},
        floor=floor,
    )
    yield Row(
        number=f"3{suffix}",
        work='the same / with wandb.watch(log="all"), which has no activations',
        value=ratio(extra, wandb_extra),
        unit="x",
        target=0.5,
        figures={
            "ours [ms]": figures["ours [ms]"],
            "wandb [ms]": milliseconds(wandb_extra),
        },
        floor=floor,
    )


def passes(training: Training, *, samples: int = 64) -> float:
    """Seconds that the model alone takes for as many samples as the probe has."""
    images = training.images[:samples]

    def run() -> None:
        with torch.no_grad():
            training.model(images)

    (seconds,) = alternate(run, rounds=20)
    return statistics.median(seconds)


@contextlib.contextmanager
def tensorboard(training: Training, folder: Path):
    """Yield a function that trains with histograms of all that a layer has, at each step."""
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
    places = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
    os.environ |= {"WANDB_SILENT": "true", **dict.fromkeys(places, str(folder))}
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

    (model, ours), (_, theirs) = optimizer(), optimizer()

    def steps(stepped):
        started = time.perf_counter()
        for _ in range(calls):
            stepped.step()
        return (time.perf_counter() - started) / calls

    with (
        tempfile.TemporaryDirectory() as folder,
        tensorview.watch(
            model, ours, every=10**9, probe=torch.zeros(1, 1), run_dir=Path(folder) / "run"
        ),
    ):
        ours.step()  # the first one is captured
        with_us, without = alternate(lambda: steps(ours), lambda: steps(theirs), rounds=8)
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
