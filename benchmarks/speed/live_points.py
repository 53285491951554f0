"""Send feature maps as points, one a value, as in-situ tools do. Runs under ParaView's Python.

The points are built once, before the clock starts, and go the same way as our own frames.

Usage: pvpython live_points.py BOOTSTRAP PORT SCRIPT SECONDS MAPS ROWS COLUMNS
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from live_client import load_tensorview


def main(bootstrap, port, script, seconds, *shape):
    """Send for *seconds*, the largest value of each frame being one more than its number."""
    load_tensorview(bootstrap)
    from tensorview.worker.sinks.live import LiveSink  # noqa: PLC0415  # needs the above

    sink = LiveSink(host="localhost", port=int(port), script=script)
    datasets, values = points(tuple(map(int, shape)))
    deadline = time.monotonic() + float(seconds)
    capture = 0
    while time.monotonic() < deadline:
        sink.write(marked(datasets, values, capture=capture))
        capture += 1
    sink.close()


def points(shape):
    """Return empty datasets but for one point a value, and these values."""
    import numpy as np  # noqa: PLC0415  # ParaView's own
    from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: PLC0415
    from vtkmodules.vtkCommonDataModel import vtkMultiBlockDataSet, vtkPolyData  # noqa: PLC0415

    from tensorview.worker.frame import ATLAS_CHANNELS, POLYDATA_CHANNELS  # noqa: PLC0415
    from tensorview.worker.views.datasets import equal_cells, polydata  # noqa: PLC0415

    places = np.stack(np.indices(shape), axis=-1).reshape(-1, 3)
    cloud = polydata(
        places,
        verts=equal_cells(np.arange(len(places))[:, None]),
        point_data={"activation": np.zeros(len(places), np.float32)},
    )
    datasets = {name: vtkPolyData() for name in POLYDATA_CHANNELS}
    datasets |= {name: vtkMultiBlockDataSet() for name in ATLAS_CHANNELS}
    datasets["maps"] = cloud
    return datasets, vtk_to_numpy(cloud.GetPointData().GetArray("activation"))


def marked(datasets, values, *, capture):
    """Make a frame of *datasets*, with its number in field data and values."""
    import numpy as np  # noqa: PLC0415

    from tensorview.worker.frame import Frame  # noqa: PLC0415
    from tensorview.worker.views.datasets import array  # noqa: PLC0415

    values[-1] = capture + 1
    cloud = datasets["maps"]
    cloud.GetPointData().GetArray("activation").Modified()
    for name in ("step", "capture"):
        cloud.GetFieldData().AddArray(array(name, np.array([capture])))
    return Frame(step=capture, capture=capture, datasets=datasets)


if __name__ == "__main__":
    main(*sys.argv[1:])
