"""Every layer's backward is the derivative of its own forward, along random directions of x and of every parameter."""

import numpy as np
import pytest
from gradients import VacuousCheckError, assert_gradients, central_difference
from layer_cases import CASES, draw, parameters, run

EACH = pytest.mark.parametrize(
    ("name", "training"),
    [(name, training) for name, case in CASES.items() for training in case.modes()],
    ids=[f"{name}{'' if t else ', eval'}" for name, case in CASES.items() for t in case.modes()],
)
DIRECTIONS = 4


def check(name, training, dy=None, tolerance=1e-8):
    """Hold <gradient, direction> against the central difference along that direction, for each input and direction."""
    case = CASES[name]
    layer = case.layer(training=training)
    x, cotangent = case.arrays()
    dy = cotangent if dy is None else dy
    inputs = {"x": x} | {path.replace(".", "_"): p.copy() for path, p in parameters(layer).items()}
    along = {
        name: draw(50 + i, DIRECTIONS, *value.shape, mean=0.0, std=1.0)
        for i, (name, value) in enumerate(inputs.items())
    }

    def forward(**steps):
        moved = case.layer(training=training)
        values = {name: inputs[name] + np.tensordot(steps[name], along[name], 1) for name in inputs}
        for path, p in parameters(moved).items():
            p[...] = values[path.replace(".", "_")]
        return moved.forward(values["x"])

    _, grads = run(layer, x, dy)
    got = {f"d{name}": np.tensordot(along[name], grads[f"d{name}"], grads[f"d{name}"].ndim) for name in inputs}
    zero = case.zero if training else case.zero_in_eval
    assert_gradients(
        forward, got, {name: np.zeros(DIRECTIONS) for name in inputs}, dy, central_difference, tolerance, zero
    )


@EACH
def test_backward_is_the_derivative_of_forward(name, training):
    check(name, training)


def test_the_check_refuses_a_constant_cotangent():
    dy = np.ones(CASES["BatchNorm"].shape)
    with pytest.raises(VacuousCheckError, match="the numeric dx is about zero"):
        check("BatchNorm", True, dy)


def test_the_check_finds_a_gradient_that_is_one_percent_off(monkeypatch):
    case = CASES["Linear"]
    layer = type(case.layer())
    backward = layer.backward
    monkeypatch.setattr(layer, "backward", lambda self, dy: 1.01 * backward(self, dy))
    with pytest.raises(AssertionError, match=r"dx is off by 0\.01"):
        check("Linear", True)
