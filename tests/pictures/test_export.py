"""`tensorview export`, from the command line to the files."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOImage import vtkPNGReader

from tensorview import export as export_module
from tensorview.cli import main as tensorview
from tensorview.errors import ConfigurationError, RunError
from tensorview.export import FAULT, NOTE, export
from tensorview.launch import BOOTSTRAP, worker_environment
from tensorview.run import Run
from tensorview.snapshot import VIEWS
from tensorview.worker.pictures import main as worker
from tensorview.worker.pictures import opengl
from tensorview.worker.pictures.main import png_bytes
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.views import make_frame
from tests.snapshots import make_snapshot


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run with captures at steps 50, 100 and 150; the last in atlas form."""
    path = tmp_path_factory.mktemp("export") / "run"
    Run.create(path, settings={"name": "LeNet"})
    sink = FileSink(path, formats=("vtp",))
    rng = np.random.default_rng(5)
    for step in (50, 100, 150):
        form = "atlas" if step == 150 else "cells"
        sink.write(make_frame(make_snapshot(rng, step=step, form=form)))
    sink.close()
    return path


def read_png(path):
    reader = vtkPNGReader()
    reader.SetFileName(str(path))
    reader.Update()
    image = reader.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1]


def worker_options(run_dir, folder, *, kind):
    """What the worker is told for pictures of step 50, or for a film of all."""
    options = {"kind": kind, "run_dir": str(run_dir), "tab": None, "sample": None}
    if kind == "movie":
        options |= {"file": str(folder / "a.ogv"), "fps": 10}
    else:
        options |= {"step": 50, "folder": str(folder)}
    return options | {"size": [1280, 960]}


def test_every_view_becomes_a_picture(run_dir, capsys):
    """The last step is drawn into RUN/pictures; another step overwrites what is there."""
    assert tensorview(["export", str(run_dir), "--png"]) == 0
    first = {path.name: path.read_bytes() for path in (run_dir / "pictures").iterdir()}
    assert tensorview(["export", str(run_dir), "--png", "--step", "50"]) == 0
    second = {path.name: path.read_bytes() for path in (run_dir / "pictures").iterdir()}

    names = {"overview.png", *(f"{view}.png" for view in VIEWS)}
    assert names == first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)
    for name in names:
        picture = read_png(run_dir / "pictures" / name)
        assert picture.shape == (960, 1280, 3)
        assert 0.005 < (picture.min(axis=-1) < 200).mean() < 0.9
    assert capsys.readouterr().out.splitlines() == [
        f"7 pictures of step {step} in {run_dir / 'pictures'}" for step in (150, 50)
    ]


def test_every_view_becomes_a_table(run_dir, tmp_path):
    """Tables of cells and of an atlas have the same columns, and pandas reads them."""
    for step in (100, 150):
        assert export(run_dir, csv=True, step=step, out=tmp_path / str(step)) == 0
    cells, atlas = (
        {path.stem: pd.read_csv(path) for path in (tmp_path / str(step)).iterdir()}
        for step in (100, 150)
    )

    assert set(VIEWS) == cells.keys() == atlas.keys()
    for view in VIEWS:
        assert list(cells[view].columns) == list(atlas[view].columns)
        assert len(cells[view]) == len(atlas[view]) > 0


def test_a_tab_becomes_one_picture(run_dir, tmp_path, capsys):
    """It has the tab's name, and the size asked for."""
    command = ["export", str(run_dir), "--png", "--tab", "activations", "--size", "1920x1080"]
    assert tensorview([*command, "--out", str(tmp_path)]) == 0

    assert [path.name for path in tmp_path.iterdir()] == ["activations.png"]
    assert read_png(tmp_path / "activations.png").shape == (1080, 1920, 3)
    assert capsys.readouterr().out == f"1 picture of step 150 in {tmp_path}\n"


def test_views_that_a_run_lacks_are_left_out(tmp_path, capsys):
    """No picture says that there is nothing to show; one sentence names what is lacking."""
    run_dir = tmp_path / "run"
    Run.create(run_dir, settings={"name": "LeNet"})
    sink = FileSink(run_dir, formats=("vtp",))
    snapshot = make_snapshot(np.random.default_rng(5), views=("weights", "scalars"))
    sink.write(make_frame(snapshot))
    sink.close()
    assert export(run_dir, png=True) == 0

    names = sorted(path.name for path in (run_dir / "pictures").iterdir())
    assert names == ["scalars.png", "weights.png"]
    assert capsys.readouterr().err == (
        f"Left out trajectory, distribution, maps, correlation: step 150 of run '{run_dir}' has "
        f"none.\n"
    )


@pytest.mark.parametrize(
    ("step", "nearest"), [(7, "50"), (60, "50 and 100"), (149, "100 and 150"), (999, "150")]
)
def test_step_that_is_not_there_is_refused_with_the_nearest(run_dir, capsys, step, nearest):
    """One sentence, exit code 1, and nothing written."""
    arguments = ["export", str(run_dir), "--png", "--step", str(step), "--out", "unused"]

    assert tensorview(arguments) == 1
    assert capsys.readouterr().err == (
        f"tensorview: Cannot export step {step} of run '{run_dir}': it was not captured; "
        f"nearest: {nearest}.\n"
    )
    assert not os.path.exists("unused")  # noqa: PTH110


def test_run_without_captures_is_refused(tmp_path):
    """There is nothing to draw yet, and the sentence says so."""
    Run.create(tmp_path / "new", settings={"name": "LeNet"})

    with pytest.raises(RunError) as caught:
        export(tmp_path / "new", png=True)
    assert str(caught.value) == (
        f"Cannot export run '{tmp_path / 'new'}': it holds no capture yet."
    )


def test_asking_for_nothing_is_refused(run_dir):
    """Neither pictures, tables nor a film: one sentence names all."""
    with pytest.raises(ConfigurationError) as caught:
        export(run_dir)
    assert str(caught.value) == "Nothing to export: give --png, --csv, --movie or several."


def test_a_tab_is_nothing_for_tables(run_dir):
    """They would be made of every view all the same."""
    with pytest.raises(ConfigurationError, match="--tab chooses what is drawn; tables are made"):
        export(run_dir, csv=True, tab="weights")


def test_folder_that_cannot_be_made_is_refused(run_dir, tmp_path):
    """A file in the place of the folder ends in one sentence before anything is drawn."""
    (tmp_path / "file").write_text("")

    with pytest.raises(RunError) as caught:
        export(run_dir, png=True, out=tmp_path / "file")
    assert str(caught.value) == (
        f"Cannot write in '{tmp_path / 'file'}': File exists. Give another --out."
    )


def test_sample_that_was_not_kept_is_refused(run_dir, tmp_path):
    """The worker's own sentence reaches the caller."""
    with pytest.raises(RunError) as caught:
        export(run_dir, png=True, out=tmp_path, sample=9)
    assert str(caught.value) == ("sample=9 cannot be drawn: the run holds maps of samples [0].")


@pytest.mark.parametrize("kind", ["png", "movie"])
def test_missing_opengl_is_one_sentence(run_dir, tmp_path, monkeypatch, capsys, kind):
    """Where VTK would end the process, it is not asked to render."""
    monkeypatch.setattr(opengl, "window_class", lambda: opengl.LAST_RESORT)
    monkeypatch.setattr(opengl, "loadable", lambda _: False)

    assert worker.main(worker_options(run_dir, tmp_path, kind=kind)) == 1
    assert capsys.readouterr().err == (
        f"{FAULT}No OpenGL library found, so no picture can be drawn. On Debian and Ubuntu: "
        f"apt install libegl1 libgl1-mesa-dri.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_last_resort_library_is_enough(monkeypatch):
    """With OSMesa, or with any other window, rendering is allowed."""
    monkeypatch.setattr(opengl, "window_class", lambda: opengl.LAST_RESORT)
    monkeypatch.setattr(opengl, "loadable", lambda name: name == "libOSMesa.so.8")

    assert opengl.missing() is None
    monkeypatch.setattr(opengl, "window_class", lambda: "vtkEGLRenderWindow")
    monkeypatch.setattr(opengl, "loadable", lambda _: False)
    assert opengl.missing() is None


def test_loadable_asks_the_linker():
    """What the C library itself needs is found, nonsense is not."""
    assert opengl.loadable("libc.so.6")
    assert not opengl.loadable("libnothing-of-this-name.so.1")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            "os.kill(os.getpid(), signal.SIGSEGV)",
            "The process that draws ended with signal SIGSEGV. Its last words: (none)",
        ),
        (
            "print('oh', file=sys.stderr); sys.exit(3)",
            "The process that draws ended with exit code 3. Its last words: oh",
        ),
        (
            f"print('{FAULT}why', file=sys.stderr); print('noise', file=sys.stderr); sys.exit(1)",
            "why",
        ),
    ],
)
def test_a_crash_of_the_worker_is_one_sentence(run_dir, tmp_path, monkeypatch, body, sentence):
    """However the worker ends, the caller lives and says what is known."""
    script = tmp_path / "worker.py"
    script.write_text(f"import os, signal, sys\nprint('weights.png', flush=True)\n{body}\n")
    monkeypatch.setattr(export_module, "BOOTSTRAP", script)

    with pytest.raises(RunError) as caught:
        export(run_dir, png=True, out=tmp_path)
    assert sentence == str(caught.value)


def test_worker_and_parent_agree_on_how_faults_are_marked():
    """They share no module but prefixes, which must be the same."""
    assert (FAULT, NOTE) == (worker.FAULT, worker.NOTE)


def test_parent_loads_no_vtk(run_dir, tmp_path):
    """Drawing happens in another process, so that ours can neither crash nor clash."""
    code = (
        "import sys; from tensorview.export import export; "
        f"export({str(run_dir)!r}, csv=True, out={str(tmp_path)!r}); "
        "print([m for m in sys.modules if m.startswith(('vtk', 'paraview'))])"
    )
    environment = worker_environment(os.environ, foreign_python=False)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "[]"


def test_worker_is_ended_by_ctrl_c_without_half_a_picture(run_dir, tmp_path):
    """Files appear whole: what is there after an interruption can be read."""
    options = worker_options(run_dir, tmp_path, kind="png")
    command = [sys.executable, str(BOOTSTRAP), "worker.pictures.main", json.dumps(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)

    assert process.returncode != 0
    names = {path.name for path in tmp_path.glob("*.png")}
    assert "weights.png" in names
    for name in names:
        assert read_png(tmp_path / name).shape == (960, 1280, 3)


def test_png_keeps_every_pixel(tmp_path):
    """What is encoded comes back, row 0 at the top."""
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(png_bytes(picture))

    assert np.array_equal(picture, read_png(tmp_path / "a.png"))
