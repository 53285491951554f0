"""What shrinks with a layer is found and proved, or refused in one sentence."""

import copy
import random
import re
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import prune

from tensorview.capture.layers import WATCHABLE
from tensorview.capture.probe import given_probe
from tensorview.errors import PruningError
from tensorview.pruning import proof
from tensorview.pruning.structure import Cut, Structure, find_structure
from tensorview.pruning.surgery import remove
from tests.pruning.networks import (
    Between,
    DenseNet,
    ProjectedResNet,
    TwoConvs,
    UNet,
    images,
    lively,
    outputs,
    said,
    silence,
    structure_of,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from networks import LeNet5, ResNet20

CHANGES = (
    "Cannot prune layer 'conv1': removing its filters changes the output otherwise than silencing "
    "them does, for example because channels are padded, sliced or regrouped between it and its "
    "readers."
)


def refusal(model, layer="conv1", probe=None):
    """The sentence with which a layer is refused; the model must be as before."""
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PruningError) as caught:
        structure_of(model, layer, images() if probe is None else probe)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return str(caught.value)


def shuffled(x):
    """Channels of two halves in turn."""
    return x.view(len(x), 2, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


def random_states():
    """Of PyTorch, Python and numpy."""
    legacy = np.random.get_state()[1].tolist()  # noqa: NPY002  # the one that a training may use
    return torch.get_rng_state().tolist(), random.getstate(), legacy


def assert_removes_what_silencing_silences(model, layer, probe, filters):
    """Real removal, on the model itself, against the masked original."""
    lively(model)
    structure = structure_of(model, layer, probe)
    masked = copy.deepcopy(model)
    silence(masked, structure, filters)
    whole = outputs(model, probe)
    remove(model, structure, filters, optimizers=())
    expected = outputs(masked, probe)

    assert torch.allclose(outputs(model, probe), expected, atol=1e-5)
    assert not torch.allclose(whole, expected, atol=1e-5)
    return structure


class TestLayersThatHangTogether:
    def test_a_linear_behind_a_flatten_has_a_column_a_position(self):
        """Each filter of LeNet-5's second convolution owns 49 neighbouring columns."""
        structure = structure_of(LeNet5(), "conv2", torch.rand(4, 1, 28, 28))

        assert structure.layer == "conv2"
        assert structure.filters == 32
        assert said(structure) == {"conv2 writes", "fc1 reads x49"}
        assert structure.cuts[0] is structure.writers[0]
        assert np.array_equal(structure.cuts[0].entries, np.arange(32)[:, None])
        assert np.array_equal(structure.readers[0].entries, np.arange(1568).reshape(32, 49))
        assert (structure.cuts[0].length, structure.readers[0].length) == (32, 1568)

    def test_resnet_20_gives_its_inner_convolutions(self):
        """With padded shortcuts, each block's first convolution can be pruned, and nothing else."""
        model, probe = ResNet20(), images(2, 16)
        found, refused = {}, set()
        for name, module in model.named_modules():
            if isinstance(module, WATCHABLE):
                try:
                    found[name] = said(structure_of(model, name, probe))
                except PruningError:
                    refused.add(name)
        blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3)]

        assert found == {
            f"{block}.conv1": {f"{block}.conv1 writes", f"{block}.bn1 normalises"}
            | {f"{block}.conv2 reads"}
            for block in blocks
        }
        assert refused == {"conv1", "linear", *(f"{block}.conv2" for block in blocks)}

    def test_a_residual_stream_shrinks_as_a_whole(self):
        """What is added together loses the same filters, in every block of a stage."""
        structure = assert_removes_what_silencing_silences(
            ProjectedResNet(), "stage1.0.conv2", images(), [0, 5, 7]
        )

        assert said(structure) == {
            *("stem writes", "bn normalises", "stage1.0.conv1 reads", "stage1.0.conv2 writes"),
            *("stage1.0.bn2 normalises", "stage1.1.conv1 reads", "stage1.1.conv2 writes"),
            *("stage1.1.bn2 normalises", "stage2.0.conv1 reads", "stage2.0.shortcut.0 reads"),
        }

    def test_a_concatenation_is_followed(self):
        """Each later layer has the filters at another place of its input."""
        structure = assert_removes_what_silencing_silences(DenseNet(), "layers.0.2", images(), [1])
        first = {cut.module: cut.entries[0].tolist() for cut in structure.cuts}

        assert first["layers.1.2"] == first["layers.2.0"] == first["bn"] == [5]
        assert first["fc"] == [20, 21, 22, 23]
        assert {cut.module: cut.length for cut in structure.cuts}["layers.2.0"] == 13

    @pytest.mark.parametrize("layer", ["down1", "down2", "up", "join"])
    def test_a_transposed_convolution_has_its_axes_the_other_way_round(self, layer):
        """As the layer and as a reader, beside a concatenation."""
        assert_removes_what_silencing_silences(UNet(), layer, images(), [0, 3])

    @pytest.mark.parametrize("dimensions", [1, 2, 3])
    def test_convolutions_of_one_to_three_dimensions(self, dimensions):
        """With their BatchNorm and pooling, in a Sequential, up to a Linear."""
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dimensions - 1]
        pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[dimensions - 1]
        model = nn.Sequential(
            *(conv(2, 5, 3, padding=1), norm(5), nn.ReLU(inplace=True), pool(2)),
            *(conv(5, 4, 3, padding=1), norm(4), nn.ReLU(inplace=True), pool(2)),
            *(nn.Flatten(), nn.Linear(4 * 2**dimensions, 6), nn.GELU(), nn.Linear(6, 3)),
        )
        probe = torch.randn(3, 2, *[8] * dimensions)
        for layer, filters in (("0", [0, 4]), ("4", [2]), ("9", [1, 2, 5])):
            assert_removes_what_silencing_silences(model, layer, probe, filters)

    def test_a_linear_over_tokens_and_the_feed_forward_of_a_transformer(self):
        """Filters of a Linear lie on the last axis, whatever stands before it."""
        model = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)

        assert_removes_what_silencing_silences(model, "linear1", torch.randn(3, 5, 8), [0, 7])

    def test_one_tensor_that_is_read_twice_by_one_layer(self):
        """Concatenated with itself, a filter has two places in the reader."""
        model = Between(lambda x: F.relu(torch.cat([x, -x], 1)))
        model.conv2 = nn.Conv2d(12, 8, 3, padding=1)
        structure = assert_removes_what_silencing_silences(model, "conv1", images(), [1, 2])

        assert structure.readers[0].entries[1].tolist() == [1, 7]

    @pytest.mark.parametrize(
        "between",
        [
            *(nn.PReLU(), nn.Dropout2d(), nn.BatchNorm2d(6, affine=False), nn.Hardswish()),
            *(nn.BatchNorm2d(6, track_running_stats=False), nn.SyncBatchNorm(6), nn.Identity()),
        ],
        ids=lambda module: type(module).__name__,
    )
    def test_what_treats_channels_alike_may_stand_between(self, between):
        """Nonlinearities, dropout and every form of BatchNorm."""
        assert_removes_what_silencing_silences(TwoConvs(between), "conv1", images(), [2])

    def test_squeeze_and_excite(self):
        """A gate on the channels shrinks with them."""

        class Gated(TwoConvs):
            def __init__(self):
                super().__init__()
                self.squeeze, self.excite = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)

            def middle(self, x):
                gate = F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))
                return F.relu(x) * torch.sigmoid(self.excite(gate))

        structure = assert_removes_what_silencing_silences(Gated(), "conv1", images(), [0, 4])

        assert {cut.module for cut in structure.writers} == {"conv1", "excite"}

    def test_several_arguments_and_a_nested_output(self):
        """Keyword arguments go in, and every floating tensor that comes out is compared."""

        class Two(TwoConvs):
            def forward(self, left, *, right):
                out = super().forward(left + right)
                return {"out": (out, out.argmax(1)), "mean": [out.mean(), None]}

        probe = {"left": images(), "right": images().flip(0)}
        assert_removes_what_silencing_silences(Two(), "conv1", probe, [3])

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_a_model_in_another_precision(self, dtype):
        """The proof runs in float32 or more; the cuts are the same."""
        structure = structure_of(TwoConvs().to(dtype), "conv1", images().to(dtype))

        assert said(structure) == {"conv1 writes", "conv2 reads"}

    def test_products_that_the_user_lets_be_rounded(self):
        """Where matrix products are rounded for speed, the proof is in float64."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            structure = structure_of(TwoConvs(), "conv1", images())
        finally:
            torch.set_float32_matmul_precision(before)

        assert said(structure) == {"conv1 writes", "conv2 reads"}

    def test_dead_filters_do_not_hide_what_is_wrong(self):
        """All of a layer's filters dead, the proof still sees that its reader is reversed."""
        model = Between(lambda x: F.relu(x).flip(1))
        model.conv1.bias.data.fill_(-1e3)

        assert refusal(model) == CHANGES

    def test_another_name_of_the_layer(self):
        """A module with two names goes by its first."""
        model = TwoConvs()
        model.alias = model.conv1

        assert structure_of(model, "alias", images()).layer == "conv1"

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda model: setattr(model, "conv2", torch.compile(model.conv2, backend="eager")),
            lambda model: model.conv2.compile(backend="eager"),
        ],
        ids=["wrapped", "in place"],
    )
    def test_a_compiled_part(self, wrap):
        """It runs as it was written, and its name is that of ``named_modules``."""
        model = TwoConvs()
        wrap(model)
        reader = structure_of(model, "conv1", images()).readers[0].module

        assert model.get_submodule(reader).weight.shape == (8, 6, 3, 3)


class TestRefusals:
    def test_unknown_layer(self):
        """Near matches are named."""
        assert refusal(TwoConvs(), "conv3") == (
            "There is no layer 'conv3' in the model. Did you mean 'conv2' or 'conv1'?"
        )

    def test_layer_without_filters(self):
        """Said with what it is."""
        assert refusal(TwoConvs(), "between") == (
            "Cannot prune layer 'between': it is a ReLU and has no filters; expected a Conv, "
            "ConvTranspose or Linear."
        )

    def test_output_layer(self):
        """Its filters are the model's outputs."""
        assert refusal(TwoConvs(), "fc") == (
            "Cannot prune layer 'fc': no other layer reads its filters."
        )

    def test_the_model_itself(self):
        """A model that is one layer is an output layer."""
        assert refusal(nn.Linear(3, 4), "", torch.randn(2, 3)) == (
            "Cannot prune layer '': no other layer reads its filters."
        )

    def test_single_filter(self):
        """Of one filter none can go."""
        assert refusal(TwoConvs(channels=1)) == (
            "Cannot prune layer 'conv1': it has one filter, and at least one must stay."
        )

    def test_feature_maps_that_are_returned(self):
        """The output would change its shape."""

        class Returned(TwoConvs):
            def forward(self, x):
                x = self.conv1(x)
                return self.conv2(x), x

        assert refusal(Returned()) == (
            "Cannot prune layer 'conv1': its filters are channels of the model's output."
        )

    @pytest.mark.parametrize("groups", [2, 6])
    def test_grouped_and_depthwise_convolutions(self, groups):
        """As the layer itself, and where they read it."""
        model = TwoConvs(nn.Conv2d(6, 6, 3, padding=1, groups=groups))
        reason = f"'between' is a convolution in {groups} groups, which must stay equally large."

        assert refusal(model) == f"Cannot prune layer 'conv1': {reason}"
        assert refusal(model, "between") == f"Cannot prune layer 'between': {reason}"

    @pytest.mark.parametrize(
        "between",
        [
            *(nn.GroupNorm(2, 6), nn.InstanceNorm2d(6, affine=True), nn.PReLU(6)),
            *(nn.LayerNorm([6, 8, 8]), nn.InstanceNorm2d(6)),
        ],
        ids=lambda module: type(module).__name__,
    )
    def test_other_modules_that_work_on_filters(self, between):
        """Named, with what they are."""
        assert refusal(TwoConvs(between)) == (
            f"Cannot prune layer 'conv1': 'between' works on its filters, and is a "
            f"{type(between).__name__}; only Conv, Linear and BatchNorm can shrink."
        )

    def test_recurrent_reader(self):
        """An LSTM is no Linear."""
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.LSTM(4, 2))

        assert refusal(model, "0", torch.randn(4, 5, 3)) == (
            "Cannot prune layer '0': '2' works on its filters, and is a LSTM; only Conv, Linear "
            "and BatchNorm can shrink."
        )

    def test_bare_parameter(self):
        """A scale a channel, held by the model itself."""

        class Scaled(TwoConvs):
            def __init__(self):
                super().__init__()
                self.scale = nn.Parameter(torch.ones(6, 1, 1))

            def middle(self, x):
                return F.relu(x) * self.scale

        assert refusal(Scaled()) == (
            "Cannot prune layer 'conv1': parameter 'scale' works on its filters, and is no weight "
            "or bias of a Conv, Linear or BatchNorm."
        )

    def test_buffer_of_the_filters(self):
        """A constant a channel is invisible to gradients, so that the smaller copy fails."""

        class Centred(TwoConvs):
            def __init__(self):
                super().__init__()
                self.register_buffer("centre", torch.ones(6, 1, 1))

            def middle(self, x):
                return F.relu(x - self.centre)

        assert refusal(Centred()).startswith(
            "Cannot prune layer 'conv1': without some of its filters the model does not run, for "
            "example because channels are padded, sliced or regrouped between it and its readers "
            "(The size of tensor a (4) must match"
        )

    @pytest.mark.parametrize("layer", ["conv1", "conv2"])
    @pytest.mark.parametrize(
        "parametrise",
        [
            torch.nn.utils.parametrizations.weight_norm,
            torch.nn.utils.parametrizations.spectral_norm,
        ],
    )
    def test_parametrised_weight(self, layer, parametrise):
        """Of the layer or of its reader."""
        model = TwoConvs()
        parametrise(getattr(model, layer))

        assert refusal(model) == (
            f"Cannot prune layer 'conv1': the weight of {layer!r} is computed from other "
            f"parameters."
        )

    def test_masked_weight(self):
        """As PyTorch's own pruning leaves it."""
        model = TwoConvs()
        prune.l1_unstructured(model.conv2, "weight", 0.5)

        assert refusal(model) == (
            "Cannot prune layer 'conv1': the weight of 'conv2' is computed from other parameters."
        )

    def test_more_than_weight_and_bias(self):
        """A module of the user's own with a scale beside its weight."""
        model = TwoConvs()
        model.conv1.scale = nn.Parameter(torch.ones(6))

        assert refusal(model) == (
            "Cannot prune layer 'conv1': what its module does with 'conv1.scale' is not known."
        )

    def test_shared_parameter(self):
        """A weight that two modules have."""
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
        model[2].weight = model[0].weight

        assert refusal(model, "0", torch.randn(3, 4)) == (
            "Cannot prune layer '0': '0.weight' and '2.weight' are one parameter."
        )

    def test_module_that_is_called_twice(self):
        """What it reads in one call is not what it reads in the other."""

        class Twice(TwoConvs):
            def forward(self, x):
                return super().forward(x) - super().forward(x.flip(0))

        assert refusal(Twice()) == (
            "Cannot prune layer 'conv1': the model calls 'conv1' 2 times in one forward pass."
        )

    def test_layer_that_is_not_called(self):
        """It may be of use to something that the probe does not show."""
        model = TwoConvs()
        model.spare = nn.Linear(3, 3)

        assert refusal(model, "spare") == (
            "Cannot prune layer 'spare': the model does not call it on the probe."
        )

    def test_detached_output(self):
        """Without a gradient nothing can be followed."""
        assert refusal(Between(torch.Tensor.detach)) == (
            "Cannot prune layer 'conv1': no gradient connects it with the model's output."
        )

    def test_split_filters(self):
        """Some go here, some there, by number."""

        class Split(TwoConvs):
            def __init__(self):
                super().__init__()
                self.left, self.right = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

            def middle(self, x):
                left, right = x.chunk(2, 1)
                return torch.cat([self.left(left), self.right(right)], 1)

        assert re.fullmatch(
            "Cannot prune layer 'conv1': some of its filters reach '(left|right)', and others do "
            "not.",
            refusal(Split()),
        )

    @pytest.mark.parametrize(
        "function",
        [
            lambda x: x.flip(1),
            lambda x: x.roll(1, 1),
            lambda x: x.softmax(1),
            lambda x: x - x.mean(1, keepdim=True),
            lambda x: F.normalize(x, dim=1),
            lambda x: x.sort(1).values,
            lambda x: x.cumsum(1),
            lambda x: x + F.pad(x[:, 1:], (0, 0, 0, 0, 0, 1)),
            lambda x: shuffled(x) if x.shape[1] % 2 == 0 else x,
        ],
        ids=[
            *("flip", "roll", "softmax", "centre", "normalise", "sort", "sum", "neighbour"),
            "shuffle where even",
        ],
    )
    @pytest.mark.parametrize("channels", [4, 5, 12])
    def test_functions_that_mix_channels(self, function, channels):
        """They compute something else of fewer channels; where none can be told apart, at once."""
        sentence = refusal(Between(function, channels=channels))

        assert sentence == CHANGES or "cannot be told" in sentence

    def test_part_that_only_training_runs(self):
        """A second head that evaluation leaves out would fail at the next step."""

        class Helped(TwoConvs):
            def __init__(self):
                super().__init__()
                self.second = nn.Linear(6, 5)

            def forward(self, x):
                first = super().forward(x)
                return first + self.second(self.conv1(x).mean((2, 3))) if self.training else first

        assert refusal(Helped()) == (
            "Cannot prune layer 'conv1': in training mode the model does not run without some of "
            "its filters, or returns other shapes, so a part that evaluation leaves out works on "
            "them."
        )

    def test_filters_that_never_show(self):
        """An output that does not depend on them proves nothing."""
        assert refusal(Between(lambda x: x * 0.0)) == (
            "Cannot prune layer 'conv1': there is no proof that it can be, because with random "
            "parameters the model's outputs do not show its filters."
        )

    def test_outputs_that_are_not_finite(self):
        """They cannot be compared."""
        model = TwoConvs()
        model.fc.bias.data[0] = torch.nan

        with pytest.raises(PruningError, match="outputs on the probe are not finite"):
            structure_of(model, "conv1", images())

    def test_scripted_model(self):
        """Its modules cannot be seen into."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch deprecates torch.jit
            model = torch.jit.trace(TwoConvs().eval(), images())

        assert refusal(model) == (
            "Cannot prune layer 'conv1': the model is scripted or traced by torch.jit; prune the "
            "original model."
        )

    def test_lazy_model(self):
        """It has no weights to look at."""
        model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
        with pytest.raises(PruningError, match="parameters without values yet; run one batch"):
            find_structure(model, "0", probe=given_probe(nn.Identity(), images()))

    def test_model_that_cannot_be_copied(self):
        """Nothing is tried on the model itself."""
        model = TwoConvs()
        model.lock = threading.Lock()

        with pytest.raises(PruningError) as caught:
            structure_of(model, "conv1", images())
        assert str(caught.value) == (
            "Cannot prune layer 'conv1': a proof needs a copy of the model, which cannot be made "
            "(cannot pickle '_thread.lock' object)."
        )

    def test_probe_that_the_model_cannot_take(self):
        """Said as it is said for captures."""
        with pytest.raises(PruningError, match="The probe cannot be taken by the model"):
            structure_of(TwoConvs(), "conv1", torch.randn(2, 5, 8, 8))

    @pytest.mark.parametrize("wrong", ["module", "entries"])
    def test_a_structure_that_is_wrong_is_disproved(self, wrong):
        """A reader forgotten, or two of its columns exchanged: the proof is not for show."""
        model = ProjectedResNet()
        structure = structure_of(model, "stem", images())
        cuts = list(structure.cuts)
        at = next(i for i, cut in enumerate(cuts) if cut.module == "stage2.0.shortcut.0")
        if wrong == "module":
            del cuts[at]
        else:
            entries = cuts[at].entries.copy()
            entries[[0, 1]] = entries[[1, 0]]
            cuts[at] = Cut(module=cuts[at].module, role="reads", entries=entries, length=8)
        broken = Structure(layer="stem", filters=8, cuts=tuple(cuts))

        with pytest.raises(PruningError, match="Cannot prune layer 'stem'"):
            proof.prove(copy.deepcopy(model), broken, given_probe(model, images()))


class TestNothingIsTouched:
    def test_model_and_random_states(self, capfd):
        """Parameters, gradients, modes, buffers, hooks and random states are as before."""
        model = lively(ProjectedResNet())
        model.stage1[0].bn1.eval()
        model.fc.weight.requires_grad_(False)
        model(images()).sum().backward()
        modes = [module.training for module in model.modules()]
        state = copy.deepcopy(model.state_dict())
        gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        states = random_states()
        with warnings.catch_warnings(record=True) as caught, torch.no_grad():
            warnings.simplefilter("always")
            structure_of(model, "stem", images())
        after = random_states()

        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            assert parameter.grad is gradient or torch.equal(parameter.grad, gradient)
        assert [p.requires_grad for p in model.parameters()].count(False) == 1
        assert not any(module._forward_pre_hooks for module in model.modules())
        assert after == states
        assert caught == []
        assert capfd.readouterr() == ("", "")

    def test_in_inference_mode(self):
        """Gradients are needed for the tracing, and had all the same."""
        with torch.inference_mode():
            structure = structure_of(TwoConvs(), "conv1", images())

        assert said(structure) == {"conv1 writes", "conv2 reads"}

    def test_what_a_model_keeps_of_a_pass(self):
        """Computed tensors among its attributes do not prevent the copy."""

        class Keeps(TwoConvs):
            def middle(self, x):
                self.kept = F.relu(x)
                return self.kept

        model = Keeps()
        model(images())
        kept = model.kept.clone()
        structure_of(model, "conv1", images())

        assert torch.equal(model.kept, kept)

    def test_what_hooks_of_the_user_hold(self):
        """A hook that is a method of something large is not copied with it."""

        class Collector:
            def __init__(self):
                self.lock, self.seen = threading.Lock(), 0

            def hook(self, *_):
                self.seen += 1

        model, collector = TwoConvs(), Collector()
        model.conv1.register_forward_hook(collector.hook)
        structure_of(model, "conv1", images())

        assert collector.seen > 0

    def test_wide_layers_are_traced_once(self):
        """512 filters before 25,088 columns, as in VGG16, take no run of the model each."""
        model = nn.Sequential(
            *(nn.Conv2d(3, 512, 3, padding=1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(512 * 49, 8), nn.ReLU(), nn.Linear(8, 2)),
        )
        runs = []
        model.register_forward_pre_hook(lambda *_: runs.append(1))
        structure = structure_of(model, "0", images(2, 7))

        assert said(structure) == {"0 writes", "3 reads x49"}
        assert len(runs) < 20
