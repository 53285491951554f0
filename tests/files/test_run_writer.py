"""Captures are whole or absent, whatever ends the writer, and cost the same in the long run."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import tensorview
from tensorview.errors import RunError
from tensorview.manifest import MANIFEST, Entry
from tensorview.pvd import LAG, Collection
from tensorview.run import Run
from tensorview.run_writer import NewFile, RunWriter
from tensorview.whole_files import replace_file
from tests.doubles import FILE_FAULTS, LONG, FailingFiles
from tests.files.writing import VIEWS, content, files, is_whole

WRITING = [sys.executable, "-m", "tests.files.writing"]


@pytest.fixture
def path(tmp_path):
    return Run.create(tmp_path / "run", settings={"name": "LeNet"}).path


@pytest.fixture
def writer(path):
    with_close = RunWriter(path)
    yield with_close
    with_close.close()


def commit(writer, step, *, capture=None):
    writer.commit(files(step), step=step, capture=step if capture is None else capture)


def listed(path, view):
    """Steps and files of a collection, as an XML reader sees them."""
    root = ET.fromstring((path / f"{view}.pvd").read_text())  # noqa: S314
    return [(int(d.get("timestep")), d.get("file")) for d in root.iter("DataSet")]


def everything(path):
    """Content of all files below *path*."""
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def assert_whole(path):
    """Every file at a final name proves itself; every listed one can be read."""
    run = Run.open(path)
    for step in run.steps():
        for view in VIEWS:
            assert content(view, step) == run.read_bytes(view, step)
    for found in [*path.rglob("*.vtp"), *path.rglob("*.vti")]:
        assert is_whole(found.read_bytes())
    for collection in path.glob("*.pvd"):
        for _, file in listed(path, collection.stem):
            assert is_whole((path / file).read_bytes())
    return run


def test_a_capture_reads_back(path, writer):
    """What was committed is there: in the manifest, as files, as a time series."""
    commit(writer, 50, capture=0)
    commit(writer, 100, capture=1)
    writer.idle()
    run = assert_whole(path)

    assert run.steps("weights") == (50, 100)
    assert [run.entries(s, view="maps", suffix=".vtp")[0].capture for s in (50, 100)] == [0, 1]
    assert [(s, f"weights/{s:08d}.vtp") for s in (50, 100)] == listed(path, "weights")
    assert [(s, f"maps_atlas/conv.1/{s:08d}.vti") for s in (50, 100)] == listed(path, "maps_atlas")


def test_a_step_written_again_is_listed_once(path, writer):
    """A run that goes on from a checkpoint replaces steps: content, views and order."""
    for step in (40, 50, 60):
        commit(writer, step)
    again = [NewFile(view="weights", layer=None, suffix=".vtp", data=b"new")]
    writer.commit(again, step=50, capture=61)
    writer.commit(again, step=45, capture=62)
    writer.close()
    run = Run.open(path)

    assert run.steps("weights") == (40, 45, 50, 60)
    assert run.steps("maps") == (40, 60)
    assert run.read_bytes("weights", 50) == b"new"
    assert [step for step, _ in listed(path, "weights")] == [40, 45, 50, 60]
    assert [step for step, _ in listed(path, "maps")] == [40, 60]
    assert not (path / "maps" / "00000050.vtp").exists()


def test_a_new_writer_goes_on(path):
    """A restarted worker sweeps what the killed one left and lists what it did not."""
    writer = RunWriter(path)
    commit(writer, 0)
    commit(writer, 1)
    writer.close()
    for pvd in path.glob("*.pvd"):
        pvd.write_text(pvd.read_text().replace('timestep="1"', 'timestep="7"'))
    (path / "weights" / ".00000002.vtp.tmp").write_bytes(b"half")
    with (path / MANIFEST).open("ab") as stream:
        stream.write(b'{"step":2,"capt')
    writer = RunWriter(path)
    commit(writer, 2)
    writer.close()
    run = assert_whole(path)

    assert run.steps() == (0, 1, 2)
    assert run.damaged_lines == 0
    assert [step for step, _ in listed(path, "weights")] == [0, 1, 2]
    assert list(path.rglob("*.tmp")) == []


def test_no_writer_without_a_run(tmp_path):
    """A worker started on the wrong directory says so."""
    with pytest.raises(RunError) as caught:
        RunWriter(tmp_path)

    assert str(caught.value) == f"Cannot open run '{tmp_path}': there is no run.json in it."


@pytest.mark.parametrize(("call", "error"), FILE_FAULTS)
def test_f3_whichever_call_fails_a_capture_is_there_or_is_not(tmp_path, monkeypatch, call, error):
    """Each open, write, fsync, replace and mkdir, one after the other: nothing of it, or all.

    Earlier files are byte-identical, and the next capture is written.
    """
    monkeypatch.setattr("tensorview.run_writer.SETTLE_SECONDS", 0.0)
    for nth in itertools.count():
        path = Run.create(tmp_path / f"run-{nth}", settings={}).path
        with FailingFiles() as disk:
            writer = RunWriter(path)
            commit(writer, 10)
            shutil.rmtree(path / "scalars")  # to be made anew
            before = everything(path)
            disk.fail(call, nth=nth, error=error)
            try:
                commit(writer, 20)
            except OSError as raised:
                assert raised.errno == error  # noqa: PT017  # a loop that ends without one
                assert before == everything(path)
                steps = (10, 30)
            else:
                steps = (10, 20, 30)
            failed = disk.failed
            disk.heal()
            commit(writer, 30)
            writer.close()

        assert Run.open(path).steps() == steps
        assert {(step, view) for step in steps for view in VIEWS} - {(10, "scalars")} == {
            (step, view)
            for step in steps
            for view in VIEWS
            if (path / view / f"{step:08d}.vtp").exists()
            and content(view, step) == Run.open(path).read_bytes(view, step)
        }
        assert [step for step, _ in listed(path, "weights")] == list(steps)
        assert list(path.rglob("*.tmp")) == []
        if not failed:
            break

    assert nth >= {"fsync": 1, "mkdir": 4}.get(call, 5)


@pytest.mark.parametrize(("call", "error"), FILE_FAULTS)
def test_f3_whichever_call_fails_a_file_is_old_or_new(tmp_path, monkeypatch, call, error):
    """Of a step that is written again each file is whole, and no mixture."""
    new = [NewFile(view=v, layer=None, suffix=".vtp", data=b"new " + v.encode()) for v in VIEWS]
    monkeypatch.setattr("tensorview.run_writer.SETTLE_SECONDS", 0.0)
    for nth in itertools.count():
        path = Run.create(tmp_path / f"run-{nth}", settings={}).path
        with FailingFiles() as disk:
            writer = RunWriter(path)
            commit(writer, 10)
            disk.fail(call, nth=nth, error=error)
            with contextlib.suppress(OSError):
                writer.commit(new, step=10, capture=11)
            failed = disk.failed
            disk.heal()
            run = Run.open(path)
            found = {view: run.read_bytes(view, 10) for view in VIEWS}
            writer.close()

        for file in new:
            assert found[file.view] in (file.data, content(file.view, 10))
        assert list(path.rglob("*.tmp")) == []
        if not failed:
            break

    assert found == {file.view: file.data for file in new}


def test_f2_a_full_disk_costs_only_what_does_not_fit(path):
    """Under a real limit of the kernel, earlier files stay and later ones are written."""
    writer = RunWriter(path)
    small = [NewFile(view="weights", layer=None, suffix=".vtp", data=b"s" * 1000)]
    large = [
        NewFile(view="weights", layer=None, suffix=".vtp", data=b"s" * 1000),
        NewFile(view="maps", layer=None, suffix=".vtp", data=b"l" * 100_000),
    ]
    writer.commit(small, step=1, capture=1)
    before = everything(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError):
            writer.commit(large, step=2, capture=2)
        left = everything(path)
        writer.commit(small, step=3, capture=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.close()

    assert before == left
    assert Run.open(path).steps() == (1, 3)


def test_f3_a_collection_that_cannot_be_written_is_made_up_for(path, writer, monkeypatch):
    """A failing .pvd costs no capture: it is tried again, and said at the end if it lasts."""

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("tensorview.pvd.replace_file", fail)
        commit(writer, 10)
        with pytest.raises(OSError, match="No space left on device"):
            writer.close()

    assert assert_whole(path).steps() == (10,)

    writer.close()

    assert [step for step, _ in listed(path, "weights")] == [10]


@pytest.mark.parametrize("replaced", [False, True])
def test_p4_what_a_killed_writer_stated_is_not_lost_on_a_full_disk(path, replaced):
    """Its successor gets the capture again, finds it whole, and writes nothing.

    Where a step was being replaced, and is not whole, it is written.
    """
    with contextlib.closing(RunWriter(path)) as killed:
        commit(killed, 10)
        commit(killed, 20)
    if replaced:  # the former content, as if it ended between the manifest and the files
        (path / "weights/00000020.vtp").write_bytes(b"former")
    writer = RunWriter(path)
    with FailingFiles() as disk:
        disk.fail("write", nth=0, error=28)
        if replaced:
            with pytest.raises(OSError, match="No space left on device"):
                commit(writer, 20)
        else:
            commit(writer, 20)
        disk.fail("write", nth=0, error=28)
        with pytest.raises(OSError, match="No space left on device"):
            commit(writer, 20, capture=21)
        disk.heal()
        commit(writer, 20)
    writer.close()

    assert assert_whole(path).steps() == (10, 20)
    assert [step for step, _ in listed(path, "weights")] == [10, 20]


@pytest.mark.parametrize("harm", ["moved", "removed", "manifest removed", "another run"])
def test_f1_a_run_that_is_gone_takes_no_captures(path, tmp_path, harm):
    """They are refused, and so counted; nothing is made or changed where the run was or has gone.

    A directory that comes back takes captures again.
    """
    writer, away = RunWriter(path, keep=2), tmp_path / "away"
    for step in range(1, 12):
        commit(writer, step)
    if harm == "manifest removed":
        (path / MANIFEST).rename(away)
    else:
        path.rename(away)
    if harm == "removed":
        shutil.rmtree(away)
    if harm == "another run":
        Run.create(path, settings={"name": "another"})
        with contextlib.closing(RunWriter(path)) as other:
            commit(other, 5)
    before = everything(path), everything(away)
    with pytest.raises(RunError, match=r"its manifest\.jsonl is not there any more, or another"):
        commit(writer, 50)
    writer.idle()

    assert (everything(path), everything(away)) == before
    if harm in ("moved", "manifest removed"):
        away.rename(path if harm == "moved" else path / MANIFEST)
        commit(writer, 60)
        writer.close()

        assert assert_whole(path).steps()[-1] == 60
    else:
        with pytest.raises(RunError, match="is not there any more"):
            writer.close()

        assert (everything(path), everything(away)) == before


def large(number):
    """Two files that prove themselves and take many writes."""
    body = random.Random(number).randbytes(2**18)
    parts = [hashlib.sha256(body).digest(), *(body[i : i + 2**13] for i in range(0, 2**18, 2**13))]
    return [
        NewFile(view=view, layer=None, suffix=".vtp", data=parts) for view in ("weights", "maps")
    ]


LARGE = [large(number) for number in range(3)]


def test_f1_killed_writers_tear_no_file(tmp_path):
    """40 kills at random moments: no file at a final name is torn, and the run opens.

    The next one sweeps what the killed one left. (Real workers and trainings: `test_killed.py`.)
    """
    rng, steps = random.Random(20), 0
    for number in range(4):
        path = Run.create(tmp_path / f"run-{number}", settings={}).path
        for _ in range(10):
            committed, commits = os.pipe()
            pid = os.fork()
            if pid == 0:
                writer = RunWriter(path)
                for step in itertools.count(writer.last_step + 1):
                    writer.commit(LARGE[step % len(LARGE)], step=step, capture=step)
                    os.write(commits, b".")
            os.close(commits)
            for _ in range(rng.randrange(4)):  # on a busy machine, too, some are written
                os.read(committed, 1)
            time.sleep(rng.uniform(0, 0.04))
            os.kill(pid, signal.SIGKILL)
            os.close(committed)
            assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
            killed = Run.open(path)
            for view in ("weights", "maps"):
                for step in killed.steps()[-2:]:
                    killed.read_bytes(view, step)
                for last in sorted((path / view).glob("*.vtp"))[-3:]:
                    assert is_whole(last.read_bytes())
        RunWriter(path).close()
        run = Run.open(path)

        assert list(range(len(run.steps()))) == list(run.steps())
        assert list(path.rglob("*.tmp")) == []
        assert list(run.steps()) == [step for step, _ in listed(path, "weights")]
        steps += len(run.steps())

    assert steps > 40


def test_f8_readers_see_only_complete_files(path):
    """Whoever reads while 2,000 captures are written finds whole files and valid lists."""
    done = threading.Event()
    with subprocess.Popen([*WRITING, path, "2000", "2"], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        threading.Thread(target=lambda: (process.wait(), done.set())).start()
        rounds = 0
        while not done.is_set():
            run = Run.open(path)
            assert run.damaged_lines <= 1  # the line being written
            for step in run.steps()[-20:]:
                assert content("weights", step) == run.read_bytes("weights", step)
            for collection in path.glob("*.pvd"):
                for _ in range(20):  # as often as a list is written
                    last = listed(path, collection.stem)[-20:]
                for _, file in last:
                    assert is_whole((path / file).read_bytes())
            rounds += 1
            time.sleep(0.05)

    assert process.returncode == 0
    assert rounds > 3
    assert len(Run.open(path).steps()) == 2000


@pytest.mark.long
def test_f9_a_long_run_costs_no_more_per_capture(writer):
    """The last of 2,000 captures of 5 layers (long: 10,000) cost about as much as the second 100.

    The figure, of a whole training: row 13 of `python -m benchmarks.speed.long`.
    """
    costs = []
    for step in range(10_000 if LONG else 2000):
        layers = [
            NewFile(view="maps_atlas", layer=layer, suffix=".vti", data=b"x") for layer in "abcde"
        ]
        begin = time.perf_counter()
        writer.commit(layers, step=step, capture=step)
        costs.append(time.perf_counter() - begin)

    assert statistics.median(costs[-100:]) <= 3 * statistics.median(costs[100:200])


def test_collections_lag_by_a_thousandth_at_most(tmp_path, monkeypatch):
    """A long time series is not written anew at each capture, and is complete once flushed."""
    listed_at_write = []

    def write(path, data):
        listed_at_write.append(data.count(b"<DataSet"))
        replace_file(path, data)

    monkeypatch.setattr("tensorview.pvd.replace_file", write)
    entries = {}
    collection = Collection(tmp_path / "weights.pvd", find=lambda: entries)
    for step in range(3 * LAG):
        entry = Entry(step, step, "weights", None, f"weights/{step:08d}.vtp", 1, 1)
        entries[step] = [entry]
        collection.set(step, [entry])
        collection.flush_if_due()

        assert step + 1 - listed_at_write[-1] <= (step + 1) / LAG

    collection.flush()

    assert listed_at_write[-1] == 3 * LAG
    assert len(listed_at_write) < 2 * LAG


def test_captures_that_follow_each_other_share_one_sync_and_one_writing_of_lists(
    path, writer, monkeypatch
):
    """Both come at most once a second, and as soon as there is a pause; files are there at once."""
    calls = []
    monkeypatch.setattr("tensorview.run_writer.SETTLE_SECONDS", 1000.0)
    monkeypatch.setattr("tensorview.run_writer.os.fsync", lambda _: calls.append("sync"))
    for step in range(1, 6):
        commit(writer, step)

    assert calls == ["sync"]
    assert assert_whole(path).steps() == (1, 2, 3, 4, 5)
    assert [step for step, _ in listed(path, "weights")] == [1]

    writer.idle()
    writer.idle()

    assert calls == ["sync", "sync"]
    assert [step for step, _ in listed(path, "weights")] == [1, 2, 3, 4, 5]

    monkeypatch.setattr("tensorview.run_writer.SETTLE_SECONDS", 0.0)
    commit(writer, 6)

    assert calls == ["sync", "sync", "sync"]
    assert [step for step, _ in listed(path, "weights")] == [1, 2, 3, 4, 5, 6]


def test_no_list_names_a_file_that_was_replaced_by_none(path, writer, monkeypatch):
    """A step that is written again with fewer views leaves the lists of the others at once."""
    monkeypatch.setattr("tensorview.run_writer.SETTLE_SECONDS", 1000.0)
    commit(writer, 1)
    fewer = [NewFile(view="weights", layer=None, suffix=".vtp", data=content("weights", 1))]
    writer.commit(fewer, step=1, capture=2)

    assert listed(path, "maps") == []
    assert [step for step, _ in listed(path, "weights")] == [1]


def test_content_may_come_in_parts(path, writer):
    """Parts of any size and kind are one file, with one checksum."""
    parts = [b"head", memoryview(np.arange(30_000.0)), b"", memoryview(np.int32(7).tobytes())]
    writer.commit(
        [NewFile(view="weights", layer=None, suffix=".vtp", data=parts)], step=1, capture=1
    )

    assert Run.open(path).read_bytes("weights", 1) == b"".join(map(bytes, parts))


def test_a_time_series_that_somebody_changed_is_listed_anew(path, writer):
    """Emptied, removed or edited: the next writing lists every step, by the manifest."""
    commit(writer, 1)
    for step, harm in enumerate([b"", None, b"<VTKFile/>"], start=2):
        pvd = path / "weights.pvd"
        pvd.unlink() if harm is None else pvd.write_bytes(harm)
        commit(writer, step)
        writer.idle()

        assert [found for found, _ in listed(path, "weights")] == [*range(1, step + 1)]


def held_by_tensorview():
    """Bytes that were allocated in tensorview's own lines: other threads allocate, too."""
    ours = tracemalloc.Filter(True, f"{Path(tensorview.__file__).parent}/*")
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([ours]).traces)


def test_a_writer_remembers_no_more_of_a_long_run(path):
    """What is known of old captures stays on disk."""
    held = []
    tracemalloc.start()
    try:
        writer = RunWriter(path)
        for steps in (range(50), range(50, 250)):
            for step in steps:
                commit(writer, step)
            writer.idle()  # lists of the last second are written
            held.append(held_by_tensorview())
    finally:
        tracemalloc.stop()
    writer.close()

    # Bytes; 1,400 a capture where entries and lines were kept.
    assert held[1] - held[0] < 200 * 50, held
