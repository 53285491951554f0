"""What a run remembers from capture to capture, and how one capture becomes a snapshot."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tensorview.analysis.groups import group
from tensorview.analysis.health import Health
from tensorview.analysis.ranges import nice_range, nice_symmetric
from tensorview.analysis.trajectory import (
    axes_title,
    grow_extent,
    parse_axes,
    project,
    segments,
    thin,
)
from tensorview.bounds import max_points, max_rows
from tensorview.snapshot import GROUP_DEAD, Layer, Snapshot, Trajectory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tensorview.capture.layers import WatchedLayer
    from tensorview.capture.result import CaptureResult, LayerCapture
    from tensorview.settings import Settings
    from tensorview.snapshot import Activations, Weights

_Divided: TypeAlias = "tuple[NDArray[np.int32], NDArray[np.int32]]"
"""Segment of each point, and the filters removed before it; see `segments`."""


class Memory:
    """Trajectories, display ranges and the table of scalars of one run.

    Args:
        layers: watched.
        settings: of the run; name, views, form, threshold, linkage and trajectory axes count here.

    Attributes:
        health: the flags that are raised.

    Raises:
        ConfigurationError: trajectory axes that are not there.
    """

    def __init__(self, layers: Sequence[WatchedLayer], *, settings: Settings) -> None:
        shapes = {layer.name: layer.weight_shape for layer in layers}
        self.health = Health()
        self._settings = settings
        axes = parse_axes(settings.trajectory_axes, shapes=shapes)
        self._titles = {name: tuple(map(axes_title, triples)) for name, triples in axes.items()}
        self._limit = max_points(len(shapes) + sum(map(len, self._titles.values())))
        self._count = 0
        self._layers: dict[str, _LayerMemory] = {}
        self._events: dict[str, list[tuple[int, int]]] = {}
        self._path = np.empty((0, 3))  # capture, step, loss
        self._table = _Table()

    def remember(
        self,
        step: int,
        result: CaptureResult,
        *,
        logged: Mapping[str, float] | None = None,
        focus: str = "",
    ) -> Snapshot:
        """Add one capture; of a step that was captured before, it takes the former one's place.

        Args:
            step: optimizer steps done.
            result: what was found.
            logged: scalars of the user's. ``"loss"`` colours the trajectories; ``"step"`` is
                taken by ours. What a former capture of this step knew of them is kept.
            focus: name of the layer that is to be shown alone, "" for all.

        Returns:
            The snapshot; it shares no memory with what is remembered.
        """
        examined = self.health.examine(step, result.layers)
        row = {
            **(logged or {}),
            **{
                f"{found.name}/{quantity}": value
                for found in result.layers
                for quantity, value in {**found.scalars, **examined[found.name]}.items()
            },
            "step": float(step),
        }
        for name, value in self._take_back(step).items():
            if np.isnan(row.get(name, np.nan)):
                row[name] = value
        capture, self._count = self._count, self._count + 1
        self._path = np.concatenate([self._path, [[capture, step, row.get("loss", np.nan)]]])
        kept = thin(self._path[:, 0].astype(np.int64), limit=self._limit)
        self._path = self._path[kept]
        layers = []
        for found in result.layers:
            known = self._layers.get(found.name)
            if known is None:
                known = _LayerMemory(titles=self._titles.get(found.name, ()))
                self._layers[found.name] = known
            divided = segments(
                self._path[:, 0].astype(np.int64),
                events=np.array(self._events.get(found.name, ()), np.int64).reshape(-1, 2),
            )
            layers.append(
                known.remember(found, kept=kept, divided=divided, settings=self._settings)
            )
        self._table.add(capture, row)
        return Snapshot(
            step=step,
            capture=capture,
            name=self._settings.name,
            layers=tuple(layers),
            views=self._settings.views,
            form=self._settings.form,
            trajectory_steps=self._path[:, 1].astype(np.int64),
            trajectory_losses=self._path[:, 2].copy(),
            scalars=self._table.columns(),
            focus=focus,
        )

    def count_from(self, capture: int) -> None:
        """Give the next capture this number: of a run that is continued, the one that follows."""
        self._count = capture

    def mark_pruned(self, removed: Mapping[str, int]) -> None:
        """Begin a new segment of the paths of layers that became smaller since the last capture.

        Args:
            removed: by layer, how many filters; 0 where only inputs were removed.
        """
        for name, count in removed.items():
            # By number of capture: the step may have been captured before it happened.
            self._events.setdefault(name, []).append((self._count, count))

    def _take_back(self, step: int) -> dict[str, float]:
        """Forget the last capture if it was of *step*, and return its row of the table."""
        if not len(self._path) or self._path[-1, 1] != step:
            return {}
        self._path = self._path[:-1]
        for layer in self._layers.values():
            layer.take_back()
        return self._table.take_back()


class _Rows:
    """Numbers of one shape a capture, thinned in place."""

    def __init__(self) -> None:
        self._room: NDArray[np.float64] | None = None
        self._count = 0

    @property
    def values(self) -> NDArray[np.float64]:
        """Shape ``(T, ...)``, one row a capture; changes with the next one."""
        assert self._room is not None  # not before the first capture
        return self._room[: self._count]

    def add(self, row: NDArray[np.float64], *, kept: NDArray[np.int64]) -> None:
        """Append *row*, and then keep the rows *kept* alone."""
        if self._room is None:
            self._room = np.empty((16, *row.shape))
        elif self._count == len(self._room):
            self._room = np.concatenate([self._room, np.empty_like(self._room)])
        self._room[self._count] = row
        # Most often the last row alone gives way to the new one.
        moved = np.flatnonzero(kept != np.arange(len(kept)))
        self._room[moved] = self._room[kept[moved]]
        self._count = len(kept)

    def take_back(self) -> None:
        """Forget the last row."""
        self._count -= 1


class _LayerMemory:
    """One layer's path and display ranges."""

    def __init__(self, *, titles: tuple[str, ...]) -> None:
        self._titles = titles
        self._sketches, self._chosen = _Rows(), _Rows()
        self._axes: NDArray[np.float64] | None = None
        self._extents: dict[str, NDArray[np.float64]] = {}
        self._weight_range: float | None = None
        self._map_range: tuple[float, float] | None = None

    def take_back(self) -> None:
        """Forget the last point."""
        self._sketches.take_back()
        self._chosen.take_back()

    def remember(
        self,
        found: LayerCapture,
        *,
        kept: NDArray[np.int64],
        divided: _Divided,
        settings: Settings,
    ) -> Layer:
        self._sketches.add(found.sketch, kept=kept)
        self._chosen.add(found.chosen, kept=kept)
        shown = "trajectory" in settings.views
        return Layer(
            name=found.name,
            kind=found.kind,
            weight_shape=found.weight_shape,
            original_filters=found.original_filters,
            weights=self._steady_weights(found.weights) if found.weights else None,
            activations=(self._grouped(found.activations, settings) if found.activations else None),
            trajectories=self._trajectories(divided) if shown else (),
        )

    def _steady_weights(self, weights: Weights) -> Weights:
        self._weight_range = nice_symmetric(self._weight_range, weights.range)
        return dataclasses.replace(weights, range=self._weight_range)

    def _grouped(self, activations: Activations, settings: Settings) -> Activations:
        self._map_range = nice_range(self._map_range, *activations.map_range)
        groups = group(
            activations.pcc,
            activations.groups == GROUP_DEAD,
            threshold=settings.threshold,
            linkage=settings.linkage,
        )
        return dataclasses.replace(activations, groups=groups, map_range=self._map_range)

    def _trajectories(self, divided: _Divided) -> tuple[Trajectory, ...]:
        points, self._axes, shares = project(self._sketches.values, previous_axes=self._axes)
        paths = [self._path("PCA", points, shares, divided)]
        for index, title in enumerate(self._titles):
            weights = self._chosen.values[:, index].copy()
            weights[~np.isfinite(weights).all(axis=1)] = np.nan
            paths.append(self._path(title, weights, np.full(3, np.nan), divided))
        return tuple(paths)

    def _path(
        self,
        subspace: str,
        points: NDArray[np.float64],
        shares: NDArray[np.float64],
        divided: _Divided,
    ) -> Trajectory:
        extent = grow_extent(self._extents.get(subspace), points)
        self._extents[subspace] = extent
        segment, pruned = divided
        return Trajectory(
            subspace=subspace,
            points=points,
            explained_variance=shares,
            extent=extent.copy(),
            segment=segment.copy(),
            pruned=pruned.copy(),
        )


class _Table:
    """Scalars over captures; columns may come and go, rows are thinned evenly."""

    def __init__(self) -> None:
        self._captures = np.empty(0, np.int64)
        self._names: dict[str, int] = {}
        self._values = np.empty((0, 0))  # columns, rows and room for more of both
        self._place("step")

    def add(self, capture: int, row: Mapping[str, float]) -> None:
        for name in row:
            self._place(name)
        rows = len(self._captures)
        if rows == self._values.shape[1]:
            room = np.full((len(self._values), max(16, rows)), np.nan)
            self._values = np.concatenate([self._values, room], axis=1)
        self._values[:, rows] = np.nan
        self._values[[self._names[name] for name in row], rows] = list(row.values())
        captures = np.append(self._captures, capture)
        kept = thin(captures, limit=max_rows(len(self._names)))
        # Most often the last row alone gives way to the new one.
        moved = np.flatnonzero(kept != np.arange(len(kept)))
        self._values[:, moved] = self._values[:, kept[moved]]
        self._captures = captures[kept]

    def _place(self, name: str) -> None:
        if name in self._names:
            return
        self._names[name] = len(self._names)
        if len(self._names) > len(self._values):
            room = np.full((max(16, len(self._values)), self._values.shape[1]), np.nan)
            self._values = np.concatenate([self._values, room])

    def take_back(self) -> dict[str, float]:
        """Forget the last row, and return what was in it."""
        last = len(self._captures) - 1
        self._captures = self._captures[:-1]
        return {name: float(self._values[index, last]) for name, index in self._names.items()}

    def columns(self) -> dict[str, NDArray[np.float64]]:
        rows = len(self._captures)
        return {name: self._values[index, :rows].copy() for name, index in self._names.items()}
