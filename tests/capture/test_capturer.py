"""A capture from beginning to end."""

import copy
import gc
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tensorview.analysis.correlation import pearson
from tensorview.capture import Capturer
from tensorview.errors import CaptureError, ConfigurationError
from tensorview.snapshot import GROUP_DEAD, GROUP_NONE, from_table, to_table
from tests.capture.helpers import capture_once, make_settings, snapshot_once


def make_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 4, 3, stride=2, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 9, 5),
    )


def images(count=10, seed=1):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def without_values(inputs, outputs):
    """A Linear without weights; torch warns that it cannot initialise them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Linear(inputs, outputs)


def as_arrays(result):
    """All of one result's arrays and numbers by name."""
    found = {}
    for layer in result.layers:
        for part in (layer.weights, layer.activations):
            found |= {f"{layer.name}.{key}": value for key, value in vars(part or object).items()}
        found[f"{layer.name}.sketch"] = layer.sketch
        found |= {f"{layer.name}.{key}": value for key, value in layer.scalars.items()}
    return found


def test_a_snapshot_shows_what_the_layers_do():
    """Every array against its definition."""
    model, probe = make_net(), images()
    snapshot = snapshot_once(model, probe=probe, map_samples=(0, 7))
    model.eval()
    with torch.no_grad():
        expected = model[2](model[1](model[0](probe)))
    layer = snapshot.layers[0]
    found = layer.activations

    assert (layer.name, layer.kind, layer.weight_shape) == ("0", "Conv2d", (6, 1, 3, 3))
    assert np.array_equal(layer.weights.values, model[0].weight.detach())
    assert found.channels.tolist() == list(range(6))
    assert found.map_samples == (0, 7)
    assert found.maps[0] == pytest.approx(expected.mean(0).numpy(), abs=1e-6)
    assert np.array_equal(found.maps[1:], expected[[0, 7]])
    assert found.pcc == pytest.approx(pearson(expected), abs=1e-6)
    assert found.zero_mass == pytest.approx((expected == 0).float().mean((0, 2, 3)).numpy())
    assert found.histogram_range[:, 1].tolist() == expected.amax((0, 2, 3)).tolist()
    assert found.histogram.sum(1) + found.zero_mass == pytest.approx(np.ones(6), abs=1e-5)
    assert found.sample_count == 10
    assert found.map_stride == 1
    assert snapshot.layers[2].activations.maps.shape == (3, 5, 1, 1)


def test_a_snapshot_is_whole_numpy_and_survives_the_transport():
    """What was captured goes through its table and back; scalars are those of the layers."""
    model = make_net()
    model(images()).sum().backward()
    snapshot = snapshot_once(
        model, probe=images(), trajectory_axes={"0": [(0, 1, 2)]}, views=("weights", "trajectory")
    )
    table, arrays = to_table(snapshot)
    again = from_table(table, arrays)
    weight = model[0].weight.detach()

    assert all(type(array) is np.ndarray for array in arrays)
    assert again.layers[0].trajectories[1].subspace == "w[0, 0, 0, 0] w[0, 0, 0, 1] w[0, 0, 0, 2]"
    assert again.layers[0].trajectories[1].points[0].tolist() == weight.flatten()[:3].tolist()
    assert again.layers[0].activations is None
    assert again.scalars["0/weight_norm"][0] == pytest.approx(float(weight.norm()))
    assert again.scalars["0/gradient_norm"][0] == pytest.approx(float(model[0].weight.grad.norm()))
    assert np.isnan(again.scalars["0/update_ratio"]).all()


def test_a_capture_owns_its_numbers():
    """Whatever happens to the model after begin() does not show."""
    model = make_net()
    capturer = Capturer(model, settings=make_settings(probe=images()))
    expected = as_arrays(capturer.begin().finish())
    pending = capturer.begin()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    assert pending.ready()
    actual = as_arrays(pending.finish())

    assert expected.keys() == actual.keys()
    for key, value in expected.items():
        assert np.array_equal(value, actual[key], equal_nan=isinstance(value, (float, np.ndarray)))


@pytest.mark.parametrize("largest", [9, 4, 3, 1])
def test_out_of_memory_halves_the_chunks_and_changes_no_number(largest):
    """Statistics over chunks are those of the whole probe."""

    tried = []

    class Hungry(nn.Sequential):
        def forward(self, x):
            tried.append(len(x))
            if len(x) > largest:
                raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB.")
            return super().forward(x)

    expected = as_arrays(capture_once(make_net(), probe=images(), map_samples=(0, 6)))
    actual = as_arrays(capture_once(Hungry(*make_net()), probe=images(), map_samples=(0, 6)))

    assert tried[: tried.index(next(size for size in tried if size <= largest))] == [
        size for size in (10, 5, 3, 2) if size > largest
    ]
    assert expected.keys() == actual.keys()
    for key, value in expected.items():
        if key.endswith(".histogram"):
            displaced = np.abs(np.cumsum(actual[key], 1) - np.cumsum(value, 1)).sum(1)

            assert displaced.max() < 0.5  # bins, on average over the values
        else:
            assert actual[key] == pytest.approx(value, abs=1e-5, nan_ok=True)


def test_without_memory_for_one_sample_there_are_no_activations(caplog):
    """Weights are still captured, and one WARNING says why; strict raises."""

    class Starved(nn.Sequential):
        def forward(self, x):  # noqa: ARG002
            raise RuntimeError("DefaultCPUAllocator: not enough memory")

    model = Starved(*make_net())
    message = "there is no memory left for even one sample of the probe"
    with pytest.raises(CaptureError, match=message):
        Capturer(model, settings=make_settings(probe=images()))
    capturer = Capturer(model, settings=make_settings(strict=False))
    capturer.wait_for_probe(model)
    with pytest.raises(RuntimeError):
        model(images())
    for _ in range(2):
        result = capturer.begin().finish()

        assert result.layers[0].activations is None
        assert result.layers[0].weights is not None
        assert np.isnan(result.layers[0].scalars["dead"])
    assert [message in record.message for record in caplog.records] == [True]


def test_the_probe_is_the_first_call_and_the_hook_goes_with_it():
    """64 samples of the first call; no hook after it."""
    model = make_net()
    capturer = Capturer(model, settings=make_settings())
    capturer.wait_for_probe(model)
    assert len(model._forward_pre_hooks) == 1
    model(images(100))
    model(images(3, seed=5))
    result = capturer.begin().finish()

    assert not model._forward_pre_hooks
    assert result.layers[0].activations.sample_count == 64
    assert result.layers[0].activations.maps[0] == pytest.approx(
        F.relu(model.eval()[1](model[0](images(100)[:64]))).mean(0).detach().numpy(), abs=1e-6
    )


def test_a_model_that_is_never_called_says_so(caplog):
    """Without a probe, weights alone, and one sentence."""
    model = make_net()
    capturer = Capturer(model, settings=make_settings())
    capturer.wait_for_probe(model)
    results = [capturer.begin().finish() for _ in range(3)]
    capturer.detach()

    assert [result.layers[0].activations for result in results] == [None] * 3
    assert [record.message for record in caplog.records] == [
        "Activations are not shown: the model was not called as a whole. Pass probe= a batch."
    ]
    assert not model._forward_pre_hooks


class Net(nn.Module):
    """One that compiles as a whole."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.fc = nn.Linear(3 * 36, 2)

    def forward(self, x):
        return self.fc(self.conv(x).relu().flatten(1))


@pytest.mark.parametrize(
    "form", ["before", "after", "after, sequential", "in place before", "in place after"]
)
def test_compiled_models_show_activations_and_compile_once(form):
    """torch.compile before or after us, wrapped or in place: same pictures, no recompilation."""
    counters = pytest.importorskip("torch._dynamo.utils").counters
    torch._dynamo.reset()
    counters.clear()
    model = outer = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU()) if "sequential" in form else Net()
    if form == "before":
        outer = torch.compile(model, backend="eager", fullgraph=True)
    if form == "in place before":
        model.compile(backend="eager", fullgraph=True)
    capturer = Capturer(model, settings=make_settings())
    capturer.wait_for_probe(outer)
    if form.startswith("after"):
        outer = torch.compile(model, backend="eager", fullgraph=True)
    if form == "in place after":
        model.compile(backend="eager", fullgraph=True)
    for seed in range(3):
        outer(images(8, seed=seed)).sum().backward()
        result = capturer.begin().finish()
    capturer.detach()

    assert result.layers[0].activations is not None
    assert counters["stats"]["unique_graphs"] == 1
    assert not model._forward_pre_hooks
    assert not outer._forward_pre_hooks
    assert type(model._compiled_call_impl).__module__ != "tensorview.capture.first_call"


def test_the_training_batch_itself_can_be_shown():
    """activations="batch": what the layers did in the very pass, which computes what it would."""
    torch.manual_seed(3)
    model = make_net().train()
    plain = make_net().train()
    batch = images(12, seed=4)
    settings = make_settings(activations="batch", map_samples=(11,))
    capturer = Capturer(model, settings=settings)
    capturer.wait_for_probe(model)
    loss, expected_loss = model(batch).sum(), plain(batch).sum()
    loss.backward()
    expected_loss.backward()
    model(batch * 2)
    result = capturer.begin().finish()
    found = result.layers[0].activations
    fresh = make_net().train()
    expected = F.relu(fresh[1](fresh[0](batch))).detach()

    assert loss.item() == expected_loss.item()
    assert all(
        torch.equal(mine.grad, other.grad)
        for mine, other in zip(model.parameters(), plain.parameters(), strict=True)
    )
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert found.sample_count == 12
    assert np.array_equal(found.maps[1], expected[11])
    assert found.maps[0] == pytest.approx(expected.mean(0).numpy(), abs=1e-6)
    assert capturer.begin().finish().layers[0].activations is None
    capturer.attach_to_batch()
    model(batch)
    assert capturer.begin().finish().layers[0].activations is not None


def test_a_validation_pass_is_not_the_training_batch():
    """activations="batch" waits for a pass in training mode and with gradients."""
    model = make_net().train()
    capturer = Capturer(model, settings=make_settings(activations="batch"))
    capturer.wait_for_probe(model)
    model.eval()(images(3))
    with torch.no_grad():
        model.train()(images(4))
    model(images(7))

    assert capturer.begin().finish().layers[0].activations.sample_count == 7


def test_samples_beyond_a_given_probe_are_refused():
    """One sentence, where they are given."""
    with pytest.raises(
        ConfigurationError,
        match=r"^map_samples=\[0, 500\] cannot be used: the probe has 10 samples, so there is no "
        r"500\.$",
    ):
        Capturer(make_net(), settings=make_settings(probe=images(), map_samples=(0, 500)))


@pytest.mark.parametrize("mode", ["probe", "batch"])
def test_samples_beyond_the_batch_are_named_once(caplog, mode):
    """A batch turns out to be smaller than expected: one warning, and the other maps."""
    model = make_net()
    settings = make_settings(activations=mode, map_samples=(0, 500))
    capturer = Capturer(model, settings=settings)
    capturer.wait_for_probe(model)
    for _ in range(2):
        model(images())
        found = capturer.begin().finish().layers[0].activations
        if mode == "batch":
            capturer.attach_to_batch()
    capturer.detach()

    assert found.map_samples == (0,)
    assert [record.message for record in caplog.records] == [
        "Not shown, for there are not so many samples: map_samples=[500]."
    ]


def test_nothing_is_captured_into_a_cuda_graph(monkeypatch):
    """While a whole step is recorded, one sentence instead of recorded captures."""
    capturer = Capturer(make_net(), settings=make_settings(probe=images()))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    for action in (capturer.begin, capturer.sketch_weights):
        with pytest.raises(
            CaptureError,
            match=r"^Cannot capture while a CUDA graph is recorded: call watcher\.step\(\) after "
            r"each replay, outside of the recording\.$",
        ):
            action()


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_may_change_its_precision_while_watched(dtype, given):
    """The probe follows, and activations go on."""
    model = make_net()
    capturer = Capturer(model, settings=make_settings(probe=images() if given else None))
    capturer.wait_for_probe(model)
    model(images())
    capturer.begin().finish()
    model.to(dtype)
    found = capturer.begin().finish().layers[0].activations

    assert found.sample_count == 10
    model.eval()
    with torch.no_grad():
        expected = F.relu(model[1](model[0](images().to(dtype)))).double()
    assert found.maps[0] == pytest.approx(expected.mean(0).numpy(), abs=2e-2)


def test_a_pass_that_fails_or_is_interrupted_leaves_nothing():
    """Hooks and mode go, whatever the pass raises."""

    class Failing(nn.Sequential):
        def forward(self, x):
            super().forward(x)
            raise KeyboardInterrupt

    model = Failing(*make_net())
    capturer = Capturer(model, settings=make_settings(activations="batch"))
    capturer.wait_for_probe(model)
    with pytest.raises(KeyboardInterrupt):
        model(images())
    capturer.detach()

    assert torch.overrides._get_current_function_mode() is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("mode", ["probe", "batch"])
def test_copies_and_pickles_of_the_model_carry_nothing_of_ours(mode):
    """A model copied or saved while we wait for its next call works where tensorview is not."""
    model = make_net()
    capturer = Capturer(model, settings=make_settings(activations=mode))
    capturer.wait_for_probe(model)
    pickled = pickle.dumps(model)
    twins = copy.deepcopy(model), pickle.loads(pickled)  # noqa: S301  # our own bytes
    for twin in twins:
        assert torch.equal(twin.eval()(images()), make_net().eval()(images()))
    assert b"tensorview" not in pickled
    model(images())

    assert capturer.begin().finish().layers[0].activations is not None


def test_batch_mode_is_refused_on_compiled_models():
    """One sentence with the way out."""
    model = torch.compile(Net(), backend="eager")
    capturer = Capturer(model._orig_mod, settings=make_settings(activations="batch"))
    with pytest.raises(
        ConfigurationError,
        match=r"^activations='batch' cannot be used on a compiled model: leave it out, and the "
        r"probe runs through the eager one\.$",
    ):
        capturer.wait_for_probe(model)


def test_update_ratio_is_the_change_of_this_step():
    """Sketches before and after: |update| / |weight|, exact for small layers."""
    model = make_net()
    capturer = Capturer(model, settings=make_settings(views=("scalars",)))
    before = capturer.sketch_weights()
    with torch.no_grad():
        model[0].weight.mul_(1.25)
    scalars = capturer.begin(before=before).finish().layers[0].scalars

    assert scalars["update_ratio"] == pytest.approx(0.25)


def test_n1_non_finite_values_are_counted_stored_and_kept_apart():
    """NaN and infinities are where they were, and other channels are untouched."""
    model = make_net()
    with torch.no_grad():
        model[0].weight[2, 0, 0, 0] = torch.nan
        model[0].weight[3, 0, 1, 1] = torch.inf
    layer = capture_once(model, probe=images()).layers[0]
    found = layer.activations

    assert layer.scalars["nonfinite_weights"] == 2
    assert layer.scalars["nonfinite_activations"] > 0
    assert np.isnan(layer.weights.values[2, 0, 0, 0])
    assert layer.weights.values[3, 0, 1, 1] == np.inf
    assert 0 < layer.weights.range < 1
    assert np.isfinite(found.pcc[np.ix_([0, 1, 4, 5], [0, 1, 4, 5])]).all()
    assert np.isfinite(found.map_range).all()
    assert np.isfinite(found.histogram).all()


@pytest.mark.parametrize(
    ("layer", "shape", "folded"),
    [
        (nn.Conv1d(2, 3, 2), (4, 2, 7), (1, 6)),
        (nn.Conv3d(2, 3, 2), (4, 2, 3, 5, 6), (2 * 4, 5)),
        (nn.ConvTranspose2d(2, 4, 2, stride=2, groups=2), (4, 2, 3, 5), (6, 10)),
        (nn.Linear(5, 3), (4, 7, 5), (1, 7)),
        (nn.Linear(5, 3), (4, 2, 7, 5), (1, 14)),
        (nn.Linear(5, 3), (4, 5), (1, 1)),
        (nn.Conv2d(2, 3, 2), (4, 2, 5, 6), (4, 5)),
        (nn.Conv2d(4, 4, 3, groups=4), (4, 4, 5, 6), (3, 4)),
        (nn.Conv2d(4, 4, 3, groups=2).to(memory_format=torch.channels_last), (4, 4, 5, 6), (3, 4)),
        (nn.ConvTranspose1d(2, 3, 2), (4, 2, 7), (1, 8)),
        (nn.ConvTranspose3d(2, 3, 2), (4, 2, 3, 5, 6), (4 * 6, 7)),
        (nn.Conv2d(2, 2, 1, groups=2), (1, 2, 1, 1), (1, 1)),
        (nn.Linear(1, 1), (1, 1), (1, 1)),
        (without_values(0, 3), (4, 0), (1, 1)),
        (without_values(3, 0), (4, 3), (1, 1)),
    ],
)
def test_n3_maps_of_every_rank_are_folded_to_two_dimensions(layer, shape, folded):
    """Counts equal the formula for each layer kind."""
    inputs = torch.randn(shape)
    found = capture_once(nn.Sequential(layer), probe=inputs).layers[0]

    assert found.activations.maps.shape == (2, found.activations.out, *folded)
    assert found.activations.pcc.shape == (found.activations.out,) * 2
    assert found.weights.values.shape[0] == found.activations.out == len(found.weights.filters)


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x[:, :, ::2, 1:],
        lambda x: x[:1].expand(4, -1, -1, -1),
        lambda x: x.transpose(2, 3),
    ],
    ids=["channels last", "strided", "expanded", "transposed"],
)
def test_n3_memory_layout_changes_no_number(layout):
    """Maps, distributions and correlations are those of a contiguous probe."""
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU())
    probe = layout(torch.randn(4, 2, 8, 9))
    odd, plain = (
        capture_once(model, probe=each).layers[0].activations
        for each in (probe, probe.contiguous().clone())
    )

    assert not probe.is_contiguous()
    for name in ("maps", "histogram", "zero_mass", "pcc"):
        assert getattr(odd, name) == pytest.approx(getattr(plain, name), abs=1e-6, nan_ok=True)


def test_a_model_that_is_a_layer_goes_by_its_class():
    """There is no dotted path to it."""
    snapshot = snapshot_once(nn.Linear(3, 2), probe=torch.ones(2, 3), layers=["Linear"])

    assert [layer.name for layer in snapshot.layers] == ["Linear"]
    assert "Linear/weight_norm" in snapshot.scalars


def test_a_layer_that_folds_time_into_the_batch_shows_only_its_mean():
    """Where samples cannot be told apart no map is named after one."""

    class Frames(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, videos):
            return self.conv(videos.flatten(0, 1))

    found = capture_once(Frames(), probe=torch.randn(4, 3, 1, 5, 5)).layers[0].activations

    assert found.map_samples == ()
    assert found.maps.shape == (1, 2, 3, 3)
    assert found.sample_count == 4


def test_groups_and_dead_filters_are_told():
    """Duplicates share a group, a constant filter is dead; both reach the snapshot."""
    model = make_net()
    with torch.no_grad():
        model[0].weight[4] = model[0].weight[1]
        model[0].bias[4] = model[0].bias[1]
        model[1].weight[5] = 0
        model[1].bias[5] = -1
    snapshot = snapshot_once(model, probe=images())
    groups = snapshot.layers[0].activations.groups

    assert groups[1] == groups[4] >= 0
    assert groups[5] == GROUP_DEAD
    assert (groups[[0, 2, 3]] == GROUP_NONE).any()
    assert snapshot.scalars["0/dead"].tolist() == [1]


def test_a_given_probe_shows_the_same_in_every_chunk_of_time():
    """Two captures of an unchanged model are equal, bit for bit."""
    capturer = Capturer(make_net(), settings=make_settings(probe=images()))
    first, second = (as_arrays(capturer.begin().finish()) for _ in range(2))

    for key, value in first.items():
        assert np.array_equal(value, second[key], equal_nan=isinstance(value, (float, np.ndarray)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_n2_other_precisions_are_captured(dtype):
    """float64 weights stay, bfloat16 ones are widened exactly."""
    model = make_net().to(dtype)
    layer = capture_once(model, probe=images().to(dtype)).layers[0]

    assert layer.weights.values.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    assert np.array_equal(layer.weights.values, model[0].weight.detach().double())
    assert layer.activations.maps.dtype == np.float32


def test_the_batch_summed_correlation_is_there_on_request():
    """correlation="batch_sum" is the paper's."""
    model, probe = make_net().eval(), images()
    found = capture_once(model, probe=probe, correlation="batch_sum").layers[0].activations
    expected = pearson(F.relu(model[1](model[0](probe))).detach(), variant="batch_sum")

    assert found.pcc == pytest.approx(expected, abs=1e-5, nan_ok=True)


def count_tensors(*, collect=True):
    if collect:
        gc.collect()
    return sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())


def test_nothing_keeps_the_model_s_tensors_alive():
    """After a capture no tensor but the probe and the signs is held."""
    model = make_net()
    capturer = Capturer(model, settings=make_settings(probe=images()))
    capturer.begin().finish()
    before = count_tensors()
    for _ in range(3):
        capturer.begin().finish()

    assert count_tensors() <= before


@pytest.mark.parametrize("activations", ["probe", "batch"])
def test_a_capture_frees_its_tensors_without_a_collection(activations):
    """No circle of references holds them: those of old captures would pile up for minutes."""
    model = make_net()
    probe = images() if activations == "probe" else None
    capturer = Capturer(model, settings=make_settings(probe=probe, activations=activations))

    def capture():
        if activations == "batch":
            capturer.wait_for_probe(model)
            model(images())
        capturer.begin().finish()

    capture()
    gc.collect()
    gc.disable()
    try:
        before = count_tensors(collect=False)
        for _ in range(3):
            capture()
        after = count_tensors(collect=False)
    finally:
        gc.enable()

    assert after <= before
