"""A training as a user runs it, for the tests: LeNet-5 on handwritten digits, watched live.

Usage: python training.py RUN_DIR PORT STEPS EVERY
"""

import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812

import tensorview

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from lenet5_digits import digits
from networks import LeNet5

PAUSE_SECONDS = 0.2
"""After each step: the window beside it, drawn without a graphics card, needs the cores."""


def main(run_dir, port, steps, every):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images, labels, _, _ = digits()
    model = LeNet5()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    allow = ("capture", "every", "focus", "select", "pause", "stop", "learning_rate")
    live = f"localhost:{port}"
    with tensorview.watch(
        model, optimizer, every=int(every), run_dir=run_dir, live=live, allow=allow
    ) as watcher:
        for step in range(int(steps)):
            chosen = torch.arange(50) + 50 * (step % 30)
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            watcher.log(loss=loss)
            optimizer.step()
            time.sleep(PAUSE_SECONDS)
            if watcher.should_stop:
                break
    sys.stdout.write(f"{watcher.status()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
