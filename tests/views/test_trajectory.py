"""Trajectory: a polyline for every segment, whole whatever its points are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from tensorview.worker.paths import read_paths
from tensorview.worker.views import make_frame
from tests.snapshots import make_layer, make_snapshot
from tests.views.reading import columns, connectivity, points, texts
from tests.views.strategies import snapshots


def draw(*layers):
    snapshot = make_snapshot(np.random.default_rng(0), layers=layers)
    return make_frame(snapshot).datasets["trajectory"]


def with_points(values, *, extent=((-1, 1),) * 3, subspaces=1):
    """A layer whose every trajectory has the points *values*."""
    layer = make_layer(np.random.default_rng(0), captures=len(values), subspaces=subspaces)
    trajectories = tuple(
        dataclasses.replace(
            t,
            points=np.array(values, float),
            extent=np.array(extent, float),
            segment=np.zeros(len(values), np.int32),
            pruned=np.zeros(len(values), np.int32),
        )
        for t in layer.trajectories
    )
    return dataclasses.replace(layer, trajectories=trajectories)


@settings(max_examples=50)
@given(snapshots())
def test_a_polyline_for_every_segment_with_every_true_point(snapshot):
    """All points are kept bit for bit; lines join the finite ones; coordinates are finite."""
    polydata = make_frame(snapshot).datasets["trajectory"]
    paths = [
        (index, subspace, trajectory)
        for index, layer in enumerate(snapshot.layers)
        for subspace, trajectory in enumerate(layer.trajectories)
    ]
    at_points, cells = columns(polydata.GetPointData()), columns(polydata.GetCellData())
    coordinates = np.concatenate([np.empty((0, 3)), *(t.points for *_, t in paths)])
    segments = [
        (index, subspace, number, 4 * k + ids.tolist()[0], ids.size, trajectory)
        for k, (index, subspace, trajectory) in enumerate(paths)
        for number in range(2)
        if (
            ids := np.flatnonzero(
                np.isfinite(trajectory.points[:, 0]) & (trajectory.segment == number)
            )
        ).size
    ]
    segments.sort(key=lambda segment: segment[4] > 1)  # vertices come first

    assert polydata.GetNumberOfPoints() == len(coordinates)
    assert at_points["coordinate"].tobytes() == coordinates.tobytes()
    assert np.isfinite(points(polydata)).all()
    drawn = [*connectivity(polydata.GetVerts()), *connectivity(polydata.GetLines())]
    assert [list(range(first, first + size)) for *_, first, size, _ in segments] == [
        ids.tolist() for ids in drawn
    ]
    assert [segment[:3] for segment in segments] == [
        *zip(cells["layer"], cells["subspace"], cells["segment"], strict=True)
    ]
    steps = np.tile(snapshot.trajectory_steps, len(paths))
    losses = np.tile(snapshot.trajectory_losses, len(paths))
    assert np.array_equal(steps, at_points["step"])
    assert np.array_equal(losses, at_points["loss"], equal_nan=True)
    assert at_points["pruned"].tolist() == [n for *_, t in paths for n in t.pruned]
    assert texts(polydata)["subspaces"] == [t.subspace for *_, t in segments]
    explained = columns(polydata.GetFieldData())["explained_variance"]
    shares = np.array([t.explained_variance for *_, t in segments]).reshape(-1, 3)
    assert explained.shape == (len(segments), 3)
    assert np.array_equal(shares, explained, equal_nan=True)


@settings(max_examples=50)
@given(snapshots())
def test_paths_are_read_back_whole(snapshot):
    """Segments are put together in order, with the points after removals and the jumps to them."""
    found = read_paths(make_frame(snapshot).datasets["trajectory"])
    expected = [
        (index, subspace, trajectory)
        for index, layer in enumerate(snapshot.layers)
        for subspace, trajectory in enumerate(layer.trajectories)
    ]

    assert [path[:2] for path in found] == [entry[:2] for entry in expected]
    for k, (path, (*_, trajectory)) in enumerate(zip(found, expected, strict=True)):
        finite = np.flatnonzero(np.isfinite(trajectory.points[:, 0]))
        events = [i for i in finite[1:] if trajectory.segment[i] > trajectory.segment[i - 1]]
        assert (path.ids - 4 * k).tolist() == finite.tolist()
        assert (path.marked - 4 * k).tolist() == events
        assert (path.jumps - 4 * k).tolist() == [[i - 1, i] for i in events]


def test_a_removal_ends_a_segment():
    """The jump is no part of a line; where a path begins after an event, its start is marked."""
    layer = with_points([[0.1 * i] * 3 for i in range(5)])
    trajectory = dataclasses.replace(
        layer.trajectories[0],
        segment=np.array([1, 1, 2, 4, 4], np.int32),
        pruned=np.array([2, 0, 0, 3, 0], np.int32),
    )
    polydata = draw(dataclasses.replace(layer, trajectories=(trajectory,)))
    (path,) = read_paths(polydata)

    assert [vertex.tolist() for vertex in connectivity(polydata.GetVerts())] == [[2]]
    assert [line.tolist() for line in connectivity(polydata.GetLines())] == [[0, 1], [3, 4]]
    assert columns(polydata.GetCellData())["segment"].tolist() == [2, 1, 4]
    assert path.marked.tolist() == [0, 2, 3]
    assert path.jumps.tolist() == [[1, 2], [2, 3]]
    assert texts(polydata)["layer_titles"][0].endswith("%  pruned: 5 filters")


def test_a_path_that_knows_of_no_removals_is_one_segment():
    """Runs written before there were segments are read as ever."""
    polydata = draw(with_points([[0.1 * i] * 3 for i in range(5)]))
    polydata.GetCellData().RemoveArray("segment")
    polydata.GetPointData().RemoveArray("pruned")

    (path,) = read_paths(polydata)

    assert [ids.tolist() for ids in path.segments] == [[0, 1, 2, 3, 4]]
    assert (path.begins, path.marked.tolist()) == (False, [])


@pytest.mark.parametrize(
    ("segment", "pruned", "said"),
    [
        ([0, 0, 0], [0, 0, 0], ""),
        ([0, 1, 1], [0, 1, 0], "pruned: 1 filter"),
        ([0, 1, 1], [0, 0, 0], "pruned: inputs"),
        ([0, 1, 2], [0, 0, 2], "pruned: 2 filters"),
    ],
)
def test_the_title_says_what_was_removed(segment, pruned, said):
    """How many filters, or that it was inputs alone."""
    layer = with_points([[0] * 3] * 3, subspaces=2)
    trajectories = tuple(
        dataclasses.replace(
            trajectory, segment=np.array(segment, np.int32), pruned=np.array(pruned, np.int32)
        )
        for trajectory in layer.trajectories
    )
    (title,) = texts(draw(dataclasses.replace(layer, trajectories=trajectories)))["layer_titles"]

    assert title.partition("w[0] w[1] w[2]")[2].strip() == said


def test_the_extent_fills_the_panel_as_a_box():
    """Its low ends are the panel's lower front corner, its high ends one unit further."""
    polydata = draw(
        with_points([[-1, -2, 0], [1, 2, 8], [0, 0, 4]], extent=[[-1, 1], [-2, 2], [0, 8]])
    )

    assert points(polydata) == pytest.approx(np.array([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]]))


def test_n1_points_that_are_not_finite_are_skipped_not_drawn():
    """The line goes on to the next finite point."""
    nan, inf = np.nan, np.inf
    polydata = draw(with_points([[0, 0, 0], [0, nan, 0], [inf, 0, 0], [1, 1, 1], [-1, 0, 0]]))

    assert [line.tolist() for line in connectivity(polydata.GetLines())] == [[0, 3, 4]]
    assert np.isfinite(points(polydata)).all()


def test_a_single_point_is_a_vertex_and_comes_first():
    """One finite point makes a dot, none makes nothing; field rows follow the cells."""
    nan = np.nan
    layer = with_points([[nan] * 3, [0, 0, 0]], subspaces=3)
    line, dot, nothing = layer.trajectories
    line = dataclasses.replace(line, points=np.ones((2, 3)), subspace="line")
    nothing = dataclasses.replace(nothing, points=np.full((2, 3), nan))
    dot = dataclasses.replace(dot, subspace="dot")
    polydata = draw(
        dataclasses.replace(layer, trajectories=(line, nothing)),
        dataclasses.replace(layer, trajectories=(line, dot)),
    )
    cells = columns(polydata.GetCellData())

    assert [vertex.tolist() for vertex in connectivity(polydata.GetVerts())] == [[7]]
    assert [line.tolist() for line in connectivity(polydata.GetLines())] == [[0, 1], [4, 5]]
    assert cells["layer"].tolist() == [1, 0, 1]
    assert cells["subspace"].tolist() == [1, 0, 0]
    assert texts(polydata)["subspaces"] == ["dot", "line", "line"]


def test_huge_extents_do_not_overflow():
    """Coordinates stay within the panel where the extent is wider than the largest float."""
    huge = 1.7e308
    polydata = draw(with_points([[-huge] * 3, [huge] * 3, [0] * 3], extent=[[-huge, huge]] * 3))

    assert points(polydata) == pytest.approx(np.array([[0] * 3, [1] * 3, [0.5] * 3]))


def test_subspaces_of_a_layer_share_its_panel_evenly():
    """Three subspaces lie in boxes of a 2 x 2 grid that do not touch."""
    polydata = draw(with_points([[-1] * 3, [1] * 3], subspaces=3))
    low, high = points(polydata)[::2], points(polydata)[1::2]

    assert low == pytest.approx(np.array([[0.02, 0.52, 0], [0.52, 0.52, 0], [0.02, 0.02, 0]]))
    assert high - low == pytest.approx(np.full((3, 3), 0.46))
    assert columns(polydata.GetFieldData())["layer_bounds"][4:].tolist() == [0, 0.46]


def test_steps_are_coloured_from_the_first_to_the_last():
    """The range ends at the snapshot's step, and is one step wide at step 0."""
    layer = with_points([[0] * 3])
    rng = np.random.default_rng(0)
    ranges = [
        columns(
            make_frame(make_snapshot(rng, layers=[layer], step=step))
            .datasets["trajectory"]
            .GetFieldData()
        )["color_range"].tolist()
        for step in (150, 0)
    ]

    assert ranges == [[0, 150], [0, 1]]


def test_the_title_says_what_the_axes_explain():
    """Where the subspace is PCA and two points differ; chosen weights are named only."""
    layer = with_points([[0] * 3, [1] * 3], subspaces=2)
    pca = dataclasses.replace(
        layer.trajectories[0], explained_variance=np.array([0.621, 0.2, 0.05])
    )
    polydata = draw(
        dataclasses.replace(layer, trajectories=(pca, layer.trajectories[1])),
        dataclasses.replace(layer, trajectories=()),
    )

    assert texts(polydata)["layer_titles"] == [
        "conv1  Conv2d  PCA 62% + 20% + 5%  w[0] w[1] w[2]",
        "conv1  Conv2d",
    ]
