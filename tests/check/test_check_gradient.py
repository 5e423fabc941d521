"""Gradient checks that can fail."""

import numpy as np
import pytest

from minidl import check, reference

RNG = np.random.default_rng(3)
X = RNG.normal(0.4, 1.7, (4, 3, 5))
W, B = RNG.uniform(0.5, 2, 3), RNG.normal(size=3)


def forward(x, weight, bias):
    return reference.batch_norm(x, weight, bias, 1e-3)


def backward(dy, x, weight, bias):
    return reference.batch_norm_backward(dy, x, weight, bias, 1e-3)


@pytest.mark.parametrize("method", ["complex", "central", "direction"])
def test_a_true_backward_passes(method):
    errors = check.gradient(forward, backward, {"x": X, "weight": W, "bias": B}, method)
    assert set(errors) == {"x", "weight", "bias"}


@pytest.mark.parametrize("method", ["complex", "central", "direction"])
@pytest.mark.parametrize("name", ["x", "weight", "bias"])
def test_a_wrong_gradient_is_named(method, name):
    def wrong(dy, x, weight, bias):
        grads = backward(dy, x, weight, bias)
        return {**grads, f"d{name}": 1.001 * grads[f"d{name}"] + 0.001}

    with pytest.raises(AssertionError, match=f"d{name} must agree"):
        check.gradient(forward, wrong, {"x": X, "weight": W, "bias": B}, method)


def test_a_check_that_could_not_fail_is_refused():
    with pytest.raises(check.VacuousCheckError, match="the derivative by x must not vanish"):
        check.gradient(lambda x: forward(x, W, B).sum() + 0 * x, lambda dy, x: {"dx": 0 * x}, {"x": X}, "complex")


def test_a_backward_without_gradients_is_refused():
    with pytest.raises(check.VacuousCheckError, match="must give the gradient of an input"):
        check.gradient(forward, lambda dy, **kept: {}, {"x": X, "weight": W, "bias": B})


def test_unknown_methods_are_named():
    with pytest.raises(ValueError, match="method must be one of complex, central, direction, got 'exact'"):
        check.gradient(forward, backward, {"x": X}, "exact")


@pytest.mark.parametrize(
    ("forward", "backward", "message"),
    [
        (lambda x: None, lambda dy, x: {"dx": dy}, "forward must return an array of floating numbers, got None"),
        (lambda x: "y", lambda dy, x: {"dx": dy}, "forward must return an array of floating numbers, got <U1"),
        (lambda x: x, lambda dy, x: None, r"backward must return a dict, such as \{'dx': dx\}, got None; return it"),
        (
            lambda x: x,
            lambda dy, x: {"dx": dy, "dxx": dy},
            r"must name its gradients d \+ input, dx, got dxx; rename it",
        ),
        (lambda x: x, lambda dy, x: dy, "backward must return a dict, .* got ndarray; return it"),
        (lambda x: x, lambda dy, x: {"dx": None}, "dx must be an array of numbers, got None; let backward give it"),
    ],
)
def test_what_returns_nothing_is_named(forward, backward, message):
    with pytest.raises(AssertionError, match=message):
        check.gradient(forward, backward, {"x": np.ones((2, 3))})
