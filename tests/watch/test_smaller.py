"""A training whose network becomes smaller on the way: files and their replay show both sides."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import tensorview
from tensorview.run import Run
from tensorview.worker.datasets import arrays, read_frame
from tensorview.worker.paths import read_paths
from tests.networks import cut
from tests.pictures.looks import draw

KEPT = np.delete(np.arange(16), [7, 9])


class Net(nn.Module):
    """Sixteen filters, of which two will go."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3)
        self.fc = nn.Linear(16 * 4, 3)

    def forward(self, images):
        return self.fc(F.max_pool2d(F.relu(self.conv1(images)), 3).flatten(1))


def filters(run, step, *, layer=0):
    """Filters of one layer whose weights are drawn, as now numbered and as at first."""
    cells = arrays(read_frame(run, step).datasets["weights"].GetCellData())
    own = np.asarray(cells["layer"]) == layer
    pairs = {
        (a, b) for a, b in zip(cells["filter"][own], cells["original_filter"][own], strict=True)
    }
    return sorted(pairs)


@pytest.fixture(scope="module", params=["in the hook", "between steps"])
def run(request, tmp_path_factory):
    """Ten steps, the network smaller from the fifth on; every fifth is captured."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    path = tmp_path_factory.mktemp("smaller") / "run"

    def shrink(*_):
        if watcher.status().step == (4 if at_hook else 5):
            columns = np.arange(64).reshape(16, 4)[KEPT].ravel()
            kept = cut(model, {"conv1": (KEPT, None), "fc": (None, columns)})
            watcher._captures.shrink(kept)
            watcher._captures.take_event(5)

    at_hook = request.param == "in the hook"
    if at_hook:
        optimizer.register_step_post_hook(shrink)  # before that of the watcher
    with tensorview.watch(
        model, optimizer, every=5, run_dir=path, live=False, strict=True
    ) as watcher:
        for _ in range(10):
            loss = F.cross_entropy(model(torch.randn(8, 1, 8, 8)), torch.randint(3, (8,)))
            optimizer.zero_grad()
            loss.backward()
            watcher.log(loss=loss)
            optimizer.step()
            if not at_hook:
                shrink()
    return Run.open(path)


def test_files_have_the_filters_of_their_step(run):
    """Sixteen before the event, fourteen from its step on, with the numbers that they had."""
    assert list(run.steps()) == [1, 5, 10]
    assert filters(run, 1) == [(i, i) for i in range(16)]
    for step in (5, 10):
        assert filters(run, step) == [*enumerate(KEPT.tolist())]
        cells = arrays(read_frame(run, step).datasets["maps"].GetCellData())
        assert np.unique(cells["filter"][np.asarray(cells["layer"]) == 0]).tolist() == [*range(14)]


def test_the_time_series_names_both_sides(run):
    """ParaView finds the files of before and after in one collection."""
    for view in ("weights", "trajectory", "maps"):
        text = (run.path / f"{view}.pvd").read_text()
        assert [f'timestep="{step}"' in text for step in (1, 5, 10)] == [True] * 3


def test_the_path_goes_on_in_a_new_segment(run):
    """One path a layer, in two segments, with the removal at the event's step."""
    trajectory = read_frame(run, 10).datasets["trajectory"]
    points = arrays(trajectory.GetPointData())
    paths = read_paths(trajectory)

    assert [path.layer for path in paths] == [0, 1]
    assert [[len(ids) for ids in path.segments] for path in paths] == [[1, 2], [1, 2]]
    assert points["step"].tolist() == [1, 5, 10] * 2
    assert points["pruned"].tolist() == [0, 2, 0, 0, 0, 0]
    columns = arrays(read_frame(run, 10).datasets["scalars"].GetPointData())
    assert columns["conv1/filters"].tolist() == [16, 14, 14]


@pytest.mark.parametrize("view", ["weights", "trajectory", "maps", "scalars"])
def test_pictures_of_both_sides_can_be_drawn(run, view):
    """Whatever frame of the run a film takes its ranges from."""
    for step in run.steps():
        assert draw(view, read_frame(run, step)).std() > 1
