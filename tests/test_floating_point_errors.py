"""Whoever lets NumPy raise at every floating-point error gets none from numbers that are merely small."""

import numpy as np
import pytest
from layer_cases import NORMS
from layer_runs import EACH_LIBRARY, run

from minidl import ModeNorm, SoftmaxCrossEntropy, Tanh, to_device


@EACH_LIBRARY
def test_the_loss_of_far_logits():
    loss = SoftmaxCrossEntropy()
    with np.errstate(all="raise"):
        loss.forward(to_device(np.array([[0, -200.0], [90, 0]], np.float32)), np.array([0, 1]))
        loss.backward()


@EACH_LIBRARY
def test_gates_of_far_modes():
    layer = ModeNorm(2, rng=0)
    layer.params["gate.weight"][...] = to_device(np.array([[-1e3, 1], [1e3, 1]], np.float32))
    x = np.random.default_rng(0).normal(size=(7, 2, 3, 3)).astype(np.float32)
    with np.errstate(all="raise"):
        run(layer, x, x)


@pytest.mark.parametrize("name", NORMS)
def test_norms_of_small_values(name):
    case = NORMS[name]
    x = (1e-25 * np.random.default_rng(0).normal(size=case.shape)).astype(np.float32)
    with np.errstate(all="raise"):
        run(case.layer("float32"), x, x)


def test_tanh_of_small_values():
    x = np.full((3, 4), 1e-30, np.float32)
    with np.errstate(all="raise"):
        run(Tanh(), x, x)
