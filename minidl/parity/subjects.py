"""What is compared: for each thing, how to make it on the default backend, and what one pass of it gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import numpy as np

from minidl.backend import Array, on_gpu, to_device, use_backend
from minidl.data import Dataset, DeviceLoader, Loader
from minidl.data.augment import Augment
from minidl.layers.activation import ReLU
from minidl.layers.base import Layer
from minidl.layers.linear import Linear
from minidl.layers.pool import MaxPool2d
from minidl.losses import SoftmaxCrossEntropy
from minidl.memory import batch_first
from minidl.norm.base import Norm
from minidl.optim import SGD
from minidl.parity.kinks import distance_to_kinks
from minidl.parity.rounding import Moves

Pass = Callable[[], dict[str, Array]]  # a pass, and what it gives by name
Make = Callable[[np.random.Generator, str], Layer]

DTYPES = ("float32", "float64")
CALM = 3e-6  # how far from a kink every value in a model must be, of the largest: beyond what the backends differ by


class Subject(Protocol):
    """Makes a pass for a dtype, on the default backend; with `moves`, every floating number that goes in is moved."""

    def __call__(self, dtype: str, moves: Moves | None = None) -> Pass:
        """Return the pass."""

    def __hash__(self) -> int:
        """Return what tells one subject from another."""


def layer(make: Make, shape: tuple[int, ...], training: bool = True, mean: float = 0.5) -> Subject:
    """Forward and backward of a layer: y, dx, every gradient, and the running statistics."""

    @cache
    @use_backend("numpy")
    def arrays() -> tuple[np.ndarray, np.ndarray]:
        x = _input(make, shape, mean, training)
        size = _made(make, "float64", training).forward(x).shape
        return x, _normal(np.random.default_rng(2), size, 0.0, "float64")

    def build(dtype: str, moves: Moves | None = None) -> Pass:
        one, (x, dy) = _made(make, dtype, training), arrays()
        if moves:
            one.load_state({name: moves(value) for name, value in one.state().items()})
            x, dy = moves(x, about=float(x.mean())), moves(dy)
        x, dy = to_device(x.astype(dtype)), to_device(dy.astype(dtype))

        def run() -> dict[str, Array]:
            one.zero_grad()
            y = one.forward(x)
            if moves:
                moves.kept(one)
            found = {"y": y, "dx": one.backward(dy)}
            for path, part in one.named_layers():
                prefix = f"{path}." if path else ""
                found |= {f"d {prefix}{name}": gradient for name, gradient in part.grads.items()}
                found |= {f"{prefix}{name}": buffer for name, buffer in part.buffers.items()}
            return {name: array for name, array in found.items() if array is not None}  # no dx of a first layer

        return run

    return build


def loss(n: int, classes: int, size: float = 1.0) -> Subject:
    """Softmax cross-entropy and its gradient, for logits of this size."""

    def build(dtype: str, moves: Moves | None = None) -> Pass:
        rng, function = np.random.default_rng(0), SoftmaxCrossEntropy()
        drawn = _normal(rng, (n, classes), 0.0, dtype) * np.dtype(dtype).type(size)
        logits = to_device(moves(drawn) if moves else drawn)
        labels = to_device(rng.integers(0, classes, n))
        return lambda: {"loss": function.forward(logits, labels), "dlogits": function.backward()}

    return build


def optimiser(inputs: int, outputs: int, **options: Any) -> Subject:
    """Three steps of SGD with a rate that changes."""

    def build(dtype: str, moves: Moves | None = None) -> Pass:
        one = Linear(inputs, outputs, rng=np.random.default_rng(0), dtype=dtype)
        sgd = SGD(one, lr=0.1, **options)
        if moves:
            one.load_state({name: moves(value) for name, value in one.state().items()})
        gradients = {name: _normal(np.random.default_rng(1), g.shape, 0.2, dtype) for name, g in one.grads.items()}
        for name, gradient in gradients.items():
            one.grads[name][...] = to_device(moves(gradient) if moves else gradient)

        def run() -> dict[str, Array]:
            for rate in (0.1, 0.03, 0.01):
                sgd.lr = rate
                sgd.step()
            return dict(one.params)

        return run

    return build


def loader(images: int, batch_size: int, augment: Augment | None) -> Subject:
    """The batches of an epoch: pixels, labels and sources."""

    def build(dtype: str, moves: Moves | None = None) -> Pass:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 7, images)
        pixels = rng.integers(0, 256, (images, 3, 32, 32)).astype(np.uint8)
        data = Dataset(pixels, labels, labels % 3, ("a", "b", "c"), 7)
        kind = DeviceLoader if on_gpu() else Loader
        load = kind(data, batch_size, mean=[0.3, 0.4, 0.5], std=[0.2] * 3, augment=augment, rng=rng, dtype=dtype)

        def run() -> dict[str, Array]:
            names = ("x", "labels", "source")
            return {f"{name} {k}": a for k, batch in enumerate(load) for name, a in zip(names, batch, strict=True)}

        return run

    return build


def _made(make: Make, dtype: str, training: bool) -> Layer:
    """Return the layer; the parameters and statistics of its norms are nowhere at their initial zeros and ones."""
    one = make(np.random.default_rng(0), dtype).train(training)
    rng = np.random.default_rng(3)
    for _, part in one.named_layers():
        if isinstance(part, Norm):
            part.load_state({name: _drawn(name, value, rng) for name, value in part.state().items()})
    return one


def _drawn(name: str, value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if name in ("running_var", "running_mean_square"):  # the square of a running mean is at most 0.25
        return rng.uniform(0.5, 1.5, value.shape)
    if name == "gate.weight" and value.shape[1] > 1:  # a mean that all channels share moves no gate
        value = rng.normal(0, 0.3, value.shape)
        value -= value.mean(axis=1, keepdims=True)
        return value
    return np.asarray(value + rng.uniform(-0.5, 0.5, value.shape))


def _normal(rng: np.random.Generator, shape: tuple[int, ...], mean: float, dtype: str) -> np.ndarray:
    """Return normal values, the batch innermost in memory."""
    n, *rest = shape
    values: np.ndarray = batch_first(mean + rng.standard_normal((*rest, n))).astype(dtype)
    return values


def _input(make: Make, shape: tuple[int, ...], mean: float, training: bool) -> np.ndarray:
    """Return normal values; each sample has a mean and a deviation of its own, so that modes differ.

    Inside a network that branches on values (ReLU, maximum pooling) the two backends meet inputs that differ in their
    last digits; so for a network they are drawn anew until no value is near a kink, in either dtype.
    """
    nets = {dtype: _made(make, dtype, training) for dtype in DTYPES}
    for seed in range(1, 100):
        rng = np.random.default_rng(seed)
        each = (shape[0], *[1] * (len(shape) - 1))
        z = _normal(rng, shape, 0.0, "float64")
        x: np.ndarray = mean + rng.uniform(-1, 1, each) + rng.uniform(0.5, 2, each) * z
        if isinstance(nets["float64"], ReLU | MaxPool2d) or all(
            distance_to_kinks(net, x.astype(dtype)) > CALM for dtype, net in nets.items()
        ):
            return x
    raise RuntimeError(f"no input of shape {shape} keeps away from the kinks; make the batch smaller")
