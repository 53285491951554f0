"""What a user may ask of `watch`, checked where it is given."""

from __future__ import annotations

import operator
import re
import sys
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorview.errors import ConfigurationError
from tensorview.pruning.policy import PrunePolicy
from tensorview.snapshot import VIEWS
from tensorview.steering.commands import PERMISSIONS, near_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tensorview.analysis.health import Flag

DEFAULT_PORT = 22222
FORMATS = ("vtp", "csv")
HIGHEST_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class LiveTarget:
    """Where a live viewer is expected.

    Attributes:
        host: of the viewer.
        port: it listens on.
        at_once: start the worker now; False waits until a viewer listens on this machine.
    """

    host: str
    port: int
    at_once: bool


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The keywords of `tensorview.watch`, validated. See there for their meaning."""

    every: int
    layers: Sequence[str] | Callable[[str, Any], bool] | str | None
    views: tuple[str, ...]
    probe: Any
    activations: str
    activation_point: str
    run_dir: Path | None
    formats: tuple[str, ...]
    live: LiveTarget | None
    pipeline: Path | None
    trajectory_axes: Any
    form: str
    map_samples: tuple[int, ...]
    threshold: float
    linkage: str
    correlation: str
    name: str
    allow: tuple[str, ...]
    evaluate: Callable[[Any], float] | None
    budget: float | None
    keep: int | None
    start_step: int | None
    prune: PrunePolicy | None
    on_flag: Callable[[Flag], object] | None
    strict: bool

    @property
    def apart(self) -> Settings:
        """The same without what is the user's own, and may refer to the model."""
        return replace(self, layers=None, probe=None, evaluate=None, prune=None, on_flag=None)


def check_settings(  # one argument a keyword of watch
    *,
    every: int,
    layers: Any,
    views: Collection[str] | None,
    probe: Any,
    activations: str,
    activation_point: str,
    run_dir: Any,
    formats: Collection[str],
    live: Any,
    pipeline: Any,
    trajectory_axes: Any,
    form: str,
    map_samples: Collection[int],
    threshold: float,
    linkage: str,
    correlation: str,
    name: str,
    allow: Collection[str],
    evaluate: Any,
    budget: Any,
    keep: Any,
    start_step: Any,
    prune: Any,
    on_flag: Any,
    strict: bool,
) -> Settings:
    """Return the validated settings.

    Raises:
        ConfigurationError: the first one that cannot be used, in one sentence.
    """
    if sys.platform == "win32":
        raise ConfigurationError(
            "tensorview runs on Linux, and on macOS for files; not on Windows."
        )
    steps = _whole(every)
    if steps is None or steps < 1:
        raise ConfigurationError(
            f"every={every!r} cannot be used: expected a whole number of steps, 1 or more."
        )
    if not isinstance(threshold, (int, float)) or not -1.0 <= threshold <= 1.0:
        raise ConfigurationError(
            f"threshold={threshold!r} cannot be used: expected a Pearson r from -1 to 1."
        )
    samples = [_whole(sample) for sample in _items("map_samples", map_samples)]
    if any(sample is None or sample < 0 for sample in samples):
        raise ConfigurationError(
            f"map_samples={map_samples!r} cannot be used: expected indices into the probe, "
            f"0 or more."
        )
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ConfigurationError(f"name={name!r} cannot be used: expected printable text.")
    shown = _subset("views", VIEWS if views is None else views, VIEWS)
    if not shown:
        raise ConfigurationError("views=() cannot be used: expected at least one view.")
    return Settings(
        every=steps,
        layers=_layers(layers),
        views=shown,
        probe=probe,
        activations=_one_of("activations", activations, ("probe", "batch")),
        activation_point=_one_of("activation_point", activation_point, ("after", "raw")),
        run_dir=None if run_dir is None else _path("run_dir", run_dir),
        formats=_subset("formats", formats, FORMATS),
        live=parse_live(live, wanted=pipeline is not None),
        pipeline=_script(pipeline),
        trajectory_axes=trajectory_axes,
        form=_one_of("form", form, ("auto", "cells", "atlas")),
        map_samples=tuple(sample for sample in samples if sample is not None),
        threshold=float(threshold),
        linkage=_one_of("linkage", linkage, ("complete", "transitive")),
        correlation=_one_of("correlation", correlation, ("position", "batch_sum")),
        name=name,
        allow=_allowed(allow),
        evaluate=_function("evaluate", evaluate, "of the model that returns a number"),
        budget=_share(budget),
        keep=_count(
            "keep",
            keep,
            least=1,
            expected="how many of the newest captures are all kept, 1 or more, or None for all of "
            "the run",
        ),
        start_step=_count(
            "start_step",
            start_step,
            least=0,
            expected="how many optimizer steps the checkpoint has behind it, 0 or more, or None "
            "for a new run",
        ),
        prune=_policy(prune, evaluate),
        on_flag=_function("on_flag", on_flag, "of a flag"),
        strict=bool(strict),
    )


def check_optimizers(optimizer: Any) -> list[Any]:
    """Return the optimizers that were given; the first one's steps count.

    Raises:
        ConfigurationError: one of them is no `torch.optim.Optimizer`.
    """
    if optimizer is None:
        return []
    found = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    for item in found:
        # A wrapper that never ran Optimizer.__init__ has the methods, but no hooks to call.
        if not hasattr(item, "_optimizer_step_post_hooks"):
            raise ConfigurationError(
                f"optimizer={type(item).__name__} cannot be used: expected a torch.optim.Optimizer "
                f"or a list of them. Of a wrapper give the optimizer inside, or leave it out and "
                f"call watcher.step() after each step."
            )
    return found


def parse_live(live: Any, *, wanted: bool) -> LiveTarget | None:
    """Read ``live=``: ``"auto"``, True, False or ``"host:port"``.

    Args:
        live: as the user gave it.
        wanted: a pipeline of the user's own is to run, so "auto" does not wait for a viewer.

    Raises:
        ConfigurationError: none of these, or a port that does not exist.
    """
    if live is False:
        return None
    if live is True or live == "auto":
        at_once = wanted or live is True
        return LiveTarget(host="localhost", port=DEFAULT_PORT, at_once=at_once)
    match = re.fullmatch(r"\[?([^\[\]\s]+?)\]?:(\d+)", live) if isinstance(live, str) else None
    if match is None:
        raise ConfigurationError(
            f"live={live!r} cannot be used: expected 'auto', True, False or 'host:port'."
        )
    return LiveTarget(host=match[1], port=check_port(int(match[2])), at_once=True)


def check_port(port: int) -> int:
    """Return *port* if there can be one of that number.

    Raises:
        ConfigurationError: there cannot.
    """
    if not 1 <= port <= HIGHEST_PORT:
        raise ConfigurationError(
            f"Port {port} cannot be used: expected 1 to {HIGHEST_PORT}; ParaView's own is "
            f"{DEFAULT_PORT}."
        )
    return port


def _one_of(keyword: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        choice = " or ".join(repr(item) for item in allowed)
        raise ConfigurationError(f"{keyword}={value!r} cannot be used: expected {choice}.")
    return str(value)


def _subset(keyword: str, values: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    given = (values,) if isinstance(values, str) else tuple(_items(keyword, values))
    unknown = [value for value in given if value not in allowed]
    if unknown:
        raise ConfigurationError(
            f"{keyword}={given!r} cannot be used: {unknown[0]!r} is none of {', '.join(allowed)}."
        )
    return tuple(value for value in allowed if value in given)


def _allowed(allow: Any) -> tuple[str, ...]:
    given = (allow,) if isinstance(allow, str) else tuple(_items("allow", allow))
    for value in given:
        if value not in PERMISSIONS:
            hint = near_matches(str(value), PERMISSIONS)
            raise ConfigurationError(f"allow={given!r} cannot be used. {value!r} is none. {hint}")
    return tuple(value for value in PERMISSIONS if value in given)


def _items(keyword: str, values: Any) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise ConfigurationError(
            f"{keyword}={values!r} cannot be used: expected several, for example a tuple."
        ) from None


def _whole(value: Any) -> int | None:
    """Return *value* as an int, None if it is no whole number."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _layers(layers: Any) -> Any:
    if layers is None or callable(layers):
        return layers
    names = (layers,) if isinstance(layers, str) else tuple(_items("layers", layers))
    if not all(isinstance(name, str) for name in names):
        raise ConfigurationError(
            f"layers={layers!r} cannot be used: expected names, globs, or a function of name and "
            f"module."
        )
    return names


def _path(keyword: str, value: Any) -> Path:
    try:
        path = Path(value).expanduser()
    except (TypeError, RuntimeError):
        path = None
    if path is None or "\0" in str(path):
        raise ConfigurationError(f"{keyword}={value!r} cannot be used: expected a path.")
    try:
        return path.absolute()
    except OSError as error:
        raise ConfigurationError(
            f"{keyword}={value!r} cannot be used: the working directory is not there any more "
            f"({error.strerror}). Give an absolute path."
        ) from None


def _function(keyword: str, value: Any, kind: str) -> Any:
    if value is not None and not callable(value):
        raise ConfigurationError(f"{keyword}={value!r} cannot be used: expected a function {kind}.")
    return value


def _share(budget: Any) -> float | None:
    if budget is None:
        return None
    is_number = isinstance(budget, Real) and not isinstance(budget, bool)
    if not (is_number and 0.0 < float(budget) < 1.0):  # also for NaN
        raise ConfigurationError(
            f"budget={budget!r} cannot be used: expected a share of the wall time, above 0 and "
            f"below 1, for example 0.02."
        )
    return float(budget)


def _count(keyword: str, value: Any, *, least: int, expected: str) -> int | None:
    if value is None:
        return None
    count = _whole(value)
    if count is None or count < least:
        raise ConfigurationError(f"{keyword}={value!r} cannot be used: expected {expected}.")
    return count


def _policy(prune: Any, evaluate: Any) -> PrunePolicy | None:
    if prune is None:
        return None
    if not isinstance(prune, PrunePolicy):
        raise ConfigurationError(
            f"prune={type(prune).__name__} cannot be used: expected a tensorview.PrunePolicy."
        )
    if evaluate is None:
        raise ConfigurationError(
            "prune= needs evaluate=: a function model -> float, lower is better, that measures "
            "what each removal costs, for example the loss on 1,000 training images."
        )
    return prune


def _script(pipeline: Any) -> Path | None:
    if pipeline is None:
        return None
    path = _path("pipeline", pipeline)
    if not path.is_file():
        raise ConfigurationError(
            f"The Catalyst script {str(pipeline)!r} is not there. Give pipeline= the path of a "
            f"script exported from ParaView, or leave it out for the one we ship."
        )
    return path
