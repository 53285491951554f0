"""Pruning in the midst of a watched training: on request, by policy and by command."""

import gc
import json
import logging
import weakref

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention

import tensorview
from tensorview.errors import ConfigurationError, PruningError
from tests.networks import make_training, train_steps
from tests.steering.helpers import ask, watched


def probe(samples=256):
    return torch.randn(samples, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def evaluate(model):
    """Loss on fixed samples."""
    images = probe(64)
    return F.cross_entropy(model(images), torch.arange(64) % 3)


@pytest.fixture
def quiet(tmp_path):
    """Keywords of a strict watch that writes into the test's own folder."""
    return {"run_dir": tmp_path / "run", "live": False, "probe": probe(), "strict": True}


def audit(tmp_path):
    path = tmp_path / "run" / "pruning.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_shortest_use_prunes_a_training_that_goes_on(quiet):
    """Two calls between two steps: a smaller network learns on, and the next capture shows it."""
    model, optimizer = make_training()
    with torch.no_grad():
        model.conv1.weight[3] = model.conv1.weight[1]
    with tensorview.watch(model, optimizer, every=5, **quiet) as watcher:
        parameters = list(model.parameters())
        train_steps(model, optimizer, 1)
        plan = watcher.redundant(layer="conv1", count=1, threshold=None)
        done = watcher.prune(plan)
        shapes = {layer.name: layer.weight_shape for layer in watcher.snapshot().layers}
        train_steps(model, optimizer, 4)
        status = watcher.status()

    assert done.removed == plan.removed
    assert shapes == {"conv1": (3, 1, 3, 3), "conv2": (6, 3, 3, 3), "fc": (3, 96)}
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in parameters}
    for parameter in parameters:
        assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape
    assert status.pruned == {"conv1": (3, 4)}
    assert "pruned: conv1 has 3 of 4 filters" in str(status)


def test_an_audit_line_says_what_was_done_and_why(tmp_path, quiet):
    """A line a layer: filters by present and original number, evidence, loss before and after."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=5, evaluate=evaluate, **quiet) as watcher:
        train_steps(model, optimizer, 3)
        watcher.prune(watcher.redundant("conv1", filters=[1]))
        train_steps(model, optimizer, 2)
        done = watcher.prune(watcher.redundant("conv1", filters=[1, 2]))

    first, second = audit(tmp_path)
    assert [line["step"] for line in (first, second)] == [3, 5]
    assert (first["filters"], first["original_filters"], first["left"]) == ([1], [1], 3)
    assert (second["filters"], second["original_filters"], second["left"]) == ([1, 2], [2, 3], 1)
    assert (second["before"], second["after"]) == (done.before, done.after)
    assert second["measure"] == "evaluate"
    assert second["applied"] is True
    assert second["origin"] == "python"
    assert [each["filter"] for each in second["evidence"]] == [1, 2]
    assert second["evidence"][0]["cost_merged"] is not None


def test_a_plan_that_training_has_overtaken_is_measured_anew(quiet):
    """The same filters go, by fits and costs of the weights as they are, on the plan's probe."""
    model, optimizer = make_training()
    larger = probe(300)
    with tensorview.watch(model, optimizer, every=50, **quiet) as watcher:
        train_steps(model, optimizer, 2)
        plan = watcher.redundant("conv2", filters=[0, 4], probe=larger)
        train_steps(model, optimizer, 3)
        done = watcher.prune(plan)

    assert done.removed == plan.removed == {"conv2": (0, 4)}
    assert done.checksum != plan.checksum
    assert done.after != plan.after
    assert (plan.layers[0].samples, done.layers[0].samples) == (300, 300)


def test_a_plan_whose_layer_has_been_pruned_since_is_refused(quiet):
    """One sentence, and nothing is changed."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, **quiet) as watcher:
        train_steps(model, optimizer, 1)
        plan = watcher.redundant("conv1", filters=[0])
        watcher.prune(plan)
        with pytest.raises(
            PruningError, match=r"^The plan does not fit the model: 'conv1\.weight'"
        ):
            watcher.prune(plan)

    assert model.conv1.out_channels == 3


def test_the_picture_shows_the_event(quiet):
    """The path goes on in a new segment with a mark, and the table counts the filters."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, every=2, **quiet) as watcher:
        train_steps(model, optimizer, 5)
        watcher.prune(watcher.redundant("conv1", filters=[2]))
        train_steps(model, optimizer, 3)
        snapshot = watcher.snapshot()

    conv1 = snapshot.layers[0].trajectories[0]
    steps = snapshot.trajectory_steps
    assert steps[np.flatnonzero(conv1.pruned)].tolist() == [5]
    assert conv1.pruned.max() == 1
    assert conv1.segment.tolist() == [int(step >= 5) for step in steps]
    filters = dict(zip(snapshot.scalars["step"], snapshot.scalars["conv1/filters"], strict=True))
    assert (filters[4], filters[5], filters[8]) == (4, 3, 3)


POLICY = {"keep": {"conv1": 2}, "at": (2, 4, 6, 8), "max_cost": 99.0}


def test_a_policy_prunes_until_it_has_what_it_wants(tmp_path, quiet):
    """At its steps, so many at a time, and no further than asked."""
    model, optimizer = make_training()
    policy = tensorview.PrunePolicy(**POLICY)
    with tensorview.watch(model, optimizer, evaluate=evaluate, prune=policy, **quiet):
        train_steps(model, optimizer, 9)

    assert model.conv1.out_channels == 2
    assert [(line["step"], line["left"]) for line in audit(tmp_path)] == [(2, 3), (4, 2)]
    assert {line["origin"] for line in audit(tmp_path)} == {"policy"}


def test_a_policy_of_several_at_once(tmp_path, quiet):
    """``count`` filters a layer go at one event, in one plan over its layers."""
    model, optimizer = make_training()
    policy = tensorview.PrunePolicy(
        keep={"conv1": 2, "conv2": 3}, at=[3], count=2, max_cost=99.0, mode="drop"
    )
    with tensorview.watch(model, optimizer, evaluate=evaluate, prune=policy, **quiet):
        train_steps(model, optimizer, 4)

    assert (model.conv1.out_channels, model.conv2.out_channels) == (2, 4)
    assert {line["mode"] for line in audit(tmp_path)} == {"drop"}


def test_a_policy_with_a_threshold_takes_what_is_flagged_only(tmp_path, quiet):
    """A copy goes; filters that resemble no other stay, whatever the policy would keep."""
    model, _ = make_training()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    with torch.no_grad():
        model.conv1.weight[3], model.conv1.bias[3] = model.conv1.weight[1], model.conv1.bias[1]
    policy = tensorview.PrunePolicy(keep={"conv1": 1}, at=[1, 2, 3], threshold=0.999, max_cost=99.0)
    with tensorview.watch(model, optimizer, evaluate=evaluate, prune=policy, **quiet) as watcher:
        train_steps(model, optimizer, 4)
        captures = watcher.status().captures

    (line,) = audit(tmp_path)
    assert line["step"] == 1
    assert line["filters"] in ([1], [3])
    assert model.conv1.out_channels == 3
    assert captures == 1  # none for the events that found nothing


def test_an_event_that_costs_too_much_is_given_up(tmp_path, quiet, caplog):
    """Nothing is removed, a WARNING says why, and the record has it."""
    model, optimizer = make_training()
    values = iter(range(1000))
    policy = tensorview.PrunePolicy(keep={"conv1": 2}, at=[3], max_cost=0.5)
    with (
        caplog.at_level(logging.WARNING),
        tensorview.watch(
            model, optimizer, evaluate=lambda _: float(next(values)), prune=policy, **quiet
        ),
    ):
        train_steps(model, optimizer, 5)

    assert model.conv1.out_channels == 4
    assert "Not pruned at step 3: evaluate would rise by" in caplog.text
    (line,) = audit(tmp_path)
    assert line["applied"] is False


def test_a_policy_that_fails_never_reaches_the_training(quiet):
    """The user's function raises in the midst: training goes on, and the fault is counted."""
    model, optimizer = make_training()

    def broken(_):
        raise ZeroDivisionError

    policy = tensorview.PrunePolicy(**POLICY)
    keywords = {**quiet, "strict": False}
    with tensorview.watch(model, optimizer, evaluate=broken, prune=policy, **keywords) as watcher:
        train_steps(model, optimizer, 9)
        status = watcher.status()

    assert status.step == 9
    assert status.faults == 4
    assert "evaluate failed with ZeroDivisionError" in status.last_fault
    assert model.conv1.out_channels == 4


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"prune": tensorview.PrunePolicy(**POLICY)},
            r"^prune= needs evaluate=: a function model -> float, lower is better",
        ),
        (
            {
                "prune": tensorview.PrunePolicy(**POLICY),
                "evaluate": evaluate,
                "activations": "batch",
            },
            r"^prune= needs probe= where activations='batch': a batch of at least 256 samples",
        ),
        ({"prune": 0.5, "evaluate": evaluate}, r"^prune=float cannot be used: expected a tensorv"),
        ({"evaluate": 0.3}, r"^evaluate=0\.3 cannot be used: expected a function of the model"),
        (
            {
                "prune": tensorview.PrunePolicy(keep={"conv9": 2}, at=[1], max_cost=1),
                "evaluate": evaluate,
            },
            r"^There is no watched layer 'conv9'\. Did you mean",
        ),
        (
            {
                "prune": tensorview.PrunePolicy(keep={"conv1": 4}, at=[1], max_cost=1),
                "evaluate": evaluate,
            },
            r"^PrunePolicy keep=\{'conv1': 4\} leaves nothing to prune: the layer has 4 filters\.$",
        ),
    ],
)
def test_what_a_watch_cannot_use_is_refused_where_it_is_given(tmp_path, keywords, message):
    """In one sentence, before anything is written."""
    model, optimizer = make_training()

    with pytest.raises(ConfigurationError, match=message):
        tensorview.watch(model, optimizer, run_dir=tmp_path / "run", live=False, **keywords)

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"keep": {}}, r"^PrunePolicy keep=\{\} cannot be used"),
        ({"keep": {"conv1": 0}}, r"^PrunePolicy keep=\{'conv1': 0\} cannot be used"),
        ({"at": []}, r"^PrunePolicy at=\[\] cannot be used: expected several steps"),
        ({"at": [0]}, r"^PrunePolicy at=\[0\] cannot be used"),
        ({"at": 100}, r"^PrunePolicy at=100 cannot be used: expected several steps"),
        ({"keep": ["conv1"]}, r"^PrunePolicy keep=\['conv1'\] cannot be used: expected a dict"),
        ({"max_cost": None}, r"^PrunePolicy max_cost=None cannot be used"),
        ({"max_cost": "0.1"}, r"^PrunePolicy max_cost='0\.1' cannot be used"),
        ({"threshold": "0.9"}, r"^threshold='0\.9' cannot be used"),
        ({"count": 0}, r"^PrunePolicy count=0 cannot be used"),
        ({"max_cost": -1.0}, r"^PrunePolicy max_cost=-1\.0 cannot be used"),
        ({"max_cost": float("nan")}, r"^PrunePolicy max_cost=nan cannot be used"),
        ({"threshold": 0.0}, r"^threshold=0\.0 cannot be used: expected a Pearson r above 0"),
        ({"threshold": 1.5}, r"^threshold=1\.5 cannot be used: expected a Pearson r above 0"),
        ({"mode": "delete"}, r"^mode='delete' cannot be used: expected 'merge' or 'drop'\.$"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused(keywords, message):
    """Each value is checked where it is given."""
    with pytest.raises(ConfigurationError, match=message):
        tensorview.PrunePolicy(**{**POLICY, **keywords})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layer": "conv3"}, ConfigurationError, r"no watched layer 'conv3'\. Did you mean"),
        ({"layer": "dropout"}, ConfigurationError, r"no watched layer 'dropout'\."),
        ({"threshold": 0.0}, ConfigurationError, r"^threshold=0\.0 cannot be used"),
        ({"threshold": 1.01}, ConfigurationError, r"^threshold=1\.01 cannot be used"),
        ({"threshold": None}, ConfigurationError, r"^threshold=None needs count="),
        ({"count": 0}, ConfigurationError, r"^count=0 cannot be used: expected 1 or more filters"),
        ({"mode": "add"}, ConfigurationError, r"^mode='add' cannot be used"),
        ({"filters": [1]}, ConfigurationError, r"^filters= needs layer="),
        ({"layer": "conv1", "filters": 5}, ConfigurationError, r"^filters=5 cannot be used: expec"),
        ({"layer": ["conv1"]}, ConfigurationError, r"no watched layer \['conv1'\]\."),
        ({"layer": "conv1", "probe": np.zeros(3)}, PruningError, r"^probe= is a ndarray: expected"),
        ({"layer": "conv1", "filters": [4]}, PruningError, r"'conv1'.* 4"),
        ({"layer": "conv1", "filters": [0, 1, 2, 3]}, PruningError, r"must stay\.$"),
        ({"layer": "fc"}, PruningError, r"^Cannot prune layer 'fc': no other layer reads its filt"),
        (
            {"layer": "conv1", "probe": torch.zeros(300, 2, 8, 8)},
            PruningError,
            r"probe cannot be taken by the model.*pass probe=",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(quiet, arguments, error, message):
    """One sentence each, and nothing of the training is changed."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, **quiet) as watcher:
        train_steps(model, optimizer, 1)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(error, match=message):
            watcher.redundant(**arguments)

        after = model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_policy_takes_whatever_numbers_there_are():
    """Ranges, generators and numpy's numbers; what was given may change afterwards."""
    keep = {"conv1": np.int64(3)}
    policy = tensorview.PrunePolicy(
        keep=keep, at=(step for step in np.arange(1, 4)), count=np.int32(2), max_cost=0
    )
    keep.clear()

    assert (policy.keep, set(policy.at), policy.count) == ({"conv1": 3}, {1, 2, 3}, 2)


def test_what_is_no_plan_is_not_done(quiet):
    """One sentence."""
    model, optimizer = make_training()
    with (
        tensorview.watch(model, optimizer, **quiet) as watcher,
        pytest.raises(ConfigurationError, match=r"^prune\(\) cannot use str: expected a plan"),
    ):
        watcher.prune("conv1")


def test_every_layer_is_planned_unless_one_is_named(quiet):
    """What cannot be pruned is told with its reason instead of raised."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, **quiet) as watcher:
        train_steps(model, optimizer, 1)
        plan = watcher.redundant()

    assert [each.layer for each in plan.layers] == ["conv1", "conv2"]
    assert plan.refused.keys() == {"fc"}
    assert "\nCannot prune layer 'fc': no other layer reads its filters." in str(plan)


def test_without_a_probe_there_is_nothing_to_judge_by(tmp_path):
    """Before the model was run, and after the watcher was closed: one sentence each."""
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, run_dir=tmp_path / "run", live=False) as watcher:
        with pytest.raises(PruningError, match=r"^There is no probe to judge filters on: give"):
            watcher.redundant("conv1")
        assert watcher.redundant("conv1", count=1, threshold=None, probe=probe()).removed
    with pytest.raises(PruningError, match=r"^Cannot prune: the watcher is closed"):
        watcher.redundant("conv1")


def test_distributed_training_is_not_pruned(quiet, monkeypatch):
    """The other processes would keep their filters: one sentence, nothing is changed."""
    monkeypatch.setattr("tensorview.capture.is_only_rank", lambda: False)
    model, optimizer = make_training()
    with tensorview.watch(model, optimizer, **quiet) as watcher:
        train_steps(model, optimizer, 1)
        plan = watcher.redundant("conv1", filters=[0])
        with pytest.raises(PruningError, match=r"^Cannot prune: in distributed training the other"):
            watcher.prune(plan)

    assert model.conv1.out_channels == 4


def test_a_model_wrapped_for_distributed_training_is_not_pruned(quiet):
    """Also in one process: the wrapper keeps buffers for gradients of the old shapes."""

    class Wrapped(torch.nn.parallel.DistributedDataParallel):
        def __init__(self, module):
            torch.nn.Module.__init__(self)
            self.module = module

        def forward(self, images):
            return self.module(images)

    model, optimizer = make_training()
    wrapped = Wrapped(model)
    with tensorview.watch(wrapped, optimizer, **quiet) as watcher:
        train_steps(wrapped, optimizer, 1)
        with pytest.raises(PruningError, match=r"^Cannot prune: in distributed training the other"):
            watcher.prune(watcher.redundant("conv1", filters=[0]))


def test_a_record_that_cannot_be_written_stops_nothing(tmp_path, quiet, caplog):
    """The event is done, seen and counted; one WARNING says what is not written."""
    model, optimizer = make_training()
    keywords = {**quiet, "strict": False}
    with tensorview.watch(model, optimizer, every=2, **keywords) as watcher:
        train_steps(model, optimizer, 1)
        (tmp_path / "run" / "pruning.jsonl").mkdir()
        watcher.prune(watcher.redundant("conv1", filters=[1]))
        train_steps(model, optimizer, 3)
        status = watcher.status()

    assert (status.pruned, status.faults) == ({"conv1": (3, 4)}, 0)
    assert watcher.snapshot().layers[0].weight_shape == (3, 1, 3, 3)
    assert "pruning.jsonl is not written: " in caplog.text


def test_a_capture_that_fails_after_an_event_does_not_hide_it(quiet, monkeypatch):
    """The plan is returned, the filters are counted, and the fault is, too."""
    model, optimizer = make_training()
    keywords = {**quiet, "strict": False}
    with tensorview.watch(model, optimizer, every=50, **keywords) as watcher:
        train_steps(model, optimizer, 1)
        plan = watcher.redundant("conv1", filters=[1])

        def fail(*_, **__):
            raise MemoryError

        monkeypatch.setattr(watcher._capturer, "begin", fail)
        done = watcher.prune(plan)
        monkeypatch.undo()
        status = watcher.status()

    assert done.removed == {"conv1": (1,)}
    assert status.pruned == {"conv1": (3, 4)}
    assert status.last_fault.startswith("MemoryError")


def test_a_selection_keeps_its_filters(tmp_path):
    """What was picked is the same filters under their new numbers, whoever prunes."""
    with watched(tmp_path, probe=probe()) as (watcher, run):
        ask(watcher, run, "select", layer="conv1", filters=[1, 3])
        ask(watcher, run, "select", layer="conv2", filters=[0])
        watcher.prune(watcher.redundant("conv1", filters=[1, 2]))

        assert watcher.selected == {"conv1": (1,), "conv2": (0,)}


class Residual(torch.nn.Module):
    """Two layers whose filters go together."""

    def __init__(self):
        super().__init__()
        self.a = torch.nn.Conv2d(1, 5, 3, padding=1)
        self.b = torch.nn.Conv2d(1, 5, 3, padding=1)
        self.head = torch.nn.Conv2d(5, 2, 1)

    def forward(self, x):
        return self.head(torch.relu(self.a(x) + self.b(x)))


def test_the_record_tells_what_went_along(tmp_path, quiet):
    """Layers that are tied have one history, by whichever of them was asked for."""
    torch.manual_seed(0)
    model = Residual()
    with tensorview.watch(model, **quiet) as watcher:
        watcher.step()
        watcher.prune(watcher.redundant("a", filters=[0]))
        watcher.prune(watcher.redundant("b", filters=[0]))

    first, second = audit(tmp_path)
    assert (first["layer"], first["along"], first["original_filters"]) == ("a", ["b"], [0])
    assert (second["layer"], second["along"], second["original_filters"]) == ("b", ["a"], [1])


def test_a_policy_for_tied_layers_prunes_what_it_can(tmp_path, quiet, caplog):
    """Of two that go together one is pruned; why the other is not is said once."""
    torch.manual_seed(0)
    model = Residual()
    policy = tensorview.PrunePolicy(keep={"a": 3, "b": 3}, at=(1, 2, 3), max_cost=99.0)
    with tensorview.watch(
        model, evaluate=lambda m: float(m(probe(8)).square().mean()), prune=policy, **quiet
    ) as watcher:
        for _ in range(3):
            watcher.step()

    assert [line["layer"] for line in audit(tmp_path)] == ["a", "a"]
    assert caplog.text.count("Cannot prune layer 'b' beside 'a'") == 1


def test_another_watcher_of_the_same_layers_says_what_happened(tmp_path, quiet):
    """A part that is watched by itself, pruned by the whole: one sentence, no riddle."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(Residual(), torch.nn.Flatten())
    keywords = {"live": False, "every": 1, "probe": probe()}
    with (
        tensorview.watch(model[0], run_dir=tmp_path / "part", **keywords) as part,
        tensorview.watch(model, **(quiet | {"every": 1})) as whole,
    ):
        whole.step()
        whole.prune(whole.redundant("0.a", filters=[0]))
        part.step()
        fault = part.status().last_fault

    assert fault.startswith(
        "CaptureError: Layer 'a' has a weight of shape (4, 1, 3, 3), and had (5, 1, 3, 3): remove "
        "filters by this watcher's prune(), or watch the model anew."
    )


def test_a_closed_watcher_keeps_nothing_of_the_model_alive(quiet):
    """Not by its user's function either, which may be a method of what holds the model."""

    class Trainer:
        def __init__(self):
            self.model, self.optimizer = make_training()

        def validate(self, _):
            return 1.0

    trainer = Trainer()
    alive = weakref.ref(trainer.model)
    watcher = tensorview.watch(trainer.model, trainer.optimizer, evaluate=trainer.validate, **quiet)
    train_steps(trainer.model, trainer.optimizer, 1)
    watcher.close()
    del trainer
    gc.collect()

    assert alive() is None
    assert watcher.status().step == 1


def test_filters_are_judged_on_a_probe_that_no_view_shows(tmp_path):
    """Without a view of activations a probe that was given serves pruning."""
    model, optimizer = make_training()
    with tensorview.watch(
        model, optimizer, views=["weights"], probe=probe(), run_dir=tmp_path / "run", live=False
    ) as watcher:
        train_steps(model, optimizer, 1)
        assert watcher.redundant("conv1", filters=[0]).removed == {"conv1": (0,)}


def test_a_command_prunes_where_it_is_allowed(tmp_path):
    """From a client: the answer says what is left and what it cost; a selection is forgotten."""
    with watched(tmp_path, probe=probe()) as (watcher, run):
        assert ask(watcher, run, "select", layer="conv1", filters=[1]).state == "applied"
        answer = ask(watcher, run, "prune", layer="conv1", filters=[1, 3])
        flagged = ask(watcher, run, "prune", layer="conv1", filters=None)
        beyond = ask(watcher, run, "prune", layer="conv1", filters=[2])
        refused = ask(watcher, run, "prune", layer="fc", filters=[0])

        assert answer.state == "applied"
        assert answer.message.startswith("conv1 has 2 filters now; output_change 0 -> ")
        assert watcher.model.conv1.out_channels == 2
        assert watcher.selected == {}
    assert flagged.message == "Nothing of conv1 is redundant."
    assert (beyond.state, beyond.message) == (
        "refused",
        "Layer 'conv1' has 2 filters, 0 to 1: there is no 2.",
    )
    assert refused.state == "refused"
    assert refused.message.startswith("Cannot prune layer 'fc': no other layer reads its filters")


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_smaller_model_compiles(quiet, backend):
    """Compiled before or after pruning, it computes what the eager one does, and trains."""
    model, optimizer = make_training()
    compiled = torch.compile(model, backend=backend)
    with tensorview.watch(compiled, optimizer, **quiet) as watcher:
        train_steps(compiled, optimizer, 2)
        watcher.prune(watcher.redundant("conv1", filters=[0, 2]))
        train_steps(compiled, optimizer, 2)

    model.eval()
    anew = torch.compile(model, backend=backend)
    with torch.no_grad():
        expected = model(probe(4))
        torch.testing.assert_close(compiled(probe(4)), expected)
        torch.testing.assert_close(anew(probe(4)), expected)
    torch._dynamo.reset()


def test_planning_leaves_a_training_bit_for_bit_as_it_would_be(tmp_path):
    """With a plan made after every second step, all weights end equal to those without us."""

    def train(**keywords):
        model, optimizer = make_training()
        plan = keywords.pop("plan", False)
        watcher = (
            tensorview.watch(
                model, optimizer, run_dir=tmp_path / "run", live=False, probe=probe(), **keywords
            )
            if plan
            else None
        )
        for _ in range(3):
            train_steps(model, optimizer, 2)
            if watcher:
                watcher.redundant(threshold=0.5)
        if watcher:
            watcher.close()
        return [parameter.detach() for parameter in model.parameters()]

    alone = train()
    observed = train(plan=True, evaluate=evaluate, strict=True)

    assert all(torch.equal(a, b) for a, b in zip(alone, observed, strict=True))
