"""minidl's reference algorithms as an adapter: ``minidl.check.adapters.reference:Adapter``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl import reference
from minidl.check import oracles

Array = np.ndarray[Any, Any]
KEYS = ("eps", "num_groups", "moments", "kernel_size", "stride", "padding", "dilation", "groups")


class Adapter:
    """Calls the stateless functions of ``minidl.reference`` and keeps what they need between calls."""

    conventions: Mapping[str, str] = {
        "grads": "overwrite",
        "shards": "synchronised",
        "single_value": "zero",
        "dilation": "supported",
    }
    norms = ("batch_norm", "instance_norm", "layer_norm", "group_norm", "mode_norm", "mode_group_norm")
    layers = (
        *norms,
        "layer_norm_last",
        "rms_norm",
        "conv2d",
        "max_pool2d",
        "avg_pool2d",
        "linear",
        "softmax_cross_entropy",
    )

    def __init__(self, layer: str, options: Mapping[str, Any]) -> None:
        self.layer, self.options = layer, options

    def load(self, params: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Take parameters and running statistics."""
        self.dtype = next((value.dtype for value in params.values()), np.dtype(np.float64))
        self.params = {name.replace(".", "_"): value for name, value in params.items()}
        shape = np.shape(params.get("weight", ()))
        second = "running_var"
        if self.layer == "mode_norm":
            shape, second = params["gate.weight"].shape, "running_mean_square"
        stateful = self.layer in ("batch_norm", "mode_norm")
        fresh = {"running_mean": np.zeros(shape, self.dtype), second: np.ones(shape, self.dtype)} if stateful else {}
        self.running = fresh | dict(state)

    def forward(self, x: Any, training: bool) -> Any:
        """Forward pass, and the update of the running statistics."""
        self.cuts = np.cumsum([len(part) for part in x])[:-1] if isinstance(x, list) else None
        self.x = np.concatenate(x) if isinstance(x, list) else x
        self.before, self.training = dict(self.running), training
        name = self.layer if training or not self.running else f"{self.layer}_eval"
        y = np.asarray(self.function(name)(self.x, **self.arguments())).astype(self.x.dtype)
        if training and self.running:
            self.update()
        return y if self.cuts is None else np.split(y, self.cuts)

    def backward(self, dy: Any) -> dict[str, Any]:
        """Gradients of the last forward pass."""
        dy = np.concatenate(dy) if isinstance(dy, list) else dy
        name = f"{self.layer}_backward" if self.training or not self.running else f"{self.layer}_eval_backward"
        grads = self.function(name)(dy, self.x, **self.arguments())
        names = {"dlogits": "dx", "dgate_weight": "dgate.weight", "dgate_bias": "dgate.bias"}
        cast = {names.get(key, key): np.asarray(value).astype(dy.dtype) for key, value in grads.items()}
        return cast if self.cuts is None else {**cast, "dx": np.split(cast["dx"], self.cuts)}

    def function(self, name: str) -> Any:
        """The function of that name: of ``minidl.reference``, or, of what it does not have, the second oracle."""
        ours = self.layer in ("layer_norm_last", "rms_norm") or {"dilation", "groups"} & self.options.keys()
        return getattr(oracles if ours else reference, name)

    def state(self) -> dict[str, Array]:
        """Return the running statistics."""
        return self.running

    def arguments(self) -> dict[str, Any]:
        """Return parameters, options and, in evaluation, the running statistics that the forward pass saw."""
        chosen = {key: self.options[key] for key in KEYS if key in self.options}
        if self.layer == "conv2d":
            chosen.pop("kernel_size")
        return {**self.params, **chosen, **({} if self.training else self.before)}

    def update(self) -> None:
        """Blend the batch into the running statistics."""
        first = self.running["running_mean"]
        if self.layer == "mode_norm":
            gates = {key: self.params[key] for key in ("gate_weight", "gate_bias")}
            square = self.running["running_mean_square"]
            moments = reference.mode_norm_running(
                self.x, running_mean=first, running_mean_square=square, momentum=self.options["momentum"], **gates
            )
            self.running = dict(zip(("running_mean", "running_mean_square"), moments, strict=True))
        elif self.x.size > self.x.shape[1]:
            moments = reference.batch_norm_running(self.x, first, self.running["running_var"], self.options["momentum"])
            self.running = dict(zip(("running_mean", "running_var"), moments, strict=True))
