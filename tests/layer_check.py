"""The gradient check of a layer of the table: its backward against the slope of its own forward."""

import threading
from functools import cache

import numpy as np
import pytest
from gradients import assert_gradients, central_difference
from layer_cases import CASES, Array, draw, parameters, run

from minidl import memory, parallel, use_backend

_DIRECTIONS = 4


def check_slopes(name: str, training: bool = True, dy: Array | None = None) -> None:
    """Hold <gradient, direction> against the slope along random directions of x and of every parameter.

    The slope is that of the forward on NumPy, whatever library the backward ran on.
    """
    case = CASES[name]
    x, cotangent = case.arrays()
    _, grads = run(case.layer(training=training), x, cotangent if dy is None else dy)
    along = _directions(name)
    got = {f"d{key}": np.tensordot(a, grads[f"d{key}"], grads[f"d{key}"].ndim) for key, a in along.items()}
    steps = {key: np.zeros(_DIRECTIONS) for key in along}
    zero = case.zero if training else case.zero_in_eval
    if dy is None:
        assert_gradients(_never, got, steps, cotangent, lambda *_: _slopes(name, training), 1e-8, zero)
    else:
        assert_gradients(_forward(name, training), got, steps, dy, central_difference, 1e-8, zero)


@cache
@use_backend("numpy")
def _directions(name: str) -> dict[str, Array]:
    """Return random directions for x and for each parameter."""
    case = CASES[name]
    shapes = {"x": case.shape} | {path.replace(".", "_"): p.shape for path, p in parameters(case.layer()).items()}
    return {key: draw(50 + i, _DIRECTIONS, *s, mean=0.0, std=1.0) for i, (key, s) in enumerate(shapes.items())}


@use_backend("numpy")
def _forward(name, training):
    """Return y as a function of steps along the directions."""
    case, along = CASES[name], _directions(name)
    x, _ = case.arrays()

    @use_backend("numpy")
    def forward(**steps):
        layer = case.layer(training=training)
        for path, p in parameters(layer).items():
            key = path.replace(".", "_")
            p += np.tensordot(steps[key], along[key], 1)
        return layer.forward(x + np.tensordot(steps["x"], along["x"], 1))

    return forward


@cache
@use_backend("numpy")
def _slopes(name: str, training: bool) -> dict[str, Array]:
    """Return the numeric slopes for the table's own cotangent: the forward alone enters."""
    steps = {key: np.zeros(_DIRECTIONS) for key in _directions(name)}
    return central_difference(_forward(name, training), steps, CASES[name].arrays()[1])


def _never(**_: Array) -> Array:
    raise AssertionError("the slopes are known")


def poison(patch: pytest.MonkeyPatch) -> None:
    """Fill memory that nobody has written with NaN, so that reading it shows."""
    real = np.empty

    def empty(*args, **kwargs):
        array = real(*args, **kwargs)
        array.fill(np.nan if array.dtype.kind == "f" else 255 if array.dtype == np.uint8 else 1)
        return array

    patch.setattr(np, "empty", empty)
    patch.setattr(memory, "_pool", {})
    patch.setattr(parallel, "_here", threading.local())
