"""A watched training is the training it would have been."""

import gc
import os
import random
import re
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

import tensorview
from tensorview import steering
from tensorview.run import Run
from tensorview.sockets import links
from tests.doubles import Viewer, free_port, wait_until
from tests.networks import make_training, train_steps


def everything(model, optimizer, losses):
    """All that a training leaves behind, ready to be compared bit for bit."""
    return {
        "losses": losses,
        "parameters": {k: v.clone() for k, v in model.state_dict().items()},
        "optimizer": optimizer.state_dict()["state"],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1],  # noqa: NPY002  # the global state is the point
        "python": random.getstate(),
        "modes": [module.training for module in model.modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
    }


def same(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, np.ndarray):
        return np.array_equal(left, right)
    return left == right


def training(*, steps, watching=None, each=lambda _: None):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  # the global state is the point
    model, optimizer = make_training()
    torch.manual_seed(5)
    if watching is None:
        return everything(model, optimizer, train_steps(model, optimizer, steps, each=each))
    with tensorview.watch(model, optimizer, strict=True, **watching) as watcher:

        def log_and_each(loss):
            watcher.log(loss=loss)
            each(loss)

        losses = train_steps(model, optimizer, steps, each=log_and_each)
    return everything(model, optimizer, losses)


def test_o1_training_is_bit_identical_with_files(tmp_path):
    """200 steps, a capture at each: losses, parameters, random states and modes are equal."""
    unwatched = training(steps=200)
    watched = training(steps=200, watching={"every": 1, "run_dir": tmp_path / "run", "live": False})

    assert same(unwatched, watched)


class Descriptors(torch.utils.data.Dataset):
    """Each sample is how many locks and how much shared memory the process that loads it holds."""

    def __len__(self):
        return 4

    def __getitem__(self, _index):
        found = links(Path("/proc/self/fd"))
        return sum("tensorview-" in link or link.endswith("/lock") for link in found)


@pytest.fixture(scope="module")
def live_training(tmp_path_factory):
    """Train unwatched, and watched by a ParaView client that is served all the while.

    Half-way a DataLoader with two processes is started. Returns all that both trainings leave, what
    was loaded, how many frames the viewer got, and what this process held before and after.
    """
    folder, port = tmp_path_factory.mktemp("live"), free_port()
    loaded = []

    def training_with_loader(watching, before_loading):
        step = iter(range(200))

        def each(_loss):
            if next(step) == 100:
                before_loading()
                loader = torch.utils.data.DataLoader(Descriptors(), num_workers=2, batch_size=1)
                loaded.append([int(batch) for batch in loader])

        return training(steps=200, watching=watching, each=each)

    unwatched = training_with_loader(None, lambda: None)
    before = descriptors(), children()
    with Viewer(folder, port=port) as viewer:
        viewer_pid = {str(viewer.process.pid)}
        watched = training_with_loader(
            {"every": 1, "run_dir": folder / "run", "live": f"localhost:{port}"},
            # By now its worker may just have started.
            lambda: wait_until(viewer.steps, seconds=60, what="a frame at the viewer"),
        )
        after = descriptors(), children() - viewer_pid
    return unwatched, watched, loaded, len(viewer.steps()), before, after


@pytest.mark.paraview
def test_o1_training_is_bit_identical_with_a_live_viewer(live_training):
    """The same with a ParaView client that is served all the while."""
    unwatched, watched, _, frames, _, _ = live_training

    assert same(unwatched, watched)
    assert frames >= 2


@pytest.mark.paraview
def test_o2_a_live_viewer_leaves_nothing_behind(live_training):
    """After close() no process and no descriptor is there that was not there before."""
    before, after = live_training[-2:]

    assert before == after


@pytest.mark.paraview
def test_o5_a_data_loader_that_is_started_while_live_works(live_training):
    """Two processes load; as without us, they hold no shared memory of ours, and no run's lock."""
    unwatched, watched = live_training[2]

    assert len(unwatched) == 4
    assert watched == unwatched


@pytest.mark.parametrize("activations", ["probe", "batch"])
def test_o1_every_way_to_take_activations_is_neutral(tmp_path, activations):
    """The training batch itself can be looked at, too, without a trace."""
    unwatched = training(steps=50)
    watched = training(
        steps=50,
        watching={
            "every": 1,
            "run_dir": tmp_path / "run",
            "live": False,
            "activations": activations,
        },
    )

    assert same(unwatched, watched)


COMMANDS = {
    5: ("capture", {}),
    20: ("every", {"steps": 3}),
    40: ("focus", {"layer": "conv2"}),
    60: ("select", {"layer": "conv1", "filters": [1, 2]}),
    80: ("focus", {"layer": None}),
    90: ("every", {"factor": 2.0}),
    100: ("capture", {}),
    110: ("pause", {"seconds": 0.5}),
}


@pytest.mark.parametrize("activations", ["probe", "batch"])
def test_o1_commands_that_look_leave_training_as_it_is(tmp_path, activations):
    """Captures, focus, selections and pauses at any step change not a bit."""
    run = tmp_path / "run"
    unwatched = training(steps=160)
    step = iter(range(10**9))

    def each(_loss):
        if (command := COMMANDS.get(next(step))) is not None:
            steering.send(run, command[0], **command[1])
        time.sleep(0.01)  # a look every 20 steps

    watched = training(
        steps=160,
        watching={
            "every": 10**9,
            "run_dir": run,
            "live": False,
            "activations": activations,
            "allow": steering.PERMISSIONS,
        },
        each=each,
    )

    assert same(unwatched, watched)
    with steering.Answers(run) as answers:
        applied = [answer.command for answer in answers.read() if answer.state == "applied"]
    assert applied == [command for command, _ in COMMANDS.values()]
    assert len(Run.open(run).steps()) > 5


def descriptors():
    """Everything this process holds open, by kind and not by number."""
    return sorted(re.sub(r"\d+", "#", link) for link in links(Path("/proc/self/fd")))


def children():
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


@pytest.mark.parametrize("end", ["close", "exception", "collection"])
def test_o2_nothing_is_left_behind(tmp_path, end):
    """After close(), an exception in step 37, or the model's end: no hook, process, descriptor."""
    before = descriptors(), threading.active_count(), children()
    model, optimizer = make_training()
    watcher = tensorview.watch(model, optimizer, every=5, run_dir=tmp_path / "run", live=False)
    train_steps(model, optimizer, 36)
    modules = list(model.modules())
    if end == "close":
        watcher.close()
    elif end == "exception":
        with pytest.raises(ZeroDivisionError), watcher:
            train_steps(model, optimizer, 1, each=lambda _: 1 / 0)
    else:
        gone = weakref.ref(model)
        del model, watcher, modules
        gc.collect()
        assert gone() is None
        modules = []
    gc.collect()

    assert all(not module._forward_pre_hooks for module in modules)
    assert all(not module._forward_hooks for module in modules)
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert before == (descriptors(), threading.active_count(), children())
    assert "tensorview-" not in Path("/proc/self/maps").read_text()
    run = Run.open(tmp_path / "run")
    assert run.steps() == (1, 5, 10, 15, 20, 25, 30, 35, 36)


def test_o2_watching_keeps_neither_model_nor_optimizer_alive(tmp_path):
    """Both can be collected while watched, whichever goes first, and no graph is held."""
    model, optimizer = make_training()
    tensorview.watch(model, optimizer, every=5, run_dir=tmp_path / "run", live=False)
    graph = []
    train_steps(model, optimizer, 7, each=lambda loss: graph.append(weakref.ref(loss)))
    gone = weakref.ref(optimizer), weakref.ref(model)
    del optimizer
    gc.collect()
    assert gone[0]() is None
    del model
    gc.collect()

    assert gone[1]() is None
    assert all(loss() is None for loss in graph)


def test_a_watched_model_can_be_copied_and_saved_at_once(tmp_path):
    """Deep copies (EMA) and pickles made before the first call carry nothing of ours."""
    import copy  # noqa: PLC0415
    import io  # noqa: PLC0415

    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, run_dir=tmp_path / "run", live=False):
        twin = copy.deepcopy(model)
        file = io.BytesIO()
        torch.save(model, file)

        assert b"tensorview" not in file.getvalue()
        assert torch.equal(twin(torch.ones(2, 1, 8, 8)) * 0, model(torch.ones(2, 1, 8, 8)) * 0)


PURITY = """
import sys, tensorview
before = [m for m in sys.modules if m.split(".")[0] in ("numpy", "torch", "scipy", "vtkmodules")]
from tests.networks import make_training, train_steps
from tensorview.sockets import LISTEN, links, tcp_sockets
from pathlib import Path
model, optimizer = make_training()
with tensorview.watch(model, optimizer, every=1, run_dir=sys.argv[1], live=sys.argv[2]) as watcher:
    train_steps(model, optimizer, 20)
    own = links(Path("/proc/self/fd"))
    listening = [s for s in tcp_sockets() if s.state == LISTEN and s.inode in own]
loaded = [m for m in sys.modules if m.split(".")[0] in ("vtkmodules", "vtk", "paraview")]
print(before, loaded, listening, watcher.status().captures, sorted(watcher.status().sinks))
"""


@pytest.mark.paraview
def test_the_training_process_stays_clean(tmp_path):
    """Importing loads nothing foreign; VTK and ParaView never enter; no socket listens."""
    result = subprocess.run(
        [sys.executable, "-c", PURITY, str(tmp_path / "run"), f"localhost:{free_port()}"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.stdout.strip() == "[] [] [] 20 ['files', 'live']", result.stderr
