"""Filters picked in one view are outlined in all, whatever is shown next."""

from functools import cache
from pathlib import Path

import pytest

from tests.client.stage import stage

pytestmark = pytest.mark.paraview

SCRIPT = Path(__file__).with_name("select_in_paraview.py")
VIEWS = ("weights", "distribution", "maps", "correlation")


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    with stage(SCRIPT, tmp_path_factory.mktemp("selection")) as play:
        yield cache(play)


def near(boxes, expected):
    """Compare rectangles; files keep six digits of where an image lies."""
    assert len(boxes) == len(expected)
    for box, other in zip(boxes, expected, strict=True):
        assert box == pytest.approx(other, abs=1e-5)


def test_a_cell_of_any_view_names_its_filter(play):
    """Cells, frames, atlases, and the places behind them; of two in a correlation, both."""
    found = play("picks")

    two = {"conv/2": [3]}
    assert found == {
        "maps 0 1 3": two,
        "maps 1 1 3": two,
        "weights 0 1 3": two,
        "distribution 0 1 3": two,
        "distribution windows 0 0 3": {"conv1": [3]},
        "correlation 0 1 3 3": two,
        "correlation 0 1 3 6": {"conv/2": [3, 6]},
        "weights_atlas windows": two,
        "weights_atlas": two,
        "weights_atlas gutter": {},
        "maps_atlas windows": two,
        "maps_atlas": two,
        "maps_atlas frame": {"conv1": [0]},
        "maps_atlas gutter": {},
        "correlation_atlas windows": two,
        "correlation_atlas": {"conv/2": [0, 3]},  # the first filter of the other side
    }


def test_outlines_are_around_the_very_cells(play):
    """As VTK itself says where the cells of the filters lie; densities get their whole window."""
    found = play("outlines")
    boxes, cells = found["cells"], found["of cells"]

    for view in ("weights", "maps", "correlation"):
        near(boxes[view], cells[view])
    near([box[:3] for box in boxes["distribution"]], [box[:3] for box in cells["distribution"]])
    for (x0, x1, y0, y1), drawn in zip(boxes["distribution"], cells["distribution"], strict=True):
        assert y1 - y0 == pytest.approx(x1 - x0, abs=1e-5)
        assert drawn[3] <= y1 + 1e-5


def test_atlases_have_their_outlines_at_the_same_places(play):
    """A layer that grows too large for cells keeps its picture."""
    found = play("outlines")

    for view in VIEWS:
        near(found["atlas"][view], found["cells"][view])


def test_neighbours_in_a_correlation_share_an_outline(play):
    """A group stands together there; two filters of one make one row and one column."""
    found = play("outlines")
    left, right = found["panel"]
    near(
        found["neighbours"],
        [[left, left + 2 * (right - left) / 8, 0.0, 1.0], [left, right, 1 - 2 / 8, 1.0]],
    )


def test_what_is_hidden_has_no_outlines(play):
    """The eye of the Pipeline Browser takes them away too, and that is drawn once."""
    found = play("outlines")

    assert (found["hidden"], found["hiding"], found["all hidden"]) == ([], [True, False], [])


def test_views_that_come_later_can_be_picked_in(play):
    """A tab is filled when it is first looked at; each rectangle to hit is there once."""
    channels = ("distribution", "weights_atlas", "maps_atlas", "correlation_atlas")
    assert play("late") == {"changed": True, **dict.fromkeys(channels, 1)}


def test_every_kind_of_selection_is_understood(play):
    """What clicks, rectangles, polygons, volumes, queries and modifier keys leave."""
    found = play("kinds")

    every = {"conv1": list(range(8)), "conv/2": list(range(8)), "fc": list(range(5))}
    assert found == {
        "point": {"conv1": [2]},
        "threshold": {"conv1": [6, 7], "conv/2": [6, 7]},
        "frustum": {"conv1": [2]},
        "inside out": {name: every[name] for name in ("conv/2", "fc")},
        "block": every,
        "query": {"conv/2": [4]},
        "added": {"conv1": [2, 3]},
        "taken away": {"conv1": [3]},
        "grown": {"conv1": [2]},
        "beyond": {},
        "trajectory": {},
        "scalars": {},
        "in place": [True, {"conv1": [3]}],
    }


def test_a_selection_outlasts_what_is_shown(play):
    """New frames, other groups, a choice of layers and another form leave it as it is."""
    found = play("lasting")

    two = {"conv/2": [2, 5]}
    of_two = {"weights": 2, "distribution": 2, "maps": 2, "correlation": 4}
    nothing = dict.fromkeys(VIEWS, 0)
    assert found["filters"][:8] == [two] * 8
    assert found["boxes"][:8] == [*[of_two] * 4, nothing, *[of_two] * 3]


def test_a_selection_is_taken_over_once(play):
    """Nothing of ours sets off anything again, also after a pick was made to hold."""
    found = play("lasting")

    assert found["changed"][:8] == [True, *[False] * 7]
    assert found["held"] == "(s0&s1&s2)"  # by layer, by row, by column


def test_a_cleared_selection_clears_all(play):
    """A click on nothing, also after the pick was made to hold by layer and number."""
    found = play("lasting")

    assert (found["changed"][8], found["filters"][8]) == (True, {})
    assert found["boxes"][8] == dict.fromkeys(VIEWS, 0)


def test_a_pick_just_before_a_frame_is_not_lost(play):
    """It counts rather than what was selected before it."""
    found = play("lasting")

    assert found["filters"][9] == {"conv1": [1]}


def test_users_may_delete_and_add_what_they_like(play):
    """A view of theirs is outlined too; what is deleted or closed is passed over."""
    assert play("users") == {
        "extra view": True,
        "views": 4,
        "stays hidden": 0,
        "active": True,
        "left": {"weights": 1, "distribution": 1},
        "closed": 0,
        "named": ["correlation_atlas windows", "maps_atlas windows", "weights_atlas windows"],
        "reset": False,
    }


def test_a_whole_layer_of_512_filters_is_quickly_selected(play):
    """Taken over and drawn anew within seconds, on a machine that is busy with other tests."""
    for found in play("large").values():
        assert found["filters"] == 512
        assert found["boxes"] == {
            "weights": 512,
            "distribution": 512,
            "maps": 512,
            "correlation": 2,
        }
        assert found["seconds"] < 5
