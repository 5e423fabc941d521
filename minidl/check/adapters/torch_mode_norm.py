"""A PyTorch mode norm with the interface of the released code, as an adapter:
``minidl.check.adapters.torch_mode_norm:Adapter``.

The module is written the way such code is usually written, and errs where such code may: the running moments are plain
attributes and start at zero, evaluation takes their difference as it comes, N_k divides as it is, and the variance of
training is taken in one pass.  The last is this module's own: the released code takes two passes in training.
``docs/check-torch.md`` shows what the checks say of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.check.conventions import NotSupportedError

Array = np.ndarray[Any, Any]


def mode_norm_class() -> Any:
    """Return the nn.Module class; PyTorch is imported here and nowhere else."""
    torch: Any = importlib.import_module("torch")

    class ModeNorm(torch.nn.Module):  # type: ignore[misc]
        """Gates from a Linear on the spatial mean, a loop over the modes, running first and second moments."""

        def __init__(self, num_features: int, num_modes: int, eps: float, momentum: float) -> None:
            super().__init__()
            self.eps, self.momentum, self.num_modes = eps, momentum, num_modes
            self.alpha = torch.nn.Parameter(torch.ones(1, num_features, 1, 1))
            self.beta = torch.nn.Parameter(torch.zeros(1, num_features, 1, 1))
            self.W = torch.nn.Linear(num_features, num_modes)
            self.x_ra = torch.zeros(num_modes, num_features)
            self.x2_ra = torch.zeros(num_modes, num_features)

        def forward(self, x: Any) -> Any:
            gates = torch.softmax(self.W(x.mean(dim=(2, 3))).squeeze(), dim=1)
            normalized = torch.zeros_like(x)
            for k in range(self.num_modes):
                gate = gates[:, k].reshape(-1, 1, 1, 1)
                if self.training:
                    n_k = gate.sum()
                    mu = (gate * x).mean(dim=(2, 3)).sum(0) / n_k
                    mu2 = (gate * x**2).mean(dim=(2, 3)).sum(0) / n_k
                    with torch.no_grad():
                        self.x_ra[k] = self.momentum * mu + (1 - self.momentum) * self.x_ra[k]
                        self.x2_ra[k] = self.momentum * mu2 + (1 - self.momentum) * self.x2_ra[k]
                else:
                    mu, mu2 = self.x_ra[k], self.x2_ra[k]
                deviation = torch.sqrt(mu2 - mu**2 + self.eps).reshape(1, -1, 1, 1)
                normalized = normalized + gate * (x - mu.reshape(1, -1, 1, 1)) / deviation
            return self.alpha * normalized + self.beta

    return ModeNorm


class Adapter:
    """Plays the cases on the module; only what its state_dict holds counts as saved."""

    conventions: Mapping[str, str] = {"grads": "accumulate", "single_value": "zero"}
    layers = ("mode_norm",)
    attributes: Mapping[str, str] = {"running_mean": "x_ra", "running_mean_square": "x2_ra"}

    def __init__(self, layer: str, options: Mapping[str, Any]) -> None:
        if options.get("per_mode_affine"):
            raise NotSupportedError("per_mode_affine")
        self.torch: Any = importlib.import_module("torch")
        keys = ("num_features", "num_modes", "eps", "momentum")
        self.module = mode_norm_class()(**{key: options[key] for key in keys})

    def load(self, params: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Put parameters in; running moments into the attributes that hold them, unless they came out of a
        state_dict.
        """
        tensors = {name: self.torch.tensor(value) for name, value in params.items()}
        self.module.to(tensors["weight"].dtype)
        with self.torch.no_grad():
            self.module.alpha.copy_(tensors["weight"].reshape(1, -1, 1, 1))
            self.module.beta.copy_(tensors["bias"].reshape(1, -1, 1, 1))
            self.module.W.weight.copy_(tensors["gate.weight"])
            self.module.W.bias.copy_(tensors["gate.bias"])
        for name, attribute in self.attributes.items():
            start = getattr(self.module, attribute).to(tensors["weight"].dtype)
            value = state.get(name)
            setattr(self.module, attribute, start if value is None else self.torch.tensor(value))

    def forward(self, x: Array, training: bool) -> Array:
        """Forward pass; the module knows four axes alone, so that others are given to it as pixels."""
        self.shape = x.shape
        images = np.array(x).reshape(*x.shape[:2], -1, 1)
        self.x = self.torch.from_numpy(images).requires_grad_()
        self.y = self.module.train(training)(self.x)
        out: Array = self.y.detach().numpy().reshape(self.shape)
        return out

    def backward(self, dy: Array) -> dict[str, Array]:
        """Gradients by autograd."""
        self.y.backward(self.torch.from_numpy(np.array(dy).reshape(self.y.shape)))
        named = {"weight": self.module.alpha, "bias": self.module.beta}
        grads = {f"d{name}": parameter.grad.numpy().reshape(-1).copy() for name, parameter in named.items()}
        grads["dgate.weight"] = self.module.W.weight.grad.numpy().copy()
        grads["dgate.bias"] = self.module.W.bias.grad.numpy().copy()
        return {"dx": self.x.grad.numpy().reshape(self.shape), **grads}

    def state(self) -> dict[str, Array]:
        """Return the running moments."""
        return {name: getattr(self.module, attribute).numpy().copy() for name, attribute in self.attributes.items()}

    def saved(self) -> dict[str, Array]:
        """Return those running moments that a saved model holds."""
        found = self.module.state_dict()
        return {name: found[attribute].numpy() for name, attribute in self.attributes.items() if attribute in found}
