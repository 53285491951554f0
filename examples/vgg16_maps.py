"""Feature maps of a network of VGG16's shape at 224 x 224: 3.2 million map values a layer.

The weights are random, since a trained VGG16 is not bundled: this shows sizes, not features.
"""

import argparse
import time

import torch
from networks import vgg16

import tensorview


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", nargs="*", default=["0"], help="watched layers")
    parser.add_argument("--samples", type=int, default=2, help="images in the probe")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--run-dir", help="where the files go")
    options = parser.parse_args()
    print("The weights are random: look at sizes and speed, not at features.")
    torch.manual_seed(0)
    model = vgg16().eval()
    images = torch.rand(options.samples, 3, 224, 224)
    views = ("weights", "maps", "distribution", "correlation")
    with (
        tensorview.watch(
            model, every=1, layers=options.layers, views=views, run_dir=options.run_dir
        ) as watcher,
        torch.no_grad(),
    ):
        for _ in range(options.steps):
            model(images)
            started = time.perf_counter()
            watcher.step()
            print(f"captured in {time.perf_counter() - started:.1f} s")
    for sentence in watcher.status().reduced:
        print(f"reduced: {sentence}")
    print(f"captures: {watcher.status().captures}, in {watcher.status().run_dir}")


if __name__ == "__main__":
    main()
