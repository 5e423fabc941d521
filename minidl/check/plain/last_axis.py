"""Layer normalization and RMS normalization over the last axis, with a weight for each of its elements."""

from __future__ import annotations

from minidl.check.plain.arith import Array, mean, sqrt, total
from minidl.check.plain.base import Plain


class Layer(Plain):
    """y = weight (x − mu) / sqrt(sigma² + eps) + bias, mu and sigma² over the last axis of x.

    x is (N, C) to (B, H, T, C), weight and bias are (C,).
    """

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass, the same in training and evaluation."""
        last, weight, bias = x.ndim - 1, self.params["weight"], self.params["bias"]
        mu = mean(x, last)
        centred = x - mu
        var = mean(centred * centred, last)
        rstd = 1 / sqrt(var + self.options["eps"])
        xhat = centred * rstd
        self.kept = (xhat, rstd, weight)
        return weight * xhat + bias

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Backward pass: dx = rstd (d − mean d − xhat mean(d xhat)) with d = dy weight."""
        xhat, rstd, weight = self.kept
        last, axes = dy.ndim - 1, tuple(range(dy.ndim - 1))
        dbias = total(dy, axes)
        dweight = total(dy * xhat, axes)
        dxhat = dy * weight
        dx = rstd * (dxhat - mean(dxhat, last) - xhat * mean(dxhat * xhat, last))
        return {"dx": dx, "dweight": dweight.reshape(-1), "dbias": dbias.reshape(-1)}
