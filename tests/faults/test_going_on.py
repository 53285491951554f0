"""A training that crashed goes on in the same run, from its last checkpoint."""

import csv
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import tensorview
from tensorview.continuing import continue_run
from tensorview.errors import ConfigurationError, RunError
from tensorview.orphans import orphans
from tensorview.run import Run
from tensorview.run_lock import RunLock
from tests.networks import make_training, train_steps

CRASH_AT_57 = """
import os, signal, sys
import tensorview
from tests.networks import make_training, train_steps

model, optimizer = make_training()
tensorview.watch(model, optimizer, every=1, run_dir=sys.argv[1], live=False)
train_steps(model, optimizer, 57)
os.kill(os.getpid(), signal.SIGKILL)
"""


def crash(run):
    """Make a run of 57 captured steps whose training was killed a moment ago."""
    ended = subprocess.run(
        [sys.executable, "-c", CRASH_AT_57, str(run)],
        cwd=Path(__file__).parents[2],
        timeout=100,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """Such a run, after its file worker has ended."""
    run = tmp_path_factory.mktemp("settled") / "run"
    crash(run)
    RunLock(run).close()
    return run


@pytest.fixture
def crashed(settled, tmp_path):
    """A run of our own."""
    return Path(shutil.copytree(settled, tmp_path / "run"))


def go_on(run, *, after, count, **watching):
    """Continue *run* as a user does who has loaded a checkpoint of step *after*."""
    model, optimizer = make_training()
    with tensorview.watch(
        model, optimizer, run_dir=run, live=False, start_step=after, **watching
    ) as watcher:
        train_steps(model, optimizer, count)
    return watcher.status()


def listed(run, view):
    root = ET.parse(run / f"{view}.pvd").getroot()  # noqa: S314  # our own
    return [int(dataset.get("timestep")) for dataset in root.iter("DataSet")]


def rows(run):
    with (run / "scalars.csv").open(newline="") as stream:
        return [int(row["step"]) for row in csv.DictReader(stream)]


def test_f7_later_steps_are_replaced(crashed):
    """Crash at 57, go on after 50: each step is there once, in lists, tables, manifest."""
    kept = {path: path.read_bytes() for path in crashed.glob("weights/000000[0-4]?.vtp")}
    status = go_on(crashed, after=50, count=10, every=1)
    run = Run.open(crashed)
    steps = tuple(range(1, 61))

    assert status.step == 60
    assert run.steps() == steps
    for view in ("weights", "maps", "scalars"):
        assert listed(crashed, view) == list(steps)
    assert rows(crashed) == list(steps)
    assert {path: path.read_bytes() for path in kept} == kept
    captures = [next(iter(files.values())).capture for files in run.files.values()]
    assert captures == [*range(50), *range(57, 67)]
    for files in run.files.values():
        for entry in files.values():
            run.read(entry)
    assert orphans(run) == []


def test_f7_later_steps_that_are_not_captured_again_are_gone(crashed):
    """Going on with another *every* leaves nothing of what the crashed training did later."""
    go_on(crashed, after=50, count=6, every=5)
    steps = (*range(1, 51), 51, 55, 56)
    files = sorted(path.name for path in (crashed / "weights").iterdir())

    assert Run.open(crashed).steps() == steps
    assert files == [f"{step:08d}.vtp" for step in steps]
    assert listed(crashed, "weights") == list(steps)
    assert rows(crashed) == list(steps)


def test_f7_going_on_from_the_start_replaces_all(crashed):
    """A training that had no checkpoint yet begins the run anew."""
    go_on(crashed, after=0, count=3, every=1)

    assert Run.open(crashed).steps() == (1, 2, 3)
    assert rows(crashed) == [1, 2, 3]


def test_a_run_that_is_not_there_is_made(tmp_path):
    """A script may always say where it goes on: its first start has nothing to go on with."""
    status = go_on(tmp_path / "run", after=100, count=5, every=5)

    assert status.step == 105
    assert Run.open(tmp_path / "run").steps() == (101, 105)


def test_commands_of_before_are_not_obeyed_again(crashed):
    """What was asked of the crashed training is not asked of the one that goes on."""
    tensorview.steering.send(crashed, "every", steps=3)
    status = go_on(crashed, after=57, count=4, every=50)

    assert status.every == 50
    assert Run.open(crashed).steps()[-2:] == (58, 61)


def test_f6_what_is_not_a_run_any_more_gets_no_lock(tmp_path):
    """A manifest alone is no run to go on with."""
    (tmp_path / "manifest.jsonl").write_text("")
    with pytest.raises(RunError, match=r"there is no run.json in it"):
        continue_run(tmp_path, after_step=1, layers=[])

    assert [path.name for path in tmp_path.iterdir()] == ["manifest.jsonl"]


@pytest.mark.parametrize("wrong", [-1, 1.5, "50", True])
def test_a_wrong_start_step_is_one_sentence(tmp_path, wrong):
    """It is said where it is given, and nothing is made."""
    expected = (
        f"start_step={wrong!r} cannot be used: expected how many optimizer steps the checkpoint "
        f"has behind it, 0 or more, or None for a new run."
    )
    with pytest.raises(ConfigurationError, match=re.escape(expected)):
        go_on(tmp_path / "run", after=wrong, count=1)

    assert not (tmp_path / "run").exists()


def test_a_run_of_another_network_is_not_continued(crashed):
    """Other layers are refused with both lists; the run stays as it was."""
    before = {path: path.read_bytes() for path in crashed.rglob("*.*")}
    expected = (
        f"Cannot continue run '{crashed}': it has the layers conv1, conv2, fc, and those watched "
        f"now are conv1, fc. Give another run_dir."
    )
    with pytest.raises(RunError, match=re.escape(expected)):
        go_on(crashed, after=50, count=1, layers=["conv1", "fc"])

    assert {path: path.read_bytes() for path in crashed.rglob("*.*")} == before


def test_a_run_is_not_continued_by_accident(crashed):
    """Without start_step an existing run is refused, and the sentence tells of it."""
    model, optimizer = make_training()
    with pytest.raises(RunError, match=re.escape("or give start_step= to continue it.")):
        tensorview.watch(model, optimizer, run_dir=crashed, live=False)


def test_f1_what_a_killed_training_handed_over_is_written(tmp_path):
    """Its file worker outlives it as long as that takes, and whoever goes on waits for that."""
    crash(tmp_path / "run")
    go_on(tmp_path / "run", after=57, count=0)

    assert Run.open(tmp_path / "run").steps() == tuple(range(1, 58))
