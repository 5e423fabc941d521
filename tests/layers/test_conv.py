"""The fast convolution is the im2col one, whatever the sizes; and im2col and col2im are adjoint."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runs import draw
from tolerance import assert_close, sums

from minidl import Conv2d, threads
from minidl.engines.numpy import mec
from minidl.layers import conv

SEEDS = st.integers(0, 2**32 - 1)
PAIRS = st.tuples
FEW_SAMPLES = st.integers(1, 7)


@st.composite
def problems(draw_one, samples=FEW_SAMPLES, slack=7):
    """Return N, C, O, (H, W), kernel, stride, padding of a convolution with at least one window."""
    kernel = draw_one(PAIRS(st.integers(1, 5), st.integers(1, 5)))
    stride = draw_one(PAIRS(st.integers(1, 4), st.integers(1, 4)))
    padding = draw_one(PAIRS(st.integers(0, 4), st.integers(0, 4)))
    least = [max(1, k - 2 * p) for k, p in zip(kernel, padding, strict=True)]
    size = tuple(low + draw_one(st.integers(0, slack)) for low in least)
    n, c = draw_one(samples), draw_one(st.integers(1, 4))
    o = draw_one(st.sampled_from([1, 3, 6, 8, 9, 13]))
    return (n, c, *size), (o, c, *kernel), stride, padding


def both_agree(problem, seed, order):
    x_shape, w_shape, stride, padding = problem
    x, weight, bias = draw(seed, *x_shape), draw(seed + 1, *w_shape), draw(seed + 2, w_shape[0])
    x = order(x)
    y = mec.conv2d(x, weight, bias, stride, padding)
    dy = order(draw(seed + 3, *y.shape, mean=0.0))
    sizes = [np.abs(a) for a in (dy, x, weight, bias)]  # the same sums of magnitudes are the size of the terms
    size_y, sizes_back = conv.conv2d(*sizes[1:], stride, padding), conv.conv2d_backward(*sizes[:3], stride, padding)
    taps, values = weight[0].size, dy[:, 0].size
    allowed = sums(2 * (taps + 1), size_y)
    assert_close(y, conv.conv2d(x, weight, bias, stride, padding), allowed, "y")
    bare = mec.conv2d(x, weight, None, stride, padding), conv.conv2d(x, weight, None, stride, padding)
    assert_close(*bare, allowed, "y without a bias")
    want = conv.conv2d_backward(dy, x, weight, stride, padding)
    limits = [sums(2 * n, a) for n, a in zip((weight[:, 0].size, values, values), sizes_back, strict=True)]
    found = mec.conv2d_backward(dy, x, weight, stride, padding)
    for name, *each in zip(("dx", "dweight", "dbias"), found, want, limits, strict=True):
        assert_close(*each, name)
    dx, dweight, _ = mec.conv2d_backward(dy, x, weight, stride, padding, needs_dx=False)
    assert dx is None
    assert_close(dweight, want[1], limits[1], "dweight alone")


def batch_innermost(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)


@settings(max_examples=100)
@given(problems(), SEEDS, st.sampled_from([np.ascontiguousarray, batch_innermost]))
def test_the_fast_convolution_is_the_im2col_one(problem, seed, order):
    both_agree(problem, seed, order)


@settings(max_examples=12)
@given(problems(samples=st.sampled_from([128, 311, 1025]), slack=3), SEEDS)
def test_the_fast_convolution_is_the_im2col_one_over_several_tiles_and_bands(problem, seed):
    both_agree(problem, seed, batch_innermost)


@settings(max_examples=20)
@given(problems(samples=st.integers(20, 200)), SEEDS, st.integers(2, 4))
def test_the_fast_convolution_gives_the_same_bits_on_any_number_of_threads(problem, seed, n):
    x_shape, w_shape, stride, padding = problem
    x, weight = batch_innermost(draw(seed, *x_shape)), draw(seed + 1, *w_shape)
    with threads(1):
        y = mec.conv2d(x, weight, None, stride, padding)
        dy = batch_innermost(draw(seed + 3, *y.shape))
        want = (y, *mec.conv2d_backward(dy, x, weight, stride, padding))
    with threads(n):
        got = (mec.conv2d(x, weight, None, stride, padding), *mec.conv2d_backward(dy, x, weight, stride, padding))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=30)
@given(problems(), SEEDS)
def test_col2im_is_the_adjoint_of_im2col(problem, seed):
    x_shape, (_, _, *kernel), stride, padding = problem
    x = draw(seed, *x_shape)
    cols = conv.im2col(x, tuple(kernel), stride, padding)
    other = draw(seed + 1, *cols.shape)
    back = conv.col2im(other, x_shape, tuple(kernel), stride, padding)
    assert_close((cols * other).sum(), (x * back).sum(), sums(2 * cols.size, np.abs(cols * other).sum()))


@pytest.mark.parametrize("o", [8, 9])
@pytest.mark.parametrize("h", [6, 7])
def test_shifted_images_give_shifted_outputs(o, h):
    weight = draw(3, o, 3, 2, 3)
    x = np.zeros((4, 3, h + 1, 9))
    x[:, :, :-1] = draw(1, 4, 3, h, 9)
    shifted = np.roll(x, 1, axis=2)
    y, y_shifted = (mec.conv2d(a, weight, None, (1, 1), (0, 0)) for a in (x, shifted))
    allowed = sums(2 * weight[0].size, conv.conv2d(np.abs(x), np.abs(weight), None, (1, 1), (0, 0))[:, :, :-1])
    assert_close(y_shifted[:, :, 1:], y[:, :, :-1], allowed)


def test_the_workspace_of_one_convolution_does_not_leak_into_the_next():
    large, small = draw(1, 67, 5, 12, 30), draw(2, 3, 2, 6, 5)
    weight, other = draw(3, 4, 5, 3, 3), draw(4, 4, 2, 3, 3)
    want = mec.conv2d(small, other, None, (1, 1), (2, 2))
    mec.conv2d(large, weight, None, (1, 1), (1, 1))
    np.testing.assert_array_equal(mec.conv2d(small, other, None, (1, 1), (2, 2)), want)


def test_a_nan_stays_in_the_pairs_of_rows_whose_windows_hold_it():
    x, weight = draw(1, 4, 3, 8, 7), draw(2, 11, 3, 3, 2)
    x[2, 1, 4, 3] = np.nan
    reached = np.zeros((4, 11, 6, 6), bool)
    reached[2, :, 2:5, 2:4] = True
    np.testing.assert_array_equal(np.isnan(mec.conv2d(x, weight, None, (1, 1), (0, 0))), reached)
    reached[2, :, 2:6, 2:4] = True  # few output channels: two rows share a product, 0 · NaN in it
    np.testing.assert_array_equal(np.isnan(mec.conv2d(x, weight[:5], None, (1, 1), (0, 0))), reached[:, :5])


def test_weights_in_float16_are_summed_in_float32():
    layer = Conv2d(1, 1, 1, rng=np.random.default_rng(0), dtype="float16")
    x = np.ones((1, 1, 4, 2000), np.float16)
    dy = np.full((1, 1, 4, 2000), 300.0, np.float16)
    dy[..., 1000:] = -300.0  # each half sums to 1.2e6, the whole to 0
    layer(x)
    layer.backward(dy)
    assert layer.grads["weight"].item() == layer.grads["bias"].item() == 0


def test_many_channels_and_rows_whose_products_are_summed_in_parts():
    both_agree(((3, 32, 50, 8), (64, 32, 5, 5), (1, 1), (0, 0)), 7, batch_innermost)
