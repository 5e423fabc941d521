"""The sum of a branch and its shortcut is what NumPy's `+` gives, however it is shared out."""

import numpy as np
import pytest

from minidl import ReLU, Residual, threads, use_backend
from minidl.engine import NUMPY, engine
from minidl.layers.compose import add
from minidl.memory import batch_first


def draw(shape, dtype, seed):
    n, *rest = shape
    return batch_first(np.random.default_rng(seed).standard_normal((*rest, n)).astype(dtype))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 7, 3, 4), (67, 3, 7, 9), (130, 16, 17, 16), (1024, 64, 1, 7), (3000, 5)])
def test_a_shortcuts_sum_is_that_of_numpy_to_the_bit(shape, dtype, n):
    one, other = draw(shape, dtype, 1), draw(shape, dtype, 2)
    with threads(n):
        y = engine(one)(add)(one, other)
    assert y.dtype == one.dtype
    assert y.strides == (one + other).strides
    np.testing.assert_array_equal(y, one + other)


def test_arrays_of_other_strides_or_two_dtypes_are_added_too():
    one, other = draw((67, 3, 17, 9), "float32", 1), np.random.default_rng(2).standard_normal((67, 3, 17, 9))
    np.testing.assert_array_equal(NUMPY(add)(one, other), one + other)
    other = other.astype("float32")
    np.testing.assert_array_equal(NUMPY(add)(one, other), one + other)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_residual_hands_on_both_paths_gradients(backend):
    if backend == "numba":
        pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")
    x, dy = draw((70, 5, 7, 9), "float32", 3), draw((70, 5, 7, 9), "float32", 4)
    with use_backend(backend):
        layer = Residual(ReLU())
        np.testing.assert_array_equal(layer(x), np.maximum(x, 0) + x)
        np.testing.assert_array_equal(layer.backward(dy), dy * (x > 0) + dy)
