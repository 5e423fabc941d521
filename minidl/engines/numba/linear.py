"""The fully connected layer: loops for few samples, compiled products where they fit the cache, and BLAS for the rest.

BLAS copies both factors of a product before it multiplies, which is worth it where each value is used often. With a few
samples a weight is used that many times: one reading of it is all there is to do. Large products of BLAS run on two
threads.
"""

from __future__ import annotations

import numpy as np

from minidl import memory
from minidl.backend import Array
from minidl.engine import NUMBA
from minidl.engines.numba.compile import jit
from minidl.engines.numba.direct import ones, zeros
from minidl.engines.numba.matmul import matmul
from minidl.layers import linear

_FEW = 8  # samples
_SMALL = 1 << 12  # values of a weight, whose products take as long as a call


@NUMBA.twin(linear.linear)
def forward(x: Array, weight: Array, bias: Array | None) -> Array:
    """y = x Wᵀ + b."""
    if weight.dtype.char not in "fd" or x.dtype != weight.dtype:
        y: Array = linear.linear(x, weight, bias)
        return y
    if bias is not None:
        bias = np.ascontiguousarray(bias, weight.dtype)
    if _few(x, weight):
        yt = np.empty((len(weight), len(x)), weight.dtype)
        _forward(np.ascontiguousarray(x), weight, zeros(len(weight), weight.dtype) if bias is None else bias, yt)
        return yt.T
    yt = memory.recycled((len(weight), len(x)), weight.dtype)
    matmul(weight, memory.batch_last(np, x), bias, yt)  # a product's bits hang on the order in memory
    return yt.T


@NUMBA.twin(linear.linear_backward)
def linear_backward(dy: Array, x: Array, weight: Array, needs_dx: bool = True) -> tuple[Array | None, Array, Array]:
    """dx = dy W, dW = dyᵀ x, db = sum_n dy."""
    dyt, dx = dy.T, None
    dweight = memory.recycled(weight.shape, weight.dtype)
    if _few(x, weight) and dy.dtype == weight.dtype:
        dyt, dbias = np.ascontiguousarray(dyt), np.empty(len(weight), weight.dtype)
        _weight_gradient(dyt, np.ascontiguousarray(x), dweight, dbias)
        if needs_dx:
            dxt = np.empty(x.shape[::-1], weight.dtype)
            _input_gradient(dyt, weight, dxt)
            dx = dxt.T
        return dx, dweight, dbias
    dyt = memory.batch_last(np, dy)
    matmul(dyt, memory.batch_last(np, x).T, None, dweight)
    if needs_dx:
        dxt = memory.recycled(weight.shape[1:] + dy.shape[:1], weight.dtype)
        matmul(weight.T, dyt, None, dxt)
        dx = dxt.T  # (N, I), the batch innermost
    return dx, dweight, dyt @ ones(len(dy), dy.dtype)


def _few(x: Array, weight: Array) -> bool:
    """Tell whether the loops take over: of few samples of the weight's dtype, which they compute in."""
    return (
        len(x) <= _FEW
        and weight.size >= _SMALL
        and x.dtype == weight.dtype
        and weight.dtype.char in "fd"
        and weight.flags.c_contiguous
    )


# -- compiled ----------------------------------------------------------------------------------------------------------


@jit(apart=True)
def _forward(x, weight, bias, yt):
    """yt[o, n] = sum_i weight[o, i]·x[n, i] + bias[o], four samples at a time."""
    samples, size = x.shape
    zero = x.dtype.type(0)
    for o in range(len(weight)):
        w = weight[o]
        for n in range(0, samples - samples % 4, 4):
            p, q, r, s = x[n], x[n + 1], x[n + 2], x[n + 3]
            a = b = c = d = zero
            for i in range(size):
                a += w[i] * p[i]
                b += w[i] * q[i]
                c += w[i] * r[i]
                d += w[i] * s[i]
            yt[o, n], yt[o, n + 1], yt[o, n + 2], yt[o, n + 3] = a + bias[o], b + bias[o], c + bias[o], d + bias[o]
        for n in range(samples - samples % 4, samples):
            p, a = x[n], zero
            for i in range(size):
                a += w[i] * p[i]
            yt[o, n] = a + bias[o]


@jit(apart=True)
def _weight_gradient(dyt, x, dweight, dbias):
    """dweight[o, i] = sum_n dyt[o, n]·x[n, i], four samples at a time; dbias[o] = sum_n dyt[o, n]."""
    samples, size = x.shape
    for o in range(len(dweight)):
        dw, g = dweight[o], dyt[o]
        dbias[o] = 0
        for n in range(samples):
            dbias[o] += g[n]
        for n in range(0, samples - samples % 4, 4):
            p, q, r, s = x[n], x[n + 1], x[n + 2], x[n + 3]
            if n == 0:
                for i in range(size):
                    dw[i] = (g[0] * p[i] + g[1] * q[i]) + (g[2] * r[i] + g[3] * s[i])
            else:
                for i in range(size):
                    dw[i] += (g[n] * p[i] + g[n + 1] * q[i]) + (g[n + 2] * r[i] + g[n + 3] * s[i])
        for n in range(samples - samples % 4, samples):
            p = x[n]
            if n == 0:
                for i in range(size):
                    dw[i] = g[0] * p[i]
            else:
                for i in range(size):
                    dw[i] += g[n] * p[i]


@jit(apart=True)
def _input_gradient(dyt, weight, dxt):
    """dxt[i, n] = sum_o weight[o, i]·dyt[o, n], for two samples and four outputs at a time."""
    size, samples = dxt.shape
    outputs = len(weight)
    left = outputs % 4
    one, two = np.empty(size, weight.dtype), np.empty(size, weight.dtype)
    for n in range(0, samples, 2):
        m = min(n + 1, samples - 1)
        for i in range(size):
            one[i] = two[i] = 0
        for o in range(outputs - left, outputs):
            p, a, e = weight[o], dyt[o, n], dyt[o, m]
            for i in range(size):
                one[i] += a * p[i]
                two[i] += e * p[i]
        for o in range(0, outputs - left, 4):
            p, q, r, s = weight[o], weight[o + 1], weight[o + 2], weight[o + 3]
            a, b, c, d = dyt[o, n], dyt[o + 1, n], dyt[o + 2, n], dyt[o + 3, n]
            e, f, g, h = dyt[o, m], dyt[o + 1, m], dyt[o + 2, m], dyt[o + 3, m]
            for i in range(size):
                one[i] += (a * p[i] + b * q[i]) + (c * r[i] + d * s[i])
                two[i] += (e * p[i] + f * q[i]) + (g * r[i] + h * s[i])
        for i in range(size):
            dxt[i, n] = one[i]
            dxt[i, m] = two[i]
