"""minidl's own fast layers as an adapter: ``minidl.check.adapters.minidl:Adapter``."""

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
            self.labels = params["labels"]
            return
        for name, value in params.items():
            self.made.params[name], self.made.grads[name] = value.copy(), np.zeros_like(value)
        for name, value in state.items():
            self.made.buffers[name][...] = value

    def forward(self, x: Array, training: bool) -> Any:
        """Forward pass in the mode asked for."""
        if self.loss:
            return np.asarray(self.made.forward(x, self.labels), x.dtype)
        return self.made.train(training).forward(x)

    def backward(self, dy: Array) -> dict[str, Array]:
        """Gradients: dx, and the parameters' as they have added up."""
        if self.loss:
            return {"dx": self.made.backward() * dy}
        dx = self.made.backward(dy)
        return {"dx": dx, **{f"d{name}": value.copy() for name, value in self.made.grads.items()}}

    def state(self) -> dict[str, Array]:
        """Return the running statistics as the layer saves them."""
        if self.loss:
            return {}
        saved = self.made.state()
        return {name: saved[name] for name in self.made.buffers if name in saved}
