"""The loss across a prune event: optimizer state that loses the removed entries, or is reset.

Trains LeNet-5 on MNIST with Adam, removes two filters of conv1, and goes on twice from the same
weights, on the same batches and with the same dropout: with the state as tensorview leaves it, and
with the state thrown away, as where a new optimizer is made. Prints the loss after each step and
how far the first update goes. Ends with 1 if the curve with the kept state is not the steadier one.
"""

import argparse
import copy
import json
import os
import sys
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from lenet5_mnist import mnist  # found beside this folder
from networks import LeNet5

import tensorview

BATCH = 100
SHOWN = (0, 1, 2, 5, 8, 12, 20, 50)


def train(model, optimizer, data, *, steps, seed, after=lambda _: None):
    """Train for *steps* steps on batches that *seed* chooses; ``after(step)`` follows each."""
    images, labels = data
    torch.manual_seed(seed)
    for step in range(1, steps + 1):
        chosen = torch.randint(len(labels), (BATCH,))
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after(step)


def loss_on(model, data):
    """Return the loss in evaluation mode; the model goes on in training mode."""
    model.eval()
    with torch.no_grad():
        loss = F.cross_entropy(model(data[0]), data[1])
    model.train()
    return float(loss)


def compare(data, *, before, after, judged, seed=0):
    """Train, prune, and go on with the state kept and reset.

    Args:
        data: images and labels.
        before: steps before filters go.
        after: steps after.
        judged: so many images measure the loss.
        seed: of everything random.

    Returns:
        By arm, ``"kept"`` and ``"reset"``: the loss after each step, the first being that of right
        after the event, and the length of the first update.
    """
    held = tuple(part[-judged:] for part in data)
    torch.manual_seed(seed)
    model = LeNet5()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train(model, optimizer, data, steps=before, seed=seed)
    with tensorview.watch(
        model, optimizer, probe=data[0][:1000], formats=(), live=False
    ) as watcher:
        watcher.prune(watcher.redundant("conv1", threshold=None, count=2))
    results = {}
    for arm in ("kept", "reset"):
        twin, own = copy.deepcopy((model, optimizer))
        if arm == "reset":
            own.state.clear()
        start = torch.nn.utils.parameters_to_vector(twin.parameters()).detach().clone()
        losses, lengths = [loss_on(twin, held)], []

        def note(step, twin=twin, start=start, losses=losses, lengths=lengths):
            if step == 1:
                now = torch.nn.utils.parameters_to_vector(twin.parameters()).detach()
                lengths.append(float((now - start).norm()))
            losses.append(loss_on(twin, held))

        train(twin, own, data, steps=after, seed=seed + 1, after=note)
        results[arm] = {"losses": losses, "first_update": lengths[0]}
    return results


def largest_rise(losses):
    """By how much the loss rises above that of right after the event, within the first 20 steps."""
    return max(losses[1:21]) / losses[0] - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("TENSORVIEW_DATA"),
        help="folder that holds MNIST's IDX files (default: TENSORVIEW_DATA)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it works")
    parser.add_argument("--json", type=Path, help="write the results there, too")
    options = parser.parse_args()
    if options.data is None:
        sys.exit("No data: give --data the folder that holds MNIST's IDX files.")
    data = mnist(options.data, "train")
    sizes = {"before": 1080, "after": 50, "judged": 2000}
    if options.quick:
        sizes = {"before": 120, "after": 20, "judged": 500}
    results = compare(data, seed=options.seed, **sizes)
    kept, reset = results["kept"], results["reset"]
    shown = [step for step in SHOWN if step <= sizes["after"]]
    print(f"| loss after so many steps | {' | '.join(map(str, shown))} | first update |")
    print("|---" * (len(shown) + 2) + "|")
    for arm, result in results.items():
        losses = " | ".join(f"{result['losses'][step]:.4f}" for step in shown)
        print(f"| state {arm} | {losses} | {result['first_update']:.3f} |")
    print(
        f"\nThe first update is {reset['first_update'] / kept['first_update']:.1f} times as long "
        f"after a reset; the loss rises by up to {largest_rise(kept['losses']):.1%} with the state "
        f"kept, {largest_rise(reset['losses']):.1%} with it reset."
    )
    if options.json:
        options.json.write_text(json.dumps(results))
    steadier = largest_rise(kept["losses"]) < largest_rise(reset["losses"])
    if not (steadier and reset["first_update"] > 2 * kept["first_update"]):
        sys.exit("FAIL: the curve with the kept state is not the steadier one.")


if __name__ == "__main__":
    main()
