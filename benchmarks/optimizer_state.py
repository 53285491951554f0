"""Show what it is worth that pruning keeps the optimizer's state: the loss across an event.

LeNet-5 learns MNIST with Adam; at one step two filters of conv1 are merged into the others. From
there on the same batches and the same dropout are met four times: unpruned and pruned, each with
the optimizer's state as it was (where pruned, of what is left), and with a new optimizer.

Usage: TENSORVIEW_DATA=<folder> python benchmarks/optimizer_state.py
"""

import argparse
import copy
import json
import logging
import sys
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import prune_lenet5
from lenet5_mnist import parse_with_data
from networks import LeNet5
from prune_lenet5 import BATCH, LAYER

import tensorview
from tensorview.whole_files import replace_file

GOING = 2
SHOWN = (0, 1, 5, 8, 12, 20, 50, 100, 200)
"""Steps after the event at which the loss is measured."""
OVERSHOOT = range(5, 21)
"""Steps at which a new optimizer has the worst of it."""


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def step(model, optimizer, images, labels):
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def loss_on(model, images, labels):
    model.eval()
    with torch.no_grad():
        loss = float(F.cross_entropy(model(images), labels))
    model.train()
    return loss


def prune(model, images, labels):
    """Merge filters of *model* in place; the optimizers that update it follow."""
    images, labels = images[:1000], labels[:1000]
    with tensorview.watch(
        model,
        probe=images,
        evaluate=lambda model: float(F.cross_entropy(model(images), labels)),
        formats=(),
        live=False,
    ) as watcher:
        watcher.prune(watcher.redundant(LAYER, threshold=None, count=GOING))


def follow(model, optimizer, batches, *, judges, random):
    """Train on; return the loss by step since the event, and the length of the first update."""
    torch.set_rng_state(random)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    losses, first = {0: loss_on(model, *judges)}, 0.0
    for number, batch in enumerate(batches, 1):
        step(model, optimizer, *batch)
        if number == 1:
            updates = zip(model.parameters(), before, strict=True)
            first = sum(float((new.detach() - old).square().sum()) for new, old in updates) ** 0.5
        if number in SHOWN:
            losses[number] = loss_on(model, *judges)
    return losses, first


def curves(data, *, before, after, seed):
    """Return, by name, what `follow` returned of the four."""
    images, labels = data[:2]
    torch.manual_seed(seed)
    model = LeNet5()
    optimizer = adam(model)
    order = torch.randint(len(labels), (before + after, BATCH))
    for chosen in order[:before]:
        step(model, optimizer, images[chosen], labels[chosen])
    random, found = torch.get_rng_state(), {}
    for name in ("unpruned", "pruned"):
        for state in ("kept", "new"):
            # Together, so that the copied optimizer updates the copied model.
            network, stepper = copy.deepcopy((model, optimizer))
            if name == "pruned":
                prune(network, images, labels)
            found[f"{name}, {state}"] = follow(
                network,
                stepper if state == "kept" else adam(network),
                [(images[chosen], labels[chosen]) for chosen in order[before:]],
                judges=(images[:2000], labels[:2000]),
                random=random,
            )
    return found


def checks(found, *, judged):
    """Say what must hold, and whether it does."""
    first = {name: update for name, (_, update) in found.items()}
    ratio = first["pruned, kept"] / first["unpruned, kept"]
    yield (
        f"first update, state kept, against unpruned: {ratio:.2f}, 0.8 to 1.25",
        0.8 < ratio < 1.25,
    )
    ratio = first["pruned, new"] / first["pruned, kept"]
    if not judged:
        yield f"first update, new optimizer, against state kept: {ratio:.1f}, above 1", ratio > 1
        return
    yield f"first update, new optimizer, against state kept: {ratio:.1f}, 3 or more", ratio >= 3
    losses = {name: loss for name, (loss, _) in found.items()}

    def highest(name):
        return max(losses[name][at] for at in SHOWN if at in OVERSHOOT)

    kept, new = (
        highest(f"pruned, {state}") / highest("unpruned, kept") - 1 for state in ("kept", "new")
    )
    text = f"highest loss of steps 5 to 20 above unpruned: {kept:.1%} with state, {new:.1%} without"
    yield f"{text}, less than half", kept < new / 2


def table(found):
    steps = list(next(iter(found.values()))[0])
    head = ["network, optimizer's state", *(f"step {at}" for at in steps), "first update"]
    lines = [head, ["---"] * len(head)]
    for name, (losses, first) in found.items():
        lines.append([name, *(f"{loss:.4f}" for loss in losses.values()), f"{first:.3f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few steps: only to see it run")
    parser.add_argument("--json", type=Path, help="where the numbers go as JSON")
    options = parse_with_data(parser)
    torch.set_num_threads(1)
    logging.getLogger("tensorview").setLevel(logging.ERROR)
    data = prune_lenet5.load(options.data, 500 if options.quick else None)
    before, after = (40, 8) if options.quick else (1080, 200)
    found = curves(data, before=before, after=after, seed=options.seed)
    print(table(found) + "\n")
    held = list(checks(found, judged=not options.quick))
    for text, ok in held:
        print(f"{text}: {'ok' if ok else 'FAIL'}")
    if options.json:
        replace_file(options.json, json.dumps(found, indent=1).encode())
    sys.exit(int(not all(ok for _, ok in held)))


if __name__ == "__main__":
    main()
