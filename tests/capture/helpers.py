"""Settings and small helpers for tests of capturing."""

import inspect

import tensorview
from tensorview.capture import Capturer
from tensorview.memory import Memory
from tensorview.settings import check_settings


def make_settings(**changes):
    """The settings that `watch` makes of its defaults and *changes*; no files, not live."""
    known = inspect.signature(check_settings).parameters
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(tensorview.watch).parameters.items()
        if name in known and parameter.default is not inspect.Parameter.empty
    }
    return check_settings(
        **(defaults | {"name": "test", "live": False, "formats": (), "strict": True} | changes)
    )


def capture_once(model, **changes):
    """One capture's `CaptureResult`."""
    return Capturer(model, settings=make_settings(**changes)).begin().finish()


def snapshot_once(model, **changes):
    """One capture as a snapshot."""
    settings = make_settings(**changes)
    capturer = Capturer(model, settings=settings)
    memory = Memory(capturer.layers, settings=settings)
    return memory.remember(1, capturer.begin().finish(), logged={})
