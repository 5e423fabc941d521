"""minidl's side of every comparison; `torch_side` has functions of the same names."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minidl.bench.timing import Work
from minidl.layers.base import Layer
from minidl.losses import SoftmaxCrossEntropy
from minidl.memory import batch_first
from minidl.optim import SGD
from minidl.parallel import threads

LR = 1e-6  # the arithmetic of any other, and a network that thousands of steps on one batch leave as it is


def normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return standard normal float32 values with the batch innermost in memory."""
    n, *rest = shape
    values: np.ndarray = batch_first(rng.standard_normal((*rest, n), np.float32))
    return values


def step(net: Layer, x: np.ndarray, labels: np.ndarray, num_threads: int) -> Work:
    """One training step: gradients to zero, forward, loss, backward, SGD with momentum."""
    optimiser, loss = SGD(net, lr=LR, momentum=0.9), SoftmaxCrossEntropy()

    def one_step() -> None:
        optimiser.zero_grad()
        loss.forward(net.forward(x), labels)
        net.backward(loss.backward())
        optimiser.step()

    return Work({"step": one_step}, inside=partial(threads, num_threads))


def layer(one: Layer, x: np.ndarray, dy: np.ndarray, num_threads: int) -> Work:
    """Forward, then backward, of one layer."""
    parts = {"forward": lambda: one.forward(x), "backward": lambda: one.backward(dy)}
    return Work(parts, inside=partial(threads, num_threads))


def loss(logits: np.ndarray, labels: np.ndarray, num_threads: int) -> Work:
    """Forward, then backward, of softmax cross-entropy."""
    function = SoftmaxCrossEntropy()
    parts: dict[str, Any] = {"forward": lambda: function.forward(logits, labels), "backward": function.backward}
    return Work(parts, inside=partial(threads, num_threads))


def sgd(net: Layer, num_threads: int) -> Work:
    """Only the optimiser's step."""
    optimiser = SGD(net, lr=LR, momentum=0.9)
    return Work({"step": optimiser.step}, inside=partial(threads, num_threads))
