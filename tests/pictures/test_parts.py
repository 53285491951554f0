"""Colours, ticks, charts and the layout of a page."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorview.snapshot import GROUP_DEAD, GROUP_NONE
from tensorview.worker.pictures import colours
from tensorview.worker.pictures.groups import group_keys
from tensorview.worker.pictures.legend import Bar, Key, Legend
from tensorview.worker.pictures.part import TITLE_LINES, Part
from tensorview.worker.pictures.scalars import _axis
from tensorview.worker.pictures.scene import Rectangle, Scene, Stage
from tensorview.worker.pictures.series import charts, key_layers, layer_colours, standing_flags
from tensorview.worker.pictures.ticks import label, log_ticks, ticks
from tests.pictures.looks import ink

RAMPS = [colours.DIVERGING, colours.WEIGHTS, colours.SEQUENTIAL, colours.STEPS, colours.DEPTH]


@pytest.mark.parametrize("ramp", RAMPS)
def test_ramps_run_from_0_to_1(ramp):
    """Control points are numbers in [0, 1], positions ascending from 0 to 1."""
    points = np.array(ramp)

    assert (points[0, 0], points[-1, 0]) == (0.0, 1.0)
    assert (np.diff(points[:, 0]) > 0).all()
    assert ((points >= 0) & (points <= 1)).all()


@pytest.mark.parametrize("ramp", [colours.DIVERGING, colours.WEIGHTS])
def test_zero_is_white_and_signs_are_equally_strong(ramp):
    """Both ends are equally light within 3 %, and zero is white."""
    low, zero, high = (np.array(colours.ramp_colour(place, ramp)) for place in (0.0, 0.5, 1.0))

    assert zero.tolist() == [1.0, 1.0, 1.0]
    luminance = np.array([0.2126, 0.7152, 0.0722])
    linear = [luminance @ np.power(end, 2.2) for end in (low, high)]
    assert linear[0] == pytest.approx(linear[1], abs=0.03)


def test_values_beyond_a_ramp_take_its_ends_and_broken_ones_their_own_colour():
    """Only what is not finite has the colour of what is not finite."""
    found = colours.ramp_colours(
        np.array([-9e307, 9e307, np.nan, np.inf, -np.inf]),
        colours.DIVERGING,
        low=-1e308,
        high=1e308,
        not_finite=colours.NOT_FINITE,
    )

    assert found[0, 2] > found[0, 0]
    assert found[1, 0] > found[1, 2]
    assert [list(colours.NOT_FINITE)] * 3 == found[2:].tolist()


def test_legend_names_only_the_groups_that_occur():
    """Groups that share a colour share a line; none and dead come last."""
    found = group_keys(np.array([GROUP_DEAD, 12, 0, GROUP_NONE, 2, 2, 22, 32]))

    assert [k.label for k in found] == ["group 0", "groups 2, 12, 22, ...", "in no group", "dead"]
    assert colours.group_colour(2) == colours.group_colour(12) == found[1].colour


@given(st.floats(-1e30, 1e30), st.floats(1e-6, 1e6), st.integers(1, 10))
def test_ticks_are_few_and_inside(low, share, count):
    """Ticks lie within the axis, ascending, and are about as many as asked for."""
    high = low + share * max(abs(low), 1.0)
    found = ticks(low, high, count=count)

    slack = 1e-6 * (high - low)
    assert all(low - slack <= tick <= high + slack for tick in found)
    assert sorted(found) == found
    assert len(found) <= count + 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 250, [0, 50, 100, 150, 200, 250]), (0.1, 0.9, [0.2, 0.4, 0.6, 0.8]), (3, 3, [3])],
)
def test_ticks_are_round(low, high, expected):
    """Steps are 1, 2 or 5 times a power of ten."""
    assert expected == pytest.approx(ticks(low, high, count=5))


def test_log_ticks_are_powers_of_ten():
    """They are thinned evenly where there are many."""
    assert pytest.approx(log_ticks(0.005, 3, count=6)) == [0.01, 0.1, 1.0]
    assert pytest.approx(log_ticks(1e-12, 10, count=4)) == [1e-12, 1e-8, 1e-4, 1.0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (1500, "1,500"), (2e7, "2e7"), (0.001, "0.001"), (-3e-5, "-3e-5")],
)
def test_labels_are_short(value, text):
    """Numbers far from 1 are written with a power of ten."""
    assert text == label(value)


def test_columns_become_charts_in_a_fixed_order():
    """The loss, what else was logged, a chart a quantity; none of nothing, or of no faults."""
    columns = {
        "step": np.arange(3.0),
        "val/accuracy": np.ones(3),
        "a.b/gradient_norm": np.array([1.0, 0.0, np.nan]),
        "a.b/nonfinite_weights": np.array([0.0, 2.0, 0.0]),
        "a.b/nonfinite_activations": np.zeros(3),
        "a.b/dead": np.zeros(3),
        "a.b/flags": np.ones(3),
        "a.b/flag_stalled": np.ones(3),
        "a.b/filters": np.array([8.0, 8.0, 6.0]),
        "fc/filters": np.array([10.0, 10.0, 10.0]),
        "a.b/custom_thing": np.ones(3),
        "a.b/update_ratio": np.full(3, np.nan),
        "loss": np.array([np.nan, 2.0, 1.0]),
    }

    found = charts(columns, layers=["a.b", "fc"])

    titles = ["loss", "val/accuracy", "gradient norm", "health flags", "filters of pruned layers"]
    titles += ["dead filters", "weights not finite", "custom thing"]
    assert titles == [chart.title for chart in found]
    assert [chart.title for chart in found if chart.logarithmic] == ["gradient norm"]
    assert [[line.layer for line in chart.lines] for chart in found] == [[None]] * 2 + [["a.b"]] * 6


def test_flags_are_named_where_they_stand():
    """By the number of their layer, at one row alone; a layer's name may look like another's."""
    columns = {
        "step": np.arange(3.0),
        "a/flag_dead_layer": np.array([np.nan, 1.0, 0.0]),
        "a.b/flag_stalled": np.array([1.0, 1.0, 1.0]),
    }

    found = [standing_flags(columns, layers=["a", "a.b"], row=row) for row in range(3)]
    assert found == [[(1, "stalled")], [(0, "dead layer"), (1, "stalled")], [(1, "stalled")]]


@pytest.mark.parametrize(
    ("quantity", "values", "expected"),
    [
        ("dead", [0.0, 0.0], [0, 1]),
        ("dead", [0.0, 3.0], [0, 1, 2, 3]),
        ("other", [0.0, 0.0], [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ("other", [2.0, np.nan], [1.8, 1.9, 2.0, 2.1, 2.2]),
        ("gradient_norm", [0.0, 1e-3, 10.0, np.inf], [1e-3, 1e-2, 1e-1, 1, 10]),
        ("gradient_norm", [2.0, 2.0], [2.0, 2.5]),
        ("update_ratio", [1e-2, 1e-1], [1e-3, 1e-2, 1e-1]),
    ],
)
def test_y_axes_have_ticks_whatever_the_values(quantity, values, expected):
    """Counts have whole ticks from 0, logarithms powers of ten, one value a surrounding."""
    (chart,) = charts({"step": np.zeros(2), f"a/{quantity}": np.array(values)}, layers=["a"])

    low, high, marks = _axis(chart)

    assert low < high
    assert marks == pytest.approx(expected)


@given(st.integers(1, 200))
def test_layers_have_distinct_colours_and_a_short_legend(count):
    """A legend names at most 12 layers, always the first and the last."""
    shown = key_layers(count)

    assert count == len(set(layer_colours(count)))
    assert (0, count - 1) == (shown[0], shown[-1])
    assert len(shown) == min(count, 12)


@pytest.fixture(scope="module", params=[(640, 480), (1280, 960), (1920, 800), (400, 900)])
def part(request):
    with Stage(request.param) as stage:
        scene = Scene(stage, background=colours.PAGE)
        width, height = request.param
        yield Part(scene, Rectangle(10, width - 10, 10, height - 20), unit=height / 960)


@pytest.mark.parametrize("aspect", [0.8, 1.0, 1.5])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16, 20, 53, 200])
def test_panels_with_titles_fit_the_page_without_overlap(part, count, aspect):
    """Panels and their titles lie within the page, keep their shape and do not overlap."""
    slots = part.grid(count, aspect=aspect)

    taken = np.zeros(part.scene.size[::-1], int)
    for (left, right, bottom, top), font, _ in slots:
        title_top = top + TITLE_LINES * font
        assert left >= part.area.left - 1
        assert right <= part.area.right + 1
        assert bottom >= part.area.bottom - 1
        assert title_top <= part.area.top + 1
        taken[round(bottom) : round(title_top), round(left) : round(right)] += 1
        if right - left > 50:
            assert (right - left) / (top - bottom) == pytest.approx(aspect, rel=0.05)
    assert count == len(slots)
    assert taken.max() == 1


@pytest.mark.parametrize("keys", [0, 1, 5, 30])
@pytest.mark.parametrize("bars", [1, 2])
@pytest.mark.parametrize("box", [Rectangle(20, 188, 20, 280), Rectangle(20, 380, 20, 180)])
def test_legends_keep_to_their_box(box, bars, keys):
    """Whatever they are given, in one column or two: what does not fit is counted or left out."""
    texts = []
    with Stage((400, 300)) as stage:
        scene = Scene(stage, background=colours.PAGE)
        write = scene.canvas.text
        scene.canvas.text = lambda x, y, text, **look: (
            texts.append(text),
            write(x, y, text, **look),
        )
        legend = Legend(scene.canvas, box, unit=1.0)
        legend.bars(*[Bar(colours.DIVERGING, -1, 1)] * bars, title="two\nlines")
        legend.keys([Key(colours.INK, f"key {i}") for i in range(keys)], title="keys")
        legend.note("a note\nof many words that go on and on")
        outside = ink(scene.render()[::-1])
    outside[
        round(box.bottom) - 3 : round(box.top) + 4, round(box.left) - 1 : round(box.right) + 1
    ] = 0

    assert not outside.any()
    shown = [text for text in texts if text.startswith("key ")]
    counted = [int(text.split()[1]) for text in texts if text.endswith("more")]
    assert len(shown) + sum(counted) == keys
    assert len(shown) >= min(keys, 4)


def test_long_texts_lose_their_middle(part):
    """What is wider than its place keeps both ends; what fits is not touched."""
    name = "layer" * 40 + ".conv1"
    found = part.canvas.fit(name, width=120, size=14)

    assert found.startswith("layer")
    assert found.endswith("conv1")
    assert "..." in found
    assert 100 < part.canvas.width_of(found, size=14) <= 120
    assert part.canvas.fit("conv1", width=120, size=14) == "conv1"
