"""The whole of it: a training, a live ParaView client, files, and a picture of every view.

Trains LeNet-5 on handwritten digits with a ParaView client listening. The client has no window;
what it receives over Catalyst is recorded, and the pictures are made from that.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lenet5_digits import train
from tensorview.export import export

from tensorview.client.paraview import find_paraview
from tensorview.errors import TensorviewError
from tensorview.settings import DEFAULT_PORT
from tensorview.sockets import viewer_listens
from tensorview.supervisor import BOOTSTRAP, worker_environment

IDLE_SECONDS = 120


class LiveClient:
    """A ParaView client without a window, in a process of its own, recording what it receives."""

    def __init__(self, *, port, record_into):
        options = {"port": port, "run_dir": str(record_into), "idle_seconds": IDLE_SECONDS}
        self.process = subprocess.Popen(
            [find_paraview().pvpython, BOOTSTRAP, "client.headless", json.dumps(options)],
            env=worker_environment(os.environ, foreign_python=True),
            stdout=subprocess.PIPE,
            text=True,
        )
        if not self.process.stdout.readline():
            sys.exit("The ParaView client did not start; its message stands above.")

    def stop(self):
        """End the client and return the steps that it received."""
        self.process.terminate()
        lines = self.process.communicate()[0].splitlines()
        return [json.loads(line)["step"] for line in lines]


def main():
    if viewer_listens(DEFAULT_PORT):
        sys.exit(f"Port {DEFAULT_PORT} is taken. Close the ParaView that listens there first.")
    with tempfile.TemporaryDirectory(prefix="tensorview-demo-") as folder:
        received = Path(folder) / "received"
        client = LiveClient(port=DEFAULT_PORT, record_into=received)
        watcher, score = train(every=20, live=True)
        steps = client.stop()
        run_dir = watcher.status().run_dir
        export(received, png=True, out=run_dir / "pictures")
    print(f"Accuracy on 297 test digits:  {score:.1%}")
    print(f"Live frames at the client:    {len(steps)} of {watcher.status().captures} captures")
    print(f"Files for ParaView:           {run_dir}/*.pvd")
    print(f"Pictures of the live frames:  {run_dir / 'pictures'}/*.png")
    print("Next, open the run in ParaView, or send it to a ParaView that waits for Catalyst:")
    print(f"    paraview {run_dir}/weights.pvd")
    print(f"    {Path(sys.executable).parent / 'tensorview'} replay {run_dir}")


if __name__ == "__main__":
    try:
        main()
    except TensorviewError as error:
        sys.exit(f"demo: {error}")
