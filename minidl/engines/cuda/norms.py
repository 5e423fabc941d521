"""The small functions of the norms on a GPU, in a few kernels each way: elsewhere every sum would be a launch.

A norm's own file says what they compute, the source beside this file that has its name says how. The small
arrays, (N, C) in the norms, are (C, N) in memory. Backward adds the parameters' gradients itself.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from minidl import memory
from minidl.backend import Array, array_module
from minidl.engine import CUDA
from minidl.engines.cuda.launch import launch
from minidl.layers.base import Layer
from minidl.norm.batch import BatchNorm
from minidl.norm.group import GroupNorm
from minidl.norm.mode import ModeNorm
from minidl.norm.mode_group import ModeGroupNorm
from minidl.norm.moments import Mean


def _serves(layer: Layer) -> bool:
    """Tell whether these kernels take over: of float32 or float64 parameters, and batches that one process holds."""
    return layer.params["weight"].dtype.itemsize > 2 and vars(layer).get("across") is None


def _run(xp: ModuleType, source: str, dtype: Any, kernel: str, size: int, *args: Any) -> None:
    launch(xp, source, kernel, size, *args, dtype=dtype)


def _rows(*arrays: Array) -> list[Array]:
    """View (N, C) arrays as (C, N)."""
    return [memory.batch_last(array_module(array), array, np.float64) for array in arrays]


class _Written(NamedTuple):
    """What the written function kept, where it stood in."""

    kept: Any


def _written(made: tuple[Array, Array, Any]) -> tuple[Array, Array, _Written]:
    s, u, kept = made
    return s, u, _Written(kept)


@CUDA.twin(BatchNorm.small)
def batch_norm(self: BatchNorm, m: Mean, v: Array, values: int) -> tuple[Array, Array, Any]:
    """`minidl.norm.batch.batch_norm` in training, with the running statistics."""
    if not (self.training and _serves(self)):
        return _written(BatchNorm.small(self, m, v, values))
    unbias = values / (values - 1) if self.running == "unbiased" else 1.0
    square = "running_mean_square" in self.buffers
    xp = array_module(v)
    m0, delta, v = _rows(*m, v)
    weight, bias = self.params["weight"], self.params["bias"]
    (s, u, d), rstd = xp.empty((3, *v.shape)), xp.empty(len(v))
    running = self.buffers.values()
    numbers = *map(np.float64, (self.eps, self.momentum, unbias)), int(square), v.shape[1]
    arrays = (m0, delta, v, weight, bias, *running, s, u, d, rstd)
    launch(xp, "batch_norm", "batch_norm", v.size, *arrays, *numbers, dtype=weight.dtype)
    return s.T, u.T, (s, d, rstd)


@CUDA.twin(BatchNorm.small_backward)
def batch_norm_backward(self: BatchNorm, ds: Array, du: Array, training: bool, kept: Any) -> tuple[Array, Array]:
    """`minidl.norm.batch.batch_norm_backward` in training."""
    if isinstance(kept, _Written):
        return BatchNorm.small_backward(self, ds, du, training, kept.kept)
    xp = array_module(ds)
    ds, du = _rows(ds, du)
    dm, dv = xp.empty((2, *ds.shape))
    arrays = (ds, du, *kept, dm, dv, self.grads["weight"], self.grads["bias"])
    launch(xp, "batch_norm", "batch_norm_backward", ds.size, *arrays, ds.shape[1], dtype=self.grads["weight"].dtype)
    return dm.T, dv.T


@CUDA.twin(GroupNorm.small)
def group_norm(self: GroupNorm, m: Mean, v: Array, values: int) -> tuple[Array, Array, Any]:
    """`minidl.norm.group.group_norm`."""
    if not _serves(self):
        return _written(GroupNorm.small(self, m, v, values))
    xp = array_module(v)
    m0, delta, v = _rows(*m, v)
    weight, bias = self.params["weight"], self.params["bias"]
    s, u, d, rstd = xp.empty((4, *v.shape))
    size = len(v) // self.num_groups
    arrays = (m0, delta, v, weight, bias, s, u, d, rstd)
    launch(xp, "group_norm", "group_norm", v.size, *arrays, np.float64(self.eps), size, v.shape[1], dtype=weight.dtype)
    return s.T, u.T, (size, s, d, rstd)


@CUDA.twin(GroupNorm.small_backward)
def group_norm_backward(self: GroupNorm, ds: Array, du: Array, training: bool, kept: Any) -> tuple[Array, Array]:
    """`minidl.norm.group.group_norm_backward`."""
    if isinstance(kept, _Written):
        return GroupNorm.small_backward(self, ds, du, training, kept.kept)
    xp = array_module(ds)
    ds, du = _rows(ds, du)
    size, *kept = kept
    dm, dv = xp.empty((2, *ds.shape))
    arrays = (ds, du, *kept, dm, dv, self.grads["weight"], self.grads["bias"])
    run = ("group_norm", "group_norm_backward", ds.size)
    launch(xp, *run, *arrays, size, ds.shape[1], dtype=self.grads["weight"].dtype)
    return dm.T, dv.T


@CUDA.twin(ModeNorm.small)
def mode_norm(self: ModeNorm, m: Mean, v: Array, values: int) -> tuple[Array, Array, Any]:
    """`minidl.norm.mode.mode_norm` in training, from the gates to the running moments."""
    if not (self.training and _serves(self)):
        return _written(ModeNorm.small(self, m, v, values))
    xp = array_module(v)
    m0, delta, v = _rows(*m, v)
    p, psi = self.params, self.psi()
    (k, c), n = psi.weight.shape, v.shape[1]
    rows = p["weight"].size // c
    g, log_g, w = xp.empty((3, k, n))
    mu, mean, var, rstd, scale, offset = xp.empty((6, k, c))
    origin, (s, u) = xp.empty(c), xp.empty((2, c, n))
    run = partial(_run, xp, "mode_norm", p["weight"].dtype)

    run("gates", n, m0, delta, psi.weight, psi.bias, g, log_g, k, c, n)
    run("mode_weights", k * n, log_g, w, n)
    running = self.buffers["running_mean"], self.buffers["running_mean_square"]
    arrays = (m0, delta, v, w, p["weight"], p["bias"], *running)
    made = (origin, mu, mean, var, rstd, scale, offset)
    run("mode_moments", k * c, *arrays, *made, np.float64(self.eps), np.float64(self.momentum), rows, c, n)
    run("mode_norm", c * n, m0, delta, origin, g, scale, offset, s, u, k, c, n)
    self.gates, self.mean, self.var = g.T, mean, var
    return s.T, u.T, (m0, delta, v, origin, g, w, mu, rstd, scale, offset, s)


@CUDA.twin(ModeNorm.small_backward)
def mode_norm_backward(self: ModeNorm, ds: Array, du: Array, training: bool, kept: Any) -> tuple[Array, Array]:
    """`minidl.norm.mode.mode_norm_backward` in training, step by step back."""
    if isinstance(kept, _Written):
        return ModeNorm.small_backward(self, ds, du, training, kept.kept)
    xp = array_module(ds)
    ds, du = _rows(ds, du)
    m0, delta, v, origin, g, w, mu, rstd, scale, offset, s = kept
    (k, c), n, (gate_weight, _, *of_psi) = mu.shape, ds.shape[1], self.psi()
    grads = [*of_psi, self.grads["weight"], self.grads["bias"]]
    dmu, dvar, of_weight, of_bias = xp.empty((4, k, c))
    g_dg, dw, dlog_g, dz = xp.empty((4, k, n))
    dm, dv = xp.empty((2, c, n))
    run = partial(_run, xp, "mode_norm", gate_weight.dtype)

    kept = (ds, du, m0, delta, origin, g, mu, rstd, scale)
    run("mode_moments_backward", k * c, *kept, dmu, dvar, of_weight, of_bias, c, n)
    kept = (ds, du, m0, delta, v, origin, g, mu, scale, offset, dmu, dvar)
    run("mode_weights_backward", k * n, *kept, g_dg, dw, c, n)
    run("log_gates_backward", k * n, g_dg, w, dw, dlog_g, n)
    kept = (du, m0, delta, origin, s, g, w, mu, dmu, dvar, dlog_g, gate_weight)
    run("mode_norm_backward", c * n, *kept, dm, dv, dz, k, c, n)
    run("mode_gradients", k * c, dz, m0, delta, of_weight, of_bias, *grads, grads[2].size // c, k, c, n)
    return dm.T, dv.T


@CUDA.twin(ModeGroupNorm.small)
def mode_group_norm(self: ModeGroupNorm, m: Mean, v: Array, values: int) -> tuple[Array, Array, Any]:
    """`minidl.norm.mode_group.mode_group_norm`, from the gates on."""
    if not _serves(self):
        return _written(ModeGroupNorm.small(self, m, v, values))
    spatial = self.moments == "spatial"
    xp = array_module(v)
    m0, delta, v = _rows(*m, v)
    p = self.params
    (c, n), k = v.shape, p["gate.bias"].size
    g, log_g, w = xp.empty((3, c, k, n))
    mu, rstd = xp.empty((2, k, n))
    scale, shift, s, u = xp.empty((4, c, n))
    run = partial(_run, xp, "mode_group_norm", p["weight"].dtype)

    run("channel_gates", c * n, m0, delta, p["gate.weight"], p["gate.bias"], g, log_g, k, n)
    run("channel_moments", k * n, m0, delta, v, log_g, w, mu, rstd, np.float64(self.eps), int(spatial), c, k, n)
    run("mode_group_norm", c * n, m0, delta, mu, rstd, p["weight"], p["bias"], scale, shift, s, u, k, n)
    self.gates = g.transpose(2, 0, 1)
    return s.T, u.T, (m0, delta, v, g, w, mu, rstd, scale, shift, int(spatial))


@CUDA.twin(ModeGroupNorm.small_backward)
def mode_group_norm_backward(
    self: ModeGroupNorm, ds: Array, du: Array, training: bool, kept: Any
) -> tuple[Array, Array]:
    """`minidl.norm.mode_group.mode_group_norm_backward`, step by step back."""
    if isinstance(kept, _Written):
        return ModeGroupNorm.small_backward(self, ds, du, training, kept.kept)
    xp = array_module(ds)
    ds, du = _rows(ds, du)
    m0, delta, v, g, w, mu, rstd, scale, shift, spatial = kept
    (c, n), k = v.shape, len(mu)
    weight, gate_weight, grads = self.params["weight"], self.params["gate.weight"], self.grads
    dmu, dvar = xp.empty((2, k, n))
    dlog_g, dz = xp.empty((2, c, k, n))
    products, sums = xp.empty((2, c, k))
    dm, dv = xp.empty((2, c, n))
    run = partial(_run, xp, "mode_group_norm", weight.dtype)

    kept = (ds, du, m0, delta, v, w, mu, rstd, weight)
    run("channel_moments_backward", k * n, *kept, dmu, dvar, dlog_g, spatial, c, k, n)
    kept = (du, m0, delta, g, w, mu, rstd, dmu, dvar, dlog_g, weight, gate_weight)
    run("mode_group_norm_backward", c * n, *kept, dm, dv, dz, spatial, k, n)
    kept = (ds, du, m0, delta, scale, shift, dz)
    run("channel_gradients", c * k, *kept, products, sums, grads["weight"], grads["bias"], k, n)
    run("channel_gate_gradients", k, products, sums, grads["gate.weight"], grads["gate.bias"], c)
    return dm.T, dv.T
