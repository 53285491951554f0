"""Look into a trained ResNet-20 while it predicts: no optimizer, one step a batch of images."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
from networks import ResNet20
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention
from tqdm import tqdm

import tensorview

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def cifar_images(path):
    """Return normalised images (N, 3, 32, 32) and labels of an ``.npz``, or random ones."""
    if path is None:
        print("No --images: random ones are used, so the accuracy means nothing.")
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(256, 3, 32, 32, generator=generator)
        labels = torch.randint(10, (256,), generator=generator)
    else:
        data = np.load(path)
        # They are sorted by class; a probe of the first 64 would see one class only.
        order = np.random.default_rng(0).permutation(len(data["labels"]))
        images = torch.tensor(data["images"][order]).permute(0, 3, 1, 2).float() / 255
        labels = torch.tensor(data["labels"][order]).long()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std, labels


def weights_of(path):
    """Return the state dict in *path*, whatever prefix a wrapper put before its names."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    return {key.removeprefix("module."): value for key, value in state.items()}


def in_shared(name):
    """Path of a file in TENSORVIEW_DATA, None where it is not."""
    folder = os.environ.get("TENSORVIEW_DATA")
    path = Path(folder) / "resnet20-cifar10" / name if folder else None
    return path if path and path.exists() else None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=in_shared("resnet20_state_dict.pt"))
    parser.add_argument("--images", type=Path, default=in_shared("cifar10_test_1000.npz"))
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--every", type=int, default=2, help="capture every N batches")
    parser.add_argument("--run-dir", help="where the files go")
    options = parser.parse_args()
    for path in filter(None, (options.weights, options.images)):
        if not path.exists():
            sys.exit(f"{path} is not there.")
    torch.manual_seed(0)
    model = ResNet20().eval()
    if options.weights:
        model.load_state_dict(weights_of(options.weights))
    else:
        print("No --weights: random ones are used, so there is little to see.")
    images, labels = cifar_images(options.images)
    watcher = tensorview.watch(model, every=options.every, run_dir=options.run_dir)
    hits = 0
    with torch.no_grad():
        for batch, truth in tqdm(
            list(zip(images.split(options.batch), labels.split(options.batch), strict=True)),
            desc="predicting",
            unit="batch",
        ):
            logits = model(batch)
            hits += int((logits.argmax(1) == truth).sum())
            watcher.log(loss=F.cross_entropy(logits, truth))
            watcher.step()
    watcher.close()
    dead = int((watcher.snapshot().scalars["layer1.0.conv1/dead"])[-1])
    score = hits / len(labels)
    print(
        f"accuracy on {len(labels):,} images: {score:.1%}; dead filters in layer1.0.conv1: {dead}"
    )
    print(f"captures: {watcher.status().captures}, in {watcher.status().run_dir}")


if __name__ == "__main__":
    main()
