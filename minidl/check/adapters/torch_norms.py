"""PyTorch's own norms as an adapter: ``minidl.check.adapters.torch_norms:Adapter``.

Conventions: momentum is the weight of the new batch, running_var is unbiased, a single value per channel raises,
gradients add up. PyTorch's LayerNorm has one weight per element, not a channel: the case's (C,) weight is spread over
space, and its gradient summed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Adapter:
    """nn.BatchNorm, nn.InstanceNorm, nn.LayerNorm, nn.GroupNorm and nn.RMSNorm of the rank that x has."""

    conventions: Mapping[str, str] = {
        "momentum": "new",
        "running_var": "unbiased",
        "single_value": "raises",
        "grads": "accumulate",
    }
    layers = ("batch_norm", "instance_norm", "layer_norm", "group_norm", "layer_norm_last", "rms_norm")

    def __init__(self, layer: str, options: Mapping[str, Any]) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.layer, self.options = layer, options
        self.module: Any = None

    def load(self, params: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Keep parameters and statistics; the module is built when the first x shows its rank."""
        self.params, self.given = params, state

    def tensor(self, array: Array) -> Any:
        """The array as a tensor of its own memory; that of ml_dtypes' bfloat16 is PyTorch's."""
        if array.dtype.name == "bfloat16":
            return self.torch.from_numpy(array.copy().view(np.int16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(array if array.flags.writeable else array.copy())

    def array(self, tensor: Any) -> Array:
        """The tensor as an array; one of bfloat16 as float32."""
        kept: Array = (tensor.float() if tensor.dtype == self.torch.bfloat16 else tensor).detach().numpy()
        return kept

    def build(self, x: Array) -> Any:
        """The module that fits x."""
        nn, rank, channels = self.torch.nn, max(x.ndim - 2, 1), x.shape[1]
        names = {1: "1d", 2: "2d"}
        kind = self.tensor(np.zeros(0, next(iter(self.params.values())).dtype)).dtype
        eps = self.options["eps"]
        if self.layer == "batch_norm":
            module = getattr(nn, f"BatchNorm{names[rank]}")(channels, eps, self.options["momentum"])
        elif self.layer == "instance_norm":
            module = getattr(nn, f"InstanceNorm{names[rank]}")(channels, eps, affine=True)
        elif self.layer == "group_norm":
            module = nn.GroupNorm(self.options["num_groups"], channels, eps)
        elif self.layer == "layer_norm":
            module = nn.LayerNorm(x.shape[1:], eps)
        else:
            module = (nn.LayerNorm if self.layer == "layer_norm_last" else nn.RMSNorm)(x.shape[-1], eps)
        module = module.to(kind)
        if self.layer == "batch_norm":
            module.running_mean, module.running_var = module.running_mean.to(kind), module.running_var.to(kind)
        with self.torch.no_grad():
            for name, value in self.params.items():
                tensor = self.tensor(value)
                if self.layer == "layer_norm":
                    tensor = tensor.reshape(-1, *(1,) * (x.ndim - 2)).expand(x.shape[1:])
                getattr(module, name).copy_(tensor)
            for name, value in self.given.items():
                getattr(module, name).copy_(self.torch.tensor(value))
        return module

    def forward(self, x: Array, training: bool) -> Array:
        """Forward pass in the mode asked for."""
        if self.module is None:
            self.module = self.build(x)
        self.module.train(training)
        self.x = self.tensor(x).requires_grad_()
        self.y = self.module(self.x)
        return self.array(self.y)

    def backward(self, dy: Array) -> dict[str, Array]:
        """Gradients by autograd."""
        self.y.backward(self.tensor(dy))
        grads = {name: self.array(value.grad) for name, value in self.module.named_parameters()}
        if self.layer == "layer_norm":
            grads = {name: grad.reshape(grad.shape[0], -1).sum(1) for name, grad in grads.items()}
        return {"dx": self.array(self.x.grad), **{f"d{name}": grad.copy() for name, grad in grads.items()}}

    def state(self) -> dict[str, Array]:
        """Return the running statistics in the module's state_dict."""
        if self.layer != "batch_norm" or self.module is None:
            return {}
        saved = self.module.state_dict()
        return {name: self.array(saved[name]) for name in ("running_mean", "running_var")}
