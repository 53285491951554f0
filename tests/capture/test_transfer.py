"""Nothing that a step hook does waits for the device, and copies go beside the training's work.

There need be no CUDA for these: they read the source, and put doubles in the place of streams.
"""

import contextlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tensorview
from tensorview.capture import transfer
from tensorview.capture.transfer import HostMemory, ResultMemory, Transfer
from tests.networks import make_training, train_steps

PACKAGE = Path(tensorview.__file__).parent
ALWAYS = r"\.(item|cpu)\(|synchronize"
OF_TENSORS = (
    r"\.(tolist|numpy|any|all)\(\)|bincount|(?<!count_)(?<!flat)nonzero|masked_select|"
    r"repeat_interleave|torch\.(unique|equal|allclose|histc)\("
)
"""What waits where it is called on a tensor; arrays of numpy have their like, so it is looked for
only where torch is imported."""


def waiting(name, text):
    """Lines of a module that would wait for the device."""
    has_torch = re.search(r"^(import|from) torch\b", text, re.MULTILINE)
    waits = f"{ALWAYS}|{OF_TENSORS}" if has_torch else ALWAYS
    return [(name, line.strip()) for line in text.splitlines() if re.search(waits, line)]


def modules_of_the_hook():
    """By name, the source of every module of ours that capturing runs through."""
    names = ("watcher", "captures", "memory", "guard", "budget", "bounds", "flag_report", "outputs")
    names += ("encoding", "transport", "supervisor", "pulse", "restarts", "signals", "slots")
    paths = [PACKAGE / f"{name}.py" for name in names]
    for folder in ("capture", "analysis", "steering"):
        paths += sorted((PACKAGE / folder).glob("*.py"))
    return {str(path.relative_to(PACKAGE)): path.read_text() for path in paths}


def test_nothing_on_the_way_waits_for_the_device():
    """From the step hook to the hand-over no call that synchronises with CUDA, but at the end."""
    found = [line for name, text in modules_of_the_hook().items() for line in waiting(name, text)]

    assert found == [
        # of states, which are in host memory
        ("capture/random_states.py", "return bool((state == other).all())"),
        # what was sent is waited for where captures overtake each other, and at the end of all
        ("capture/restoring.py", "if tensor.is_cpu and torch.equal(_bits(tensor), _bits(copied)):"),
        ("capture/transfer.py", "part.event.synchronize()"),
        ("capture/transfer.py", "buffer = part.host[: part.nbytes].numpy()"),
        ("capture/weights.py", "if norm.is_cpu and bool((norm < torch.inf).all()):"),
        # the public function alone, which captures do not call
        (
            "analysis/correlation.py",
            "result: NDArray[Any] = correlate(accumulate(None, feature_maps)).cpu().numpy()",
        ),
        # only on the CPU
        ("analysis/correlation.py", "if not bool((squares < torch.inf).all()):"),
        ("analysis/correlation.py", "if not bool(small.any()):"),
        (
            "analysis/correlation.py",
            "return bool((below.amax((0, 2)) == below.amin((0, 2))).all())",
        ),
        ("analysis/distribution.py", "if bool((high - low < torch.inf).all()):"),
        # of numpy's own numbers
        ("analysis/trajectory.py", "if not usable.any():"),
        ("analysis/trajectory.py", "return values.numpy(), vectors.numpy()"),
    ]


@pytest.mark.parametrize(
    "wait", ["x.item()", "x.cpu()", "torch.cuda.synchronize()", "stream.synchronize()", "x.cpu(y)"]
)
def test_a_wait_that_is_added_is_found(wait):
    """In every module on the way."""
    for name, text in modules_of_the_hook().items():
        assert (name, wait) in waiting(name, f"{text}\n    {wait}\n")


def test_every_module_that_capturing_runs_is_looked_at(tmp_path):
    """By the modules whose functions are called between two steps."""
    seen = set()

    def note(frame, _event, _argument):
        file = Path(frame.f_code.co_filename)
        if PACKAGE in file.parents:
            seen.add(str(file.relative_to(PACKAGE)))

    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=2, run_dir=tmp_path / "run", live=False):
        sys.setprofile(note)
        try:
            train_steps(model, optimizer, 8)
        finally:
            sys.setprofile(None)
    # numpy, files and pipes alone
    others = {"snapshot.py", "status.py", "settings.py", "api.py", "run.py", "whole_files.py"}

    assert len(seen) > 20
    assert seen - others <= modules_of_the_hook().keys()


class OnDevice(torch.Tensor):
    """A tensor that says that it is on CUDA, and tells of what is done with it."""

    is_cuda = True
    log = None

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func.__name__ in ("cat", "copy_"):
            cls.log.append((func.__name__, "on", cls.log.streams[-1].name))
        return super().__torch_function__(func, types, args, kwargs)

    def record_stream(self, stream):
        self.log.append(("memory", "kept for", stream.name))


class Log(list):
    """What happened, in order; and which stream is the current one, the last."""

    def __init__(self):
        super().__init__()
        self.streams = []
        self.done = False


@pytest.fixture
def log(monkeypatch):
    """Doubles in the place of CUDA; yields what is done with them."""
    log = Log()

    class Stream:
        def __init__(self, device):
            self.device, self.name = device, "side"
            log.append(("stream", "made for", str(device)))

        def wait_stream(self, other):
            log.append((self.name, "waits for", other.name))

    class Event:
        def record(self, stream):
            log.append(("event", "on", stream.name))

        def query(self):
            log.append(("event", "asked", log.done))
            return log.done

        def synchronize(self):
            log.append(("event", "waited for", log.done))

    @contextlib.contextmanager
    def current(stream):
        log.streams.append(stream)
        yield
        log.streams.pop()

    training = Stream("training's")
    training.name = "training"
    log.clear()
    log.streams.append(training)
    monkeypatch.setattr(OnDevice, "log", log)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", current)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: log.streams[-1])
    transfer._copy_stream.cache_clear()
    yield log
    transfer._copy_stream.cache_clear()


class Pool(HostMemory):
    """Without CUDA no memory can be page-locked."""

    def take(self, nbytes):
        return torch.empty(nbytes + 7, dtype=torch.uint8)


def test_results_cross_on_a_stream_of_their_own(log):
    """It waits for the results, the training's stream waits for nothing, and memory lives on."""
    values = [torch.arange(5.0), torch.tensor([True, False]), torch.tensor(2**60)]
    sent = [value.as_subclass(OnDevice) for value in values]
    once = [
        ("cat", "on", "training"),
        ("side", "waits for", "training"),
        ("copy_", "on", "side"),
        ("memory", "kept for", "side"),
        ("event", "on", "side"),
    ]
    first = Transfer(sent, pool=Pool())
    assert log == [once[0], ("stream", "made for", "cpu"), *once[1:]]
    log.clear()
    Transfer(sent, pool=Pool())
    assert log == once  # one stream serves all captures
    log.clear()
    assert not first.ready()
    log.done = True
    assert first.ready()
    found = first.finish()

    assert log == [
        ("event", "asked", False),
        ("event", "asked", True),
        ("event", "waited for", True),
    ]
    for array, value in zip(found, values, strict=True):
        assert np.array_equal(array, value.numpy())
        assert array.shape == tuple(value.shape)


def test_memory_is_used_again_once_nobody_holds_an_array_in_it():
    """Whoever keeps a snapshot's array, or a view of one, keeps its numbers."""
    pool = HostMemory()

    def receive(value):
        (array,) = Transfer([torch.full((1000,), value)], pool=pool).finish()
        return array

    kept = receive(1.0)[10:20].reshape(2, 5)
    places = {array.__array_interface__["data"][0] for array in map(receive, (2.0, 3.0, 4.0))}
    newest = receive(5.0)
    others = [receive(value) for value in (6.0, 7.0, 8.0)]

    assert kept.tolist() == [[1.0] * 5] * 2
    assert newest.tolist() == [5.0] * 1000
    assert [array[0] for array in others] == [6.0, 7.0, 8.0]
    assert len(places) <= 2


def test_what_is_remembered_of_a_capture_does_not_hold_all_of_it():
    """However long a run is, its captures lie in two pieces of memory."""
    model, optimizer = make_training()
    places = set()
    with tensorview.watch(model, optimizer, every=1, formats=(), live=False) as watcher:
        for _ in range(15):
            train_steps(model, optimizer, 1)
            values = watcher.snapshot().layers[0].weights.values
            places.add(values.__array_interface__["data"][0])

    assert len(places) == 2


def test_a_capture_takes_no_new_memory():
    """While one result is held, as the newest snapshot is, the next ones take turns."""
    memory = ResultMemory()
    newest, places = None, []
    for _ in range(6):
        made = memory.take(5000)
        places.append(made.__array_interface__["data"][0])
        newest = made
    larger = memory.take(6000)

    assert len(set(places)) == 2
    assert len(larger) == 6000
    assert newest.__array_interface__["data"][0] == places[-1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_numbers_from_a_device_are_those_on_it():
    """However busy it is, and though the tensors change right after."""
    pool = HostMemory()
    for _ in range(3):
        tensors = [torch.rand(2**22, device="cuda", dtype=torch.float64) for _ in range(3)]
        expected = [tensor.clone() for tensor in tensors]
        sent = Transfer(tensors, pool=pool)
        for tensor in tensors:
            tensor.zero_()
        for array, value in zip(sent.finish(), expected, strict=True):
            assert np.array_equal(array, value.cpu().numpy())
