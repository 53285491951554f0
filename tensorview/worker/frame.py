"""What the views make of one snapshot: VTK datasets by Catalyst channel.

Each polydata, and each image of an atlas, carries in its field data what a client needs to draw it
the same way from the first frame to the last:

==================  ==========  ===================================================================
``step``            int64       optimizer steps done
``capture``         int64       number of the capture, always growing
``loss``            float64     last logged loss, NaN where none was logged
``name``            string      the run's name
``focus``           string      name of the layer that is to be shown alone, empty for all
``layers``          string n    layer names, indexed by the ``layer`` array
``layer_titles``    string n    what to write above each layer's panel
``layer_bounds``    float64 6n  panel of each layer: x0 x1 y0 y1 z0 z1
``bounds``          float64 6   of the whole view, steady over the run
``color_array``     string      the array to colour by
``color_range``     float64 2   its range, steady over the run
==================  ==========  ===================================================================

The live sink adds ``run_dir`` and ``run_id`` (strings): the absolute path of the run directory, ""
for none, and `tensorview.run.Run.id`, which proves that what lies there is the same run.

Images of an atlas also carry ``tiles`` (int32 5: columns, rows, tile width, tile height, gutter; in
pixels), ``tile_filters`` (int32: true filter of each tile, row by row from the top),
``tile_original_filters`` (int32: what these were before any was removed) and, where activations are
shown, ``tile_groups`` (int32). A tile of a correlation is one row of its matrix.

A tile of weights is made of windows, one an input channel: ``windows`` (int32 5: columns, rows,
window width, window height, gap; in pixels), ``window_channels`` (int32: input channel of each
window, row by row from the top, within the convolution group) and ``tile_first_channels`` (int32:
first input channel of each tile's convolution group).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vtkmodules.vtkCommonDataModel import vtkDataObject

POLYDATA_CHANNELS = ("weights", "trajectory", "distribution", "maps", "correlation", "scalars")
"""One `vtkPolyData` each, empty where there is nothing to show."""

ATLAS_CHANNELS = ("weights_atlas", "maps_atlas", "correlation_atlas")
"""One `vtkMultiBlockDataSet` each: a named `vtkImageData` a layer, no block where none is large."""

CHANNELS = POLYDATA_CHANNELS + ATLAS_CHANNELS


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """The datasets of one step, under every name in `CHANNELS`.

    Catalyst aborts the process when a channel that it once knew is missing from a later step, so
    none is ever left out.
    """

    step: int
    capture: int
    datasets: dict[str, vtkDataObject]
