"""The real ParaView window on saved runs, and on one that is being written."""

import time

import numpy as np
import pytest
import torch

import tensorview
from tensorview.run import Run
from tests.doubles import free_port, wait_until
from tests.gui.desk import Desk, is_coloured, quarters

pytestmark = [pytest.mark.paraview, pytest.mark.slow, pytest.mark.timeout(300)]

PLAY = (594, 42)
CAPTURES = 200
QUEUED = 20
"""So many captures may wait for the disk: nothing is dropped, however slow it is."""
PICKED = """
source = FindSource("weights")
chosen = servermanager._getPyProxy(source.SMProxy.GetSelectionInput(0))
picked = ExtractSelection(Input=source, Selection=chosen)
picked.UpdatePipeline()
cells = arrays(picked.GetClientSideObject().GetOutputDataObject(0).GetCellData())
found = {name: values.tolist() for name, values in cells.items()}
Delete(picked)
"""
STEP = """
notes = arrays(FindSource("weights").GetClientSideObject().GetOutputDataObject(0).GetFieldData())
found = int(notes["step"][0])
"""
COUNT_FRAMES = """
import sys, time
sys.frames = []
view = window.tabs.views["maps"][0]
view.SMProxy.GetRenderWindow().AddObserver(
    "EndEvent", lambda *_: sys.frames.append((time.monotonic(), GetTimeKeeper().Time)))
found = len(GetTimeKeeper().TimestepValues)
"""
FRAMES = "import sys; found = sys.frames"


class Net(torch.nn.Module):
    """Two convolutions and a linear layer, all drawn as cells."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 8, 3)
        self.conv2 = torch.nn.Conv2d(8, 16, 3)
        self.fc = torch.nn.Linear(16, 10)

    def forward(self, images):
        x = torch.relu(self.conv2(torch.relu(self.conv1(images))))
        return self.fc(x.mean(dim=(2, 3)))


def train(run_dir, *, captures):
    """Train on noise with a capture at each step; return the model."""
    generator = torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with tensorview.watch(model, optimizer, every=1, run_dir=run_dir, live=False) as watcher:
        for _ in range(captures):
            images = torch.randn(16, 1, 12, 12, generator=generator)
            loss = model(images).square().mean()
            optimizer.zero_grad()
            loss.backward()
            watcher.log(loss=loss)
            optimizer.step()
            wait_until(lambda: queued(watcher) < QUEUED, seconds=60, what="the file worker")
    assert len(Run.open(run_dir).steps()) == captures
    return model


def queued(watcher):
    """Return how many captures are on their way to the disk."""
    status = watcher.status()
    return status.captures - status.sinks["files"].delivered


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """Yield a window on a run of `CAPTURES` captures, and the model as the last one saw it."""
    folder = tmp_path_factory.mktemp("replayed")
    model = train(folder / "run", captures=CAPTURES)
    with Desk(folder, folder / "run") as desk:
        wait_until(
            lambda: is_coloured(desk.shot())["weights"] and is_coloured(desk.shot())["trajectory"],
            seconds=60,
            what=lambda: f"a coloured picture, got {is_coloured(desk.shot())}",
        )
        yield desk, model


def test_what_is_picked_is_what_the_model_holds(replayed):
    """Cells selected with the mouse carry the weights of the model bit for bit, by their ids."""
    desk, model = replayed
    desk.select((0.12, 0.1, 0.18, 0.18))
    wait_until(lambda: desk.ask(PICKED).get("weight"), seconds=60, what="a selection")
    picked = desk.ask(PICKED)

    assert len(picked["weight"]) > 0
    layers = [model.conv1, model.conv2, model.fc]
    kernels = [
        layer.weight.detach().reshape(*layer.weight.shape[:2], -1).numpy() for layer in layers
    ]
    ids = (picked[name] for name in ("layer", "filter", "in_channel", "row", "col"))
    assert picked["weight"] == [
        float(kernels[layer][filter_, channel, 3 * row + col])
        for layer, filter_, channel, row, col in zip(*ids, strict=True)
    ]


def test_two_hundred_captures_play(replayed):
    """Play goes through every capture, one frame each; a third of the wanted speed is required."""
    desk, _ = replayed

    assert desk.ask(COUNT_FRAMES) == CAPTURES
    desk.click(*PLAY)
    time.sleep(10)
    desk.click(*PLAY)
    frames = desk.ask(FRAMES)
    moments, steps = np.array(frames)[[step < CAPTURES for _, step in frames]].T
    played = len(np.unique(steps))
    assert played / (moments[-1] - moments[0]) > 4 / 3
    assert np.array_equal(np.unique(steps), np.arange(1, played + 1))


def test_a_growing_run_is_followed(tmp_path, train):
    """The window goes with the last capture while the training writes on."""
    train("run", port=free_port())
    wait_until((tmp_path / "run" / "weights.pvd").exists, seconds=60, what="a first capture")
    with Desk(tmp_path, tmp_path / "run") as desk:
        desk.see_all()
        first = desk.ask(STEP)
        wait_until(lambda: desk.ask(STEP) > first + 20, seconds=60, what="later steps")

        assert desk.dialogs() == []
        assert quarters(desk.shot())[0].std() > 1
