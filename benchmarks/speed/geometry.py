"""Geometry of heavy layers, from a snapshot to what ParaView shows.

All of it is the work of one thread. Its CPU time is taken, in which other load does not count.

Usage: python -m benchmarks.speed.geometry [--quick]
"""

import dataclasses
import time

import numpy as np
from vtkmodules.vtkCommonCore import vtkFloatArray, vtkPoints

from benchmarks.speed.layers import kernels, one_kernel, vgg16_conv1
from benchmarks.speed.rows import Row, alternate, main, milliseconds, ratio
from tensorview.snapshot import VIEWS
from tensorview.worker.views import make_frame
from tensorview.worker.views.layout import TileGrid


def measure(*, quick=False):
    """Measure how long geometry takes, rendering apart."""
    yield all_views(side=32 if quick else 224, rounds=2 if quick else 3)
    yield from of_kernels(filters=64 if quick else 512, rounds=3 if quick else 30)


def all_views(*, side, rounds):
    """Compare all views of VGG16's first layer with points made one by one."""
    snapshot = vgg16_conv1(side=side, views=VIEWS)
    maps = snapshot.layers[0].activations.maps[0]
    copy = np.empty_like(maps)
    first = seconds(lambda: make_frame(snapshot))
    ours, theirs, floor = alternate(
        lambda: seconds(lambda: make_frame(snapshot)),
        lambda: seconds(lambda: points_one_by_one(maps)),
        lambda: seconds(lambda: np.copyto(copy, maps)),
        rounds=rounds,
    )
    as_cells = dataclasses.replace(snapshot, form="cells")
    (cells,) = alternate(lambda: seconds(lambda: make_frame(as_cells)), rounds=rounds)
    return Row(
        number="11",
        work=f"geometry of all views for VGG16 conv1, {maps.size:,} map values: one call a value / "
        f"ours",
        value=ratio(theirs, ours),
        unit="x",
        target=100,
        at_least=True,
        figures={
            "ours, CPU [ms]": milliseconds(ours),
            "ours, first frame of a run [ms]": 1e3 * first,
            "ours, every value a quad [ms]": milliseconds(cells),
            "one call a value [ms]": milliseconds(theirs),
        },
        floor=f"one copy of the maps: {milliseconds(floor):.2g} ms",
    )


def points_one_by_one(maps):
    """Build the points of feature maps as the original did: a call for each, and for its value."""
    count, height, width = maps.shape
    grid = TileGrid(count=count, tile_width=width, tile_height=height, gutter=1)
    points, scalars = vtkPoints(), vtkFloatArray()
    scalars.SetName("activation")
    for left, top, values in zip(*grid.corners(), maps, strict=True):
        for row in range(height):
            for column in range(width):
                points.InsertNextPoint(left + column, -top - row, 0.0)
                scalars.InsertNextValue(values[row, column])
    return points, scalars


def of_kernels(*, filters, rounds):
    """Time a layer of 3 x 3 kernels in full detail, and one kernel of it."""
    whole = kernels(filters=filters)
    for snapshot, target, what in ((whole, 100, "all of them"), (one_kernel(whole), 1, "one")):
        weights = snapshot.layers[0].weights.values
        copy = np.empty_like(weights)
        first = seconds(lambda: make_frame(snapshot))  # noqa: B023  # called at once
        ours, floor = alternate(
            lambda: seconds(lambda: make_frame(snapshot)),  # noqa: B023
            lambda: seconds(lambda: np.copyto(copy, weights)),  # noqa: B023
            rounds=rounds,
        )
        yield Row(
            number="12",
            work=f"geometry of {filters} x {filters} kernels of 3 x 3 in full detail: {what}",
            value=milliseconds(ours),
            unit="ms",
            target=target,
            figures={"fastest [ms]": 1e3 * min(ours), "first frame of a run [ms]": 1e3 * first},
            floor=f"one copy of the weights: {milliseconds(floor):.2g} ms",
        )


def seconds(work):
    """CPU time of one call; what it returns goes only after."""
    started = time.process_time()
    result = work()
    elapsed = time.process_time() - started
    del result
    return elapsed


if __name__ == "__main__":
    main(measure)
