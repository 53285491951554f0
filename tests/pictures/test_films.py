"""Films, from the command line to what a player would show."""

import os
import resource
import signal
import subprocess
import sys
import weakref
from itertools import pairwise

import av
import numpy as np
import pytest

from tensorview import export as export_module
from tensorview.cli import main as tensorview
from tensorview.errors import ConfigurationError, RunError
from tensorview.export import export
from tensorview.launch import worker_environment
from tensorview.run import Run
from tensorview.tabs import TABS
from tensorview.worker.datasets import read_frame
from tensorview.worker.pictures import film as film_module
from tensorview.worker.pictures import main as worker
from tensorview.worker.pictures.encoders import _is_whole_ogg
from tensorview.worker.pictures.film import film
from tensorview.worker.sinks.files import FileSink
from tensorview.worker.views import make_frame
from tests.pictures.looks import draw, ink
from tests.snapshots import make_snapshot

SIZE = (960, 720)
STEPS = (50, 100, 150, 200)
STEP = (slice(36, 56), slice(20, 160))
"""Where a page says which step it shows."""


def write_run(path, *, steps, **options):
    Run.create(path, settings={"name": "LeNet"})
    sink = FileSink(path, formats=("vtp",))
    rng = np.random.default_rng(5)
    for step in steps:
        sink.write(make_frame(make_snapshot(rng, step=step, **options)))
    sink.close()
    return path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run with captures at `STEPS`; whoever damages it copies it."""
    return write_run(tmp_path_factory.mktemp("films") / "run", steps=STEPS)


@pytest.fixture
def damaged(tmp_path):
    """A run of which the steps that are given to it cannot be read."""

    def damage(*steps):
        path = write_run(tmp_path / "damaged", steps=STEPS)
        for step in steps:
            file = path / "weights" / f"{step:08}.vtp"
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        return path

    return damage


def decoded(path):
    """What a film says of itself, and its frames as arrays."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        seconds = container.duration / av.time_base
    return stream.codec_context.name, seconds, frames


def difference(a, b):
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".webm", "vp9"), (".mp4", "h264"), (".gif", "gif"), (".ogv", "theora")]
)
def test_a_film_shows_every_step_as_it_is_drawn(run_dir, tmp_path, capsys, suffix, codec):
    """A player finds one frame a capture, in order, at the speed and size asked for."""
    path = tmp_path / "new" / f"film{suffix}"
    command = ["export", str(run_dir), "--movie", str(path), "--tab", "weights"]

    assert tensorview([*command, "--size", "960x720", "--fps", "5"]) == 0
    found, seconds, frames = decoded(path)
    run = Run.open(run_dir)
    last = read_frame(run, STEPS[-1])
    pages = [draw("weights", read_frame(run, s), size=SIZE, last=last) for s in STEPS]

    assert capsys.readouterr().out == f"4 frames, steps 50 to 200, in {path}\n"
    assert codec == found
    assert {frame.shape for frame in frames} == {(720, 960, 3)}
    assert len(frames) == 4
    assert seconds == pytest.approx(4 / 5, abs=0.05)
    for number, frame in enumerate(frames):
        away = [difference(frame, page) for page in pages]
        assert away[number] < 4
        assert away[number] == min(away)
    for a, b in pairwise(frame[STEP].astype(int) for frame in frames):
        assert (np.abs(a - b) > 60).sum() > 20  # another number
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208


def test_colours_of_a_film_are_those_of_its_pictures(run_dir, tmp_path):
    """Large areas of red, blue and grey come back within 6 of 255, also where a player guesses."""
    run = Run.open(run_dir)
    last = read_frame(run, STEPS[-1])
    page = draw("correlation", last, size=SIZE)
    flat = np.ptp([np.roll(page, s, (0, 1)) for s in ((3, 3), (-3, -3), (3, -3))], 0).max(-1) == 0
    for suffix in (".webm", ".mp4", ".gif", ".ogv"):
        path = tmp_path / f"film{suffix}"
        frames = film(
            run,
            path,
            views=("correlation",),
            title="",
            size=SIZE,
            fps=10,
            sample=None,
            note=pytest.fail,
        )
        assert sum(frames) == len(STEPS)
        shown = decoded(path)[2][-1]

        assert np.abs(shown.astype(int) - page)[flat].max(-1).mean() < 3
        assert np.percentile(np.abs(shown.astype(int) - page)[flat].max(-1), 99) <= 6


def test_overview_is_filmed_where_no_tab_is_chosen(run_dir, tmp_path):
    """The four views of the overview share each frame; beside a film, pictures can be had."""
    path = tmp_path / "film.ogv"
    assert export(run_dir, movie=path, png=True, out=tmp_path / "png", tab=None) == 0
    run = Run.open(run_dir)
    last = read_frame(run, STEPS[-1])
    page = draw(TABS["overview"], last, size=(1280, 960), title="Overview")

    assert difference(decoded(path)[2][-1], page) < 4
    assert len(list((tmp_path / "png").iterdir())) == 7


def test_an_existing_film_is_replaced_once_the_new_one_is_whole(damaged, run_dir, tmp_path):
    """What fails leaves the former file as it was."""
    path = tmp_path / "film.ogv"
    path.write_text("former")
    with pytest.raises(RunError):
        export(damaged(*STEPS), movie=path)
    assert path.read_text() == "former"

    export(run_dir, movie=path, tab="health", size=SIZE)
    assert len(decoded(path)[2]) == 4
    assert not list(tmp_path.glob(".*"))


def test_damaged_steps_are_left_out_and_counted(damaged, tmp_path, capsys):
    """One sentence tells how many and why; the rest is filmed."""
    run_dir, path = damaged(50, 150), tmp_path / "film.ogv"
    assert export(run_dir, movie=path, tab="weights", size=SIZE) == 0

    said = capsys.readouterr()
    size = (run_dir / "weights" / "00000050.vtp").stat().st_size
    assert said.err == (
        f"Left out 2 of 4 steps, which cannot be read; the first: Cannot read "
        f"'weights/00000050.vtp' of run '{run_dir}': it is damaged, the CRC of its {size} bytes is "
        f"not the one that was committed.\n"
    )
    assert said.out == f"2 frames, steps 50 to 200, in {path}\n"
    assert len(decoded(path)[2]) == 2


def test_last_step_that_can_be_read_gives_the_ranges(damaged, tmp_path):
    """A damaged last step does not stop a film, also where colours are chosen beforehand."""
    path = tmp_path / "film.gif"
    assert export(damaged(50, 100, 200), movie=path, tab="weights", size=SIZE) == 0

    assert len(decoded(path)[2]) == 1


def test_a_run_without_a_step_to_read_is_refused(damaged, tmp_path):
    """The sentence names the fault, and no file is left."""
    run_dir = damaged(*STEPS)
    with pytest.raises(RunError) as caught:
        export(run_dir, movie=tmp_path / "film.ogv", size=SIZE)

    start = f"Cannot make a film of run '{run_dir}': no step can be read; last: Cannot read "
    assert str(caught.value).startswith(start)
    assert not list(tmp_path.glob("*film*"))


def test_a_part_of_a_film_is_not_taken_for_the_whole(run_dir, tmp_path):
    """VTK does not notice a full disk: a page that is cut, lost or last is found."""
    path = tmp_path / "film.ogv"
    export(run_dir, movie=path, tab="weights", size=SIZE)
    data = path.read_bytes()
    starts = [at for at in range(len(data)) if data.startswith(b"OggS\x00", at)]
    assert len(starts) >= 3

    assert _is_whole_ogg(path)
    for part in (data[:-1], data[: starts[-1]], data[: starts[1]] + data[starts[2] :], b""):
        path.write_bytes(part)
        assert not _is_whole_ogg(path)


@pytest.fixture
def full_disk():
    """No file may become larger than 20 kB."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, former[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.mark.parametrize("suffix", [".webm", ".ogv", ".gif", ".mp4"])
@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_no_film(run_dir, tmp_path, capsys, suffix):
    """It is one sentence, and no half of a film stays."""
    path = tmp_path / f"film{suffix}"
    options = {"kind": "movie", "run_dir": str(run_dir), "file": str(path), "fps": 10}

    assert worker.main({**options, "tab": "weights", "size": SIZE, "sample": None}) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "tensorview: The film could not be written as a whole: is the disk full?"
        if suffix == ".ogv"
        else f"tensorview: Cannot write '{path}': File too large."
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["film.avi", "film", "."])
def test_other_kinds_of_films_are_refused(run_dir, tmp_path, name):
    """The sentence names the four that can be made."""
    with pytest.raises(ConfigurationError) as caught:
        export(run_dir, movie=tmp_path / name)

    assert str(caught.value) == (
        f"Cannot write a film to '{tmp_path / name}': expected a name that ends in .webm, .ogv, "
        f".gif or .mp4."
    )


TABS_SENTENCE = "expected one of overview, weights, trajectory, activations, health."
SIZES_SENTENCE = "expected even numbers from 960x720 to 3840x2880."


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fps": 0}, "fps=0 cannot be used: expected a whole number from 1 to 60."),
        ({"fps": 61}, "fps=61 cannot be used: expected a whole number from 1 to 60."),
        ({"size": (961, 720)}, f"size=961x720 cannot be drawn: {SIZES_SENTENCE}"),
        ({"size": (960, 4000)}, f"size=960x4000 cannot be drawn: {SIZES_SENTENCE}"),
        ({"tab": "nice"}, f"tab='nice' cannot be drawn: {TABS_SENTENCE}"),
        ({"step": 50}, "--step chooses the step of pictures and tables; a film shows all of them."),
    ],
)
def test_what_cannot_be_filmed_is_refused_before_anything_is_drawn(
    run_dir, tmp_path, options, sentence
):
    """One sentence, and no file."""
    with pytest.raises(ConfigurationError) as caught:
        export(run_dir, movie=tmp_path / "a.ogv", **options)

    assert str(caught.value) == sentence
    assert not list(tmp_path.iterdir())


def test_a_directory_in_the_place_of_a_film_is_refused(run_dir, tmp_path):
    """It is neither replaced nor written into."""
    (tmp_path / "a.ogv").mkdir()
    with pytest.raises(ConfigurationError) as caught:
        export(run_dir, movie=tmp_path / "a.ogv")

    assert str(caught.value) == (
        f"Cannot write a film to '{tmp_path / 'a.ogv'}': it is a directory."
    )


@pytest.mark.parametrize("suffix", [".webm", ".gif", ".mp4"])
def test_without_pyav_the_command_to_type_is_named(run_dir, tmp_path, monkeypatch, suffix):
    """The other way, a film that needs no further package, is in the same sentence."""
    monkeypatch.setattr(export_module, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError) as caught:
        export(run_dir, movie=tmp_path / f"a{suffix}")

    assert str(caught.value) == (
        f"Cannot write '{tmp_path / 'a'}{suffix}': {suffix} needs the package av. Type "
        f"`{sys.executable} -m pip install av`, or choose .ogv."
    )
    assert export(run_dir, movie=tmp_path / "a.ogv", tab="health", size=SIZE) == 0


def test_size_that_is_no_size_is_refused_by_the_command_line(run_dir, capsys):
    """The answer shows what is expected."""
    with pytest.raises(SystemExit):
        tensorview(["export", str(run_dir), "--png", "--size", "large"])

    said = capsys.readouterr().err
    assert "argument --size: expected WxH, for example 1280x960, found 'large'" in said


def test_ctrl_c_leaves_nothing_behind(tmp_path):
    """Neither a file nor a process, however far the film was."""
    run_dir, path = write_run(tmp_path / "run", steps=range(50, 2050, 50)), tmp_path / "film.webm"
    command = [sys.executable, "-m", "tensorview", "export", str(run_dir), "--movie", str(path)]
    environment = worker_environment(os.environ, foreign_python=False)
    with subprocess.Popen(
        command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    ) as process:
        while not list(tmp_path.glob(".film*")):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)

    assert process.returncode == 130
    assert sorted(found.name for found in tmp_path.iterdir()) == ["run"]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_crash_of_the_worker_leaves_nothing_behind(run_dir, tmp_path, monkeypatch):
    """What the worker could not tidy up is tidied up for it."""
    script, path = tmp_path / "worker.py", tmp_path / "film.ogv"
    script.write_text(
        f"import os, signal\nopen({str(tmp_path / '.film.ogv.tmp')!r}, 'w').close()\n"
        "os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.setattr(export_module, "BOOTSTRAP", script)
    with pytest.raises(RunError, match="signal SIGSEGV"):
        export(run_dir, movie=path)

    assert list(tmp_path.iterdir()) == [script]


def test_a_film_that_is_given_up_leaves_nothing_behind(run_dir, tmp_path):
    """Also where nobody is left to tidy up after the worker."""
    options = {"title": "", "size": SIZE, "fps": 10, "sample": None, "note": pytest.fail}
    begun = film(Run.open(run_dir), tmp_path / "a.webm", views=("scalars",), **options)
    assert next(begun)
    assert list(tmp_path.iterdir())
    begun.close()

    assert not list(tmp_path.iterdir())


def test_few_frames_are_held_at_a_time(run_dir, tmp_path, monkeypatch):
    """However long a run is, the last step, the one before and the one drawn are in memory."""
    alive, most = weakref.WeakSet(), []

    def reading(run, step):
        frame = read_frame(run, step)
        alive.add(frame)
        most.append(len(alive))
        return frame

    monkeypatch.setattr(film_module, "read_frame", reading)
    options = {"title": "", "size": SIZE, "fps": 10, "sample": None, "note": pytest.fail}
    assert all(film(Run.open(run_dir), tmp_path / "a.ogv", views=("scalars",), **options))

    assert len(most) == len(STEPS)
    assert max(most) <= 3


def test_views_that_a_run_lacks_are_left_out_of_its_film(tmp_path, capsys):
    """The others share the frame; where none is left, no film is made."""
    run_dir = write_run(tmp_path / "run", steps=(50, 100), views=("weights", "trajectory"))
    path = tmp_path / "film.ogv"
    assert export(run_dir, movie=path, size=SIZE) == 0
    last = read_frame(Run.open(run_dir), 100)
    page = draw(("weights", "trajectory"), last, size=SIZE, title="Overview")

    assert difference(decoded(path)[2][-1], page) < 4
    assert capsys.readouterr().err == (f"Left out distribution, maps: run '{run_dir}' has none.\n")
    with pytest.raises(RunError) as caught:
        export(run_dir, movie=path, tab="activations")
    assert str(caught.value) == (
        f"Nothing to draw: run '{run_dir}' has no distribution, maps, correlation."
    )


def test_pages_of_a_film_end_where_their_step_does(run_dir):
    """Paths and lines grow into the boxes and axes of the last step, and never leave them."""
    run = Run.open(run_dir)
    frames = [read_frame(run, step) for step in STEPS]
    for view in ("trajectory", "scalars"):
        pages = [ink(draw(view, f, size=SIZE, last=frames[-1])[80:]) for f in frames]

        for early, late in pairwise(pages):
            assert (early & ~late).sum() < 0.03 * early.sum()  # the ball moves on
        assert pages[1].sum() < pages[-1].sum()
