"""Layers that are right, in styles that the first set does not have; the pieces of the second set's bugs among them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from heldout import correct_layers
from heldout.numpy_base import Layer, col, pair
from heldout.registry import Correct
from heldout.second import numpy_pieces, torch_modes, torch_norms
from heldout.torch_base import Torch, torch

CORRECT: list[Correct] = []
NORMS = "instance_norm", "layer_norm", "group_norm"
jax = correct_layers.jax


def correct(style: str, *layers: str) -> Any:
    """Register a class for each of the layers."""

    def register(make):
        CORRECT.extend(Correct(f"{style}, second: {layer}", layer, style, make) for layer in layers)
        return make

    return register


for layer, piece in (
    ("batch_norm", numpy_pieces.StagedBn),
    ("conv2d", numpy_pieces.ColumnConv),
    ("max_pool2d", numpy_pieces.ColumnMax),
    ("avg_pool2d", numpy_pieces.ColumnAvg),
    ("linear", numpy_pieces.Affine),
    ("softmax_cross_entropy", numpy_pieces.CrossEntropy),
):
    correct("NumPy two-pass", layer)(piece)
correct("NumPy two-pass", *NORMS)(numpy_pieces.Rows)

if torch is not None:
    correct("PyTorch by hand with autograd", "batch_norm")(torch_norms.Bn)
    correct("PyTorch by hand with autograd", *NORMS)(torch_norms.Grouped)
    correct("PyTorch by hand with autograd", "mode_norm")(torch_modes.Mn)
    correct("PyTorch by hand with autograd", "mode_group_norm")(torch_modes.Mgn)

    @correct("PyTorch modules", "layer_norm")
    class OneGroup(Torch):
        """nn.GroupNorm with one group."""

        def compute(self, x, training):
            module = torch.nn.GroupNorm(1, x.shape[1], self.eps).to(x.dtype)
            return torch.func.functional_call(module, dict(self.p), (x,))


def merged(rows, chunk):
    """Mean and biased variance of rows, chunk by chunk, by Chan's rule."""
    number = rows.dtype.type
    count, mean, square = 0, np.zeros_like(rows[:, 0]), np.zeros_like(rows[:, 0])
    for start in range(0, rows.shape[1], chunk):
        part = rows[:, start : start + chunk]
        size = part.shape[1]
        m = part.mean(1)
        delta = m - mean
        square += np.square(part - m[:, None]).sum(1) + np.square(delta) * number(count * size / (count + size))
        count += size
        mean = mean + delta * number(size / count)
    return mean, square / number(count)


@correct("Welford", *NORMS)
class ChanRows(numpy_pieces.Rows):
    """Merged chunks of four."""

    def variance(self):
        self.mean, var = merged(self.row, 4)
        return var


@correct("Welford", "batch_norm")
class ChanBn(numpy_pieces.StagedBn):
    """Merged chunks of five."""

    def run(self, x, training):
        if not training:
            return super().run(x, training)
        wide = x.astype(np.promote_types(x.dtype, np.float32))
        mean, _ = merged(wide.transpose(1, 0, 2).reshape(x.shape[1], -1), 5)
        y = super().run(x, training)
        assert np.isnan(mean).any() or np.allclose(mean, (wide - self.xmu).mean((0, 2)), rtol=1e-3, atol=1e-3)
        return y


@correct("NumPy NHWC inside", "batch_norm")
class LastAxisBn(Layer):
    """Channels last throughout: every reduction is over all axes but the last."""

    conventions: Mapping[str, str] = {"grads": "overwrite", "layout": "NHWC"}

    def forward(self, x, training):
        self.axes, self.t = tuple(range(x.ndim - 1)), training
        lam, wide = self.momentum, x.astype(np.promote_types(x.dtype, np.float32))
        if training:
            mean = wide.mean(self.axes)
            var = np.square(wide - mean).mean(self.axes)
            if x.size > x.shape[-1]:
                n = x.size // x.shape[-1]
                self.s["running_mean"] += lam * (mean - self.s["running_mean"])
                self.s["running_var"] += lam * (var * (n / (n - 1)) - self.s["running_var"])
        else:
            mean, var = self.s["running_mean"].astype(wide.dtype), self.s["running_var"].astype(wide.dtype)
        self.r = 1 / np.sqrt(var + wide.dtype.type(self.eps))
        self.xhat = (wide - mean) * self.r
        return (self.xhat * self.w + self.b).astype(x.dtype)

    def backward(self, dy):
        wide = dy.astype(self.xhat.dtype)
        d = wide * self.w
        if self.t:
            d = d - d.mean(self.axes) - self.xhat * (d * self.xhat).mean(self.axes)
        grads = {"dx": d * self.r, "dweight": (wide * self.xhat).sum(self.axes), "dbias": wide.sum(self.axes)}
        return {k: v.astype(dy.dtype) for k, v in grads.items()}


@correct("float64 accumulation", "batch_norm")
class WideSumsBn(numpy_pieces.StagedBn):
    """Arrays keep their dtype; sums are float64."""

    def run(self, x, training):
        self.n = x.shape[0] * x.shape[2]
        if training:
            mean = x.mean((0, 2), dtype=np.float64)
            var = np.square(x - col(mean)).mean((0, 2))
            self.track(mean.astype(self.w.dtype), var.astype(self.w.dtype), self.momentum)
        else:
            mean, var = (self.s[k].astype(np.float64) for k in ("running_mean", "running_var"))
        self.xmu, self.ivar = x - col(mean), 1 / np.sqrt(var + self.eps)
        self.xhat = self.xmu * col(self.ivar)
        return self.xhat * col(self.w) + col(self.b)


@correct("float64 accumulation", "avg_pool2d")
class WideAvg(numpy_pieces.ColumnAvg):
    """The mean in float64."""

    def out(self, columns):
        return columns.mean(2, dtype=np.float64)


C_AFFINE = correct_layers.LIBRARY

if C_AFFINE is not None:

    @correct("C float32", "batch_norm")
    class CBn(numpy_pieces.StagedBn):
        """The rows of a channel standardized in C, in float32."""

        def run(self, x, training):
            if not training:
                return super().run(x, training)
            self.n = x.shape[0] * x.shape[2]
            rows = np.ascontiguousarray(x.transpose(1, 0, 2).reshape(x.shape[1], -1), np.float32)
            hat, r = np.empty_like(rows), np.empty(len(rows), np.float32)
            sizes = ctypes.c_long(len(rows)), ctypes.c_long(rows.shape[1])
            address = correct_layers.pointer
            C_AFFINE.forward(address(rows), address(hat), address(r), *sizes, ctypes.c_float(self.eps))
            mean = rows.mean(1)
            self.track(mean, np.square(rows - mean[:, None]).mean(1), self.momentum)
            self.ivar, back = r, (x.shape[1], x.shape[0], x.shape[2])
            self.xhat = hat.reshape(back).transpose(1, 0, 2)
            self.xmu = x - col(mean)
            return self.xhat * col(self.w) + col(self.b)


if jax is not None:
    wide = jax.enable_x64

    class Jax(Layer):
        """jax.vjp of one function of x and the parameters."""

        def forward(self, x, training):
            names = [k for k in self.p if k != "labels"]
            with wide(True):
                function = partial(self.function, training=training)
                y, self.pull = jax.vjp(function, x, {k: self.p[k] for k in names})
                self.after(x, training)
                return np.asarray(y)

        def after(self, x, training):
            """Nothing is kept."""

        def backward(self, dy):
            with wide(True):
                dx, grads = self.pull(jax.numpy.asarray(dy))
                return {"dx": np.asarray(dx), **{f"d{k}": np.asarray(v) for k, v in grads.items()}}

    @correct("JAX", "batch_norm")
    class JaxBn(Jax):
        """jnp.mean and jnp.var."""

        def function(self, x, p, training):
            jnp, axes = jax.numpy, (0, *range(2, x.ndim))
            shape = (1, -1) + (1,) * (x.ndim - 2)
            mean = x.mean(axes) if training else jnp.asarray(self.s["running_mean"])
            var = x.var(axes) if training else jnp.asarray(self.s["running_var"])
            z = (x - mean.reshape(shape)) * jax.lax.rsqrt(var + self.eps).reshape(shape)
            return (z * p["weight"].reshape(shape) + p["bias"].reshape(shape)).astype(x.dtype)

        def after(self, x, training):
            axes, n, lam = (0, *range(2, x.ndim)), x.size // x.shape[1], self.momentum
            if training and n > 1:
                new = {"running_mean": x.mean(axes), "running_var": x.var(axes, ddof=1)}
                self.s = {k: (1 - lam) * v + lam * new[k] for k, v in self.s.items()}

    @correct("JAX", "conv2d")
    class JaxConv(Jax):
        """jax.lax.conv_general_dilated."""

        def function(self, x, p, training):
            stride, padding = pair(self.o["stride"]), [(n, n) for n in pair(self.o["padding"])]
            y = jax.lax.conv_general_dilated(x, p["weight"], stride, padding)
            return y + p["bias"][:, None, None] if "bias" in p else y

    @correct("JAX", "avg_pool2d")
    class JaxAvg(Jax):
        """jax.lax.reduce_window."""

        def function(self, x, p, training):
            kernel, stride, padding = (pair(self.o[k]) for k in ("kernel_size", "stride", "padding"))
            sides = (0, 0), (0, 0), *((n, n) for n in padding)
            total = jax.lax.reduce_window(
                x, np.zeros((), x.dtype)[()], jax.lax.add, (1, 1, *kernel), (1, 1, *stride), sides
            )
            return total / (kernel[0] * kernel[1])

    @correct("JAX", "linear")
    class JaxLinear(Jax):
        """One product."""

        def function(self, x, p, training):
            y = x @ p["weight"].T
            return y + p["bias"] if "bias" in p else y

    @correct("JAX", "softmax_cross_entropy")
    class JaxLoss(Jax):
        """jax.nn.log_softmax."""

        def function(self, x, p, training):
            return -jax.nn.log_softmax(x, 1)[np.arange(len(x)), self.p["labels"]].mean()
