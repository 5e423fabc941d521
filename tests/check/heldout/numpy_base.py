"""What the NumPy layers of the held-out set share: forward by hand, the backward derived by hand below it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minidl.check import NotSupportedError


def col(v):
    """A vector over channels, against (N, C, P)."""
    return v[None, :, None]


class Layer:
    """Keeps parameters; a norm sees x as (N, C, P)."""

    conventions: Mapping[str, str] = {"grads": "overwrite", "single_value": "zero"}

    def __init__(self, layer, options):
        if options.get("per_mode_affine") or options.get("moments", "spatial") != "spatial":
            raise NotSupportedError("one affine pair, moments over every pixel")
        self.layer, self.o = layer, options
        self.eps, self.momentum = options.get("eps"), options.get("momentum")

    def load(self, params, state):
        self.p = {k: np.array(v) for k, v in params.items()}
        self.s = {k: np.array(v) for k, v in state.items()}
        if not state and self.layer in ("batch_norm", "mode_norm"):
            like = self.p["gate.weight" if self.layer == "mode_norm" else "weight"]
            second = "running_mean_square" if self.layer == "mode_norm" else "running_var"
            self.s = {"running_mean": np.zeros_like(like), second: np.ones_like(like)}

    @property
    def w(self):
        return self.p["weight"]

    @property
    def b(self):
        return self.p.get("bias")

    def state(self):
        return {k: v.copy() for k, v in self.s.items()}


class Norm(Layer):
    """Reshapes at the border, and keeps the input's dtype."""

    def forward(self, x, training):
        self.shape, self.t, self.dtype = x.shape, training, x.dtype
        self.x = x.reshape(*x.shape[:2], -1)
        return self.run(self.x, training).astype(x.dtype).reshape(self.shape)

    def backward(self, dy):
        grads = self.grad(dy.reshape(self.x.shape))
        grads = {k: np.asarray(v).astype(self.dtype) for k, v in grads.items()}
        return {**grads, "dx": grads["dx"].reshape(self.shape)}


class Bn(Norm):
    """Batch norm; two passes, sums in float64 where x is float16."""

    def wide(self, x):
        return x.astype(np.float32) if x.dtype == np.float16 else x

    def moments(self, x):
        m = x.mean((0, 2))
        d = x - col(m)
        return m, np.square(d).mean((0, 2))

    def run(self, x, training):
        x = self.wide(x)
        if training:
            m, v = self.moments(x)
            self.update(m, v, x.size // x.shape[1])
        else:
            m, v = self.s["running_mean"], self.s["running_var"]
        self.r = (1 / np.sqrt(v + x.dtype.type(self.eps))).astype(x.dtype)
        self.xhat = (x - col(m).astype(x.dtype)) * col(self.r)
        return self.scale(self.xhat)

    def scale(self, xhat):
        return xhat * col(self.w) + col(self.b)

    def update(self, m, v, n):
        if n == 1:
            return
        lam = self.momentum
        self.s["running_mean"] = (1 - lam) * self.s["running_mean"] + lam * m
        self.s["running_var"] = (1 - lam) * self.s["running_var"] + lam * v * n / (n - 1)

    def grad(self, dy):
        dy = self.wide(dy)
        d = dy * col(self.w)
        dx = self.training_dx(d) if self.t else d * col(self.r)
        return {"dx": dx, "dweight": self.dweight(dy), "dbias": self.dbias(dy)}

    def training_dx(self, d):
        over = {"axis": (0, 2), "keepdims": True}
        return col(self.r) * (d - d.mean(**over) - self.xhat * (d * self.xhat).mean(**over))

    def dweight(self, dy):
        return (dy * self.xhat).sum((0, 2))

    def dbias(self, dy):
        return dy.sum((0, 2))


class PerSample(Norm):
    """Instance, layer and group norm: x is cut into (N, groups, values)."""

    def groups(self, c):
        return {"instance_norm": c, "layer_norm": 1}.get(self.layer) or self.o["num_groups"]

    def cut(self, a):
        return a.reshape(a.shape[0], self.groups(a.shape[1]), -1)

    def run(self, x, training):
        if x.shape[1] % self.groups(x.shape[1]):
            raise ValueError("channels must be divisible by groups")
        z = self.cut(x.astype(np.promote_types(x.dtype, np.float32)))
        z = z - z.mean(2, keepdims=True)
        self.r = self.root(z)
        self.zhat = z * self.r
        self.xhat = self.zhat.reshape(x.shape)
        return self.xhat * col(self.w) + col(self.b)

    def root(self, z):
        return 1 / np.sqrt(np.square(z).mean(2, keepdims=True) + z.dtype.type(self.eps))

    def grad(self, dy):
        dy = dy.astype(self.xhat.dtype)
        dx = self.dz(self.cut(dy * col(self.w))).reshape(dy.shape)
        return {"dx": dx, "dweight": self.dweight(dy), "dbias": dy.sum((0, 2))}

    def dz(self, d):
        return self.r * (d - d.mean(2, keepdims=True) - self.zhat * (d * self.zhat).mean(2, keepdims=True))

    def dweight(self, dy):
        return (dy * self.xhat).sum((0, 2))


def log_softmax(z, axis):
    """Log of the softmax, shifted."""
    z = z - z.max(axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis, keepdims=True))


class Mn(Norm):
    """Mode norm by hand; each step of the backward is a method."""

    def run(self, x, training):
        self.m = x.mean(2)
        self.log_g = log_softmax(self.m @ self.p["gate.weight"].T + self.p["gate.bias"], 1)
        self.g = np.exp(self.log_g)
        self.share = np.exp(log_softmax(self.log_g, 0))
        if training:
            self.mu = self.share.T @ self.m
            self.centred = x[:, None] - self.mu[None, :, :, None]
            self.var = np.einsum("nk,nkc->kc", self.share, np.square(self.centred).mean(3))
            square = self.share.T @ np.square(x).mean(2)
            lam = self.momentum
            for key, value in (("running_mean", self.mu), ("running_mean_square", square)):
                self.s[key] = (1 - lam) * self.s[key] + lam * value
        else:
            self.mu = self.s["running_mean"].astype(x.dtype)
            square = self.s["running_mean_square"] - self.s["running_mean"] ** 2
            self.var = np.maximum(square, 0).astype(x.dtype)
            self.centred = x[:, None] - self.mu[None, :, :, None]
        self.r = 1 / np.sqrt(self.var + x.dtype.type(self.eps))
        self.xhat = self.centred * self.r[None, :, :, None]
        return np.einsum("nk,nkcp->ncp", self.g, self.xhat) * col(self.w) + col(self.b)

    def grad(self, dy):
        g, P = self.g, self.x.shape[2]
        dxhat = g[:, :, None, None] * (dy * col(self.w))[:, None]
        dg = np.einsum("ncp,nkcp->nk", dy * col(self.w), self.xhat)
        dx = (dxhat * self.r[None, :, :, None]).sum(1)
        dw = np.zeros_like(g)
        if self.t:
            dvar = -0.5 * (dxhat * self.centred).sum((0, 3)) * self.r**3
            dmu = -dxhat.sum((0, 3)) * self.r
            dx = dx + self.through_statistics(dmu, dvar, P)
            dw = self.through_shares(dmu, dvar)
        dlog_g = self.to_log_gates(dg, dw)
        dz = self.to_logits(dlog_g)
        dx = dx + self.to_input(dz, P)
        return {
            "dx": dx,
            "dweight": (dy * np.einsum("nk,nkcp->ncp", g, self.xhat)).sum((0, 2)),
            "dbias": dy.sum((0, 2)),
            "dgate.weight": dz.T @ self.m,
            "dgate.bias": dz.sum(0),
        }

    def through_statistics(self, dmu, dvar, P):
        inner = dmu[None, :, :, None] + 2 * dvar[None, :, :, None] * self.centred
        return (self.share[:, :, None, None] * inner).sum(1) / P

    def through_shares(self, dmu, dvar):
        return np.einsum("kc,nkc->nk", dmu, self.centred.mean(3)) + np.einsum(
            "kc,nkc->nk", dvar, np.square(self.centred).mean(3)
        )

    def to_log_gates(self, dg, dw):
        w = self.share
        return self.g * dg + w * dw - w * (w * dw).sum(0)

    def to_logits(self, dlog_g):
        return dlog_g - self.g * dlog_g.sum(1, keepdims=True)

    def to_input(self, dz, P):
        return (dz @ self.p["gate.weight"])[:, :, None] / P + np.zeros_like(self.x)


class Mgn(Norm):
    """Mode group norm by hand."""

    def run(self, x, training):
        self.m = x.mean(2)
        psi = self.p["gate.weight"][:, 0]
        self.log_g = log_softmax(self.m[:, :, None] * psi + self.p["gate.bias"], 2)
        self.share = np.exp(log_softmax(self.log_g, 1))
        self.mu = np.einsum("nck,nc->nk", self.share, self.m)
        self.centred = x[..., None] - self.mu[:, None, None]
        var = np.einsum("nck,nck->nk", self.share, np.square(self.centred).mean(2))
        self.r = 1 / np.sqrt(var + x.dtype.type(self.eps))
        self.xhat = self.centred * self.r[:, None, None]
        return self.xhat.mean(3) * col(self.w) + col(self.b)

    def grad(self, dy):
        P = self.x.shape[2]
        K = len(self.p["gate.bias"])
        d = self.spread(dy * col(self.w), K)[..., None]
        dx = (d * self.r[:, None, None]).sum(3)
        dvar = -0.5 * (d * self.centred).sum((1, 2)) * self.r**3
        dmu = -np.broadcast_to(d, self.centred.shape).sum((1, 2)) * self.r
        inner = dmu[:, None, None] + 2 * dvar[:, None, None] * self.centred
        dx = dx + (self.share[:, :, None] * inner).sum(3) / P
        dw = dmu[:, None] * self.centred.mean(2) + dvar[:, None] * np.square(self.centred).mean(2)
        dlog_g = self.to_log_gates(dw)
        dz = dlog_g - np.exp(self.log_g) * dlog_g.sum(2, keepdims=True)
        dx = dx + (dz @ self.p["gate.weight"][:, 0])[:, :, None] / P
        return {
            "dx": dx,
            "dweight": (dy * self.xhat.mean(3)).sum((0, 2)),
            "dbias": dy.sum((0, 2)),
            "dgate.weight": (dz * self.m[:, :, None]).sum((0, 1))[:, None],
            "dgate.bias": dz.sum((0, 1)),
        }

    def spread(self, d, K):
        return d / K

    def to_log_gates(self, dw):
        w = self.share
        return w * dw - w * (w * dw).sum(1, keepdims=True)


def pair(value):
    """Return (height, width)."""
    return (value, value) if isinstance(value, int) else tuple(value)


class Windows(Layer):
    """Convolution and pooling: windows of the padded image, one output pixel at a time."""

    fill = 0.0

    def forward(self, x, training):
        self.x = x
        (kh, kw), (self.sh, self.sw), (self.ph, self.pw) = (
            pair(self.o[k]) for k in ("kernel_size", "stride", "padding")
        )
        self.kh, self.kw = kh, kw
        edges = (0, 0), (0, 0), (self.ph, self.ph), (self.pw, self.pw)
        self.padded = np.pad(x, edges, constant_values=self.fill)
        ho = (self.padded.shape[2] - kh) // self.sh + 1
        wo = (self.padded.shape[3] - kw) // self.sw + 1
        out = [[self.window(self.at(self.padded, i, j)) for j in range(wo)] for i in range(ho)]
        return np.asarray(np.moveaxis(np.array(out), (0, 1), (2, 3)), x.dtype)

    def at(self, image, i, j):
        return image[:, :, i * self.sh : i * self.sh + self.kh, j * self.sw : j * self.sw + self.kw]

    def backward(self, dy):
        self.grads = {f"d{k}": np.zeros_like(v) for k, v in self.p.items()}
        dpadded = np.zeros_like(self.padded)
        for i in range(dy.shape[2]):
            for j in range(dy.shape[3]):
                self.scatter(self.at(dpadded, i, j), self.at(self.padded, i, j), dy[:, :, i, j])
        return {"dx": self.crop(dpadded), **self.grads}

    def crop(self, dpadded):
        h, w = self.x.shape[2:]
        return dpadded[:, :, self.ph : self.ph + h, self.pw : self.pw + w].copy()


class Conv(Windows):
    """Convolution."""

    def window(self, v):
        y = np.einsum("ncab,ocab->no", v, self.w)
        return y if self.b is None else y + self.b

    def scatter(self, dv, v, dy):
        dv += np.einsum("no,ocab->ncab", dy, self.w)
        self.grads["dweight"] += np.einsum("no,ncab->ocab", dy, v)
        if self.b is not None:
            self.grads["dbias"] += dy.sum(0)


class Max(Windows):
    """Max pooling; the first of equal maxima gets the gradient."""

    fill = -np.inf

    def window(self, v):
        return v.max((2, 3))

    def scatter(self, dv, v, dy):
        first = v.reshape(*v.shape[:2], -1).argmax(2)
        a, b = np.unravel_index(first, v.shape[2:])
        n, c = np.indices(first.shape)
        dv[n, c, a, b] += dy


class Avg(Windows):
    """Average pooling, the padding counted."""

    def window(self, v):
        return v.mean((2, 3))

    def scatter(self, dv, v, dy):
        dv += dy[:, :, None, None] / (self.kh * self.kw)


class Linear(Layer):
    """The affine map."""

    def forward(self, x, training):
        self.x = x
        y = x @ self.w.T
        return y if self.b is None else y + self.b

    def backward(self, dy):
        grads = {"dx": dy @ self.w, "dweight": dy.T @ self.x}
        return grads if self.b is None else {**grads, "dbias": dy.sum(0)}


class Loss(Layer):
    """Softmax cross-entropy, the mean over the batch."""

    def forward(self, x, training):
        self.log_p = log_softmax(x, 1)
        self.rows = np.arange(len(x)), self.p["labels"]
        return np.asarray(-self.log_p[self.rows].mean(), x.dtype)

    def backward(self, dy):
        d = np.exp(self.log_p)
        d[self.rows] -= 1
        return {"dx": d * dy / d.dtype.type(len(d))}
