"""`watch`: the two lines that a training script needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tensorview import capture
from tensorview.errors import ConfigurationError
from tensorview.settings import check_optimizers, check_settings
from tensorview.steering.commands import ALLOWED_BY_DEFAULT
from tensorview.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from torch import nn
    from torch.optim import Optimizer

    from tensorview.analysis.health import Flag
    from tensorview.pruning.policy import PrunePolicy


def watch(  # a keyword each, all optional
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    *,
    every: int = 50,
    layers: Sequence[str] | Callable[[str, nn.Module], bool] | None = None,
    views: Collection[str] | None = None,
    probe: Any = None,
    activations: str = "probe",
    activation_point: str = "after",
    run_dir: str | Path | None = None,
    formats: Collection[str] = ("vtp",),
    live: str | bool = "auto",
    pipeline: str | Path | None = None,
    trajectory_axes: Mapping[str, Any] | None = None,
    form: str = "auto",
    map_samples: Collection[int] = (0,),
    threshold: float = 0.9,
    linkage: str = "complete",
    correlation: str = "position",
    name: str | None = None,
    allow: Collection[str] = ALLOWED_BY_DEFAULT,
    evaluate: Callable[[nn.Module], float] | None = None,
    budget: float | None = None,
    keep: int | None = None,
    start_step: int | None = None,
    prune: PrunePolicy | None = None,
    on_flag: Callable[[Flag], object] | None = None,
    strict: bool = False,
) -> Watcher:
    """Show what happens inside *model* while it trains.

    The first step, every *every* steps, and the last step are captured; training goes on bit for
    bit as it would have. Nothing raises into the training loop after this call returned, unless
    *strict*.

    Args:
        model: any module; compiled and distributed ones are looked into.
        optimizer: its steps are counted (of several, the first one's). Without one, call
            `Watcher.step`.
        every: capture every so many optimizer steps.
        layers: names, globs, or a predicate ``(name, module) -> bool``. Default: every Conv,
            ConvTranspose and Linear.
        views: some of weights, trajectory, distribution, maps, correlation, scalars. Default: all.
        probe: the batch that activations are taken from: a tensor, a tuple of arguments or a dict
            of keyword arguments. Default: the first 64 samples of the first call.
        activations: ``"probe"``, or ``"batch"`` for the training batch itself.
        activation_point: ``"after"`` the BatchNorm and element-wise nonlinearity that directly
            follow the layer, or ``"raw"``: its own output.
        run_dir: where files go. Default: ``tensorview_runs/<date>-<model>``.
        formats: some of ``"vtp"`` and ``"csv"``; empty writes no files.
        live: ``"auto"`` (once a viewer listens on port 22222 of this machine), True, False, or
            ``"host:port"``.
        pipeline: a Catalyst script of your own, of version 2.0.
        trajectory_axes: layer name -> list of triples of weight indices to draw paths along,
            beside the PCA.
        form: ``"auto"`` draws large layers as images, ``"cells"`` and ``"atlas"`` force either.
        map_samples: samples of the probe whose own feature maps are kept beside the mean.
        threshold: Pearson r from which two filters belong to one group.
        linkage: ``"complete"``: every pair of a group is above the threshold; ``"transitive"``:
            each filter is above it with one other of its group, as in the paper.
        correlation: ``"position"``: over samples and positions; ``"batch_sum"``: over the maps
            summed over the batch, as in the paper.
        name: shown in clients. Default: the model's class.
        allow: commands that clients may send while it trains: capture, every, focus, select, and on
            request pause, stop, learning_rate, prune; empty for none. They come through the run
            directory; without one there are none.
        evaluate: ``model -> float``, lower is better, for example the loss on 1,000 training
            images: what pruning measures. It is called in evaluation mode and without gradients,
            and kept until the watcher is closed, with all that it refers to.
        budget: share of the wall time that all this may take, for example 0.02: *every* is
            multiplied by the least power of two that keeps it, anew at each capture. First, last
            and requested captures stay. Default: no limit.
        keep: thin the captures on disk: the newest *keep* are there, half of twice as many before
            them, a quarter of four times as many before those, and so on; the first and the last
            always. ``scalars.csv`` has all. Default: every capture stays.
        start_step: go on from a checkpoint that has so many optimizer steps behind it. A run in
            *run_dir* is continued: what it holds of later steps is removed, and the paths of the
            weights begin anew. Default: a new run, whose first step is 1.
        prune: removes filters while it trains, see `PrunePolicy`; needs *evaluate*.
        on_flag: called with each new `Flag` of the training's health, once, in the training's
            thread, at the end of the step whose capture raised it. It may close the watcher.
        strict: raise our own faults instead of counting them.

    Returns:
        The `Watcher`. It need not be kept: it lives until `Watcher.close`, the end of its ``with``
        block or of the process, or until model or optimizer is collected.

    Raises:
        ConfigurationError: an argument that cannot be used.
        CaptureError: a layer or *probe* that cannot be captured.
        RunError: *run_dir* holds a run already and *start_step* is None, or that run has other
            layers, or another process writes in it.
        ParaViewError: live was asked for, and no usable ParaView is there.
    """
    if not isinstance(model, torch.nn.Module):
        raise ConfigurationError(
            f"model={type(model).__name__} cannot be watched: expected a torch.nn.Module."
        )
    eager = capture.unwrap(model)
    settings = check_settings(
        every=every,
        layers=layers,
        views=views,
        probe=probe,
        activations=activations,
        activation_point=activation_point,
        run_dir=run_dir,
        formats=formats,
        live=live,
        pipeline=pipeline,
        trajectory_axes=trajectory_axes,
        form=form,
        map_samples=map_samples,
        threshold=threshold,
        linkage=linkage,
        correlation=correlation,
        name=type(eager).__name__ if name is None else name,
        allow=allow,
        evaluate=evaluate,
        budget=budget,
        keep=keep,
        start_step=start_step,
        prune=prune,
        on_flag=on_flag,
        strict=strict,
    )
    return Watcher(model, check_optimizers(optimizer), settings=settings)
