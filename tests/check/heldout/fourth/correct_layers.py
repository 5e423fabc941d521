"""Sixteen layers that are right, two in each of eight styles; no check may fail them."""

from __future__ import annotations

import os

import numpy as np
import torch
import torch.nn.functional as F

from heldout.fourth.n_batch_norm import Staged
from heldout.fourth.n_layers import IndexedMaxPool
from heldout.fourth.n_modes import ModeGroupNorm
from heldout.fourth.registry import correct
from heldout.fourth.t_modes import ModeNorm
from heldout.third import nbase
from heldout.third.tbase import Torch, pair

os.environ.setdefault("JAX_PLATFORMS", "cpu")


# PyTorch: the framework's own functions


@correct("PyTorch", "conv2d")
class TorchConv(Torch):
    conventions = {"grads": "accumulate", "dilation": "supported"}

    def compute(self, x, training):
        o = {key: pair(self.o.get(key, default)) for key, default in (("stride", 1), ("padding", 0), ("dilation", 1))}
        return F.conv2d(x, self.w, self.b, **o, groups=int(self.o.get("groups", 1)))


@correct("PyTorch", "group_norm")
class TorchGroupNorm(Torch):
    def compute(self, x, training):
        if x.shape[1] % self.o["num_groups"]:
            raise ValueError("the channels cannot be divided into the groups")
        n, c, groups = *x.shape[:2], self.o["num_groups"]
        z = F.layer_norm(x.reshape(n, groups, -1), (x[0].numel() // groups,), eps=self.eps).reshape(n, c, -1)
        return (z * self.w[:, None] + self.b[:, None]).reshape(x.shape)


# JAX: pure functions, gradients by jax.vjp


class Jax(nbase.Layer):
    def apply(self, x, p):
        raise NotImplementedError

    def forward(self, x, training):
        import jax

        jax.config.update("jax_enable_x64", True)
        params = {k: jax.numpy.asarray(v) for k, v in self.p.items()}
        y, self.vjp = jax.vjp(self.apply, jax.numpy.asarray(np.array(x)), params)
        return np.asarray(y)

    def backward(self, dy):
        import jax

        dx, dp = self.vjp(jax.numpy.asarray(np.array(dy)))
        return {"dx": np.asarray(dx), **{f"d{k}": np.asarray(v) for k, v in dp.items()}}


@correct("JAX", "rms_norm")
class JaxRmsNorm(Jax):
    def apply(self, x, p):
        import jax

        return p["weight"] * x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + self.eps)


@correct("JAX", "linear")
class JaxLinear(Jax):
    def apply(self, x, p):
        y = x @ p["weight"].T
        return y + p["bias"] if "bias" in p else y


# NumPy, backward by hand


@correct("NumPy", "mode_group_norm")
class NumpyModeGroupNorm(ModeGroupNorm):
    pass


@correct("NumPy", "max_pool2d")
class NumpyMaxPool(IndexedMaxPool):
    pass


# C-like loops over float32 scalars

f32 = np.float32


@correct("C-like float32 loops", "layer_norm_last", ("float32",))
class LoopLayerNorm(nbase.Layer):
    def forward(self, x, training):
        rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
        c = rows.shape[1]
        self.xhat, self.rstd, y = np.zeros_like(rows), np.zeros(len(rows), f32), np.zeros_like(rows)
        for r in range(len(rows)):
            mean = var = f32(0)
            for i in range(c):
                mean += rows[r, i]
            mean /= f32(c)
            for i in range(c):
                var += (rows[r, i] - mean) * (rows[r, i] - mean)
            self.rstd[r] = f32(1) / np.sqrt(var / f32(c) + f32(self.eps))
            for i in range(c):
                self.xhat[r, i] = (rows[r, i] - mean) * self.rstd[r]
                y[r, i] = self.xhat[r, i] * self.w[i] + self.b[i]
        return y.reshape(x.shape)

    def backward(self, dy):
        rows = np.ascontiguousarray(dy).reshape(self.xhat.shape)
        c = rows.shape[1]
        dx, dw, db = np.zeros_like(rows), np.zeros(c, f32), np.zeros(c, f32)
        for r in range(len(rows)):
            mean = dot = f32(0)
            for i in range(c):
                d = rows[r, i] * self.w[i]
                mean += d
                dot += d * self.xhat[r, i]
                dw[i] += rows[r, i] * self.xhat[r, i]
                db[i] += rows[r, i]
            for i in range(c):
                d = rows[r, i] * self.w[i]
                dx[r, i] = self.rstd[r] * (d - mean / f32(c) - self.xhat[r, i] * dot / f32(c))
        return {"dx": dx.reshape(dy.shape), "dweight": dw, "dbias": db}


@correct("C-like float32 loops", "softmax_cross_entropy", ("float32",))
class LoopCrossEntropy(nbase.Layer):
    def forward(self, x, training):
        self.x, labels = np.array(x), self.p["labels"]
        n, c = self.x.shape
        self.top, self.total, loss = np.zeros(n, f32), np.zeros(n, f32), f32(0)
        for r in range(n):
            self.top[r] = self.x[r, 0]
            for i in range(1, c):
                if self.x[r, i] > self.top[r]:
                    self.top[r] = self.x[r, i]
            for i in range(c):
                self.total[r] += np.exp(self.x[r, i] - self.top[r])
            loss += np.log(self.total[r]) - (self.x[r, labels[r]] - self.top[r])
        return np.asarray(loss / f32(n))

    def backward(self, dy):
        n, c = self.x.shape
        dx = np.zeros_like(self.x)
        for r in range(n):
            for i in range(c):
                p = np.exp(self.x[r, i] - self.top[r]) / self.total[r]
                dx[r, i] = (p - f32(i == self.p["labels"][r])) * f32(dy) / f32(n)
        return {"dx": dx}


# two passes: the mean, then the squared deviations from it


@correct("two-pass", "batch_norm")
class TwoPassBatchNorm(Staged):
    pass


@correct("two-pass", "instance_norm")
class TwoPassInstanceNorm(nbase.Grouped):
    pass


# Welford: halves are merged, each with its count, mean and squared deviations


def merged(v):
    """Mean and sum of squared deviations of the rows of v, by halves."""
    if v.shape[1] == 1:
        return v[:, 0], np.zeros_like(v[:, 0])
    na, nb = v.shape[1] // 2, v.shape[1] - v.shape[1] // 2
    (ma, sa), (mb, sb) = merged(v[:, :na]), merged(v[:, na:])
    delta, n = mb - ma, v.dtype.type(na + nb)
    return ma + delta * nb / n, sa + sb + delta * delta * na * nb / n


@correct("Welford", "layer_norm")
class WelfordLayerNorm(nbase.Grouped):
    def run(self, x, training):
        self.g = 1
        v = x.reshape(len(x), -1)
        mean, total = merged(v)
        self.rstd = (1 / np.sqrt(total / v.dtype.type(v.shape[1]) + v.dtype.type(self.eps)))[:, None, None]
        self.xhat = (x - mean[:, None, None]) * self.rstd
        return self.xhat * nbase.col(self.w) + nbase.col(self.b)


@correct("Welford", "batch_norm")
class WelfordBatchNorm(nbase.Bn):
    def run(self, x, training):
        if not training:
            return super().run(x, training)
        n = x.shape[0] * x.shape[2]
        mean, total = merged(np.ascontiguousarray(x.transpose(1, 0, 2)).reshape(x.shape[1], -1))
        if n > 1:
            self.update(mean, total / x.dtype.type(n - 1))
        self.rstd = 1 / np.sqrt(total / x.dtype.type(n) + x.dtype.type(self.eps))
        self.xhat = self.normalize(x, mean, self.rstd)
        return self.xhat * nbase.col(self.w) + nbase.col(self.b)


# NHWC: x and dy have the channels last


@correct("NHWC", "conv2d")
class NhwcConv(nbase.Conv):
    conventions = {"grads": "overwrite", "layout": "NHWC", "dilation": "supported"}

    def forward(self, x, training):
        return super().forward(np.moveaxis(x, -1, 1), training).transpose(0, 2, 3, 1)

    def backward(self, dy):
        grads = super().backward(np.moveaxis(dy, -1, 1))
        return grads | {"dx": grads["dx"].transpose(0, 2, 3, 1)}


@correct("NHWC", "avg_pool2d")
class NhwcAvgPool(Torch):
    conventions = {"grads": "accumulate", "layout": "NHWC"}

    def compute(self, x, training):
        o = {key: pair(self.o[key]) for key in ("kernel_size", "stride", "padding")}
        return F.avg_pool2d(x.permute(0, 3, 1, 2), **o).permute(0, 2, 3, 1)


# sums in float64, whatever the dtype of x


class Float64:
    def load(self, params, state):
        kind = next(v.dtype for v in params.values() if v.dtype.kind == "f")
        super().load({k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in params.items()}, state)
        self.kind = kind

    def forward(self, x, training):
        return super().forward(np.asarray(x, np.float64), training).astype(self.kind)

    def backward(self, dy):
        return {k: v.astype(self.kind) for k, v in super().backward(np.asarray(dy, np.float64)).items()}

    def state(self):
        return {k: v.astype(self.kind) for k, v in super().state().items()}


@correct("float64 accumulation", "mode_norm")
class WideModeNorm(Float64, ModeNorm):
    def load(self, params, state):
        super().load(params, {k: np.asarray(v, np.float64) for k, v in state.items()})


@correct("float64 accumulation", "instance_norm")
class WideInstanceNorm(Float64, Torch):
    def compute(self, x, training):
        axes = tuple(range(2, x.ndim))
        d = x - x.mean(axes, keepdim=True)
        shape = (1, -1, *(1,) * len(axes))
        z = d / torch.sqrt(d.square().mean(axes, keepdim=True) + self.eps)
        return z * self.w.reshape(shape) + self.b.reshape(shape)
