"""Layers that are right, in the styles and with the conventions of public code; no check may fail them."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from heldout.seventh.n_base import Mgn as NumpyMgn
from heldout.seventh.registry import correct
from heldout.seventh.t_layers import Conv, Window
from heldout.third import nbase
from heldout.third.tbase import Mn, Torch

PYTORCH, JAX, NUMPY, LOOPS = "PyTorch", "JAX-like functional", "NumPy by hand", "C-like loops in float32"
TWO_PASS, WELFORD, LAST, DOUBLE = "two-pass", "Welford", "NHWC", "float64 accumulation"


@correct(PYTORCH, "batch_norm")
class FunctionalBn(Torch):
    conventions = {**Torch.conventions, "single_value": "raises"}
    stateful = "running_mean", "running_var"

    def compute(self, x, training):
        return F.batch_norm(
            x, self.s["running_mean"], self.s["running_var"], self.w, self.b, training, self.momentum, self.eps
        )


@correct(PYTORCH, "conv2d")
class FunctionalConv(Conv):
    pass


@correct(PYTORCH, "softmax_cross_entropy")
class FunctionalLoss(Torch):
    def compute(self, x, training):
        return F.cross_entropy(x, self.labels.long())


@correct(PYTORCH, "max_pool2d")
class FunctionalMax(Window):
    def compute(self, x, training):
        return F.max_pool2d(x, self.k, self.st, self.pad)


@correct(PYTORCH, "mode_norm", ("float32",))
class FunctionalMn(Mn):
    pass


class Functional:
    """Pure functions: ``apply(params, x)`` gives y and its pullback, as jax.vjp does."""

    conventions = {"grads": "overwrite", "single_value": "zero"}

    def __init__(self, layer, options):
        self.eps = options.get("eps")

    def load(self, params, state):
        self.params = {k: np.array(v) for k, v in params.items()}

    def forward(self, x, training):
        y, self.pullback = self.apply(self.params, np.array(x))
        return y

    def backward(self, dy):
        dparams, dx = self.pullback(np.asarray(dy))
        return {"dx": dx, **{f"d{k}": v for k, v in dparams.items()}}

    def state(self):
        return {}


def leading(a):
    return tuple(range(a.ndim - 1))


@correct(JAX, "layer_norm_last")
class JaxLn(Functional):
    def apply(self, params, x):
        kind, wide = x.dtype, nbase.wide(x)
        w, b = nbase.wide(params["weight"]), nbase.wide(params["bias"])
        centred = wide - wide.mean(-1, keepdims=True)
        rstd = 1 / np.sqrt(np.square(centred).mean(-1, keepdims=True) + wide.dtype.type(self.eps))
        xhat = centred * rstd

        def pullback(dy):
            dy = nbase.wide(dy)
            d = dy * w
            dx = rstd * (d - d.mean(-1, keepdims=True) - xhat * (d * xhat).mean(-1, keepdims=True))
            grads = {"weight": (dy * xhat).sum(leading(dy)), "bias": dy.sum(leading(dy))}
            return {k: v.astype(kind) for k, v in grads.items()}, dx.astype(kind)

        return (xhat * w + b).astype(kind), pullback


@correct(JAX, "linear")
class JaxLinear(Functional):
    def apply(self, params, x):
        w = params["weight"]
        y = np.einsum("ni,oi->no", x, w) + params.get("bias", x.dtype.type(0))

        def pullback(dy):
            grads = {"weight": np.einsum("no,ni->oi", dy, x)}
            if "bias" in params:
                grads["bias"] = dy.sum(0)
            return grads, np.einsum("no,oi->ni", dy, w)

        return y.astype(x.dtype), pullback


def running(v):
    """A sum over the last axis, one value after the other, as a loop in C adds them."""
    return np.add.accumulate(v, axis=-1)[..., -1:]


@correct(LOOPS, "rms_norm", ("float32",))
class LoopRms(nbase.Rms):
    def variance(self, x, d):
        return running(d * d) / x.dtype.type(x.shape[1])

    def dx(self, d):
        n = d.dtype.type(d.shape[1])
        return self.rstd * (d - self.xhat * (running(d * self.xhat) / n))


@correct(LOOPS, "avg_pool2d", ("float32",))
class LoopAvg(nbase.AvgPool):
    def run(self, stack, taps):
        self.taps = taps
        total = np.zeros_like(stack[0])
        for tap in stack:
            total += tap
        return total / total.dtype.type(len(taps))


@correct(LOOPS, "linear", ("float32",))
class LoopLinear(nbase.Linear):
    def forward(self, x, training):
        super().forward(x, training)
        y = running(self.x[:, None, :] * self.p["weight"])[..., 0]
        return y + self.p["bias"] if "bias" in self.p else y


@correct(NUMPY, "group_norm")
class RightGn(nbase.Grouped):
    pass


@correct(NUMPY, "mode_group_norm")
class RightMgn(NumpyMgn):
    pass


@correct(NUMPY, "conv2d", ("float32",))
class RightConv(nbase.Conv):
    pass


@correct(TWO_PASS, "batch_norm")
class TwoPassBn(nbase.Bn):
    conventions = {**nbase.Bn.conventions, "momentum": "old", "running_var": "biased"}

    def update(self, mean, var):
        n = self.shape[0] * int(np.prod(self.shape[2:]))
        lam = self.momentum
        for name, value in (("running_mean", mean), ("running_var", var * (n - 1) / n)):
            self.s[name] = (lam * self.s[name] + (1 - lam) * value).astype(self.s[name].dtype)

    def run(self, x, training):
        y = super().run(x, training)
        if training and x.shape[0] * x.shape[2] == 1:
            for name, value in (("running_mean", x.mean((0, 2))), ("running_var", x.var((0, 2)))):
                self.s[name] = (self.momentum * self.s[name] + (1 - self.momentum) * value).astype(self.s[name].dtype)
        return y


@correct(TWO_PASS, "layer_norm", ("float32",))
class TwoPassLn(nbase.Grouped):
    def variance(self, v, mean):
        d = v - mean
        n = v.shape[2]
        return (np.square(d).sum(2, keepdims=True) - np.square(d.sum(2, keepdims=True)) / n) / n


@correct(WELFORD, "instance_norm", ("float32",))
class WelfordIn(nbase.Grouped):
    def variance(self, v, mean):
        m, m2 = np.zeros_like(v[..., :1]), np.zeros_like(v[..., :1])
        for i in range(v.shape[2]):
            delta = v[..., i : i + 1] - m
            m = m + delta / (i + 1)
            m2 = m2 + delta * (v[..., i : i + 1] - m)
        return m2 / v.shape[2]


@correct(WELFORD, "layer_norm_last", ("float32",))
class WelfordLn(nbase.Rows):
    def variance(self, x, d):
        m, m2 = np.zeros_like(x[:, :1]), np.zeros_like(x[:, :1])
        for i in range(x.shape[1]):
            delta = x[:, i : i + 1] - m
            m = m + delta / x.dtype.type(i + 1)
            m2 = m2 + delta * (x[:, i : i + 1] - m)
        return m2 / x.dtype.type(x.shape[1])


class Last:
    """Plays a layer of NCHW arrays with arrays of NHWC."""

    def there(self, a):
        return np.ascontiguousarray(np.moveaxis(a, -1, 1)) if np.ndim(a) > 2 else a

    def forward(self, x, training):
        return np.moveaxis(super().forward(self.there(x), training), 1, -1)

    def backward(self, dy):
        grads = super().backward(self.there(dy))
        return {**grads, "dx": np.moveaxis(grads["dx"], 1, -1)}


@correct(LAST, "batch_norm", ("float32",))
class LastBn(Last, nbase.Bn):
    conventions = {**nbase.Bn.conventions, "layout": "NHWC"}


@correct(LAST, "group_norm", ("float32",))
class LastGn(Last, nbase.Grouped):
    conventions = {**nbase.Grouped.conventions, "layout": "NHWC"}


class Double:
    """Computes in float64, and rounds at the end."""

    def forward(self, x, training):
        self.given = x.dtype
        return super().forward(x.astype(np.float64), training).astype(self.given)

    def load(self, params, state):
        super().load(params, state)
        self.p = {k: v if k == "labels" else v.astype(np.float64) for k, v in self.p.items()}

    def backward(self, dy):
        return {k: v.astype(self.given) for k, v in super().backward(np.asarray(dy).astype(np.float64)).items()}


@correct(DOUBLE, "instance_norm", ("float32",))
class DoubleIn(Double, nbase.Grouped):
    pass


@correct(DOUBLE, "mode_norm", ("float32",))
class DoubleMn(Double, nbase.Mn):
    pass


@correct(DOUBLE, "softmax_cross_entropy", ("float32",))
class DoubleLoss(Double, nbase.Loss):
    pass
