"""Hold pruning to its word: a table of what must be reached and what is, and FAIL where it is not.

Trains LeNet-5 on MNIST unpruned, merged and dropped for each seed, prunes a trained ResNet-20, and
merges a filter that is a copy. What was measured stays in --out and is not measured again; so a
benchmark that was interrupted goes on, and seeds may be measured by several processes at a time.

Usage: TENSORVIEW_DATA=<folder> python benchmarks/pruning.py
"""

import argparse
import copy
import json
import logging
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import prune_lenet5
import prune_resnet20
from lenet5_mnist import parse_with_data
from networks import LeNet5
from resnet20_cifar10 import in_shared

from tensorview.whole_files import replace_file

PARTS = ("copy", "resnet20", "lenet5")
LONG_EPOCHS = 40
PAPER = 99.17
"""Test accuracy in per cent of Chen et al., 2018, after 40 epochs."""


@dataclass(frozen=True)
class Row:
    """One line of the table; *ok* is None where nothing is required."""

    work: str
    limit: str
    value: str
    ok: bool | None = None

    def __str__(self):
        """As a line of Markdown."""
        verdict = {None: "-", True: "ok", False: "FAIL"}[self.ok]
        return f"| {self.work} | {self.limit} | {self.value} | {verdict} |"


def known(folder, name, measure):
    """Return what *folder* knows by *name*; measure it first if that is nothing."""
    path = folder / f"{name}.json"
    if not path.exists():
        result = measure()
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(result, indent=1).encode() + b"\n")
    return json.loads(path.read_text())


def measure_copy():
    """Merge a filter that is another one, scaled; return the largest change of any output."""
    torch.manual_seed(0)
    model = LeNet5().eval()
    with torch.no_grad():
        for tensor in (model.conv1.weight, model.conv1.bias):
            tensor[5] = 2.5 * tensor[3]
    images, labels = torch.rand(1000, 1, 28, 28), torch.randint(10, (1000,))
    smaller = prune_lenet5.pruned_copy(
        model, (images, labels), mode="merge", threshold=None, filters=[5]
    )
    with torch.no_grad():
        return {"change": float((smaller(images) - model(images)).abs().max())}


def measure_resnet20(layers):
    model, judges, scored = prune_resnet20.load(
        in_shared("resnet20_state_dict.pt"), in_shared("cifar10_test_1000.npz")
    )
    plan, change, scores, _ = prune_resnet20.take_dead_out(
        copy.deepcopy(model), judges, scored, layers=layers, formats=(), live=False
    )
    can_be_pruned = [each.layer for each in plan.layers]
    lost = prune_resnet20.lost_by_layer(model, judges, scored, layers=can_be_pruned)
    return {"dead": plan.removed, "change": change, "accuracy": scores, "lost": lost}


def measure_lenet5(arm, data, *, seed, epochs):
    with tempfile.TemporaryDirectory() as folder:
        return prune_lenet5.train(arm, data, seed=seed, epochs=epochs, run_dir=Path(folder) / "run")


def copy_rows(found):
    change = found["change"]
    yield Row("a scaled copy merged: change of outputs", "<= 1e-6", f"{change:.1g}", change <= 1e-6)


def resnet20_rows(found, *, judged):
    dead = sum(map(len, found["dead"].values()))
    yield Row(
        f"ResNet-20, {dead} dead filters out: change of outputs",
        "<= 1e-5",
        f"{found['change']:.1g}",
        found["change"] <= 1e-5,
    )
    ways = prune_resnet20.WAYS
    means = [fmean(lost[way] for lost in found["lost"].values()) for way in ways]
    work = "ResNet-20, 4 filters out of one layer, mean points lost"
    ok = means[0] < means[2] / 2 if judged else None
    yield Row(f"{work}: {ways[0]}", f"< half of {means[2]:.2f}, {ways[2]}", f"{means[0]:.2f}", ok)
    yield Row(f"{work}: {ways[1]}", "reported", f"{means[1]:.2f}")


def lenet5_rows(found, *, judged):
    """Lay out all seeds; *found* has a dictionary by arm for each."""

    def row(work, limit, values, ok, digits=2):
        value = " / ".join(f"{value:.{digits}f}" for value in values)
        return Row(f"LeNet-5, {work}", limit, value, ok if judged else None)

    final = {arm: [seed[arm]["accuracy"] for seed in found] for arm in prune_lenet5.ARMS}
    apart = [
        round(merged - unpruned, 2)
        for merged, unpruned in zip(final["merge"], final["unpruned"], strict=True)
    ]
    filters = [seed[arm]["filters"] for seed in found for arm in prune_lenet5.MODES]
    events = [event["lost"] for seed in found for event in seed["merge"]["events"]]
    together = [each["lost"]["merge"] for seed in found for each in seed["unpruned"]["together"]]
    worst, worst_together = (max(each) for each in ([event["merge"] for event in events], together))
    means = [fmean(event[mode] for event in events) for mode in prune_lenet5.MODES]
    yield Row(
        "LeNet-5, filters of conv1, merged and dropped",
        f"{prune_lenet5.KEEP}",
        " / ".join(map(str, filters)),
        set(filters) == {prune_lenet5.KEEP},
    )
    yield row("unpruned: test accuracy", "reported", final["unpruned"], ok=None)
    yield row("merged: test accuracy", ">= 98.9", final["merge"], min(final["merge"]) >= 98.9)
    yield row("merged less unpruned", ">= -0.20", apart, min(apart) >= -0.20)
    yield row("dropped: test accuracy", "reported", final["drop"], ok=None)
    yield row("lost at once, worst event, merged", "<= 0.25", [worst], round(worst, 2) <= 0.25)
    yield row(
        "lost at once, all four together, worst, merged",
        "<= 0.20",
        [worst_together],
        round(worst_together, 2) <= 0.20,
    )
    yield row(
        "lost at once, mean of all events: merged, dropped",
        "merged lower",
        means,
        means[0] < means[1],
        digits=3,
    )


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--long", action="store_true", help="40 epochs too, with the first seed")
    parser.add_argument("--quick", action="store_true", help="next to no data: only to see it run")
    parser.add_argument("--json", type=Path, help="where the table goes as JSON")
    parser.add_argument(
        "--out",
        type=Path,
        default="tensorview_runs/benchmark-pruning",
        help="where what was measured stays (default: %(default)s)",
    )
    return parse_with_data(parser)


def rows(options):
    """Measure what is not known yet, and yield the table."""
    out, judged = options.out / ("quick" if options.quick else "full"), not options.quick
    epochs, images = (4, 500) if options.quick else (10, None)
    data = None

    def lenet5(arm, seed, epochs):
        def measure():
            nonlocal data
            data = data or prune_lenet5.load(options.data, images)
            return measure_lenet5(arm, data, seed=seed, epochs=epochs)

        return known(out, f"lenet5-{arm}-seed-{seed}-epochs-{epochs}", measure)

    if "copy" in options.part:
        yield from copy_rows(known(out, "copy", measure_copy))
    if "resnet20" in options.part:
        layers = ["layer1.0.conv1"] if options.quick else None
        found = known(out, "resnet20", lambda: measure_resnet20(layers))
        yield from resnet20_rows(found, judged=judged)
    if "lenet5" in options.part:
        arms = prune_lenet5.ARMS
        found = [{arm: lenet5(arm, seed, epochs) for arm in arms} for seed in options.seed]
        yield from lenet5_rows(found, judged=judged)
    if options.long:
        found = lenet5("merge", options.seed[0], LONG_EPOCHS)
        yield Row(
            f"LeNet-5, merged, {LONG_EPOCHS} epochs: test accuracy",
            f"aim: {PAPER}",
            f"{found['accuracy']:.2f}",
        )


def main():
    options = parse()
    torch.set_num_threads(1)
    logging.getLogger("tensorview").setLevel(logging.ERROR)
    table = list(rows(options))
    print("| work | limit | value | |\n|---|---|---|---|")
    print("\n".join(map(str, table)))
    if options.json:
        replace_file(options.json, json.dumps([asdict(row) for row in table], indent=1).encode())
    sys.exit(int(any(row.ok is False for row in table)))


if __name__ == "__main__":
    main()
