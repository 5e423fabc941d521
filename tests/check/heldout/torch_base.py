"""What the PyTorch layers of the held-out set share: arrays in, arrays out, gradients by autograd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.check import NotSupportedError

try:
    import torch
except ImportError:
    torch = None


def pair(value: Any) -> tuple[int, int]:
    """Return (height, width)."""
    return (value, value) if isinstance(value, int) else tuple(value)


def col(v: Any) -> Any:
    """A vector over channels, against (N, C, P)."""
    return v[None, :, None]


class Torch:
    """A subclass writes ``compute``; norms see x as (N, C, P)."""

    conventions: Mapping[str, str] = {"grads": "accumulate", "single_value": "raises"}
    second = "running_var"

    def __init__(self, layer, options):
        if options.get("per_mode_affine") or options.get("moments", "spatial") != "spatial":
            raise NotSupportedError("one affine pair, moments over every pixel")
        self.layer, self.o = layer, options
        self.eps, self.momentum = options.get("eps"), options.get("momentum")

    def load(self, params, state):
        self.labels = params.get("labels")
        self.p = {k: torch.tensor(v, requires_grad=True) for k, v in params.items() if k != "labels"}
        self.s = {k: torch.tensor(v) for k, v in state.items()}
        if not state and self.layer in ("batch_norm", "mode_norm"):
            like = self.p["gate.weight" if self.layer == "mode_norm" else "weight"].detach()
            second = "running_mean_square" if self.layer == "mode_norm" else "running_var"
            self.s = {"running_mean": torch.zeros_like(like), second: torch.ones_like(like)}

    @property
    def w(self):
        return self.p["weight"]

    @property
    def b(self):
        return self.p.get("bias")

    def forward(self, x, training):
        norm = self.layer.endswith("_norm")
        self.n_values = x.size // x.shape[1]
        if self.layer in ("batch_norm",) and training and self.n_values == 1:
            raise ValueError("more than one value a channel is needed in training")
        self.x = torch.tensor(np.array(x), requires_grad=True)
        self.shape = x.shape
        self.y = self.compute(self.x.reshape(*x.shape[:2], -1) if norm else self.x, training)
        out = self.y.reshape(x.shape) if norm else self.y
        return out.detach().numpy().copy()

    def backward(self, dy):
        self.y.backward(torch.tensor(np.array(dy)).to(self.y.dtype).reshape(self.y.shape))
        grads = {
            f"d{k}": np.zeros(v.shape, dy.dtype) if v.grad is None else v.grad.numpy().copy() for k, v in self.p.items()
        }
        dx = np.zeros(self.x.shape, dy.dtype) if self.x.grad is None else self.x.grad.numpy()
        return {"dx": dx, **grads}

    def state(self):
        return {k: v.detach().numpy().copy() for k, v in self.s.items()}

    def blend(self, first, second, mom=None):
        """Update the running statistics; ``second`` is what is stored beside the mean."""
        mom = self.momentum if mom is None else mom
        new = dict(zip(self.s, (first, second), strict=True))
        self.s = {k: (1 - mom) * v + mom * new[k].detach() for k, v in self.s.items()}

    def bessel(self, var):
        return var * self.n_values / (self.n_values - 1)

    def affine(self, xhat):
        return xhat * col(self.w) + col(self.b)
