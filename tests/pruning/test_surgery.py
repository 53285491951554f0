"""Filters leave the real model and its optimizers, together or not at all."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tensorview.errors import PruningError
from tensorview.pruning.structure import Cut, Structure
from tensorview.pruning.surgery import check, kept, remove
from tests.pruning.networks import (
    DenseNet,
    ProjectedResNet,
    TwoConvs,
    UNet,
    images,
    lively,
    outputs,
    silence,
    structure_of,
)

KINDS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, 0.01),
    "SGD momentum": lambda parameters: torch.optim.SGD(parameters, 0.01, momentum=0.9),
    "SGD nesterov": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True),
    "Adam": lambda parameters: torch.optim.Adam(parameters, 0.01),
    "Adam amsgrad": lambda parameters: torch.optim.Adam(parameters, 0.01, amsgrad=True),
    "AdamW foreach": lambda parameters: torch.optim.AdamW(parameters, 0.01, foreach=True),
    "AdamW fused": lambda parameters: torch.optim.AdamW(parameters, 0.01, fused=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    "Adagrad": lambda parameters: torch.optim.Adagrad(parameters, 0.01),
    "Adadelta": lambda parameters: torch.optim.Adadelta(parameters, 0.1),
    "Adamax": lambda parameters: torch.optim.Adamax(parameters, 0.01),
    "NAdam": lambda parameters: torch.optim.NAdam(parameters, 0.01),
    "RAdam": lambda parameters: torch.optim.RAdam(parameters, 0.01),
    "Rprop": lambda parameters: torch.optim.Rprop(parameters, 0.01),
    "ASGD": lambda parameters: torch.optim.ASGD(parameters, 0.01),
}
REMOVED = [0, 5]


class Net(TwoConvs):
    """Has BatchNorm, so that every kind of parameter shrinks."""

    def __init__(self):
        super().__init__(nn.BatchNorm2d(6))
        lively(self)
        self.between.eval()  # in training mode the bias before it would have no gradient


def step(model, optimizer, *, seed=3):
    """One step of training; the loss stays alive in the caller, as in a user's loop."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(4, 3, 8, 8, generator=generator)

    def closure():
        optimizer.zero_grad()
        loss = model(batch).square().sum()
        loss.backward()
        return loss

    return optimizer.step(closure)


def selected(name, tensor):
    """What should be left of a parameter of `Net`, or of anything of its shape."""
    stay = torch.tensor([i for i in range(6) if i not in REMOVED])
    if name.startswith(("conv1.", "between.")):
        return tensor.index_select(0, stay)
    return tensor.index_select(1, stay) if name == "conv2.weight" else tensor


def everything(model, optimizers=()):
    """A copy of all that surgery may change, to compare exactly."""
    found = {name: value.clone() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[f"{name}.grad"] = parameter.grad.clone()
        for number, optimizer in enumerate(optimizers):
            for key, value in optimizer.state.get(parameter, {}).items():
                found[f"{name} {number} {key}"] = copy.deepcopy(value)
    for name, module in model.named_modules():
        for key in ("in_channels", "out_channels", "num_features", "in_features", "out_features"):
            if hasattr(module, key):
                found[f"{name}.{key}"] = getattr(module, key)
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(found[key], value), key
        else:
            assert repr(found[key]) == repr(value), key


class TestOptimizers:
    @pytest.mark.parametrize("kind", KINDS)
    def test_state_is_selected_and_nothing_freezes(self, kind):
        """State is what it was, entry by entry; the next step moves every parameter that shrank."""
        model = Net()
        optimizer = KINDS[kind](model.parameters())
        loss = [step(model, optimizer) for _ in range(3)][-1]
        parameters, groups = list(model.parameters()), copy.copy(optimizer.param_groups[0])
        names = {parameter: name for name, parameter in model.named_parameters()}
        expected = {
            names[parameter]: {
                key: selected(names[parameter], value.clone())
                if isinstance(value, torch.Tensor) and value.ndim
                else copy.deepcopy(value)
                for key, value in state.items()
            }
            for parameter, state in optimizer.state.items()
        }
        weights = {name: selected(name, p.detach().clone()) for name, p in names_of(model)}
        gradients = {name: selected(name, p.grad.clone()) for name, p in names_of(model)}
        remove(model, structure_of(model, "conv1", images()), REMOVED, optimizers=[optimizer])

        assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
        assert_same({name: p.detach() for name, p in names_of(model)}, weights)
        assert_same({name: p.grad for name, p in names_of(model)}, gradients)
        for parameter, state in optimizer.state.items():
            assert_same(state, expected[names[parameter]])
        assert (
            optimizer.param_groups[0].items()
            >= {
                **groups,
                "params": optimizer.param_groups[0]["params"],
            }.items()
        )

        saved = copy.deepcopy(optimizer.state_dict())
        again = KINDS[kind](model.parameters())
        again.load_state_dict(saved)
        assert_same(again.state_dict()["state"].get(0, {}), saved["state"].get(0, {}))

        before = {name: p.detach().clone() for name, p in names_of(model)}
        step(model, optimizer, seed=4)
        for name, parameter in names_of(model):
            assert not torch.equal(parameter, before[name]), name
        assert torch.isfinite(loss)

    def test_the_training_goes_on_as_with_silenced_filters(self):
        """With the state carried over, ten steps give what they give with zeros held at zero."""
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        batch = torch.randn(8, 4)

        def train(net, its, count):
            for _ in range(count):
                its.zero_grad()
                net(batch).square().sum().backward()
                for mask, parameter in masks.get(id(net), ()):
                    parameter.grad.mul_(mask)
                its.step()

        masks = {}
        train(model, optimizer, 5)
        twin = copy.deepcopy(model)
        other = torch.optim.Adam(twin.parameters(), 0.01)
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        mask = torch.ones(3, 6)
        mask[:, [1, 4]] = 0
        twin[2].weight.data *= mask
        for key in ("exp_avg", "exp_avg_sq"):
            other.state[twin[2].weight][key] *= mask
        masks[id(twin)] = [(mask, twin[2].weight)]
        remove(model, structure_of(model, "0", batch), [1, 4], optimizers=[optimizer])
        train(model, optimizer, 10)
        train(twin, other, 10)

        assert torch.allclose(model(batch), twin(batch), atol=1e-6)

    @pytest.mark.parametrize("kind", ["SGD momentum", "Adam"])
    def test_before_the_first_step(self, kind):
        """State that is not there yet needs no care."""
        model = Net()
        optimizer = KINDS[kind](model.parameters())
        remove(model, structure_of(model, "conv1", images()), REMOVED, optimizers=[optimizer])
        step(model, optimizer)

        assert optimizer.state[model.conv1.weight]
        assert model.conv1.weight.shape[0] == 4

    def test_between_backward_and_step(self):
        """Gradients lose the same entries, so that the step that follows is not lost."""
        model, batch = Net(), images()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        model(batch).square().sum().backward()
        expected = {
            name: selected(name, p.detach() - 0.1 * p.grad).clone() for name, p in names_of(model)
        }
        remove(model, structure_of(model, "conv1", batch), REMOVED, optimizers=[optimizer])
        optimizer.step()

        for name, parameter in names_of(model):
            assert torch.allclose(parameter, expected[name], atol=1e-7), name

    def test_several_optimizers_and_groups(self):
        """Each follows the parameters that it has, and one of another model is left alone."""
        model, stranger = Net(), nn.Linear(2, 2)
        first = torch.optim.Adam([{"params": model.conv1.parameters(), "lr": 0.3}])
        second = torch.optim.SGD([*model.conv2.parameters(), *model.fc.parameters()], momentum=0.9)
        other = torch.optim.LBFGS(stranger.parameters())
        for optimizer in (first, second):
            step(model, optimizer)
        other.step(lambda: stranger(torch.ones(1, 2)).sum())
        structure = structure_of(model, "conv1", images())
        remove(model, structure, REMOVED, optimizers=[first, second, other])

        assert first.state[model.conv1.weight]["exp_avg"].shape == (4, 3, 3, 3)
        assert second.state[model.conv2.weight]["momentum_buffer"].shape == (8, 4, 3, 3)
        assert first.param_groups[0]["lr"] == 0.3

    @pytest.mark.parametrize(
        ("kind", "key"),
        [(torch.optim.Adafactor, "row_var"), (torch.optim.LBFGS, "al")],
        ids=["Adafactor", "LBFGS"],
    )
    @pytest.mark.parametrize("call", [check, remove])
    def test_state_of_another_shape_is_refused(self, kind, key, call):
        """Factored and flattened state cannot be followed; nothing is changed."""
        model = Net()
        optimizer = kind(model.parameters(), lr=1e-3)
        for seed in (1, 2):
            step(model, optimizer, seed=seed)
        structure = structure_of(model, "conv1", images())
        before = everything(model, [optimizer])
        with pytest.raises(PruningError) as caught:
            call(model, structure, REMOVED, optimizers=[optimizer])

        assert str(caught.value) == (
            f"Cannot prune layer 'conv1' while {kind.__name__} updates it: its state {key!r} has "
            f"not the shape of its parameter, so which entries belong to a filter is not known."
        )
        assert_same(everything(model, [optimizer]), before)

    @pytest.mark.parametrize("value", [[torch.ones(2)], {"a": torch.ones(2)}, torch.ones(2, 2)])
    def test_unknown_state_is_refused(self, value):
        """Whatever else an optimizer of the user's own keeps."""
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        optimizer.state[model.fc.bias]["odd"] = value
        with pytest.raises(PruningError, match="its state 'odd' has not the shape"):
            remove(model, structure_of(model, "conv1", images()), [0], optimizers=[optimizer])


def names_of(model):
    return list(model.named_parameters())


class TestTheModel:
    def test_sizes_and_what_stays(self):
        """Attributes say the new sizes; dtype, device, flags and hooks are those of before."""
        model, log = Net(), []
        model.conv1.weight.requires_grad_(False)
        model.conv2.weight.register_hook(lambda gradient: log.append(gradient.shape))
        model.conv2.weight.register_post_accumulate_grad_hook(lambda p: log.append(p.grad.shape))
        structure = structure_of(model, "conv1", images())
        loss = model(images()).sum()
        loss.backward()
        log.clear()
        remove(model, structure, REMOVED, optimizers=())
        model(images()).sum().backward()

        assert (model.conv1.in_channels, model.conv1.out_channels) == (3, 4)
        assert (model.conv2.in_channels, model.conv2.out_channels) == (4, 8)
        assert model.between.num_features == 4
        assert log == [torch.Size([8, 4, 3, 3])] * 2
        assert not model.conv1.weight.requires_grad
        assert model.conv1.weight.grad is None
        assert repr(model.conv1) == repr(nn.Conv2d(3, 4, 3, padding=1))

    @pytest.mark.parametrize("kernel", [1, 3])
    def test_memory_format(self, kernel):
        """Channels that lie innermost do so afterwards, in the state too."""
        model = nn.Sequential(nn.Conv2d(3, 6, kernel), nn.ReLU(), nn.Conv2d(6, 8, kernel))
        model.append(nn.Conv2d(8, 2, 1))
        model = model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters())
        step(model, optimizer)
        for layer in ("0", "2"):
            structure = structure_of(model, layer, images())
            remove(model, structure, [1], optimizers=[optimizer])
        fresh = torch.empty(7, 5, kernel, kernel).to(memory_format=torch.channels_last)

        for tensor in (model[2].weight, optimizer.state[model[2].weight]["exp_avg"]):
            assert tensor.shape == fresh.shape
            assert tensor.stride() == fresh.stride()

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    def test_dtype(self, dtype):
        """It stays, and the values are bit for bit those of before."""
        model = Net().to(dtype)
        before = everything(model)
        remove(model, structure_of(model, "conv1", images().to(dtype)), REMOVED, optimizers=())

        for name, value in model.state_dict().items():
            whole = before[name]
            assert torch.equal(value, selected(name, whole) if whole.ndim else whole), name

    def test_a_module_that_reads_and_writes(self):
        """In a residual stream of Linear layers one weight shrinks on both axes."""

        class Stream(nn.Module):
            def __init__(self):
                super().__init__()
                self.into, self.block = nn.Linear(3, 6), nn.Linear(6, 6)
                self.out = nn.Linear(6, 2)

            def forward(self, x):
                x = torch.relu(self.into(x))
                return self.out(x + torch.relu(self.block(x)))

        model, probe = lively(Stream()), torch.randn(4, 3)
        structure = structure_of(model, "into", probe)
        whole, masked = model.block.weight.detach().clone(), copy.deepcopy(model)
        silence(masked, structure, [1, 3])
        remove(model, structure, [3, 1], optimizers=())
        stay = [0, 2, 4, 5]

        assert torch.equal(model.block.weight, whole[stay][:, stay])
        assert torch.allclose(outputs(model, probe), outputs(masked, probe), atol=1e-6)
        found = kept(structure, [1, 3])
        assert found["into"][0].tolist() == stay
        assert found["into"][1] is None
        assert [axis.tolist() for axis in found["block"]] == [stay, stay]
        assert found["out"][0] is None

    def test_in_inference_mode(self):
        """The parameters can still be trained."""
        model = Net()
        structure = structure_of(model, "conv1", images())
        with torch.inference_mode():
            remove(model, structure, [0], optimizers=())
        model(images()).sum().backward()

        assert model.conv1.weight.grad.shape == (5, 3, 3, 3)

    def test_again_and_again(self):
        """Until one filter is left, each time from a structure found anew."""
        model = UNet()
        for left in range(5, 0, -1):
            remove(model, structure_of(model, "down1", images()), [left // 2], optimizers=())

            assert model.down1.out_channels == left
            assert torch.isfinite(outputs(model, images())).all()
        with pytest.raises(PruningError, match="it has one filter, and at least one must stay"):
            structure_of(model, "down1", images())

    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    def test_compiled_models_follow(self, backend):
        """A model that was compiled before computes, and learns, as the eager one does."""
        model = Net()
        compiled = torch.compile(model, backend=backend)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        step(compiled, optimizer)
        for removed in ([0, 5], [1]):
            structure = structure_of(model, "conv1", images())
            remove(model, structure, removed, optimizers=[optimizer])
            twin = copy.deepcopy(model)
            its = torch.optim.Adam(twin.parameters(), 0.01)
            its.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            for seed in (5, 6):
                loss = step(compiled, optimizer, seed=seed)
                assert torch.allclose(loss, step(twin, its, seed=seed), rtol=1e-5)
            assert_close(model, twin)
            assert torch.allclose(outputs(compiled, images()), outputs(twin, images()), atol=1e-5)
        torch.compiler.reset()


def assert_close(model, twin):
    for (name, one), other in zip(names_of(model), twin.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name


class TestRefusals:
    @pytest.mark.parametrize(
        ("filters", "reason"),
        [
            ([], "filters=[] is not a list of filter numbers."),
            ([0.5], "filters=[0.5] is not a list of filter numbers."),
            ([True], "filters=[True] is not a list of filter numbers."),
            (2, "filters=2 is not a list of filter numbers."),
            ([0, 6], "it has filters 0 to 5, and no filter 6."),
            ([-1, 0], "it has filters 0 to 5, and no filter -1."),
            ([3, 1, 3], "filter 3 is named twice."),
            (range(6), "at least one of its 6 filters must stay."),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("call", [check, remove])
    def test_filters_that_cannot_go(self, filters, reason, call):
        """Said in a sentence, before anything is changed."""
        model = Net()
        structure = structure_of(model, "conv1", images())
        before = everything(model)
        with pytest.raises(PruningError) as caught:
            call(model, structure, filters, optimizers=())

        assert str(caught.value) == f"Cannot prune layer 'conv1': {reason}"
        assert_same(everything(model), before)

    def test_a_structure_of_before(self):
        """After a removal it does not fit any more, even where its numbers are in range."""
        model = lively(DenseNet())
        first = structure_of(model, "layers.0.2", images())
        second = structure_of(model, "layers.1.2", images())
        remove(model, first, [0], optimizers=())
        before = everything(model)
        with pytest.raises(PruningError) as caught:
            remove(model, second, [0], optimizers=())

        assert str(caught.value) == (
            "Cannot prune layer 'layers.1.2': axis 0 of 'layers.2.0.weight' was 13 long and is 12; "
            "find its structure anew."
        )
        assert_same(everything(model), before)

    def test_a_module_that_has_gone(self):
        """Or whose weight is no longer its own."""
        model = Net()
        structure = structure_of(model, "conv1", images())
        torch.nn.utils.parametrizations.weight_norm(model.conv2)
        with pytest.raises(PruningError) as caught:
            remove(model, structure, [0], optimizers=())
        del model.conv2
        with pytest.raises(PruningError) as gone:
            remove(model, structure, [0], optimizers=())

        assert str(caught.value) == (
            "Cannot prune layer 'conv1': 'conv2' has no weight of its own any more; find its "
            "structure anew."
        )
        assert str(gone.value) == (
            "Cannot prune layer 'conv1': the model has no module 'conv2' any more; find its "
            "structure anew."
        )

    def test_what_fails_midway_is_taken_back(self):
        """The last assignment fails, and all that came before it is undone, gradients too."""

        class Stubborn(nn.Conv2d):
            @property
            def in_channels(self):
                return 6

            @in_channels.setter
            def in_channels(self, value):
                if value != 6:
                    raise AttributeError("it is as it is")

        model = Net()
        model.conv2 = Stubborn(6, 8, 3)
        optimizer = torch.optim.Adam(model.parameters())
        step(model, optimizer)
        structure = plain_structure()
        before = everything(model, [optimizer])
        with pytest.raises(PruningError) as caught:
            remove(model, structure, REMOVED, optimizers=[optimizer])

        assert str(caught.value) == "Cannot prune layer 'conv1': it is as it is."
        assert_same(everything(model, [optimizer]), before)
        step(model, optimizer)

    @pytest.mark.parametrize("failing", range(1, 30, 3))
    def test_no_failure_leaves_half_a_model(self, failing, monkeypatch):
        """Whichever selection fails, for want of memory say, nothing has been assigned."""
        model = Net()
        optimizer = torch.optim.Adam(model.parameters())
        step(model, optimizer)
        structure = plain_structure()
        before, calls = everything(model, [optimizer]), []
        original = torch.Tensor.index_select

        def index_select(*arguments):
            calls.append(1)
            if len(calls) == failing:
                raise RuntimeError("not enough memory: you tried to allocate 7 bytes.")
            return original(*arguments)

        monkeypatch.setattr(torch.Tensor, "index_select", index_select)
        try:
            remove(model, structure, REMOVED, optimizers=[optimizer])
        except PruningError as error:
            assert "not enough memory" in str(error)  # noqa: PT017  # late ones do not fail
            assert_same(everything(model, [optimizer]), before)
        else:
            assert len(calls) < failing


def plain_structure():
    """Structure of `Net`, whatever class its modules have."""
    entries = np.arange(6)[:, None]
    roles = (("conv1", "writes"), ("between", "normalises"), ("conv2", "reads"))
    return Structure(
        layer="conv1",
        filters=6,
        cuts=tuple(Cut(module=name, role=role, entries=entries, length=6) for name, role in roles),
    )


class TestKept:
    def test_of_a_concatenation(self):
        """Indices count all channels that lie there, and every position behind a flatten."""
        structure = structure_of(lively(DenseNet()), "layers.2.2", images())
        found = kept(structure, [3, 0])

        assert found["layers.2.2"][0].tolist() == [1, 2]
        assert found["bn"][0].tolist() == [*range(13), 14, 15]
        assert found["fc"][1].tolist() == [*range(52), *range(56, 64)]
        assert found["fc"][1].dtype == np.int64


@st.composite
def networks(draw):
    """A stack of convolutions, then of Linear layers, with or without BatchNorm and pooling."""
    layers, channels, size = [], 2, 8
    for _ in range(draw(st.integers(1, 3))):
        width = draw(st.integers(2, 6))
        layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=draw(st.booleans())))
        if draw(st.booleans()):
            layers.append(nn.BatchNorm2d(width))
        layers.append(draw(st.sampled_from([nn.ReLU(), nn.Tanh(), nn.LeakyReLU(inplace=True)])))
        if draw(st.booleans()) and size > 2:
            layers.append(draw(st.sampled_from([nn.MaxPool2d(2), nn.AvgPool2d(2)])))
            size //= 2
        channels = width
    layers.append(nn.Flatten())
    features = channels * size * size
    for _ in range(draw(st.integers(0, 2))):
        width = draw(st.integers(2, 6))
        layers += [nn.Linear(features, width), nn.ReLU()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, 3))


@given(networks(), st.data())
@settings(max_examples=40)
def test_removing_is_silencing(model, data):
    """For any small network, layer and filters: same outputs, and state that fits."""
    model, probe = lively(model), torch.randn(4, 2, 8, 8)
    optimizer = torch.optim.Adam(model.parameters())
    model(probe).square().sum().backward()
    optimizer.step()
    prunable = [
        name
        for name, module in model.named_children()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ][:-1]
    layer = data.draw(st.sampled_from(prunable))
    count = model.get_submodule(layer).weight.shape[0]
    filters = data.draw(
        st.lists(st.integers(0, count - 1), min_size=1, max_size=count - 1, unique=True)
    )
    structure = structure_of(model, layer, probe)
    masked, parameters = copy.deepcopy(model), list(model.parameters())
    silence(masked, structure, filters)
    for parameter in parameters:  # so that state shows where it went
        optimizer.state[parameter]["exp_avg"].copy_(parameter.detach())
    remove(model, structure, filters, optimizers=[optimizer])

    assert torch.allclose(outputs(model, probe), outputs(masked, probe), atol=1e-5)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    for parameter in parameters:
        assert torch.equal(optimizer.state[parameter]["exp_avg"], parameter)
    model(probe).square().sum().backward()
    optimizer.step()


def test_a_residual_network_trains_on():
    """After filters of its stream have gone, with the loss of the step before still alive."""
    model = ProjectedResNet()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    loss = step(model, optimizer)
    remove(model, structure_of(model, "stem", images()), [2, 3], optimizers=[optimizer])
    again = step(model, optimizer)

    assert torch.isfinite(loss + again)
    assert model.stage1[1].conv2.weight.shape == (6, 8, 3, 3)
