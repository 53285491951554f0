"""Prune LeNet-5 while it learns MNIST: 16 filters of conv1 to 12, merged or dropped, or all kept.

Trains the network three times, from the same seed and on the same batches: unpruned, with filters
merged into those that stay, with filters dropped. They go one by one in the first epochs; then
training goes on to its end. Prints what each event cost at once, and how well each network ends.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import torch
from lenet5_mnist import mnist, parse_with_data
from networks import LeNet5, accuracy
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention
from tqdm import tqdm

import tensorview

LAYER, KEEP, GOING = "conv1", 12, 4
MODES = ("merge", "drop")
ARMS = ("unpruned", *MODES)
BATCH = 100
MOST_JUDGES = 1000
"""Training images that filters are judged on; a tenth of them where that is less."""
EARLY_EPOCHS = 5
"""Filters go within these: later there is less redundancy."""
SHARES = (0.36, 0.44, 0.56, 0.74)
"""When one goes, as shares of the early epochs: of the whole MNIST steps 1080, 1320, 1680, 2220."""
MAX_COST = 0.1
"""By how much the loss may rise at one event: so much that drops are done too, to be compared."""


def load(folder, most=None):
    """Return training images and labels, test images and labels; at most so many of each."""
    return tuple(part[:most] for name in ("train", "t10k") for part in mnist(folder, name))


def event_steps(images, epochs):
    """Say at which steps one filter goes."""
    steps = min(epochs, EARLY_EPOCHS) * (images // BATCH)
    return tuple(max(1, round(share * steps)) for share in SHARES)


def judges(data):
    """Return images and labels that filters are judged on."""
    count = min(MOST_JUDGES, len(data[1]) // 10)
    return data[0][:count], data[1][:count]


def loss_on(images, labels):
    """Return what pruning measures: a function ``model -> loss``."""
    return lambda model: float(F.cross_entropy(model(images), labels))


def pruned_copy(model, data, *, mode, **wanted):
    """Return a smaller copy of *model*; *model* and all random states stay as they are.

    Args:
        model: a LeNet-5.
        data: as from `load`.
        mode: ``"merge"`` or ``"drop"``.
        wanted: goes to `tensorview.Watcher.redundant`.
    """
    smaller = copy.deepcopy(model)
    images, labels = judges(data)
    with tensorview.watch(
        smaller, formats=(), live=False, probe=images, evaluate=loss_on(images, labels)
    ) as watcher:
        watcher.redundant(LAYER, mode=mode, **wanted).apply(smaller)
    return smaller


def train(arm, data, *, seed=0, epochs=10, every=60, run_dir=None):
    """Train one network, and return what came of it in types of JSON.

    Args:
        arm: one of `ARMS`.
        data: as from `load`.
        seed: of everything random. Arms of one seed meet the same batches and the same dropout.
        epochs: passes over the training images.
        every: capture every so many steps.
        run_dir: where the files go.
    """
    images, labels, *test = data
    began = time.perf_counter()
    torch.manual_seed(seed)
    model = LeNet5()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = len(labels) // BATCH
    at = event_steps(len(labels), epochs)
    step, before, events, together = 0, None, [], []

    def keep_copy(*_):
        nonlocal before
        before = copy.deepcopy(model) if step in at else None

    policy = None
    if arm != "unpruned":
        policy = tensorview.PrunePolicy(keep={LAYER: KEEP}, at=at, max_cost=MAX_COST, mode=arm)
        # Hooks run in the order in which they came: this one still sees all filters.
        optimizer.register_step_post_hook(keep_copy)
    with tensorview.watch(
        model,
        optimizer,
        every=every,
        probe=judges(data)[0],
        evaluate=loss_on(*judges(data)),
        prune=policy,
        run_dir=run_dir,
        name=f"LeNet5-{arm}",
    ) as watcher:
        run = watcher.status().run_dir
        bar = tqdm(total=epochs * batches, desc=arm, unit="step", mininterval=0.5)
        for _ in range(epochs):
            for chosen in torch.randperm(len(labels)).split(BATCH)[:batches]:
                step += 1
                loss = F.cross_entropy(model(images[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                watcher.log(loss=loss)
                optimizer.step()
                bar.update()
                if before is not None:
                    line = json.loads((run / "pruning.jsonl").read_text().splitlines()[-1])
                    done = {arm: model} if line["applied"] else {}
                    lost = lost_at_once(before, data, done=done, filters=line["filters"])
                    events.append(line | {"lost": lost})
                if policy is None and step in (at[0], epochs * batches):
                    lost = lost_at_once(model, data, done={}, count=GOING)
                    together.append({"step": step, "lost": lost})
        bar.close()
    return {
        "arm": arm,
        "seed": seed,
        "steps": step,
        "filters": model.conv1.out_channels,
        "accuracy": 100 * accuracy(model, *test),
        "events": events,
        "together": together,
        "seconds": time.perf_counter() - began,
        "run": str(run),
    }


def lost_at_once(model, data, *, done, **wanted):
    """Return, by mode, the points of test accuracy that pruning costs without further training.

    Args:
        model: before.
        data: as from `load`.
        done: mode -> what *model* became by it. What is not there is tried on a copy.
        wanted: goes to `pruned_copy`.
    """
    test = data[2:]
    before = accuracy(model, *test)
    lost = {}
    for mode in MODES:
        smaller = done.get(mode) or pruned_copy(model, data, mode=mode, threshold=None, **wanted)
        lost[mode] = 100 * (before - accuracy(smaller, *test))
    return lost


def table(result):
    """Lay out what the events of one training cost; filters are numbered as in the beginning."""
    head = (
        "step",
        "filter, by its first number",
        "most like",
        "loss on training images",
        "done",
        "points of test accuracy lost at once, merged",
        "dropped",
    )
    lines = [row(head), row("---" for _ in head)]
    left = list(range(16))
    for event in result["events"]:
        (found,) = event["evidence"]
        like = f"{left[found['partner']]}, r {found['r']:.3f}" if found["partner"] >= 0 else "dead"
        lines.append(
            row(
                (
                    event["step"],
                    *event["original_filters"],
                    like,
                    f"{event['before']:.4f} -> {event['after']:.4f}",
                    "yes" if event["applied"] else "no",
                    *(f"{event['lost'][mode]:+.2f}" for mode in MODES),
                )
            )
        )
        if event["applied"]:
            left = [number for number in left if number not in event["original_filters"]]
    return "\n".join(lines)


def row(cells):
    return f"| {' | '.join(map(str, cells))} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, help="of each part, at most (default: all)")
    parser.add_argument("--every", type=int, default=60, help="capture every N steps")
    parser.add_argument("--run-dir", type=Path, help="where the three runs go")
    options = parse_with_data(parser)
    data = load(options.data, options.images)
    results = [
        train(
            arm,
            data,
            seed=options.seed,
            epochs=options.epochs,
            every=options.every,
            run_dir=options.run_dir / arm if options.run_dir else None,
        )
        for arm in ARMS
    ]
    for result in results[1:]:
        print(f"\n{result['arm']}:\n{table(result)}")
    print()
    print(row(("network", "filters of conv1", "test accuracy at the end", "run")))
    print(row(["---"] * 4))
    for result in results:
        score = f"{result['accuracy']:.2f} %"
        print(row((result["arm"], result["filters"], score, result["run"])))


if __name__ == "__main__":
    main()
