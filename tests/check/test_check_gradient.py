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


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            (forward, backward, [X, W, B]),
            TypeError,
            r"inputs must be a mapping of names to arrays, got list; give \{'x'",
        ),
        (
            (backward, forward, {"x": X, "weight": W, "bias": B}),
            TypeError,
            r"forward must take the inputs by their names, forward\(x, weight, bias\), got missing a required "
            r"argument: 'dy'; forward comes first, then backward$",
        ),
        (
            (lambda x: x, lambda dy: {"dx": dy}, {"x": X}),
            TypeError,
            r"backward must take the inputs by their names, backward\(dy, x\), got got an unexpected keyword",
        ),
        ((X, backward, {"x": X}), TypeError, r"forward must be a function, got ndarray; give forward\(x\)$"),
        ((lambda x: x, None, {"x": X}), TypeError, "backward must be a function, got NoneType"),
        (
            (lambda x: x + np.nan, lambda dy, x: {"dx": dy}, {"x": X}),
            AssertionError,
            "forward must give finite numbers, got nan; look at forward, or use other inputs",
        ),
        (
            (lambda x: x / 0 * np.inf, lambda dy, x: {"dx": dy}, {"x": abs(X)}),
            AssertionError,
            "forward must give finite numbers, got inf",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_what_cannot_be_called_or_gives_no_numbers_is_named(given, error, message):
    with pytest.raises(error, match=f"^gradient: {message}"):
        check.gradient(*given)


@pytest.mark.parametrize(
    ("method", "dtype"),
    [("complex", "float32"), ("central", "float32"), ("direction", "float32"), ("central", "int64")],
)
def test_inputs_that_a_derivative_would_be_wrong_of_are_named_and_not_the_gradient(method, dtype):
    def right(dy, x):
        return {"dx": 3 * x**2 * dy.astype(x.dtype)}

    with pytest.raises(ValueError, match=rf"inputs must be float64, .* got {dtype} for x; use x.astype\('float64'\)$"):
        check.gradient(lambda x: x**3 * 1.0, right, {"x": (10 * X).astype(dtype)}, method)
    assert check.gradient(lambda x: x**3, right, {"x": X.astype("float32")}, "complex", tol=1e-5)["x"] < 1e-5


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
