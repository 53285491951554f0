"""docs/data-format.md says what a capture takes on disk."""

from __future__ import annotations

import re
import sys

import pytest
import torch

import tensorview
from tensorview.run import Run
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.views import make_frame
from tests.examples.test_examples import EXAMPLES
from tests.files.test_data_format import SECTIONS

sys.path.insert(0, str(EXAMPLES))

from networks import LeNet5, ResNet20  # the line above


@pytest.mark.parametrize(
    ("name", "network", "images"),
    [("LeNet-5", LeNet5, (64, 1, 28, 28)), ("ResNet-20", ResNet20, (64, 3, 32, 32))],
)
def test_files_and_megabytes_of_a_capture_are_as_documented(tmp_path, name, network, images):
    """The table's files are exact, its megabytes within a tenth."""
    section = SECTIONS["Disk taken by a capture"]
    rows = re.findall(rf"^\| {name}.*?\| (\d+) \| ([\d.]+) \|", section, re.MULTILINE)
    model, probe = network(), torch.rand(images)
    with tensorview.watch(model, every=1, formats=(), live=False, probe=probe) as watcher:
        watcher.step()
        snapshot = watcher.snapshot()
    sink = FileSink(Run.create(tmp_path / "run", settings={}).path, formats=("vtp",))
    sink.write(make_frame(snapshot))
    sink.close()
    (entries,) = Run.open(tmp_path / "run").files.values()
    taken = sum(entry.size for entry in entries.values()) / 1e6

    ((files, megabytes),) = rows
    assert int(files) == len(entries)
    assert float(megabytes) == pytest.approx(taken, rel=0.1)
