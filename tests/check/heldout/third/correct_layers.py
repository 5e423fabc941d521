"""Sixteen layers that are right, two in each of eight styles; no check may fail them."""

from __future__ import annotations

import os

import numpy as np
import torch
import torch.nn.functional as F

from heldout.third import nbase
from heldout.third import tbase
from heldout.third.registry import correct
from heldout.third.tbase import Torch

os.environ.setdefault("JAX_PLATFORMS", "cpu")


# PyTorch


@correct("PyTorch", "batch_norm")
class TorchBatchNorm(Torch):
    conventions = {"grads": "accumulate", "single_value": "raises"}
    stateful = "running_mean", "running_var"

    def compute(self, x, training):
        stats = {k: v.to(x.dtype) for k, v in self.s.items()}
        y = F.batch_norm(x, *stats.values(), self.w, self.b, training, self.momentum, self.eps)
        self.s = {k: v.to(self.s[k].dtype) for k, v in stats.items()}
        return y

    def load(self, params, state):
        super().load(params, state)
        self.s = {k: self.s[k] for k in self.stateful}


@correct("PyTorch", "mode_norm")
class TorchModeNorm(tbase.Mn):
    pass


# JAX: pure functions, gradients by jax.vjp


class Jax(nbase.Layer):
    def apply(self, x, p):
        raise NotImplementedError

    def forward(self, x, training):
        import jax

        jax.config.update("jax_enable_x64", True)
        params = {k: jax.numpy.asarray(v) for k, v in self.p.items() if k != "labels"}
        y, self.vjp = jax.vjp(self.apply, jax.numpy.asarray(np.array(x)), params)
        self.kind = y.dtype
        return np.asarray(y)

    def backward(self, dy):
        import jax

        dx, dp = self.vjp(jax.numpy.asarray(np.array(dy), self.kind))
        return {"dx": np.asarray(dx), **{f"d{k}": np.asarray(v) for k, v in dp.items()}}


@correct("JAX", "layer_norm_last")
class JaxLayerNorm(Jax):
    def apply(self, x, p):
        import jax

        d = x - x.mean(-1, keepdims=True)
        return d * jax.lax.rsqrt((d * d).mean(-1, keepdims=True) + self.eps) * p["weight"] + p["bias"]


@correct("JAX", "softmax_cross_entropy")
class JaxCrossEntropy(Jax):
    def apply(self, x, p):
        import jax

        log = jax.nn.log_softmax(x, axis=1)
        return -log[jax.numpy.arange(x.shape[0]), self.p["labels"]].mean()


# NumPy, backward by hand


@correct("NumPy", "conv2d")
class NumpyConv(nbase.Conv):
    pass


@correct("NumPy", "mode_norm")
class NumpyModeNorm(nbase.Mn):
    pass


# C-like loops over float32 scalars

f32 = np.float32


@correct("C-like float32 loops", "avg_pool2d", ("float32",))
class LoopAvgPool(nbase.Pool):
    def forward(self, x, training):
        (kh, kw), (sh, sw), (ph, pw) = self.k, self.st, self.pad
        n, c, h, w = self.shape = x.shape
        self.out = oh, ow = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
        y = np.zeros((n, c, oh, ow), f32)
        for b in range(n):
            for q in range(c):
                for i in range(oh):
                    for j in range(ow):
                        total = f32(0)
                        for a in range(kh):
                            for e in range(kw):
                                r, s = i * sh + a - ph, j * sw + e - pw
                                if 0 <= r < h and 0 <= s < w:
                                    total += x[b, q, r, s]
                        y[b, q, i, j] = total / f32(kh * kw)
        return y

    def backward(self, dy):
        (kh, kw), (sh, sw), (ph, pw) = self.k, self.st, self.pad
        n, c, h, w = self.shape
        dx = np.zeros(self.shape, f32)
        for b in range(n):
            for q in range(c):
                for i in range(self.out[0]):
                    for j in range(self.out[1]):
                        part = dy[b, q, i, j] / f32(kh * kw)
                        for a in range(kh):
                            for e in range(kw):
                                r, s = i * sh + a - ph, j * sw + e - pw
                                if 0 <= r < h and 0 <= s < w:
                                    dx[b, q, r, s] += part
        return {"dx": dx}


@correct("C-like float32 loops", "linear", ("float32",))
class LoopLinear(nbase.Layer):
    def forward(self, x, training):
        self.x, w = np.array(x), self.p["weight"]
        y = np.zeros((len(x), len(w)), f32)
        for i in range(len(x)):
            for o in range(len(w)):
                total = self.p["bias"][o] if "bias" in self.p else f32(0)
                for k in range(x.shape[1]):
                    total += x[i, k] * w[o, k]
                y[i, o] = total
        return y

    def backward(self, dy):
        w = self.p["weight"]
        dx, dw, db = np.zeros_like(self.x), np.zeros_like(w), np.zeros(len(w), f32)
        for i in range(len(dy)):
            for o in range(len(w)):
                db[o] += dy[i, o]
                for k in range(w.shape[1]):
                    dx[i, k] += dy[i, o] * w[o, k]
                    dw[o, k] += dy[i, o] * self.x[i, k]
        return {"dx": dx, "dweight": dw} | ({"dbias": db} if "bias" in self.p else {})


# two passes: the mean, then the squared deviations from it


@correct("two-pass", "group_norm")
class TwoPassGroupNorm(nbase.Grouped):
    pass


@correct("two-pass", "layer_norm")
class TwoPassLayerNorm(nbase.Grouped):
    pass


# Welford: one loop over the values, mean and squared deviations updated together


def welford(v):
    """Mean and biased variance of the rows of v."""
    mean, total = np.zeros_like(v[:, 0]), np.zeros_like(v[:, 0])
    for i in range(v.shape[1]):
        delta = v[:, i] - mean
        mean = mean + delta / v.dtype.type(i + 1)
        total = total + delta * (v[:, i] - mean)
    return mean, total / v.dtype.type(v.shape[1])


@correct("Welford", "batch_norm")
class WelfordBatchNorm(nbase.Bn):
    def run(self, x, training):
        if not training:
            return super().run(x, training)
        n = x.shape[0] * x.shape[2]
        mean, var = welford(x.transpose(1, 0, 2).reshape(x.shape[1], -1))
        if n > 1:
            self.update(mean, var * n / (n - 1))
        self.rstd = 1 / np.sqrt(var + x.dtype.type(self.eps))
        self.xhat = self.normalize(x, mean, self.rstd)
        return self.xhat * nbase.col(self.w) + nbase.col(self.b)


@correct("Welford", "instance_norm")
class WelfordInstanceNorm(nbase.Grouped):
    def run(self, x, training):
        self.g = x.shape[1]
        mean, var = (s.reshape(*x.shape[:2], 1) for s in welford(x.reshape(-1, x.shape[2])))
        self.rstd = 1 / np.sqrt(var + x.dtype.type(self.eps))
        self.xhat = (x - mean) * self.rstd
        return self.xhat * nbase.col(self.w) + nbase.col(self.b)


# NHWC: x and dy have the channels last


@correct("NHWC", "max_pool2d")
class NhwcMaxPool(nbase.Pool):
    conventions = {"grads": "overwrite", "layout": "NHWC"}

    def forward(self, x, training):
        (kh, kw), (sh, sw), (ph, pw) = self.k, self.st, self.pad
        n, h, w, c = self.shape = x.shape
        self.out = oh, ow = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
        xp = np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)), constant_values=-np.inf)
        view = np.lib.stride_tricks.sliding_window_view(xp, (kh, kw), (1, 2))[:, ::sh, ::sw][:, :oh, :ow]
        flat = view.reshape(*view.shape[:4], kh * kw)
        self.best = flat.argmax(4)
        return flat.max(4)

    def backward(self, dy):
        (kh, kw), (sh, sw), (ph, pw) = self.k, self.st, self.pad
        n, h, w, c = self.shape
        dxp = np.zeros((n, h + 2 * ph, w + 2 * pw, c), dy.dtype)
        i, j = np.meshgrid(np.arange(self.out[0]) * sh, np.arange(self.out[1]) * sw, indexing="ij")
        rows, cols = i[None, :, :, None] + self.best // kw, j[None, :, :, None] + self.best % kw
        np.add.at(dxp, (np.arange(n)[:, None, None, None], rows, cols, np.arange(c)), dy)
        return {"dx": dxp[:, ph : ph + h, pw : pw + w]}


@correct("NHWC", "group_norm")
class NhwcGroupNorm(Torch):
    conventions = {"grads": "accumulate", "layout": "NHWC"}

    def compute(self, x, training):
        groups, c = self.o["num_groups"], x.shape[-1]
        if c % groups:
            raise ValueError(f"{c} channels cannot be divided into {groups} groups")
        v = x.reshape(x.shape[0], -1, groups, c // groups)
        mean = v.mean((1, 3), keepdim=True)
        z = (v - mean) * torch.rsqrt((v - mean).square().mean((1, 3), keepdim=True) + self.eps)
        return z.reshape(x.shape) * self.w + self.b


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


@correct("float64 accumulation", "rms_norm")
class WideRmsNorm(Float64, Torch):
    def compute(self, x, training):
        return x / torch.sqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.w


@correct("float64 accumulation", "mode_group_norm")
class WideModeGroupNorm(Float64, tbase.Mgn):
    pass
