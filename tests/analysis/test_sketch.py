"""Sketches of weights."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tensorview.analysis import sketch as module
from tensorview.analysis.sketch import DIMENSIONS, relative_change, sketch


@pytest.mark.parametrize("shape", [(0,), (1,), (4, 4, 2, 2), (64,)])
def test_small_layers_are_their_own_sketch(shape):
    """Up to 64 weights the sketch is exact, in float64."""
    weights = torch.randn(shape)

    assert sketch(weights).tolist() == weights.flatten().double().tolist()


def make_weights(kind, *, size, generator):
    if kind == "constant":
        return torch.ones(size)
    if kind == "random":
        return torch.randn(size, generator=generator)
    if kind == "low rank":
        columns = torch.randn(1, 50, generator=generator)
        rows = torch.randn(size // 50 + 1, 1, generator=generator)
        return (rows * columns).flatten()[:size]
    weights = torch.zeros(size)
    places = torch.randint(size, (10,), generator=generator)
    weights[places] = torch.randn(10, generator=generator)
    return weights


@pytest.mark.parametrize("size", [65, 1000, 5000, 300_000])
@pytest.mark.parametrize("kind", ["constant", "random", "low rank", "sparse"])
def test_squared_lengths_are_right_on_average_and_within_the_documented_error(
    monkeypatch, size, kind
):
    """Over many seeds the mean is 1 and the deviation about sqrt(2 / 64), whatever the weights."""
    ratios = []
    try:
        for seed in range(60):
            monkeypatch.setattr(module, "_SEED", seed)
            module._row_signs.cache_clear()
            module._shared_signs.cache_clear()
            weights = make_weights(kind, size=size, generator=torch.Generator().manual_seed(seed))
            found = sketch(weights)
            ratios.append(float(found.square().sum() / weights.double().square().sum()))
    finally:
        module._row_signs.cache_clear()
        module._shared_signs.cache_clear()

    assert len(found) == DIMENSIONS
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)
    assert np.std(ratios) < 1.4 * np.sqrt(2 / 64)


def test_it_is_linear_so_that_differences_are_sketched_too():
    """The sketch of a difference is the difference of the sketches."""
    first, second = torch.randn(2, 9000, dtype=torch.float64)

    assert (sketch(first) - sketch(second)).numpy() == pytest.approx(
        sketch(first - second).numpy(), abs=1e-3
    )


class ProductDtypes(TorchDispatchMode):
    """Collects the dtypes of factors of matrix products."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "mm" in str(func):
            self.seen |= {arg.dtype for arg in args if isinstance(arg, torch.Tensor)}
        return func(*args, **kwargs or {})


def test_allowing_rounded_products_does_not_round_ours():
    """A user who trades matrix precision for speed still sees exact sketches."""
    weights = torch.randn(9000)
    expected = sketch(weights)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with ProductDtypes() as products:
            found = sketch(weights)
    finally:
        torch.set_float32_matmul_precision(before)

    assert products.seen == {torch.float64}
    assert found.numpy() == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-4)


def test_update_ratio_of_a_trained_layer_is_within_its_error():
    """The estimate of |update| / |weight| is within 30 % (three deviations) of the true one."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(300, 200)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        before = layer.weight.detach().clone()
        layer(torch.randn(64, 300)).square().mean().backward()
        optimizer.step()
        after = layer.weight.detach()
        true = float((after - before).norm() / before.norm())

        assert float(relative_change(sketch(before), sketch(after))) == pytest.approx(true, rel=0.3)


def test_no_ratio_without_weights_before():
    """A layer of zeros has no relative change."""
    assert torch.isnan(relative_change(torch.zeros(4).double(), torch.ones(4).double()))


def test_every_process_uses_the_same_signs():
    """Two runs of the same model can be compared: the matrix depends on the size alone."""
    weights = torch.arange(5000.0)
    code = (
        "import torch; from tensorview.analysis.sketch import sketch; torch.manual_seed(5);"
        "print(sketch(torch.arange(5000.0)).sum().item())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert float(ran.stdout) == sketch(weights).sum().item()


def test_it_draws_no_random_number_of_the_user_s():
    """The global random state is the same before and after, also the first time."""
    module._row_signs.cache_clear()
    module._shared_signs.cache_clear()
    before = torch.get_rng_state()
    sketch(torch.ones(5000))

    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_non_finite_weights_show_in_the_sketch(value):
    """A weight that is not finite cannot hide."""
    weights = torch.ones(7000)
    weights[3000] = value

    assert not sketch(weights).isfinite().all()
