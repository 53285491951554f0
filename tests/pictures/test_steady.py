"""What must be the same on every page of a film, and what pages of several views have in common."""

import dataclasses

import numpy as np
import pytest

from tensorview.snapshot import GROUP_DEAD
from tensorview.worker.pictures import colours, correlation, distribution, maps, weights
from tensorview.worker.pictures.content import gather, layers
from tensorview.worker.views import make_frame
from tests.pictures.looks import LEGEND, PANELS, blues, count, draw, ink, reds
from tests.snapshots import make_layer, make_snapshot

FORMS = ["cells", "atlas"]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def changed(layer, part, **changes):
    return dataclasses.replace(
        layer, **{part: dataclasses.replace(getattr(layer, part), **changes)}
    )


def frame_of(rng, *layers, step=150, form="auto"):
    return make_frame(make_snapshot(rng, layers=layers, step=step, form=form))


@pytest.mark.parametrize("late_form", FORMS)
@pytest.mark.parametrize("early_form", FORMS)
def test_a_weight_has_the_colour_of_the_last_range(rng, early_form, late_form):
    """What is deep red by its own step's range is pale by one that is twenty times as wide."""
    layer = make_layer(rng)
    values = np.full_like(layer.weights.values, 0.1)
    early = frame_of(rng, changed(layer, "weights", values=values, range=0.1), form=early_form)
    late = frame_of(
        rng, changed(layer, "weights", values=20 * values, range=2.0), step=200, form=late_form
    )
    alone = draw("weights", early)[PANELS]
    in_film, at_end = (draw("weights", frame, last=late)[PANELS] for frame in (early, late))

    red = colours.WEIGHTS[-1][1:]
    pale = colours.ramp_colour(0.5 + 0.5 / 20, colours.WEIGHTS)
    assert count(alone, red, tolerance=40) > 2000
    assert count(in_film, red, tolerance=40) == 0
    assert count(in_film, pale, tolerance=12) > 2000
    assert count(at_end, red, tolerance=40) > 2000


@pytest.mark.parametrize("form", FORMS)
def test_the_range_of_weights_in_a_title_is_the_one_that_is_drawn(rng, form):
    """It is read from the data, and named in the place of the step's own."""
    frame = frame_of(rng, changed(make_layer(rng), "weights", range=0.5), form=form)
    ((place, content),) = weights._gather(frame)

    assert weights._range(content) == pytest.approx(0.5)
    assert place.details[-1] == "±0.5"
    assert weights._with_range(place, 20.0).details == [*place.details[:-1], "±20"]
    assert weights._with_range(place, None) == place


@pytest.mark.parametrize(
    ("limits", "text"), [((0.0, 0.5), "0 to 0.5"), ((-15.0, 10.0), "±15"), ((-2.0, 0.0), "±2")]
)
def test_the_range_of_maps_in_a_title_is_the_one_that_is_drawn(rng, limits, text):
    """Of both signs it is as wide on either side of 0 as its colours."""
    ((place, _),) = maps._gather(frame_of(rng, make_layer(rng)), sample=None)
    scale = maps._scale(*limits)

    assert maps._with_range(place, scale.text).details == [*place.details[:-1], text]
    assert scale.high >= max(map(abs, limits))
    assert scale.low in (0, -scale.high)


@pytest.mark.parametrize("form", FORMS)
def test_an_activation_has_the_colour_of_the_last_range(rng, form):
    """What is black by its own step's range is a light gray by one that is ten times as wide."""
    layer = make_layer(rng, samples=0)
    ones = np.ones_like(layer.activations.maps)
    early = frame_of(rng, changed(layer, "activations", maps=ones, map_range=(0.0, 1.0)), form=form)
    late = frame_of(
        rng, changed(layer, "activations", maps=10 * ones, map_range=(0.0, 10.0)), form=form
    )
    black, light = (colours.ramp_colour(place, colours.SEQUENTIAL) for place in (1.0, 0.1))

    assert count(draw("maps", early)[PANELS], black) > 2000
    in_film = draw("maps", early, last=late)[PANELS]
    assert count(in_film, black) == 0
    assert count(in_film, light) > 2000


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([0.25, 0.75], (0.0, 1.0)),
        ([-1.5, 2.0], (-2.0, 3.0)),
        ([0.0, 0.0], (0.0, 1.0)),
        ([0.5, 0.5], (0.0, 2.0)),
        ([-0.5, 0.5], (-15.0, 10.0)),
        ([np.nan, 0.5], (0.0, 2.0)),
        ([np.nan, np.inf], (0.0, 1.0)),
    ],
)
def test_ranges_are_read_from_the_data(values, limits):
    """Two activations and their places tell a range; one tells the upper end of one from 0."""
    low, high = limits
    activation = np.array(values, np.float32)
    scaled = ((activation.astype(float) - low) / (high - low)).astype(np.float32)

    assert maps._range(activation, scaled) == pytest.approx(limits, rel=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_activations_of_both_signs_are_coloured_by_sign(rng, form):
    """Negative is blue, zero white and positive red; the legend has a ramp for either kind."""
    layer = make_layer(rng, filters=2, samples=0)
    values = np.zeros_like(layer.activations.maps)
    values[:, 0, :3], values[:, 1, :3] = -2.0, 2.0
    groups = np.full(2, -1, np.int32)
    changes = {"maps": values, "groups": groups}
    signed = draw(
        "maps",
        frame_of(rng, changed(layer, "activations", map_range=(-2, 2), **changes), form=form),
    )
    changes["maps"] = np.abs(values)
    unsigned = draw(
        "maps", frame_of(rng, changed(layer, "activations", map_range=(0, 2), **changes), form=form)
    )

    low, high = (colours.WEIGHTS[end][1:] for end in (0, -1))
    assert count(signed[PANELS], low) == pytest.approx(count(signed[PANELS], high), rel=0.05)
    assert count(signed[PANELS], low) > 2000
    assert count(signed[PANELS], (1.0, 1.0, 1.0), tolerance=1) > 2000
    assert min(reds(signed[LEGEND]), blues(signed[LEGEND])) > 50
    assert reds(unsigned) + blues(unsigned) == 0


def test_both_kinds_of_layers_have_their_ramp(rng):
    """With layers of one sign and of both, the legend has both ramps, gray and coloured."""
    one, both = make_layer(rng, name="one"), make_layer(rng, name="both")
    both = changed(both, "activations", map_range=(-3.0, 1.0))
    legend = draw("maps", frame_of(rng, one, both), size=(1280, 960))[80:, 1070:]

    assert count(legend, colours.SEQUENTIAL[-1][1:], tolerance=12) > 10
    assert min(reds(legend), blues(legend)) > 200


def lacking(rng, *, form):
    """Three layers, the middle one without activations and without a path."""
    found = [make_layer(rng, name=name) for name in ("first", "second", "third")]
    found[1] = dataclasses.replace(found[1], activations=None, trajectories=())
    return frame_of(rng, *found, form=form)


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_has_the_same_place_in_every_view(rng, form):
    """Layers without activations keep their place, with nothing in it."""
    frame = lacking(rng, form=form)

    assert [place.name for place in layers(frame)] == ["first", "second", "third"]
    for module in (maps, correlation, distribution):
        found = module._gather(frame, sample=None) if module is maps else module._gather(frame)
        assert [place.name for place, _ in found] == ["first", "second", "third"]
        assert [content is None for _, content in found] == [False, True, False]
    assert [content is None for _, content in weights._gather(frame)] == [False] * 3


@pytest.mark.parametrize("view", ["maps", "distribution", "correlation", "trajectory"])
@pytest.mark.parametrize("form", FORMS)
def test_the_empty_place_says_what_is_lacking(rng, view, form):
    """The first and the third panel do not move, and between them stand a few gray words."""
    whole = make_snapshot(
        np.random.default_rng(7),
        layers=[make_layer(rng, name=name) for name in ("first", "second", "third")],
        form=form,
    )
    frame = make_frame(whole)
    layers_left = (
        whole.layers[0],
        dataclasses.replace(whole.layers[1], activations=None, trajectories=()),
        whole.layers[2],
    )
    without = make_frame(dataclasses.replace(whole, layers=layers_left))
    before, after = (draw(view, f, size=(1280, 960)) for f in (frame, without))

    same = (before == after).all(axis=-1)
    rows, columns = np.nonzero(~same[80:, :1060])
    gone = ink(before)[80:, :1060][rows.min() : rows.max(), columns.min() : columns.max()]
    left = ink(after)[80:, :1060][rows.min() : rows.max(), columns.min() : columns.max()]
    assert np.ptp(columns) < 0.55 * 1060  # of the two columns, one
    assert np.ptp(rows) < 0.55 * 880
    assert 30 < left.sum() < 0.2 * gone.sum()


def test_nothing_is_gathered_where_no_layer_has_content(rng):
    """So that the page says that there is nothing to show."""
    frame = make_frame(make_snapshot(rng, views=("weights",)))

    assert gather("maps", frame, from_cells=lambda *_: None, from_tiles=lambda _: None) == []


@pytest.mark.parametrize("form", FORMS)
def test_kernels_of_one_row_use_their_whole_panel(rng, form):
    """A Conv1d of wide kernels leaves no part of its panel empty; a Conv2d keeps its shape."""
    flat = make_layer(rng, filters=16, in_channels=4, kernel=(1, 7))
    square = make_layer(rng, filters=16, in_channels=4, kernel=(3, 3))
    ground = np.array(colours.PANEL)
    for layer, least in ((flat, 0.85), (square, 0.0)):
        found = draw("weights", frame_of(rng, layer, form=form), size=(1280, 960))[130:, :1050]
        away = np.abs(found.astype(int) - colours.to_bytes(ground)).max(-1)
        rows = np.flatnonzero(((away > 20) & ink(found)).any(axis=1))
        assert np.ptp(rows) > least * 780


def test_maps_of_one_row_have_even_frames(rng):
    """A frame is as narrow above and below as at the sides, and the map fills it."""
    layer = make_layer(rng, filters=4, map_size=(1, 40), samples=0)
    frame = frame_of(rng, layer, form="cells")

    ((_, found),) = maps._gather(frame, sample=None)
    inner, outer = found.frames[:, 0], found.frames[:, 1]
    edges = np.abs(outer - inner)
    assert edges == pytest.approx(np.full_like(edges, edges[0, 0]), rel=1e-3)
    for x0, x1, y0, y1 in inner:
        within = found.quads.points[
            (found.quads.points[:, 0] > (x0 + x1) / 2 - 0.01)
            & (found.quads.points[:, 1] >= y0 - 1e-5)
            & (found.quads.points[:, 1] <= y1 + 1e-5)
        ]
        assert (within[:, 1].min(), within[:, 1].max()) == pytest.approx((y0, y1), abs=1e-5)
    assert GROUP_DEAD in found.groups


def test_groups_of_the_last_step_are_in_every_legend(rng):
    """So that the legend of a film does not come and go."""
    layer = make_layer(rng)
    none = np.full_like(layer.activations.groups, -1)
    early = frame_of(rng, changed(layer, "activations", groups=none))
    late = frame_of(rng, layer)
    for view in ("maps", "distribution", "correlation"):
        alone, in_film = (draw(view, early)[LEGEND], draw(view, early, last=late)[LEGEND])
        assert count(alone, colours.group_colour(0)) == 0
        assert count(in_film, colours.group_colour(0)) > 20


def test_a_run_that_went_on_from_a_checkpoint_shows_what_was_before(rng):
    """Paths and tables that begin after a step know nothing of it: then its own are drawn."""
    before, after = (frame_of(rng, make_layer(rng), step=step) for step in (200, 900))
    for view in ("trajectory", "scalars"):
        assert np.array_equal(draw(view, before), draw(view, before, last=after))
        assert not np.array_equal(draw(view, before), draw(view, after))
