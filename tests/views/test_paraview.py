"""The same code under ParaView's own Python makes the same frame."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tensorview.snapshot import to_table
from tensorview.worker.views import make_frame
from tests.snapshots import make_layer, make_snapshot
from tests.views.reading import digests

PROJECT = Path(__file__).parents[2]
PVPYTHON = os.environ.get("TENSORVIEW_PVPYTHON", "pvpython")


@pytest.mark.paraview
@pytest.mark.parametrize("form", ["cells", "atlas"])
def test_paraviews_python_makes_the_same_bytes(tmp_path, form):
    """Every array, coordinate and cell of every channel, with special values among them."""
    rng = np.random.default_rng(0)
    layers = [
        make_layer(rng, name="conv", special=True, subspaces=2, samples=2),
        make_layer(rng, name="depthwise", filters=6, in_channels=1, conv_groups=6),
        make_layer(rng, name="fc", kind="Linear", kernel=(1, 1), map_size=(1, 1), dtype=np.float64),
        make_layer(rng, name="none", filters=0),
    ]
    snapshot = make_snapshot(rng, layers=layers, form=form)
    table, arrays = to_table(snapshot)
    path = tmp_path / "snapshot.npz"
    named = {f"array{index}": array for index, array in enumerate(arrays)}
    np.savez(path, table=json.dumps(table), **named)
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    script = Path(__file__).with_name("frame_in_paraview.py")
    process = subprocess.run(
        [PVPYTHON, str(script), str(PROJECT), str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "RESULT" in process.stdout, process.stdout + process.stderr
    assert json.loads(process.stdout.split("RESULT", 1)[1]) == digests(make_frame(snapshot))
