"""Buttons of the window: macro files, commands to the training, and what a person is told."""

import json
import shlex
import time
import types

import pytest

from tensorview import steering
from tensorview.cli import main
from tensorview.client.window import steering as window_steering
from tensorview.client.window.macros import BUTTONS
from tensorview.client.window.steering import Steering
from tensorview.errors import RunError
from tensorview.run import Run
from tests.doubles import wait_until
from tests.steering.helpers import SECONDS, lines, step_until, watched
from tests.steering.test_pause import training


class Desk:
    """A `Steering` as the window has it, with what it said."""

    def __init__(self, run=None, **filters):
        self.said = [""]
        self.selection = types.SimpleNamespace(filters=filters)
        self.steering = Steering(self.said.append, self.selection)
        if run is not None:
            self.steering.run_is(str(run), Run.open(run).id)

    @property
    def status(self):
        """What is said, a pause apart, without the breaks of its lines."""
        return " ".join(self.said[-1].splitlines())

    def polled(self):
        """What is said once the answers have been looked at."""
        self.steering.poll()
        return self.status

    def press(self, name, watcher):
        """Press a button and step on until its answer is on the screen; return what is said."""
        self.steering.press(name)
        sent = self.status
        assert sent.startswith("Sent: "), sent

        step_until(watcher, lambda: self.polled() != sent)
        return self.status


@pytest.fixture
def make_desk():
    """Make desks that let go of their runs in the end."""
    desks = []

    def make(*arguments, **filters):
        desks.append(Desk(*arguments, **filters))
        return desks[-1]

    yield make
    for desk in desks:
        desk.steering.run_is("", "")


@pytest.mark.parametrize(
    ("name", "sent", "message"),
    [
        ("capture", ("capture", {}), "Step {step} is captured."),
        ("more", ("every", {"factor": 0.5}), "Every 20 steps are captured from now on."),
        ("less", ("every", {"factor": 2.0}), "Every 80 steps are captured from now on."),
        ("focus", ("focus", {"layer": "conv2"}), "conv2 is in focus. Step {step} is captured."),
        ("all", ("focus", {"layer": None}), "No layer is in focus. Step {step} is captured."),
        (
            "mark",
            ("select", {"layer": "conv2", "filters": [0, 2]}),
            "Selected in conv2: 0, 2.",
        ),
        (
            "halve",
            ("learning_rate", {"factor": 0.5}),
            "The learning rate is 0.5 times what it was; a scheduler may overwrite it.",
        ),
        (
            "prune",
            ("prune", {"layer": "conv2", "filters": None}),
            "Nothing of conv2 is redundant.",
        ),
        (
            "stop",
            ("stop", {}),
            "watcher.should_stop is set: training ends where its loop reads it.",
        ),
    ],
)
def test_each_button_reaches_the_training_and_tells_its_answer(
    tmp_path, make_desk, name, sent, message
):
    """From the press to the answer in the status line, with the command's exact arguments."""
    with watched(tmp_path, every=40) as (watcher, run):
        desk = make_desk(run, conv2=(0, 2))
        said = desk.press(name, watcher)
        answer = next(line for line in lines(run) if line["id"])
        assert watcher.should_stop == (name == "stop")

    assert said == message.format(step=answer["step"])
    assert (answer["command"], answer["arguments"]) == sent
    assert answer["origin"] == "paraview"


def test_every_button_is_covered():
    """The table above and the pause below know all buttons."""
    marks = test_each_button_reaches_the_training_and_tells_its_answer.pytestmark[0]
    tested = {case[0] for case in marks.args[1]}

    assert tested | {"pause", "resume"} == set(BUTTONS.values())


def test_selected_filters_of_several_layers_are_marked_at_once(tmp_path, make_desk):
    """A command a layer, in the order of the selection."""
    with watched(tmp_path) as (watcher, run):
        desk = make_desk(run, conv1=(1,), conv2=(0, 2))
        desk.steering.press("mark")
        assert desk.status == "Sent: select, select."
        step_until(watcher, lambda: len(watcher.selected) == 2)

        assert watcher.selected == {"conv1": (1,), "conv2": (0, 2)}


def test_what_needs_a_selection_asks_for_it(tmp_path, make_desk):
    """Without one, or with filters of several layers where there must be one."""
    with watched(tmp_path) as (_, run):
        desk = make_desk(run)
        for name in ("focus", "mark", "prune"):
            desk.steering.press(name)
            assert desk.status == (
                "Nothing is selected: pick cells of a layer with ParaView's own tools."
            )
        desk = make_desk(run, conv1=(1,), conv2=(0,))
        desk.steering.press("focus")
        assert desk.status == "Select in one layer only: conv1, conv2 are selected."
        assert not [line for line in lines(run) if line["id"]]


def test_a_pause_is_said_until_it_ends(tmp_path, make_desk):
    """Also above the answers to other commands, and by a window that is opened in it."""
    with training(tmp_path) as (watcher, run):
        desk = make_desk(run)
        desk.steering.press("pause")
        wait_until(lambda: desk.polled().startswith("Training is paused"), seconds=SECONDS)
        paused = desk.status
        assert paused == (
            f"Training is paused after step {watcher.status().step}, for at most 300 s."
        )
        desk.steering.press("more")
        wait_until(lambda: desk.polled().endswith("from now on."), seconds=SECONDS)
        assert desk.status.startswith(f"{paused} Every ")
        late = make_desk(run)
        assert late.status == paused

        late.steering.press("resume")
        goes_on = f"Training goes on after step {watcher.status().step}: resume from paraview."
        wait_until(lambda: desk.polled() == goes_on, seconds=SECONDS)
        wait_until(lambda: late.polled() == goes_on, seconds=SECONDS)


def test_a_pause_at_a_step_is_said_when_it_is_reached(tmp_path, make_desk):
    """A breakpoint set from the command line pauses later, not at once."""
    with training(tmp_path) as (watcher, run):
        desk = make_desk(run)
        step = watcher.status().step + 30
        steering.send(run, "pause", origin="ctl", step=step)
        plan = f"ctl: Training will pause after step {step}, for at most 300 s."
        wait_until(lambda: plan in (desk.polled(), *desk.said), seconds=SECONDS)
        paused = f"Training is paused after step {step}, for at most 300 s."
        wait_until(lambda: desk.polled() == paused, seconds=SECONDS)
        assert [text for text in desk.said if paused in text] == [paused]


def test_a_command_that_is_not_allowed_is_refused_by_name(tmp_path, make_desk):
    """The refusal says which permission is missing."""
    with watched(tmp_path, allow=("capture", "every")) as (watcher, run):
        desk = make_desk(run)

        assert desk.press("stop", watcher) == (
            "'stop' is not allowed: watch() would need allow=('capture', 'every', 'stop')."
        )
        assert not watcher.should_stop


def test_others_commands_are_told_with_their_origin(tmp_path, make_desk):
    """What somebody types elsewhere is no mystery to who looks at the window."""
    with watched(tmp_path) as (watcher, run):
        desk = make_desk(run)
        steering.send(run, "every", origin="ctl", steps=7)
        step_until(watcher, desk.polled)

        assert desk.status == "ctl: Every 7 steps are captured from now on."


def test_a_run_that_has_ended_says_so(tmp_path, make_desk):
    """Nothing is sent to a saved run, nor to one whose process was killed."""
    with watched(tmp_path) as (watcher, run):
        desk = make_desk(run)
        said = desk.press("capture", watcher)
    assert desk.polled() == said  # the last answer stays
    desk.steering.press("capture")
    assert desk.status == f"Nobody listens to commands: the training of {run} has ended."

    killed = lines(run)[0] | {"pid": 2**22 + 1}  # more than Linux gives
    with (run / "steering.jsonl").open("a") as stream:
        stream.write(json.dumps(killed) + "\n")
    desk.steering.poll()
    desk.steering.press("capture")
    assert desk.status == f"Nobody listens to commands: the training of {run} has ended."
    assert (run / "commands.jsonl").read_text().count("\n") == 1


def test_without_a_run_there_is_nothing_to_steer(make_desk):
    """Before the first training, and for one that writes no run directory."""
    desk = make_desk()
    nothing = "There is nothing to steer: no training has come, or it has no run directory."
    desk.steering.press("capture")
    assert desk.status == nothing
    desk.steering.run_is("", "0" * 32)
    desk.steering.press("stop")
    assert desk.status == nothing


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("capture", "capture"),
        ("more", "every --factor 0.5"),
        ("focus", "focus 'conv 1'"),
        ("all", "focus"),
        ("mark", "select 'conv 1' 3 5"),
        ("halve", "learning-rate --factor 0.5"),
        ("prune", "prune 'conv 1'"),
        ("pause", "pause"),
    ],
)
def test_a_run_on_another_machine_is_named_with_what_to_type_there(tmp_path, name, line, make_desk):
    """Whether the path is missing here or holds another run; the line works as it stands."""
    here = tmp_path / "my run"
    Run.create(here, settings={})
    for path in (tmp_path / "missing run", here):
        desk = make_desk(**{"conv 1": (3, 5)})
        desk.steering.run_is(str(path), "f" * 32)
        desk.steering.press(name)

        assert desk.status == (
            "The run directory is not on this machine. Where it is, type: "
            f"tensorview ctl '{path}' {line}"
        )
    assert not (here / "commands.jsonl").exists()


@pytest.mark.parametrize("name", sorted(set(BUTTONS.values())))
def test_the_line_to_type_does_what_the_button_does(tmp_path, name, capsys, make_desk):
    """Typed in a shell, it sends the very command of the button."""
    with watched(tmp_path) as (_, run):
        button, shell = make_desk(run, conv2=(0, 2)), make_desk(conv2=(0, 2))
        button.steering.press(name)
        shell.steering.run_is(str(run), "f" * 32)
        shell.steering.press(name)
        words = shlex.split(shell.status.partition("type: ")[2])
        main([*words[1:], "--wait", "0"])
        capsys.readouterr()
        sent = [json.loads(line) for line in (run / "commands.jsonl").read_text().splitlines()]

    pressed, typed = [(command["command"], command["arguments"]) for command in sent]
    assert pressed == typed
    assert [command["origin"] for command in sent] == ["paraview", "ctl"]


def test_a_training_that_is_slow_to_answer_is_not_forgotten(tmp_path, monkeypatch, make_desk):
    """After some seconds it is said that there is no answer yet; the answer still comes."""
    with watched(tmp_path) as (watcher, run):
        desk = make_desk(run)
        desk.steering.press("capture")
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + window_steering.PATIENCE_SECONDS)
        desk.steering.poll()
        assert desk.status == "No answer yet: the training reads commands between its steps."
        monkeypatch.undo()
        step_until(watcher, lambda: desk.polled().endswith("is captured."))


def test_long_answers_are_broken_into_lines(tmp_path, make_desk):
    """They are written over one of two views; what can be typed is never broken within a word."""
    desk = make_desk(layer=tuple(range(100)))
    desk.steering.run_is("/run", "f" * 32)
    desk.steering.press("mark")
    broken = desk.said[-1].splitlines()

    assert len(broken) > 2
    assert max(map(len, broken)) <= window_steering.LINE
    assert desk.status.endswith(" ".join(map(str, range(100))))
    path = str(tmp_path / ("long-name-" * 20))
    desk.steering.run_is(path, "f" * 32)
    desk.steering.press("capture")
    assert any(path in line for line in desk.said[-1].splitlines())


def test_another_run_starts_afresh(tmp_path, make_desk, monkeypatch):
    """What was said of one run is not said of the next, and commands go to the next."""
    with watched(tmp_path / "a") as (watcher, run):
        desk = make_desk(run)
        desk.press("capture", watcher)
    with watched(tmp_path / "b") as (_, other):
        desk.steering.run_is(str(other), Run.open(other).id)
        assert desk.status == ""
        desk.steering.press("capture")
        desk.steering.run_is("", "")
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + window_steering.PATIENCE_SECONDS)
        assert desk.polled() == ""  # nobody waits for that answer any more
        monkeypatch.undo()

        assert (other / "commands.jsonl").stat().st_size > 0


def test_a_fault_of_ours_is_one_sentence(monkeypatch, make_desk):
    """A button never opens a box with a traceback."""
    desk = make_desk()
    monkeypatch.setattr(window_steering, "COMMANDS", None)
    desk.steering.press("capture")

    assert desk.status.startswith("The button failed: TypeError: ")
    assert "\n" not in desk.status


def test_answers_that_cannot_be_read_are_said_once(tmp_path, monkeypatch, make_desk):
    """The window goes on without them."""

    def fail(_):
        raise RunError("Cannot read steering.jsonl: no such disk.")

    with watched(tmp_path) as (_, run):
        desk = make_desk(run)
        monkeypatch.setattr(steering.Answers, "read", fail)
        for _ in range(3):
            desk.steering.poll()

    assert desk.said[-1] == "Cannot read steering.jsonl: no such disk."
    assert len(desk.said) == 3
