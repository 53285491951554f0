"""Where there is no ParaView that can be used: said in one sentence, or done without."""

import logging

import pytest

import tensorview
from tensorview import outputs, settings
from tensorview.client import paraview
from tensorview.client.doctor import examine, report
from tensorview.errors import ParaViewError
from tensorview.run import Run
from tests.doubles import UNUSABLE_PARAVIEWS, Listener, free_port, unusable_pvpython
from tests.networks import make_training, train_steps


@pytest.fixture(autouse=True)
def _ask_again(monkeypatch):
    paraview.find_paraview.cache_clear()
    monkeypatch.delenv(paraview.PVPYTHON_VARIABLE, raising=False)
    yield
    paraview.find_paraview.cache_clear()


def take_away(folder, monkeypatch, kind):
    if kind == "none":
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr(paraview, "USUAL_PLACES", ())
    else:
        monkeypatch.setenv(paraview.PVPYTHON_VARIABLE, unusable_pvpython(folder, kind)[0])


@pytest.mark.parametrize("kind", ["none", *UNUSABLE_PARAVIEWS])
def test_l8_live_that_was_asked_for_and_cannot_be_raises_one_sentence(tmp_path, monkeypatch, kind):
    """What was found, and what to do, as `doctor` prints it; before anything is written."""
    take_away(tmp_path, monkeypatch, kind)
    model, optimizer = make_training()
    with pytest.raises(ParaViewError) as caught:
        tensorview.watch(
            model, optimizer, run_dir=tmp_path / "run", live=f"localhost:{free_port()}"
        )

    printed = report(examine(port=free_port()))

    assert "\n" not in str(caught.value)
    assert all(part in printed for part in str(caught.value).split(". ", 1))
    assert not (tmp_path / "run").exists()
    assert not optimizer._optimizer_step_post_hooks


def test_l8_auto_without_paraview_goes_to_files_and_says_so(tmp_path, monkeypatch, caplog):
    """One WARNING once a viewer listens that nothing can be sent to; files are written."""
    take_away(tmp_path, monkeypatch, "none")
    port = free_port()
    monkeypatch.setattr(settings, "DEFAULT_PORT", port)
    monkeypatch.setattr(outputs, "LOOK_SECONDS", 0.0)
    model, optimizer = make_training()
    with (
        Listener(port=port),
        tensorview.watch(model, optimizer, every=1, run_dir=tmp_path / "run") as watcher,
    ):
        train_steps(model, optimizer, 5)
        said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]

        assert not watcher.may_show_live

    assert said == [f"A viewer listens on port {port}, but {paraview.INSTALL_HINT}"]
    assert Run.open(tmp_path / "run").steps() == (1, 2, 3, 4, 5)
