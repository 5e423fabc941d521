"""Convolution (cross-correlation, as in deep learning), one element of the kernel at a time."""

from __future__ import annotations

from minidl.check.plain.arith import Array, total, whole
from minidl.check.plain.base import Plain
from minidl.check.plain.windows import cropped, padded, pair, places


class Layer(Plain):
    """y_noij = sum_cab weight_ocab x_n,c,i·stride+a−padding,j·stride+b−padding + bias_o."""

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass."""
        weight = self.params["weight"]  # O C a b
        kernel = (weight.shape[2], weight.shape[3])
        stride, padding = pair(self.options["stride"]), pair(self.options["padding"])
        image = padded(x, padding, 0)
        self.kept = (image, kernel, stride, padding)
        y = None
        for a, b, here in places(image.shape, kernel, stride):
            term = total(weight[None, :, :, a, b, None, None] * image[here][:, None], 2)[:, :, 0]
            y = term if y is None else y + term
        if "bias" in self.params:
            y = y + self.params["bias"].reshape(1, -1, 1, 1)
        out: Array = whole(y)
        return out

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Backward pass."""
        image, kernel, stride, padding = self.kept
        weight = self.params["weight"]
        dimage, dweight = 0 * image, 0 * weight
        for a, b, here in places(image.shape, kernel, stride):
            dweight[:, :, a, b] = total(dy[:, :, None] * image[here][:, None], (0, 3, 4))[0, :, :, 0, 0]
            dimage[here] = dimage[here] + total(dy[:, :, None] * weight[None, :, :, a, b, None, None], 1)[:, 0]
        grads = {"dx": cropped(dimage, padding), "dweight": dweight}
        if "bias" in self.params:
            grads["dbias"] = total(dy, (0, 2, 3)).reshape(-1)
        return grads
