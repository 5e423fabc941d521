"""Numbers that are not finite: noticed by one reduction per step, then traced to the first layer and tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backend import Array, array_module, to_host
from ..layers.base import Layer

BATCH = "the batch itself"  # what is named where the images are not finite
_METHODS = ("forward", "backward")


class DivergedError(RuntimeError):
    """The loss or an array of the model is no longer finite; the message names step, layer, tensor and cure."""

    exit_status = 3


def gradient_sum(model: Layer) -> Array:
    """Return the sum of all gradients, not finite if one of them is: a number or a 0-d array of their library.

    An optimiser that lays the gradients side by side makes this one reduction a buffer.
    """
    buffers: dict[int, Array] = {}
    for _, layer in model.named_layers():
        for grad in layer.grads.values():
            whole = grad.base if getattr(grad, "base", None) is not None and hasattr(grad.base, "sum") else grad
            buffers[id(whole)] = whole
    # float64: finite gradients cannot overflow the sum
    return sum((buffer.sum(dtype=np.float64) for buffer in buffers.values()), np.float64(0))


def first_bad(model: Layer, criterion: Any, x: Array, labels: Array, backward: bool = True) -> str | None:
    """Return which layer and tensor is not finite first, when a batch goes through; None if all are finite.

    Looked at in this order: the batch, the parameters and in evaluation the running statistics, the layers' outputs as
    they come, the loss, in training the running statistics, which those outputs have changed, then in the backward pass
    each layer's gradients of its parameters and of its input. The layers' own arrays are used, so afterwards the model
    is fit for looking at alone.
    """
    if not _finite(x):
        return BATCH
    if bad := _bad_array(model, lambda layer: layer.params if model.training else {**layer.params, **layer.buffers}):
        return bad
    with watching(model) as found:
        logits = model.forward(x)
        if found:
            return found[0]
        if not _finite(logits):
            return "the network's output"
        loss = criterion.forward(logits, labels)
        if not _finite(loss):
            return "the loss alone"
        if bad := _bad_array(model, lambda layer: layer.buffers):
            return bad
        if backward:
            model.zero_grad()
            model.backward(criterion.backward())
        return found[0] if found else None


def _bad_array(model: Layer, arrays: Callable[[Layer], dict[str, Array]]) -> str | None:
    """Return the first of the layers' arrays that is not finite."""
    for path, layer in model.named_layers():
        for name, array in arrays(layer).items():
            if not _finite(array):
                return f"{name} of {layer_name(path, layer)}"
    return None


@contextmanager
def watching(model: Layer) -> Iterator[list[str]]:
    """Note in a list, within the ``with`` block, each tensor that a layer gives and that is not finite."""
    found: list[str] = []
    watched = list(model.named_layers())
    own = [{name: vars(layer)[name] for name in _METHODS if name in vars(layer)} for _, layer in watched]
    try:
        for path, layer in watched:
            _watch(layer, path, found)
        yield found
    finally:
        for (_, layer), methods in zip(watched, own, strict=True):
            for name in _METHODS:
                vars(layer).pop(name, None)
            vars(layer).update(methods)


def _watch(layer: Layer, path: str, found: list[str]) -> None:
    """Let a layer's forward and backward note the first tensor that is not finite."""
    forward, backward = layer.forward, layer.backward

    def watched_forward(*args: Any, **named: Any) -> Any:
        y = forward(*args, **named)
        if not _finite(y):
            found.append(f"the output of {layer_name(path, layer)}")
        return y

    def watched_backward(*args: Any, **named: Any) -> Any:
        dx = backward(*args, **named)
        bad = [f"the gradient of {name}" for name, grad in layer.grads.items() if not _finite(grad)]
        bad += ["the gradient of the input"] if dx is not None and not _finite(dx) else []
        found.extend(f"{what} of {layer_name(path, layer)}" for what in bad)
        return dx

    vars(layer).update(forward=watched_forward, backward=watched_backward)


def _finite(array: Any) -> bool:
    if array is None or isinstance(array, list | tuple):  # of a layer with several inputs or outputs
        return all(map(_finite, array or ()))
    xp = np if np.isscalar(array) else array_module(array)
    return bool(to_host(xp.isfinite(array).all()))


def layer_name(path: str, layer: Layer) -> str:
    """Return how a message names a layer of a tree."""
    return f"layer {path} ({type(layer).__name__})" if path else type(layer).__name__
