"""Softmax cross-entropy, averaged over the batch."""

from __future__ import annotations

import numpy as np

from minidl.check.plain.arith import Array, exp, log_softmax, whole
from minidl.check.plain.base import Plain


class Layer(Plain):
    """y = −(1/N) sum_n log softmax(x_n)[label_n]."""

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass."""
        logp = log_softmax(x, 1)
        chosen = np.arange(x.shape[1]) == np.asarray(self.params["labels"]).reshape(-1, 1)
        count = 1 if self.options.get("reduction") == "sum" else x.shape[0]
        self.kept = (logp, chosen, count)
        y: Array = whole(-np.where(chosen, logp, 0 * x).sum() / count)
        return y

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Backward pass: dx = dy (softmax(x) − one-hot) / N."""
        logp, chosen, count = self.kept
        dx = dy * (exp(logp) - chosen) / count
        return {"dx": dx}
