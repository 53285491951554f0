"""A run directory: made once, opened whatever happened to it, trusted only as far as proved."""

from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
import os
import re
import stat
import subprocess
import sys
import time
import tracemalloc
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tensorview.errors import RunError, UnwritableRunError
from tensorview.manifest import MANIFEST
from tensorview.run import RUN_FILE, SCHEMA_VERSION, Run
from tensorview.run_writer import NewFile, RunWriter
from tests.doubles import FILE_FAULTS, FailingFiles

DATA = bytes(range(256)) * 4
NOW = datetime(2031, 7, 9, 23, 59, tzinfo=timezone.utc)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


def write(path, *, step=50, capture=1, data=DATA):
    writer = RunWriter(path)
    writer.commit(
        [
            NewFile(view="weights", layer=None, suffix=".vtp", data=data),
            NewFile(view="maps_atlas", layer="../conv", suffix=".vti", data=data),
        ],
        step=step,
        capture=capture,
    )
    writer.close()


@pytest.fixture
def written(path):
    Run.create(path, settings={"name": "LeNet"})
    write(path)
    return path


def refusal(call, *arguments, **keywords):
    with pytest.raises(RunError) as caught:
        call(*arguments, **keywords)
    return str(caught.value)


def test_settings_read_back(path):
    """What the training process said about itself is there for every reader."""
    settings = {"name": "LeNet", "every": 50, "layers": ["conv1", "é\0", "../x"], "ratio": 0.1}
    Run.create(path, settings=settings)

    run = Run.open(path)

    assert settings == run.settings
    assert datetime.fromisoformat(run.created).tzinfo is not None
    assert run.steps() == ()


def test_only_the_owner_can_look_into_a_run(path):
    """Nobody else on a shared machine sees the weights."""
    old = os.umask(0)
    try:
        Run.create(path, settings={})
    finally:
        os.umask(old)

    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_directory_that_is_there_is_used(path):
    """A user may make the directory, with other files in it."""
    path.mkdir(mode=0o755)
    (path / "notes.txt").write_text("mine")
    Run.create(path, settings={})

    assert Run.open(path).settings == {}
    assert (path / "notes.txt").read_text() == "mine"


def test_f6_a_run_is_never_overwritten(written):
    """A second training does not mix into the first one's files."""
    message = refusal(Run.create, written, settings={"name": "other"})

    today = Run.open(written).created[:10]
    assert message == (
        f"Cannot write a run in '{written}': it already holds a run of LeNet from {today}. "
        f"Give another run_dir, remove it, or give start_step= to continue it."
    )
    assert Run.open(written).settings["name"] == "LeNet"


@pytest.mark.parametrize("name", [RUN_FILE, MANIFEST])
def test_what_is_left_of_a_run_is_never_overwritten(path, name):
    """Neither is a run whose run.json is damaged or gone."""
    path.mkdir()
    (path / name).write_text("{")

    assert refusal(Run.create, path, settings={}) == (
        f"Cannot write a run in '{path}': it already holds a run that cannot be read. "
        f"Give another run_dir, remove it, or give start_step= to continue it."
    )


def test_f5_a_file_is_no_run_directory(path):
    """A path that is a file is refused."""
    path.write_text("mine")

    assert refusal(Run.create, path, settings={}) == (
        f"Cannot write a run in '{path}': it is not a directory. Give another run_dir."
    )
    assert path.read_text() == "mine"


@pytest.mark.parametrize("below", ["x", "x/y"])
def test_f5_a_file_in_the_way_is_named(path, below):
    """A mistaken path is an error, and no reason to train without files."""
    path.write_text("mine")

    with pytest.raises(RunError) as caught:
        Run.create(path / below, settings={})
    assert str(caught.value) == (
        f"Cannot write a run in '{path / below}': '{path}' is not a directory. "
        f"Give another run_dir."
    )
    assert type(caught.value) is RunError
    with pytest.raises(RunError, match=f"'{path}' is not a directory") as caught:
        Run.create_default("x", now=NOW, settings={}, parent=path)
    assert type(caught.value) is RunError


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a\0b", "embedded null byte"), ("x" * 300, "File name too long")],
)
def test_f5_what_cannot_be_a_path_is_refused(path, name, reason):
    """Neither can such a path become writable."""
    with pytest.raises(RunError, match=f"^Cannot write a run in .*{reason}. Give") as caught:
        Run.create(path / name, settings={})
    assert type(caught.value) is RunError


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_f5_an_unwritable_place_is_said(path, monkeypatch, call):
    """Where nothing can be written at the moment, that is said at once, as its own error."""

    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(f"pathlib.Path.{call}", full)

    with pytest.raises(UnwritableRunError) as caught:
        Run.create(path, settings={})
    place = path if call == "mkdir" else path / f".{RUN_FILE}.tmp"
    assert str(caught.value) == (
        f"Cannot write a run in '{path}': {place}: No space left on device. Give another run_dir."
    )


@pytest.mark.parametrize(
    ("call", "error"), [fault for fault in FILE_FAULTS if fault[0] in ("open", "write", "replace")]
)
def test_f3_whichever_call_fails_a_run_is_begun_or_its_place_is_free(path, call, error):
    """Then the same path can be used once the disk takes it."""
    for nth in itertools.count():
        with FailingFiles() as disk:
            disk.fail(call, nth=nth, error=error)
            try:
                run = Run.create(path, settings={"name": "x"})
            except UnwritableRunError:
                assert list(path.iterdir()) == []
                continue
            assert run.settings == Run.open(path).settings == {"name": "x"}
            assert [file.name for file in path.iterdir()] == [RUN_FILE]
            break

    assert nth > 0 or (call, error) in (("write", 0), ("write", errno.EINTR))


def test_default_directories_do_not_collide(tmp_path, monkeypatch):
    """The third training of a day gets its own directory."""
    found = [
        Run.create_default("Le/Net", now=NOW, settings={"name": "Le/Net"}, parent=tmp_path)
        for _ in range(3)
    ]
    monkeypatch.chdir(tmp_path)

    assert [run.path.name for run in found] == [
        "2031-07-09-Le%2FNet",
        "2031-07-09-Le%2FNet-2",
        "2031-07-09-Le%2FNet-3",
    ]
    assert stat.S_IMODE(found[0].path.stat().st_mode) == 0o700
    assert Run.create_default("x", now=NOW, settings={}).path == (
        tmp_path / "tensorview_runs" / "2031-07-09-x"
    )


def test_a_run_that_was_made_meanwhile_is_not_overwritten(path, monkeypatch):
    """Not even by one that had just found the place free."""
    mkdir = Path.mkdir

    def mkdir_after_rival(self, *arguments, **keywords):
        monkeypatch.undo()
        mkdir(self)
        Run.create(path, settings={"name": "rival"})
        return mkdir(self, *arguments, **keywords)

    monkeypatch.setattr("pathlib.Path.mkdir", mkdir_after_rival)

    assert "it already holds a run of rival" in refusal(Run.create, path, settings={"name": "x"})
    assert Run.open(path).settings == {"name": "rival"}
    assert [p.name for p in path.iterdir()] == [RUN_FILE]


def test_a_run_that_is_being_made_is_taken(path):
    """While one process writes run.json, no other does."""
    path.mkdir()
    (path / f".{RUN_FILE}.tmp").write_text("")

    assert "it already holds a run" in refusal(Run.create, path, settings={})


def claim(parent, barrier, results, rounds, by_default):
    """Start *rounds* runs at the same moments as others do."""
    for number in range(rounds):
        place, me = parent / str(number), {"name": "x", "pid": os.getpid()}
        barrier.wait()
        try:
            if by_default:
                run = Run.create_default("x", now=NOW, settings=me, parent=place)
            else:
                run = Run.create(place, settings=me)
        except RunError as error:
            results.put((number, type(error).__name__, str(error)))
        else:
            results.put((number, "", (run.path.name, run.settings == me)))


@pytest.mark.parametrize("by_default", [True, False])
def test_f6_trainings_that_start_at_once_share_no_run(tmp_path, by_default):
    """By default each gets a directory of its own; one that all name is given to one of them."""
    rounds, count = 30, 4
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count), context.Queue()
    arguments = (tmp_path, barrier, results, rounds, by_default)
    processes = [context.Process(target=claim, args=arguments) for _ in range(count)]
    for process in processes:
        process.start()
    said = sorted((results.get(timeout=60) for _ in range(rounds * count)), key=str)
    for process in processes:
        process.join()
    results.close()
    results.join_thread()

    for number in range(rounds):
        mine = [(kind, what) for n, kind, what in said if n == number]
        runs = sorted(what for kind, what in mine if not kind)
        errors = [what for kind, what in mine if kind == "RunError"]
        if by_default:
            names = ["2031-07-09-x", *(f"2031-07-09-x-{n}" for n in range(2, count + 1))]

            assert [(name, True) for name in names] == runs
        else:
            assert [(str(number), True)] == runs
            assert len(errors) == count - 1
            assert all("it already holds a run" in text for text in errors)


def test_files_read_back(written):
    """Every file of a run can be read by view, step and layer."""
    run = Run.open(written)

    assert (50,) == run.steps() == run.steps("weights") == run.steps("maps_atlas")
    assert run.steps("maps") == ()
    assert run.read_bytes("weights", 50) == DATA
    assert run.read_bytes("maps_atlas", 50, layer="../conv") == DATA
    assert (written / "maps_atlas" / "%2E.%2Fconv" / "00000050.vti").is_file()


def test_what_was_not_written_is_said(written):
    """Asking for another step or layer names both."""
    run = Run.open(written)

    assert refusal(run.read_bytes, "weights", 51) == (
        f"Cannot read weights at step 51 of run '{written}': not written."
    )
    assert refusal(run.read_bytes, "maps_atlas", 50, layer="x") == (
        f"Cannot read maps_atlas of layer 'x' at step 50 of run '{written}': not written."
    )


def test_every_flipped_byte_is_found(written):
    """No damaged byte ever reaches VTK."""
    run = Run.open(written)
    file = written / "weights" / "00000050.vtp"
    for position in range(len(DATA)):
        damaged = bytearray(DATA)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)

        assert refusal(run.read_bytes, "weights", 50) == (
            f"Cannot read 'weights/00000050.vtp' of run '{written}': it is damaged, the CRC of "
            f"its 1024 bytes is not the one that was committed."
        )


@pytest.mark.parametrize("size", [0, 1, 1023])
def test_a_cut_file_is_found(written, size):
    """A file that ends early is refused, with the place where it ends."""
    (written / "weights" / "00000050.vtp").write_bytes(DATA[:size])

    assert refusal(Run.open(written).read_bytes, "weights", 50) == (
        f"Cannot read 'weights/00000050.vtp' of run '{written}': it is damaged, it ends at byte "
        f"{size} instead of 1024."
    )


def test_a_grown_file_is_refused_unread(written):
    """A file that is larger than was committed is not read into memory."""
    os.truncate(written / "weights" / "00000050.vtp", 2**40)

    assert refusal(Run.open(written).read_bytes, "weights", 50).endswith(
        f"it has {2**40} bytes, expected at most 1024."
    )


def test_a_replaced_step_is_whole_as_old_and_as_new(written):
    """When a writer dies between stating a replaced file and replacing it, both are good."""
    write(written, capture=2, data=DATA[::-1])
    run = Run.open(written)
    file = written / "weights" / "00000050.vtp"

    assert DATA[::-1] == run.read_bytes("weights", 50)

    file.write_bytes(DATA)

    assert run.read_bytes("weights", 50) == DATA

    file.write_bytes(DATA[:512] + DATA[::-1][512:])

    assert "it is damaged" in refusal(run.read_bytes, "weights", 50)


def link(written, tmp_path):
    (tmp_path / "secret").write_bytes(DATA)
    (written / "weights" / "00000050.vtp").unlink()
    (written / "weights" / "00000050.vtp").symlink_to(tmp_path / "secret")
    return "Too many levels of symbolic links"


def link_directory(written, tmp_path):
    (written / "weights").rename(tmp_path / "elsewhere")
    (written / "weights").symlink_to(tmp_path / "elsewhere")
    return "Not a directory"


def fifo(written, _):
    (written / "weights" / "00000050.vtp").unlink()
    os.mkfifo(written / "weights" / "00000050.vtp")
    return "it is not a plain file"


def directory(written, _):
    (written / "weights" / "00000050.vtp").unlink()
    (written / "weights" / "00000050.vtp").mkdir()
    return "it is not a plain file"


def missing(written, _):
    (written / "weights" / "00000050.vtp").unlink()
    return "No such file or directory"


@pytest.mark.parametrize("make", [link, link_directory, fifo, directory, missing])
def test_nothing_outside_the_run_is_read(written, tmp_path, make):
    """Links, pipes and directories in the place of a file are refused, at once."""
    reason = make(written, tmp_path)

    assert refusal(Run.open(written).read_bytes, "weights", 50) == (
        f"Cannot read 'weights/00000050.vtp' of run '{written}': {reason}."
    )


@pytest.mark.parametrize("name", [RUN_FILE, MANIFEST])
def test_linked_indexes_are_refused(written, tmp_path, name):
    """Neither run.json nor the manifest may point elsewhere."""
    (written / name).rename(tmp_path / "elsewhere")
    (written / name).symlink_to(tmp_path / "elsewhere")

    assert "Too many levels of symbolic links" in refusal(Run.open, written)


@pytest.mark.parametrize("path_in_manifest", ["../secret", "/etc/passwd", "weights/../../secret"])
def test_a_manifest_cannot_point_outside(written, path_in_manifest):
    """A line with any path but its own file's does not count."""
    line = json.loads((written / MANIFEST).read_text().splitlines()[0])
    line["file"] = path_in_manifest
    (written / MANIFEST).write_text(json.dumps(line) + "\n")
    run = Run.open(written)

    assert run.steps() == ()
    assert run.damaged_lines == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "its run.json is damaged"),
        ("{", "its run.json is damaged"),
        ("[" * 500_000, "its run.json is damaged"),
        ('{"a":' * 200_000, "its run.json is damaged"),
        ("9" * 100_000, "its run.json is damaged"),
        ("\udcff\ud800", "its run.json is damaged"),
        ("[]", "its run.json is not that of a run"),
        ('{"schema": true}', "its run.json is not that of a run"),
        ('{"schema": 1, "created": 5, "settings": {}}', "its run.json is not that of a run"),
        ('{"schema": 1, "created": "", "settings": []}', "its run.json is not that of a run"),
        ('{"schema": 99}', "it has schema version 99, expected 1"),
        (" " * 3_000_000, "run.json: it has 3000000 bytes, expected at most 2097152"),
    ],
)
def test_hostile_run_files_give_one_clear_error(path, content, expected):
    """Whatever run.json holds, opening says so in one sentence, quickly and in little memory."""
    assert SCHEMA_VERSION == 1
    path.mkdir()
    (path / RUN_FILE).write_bytes(content.encode("utf-8", "surrogatepass"))
    tracemalloc.start()
    begin = time.monotonic()
    try:
        message = refusal(Run.open, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert re.fullmatch(rf"Cannot open run '{path}': {re.escape(expected)}\..*", message)
    assert peak < 100 * 2**20
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize(
    "tail",
    [b"\0" * 50_000_000, b"\n" * 3_000_000, b"{" * 10_000_000, b"[[" * 20_000 + b"\n", b'{"step'],
    ids=["zeros", "lines", "braces", "deep", "cut"],
)
def test_hostile_manifests_keep_their_intact_lines(written, tail):
    """Garbage behind good lines costs none of them, and neither time nor memory."""
    with (written / MANIFEST).open("ab") as stream:
        stream.write(tail)
    tracemalloc.start()
    begin = time.monotonic()
    try:
        run = Run.open(written)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert run.read_bytes("weights", 50) == DATA
    assert run.damaged_lines > 0
    assert peak < 100 * 2**20
    assert time.monotonic() - begin < 2


def test_a_huge_manifest_is_refused_unread(written):
    """A manifest beyond its bound gives an error instead of filling the memory."""
    os.truncate(written / MANIFEST, 2**40)

    assert refusal(Run.open, written) == (
        f"Cannot read run '{written}': {MANIFEST}: it has {2**40} bytes, expected at most "
        f"{256 * 2**20}."
    )


def test_no_run_is_said(tmp_path):
    """Opening another directory, or none, names what is missing."""
    for path in (tmp_path, tmp_path / "none"):
        assert refusal(Run.open, path) == f"Cannot open run '{path}': there is no run.json in it."


def test_only_the_standard_library_is_needed():
    """The training process and the command line can import the run without numpy or VTK."""
    code = (
        "import sys, tensorview.run, tensorview.run_writer\n"
        "print({m.partition('.')[0] for m in sys.modules} & {'numpy', 'vtkmodules', 'torch'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
