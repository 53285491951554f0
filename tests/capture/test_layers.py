"""Which layers are watched, and how weights are read."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from tensorview.capture.layers import (
    filters_first,
    is_compiled,
    read_gradients,
    read_weight,
    select_layers,
    unwatched_modules,
    unwrap,
)
from tensorview.errors import ConfigurationError


def make_model():
    return nn.ModuleDict(
        {
            "stem": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
            "up": nn.ConvTranspose1d(4, 6, 2),
            "words": nn.Embedding(10, 4),
            "memory": nn.LSTM(4, 4),
            "attention": nn.MultiheadAttention(4, 2),
            "head": nn.Linear(4, 2),
        }
    )


def names(model, layers=None):
    return [layer.name for layer in select_layers(model, layers)]


def test_all_conv_and_linear_layers_are_watched_in_the_model_s_order():
    """Also those inside attention; other kinds with weights are named."""
    model = make_model()

    assert names(model) == ["stem.0", "up", "attention.out_proj", "head"]
    assert [layer.kind for layer in select_layers(model)] == [
        "Conv2d",
        "ConvTranspose1d",
        "NonDynamicallyQuantizableLinear",
        "Linear",
    ]
    assert unwatched_modules(model) == [
        "words (Embedding)",
        "memory (LSTM)",
        "attention (MultiheadAttention)",
    ]


def test_layers_are_chosen_by_name_glob_and_predicate():
    """In the model's order, each once."""
    model = make_model()

    assert names(model, ["head", "stem.0"]) == ["stem.0", "head"]
    assert names(model, "*.*") == ["stem.0", "attention.out_proj"]
    assert names(model, ["head", "h*"]) == ["head"]
    assert names(model, lambda name, module: module.weight.ndim == 2 and "head" in name) == ["head"]


def test_n8_a_shared_module_is_one_layer_under_its_first_name():
    """Asking for its other name gives the same layer."""
    shared = nn.Linear(3, 3)
    model = nn.ModuleDict({"encoder": shared, "decoder": shared})

    assert names(model) == ["encoder"]
    assert names(model, ["decoder"]) == ["encoder"]


def complex_linear():
    return nn.Linear(2, 2, dtype=torch.complex64)


def scripted(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and still in use
        return torch.jit.script(model)


def sparse_linear():
    layer = nn.Linear(2, 2)
    layer.weight = nn.Parameter(layer.weight.detach().to_sparse())
    return layer


def quantised_linear():
    layer = nn.Linear(2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantised tensors are on their way out
        weight = torch.quantize_per_tensor(layer.weight.detach(), 0.1, 0, torch.qint8)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


@pytest.mark.parametrize(
    ("model", "layers", "message"),
    [
        (
            make_model(),
            ["haed"],
            r"There is no layer 'haed' in the model\. Did you mean 'head'\?",
        ),
        (
            make_model(),
            ["zzz"],
            (
                r"There is no layer 'zzz' in the model\. Layers are stem\.0, up, "
                r"attention\.out_proj, head\."
            ),
        ),
        (
            make_model(),
            ["words"],
            (
                r"Layer 'words' is a Embedding and cannot be watched: expected a Conv, "
                r"ConvTranspose or Linear\."
            ),
        ),
        (
            make_model(),
            [],
            r"layers= is empty: expected some of stem\.0, up, .*, or None for all\.",
        ),
        (
            make_model(),
            lambda name, module: False,  # noqa: ARG005
            r"layers= chose none of stem\.0, .*: there is nothing to watch\.",
        ),
        (
            nn.Sequential(nn.ReLU()),
            None,
            r"Sequential has no Conv, ConvTranspose or Linear layer: there is nothing to watch\.",
        ),
        (
            scripted(nn.Sequential(nn.Linear(3, 2))),
            None,
            (
                r"The model is scripted or traced by torch\.jit, where no layer can be seen: watch "
                r"the original model\."
            ),
        ),
        (
            nn.Sequential(nn.LazyLinear(3)),
            None,
            r"Layer '0' has no weight yet: run one batch through the model before watching it\.",
        ),
        (
            nn.Sequential(complex_linear()),
            None,
            (
                r"Cannot watch layer '0': its weight is complex64\. Leave it out with "
                r"layers=\[\.\.\.\]\."
            ),
        ),
        (
            nn.Sequential(sparse_linear()),
            None,
            r"Cannot watch layer '0': its weight is sparse_coo\. .*",
        ),
        (
            nn.Sequential(quantised_linear()),
            None,
            r"Cannot watch layer '0': its weight is qint8\. .*",
        ),
        (
            nn.Sequential(nn.Linear(2, 2, device="meta")),
            None,
            r"Cannot watch layer '0': its weight is on the meta device and has no values\. .*",
        ),
    ],
)
def test_n2_what_cannot_be_watched_is_refused_by_name(model, layers, message):
    """One sentence: what, which layer, what to do."""
    with pytest.raises(ConfigurationError, match=f"^{message}$"):
        select_layers(model, layers)


@pytest.mark.parametrize(
    ("dtype", "read"),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float8_e4m3fn, torch.float32),
        (torch.float8_e5m2, torch.float32),
        (torch.int8, torch.float32),
        (torch.uint8, torch.float32),
    ],
)
def test_n2_narrow_weights_are_widened_exactly(dtype, read):
    """float16, bfloat16, float8 and int8 come as float32, float64 stays."""
    model = nn.Sequential(nn.Linear(3, 2))
    model[0].weight = nn.Parameter((model[0].weight * 5).to(dtype), requires_grad=False)
    (layer,) = select_layers(model)

    assert read_weight(layer).dtype == read
    assert torch.equal(read_weight(layer).double(), model[0].weight.double())


LAYERS = st.sampled_from(
    [
        (nn.Conv1d, 1),
        (nn.Conv2d, 2),
        (nn.Conv3d, 3),
        (nn.ConvTranspose1d, 1),
        (nn.ConvTranspose2d, 2),
        (nn.ConvTranspose3d, 3),
    ]
)


@given(
    layer=LAYERS,
    groups=st.integers(1, 3),
    in_per_group=st.integers(1, 3),
    out_per_group=st.integers(1, 3),
    kernel=st.lists(st.integers(1, 3), min_size=3, max_size=3),
)
def test_n3_a_filter_s_row_holds_the_weights_that_it_applies(
    layer, groups, in_per_group, out_per_group, kernel
):
    """For every kind and grouping: filter f reads channel f // out_per_group * in_per_group + i."""
    kind, rank = layer
    module = kind(groups * in_per_group, groups * out_per_group, kernel[:rank], groups=groups)
    (watched,) = select_layers(nn.Sequential(module))
    values = filters_first(read_weight(watched), watched)
    size = kernel[:rank]

    assert values.shape == (
        groups * out_per_group,
        in_per_group,
        *((1, size[0]) if rank == 1 else (torch.tensor(size[:-1]).prod(), size[-1])),
    )
    assert watched.out == groups * out_per_group
    assert watched.in_per_group == in_per_group
    # An impulse in one input channel: a transposed convolution stamps the kernel, a convolution
    # of kernel-sized input takes the dot product with it.
    with torch.no_grad():
        module.bias.zero_()
        for channel in range(groups * in_per_group):
            group, column = divmod(channel, in_per_group)
            if watched.transposed:
                impulse = torch.zeros(1, groups * in_per_group, *[1] * rank)
                impulse[0, channel] = 1
                stamped = module(impulse)[0]
            else:
                stamped = torch.zeros(groups * out_per_group, *size)
                for place in torch.ones(size).nonzero():
                    impulse = torch.zeros(1, groups * in_per_group, *size)
                    impulse[(0, channel, *place)] = 1
                    stamped[(slice(None), *place)] = module(impulse).flatten()
            for row in range(groups * out_per_group):
                mine = row // out_per_group == group
                expected = values[row, column].flatten() if mine else torch.zeros(1)
                assert torch.allclose(stamped[row].flatten(), expected)


def test_n3_linear_and_odd_memory_layouts():
    """Linear is 1 x 1; strides do not matter."""
    model = nn.Sequential(
        nn.Linear(3, 2),
        nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last),
        nn.Conv2d(4, 4, 3),
    )
    model[2].weight = nn.Parameter(torch.randn(1, 4, 3, 3).expand(4, -1, -1, -1))
    linear, conv, expanded = select_layers(model)

    assert torch.equal(filters_first(read_weight(linear), linear)[:, :, 0, 0], model[0].weight)
    assert torch.equal(filters_first(read_weight(conv), conv), model[1].weight)
    assert torch.equal(filters_first(read_weight(expanded), expanded), model[2].weight)


def test_gradients_of_parametrised_weights_are_those_of_their_parts():
    """Plain, parametrised, none."""
    plain, norm = nn.Linear(2, 2), parametrizations.weight_norm(nn.Linear(2, 2))
    model = nn.Sequential(plain, norm)
    layers = select_layers(model)

    assert [read_gradients(layer) for layer in layers] == [[], []]
    model(torch.ones(1, 2)).sum().backward()
    assert [len(read_gradients(layer)) for layer in layers] == [1, 2]


def test_wrappers_are_looked_into():
    """Compiled and parallel models are their inner module."""
    model = nn.Linear(2, 2)
    compiled = torch.compile(model, backend="eager")
    parallel = nn.DataParallel(compiled)

    assert unwrap(model) is unwrap(compiled) is unwrap(parallel) is model
    assert not is_compiled(model)
    assert is_compiled(compiled)
    assert is_compiled(parallel)
