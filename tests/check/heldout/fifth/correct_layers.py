"""Twenty layers that are right, in ten styles of programming; no check may fail them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from heldout.fifth.n_modes import ModeGroupNorm, ModeNorm
from heldout.fifth.registry import correct
from heldout.fifth.t_layers import Conv as UnfoldConv
from heldout.fifth.t_modes import ModeGroupNorm as TorchModeGroupNorm
from heldout.fifth.t_norms import PerSample
from heldout.third import nbase
from heldout.third.nbase import Layer, Linear, Norm, Pool, Rows, col
from heldout.third.tbase import Torch, pair

# PyTorch


@correct("PyTorch", "max_pool2d")
class TorchMaxPool(Torch):
    def compute(self, x, training):
        o = {key: pair(self.o[key]) for key in ("kernel_size", "stride", "padding")}
        return F.max_pool2d(x, **o)


@correct("PyTorch", "softmax_cross_entropy")
class TorchLoss(Torch):
    def compute(self, x, training):
        return F.cross_entropy(x, self.labels)


@correct("PyTorch", "instance_norm")
class TorchInstanceNorm(PerSample):
    pass


@correct("PyTorch", "mode_group_norm")
class TorchMgn(TorchModeGroupNorm):
    pass


@correct("PyTorch unfold", "conv2d")
class TorchUnfold(UnfoldConv):
    pass


# NumPy, two-pass


@correct("NumPy two-pass", "batch_norm")
class TwoPassBatchNorm(Norm):
    """Keeps a biased running variance and the momentum of the old statistics, and says so."""

    conventions = {"grads": "overwrite", "running_var": "biased", "momentum": "old", "single_value": "zero"}
    stateful = "running_mean", "running_var"

    def run(self, x, training):
        if training:
            n = x.shape[0] * x.shape[2]
            mean = x.sum((0, 2)) / n
            d = x - mean[None, :, None]
            mean = mean + d.sum((0, 2)) / n  # corrected
            self.d = x - mean[None, :, None]
            var = np.square(self.d).sum((0, 2)) / n
            m = self.momentum
            self.s["running_mean"] = (m * self.s["running_mean"] + (1 - m) * mean).astype(self.s["running_mean"].dtype)
            self.s["running_var"] = (m * self.s["running_var"] + (1 - m) * var).astype(self.s["running_var"].dtype)
        else:
            self.d, var = x - col(self.s["running_mean"]), self.s["running_var"]
        self.std = np.sqrt(var + self.eps)
        return self.d / col(self.std) * col(self.w) + col(self.b)

    def grad(self, dy):
        xhat = self.d / col(self.std)
        grads = {"dweight": (dy * xhat).sum((0, 2)), "dbias": dy.sum((0, 2))}
        n, scale = dy.shape[0] * dy.shape[2], col(self.w / self.std)
        if not self.t:
            return grads | {"dx": dy * scale}
        return grads | {"dx": scale * (dy - (col(grads["dbias"]) + xhat * col(grads["dweight"])) / n)}


@correct("NumPy two-pass", "group_norm")
class TwoPassGroupNorm(nbase.Grouped):
    def variance(self, v, mean):
        d = v - mean
        return (d**2).mean(2, keepdims=True) - d.mean(2, keepdims=True) ** 2


@correct("NumPy", "mode_group_norm")
class NumpyMgn(ModeGroupNorm):
    pass


@correct("NumPy", "mode_norm")
class NumpyMn(ModeNorm):
    pass


# Welford


def welford(x):
    """Mean and variance along the last axis, value by value, in float64."""
    mean, squares = np.zeros(x.shape[:-1]), np.zeros(x.shape[:-1])
    for count, value in enumerate(np.moveaxis(x.astype(np.float64), -1, 0), 1):
        delta = value - mean
        mean = mean + delta / count
        squares = squares + delta * (value - mean)
    return mean[..., None], squares[..., None] / x.shape[-1]


@correct("Welford", "layer_norm_last")
class WelfordRows(Rows):
    def run(self, x):
        mean, var = welford(x)
        self.rstd = (1 / np.sqrt(var + self.eps)).astype(x.dtype)
        self.xhat = ((x - mean) / np.sqrt(var + self.eps)).astype(x.dtype)
        return self.xhat * self.w + self.b


@correct("Welford", "layer_norm")
class WelfordLayerNorm(nbase.Grouped):
    def run(self, x, training):
        self.g = 1
        v = x.reshape(len(x), 1, -1)
        mean, var = welford(v)
        self.rstd = (1 / np.sqrt(var + self.eps)).astype(x.dtype)
        self.xhat = ((v - mean) / np.sqrt(var + self.eps)).astype(x.dtype).reshape(x.shape)
        return self.xhat * col(self.w) + col(self.b)


# NHWC: x and dy have the channels last


class ChannelsLast:
    conventions = {"grads": "overwrite", "single_value": "zero", "layout": "NHWC"}

    def forward(self, x, training):
        return np.moveaxis(super().forward(np.ascontiguousarray(np.moveaxis(x, -1, 1)), training), 1, -1)

    def backward(self, dy):
        grads = super().backward(np.ascontiguousarray(np.moveaxis(dy, -1, 1)))
        return grads | {"dx": np.moveaxis(grads["dx"], 1, -1)}


@correct("NHWC", "batch_norm")
class NhwcBatchNorm(ChannelsLast, nbase.Bn):
    pass


@correct("NHWC", "instance_norm")
class NhwcInstanceNorm(ChannelsLast, nbase.Grouped):
    pass


# sums in float64, whatever the dtype of x


@correct("float64 accumulation", "linear")
class Float64Linear(Linear):
    def forward(self, x, training):
        self.x = np.asarray(x, np.float64)
        y = self.x @ self.p["weight"].astype(np.float64).T
        self.kind = x.dtype
        return (y + self.p["bias"] if "bias" in self.p else y).astype(x.dtype)

    def backward(self, dy):
        return {k: v.astype(self.kind) for k, v in super().backward(np.asarray(dy, np.float64)).items()}


@correct("float64 accumulation", "layer_norm")
class Float64LayerNorm(nbase.Grouped):
    def forward(self, x, training):
        self.outer = x.dtype
        return super().forward(np.asarray(x, np.float64), training).astype(self.outer)

    def backward(self, dy):
        return {k: v.astype(self.outer) for k, v in super().backward(np.asarray(dy, np.float64)).items()}


# loops as in C


@correct("C-like loops", "avg_pool2d")
class LoopAvgPool(Pool):
    """For each window its bounds, clipped to the image; the divisor counts the padding."""

    def bounds(self, i, axis):
        start = i * self.st[axis] - self.pad[axis]
        return max(start, 0), min(start + self.k[axis], self.shape[2 + axis])

    def forward(self, x, training):
        self.shape, self.kind = x.shape, x.dtype
        oh, ow = ((n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[2:], self.pad, self.k, self.st, strict=True))
        y = np.zeros((*x.shape[:2], oh, ow), x.dtype)
        for i in range(oh):
            top, bottom = self.bounds(i, 0)
            for j in range(ow):
                left, right = self.bounds(j, 1)
                y[:, :, i, j] = x[:, :, top:bottom, left:right].sum((2, 3)) / (self.k[0] * self.k[1])
        return y

    def backward(self, dy):
        dy = np.asarray(dy)
        dx = np.zeros(self.shape, self.kind)
        for i in range(dy.shape[2]):
            top, bottom = self.bounds(i, 0)
            for j in range(dy.shape[3]):
                left, right = self.bounds(j, 1)
                dx[:, :, top:bottom, left:right] += (dy[:, :, i, j] / (self.k[0] * self.k[1]))[:, :, None, None]
        return {"dx": dx}


@correct("C-like loops", "softmax_cross_entropy")
class LoopLoss(Layer):
    def forward(self, x, training):
        self.p_rows, total = [], 0.0
        for row, label in zip(np.asarray(x), self.p["labels"], strict=True):
            top = row.max()
            e = np.exp((row - top).astype(np.float64))
            self.p_rows.append(e / e.sum())
            total += np.log(e.sum()) - (float(row[label]) - float(top))
        self.kind = x.dtype
        return np.asarray(total / len(x), x.dtype)

    def backward(self, dy):
        dx = np.array(self.p_rows)
        for i, label in enumerate(self.p["labels"]):
            dx[i, label] -= 1
        return {"dx": (dx * float(dy) / len(dx)).astype(self.kind)}


# einsum over a view of windows


@correct("einsum", "conv2d")
class EinsumConv(nbase.Conv):
    conventions = {"grads": "overwrite"}

    def forward(self, x, training):
        self.shape, self.kind = x.shape, x.dtype
        (ph, pw), (sh, sw) = self.pad, self.st
        padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
        self.padded_shape = padded.shape
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.k, (2, 3))
        self.view = windows[:, :, ::sh, ::sw]
        return self.with_bias(np.einsum("ncijab,ocab->noij", self.view, self.p["weight"])).astype(x.dtype)

    def backward(self, dy):
        dy = np.asarray(dy)
        spread = np.einsum("noij,ocab->ncijab", dy, self.p["weight"])
        dx = np.zeros(self.padded_shape, self.kind)
        for a, b in self.taps():
            rows = np.s_[a : a + (dy.shape[2] - 1) * self.st[0] + 1 : self.st[0]]
            dx[:, :, rows, b : b + (dy.shape[3] - 1) * self.st[1] + 1 : self.st[1]] += spread[..., a, b]
        (ph, pw), (h, w) = self.pad, self.shape[2:]
        grads = {"dx": dx[:, :, ph : ph + h, pw : pw + w], "dweight": np.einsum("ncijab,noij->ocab", self.view, dy)}
        if "bias" in self.p:
            grads["dbias"] = np.einsum("noij->o", dy)
        return {k: v.astype(self.kind) for k, v in grads.items()}


# torch.autograd.Function: backward by hand in PyTorch


class RmsFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, eps):
        rstd = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x * rstd, w, rstd)
        return x * rstd * w

    @staticmethod
    def backward(ctx, dy):
        xhat, w, rstd = ctx.saved_tensors
        d = dy * w
        dx = rstd * (d - xhat * (d * xhat).mean(-1, keepdim=True))
        return dx, (dy * xhat).reshape(-1, len(w)).sum(0), None


@correct("autograd.Function", "rms_norm")
class FunctionRms(Torch):
    def compute(self, x, training):
        return RmsFunction.apply(x, self.w, self.eps)


class PoolFunction(torch.autograd.Function):
    """The largest of each window of a padded image, and where it lay."""

    @staticmethod
    def forward(ctx, x, k, s):
        windows = x.unfold(2, k[0], s[0]).unfold(3, k[1], s[1])
        best = windows.flatten(4).argmax(4)
        rows = torch.arange(best.shape[2])[:, None] * s[0] + best // k[1]
        cols = torch.arange(best.shape[3]) * s[1] + best % k[1]
        ctx.shape, ctx.where = x.shape, (rows * x.shape[3] + cols).flatten(2)
        return windows.flatten(4).gather(4, best[..., None])[..., 0]

    @staticmethod
    def backward(ctx, dy):
        dx = torch.zeros(*ctx.shape[:2], ctx.shape[2] * ctx.shape[3], dtype=dy.dtype)
        return dx.scatter_add(2, ctx.where, dy.flatten(2)).reshape(ctx.shape), None, None


@correct("autograd.Function", "max_pool2d")
class FunctionMaxPool(Torch):
    def compute(self, x, training):
        k, s, p = (pair(self.o[key]) for key in ("kernel_size", "stride", "padding"))
        return PoolFunction.apply(F.pad(x, (p[1], p[1], p[0], p[0]), value=-torch.inf), k, s)
