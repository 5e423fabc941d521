"""Splitting a mode in two where that lowers the loss of samples that did not choose how.

Let the two halves of a mode differ by ±s_n in their logits, s_n = u·h_n with h_n the layer's pooled input, standardised
by the mode's running moments, and u (C,) a direction. At u = 0 the function is that of the unsplit mode. It is even
in u, for −u only swaps the halves. So the loss has no slope there, and whether a split can lower it is decided by its
curvature (as in Liu, Wu and Wang 2019, Splitting steepest descent for growing neural architectures):

    L(u) = L(0) + ½ uᵀHu + O(|u|⁴)

The gradient at a small u is Hu, and the network's own backward gives it: with rows W_1 = W + w and W_2 = W − w of Psi,
w_c = u_c/σ_c and the biases b ∓ sum_c w_c mean_c,

    dL/dw = dL/dW_1 − dL/dW_2,   dL/db likewise,   dL/du_c = (dL/dw_c − mean_c dL/db)/σ_c.

A few steps u ← (u − Hu/|Hu|) / |…| on one half of the batch turn u to where the curvature is least: components of the
largest positive curvature vanish, those of the most negative double. If uᵀHu is negative there, the split with
|u| = 1 is tried on the other half, sample by sample: it is kept if the mean of the differences of the losses lies
below zero by more than two standard errors. Of all layers the best split is kept. All layers' directions are
sought in the same passes, in which the function is nearly unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from minidl.backend import Array, array_module, to_device, to_host
from minidl.layers.base import Layer
from minidl.losses import SoftmaxCrossEntropy
from minidl.norm.base import BatchStatistics
from minidl.norm.mode import ModeNorm
from minidl.norm.select import split_mode

SMALL = 0.25  # |u| where the curvature is measured
STEPS = 4  # that u is turned
CLEAR = 2  # standard errors that the mean gain must be away from none


class Split(NamedTuple):
    """A split of one layer's mode that lowered the held-out loss."""

    path: str
    mode: int
    direction: Array  # u
    gain: float  # mean of the losses with it, minus those without


def best_split(
    model: Layer, layers: dict[str, ModeNorm], x: Array, labels: Array, rng: np.random.Generator, dropout: Any = None
) -> Split | None:
    """Return the split that lowers the held-out loss most, or None if none does; the network is as it was.

    Parameters
    ----------
    model : Layer
        In training mode; its gradients are overwritten.
    layers : {path: ModeNorm}
        Of the network: those with a mode to split.
    x, labels : a batch
        Its first half chooses the directions, the other half judges.
    rng : numpy.random.Generator
        Draws the directions to begin with.
    dropout : numpy.random.Generator, optional
        That the network's dropout draws from; it is left as it was.
    """
    half = len(x) // 2
    if not layers or not half:
        return None
    drawn = dropout.bit_generator.state if dropout is not None else None

    def forward(images: Array) -> Array:
        if dropout is not None:
            dropout.bit_generator.state = drawn
        return model.forward(images)

    with _still(model):
        without = losses(forward(x[half:]), labels[half:])
        modes = {path: int(to_host(layer.gates.sum(axis=0)).argmax()) for path, layer in layers.items()}
        directions = {path: _unit(rng.normal(size=layer.num_features), layer) for path, layer in layers.items()}
        curvatures: dict[str, float] = {}
        for _ in range(STEPS):
            with _all_split(layers, modes, directions, SMALL):
                model.zero_grad()
                criterion = SoftmaxCrossEntropy()
                criterion.forward(forward(x[:half]), labels[:half])
                model.backward(criterion.backward())
                slopes = {path: _slope(layer, modes[path]) / SMALL for path, layer in layers.items()}
            for path, hu in slopes.items():
                u = directions[path]
                curvatures[path] = float(to_host((u * hu).sum()))
                norm = float(to_host((hu * hu).sum())) ** 0.5
                if norm > 0:
                    directions[path] = _unit(u - hu / norm, layers[path])
        found = []
        for path, layer in layers.items():
            if not curvatures[path] < 0:
                continue
            with _all_split({path: layer}, modes, directions, 1.0):
                differences = losses(forward(x[half:]), labels[half:]) - without
            mean, error = float(differences.mean()), float(differences.std(ddof=1) if half > 1 else 0) / half**0.5
            if mean + CLEAR * error < 0:
                found.append(Split(path, modes[path], directions[path], mean))
        if dropout is not None:
            dropout.bit_generator.state = drawn
    return min(found, key=lambda split: split.gain, default=None)


def install(layer: ModeNorm, mode: int, direction: Array, size: float = 1.0) -> list[int]:
    """Split a mode along a direction u of this length; return the modes the layer was made of."""
    mean, std = _input_moments(layer, mode)
    weight = (size * layer.gate_temperature) * direction / std
    return split_mode(layer, mode, weight, -(weight * mean).sum())


def losses(logits: Array, labels: Array) -> np.ndarray:
    """Return the cross entropy of each sample (N,), on the host."""
    xp = array_module(logits)
    z = logits.astype(np.float64)
    z = z - z.max(axis=1, keepdims=True)
    own = z[xp.arange(len(labels)), labels]
    return np.asarray(to_host(xp.log(xp.exp(z).sum(axis=1)) - own))


def _input_moments(layer: ModeNorm, mode: int) -> tuple[Array, Array]:
    """Return mean and standard deviation (C,) of what Psi sees of a mode, by its running moments."""
    xp = array_module(layer.buffers["running_mean"])
    mean = layer.buffers["running_mean"][mode]
    std = xp.sqrt(xp.maximum(layer.buffers["running_mean_square"][mode] - mean**2, 0) + layer.eps)
    seen = layer.seen_in_inference()
    return (mean - seen.mean) * seen.rstd, std * seen.rstd


def _slope(layer: ModeNorm, mode: int) -> Array:
    """Return dL/du."""
    mean, std = _input_moments(layer, mode)
    weight, bias = (layer.grads[f"gate.{name}"].astype(np.float64) for name in ("weight", "bias"))
    return (weight[mode] - weight[-1] - (bias[mode] - bias[-1]) * mean) * (layer.gate_temperature / std)


def _unit(u: Any, layer: ModeNorm) -> Array:
    """Return a direction of length 1, in float64 and the layer's library."""
    u = np.asarray(to_host(u), np.float64)
    return to_device(u / max(float(np.linalg.norm(u)), 1e-300), like=layer.buffers["running_mean"])


@contextmanager
def _all_split(
    layers: dict[str, ModeNorm], modes: dict[str, int], directions: dict[str, Array], size: float
) -> Iterator[None]:
    """Have a mode of each layer split, for the time being."""
    before = {
        path: (dict(layer.params), dict(layer.grads), dict(layer.buffers), layer.num_modes)
        for path, layer in layers.items()
    }
    try:
        for path, layer in layers.items():
            install(layer, modes[path], directions[path], size)
        yield
    finally:
        for path, layer in layers.items():
            params, grads, buffers, layer.num_modes = before[path]
            for arrays, old in ((layer.params, params), (layer.grads, grads), (layer.buffers, buffers)):
                arrays.update(old)


@contextmanager
def _still(model: Layer) -> Iterator[None]:
    """Let forwards in training mode leave the running statistics as they are."""
    found = [layer for _, layer in model.named_layers() if isinstance(layer, BatchStatistics)]
    momenta = [layer.momentum for layer in found]
    try:
        for layer in found:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(found, momenta, strict=True):
            layer.momentum = momentum
