"""What pictures read from datasets, checked against the snapshot that those were made of."""

import dataclasses

import numpy as np
import pytest

from tensorview.run import Run
from tensorview.worker.datasets import read_frame
from tensorview.worker.pictures import maps, trajectory, weights
from tensorview.worker.pictures.content import gather, header
from tensorview.worker.pictures.pages import VIEWS
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.views import make_frame
from tests.pictures.looks import draw
from tests.snapshots import make_layer, make_snapshot


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("form", ["cells", "atlas"])
def test_sample_maps_are_scaled_by_their_layer_s_range(rng, form):
    """A sample's shade says its place in the layer's display range, as for the mean."""
    layer = make_layer(rng, samples=2)
    activations = dataclasses.replace(layer.activations, map_range=(-1.5, 4.0))
    layer = dataclasses.replace(layer, activations=activations)
    frame = make_frame(make_snapshot(rng, layers=[layer], form=form))

    ((_, found),) = gather(
        "maps",
        frame,
        from_cells=lambda polydata, index: maps._from_cells(polydata, index, sample=1),
        from_tiles=lambda tiles: maps._from_tiles(tiles, sample=1),
    )
    values = found.values if found.tiles is None else found.values[~found.tiles.between()]

    assert np.sort(layer.activations.maps[2].reshape(-1)) == pytest.approx(np.sort(values))
    assert found.range == pytest.approx((-1.5, 4.0), abs=1e-5)


@pytest.mark.parametrize(
    ("filters", "in_channels", "kernel"),
    [(1, 1, (1, 1)), (5, 3, (3, 3)), (7, 12, (1, 1)), (3, 2, (1, 5)), (10, 7, (2, 3))],
)
def test_pixels_between_weights_are_told_from_weights(rng, filters, in_channels, kernel):
    """As many pixels of an atlas count as weights as the layer has, all of them finite."""
    layer = make_layer(rng, filters=filters, in_channels=in_channels, kernel=kernel)
    frame = make_frame(make_snapshot(rng, layers=[layer], form="atlas"))

    ((_, tiles),) = gather(
        "weights", frame, from_cells=lambda *_: None, from_tiles=lambda tiles: tiles
    )
    values = tiles.pixels["weight"][~weights._between_weights(tiles)]

    assert sorted(layer.weights.values.reshape(-1)) == sorted(values)


def test_crowded_pixels_show_the_weight_furthest_from_zero():
    """Where weights share a pixel, none that stands out is averaged away, nor is a NaN."""
    values = np.full((40, 40), 0.01)
    values[5, 5], values[30, 5], values[30, 30] = -3.0, 2.0, np.inf
    empty = np.zeros(values.shape, bool)
    empty[:, 20:] = True
    empty[30, 30] = False

    found, still_empty = weights._shrunk(values, empty, size=(3.6, 4.0))

    assert (np.nanmin(found), np.nanmax(found)) == (-3.0, 2.0)
    assert np.isnan(found).sum() == 1
    assert not still_empty[np.isnan(found)].any()
    assert still_empty[0, 2:].all()
    assert not still_empty[:, :2].any()


@pytest.mark.parametrize("subspaces", [1, 2, 3, 5])
def test_every_path_lies_in_its_box(rng, subspaces):
    """Boxes of one layer's subspaces do not overlap, and hold their paths."""
    layers = [make_layer(rng, name=f"l{i}", subspaces=subspaces, captures=6) for i in range(3)]
    frame = make_frame(make_snapshot(rng, layers=layers))

    paths = trajectory._paths(frame, until=frame.step)

    assert 3 * subspaces == len(paths)
    boxes = np.array([path.box for path in paths])
    for path, box in zip(paths, boxes, strict=True):
        low, high = box.reshape(3, 2).T
        assert (path.segments[0] >= low - 1e-5).all()
        assert (path.segments[0] <= high + 1e-5).all()
    assert len(boxes) == len(np.unique(boxes.round(6), axis=0))
    assert [150.0] * len(paths) == [path.steps[-1][-1] for path in paths]


def test_axes_are_named_by_what_they_are(rng):
    """PCA axes tell their share of the variance, chosen weights their indices."""
    layer = make_layer(rng, subspaces=2)
    shares = layer.trajectories[0].explained_variance
    frame = make_frame(make_snapshot(rng, layers=[layer]))

    pca, chosen = trajectory._paths(frame, until=frame.step)

    assert [f"PC{i + 1} {share:.0%}" for i, share in enumerate(shares)] == pca.axes
    assert chosen.axes == ["w[0]", "w[1]", "w[2]"]


@pytest.mark.parametrize("form", ["cells", "atlas"])
def test_saved_frames_give_the_same_pictures(rng, tmp_path, form):
    """A frame read back from files draws the pixels of the frame in memory, layers in order."""
    frame = make_frame(make_snapshot(rng, form=form))
    Run.create(tmp_path / "run", settings={"name": "LeNet"})
    sink = FileSink(tmp_path / "run", formats=("vtp",))
    sink.write(frame)
    sink.close()
    saved = read_frame(Run.open(tmp_path / "run"), frame.step)

    assert header(frame) == header(saved)
    for view in VIEWS:
        expected, actual = (draw(view, which) for which in (frame, saved))
        assert np.array_equal(expected, actual), view
