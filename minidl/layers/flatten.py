"""Images to vectors."""

from __future__ import annotations

import math

from minidl.backend import Array
from minidl.layers.base import Layer


class Flatten(Layer):
    """(N, C, H, W) -> (N, C·H·W), channel by channel; backward gives dy its shape back.

    Examples
    --------
    >>> import numpy as np
    >>> Flatten()(np.zeros((2, 3, 4, 5))).shape
    (2, 60)
    """

    def forward(self, x: Array) -> Array:
        """Return x as (N, features)."""
        self.engine(x)
        features = math.prod(x.shape[1:])
        self.keep(x.shape, shape=(len(x), features))
        # (C, H, W, N) -> (C·H·W, N) -> its transpose: a view in the fast memory format
        return x.transpose(*range(1, x.ndim), 0).reshape(features, len(x)).T

    def backward(self, dy: Array) -> Array:
        """Return dy in the shape of x."""
        _, ((n, *rest),) = self.kept(dy)
        t = dy.T.reshape(*rest, n)
        return t.transpose(t.ndim - 1, *range(t.ndim - 1))
