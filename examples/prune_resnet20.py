"""Prune a trained ResNet-20: first its dead filters, then four more of one layer at a time.

Half of the images judge filters, the other half scores; nothing is trained. Every layer that can be
pruned is tried on copies of its own: the four filters that are least missed are merged into those
that stay, or dropped; or those are dropped that are most alike by Pearson r. The run that is
written shows the network as it came, and without its dead filters.
"""

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from networks import ResNet20, accuracy
from resnet20_cifar10 import cifar_images, in_shared, weights_of
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention
from tqdm import tqdm

import tensorview

WAYS = ("least missed, merged", "least missed, dropped", "most alike, dropped")
GOING = 4
MEASURED = 250
"""Of the images that judge, so many measure the loss; all of them are what merges are fitted on."""


def load(weights, images):
    """Return the network, images and labels that judge, images and labels that score."""
    model = ResNet20().eval()
    if weights is None:
        print("No --weights: random ones are used, so no filter is dead.")
    else:
        model.load_state_dict(weights_of(weights))
    pictures, labels = cifar_images(images)
    half = len(labels) // 2
    return model, (pictures[:half], labels[:half]), (pictures[half:], labels[half:])


def watched(model, judges, **watching):
    """Watch *model* with what filters are to be judged by."""
    images, labels = judges[0][:MEASURED], judges[1][:MEASURED]
    return tensorview.watch(
        model,
        probe=judges[0],
        evaluate=lambda model: float(F.cross_entropy(model(images), labels)),
        **watching,
    )


def take_dead_out(model, judges, scored, **watching):
    """Take dead filters out of *model* in sight of a run; return the plan and what came of it.

    Returns:
        The plan, the largest difference of any output on all images, accuracy in per cent before
        and after, and the run directory.
    """
    images = torch.cat([judges[0], scored[0]])
    before = accuracy(model, *scored)
    with watched(model, judges, every=1, **watching) as watcher, torch.no_grad():
        outputs = model(images)
        watcher.step()
        watcher.step()  # a step at which filters go is captured without them
        plan = watcher.prune(watcher.redundant(threshold=1.0))
        change = float((model(images) - outputs).abs().max())
    scores = [100 * before, 100 * accuracy(model, *scored)]
    return plan, change, scores, watcher.status().run_dir


def most_alike(model, layer, images):
    """Choose filters by Pearson r alone: of the pair that is most alike one goes, and so on."""
    with tensorview.watch(
        model, layers=[layer], views=["correlation"], probe=images, formats=(), live=False
    ) as watcher:
        watcher.step()
        pcc = np.tril(np.nan_to_num(watcher.snapshot().layers[0].activations.pcc), -1)
    chosen = []
    for _ in range(GOING):
        chosen.append(int(np.unravel_index(pcc.argmax(), pcc.shape)[0]))
        pcc[chosen], pcc[:, chosen] = -1, -1
    return chosen


def smaller_copy(model, layer, judges, **wanted):
    """Return a copy of *model* without some filters of *layer*, and which these are."""
    smaller = copy.deepcopy(model)
    with watched(smaller, judges, layers=[layer], formats=(), live=False) as watcher:
        plan = watcher.redundant(layer, threshold=None, **wanted)
    plan.apply(smaller)
    return smaller, plan.removed[layer]


def lost_by_layer(model, judges, scored, *, layers):
    """Return, by layer and way, points of accuracy lost where four of its filters go."""
    before = accuracy(model, *scored)
    # To drop filters that are chosen already, nothing has to be judged.
    few = tuple(part[:50] for part in judges)
    lost = {}
    for layer in tqdm(layers, desc="four filters of", unit="layer"):
        merged, least = smaller_copy(model, layer, judges, count=GOING)
        alike = most_alike(model, layer, judges[0])
        dropped, _ = smaller_copy(model, layer, few, filters=least, mode="drop")
        without, _ = smaller_copy(model, layer, few, filters=alike, mode="drop")
        networks = zip(WAYS, (merged, dropped, without), strict=True)
        lost[layer] = {way: 100 * (before - accuracy(each, *scored)) for way, each in networks}
    return lost


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=in_shared("resnet20_state_dict.pt"))
    parser.add_argument("--images", type=Path, default=in_shared("cifar10_test_1000.npz"))
    parser.add_argument("--layers", nargs="+", help="to be pruned (default: all that can be)")
    parser.add_argument("--run-dir", help="where the files go")
    options = parser.parse_args()
    model, judges, scored = load(options.weights, options.images)
    plan, change, scores, run = take_dead_out(
        copy.deepcopy(model), judges, scored, layers=options.layers, run_dir=options.run_dir
    )
    print(*plan.layers, sep="\n")
    if plan.refused:
        why = next(iter(plan.refused.values()))
        print(f"{len(plan.refused)} layers cannot be pruned, for example: {why}")
    dead = sum(len(filters) for filters in plan.removed.values())
    print(f"\n{dead} dead filters out: outputs differ by {change:.1g} at most, accuracy")
    print(f"on {len(scored[1])} images {scores[0]:.1f} % -> {scores[1]:.1f} %; run: {run}\n")
    layers = [each.layer for each in plan.layers]
    lost = lost_by_layer(model, judges, scored, layers=layers)
    print(f"\nPoints of accuracy lost, {GOING} filters out of one layer:\n")
    print(f"| layer | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}")
    lost["mean"] = {way: sum(each[way] for each in lost.values()) / len(lost) for way in WAYS}
    for layer, each in lost.items():
        print(f"| {layer} | {' | '.join(f'{each[way]:.2f}' for way in WAYS)} |")


if __name__ == "__main__":
    main()
