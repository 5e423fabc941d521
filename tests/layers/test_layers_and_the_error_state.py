"""Layers neither raise nor warn by what the caller set with np.seterr, and refuse what is no array in a sentence."""

import numpy as np
import pytest

from minidl import (
    SGD,
    Adam,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Linear,
    MaxPool2d,
    ModeGroupNorm,
    ModeNorm,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    Tanh,
)

IMAGES, ROWS = (4, 4, 6, 6), (5, 4)
LAYERS = {
    "Conv2d": (lambda: Conv2d(4, 3, 3, rng=0), IMAGES),
    "Linear": (lambda: Linear(4, 3, rng=0), ROWS),
    "MaxPool2d": (lambda: MaxPool2d(2), IMAGES),
    "AvgPool2d": (lambda: AvgPool2d(2), IMAGES),
    "GlobalAvgPool2d": (GlobalAvgPool2d, IMAGES),
    "BatchNorm": (lambda: BatchNorm(4), IMAGES),
    "LayerNorm": (lambda: LayerNorm(4), IMAGES),
    "InstanceNorm": (lambda: InstanceNorm(4), IMAGES),
    "GroupNorm": (lambda: GroupNorm(2, 4), IMAGES),
    "ModeNorm": (lambda: ModeNorm(4, 2, rng=0), IMAGES),
    "ModeGroupNorm": (lambda: ModeGroupNorm(4, 2, rng=0), IMAGES),
    "Dropout": (lambda: Dropout(0.5, rng=0), IMAGES),
    "Flatten": (Flatten, IMAGES),
    "ReLU": (ReLU, IMAGES),
    "Tanh": (Tanh, IMAGES),
    "Residual": (lambda: Residual(ReLU()), IMAGES),
    "Sequential": (lambda: Sequential(ReLU(), Tanh()), IMAGES),
}
TINY, SMALL, LARGE = 1e-44, 1e-38, 3e38


def drawn(shape, size):
    unit = np.clip(np.random.default_rng(7).standard_normal(shape), -1, 1)
    return (unit * size).astype(np.float32)


@pytest.mark.parametrize("size", [TINY, SMALL, LARGE])
@pytest.mark.parametrize("name", LAYERS)
def test_underflow_and_overflow_are_no_errors_in_a_layer_and_change_no_value(name, size):
    make, shape = LAYERS[name]
    found = []
    for state in ("ignore", "raise"):
        layer, x = make(), drawn(shape, size)
        with np.errstate(all=state):
            y = layer(x)
        dy = drawn(y.shape, size)
        with np.errstate(all=state):
            dx = layer.backward(dy)
        found.append((y.tobytes(), dx.tobytes(), *(grad.tobytes() for grad in layer.grads.values())))
    assert found[0] == found[1]


@pytest.mark.parametrize("optimiser", [SGD, Adam])
def test_underflow_is_no_error_in_a_step(optimiser):
    layer = Linear(3, 2, rng=0)
    steps = optimiser(layer, lr=1e-3)
    layer.grads["weight"][...] = TINY
    with np.errstate(all="raise"):
        steps.step()
    assert np.isfinite(layer.params["weight"]).all()


@pytest.mark.parametrize("given", [None, [1.0], 3, "x"])
@pytest.mark.parametrize("name", LAYERS)
def test_what_is_no_array_is_refused_in_a_sentence_by_every_layer(name, given):
    make, shape = LAYERS[name]
    layer = make()
    with pytest.raises(TypeError, match=r"must be a numpy or cupy array, got (None|list|int|str); "):
        layer(given)
    layer(drawn(shape, 1.0))
    with pytest.raises(TypeError, match=r"must be a numpy or cupy array, got (None|list|int|str); "):
        layer.backward(given)


@pytest.mark.parametrize(("logits", "labels"), [(None, 0), (0, None), ([[1.0]], 0), (0, [0])])
def test_what_is_no_array_is_refused_in_a_sentence_by_the_loss(logits, labels):
    given = (np.zeros((1, 2)) if logits == 0 else logits, np.zeros(1, int) if labels == 0 else labels)
    with pytest.raises(TypeError, match=r"must be a numpy or cupy array, got (None|list); "):
        SoftmaxCrossEntropy().forward(*given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Conv2d(2, 2, 10**30),
            "Conv2d: kernel_size must be <= 2147483647, got 1000000000000000000000000000000;",
        ),
        (lambda: Conv2d(2, 2, 10**5000), "Conv2d: kernel_size must be <= 2147483647, got a number of 5001 digits;"),
        (lambda: Conv2d(2, 2, (3, 10**30)), r"Conv2d: kernel_size must be <= 2147483647, got \(3, 10000"),
        (lambda: Conv2d(2, 2, 10**6), "a weight must have at most 17179869184 values, got "),
        (lambda: Linear(10**9, 10**9), "a weight must have at most 17179869184 values, got "),
        (lambda: ModeNorm(2, 10**30), "ModeNorm: num_modes must be <= 2147483647, got "),
        (lambda: BatchNorm(10**30), "BatchNorm: num_features must be <= 2147483647, got "),
        (lambda: MaxPool2d(10**30), "MaxPool2d: kernel_size must be <= 2147483647, got "),
    ],
)
def test_a_size_that_no_memory_holds_is_refused_by_its_name(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
