"""What is seen in the window, in ParaView itself: pictures by content, texts by letter."""

from pathlib import Path

import numpy as np
import pytest
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOImage import vtkPNGReader

from tensorview.worker.pictures.colours import DEAD, GROUPS, INK, PAGE, PANEL, UNDEFINED
from tests.client.stage import stage

pytestmark = pytest.mark.paraview

SCRIPT = Path(__file__).with_name("looks_in_paraview.py")
VIEWS = ("weights", "trajectory", "distribution", "maps", "correlation")
RIGHT = 106
"""Pixels at the right of a view that are left to colour bar and legend."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("looks")


@pytest.fixture(scope="module")
def play(folder):
    with stage(SCRIPT, folder) as play:
        yield play


@pytest.fixture(scope="module")
def pictures(play):
    return play("pictures")


@pytest.fixture(scope="module")
def user(play):
    return play("user")


@pytest.fixture(scope="module")
def late(play):
    return play("late")


def read(path):
    """Return a picture as ints, shape ``(height, width, 3)``, row 0 at the top."""
    reader = vtkPNGReader()
    reader.SetFileName(str(path))
    reader.Update()
    width, height, _ = reader.GetOutput().GetDimensions()
    pixels = vtk_to_numpy(reader.GetOutput().GetPointData().GetScalars())
    return pixels.reshape(height, width, -1)[::-1, :, :3].astype(int)


def near(picture, colour, *, tolerance=10):
    """Where a picture has a colour, given as floats."""
    away = np.abs(picture - np.rint(np.array(colour) * 255).astype(int))
    return away.max(axis=-1) <= tolerance


def reds(picture):
    return (picture[..., 0] - picture[..., 2] > 60) & (picture[..., 0] - picture[..., 1] > 40)


def blues(picture):
    return (picture[..., 2] - picture[..., 0] > 60) & (picture[..., 2] - picture[..., 1] > 10)


def data_part(picture):
    """A view without its margins."""
    return picture[34:-26, 12:-RIGHT]


def test_an_empty_window_says_what_it_waits_for(folder, pictures):
    """Titles and one status line, at the lower left of the first view, on paper; nothing else."""
    seen = read(folder / "empty_overview.png")
    ink = ~near(seen, PAGE, tolerance=4)
    height, width = ink.shape
    middle = height // 2

    assert pictures["empty"] == ["Weights", "", "waiting for a training on port 22222"]
    assert ink[:34, :80].any()  # a title a view
    assert ink[:34, width // 2 : width // 2 + 90].any()
    assert ink[middle : middle + 40, :100].any()
    assert ink[middle - 30 : middle - 4, :230].sum() > 100  # the status line
    assert not ink[60 : middle - 40, : width // 2 - 10].any()
    assert ink.mean() < 0.02


def test_tabs_take_the_place_of_the_startup_view(pictures):
    """Five tabs of fifteen views; the view that ParaView begins with is gone."""
    assert sorted(pictures["layouts"]) == [
        "Activations",
        "Health",
        "Overview",
        "Trajectory",
        "Weights",
    ]
    assert pictures["views"] == 15


def test_nobody_sums_up_what_is_drawn(pictures):
    """ParaView's panels and lists do not look at a million values at every frame."""
    assert pictures["heard"] == ["scalars"]


def test_lists_of_arrays_are_true_nevertheless(pictures):
    """What came after the empty start can be chosen, also what only a later training has."""
    weights, without_samples, with_samples = map(set, pictures["listed"])

    assert {"weight", "weight_scaled", "filter"} <= weights
    assert "activation" in without_samples & with_samples
    assert with_samples - without_samples == {"activation_sample_0"}


def test_texts_are_no_entries_of_the_pipeline_browser(pictures):
    """Nothing that is written over views is a source."""
    before, after = pictures["sources"]

    assert before == after


@pytest.mark.parametrize("form", ["cells", "atlas"])
@pytest.mark.usefixtures("pictures")
def test_views_show_their_data_in_their_colours(folder, form):
    """Red and blue weights, gray to pink paths, groups, dark maps, a red diagonal."""
    seen = {view: data_part(read(folder / f"{form}_{view}.png")) for view in VIEWS}
    weights, distribution, maps = seen["weights"], seen["distribution"], seen["maps"]
    paths, correlation = seen["trajectory"], seen["correlation"]

    assert reds(weights).sum() > 2000
    assert blues(weights).sum() > 2000
    assert near(weights, PANEL).sum() > 2000  # trays
    assert reds(paths).sum() > 200
    assert not blues(paths).any()
    for picture in (distribution, maps):  # in maps the frames
        assert near(picture, GROUPS[0]).sum() > 50
        assert near(picture, DEAD).sum() > 20
    assert near(distribution, UNDEFINED, tolerance=1).sum() > 2000  # windows of dead filters
    assert (np.ptp(maps, axis=-1) < 60).mean() > 0.9
    assert (maps.max(axis=-1) < 140).sum() > 500
    assert reds(correlation).sum() > 500
    assert near(correlation, UNDEFINED).sum() > 200  # rows and columns of dead filters


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("view", ["maps", "correlation"])
def test_an_atlas_looks_like_cells(folder, view):
    """Both forms of a flat view give nearly the same picture, pixel for pixel."""
    cells, atlas = (data_part(read(folder / f"{form}_{view}.png")) for form in ("cells", "atlas"))
    differs = np.abs(cells - atlas).max(axis=-1) > 60

    assert differs.mean() < 0.02


@pytest.mark.usefixtures("pictures")
def test_a_fine_screen_shows_the_same(folder):
    """With twice as many pixels an inch, letters and margins have twice as many."""
    usual, fine = (read(folder / f"{name}_maps.png") for name in ("atlas", "fine"))
    height, width = usual.shape[:2]
    averaged = fine.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))

    assert (np.abs(averaged - usual).max(axis=-1) > 60).mean() < 0.01


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("view", ["weights", "trajectory"])
def test_a_tilted_camera_follows_the_data_too(folder, view):
    """ParaView rounds what it is told of such a camera; that is not the user."""
    ink = ~near(read(folder / f"layers20_{view}.png"), PAGE, tolerance=6)

    assert not ink[34:, :8].any()
    assert not ink[-20:].any()
    assert data_part(ink)[-60:].any()


@pytest.mark.parametrize("form", ["cells", "atlas"])
@pytest.mark.parametrize("view", VIEWS)
def test_all_is_seen_and_the_margins_are_free(folder, pictures, form, view):
    """Data fill the view in one direction, and leave room for title, bar and legend."""
    seen = read(folder / f"{form}_{view}.png")
    ink = ~near(seen, PAGE, tolerance=6)
    height, width = ink.shape

    assert [width, height] == pictures["sizes"][view]
    assert not ink[34:, :8].any()
    assert not ink[-20:].any()
    assert not ink[60:, width - RIGHT + 2 : width - RIGHT + 10].any()
    filled = np.argwhere(data_part(ink))
    spread = (np.ptp(filled, axis=0) + 1) / data_part(ink).shape
    assert spread.max() > 0.85


def test_titles_name_view_run_step_and_loss(pictures):
    """And every layer, with what the view says of it."""
    for name, texts in pictures["written"].items():
        assert texts[:2] == [name.capitalize(), "LeNet   step 150   loss 0.575"]
        assert [f"layer {i}" for i in range(4)] == texts[2:10:2]
    assert "Conv2d  12 x 2 x 3 x 3  ±0.5" in pictures["written"]["weights"]
    assert "12 channels  1 dead" in pictures["written"]["distribution"]


def test_a_legend_names_the_groups_that_there_are(pictures):
    """Group 0, dead and ungrouped filters; nothing for groups that no filter is in."""
    assert pictures["written"]["distribution"][-4:] == ["group", "0", "dead", "in no group"]
    assert pictures["written"]["maps"][-4:] == ["group", "0", "dead", "in no group"]


@pytest.mark.usefixtures("pictures")
def test_the_first_point_of_a_path_is_a_dot(folder):
    """A path of one capture is seen, in the colour of the last step."""
    dot = reds(data_part(read(folder / "first_trajectory.png")))

    assert 20 < dot.sum() < 400
    assert np.ptp(np.argwhere(dot), axis=0).max() < 20


def test_a_removal_is_a_dark_dot_on_the_path(folder, pictures):
    """There the path goes on after a jump; title and legend say so, else they say nothing."""
    middle = (slice(60, -130), slice(100, -RIGHT))
    dark, plain = (
        near(read(folder / f"{name}_trajectory.png")[middle], INK, tolerance=25)
        for name in ("pruned", "first")
    )

    assert 60 < dark.sum() < 600
    assert plain.sum() == 0
    assert any("pruned: 2 filters" in text for text in pictures["pruned"])
    assert pictures["pruned"][-3:] == ["dots", "last capture", "pruned"]
    assert "dots" not in pictures["written"]["trajectory"]


def test_a_camera_follows_the_size_of_its_view(user):
    """Until the user looks, what is written and fitted is for another size."""
    assert user["changed by size"]
    assert not user["changed after"]
    assert user["maps / other size"] != pytest.approx(user["maps / fitted"])


def test_a_camera_follows_the_data_until_the_user_moves_it(user):
    """More layers are fitted anew; a zoom of the user's stays as long as these layers are shown.

    Others lie elsewhere: where the user looked may be nothing.
    """
    assert user["maps / more layers"] > user["maps / other size"]
    assert user["maps / moved"] == 0.5
    assert user["maps / other layers"] == pytest.approx(user["maps / other size"])


def test_colours_follow_the_data_until_the_user_changes_them(user):
    """The colours of steps end at the last one; what the user sets stays, map by map."""
    assert user["step / last"] == 250
    assert user["step / later"] == 300
    assert user["step / of the user"] == 10
    assert user["weights / of the user"] == [-0.5, 0, 0, 0, 0.5, 1, 1, 1]
    assert user["groups"] == ["-2", "dead", "-1", "in no group", "0", "group 0"]
    assert user["groups / colour"] == [1, 0, 1]


def test_the_legend_has_the_colours_of_the_map(user):
    """Groups to which the user gives one colour are one line of the legend."""
    assert user["legend"][-2] == "group"
    assert user["legend"][-1].startswith("0, ")


def test_closed_views_are_let_go(user):
    """With some views closed the others go on; with all closed nothing fails."""
    assert user["closed"] == [False, False]
    assert user["left"] == {"weights": 1, "trajectory": 2, "distribution": 2, "maps": 1}
    assert user["closed at"] == 400  # it is not kept up any more
    assert user["open"][:2] == ["Weights", "LeNet   step 450   loss 0.575"]
    assert user["open"][-1] == "still here"


def test_sources_may_come_later(late):
    """A view shows its cells, its images and the frames of both as soon as they are there."""
    assert late["before"] == 0
    assert late["after"] == 5  # two sources of two ports, and a colour bar


def test_titles_are_shortened_and_then_left_out(late):
    """Twenty layers have titles in a quarter of the window; seventy-two have none, not soup."""
    assert "stage.7....ck.conv" in late["20 in overview"]
    assert late["72 in overview"][2:] == ["group", "0", "dead", "in no group"]


def test_layers_that_are_not_chosen_have_no_title(late):
    """The one that is chosen has the room for a second line."""
    assert late["chosen"][2:4] == ["stage.7.block.conv", "Conv2d  6 channels  6 x 5  0 to 3.07"]


def test_charts_show_what_there_is(late):
    """The loss before what else was logged; no layers without values, no zeros of faults."""
    assert late["Loss"] == [["loss", "loss"], ["accuracy", "accuracy"]]
    assert late["Update ratio"] == [["a%2525/update_ratio", "a%25"]]
    assert late["Gradient norm"] == []
    assert late["Curvature"] == [["a%2525/curvature", "a%25"]]
    assert late["Flags"] == [["a%2525/flag_dead_layer", "a%25 (dead layer)"]]
    assert late["Dead filters"] == [
        ["a%2525/dead", "a%25"],
        ["b/dead", "b"],
        ["b/nonfinite_weights", "b (weights)"],
    ]


def test_a_logarithmic_axis_leaves_zeros_out(late):
    """A layer that is frozen has an update ratio of 0: the axis is set by the other layers."""
    assert late["20 from"] > late["72 from"] > 0  # the least of twenty, and of more
    assert late["automatic"] == 0
    assert late["again"] == 1


def test_only_charts_with_lines_have_numbers_at_their_axes(late):
    """Without lines they would be ParaView's own, from 0 to 6."""
    scaled = ["Loss", "Update ratio", "Gradient norm", "Flags", "Dead filters"]
    assert late["20 scaled"] == late["72 scaled"] == scaled
    assert late["no longer"] == 0


def test_a_line_is_named_where_its_title_does_not(late):
    """One flag, too, says of which layer; the loss alone needs no legend."""
    assert late["20 legends"] == ["Update ratio", "Gradient norm", "Flags", "Dead filters"]
    assert late["72 legends"] == ["Flags"]


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("count", [20, 72])
def test_charts_of_many_layers_stay_readable(folder, count):
    """Only the lines of the chart are shown, and a legend stands beside them while it has room."""
    seen = read(folder / f"charts{count}.png")
    height, width = seen.shape[:2]
    right = seen[: height // 2, -60:]
    loss = data_part(seen[: height // 2, : width // 3])
    named = near(right, INK, tolerance=60).sum()

    assert (named > 200) == (count == 20)
    assert (np.ptp(loss, axis=-1) > 40).sum() == 0  # no line of a layer
    assert not near(seen, (0.65, 0.16, 0.16)).any()  # ParaView's sign over a wrong axis


@pytest.mark.parametrize("count", [20, 72])
def test_charts_name_layers_in_their_order(late, count):
    """A legend begins with the first layer, and 2 comes before 10."""
    assert late[f"{count} named"] == [f"stage.{index}.block.conv" for index in range(count)]


def test_lines_that_come_later_take_their_place(late):
    """The legend follows the layers, whichever was flagged first."""
    assert late["flagged"] == [f"stage.{index}.block.conv (dead layer)" for index in (2, 11)]


def test_charts_wait_for_the_second_capture(folder, pictures):
    """Of one capture there is no line, no complaint of VTK's, and a word about it."""
    seen = read(folder / "charts.png")

    assert (np.ptp(seen, axis=-1) > 40).sum() == 0
    assert pictures["first chart"] == ["Loss", "from the second capture on"]


def test_views_of_the_users_own_stay(play):
    """The tabs take the place of empty views only; what shows something keeps its own layout."""
    found = play("own")

    assert found["is open"]
    assert found["views"] == 1
    assert found["layouts"] == sorted(
        ["Activations", "Health", "Overview", "Trajectory", "Weights", "mine"]
    )
