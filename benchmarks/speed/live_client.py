"""A client of Catalyst Live that tells when which frame was there. Runs under ParaView's Python.

It listens as the window does, and has read every feature map before it says that a frame is there.

Usage: pvpython live_client.py BOOTSTRAP PORT
"""

import importlib.util
import json
import sys
import time

POLL_SECONDS = 0.001
ALONE_SECONDS = 60.0
"""Without a frame for so long, nobody is there any more."""


def load_tensorview(bootstrap):
    """Load the package as a worker does: by its location."""
    spec = importlib.util.spec_from_file_location("bootstrap", bootstrap)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load_package()


def main(bootstrap, port):
    """Listen until nobody is there any more; print a line of JSON a frame."""
    load_tensorview(bootstrap)
    from tensorview.client.link import Link, numbers  # noqa: PLC0415  # needs the above

    link = Link.listen(port=int(port))
    say(listening=port)
    last = time.monotonic()
    while time.monotonic() - last < ALONE_SECONDS:
        datasets = link.receive()
        if datasets is None:
            time.sleep(POLL_SECONDS)
            continue
        largest = largest_activation(datasets)
        (capture,), (step,) = numbers(datasets, "capture"), numbers(datasets, "step")
        last = time.monotonic()
        say(capture=capture, step=step, largest=largest, at=last)


def largest_activation(datasets):
    """Return the largest value of all feature maps, by which a frame can be told from others."""
    import numpy as np  # noqa: PLC0415  # ParaView's own

    from tensorview.worker.datasets import arrays, blocks  # noqa: PLC0415

    images = [image for _, image in blocks(datasets["maps_atlas"])]
    found = [
        values["activation"]
        for part in (datasets["maps"], *images)
        for values in (arrays(part.GetPointData()), arrays(part.GetCellData()))
        if "activation" in values
    ]
    return max((float(np.fmax.reduce(values)) for values in found if len(values)), default=0.0)


def say(**message):
    # pvpython's own standard output ignores a request to flush.
    print(json.dumps(message), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
