"""Two learning rates: flags of health for one that is far too high, none for a sane one.

LeNet-5 on MNIST where TENSORVIEW_DATA names its folder, else on scikit-learn's bundled digits.
"""

import argparse
import logging
import os
from pathlib import Path

import torch
from lenet5_digits import digits
from lenet5_mnist import mnist
from networks import LeNet5, accuracy
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention
from tqdm import tqdm

import tensorview

RATES = {"far too high": 10.0, "sane": 0.1}


def train(rate, data, *, steps, every, run_dir):
    """Train with plain SGD; return every flag that was raised, the watcher, and the model."""
    torch.manual_seed(0)
    images, labels = data
    model = LeNet5()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    flags = []
    with tensorview.watch(
        model, optimizer, every=every, run_dir=run_dir, on_flag=flags.append
    ) as watcher:
        for _ in tqdm(range(steps), desc=f"learning rate {rate:g}", unit="step", mininterval=0.5):
            chosen = torch.randint(len(labels), (50,))
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            watcher.log(loss=loss)
            optimizer.step()
    return flags, watcher, model


def table(flags):
    """Lay flags out, a line each."""
    rows = [
        (
            str(flag.step),
            flag.layer,
            flag.kind,
            ", ".join(f"{name} {value:.3g}" for name, value in flag.numbers.items()),
            f"{flag.threshold:.2g}",
        )
        for flag in flags
    ]
    rows = [("step", "layer", "flag", "numbers", "threshold of the first"), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=20, help="capture every N steps")
    parser.add_argument("--out", type=Path, default=Path("tensorview_runs"))
    options = parser.parse_args()
    torch.set_num_threads(1)  # more do not help a network as small as this
    logging.getLogger("tensorview").setLevel(logging.ERROR)  # the tables say what it would
    folder = os.environ.get("TENSORVIEW_DATA")
    if folder:
        data, test = (mnist(Path(folder), part) for part in ("train", "t10k"))
    else:
        images, labels, *test = digits()
        data = images, labels
    for name, rate in RATES.items():
        run_dir = options.out / f"learning-rate-{rate:g}"
        flags, watcher, model = train(
            rate, data, steps=options.steps, every=options.every, run_dir=run_dir
        )
        score = accuracy(model, test[0][:1000], test[1][:1000])
        print(f"\nlearning rate {rate:g}, {name}: accuracy {score:.1%}, {len(flags)} flags raised")
        if flags:
            print(table(flags))
        print(f"captures: {watcher.status().captures}, in {watcher.status().run_dir}")


if __name__ == "__main__":
    main()
