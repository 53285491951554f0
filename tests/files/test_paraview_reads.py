"""A real ParaView opens the files as they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tensorview.run import Run
from tensorview.worker.datasets import arrays, blocks
from tensorview.worker.frame import ATLAS_CHANNELS, POLYDATA_CHANNELS
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.views import make_frame
from tests.doubles import virtual_display
from tests.snapshots import make_layer, make_snapshot

SCRIPT = Path(__file__).with_name("paraview_reads.py")
SHOW_SCRIPT = Path(__file__).with_name("paraview_shows.py")
STEPS = (50, 100, 150)


@pytest.mark.paraview
@pytest.mark.parametrize("form", ["cells", "atlas"])
def test_paraview_opens_every_time_series(tmp_path, form):
    """Steps, parts, sizes and every value of every array are what was written."""
    rng = np.random.default_rng(5)
    path = Run.create(tmp_path / "run", settings={}).path
    sink = FileSink(path, formats=("vtp",))
    frames = []
    for step in STEPS:
        names = ("conv 1", "a/../b", "x" * 300)
        layers = [make_layer(rng, name=name, special=True, samples=2) for name in names]
        frames.append(make_frame(make_snapshot(rng, layers=layers, step=step, form=form)))
        sink.write(frames[-1])
    sink.close()
    series = sorted(path.glob("*.pvd"))
    found = read_with_paraview(series)

    for file in series:
        expected = [parts(frame.datasets[file.stem]) for frame in frames]
        assert list(STEPS) == found[str(file)]["steps"]
        assert expected == found[str(file)]["parts"]
    channels = POLYDATA_CHANNELS if form == "cells" else ATLAS_CHANNELS
    assert set(channels) <= {file.stem for file in series}


@pytest.mark.paraview
def test_paraview_shows_an_image_as_it_is_opened(tmp_path):
    """Nothing has to be chosen for the maps of a layer to be seen."""
    snapshot = make_snapshot(
        np.random.default_rng(5), layers=[make_layer(np.random.default_rng(5))]
    )
    sink = FileSink(Run.create(tmp_path / "run", settings={}).path, formats=("vtp",))
    sink.write(make_frame(replace(snapshot, form="atlas")))
    sink.close()
    with virtual_display() as display:
        done = subprocess.run(
            [pvpython(), SHOW_SCRIPT, tmp_path / "run" / "maps_atlas.pvd"],
            env={**os.environ, "DISPLAY": display},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    assert float(done.stdout.splitlines()[-1]) > 0.3


def pvpython():
    found = os.environ.get("TENSORVIEW_PVPYTHON") or shutil.which("pvpython")
    assert found, "pvpython is needed: make setup installs ParaView, or set TENSORVIEW_PVPYTHON"
    return found


def read_with_paraview(series):
    done = subprocess.run(
        [pvpython(), SCRIPT, *series], capture_output=True, text=True, timeout=60, check=True
    )

    assert "ERR" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def parts(data):
    images = [image for _, image in blocks(data)] if data.IsA("vtkMultiBlockDataSet") else [data]
    return [
        {
            "points": image.GetNumberOfPoints(),
            "cells": image.GetNumberOfCells(),
            "point_arrays": checksums(image.GetPointData()),
            "cell_arrays": checksums(image.GetCellData()),
        }
        for image in images
    ]


def checksums(attributes):
    return {
        name: [str(values.dtype), zlib.crc32(values.tobytes())]
        for name, values in arrays(attributes).items()
    }
