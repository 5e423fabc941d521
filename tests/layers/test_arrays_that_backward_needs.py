"""Who writes to an array that backward needs gets an error, never wrong gradients."""

import copy
import pickle

import numpy as np
import pytest
from layer_cases import CASES, NORMS
from layer_runs import EACH_ENGINE, run

from minidl import Conv2d, Dropout, Linear, ReLU, Tanh, use_backend
from minidl.layers.unchanged import Unchanged

BACKENDS = pytest.mark.parametrize("library", ["numpy", "numba"], indirect=True)
KEEP_X = [name for name in CASES if name.startswith(("Conv2d", "Linear", "Sequential", "Residual")) or name in NORMS]


@BACKENDS
@pytest.mark.parametrize("name", KEEP_X)
@pytest.mark.parametrize("fast", [False, True])
def test_writing_to_x_between_forward_and_backward_is_an_error(name, fast):
    case = CASES[name]
    x, dy = case.arrays("float32")
    if fast:  # the batch innermost: engines then keep x itself
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    layer = case.layer("float32")
    layer(x)
    x *= 5
    with pytest.raises(RuntimeError, match="backward: x must be as forward saw it, got one that was written to since"):
        layer.backward(dy)


@BACKENDS
@pytest.mark.parametrize("name", KEEP_X)
def test_x_may_be_written_to_after_backward_and_before_the_next_forward(name):
    case = CASES[name]
    x, dy = case.arrays("float32")
    layer = case.layer("float32")
    _, wanted = run(case.layer("float32"), x, dy)
    buffer = np.empty_like(x)
    for _ in range(3):
        buffer[...] = x
        _, got = run(layer, buffer, dy)
        np.testing.assert_array_equal(got["dx"], wanted["dx"])
        buffer[...] = 0


@BACKENDS
@pytest.mark.parametrize("make", [ReLU, Tanh, lambda: Dropout(0.5).eval()])
@pytest.mark.parametrize("shape", [(3, 4), (5, 4, 40, 41)])
def test_an_output_that_backward_needs_cannot_be_written_to(make, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    y = make()(x)
    with pytest.raises(ValueError, match="read-only"):
        y += 10
    assert x.flags.writeable


@pytest.mark.parametrize("shape", [(), (7,), (128, 3, 32, 32), (1, 1, 1, 1), (300, 5), (2, 2000), (3, 5, 0, 2)])
def test_any_shape_is_looked_at(shape):
    array = np.ones(shape)
    looks = Unchanged(array)
    assert looks.holds()
    array[...] = 2
    assert looks.holds() == (array.size == 0)


def test_each_sample_and_many_channels_of_a_batch_are_looked_at():
    for index in [(5,), (63, slice(None)), (slice(None), 0), (slice(None), slice(None), 15)]:
        array = np.ones((64, 3, 30, 30))
        looks = Unchanged(array)
        array[index] = 7
        assert not looks.holds()


def test_not_a_number_is_as_it_was():
    assert Unchanged(np.full((3, 4), np.nan)).holds()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_between_forward_and_backward_has_arrays_of_its_own(copied):
    x = np.random.default_rng(0).normal(size=(3, 4, 6, 5)).astype(np.float32)
    layer = Conv2d(4, 5, 3, rng=0)
    y = layer(x)
    other = copied(layer)
    x *= 5
    dx = other.backward(np.ones_like(y))
    assert np.isfinite(dx).all()
    with pytest.raises(RuntimeError, match="written to since"):
        layer.backward(np.ones_like(y))


def test_the_labels_of_a_loss_may_be_written_to():
    from minidl import SoftmaxCrossEntropy

    logits, labels = np.random.default_rng(0).normal(size=(5, 4)), np.array([0, 3, 1, 2, 2])
    first, second = SoftmaxCrossEntropy(), SoftmaxCrossEntropy()
    for loss in (first, second):
        loss.forward(logits, labels)
    wanted = first.backward()
    labels[...] = 0
    np.testing.assert_array_equal(second.backward(), wanted)


@EACH_ENGINE
def test_a_chain_of_layers_never_writes_to_what_it_keeps(library):
    if library == "strict":
        pytest.skip("arrays of a GPU are not looked at")
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    first, second = Linear(4, 4, rng=0), Linear(4, 3, rng=1)
    with use_backend(library):
        y = second(first(x))
        first.backward(second.backward(np.ones_like(y)))
