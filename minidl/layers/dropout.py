"""Dropout."""

from __future__ import annotations

import numpy as np

from minidl.arguments import arithmetic, generator
from minidl.backend import Array, array_module, to_device
from minidl.layers.base import Layer, read_only


class Dropout(Layer):
    """Zero each value with probability p in training (Srivastava et al. 2014): y = x·mask/(1 − p).

    Backward: dx = dy·mask/(1 − p). In inference y = x.

    Parameters
    ----------
    p : float in [0, 1)
    rng : numpy.random.Generator or a seed, optional
        Draws the masks on the host, so that one seed gives the same masks on every backend.

    Raises
    ------
    ValueError
        If p is outside [0, 1).

    Examples
    --------
    >>> Dropout(0.5).eval()(np.ones(3))
    array([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, rng: np.random.Generator | int | None = None) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must be in [0, 1), got {p}; it is the probability of zeroing")
        self.p = p
        self.rng = generator(rng, "Dropout")

    @arithmetic()
    def forward(self, x: Array) -> Array:
        """Return x·mask/(1 − p) in training, x in inference."""
        self.engine(x)
        if not self.training or self.p == 0:
            self.keep(None, shape=x.shape)
            return read_only(x[...])  # else who writes to y would write to x
        mask = (self.rng.random(x.shape) >= self.p) / (1 - self.p)
        mask = to_device(mask.astype(x.dtype), like=x)
        self.keep(mask, shape=x.shape)
        return x * mask

    @arithmetic()
    def backward(self, dy: Array) -> Array:
        """Return dy·mask/(1 − p), with the mask of the forward."""
        _, (mask,) = self.kept(dy)
        array_module(dy=dy, mask=mask)
        return dy if mask is None else dy * mask
