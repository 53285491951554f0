"""Feature maps of VGG16's first layer as files: size, writing, loading, first picture in ParaView.

Ours against the two formats of "In situ TensorView", rebuilt from their description: a table with a
line a point, and points as VTK's own writer stores them unless told otherwise. Our file is shown as
our window shows it, as a texture; what ParaView makes of it by itself stands beside it.

Usage: python -m benchmarks.speed.files [--quick]
"""

import dataclasses
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

from benchmarks.speed.layers import vgg16_conv1
from benchmarks.speed.rows import Row, alternate, main, milliseconds, ratio
from tensorview.client.paraview import find_paraview
from tensorview.launch import BOOTSTRAP
from tensorview.run import Run
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.views import make_frame
from tensorview.worker.views.datasets import equal_cells, polydata
from tensorview.worker.views.layout import TileGrid
from tensorview.worker.vtk_xml import PADDING
from tests.doubles import virtual_display

READER = Path(__file__).with_name("files_in_paraview.py")
HANG_SECONDS = 900
LEAST_FILLED = 0.3
"""Share of the view that a picture of all maps fills at least."""
SMALL = 8
"""Side of the maps that ParaView shows before it is timed."""


def measure(*, quick=False):
    """Measure the three formats, each written, loaded and shown in turn."""
    rounds = 1 if quick else 3
    with tempfile.TemporaryDirectory() as folder, virtual_display() as display:
        small, large = (
            formats(Path(folder) / name, vgg16_conv1(side=side, views=("maps",)))
            for name, side in (("small", SMALL), ("large", 32 if quick else 224))
        )
        for file in small.values():
            file.write()
        yield from written(**large, rounds=rounds)
        yield from shown(small, large, display=display, rounds=rounds)


def formats(folder, snapshot):
    """Return what writes a snapshot's maps in each of the formats, below *folder*."""
    folder.mkdir()
    maps = snapshot.layers[0].activations.maps[0]
    return {
        "ours": Ours(folder / "run", snapshot),
        "points": Points(folder / "points.vtp", maps),
        "table": Table(folder / "points.csv", maps),
        "raw": Raw(folder / "raw", maps),
    }


class Ours:
    """What the file worker makes of a snapshot."""

    def __init__(self, path, snapshot):
        # As an image at the small size as well: at 224 x 224 it is one anyway.
        self.snapshot = dataclasses.replace(snapshot, form="atlas")
        self.sink = FileSink(Run.create(path, settings={}).path, formats=("vtp",))
        self.path = path / "maps_atlas" / "0" / f"{snapshot.step:08d}.vti"
        self.series = path / "maps_atlas.pvd"

    def write(self):
        """Make its frame and commit it."""
        self.sink.write(make_frame(self.snapshot))


class Points:
    """Points with a vertex each, as VTK's own writer stores them unless told otherwise."""

    def __init__(self, path, maps):
        self.path, self.maps = path, maps

    def write(self):
        """Write all points."""
        x, y, values, filters = columns(self.maps)
        dataset = polydata(
            np.stack([x, y, np.zeros_like(x)], axis=1),
            verts=equal_cells(np.arange(len(values), dtype=np.int32)[:, None]),
        )
        for name, column in (("value", values), ("filter", filters)):
            array = numpy_to_vtk(column, deep=True)
            array.SetName(name)
            dataset.GetPointData().AddArray(array)
        writer = vtkXMLPolyDataWriter()
        writer.WriteToOutputStringOn()
        writer.SetInputData(dataset)
        writer.Write()
        # Without white space the ParaView of Debian 12 cannot read what VTK writes.
        tag = '<AppendedData encoding="base64">'
        header, _, values = writer.GetOutputString().partition(tag)
        self.path.write_text(header + tag + PADDING.decode() + values)


class Table:
    """A line a point."""

    def __init__(self, path, maps):
        self.path, self.maps = path, maps

    def write(self):
        """Write all lines."""
        rows = zip(*(column.tolist() for column in columns(self.maps)), strict=True)
        with self.path.open("w") as file:
            file.write("x,y,z,value,filter\n")
            file.writelines(
                f"{x:.0f},{y:.0f},0,{value:.9g},{number}\n" for x, y, value, number in rows
            )


class Raw:
    """The values alone, which is the least that can be written and read."""

    def __init__(self, path, maps):
        self.path, self.maps = path, maps

    def write(self):
        """Write all values."""
        self.path.write_bytes(self.maps)

    def read(self):
        """Read all values."""
        self.path.read_bytes()


def columns(maps):
    """x, y, value and filter of every pixel; the maps lie side by side."""
    count, height, width = maps.shape
    grid = TileGrid(count=count, tile_width=width, tile_height=height, gutter=1)
    left, top = (corner[:, None, None].astype(np.float32) for corner in grid.corners())
    x = np.broadcast_to(left + np.arange(width, dtype=np.float32), maps.shape).reshape(-1)
    rows = np.arange(height, dtype=np.float32)[:, None]
    y = np.broadcast_to(-top - rows, maps.shape).reshape(-1)
    filters = np.repeat(np.arange(count, dtype=np.int32), height * width)
    return x, y, maps.reshape(-1), filters


def written(*, ours, points, table, raw, rounds):
    """Compare sizes, and how long writing takes."""
    maps = raw.maps
    (slow,) = alternate(table.write, rounds=1, warm_up=0)
    own, others, floor = alternate(ours.write, points.write, raw.write, rounds=rounds)
    sizes = {
        name: file.path.stat().st_size
        for name, file in (("ours", ours), ("points", points), ("table", table))
    }
    yield Row(
        number="6 size",
        work=f"VGG16 conv1 maps, {' x '.join(map(str, maps.shape))}: our file / raw float32",
        value=sizes["ours"] / maps.nbytes,
        unit="x",
        target=1.2,
        figures={f"{name} [MB]": size / 1e6 for name, size in sizes.items()},
        floor=f"raw float32: {maps.nbytes / 1e6:.3g} MB",
    )
    yield Row(
        number="6 write",
        work="the same, from the snapshot to the committed file: vtp of points / ours",
        value=ratio(others, own),
        unit="x",
        target=1,
        at_least=True,
        figures={
            "ours [ms]": milliseconds(own),
            "points [ms]": milliseconds(others),
            "table [ms]": milliseconds(slow),
        },
        floor=f"writing the raw values: {milliseconds(floor):.2g} ms",
    )


def shown(small, large, *, display, rounds):
    """Compare how long a file takes to be loaded, and to be in sight, in a ParaView of its own."""
    times = {"load": {}, "picture": {}}
    paths = {name: (small[name].path, large[name].path) for name in ("ours", "points", "table")}
    paths["ours without our window"] = small["ours"].series, large["ours"].series
    # The table last and once, since it takes a minute.
    for name in [*["ours", "points"] * rounds, "ours without our window", "table"]:
        for what, seconds in open_in_paraview(*paths[name], display=display).items():
            times[what].setdefault(name, []).append(seconds)
    (floor,) = alternate(large["raw"].read, rounds=rounds)
    for what, done in (("load", "it is loaded"), ("picture", "the first picture is there")):
        found = times[what]
        figures = {f"{name} [ms]": milliseconds(seconds) for name, seconds in found.items()}
        own = found["ours"]
        for other, target, value in (
            ("vtp", 5, ratio(found["points"], own)),
            ("csv", 50, found["table"][0] / statistics.median(own)),
        ):
            yield Row(
                number=f"6 {what} vs {other}",
                work=f"the same in ParaView, until {done}: {other} / ours",
                value=value,
                unit="x",
                target=target,
                at_least=True,
                figures=figures,
                floor=f"reading the raw values: {milliseconds(floor):.2g} ms",
            )


def open_in_paraview(small, large, *, display):
    """Open *large* in a new ParaView after *small*; return seconds by what was waited for."""
    done = subprocess.run(
        [find_paraview().pvpython, READER, BOOTSTRAP, small, large],
        env={**os.environ, "DISPLAY": display},
        stdout=subprocess.PIPE,
        text=True,
        timeout=HANG_SECONDS,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    if found.pop("filled") < LEAST_FILLED:
        raise RuntimeError(f"ParaView's picture of {large.name} is blank.")
    return found


if __name__ == "__main__":
    main(measure)
