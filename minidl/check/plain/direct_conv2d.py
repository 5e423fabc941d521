"""Convolution one tap at a time, with dilation and groups as they stand, and a loop of its own for each gradient.

It answers as ``conv2d`` does; its places are those in which a convolution that is written so can be wrong.
"""

from __future__ import annotations

from minidl.check.plain.arith import Array, total, whole
from minidl.check.plain.base import Plain
from minidl.check.plain.windows import cropped, padded, pair, taps


class Layer(Plain):
    """y_noij = sum_cab weight_ocab x_n,c,i·stride+a·dilation−padding,j·stride+b·dilation−padding + bias_o."""

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass."""
        weight = self.params["weight"]  # O I a b
        kernel = (weight.shape[2], weight.shape[3])
        stride, padding = pair(self.options["stride"]), pair(self.options["padding"])
        dilation, groups = pair(self.options.get("dilation", 1)), int(self.options.get("groups", 1))
        image = padded(x, padding, 0)
        self.kept = (image, kernel, stride, padding, dilation, groups)
        y = None
        for a, b, here in taps(image.shape, kernel, stride, dilation):
            seen = self.grouped(image[here], groups)  # N G I H W
            term = self.joined(total(seen[:, :, None] * self.of_groups(weight[:, :, a, b], groups), 3)[:, :, :, 0])
            y = term if y is None else y + term
        if "bias" in self.params:
            y = y + self.params["bias"].reshape(1, -1, 1, 1)
        out: Array = whole(y)
        return out

    def grouped(self, image: Array, groups: int) -> Array:
        """(N, C, H, W) as (N, G, C/G, H, W)."""
        return image.reshape((image.shape[0], groups, -1, *image.shape[2:]))

    def joined(self, image: Array) -> Array:
        """(N, G, C/G, H, W) as (N, C, H, W)."""
        return image.reshape((image.shape[0], -1, *image.shape[3:]))

    def of_groups(self, weight: Array, groups: int) -> Array:
        """(O, I) as (G, O/G, I, 1, 1)."""
        return weight.reshape((groups, -1, weight.shape[1], 1, 1))

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Backward pass."""
        image, kernel, stride, padding, dilation, groups = self.kept
        weight = self.params["weight"]
        dimage, dweight = 0 * image, 0 * weight
        dout = self.grouped(dy, groups)  # N G O H W
        for a, b, here in taps(image.shape, kernel, stride, dilation):
            seen = self.grouped(image[here], groups)
            dweight[:, :, a, b] = total(dout[:, :, :, None] * seen[:, :, None], (0, 4, 5)).reshape(weight.shape[:2])
        for a, b, here in taps(image.shape, kernel, stride, dilation):
            term = self.joined(total(dout[:, :, :, None] * self.of_groups(weight[:, :, a, b], groups), 2)[:, :, 0])
            dimage[here] = dimage[here] + term
        grads = {"dx": cropped(dimage, padding), "dweight": dweight}
        if "bias" in self.params:
            grads["dbias"] = total(dy, (0, 2, 3)).reshape(-1)
        return grads
