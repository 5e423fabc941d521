"""What the PyTorch layers share: arrays in, arrays out, gradients by autograd."""

from __future__ import annotations

import numpy as np
import torch

from minidl.check import NotSupportedError


def pair(v):
    return (v, v) if isinstance(v, (int, np.integer)) else (int(v[0]), int(v[1]))


def ch(v, x):
    """A vector over channels against x."""
    return v.reshape(1, -1, *(1,) * (x.ndim - 2))


class Torch:
    conventions = {"grads": "accumulate", "single_value": "zero"}
    stateful = ()

    def __init__(self, layer, options):
        if options.get("per_mode_affine") or options.get("moments", "spatial") != "spatial":
            raise NotSupportedError("one affine pair; moments over the pixels")
        self.layer, self.o = layer, options
        self.eps, self.momentum = options.get("eps"), options.get("momentum")

    def load(self, params, state):
        self.labels = torch.tensor(params["labels"]) if "labels" in params else None
        self.p = {k: torch.tensor(np.array(v), requires_grad=True) for k, v in params.items() if k != "labels"}
        self.s = {k: torch.tensor(np.array(v)) for k, v in state.items()}
        if not state and self.stateful:
            like = self.p["gate.weight" if "gate.weight" in self.p else "weight"].detach()
            self.s = {self.stateful[0]: torch.zeros_like(like), self.stateful[1]: torch.ones_like(like)}

    @property
    def w(self):
        return self.p["weight"]

    @property
    def b(self):
        return self.p.get("bias")

    def forward(self, x, training):
        self.x = torch.tensor(np.array(x), requires_grad=True)
        self.y = self.compute(self.x, training)
        return self.y.detach().numpy().copy()

    def backward(self, dy):
        self.y.backward(torch.tensor(np.array(dy)).to(self.y.dtype))
        grads = {"dx": self.x.grad.numpy().copy() if self.x.grad is not None else np.zeros(self.x.shape, np.asarray(dy).dtype)}
        for k, v in self.p.items():
            grads[f"d{k}"] = v.grad.numpy().copy() if v.grad is not None else np.zeros(v.shape, np.asarray(dy).dtype)
        return grads

    def state(self):
        return {k: v.detach().numpy().copy() for k, v in self.s.items()}


class Bn(Torch):
    conventions = {"grads": "accumulate", "single_value": "raises"}
    stateful = "running_mean", "running_var"

    def compute(self, x, training):
        kind, x = x.dtype, x.float() if x.dtype == torch.float16 else x
        axes = (0, *range(2, x.ndim))
        if training:
            n = x.numel() // x.shape[1]
            if n == 1:
                raise ValueError("Expected more than 1 value per channel when training")
            mean, var = x.mean(axes), x.var(axes, unbiased=False)
            self.track(mean.detach(), var.detach(), n)
        else:
            mean, var = self.s["running_mean"].to(x.dtype), self.s["running_var"].to(x.dtype)
        return self.normalize(x, mean, var).to(kind)

    def normalize(self, x, mean, var):
        return (x - ch(mean, x)) * ch(torch.rsqrt(var + self.eps), x) * ch(self.w, x) + ch(self.b, x)

    def track(self, mean, var, n):
        self.blend("running_mean", mean)
        self.blend("running_var", var * n / (n - 1))

    def blend(self, name, value):
        self.s[name] = (1 - self.momentum) * self.s[name] + self.momentum * value.to(self.s[name].dtype)


class Mn(Torch):
    stateful = "running_mean", "running_mean_square"

    def compute(self, x, training):
        f = x.reshape(*x.shape[:2], -1)
        gates, share = self.gates(self.logits(f.mean(2)))
        if training:
            mean = torch.einsum("nk,ncl->kc", share, f) / f.shape[2]
            var = self.variance(f, share, mean)
            self.track(mean.detach(), (torch.einsum("nk,ncl->kc", share, f.square()) / f.shape[2]).detach())
        else:
            mean = self.s["running_mean"]
            var = (self.s["running_mean_square"] - mean.square()).clamp(min=0)
        z = (f[:, None] - mean[None, :, :, None]) * torch.rsqrt(var + self.eps)[None, :, :, None]
        return self.mix(gates, z).reshape(x.shape) * ch(self.w, x) + ch(self.b, x)

    def logits(self, m):
        return m @ self.p["gate.weight"].T + self.p["gate.bias"]

    def gates(self, z):
        """The gates of each sample, and the share of each sample in a mode."""
        log = torch.log_softmax(z, 1)
        return log.exp(), torch.softmax(log, 0)

    def variance(self, f, share, mean):
        return torch.einsum("nk,nkc->kc", share, (f[:, None] - mean[None, :, :, None]).square().mean(3))

    def mix(self, gates, z):
        return torch.einsum("nk,nkcl->ncl", gates, z)

    def track(self, first, second):
        lam = self.momentum
        self.s["running_mean"] = (1 - lam) * self.s["running_mean"] + lam * first
        self.s["running_mean_square"] = (1 - lam) * self.s["running_mean_square"] + lam * second


class Mgn(Torch):
    def compute(self, x, training):
        f = x.reshape(*x.shape[:2], -1)
        m = f.mean(2)
        share = self.share(self.gate_input(m)[..., None] * self.p["gate.weight"][:, 0] + self.p["gate.bias"])  # n c k
        mean = self.total(share, m[..., None])  # n k
        d = f[:, :, None] - mean[:, None, :, None]  # n c k l
        var = self.total(share, d.square().mean(3))
        z = (d * torch.rsqrt(var + self.eps)[:, None, :, None]).mean(2)
        return z.reshape(x.shape) * ch(self.w, x) + ch(self.b, x)

    def gate_input(self, m):
        return m

    def share(self, z):
        return torch.softmax(torch.log_softmax(z, 2), 1)

    def total(self, share, values):
        return (share * values).sum(1)
