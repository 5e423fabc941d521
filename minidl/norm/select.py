"""Changing the number of modes of a `ModeNorm` that is already trained: dropping some, and splitting one in two.

The arrays with a row per mode (Psi, the running moments, with per_mode_affine weight and bias) are made anew. An
optimiser, which keeps arrays beside them, has to follow: `minidl.optim.FlatOptimiser.follow`.

**Dropping.** Without mode j the gates are g'_nk = g_nk/(1 − g_nj): the softmax of the other logits is normalised by
itself. In training w_nk = g_nk/N_k becomes g'_nk/N'_k. Both differ from what they were by terms of the size of g_nj,
so the function stays as it is to rounding where every g_nj is below it.

**Splitting.** Two rows in place of one, with Psi's bias lower by ln 2 in both, have half of its gate each, and so the
same weights w, moments and running moments: sum_k g_k(…)_k is unchanged. So is every derivative by other parameters.
What tells the two apart is a step ±direction of their rows of Psi.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from minidl.backend import Array, array_module
from minidl.layers.base import Layer
from minidl.norm.mode import ModeNorm

Rows = dict[str, list[int]]  # {"path.name": the rows of an array that it now consists of}


def by_mode(layer: ModeNorm) -> list[str]:
    """Return the names of the parameters and buffers that have a row per mode."""
    affine = ["weight", "bias"] if layer.params["weight"].ndim == 2 else []
    return [*affine, "gate.weight", "gate.bias", "running_mean", "running_mean_square"]


def take_modes(layer: ModeNorm, modes: Sequence[int]) -> list[str]:
    """Let a layer consist of these of its modes, in this order, some perhaps twice; return the arrays that changed.

    Parameters
    ----------
    layer : ModeNorm
        A forward without its backward is forgotten, and the gradients of what changes are 0.
    modes : sequence of int
        At least one, each from 0 to num_modes − 1.

    Raises
    ------
    ValueError
        If there is none, or no such mode.

    Examples
    --------
    >>> layer = ModeNorm(5, num_modes=3)
    >>> _ = take_modes(layer, [0, 2])
    >>> layer.num_modes, layer.params["gate.weight"].shape
    (2, (2, 5))
    """
    if not len(modes) or not all(0 <= mode < layer.num_modes for mode in modes):
        raise ValueError(
            f"take_modes: modes must be some of 0 to {layer.num_modes - 1}, got {list(modes)}; keep at least one"
        )
    names = by_mode(layer)
    for arrays in (layer.params, layer.buffers):
        for name in arrays:
            if name in names:
                arrays[name] = array_module(arrays[name]).stack([arrays[name][mode] for mode in modes])
    for name in names:
        if name in layer.grads:
            layer.grads[name] = layer.params[name] * 0
    layer.num_modes = len(modes)
    layer.gates = layer.mean = layer.var = layer._kept = None
    return names


def split_mode(layer: ModeNorm, mode: int, weight: Array, bias: Array) -> list[int]:
    """Split a mode in two, the new one last, Psi's rows per step apart; return the modes the layer was made of.

    Parameters
    ----------
    layer : ModeNorm
    mode : int
    weight, bias : (C,) and (), of the layer's library
        The step: added to the rows of Psi of the old mode, taken from those of the new one. With 0 the function stays.
    """
    modes = [*range(layer.num_modes), mode]
    take_modes(layer, modes)
    for row, sign in ((mode, 1), (-1, -1)):
        layer.params["gate.weight"][row] += sign * weight
        layer.params["gate.bias"][row] += sign * bias - math.log(2) * layer.gate_temperature
    return modes


def fit_modes(model: Layer, state: Mapping[str, np.ndarray], most: int) -> Rows:
    """Give each ModeNorm of a network as many modes as in a state, so that it can be loaded; return what changed.

    Parameters
    ----------
    model : Layer
    state : {"path.name": array}
        As `Layer.state` gives it.
    most : int
        The largest number of modes that there can be.

    Raises
    ------
    ValueError
        If a layer would have none, or more than that.
    """
    rows: Rows = {}
    for path, layer in mode_norms(model).items():
        bias = state.get(_join(path, "gate.bias"))
        count = layer.num_modes if bias is None else int(np.size(bias))
        if not 1 <= count <= most:
            raise ValueError(f"layer {path} must have 1 to {most} modes, got {count}")
        if count != layer.num_modes:
            modes = [min(k, layer.num_modes - 1) for k in range(count)]
            rows |= {_join(path, name): modes for name in take_modes(layer, modes)}
    return rows


def mode_norms(model: Layer) -> dict[str, ModeNorm]:
    """Return {path: layer} for each ModeNorm of a network."""
    return {path: layer for path, layer in model.named_layers() if isinstance(layer, ModeNorm)}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
