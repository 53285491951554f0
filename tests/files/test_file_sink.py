"""Frames written as files read back as the same frames, bit for bit."""

from __future__ import annotations

import contextlib
import resource

import numpy as np
import pytest
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkPolyData

from tensorview.check import prove
from tensorview.errors import RunError, UnwritableRunError
from tensorview.pvd import listed_files
from tensorview.run import Run
from tensorview.run_writer import RunWriter
from tensorview.worker import datasets
from tensorview.worker.datasets import arrays, blocks, read_frame
from tensorview.worker.frame import ATLAS_CHANNELS, CHANNELS
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.views import make_frame
from tensorview.worker.vtk_xml import encode
from tensorview.worker.vtk_xml_reader import decode_polydata
from tests.snapshots import make_layer, make_snapshot


@pytest.fixture
def path(tmp_path):
    return Run.create(tmp_path / "run", settings={"name": "LeNet"}).path


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def special_frame(rng, *, form):
    """A frame with NaN, infinities, -0.0 and subnormals in every view, and awkward names."""
    layers = (
        make_layer(rng, name="../a & <b>", special=True, samples=2),
        make_layer(rng, name='=cmd,"x"\n', special=True, conv_groups=2, dtype=np.float64),
        make_layer(rng, name="x" * 300, special=True, kind="Linear", kernel=(1, 1)),
    )
    snapshot = make_snapshot(rng, layers=layers, form=form)
    special = np.array([np.nan, -np.inf, -0.0, 5e-324])
    losses = snapshot.trajectory_losses
    losses[: len(special)] = special[: len(losses)]
    for name, column in snapshot.scalars.items():
        if name != "step":
            column[: len(special)] = special[: len(column)]
    return make_frame(snapshot)


def write(path, *frames, formats=("vtp",)):
    sink = FileSink(path, formats=formats)
    for frame in frames:
        sink.write(frame)
    sink.close()
    return Run.open(path)


def content(dataset):
    """Everything in a dataset, bit for bit: geometry, topology and every array with its type."""
    if dataset.IsA("vtkMultiBlockDataSet"):
        return {name: content(image) for name, image in blocks(dataset)}
    found = {
        kind: {
            name: values.tolist() if values.dtype == object else (values.dtype, values.tobytes())
            for name, values in arrays(attributes).items()
        }
        for kind, attributes in (
            ("points", dataset.GetPointData()),
            ("cells", dataset.GetCellData()),
            ("field", dataset.GetFieldData()),
        )
    }
    if dataset.IsA("vtkImageData"):
        found["grid"] = (dataset.GetExtent(), dataset.GetOrigin(), dataset.GetSpacing())
    elif dataset.GetPoints():
        found["coordinates"] = arrays_of_points(dataset)
        found["topology"] = [
            (
                name,
                cells.GetNumberOfCells(),
                ids(cells.GetOffsetsArray()),
                ids(cells.GetConnectivityArray()),
            )
            for name in ("Verts", "Lines", "Polys", "Strips")
            if (cells := getattr(dataset, f"Get{name}")()).GetNumberOfCells()
        ]
    return found


def ids(array):
    return [array.GetValue(i) for i in range(array.GetNumberOfValues())]


def arrays_of_points(dataset):
    return vtk_to_numpy(dataset.GetPoints().GetData()).tobytes()


@pytest.mark.parametrize("form", ["cells", "atlas"])
def test_n1_every_view_reads_back_bit_for_bit(path, rng, form):
    """NaN, infinities, -0.0 and subnormals, names and topology are what they were."""
    frame = special_frame(rng, form=form)
    read = read_frame(write(path, frame), frame.step)

    assert (frame.step, frame.capture) == (read.step, read.capture)
    assert list(CHANNELS) == list(read.datasets)
    shown = 0
    for channel in CHANNELS:
        made, found = content(frame.datasets[channel]), content(read.datasets[channel])
        if is_empty(frame.datasets[channel]):
            assert is_empty(read.datasets[channel])
        else:
            shown += 1
            assert made == found
    assert shown == 6


def is_empty(dataset):
    if dataset.IsA("vtkMultiBlockDataSet"):
        return dataset.GetNumberOfBlocks() == 0
    return dataset.GetNumberOfPoints() == 0


def test_the_comparison_sees_one_bit(rng):
    """The test above would fail for a single changed bit."""
    frame = special_frame(rng, form="cells")
    before = content(frame.datasets["maps"])
    activation = arrays(frame.datasets["maps"].GetCellData())["activation"]
    activation.view(np.uint32)[3] ^= 1

    assert before != content(frame.datasets["maps"])


def test_what_is_empty_gets_no_file(path, rng):
    """A view that was not asked for leaves no file, and is empty again when read."""
    frame = make_frame(make_snapshot(rng, views=("weights",), step=50))
    run = write(path, frame)

    assert list(run.files[50]) == ["weights/00000050.vtp"]
    assert {"weights.pvd", "weights"} == {p.name for p in path.glob("*w*ights*")}
    assert [c for c in CHANNELS if not is_empty(read_frame(run, 50).datasets[c])] == ["weights"]


@pytest.mark.parametrize("form", ["auto", "cells"])
def test_files_do_not_grow_with_small_layers(tmp_path, rng, form):
    """Two layers or forty: a capture is one file a view."""
    counts = []
    for layers in (2, 40):
        path = Run.create(tmp_path / str(layers), settings={}).path
        shown = [make_layer(rng, name=f"layer{index}") for index in range(layers)]
        snapshot = make_snapshot(rng, layers=shown, form=form, step=50)
        counts.append(len(write(path, make_frame(snapshot)).files[50]))

    assert counts == [6, 6]


def test_same_snapshot_same_bytes(tmp_path):
    """Writing is deterministic: a training that is repeated gives the same files."""
    runs = []
    for name in ("one", "two"):
        path = Run.create(tmp_path / name, settings={}).path
        frame = special_frame(np.random.default_rng(3), form="auto")
        runs.append(write(path, frame, formats=("vtp", "csv")))

    assert runs[0].files == runs[1].files
    assert len(runs[0].files[150]) == 11


def test_damage_is_found_before_vtk_sees_it(path, rng, monkeypatch):
    """A flipped bit or a cut file is reported by name; VTK is never given the bytes."""
    run = write(path, make_frame(make_snapshot(rng, step=50)))
    file = path / "maps" / "00000050.vtp"
    good = file.read_bytes()
    decoded = []
    monkeypatch.setattr(datasets, "decode_polydata", lambda data, **_: decoded.append(data))
    for bad in (b"", good[:-1], good[:100], good[:500] + bytes([good[500] ^ 4]) + good[501:]):
        decoded.clear()
        file.write_bytes(bad)

        with pytest.raises(RunError, match=r"Cannot read 'maps/00000050.vtp' of run .* is damaged"):
            read_frame(run, 50)
        assert len(decoded) == 3  # weights, trajectory, distribution


def test_what_is_no_dataset_of_ours_is_refused():
    """A file that is cut short is refused, though nobody has looked at its CRC."""
    with pytest.raises(
        RunError, match=r"Cannot decode a dataset: at byte 0 it has no values behin"
    ):
        decode_polydata(encode(vtkPolyData())[:200])


def test_what_was_not_written_cannot_be_read(path, rng):
    """A step without datasets is refused by name."""
    run = write(path, make_frame(make_snapshot(rng, step=50)), formats=("csv",))

    with pytest.raises(RunError) as caught:
        read_frame(run, 50)
    assert str(caught.value) == (
        f"Cannot read step 50 of run '{path}': only tables were written at it."
    )
    with pytest.raises(RunError, match=r"Cannot read step 51 .*: nothing was written at it"):
        read_frame(run, 51)


def test_f2_a_full_disk_drops_frames_and_nothing_else(path, rng, monkeypatch):
    """While nothing can be written each frame says so; then the sink goes on."""
    frames = [make_frame(make_snapshot(rng, step=step)) for step in (50, 100, 150, 200)]
    sink = FileSink(path, formats=("vtp", "csv"))

    assert sink.write(frames[0]) is True

    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.open", full)
        for frame in frames[1:3]:
            with pytest.raises(
                UnwritableRunError, match=r"step \d+ of run .* No space left on device"
            ):
                sink.write(frame)

    assert before == {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}

    sink.write(frames[3])
    sink.close()

    assert Run.open(path).steps() == (50, 200)
    rows = (path / "scalars.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["step", "50", "200"]


@pytest.mark.parametrize("goes_on", [False, True])
def test_f2_a_worker_can_begin_while_the_disk_is_full(path, rng, goes_on):
    """It drops frames until there is room again; nothing earlier is lost, no later one either."""
    frames = [make_frame(make_snapshot(rng, step=step)) for step in (10, 20, 30, 40)]
    write(path, *frames[:3])
    if goes_on:
        with contextlib.closing(RunWriter(path)) as writer:
            writer.remove_after(10)
    steps = [10, 40] if goes_on else [10, 20, 30, 40]
    (path / "weights.pvd").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        sink = FileSink(path, formats=("vtp",))
        sink.idle()
        with pytest.raises(UnwritableRunError, match="File too large"):
            sink.write(frames[3])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sink.idle()
    before = [step for step, _ in listed_files((path / "weights.pvd").read_bytes())]
    sink.write(frames[3])
    sink.close()

    assert before == steps[:-1]
    assert list(Run.open(path).steps()) == steps
    assert [step for step, _ in listed_files((path / "weights.pvd").read_bytes())] == steps
    lines = (path / "scalars.csv").read_text().splitlines()
    assert [int(line.partition(",")[0]) for line in lines[1:]] == steps
    assert prove(path).whole


@pytest.mark.parametrize("formats", [(), ("vtk",), ("vtp", "xml")])
def test_unknown_formats_are_refused(path, formats):
    """A misspelt format is said before training starts."""
    with pytest.raises(RunError, match=r"Cannot write files as .*: formats are"):
        FileSink(path, formats=formats)


def test_blocks_keep_order_and_names(path, rng):
    """Layers of an atlas come back in the model's order under their full names."""
    layers = [make_layer(rng, name=name) for name in ("z", "a.b", "x" * 300)]
    frame = make_frame(make_snapshot(rng, layers=layers, form="atlas"))
    read = read_frame(write(path, frame), frame.step)

    for channel in ATLAS_CHANNELS:
        assert [name for name, _ in blocks(read.datasets[channel])] == ["z", "a.b", "x" * 300]


def test_a_copy_of_a_run_is_as_good(path, rng, tmp_path):
    """What was read can be written again, and reads back the same."""
    frame = special_frame(rng, form="auto")
    copy = Run.create(tmp_path / "copy", settings={}).path
    once = read_frame(write(path, frame), frame.step)
    twice = read_frame(write(copy, once), frame.step)

    for channel in CHANNELS:
        assert content(once.datasets[channel]) == content(twice.datasets[channel])


def test_values_stand_well_behind_the_header():
    """Older VTK with newer expat would read them as XML; two blocks of white space prevent it."""
    data = encode(make_frame(make_snapshot(np.random.default_rng(0))).datasets["weights"])
    _, values = data.split(b'<AppendedData encoding="raw">')

    assert values.startswith(b" " * 8192)
    assert values.lstrip().startswith(b"_")
