"""What the larger networks are built of: a convolution in He's initialisation, and its norm behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import init
from minidl.layers.base import Layer
from minidl.layers.conv import Conv2d
from minidl.norm import NormFactory


@dataclass(frozen=True)
class Parts:
    """Makes convolutions, each with its norm, in the order in which the generator draws their values.

    Parameters
    ----------
    norm : function (channels, rng) -> Layer, or None
        See `minidl.norm.norm_factory`. With None the convolutions have biases, which a norm has otherwise.
    rng : numpy.random.Generator
    dtype : dtype of the parameters
    """

    norm: NormFactory | None
    rng: np.random.Generator
    dtype: Any

    def conv(self, c: int, o: int, kernel: int, stride: int = 1, padding: int = 0, needs_dx: bool = True) -> Conv2d:
        """Return a convolution from c to o channels, its weight He-normal, its bias (if any) zero."""
        conv = Conv2d(c, o, kernel, stride, padding, self.norm is None, needs_dx, np.random.default_rng(0), self.dtype)
        conv.add_param("weight", init.he_normal((o, c, kernel, kernel), self.rng, self.dtype))
        if self.norm is None:
            conv.add_param("bias", np.zeros(o, self.dtype))
        return conv

    def conv_norm(
        self, c: int, o: int, kernel: int, stride: int = 1, padding: int = 0, needs_dx: bool = True
    ) -> list[Layer]:
        """Return such a convolution and the norm behind it."""
        conv = self.conv(c, o, kernel, stride, padding, needs_dx)
        return [conv] if self.norm is None else [conv, self.norm(o, self.rng)]


def first_alone(first: NormFactory | None, others: NormFactory | None) -> NormFactory | None:
    """Return a factory whose first norm is made by `first` and all others by `others`: for one network.

    The paper's authors call it ``--mn init`` in the code they released.

    Raises
    ------
    ValueError
        If one of the two is None: a network has norms behind all its convolutions, or behind none.

    Examples
    --------
    >>> from minidl.norm import norm_factory
    >>> make = first_alone(norm_factory("mn"), norm_factory("bn"))
    >>> [type(make(4, np.random.default_rng(0))).__name__ for _ in range(3)]
    ['ModeNorm', 'BatchNorm', 'BatchNorm']
    """
    if first is None or others is None:
        raise ValueError("first_alone: both factories must make norms, got None; use the norm 'none' for all of them")
    made = 0

    def make(channels: int, rng: np.random.Generator) -> Layer:
        nonlocal made
        made += 1
        return first(channels, rng) if made == 1 else others(channels, rng)

    return make
