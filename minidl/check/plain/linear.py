"""The affine map."""

from __future__ import annotations

from minidl.check.plain.arith import Array, total
from minidl.check.plain.base import Plain


class Layer(Plain):
    """y = x weightᵀ + bias."""

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass."""
        self.kept = x
        y = total(x[:, None] * self.params["weight"], 2)[:, :, 0]
        return y + self.params["bias"] if "bias" in self.params else y

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Backward pass: dx = dy weight, dweight = dyᵀ x, dbias = sum dy."""
        x = self.kept
        dx = total(dy[:, :, None] * self.params["weight"], 1)[:, 0]
        dweight = total(dy[:, :, None] * x[:, None], 0)[0]
        grads = {"dx": dx, "dweight": dweight}
        if "bias" in self.params:
            grads["dbias"] = total(dy, 0)[0]
        return grads
