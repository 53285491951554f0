"""The case studies of pruning, made small."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tensorview.analysis.examination import ENOUGH_SAMPLES
from tensorview.run import Run
from tensorview.worker.datasets import read_frame
from tests.examples.test_examples import EXAMPLES, run_example, small_mnist

SECONDS = 280
"""Hang limit. Each case takes about 20 seconds of one quiet core."""

pytestmark = pytest.mark.timeout(300)

EVENTS = (7, 9, 11, 15)
"""Of 20 steps."""


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Networks as small as these gain nothing by more, and lose much where cores are busy."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import prune_lenet5  # noqa: PLC0415  # no package

    yield prune_lenet5
    for name in [name for name, module in sys.modules.items() if _is_of_examples(module)]:
        del sys.modules[name]


def _is_of_examples(module):
    return str(getattr(module, "__file__", None) or "").startswith(str(EXAMPLES))


def windows(run, step, layer):
    """Count the filters of a layer that its distribution shows at one step."""
    dataset = read_frame(run, step).datasets["distribution"]
    layers = dataset.GetCellData().GetArray("layer")
    filters = dataset.GetCellData().GetArray("filter")
    return len(
        {
            filters.GetValue(cell)
            for cell in range(dataset.GetNumberOfCells())
            if layers.GetValue(cell) == layer
        }
    )


def test_lenet5_loses_four_filters_while_it_trains(tmp_path):
    """Both pruned networks end with 12 filters, audited, and both sides are in the files."""
    real = os.environ.get("TENSORVIEW_DATA")
    data = Path(real) / "MNIST" if real else small_mnist(tmp_path / "data", train=500, test=500)
    arguments = ("--epochs", 4, "--images", 500, "--every", 5, "--run-dir", tmp_path / "runs")

    printed = run_example(
        "prune_lenet5.py", "--data", data, *arguments, folder=tmp_path, seconds=SECONDS
    )

    for arm, left in (("unpruned", 16), ("merge", 12), ("drop", 12)):
        run = Run.open(tmp_path / "runs" / arm)
        audit = run.path / "pruning.jsonl"
        lines = [json.loads(line) for line in audit.read_text().splitlines()] if left < 16 else []
        assert [line["step"] for line in lines] == list(EVENTS)[: len(lines)]
        assert [line["left"] for line in lines] == [15, 14, 13, 12][: len(lines)]
        assert len(lines) == 16 - left
        assert windows(run, 1, 0) == 16
        assert windows(run, 20, 0) == left
        assert f"| {arm} | {left} | " in printed
    assert all(f"\n| {step} | " in printed for step in EVENTS)


def test_what_is_tried_at_an_event_leaves_the_training_alone(tmp_path, example, monkeypatch):
    """Measuring the loss of accuracy, and the other mode on a copy, changes no weight."""
    import torch  # noqa: PLC0415

    data = [torch.rand(300, 1, 28, 28), torch.randint(10, (300,))] * 2
    ends = []
    for name in ("with", "without"):
        example.train("merge", data, epochs=7, every=21, run_dir=tmp_path / name)
        ends.append((tmp_path / name / "weights" / "00000021.vtp").read_bytes())
        monkeypatch.setattr(example, "lost_at_once", lambda *_, **__: {})

    assert ends[0] == ends[1]


def few_images(path):
    """Write half of the real images: of these again half judge, by which a filter can be dead."""
    whole = Path(os.environ["TENSORVIEW_DATA"], "resnet20-cifar10", "cifar10_test_1000.npz")
    with np.load(whole) as arrays:
        few = np.linspace(0, len(arrays["labels"]) - 1, 2 * ENOUGH_SAMPLES).astype(int)
        np.savez(path, **{name: arrays[name][few] for name in ("images", "labels")})
    return path


def test_resnet20_without_its_dead_filters(tmp_path):
    """Dead filters go without a trace in the outputs; then ways of pruning are compared."""
    layer = "layer1.0.conv1"
    run_dir = tmp_path / "run"

    arguments = ["--layers", layer, "--run-dir", run_dir]
    if "TENSORVIEW_DATA" in os.environ:
        arguments += ["--images", few_images(tmp_path / "few.npz")]
    printed = run_example("prune_resnet20.py", *arguments, folder=tmp_path, seconds=SECONDS)
    dead = int(printed.split(" dead filters out")[0].split()[-1])
    run = Run.open(run_dir)

    assert dead == (2 if "TENSORVIEW_DATA" in os.environ else 0)
    assert float(printed.split("outputs differ by ")[1].split()[0]) <= 1e-5
    assert [windows(run, step, 0) for step in run.steps()] == [16, 16 - dead]
    assert len(printed.split(f"| {layer} | ")[1].splitlines()[0].split(" | ")) == 3
