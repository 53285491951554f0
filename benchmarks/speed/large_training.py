"""A training of a large network on noise, watched live, with one thread.

Prints when its first capture was taken, in seconds of the monotonic clock.

Usage: python large_training.py NETWORK SIDE RUN_DIR PORT
"""

import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention

import tensorview

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import networks

BATCH, PROBE, EVERY = 2, 2, 4


def main(network, side, run_dir, port):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = getattr(networks, network)(classes=100)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    images = torch.randn(BATCH, 3, int(side), int(side))
    labels = torch.randint(100, (BATCH,))
    with tensorview.watch(
        model,
        optimizer,
        every=EVERY,
        probe=images[:PROBE],
        run_dir=run_dir,
        live=f"localhost:{port}",
        allow=("capture", "focus", "pause", "stop"),
    ) as watcher:
        told = False
        while not watcher.should_stop:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            watcher.log(loss=loss)
            optimizer.step()
            if not told:
                told = True
                print(time.monotonic(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
