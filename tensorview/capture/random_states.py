"""The random states of a training, which a pass of the probe must not change.

Other threads may draw from the same generators meanwhile, to augment the next batch for example. A
state that is put back repeats what they drew, so only those are touched that the model draws from.
"""

from __future__ import annotations

import contextlib
import random
import threading
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn

_SEED = 20180613


class _Source(NamedTuple):
    """A generator of the whole process."""

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], Any]
    seed: Callable[[int], Any]


_draws: WeakKeyDictionary[nn.Module, dict[str, bool]] = WeakKeyDictionary()
"""By model and source: whether a pass in evaluation mode draws from it, once there was one."""


@contextlib.contextmanager
def random_states_kept(
    model: nn.Module, devices: Iterable[torch.device], *, among_threads: bool
) -> Iterator[None]:
    """Leave the random states of torch, numpy and Python as they are, though *model* may draw.

    A model that does draws the same numbers each time, so that it shows the same noise; where there
    are other threads, from its second pass on.

    Args:
        model: that is run in the block.
        devices: CUDA devices that it is on.
        among_threads: nothing but *model* is run in the block, time after time, and other threads
            may draw; else whatever is drawn is taken back.
    """
    known = _draws.setdefault(model, {}) if among_threads else {}
    sources = list(_sources(devices))
    before = [source.get() for source in sources]
    begun = list(before)
    is_alone = not among_threads or threading.active_count() == 1
    seeded = [known.get(source.name, is_alone) for source in sources]
    try:
        for index, source in enumerate(sources):
            if seeded[index]:
                source.seed(_SEED)
                begun[index] = source.get()
        yield
    finally:
        for source, former, start, was_seeded in zip(sources, before, begun, seeded, strict=True):
            drew = not _same(source.get(), start)
            # Where the model did not draw before, it is another thread that does now, if there is.
            if drew and known.get(source.name) is False and not is_alone:
                continue
            if drew or was_seeded:
                source.put(former)
            known[source.name] = drew


def _sources(devices: Iterable[torch.device]) -> Iterator[_Source]:
    yield _Source("python", random.getstate, random.setstate, random.seed)
    yield _Source("numpy", np.random.get_state, np.random.set_state, np.random.seed)
    generators = {"torch": torch.default_generator}
    generators |= {
        f"torch {device}": torch.cuda.default_generators[device.index or 0] for device in devices
    }
    for name, generator in generators.items():
        yield _Source(name, generator.get_state, generator.set_state, generator.manual_seed)


def _same(state: Any, other: Any) -> bool:
    if isinstance(state, dict):
        return state.keys() == other.keys() and all(_same(state[key], other[key]) for key in state)
    if isinstance(state, tuple):
        return len(state) == len(other) and all(map(_same, state, other))
    if isinstance(state, (Tensor, np.ndarray)):
        return bool((state == other).all())
    return bool(state == other)
