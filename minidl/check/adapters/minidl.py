"""minidl's own fast layers as an adapter: ``minidl.check.adapters.minidl:Adapter``.

They compute on the default backend: its device gets the arrays, and the host gets the answers.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
CLASSES = {
    "batch_norm": ("BatchNorm", ("num_features", "eps", "momentum")),
    "instance_norm": ("InstanceNorm", ("num_features", "eps")),
    "layer_norm": ("LayerNorm", ("num_features", "eps")),
    "group_norm": ("GroupNorm", ("num_groups", "num_features", "eps")),
    "mode_norm": ("ModeNorm", ("num_features", "num_modes", "eps", "momentum", "per_mode_affine")),
    "mode_group_norm": ("ModeGroupNorm", ("num_features", "num_modes", "eps", "moments")),
    "conv2d": ("Conv2d", ("in_channels", "out_channels", "kernel_size", "stride", "padding")),
    "max_pool2d": ("MaxPool2d", ("kernel_size", "stride", "padding")),
    "avg_pool2d": ("AvgPool2d", ("kernel_size", "stride", "padding")),
    "linear": ("Linear", ("in_features", "out_features")),
}
RANDOM = ("mode_norm", "mode_group_norm", "conv2d", "linear")


class Adapter:
    """Builds the layer of that name and puts the case's parameters into it."""

    conventions: Mapping[str, str] = {"momentum": "new", "running_var": "unbiased", "single_value": "raises"}
    layers = (*CLASSES, "softmax_cross_entropy")

    def __init__(self, layer: str, options: Mapping[str, Any]) -> None:
        minidl: Any = importlib.import_module("minidl")
        self.to_device, self.to_host = minidl.to_device, minidl.to_host
        self.loss = layer == "softmax_cross_entropy"
        if self.loss:
            self.made = minidl.SoftmaxCrossEntropy()
            return
        name, keys = CLASSES[layer]
        values = {key: tuple(v) if isinstance(v := options[key], list) else v for key in keys if key in options}
        if layer in ("group_norm", "mode_group_norm"):
            values["num_channels"] = values.pop("num_features")
        if layer in RANDOM:
            values["rng"] = np.random.default_rng(0)
        if layer in ("conv2d", "linear"):
            values["bias"] = bool(options.get("bias", 1))
        self.made = getattr(minidl, name)(**values)

    def load(self, params: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Put parameters, with their dtype, and running statistics into the layer."""
        if self.loss:
            self.labels = self.to_device(params["labels"])
            return
        for name, value in params.items():
            self.made.params[name] = self.to_device(value.copy())
            self.made.grads[name] = self.to_device(np.zeros_like(value))
        for name, value in state.items():
            self.made.buffers[name][...] = self.to_device(value)

    def forward(self, x: Array, training: bool) -> Any:
        """Forward pass in the mode asked for."""
        if self.loss:
            return np.asarray(self.to_host(self.made.forward(self.to_device(x), self.labels)), x.dtype)
        return self.to_host(self.made.train(training).forward(self.to_device(x)))

    def backward(self, dy: Array) -> dict[str, Array]:
        """Gradients: dx, and the parameters' as they have added up."""
        if self.loss:
            return {"dx": self.to_host(self.made.backward()) * dy}
        dx = self.to_host(self.made.backward(self.to_device(dy)))
        return {"dx": dx, **{f"d{name}": self.to_host(value).copy() for name, value in self.made.grads.items()}}

    def state(self) -> dict[str, Array]:
        """Return the running statistics as the layer saves them."""
        if self.loss:
            return {}
        saved = self.made.state()
        return {name: self.to_host(saved[name]) for name in self.made.buffers if name in saved}
