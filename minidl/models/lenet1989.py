"""The network of LeCun et al. 1989, which the paper cites for its multi-task experiments."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.arguments import generator
from minidl.layers.activation import Tanh
from minidl.layers.base import Layer
from minidl.layers.compose import Sequential
from minidl.layers.conv import Conv2d
from minidl.layers.flatten import Flatten
from minidl.layers.linear import Linear
from minidl.norm import NormFactory


class LeNet1989(Sequential):
    """The zip code network of 1989 for 32×32 images, with a norm after each convolution.

    conv 5×5, stride 2 (C→12) – norm – tanh – conv 5×5, stride 2 (12→12) – norm – tanh – fc 30 – tanh – fc.

    Parameters
    ----------
    num_classes : int
    in_channels : int
    norm : function (channels, rng) -> Layer, or None
        See `minidl.norm.norm_factory`.
    rng : numpy.random.Generator or a seed, optional
        Draws all initial values, in the order of the layers.
    dtype : dtype of the parameters

    Notes
    -----
    Shape: x (N, in_channels, 32, 32) -> logits (N, num_classes).

    Y. LeCun et al., "Backpropagation applied to handwritten zip code recognition", Neural Computation 1989: two layers
    of 12 maps that subsample by their stride, 30 hidden units, tanh. There the images are 16×16, a map of the second
    layer sees 8 of the 12 below it, and each unit has a bias of its own; here it sees all, and the norm has the bias.

    Examples
    --------
    >>> net = LeNet1989(40, rng=np.random.default_rng(0))
    >>> net(np.zeros((2, 3, 32, 32), np.float32)).shape
    (2, 40)
    """

    def __init__(
        self,
        num_classes: int = 40,
        in_channels: int = 3,
        norm: NormFactory | None = None,
        rng: np.random.Generator | int | None = None,
        dtype: Any = "float32",
    ) -> None:
        rng = generator(rng, type(self).__name__)
        settings: dict[str, Any] = {"stride": 2, "padding": 2, "bias": norm is None, "rng": rng, "dtype": dtype}
        layers: list[Layer] = []
        for c in (in_channels, 12):
            layers.append(Conv2d(c, 12, 5, needs_dx=bool(layers), **settings))
            if norm is not None:
                layers.append(norm(12, rng))
            layers.append(Tanh())
        layers += [Flatten(), Linear(12 * 8 * 8, 30, rng=rng, dtype=dtype), Tanh()]
        layers += [Linear(30, num_classes, rng=rng, dtype=dtype)]
        super().__init__(*layers)
