"""Max and average pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.check.plain.arith import Array, real, whole
from minidl.check.plain.base import Plain
from minidl.check.plain.windows import cropped, padded, pair, places


class Layer(Plain):
    """The largest value of each window, the first of equals; or the mean of a window, the border's zeros counted."""

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass."""
        kernel, stride, padding = (pair(self.options[key]) for key in ("kernel_size", "stride", "padding"))
        largest, ties = self.layer == "max_pool2d", self.options.get("ties")
        image = padded(x, padding, -np.inf if largest else 0)
        where = [here for _, _, here in places(image.shape, kernel, stride)]
        best, winner = image[where[0]], 0 * np.zeros(image[where[0]].shape, int)
        for index, here in enumerate(where[1:], 1):
            if largest:
                greater = np.asarray(real(image[here]) > real(best), bool)
                if ties == "last":
                    greater = np.asarray(real(image[here]) >= real(best), bool)
                best, winner = np.where(greater, image[here], best), np.where(greater, index, winner)
            else:
                best = best + image[here]
        area: Any = kernel[0] * kernel[1]
        if self.options.get("count_include_pad") == "no":
            inside = padded(1 + 0 * x, padding, 0)
            area = sum(inside[here] for here in where)
        self.kept = (image, where, winner, area, padding, largest, best)
        y: Array = whole(best if largest else best / area)
        return y

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Backward pass: to the largest value, or to all alike."""
        image, where, winner, area, padding, largest, best = self.kept
        dimage = np.full_like(dy, 0, shape=image.shape)
        for index, here in enumerate(where):
            wins = winner == index
            if self.options.get("ties") == "all":
                wins = np.asarray(real(image[here]) == real(best), bool)
            share = np.where(wins, dy, 0 * dy) if largest else dy / area
            dimage[here] = dimage[here] + share
        return {"dx": cropped(dimage, padding)}
