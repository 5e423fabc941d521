"""Pooling: ties, NaN and windows that do not cover the image."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runs import EACH_ENGINE, EACH_LIBRARY, draw
from tolerance import assert_close, sums, terms

from minidl import AvgPool2d, GlobalAvgPool2d, MaxPool2d, reference, to_device, to_host

TAPS = 4 * 4  # of the largest window


@st.composite
def pools(draw_one):
    """Return a shape, kernel, stride and padding with at least one window, each with a real pixel."""
    kernel = draw_one(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw_one(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(draw_one(st.integers(0, k // 2)) for k in kernel)
    size = tuple(draw_one(st.integers(max(1, k - 2 * p), k - 2 * p + 6)) for k, p in zip(kernel, padding, strict=True))
    return (draw_one(st.integers(1, 3)), draw_one(st.integers(1, 3)), *size), kernel, stride, padding


@EACH_LIBRARY
@settings(max_examples=60)
@given(pools(), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_max_pool_takes_the_first_maximum_row_by_row(pool, seed, values):
    shape, *arguments = pool
    rng = np.random.default_rng(seed)
    x = rng.integers(-values, values, shape).astype(float)  # many ties
    layer = MaxPool2d(*arguments)
    y = to_host(layer(to_device(x)))
    np.testing.assert_array_equal(y, reference.max_pool2d(x, *arguments))
    dy = rng.normal(size=y.shape)
    want = reference.max_pool2d_backward(dy, x, *arguments)["dx"]
    size = np.abs(dy).max() * TAPS  # the terms of a pixel that every window has
    assert_close(to_host(layer.backward(to_device(dy))), want, sums(2 * TAPS, size))


@EACH_LIBRARY
@settings(max_examples=40)
@given(pools(), st.integers(0, 2**32 - 1))
def test_avg_pool_is_the_reference(pool, seed):
    shape, *arguments = pool
    x = draw(seed, *shape)
    layer = AvgPool2d(*arguments)
    y = to_host(layer(to_device(x)))
    assert_close(y, reference.avg_pool2d(x, *arguments), sums(2 * TAPS, np.abs(x).max()))
    dy = draw(seed + 1, *y.shape, mean=0.0)
    want = reference.avg_pool2d_backward(dy, x, *arguments)["dx"]
    assert_close(to_host(layer.backward(to_device(dy))), want, sums(2 * TAPS, np.abs(dy).max()))


@EACH_LIBRARY
def test_a_nan_reaches_the_windows_that_hold_it_and_no_others():
    for layer in (MaxPool2d(2, 1), AvgPool2d(2, 1)):
        x = draw(1, 3, 4, 5, 7)
        x[1, 2, 3, 4] = np.nan
        reached = np.zeros((3, 4, 4, 6), bool)
        reached[1, 2, 2:4, 3:5] = True
        np.testing.assert_array_equal(np.isnan(to_host(layer(to_device(x)))), reached)


@EACH_ENGINE
@settings(max_examples=40)
@given(pools(), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.5, 1.0]))
def test_the_gradient_of_a_maximum_that_is_nan_goes_to_the_last_nan_of_its_window(pool, seed, share):
    shape, *arguments = pool
    rng = np.random.default_rng(seed)
    x = np.where(rng.random(shape) < share, np.nan, rng.integers(-2, 2, shape)).astype(np.float32)
    layer = MaxPool2d(*arguments)
    y = to_host(layer(to_device(x)))
    np.testing.assert_array_equal(y, reference.max_pool2d(x, *arguments))
    dy = rng.normal(size=y.shape).astype(np.float32)
    want = reference.max_pool2d_backward(dy, x, *arguments)["dx"]
    allowed = terms(2 * TAPS, np.abs(dy).max() * TAPS, "float32")
    assert_close(to_host(layer.backward(to_device(dy))), want, allowed)


@EACH_ENGINE
@settings(max_examples=40)
@given(pools(), st.integers(0, 2**32 - 1), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_gradient_that_is_not_finite_reaches_the_maximum_of_its_window_alone(pool, seed, bad):
    shape, *arguments = pool
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 3, shape).astype(np.float32)
    layer = MaxPool2d(*arguments)
    dy = rng.integers(-9, 9, to_host(layer(to_device(x))).shape).astype(np.float32)  # every sum of them is exact
    dy[np.unravel_index(rng.integers(dy.size), dy.shape)] = bad
    want = reference.max_pool2d_backward(dy, x, *arguments)["dx"]
    np.testing.assert_array_equal(to_host(layer.backward(to_device(dy))), want)


@EACH_LIBRARY
def test_the_mean_of_no_pixels_is_nan_without_a_warning():
    assert np.isnan(to_host(GlobalAvgPool2d()(to_device(np.ones((2, 3, 0, 4)))))).all()


@EACH_ENGINE
@settings(max_examples=40)
@given(pools(), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 1.0]))
def test_minus_infinity_wins_over_padding(pool, seed, finite):
    shape, *arguments = pool
    rng = np.random.default_rng(seed)
    x = np.where(rng.random(shape) < finite, rng.normal(size=shape), -np.inf).astype(np.float32)
    layer = MaxPool2d(*arguments)
    y = to_host(layer(to_device(x)))
    dy = rng.normal(size=y.shape).astype(np.float32)
    np.testing.assert_array_equal(y, reference.max_pool2d(x, *arguments))
    want = reference.max_pool2d_backward(dy, x, *arguments)["dx"]
    size = reference.max_pool2d_backward(np.abs(dy), x, *arguments)["dx"]
    allowed = terms(2 * np.prod(layer.kernel_size), size, "float32")  # as many windows at most hold a pixel
    assert_close(to_host(layer.backward(to_device(dy))), want, allowed, "dx")
    assert y.shape == dy.shape


@EACH_ENGINE
def test_a_narrower_gradient_than_the_image_comes_back_as_narrow():
    x = draw(3, 3, 4, 5, 7).astype("float32")
    for layer in (MaxPool2d(2), MaxPool2d(3, 2), AvgPool2d(2)):
        y = to_host(layer(to_device(x)))
        dy = np.random.default_rng(4).integers(-8, 9, y.shape) * 4.0  # every sum of them is exact in float16
        narrow = to_host(layer.backward(to_device(dy.astype("float16"))))
        layer(to_device(x))
        assert narrow.dtype == "float16"
        np.testing.assert_array_equal(narrow, to_host(layer.backward(to_device(dy.astype("float32")))))
