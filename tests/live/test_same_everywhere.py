"""One frame is the same in memory, at a live client, in files, and replayed from them."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tensorview.run import Run
from tensorview.worker.datasets import read_frame
from tensorview.worker.frame import CHANNELS
from tensorview.worker.sinks.memory import MemorySink
from tensorview.worker.views import make_frame
from tests.doubles import Viewer, free_port, open_live, wait_until
from tests.snapshots import make_layer, make_snapshot
from tests.views.reading import digests

pytestmark = pytest.mark.paraview

ADDED_BY_CATALYST = ("__CatalystChannel__", "TimeValue", "run_dir", "run_id")


def comparable(frame):
    """Checksums of every array of what a frame shows; empty datasets carry nothing anywhere."""
    assert set(frame.datasets) == set(CHANNELS)
    filled = {
        channel: dataset
        for channel, dataset in frame.datasets.items()
        if dataset.IsA("vtkMultiBlockDataSet") or dataset.GetNumberOfPoints()
    }
    return {
        name: digest
        for name, digest in digests(replace(frame, datasets=filled)).items()
        if not name.endswith(ADDED_BY_CATALYST)
    }


def snapshots():
    """Ordinary ones, NaN and infinities, other layers, all as atlas, few views, fewer filters."""
    rng = np.random.default_rng(3)
    plain = make_layer(rng, name="conv1", filters=6, in_channels=2)
    special = make_layer(rng, name='odd <name> & "so"', filters=5, special=True)
    yield make_snapshot(rng, layers=[plain, special], step=200)
    yield make_snapshot(rng, layers=[special], step=250)
    yield make_snapshot(rng, layers=[special, plain], step=300, form="atlas")
    yield make_snapshot(rng, step=350, views=("weights", "scalars"))
    yield make_snapshot(rng, layers=[plain], step=400)
    pruned = make_layer(rng, name="conv1", filters=4, in_channels=2, removed=2)
    yield make_snapshot(rng, layers=[pruned], step=450)


def test_l11_n1_memory_live_files_and_replay_agree(tmp_path):
    """Points, cells, array names, values and steps are equal bit for bit, NaN and infinity too."""
    sink, port = MemorySink(), free_port()
    run_path = Run.create(tmp_path / "run", settings={"name": "same"}).path
    outputs = open_live(run_path, port=port, formats=("vtp",))
    with Viewer(tmp_path, port=port) as viewer:
        for snapshot in snapshots():
            sink.write(make_frame(snapshot))
            outputs.publish(snapshot)
            wait_until(
                lambda step=snapshot.step: viewer.steps()[-1:] == [step],
                seconds=60,
                what=f"step {snapshot.step} at the viewer",
            )
        outputs.close()
    with Viewer(tmp_path, port=port) as second:
        replayed = subprocess.run(
            [sys.executable, "-m", "tensorview", "replay", run_path, "--to", f"localhost:{port}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr

    runs = [Run.open(run_path), Run.open(viewer.run_dir), Run.open(second.run_dir)]
    for frame in sink.frames:
        expected = comparable(frame)
        for run in runs:
            assert expected == comparable(read_frame(run, frame.step))
    assert [list(run.steps()) for run in runs] == [[200, 250, 300, 350, 400, 450]] * 3


def test_replay_of_an_empty_run_is_one_sentence(tmp_path):
    """A run without captures is refused before ParaView is started."""
    path = Run.create(tmp_path / "run", settings={"name": "empty"}).path

    result = subprocess.run(
        [sys.executable, "-m", "tensorview", "replay", path],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert result.returncode == 1
    assert result.stderr == f"tensorview: Cannot replay '{path}': it holds no capture yet.\n"
