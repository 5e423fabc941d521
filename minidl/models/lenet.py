"""LeNet (LeCun et al. 1989), as the paper's multi-task experiments use it."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.arguments import generator
from minidl.layers.activation import ReLU
from minidl.layers.base import Layer
from minidl.layers.compose import Sequential
from minidl.layers.conv import Conv2d
from minidl.layers.flatten import Flatten
from minidl.layers.linear import Linear
from minidl.layers.pool import MaxPool2d
from minidl.norm import NormFactory


class LeNet(Sequential):
    """LeNet for 32×32 images with a norm after each convolution.

    conv 5×5 (C→6) – norm – pool 2 – ReLU – conv 5×5 (6→16) – norm – pool 2 – ReLU – fc 120 – ReLU – fc 84 – ReLU – fc.

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

    Pooling and ReLU commute, max(relu(x)) = relu(max(x)) with the same gradient, so pooling goes first and ReLU works
    on a quarter of the values. A convolution has no bias where a norm follows it: the norm has one. Where exactly the
    paper puts its norms in LeNet it does not say; after each convolution is ours.

    Examples
    --------
    >>> from minidl.norm import norm_factory
    >>> net = LeNet(40, norm=norm_factory("mn", modes=2), rng=np.random.default_rng(0))
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
        layers: list[Layer] = []
        for c, o in ((in_channels, 6), (6, 16)):
            layers.append(Conv2d(c, o, 5, bias=norm is None, needs_dx=bool(layers), rng=rng, dtype=dtype))
            if norm is not None:
                layers.append(norm(o, rng))
            layers += [MaxPool2d(2), ReLU()]
        layers += [Flatten(), Linear(400, 120, rng=rng, dtype=dtype), ReLU()]
        layers += [Linear(120, 84, rng=rng, dtype=dtype), ReLU(), Linear(84, num_classes, rng=rng, dtype=dtype)]
        super().__init__(*layers)
