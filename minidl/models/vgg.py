"""VGG13 (Simonyan & Zisserman 2015) for images of 32×32."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.arguments import generator
from minidl.layers.activation import ReLU
from minidl.layers.base import Layer
from minidl.layers.compose import Sequential
from minidl.layers.flatten import Flatten
from minidl.layers.linear import Linear
from minidl.layers.pool import MaxPool2d
from minidl.models.parts import Parts
from minidl.norm import NormFactory


class VGG13(Sequential):
    """Configuration B with a norm after each convolution and one linear layer, for 32×32 images.

    Five times: two convolutions 3×3 of 64, 128, 256, 512, 512 channels, each with norm and ReLU, and a max pool by 2;
    then a linear layer from the 512 values left. conv3-64-1 of the paper is layer "0", conv3-256-1 is layer "14".

    Parameters
    ----------
    num_classes : int
    in_channels : int
    norm : function (channels, rng) -> Layer, or None
        See `minidl.norm.norm_factory`.
    rng : numpy.random.Generator or a seed, optional
        Draws all initial values, in the order of the layers.
    dtype : dtype of the parameters
    width : int
        The channels of the first two convolutions; the others keep their ratio to it.

    Notes
    -----
    Shape: x (N, in_channels, 32, 32) -> logits (N, num_classes).

    Convolutions begin He-normal (He et al. 2015), the linear layer as in PyTorch. Pooling and ReLU commute, so pooling
    goes first, as in `LeNet`.

    Examples
    --------
    >>> from minidl.norm import norm_factory
    >>> net = VGG13(10, norm=norm_factory("bn"), rng=np.random.default_rng(0), width=2)
    >>> net(np.zeros((2, 3, 32, 32), np.float32)).shape
    (2, 10)
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        norm: NormFactory | None = None,
        rng: np.random.Generator | int | None = None,
        dtype: Any = "float32",
        width: int = 64,
    ) -> None:
        rng = generator(rng, type(self).__name__)
        parts = Parts(norm, rng, dtype)
        layers: list[Layer] = []
        c = in_channels
        for o in (width, 2 * width, 4 * width, 8 * width, 8 * width):
            layers += [*parts.conv_norm(c, o, 3, padding=1, needs_dx=bool(layers)), ReLU()]
            layers += [*parts.conv_norm(o, o, 3, padding=1), MaxPool2d(2), ReLU()]
            c = o
        super().__init__(*layers, Flatten(), Linear(c, num_classes, rng=rng, dtype=dtype))
