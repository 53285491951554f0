"""Each command does what it says, within one capture, or says why it does not."""

import logging
import re
import subprocess
import sys

import pytest
import torch

import tensorview
from tensorview import steering
from tensorview.errors import ConfigurationError, RunError
from tensorview.run import Run
from tests.networks import make_training
from tests.steering.helpers import ask, lines, messages, step_until, watched


def test_capture_captures_the_step_that_hears_of_it(tmp_path):
    """The picture is of the step at which the command is answered."""
    with watched(tmp_path) as (watcher, run):
        answer = ask(watcher, run, "capture")

        assert answer.state == "applied"
        assert answer.message == f"Step {answer.step} is captured."
        assert watcher.snapshot().step == answer.step
    assert answer.step in Run.open(run).steps()


def test_two_captures_at_once_make_one(tmp_path):
    """A step that is captured needs no second capture, and both are answered."""
    with watched(tmp_path) as (watcher, run):
        steering.send(run, "capture")
        ask(watcher, run, "capture")

        assert watcher.status().captures == 2  # the first step, and this one
        assert len(messages(run, "applied")) == 2


@pytest.mark.parametrize(
    ("arguments", "every"), [({"steps": 7}, 7), ({"factor": 0.5}, 20), ({"factor": 1e-9}, 1)]
)
def test_every_changes_how_often_is_captured(tmp_path, arguments, every):
    """By a number or by a factor; the next captures follow it, and the status says so."""
    with watched(tmp_path, every=40) as (watcher, run):
        answer = ask(watcher, run, "every", **arguments)
        start = watcher.status().step
        while watcher.status().step < start + 50:
            watcher.step()

        which = "Every step is" if every == 1 else f"Every {every} steps are"
        assert answer.message == f"{which} captured from now on."
        assert watcher.status().every == every
        assert f"every {every} steps" in str(watcher.status())
    expected = [step for step in range(start + 1, start + 51) if step % every == 0]
    assert set(expected) <= set(Run.open(run).steps())


def test_focus_shows_in_a_capture_at_once(tmp_path):
    """The layer's name is in the snapshot of the very step, and goes again without a name."""
    with watched(tmp_path) as (watcher, run):
        answer = ask(watcher, run, "focus", layer="conv2")
        assert answer.message == f"conv2 is in focus. Step {answer.step} is captured."
        assert (watcher.snapshot().step, watcher.snapshot().focus) == (answer.step, "conv2")
        assert watcher.status().focus == "conv2"
        assert "focus on conv2" in str(watcher.status())

        answer = ask(watcher, run, "focus", layer=None)
        assert answer.message == f"No layer is in focus. Step {answer.step} is captured."
        assert (watcher.snapshot().step, watcher.snapshot().focus) == (answer.step, "")


def test_select_is_there_for_the_users_code(tmp_path):
    """Filters by layer; none takes them away again."""
    with watched(tmp_path) as (watcher, run):
        assert ask(watcher, run, "select", layer="conv1", filters=[3, 1]).message == (
            "Selected in conv1: 3, 1."
        )
        assert watcher.selected == {"conv1": (3, 1)}

        ask(watcher, run, "select", layer="conv1", filters=[])
        assert watcher.selected == {}


def test_stop_sets_should_stop_and_nothing_else(tmp_path):
    """The user's loop reads it; the status says so."""
    with watched(tmp_path) as (watcher, run):
        assert not watcher.should_stop
        ask(watcher, run, "stop")

        assert watcher.should_stop
        assert watcher.status().should_stop
        assert "asked to stop" in str(watcher.status())
        assert watcher.status().state == "running"


def rates(watcher):
    return [float(group["lr"]) for group in watcher.optimizer.param_groups]


def test_the_learning_rate_of_every_group_is_set(tmp_path):
    """To a value or by a factor, and tensors in place, since a CUDA graph may hold them."""
    with watched(tmp_path) as (watcher, run):
        held = torch.tensor(0.5)
        watcher.optimizer.add_param_group({"params": torch.nn.Parameter(torch.ones(1)), "lr": held})
        answer = ask(watcher, run, "learning_rate", value=0.25)

        assert answer.message == "The learning rate is 0.25; a scheduler may overwrite it."
        assert rates(watcher) == [0.25, 0.25]
        ask(watcher, run, "learning_rate", factor=0.5)
        assert rates(watcher) == [0.125, 0.125]
        assert watcher.optimizer.param_groups[1]["lr"] is held


def test_without_an_optimizer_there_is_no_learning_rate(tmp_path):
    """It is refused in a sentence, also when the optimizer has been collected."""
    model, _ = make_training()
    run = tmp_path / "run"
    with tensorview.watch(model, run_dir=run, live=False, allow="learning_rate") as watcher:
        answer = ask(watcher, run, "learning_rate", value=1.0)

    assert answer.state == "refused"
    assert answer.message == (
        "There is no learning rate to change: watch() was given no optimizer that has one."
    )


def test_in_distributed_training_the_learning_rate_stays(tmp_path, monkeypatch):
    """One process alone would step away from the others, whose gradients it shares."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with watched(tmp_path) as (watcher, run):
        before = rates(watcher)
        answer = ask(watcher, run, "learning_rate", factor=0.5)

        assert answer.state == "refused"
        assert answer.message == (
            "Cannot change the learning rate of a distributed training: the other processes would "
            "keep theirs, and the models would drift apart."
        )
        assert rates(watcher) == before


REFUSED = [
    ("focus", {"layer": "conv3"}, "There is no watched layer 'conv3'. Did you mean 'conv2' or "),
    (
        "select",
        {"layer": "conv1", "filters": [0, 4]},
        "Layer 'conv1' has 4 filters, 0 to 3: there is no 4.",
    ),
    ("prune", {"layer": "fc0"}, "There is no watched layer 'fc0'. Did you mean 'fc'?"),
    ("prune", {"layer": "fc", "filters": [9]}, "Layer 'fc' has 3 filters, 0 to 2: there is no 9."),
    ("prune", {"layer": "fc"}, "Cannot prune layer 'fc': no other layer reads its filters."),
    ("resume", {}, "Training is not paused."),
    ("pause", {"step": 1}, "Step 1 is over: training is at step "),
]


@pytest.mark.parametrize(("command", "arguments", "message"), REFUSED)
def test_what_cannot_be_done_is_refused_in_a_sentence(tmp_path, command, arguments, message):
    """It names what is wrong, and nothing is changed."""
    with watched(tmp_path) as (watcher, run):
        for _ in range(3):
            watcher.step()
        answer = ask(watcher, run, command, **arguments)

        assert answer.state == "refused"
        assert answer.message.startswith(message)
        assert (watcher.status().state, watcher.status().focus) == ("running", "")
        assert watcher.selected == {}


BAD_ARGUMENTS = [
    ("evry", {}, "There is no command 'evry'. Did you mean 'every'?"),
    ("capture", {"step": 3}, "capture takes no argument 'step': it has none."),
    ("every", {}, "every takes one argument, steps or factor; 0 were given."),
    ("every", {"steps": 1, "factor": 1}, "every takes one argument, steps or factor; 2 were given"),
    ("every", {"steps": 2.5}, "every cannot take steps=2.5: expected a whole number, 1 or more."),
    ("every", {"steps": True}, "every cannot take steps=True: expected a whole number, 1 or more."),
    ("every", {"factor": float("nan")}, "every cannot take factor=nan: expected a number above 0."),
    ("focus", {"layer": 3}, "focus cannot take layer=3: expected a layer's name, or None for all."),
    ("focus", {"lyer": "a"}, "focus takes no argument 'lyer': expected layer."),
    ("select", {"layer": "a"}, "select needs filters: a list of filters' numbers."),
    ("select", {"layer": "a", "filters": [-1]}, "select cannot take filters=[-1]: expected a list"),
    ("pause", {"seconds": 90000}, "pause cannot take seconds=90000: expected seconds, above 0 and"),
    ("pause", {"seconds": 10**400}, "pause cannot take seconds=1000000"),
    ("learning_rate", {"value": -1}, "learning_rate cannot take value=-1: expected a number, 0 or"),
]


@pytest.mark.parametrize(("command", "arguments", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_one_sentence_and_never_sent(tmp_path, command, arguments, message):
    """What, what was found, what was expected."""
    run = Run.create(tmp_path / "run", settings={"name": "none"}).path

    with pytest.raises(ConfigurationError, match=re.escape(message)):
        steering.send(run, command, **arguments)
    assert not (run / "commands.jsonl").exists()


@pytest.mark.parametrize("command", ["pause", "resume", "stop", "learning_rate", "prune"])
def test_what_was_not_allowed_is_refused_by_name_and_logged(tmp_path, caplog, command):
    """Opt-in means opt-in: one warning says what allow= would need, and nothing changes."""
    needs = "pause" if command == "resume" else command
    arguments = {"learning_rate": {"value": 1.0}, "prune": {"layer": "fc"}}.get(command, {})
    with watched(tmp_path, allow=steering.ALLOWED_BY_DEFAULT) as (watcher, run):
        before = rates(watcher)
        answer = ask(watcher, run, command, **arguments)
        ask(watcher, run, command, **arguments)

        assert answer.state == "refused"
        assert answer.message == (
            f"{command!r} is not allowed: watch() would need "
            f"allow=('capture', 'every', 'focus', 'select', '{needs}')."
        )
        assert not watcher.should_stop
        assert rates(watcher) == before
    logged = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert logged == [f"A command from python was refused: {answer.message}"]


def test_the_default_lets_clients_look_and_not_touch(tmp_path):
    """What changes a training is never allowed unasked."""
    model, optimizer = make_training()
    run = tmp_path / "run"
    with tensorview.watch(model, optimizer, run_dir=run, live=False) as watcher:
        assert watcher.settings.allow == ("capture", "every", "focus", "select")

    assert lines(run)[0]["allow"] == ["capture", "every", "focus", "select"]


def test_nothing_allowed_refuses_everything(tmp_path):
    """With allow=() not even a capture comes from outside."""
    with watched(tmp_path, allow=()) as (watcher, run):
        answer = ask(watcher, run, "capture")

        assert answer.message == "'capture' is not allowed: watch() would need allow=('capture',)."
        assert watcher.status().captures == 1
    assert "it allows nothing" in lines(run)[0]["message"]


@pytest.mark.parametrize(
    ("allow", "sentence"),
    [
        (("captur",), "allow=('captur',) cannot be used. 'captur' is none. Did you mean 'capture'"),
        ("resume", "allow=('resume',) cannot be used. 'resume' is none. "),
        (3, "allow=3 cannot be used: expected several, for example a tuple."),
    ],
)
def test_a_permission_that_there_is_not_is_one_sentence(tmp_path, allow, sentence):
    """A typo in allow= is answered with what it may have meant, before anything is written."""
    model, optimizer = make_training()

    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        tensorview.watch(model, optimizer, run_dir=tmp_path / "run", live=False, allow=allow)
    assert not (tmp_path / "run").exists()


def test_commands_keep_their_order(tmp_path):
    """Of two that come between two looks both are obeyed, the later one last."""
    with watched(tmp_path) as (watcher, run):
        sent = [steering.send(run, "every", steps=n) for n in (30, 10, 20)]
        step_until(watcher, lambda: steering.wait(run, sent[-1], 0))

        assert [line["id"] for line in lines(run)[1:]] == sent
        assert watcher.status().every == 20


SENDER = """
import sys
from tensorview import steering
for n in range(100):
    steering.send(sys.argv[1], "every", steps=1000 + n, origin=sys.argv[2])
"""


def test_two_clients_at_once_keep_their_order(tmp_path):
    """Two processes that append at the same time lose nothing and overtake nothing."""
    with watched(tmp_path) as (watcher, run):
        clients = [
            subprocess.Popen([sys.executable, "-c", SENDER, str(run), name]) for name in "ab"
        ]
        step_until(watcher, lambda: all(c.poll() is not None for c in clients))
        assert [client.returncode for client in clients] == [0, 0]
        step_until(watcher, lambda: len(messages(run, "applied")) == 200)

        # A client that comes while the other's line grows begins with a line break: an empty line.
        written = (run / "commands.jsonl").read_text().split()
        answers = lines(run)[1:]
        assert [answer["id"] for answer in answers] == [
            re.search('"id":"(.+?)"', line)[1] for line in written
        ]
        for name in "ab":
            steps = [a["arguments"]["steps"] for a in answers if a["origin"] == name]
            assert steps == list(range(1000, 1100))


def test_python_can_focus_too(tmp_path):
    """From the next step on; an unknown layer raises with near matches."""
    with watched(tmp_path) as (watcher, _run):
        watcher.focus("conv1")
        watcher.step()
        assert watcher.snapshot().focus == "conv1"
        assert watcher.snapshot().step == watcher.status().step

        with pytest.raises(ConfigurationError, match=r"no watched layer 'conv5'\. Did you mean"):
            watcher.focus("conv5")
        watcher.focus(None)
        watcher.step()
        assert watcher.snapshot().focus == ""
    watcher.focus("conv1")  # too late, which is no fault of the loop's
    assert watcher.status().state == "closed"


def test_with_batches_the_next_step_is_captured_whole(tmp_path):
    """Where activations come from the training batch, a command waits for the next one."""
    with watched(tmp_path, activations="batch", probe=None) as (watcher, run):

        def step():
            watcher.model(torch.ones(2, 1, 8, 8)).sum().backward()
            watcher.step()

        for command, arguments in (("capture", {}), ("focus", {"layer": "conv1"})):
            sent = steering.send(run, command, **arguments)
            while (answer := steering.wait(run, sent, 0.005)) is None:
                step()
            assert f"Step {answer.step + 1} will be captured, with its batch." in answer.message
            step()
            assert watcher.snapshot().step >= answer.step + 1
            assert watcher.snapshot().layers[0].activations.sample_count == 2
        assert watcher.snapshot().focus == "conv1"


def test_without_a_run_directory_there_is_no_way_in(tmp_path):
    """Nothing listens where no files are written, and a client says so."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, formats=(), live=False) as watcher:
        watcher.step()
        assert watcher.status().run_dir is None

    with pytest.raises(RunError, match="there is no run"):
        steering.send(tmp_path, "capture")


def test_a_fault_of_ours_is_answered_and_never_reaches_the_loop(tmp_path, monkeypatch):
    """The command fails by name, the next one works, the status counts it."""
    with watched(tmp_path, strict=False) as (watcher, run):

        def broken(*_args, **_options):
            raise ArithmeticError("something of ours")

        with monkeypatch.context() as patched:
            patched.setattr(watcher._memory, "remember", broken)
            answer = ask(watcher, run, "capture")
        assert (answer.state, answer.message) == ("failed", "ArithmeticError: something of ours")
        assert watcher.status().faults == 1
        assert ask(watcher, run, "capture").state == "applied"
