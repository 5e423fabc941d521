"""What the NumPy layers share: forward and backward by hand."""

from __future__ import annotations

import numpy as np

from minidl.check import NotSupportedError


def pair(v):
    return (v, v) if isinstance(v, (int, np.integer)) else (int(v[0]), int(v[1]))


def wide(x):
    return x.astype(np.float32) if x.dtype == np.float16 else x


def col(v):
    return v[None, :, None]


class Layer:
    conventions = {"grads": "overwrite", "single_value": "zero"}
    stateful = ()

    def __init__(self, layer, options):
        if options.get("per_mode_affine") or options.get("moments", "spatial") != "spatial":
            raise NotSupportedError("one affine pair; moments over the pixels")
        self.layer, self.o = layer, options
        self.eps, self.momentum = options.get("eps"), options.get("momentum")

    def load(self, params, state):
        self.p = {k: np.array(v) for k, v in params.items()}
        self.s = {k: np.array(v) for k, v in state.items()}
        if not state and self.stateful:
            like = self.p["gate.weight" if "gate.weight" in self.p else "weight"]
            self.s = {self.stateful[0]: np.zeros_like(like), self.stateful[1]: np.ones_like(like)}

    @property
    def w(self):
        return wide(self.p["weight"])

    @property
    def b(self):
        return wide(self.p["bias"])

    def state(self):
        return {k: v.copy() for k, v in self.s.items()}


class Norm(Layer):
    """Sees x as (N, C, L); a subclass has run(x, training) and grad(dy)."""

    def forward(self, x, training):
        self.shape, self.t, self.kind = x.shape, training, x.dtype
        return self.run(wide(x.reshape(*x.shape[:2], -1)), training).astype(x.dtype).reshape(x.shape)

    def backward(self, dy):
        grads = self.grad(wide(dy.reshape(*self.shape[:2], -1)))
        grads = {k: np.asarray(v).astype(self.kind) for k, v in grads.items()}
        return {**grads, "dx": grads["dx"].reshape(self.shape)}


class Bn(Norm):
    stateful = "running_mean", "running_var"

    def run(self, x, training):
        if training:
            n = x.shape[0] * x.shape[2]
            mean = x.mean((0, 2))
            var = ((x - col(mean)) ** 2).mean((0, 2))
            if n > 1:
                self.update(mean, var * n / (n - 1))
        else:
            mean, var = self.running()
        self.rstd = 1 / np.sqrt(var + self.eps)
        self.xhat = self.normalize(x, mean, self.rstd)
        return self.xhat * col(self.w) + col(self.b)

    def running(self):
        return self.s["running_mean"], self.s["running_var"]

    def normalize(self, x, mean, rstd):
        return (x - col(mean)) * col(rstd)

    def update(self, mean, var):
        for name, value in (("running_mean", mean), ("running_var", var)):
            self.s[name] = ((1 - self.momentum) * self.s[name] + self.momentum * value).astype(self.s[name].dtype)

    def grad(self, dy):
        d = dy * col(self.w)
        dx = self.training_dx(d) if self.t else d * col(self.rstd)
        return {"dx": dx, "dweight": (dy * self.xhat).sum((0, 2)), "dbias": dy.sum((0, 2))}

    def training_dx(self, d):
        return col(self.rstd) * (d - col(d.mean((0, 2))) - self.xhat * col((d * self.xhat).mean((0, 2))))


class Grouped(Norm):
    """Instance, layer and group norm: statistics over the values of a group of channels."""

    def groups(self, c):
        if self.layer == "group_norm":
            if c % self.o["num_groups"]:
                raise ValueError(f"{c} channels cannot be divided into {self.o['num_groups']} groups")
            return self.o["num_groups"]
        return {"instance_norm": c, "layer_norm": 1}[self.layer]

    def run(self, x, training):
        self.g = self.groups(x.shape[1])
        v = x.reshape(x.shape[0], self.g, -1)
        mean = v.mean(2, keepdims=True)
        self.rstd = 1 / np.sqrt(self.variance(v, mean) + self.eps)
        self.xhat = ((v - mean) * self.rstd).reshape(x.shape)
        return self.xhat * col(self.w) + col(self.b)

    def variance(self, v, mean):
        return ((v - mean) ** 2).mean(2, keepdims=True)

    def grad(self, dy):
        return {"dx": self.dx(dy * col(self.w)), "dweight": (dy * self.xhat).sum((0, 2)), "dbias": dy.sum((0, 2))}

    def dx(self, d):
        shape = self.rstd.shape[0], self.g, -1
        v, h = d.reshape(shape), self.xhat.reshape(shape)
        dx = self.rstd * (v - v.mean(2, keepdims=True) - h * (v * h).mean(2, keepdims=True))
        return dx.reshape(d.shape)


class Rows(Layer):
    """Layer and RMS norm over the last axis; sees x as (rows, C)."""

    centred = True

    def forward(self, x, training):
        self.shape, self.kind = x.shape, x.dtype
        x = wide(np.ascontiguousarray(x)).reshape(-1, x.shape[-1])
        return self.run(x).astype(self.kind).reshape(self.shape)

    def run(self, x):
        mean = x.mean(1, keepdims=True) if self.centred else x.dtype.type(0)
        self.d = x - mean
        self.rstd = 1 / np.sqrt(self.variance(x, self.d) + x.dtype.type(self.eps))
        self.xhat = self.d * self.rstd
        return self.xhat * self.w + (self.b if self.centred else 0)

    def variance(self, x, d):
        return (d**2).mean(1, keepdims=True)

    def rows(self, dy):
        return wide(np.ascontiguousarray(dy)).reshape(-1, dy.shape[-1])

    def backward(self, dy):
        grads = self.grad(self.rows(dy))
        grads = {k: np.asarray(v).astype(self.kind) for k, v in grads.items()}
        return {**grads, "dx": grads["dx"].reshape(self.shape)}

    def grad(self, dy):
        grads = {"dx": self.dx(dy * self.w), "dweight": (dy * self.xhat).sum(0)}
        return grads | ({"dbias": dy.sum(0)} if self.centred else {})

    def dx(self, d):
        mean = d.mean(1, keepdims=True) if self.centred else 0
        return self.rstd * (d - mean - self.xhat * (d * self.xhat).mean(1, keepdims=True))


class Rms(Rows):
    centred = False


def softmax(z, axis):
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_softmax(z, axis):
    z = z - z.max(axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis, keepdims=True))


class Mn(Norm):
    stateful = "running_mean", "running_mean_square"

    def run(self, f, training):
        self.gw, self.gb = wide(self.p["gate.weight"]), wide(self.p["gate.bias"])
        self.f, self.m = f, f.mean(2)
        self.g, self.share = self.gates(self.m @ self.gw.T + self.gb)
        if training:
            mu = self.share.T @ self.m
            self.d = f[:, None] - mu[None, :, :, None]
            self.q = (self.d**2).mean(3)
            var = (self.share[:, :, None] * self.q).sum(0)
            self.update(mu, self.share.T @ (f**2).mean(2), f.shape[0] * f.shape[2])
        else:
            mu = self.s["running_mean"].astype(f.dtype)
            self.d = f[:, None] - mu[None, :, :, None]
            var = np.maximum(self.s["running_mean_square"] - mu * mu, 0).astype(f.dtype)
        self.rstd = 1 / np.sqrt(var + f.dtype.type(self.eps))
        self.z = self.d * self.rstd[None, :, :, None]
        self.mixed = (self.g[:, :, None, None] * self.z).sum(1)
        return self.mixed * col(self.w) + col(self.b)

    def gates(self, z):
        log = log_softmax(z, 1)
        return np.exp(log), softmax(log, 0)

    def update(self, first, second, n):
        lam = self.momentum
        self.s["running_mean"] = (1 - lam) * self.s["running_mean"] + lam * first
        self.s["running_mean_square"] = (1 - lam) * self.s["running_mean_square"] + lam * second

    def grad(self, dy):
        length = dy.shape[2]
        grads = {"dweight": (dy * self.mixed).sum((0, 2)), "dbias": dy.sum((0, 2))}
        e = (dy * col(self.w))[:, None]
        dg = (e * self.z).sum((2, 3))
        dz = self.g[:, :, None, None] * e
        dd = dz * self.rstd[None, :, :, None]
        dlog = self.g * dg
        dm = 0
        if self.t:
            dvar = -(dz * self.d).sum((0, 3)) * self.rstd**3 / 2
            dmu = -dd.sum((0, 3))
            dshare = (dvar * self.q).sum(2) + self.m @ dmu.T
            dd = dd + (dvar * self.share[:, :, None])[..., None] * 2 * self.d / length
            dm = self.share @ dmu
            dlog = dlog + self.share * (dshare - (self.share * dshare).sum(0))
        dlogit = dlog - self.g * dlog.sum(1, keepdims=True)
        grads |= {"dgate.weight": dlogit.T @ self.m, "dgate.bias": dlogit.sum(0)}
        dm = dm + dlogit @ self.gw
        return {**grads, "dx": dd.sum(1) + dm[:, :, None] / length}


class Conv(Layer):
    conventions = {"grads": "overwrite", "dilation": "supported"}

    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.k, self.st, self.pad = (pair(options[key]) for key in ("kernel_size", "stride", "padding"))
        self.dil, self.groups = pair(options.get("dilation", 1)), int(options.get("groups", 1))

    def out_size(self, h, w):
        return tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip((h, w), self.pad, self.dil, self.k, self.st, strict=True)
        )

    def taps(self):
        return [(a, b) for a in range(self.k[0]) for b in range(self.k[1])]

    def window(self, a, b):
        """The pixels that tap (a, b) meets."""
        top, left = a * self.dil[0], b * self.dil[1]
        (oh, ow), (sh, sw) = self.out, self.st
        return np.s_[:, :, :, top : top + (oh - 1) * sh + 1 : sh, left : left + (ow - 1) * sw + 1 : sw]

    def split(self, a):
        return a.reshape(a.shape[0], self.groups, -1, *a.shape[2:])

    def forward(self, x, training):
        self.kind, self.shape = x.dtype, x.shape
        self.out = self.out_size(*x.shape[2:])
        xp = np.pad(x, ((0, 0), (0, 0), (self.pad[0],) * 2, (self.pad[1],) * 2))
        self.xp = self.split(xp)
        weight = self.p["weight"]
        wg = weight.reshape(self.groups, -1, *weight.shape[1:])
        y = sum(np.einsum("ngcij,goc->ngoij", self.xp[self.window(a, b)], wg[..., a, b]) for a, b in self.taps())
        y = y.reshape(x.shape[0], -1, *self.out)
        return self.with_bias(y).astype(x.dtype)

    def with_bias(self, y):
        return y + self.p["bias"][None, :, None, None] if "bias" in self.p else y

    def backward(self, dy):
        dyg = self.split(np.asarray(dy))
        grads = {"dx": self.dx(dyg), "dweight": self.dweight(dyg)}
        if "bias" in self.p:
            grads["dbias"] = np.asarray(dy).sum((0, 2, 3))
        return {k: v.astype(self.kind) for k, v in grads.items()}

    def dweight(self, dyg):
        weight = self.p["weight"]
        dw = np.zeros((self.groups, weight.shape[0] // self.groups, *weight.shape[1:]), self.kind)
        for a, b in self.taps():
            dw[..., a, b] = np.einsum("ngcij,ngoij->goc", self.xp[self.window(a, b)], dyg)
        return dw.reshape(weight.shape)

    def dx(self, dyg):
        weight = self.p["weight"]
        wg = weight.reshape(self.groups, -1, *weight.shape[1:])
        dxp = np.zeros(self.xp.shape, self.kind)
        for a, b in self.taps():
            dxp[self.window(a, b)] += np.einsum("ngoij,goc->ngcij", dyg, wg[..., a, b])
        return self.crop(dxp)

    def crop(self, dxp):
        dxp = dxp.reshape(self.shape[0], self.shape[1], *dxp.shape[3:])
        (ph, pw), (h, w) = self.pad, self.shape[2:]
        return dxp[:, :, ph : ph + h, pw : pw + w]


class Pool(Layer):
    border = -np.inf

    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.k, self.st, self.pad = (pair(options[key]) for key in ("kernel_size", "stride", "padding"))

    def padded(self, x):
        return np.pad(x, ((0, 0), (0, 0), (self.pad[0],) * 2, (self.pad[1],) * 2), constant_values=self.border)

    def window(self, a, b):
        (oh, ow), (sh, sw) = self.out, self.st
        return np.s_[:, :, a : a + (oh - 1) * sh + 1 : sh, b : b + (ow - 1) * sw + 1 : sw]

    def forward(self, x, training):
        self.shape, self.kind = x.shape, x.dtype
        self.out = tuple((n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[2:], self.pad, self.k, self.st, strict=True))
        xp = self.padded(x)
        taps = [(a, b) for a in range(self.k[0]) for b in range(self.k[1])]
        return self.run(np.stack([xp[self.window(a, b)] for a, b in taps]), taps).astype(x.dtype)

    def crop(self, dxp):
        (ph, pw), (h, w) = self.pad, self.shape[2:]
        return dxp[:, :, ph : ph + h, pw : pw + w].astype(self.kind)

    def buffer(self):
        n, c, h, w = self.shape
        return np.zeros((n, c, h + 2 * self.pad[0], w + 2 * self.pad[1]), self.kind)


class MaxPool(Pool):
    def run(self, stack, taps):
        self.best, self.taps = stack.argmax(0), taps
        return stack.max(0)

    def backward(self, dy):
        dxp = self.buffer()
        for i, (a, b) in enumerate(self.taps):
            dxp[self.window(a, b)] += np.where(self.best == i, dy, 0)
        return {"dx": self.crop(dxp)}


class AvgPool(Pool):
    border = 0.0

    def run(self, stack, taps):
        self.taps = taps
        return stack.sum(0) / len(taps)

    def backward(self, dy):
        dxp = self.buffer()
        for a, b in self.taps:
            dxp[self.window(a, b)] += dy / len(self.taps)
        return {"dx": self.crop(dxp)}


class Linear(Layer):
    def forward(self, x, training):
        self.x = np.array(x)
        y = self.x @ self.p["weight"].T
        return y + self.p["bias"] if "bias" in self.p else y

    def backward(self, dy):
        dy = np.asarray(dy)
        grads = {"dx": self.dx(dy), "dweight": dy.T @ self.x}
        if "bias" in self.p:
            grads["dbias"] = self.dbias(dy, grads["dweight"])
        return grads

    def dx(self, dy):
        return dy @ self.p["weight"]

    def dbias(self, dy, dweight):
        return dy.sum(0)


class Loss(Layer):
    def forward(self, x, training):
        self.rows = np.arange(len(x))
        self.prob, logp = self.probabilities(np.array(x))
        return np.asarray(-logp[self.rows, self.p["labels"]].mean(), x.dtype)

    def probabilities(self, x):
        logp = log_softmax(x, 1)
        return np.exp(logp), logp

    def backward(self, dy):
        d = self.prob.copy()
        d[self.rows, self.p["labels"]] -= 1
        return {"dx": (d * dy / len(d)).astype(self.prob.dtype)}
