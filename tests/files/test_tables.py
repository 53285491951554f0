# ruff: noqa: PD011  # `Weights.values` is an array, not a data frame's
"""Tables hold every value once with its indices, and pandas reads them back exactly."""

from __future__ import annotations

import csv
import dataclasses
import errno
import io
import itertools
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tensorview.errors import RunError
from tensorview.run import Run
from tensorview.snapshot import GROUP_NONE
from tensorview.worker.csv_text import csv_bytes, restore
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.sinks.scalars_csv import ScalarsCsv
from tensorview.worker.tables import tables
from tensorview.worker.views import make_frame
from tests.doubles import FILE_FAULTS, FailingFiles
from tests.snapshots import make_layer, make_snapshot

KEYS = {
    "weights": ["layer", "filter", "in_channel", "row", "col"],
    "maps": ["layer", "filter", "row", "col"],
    "correlation": ["layer", "filter_a", "filter_b"],
    "distribution": ["layer", "filter", "bin"],
    "trajectory": ["layer", "subspace", "step"],
}


# From version 3 on pandas reads floats exactly by default, and deprecates saying so.
EXACT = {"float_precision": "round_trip"} if int(pd.__version__.split(".")[0]) < 3 else {}


def read(data, *texts):
    """Read a table the way the documentation says."""
    source = io.BytesIO(data) if isinstance(data, bytes) else data
    found = pd.read_csv(source, dtype=dict.fromkeys(texts, str), **EXACT)
    for name in texts:
        if name in found:
            found[name] = found[name].str.removeprefix("'")
    return found


def table(view, frame):
    found = tables(view, frame.datasets[view])
    if f"{view}_atlas" in frame.datasets:
        found += tables(f"{view}_atlas", frame.datasets[f"{view}_atlas"])
    return read(csv_bytes(found), "layer", "subspace")


@pytest.fixture
def snapshot():
    rng = np.random.default_rng(11)
    layers = [
        make_layer(rng, name="conv1", special=True, samples=2, in_channels=3, removed=2),
        make_layer(rng, name="conv2", special=True, filters=8, conv_groups=4, map_size=(3, 4)),
        make_layer(rng, name="NA", kind="Linear", kernel=(1, 1), map_size=(1, 1), in_channels=7),
        make_layer(rng, name="deep", dtype=np.float64, special=True, subspaces=2),
    ]
    return make_snapshot(rng, layers=layers)


def bits(values, dtype):
    """Values as integers, so that NaN equals NaN and -0.0 differs from 0.0."""
    array = np.ascontiguousarray(values, dtype)
    nan = np.isnan(array)
    return np.where(nan, -1, array.view(np.int32 if array.itemsize == 4 else np.int64))


def layer_rows(found, name):
    return found[found["layer"] == name]


@pytest.mark.parametrize("form", ["cells", "atlas", "auto"])
def test_weights(snapshot, form):
    """Every weight is there once, bit for bit, under its true filter and input channel."""
    found = table("weights", make_frame(make_form(snapshot, form)))

    assert list(found) == ["layer", "filter", "in_channel", "row", "col", "weight"]
    assert len(found) == sum(layer.weights.values.size for layer in snapshot.layers)
    for layer in snapshot.layers:
        w, rows = layer.weights, layer_rows(found, layer.name)
        f, i, r, c = (axis.reshape(-1) for axis in np.indices(w.values.shape))
        group = w.filters[f] // (w.out // w.conv_groups)

        assert np.array_equal(
            bits(w.values.reshape(-1), w.values.dtype), bits(rows.weight, w.values.dtype)
        )
        assert np.array_equal(w.filters[f], rows["filter"])
        assert np.array_equal(group * w.in_per_group + w.in_channels[i], rows.in_channel)
        assert np.array_equal(r, rows["row"])
        assert np.array_equal(c, rows.col)


@pytest.mark.parametrize("form", ["cells", "atlas", "auto"])
def test_maps(snapshot, form):
    """Every pixel is there once, bit for bit, frames are not, and samples have their own column."""
    found = table("maps", make_frame(make_form(snapshot, form)))

    assert list(found)[:6] == ["layer", "filter", "group", "row", "col", "activation"]
    assert len(found) == sum(layer.activations.maps[0].size for layer in snapshot.layers)
    for layer in snapshot.layers:
        a, rows = layer.activations, layer_rows(found, layer.name)
        c, h, w = (axis.reshape(-1) for axis in np.indices(a.maps.shape[1:]))
        names = ["activation", *(f"activation_sample_{s}" for s in a.map_samples)]

        for name, values in zip(names, a.maps, strict=True):
            assert np.array_equal(bits(values.reshape(-1), "f4"), bits(rows[name], "f4"))
        assert np.array_equal(a.channels[c], rows["filter"])
        assert np.array_equal(a.groups[c], rows.group)
        assert np.array_equal(h, rows["row"])
        assert np.array_equal(w, rows.col)


@pytest.mark.parametrize("form", ["cells", "atlas"])
def test_correlation(snapshot, form):
    """Every pair is there once with its coefficient and its common group."""
    found = table("correlation", make_frame(make_form(snapshot, form)))

    for layer in snapshot.layers:
        a = layer.activations
        rows = layer_rows(found, layer.name)
        place = {channel: index for index, channel in enumerate(a.channels.tolist())}
        one = rows.filter_a.map(place).to_numpy()
        other = rows.filter_b.map(place).to_numpy()
        common = (a.groups[one] == a.groups[other]) & (a.groups[one] >= 0)

        assert len(rows) == a.pcc.size == len(set(zip(one, other, strict=True)))
        assert np.array_equal(bits(a.pcc[one, other], "f4"), bits(rows.pcc, "f4"))
        assert np.array_equal(np.where(common, a.groups[one], GROUP_NONE), rows.group)


def test_distribution(snapshot):
    """Every bin is there once: its ends, its density, and the channel's share of zeros."""
    found = table("distribution", make_frame(snapshot))

    for layer in snapshot.layers:
        a, rows = layer.activations, layer_rows(found, layer.name)
        count, bins = a.histogram.shape
        low, high = (a.histogram_range[:, k, None].astype("f8") for k in (0, 1))
        edges = (low + (high - low) * np.arange(bins + 1) / bins).astype("f4")

        assert np.array_equal(np.repeat(a.channels, bins), rows["filter"])
        assert np.array_equal(np.repeat(a.groups, bins), rows.group)
        assert np.array_equal(np.tile(np.arange(bins), count), rows.bin)
        assert np.array_equal(
            bits(edges[:, :-1].reshape(-1), "f4"), bits(rows.activation_low, "f4")
        )
        assert np.array_equal(
            bits(edges[:, 1:].reshape(-1), "f4"), bits(rows.activation_high, "f4")
        )
        assert np.array_equal((a.histogram * bins).reshape(-1), rows.density.astype("f4"))
        assert np.array_equal(np.repeat(a.zero_mass, bins), rows.zero_mass.astype("f4"))


def test_trajectory(snapshot):
    """Every point of every subspace is there, also those that could not be drawn."""
    found = table("trajectory", make_frame(snapshot))

    for layer in snapshot.layers:
        for trajectory in layer.trajectories:
            rows = layer_rows(found, layer.name)
            rows = rows[rows.subspace == trajectory.subspace]

            assert np.array_equal(snapshot.trajectory_steps, rows.step)
            assert np.array_equal(trajectory.pruned, rows.pruned)
            assert np.array_equal(bits(snapshot.trajectory_losses, "f8"), bits(rows.loss, "f8"))
            assert np.array_equal(bits(trajectory.points, "f8"), bits(rows[["x", "y", "z"]], "f8"))


def test_a_value_has_one_row(snapshot):
    """The indices of a row are a key."""
    for view, keys in KEYS.items():
        assert not table(view, make_frame(snapshot)).duplicated(keys).any()


def test_what_is_empty_gives_no_table():
    """Views that were not asked for have no table."""
    frame = make_frame(make_snapshot(np.random.default_rng(0), views=()))

    assert [tables(name, dataset) for name, dataset in frame.datasets.items()] == [[]] * 9


def make_form(snapshot, form):
    """The same snapshot drawn otherwise."""
    return dataclasses.replace(snapshot, form=form)


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(texts, min_size=1, max_size=8), texts)
@example(["=1+1", "+1", "-1", "@x", "'", "''=", '"', 'a"b', "a,b", "a\nb", "a\r\nb", "\t="], "=h")
@example(["", "NA", "nan", "null", "None", "#N/A", "inf", "1", " "], "-h")
def test_texts_read_back_and_are_no_formulas(values, name):
    """Whatever a layer is called, pandas gives it back, and no spreadsheet runs it."""
    data = csv_bytes([{name: np.array(values, object), f"n{name}": np.arange(len(values))}])
    cells = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    found = pd.read_csv(io.BytesIO(data), dtype={0: str}).iloc[:, 0].str.removeprefix("'")

    assert not any(row[0].startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for row in cells)
    assert values == found.tolist()
    assert name == restore(cells[0][0])


@given(st.lists(st.floats(width=32), min_size=1), st.lists(st.floats(), min_size=1))
@example([-0.0], [-0.0])
@example([1e-45, np.nan], [5e-324, np.inf])
def test_floats_read_back_bit_for_bit(singles, doubles):
    """Every float32 and float64 survives the text, -0.0 and subnormals included."""
    for values, dtype in ((singles, "f4"), (doubles, "f8")):
        array = np.array(values, dtype)
        found = read(csv_bytes([{"v": array, "n": np.arange(len(array))}])).v.to_numpy()

        assert found.dtype == np.float64
        assert np.array_equal(bits(array, dtype), bits(found.astype(dtype), dtype))


def test_tables_of_different_columns_share_a_header():
    """A layer without some sample has empty cells, which pandas reads as NaN."""
    one = {"layer": np.array(["a"], object), "x": np.array([1.5], "f4")}
    other = {"layer": np.array(["b"], object), "y": np.array([2])}

    assert csv_bytes([one, other]) == b"layer,x,y\na,1.50000000,\nb,,2\n"


def test_long_tables_are_whole(monkeypatch):
    """Rows at the seams of the chunks that a table is written in are there once."""
    monkeypatch.setattr("tensorview.worker.csv_text.CHUNK_ROWS", 7)
    for rows in (6, 7, 8, 21):
        found = read(csv_bytes([{"n": np.arange(rows)}] * 2))

        assert [*range(rows), *range(rows)] == found.n.tolist()


@pytest.fixture
def path(tmp_path):
    return Run.create(tmp_path / "run", settings={}).path


def test_files_lie_beside_the_datasets(path, snapshot):
    """With both formats on, a view's table is named like its dataset."""
    sink = FileSink(path, formats=("vtp", "csv"))
    sink.write(make_frame(snapshot))
    sink.close()
    run = Run.open(path)

    for view in KEYS:
        assert (path / view / "00000150.csv").is_file()
        (entry,) = run.entries(150, view=view, suffix=".csv")
        assert len(read(run.read(entry), "layer")) > 0


def scalars(path):
    return read(path / "scalars.csv")


def test_scalars_grow_by_a_row_a_capture(path):
    """The table has the captures' own rows, exactly."""
    sink = FileSink(path, formats=("vtp",))
    expected = []
    for step in (50, 100, 150):
        snapshot = make_snapshot(np.random.default_rng(step), step=step)
        sink.write(make_frame(snapshot))
        expected.append({name: column[-1] for name, column in snapshot.scalars.items()})
    sink.close()

    pd.testing.assert_frame_equal(
        pd.DataFrame(expected), scalars(path), check_dtype=False, check_exact=True
    )


def test_scalars_that_come_later_get_a_column(path):
    """A quantity first logged at step 2 is missing before, and the file is still one table."""
    sink = ScalarsCsv(path, last_step=100)
    sink.add(1, {"step": 1.0, "loss": 0.1})
    sink.add(2, {"step": 2.0, '=accuracy, top "1"': -0.0})
    sink.add(3, {"step": 3.0, "loss": float("-inf")})
    sink.close()

    assert (path / "scalars.csv").read_text() == (
        'step,loss,"\'=accuracy, top ""1"""\n1,0.1,\n2,,-0.0\n3,-inf,\n'
    )


def test_scalars_keep_each_step_once(path):
    """A continued run replaces rows, in order of steps."""
    sink = ScalarsCsv(path, last_step=100)
    for step, loss in ((50, 0.3), (100, 0.2), (50, 0.4), (75, 0.5)):
        sink.add(step, {"loss": loss})
    sink.close()

    assert (path / "scalars.csv").read_text() == "step,loss\n50,0.4\n75,0.5\n100,0.2\n"


def test_scalars_go_on_after_a_cut_row(path):
    """A killed writer's half row is overwritten by the next one."""
    sink = ScalarsCsv(path, last_step=100)
    sink.add(50, {"loss": 0.3})
    sink.close()
    with (path / "scalars.csv").open("a") as stream:
        stream.write("100,0.")
    sink = ScalarsCsv(path, last_step=100)
    sink.add(150, {"loss": 0.1})
    sink.close()

    assert (path / "scalars.csv").read_text() == "step,loss\n50,0.3\n150,0.1\n"


@pytest.mark.parametrize(
    ("call", "error"), [fault for fault in FILE_FAULTS if fault[0] in ("open", "write", "replace")]
)
def test_f3_scalars_that_could_not_be_written_are_made_up_for(tmp_path, call, error):
    """Whichever call fails, each line is whole; the row comes with the next one.

    `close` says if it never does. A new column (step 3) has the file written anew.
    """
    lines = ["step,loss", "1,0.1", "2,0.2"], ["step,loss,lr", "1,0.1,", "2,0.2,", "3,0.3,1.0"]
    for nth in itertools.count():
        path = Run.create(tmp_path / f"run-{nth}", settings={}).path
        with FailingFiles() as disk:
            sink = ScalarsCsv(path, last_step=100)
            sink.add(1, {"loss": 0.1})
            disk.fail(call, nth=nth, error=error)
            sink.add(2, {"loss": 0.2})
            sink.add(3, {"loss": 0.3, "lr": 1.0})
            failed = disk.failed
            disk.heal()
            text, line_break, _ = (path / "scalars.csv").read_text().rpartition("\n")

            assert line_break
            assert text.split("\n") in (lines[0][:2], lines[0], lines[1])

            if failed and error != errno.EINTR and text.split("\n") != lines[1]:
                disk.fail(call, nth=0, error=error)
                with pytest.raises(OSError, match=os.strerror(error)):
                    sink.close()
                disk.heal()
            sink.close()

        assert (path / "scalars.csv").read_text().splitlines() == lines[1]
        if not failed:
            break

    assert nth > 0


def test_a_foreign_scalars_file_is_left_alone(path):
    """A scalars.csv that someone edited is neither overwritten nor appended to."""
    (path / "scalars.csv").write_text("step;loss\n1;0,5;3\n")

    with pytest.raises(RunError) as caught:
        ScalarsCsv(path, last_step=100)
    assert str(caught.value) == (
        f"Cannot continue '{path / 'scalars.csv'}': it is not as it was written. Move it away."
    )
