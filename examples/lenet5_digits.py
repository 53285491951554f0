"""Train LeNet-5 on scikit-learn's bundled handwritten digits, watched by tensorview.

The 1,797 real images of 8 x 8 pixels are enlarged to the 28 x 28 that the network is made for.
"""

import argparse

import torch
from networks import LeNet5, accuracy
from sklearn.datasets import load_digits
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention
from tqdm import tqdm

import tensorview


def digits():
    """Return training images and labels, test images and labels; pixels in [0, 1]."""
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1) / 16
    images = F.interpolate(images, size=28, mode="bilinear", antialias=False)
    labels = torch.tensor(found.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1500], order[1500:]
    return images[train], labels[train], images[test], labels[test]


def train(*, epochs=12, batch=50, seed=0, **watching):
    """Train and return the watcher, closed, and the accuracy on the test images.

    Args:
        epochs: passes over the 1,500 training images.
        batch: images a step.
        seed: of everything random.
        watching: goes to `tensorview.watch`.
    """
    torch.manual_seed(seed)
    images, labels, test_images, test_labels = digits()
    model = LeNet5()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with tensorview.watch(model, optimizer, **watching) as watcher:
        steps = [
            chosen for _ in range(epochs) for chosen in torch.randperm(len(labels)).split(batch)
        ]
        bar = tqdm(steps, desc="training", unit="step", mininterval=0.5)
        for chosen in bar:
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            watcher.log(loss=loss)
            optimizer.step()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            if watcher.should_stop:
                break
        score = accuracy(model, test_images, test_labels)
    return watcher, score


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--every", type=int, default=20, help="capture every N steps")
    parser.add_argument("--run-dir", help="where the files go")
    options = parser.parse_args()
    watcher, score = train(epochs=options.epochs, every=options.every, run_dir=options.run_dir)
    print(f"accuracy on 297 test digits: {score:.1%}")
    print(f"captures: {watcher.status().captures}, in {watcher.status().run_dir}")


if __name__ == "__main__":
    main()
