"""A layer's activation is what the next layer reads."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tensorview.capture.following import Following
from tensorview.capture.layers import select_layers


def follow(model, *inputs, point="after"):
    """Activation of each layer by name, and the warnings."""
    layers = select_layers(model)
    found = {}

    def receive(index, activation):
        assert layers[index].name not in found
        found[layers[index].name] = activation.clone()

    with torch.no_grad(), Following(layers, point=point, receive=receive) as following:
        model.eval()(*inputs)
    assert all(not layer.module._forward_hooks for layer in layers)
    return found, list(following.warnings.values())


class Block(nn.Module):
    """conv1 - norm - relu - conv2 - norm, a shortcut added, relu, pool, fc."""

    def __init__(self, first, second, add):
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 3, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 5)
        self.first, self.second, self.add = first, second, add

    def forward(self, x):
        y = self.first(self.norm1(self.conv1(x)))
        y = self.add(self.norm2(self.conv2(y)), x)
        return self.second(self.fc(self.second(y).mean((2, 3))))


def add_in_place(first, second):
    first += second
    return first


def look_then_relu(x):
    """Debugging code looks at a tensor without reading it as a layer does."""
    assert x.shape[1] == x.size(1)
    assert not x.isnan().any()
    assert (x > -100).all()
    assert x.dtype == torch.float32
    return x.contiguous().relu()


FORMS = {
    "modules": Block(nn.ReLU(), nn.ReLU(), torch.add),
    "modules in place": Block(nn.ReLU(inplace=True), nn.ReLU(inplace=True), add_in_place),
    "functions": Block(F.relu, F.relu, lambda a, b: a + b),
    "functions in place": Block(F.relu_, torch.relu_, torch.Tensor.add_),
    "methods": Block(torch.Tensor.relu, torch.Tensor.relu_, lambda a, b: a.add_(b)),
    "clamped": Block(lambda x: x.clamp(min=0), lambda x: torch.clamp_min(x, 0), torch.add),
    "looked at": Block(look_then_relu, F.relu, add_in_place),
    "dropped out": Block(
        lambda x: F.dropout(F.relu(x), training=False),
        nn.Sequential(nn.Dropout(), nn.ReLU(), nn.Dropout(inplace=True)).eval(),
        torch.add,
    ),
    "summed with a stack": Block(
        nn.Sequential(nn.Identity(), nn.ReLU()),
        nn.ReLU(),
        lambda a, b: torch.sum(torch.stack([a, b]), dim=0),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_write_a_network_gives_the_same_activations(form):
    """Module, function, method, in place: bit for bit the same numbers."""
    images = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    model = FORMS[form].eval()
    found, warnings = follow(model, images)
    with torch.no_grad():
        first = model.norm1(model.conv1(images)).relu()
        second = model.norm2(model.conv2(first))
        last = model.fc((second + images).relu().mean((2, 3))).relu()

    assert warnings == []
    assert list(found) == ["conv1", "conv2", "fc"]
    assert torch.equal(found["conv1"], first)
    assert torch.equal(found["conv2"], second)
    assert torch.equal(found["fc"], last)


def test_raw_is_the_layer_s_own_output():
    """What follows the layer, also in place, does not show."""
    images = torch.randn(2, 3, 5, 5)
    model = FORMS["functions in place"]
    found, _ = follow(model, images, point="raw")
    with torch.no_grad():
        expected = model.conv1(images)

    assert torch.equal(found["conv1"], expected)


class Then(nn.Module):
    """One layer, and what follows it."""

    def __init__(self, after, layer=None):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 6) if layer is None else layer
        self.after = after

    def forward(self, x):
        return self.after(self.layer(x))


@pytest.mark.parametrize(
    "after",
    [
        nn.GELU(),
        nn.SiLU(inplace=True),
        nn.Hardtanh(inplace=True),
        nn.ReLU6(),
        nn.LeakyReLU(0.1, inplace=True),
        nn.PReLU(),
        nn.Sigmoid(),
        torch.tanh,
        nn.Softplus(),
        nn.Mish(),
        nn.Hardswish(),
        nn.LayerNorm(6),
        nn.BatchNorm1d(6),
        nn.Sequential(nn.BatchNorm1d(6), nn.ELU(), nn.Dropout(0.5)),
        lambda x: x * torch.sigmoid(x),
        lambda x: x.mul_(torch.tanh(F.softplus(x))),
        lambda x: x.float().clone().relu_(),
    ],
)
def test_nonlinearities_and_norms_are_followed(after):
    """The activation is what comes out of them."""
    model = Then(after).eval()
    inputs = torch.randn(5, 6)
    with torch.no_grad():
        expected = model(inputs)

    assert torch.equal(follow(model, inputs)[0]["layer"], expected)


@pytest.mark.parametrize(
    "after",
    [
        lambda x: (x + 1).relu(),
        lambda x: torch.cat([x, x], 1).relu(),
        lambda x: x.view(-1).relu_(),
        lambda x: x[:, :3].relu_(),
        lambda x: x.softmax(1),
        lambda x: x.mul_(2).relu_(),
        lambda x: torch.mul(x, 3, out=x),
        lambda x: x.__setitem__(0, 7.0),
        lambda x: F.dropout(x, 0.5, training=True).relu(),
        lambda x: F.dropout(x, 0.5, True, True).relu(),
        lambda x: F.max_pool1d(x[None], 2)[0].relu(),
        lambda x: x.transpose(0, 1).relu_(),
        lambda x: x.split(3, 1)[0].relu_(),
        lambda x: x.sub_(x.mean()).relu_(),
    ],
)
def test_anything_else_ends_the_way_before_it_can_overwrite(after):
    """The activation is the layer's own output, as it was."""
    model = Then(after).eval()
    inputs = torch.randn(5, 6)
    with torch.no_grad():
        expected = model.layer(inputs)

    assert torch.equal(follow(model, inputs)[0]["layer"], expected)


def test_a_gate_is_its_own_activation():
    """x * sigmoid(fc(x)): the activation of fc is the gate, not the product."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x):
            return x * torch.sigmoid(self.fc(x))

    model = Gated()
    inputs = torch.randn(5, 6)

    assert torch.equal(follow(model, inputs)[0]["fc"], torch.sigmoid(model.fc(inputs)).detach())


class Twice(nn.Module):
    """One layer called twice, one never, one shared under two names, one that returns a tuple."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.never = nn.Linear(4, 4)
        self.shared = nn.Linear(4, 4)
        self.alias = self.shared
        self.pair = Pair(4, 4)

    def forward(self, x):
        first = self.twice(x)
        return self.pair(self.shared(self.twice(first)))[0]


class Pair(nn.Linear):
    """A layer that returns more than one thing."""

    def forward(self, x):
        return super().forward(x), None


def test_n8_ambiguous_layers_are_named_once_and_never_mislabelled():
    """Of several calls the first counts; never called and no tensor mean no activation."""
    model, inputs = Twice(), torch.randn(3, 4)
    found, warnings = follow(model, inputs)

    assert list(found) == ["twice", "shared"]
    assert torch.equal(found["twice"], model.twice(inputs).detach())
    assert sorted(warnings) == [
        (
            "Cannot capture layer 'pair': its output is tuple, not a tensor. Leave it out with "
            "layers=[...]."
        ),
        "Layer 'never' was not called: its activations are not shown.",
        (
            "Layer 'twice' was called 2 times in one pass: its activations are those of the first "
            "call."
        ),
    ]


class Odd(nn.Linear):
    """A layer that returns something of its own."""

    def __init__(self, returned):
        super().__init__(6, 6)
        self.returned = returned

    def forward(self, x):
        return self.returned(super().forward(x))


def refused(returned):
    """What is said of a layer that returns this; the others' activations are there."""
    model = nn.Sequential(nn.Linear(6, 6), Odd(returned))
    inputs = torch.randn(2, 6)
    found, said = follow(model, inputs)

    assert torch.equal(found.pop("0"), model[0](inputs).detach())
    assert found == {}
    return said


@pytest.mark.parametrize("output", [None, {"x": 1}, [torch.ones(2)]])
def test_n8_outputs_that_are_no_tensors_are_named(output):
    """The type is said."""
    assert refused(lambda _: output) == [
        (
            f"Cannot capture layer '1': its output is {type(output).__name__}, not a tensor. Leave "
            f"it out with layers=[...]."
        )
    ]


def quantised(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantised tensors are on their way out
        return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (torch.Tensor.cfloat, "is complex64"),
        (torch.Tensor.to_sparse, "is sparse_coo"),
        (quantised, "is qint8"),
        (lambda x: x.to("meta"), "is on the meta device and has no values"),
        (torch.Tensor.sum, "is a single number"),
    ],
    ids=["complex", "sparse", "quantised", "meta", "()"],
)
def test_n2_outputs_that_hold_no_plain_numbers_are_named(returned, problem):
    """That layer alone has no activation, and one sentence says why."""
    assert refused(returned) == [
        f"Cannot capture layer '1': its output {problem}. Leave it out with layers=[...]."
    ]


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2),
        *(torch.int8, torch.uint8, torch.int64, torch.bool),
    ],
)
def test_n2_outputs_of_every_real_dtype_are_followed(dtype):
    """They are handed over as they are."""
    model = nn.Sequential(Odd(lambda x: x.to(dtype)))
    inputs = torch.randn(2, 6)

    assert torch.equal(follow(model, inputs)[0]["0"].double(), model(inputs).double())


def test_a_write_that_nobody_sees_is_noticed():
    """An operation that bypasses torch's function overrides is told by the tensor's version."""

    def write_unseen(x):
        with torch._C.DisableTorchFunction():
            x.mul_(2)
        return x

    found, warnings = follow(Then(write_unseen), torch.randn(2, 6))

    assert found == {}
    assert warnings == [
        (
            "The output of layer 'layer' is overwritten by an operation that cannot be seen: its "
            "activations are not shown."
        )
    ]


def test_hooks_and_mode_are_gone_after_an_exception():
    """A model that fails half-way leaves nothing behind and hands over nothing incomplete."""

    def fail(_x):
        raise ZeroDivisionError

    model = Then(fail)
    received = []
    layers = select_layers(model)
    with (
        pytest.raises(ZeroDivisionError),
        Following(layers, point="after", receive=lambda *item: received.append(item)),
    ):
        model(torch.randn(2, 6))

    assert received == []
    assert not model.layer._forward_hooks
    assert torch.overrides._get_current_function_mode() is None


def test_transformers_take_the_path_that_calls_their_layers():
    """The fused inference path would call no layer; it is not taken while we look."""
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    found, warnings = follow(model, torch.randn(2, 5, 8))

    assert {"linear1", "linear2"} <= set(found)
    assert (found["linear1"] >= -0.2).all()
    assert warnings == ["Layer 'self_attn.out_proj' was not called: its activations are not shown."]
