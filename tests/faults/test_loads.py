"""What large data costs, coarsely; the figures are those of the benchmarks."""

import contextlib
import dataclasses
import time

import numpy as np
from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

from tensorview.encoding import EncodedSnapshot
from tensorview.transport import Sender
from tensorview.worker.views.datasets import array, equal_cells, polydata
from tensorview.worker.vtk_xml import encode
from tests.snapshots import make_layer, make_snapshot

MILLION = 10**6


def seconds(work, *, rounds):
    """CPU time of the fastest call."""
    found = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def test_c1_a_million_points_are_encoded_faster_than_by_vtk():
    """At least 3 times as fast as VTK's default, in one run (at least 5, by the benchmark).

    The figure: row "6 write" of `python -m benchmarks.speed.files`.
    """
    rng = np.random.default_rng(0)
    numbers = np.arange(MILLION, dtype=np.int32)
    points = rng.normal(size=(MILLION, 3)).astype(np.float32)
    dataset = polydata(points, verts=equal_cells(numbers[:, None]))
    dataset.GetPointData().AddArray(array("value", rng.normal(size=MILLION).astype(np.float32)))

    def by_vtk():
        writer = vtkXMLPolyDataWriter()
        writer.WriteToOutputStringOn()
        writer.SetInputData(dataset)
        writer.Write()

    ours = seconds(lambda: encode(dataset), rounds=2)

    assert seconds(by_vtk, rounds=1) >= 3 * ours


def test_c2_handing_over_costs_a_copy_or_two():
    """A snapshot of 32 MB takes at most 3 times an `ndarray.copy` of it, in one run.

    The figure, with a viewer: row 7 of `python -m benchmarks.speed.live`.
    """
    rng = np.random.default_rng(0)
    layer = make_layer(rng, filters=64, map_size=(4, 4))
    maps = rng.random(size=(2, 64, 250, 250), dtype=np.float32)
    activations = dataclasses.replace(layer.activations, maps=maps)
    layer = dataclasses.replace(layer, activations=activations)
    snapshot = make_snapshot(rng, layers=[layer])
    with contextlib.closing(Sender(slots=2, max_bytes=2**30)) as sender:

        def hand_over():
            sender.take_back()
            assert sender.send(EncodedSnapshot(snapshot))

        hand_over()  # so that there is memory for it
        ours = seconds(hand_over, rounds=5)

    assert maps.nbytes >= 32 * 10**6
    assert ours <= 3 * seconds(maps.copy, rounds=5)
