"""Norms written in JAX as an adapter, an example of wrapping a library of pure functions:
``...adapters.jax_norms:Adapter``.

The functions below stand for yours: give them your own in their place.  JAX needs ``jax_enable_x64`` for float64.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Adapter:
    """Batch and group normalization as pure functions, gradients by jax.vjp."""

    conventions: Mapping[str, str] = {
        "momentum": "new",
        "running_var": "unbiased",
        "single_value": "zero",
        "grads": "overwrite",
    }
    layers = ("batch_norm", "layer_norm", "instance_norm", "group_norm")

    def __init__(self, layer: str, options: Mapping[str, Any]) -> None:
        self.jax: Any = importlib.import_module("jax")
        self.jax.config.update("jax_enable_x64", True)
        self.layer, self.options = layer, options

    def load(self, params: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Take parameters and running statistics."""
        self.params = {name: self.jax.numpy.asarray(value) for name, value in params.items()}
        fresh = {"running_mean": 0 * params["weight"], "running_var": 0 * params["weight"] + 1}
        self.running = (fresh | dict(state)) if self.layer == "batch_norm" else {}

    def statistics(self, x: Any) -> tuple[Any, Any]:
        """Mean and biased variance over the axes that the layer shares."""
        if self.layer == "batch_norm":
            axes = (0, *range(2, x.ndim))
            return x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        groups = {"layer_norm": 1, "instance_norm": x.shape[1]}.get(self.layer) or self.options["num_groups"]
        split = x.reshape(x.shape[0], groups, -1)
        each = x.shape[1] // groups
        shape = (*x.shape[:2], *(1,) * (x.ndim - 2))
        mean, var = (self.jax.numpy.repeat(s, each, 1).reshape(shape) for s in (split.mean(2), split.var(2)))
        return mean, var

    def forward(self, x: Array, training: bool) -> Array:
        """Forward pass; jax.vjp keeps what backward needs."""
        column = (1, -1) + (1,) * (x.ndim - 2)
        constants = {name: value.reshape(column) for name, value in self.running.items()}

        def apply(x: Any, params: Mapping[str, Any]) -> Any:
            evaluated = bool(constants) and not training
            mean, var = (constants["running_mean"], constants["running_var"]) if evaluated else self.statistics(x)
            xhat = (x - mean) / self.jax.numpy.sqrt(var + self.options["eps"])
            return params["weight"].reshape(column) * xhat + params["bias"].reshape(column)

        y, self.vjp = self.jax.vjp(apply, self.jax.numpy.asarray(x), self.params)
        if training and self.running:
            n = x.size // x.shape[1]
            mean, var = (np.asarray(s).reshape(-1) for s in self.statistics(self.jax.numpy.asarray(x)))
            batch = {"running_mean": mean, "running_var": var * n / max(n - 1, 1)}
            lam = self.options["momentum"]
            self.running = {name: (1 - lam) * old + lam * batch[name] for name, old in self.running.items()}
        return np.asarray(y)

    def backward(self, dy: Array) -> dict[str, Array]:
        """Gradients of the last forward pass."""
        dx, grads = self.vjp(self.jax.numpy.asarray(dy))
        return {"dx": np.asarray(dx), **{f"d{name}": np.asarray(value) for name, value in grads.items()}}

    def state(self) -> dict[str, Array]:
        """Return the running statistics."""
        return dict(self.running)
