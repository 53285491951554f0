"""A thinned run keeps what its rule says, and reads as one that never had the rest."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorview
from tensorview.errors import ConfigurationError, RemovedStepError
from tensorview.export import export
from tensorview.manifest import MANIFEST, Removal, from_line, to_line
from tensorview.run import Run
from tensorview.run_writer import NewFile, RunWriter
from tensorview.thinning import superfluous
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.views import make_frame
from tests.doubles import FILE_FAULTS, FailingFiles
from tests.files.test_run_writer import assert_whole, everything, listed
from tests.files.writing import files
from tests.networks import make_training, train_steps
from tests.snapshots import make_snapshot
from tests.steering.helpers import ask, watched


def thinned(captures, *, keep):
    gone = set(superfluous(captures, keep=keep))
    return [capture for capture in captures if capture not in gone]


def test_the_rule_by_hand():
    """The newest 3 of 24, one of two of the 6 before, one of four of the 12 before those."""
    assert thinned(range(24), keep=3) == [0, 4, 8, 12, 16, 18, 20, 21, 22, 23]


NUMBERS = st.lists(st.integers(0, 400), min_size=1, max_size=120, unique=True).map(sorted)


@given(captures=NUMBERS, keep=st.integers(1, 30))
def test_capture_by_capture_keeps_what_the_rule_keeps_of_all(captures, keep):
    """Nothing goes that a longer run would keep, wherever numbers are missing."""
    there = []
    for capture in captures:
        there = thinned([*there, capture], keep=keep)

    assert there == thinned(captures, keep=keep)
    assert there[0] == captures[0]
    assert there[-keep:] == captures[-keep:] or len(there) < keep or captures[-1] >= keep
    assert there[-1] == captures[-1]


@given(captures=NUMBERS, keep=st.integers(1, 30), every=st.integers(1, 9))
def test_looking_now_and_then_keeps_the_same(captures, keep, every):
    """When one looks decides nothing."""
    there = []
    for number, capture in enumerate(captures):
        there = [*there, capture]
        if number % every == 0:
            there = thinned(there, keep=keep)

    assert thinned(there, keep=keep) == thinned(captures, keep=keep)


@pytest.mark.parametrize(
    ("keep", "kept"), [(1, 14), (10, 100), (50, 379), (100, 658), (1000, 3375)]
)
def test_how_many_of_ten_thousand_stay(keep, kept):
    """The table in docs/data-format.md; about keep * log2(n / keep + 1)."""
    assert len(thinned(range(10000), keep=keep)) == kept
    assert kept == pytest.approx(keep * math.log2(10000 / keep + 1), rel=0.08)


def test_a_thinned_run_reads_as_one_that_never_had_the_rest(tmp_path):
    """Manifest, time series and files agree at every moment; nothing is damaged or missing."""
    path = Run.create(tmp_path / "run", settings={"name": "LeNet"}).path
    writer = RunWriter(path, keep=8)
    for step in range(150):
        writer.commit(files(step), step=step, capture=step)
        if step % 10 == 0:
            assert assert_whole(path).damaged_lines == 0
    writer.close()
    run = assert_whole(path)
    kept = thinned(range(150), keep=8)

    assert list(run.steps()) == kept
    assert [step for step, _ in listed(path, "weights")] == kept
    assert [step for step, _ in listed(path, "maps_atlas")] == kept
    assert sorted(int(file.stem) for file in (path / "weights").iterdir()) == kept


def small(step):
    return [NewFile(view="weights", layer=None, suffix=".vtp", data=str(step).encode())]


def test_f9_a_thinned_run_has_a_small_manifest(tmp_path, monkeypatch):
    """It is written anew when it has doubled, and states the same; who opened the run goes on."""
    monkeypatch.setattr("tensorview.run_writer.SHRINK_BYTES", 2**10)
    path = Run.create(tmp_path / "run", settings={}).path
    sizes = []
    with contextlib.closing(RunWriter(path, keep=2)) as writer:
        for step in range(100):
            writer.commit(small(step), step=step, capture=step)
            sizes.append((path / MANIFEST).stat().st_size)
            if step == 50:
                before = Run.open(path)
    run = Run.open(path)

    assert list(run.steps()) == thinned(range(100), keep=2)
    assert [run.read_bytes("weights", step) for step in run.steps()] == [
        str(step).encode() for step in run.steps()
    ]
    assert before.read_bytes("weights", 0) == b"0"
    with pytest.raises(RemovedStepError):
        before.read_bytes("weights", 50)
    assert sizes != sorted(sizes)
    assert max(sizes) < 4 * 2**10
    assert run.next_capture == 100
    assert run.damaged_lines == 0


def test_f7_numbers_go_on_behind_captures_that_left_the_manifest(tmp_path, monkeypatch):
    """Also where all that was removed was later than all that stays."""
    monkeypatch.setattr("tensorview.run_writer.SHRINK_BYTES", 0)
    path = Run.create(tmp_path / "run", settings={}).path
    with contextlib.closing(RunWriter(path)) as writer:
        for step in range(9):
            writer.commit(small(step), step=step, capture=step)
        before = (path / MANIFEST).stat().st_size
        writer.remove_after(-1)
    left = (path / MANIFEST).read_bytes()

    assert Run.open(path).steps() == ()
    assert Run.open(path).next_capture == 9
    assert len(left) < before / 9
    RunWriter(path).close()


@pytest.mark.parametrize(("call", "error"), FILE_FAULTS)
def test_f3_whichever_call_fails_the_manifest_is_old_or_new(tmp_path, monkeypatch, call, error):
    """While it is written anew: it states the same, and the next capture is in it."""
    monkeypatch.setattr("tensorview.run_writer.SHRINK_BYTES", 0)
    for nth in itertools.count():
        path = Run.create(tmp_path / f"run-{nth}", settings={}).path
        with FailingFiles() as disk:
            writer = RunWriter(path)
            for step in (10, 20):
                writer.commit(small(step), step=step, capture=step)
            disk.fail(call, nth=nth, error=error)
            with contextlib.suppress(OSError):
                writer.remove_after(10)
            failed = disk.failed
            disk.heal()
            assert Run.open(path).steps() in ((10,), (10, 20))
            writer.commit(small(30), step=30, capture=30)
            writer.close()

        assert Run.open(path).steps()[-1] == 30
        assert list(path.rglob(".*.tmp")) == []
        if not failed:
            break

    assert Run.open(path).steps() == (10, 30)


def test_f2_a_manifest_that_could_not_be_read_is_not_written(tmp_path, monkeypatch):
    """What no longer fits is refused with a sentence; all that was written can be read."""
    path = Run.create(tmp_path / "run", settings={}).path
    writer = RunWriter(path)
    writer.commit(small(0), step=0, capture=0)
    size = (path / MANIFEST).stat().st_size
    monkeypatch.setattr("tensorview.run_writer.MAX_MANIFEST_BYTES", size + 10)
    with pytest.raises(OSError, match=r"manifest.jsonl is full: watch with keep=, or in a new run"):
        writer.commit(small(1), step=1, capture=1)
    writer.close()

    assert Run.open(path).steps() == (0,)


def test_a_removed_capture_s_files_stay_a_while(tmp_path, monkeypatch):
    """A client that has the old list may still read them; then they go, without the run's end."""
    path = Run.create(tmp_path / "run", settings={"name": "LeNet"}).path
    writer = RunWriter(path, keep=1)
    for step in range(4):
        writer.commit(files(step), step=step, capture=step)
    gone = set(range(4)) - set(Run.open(path).steps())
    there = {int(file.stem) for file in (path / "weights").iterdir()}
    now = time.monotonic()
    monkeypatch.setattr("tensorview.run_writer.time.monotonic", lambda: now + 11.0)
    writer.commit(files(4), step=4, capture=4)
    left = {int(file.stem) for file in (path / "weights").iterdir()}
    writer.close()

    assert gone
    assert there == set(range(4))
    assert not gone & left


def test_who_opened_the_run_before_is_told(tmp_path):
    """That the step was removed, and not that the run is damaged."""
    path = Run.create(tmp_path / "run", settings={"name": "LeNet"}).path
    writer = RunWriter(path, keep=1)
    for step in range(3):
        writer.commit(files(step), step=step, capture=step)
    early = Run.open(path)
    for step in range(3, 40):
        writer.commit(files(step), step=step, capture=step)
    writer.close()
    gone = next(step for step in early.steps() if step not in Run.open(path).files)
    with pytest.raises(RemovedStepError) as caught:
        early.read_bytes("weights", gone)

    assert str(caught.value) == (
        f"Cannot read 'weights/{gone:08d}.vtp' of run '{path}': the training has removed step "
        f"{gone} since, as keep= of watch() asks. Open the run anew."
    )


def test_a_step_written_again_after_it_was_removed_is_there(tmp_path):
    """A removal concerns one capture, not its step for ever."""
    path = Run.create(tmp_path / "run", settings={"name": "LeNet"}).path
    writer = RunWriter(path, keep=1)
    for step in range(8):
        writer.commit(files(step), step=step, capture=step)
    writer.close()
    assert 5 not in Run.open(path).files
    writer = RunWriter(path)
    writer.commit(files(5), step=5, capture=8)
    writer.close()

    assert 5 in assert_whole(path).files


def test_a_step_written_again_stays_though_its_former_files_were_to_go(tmp_path):
    """Also by the writer that has removed it, while these are still there."""
    path = Run.create(tmp_path / "run", settings={"name": "LeNet"}).path
    writer = RunWriter(path, keep=2)
    for step in range(8):
        writer.commit(files(step), step=step, capture=step)
    assert 5 not in Run.open(path).files
    assert (path / "weights" / "00000005.vtp").exists()
    writer.commit(files(5), step=5, capture=8)
    writer.close()

    assert 5 in assert_whole(path).files


KILLED = """
import sys
from tensorview.run import Run
from tensorview.run_writer import RunWriter
from tests.files.writing import files
writer = RunWriter(sys.argv[1], keep=4)
first = max(Run.open(sys.argv[1]).steps(), default=-1) + 1
for step in range(first, first + 100000):
    writer.commit(files(step), step=step, capture=step)
    print(step, flush=True)
"""


def test_a_killed_writer_leaves_a_readable_run(tmp_path):
    """Whenever it ends; what it had still to remove, the next writer removes."""
    path = Run.create(tmp_path / "run", settings={"name": "LeNet"}).path
    for captures in (1, 9, 12, 30):
        command = [sys.executable, "-c", KILLED, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            for _ in range(captures):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        run = Run.open(path)
        for step in run.steps():
            run.read_bytes("weights", step)
    RunWriter(path, keep=4).close()
    run = assert_whole(path)

    assert len(run.steps()) < 30
    assert max(run.steps()) > 30
    for view in ("weights", "maps", "maps_atlas/conv.1"):
        assert {int(file.stem) for file in (path / view).iterdir()} == set(run.steps())


@pytest.mark.parametrize("call", ["fsync", "replace", "unlink"])
def test_a_disk_that_fails_while_thinning_costs_no_capture(tmp_path, monkeypatch, call):
    """Thinning is tried again later."""
    path = Run.create(tmp_path / "run", settings={"name": "LeNet"}).path
    writer = RunWriter(path, keep=1)
    one = [NewFile(view="weights", layer=None, suffix=".vtp", data=b"x")]

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    for step in range(30):
        with monkeypatch.context() as patched:
            if step % 3 == 1:
                name = "tensorview.run_writer.RunWriter._thin"
                real = RunWriter._thin

                def thin(self, *, at_end, real=real):
                    with monkeypatch.context() as inner:
                        where = os if call == "fsync" else type(path)
                        inner.setattr(where, call, fail)
                        real(self, at_end=at_end)

                patched.setattr(name, thin)
            writer.commit(one, step=step, capture=step)
            assert max(Run.open(path).steps()) == step
    writer.close()

    assert list(Run.open(path).steps()) == thinned(range(30), keep=1)


def test_a_line_of_a_removal_reads_back():
    """And what is nearly one is none."""
    line = to_line(Removal(50, 1))

    assert line == b'{"step":50,"capture":1,"removed":true}\n'
    assert from_line(line) == Removal(50, 1)
    for key, value in [("removed", False), ("removed", 1), ("step", -1), ("capture", True)]:
        with pytest.raises(ValueError, match=r"removal|range"):
            from_line(json.dumps(json.loads(line) | {key: value}).encode() + b"\n")


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "all"])
def test_a_keep_that_makes_no_sense_is_one_sentence(value):
    """Said where it is given."""
    model, optimizer = make_training()
    with pytest.raises(ConfigurationError) as caught:
        tensorview.watch(model, optimizer, keep=value, live=False, formats=())

    assert str(caught.value) == (
        f"keep={value!r} cannot be used: expected how many of the newest captures are all kept, "
        f"1 or more, or None for all of the run."
    )


def test_a_training_thins_what_it_wrote(tmp_path):
    """First and last capture stay, scalars.csv has every row, and pictures can be made."""
    with watched(tmp_path, every=1, keep=2) as (watcher, run):
        train_steps(watcher.model, watcher.optimizer, 40)
        ask(watcher, run, "focus", layer="conv2")
        captures = watcher.status().captures
    saved = Run.open(run)
    steps = saved.steps()
    rows = (run / "scalars.csv").read_text().splitlines()

    assert captures > 40
    assert steps[0] == 1
    assert steps[-1] == watcher.status().step
    assert len(steps) < 16
    assert len(rows) - 1 == watcher.status().step
    for step in steps:
        for entry in saved.files[step].values():
            saved.read(entry)
    assert saved.damaged_lines == 0
    assert (run / MANIFEST).read_bytes().count(b'"removed"') > 20
    export(run, png=True, out=tmp_path / "pictures")
    assert list((tmp_path / "pictures").glob("*.png"))
    assert not {name for name in everything(run) if name.endswith(".tmp")}


@pytest.mark.paraview
def test_paraview_follows_a_run_that_is_thinned(tmp_path):
    """A step that was removed can be shown until the list is read anew; then it is listed no more.

    A time that has no step any more shows the nearest one before.
    """
    path = Run.create(tmp_path / "run", settings={"name": "LeNet"}).path
    sink = FileSink(path, formats=("vtp",), keep=2)
    rng = np.random.default_rng(0)

    def write(steps):
        for step in steps:
            sink.write(make_frame(dataclasses.replace(make_snapshot(rng, step=step), capture=step)))

    write(range(1, 7))
    pvpython = os.environ.get("TENSORVIEW_PVPYTHON") or shutil.which("pvpython")
    script = Path(__file__).with_name("thinned_in_paraview.py")
    with (
        (tmp_path / "errors").open("wb") as errors,
        subprocess.Popen(
            [pvpython, script, path / "weights.pvd"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as viewer,
    ):

        def say(command):
            viewer.stdin.write(f"{command}\n")
            viewer.stdin.flush()
            return json.loads(viewer.stdout.readline())

        early = say("reload")
        points = say("show 5")
        write(range(7, 40))
        gone = [step for step in early if step not in Run.open(path).files]
        while_listed = [say(f"show {step}") for step in gone]
        later = say("reload")
        after = say(f"show {gone[-1]}")
        sink.close()
        at_end = say("reload")
        viewer.stdin.close()

    assert points > 0
    assert len(gone) > 1
    assert while_listed == [points] * len(gone)
    assert after == points
    assert later == at_end == list(Run.open(path).steps())
    assert viewer.returncode == 0
    assert "ERR" not in (tmp_path / "errors").read_text()
