"""Layers that are right, each in another style of programming."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from heldout import torch_base
from heldout.numpy_base import Avg, Bn, Conv, Linear, Loss, Max, Mgn, Mn, PerSample, col
from heldout.registry import correct
from heldout.torch_base import Torch, torch
from heldout.torch_modes import Mgn as TorchMgn
from heldout.torch_modes import Mn as TorchMn
from heldout.torch_norms import Bn as TorchBn

NORMS = ("instance_norm", "layer_norm", "group_norm")

try:
    import jax
except ImportError:
    jax = None

if torch is not None:

    @correct("PyTorch by hand with autograd", "batch_norm")
    class HandBn(TorchBn):
        """The pieces of the bugs, unchanged."""

    @correct("PyTorch by hand with autograd", "mode_norm")
    class HandMn(TorchMn):
        """The pieces of the bugs, unchanged."""

    @correct("PyTorch by hand with autograd", "mode_group_norm")
    class HandMgn(TorchMgn):
        """The pieces of the bugs, unchanged."""

    @correct("PyTorch by hand with autograd", *NORMS)
    class HandNorm(Torch):
        """One formula for the three."""

        def compute(self, x, training):
            n, c, _ = x.shape
            groups = {"instance_norm": c, "layer_norm": 1}.get(self.layer) or self.o["num_groups"]
            if c % groups:
                raise ValueError("channels must be divisible by groups")
            z = x.reshape(n, groups, -1)
            z = z - z.mean(2, keepdim=True)
            return self.affine((z / (z.square().mean(2, keepdim=True) + self.eps).sqrt()).reshape(x.shape))

    @correct("PyTorch modules", "batch_norm", "instance_norm", "group_norm")
    class Modules(Torch):
        """nn.BatchNorm1d, nn.InstanceNorm1d and nn.GroupNorm; the module is built when x comes."""

        module = None

        def compute(self, x, training):
            c = x.shape[1]
            if self.module is None:
                nn = torch.nn
                if self.layer == "batch_norm":
                    self.module = nn.BatchNorm1d(c, self.eps, self.momentum)
                elif self.layer == "instance_norm":
                    self.module = nn.InstanceNorm1d(c, self.eps, affine=True)
                else:
                    self.module = nn.GroupNorm(self.o["num_groups"], c, self.eps)
                self.module = self.module.to(x.dtype)
                for name in ("running_mean", "running_var"):
                    if name in self.s:
                        getattr(self.module, name).copy_(self.s[name])
            called = self.module.train(training)
            given = dict(self.p.items())
            y = torch.func.functional_call(called, given, (x,))
            for name in self.s:
                self.s[name] = getattr(self.module, name).detach().clone()
            return y

    @correct("PyTorch modules", "conv2d", "max_pool2d", "avg_pool2d", "linear", "softmax_cross_entropy")
    class Functions(Torch):
        """torch.nn.functional."""

        def compute(self, x, training):
            f = torch.nn.functional
            if self.layer == "linear":
                return f.linear(x, self.w, self.b)
            if self.layer == "softmax_cross_entropy":
                return f.cross_entropy(x, torch.tensor(self.labels))
            kernel, stride, padding = (torch_base.pair(self.o[k]) for k in ("kernel_size", "stride", "padding"))
            if self.layer == "conv2d":
                return f.conv2d(x, self.w, self.b, stride, padding)
            return (f.max_pool2d if self.layer == "max_pool2d" else f.avg_pool2d)(x, kernel, stride, padding)


for layer, made in (
    ("batch_norm", Bn),
    ("mode_norm", Mn),
    ("mode_group_norm", Mgn),
    ("conv2d", Conv),
    ("max_pool2d", Max),
    ("avg_pool2d", Avg),
    ("linear", Linear),
    ("softmax_cross_entropy", Loss),
):
    correct("NumPy two-pass", layer)(made)
correct("NumPy two-pass", *NORMS)(PerSample)


@correct("Welford", "batch_norm")
class WelfordBn(Bn):
    """Mean and variance value by value."""

    def moments(self, x):
        return welford(x.transpose(1, 0, 2).reshape(x.shape[1], -1))


@correct("Welford", *NORMS)
class WelfordNorm(PerSample):
    """The same for each sample; the mean is already off."""

    def root(self, z):
        rows = z.reshape(-1, z.shape[2])
        _, v = welford(rows)
        return (1 / np.sqrt(v + z.dtype.type(self.eps))).reshape(*z.shape[:2], 1)


def welford(rows):
    """Mean and biased variance of each row, one value after the other."""
    m, square = np.zeros_like(rows[:, 0]), np.zeros_like(rows[:, 0])
    for i in range(rows.shape[1]):
        delta = rows[:, i] - m
        m = m + delta / rows.dtype.type(i + 1)
        square = square + delta * (rows[:, i] - m)
    return m, square / rows.dtype.type(rows.shape[1])


@correct("NumPy NHWC inside", "batch_norm")
class LastBn(Bn):
    """Channels last in memory, declared so at the border."""

    conventions: Mapping[str, str] = {"grads": "overwrite", "single_value": "zero", "layout": "NHWC"}

    def forward(self, x, training):
        return to_last(super().forward(to_first(x), training))

    def backward(self, dy):
        grads = super().backward(to_first(dy))
        return {**grads, "dx": to_last(grads["dx"])}


@correct("NumPy NHWC inside", *NORMS)
class LastNorm(PerSample):
    """Channels last, transposed before the groups are cut."""

    conventions: Mapping[str, str] = {"grads": "overwrite", "single_value": "zero", "layout": "NHWC"}

    def forward(self, x, training):
        return to_last(super().forward(to_first(x), training))

    def backward(self, dy):
        grads = super().backward(to_first(dy))
        return {**grads, "dx": to_last(grads["dx"])}


@correct("NumPy NHWC inside", "conv2d")
class LastConv(Conv):
    """Products over the last axis."""

    conventions: Mapping[str, str] = {"grads": "overwrite", "layout": "NHWC"}

    def forward(self, x, training):
        return to_last(super().forward(to_first(x), training))

    def backward(self, dy):
        grads = super().backward(to_first(dy))
        return {**grads, "dx": to_last(grads["dx"])}


def to_first(x):
    """NHWC to NCHW."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim > 2 else x


def to_last(x):
    """NCHW to NHWC."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim > 2 else x


def in_double(base):
    """The layer with every sum in float64, rounded once at the end."""

    class Double(base):
        def forward(self, x, training):
            self.p = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in self.p.items()}
            self.narrow = x.dtype
            return super().forward(x.astype(np.float64), training).astype(x.dtype)

        def backward(self, dy):
            return {k: v.astype(self.narrow) for k, v in super().backward(dy.astype(np.float64)).items()}

        def state(self):
            return {k: v.astype(self.narrow) for k, v in super().state().items()}

    return Double


for layer, made in (
    ("batch_norm", Bn),
    ("mode_norm", Mn),
    ("mode_group_norm", Mgn),
    ("conv2d", Conv),
    ("linear", Linear),
    ("softmax_cross_entropy", Loss),
):
    correct("float64 accumulation", layer)(in_double(made))
correct("float64 accumulation", *NORMS)(in_double(PerSample))


@correct("batch-first einsum", "batch_norm")
class EinsumBn(Bn):
    """Every reduction an einsum over the batch-first axes."""

    def moments(self, x):
        n = x.dtype.type(x.size // x.shape[1])
        m = np.einsum("ncp->c", x) / n
        d = x - col(m)
        return m, np.einsum("ncp,ncp->c", d, d) / n

    def training_dx(self, d):
        n = d.dtype.type(d.size // d.shape[1])
        product = np.einsum("ncp,ncp->c", d, self.xhat) / n
        return np.einsum("c,ncp->ncp", self.r, d - col(np.einsum("ncp->c", d) / n) - self.xhat * col(product))

    def dweight(self, dy):
        return np.einsum("ncp,ncp->c", dy, self.xhat)

    def dbias(self, dy):
        return np.einsum("ncp->c", dy)


@correct("batch-first einsum", "linear")
class EinsumLinear(Linear):
    """The affine map."""

    def forward(self, x, training):
        self.x = x
        y = np.einsum("ni,oi->no", x, self.w)
        return y if self.b is None else y + self.b

    def backward(self, dy):
        grads = {"dx": np.einsum("no,oi->ni", dy, self.w), "dweight": np.einsum("no,ni->oi", dy, self.x)}
        return grads if self.b is None else {**grads, "dbias": np.einsum("no->o", dy)}


@correct("batch-first einsum", *NORMS)
class EinsumNorm(PerSample):
    """Every reduction an einsum."""

    def root(self, z):
        v = np.einsum("ngp,ngp->ng", z, z) / z.dtype.type(z.shape[2])
        return (1 / np.sqrt(v + z.dtype.type(self.eps)))[:, :, None]

    def dweight(self, dy):
        return np.einsum("ncp,ncp->c", dy, self.xhat)


C_SOURCE = r"""
#include <math.h>
/* rows of p values; standardize each, or pull the gradient back; everything in float */
void forward(const float *x, float *xhat, float *r, long rows, long p, float eps) {
    for (long i = 0; i < rows; i++, x += p, xhat += p) {
        float m = 0, v = 0;
        for (long j = 0; j < p; j++) m += x[j];
        m /= p;
        for (long j = 0; j < p; j++) v += (x[j] - m) * (x[j] - m);
        r[i] = 1 / sqrtf(v / p + eps);
        for (long j = 0; j < p; j++) xhat[j] = (x[j] - m) * r[i];
    }
}
void backward(const float *d, const float *xhat, const float *r, float *dx, long rows, long p) {
    for (long i = 0; i < rows; i++, d += p, xhat += p, dx += p) {
        float m = 0, q = 0;
        for (long j = 0; j < p; j++) { m += d[j]; q += d[j] * xhat[j]; }
        for (long j = 0; j < p; j++) dx[j] = r[i] * (d[j] - m / p - xhat[j] * q / p);
    }
}
"""


def compiled():
    """The C library, or None without a compiler."""
    if shutil.which("cc") is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="heldout"))
    (folder / "norm.c").write_text(C_SOURCE)
    target = folder / "norm.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", target, folder / "norm.c", "-lm"], check=True)
    library = ctypes.CDLL(str(target))
    shutil.rmtree(folder)
    return library


LIBRARY = compiled()


def pointer(a):
    """The address of an array of floats."""
    return a.ctypes.data_as(ctypes.c_void_p)


class CNorm(PerSample):
    """Standardizes in C, in float32."""

    def run(self, x, training):
        if x.shape[1] % self.groups(x.shape[1]):
            raise ValueError("channels must be divisible by groups")
        z = np.ascontiguousarray(self.cut(x), np.float32)
        self.zhat, self.r = np.empty_like(z), np.empty(z.shape[:2], np.float32)
        rows, p = self.r.size, z.shape[2]
        args = ctypes.c_long(rows), ctypes.c_long(p)
        LIBRARY.forward(pointer(z), pointer(self.zhat), pointer(self.r), *args, ctypes.c_float(self.eps))
        self.xhat = self.zhat.reshape(x.shape)
        return self.xhat * col(self.w) + col(self.b)

    def dz(self, d):
        d = np.ascontiguousarray(d, np.float32)
        dx = np.empty_like(d)
        args = ctypes.c_long(self.r.size), ctypes.c_long(d.shape[2])
        LIBRARY.backward(pointer(d), pointer(self.zhat), pointer(self.r), pointer(dx), *args)
        return dx


if LIBRARY is not None:
    correct("C float32", *NORMS)(CNorm)

if jax is not None:
    enable_x64 = jax.enable_x64

    @correct("JAX", *NORMS)
    class JaxNorm(PerSample):
        """jax.vjp of one function."""

        def run(self, x, training):
            groups = self.groups(x.shape[1])
            if x.shape[1] % groups:
                raise ValueError("channels must be divisible by groups")

            def function(x, w, b):
                z = x.reshape(len(x), groups, -1)
                z = z - z.mean(2, keepdims=True)
                z = z / jax.numpy.sqrt((z * z).mean(2, keepdims=True) + self.eps)
                return z.reshape(x.shape) * col(w) + col(b)

            with enable_x64(True):
                y, self.pull = jax.vjp(function, x, self.w, self.b)
                return np.asarray(y)

        def grad(self, dy):
            with enable_x64(True):
                return dict(zip(("dx", "dweight", "dbias"), map(np.asarray, self.pull(dy)), strict=True))
