"""`catalyst_scripts/images.py` renders inside the live worker; no viewer is needed."""

import re

import numpy as np
import pytest
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOImage import vtkPNGReader

from tensorview.client.paraview import find_paraview
from tensorview.errors import ParaViewError
from tensorview.outputs import catalyst_script
from tests.doubles import open_live, virtual_display, wait_until
from tests.snapshots import make_layer, make_snapshot

pytestmark = pytest.mark.paraview

VIEWS = ("weights", "trajectory", "distribution", "maps", "correlation")


def read_png(path):
    """Return the picture as floats, shape ``(height, width, 3)``."""
    reader = vtkPNGReader()
    reader.SetFileName(str(path))
    reader.Update()
    width, height, _ = reader.GetOutput().GetDimensions()
    return vtk_to_numpy(reader.GetOutput().GetPointData().GetScalars()).reshape(height, width, -1)


def render(folder, snapshot):
    """Send *snapshot* to a live worker that renders; fail unless it says that it is done."""
    outputs = open_live(folder, pipeline=catalyst_script("images.py"))
    try:
        outputs.publish(snapshot)
        worker = outputs.workers["live"]

        def done():
            outputs.poll()
            return worker.delivered == 1 or worker.last_fault

        wait_until(done, seconds=100, what="five pictures")
    finally:
        outputs.close()
    assert worker.last_fault == ""


def test_every_view_is_rendered_at_a_capture(tmp_path, monkeypatch):
    """A picture a view, coloured and not blank, cells and atlas alike."""
    rng = np.random.default_rng(0)
    large = make_layer(rng, name="large", filters=40, in_channels=80, kernel=(3, 3))
    small = make_layer(rng, name="small", filters=6, in_channels=2)
    with virtual_display() as display:
        monkeypatch.setenv("DISPLAY", display)
        render(tmp_path, make_snapshot(rng, layers=[small, large], step=200))

    for view in VIEWS:
        picture = read_png(tmp_path / "pictures" / f"{view}_00000200.png").astype(int)
        assert picture.shape == (960, 1280, 3)
        least = 0.003 if view == "trajectory" else 0.02  # lines, not areas
        assert least < (picture.min(axis=2) < 250).mean() < 0.9, view
    weights = read_png(tmp_path / "pictures" / "weights_00000200.png").astype(int)
    red_over_blue = weights[..., 0] - weights[..., 2]
    left, right = red_over_blue[:, :640], red_over_blue[:, 640:]
    for half in (left, right):
        assert (half > 60).sum() > 1000
        assert (half < -60).sum() > 1000


def test_without_a_display_it_renders_or_is_refused_in_one_sentence(tmp_path, monkeypatch):
    """ParaView 5 would crash the worker: said at once, with what to do. ParaView 6 renders."""
    monkeypatch.delenv("DISPLAY", raising=False)
    snapshot = make_snapshot(np.random.default_rng(0), step=200)
    if find_paraview().version >= (6,):
        render(tmp_path, snapshot)

        assert read_png(tmp_path / "pictures" / "weights_00000200.png").min() < 250
        return
    with pytest.raises(
        ParaViewError,
        match=re.escape("Start the training under xvfb-run, or set DISPLAY."),
    ):
        render(tmp_path, snapshot)
