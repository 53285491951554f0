"""The chooser of layers in a real ParaView, with check boxes and without anyone to tick them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tensorview.client.paraview import find_paraview
from tensorview.run import Run
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.views import make_frame
from tests.snapshots import make_layer, make_snapshot

PROJECT = Path(__file__).parents[2]
ODD = 'fc "<&é☃\n;'
STEPS = (50, 100)

pytestmark = pytest.mark.paraview


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What `chooser_in_paraview.py` has seen."""
    run = Run.create(tmp_path_factory.mktemp("saved") / "run", settings={}).path
    sink = FileSink(run, formats=("vtp",))
    for step in STEPS:
        rng = np.random.default_rng(step)
        layers = [make_layer(rng, name=name) for name in ("small", "large")]
        sink.write(make_frame(make_snapshot(rng, layers=layers, step=step, form="atlas")))
    sink.close()
    script = Path(__file__).with_name("chooser_in_paraview.py")
    process = subprocess.run(
        [find_paraview().pvpython, script, PROJECT, run],
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert "RESULT" in process.stdout, process.stdout + process.stderr
    assert "ERR" not in process.stderr
    return json.loads(process.stdout.split("RESULT", 1)[1])


def shows(*names, boxes):
    """All views with these layers, and check boxes with these ticks."""
    names = list(names)
    return {"cells": names, "frames": names, "images": names, "boxes": boxes}


def test_the_check_boxes_are_what_is_selected(report):
    """They are found at once, under ``layers``; filters stand under their channels' names."""
    assert report["active"]
    assert report["registered"]


def test_only_maps_have_frames(report):
    """Other views have one output, so that ParaView's browser stays short."""
    assert report["ports"] == {"maps": 2, "weights": 1, "maps_atlas": 2}


def test_the_chooser_itself_shows_nothing(report):
    """Its output is empty."""
    assert report["empty output"] == 0


def test_it_waits_for_data(report):
    """Before the first frame there is nothing to choose and nothing to show."""
    assert report["before any data"] == [False, 0]


def test_all_layers_are_shown_at_first(report):
    """With a ticked box each, whatever their names hold."""
    boxes = {"conv1": "1", "conv2": "1", ODD: "1"}

    assert report["at first"] == [False, shows("conv1", "conv2", ODD, boxes=boxes)]


def test_an_unticked_layer_goes_from_all_views(report):
    """The change is noticed once."""
    boxes = {"conv1": "0", "conv2": "1", ODD: "1"}

    assert report["unticked"] == [True, False, shows("conv2", ODD, boxes=boxes)]


def test_the_choice_survives_new_frames(report):
    """As long as they are of the same layers."""
    changed, seen = report["next frame"]

    assert not changed
    assert seen == report["unticked"][2]


def test_check_boxes_follow_a_choice_from_code(report):
    """A training's focus ticks one box and unticks the others; no layer at all is a choice too."""
    alone = {"conv1": "0", "conv2": "0", ODD: "1"}

    assert report["from code"] == [True, shows(ODD, boxes=alone)]
    assert report["none"] == [True, shows(boxes=dict.fromkeys(alone, "0"))]


def test_a_run_of_other_layers_begins_with_all(report):
    """Their boxes replace the former ones; they are numbered, since ParaView would sort them."""
    boxes = {"1  z": "1", "2  a": "1"}

    assert report["other layers"] == [True, shows("z", "a", boxes=boxes)]


def test_deleted_proxies_do_no_harm(report):
    """Without its filter a view keeps still, and the check boxes come back."""
    assert report["deleted"] == [True, shows("a", boxes={"1  z": "0", "2  a": "1"})]
    assert report["back"]


def test_a_view_that_comes_late_follows_the_choice(report):
    """So do atlases, whose sources are made when the first large layer comes."""
    assert report["late"] == [1]


def test_time_passes_through(report):
    """A saved run is read at the step that is asked for; a single image stays an atlas."""
    found = report["steps"]

    assert found == {
        str(float(step)): ["vtkMultiBlockDataSet", ["large"], [step]] for step in STEPS
    }
