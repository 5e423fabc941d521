"""What the second set's NumPy layers share: backward in stages, as courses teach it, and convolution by columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heldout.numpy_base import Layer, Norm, col, pair


class StagedBn(Norm):
    """Batch norm with a backward in stages: xhat, variance, mean, x."""

    def run(self, x, training):
        x = x.astype(np.promote_types(x.dtype, np.float32))
        self.n = x.shape[0] * x.shape[2]
        if training:
            mean = x.sum((0, 2)) / x.dtype.type(self.n)
            self.xmu = x - col(mean)
            var = (self.xmu * self.xmu).sum((0, 2)) / x.dtype.type(self.n)
            self.track(mean, var, self.momentum)
        else:
            mean, var = self.s["running_mean"].astype(x.dtype), self.s["running_var"].astype(x.dtype)
            self.xmu = x - col(mean)
        self.ivar = x.dtype.type(1) / np.sqrt(var + x.dtype.type(self.eps))
        self.xhat = self.xmu * col(self.ivar)
        return self.w[:, None] * self.xhat + self.b[:, None]

    def track(self, mean, var, rate):
        if self.n > 1:
            self.s["running_mean"] = (1 - rate) * self.s["running_mean"] + rate * mean
            self.s["running_var"] = (1 - rate) * self.s["running_var"] + rate * self.corrected(var)

    def corrected(self, var):
        return var * (self.n / (self.n - 1))

    def grad(self, dy):
        dy = dy.astype(self.xhat.dtype)
        return {"dx": self.dx(dy), "dweight": self.dweight(dy), "dbias": self.dbias(dy)}

    def dx(self, dy):
        dxhat = dy * col(self.w)
        if not self.t:
            return dxhat * col(self.ivar)
        dvar = self.dvar(dxhat)
        dmean = self.dmean(dxhat)
        return dxhat * col(self.ivar) + col(dvar) * 2 * self.xmu / self.n + col(dmean) / self.n

    def dvar(self, dxhat):
        return -0.5 * (dxhat * self.xmu).sum((0, 2)) * self.ivar**3

    def dmean(self, dxhat):
        return -(dxhat.sum((0, 2)) * self.ivar)

    def dweight(self, dy):
        return (dy * self.xhat).sum((0, 2))

    def dbias(self, dy):
        return dy.sum((0, 2))


class Rows(Norm):
    """Instance, layer and group norm as kernels have it: rows of values, a mean and an rstd for each."""

    def run(self, x, training):
        n, c, _ = x.shape
        self.groups = {"instance_norm": c, "layer_norm": 1}.get(self.layer) or self.o["num_groups"]
        self.check(c, self.groups)
        x = x.astype(np.promote_types(x.dtype, np.float32))
        self.row = x.reshape(n * self.groups, -1)
        self.mean = self.row.mean(1)
        self.rstd = 1 / np.sqrt(self.variance() + x.dtype.type(self.eps))
        self.xhat = self.normalised().reshape(x.shape)
        return self.out(self.xhat)

    def check(self, channels, groups):
        if channels % groups:
            raise ValueError(f"{channels} channels are not divisible by {groups} groups")

    def variance(self):
        return np.square(self.row - self.mean[:, None]).mean(1)

    def normalised(self):
        return (self.row - self.mean[:, None]) * self.rstd[:, None]

    def out(self, xhat):
        return xhat * col(self.w) + col(self.b)

    def grad(self, dy):
        dy = dy.astype(self.xhat.dtype)
        return {"dx": self.dx(dy), "dweight": self.dweight(dy), "dbias": self.dbias(dy)}

    def dx(self, dy):
        wdy = (dy * col(self.w)).reshape(self.row.shape)
        return self.drow(wdy, self.xhat.reshape(self.row.shape)).reshape(dy.shape)

    def drow(self, wdy, xhat):
        c1 = (wdy * xhat).sum(1, keepdims=True) / wdy.shape[1]
        c2 = wdy.sum(1, keepdims=True) / wdy.shape[1]
        return (wdy - c2 - xhat * c1) * self.rstd[:, None]

    def dweight(self, dy):
        return (dy * self.xhat).sum(2).sum(0)

    def dbias(self, dy):
        return dy.sum(2).sum(0)


class Columns(Layer):
    """Windows gathered into columns, (N, C, kh·kw, ho, wo)."""

    fill = 0.0

    def forward(self, x, training):
        self.x = x
        self.k, self.s2, self.p2 = (pair(self.o[key]) for key in ("kernel_size", "stride", "padding"))
        (kh, kw), (sh, sw), (ph, pw) = self.k, self.s2, self.p2
        self.padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=self.fill)
        self.ho = (x.shape[2] + 2 * ph - kh) // sh + 1
        self.wo = (x.shape[3] + 2 * pw - kw) // sw + 1
        columns = np.stack([self.tap(self.padded, a, b) for a in range(kh) for b in range(kw)], axis=2)
        self.columns = columns
        return self.out(columns).astype(x.dtype)

    def tap(self, image, a, b):
        """The pixel (a, b) of every window, a view."""
        sh, sw = self.s2
        return image[:, :, a : a + sh * self.ho : sh, b : b + sw * self.wo : sw][:, :, : self.ho, : self.wo]

    def scattered(self, dcolumns):
        """The columns' gradients back at their pixels, without the padding."""
        dpadded = np.zeros_like(self.padded)
        kh, kw = self.k
        for a in range(kh):
            for b in range(kw):
                self.tap(dpadded, a, b)[...] += dcolumns[:, :, a * kw + b]
        return self.cropped(dpadded)

    def cropped(self, dpadded):
        (ph, pw), (h, w) = self.p2, self.x.shape[2:]
        return dpadded[:, :, ph : ph + h, pw : pw + w].copy()


class ColumnConv(Columns):
    """Convolution as one matrix product over columns."""

    def out(self, columns):
        y = np.einsum("nctij,oct->noij", columns, self.w.reshape(*self.w.shape[:2], -1))
        return y if self.b is None else y + self.b[:, None, None]

    def backward(self, dy):
        grads = {"dx": self.dx(dy), "dweight": self.dweight(dy).reshape(self.w.shape)}
        return grads if self.b is None else {**grads, "dbias": self.dbias(dy)}

    def dx(self, dy):
        return self.scattered(np.einsum("noij,oct->nctij", dy, self.w.reshape(*self.w.shape[:2], -1)))

    def dweight(self, dy):
        return np.einsum("noij,nctij->oct", dy, self.columns)

    def dbias(self, dy):
        return dy.sum((0, 2, 3))


class ColumnMax(Columns):
    """Max pooling over columns; the first of equal values."""

    fill = -np.inf

    def out(self, columns):
        self.first = columns.argmax(2)
        return columns.max(2)

    def backward(self, dy):
        mask = np.arange(self.columns.shape[2])[:, None, None] == self.first[:, :, None]
        return {"dx": self.scattered(mask * dy[:, :, None])}


class ColumnAvg(Columns):
    """Average pooling over columns, the padding counted."""

    def out(self, columns):
        return columns.sum(2) / columns.dtype.type(columns.shape[2])

    def backward(self, dy):
        taps = self.columns.shape[2]
        return {"dx": self.scattered(np.repeat(dy[:, :, None] / dy.dtype.type(taps), taps, axis=2))}


class Affine(Layer):
    """The affine map."""

    def forward(self, x, training):
        self.x = x
        return x @ self.w.T if self.b is None else x @ self.w.T + self.b

    def backward(self, dy):
        grads = {"dx": dy @ self.w, "dweight": dy.T @ self.x}
        return grads if self.b is None else {**grads, "dbias": self.dbias(dy)}

    def dbias(self, dy):
        return dy.sum(0)


class CrossEntropy(Layer):
    """Softmax cross-entropy with one-hot targets, the mean over the batch."""

    conventions: Mapping[str, str] = {}

    def forward(self, x, training):
        shifted = x - x.max(1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(1, keepdims=True))
        self.log_p, self.target = shifted - log_sum, np.eye(x.shape[1], dtype=x.dtype)[self.p["labels"]]
        picked = np.take_along_axis(self.log_p, self.p["labels"][:, None], 1)
        return np.asarray(-picked.sum() / x.dtype.type(len(x)), x.dtype)

    def backward(self, dy):
        n = self.log_p.dtype.type(len(self.log_p))
        return {"dx": ((np.exp(self.log_p) - self.target) / n * dy).astype(self.log_p.dtype)}
