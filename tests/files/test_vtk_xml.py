"""Files that are put together here are VTK's, and cheap to write again and again."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from tensorview.worker import vtk_xml
from tensorview.worker.datasets import blocks
from tensorview.worker.views import make_frame
from tensorview.worker.vtk_xml import Memo, encode
from tests.snapshots import make_layer, make_snapshot


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def compressed(monkeypatch):
    """What was compressed, as it comes."""
    found = []

    def compress(data, level):
        found.append(bytes(data))
        return zlib_compress(data, level)

    zlib_compress = zlib.compress
    monkeypatch.setattr(zlib, "compress", compress)
    return found


def datasets(frame):
    """All datasets of a frame that would become files."""
    for dataset in frame.datasets.values():
        if dataset.IsA("vtkMultiBlockDataSet"):
            yield from (image for _, image in blocks(dataset))
        elif dataset.GetNumberOfPoints():
            yield dataset


@pytest.mark.parametrize("form", ["cells", "atlas"])
def test_a_memo_changes_no_byte(rng, form):
    """A file does not depend on what its sink wrote before."""
    memo = Memo()
    for _ in range(3):
        frame = make_frame(make_snapshot(rng, form=form))
        memo.next_frame()
        for dataset in datasets(frame):
            assert encode(dataset) == encode(dataset, memo=memo)


def test_what_does_not_change_is_compressed_once(rng, compressed):
    """Of a frame of other values, only the numbers of its capture are compressed."""
    memo = Memo()
    sizes = []
    for step in (50, 100):
        compressed.clear()
        memo.next_frame()
        for dataset in datasets(make_frame(make_snapshot(rng, step=step))):
            encode(dataset, memo=memo)
        sizes.append(max(map(len, compressed)))

    assert sizes[0] > 10_000
    assert sizes[1] < 1000


def test_values_are_not_compressed(rng, compressed):
    """No weight and no activation goes through the compressor."""
    snapshot = make_snapshot(rng, form="cells")
    for dataset in datasets(make_frame(snapshot)):
        encode(dataset)
    for layer in snapshot.layers:
        for values in (layer.weights.values, layer.activations.maps[0]):
            assert not any(values.tobytes() in data for data in compressed)


def test_a_memo_forgets_what_is_no_longer_there(rng):
    """Memory does not grow with the layers that a run once had."""
    memo = Memo()
    held = []
    for filters in (40, 40, 2, 2):
        memo.next_frame()
        frame = make_frame(make_snapshot(rng, layers=[make_layer(rng, filters=filters)]))
        for dataset in datasets(frame):
            encode(dataset, memo=memo)
        held.append(sum(map(len, memo._now.values())) + sum(map(len, memo._before.values())))

    assert held[3] < held[0] / 3


@pytest.mark.parametrize("size", [1, 0xFFFE, 0xFFFF, 0x10000, 200_001])
def test_stored_values_are_a_stream_of_zlib(rng, size):
    """Any zlib gives them back, whatever the number of blocks."""
    data = rng.bytes(size)

    assert zlib.decompress(b"".join(vtk_xml._stored(memoryview(data)))) == data
