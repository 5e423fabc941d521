"""The small functions of the norms, one compiled call each way: elsewhere every sum is a call of NumPy's.

A norm's own file says what they compute, `small_loops` has the loops.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minidl.backend import Array
from minidl.engine import NUMBA
from minidl.engines.numba import small_loops as loops
from minidl.engines.numba.norm import rows
from minidl.layers.base import Layer
from minidl.norm.batch import BatchNorm
from minidl.norm.group import GroupNorm
from minidl.norm.mode import ModeNorm
from minidl.norm.mode_group import ModeGroupNorm
from minidl.norm.moments import Mean


def _serves(layer: Layer) -> bool:
    """Tell whether these functions take over: of float32 or float64 parameters, and batches that one process holds."""
    return layer.params["weight"].dtype.itemsize > 2 and vars(layer).get("across") is None


class _Written(NamedTuple):
    """What the written function kept, where it stood in."""

    kept: Any


def _written(made: tuple[Array, Array, Any]) -> tuple[Array, Array, _Written]:
    s, u, kept = made
    return s, u, _Written(kept)


@NUMBA.twin(BatchNorm.small)
def batch_norm(self: BatchNorm, m: Mean, v: Array, values: int) -> tuple[Array, Array, Any]:
    """`minidl.norm.batch.batch_norm` in training, with the running statistics."""
    if not (self.training and _serves(self)):
        return _written(BatchNorm.small(self, m, v, values))
    m0, delta, v = rows(m.m0), rows(m.delta), rows(v)
    made, rstd = np.empty((3, *v.shape)), np.empty(len(v))
    p, (mean, spread) = self.params, self.buffers.values()
    unbias = values / (values - 1) if self.running == "unbiased" else 1.0
    numbers = self.eps, self.momentum, unbias, "running_mean_square" in self.buffers
    loops.batch_norm(m0, delta, v, p["weight"], p["bias"], mean, spread, made, rstd, *numbers)
    s, u, d = made
    return s.T, u.T, (s, d, rstd)


@NUMBA.twin(BatchNorm.small_backward)
def batch_norm_backward(self: BatchNorm, ds: Array, du: Array, training: bool, kept: Any) -> tuple[Array, Array]:
    """`minidl.norm.batch.batch_norm_backward` in training."""
    if isinstance(kept, _Written):
        return BatchNorm.small_backward(self, ds, du, training, kept.kept)
    ds, du, (s, d, rstd) = rows(ds), rows(du), kept
    made = np.empty((2, *ds.shape))
    loops.batch_norm_backward(ds, du, s, d, rstd, made, self.grads["weight"], self.grads["bias"])
    dm, dv = made
    return dm.T, dv.T


@NUMBA.twin(GroupNorm.small)
def group_norm(self: GroupNorm, m: Mean, v: Array, values: int) -> tuple[Array, Array, Any]:
    """`minidl.norm.group.group_norm`."""
    if not _serves(self):
        return _written(GroupNorm.small(self, m, v, values))
    m0, delta, v = rows(m.m0), rows(m.delta), rows(v)
    made, rstd = np.empty((3, *v.shape)), np.empty((self.num_groups, v.shape[1]))
    loops.group_norm(m0, delta, v, self.params["weight"], self.params["bias"], made, rstd, self.eps)
    s, u, d = made
    return s.T, u.T, (s, d, rstd)


@NUMBA.twin(GroupNorm.small_backward)
def group_norm_backward(self: GroupNorm, ds: Array, du: Array, training: bool, kept: Any) -> tuple[Array, Array]:
    """`minidl.norm.group.group_norm_backward`."""
    if isinstance(kept, _Written):
        return GroupNorm.small_backward(self, ds, du, training, kept.kept)
    ds, du, (s, d, rstd) = rows(ds), rows(du), kept
    made, grads = np.empty((2, *ds.shape)), self.grads
    loops.group_norm_backward(ds, du, s, d, rstd, self.params["weight"], made, grads["weight"], grads["bias"])
    dm, dv = made
    return dm.T, dv.T


@NUMBA.twin(ModeNorm.small)
def mode_norm(self: ModeNorm, m: Mean, v: Array, values: int) -> tuple[Array, Array, Any]:
    """`minidl.norm.mode.mode_norm` in training, from the gates to the running moments."""
    if not (self.training and _serves(self)):
        return _written(ModeNorm.small(self, m, v, values))
    m0, delta, v = rows(m.m0), rows(m.delta), rows(v)
    p, psi, n = self.params, self.psi(), v.shape[1]
    k, c = psi.weight.shape
    of_gates, of_modes, made = np.empty((2, k, n)), np.empty((6, k, c)), np.empty((3, c, n))
    params = psi.weight, psi.bias, p["weight"].reshape(-1, c), p["bias"].reshape(-1, c)
    running = self.buffers["running_mean"], self.buffers["running_mean_square"]
    arrays = m0, delta, v, *params, *running, of_gates, of_modes, made, self.eps, self.momentum
    loops.mode_norm(*arrays)
    s, u, _ = made
    self.gates, self.mean, self.var = of_gates[0].T, of_modes[1], of_modes[2]
    return s.T, u.T, (m0, delta, v, of_gates, of_modes, made)


@NUMBA.twin(ModeNorm.small_backward)
def mode_norm_backward(self: ModeNorm, ds: Array, du: Array, training: bool, kept: Any) -> tuple[Array, Array]:
    """`minidl.norm.mode.mode_norm_backward` in training, step by step back."""
    if isinstance(kept, _Written):
        return ModeNorm.small_backward(self, ds, du, training, kept.kept)
    ds, du = rows(ds), rows(du)
    p, psi, grads, c = self.params, self.psi(), self.grads, len(ds)
    made = np.empty((2, *ds.shape))
    params = psi.weight, p["weight"].reshape(-1, c)
    of_affine = grads["weight"].reshape(-1, c), grads["bias"].reshape(-1, c)
    arrays = ds, du, *kept, *params, made, psi.dweight, psi.dbias, *of_affine
    loops.mode_norm_backward(*arrays)
    dm, dv = made
    return dm.T, dv.T


@NUMBA.twin(ModeGroupNorm.small)
def mode_group_norm(self: ModeGroupNorm, m: Mean, v: Array, values: int) -> tuple[Array, Array, Any]:
    """`minidl.norm.mode_group.mode_group_norm`, from the gates on."""
    if not _serves(self):
        return _written(ModeGroupNorm.small(self, m, v, values))
    m0, delta, v, spatial = rows(m.m0), rows(m.delta), rows(v), self.moments == "spatial"
    p = self.params
    (c, n), k = v.shape, p["gate.bias"].size
    of_gates, of_modes, made = np.empty((2, c, k, n)), np.empty((2, k, n)), np.empty((4, c, n))
    scale = np.empty(n)
    arrays = m0, delta, v, p["gate.weight"].reshape(-1), p["gate.bias"], p["weight"], p["bias"]
    loops.mode_group_norm(*arrays, of_gates, of_modes, made, scale, self.eps, spatial)
    s, u, _, _ = made
    self.gates = of_gates[0].transpose(2, 0, 1)
    return s.T, u.T, (m0, delta, v, of_gates, of_modes, made, scale, spatial)


@NUMBA.twin(ModeGroupNorm.small_backward)
def mode_group_norm_backward(
    self: ModeGroupNorm, ds: Array, du: Array, training: bool, kept: Any
) -> tuple[Array, Array]:
    """`minidl.norm.mode_group.mode_group_norm_backward`, step by step back."""
    if isinstance(kept, _Written):
        return ModeGroupNorm.small_backward(self, ds, du, training, kept.kept)
    ds, du = rows(ds), rows(du)
    made = np.empty((2, *ds.shape))
    p, grads = self.params, self.grads
    of_gates = grads["gate.weight"].reshape(-1), grads["gate.bias"]
    arrays = ds, du, *kept, p["gate.weight"].reshape(-1), p["weight"], made, *of_gates, grads["weight"], grads["bias"]
    loops.mode_group_norm_backward(*arrays)
    dm, dv = made
    return dm.T, dv.T
