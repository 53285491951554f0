"""A run directory from somebody else: what its files are, beside what stands in them."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from vtkmodules.vtkCommonDataModel import vtkPolyData

from tensorview.check import prove, repair
from tensorview.errors import RunError
from tensorview.export import export
from tensorview.launch import WorkerCommand, start
from tensorview.manifest import MANIFEST, Entry, to_line
from tensorview.pvd import listed_files
from tensorview.run import Run
from tensorview.run_writer import NewFile, RunWriter
from tensorview.steering import Answers, send
from tensorview.whole_files import temporary_path
from tensorview.worker.datasets import arrays, blocks, read_frame
from tensorview.worker.sinks.scalars_csv import ScalarsCsv
from tensorview.worker.views.datasets import array, equal_cells, polydata
from tensorview.worker.vtk_xml import encode
from tensorview.worker.vtk_xml_reader import decode_image, decode_polydata
from tests.fuzz.corpus import CORPUS, files_of

SECONDS = 2.0
BYTES = 100 * 10**6
DATASET = "weights/00000050.vtp"
FILES = ("run.json", MANIFEST, DATASET, "scalars.csv", "steering.jsonl", "weights.pvd")


@pytest.fixture
def run(tmp_path):
    """A run whose files may be changed, beside a folder that is none of its business."""
    shutil.copytree(CORPUS / "run", tmp_path / "run")
    (tmp_path / "outside").mkdir()
    for name in ("secret", "00000050.vtp"):
        shutil.copy(CORPUS / "run" / DATASET, tmp_path / "outside" / name)
    return tmp_path / "run"


@contextlib.contextmanager
def bounded():
    """Fail where the block takes more time or memory than a hostile file may."""
    tracemalloc.start()
    started = time.process_time()
    try:
        yield
        assert time.process_time() - started < SECONDS
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()


def follow(run):
    with Answers(run) as answers:
        answers.read()


def as_link(path):
    path.symlink_to("../outside/secret" if path.parent.name == "run" else "../../outside/secret")


def as_absolute_link(path):
    path.symlink_to("/etc/passwd")


def as_pipe(path):
    os.mkfifo(path)


def as_folder(path):
    path.mkdir()


def as_10_gb(path):
    with path.open("wb") as stream:
        stream.truncate(10 * 2**30)


def as_200_mb(path):
    with path.open("wb") as stream:
        stream.truncate(200 * 2**20)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "instead", [as_link, as_absolute_link, as_pipe, as_folder, as_10_gb, as_200_mb]
)
def test_z2_what_is_no_plain_small_file_is_not_read(run, instead, file):
    """A link, a pipe, a folder or a huge file: one clear error or nothing, at once."""
    if (file, instead) == ("scalars.csv", as_200_mb):
        return  # of a long run with many layers; nobody but its own writer reads it
    before = files_of(run.parent / "outside")
    (run / file).unlink()
    instead(run / file)
    said = []
    with bounded():
        for act in (
            lambda: read_frame(Run.open(run), 50),
            lambda: follow(run),
            lambda: ScalarsCsv(run, last_step=1000).add(50, {"loss": 1.0}),
            lambda: RunWriter(run).close(),
        ):
            try:
                act()
            except RunError as error:
                said.append(str(error))

    assert all(text.isprintable() and str(run) in text for text in said)
    wanted = {"run.json", MANIFEST, DATASET, "scalars.csv"}
    if instead is not as_200_mb:
        assert bool(said) == (file in wanted or (file, instead) == ("weights.pvd", as_folder))
    assert files_of(run.parent / "outside") == before


def test_z2_a_folder_that_is_a_link_is_not_followed(run):
    """Not even where it holds what the manifest promises."""
    shutil.rmtree(run / "weights")
    (run / "weights").symlink_to("../outside")

    with pytest.raises(RunError, match=r"Cannot read 'weights/00000050.vtp' of run"):
        read_frame(Run.open(run), 50)


@pytest.mark.parametrize(
    "file",
    ["../outside/secret", "/etc/passwd", "weights/../../outside/secret", "weights/00000050.vtp\0"],
)
def test_z2_a_manifest_names_nothing_outside(run, file):
    """A line whose file is not that of its view, layer and step is left out."""
    entry = Entry(60, 2, "weights", None, file, 10, 0)
    with (run / MANIFEST).open("ab") as stream:
        stream.write(to_line(entry))

    opened = Run.open(run)
    assert opened.damaged_lines == 1
    assert list(opened.files) == [50, 150]


def test_z2_commands_are_not_sent_through_a_link(run):
    """A client that steers a run of somebody else writes nowhere but there."""
    before = files_of(run.parent / "outside")
    (run / "commands.jsonl").unlink()
    as_link(run / "commands.jsonl")

    with pytest.raises(RunError, match=r"Cannot steer run '.*': commands.jsonl: "):
        send(run, "capture")
    assert files_of(run.parent / "outside") == before


def test_z2_a_manifest_of_one_endless_line_is_given_up(run):
    """What is no line is skipped in pieces, and not for ever."""
    (run / MANIFEST).write_bytes((run / MANIFEST).read_bytes() + b"x" * (150 * 2**20))
    with bounded():
        opened = Run.open(run)

    assert list(opened.files) == [50, 150]
    assert opened.damaged_lines == 1000


def grown(size):
    """A polydata file in which one array of zeros takes *size* bytes of memory."""
    made = polydata(np.zeros((3, 3)), polys=equal_cells(np.arange(3)[None]))
    made.GetFieldData().AddArray(array("zeros", np.zeros(size // 4, np.int32)))
    return encode(made)


def test_z1_a_small_file_does_not_become_a_large_dataset():
    """A file grows to a hundred times its size in memory at most; ours never do."""
    data = grown(100 * 10**6)
    assert len(data) < 10**6
    with bounded(), pytest.raises(RunError, match=r"it has 100000000 bytes of 'zeros', which tens"):
        decode_polydata(data)


def test_z1_ours_grow_far_less():
    """The bound has room for what we write, whatever it is."""
    for file, data in files_of(CORPUS / "run").items():
        if file.endswith(".vtp"):
            assert decode_polydata(data).GetActualMemorySize() * 1024 < 30 * len(data)


def test_z1_what_we_write_is_what_vtk_reads():
    """Our reader and VTK's own give the same arrays, in the same order, bit for bit."""
    from vtkmodules.vtkIOXML import vtkXMLImageDataReader, vtkXMLPolyDataReader  # noqa: PLC0415

    compared = 0
    for file, data in files_of(CORPUS / "run").items():
        if not file.endswith((".vtp", ".vti")):
            continue
        reader = vtkXMLPolyDataReader() if file.endswith(".vtp") else vtkXMLImageDataReader()
        reader.ReadFromInputStringOn()
        reader.SetInputString(data)
        reader.Update()
        ours = (decode_polydata if file.endswith(".vtp") else decode_image)(data)
        assert content(ours) == content(reader.GetOutput())
        assert encode(ours) == data
        compared += 1
    assert compared == 9


def content(dataset):
    """All that a dataset holds."""
    fields = (dataset.GetFieldData(), dataset.GetPointData(), dataset.GetCellData())
    found = [
        (name, held.dtype, held.shape, list(held) if held.dtype == object else bytes(held))
        for field in fields
        for name, held in arrays(field).items()
    ]
    if dataset.IsA("vtkImageData"):
        return found, dataset.GetExtent(), dataset.GetOrigin(), dataset.GetSpacing()
    ids = [dataset.GetCell(index).GetPointIds() for index in range(dataset.GetNumberOfCells())]
    cells = [[one.GetId(n) for n in range(one.GetNumberOfIds())] for one in ids]
    kinds = [dataset.GetCellType(index) for index in range(len(cells))]
    return found, [dataset.GetPoint(n) for n in range(dataset.GetNumberOfPoints())], cells, kinds


@pytest.mark.parametrize("number", [-1, 3, 2**31 - 1])
def test_z1_a_cell_of_points_that_are_not_there_is_refused(number):
    """VTK would read what lies behind its points."""
    made = polydata(np.zeros((3, 3)), polys=equal_cells(np.array([[0, 1, number]])))
    with pytest.raises(RunError, match=r"cells of points that it does not have, which tensorview"):
        decode_polydata(encode(made), source="'a.vtp'")


def test_z1_an_error_names_file_and_byte():
    """A person can look at the place."""
    data = encode(vtkPolyData()).replace(b"<FieldData>", b"<!DOCTYPE a>")

    with pytest.raises(RunError) as raised:
        decode_polydata(data, source="'a/b.vtp' of run 'R'")
    assert str(raised.value) == (
        "Cannot decode 'a/b.vtp' of run 'R': at byte 131 it has no <FieldData>, which tensorview "
        "does not write."
    )
    assert data[131:].startswith(b"<!DOCTYPE")


def test_z1_a_layer_that_calls_itself_a_path_stays_a_name(run):
    """The name of an atlas's image is the manifest's, and nothing is opened by it."""
    frame = read_frame(Run.open(run), 150)
    assert [name for name, _ in blocks(frame.datasets["weights_atlas"])] == ['=b "<&> c']


def test_z2_repair_removes_nothing_behind_a_link(run):
    """Neither what is damaged nor what is stated nowhere, where the folder of a view is a link."""
    shutil.rmtree(run / "weights")
    (run / "weights").symlink_to("../outside")
    (run.parent / "outside" / "00000777.vtp").write_bytes(b"of another run")
    before = files_of(run.parent / "outside")

    with contextlib.suppress(RunError):
        repair(run)
    RunWriter(run).close()
    assert files_of(run.parent / "outside") == before
    assert len(before) == 3


def test_z2_a_capture_is_not_written_through_a_link(run):
    """A run of somebody else that is gone on with cannot place files elsewhere."""
    shutil.rmtree(run / "weights")
    (run / "weights").symlink_to("../outside")
    before = files_of(run.parent / "outside")
    with contextlib.closing(RunWriter(run)) as writer, pytest.raises(OSError, match="is a link"):
        writer.commit(
            [NewFile(view="weights", layer=None, suffix=".vtp", data=b"new")], step=200, capture=9
        )
    assert files_of(run.parent / "outside") == before


@pytest.mark.parametrize("file", [MANIFEST, "weights.pvd", "scalars.csv", "weights/00000200.vtp"])
def test_z2_no_temporary_file_leads_outside(run, file):
    """Whoever repairs a run or goes on with one writes what he writes in it, links or not."""
    before = files_of(run.parent / "outside")
    path = run / file
    temporary_path(path).symlink_to(run.parent / "outside" / "secret")
    (run / "maps" / "00000050.vtp").unlink()
    (run / "scalars.csv").unlink()

    repair(run)
    with contextlib.closing(RunWriter(run)) as writer:
        temporary_path(path).unlink(missing_ok=True)
        temporary_path(path).symlink_to(run.parent / "outside" / "secret")
        writer.commit(
            [NewFile(view="weights", layer=None, suffix=".vtp", data=b"new")], step=200, capture=9
        )
    scalars = ScalarsCsv(run, last_step=200)
    scalars.add(200, {"loss": 1.0})
    scalars.close()

    assert files_of(run.parent / "outside") == before
    assert not path.is_symlink()


@pytest.mark.parametrize("instead", [as_link, as_pipe, as_folder])
def test_z2_a_worker_s_log_goes_nowhere_else(run, instead):
    """A link or a pipe in its place gets nothing and holds up nobody; the worker starts."""
    before = files_of(run.parent / "outside")
    log_path = run / "worker-files.log"
    instead(log_path)
    command = WorkerCommand(
        python=(sys.executable, "-c", "print('said')"),
        options={},
        environment={},
        log_path=log_path,
        foreign_python=False,
    )

    assert start(command, ()).wait(timeout=60) == 0
    assert files_of(run.parent / "outside") == before

    command = replace(command, log_path=run / "worker-live.log")
    assert start(command, ()).wait(timeout=60) == 0
    assert command.log_path.read_text() == "said\n"
    assert command.log_path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("folder", "kind"), [("pictures", "png"), ("tables", "csv")])
def test_z2_nothing_is_exported_through_a_link(run, folder, kind):
    """Where a folder of the run is a link, pictures and tables are not written behind it."""
    (run / folder).symlink_to("../outside")
    before = files_of(run.parent / "outside")
    with pytest.raises(RunError, match=f"Cannot write in '.*{folder}': it is a link. Give another"):
        export(run, **{kind: True})

    assert files_of(run.parent / "outside") == before


GOOD = '<DataSet timestep="50" part="0" file="weights/00000050.vtp"/>'


@pytest.mark.parametrize(
    "line",
    [
        GOOD.replace("weights/", "../outside/"),
        GOOD.replace("weights/", "/outside/"),
        GOOD.replace("weights/", "weights/../"),
        GOOD.replace("weights/", "weights/a/b/"),
        GOOD.replace(".vtp", ".pvd"),
        GOOD.replace("DataSet", "Data"),
        f"{GOOD} {GOOD}",
        f"<!-- {GOOD} -->",
        "<Collection/>",
    ],
)
def test_z2_a_list_that_leads_outside_is_not_given_to_paraview(run, line):
    """ParaView would open whatever it names; ours name files of the run alone."""
    path = run / "weights.pvd"
    assert listed_files(path.read_bytes()) == [(50, "weights/00000050.vtp")]
    path.write_text(path.read_text().replace(GOOD, line))

    assert listed_files(path.read_bytes()) is None
    assert "weights.pvd" in prove(run).lists
