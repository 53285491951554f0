"""What `watch` takes hold of it lets go of, whatever goes wrong on the way."""

import gc
import logging
import os
import resource
import signal
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tensorview
from tensorview import outputs, restarts
from tensorview.errors import ConfigurationError
from tensorview.outputs import Outputs
from tensorview.run import Run
from tests.doubles import wait_until
from tests.networks import F, SmallNet, make_training, train_steps


@pytest.fixture
def quiet(tmp_path):
    return {"run_dir": tmp_path / "run", "live": False}


def test_a_refused_watch_leaves_nothing_behind(tmp_path, quiet):
    """No hook, no worker, no run directory after an argument that cannot be used."""
    model, optimizer = make_training()

    compiled = torch.compile(model, backend="eager")
    with pytest.raises(ConfigurationError, match="activations='batch' cannot be used"):
        tensorview.watch(compiled, optimizer, activations="batch", **quiet)

    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not (tmp_path / "run").exists()


def test_a_refused_watch_spares_the_former_watcher(tmp_path, quiet):
    """A typo in the second call does not end what the first one does."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=1, **quiet):
        with pytest.raises(ConfigurationError):
            tensorview.watch(model, optimizer, layers=["typo"])
        train_steps(model, optimizer, 2)

    assert Run.open(tmp_path / "run").steps() == (1, 2)


def test_an_optimizer_wrapper_without_hooks_is_refused_in_one_sentence(quiet):
    """What wraps an optimizer without being one is told apart before anything is hooked."""

    class Wrapper(torch.optim.Optimizer):
        def __init__(self, optimizer):
            self.optimizer = optimizer

    model, optimizer = make_training()
    with pytest.raises(ConfigurationError, match="Of a wrapper give the optimizer inside"):
        tensorview.watch(model, Wrapper(optimizer), **quiet)


def test_o2_a_closed_watcher_holds_no_parameter(quiet):
    """Who keeps the watcher for its status keeps no GPU memory with it."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=1, **quiet) as watcher:
        train_steps(model, optimizer, 2)
    parameters = [weakref.ref(parameter) for parameter in model.parameters()]
    del model, optimizer
    gc.collect()

    assert [parameter() for parameter in parameters] == [None] * len(parameters)
    assert watcher.status().captures == 2


@pytest.mark.parametrize("value", ["abc", None, [0.1], torch.ones(3), torch.tensor(1j)])
def test_a_value_that_cannot_be_logged_is_left_out_alone(quiet, caplog, value):
    """One WARNING names it; the capture and the other values are there."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=1, **quiet) as watcher:
        train_steps(model, optimizer, 3, each=lambda loss: watcher.log(loss=loss, odd=value))
        table = watcher.snapshot().scalars

    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "odd" not in table
    assert np.isfinite(table["loss"]).all()
    assert watcher.status().captures == 3
    assert len([r for r in warnings if "log(odd=...) is left out" in r.getMessage()]) == 1


def test_a_logged_step_is_named(quiet, caplog):
    """The column of that name is ours."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=1, **quiet) as watcher:
        train_steps(model, optimizer, 1, each=lambda _: watcher.log(step=99))

    assert "log(step=...) is left out: it is a name of ours." in caplog.text
    assert watcher.snapshot().scalars["step"].tolist() == [1.0]


def test_other_ranks_do_nothing_without_an_optimizer_too(quiet, monkeypatch):
    """`step` counts on the first rank only."""
    monkeypatch.setenv("RANK", "1")
    with tensorview.watch(SmallNet(), every=1, **quiet) as watcher:
        watcher.step()

    assert (watcher.status().step, watcher.status().captures) == (0, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_f6_an_end_that_is_cut_short_leaves_the_run_free(quiet, monkeypatch, error):
    """By Ctrl-C, or by a fault with `strict`: the same process may go on with the run."""

    def fail(_):
        raise error

    model = SmallNet()
    monkeypatch.setattr(Outputs, "_start", lambda *_: None)
    for _ in range(2):
        watcher = tensorview.watch(model, start_step=0, strict=True, **quiet)
        with monkeypatch.context() as patched:
            patched.setattr(Outputs, "close", fail)
            with pytest.raises(error):
                watcher.close()

    assert watcher._lock.fd == -1


def test_f1_a_worker_that_dies_between_captures_is_started_again_there(quiet, monkeypatch):
    """What it had not written waits for no further capture: the training might be killed first."""
    monkeypatch.setattr(restarts, "CRASH_SECONDS", 0.02)
    monkeypatch.setattr(outputs, "POLL_SECONDS", 0.05)
    model = SmallNet()
    with tensorview.watch(model, every=10**6, **quiet) as watcher:
        worker = watcher._outputs.workers["files"]
        os.kill(pid := worker.pid, signal.SIGKILL)
        watcher.step()

        def again():
            watcher.step()
            return worker.pid != pid

        wait_until(again, seconds=10, what="the next worker")

        assert watcher._captures.count == 1
        assert worker.dropped == 0


def test_workers_are_looked_after_once_a_second(monkeypatch):
    """A step without a capture reads a clock, and no more."""
    looks, now = [], 0.0
    monkeypatch.setattr(outputs.time, "monotonic", lambda: now)
    nothing = Outputs(run_path=None, formats=(), live=None, pipeline=None, paraview=None)
    monkeypatch.setattr(nothing, "poll", lambda: looks.append(now))
    for number in range(100):
        now = number / 40
        if nothing.are_due:
            nothing.look_after()

    assert looks == [0.0, 1.0, 2.0]


def test_steps_after_the_end_do_not_count(quiet):
    """What `status` says stays as it was at the end."""
    model = SmallNet()
    watcher = tensorview.watch(model, every=1, **quiet)
    watcher.step()
    watcher.close()
    watcher.step()
    watcher.close()

    assert watcher.status().step == 1


def test_a_model_may_have_a_constructor_and_an_end_of_its_own(quiet):
    """Neither `__new__` nor `__del__` of a model is called for our own sake."""
    ended = []

    class Own(nn.Module):
        def __new__(cls, size):  # noqa: ARG004  # the point is that it must be given
            return super().__new__(cls)

        def __init__(self, size):
            super().__init__()
            self.fc = nn.Linear(size, 2)

        def forward(self, x):
            return self.fc(x)

        def __del__(self):
            ended.append(1)

    model = Own(3)
    with tensorview.watch(model, every=1, probe=torch.ones(2, 3), **quiet) as watcher:
        watcher.step()
    gc.collect()

    assert ended == []
    assert watcher.status().captures == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of torch
def test_a_compiled_optimizer_step_calls_our_hooks_untraced(quiet):
    """Captures are taken, and torch compiles no more graphs than without us."""
    graphs = []
    for watched in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model, optimizer = make_training()
        watcher = (
            tensorview.watch(model, optimizer, every=2, strict=True, **quiet) if watched else None
        )
        step = torch.compile(lambda: optimizer.step(), backend="eager")  # noqa: B023, PLW0108
        for _ in range(6):
            loss = F.cross_entropy(model(torch.randn(8, 1, 8, 8)), torch.randint(3, (8,)))
            optimizer.zero_grad()
            loss.backward()
            step()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    watcher.close()

    assert graphs[0] == graphs[1]
    assert watcher.status().captures == 4


def test_more_than_a_thousand_open_files_are_no_obstacle(tmp_path, quiet):
    """DataLoaders open many descriptors; ours may well be numbered beyond 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held = [Path("/dev/null").open() for _ in range(1100)]  # noqa: SIM115  # closed below
    try:
        model, optimizer = make_training()
        with tensorview.watch(model, optimizer, every=1, **quiet) as watcher:
            train_steps(model, optimizer, 3)
    finally:
        for file in held:
            file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert Run.open(tmp_path / "run").steps() == (1, 2, 3)
    assert watcher.status().sinks["files"].delivered == 3


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"layers": 5}, "layers=5 cannot be used: expected several"),
        ({"layers": [5]}, "layers=[5] cannot be used: expected names, globs, or a function"),
        ({"views": 5}, "views=5 cannot be used: expected several"),
        ({"views": []}, "views=() cannot be used: expected at least one view."),
        ({"formats": None}, "formats=None cannot be used: expected several"),
        ({"map_samples": 5}, "map_samples=5 cannot be used: expected several"),
        ({"run_dir": 5}, "run_dir=5 cannot be used: expected a path."),
        ({"run_dir": "a\0b"}, "cannot be used: expected a path."),
        ({"name": 5}, "name=5 cannot be used: expected printable text."),
    ],
)
def test_odd_arguments_are_one_sentence(keywords, sentence):
    """No traceback of ours for a slip of the pen."""
    with pytest.raises(ConfigurationError) as caught:
        tensorview.watch(SmallNet(), **keywords)

    assert sentence in str(caught.value)


def test_what_is_no_model_is_one_sentence():
    """The first argument is checked first."""
    with pytest.raises(ConfigurationError, match="model=str cannot be watched"):
        tensorview.watch("model")


def test_whole_numbers_of_numpy_are_whole_numbers(quiet):
    """`every=np.int64(2)` is two steps."""
    model, optimizer = make_training()
    with tensorview.watch(
        model, optimizer, every=np.int64(2), map_samples=np.array([1]), **quiet
    ) as watcher:
        train_steps(model, optimizer, 4)

    assert watcher.status().captures == 3
    assert watcher.snapshot().layers[0].activations.map_samples == (1,)
