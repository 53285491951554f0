"""How fast a frame is handed over, and how soon it is at a live client.

Live worker and client are real, each in a process of ParaView's own Python.
"""

import contextlib
import dataclasses
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

import tensorview
from benchmarks.speed.client import (
    POLL_SECONDS,
    PUBLISH_EVERY_SECONDS,
    WAIT_SECONDS,
    Client,
    in_paraview,
    until_connected,
)
from benchmarks.speed.rows import Row, alternate, main, milliseconds, ratio
from benchmarks.speed.workloads import lenet
from tensorview.client.paraview import find_paraview
from tensorview.encoding import EncodedSnapshot
from tensorview.launch import BOOTSTRAP
from tensorview.outputs import Outputs, catalyst_script
from tensorview.settings import LiveTarget
from tensorview.snapshot import Snapshot

LARGE = 1e6
"""No activation is that large: added to a capture's number, it marks a frame."""


def measure(*, quick: bool) -> Iterator[Row]:
    """Hand-over and arrival of VGG16's first feature maps, and of LeNet-5 while it trains."""
    snapshot = first_maps(side=56 if quick else 224)
    yield publishing(snapshot, rounds=4 if quick else 40)
    yield arriving(snapshot, seconds=1.0 if quick else 12.0)
    yield following(seconds=2.0 if quick else 12.0)


def first_maps(*, side: int) -> Snapshot:
    """Capture what VGG16's first convolution makes of images of *side* x *side* pixels."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU())
    probe = torch.rand(2, 3, side, side)
    with (
        tempfile.TemporaryDirectory() as folder,
        tensorview.watch(
            model, probe=probe, map_samples=(), run_dir=Path(folder) / "run", formats=(), live=False
        ) as watcher,
    ):
        watcher.step()
        snapshot = watcher.snapshot()
    assert snapshot is not None
    return snapshot


def maps_of(snapshot: Snapshot) -> np.ndarray:
    activations = snapshot.layers[0].activations
    assert activations is not None
    return activations.maps


def marked(snapshot: Snapshot, capture: int) -> Snapshot:
    """Make it another capture, which its largest activation tells too."""
    maps_of(snapshot).flat[-1] = LARGE + capture
    return dataclasses.replace(snapshot, capture=capture, step=capture)


def publishing(snapshot: Snapshot, *, rounds: int) -> Row:
    """Row 7: hand the frame over while a viewer is served, against one copy of its maps."""
    maps = maps_of(snapshot)
    target = np.empty_like(maps)
    captures = iter(range(1, 10**9))
    with Client() as client, live_outputs(client.port) as outputs:
        worker = outputs.workers["live"]

        def publish() -> float:
            given = marked(snapshot, next(captures))
            started = time.perf_counter()
            worker.publish(EncodedSnapshot(given))
            return time.perf_counter() - started

        def publish_to_idle() -> float:
            deadline = time.monotonic() + WAIT_SECONDS
            while worker._sender.in_flight and time.monotonic() < deadline:  # noqa: SLF001
                time.sleep(POLL_SECONDS)
                worker.poll()
            return publish()

        def publish_behind() -> float:
            publish()  # which the worker has or has not begun
            return publish()

        def copy() -> float:
            started = time.perf_counter()
            np.copyto(target, maps)
            return time.perf_counter() - started

        until_connected(publish_to_idle, client)
        idle, behind, copied = alternate(publish_to_idle, publish_behind, copy, rounds=rounds)
    found = {"idle": ratio(idle, copied), "behind": ratio(behind, copied)}
    return Row(
        number="7",
        work="VGG16 conv1 maps live: publish in the training process, against one memcpy",
        value=max(found.values()),
        unit="x",
        target=2.0,
        figures={
            "worker idle [x]": found["idle"],
            "worker behind [x]": found["behind"],
            "publish [ms]": milliseconds(idle),
        },
        floor=f"memcpy of {maps.nbytes / 1e6:.1f} MB: {milliseconds(copied):.2f} ms",
    )


def arriving(snapshot: Snapshot, *, seconds: float) -> Row:
    """Row 8: frames that arrive a second, against the same values as points."""
    maps = maps_of(snapshot)
    captures = iter(range(1, 10**9))
    with Client() as client, live_outputs(client.port) as outputs:

        def publish() -> None:
            outputs.publish(marked(snapshot, next(captures)))

        until_connected(publish, client)
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            publish()
            time.sleep(PUBLISH_EVERY_SECONDS)
        frames = client.frames_after(began)
        assert all(frame["largest"] == LARGE + frame["capture"] for frame in frames)
    with Client() as client, points_sender(client.port, seconds=2 * seconds, shape=maps.shape[1:]):
        until_connected(lambda: None, client)
        began = time.monotonic()
        time.sleep(seconds)
        points = client.frames_after(began)
        assert all(frame["largest"] == frame["capture"] + 1 for frame in points)
    return Row(
        number="8",
        work="the same live: frames a second at a headless client",
        value=rate(frames),
        unit="/s",
        target=8.0,
        at_least=True,
        figures={"as points [/s]": rate(points)},
        floor=loopback(maps.nbytes),
    )


def rate(frames: list[dict]) -> float:
    """Frames a second, each counted once."""
    moments = {frame["capture"]: frame["at"] for frame in frames}.values()
    return (len(moments) - 1) / (max(moments) - min(moments)) if len(moments) > 1 else 0.0


def loopback(nbytes: int) -> str:
    """Say how often a second so many bytes cross a local connection."""
    sent = bytearray(nbytes)
    received = bytearray(nbytes)
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = os.fork()
        if child == 0:
            with socket.create_connection(server.getsockname()) as connection:
                for _ in range(12):
                    connection.sendall(sent)
            os._exit(0)
        connection, _ = server.accept()
        moments = []
        with connection:
            for _ in range(12):
                view = memoryview(received)
                while view:
                    view = view[connection.recv_into(view) :]
                moments.append(time.perf_counter())
        os.waitpid(child, 0)
    seconds = statistics.median(np.diff(moments))
    return f"{nbytes / 1e6:.1f} MB over a local socket: {1 / seconds:.0f}/s"


def following(*, seconds: float) -> Row:
    """Row 9: from the end of an optimizer step to its data at the client, LeNet-5, every=1.

    Training has one thread, so that cores are left for worker and client.
    """
    torch.set_num_threads(1)
    training = lenet()
    model, optimizer = training.model, training.optimizer
    ends: dict[int, float] = {}
    number = iter(range(1, 10**9))
    # Before the watcher's own: what we do at a step's end is part of the time.
    optimizer.register_step_post_hook(lambda *_: ends.update({next(number): time.monotonic()}))
    with (
        tempfile.TemporaryDirectory() as folder,
        Client() as client,
        tensorview.watch(
            model, optimizer, every=1, run_dir=Path(folder) / "run", live=f"localhost:{client.port}"
        ) as watcher,
    ):
        until_connected(training.step, client)
        began, before = time.monotonic(), len(ends)
        while (ended := time.monotonic()) < began + seconds:
            training.step()
        steps = len(ends) - before
        frames = [frame for frame in client.frames_after(began) if frame["at"] < ended]
        status = watcher.status()
    delays = [frame["at"] - ends[frame["step"]] for frame in frames]
    return Row(
        number="9",
        work="LeNet-5, every=1, files and live on: optimizer step to data at the live client",
        value=milliseconds(delays) if delays else float("nan"),
        unit="ms",
        target=100.0,
        figures={
            "90th percentile [ms]": 1e3 * float(np.quantile(delays, 0.9)) if delays else np.nan,
            "frames [/s]": rate(frames),
            "step [ms]": 1e3 * (ended - began) / steps,
            "files written of it [%]": 100 * status.sinks["files"].delivered / status.captures,
        },
    )


@contextlib.contextmanager
def live_outputs(port: int) -> Iterator[Outputs]:
    """Start a live worker, as a watcher does."""
    target = LiveTarget(host="localhost", port=port, at_once=True)
    outputs = Outputs(
        run_path=None, formats=(), live=target, pipeline=None, paraview=find_paraview()
    )
    try:
        yield outputs
    finally:
        outputs.close()


@contextlib.contextmanager
def points_sender(port: int, *, seconds: float, shape: tuple[int, ...]) -> Iterator[None]:
    """Send as many points as there are values, from a process of its own."""
    script = catalyst_script("live.py")
    with in_paraview("live_points.py", BOOTSTRAP, port, script, seconds, *shape) as process:
        yield
        process.kill()


if __name__ == "__main__":
    main(measure)
