"""What `watch` captures, when, and what it says about input that it cannot use."""

import logging
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

import tensorview
from tensorview.errors import CaptureError, ConfigurationError, RunError
from tensorview.run import Run
from tests.doubles import free_port
from tests.networks import SmallNet, make_training, train_steps


@pytest.fixture
def quiet(tmp_path):
    """Keywords of a watch that writes into the test's own folder and looks for no viewer."""
    return {"run_dir": tmp_path / "run", "live": False}


def captured(tmp_path):
    return list(Run.open(tmp_path / "run").steps())


def test_the_first_every_nth_and_the_last_step_are_captured(tmp_path, quiet):
    """Steps 1, N, 2N, ... and the last, each once."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=5, **quiet) as watcher:
        train_steps(model, optimizer, 12)

    assert captured(tmp_path) == [1, 5, 10, 12]
    assert watcher.status().captures == 4


def test_the_two_lines_capture_the_last_step_of_a_function(tmp_path, quiet):
    """Nobody keeps the watcher, the model dies with its function: the last step is there."""

    def training():
        model, optimizer = make_training()
        tensorview.watch(model, optimizer, every=5, **quiet)
        train_steps(model, optimizer, 8)

    training()

    assert captured(tmp_path) == [1, 5, 8]


def test_a_script_that_just_ends_loses_nothing(tmp_path):
    """At the end of the process everything captured is on disk, the last step included."""
    script = (
        "import sys, tensorview; from tests.networks import *;"
        "m, o = make_training();"
        "tensorview.watch(m, o, every=5, run_dir=sys.argv[1], live=False);"
        "train_steps(m, o, 8)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], check=True, timeout=60)

    assert captured(tmp_path) == [1, 5, 8]


def test_f1_a_killed_training_loses_no_capture_it_had_handed_over(tmp_path):
    """After SIGKILL the file worker still writes what it was given."""
    script = (
        "import os, sys, signal, tensorview; from tests.networks import *;"
        "m, o = make_training();"
        "tensorview.watch(m, o, every=1, run_dir=sys.argv[1], live=False);"
        "train_steps(m, o, 30); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], check=False, timeout=60)
    deadline = time.monotonic() + 10
    while captured(tmp_path) != list(range(1, 31)) and time.monotonic() < deadline:
        time.sleep(0.1)

    assert captured(tmp_path) == list(range(1, 31))


def test_l9_ctrl_c_ends_at_once_and_keeps_the_files(tmp_path):
    """An interrupted training exits within seconds, its captures on disk, no process left."""
    script = (
        "import signal, sys, tensorview; from tests.networks import *;"
        # A shell that started us in the background would have had it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "m, o = make_training();"
        "tensorview.watch(m, o, every=5, run_dir=sys.argv[1], live=False);"
        "train_steps(m, o, 20); print('ready', flush=True); train_steps(m, o, 10**9)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()

    assert "KeyboardInterrupt" in errors
    assert "tensorview" not in errors.split("Traceback")[0]
    assert captured(tmp_path)[:5] == [1, 5, 10, 15, 20]


def test_logged_scalars_reach_the_next_capture(quiet):
    """What was logged is in the table at the capture's row; NaN where nothing was."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=4, **quiet) as watcher:
        losses = train_steps(model, optimizer, 8, each=lambda loss: watcher.log(loss=loss))
        table = watcher.snapshot().scalars

    assert table["step"].tolist() == [1.0, 4.0, 8.0]
    assert table["loss"].tolist() == [losses[0], losses[3], losses[7]]


ODD = {
    "large": 10**400,
    "meta": torch.ones((), device="meta"),
    "sparse": torch.ones(1).to_sparse(),
    "several": torch.ones(2),
    "text": "0x",
}


def test_p2_odd_values_that_are_logged_cost_no_capture(quiet, caplog):
    """Each is named once and left out; what was logged beside it is there."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=1, **quiet) as watcher:

        def log(loss):
            watcher.log(loss=loss, **ODD)

        train_steps(model, optimizer, 3, each=log)
        table = watcher.snapshot().scalars
    said = [r.getMessage() for r in caplog.records if "is left out" in r.getMessage()]

    assert watcher.status().faults == 0
    assert len(table["loss"]) == 3
    assert not ODD.keys() & table.keys()
    assert [text.partition("=")[0] for text in said] == [f"log({name}" for name in ODD]


def test_weights_are_those_of_the_step(quiet):
    """A snapshot holds the weights after its step, and keeps them when training goes on."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=4, **quiet) as watcher:
        train_steps(model, optimizer, 4)
        weight = model.conv2.weight.detach().clone().numpy()
        snapshot = watcher.snapshot()
        train_steps(model, optimizer, 3)

    assert snapshot.step == 4
    assert np.array_equal(weight, snapshot.layers[1].weights.values)


def test_without_an_optimizer_step_counts(tmp_path, quiet):
    """In a predict phase each call of `step` is one step."""
    model, _ = make_training()
    with tensorview.watch(model, every=2, **quiet) as watcher:
        for _ in range(4):
            model(torch.randn(4, 1, 8, 8))
            watcher.step()

    assert captured(tmp_path) == [1, 2, 4]


def test_of_several_optimizers_the_first_counts(quiet):
    """Two optimizers of one model make one count."""
    model, first = make_training()
    second = torch.optim.SGD(model.fc.parameters(), lr=0.1)
    with tensorview.watch(model, [first, second], every=2, **quiet) as watcher:
        train_steps(model, first, 4)
        second.step()

    assert watcher.status().step == 4


def test_a_step_that_gradscaler_skips_does_not_count(quiet):
    """Only steps that the optimizer really took are counted."""
    model, optimizer = make_training()
    scaler = torch.amp.GradScaler("cpu")
    with tensorview.watch(model, optimizer, every=1, **quiet) as watcher:
        for factor in (1.0, float("inf"), 1.0):
            loss = model(torch.randn(4, 1, 8, 8)).sum() * factor
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    assert watcher.status().step == 2


def test_watching_again_closes_the_former_watcher(tmp_path):
    """A notebook that runs its cell twice has one watcher, and both runs on disk."""
    model, optimizer = make_training()
    first = tensorview.watch(model, optimizer, every=2, run_dir=tmp_path / "a", live=False)
    train_steps(model, optimizer, 3)
    with tensorview.watch(model, optimizer, every=2, run_dir=tmp_path / "b", live=False) as second:
        train_steps(model, optimizer, 3)

    assert first.status().step == 3
    assert second.status().step == 3
    assert list(Run.open(tmp_path / "a").steps()) == [1, 2, 3]
    assert list(Run.open(tmp_path / "b").steps()) == [1, 2, 3]


def test_two_models_get_runs_of_their_own(tmp_path, monkeypatch):
    """A generator and a discriminator do not write into each other's files."""
    monkeypatch.chdir(tmp_path)
    (one, first), (two, second) = make_training(0), make_training(1)
    with (
        tensorview.watch(one, first, live=False) as left,
        tensorview.watch(two, second, live=False) as right,
    ):
        train_steps(one, first, 2)
        train_steps(two, second, 2)

    assert left.status().run_dir != right.status().run_dir
    assert left.status().run_dir.parent == tmp_path / "tensorview_runs"


@pytest.mark.parametrize("when", ["before", "after", "in place"])
def test_o5_torch_compile_before_or_after_watch(tmp_path, quiet, when):
    """Compiled models are captured through their eager original, without compiling again."""
    torch._dynamo.reset()
    model, optimizer = make_training()
    compiled = model
    if when == "before":
        compiled = torch.compile(model, backend="eager", fullgraph=True)
    watcher = tensorview.watch(compiled, optimizer, every=2, strict=True, **quiet)
    if when == "after":
        compiled = torch.compile(model, backend="eager", fullgraph=True)
    elif when == "in place":
        model.compile(backend="eager", fullgraph=True)
    with watcher:
        torch._dynamo.utils.counters.clear()
        train_steps(compiled, optimizer, 6)

    layer = watcher.snapshot().layers[0]
    assert captured(tmp_path) == [1, 2, 4, 6]
    assert layer.activations is not None
    assert layer.activations.sample_count == 8
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 1


def test_o5_bf16_autocast(quiet):
    """Weights stay float32, activations are what autocast computes."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=1, strict=True, **quiet) as watcher:
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(torch.randn(8, 1, 8, 8)).float().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    layer = watcher.snapshot().layers[0]
    assert layer.weights.values.dtype == np.float32
    assert layer.activations.maps.dtype == np.float32


def test_gradient_accumulation_counts_optimizer_steps(quiet):
    """Four backward passes and one step are one step."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=1, strict=True, **quiet) as watcher:
        for _ in range(2):
            optimizer.zero_grad()
            for _ in range(4):
                (model(torch.randn(8, 1, 8, 8)).sum() / 4).backward()
            optimizer.step()

    assert watcher.status().step == 2


@pytest.mark.parametrize(
    ("probe", "forward"),
    [
        (torch.ones(5, 3), lambda self, x: self.fc(x)),
        ((torch.ones(5, 3), torch.ones(5, 3)), lambda self, x, y: self.fc(x + y)),
        ({"x": torch.ones(5, 3), "scale": 2.0}, lambda self, x, scale: self.fc(x) * scale),
    ],
    ids=["tensor", "tuple", "dict"],
)
def test_a_probe_may_be_a_tensor_a_tuple_or_a_dict(quiet, probe, forward):
    """What the model is called with is what can be given."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

    Net.forward = forward
    model = Net()
    with tensorview.watch(model, every=1, probe=probe, strict=True, **quiet) as watcher:
        watcher.step()

    assert watcher.snapshot().layers[0].activations.sample_count == 5


def test_f5_an_unwritable_run_dir_is_one_warning(tmp_path, caplog, monkeypatch):
    """Where nothing can be written the training is still watched."""

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    model, optimizer = make_training()
    with tensorview.watch(
        model, optimizer, every=1, run_dir=tmp_path / "no" / "run", live=False
    ) as watcher:
        train_steps(model, optimizer, 2)

    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert watcher.status().captures == 2
    assert watcher.status().run_dir is None
    assert len([r for r in warnings if "Permission denied" in r.getMessage()]) == 1


def test_f5_layers_of_any_name_stay_inside_the_run(tmp_path, quiet):
    """Slashes, NUL, control characters, markup, 300 characters, two alike: each reads back."""
    names = ["/up", "~", "nul\0", "a\x1b[2J\n", '<&"', "x" * 300, "x" * 299 + "y", "a b", "a%20b"]
    model = nn.Sequential()
    for name in names:
        model.add_module(name, nn.Linear(4, 4))
    before = {path for path in tmp_path.parent.rglob("*") if "run" not in path.parts}
    with tensorview.watch(
        model, every=1, probe=torch.randn(3, 4), form="atlas", strict=True, **quiet
    ) as watcher:
        watcher.step()
    run = Run.open(tmp_path / "run")
    atlas = run.entries(1, view="weights_atlas", suffix=".vti")

    assert [entry.layer for entry in atlas] == [name.replace("\0", "%00") for name in names]
    assert all(run.read(entry) for entry in atlas)
    assert len({entry.file for entry in atlas}) == len(names)
    assert {path for path in tmp_path.parent.rglob("*") if "run" not in path.parts} == before


def test_f5_layers_that_no_file_could_tell_apart_are_refused(quiet):
    """VTK's texts hold no NUL, which is written as %00; so is a name that has just that."""
    model = nn.Sequential()
    model.add_module("nul\0", nn.Linear(4, 4))
    model.add_module("nul%00", nn.Linear(4, 4))
    expected = (
        r"Layers 'nul\x00' and 'nul%00' cannot be told apart in a file, where both are 'nul%00'. "
        r"Leave one out with layers=[...]."
    )
    with pytest.raises(ConfigurationError, match=re.escape(expected)):
        tensorview.watch(model, **quiet)


def test_p2_a_fault_of_ours_is_counted_and_logged_once(quiet, caplog, monkeypatch):
    """The loop never sees it; `status` does; with strict it raises."""

    def broken(*_args, **_options):
        raise ArithmeticError("something of ours")

    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=1, **quiet) as watcher:
        monkeypatch.setattr(watcher._memory, "remember", broken)
        train_steps(model, optimizer, 4)

        assert watcher.status().faults == 4
        assert "something of ours" in watcher.status().last_fault
        assert len([r for r in caplog.records if "something of ours" in r.getMessage()]) == 1


def test_n8_a_layer_that_cannot_be_shown_is_named_once(tmp_path, caplog, quiet):
    """One WARNING a layer however many captures there are; weights and other layers are there."""

    class Pair(nn.Linear):
        def forward(self, x):
            return super().forward(x), None

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.twice, self.never = Pair(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.shared = self.again = nn.Linear(4, 4)

        def forward(self, x):
            return self.again(self.shared(self.twice(self.twice(self.pair(x)[0]))))

    model = Net()
    with tensorview.watch(model, every=1, strict=True, **quiet) as watcher:
        for _ in range(4):
            model(torch.randn(3, 4))
            watcher.step()
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    layers = {layer.name: layer.activations is not None for layer in watcher.snapshot().layers}

    assert layers == {"pair": False, "twice": True, "never": False, "shared": True}
    assert sorted(text.split(":")[0] for text in warnings) == [
        "Cannot capture layer 'pair'",
        "Layer 'never' was not called",
        "Layer 'shared' was called 2 times in one pass",
        "Layer 'twice' was called 2 times in one pass",
    ]
    assert captured(tmp_path) == [1, 2, 3, 4]


def test_n2_a_layer_without_plain_numbers_costs_no_other_layer(caplog, quiet):
    """A sparse activation is named once; the capture and all else in it are there."""

    class Sparse(nn.Linear):
        def forward(self, x):
            return super().forward(x).to_sparse()

    model = nn.Sequential(nn.Linear(4, 4), Sparse(4, 4))
    with tensorview.watch(model, every=1, strict=True, **quiet) as watcher:
        for _ in range(2):
            model(torch.randn(3, 4))
            watcher.step()

    assert [layer.activations is None for layer in watcher.snapshot().layers] == [False, True]
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [
        "Cannot capture layer '1': its output is sparse_coo. Leave it out with layers=[...]."
    ]


def test_the_hook_between_captures_is_cheap(quiet):
    """A step without a capture costs microseconds; the bound here is coarse."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=10**9, **quiet) as watcher:
        train_steps(model, optimizer, 1)
        started = time.perf_counter()
        for _ in range(1000):
            watcher._before_step()
            watcher._after_step()
        seconds = time.perf_counter() - started
        watcher._captures.last_step = watcher._step

    assert seconds / 1000 < 100e-6


def test_o5_ranks_other_than_the_first_write_nothing(tmp_path, quiet, monkeypatch):
    """In distributed training one process captures; the others carry no hook."""
    monkeypatch.setenv("RANK", "1")
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=1, **quiet) as watcher:
        train_steps(model, optimizer, 2)
        assert not model._forward_pre_hooks

    assert watcher.status().captures == 0
    assert not (tmp_path / "run").exists()


DDP = """
import os, sys, torch, tensorview
from tests.networks import *
torch.distributed.init_process_group("gloo")
model, optimizer = make_training()
model = torch.nn.parallel.DistributedDataParallel(model)
with tensorview.watch(model, optimizer, every=2, run_dir=sys.argv[1], live=False, strict=True) as w:
    losses = train_steps(model, optimizer, 4)
print(w.status().captures, w.status().run_dir is not None)
torch.distributed.destroy_process_group()
"""


def test_o5_distributed_data_parallel(tmp_path):
    """Of two processes the first captures the inner model; the other writes nothing."""
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", DDP, str(tmp_path / f"run-{rank}")],
            env={**environment, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=60) for process in ranks]
    finally:
        for process in ranks:
            process.kill()

    assert [out.split() for out, _ in said] == [["3", "True"], ["0", "False"]], said
    assert Run.open(tmp_path / "run-0").steps() == (1, 2, 4)
    assert not (tmp_path / "run-1").exists()


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"every": 0}, "every=0 cannot be used: expected a whole number of steps, 1 or more."),
        ({"every": 2.5}, "every=2.5 cannot be used: expected a whole number of steps, 1 or more."),
        (
            {"live": "localhost:70000"},
            "Port 70000 cannot be used: expected 1 to 65535; ParaView's own is 22222.",
        ),
        (
            {"live": "somewhere"},
            "live='somewhere' cannot be used: expected 'auto', True, False or 'host:port'.",
        ),
        (
            {"pipeline": "/nowhere/own.py"},
            (
                "The Catalyst script '/nowhere/own.py' is not there. Give pipeline= the path of a "
                "script exported from ParaView, or leave it out for the one we ship."
            ),
        ),
        (
            {"views": ("wieghts",)},
            (
                "views=('wieghts',) cannot be used: 'wieghts' is none of weights, trajectory, "
                "distribution, maps, correlation, scalars."
            ),
        ),
        (
            {"formats": ("h5",)},
            "formats=('h5',) cannot be used: 'h5' is none of vtp, csv.",
        ),
        ({"threshold": float("nan")}, "threshold=nan cannot be used: expected a Pearson r"),
        ({"form": "cubes"}, "form='cubes' cannot be used: expected 'auto' or 'cells' or 'atlas'."),
    ],
)
def test_bad_keywords_are_one_sentence(keywords, sentence):
    """What, what was found, what was expected, and what to do; before anything is written."""
    model, optimizer = make_training()

    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        tensorview.watch(model, optimizer, **keywords)


def test_an_unknown_layer_names_near_matches():
    """A typo in a layer's name is answered with the names it may have meant."""
    model, optimizer = make_training()

    with pytest.raises(ConfigurationError, match=r"conv3.*conv1.*conv2|conv3.*conv2.*conv1"):
        tensorview.watch(model, optimizer, layers=["conv3"])


def test_a_model_without_parameters_is_one_sentence():
    """There is nothing to watch in it, and that is said."""
    with pytest.raises(ConfigurationError, match=r"no .*parameters|has no"):
        tensorview.watch(nn.ReLU())


def test_a_probe_that_the_model_cannot_take_is_one_sentence(tmp_path):
    """It is tried once, at the call of watch, and nothing is written."""
    with pytest.raises(CaptureError, match="probe"):
        tensorview.watch(SmallNet(), probe=torch.ones(2, 3), run_dir=tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_written_over(tmp_path, quiet):
    """A second run into the same folder is refused by name, the first one untouched."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=1, **quiet):
        train_steps(model, optimizer, 2)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}

    with pytest.raises(RunError, match=r"it already holds .*Give another run_dir, remove it, or "):
        tensorview.watch(model, optimizer, **quiet)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}


def test_status_reads_as_text(quiet):
    """`print(watcher.status())` says what a person asks first."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=2, **quiet) as watcher:
        train_steps(model, optimizer, 4)

    text = str(watcher.status())
    assert text.startswith("step 4, 3 captures, 0 dropped, ")
    assert "files: closed, 3 delivered, 0 dropped" in text


def test_a_forked_child_leaves_its_parents_watcher_alone(tmp_path, quiet):
    """DataLoader workers and other forks neither write, close nor hold anything of ours."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=1, **quiet) as watcher:
        train_steps(model, optimizer, 1)
        pid = os.fork()
        if pid == 0:
            watcher.close()
            os._exit(0)
        os.waitpid(pid, 0)
        train_steps(model, optimizer, 2)

    assert captured(tmp_path) == [1, 2, 3]
