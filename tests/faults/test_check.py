"""`tensorview check`: what is damaged is named, and dropped on request."""

import contextlib
import errno
import os
import re
import shutil
import subprocess
import sys
from unittest.mock import Mock

import pytest

from tensorview.check import prove
from tensorview.cli import main
from tensorview.errors import RunError
from tensorview.manifest import MANIFEST
from tensorview.run import Run
from tensorview.run_lock import RunLock
from tensorview.run_writer import NewFile, RunWriter

VIEWS = ("weights", "maps")


@pytest.fixture
def run(tmp_path):
    """Three captures of two views."""
    path = Run.create(tmp_path / "run", settings={"name": "net"}).path
    writer = RunWriter(path)
    for capture, step in enumerate((10, 20, 30)):
        writer.commit(
            [
                NewFile(view=view, layer=None, suffix=".vtp", data=f"{view} {step}".encode())
                for view in VIEWS
            ],
            step=step,
            capture=capture,
        )
    writer.close()
    return path


def content(run):
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file()
    }


def check(run, *options, capsys):
    """Return exit code and what was printed."""
    code = main(["check", str(run), *options])
    return code, capsys.readouterr().out


def prove_that_nobody_touches(run, expected, *, capsys):
    """Neither a repair nor who goes on changes anything; both say the same."""
    before = content(run)

    assert main(["check", str(run), "--repair"]) == 1
    assert expected in capsys.readouterr().err
    with pytest.raises(RunError, match=re.escape(expected)):
        RunWriter(run)
    assert {name: data for name, data in content(run).items() if name != "lock"} == before


def flip(run):
    (run / "weights/00000020.vtp").write_bytes(b"weights 2O")
    return (
        f"Cannot read 'weights/00000020.vtp' of run '{run}': it is damaged, the CRC of its 10 "
        f"bytes is not the one that was committed.\n"
        f"{run}: 3 captures, 6 files, 1 of them damaged or missing.\n"
    )


def cut(run):
    (run / "maps/00000010.vtp").write_bytes(b"maps")
    return (
        f"Cannot read 'maps/00000010.vtp' of run '{run}': it is damaged, it ends at byte 4 instead "
        f"of 7.\n{run}: 3 captures, 6 files, 1 of them damaged or missing.\n"
    )


def lose(run):
    for view in VIEWS:
        (run / f"{view}/00000030.vtp").unlink()
    return "".join(
        f"Cannot read '{view}/00000030.vtp' of run '{run}': No such file or directory.\n"
        for view in VIEWS
    ) + (f"{run}: 3 captures, 6 files, 2 of them damaged or missing.\n")


def leave(run):
    (run / "weights/00000040.vtp").write_bytes(b"of a killed writer")
    (run / "weights/.00000050.vtp.tmp").write_bytes(b"of a")
    return (
        "'weights/.00000050.vtp.tmp' is in no line of manifest.jsonl.\n"
        "'weights/00000040.vtp' is in no line of manifest.jsonl.\n"
        f"{run}: 3 captures, 6 files, 0 of them damaged or missing.\n"
    )


def lag(run):
    text = (run / "maps.pvd").read_text()
    (run / "maps.pvd").write_text(text.replace("00000030", "00000031"))
    (run / "weights.pvd").unlink()
    return (
        "Cannot read 'weights.pvd': No such file or directory.\n"
        "'maps.pvd' lacks 1 files of the run, and lists 1 that are not.\n"
        f"{run}: 3 captures, 6 files, 0 of them damaged or missing.\n"
    )


def scribble(run):
    lines = (run / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    lines[2] = b'{"step": 20, garbage\n'
    (run / "manifest.jsonl").write_bytes(b"".join(lines))
    return (
        "'weights.pvd' lacks 0 files of the run, and lists 1 that are not.\n"
        "'weights/00000020.vtp' is in no line of manifest.jsonl.\n"
        "1 lines of manifest.jsonl cannot be read.\n"
        f"{run}: 3 captures, 5 files, 0 of them damaged or missing.\n"
    )


def test_a_whole_run_is_said_to_be_whole(run, capsys):
    """Exit code 0, one line, and nothing is touched."""
    before = content(run)
    code, said = check(run, capsys=capsys)

    assert (code, said) == (0, f"{run}: 3 captures, 6 files, 0 of them damaged or missing.\n")
    assert check(run, "--repair", capsys=capsys) == (code, said)
    assert content(run).items() - {("lock", content(run).get("lock"))} == before.items()


@pytest.mark.parametrize("harm", [flip, cut, lose, leave, lag, scribble])
def test_what_is_damaged_is_named_and_dropped(run, capsys, harm):
    """Each finding is one sentence; a check changes nothing; after a repair the run is whole."""
    expected = harm(run)
    harmed = content(run)
    code, said = check(run, capsys=capsys)
    advice = said.removeprefix(expected)

    assert code == 1
    assert said.startswith(expected)
    assert advice.startswith("With --repair what is named above is dropped")
    assert content(run) == harmed

    code, said = check(run, "--repair", capsys=capsys)

    assert code == 0
    assert said.startswith(expected)
    assert check(run, capsys=capsys)[0] == 0
    whole = content(run)
    for name, data in harmed.items():
        if name.endswith(".vtp") and name in whole:
            assert whole[name] == data
    assert sum(name.endswith(".vtp") for name in whole) == {
        flip: 5, cut: 5, lose: 4, leave: 6, lag: 6, scribble: 5
    }[harm]  # fmt: skip


def test_files_of_the_user_are_no_orphans(run, capsys):
    """What we did not make is neither named nor removed."""
    for name in (
        "notes.txt",
        "weights/mine.vtp",
        "pictures/00000010.png",
        "tables/00000010.csv",
        ".checkpoint.pt.tmp",
    ):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("mine")
    (run / "weights/00000010.vtp").unlink()
    check(run, "--repair", capsys=capsys)

    assert {name for name, data in content(run).items() if data == b"mine"} == {
        "notes.txt",
        "weights/mine.vtp",
        "pictures/00000010.png",
        "tables/00000010.csv",
        ".checkpoint.pt.tmp",
    }


def test_f1_a_worker_that_comes_again_leaves_files_of_the_user(run):
    """It sweeps what one before it left, in the midst of a training that saves beside it."""
    for name in (".checkpoint.pt.tmp", ".weights.pvd.tmp", ".scalars.csv.tmp"):
        (run / name).write_text("half")
    RunWriter(run).close()

    assert [path.name for path in run.glob(".*")] == [".checkpoint.pt.tmp"]


@pytest.mark.parametrize("held", [b"", b"\0\0", b"4321 host\n", b"4321\n", b"poetry 1.2\n[a]\n"])
def test_f6_a_lock_of_somebody_else_stays(run, held, capsys):
    """Only a file that is empty, or says who wrote here, is written."""
    (run / "maps/00000020.vtp").unlink()
    (run / "lock").write_bytes(held)
    ours = held in (b"", b"\0\0", b"4321 host\n")

    assert main(["check", str(run), "--repair"]) == (0 if ours else 1)
    if not ours:
        assert (run / "lock").read_bytes() == held
        assert capsys.readouterr().err == (
            f"tensorview: Cannot write in run '{run}': its file lock is not one of tensorview. "
            f"Move it away.\n"
        )


@pytest.mark.parametrize("harm", ["gone", "empty", "garbage"])
def test_f1_a_run_without_its_manifest_is_not_swept(run, capsys, harm):
    """Neither by a repair nor by who goes on: its files are no orphans of a killed writer."""
    if harm == "gone":
        (run / MANIFEST).unlink()
    else:
        (run / MANIFEST).write_bytes(b"" if harm == "empty" else b"garbage\n")
    expected = (
        f"Cannot write run '{run}': manifest.jsonl states nothing, and there are files of 3 "
        f"steps. Put it back, or remove the folders of the views."
    )

    prove_that_nobody_touches(run, expected, capsys=capsys)

    for view in VIEWS:
        shutil.rmtree(run / view)
    assert check(run, "--repair", capsys=capsys)[0] == 0


def test_f1_the_first_capture_of_a_killed_writer_is_swept(run):
    """It was not stated yet: then nothing was lost but what was being written."""
    for path in run.rglob("000000[23]0.vtp"):
        path.unlink()
    (run / MANIFEST).write_bytes(b"")
    RunWriter(run).close()

    assert list(run.rglob("*.vtp")) == []


@pytest.mark.parametrize("other", ["flip", "lose"])
def test_f3_a_repair_keeps_a_file_that_was_not_replaced_in_time(run, capsys, monkeypatch, other):
    """A step was written again, and its writer ended before it moved the new file into place."""
    with contextlib.closing(RunWriter(run)) as writer, monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.replace", Mock(side_effect=OSError(5, "I/O error")))
        with pytest.raises(OSError, match="I/O error"):
            writer.commit(
                [NewFile(view="weights", layer=None, suffix=".vtp", data=b"new")],
                step=10,
                capture=3,
            )
    assert Run.open(run).read_bytes("weights", 10) == b"weights 10"
    {"flip": flip, "lose": lose}[other](run)
    check(run, "--repair", capsys=capsys)

    assert check(run, capsys=capsys)[0] == 0
    assert Run.open(run).read_bytes("weights", 10) == b"weights 10"
    assert Run.open(run).next_capture == 4


def test_f6_nothing_is_locked_that_is_no_run(tmp_path, capsys):
    """Whoever repairs the wrong directory finds it as it was."""
    for held in ((), ("lock",)):
        for name in held:
            (tmp_path / name).write_text("4321 host\n")

        assert main(["check", str(tmp_path), "--repair"]) == 1
        assert "there is no run.json in it" in capsys.readouterr().err
        assert content(tmp_path) == dict.fromkeys(held, b"4321 host\n")


def test_a_run_that_is_being_written_is_not_repaired(run, capsys):
    """A repair takes the run's lock; a check needs none."""
    lock = RunLock(run)
    (run / "maps/00000020.vtp").unlink()

    assert main(["check", str(run)]) == 1
    assert main(["check", str(run), "--repair"]) == 1
    assert "writes in it. Wait until it has ended" in capsys.readouterr().err
    lock.close()


def test_what_is_no_run_is_one_sentence(tmp_path):
    """As every command says it."""
    done = subprocess.run(
        [sys.executable, "-m", "tensorview", "check", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"tensorview: Cannot open run '{tmp_path}': there is no run.json in it.\n"
    )


def test_a_repaired_run_can_be_continued(run, capsys):
    """Numbers of captures go on, and the next writer finds nothing to sweep."""
    shutil.rmtree(run / "maps")
    check(run, "--repair", capsys=capsys)
    writer = RunWriter(run)
    writer.commit(
        [NewFile(view="maps", layer=None, suffix=".vtp", data=b"new")], step=40, capture=3
    )
    writer.close()

    assert check(run, capsys=capsys)[0] == 0
    assert Run.open(run).steps("maps") == (40,)
    assert Run.open(run).steps("weights") == (10, 20, 30)


def test_f1_a_manifest_that_lost_its_end_takes_no_files_with_it(run, capsys):
    """More steps follow than are stated: they were stated once, and stay.

    Few may have been stated in the second before a power failure, and are swept.
    """
    lines = (run / MANIFEST).read_bytes().splitlines(keepends=True)
    (run / MANIFEST).write_bytes(b"".join(lines[: len(VIEWS)]))
    expected = (
        f"Cannot write run '{run}': manifest.jsonl states nothing after step 10, and there are "
        f"files of 2 steps after it. Put it back, or remove these files."
    )

    prove_that_nobody_touches(run, expected, capsys=capsys)

    assert check(run, capsys=capsys)[1].splitlines()[-1] == expected

    (run / MANIFEST).write_bytes(b"".join(lines[: 2 * len(VIEWS)]))

    assert check(run, "--repair", capsys=capsys)[0] == 0
    assert Run.open(run).steps() == (10, 20)


def test_f1_files_of_removed_steps_are_swept(run):
    """However many: the manifest states that they were removed before they are."""
    before = {path: path.read_bytes() for path in run.rglob("000000[23]0.vtp")}
    with contextlib.closing(RunWriter(run)) as writer:
        writer.remove_after(10)
    for path, data in before.items():
        path.write_bytes(data)
    RunWriter(run).close()

    assert not any(path.exists() for path in before)
    assert prove(run).whole


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_f3_what_cannot_be_read_just_now_is_not_dropped(run, capsys, monkeypatch, error):
    """It may be whole; so a repair changes nothing, and says what to do."""
    (run / "maps/00000030.vtp").unlink()
    before = content(run)
    real = os.open

    def refuse(path, *arguments, **keywords):
        if str(path) == "00000020.vtp":
            raise OSError(error, os.strerror(error))
        return real(path, *arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)

        assert main(["check", str(run)]) == main(["check", str(run), "--repair"]) == 1
    said = capsys.readouterr()
    expected = (
        f"Cannot repair run '{run}': 2 of its files, such as 'weights/00000020.vtp', cannot be "
        f"read, so they may be whole. Make them readable."
    )
    assert said.out.splitlines()[-1] == expected
    assert said.err == f"tensorview: {expected}\n"
    assert {name: data for name, data in content(run).items() if name != "lock"} == before


def test_f2_going_on_makes_room_on_a_full_disk(run, monkeypatch):
    """Lists cannot be written until files of removed steps have left: these go all the same."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = RunWriter(run)
    with monkeypatch.context() as patched:
        patched.setattr("tensorview.pvd.replace_file", full)

        assert writer.remove_after(10) == 2
    writer.close()

    assert sorted(path.name for path in run.rglob("*.vtp")) == ["00000010.vtp"] * 2
    assert prove(run).whole


def test_what_is_missing_is_not_looked_for_anew_each_time(run, monkeypatch):
    """The manifest of a long run takes a second to read; it is the same for every missing file."""
    for path in run.rglob("*.vtp"):
        path.unlink()
    real, count = Run.open.__func__, 0

    def counted(cls, path):
        nonlocal count
        count += 1
        return real(cls, path)

    monkeypatch.setattr(Run, "open", classmethod(counted))

    assert len(prove(run).damaged) == 6
    assert count == 1


def test_a_file_of_almost_our_name_is_the_users(run, capsys):
    """A hidden one, for example."""
    (run / "weights/.00000099.vtp").write_bytes(b"of the user")

    assert check(run, "--repair", capsys=capsys)[0] == 0
    RunWriter(run).close()
    assert (run / "weights/.00000099.vtp").read_bytes() == b"of the user"
