"""The whole of it: a training, live in ParaView, files, and a picture of every view.

Trains LeNet-5 on handwritten digits. With a display ParaView's window opens on it, laid out and
coloured, and stays until it is closed. Without one a ParaView client without a window listens:
what it receives over Catalyst is recorded, and the pictures are made from that.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lenet5_digits import train

from tensorview.client.recorder import Recorder
from tensorview.client.view import refuse_without_display
from tensorview.errors import ParaViewError, TensorviewError
from tensorview.export import export
from tensorview.settings import DEFAULT_PORT
from tensorview.sockets import listener, viewer_listens

WATCHED_EPOCHS = 40
"""Long enough to look at."""
RECORDED_EPOCHS = 24
"""Long enough to be recorded: on a busy machine Catalyst needs ten seconds before it can send."""
OPEN_SECONDS = 60
STEERED = ("capture", "every", "focus", "select", "pause", "stop", "learning_rate")
"""What the buttons in the window may do to this training."""


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if viewer_listens(DEFAULT_PORT):
        sys.exit(f"Port {DEFAULT_PORT} is taken by {listener(DEFAULT_PORT)}: close it first.")
    try:
        refuse_without_display(os.environ)
    except ParaViewError as problem:
        print(f"{problem} So what would be shown live is recorded.")
        record()
    else:
        show()


def show():
    """Train in sight of ParaView's window."""
    command = [sys.executable, "-m", "tensorview", "view"]
    with subprocess.Popen(command) as window:
        try:
            deadline = time.monotonic() + OPEN_SECONDS
            while not viewer_listens(DEFAULT_PORT):
                if window.poll() is not None or time.monotonic() > deadline:
                    sys.exit("demo: ParaView's window did not open.")
                time.sleep(0.1)
            watcher, score = train(epochs=WATCHED_EPOCHS, every=20, live=True, allow=STEERED)
            run_dir = watcher.status().run_dir
            export(run_dir, png=True)
            report(watcher, score)
            print("The window stays until you close it. To see the run again, with time controls:")
            print(f"    {Path(sys.executable).parent / 'tensorview'} view {run_dir}")
            window.wait()
        except KeyboardInterrupt:
            print("Closed.")
        finally:
            window.terminate()


def record():
    """Train in sight of a client without a window."""
    with tempfile.TemporaryDirectory(prefix="tensorview-demo-") as folder:
        received = Path(folder) / "received"
        with Recorder(received, port=DEFAULT_PORT) as client:
            watcher, score = train(epochs=RECORDED_EPOCHS, every=20, live=True)
        frames = client.steps()
        status = watcher.status()
        pictures = status.run_dir / "pictures"
        export(received, png=True, out=pictures)
    report(watcher, score)
    print(f"Live frames at the client:    {len(frames)} of {status.captures} captures")
    print(f"Pictures of the live frames:  {pictures}/*.png")
    print("Next, on a machine with a screen, look at the run in ParaView:")
    print(f"    {Path(sys.executable).parent / 'tensorview'} view {status.run_dir}")


def report(watcher, score):
    """Say what the training came to, and where its files are."""
    print(f"Accuracy on 297 test digits:  {score:.1%}")
    print(f"Files for ParaView:           {watcher.status().run_dir}/*.pvd")


if __name__ == "__main__":
    try:
        main()
    except TensorviewError as error:
        sys.exit(f"demo: {error}")
