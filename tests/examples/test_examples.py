"""Every example runs as its docstring says, and what it writes can be opened."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tensorview.run import Run
from tensorview.worker.datasets import read_frame

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 110
"""Hang limit. By default each example takes under a minute on two quiet cores."""


def run_example(name, *arguments, folder, data=True, seconds=SECONDS):
    """Run one example in *folder*, without a display; return what it printed."""
    environment = dict(os.environ)
    environment.pop("DISPLAY", None)
    if not data:
        environment.pop("TENSORVIEW_DATA", None)
    result = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def newest_frame(folder):
    (path,) = (folder / "tensorview_runs").iterdir()
    run = Run.open(path)
    return run, read_frame(run, run.steps()[-1])


def test_lenet5_digits(tmp_path):
    """Trains on the bundled digits and leaves every view of all four layers."""
    printed = run_example("lenet5_digits.py", "--epochs", 6, folder=tmp_path)
    run, frame = newest_frame(tmp_path)

    accuracy = float(printed.split("accuracy on 297 test digits: ")[1].split("%")[0])
    assert accuracy > 90
    assert run.steps() == (1, *range(20, 181, 20))
    assert frame.datasets["weights"].GetNumberOfCells() == 144 + 4608 + 5120
    assert frame.datasets["weights_atlas"].GetNumberOfBlocks() == 1
    assert frame.datasets["distribution"].GetNumberOfCells() == 2 * (16 + 32 + 512 + 10)
    assert frame.datasets["trajectory"].GetNumberOfLines() == 4


def write_idx(path, shape, values):
    path.write_bytes(
        b"\0\0\x08"
        + bytes([len(shape)])
        + b"".join(size.to_bytes(4, "big") for size in shape)
        + bytes(values)
    )


def small_mnist(folder, *, train=200, test=50):
    """Write a few random images in MNIST's format."""
    import random  # noqa: PLC0415

    folder.mkdir()
    source = random.Random(0)
    for part, count in (("train", train), ("t10k", test)):
        pixels = source.randbytes(count * 28 * 28)
        labels = [source.randrange(10) for _ in range(count)]
        write_idx(folder / f"{part}-images-idx3-ubyte", (count, 28, 28), pixels)
        write_idx(folder / f"{part}-labels-idx1-ubyte", (count,), labels)
    return folder


def test_lenet5_mnist(tmp_path):
    """Reads IDX files: the real MNIST where there is one, else files of the same format."""
    real = os.environ.get("TENSORVIEW_DATA")
    data = Path(real) / "MNIST" if real else small_mnist(tmp_path / "data")
    work = tmp_path / "work"
    work.mkdir()

    printed = run_example("lenet5_mnist.py", "--data", data, "--steps", 150, folder=work)
    run, _ = newest_frame(work)

    assert run.steps() == (1, *range(50, 151, 50))
    if real:
        assert float(printed.split("test images: ")[1].split("%")[0]) > 90


def test_lenet5_mnist_without_data_is_one_sentence(tmp_path):
    """No data is said, with what to give."""
    result = subprocess.run(
        [sys.executable, EXAMPLES / "lenet5_mnist.py", "--data", tmp_path],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        f"No train-images-idx3-ubyte(.gz) under {tmp_path}. Give --data the folder of MNIST."
    )


def test_learning_rates(tmp_path):
    """Flags for the rate that is far too high, none for the sane one; both can be replayed."""
    printed = run_example("learning_rates.py", folder=tmp_path)
    high, sane = printed.split("learning rate ")[1:]
    table = high.split("threshold of the first\n")[1]

    assert high.startswith("10, far too high")
    assert table.splitlines()[0].startswith("1 ")
    assert "large update" in table
    assert "dead layer" in table
    assert sane.startswith("0.1, sane")
    assert "0 flags raised" in sane
    for name in ("learning-rate-10", "learning-rate-0.1"):
        run = Run.open(tmp_path / "tensorview_runs" / name)
        assert run.steps() == (1, *range(20, 201, 20))
        assert read_frame(run, 200).datasets["scalars"].GetNumberOfPoints() == 11


def test_learning_rates_without_mnist(tmp_path):
    """The digits that come with scikit-learn are taken; a shorter training may be asked for."""
    printed = run_example("learning_rates.py", "--steps", 20, folder=tmp_path, data=False)

    assert "large update" in printed.split("learning rate ")[1]
    assert Run.open(tmp_path / "tensorview_runs" / "learning-rate-0.1").steps() == (1, 20)


@pytest.mark.parametrize("data", [True, False], ids=["trained", "random"])
def test_resnet20_cifar10(tmp_path, data):
    """Predicts with the trained net where there is one, else with random weights, and says so."""
    trained = data and "TENSORVIEW_DATA" in os.environ
    printed = run_example("resnet20_cifar10.py", folder=tmp_path, data=data)
    run, frame = newest_frame(tmp_path)

    assert len(run.steps()) >= 2
    assert (
        frame.datasets["trajectory"].GetNumberOfVerts()
        + frame.datasets["trajectory"].GetNumberOfLines()
        == 20
    )
    if trained:
        assert "accuracy on 1,000 images: 80.4%; dead filters in layer1.0.conv1: 2" in printed
    else:
        assert "random ones are used" in printed


def test_vgg16_maps(tmp_path):
    """64 maps of 224 x 224 at full size, in the atlas form."""
    printed = run_example("vgg16_maps.py", folder=tmp_path)
    _, frame = newest_frame(tmp_path)
    image = frame.datasets["maps_atlas"].GetBlock(0)

    assert printed.startswith("The weights are random")
    assert image.GetNumberOfCells() > 64 * 224 * 224
    assert frame.datasets["maps"].GetNumberOfCells() == 0


@pytest.mark.paraview
def test_demo(tmp_path):
    """Trains, is watched live, and leaves a picture of every view as the live client got it."""
    printed = run_example("demo.py", folder=tmp_path)
    (run,) = (tmp_path / "tensorview_runs").iterdir()
    received, captures = printed.split("at the client:")[1].split(" captures")[0].split(" of ")

    assert int(captures) == 37
    assert int(received) >= 3  # the newest wins: how many depends on the machine
    assert sorted(path.name for path in (run / "pictures").iterdir()) == [
        "correlation.png",
        "distribution.png",
        "maps.png",
        "overview.png",
        "scalars.png",
        "trajectory.png",
        "weights.png",
    ]
    # Of the last frame that came: on a busy machine that is not the last one of the training.
    assert int(printed.split("7 pictures of step ")[1].split()[0]) in (1, *range(20, 721, 20))
    assert f"tensorview view {run}\n" in printed
