"""Every layer's backward is the derivative of its own forward, along random directions of x and of every parameter."""

import numpy as np
import pytest
from gradients import VacuousCheckError
from layer_cases import CASES
from layer_check import check_slopes
from layer_runs import EACH_LIBRARY

EACH = pytest.mark.parametrize(
    ("name", "training"),
    [(name, training) for name, case in CASES.items() for training in case.modes()],
    ids=[f"{name}{'' if t else ', eval'}" for name, case in CASES.items() for t in case.modes()],
)


@EACH_LIBRARY
@EACH
def test_backward_is_the_derivative_of_forward(name, training):
    check_slopes(name, training)


def test_the_check_refuses_a_constant_cotangent():
    with pytest.raises(VacuousCheckError, match="the numeric dx is about zero"):
        check_slopes("BatchNorm", dy=np.ones(CASES["BatchNorm"].shape))


def test_the_check_finds_a_gradient_that_is_one_percent_off(monkeypatch):
    layer = type(CASES["Linear"].layer())
    backward = layer.backward
    monkeypatch.setattr(layer, "backward", lambda self, dy: 1.01 * backward(self, dy))
    with pytest.raises(AssertionError, match=r"dx is off by 0\.01"):
        check_slopes("Linear")
