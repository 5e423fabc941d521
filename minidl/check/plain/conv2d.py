"""Convolution (cross-correlation, as in deep learning), one element of the kernel at a time."""

from __future__ import annotations

import numpy as np

from minidl.check.plain.arith import Array, total, whole
from minidl.check.plain.base import Plain
from minidl.check.plain.windows import cropped, padded, pair, places


class Layer(Plain):
    """y_noij = sum_cab weight_ocab x_n,c,i·stride+a·dilation−padding,j·stride+b·dilation−padding + bias_o.

    With groups, c runs over the channels of the group that o belongs to.
    """

    def spread(self, weight: Array) -> Array:
        """The kernel of all input channels, zeros where it has none: between its elements, and outside its group."""
        dilation, groups = pair(self.options.get("dilation", 1)), int(self.options.get("groups", 1))
        if dilation == (1, 1) and groups == 1:
            return weight
        out, into, high, wide = weight.shape
        size = (high - 1) * dilation[0] + 1, (wide - 1) * dilation[1] + 1
        full = np.full_like(weight, 0, shape=(out, into * groups, *size))
        for at, first in self.blocks(out, into, groups):
            full[at, first : first + into, :: dilation[0], :: dilation[1]] = weight[at]
        return full

    def gathered(self, full: Array) -> Array:
        """The elements that ``spread`` places, taken out again."""
        dilation, groups = pair(self.options.get("dilation", 1)), int(self.options.get("groups", 1))
        into = full.shape[1] // groups
        parts = [
            full[at, first : first + into, :: dilation[0], :: dilation[1]]
            for at, first in self.blocks(len(full), into, groups)
        ]
        return np.concatenate(parts)

    def blocks(self, out: int, into: int, groups: int) -> list[tuple[slice, int]]:
        """Of each group, its output channels, and its first input channel."""
        size = out // groups
        return [(slice(g * size, (g + 1) * size), g * into) for g in range(groups)]

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass."""
        weight = self.params["weight"]  # O C a b
        weight = self.spread(weight)
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
        weight = self.spread(weight)
        dimage, dweight = 0 * image, 0 * weight
        for a, b, here in places(image.shape, kernel, stride):
            dweight[:, :, a, b] = total(dy[:, :, None] * image[here][:, None], (0, 3, 4))[0, :, :, 0, 0]
            dimage[here] = dimage[here] + total(dy[:, :, None] * weight[None, :, :, a, b, None, None], 1)[:, 0]
        grads = {"dx": cropped(dimage, padding), "dweight": self.gathered(dweight)}
        if "bias" in self.params:
            grads["dbias"] = total(dy, (0, 2, 3)).reshape(-1)
        return grads
