"""Run a layer on arrays of the host, and say how far rounding may move what it gives.

Arrays of the tests live on the host. A layer's live where it was made: `run` moves them there and back, so that a test
marked `EACH_LIBRARY` is written once.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tolerance import TRIALS, cancelled_gates, rounding

from minidl import Layer, to_device, to_host

Array = NDArray[Any]

EACH_LIBRARY = pytest.mark.parametrize("library", ["numpy", "strict"], indirect=True)
EACH_ENGINE = pytest.mark.parametrize("library", ["numpy", "strict", "numba"], indirect=True)


def draw(seed: int, *shape: int, mean: float = 0.5, std: float = 1.5) -> Array:
    """Return normal numbers about a mean."""
    return np.random.default_rng(seed).normal(mean, std, size=shape)


def distinct(seed: int, *shape: int) -> Array:
    """Return numbers that differ from each other and from 0 by 0.1 or more, in random order: no kink is near."""
    size = int(np.prod(shape))
    return (0.1 * (np.random.default_rng(seed).permutation(size) - size // 3) + 0.05).reshape(shape)


def as_float64(layer: Layer) -> Layer:
    """Return the layer, its arrays replaced by float64 copies."""
    for _, one in layer.named_layers():
        for arrays in (one.params, one.grads, one.buffers):
            arrays.update({name: array.astype("float64") for name, array in arrays.items()})
    return layer


def parameters(layer: Layer) -> dict[str, Array]:
    """Return every parameter of the tree by its path."""
    return {f"{p}.{n}" if p else n: a for p, one in layer.named_layers() for n, a in one.params.items()}


def gradients(layer: Layer) -> dict[str, Array]:
    """Return every gradient of the tree, {"dgate_weight": ...}."""
    return {f"d{path.replace('.', '_')}": g for path, g in _gradients(layer)}


def run(layer: Layer, x: Array, dy: Array) -> tuple[Array, dict[str, Array]]:
    """Return y and all gradients of one forward and one backward, on the host."""
    layer.zero_grad()
    y = layer.forward(to_device(x))
    dx = layer.backward(to_device(dy))
    return to_host(y), {"dx": to_host(dx)} | {name: host(g) for name, g in gradients(layer).items()}


def layer_rounding(layer: Layer, x: Array, dy: Array, trials: int = TRIALS) -> dict[str, float]:
    """Return how far rounding may move y and each gradient of `run`: x, dy and every array of the layer are moved.

    The layer's arrays are afterwards as before.
    """
    state = layer.state()

    def program(x: Array, dy: Array, **arrays: Array) -> dict[str, Array]:
        layer.load_state(arrays)
        y, found = run(layer, x, dy)
        return {"y": y} | found

    allowed = rounding(program, {"x": x, "dy": dy} | state, trials)
    layer.load_state(state)
    return allowed


def gate_rounding(layer: Layer, x: Array, y: Array, dy: Array) -> dict[str, float]:
    """Return what rounding leaves of gradients that vanish by cancelling, as those through a gate at 0 or 1 do.

    It is `cancelled_gates`, and for dx what passes through gate.weight of it.
    """
    least = cancelled_gates(dy, y, x.astype(float), host(layer.params["bias"]))
    return least | {"dx": least["dgate_bias"] * float(np.abs(host(layer.params["gate.weight"])).max())}


def host(array: Any) -> Array:
    """Return a copy on the host."""
    return np.array(to_host(array))


def _gradients(layer: Layer) -> Iterator[tuple[str, Array]]:
    for path, one in layer.named_layers():
        for name, gradient in one.grads.items():
            yield (f"{path}.{name}" if path else name), gradient
