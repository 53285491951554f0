"""Pictures, judged by what is in them."""

import dataclasses

import numpy as np
import pytest

from tensorview.errors import ConfigurationError
from tensorview.snapshot import VIEWS
from tensorview.tabs import TABS
from tensorview.worker.pictures import colours, pages
from tensorview.worker.pictures.scene import Stage
from tensorview.worker.views import make_frame
from tests.pictures.looks import HEADER, LEGEND, PANELS, SIZE, blues, count, draw, ink, reds
from tests.snapshots import make_layer, make_snapshot


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def picture(view, snapshot, **options):
    return draw(view, make_frame(snapshot), **options)


def with_weights(layer, values):
    return dataclasses.replace(layer, weights=dataclasses.replace(layer.weights, values=values))


def with_activations(layer, **changes):
    return dataclasses.replace(layer, activations=dataclasses.replace(layer.activations, **changes))


@pytest.mark.parametrize("form", ["cells", "atlas"])
@pytest.mark.parametrize("view", VIEWS)
def test_header_panels_and_legend_of_every_view_have_ink(rng, view, form):
    """A picture has the size asked for, a header, panels and a legend, and blank margins."""
    found = picture(view, make_snapshot(rng, form=form))

    assert (*SIZE[::-1], 3) == found.shape
    assert np.uint8 == found.dtype
    assert ink(found[HEADER]).sum() > 300
    assert ink(found[PANELS]).sum() > 1000
    assert ink(found[LEGEND]).sum() > 100
    margins = np.concatenate([found[:5].reshape(-1, 3), found[-5:].reshape(-1, 3)])
    assert not ink(margins[None]).any()
    assert not ink(found[:, :5]).any()
    assert not ink(found[:, -5:]).any()


@pytest.mark.parametrize("view", VIEWS)
def test_same_frame_gives_the_same_pixels(rng, view):
    """Drawing does not change the frame, nor depend on what was drawn before in the window."""
    frame = make_frame(make_snapshot(rng))
    with Stage(SIZE) as stage:
        first = pages.draw((view,), frame, stage=stage)
        pages.draw(TABS["overview"], frame, stage=stage)

        assert np.array_equal(first, pages.draw((view,), frame, stage=stage))


@pytest.mark.parametrize("view", VIEWS)
def test_empty_view_says_so(rng, view):
    """A view that was not asked for gives a picture with a header and a few words, in grey."""
    found = picture(view, make_snapshot(rng, views=()))

    height, width, _ = found.shape
    middle = (slice(height // 2 - 20, height // 2 + 20), slice(width // 4, -width // 4))
    assert ink(found[middle]).sum() > 100
    assert ink(found).sum() == ink(found[HEADER]).sum() + ink(found[middle]).sum()
    assert reds(found) + blues(found) == 0


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_finite_does_not_stop_a_picture(rng, view):
    """Weights, activations, paths and scalars that are all NaN still give a picture."""
    layer = make_layer(rng, samples=0)
    layer = with_weights(layer, np.full_like(layer.weights.values, np.nan))
    old = layer.activations
    layer = with_activations(
        layer, **{name: getattr(old, name) * np.nan for name in ("maps", "pcc", "histogram")}
    )
    path = layer.trajectories[0]
    path = dataclasses.replace(path, points=path.points * np.nan)
    snapshot = make_snapshot(rng, layers=[dataclasses.replace(layer, trajectories=(path,))])
    for name in set(snapshot.scalars) - {"step"}:
        snapshot.scalars[name][:] = np.nan

    assert ink(picture(view, snapshot)).sum() > 300


@pytest.mark.parametrize("form", ["cells", "atlas"])
def test_sign_of_weights_is_seen(rng, form):
    """Positive weights are red and negative ones blue, in both forms."""
    layer = make_layer(rng)
    size = np.abs(layer.weights.values) + layer.weights.range / 4

    def panels(values):
        snapshot = make_snapshot(rng, layers=[with_weights(layer, values)], form=form)
        return picture("weights", snapshot)[PANELS]

    positive, negative = panels(size), panels(-size)
    assert reds(positive) > 1000
    assert blues(positive) == 0
    assert blues(negative) > 1000
    assert reds(negative) == 0


@pytest.mark.parametrize("form", ["cells", "atlas"])
@pytest.mark.parametrize("view", ["weights", "maps"])
def test_values_that_are_not_finite_are_loud_and_named(rng, view, form):
    """NaN and infinities are yellow in the panel and the legend; without them nothing is."""
    broken = picture(view, make_snapshot(rng, layers=[make_layer(rng, special=True)], form=form))
    whole = picture(view, make_snapshot(rng, layers=[make_layer(rng)], form=form))

    def yellow(part):
        r, g, b = np.moveaxis(part.astype(int), -1, 0)
        return int(((r > 180) & (g > 150) & (b < 40)).sum())

    assert yellow(broken[PANELS]) > 100
    assert yellow(broken[LEGEND]) > 30
    assert yellow(whole) == 0


@pytest.mark.parametrize("form", ["cells", "atlas"])
@pytest.mark.parametrize("view", ["distribution", "maps", "correlation"])
def test_groups_have_their_colours_in_panels_and_legend(rng, view, form):
    """Group 0, filters in no group and dead ones can be told apart; other groups do not occur."""
    found = picture(view, make_snapshot(rng, form=form))

    for colour in (colours.group_colour(0), colours.NO_GROUP, colours.DEAD):
        assert count(found[PANELS], colour) > 20
        assert count(found[LEGEND], colour) > 20
    assert count(found, colours.group_colour(1)) == 0


@pytest.mark.parametrize("form", ["cells", "atlas"])
def test_a_sample_can_be_chosen_instead_of_the_mean(rng, form):
    """Maps of one sample differ from the mean; a sample that was not kept is refused by name."""
    snapshot = make_snapshot(rng, layers=[make_layer(rng, samples=2)], form=form)
    mean, first, second = (picture("maps", snapshot, sample=s)[PANELS] for s in (None, 0, 1))

    assert not np.array_equal(mean, first)
    assert not np.array_equal(first, second)
    with pytest.raises(ConfigurationError) as caught:
        picture("maps", snapshot, sample=5)
    assert str(caught.value) == ("sample=5 cannot be drawn: the run holds maps of samples [0, 1].")


def test_correlation_of_a_group_is_red(rng):
    """A layer whose maps all agree gives a red heat map; one of opposites has blue in it, too."""
    layer = make_layer(rng, filters=2)
    alike = with_activations(layer, pcc=np.ones((2, 2), np.float32))
    unlike = with_activations(layer, pcc=np.array([[1, -1], [-1, 1]], np.float32))
    red, both = (
        picture("correlation", make_snapshot(rng, layers=[entry]))[PANELS]
        for entry in (alike, unlike)
    )

    red_end, blue_end = colours.DIVERGING[-1][1:], colours.DIVERGING[0][1:]
    assert count(red, blue_end) == 0
    assert count(both, blue_end) == pytest.approx(count(red, red_end) / 2, rel=0.05)


def test_trajectory_ends_pink_and_starts_grey(rng):
    """The ball at the last capture has the end of the ramp, and the line fades to its start."""
    found = picture("trajectory", make_snapshot(rng, layers=[make_layer(rng, captures=9)]))

    r, g, b = np.moveaxis(found[PANELS].astype(int), -1, 0)
    assert ((r - g > 130) & (b - g > 60)).sum() > 20  # pink
    assert (ink(found[PANELS]).sum(axis=0) > 120).sum() >= 4  # upright edges of the box
    assert ((r - g > 25) & (r - g < 90) & (b > g)).sum() > 20  # between grey and pink


@pytest.mark.parametrize("removed", [0, 2])
def test_a_removal_is_a_dark_dot_on_the_path(rng, removed):
    """It is there, and in the legend, only if something was removed."""
    layer = make_layer(rng, captures=9, removed=removed)
    found = picture("trajectory", make_snapshot(rng, layers=[layer]), size=(1280, 960))
    dark = found.astype(int).max(axis=2) < 60
    panel, legend = dark[150:-20, :1000], dark[200:, 1060:1105]

    assert (panel.sum() > 60) == (removed > 0)
    assert (legend.sum() > 20) == (removed > 0)


def test_scalars_have_a_line_a_layer(rng):
    """Each of three layers has its colour in the charts and in the legend."""
    found = picture("scalars", make_snapshot(rng), size=(1280, 960))

    for index in range(3):
        assert count(found[:, :1066], colours.GROUPS[index]) > 200
        assert count(found[:, 1080:], colours.GROUPS[index]) > 20


def test_loss_is_left_out_where_none_was_logged(rng):
    """Without a loss the line below the title says the step only."""
    snapshot = make_snapshot(rng)
    widths = []
    for loss in (0.25, np.nan):
        snapshot.scalars["loss"][-1] = loss
        subtitle = ink(picture("maps", snapshot)[26:36])
        widths.append(np.flatnonzero(subtitle.any(axis=0)).max())

    assert widths[1] < widths[0] - 20


@pytest.mark.parametrize("view", VIEWS)
def test_twenty_layers_with_long_names_keep_apart(rng, view):
    """With many layers and endless names, panels and their titles stay clear of the legend."""
    layers = [
        make_layer(rng, name=f"stage{i}.block.attention.projection.out" * 3, filters=4)
        for i in range(20)
    ]
    found = picture(view, make_snapshot(rng, layers=layers, name="a long run name " * 9))

    gap = found[60:, 537:541]  # between panels and legend
    assert not ink(gap).any()
    assert not ink(found[:, -8:]).any()
