"""What every plain layer shares: parameters, state, shards, and the dtype at the border."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.check.plain.arith import Array, give, work


class Plain:
    """A layer written as its formula reads, with the interface of an adapter."""

    conventions: Mapping[str, str] = {
        "grads": "overwrite",
        "shards": "synchronised",
        "dilation": "supported",
    }

    def __init__(self, layer: str, options: Mapping[str, Any]) -> None:
        self.layer = layer
        self.options = dict(options)
        self.params: dict[str, Array] = {}
        self.cuts: list[int] = []
        self.kept: Any = None

    def load(self, params: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Take parameters and, where given, running statistics."""
        self.params = {name: work(value) for name, value in params.items()}
        self.start()
        for name, value in state.items():
            setattr(self, name, work(value))

    def start(self) -> None:
        """Set the running statistics of a layer that has seen nothing."""

    def state(self) -> dict[str, Array]:
        """Return the running statistics."""
        return {}

    def forward(self, x: Any, training: bool) -> Any:
        """Forward pass; a list of shards is one batch with synchronised statistics."""
        self.cuts = [int(n) for n in np.cumsum([len(part) for part in x])[:-1]] if isinstance(x, list) else []
        whole = np.concatenate(x) if isinstance(x, list) else x
        y = give(self.compute(work(whole), training), whole)
        return np.split(y, self.cuts) if self.cuts else y

    def backward(self, dy: Any) -> dict[str, Any]:
        """Gradients of the last forward pass."""
        whole = np.concatenate(dy) if isinstance(dy, list) else dy
        grads: dict[str, Any] = {name: give(g, whole) for name, g in self.gradients(work(whole)).items()}
        if self.cuts:
            grads["dx"] = np.split(grads["dx"], self.cuts)
        return grads

    def compute(self, x: Array, training: bool) -> Array:
        """Return y, and keep what the gradients need."""
        raise NotImplementedError

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Return the gradients from dy and what was kept."""
        raise NotImplementedError


def column(p: Array, x: Array) -> Array:
    """A (C,) array shaped to broadcast against x of shape (N, C, ...)."""
    return p.reshape((1, -1) + (1,) * (x.ndim - 2))
