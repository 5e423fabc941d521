"""The gradient check of a layer of the table: its backward against the slope of its own forward."""

import threading
from functools import cache
from typing import Any

import numpy as np
import pytest
from gradients import STEPS, assert_gradients, slope
from layer_cases import CASES
from layer_runs import Array, draw, parameters, run
from tolerance import rounding

from minidl import memory, parallel, use_backend

_DIRECTIONS = 4


def check_slopes(name: str, training: bool = True, dy: Array | None = None) -> None:
    """Hold <gradient, direction> against the slope along random directions of x and of every parameter.

    The slope is that of the forward on NumPy, whatever library the backward ran on; its own error is the tolerance.
    """
    case = CASES[name]
    x, cotangent = case.arrays()
    dy = cotangent if dy is None else dy
    slopes, errors = _of_the_table(name, training) if dy is cotangent else _slopes(name, training, dy)
    _, grads = run(case.layer(training=training), x, dy)
    along = _directions(name)
    got = {f"d{key}": np.tensordot(a, grads[f"d{key}"], grads[f"d{key}"].ndim) for key, a in along.items()}
    assert_gradients(_never, got, slopes, dy, lambda *_: slopes, errors, case.zero if training else case.zero_in_eval)


@cache
@use_backend("numpy")
def _directions(name: str) -> dict[str, Array]:
    """Return random directions for x and for each parameter."""
    return {key: draw(50 + i, _DIRECTIONS, *a.shape, mean=0.0, std=1.0) for i, (key, a) in enumerate(_at(name).items())}


def _at(name: str) -> dict[str, Array]:
    """Return x and each parameter."""
    case = CASES[name]
    return {"x": case.arrays()[0]} | {path.replace(".", "_"): p for path, p in parameters(case.layer()).items()}


@cache
def _of_the_table(name: str, training: bool) -> tuple[dict[str, Array], dict[str, float]]:
    """Return the slopes for the table's own cotangent: the forward alone enters."""
    return _slopes(name, training, CASES[name].arrays()[1])


@use_backend("numpy")
def _slopes(name: str, training: bool, dy: Array) -> tuple[dict[str, Array], dict[str, float]]:
    """Return the numeric slopes along the directions, and for each gradient their largest error."""
    at = _at(name)

    def loss(**arrays: Array) -> Any:
        layer = CASES[name].layer(training=training)
        for path, p in parameters(layer).items():
            p[...] = arrays[path.replace(".", "_")]
        return (dy * layer.forward(arrays["x"])).sum()

    noise = rounding(loss, at)["y"]
    slopes, errors = {}, {}
    for key, lines in _directions(name).items():
        pairs = [
            slope(lambda h, key=key, line=line: loss(**at | {key: at[key] + h * line}), noise, STEPS[2:7])
            for line in lines
        ]
        slopes[key], each = (np.array(values) for values in zip(*pairs, strict=True))
        errors[f"d{key}"] = float(each.max())
    return slopes, errors


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
