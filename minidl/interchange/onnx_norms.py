"""The six norms in inference, as ONNX operators.

Everything that does not depend on x is computed here, in float64, and stored as a constant.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array, to_host
from minidl.interchange.onnx_graph import Graph, Value
from minidl.norm.batch import BatchNorm
from minidl.norm.group import GroupNorm
from minidl.norm.mode import ModeNorm
from minidl.norm.mode_group import ModeGroupNorm


def batch_norm(graph: Graph, layer: BatchNorm, x: Value) -> Value:
    """y = weight·(x − mean)/sqrt(var + eps) + bias, with the running statistics: BatchNormalization."""
    mean, var = layer._running_moments()
    return with_statistics(graph, x, layer.params["weight"], layer.params["bias"], mean, var, layer.eps)


def with_statistics(graph: Graph, x: Value, weight: Array, bias: Array, mean: Array, var: Array, eps: float) -> Value:
    """y = weight·(x − mean)/sqrt(var + eps) + bias, all (C,): inference of a norm with running statistics."""
    named = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
    constants = [graph.floats(name, value) for name, value in named.items()]
    return graph.op("BatchNormalization", [x.name, *constants], x.shape, epsilon=float(eps))


def group_norm(graph: Graph, layer: GroupNorm, x: Value) -> Value:
    """GN, LN and IN: InstanceNormalization of each group, laid out as one channel, then scale and shift per channel."""
    groups = layer.num_groups
    laid = graph.op("Reshape", [x.name, graph.integers("groups", 0, groups, -1)], (groups, x_size(x) // groups))
    ones, zeros = graph.floats("ones", np.ones(groups)), graph.floats("zeros", np.zeros(groups))
    normed = graph.op("InstanceNormalization", [laid.name, ones, zeros], laid.shape, epsilon=float(layer.eps))
    back = graph.op("Reshape", [normed.name, graph.integers("shape", -1, *x.shape)], x.shape)
    scaled = graph.op("Mul", [back.name, graph.floats("weight", per_channel(layer.params["weight"], x))], x.shape)
    return graph.op("Add", [scaled.name, graph.floats("bias", per_channel(layer.params["bias"], x))], x.shape)


def mode_norm(graph: Graph, layer: ModeNorm, x: Value) -> Value:
    """y = s·(x − origin) + u, with s = g·scale and u = g·(bias − scale·(mean − origin)), g = softmax(Psi(mean_hw x)).

    scale = weight/sqrt(var + eps), mean and var (K, C) of the running statistics; the origin, the modes' average mean,
    keeps the difference of large means out of float32 (`minidl.norm.mode`, Algorithm 2 of the paper).
    """
    mean, square = (_float64(layer.buffers[name]) for name in ("running_mean", "running_mean_square"))
    rstd = 1 / np.sqrt(np.maximum(square - mean**2, 0) + layer.eps)
    weight, bias = (_float64(layer.params[name]).reshape(-1, layer.num_features) for name in ("weight", "bias"))
    origin = mean.mean(axis=0).astype(np.float32).astype(np.float64)  # x − origin is then exact where they are near
    scale = weight * rstd
    gate = [graph.floats(*named) for named in zip(("gate.weight", "gate.bias"), layer.psi_in_inference(), strict=True)]
    g = graph.op("Gemm", [means(graph, x).name, *gate], (layer.num_modes,), transB=1)
    g = graph.op("Softmax", [g.name], g.shape, axis=1)
    s = graph.op("MatMul", [g.name, graph.floats("scale", scale)], x.shape[:1])
    u = graph.op("MatMul", [g.name, graph.floats("shift", bias - scale * (mean - origin))], x.shape[:1])
    near = graph.op("Sub", [x.name, graph.floats("origin", per_channel(origin, x))], x.shape)
    return scale_shift(graph, near, s, u)


def mode_group_norm(graph: Graph, layer: ModeGroupNorm, x: Value) -> Value:
    """y = (weight/K) sum_k (x − mu_nk)/sqrt(var_nk + eps) + bias (eq. 5, Algorithm 3 of the paper).

    The gates of a channel are a softmax over the modes, the weights of a mode a softmax over the channels of log g.
    Means are counted from each sample's average over its channels.
    """
    c, k = layer.num_features, layer.num_modes
    m = means(graph, x)  # (N, C)
    column = graph.op("Unsqueeze", [m.name, graph.integers("last", 2)], (c, 1))
    z = graph.op("Mul", [column.name, graph.floats("gate.weight", layer.params["gate.weight"].reshape(k))], (c, k))
    z = graph.op("Add", [z.name, graph.floats("gate.bias", layer.params["gate.bias"])], (c, k))
    log_g = graph.op("LogSoftmax", [z.name], (c, k), axis=2)
    w = graph.op("Softmax", [log_g.name], (c, k), axis=1)
    origin = graph.op("ReduceMean", [column.name], (1, 1), axes=[1], keepdims=1)
    near = graph.op("Sub", [column.name, origin.name], (c, 1))
    axis = graph.integers("channels", 1)
    mu = graph.op("Mul", [w.name, near.name], (c, k))
    mu = graph.op("ReduceSum", [mu.name, axis], (1, k), keepdims=1)
    d = graph.op("Sub", [near.name, mu.name], (c, k))
    spread = graph.op("Mul", [d.name, d.name], (c, k))
    centred = graph.op("Sub", [x.name, beside(graph, m, x).name], x.shape)
    if layer.moments == "spatial" and len(x.shape) > 1:
        squares = graph.op("Mul", [centred.name, centred.name], x.shape)
        v = graph.op("Unsqueeze", [means(graph, squares).name, graph.integers("last", 2)], (c, 1))
        spread = graph.op("Add", [spread.name, v.name], (c, k))
    var = graph.op("Mul", [w.name, spread.name], (c, k))
    var = graph.op("ReduceSum", [var.name, axis], (1, k), keepdims=1)
    var = graph.op("Add", [var.name, graph.floats("eps", layer.eps)], (1, k))
    std = graph.op("Sqrt", [var.name], (1, k))
    rstd = graph.op("Reciprocal", [std.name], (1, k))
    scale = graph.op("ReduceMean", [rstd.name], (1,), axes=[2], keepdims=0)
    shift = graph.op("Mul", [rstd.name, d.name], (c, k))
    shift = graph.op("ReduceMean", [shift.name], (c,), axes=[2], keepdims=0)
    weight = graph.floats("weight", layer.params["weight"])
    s = graph.op("Mul", [scale.name, weight], (c,))
    u = graph.op("Mul", [shift.name, weight], (c,))
    u = graph.op("Add", [u.name, graph.floats("bias", layer.params["bias"])], (c,))
    return scale_shift(graph, centred, s, u)


# -- parts -------------------------------------------------------------------------------------------------------------


def means(graph: Graph, x: Value) -> Value:
    """Return the mean over the pixels of each channel of each sample: (N, C)."""
    if len(x.shape) == 1:
        return x
    axes = list(range(2, 1 + len(x.shape)))
    return graph.op("ReduceMean", [x.name], x.shape[:1], axes=axes, keepdims=0)


def scale_shift(graph: Graph, x: Value, s: Value, u: Value) -> Value:
    """Return x·s + u for s, u (N, C)."""
    scaled = graph.op("Mul", [x.name, beside(graph, s, x).name], x.shape)
    return graph.op("Add", [scaled.name, beside(graph, u, x).name], x.shape)


def beside(graph: Graph, a: Value, x: Value) -> Value:
    """View a (N, C) so that it meets each pixel of x (N, C, ...)."""
    axes = range(2, 1 + len(x.shape))
    if not axes:
        return a
    return graph.op("Unsqueeze", [a.name, graph.integers("pixels", *axes)], (*x.shape[:1], *(1 for _ in axes)))


def per_channel(a: Any, x: Value) -> Any:
    """Return a (C,) so that it meets each pixel of x (N, C, ...)."""
    return a.reshape(a.shape + (1,) * (len(x.shape) - 1))


def x_size(x: Value) -> int:
    """Return the number of values of a sample."""
    return int(np.prod(x.shape))


def _float64(a: Any) -> np.ndarray:
    return np.asarray(to_host(a), np.float64)
