"""Train LeNet-5 on MNIST, read from its IDX files, watched by tensorview."""

import argparse
import gzip
import os
import struct
import sys
from pathlib import Path

import torch
from networks import LeNet5, accuracy
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention
from tqdm import tqdm

import tensorview

IDX_UNSIGNED_BYTES = 0x08


def read_idx(path):
    """Return the tensor of unsigned bytes in one IDX file, gzipped or not."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    zeros, kind, dimensions = struct.unpack(">HBB", data[:4])
    if zeros != 0 or kind != IDX_UNSIGNED_BYTES:
        sys.exit(f"{path} is not an IDX file of bytes: it starts with {data[:4].hex(' ')}.")
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    return torch.frombuffer(bytearray(data[4 + 4 * dimensions :]), dtype=torch.uint8).view(shape)


def mnist(folder, part):
    """Return images (N, 1, 28, 28) in [0, 1] and labels of ``"train"`` or ``"t10k"``."""
    files = []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        found = [p for p in folder.rglob(f"{part}-{kind}*") if p.suffix in ("", ".gz")]
        if not found:
            sys.exit(f"No {part}-{kind}(.gz) under {folder}. Give --data the folder of MNIST.")
        files.append(read_idx(found[0]))
    return files[0].float().unsqueeze(1) / 255, files[1].long()


def parse_with_data(parser):
    """Add ``--data`` to *parser* and parse; end with a sentence where no folder is named."""
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("TENSORVIEW_DATA"),
        help="folder that holds MNIST's IDX files (default: TENSORVIEW_DATA)",
    )
    options = parser.parse_args()
    if options.data is None:
        sys.exit("No data: give --data the folder that holds MNIST's IDX files.")
    return options


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600, help="600 are one epoch")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--every", type=int, default=50, help="capture every N steps")
    parser.add_argument("--run-dir", help="where the files go")
    options = parse_with_data(parser)
    images, labels = mnist(options.data, "train")
    torch.manual_seed(0)
    model = LeNet5()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    watcher = tensorview.watch(model, optimizer, every=options.every, run_dir=options.run_dir)
    for _ in tqdm(range(options.steps), desc="training", unit="step", mininterval=0.5):
        chosen = torch.randint(len(labels), (options.batch,))
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        watcher.log(loss=loss)
        optimizer.step()
    watcher.close()
    test_images, test_labels = mnist(options.data, "t10k")
    print(f"accuracy on 10,000 test images: {accuracy(model, test_images, test_labels):.2%}")
    print(f"captures: {watcher.status().captures}, in {watcher.status().run_dir}")


if __name__ == "__main__":
    main()
