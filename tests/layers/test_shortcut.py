"""The shortcut with zero channels: its values, its adjoint, its errors."""

import numpy as np
import pytest
from layer_runs import EACH_LIBRARY, draw
from tolerance import assert_close, sums

from minidl import to_device, to_host
from minidl.layers.shortcut import ZeroPaddedShortcut


@EACH_LIBRARY
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("out", [3, 4, 7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pixels_are_kept_between_channels_of_zeros_and_backward_is_the_adjoint(out, stride, dtype):
    x = draw(1, 4, 3, 5, 7).astype(dtype)
    layer = ZeroPaddedShortcut(out, stride)
    y = layer(to_device(x))
    before = (out - 3) // 2
    want = np.zeros((4, out, -(-5 // stride), -(-7 // stride)), dtype)
    for h in range(want.shape[2]):
        for w in range(want.shape[3]):
            want[:, before : before + 3, h, w] = x[:, :, stride * h, stride * w]
    assert y.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(to_host(y), want)
    dy = draw(2, *want.shape).astype(dtype)
    dx = to_host(layer.backward(to_device(dy)))
    assert (dx.shape, dx.dtype) == (x.shape, x.dtype)
    assert_close((dx * x).sum(), (dy * want).sum(), sums(2 * x.size, np.abs(dx * x).sum(), dtype))
    np.testing.assert_array_equal(dx[:, :, ::stride, ::stride], dy[:, before : before + 3])
    assert np.count_nonzero(dx) == dy[:, :3].size


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"^ZeroPaddedShortcut: stride must be >= 1, got 0"):
        ZeroPaddedShortcut(4, 0)
    with pytest.raises(ValueError, match=r"^ZeroPaddedShortcut.forward: x must be \(N, C, H, W\) with C <= 4, got"):
        ZeroPaddedShortcut(4)(draw(1, 2, 5, 3, 3))
