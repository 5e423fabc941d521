"""RMS normalization (Zhang & Sennrich 2019) over the last axis, with a weight for each of its elements."""

from __future__ import annotations

from minidl.check.plain.arith import Array, mean, sqrt, total
from minidl.check.plain.base import Plain


class Layer(Plain):
    """y = weight x / sqrt(mean(x²) + eps), the mean over the last axis of x, (N, C) to (B, H, T, C)."""

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass, the same in training and evaluation."""
        last, weight = x.ndim - 1, self.params["weight"]
        var = mean(x * x, last)
        rstd = 1 / sqrt(var + self.options["eps"])
        xhat = x * rstd
        self.kept = (xhat, rstd, weight)
        return weight * xhat

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Backward pass: dx = rstd (d − xhat mean(d xhat)) with d = dy weight."""
        xhat, rstd, weight = self.kept
        last, axes = dy.ndim - 1, tuple(range(dy.ndim - 1))
        dweight = total(dy * xhat, axes)
        dxhat = dy * weight
        dx = rstd * (dxhat - xhat * mean(dxhat * xhat, last))
        return {"dx": dx, "dweight": dweight.reshape(-1)}
