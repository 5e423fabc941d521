"""Every layer gives the reference's output and gradients, in float64 to rounding and in float32 as well as it can."""

from functools import cache

import numpy as np
import pytest
from layer_cases import CASES
from layer_runs import EACH_LIBRARY, draw, host, run
from tolerance import assert_close, cancelled_gates

from minidl import to_device, use_backend

EACH = pytest.mark.parametrize(
    ("name", "training"),
    [(name, training) for name, case in CASES.items() for training in case.modes()],
    ids=[f"{name}{'' if t else ', eval'}" for name, case in CASES.items() for t in case.modes()],
)


@cache
@use_backend("numpy")
def tolerances(name, training):
    """Return how far rounding may move y and each gradient."""
    case = CASES[name]
    return case.tolerances(case.layer(training=training), *case.arrays())


@EACH_LIBRARY
@EACH
def test_forward_and_every_gradient_are_the_reference(name, training):
    case = CASES[name]
    x, dy = case.arrays()
    layer = case.layer(training=training)
    want_y, want = case.wanted(layer, x, dy)
    y, got = run(layer, x, dy)
    assert got.keys() == want.keys()
    allowed = tolerances(name, training)
    assert_close(y, want_y, allowed["y"], "y")
    for key in want:
        assert_close(got[key], want[key], allowed[key], key)


@EACH_LIBRARY
@EACH
def test_float32_is_as_near_to_float64_as_rounding_the_inputs_once(name, training):
    case = CASES[name]
    x, dy = case.arrays("float32")
    layer = case.layer("float32", training)

    def exact(*arrays):
        wide = case.layer("float64", training)
        for path, array in wide._named_arrays().items():
            array[...] = to_device(host(layer._named_arrays()[path]), like=array)
        y, grads = run(wide, *arrays)
        return {"y": y} | grads

    want = exact(x.astype(float), dy.astype(float))
    eps = np.finfo(np.float32).eps
    rounding = {key: 4 * eps * np.abs(value).max() for key, value in want.items()}
    for seed in range(3):
        nudged = exact(*(a * (1 + eps * draw(seed, *a.shape, mean=0.0, std=1.0)) for a in (x, dy)))
        for key, value in nudged.items():
            rounding[key] = max(rounding[key], 10 * np.abs(value - want[key]).max())
    y, grads = run(layer, x, dy)
    for key in case.vanishing(training):
        rounding[key] = max(rounding[key], cancelled_gates(dy, y, x, host(layer.params["bias"]))[key])
    for key, got in ({"y": y} | grads).items():
        assert got.dtype == np.float32
        assert_close(got, want[key], rounding[key], key)
