"""ReLU at its kink and beyond, and what dropout draws."""

import numpy as np
import pytest
from layer_runs import EACH_LIBRARY, draw
from tolerance import assert_close, draws

from minidl import Dropout, ReLU, to_device, to_host, use_backend


@EACH_LIBRARY
@pytest.mark.parametrize("times", [1, 5000])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_relu_passes_what_is_above_zero_and_nothing_at_it(times, dtype):
    x = np.tile(np.array([[-np.inf, -2.5, -0.0, 0.0, 2.5, np.inf, np.nan]], dtype), (times, 1))
    layer = ReLU()
    y = to_host(layer(to_device(x)))
    np.testing.assert_array_equal(y, np.tile(np.array([[0, 0, 0, 0, 2.5, np.inf, np.nan]], dtype), (times, 1)))
    dy = np.full(x.shape, 3.0, dtype)
    dx = to_host(layer.backward(to_device(dy)))
    np.testing.assert_array_equal(dx, np.tile(np.array([[0, 0, 0, 0, 3, 3, 0]], dtype), (times, 1)))


def test_dropout_zeroes_with_probability_p_and_keeps_the_mean():
    layer = Dropout(0.3, rng=np.random.default_rng(1))
    y = layer(np.full((200, 500), 2.0))
    assert set(np.unique(y)) == {0.0, 2.0 / 0.7}
    deviation = np.sqrt(0.3 * 0.7)  # of a value that is 1 with probability 0.3
    assert_close((y == 0).mean(), 0.3, draws(y.size, deviation))
    assert_close(y.mean(), 2.0, draws(y.size, 2.0 / 0.7 * deviation))
    np.testing.assert_array_equal(layer.backward(np.ones(y.shape)), y / 2.0)


def test_dropout_draws_a_new_mask_each_time_and_the_same_ones_from_one_seed():
    x = draw(1, 30, 40)
    one, other = (Dropout(0.3, rng=np.random.default_rng(1)) for _ in range(2))
    first, second = one(x), one(x)
    assert not np.array_equal(first == 0, second == 0)
    np.testing.assert_array_equal(other(np.asfortranarray(x)), first)
    np.testing.assert_array_equal(other(x), second)


@EACH_LIBRARY
def test_one_seed_draws_the_same_masks_on_every_library():
    x = np.moveaxis(draw(1, 3, 4, 5), -1, 0)
    layer = Dropout(0.3, rng=np.random.default_rng(1))
    y = to_host(layer(to_device(x)))
    with use_backend("numpy"):
        want = Dropout(0.3, rng=np.random.default_rng(1))(x)
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("layer", [Dropout(0.0), Dropout(0.9).eval()], ids=["p = 0", "inference"])
def test_dropout_that_drops_nothing_is_the_identity_and_draws_nothing(layer):
    state = layer.rng.bit_generator.state
    x = draw(1, 3, 4)
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(layer.backward(2 * x), 2 * x)
    assert layer.rng.bit_generator.state == state
