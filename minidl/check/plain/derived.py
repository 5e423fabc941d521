"""A plain layer with the gradients of its forward pass as it stands, as automatic differentiation gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.check.plain.arith import Array, give, work
from minidl.check.plain.base import Plain
from minidl.check.plain.tape import Traced, detached, gradients


class Derived:
    """A plain layer whose gradients are derived from its forward pass."""

    def __init__(self, inner: Plain) -> None:
        self.inner = inner
        self.leaves: dict[str, Traced] = {}
        self.y: Any = None

    def load(self, params: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Take parameters and state."""
        self.inner.load(params, state)

    def state(self) -> dict[str, Array]:
        """Return the running statistics."""
        return self.inner.state()

    def saved(self) -> Mapping[str, Array]:
        """Return what a saved model holds of them."""
        saved: Mapping[str, Array] = getattr(self.inner, "saved", self.inner.state)()
        return saved

    def forward(self, x: Any, training: bool) -> Any:
        """Forward pass on traced arrays; what it leaves in the layer are plain ones again."""
        inner = self.inner
        inner.cuts = [int(n) for n in np.cumsum([len(part) for part in x])[:-1]] if isinstance(x, list) else []
        params = dict(inner.params)
        traced: dict[str, Any] = {
            name: Traced(value) if value.dtype.kind == "f" else value for name, value in params.items()
        }
        leaf = Traced(work(np.concatenate(x) if isinstance(x, list) else x))
        inner.params = traced
        self.leaves = {"dx": leaf} | {f"d{name}": of for name, of in traced.items() if isinstance(of, Traced)}
        self.y = inner.compute(leaf, training)  # type: ignore[arg-type]
        inner.params = params
        for name, value in list(vars(inner).items()):
            if isinstance(value, Traced):
                setattr(inner, name, value.value)
        y = give(np.asarray(detached(self.y)), x[0] if isinstance(x, list) else x)
        return np.split(y, inner.cuts) if inner.cuts else y

    def backward(self, dy: Any) -> dict[str, Any]:
        """Gradients of the last forward pass."""
        whole = np.concatenate(dy) if isinstance(dy, list) else dy
        grads: dict[str, Any] = {
            name: give(g.astype(self.y.dtype), whole) for name, g in gradients(self.y, whole, self.leaves).items()
        }
        if self.inner.cuts:
            grads["dx"] = np.split(grads["dx"], self.inner.cuts)
        return grads
