"""The whole of it: a training, a live ParaView client, files, and a picture of every view.

Trains LeNet-5 on handwritten digits with a ParaView client listening. The client has no window;
what it receives over Catalyst is recorded, and the pictures are made from that.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from lenet5_digits import train

from tensorview.client.recorder import Recorder
from tensorview.errors import TensorviewError
from tensorview.export import export
from tensorview.settings import DEFAULT_PORT
from tensorview.sockets import listener, viewer_listens


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if viewer_listens(DEFAULT_PORT):
        sys.exit(f"Port {DEFAULT_PORT} is taken by {listener(DEFAULT_PORT)}: close it first.")
    with tempfile.TemporaryDirectory(prefix="tensorview-demo-") as folder:
        received = Path(folder) / "received"
        with Recorder(received, port=DEFAULT_PORT) as client:
            watcher, score = train(every=20, live=True)
        frames = client.steps()
        status = watcher.status()
        pictures = status.run_dir / "pictures"
        export(received, png=True, out=pictures)
    print(f"Accuracy on 297 test digits:  {score:.1%}")
    print(f"Live frames at the client:    {len(frames)} of {status.captures} captures")
    print(f"Files for ParaView:           {status.run_dir}/*.pvd")
    print(f"Pictures of the live frames:  {pictures}/*.png")
    print("Next, open the run in ParaView, or send it to a ParaView that waits for Catalyst:")
    print(f"    paraview {status.run_dir}/weights.pvd")
    print(f"    {Path(sys.executable).parent / 'tensorview'} replay {status.run_dir}")


if __name__ == "__main__":
    try:
        main()
    except TensorviewError as error:
        sys.exit(f"demo: {error}")
