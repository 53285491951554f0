"""Run by ParaView's Python: the whole window without its frame, on trainings or on a run.

    pvpython window_in_paraview.py BOOTSTRAP OPTIONS

Prints a JSON line a frame that is shown: its step, and checksums of what each view is given; and
one whenever the state of the connection changes. Ends when standard input does.
"""

import importlib.util
import json
import select
import sys

bootstrap_path, options = sys.argv[1], json.loads(sys.argv[2])
spec = importlib.util.spec_from_file_location("bootstrap", bootstrap_path)
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)
bootstrap.load_package()

import zlib  # noqa: E402  # the package first

from paraview.simple import GetAnimationScene, GetLayouts  # noqa: E402

from tensorview.client.window import buttons, window  # noqa: E402
from tensorview.client.window.notes import leaves  # noqa: E402
from tensorview.worker.datasets import arrays  # noqa: E402

window.open_window(port=options["port"], run_dir=options["run_dir"], log_path=options["log_path"])
opened = buttons.window
for layout in GetLayouts().values():
    layout.SetSize(400, 300)  # nobody looks: what counts is what each view is given
shown = -1
status = ""


def checksums():
    """Of every cell and point array of every view, by channel and name."""
    found = {}
    for channel, proxy in opened.shown.items():
        for index, part in enumerate(leaves(proxy.GetClientSideObject().GetOutputDataObject(0))):
            for attributes in (part.GetCellData(), part.GetPointData()):
                for name, values in arrays(attributes).items():
                    found[f"{channel} {index} {name}"] = zlib.crc32(values.tobytes())
    return found


def say(**message):
    print(json.dumps(message), file=sys.__stdout__, flush=True)


say(listening=True)
steps = list(options.get("steps", ()))
while not select.select([0], [], [], 0.02)[0]:  # ParaView has replaced sys.stdin
    opened.tick()
    if opened.feed.status != status:
        status = opened.feed.status
        say(status=status)
    notes = opened._notes()
    step = int(notes["step"][0]) if "step" in notes else -1
    if step != shown:
        shown = step
        say(step=step, values=checksums())
        if steps:
            GetAnimationScene().AnimationTime = steps.pop(0)
