"""Pages of several views: one header, and every part within its own bounds."""

import numpy as np
import pytest

from tensorview.tabs import TABS
from tensorview.worker.pictures import colours
from tensorview.worker.pictures.canvas import Canvas
from tensorview.worker.views import make_frame
from tests.pictures.looks import count, draw, ink
from tests.snapshots import make_layer, make_snapshot

SIZES = [(960, 720), (1920, 1080)]
"""The smallest, and one that is wider; what is drawn grows with them."""


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def parts(picture, *, columns, rows):
    """Cut a page without its header into parts, leaving out 5 pixels around each."""
    height, width = picture.shape[:2]
    unit = min(width / 1280, height / 960)
    margin, gap, top = 28 * unit, 30 * unit, 84 * unit
    across = (width - 2 * margin - (columns - 1) * gap) / columns
    down = (height - top - margin - (rows - 1) * gap) / rows
    return [
        picture[
            round(top + row * (down + gap)) : round(top + row * (down + gap) + down),
            round(margin + column * (across + gap)) : round(
                margin + column * (across + gap) + across
            ),
        ]
        for row in range(rows)
        for column in range(columns)
    ]


def outside(picture, *, columns, rows):
    """Where a page below its header has ink that is in no part, with 3 pixels to spare."""
    rest = ink(picture)
    for part in parts(
        np.arange(rest.size).reshape(rest.shape)[..., None], columns=columns, rows=rows
    ):
        first, last = part[0, 0, 0], part[-1, -1, 0]
        (top, left), (bottom, right) = (divmod(int(i), rest.shape[1]) for i in (first, last))
        rest[top - 3 : bottom + 4, left - 3 : right + 4] = False
    unit = min(picture.shape[1] / 1280, picture.shape[0] / 960)
    return rest[round(80 * unit) :]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count_of_layers", [3, 20, 150])
@pytest.mark.parametrize("tab", ["overview", "activations"])
def test_each_view_keeps_to_its_part(rng, size, count_of_layers, tab):
    """Panels, titles and legends, whatever their length, end where the next view begins."""
    columns, rows = (2, 2) if tab == "overview" else (3, 1)
    layers = [
        make_layer(rng, name=f"stage{i}.block.attention.projection" * (1 + i % 2), special=i == 1)
        for i in range(count_of_layers)
    ]
    frame = make_frame(make_snapshot(rng, layers=layers, name="a long run name " * 9))
    page = draw(TABS[tab], frame, size=size, title=tab.capitalize())

    assert not outside(page, columns=columns, rows=rows).any()
    for part in parts(page, columns=columns, rows=rows):
        assert ink(part).mean() > 0.02
        height, width = part.shape[:2]
        assert ink(part[: height // 2, : width // 2]).mean() > 0.01  # title and panels


@pytest.mark.parametrize("size", SIZES)
def test_each_part_of_the_overview_has_its_own_legend(rng, size):
    """Weights have a ramp from blue to red, trajectories a pink one, groups their colours."""
    page = draw(TABS["overview"], make_frame(make_snapshot(rng)), size=size, title="Overview")
    legends = [part[:, -round(0.25 * part.shape[1]) :] for part in parts(page, columns=2, rows=2)]

    weights, trajectory, distribution, maps = legends
    for end in (colours.WEIGHTS[0][1:], colours.WEIGHTS[-1][1:]):
        assert count(weights, end, tolerance=12) > 10
    assert count(trajectory, colours.STEPS[-1][1:], tolerance=12) > 10
    for legend in (distribution, maps):
        for colour in (colours.group_colour(0), colours.NO_GROUP, colours.DEAD):
            assert count(legend, colour) > 15
    assert count(maps, colours.SEQUENTIAL[-1][1:], tolerance=12) > 10


def test_letters_of_the_overview_are_never_small(rng, monkeypatch):
    """No font of an overview is below 9 pixels."""
    sizes = []
    monkeypatch.setattr(Canvas, "text", lambda *_, size, **__: sizes.append(size))
    layers = [make_layer(rng, name=f"layer{i}", filters=4) for i in range(20)]
    draw(TABS["overview"], make_frame(make_snapshot(rng, layers=layers)), size=(1280, 960))

    assert min(sizes) >= 9


@pytest.mark.parametrize(("layers", "named"), [(20, True), (150, False), (600, False)])
def test_names_give_way_to_panels(rng, monkeypatch, layers, named):
    """Where names would leave no room for panels these stand alone, and the legend says so."""
    texts = []
    monkeypatch.setattr(Canvas, "text", lambda *place, **_: texts.append(place[3]))
    found = [make_layer(rng, name=f"l{i}", filters=3) for i in range(layers)]
    draw(("weights", "maps"), make_frame(make_snapshot(rng, layers=found)), size=(1280, 960))

    assert ("l0" in texts) == named
    assert (f"{layers} panels, row by row:" in texts) == (not named)


def test_fewer_views_have_more_room(rng):
    """Two views share a page half and half; a view alone takes the whole page and its own title."""
    frame = make_frame(make_snapshot(rng))
    two = draw(("weights", "trajectory"), frame, size=(1280, 960), title="Overview")
    one = draw(("weights",), frame, size=(1280, 960), title="Overview")

    assert not outside(two, columns=2, rows=1).any()
    assert all(ink(part).mean() > 0.02 for part in parts(two, columns=2, rows=1))
    assert np.array_equal(one, draw("weights", frame, size=(1280, 960)))


def test_a_view_that_is_empty_at_a_step_keeps_its_part(rng):
    """The other parts stay where they are, so that a film does not jump."""
    full = make_snapshot(rng)
    views = tuple(view for view in full.views if view != "trajectory")
    whole, lacking = (
        draw(TABS["overview"], make_frame(snapshot), size=(1280, 960), title="Overview")
        for snapshot in (full, make_snapshot(np.random.default_rng(7), views=views))
    )
    first, second = (parts(page, columns=2, rows=2) for page in (whole, lacking))

    for index in (0, 2, 3):
        assert np.array_equal(first[index], second[index])
    assert 0 < ink(second[1]).sum() < 0.3 * ink(first[1]).sum()
