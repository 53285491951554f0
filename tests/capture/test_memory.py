"""What a run remembers from capture to capture."""

import numpy as np
import pytest
import torch
from torch import nn

from tensorview.capture import Capturer
from tensorview.memory import Memory
from tensorview.snapshot import GROUP_NONE
from tests.capture.helpers import make_settings
from tests.networks import cut


class Run:
    """A model whose weights take random steps, captured at each."""

    def __init__(self, **changes):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 40))
        self.settings = make_settings(probe=torch.randn(6, 1, 5, 5), **changes)
        self.capturer = Capturer(self.model, settings=self.settings)
        self.memory = Memory(self.capturer.layers, settings=self.settings)
        self.step = 0

    def capture(self, *, scale=0.01, **logged):
        self.step += 10
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=scale)
        return self.memory.remember(self.step, self.capturer.begin().finish(), logged=logged)


def test_trajectories_grow_by_a_point_a_capture_with_their_losses():
    """Points, steps and losses belong together; a loss that was not logged is NaN."""
    run = Run(trajectory_axes={"0": [(0, 1, 2), (3, 4, 5)]})
    run.capture(loss=2.0)
    run.capture()
    snapshot = run.capture(loss=0.5)
    weight = run.model[0].weight.detach().flatten()

    assert snapshot.capture == 2
    assert snapshot.trajectory_steps.tolist() == [10, 20, 30]
    assert np.isnan(snapshot.trajectory_losses).tolist() == [False, True, False]
    assert [path.points.shape for path in snapshot.layers[0].trajectories] == [(3, 3)] * 3
    assert snapshot.layers[0].trajectories[1].points[-1].tolist() == weight[:3].tolist()
    assert len(snapshot.layers[1].trajectories) == 1


def test_a_small_layer_s_path_keeps_its_distances():
    """Up to 64 weights nothing is estimated: three captures span a plane exactly."""
    run = Run()
    weights = []
    for _ in range(3):
        points = run.capture().layers[0].trajectories[0].points
        weights.append(run.model[0].weight.detach().clone())

    assert np.linalg.norm(points[2] - points[0]) == pytest.approx(
        float((weights[2] - weights[0]).norm()), rel=1e-6
    )


def test_long_runs_are_thinned_alike_everywhere(monkeypatch):
    """All layers keep the same captures, evenly, with the first and the newest."""
    monkeypatch.setattr("tensorview.memory.max_points", lambda _: 16)
    monkeypatch.setattr("tensorview.memory.max_rows", lambda _: 16)
    run = Run()
    first = run.capture(loss=0.0).trajectory_steps[0]
    for number in range(1, 70):
        snapshot = run.capture(loss=float(number))
    steps = snapshot.trajectory_steps

    assert len(steps) <= 16
    assert (steps[0], steps[-1]) == (first, 700)
    assert len(set(np.diff(steps[:-1]))) == 1
    assert snapshot.trajectory_losses.tolist() == (steps / 10 - 1).tolist()
    assert {path.points.shape for layer in snapshot.layers for path in layer.trajectories} == {
        (len(steps), 3)
    }
    assert snapshot.scalars["step"].tolist() == steps.tolist()
    assert snapshot.scalars["loss"].tolist() == snapshot.trajectory_losses.tolist()


def test_ranges_are_steady_and_never_shrink():
    """Small changes leave the colours alone; large ones widen them for good."""
    run = Run()
    ranges = [run.capture().layers[1].weights.range for _ in range(5)]
    wide = run.capture(scale=10.0).layers[1]
    with torch.no_grad():
        run.model[3].weight.mul_(1e-3)
    after = run.capture().layers[1]

    assert len(set(ranges)) == 1
    assert wide.weights.range >= np.abs(wide.weights.values).max()
    assert after.weights.range == wide.weights.range
    assert after.activations.map_range == wide.activations.map_range
    assert all((path.extent[:, 0] <= path.points.min(0)).all() for path in after.trajectories)


def test_scalars_come_and_go():
    """Columns logged late are NaN before, and columns no longer logged are NaN after."""
    run = Run()
    run.capture(loss=1.0, lr=0.1)
    run.capture(loss=0.5, accuracy=0.9)
    scalars = run.capture(step=99.0).scalars

    assert scalars["step"].tolist() == [10, 20, 30]
    assert scalars["loss"].tolist()[:2] == [1.0, 0.5]
    assert np.isnan(scalars["lr"]).tolist() == [False, True, True]
    assert np.isnan(scalars["accuracy"]).tolist() == [True, False, True]
    assert {name.split("/")[1] for name in scalars if name.startswith("0/")} == {
        "weight_norm",
        "gradient_norm",
        "update_ratio",
        "filters",
        "dead",
        "nonfinite_weights",
        "nonfinite_gradients",
        "nonfinite_activations",
        "curvature",
        "straightness",
        "saturated",
        "flags",
    }


def test_broken_weights_are_a_gap_in_the_path():
    """A capture with NaN weights has no point; the others stay, and the run goes on."""
    run = Run()
    for _ in range(4):
        run.capture()
    healthy = {key: value.clone() for key, value in run.model.state_dict().items()}
    with torch.no_grad():
        run.model[0].weight[0, 0, 0, 0] = torch.nan
    broken = run.capture()
    run.model.load_state_dict(healthy)
    snapshot = run.capture()

    assert np.isnan(broken.layers[0].trajectories[0].points[-1]).all()
    assert np.isnan(snapshot.layers[0].trajectories[0].points[4]).all()
    assert np.isfinite(np.delete(snapshot.layers[0].trajectories[0].points, 4, axis=0)).all()
    assert np.isfinite(broken.layers[0].weights.range)
    assert (broken.layers[0].activations.groups >= GROUP_NONE).all()


def steps_of(snapshot, numbers):
    """Steps of the points at which an array is not 0, with its values."""
    at = np.flatnonzero(numbers)
    return dict(zip(snapshot.trajectory_steps[at].tolist(), numbers[at].tolist(), strict=True))


def test_paths_go_on_where_filters_were_removed():
    """No point is lost; events count at the first capture after them, on every path of a layer."""
    run = Run(trajectory_axes={"0": [(0, 1, 2)]})
    run.capture()
    run.memory.mark_pruned({"0": 2, "3": 0})
    run.capture()
    run.capture()
    run.memory.mark_pruned({"0": 1})
    run.memory.mark_pruned({"0": 1})
    snapshot = run.capture()
    conv, linear = snapshot.layers

    for path in conv.trajectories:
        assert np.isfinite(path.points).all()
        assert path.segment.tolist() == [0, 1, 1, 3]
        assert path.pruned.tolist() == [0, 2, 0, 2]
        assert path.segment.dtype == path.pruned.dtype == np.int32
    assert linear.trajectories[0].segment.tolist() == [0, 1, 1, 1]
    assert linear.trajectories[0].pruned.tolist() == [0, 0, 0, 0]


def test_an_event_before_the_first_capture_is_at_the_first_point():
    """The path begins with the segment that follows it."""
    run = Run()
    run.memory.mark_pruned({"0": 1})
    run.capture()
    path = run.capture().layers[0].trajectories[0]

    assert path.segment.tolist() == [1, 1]
    assert path.pruned.tolist() == [1, 0]


def test_a_step_that_is_captured_again_keeps_its_events():
    """Those before its first capture and those since; none is counted twice."""
    run = Run()
    run.capture()
    run.memory.mark_pruned({"0": 1})
    run.capture()
    run.memory.mark_pruned({"0": 2})
    run.step -= 10
    run.capture()
    run.step -= 10
    path = run.capture().layers[0].trajectories[0]

    assert path.segment.tolist() == [0, 2]
    assert path.pruned.tolist() == [0, 3]


def test_thinning_keeps_every_event(monkeypatch):
    """Where the point after an event goes, the next one that stays is marked."""
    monkeypatch.setattr("tensorview.memory.max_points", lambda _: 8)
    run = Run()
    removed = {30: 1, 70: 2, 80: 4, 200: 8}
    for step in range(10, 410, 10):
        if step in removed:
            run.memory.mark_pruned({"0": removed[step]})
        snapshot = run.capture()
    path = snapshot.layers[0].trajectories[0]
    steps = snapshot.trajectory_steps
    expected = {}
    for step, count in removed.items():
        at = int(steps[steps >= step][0])
        expected[at] = expected.get(at, 0) + count

    assert len(steps) <= 8
    assert steps_of(snapshot, path.pruned) == expected
    assert path.segment.tolist() == [sum(step >= event for event in removed) for step in steps]


def test_ranges_are_steady_across_an_event():
    """Neither colours nor boxes begin anew with a layer that became smaller."""
    run = Run()
    wide = run.capture(scale=10.0).layers[0]
    with torch.no_grad():
        run.model[0].weight.mul_(1e-3)
    kept = np.array([0, 2])
    columns = np.arange(27).reshape(3, 9)[kept].ravel()
    run.memory.mark_pruned(
        run.capturer.shrink(cut(run.model, {"0": (kept, None), "3": (None, columns)}))
    )
    after = run.capture().layers[0]

    assert after.weight_shape == (2, 1, 3, 3)
    assert after.weights.range == wide.weights.range
    assert after.activations.map_range == wide.activations.map_range
    for path, former in zip(after.trajectories, wide.trajectories, strict=True):
        assert (path.extent[:, 0] <= former.extent[:, 0]).all()
        assert (path.extent[:, 1] >= former.extent[:, 1]).all()


def test_snapshots_share_nothing_with_what_is_remembered():
    """Writing into a snapshot changes no later one."""
    run = Run()
    first = run.capture(loss=1.0)
    first.trajectory_losses[:] = 7
    first.scalars["loss"][:] = 7
    for layer in first.layers:
        for path in layer.trajectories:
            path.points[:] = 7
            path.extent[:] = 7
    second = run.capture(loss=2.0)

    assert second.trajectory_losses.tolist() == [1, 2]
    assert second.scalars["loss"].tolist() == [1, 2]
    assert not any((path.extent == 7).any() for path in second.layers[0].trajectories)


def test_only_what_was_asked_for_is_there():
    """Views that were not asked for cost nothing and show nothing."""
    snapshot = Run(views=("correlation",)).capture()

    assert snapshot.views == ("correlation",)
    assert snapshot.layers[0].weights is None
    assert snapshot.layers[0].trajectories == ()
    assert snapshot.layers[0].activations is not None
