"""Whatever lies in the command file: nothing raises, nothing blocks, later commands still work."""

import json
import logging
import os
import shutil
import time
import uuid

import pytest

import tensorview
from tensorview import steering
from tensorview.errors import RunError
from tensorview.run import Run, read_run_id
from tensorview.steering.commands import MAX_LINE_BYTES, from_line
from tensorview.steering.lines import Tail, append_line
from tests.networks import make_training
from tests.steering.helpers import ask, messages, step_until, watched


def line(run, /, **changes):
    """A command line that would set every=77, with changes."""
    document = {
        "id": uuid.uuid4().hex,
        "run": read_run_id(run),
        "command": "every",
        "arguments": {"steps": 77},
        "origin": "test",
    }
    return json.dumps(document | changes).encode() + b"\n"


def append(run, data):
    with (run / "commands.jsonl").open("ab") as stream:
        stream.write(data)


GARBAGE = {
    "half a line": lambda run: line(run)[:40],
    "half a line, ended": lambda run: line(run)[:40] + b"\n",
    "a line of 10 MB": lambda _: b'{"id": "' + b"x" * 10_000_000 + b'"}\n',
    "10 MB without an end": lambda _: b"{" * 10_000_000,
    "a little too long": lambda run: line(run, origin="x" * MAX_LINE_BYTES),
    "binary": lambda _: bytes(range(256)) * 1000,
    "nul": lambda _: b"\0" * 100_000 + b"\n",
    "deep": lambda _: b'{"a":' * 3000 + b"\n" + b"[" * 15_000 + b"\n",
    "not UTF-8": lambda run: line(run).replace(b"test", b"\xff\xfe"),
    "no object": lambda _: b'3\n"text"\n[]\nnull\n{}\nNaN\n',
    "wrong types": lambda run: b"".join(
        line(run, **change)
        for change in (
            {"id": 3},
            {"id": ""},
            {"id": "x" * 65},
            {"id": "a\nb"},
            {"id": ["x"]},
            {"run": None},
            {"command": ["every"]},
            {"command": {}},
            {"arguments": [77]},
            {"arguments": None},
            {"origin": 5},
            {"origin": "\x1b[31m"},
            {"origin": "\ud800"},
            {"more": 1},
        )
    ),
    "wrong arguments": lambda run: b"".join(
        line(run, arguments=arguments)
        for arguments in (
            {"steps": "77"},
            {"steps": -77},
            {"steps": 77.0},
            {"steps": 10**100},
            {"steps": True},
            {"steps": None},
            {"steps": [77]},
            {"steps": 77, "factor": 2},
            {"factor": float("inf")},
            {"self": 77},
            {"\ud800": 77},
            {},
        )
    ),
    "unknown commands": lambda run: b"".join(
        line(run, command=name) for name in ("", "__init__", "set_focus", "apply", "x" * 10_000)
    ),
    "another run": lambda run: line(run, run="0" * 32) + line(run, run=""),
    "no line break but blanks": lambda _: b"\n\n  \n\r\n",
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_does_nothing_and_later_commands_work(tmp_path, kind):
    """The loop sees no error even when strict, what follows is read, the training is as it was."""
    with watched(tmp_path) as (watcher, run):
        append(run, GARBAGE[kind](run))
        answer = ask(watcher, run, "every", steps=5)

        assert answer.state == "applied"
        assert watcher.status().every == 5
        assert watcher.status().faults == 0
        assert messages(run, "applied") == ["Every 5 steps are captured from now on."]


def test_what_is_no_command_is_said_once(tmp_path, caplog):
    """A log is not flooded with what somebody else writes."""
    with watched(tmp_path) as (watcher, run):
        for _ in range(3):
            append(run, b"{nonsense}\n" * 1000)
            ask(watcher, run, "capture")

    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == ["Lines of commands.jsonl that are no commands are skipped."]


def test_an_id_counts_once(tmp_path):
    """A line that comes twice is obeyed and answered once."""
    with watched(tmp_path) as (watcher, run):
        twice = line(run)
        append(run, twice + line(run, arguments={"steps": 5}) + twice)
        ask(watcher, run, "capture")

        assert watcher.status().every == 5
        assert len(messages(run, "applied")) == 3


def test_a_command_for_another_run_is_ignored_and_answered(tmp_path):
    """Who steers the wrong run hears of it."""
    with watched(tmp_path) as (watcher, run):
        append(run, line(run, run="0" * 32))
        ask(watcher, run, "capture")

        assert messages(run, "ignored") == ["It was meant for another run."]
        assert watcher.status().every == 10**9


def test_a_stale_command_of_a_former_run_does_nothing(tmp_path):
    """What lay in the file before the watcher came is never obeyed, whatever id it carries."""
    with watched(tmp_path) as (watcher, run):
        stop = steering.send(run, "stop")
        step_until(watcher, lambda: steering.wait(run, stop, 0))
        left_over = steering.send(run, "every", steps=77)  # and nobody reads it
    former = (run / "commands.jsonl").read_bytes()
    for left in run.iterdir():
        if left.name not in ("commands.jsonl", "steering.jsonl"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    with watched(tmp_path) as (watcher, run):
        assert (run / "commands.jsonl").read_bytes() == former
        ask(watcher, run, "capture")
        assert not watcher.should_stop
        assert watcher.status().every == 10**9
        assert steering.wait(run, left_over, 0) is None


def test_a_command_that_a_killed_client_left_half_written_spoils_no_other(tmp_path):
    """The next client ends the half line, and is understood."""
    with watched(tmp_path) as (watcher, run):
        append(run, line(run)[:-20])
        assert ask(watcher, run, "every", steps=5).state == "applied"


def remove(path):
    path.unlink()


def replace_with_text(path):
    path.with_name("new").write_bytes(b'{"something": "else"}\n' * 100)
    path.with_name("new").replace(path)


def replace_with_itself(path):
    path.with_name("new").write_bytes(path.read_bytes())
    path.with_name("new").replace(path)


def empty(path):
    os.truncate(path, 0)


@pytest.mark.parametrize("change", [remove, replace_with_text, replace_with_itself, empty])
def test_the_file_may_be_replaced(tmp_path, change):
    """Commands are read from the file that bears the name now; none is obeyed twice."""
    with watched(tmp_path) as (watcher, run):
        ask(watcher, run, "every", steps=5)
        ask(watcher, run, "every", steps=6)
        change(run / "commands.jsonl")
        assert ask(watcher, run, "every", steps=7).state == "applied"

        assert watcher.status().every == 7
        assert len(messages(run, "applied")) == 3


@pytest.mark.parametrize("file", ["commands.jsonl", "steering.jsonl"])
@pytest.mark.parametrize("kind", ["directory", "FIFO", "link", "loop"])
def test_what_is_no_plain_file_neither_blocks_nor_hurts(tmp_path, file, kind):
    """Steps go on at their pace, the client is refused in a sentence, and it works again after."""
    with watched(tmp_path) as (watcher, run):
        path, aside = run / file, tmp_path / "aside"
        path.rename(aside)
        before = aside.read_bytes()
        {
            "directory": path.mkdir,
            "FIFO": lambda: os.mkfifo(path),
            "link": lambda: path.symlink_to(aside),
            "loop": lambda: path.symlink_to(path),
        }[kind]()
        if file == "commands.jsonl":
            with pytest.raises(RunError, match=rf"Cannot steer run '.*': {file}: .+\."):
                steering.send(run, "capture")
        else:
            steering.send(run, "capture")
        started = time.monotonic()
        step_until(watcher, lambda: time.monotonic() > started + 0.5)

        assert aside.read_bytes() == before
        assert watcher.status().faults == 0
        path.rmdir() if kind == "directory" else path.unlink()
        aside.rename(path)
        assert ask(watcher, run, "every", steps=5).state == "applied"


def test_what_cannot_be_read_is_said_once(tmp_path, caplog):
    """One warning names the file and what is the matter with it."""
    with watched(tmp_path) as (watcher, run):
        (run / "commands.jsonl").unlink()
        (run / "commands.jsonl").mkdir()
        started = time.monotonic()
        step_until(watcher, lambda: time.monotonic() > started + 1.0)

    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == ["commands.jsonl is not read: it is not a plain file."]


def test_somebody_elses_file_is_not_read(tmp_path):
    """In a directory that others can write to, only the owner of the run steers it."""
    append_line(tmp_path, "commands.jsonl", b"")
    tails = [
        Tail(tmp_path, "commands.jsonl", max_line_bytes=100, from_end=False, owner=owner)
        for owner in (os.geteuid(), os.geteuid() + 1)
    ]
    append_line(tmp_path, "commands.jsonl", b"{}\n")

    assert [tail.read() for tail in tails] == [[b"{}"], []]
    assert [tail.problem for tail in tails] == ["", "it belongs to somebody else"]
    for tail in tails:
        tail.close()


def test_only_the_owner_can_write_commands(tmp_path):
    """Both files are made with mode 0600, whatever the umask allows."""
    former = os.umask(0)
    try:
        with watched(tmp_path) as (_watcher, run):
            modes = [(run / name).stat().st_mode for name in ("commands.jsonl", "steering.jsonl")]
    finally:
        os.umask(former)

    assert [mode & 0o777 for mode in modes] == [0o600, 0o600]


def test_a_full_disk_hurts_neither_training_nor_client(tmp_path, monkeypatch, caplog):
    """Commands are obeyed unanswered, and that is said once."""
    with watched(tmp_path) as (watcher, run):

        def full(*_arguments):
            raise OSError(28, "No space left on device")

        for steps in (5, 6):
            steering.send(run, "every", steps=steps)
        with monkeypatch.context() as patched:
            patched.setattr("tensorview.steering.listener.append_line", full)
            step_until(watcher, lambda: watcher.status().every == 6)

        assert watcher.status().faults == 0
        assert ask(watcher, run, "capture").state == "applied"
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == ["steering.jsonl is not written: No space left on device."]


def test_a_client_hears_of_a_full_disk(tmp_path, monkeypatch):
    """A command that was not written whole was not sent."""
    run = Run.create(tmp_path / "run", settings={"name": "none"}).path
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda _descriptor, data: len(data) // 2)
        with pytest.raises(RunError, match=r"commands\.jsonl: No space left on device\."):
            steering.send(run, "capture")


def test_the_run_directory_may_vanish(tmp_path):
    """Training goes on without it."""
    with watched(tmp_path, strict=False) as (watcher, run):
        run.rename(tmp_path / "away")
        started = time.monotonic()
        step_until(watcher, lambda: time.monotonic() > started + 0.5)

        (tmp_path / "away").rename(run)
        assert ask(watcher, run, "every", steps=5).state == "applied"


def test_a_flood_is_read_in_shares_and_given_up_in_the_end(tmp_path, monkeypatch, caplog):
    """One look reads a bounded part; beyond a bound in all nobody listens any more."""
    monkeypatch.setattr("tensorview.steering.listener.MAX_TOTAL_BYTES", 20_000_000)
    with watched(tmp_path, strict=False) as (watcher, run):
        append(run, b"x" * 30_000_000)
        step_until(watcher, lambda: messages(run, "closed"))
        sent = steering.send(run, "capture")
        started = time.monotonic()
        step_until(watcher, lambda: time.monotonic() > started + 0.5)

        assert steering.wait(run, sent, 10) is None  # at once, since nobody listens
        assert time.monotonic() < started + 5
    why = "commands.jsonl is read no more: more than 20000000 bytes have come."
    assert messages(run, "closed") == [why]
    assert why in [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_who_hears_nothing_more_is_not_paused_either(tmp_path, monkeypatch):
    """A breakpoint that nobody could end goes with the commands that came before it."""
    monkeypatch.setattr("tensorview.steering.listener.MAX_TOTAL_BYTES", 5_000)
    with watched(tmp_path) as (watcher, run):
        at = watcher.status().step + 200
        ask(watcher, run, "pause", step=at, seconds=60)
        append(run, b"{nonsense}\n" * 1000)
        step_until(watcher, lambda: messages(run, "closed"))
        step_until(watcher, lambda: watcher.status().step > at)

        assert messages(run, "paused") == []
        assert len(messages(run, "closed")) == 1


def test_one_look_reads_no_more_than_a_share(tmp_path):
    """However much has come, a step is not held up by it."""
    tail = Tail(tmp_path, "f", max_line_bytes=1000, from_end=False)
    (tmp_path / "f").write_bytes(b'{"x": 1}\n' * 1_000_000)

    assert 1 <= len(tail.read()) < 20_000
    assert tail.total < 100_000
    tail.close()


@pytest.mark.parametrize("size", [1, 7, 1000, 70_000])
def test_lines_are_the_same_however_they_arrive(tmp_path, size):
    """Each line once and whole, wherever the pieces are cut; too long ones are counted."""
    wanted = [b'{"n": %d, "s": "%s"}' % (n, b"y" * (n % 50)) for n in range(500)]
    wanted.insert(100, b'{"too": "' + b"z" * 5000 + b'"}')
    wanted.insert(200, b"no object")
    data = b"\n".join(wanted) + b"\n"
    tail = Tail(tmp_path, "f", max_line_bytes=2000, from_end=False)
    found = []
    with (tmp_path / "f").open("ab", buffering=0) as stream:
        for start in range(0, len(data), size):
            stream.write(data[start : start + size])
            if size > 1 or start % 50 == 0:
                found += tail.read()
    while more := tail.read():
        found += more

    assert found == [text for text in wanted if len(text) < 2000 and text.startswith(b"{")]
    assert tail.passed_over == 2
    tail.close()


def test_from_line_takes_what_to_line_makes():
    """And nothing that lacks a part of it."""
    whole = {"id": "a", "run": "b", "command": "c", "arguments": {}, "origin": "d"}
    assert from_line(json.dumps(whole).encode()).command == "c"
    for name in whole:
        part = {key: value for key, value in whole.items() if key != name}
        assert from_line(json.dumps(part).encode()) is None


def test_answers_are_read_past_what_is_none(tmp_path):
    """A client, too, takes only lines that are answers."""
    with watched(tmp_path) as (watcher, run):
        with (run / "steering.jsonl").open("ab") as stream:
            stream.write(b'garbage\n{"state": "applied"}\n{"state": "listening", "pid": "x"}\n[]\n')
        assert ask(watcher, run, "capture").state == "applied"
        watcher.step()
        watcher.step()

    with steering.Answers(run) as answers:
        said = answers.read()
        assert [answer.state for answer in said] == ["listening", "applied", "closed"]
        assert said[-1].step == watcher.status().step
        assert answers.training is None


def test_nothing_is_read_after_close(tmp_path):
    """The watcher's end is the end of steering; the file is let go."""
    with watched(tmp_path) as (watcher, run):
        pass
    steering.send(run, "every", steps=5)
    for _ in range(3):
        watcher.step()

    assert watcher.status().every == 10**9
    assert watcher.status().state == "closed"
    assert messages(run, "closed") == ["Training is watched no more."]


def test_a_second_watcher_of_a_model_listens_in_the_formers_place(tmp_path):
    """A notebook that runs its cell again steers the new run; the former is closed."""
    model, optimizer = make_training()
    tensorview.watch(model, optimizer, run_dir=tmp_path / "a", live=False)
    with tensorview.watch(model, optimizer, run_dir=tmp_path / "b", live=False) as watcher:
        watcher.step()
        assert messages(tmp_path / "a", "closed") == ["Training is watched no more."]
        assert ask(watcher, tmp_path / "b", "capture").state == "applied"
