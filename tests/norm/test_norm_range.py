"""The norms over nearly all of float32's range, on every engine: they are the same for x and for a multiple of x."""

import numpy as np
import pytest
from layer_cases import NORMS
from layer_runs import EACH_ENGINE, draw, run
from tolerance import assert_close, terms

NAMES = ("BatchNorm", "InstanceNorm", "LayerNorm", "GroupNorm", "ModeNorm", "ModeGroupNorm")


@EACH_ENGINE
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e12, 1e18, 1e19, 1e25, 1e30, 1e37])
def test_values_whose_squares_float32_does_not_hold(name, size):
    case = NORMS[name]
    x = (draw(1, *case.shape, mean=0.1, std=1.0) * size).astype(np.float32)
    dy = draw(2, *case.shape, mean=0.0, std=1.0).astype(np.float32)
    layer = case.layer("float32")
    if "gate.weight" in layer.params:
        layer.params["gate.weight"][...] /= layer.params["gate.weight"].dtype.type(size)
    want_y, want = case.wanted(layer, x.astype(np.longdouble), dy.astype(np.longdouble))
    y, grads = run(layer, x, dy)
    assert_close(y, want_y, terms(16, np.abs(want_y).max(), "float32"), "y")
    assert_close(grads["dx"], want["dx"], terms(24, np.abs(want["dx"]).max(), "float32"), "dx")
    assert_close(grads["dweight"], want["dweight"], terms(24, np.abs(want["dweight"]).max(), "float32"), "dweight")
