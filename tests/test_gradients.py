"""The gradient check passes what is right, fails what is wrong, and refuses to say anything about nothing."""

import numpy as np
import pytest
from gradients import VacuousCheckError, assert_gradients, central_differences, complex_step, relative_error
from tolerance import rounding

X = np.array([[0.3, -1.2, 2.5], [0.7, 1.9, -0.4]])
W = np.array([0.6, -1.7, 2.2])
DY = np.array([[1.3, -0.8, 0.5], [-2.1, 0.4, 0.9]])


def forward(x, w):
    return np.sin(x) * w**2


def gradient(dy, x, w):
    return {"dx": dy * np.cos(x) * w**2, "dw": (dy * np.sin(x) * 2 * w).sum(axis=0)}


def backward(dy):
    return gradient(dy, X, W)


def by_complex_step():
    return complex_step, rounding(lambda **arrays: gradient(DY, **arrays), {"x": X, "w": W})


def by_central_differences():
    slopes, errors = central_differences(forward, {"x": X, "w": W}, DY)
    return lambda *_: slopes, errors


METHODS = pytest.mark.parametrize("method", [by_complex_step, by_central_differences])


@METHODS
def test_a_right_backward_passes(method):
    assert_gradients(forward, backward(DY), {"x": X, "w": W}, DY, *method())


@METHODS
def test_one_element_off_in_the_ninth_digit_fails(method):
    got = backward(DY)
    got["dw"][1] *= 1 + 1e-9
    with pytest.raises(AssertionError, match=r"dw is off by .* at \(1,\)"):
        assert_gradients(forward, got, {"x": X, "w": W}, DY, *method())


def test_a_kink_within_the_longer_steps_is_left_out():
    slopes, errors = central_differences(lambda x: np.abs(x), {"x": np.array([1e-3, -3.0])}, np.array([2.0, 5.0]))
    np.testing.assert_allclose(slopes["x"], [2, -5], rtol=0, atol=errors["dx"])
    assert errors["dx"] < 1e-8


def test_a_vanishing_numeric_gradient_is_vacuous():
    with pytest.raises(VacuousCheckError, match="the numeric dx is about zero"):
        assert_gradients(lambda x: x - x.mean(), {"dx": np.zeros_like(X)}, {"x": X}, np.ones_like(X))


def test_a_gradient_declared_zero_must_be_zero_and_truly_so():
    dy, centred = np.ones_like(X), lambda x: x - x.mean()
    assert_gradients(centred, {"dx": np.zeros_like(X)}, {"x": X}, dy, zero=("x",))
    with pytest.raises(AssertionError, match=r"dx must be zero, got 0\.001"):
        assert_gradients(centred, {"dx": np.full_like(X, 1e-3)}, {"x": X}, dy, zero=("x",))
    with pytest.raises(AssertionError, match="the numeric dx is not zero"):
        assert_gradients(centred, {"dx": np.zeros_like(X)}, {"x": X}, DY, zero=("x",))


@pytest.mark.parametrize(
    ("dw", "message"),
    [
        (None, "returned no dw"),
        (np.ones((3, 1)), r"dw has shape \(3, 1\), want \(3,\)"),
        (np.array([0.0, np.nan, 0.0]), "dw is not finite"),
    ],
)
def test_a_malformed_gradient_fails(dw, message):
    got = {"dx": backward(DY)["dx"]} | ({} if dw is None else {"dw": dw})
    with pytest.raises(AssertionError, match=message):
        assert_gradients(forward, got, {"x": X, "w": W}, DY)


def test_the_numeric_methods_leave_the_inputs_alone():
    x = X.copy()
    complex_step(forward, {"x": x, "w": W}, DY)
    central_differences(forward, {"x": x, "w": W}, DY)
    np.testing.assert_array_equal(x, X)


def test_relative_error_is_measured_against_the_largest_element():
    assert relative_error(np.array([1.0, 4.5]), np.array([2.0, 4.0])) == 0.25
