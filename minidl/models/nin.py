"""Network in Network (Lin et al. 2014)."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.arguments import generator
from minidl.layers.activation import ReLU
from minidl.layers.base import Layer
from minidl.layers.compose import Sequential
from minidl.layers.dropout import Dropout
from minidl.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from minidl.models.parts import Parts
from minidl.norm import NormFactory


class NIN(Sequential):
    """Network in Network for 32×32 images, with a norm after each convolution and dropout 0.25.

    conv 5×5 (192) – 1×1 (160) – 1×1 (96) – max pool – dropout – conv 5×5 (192) – 1×1 (192) – 1×1 (192) – average pool –
    dropout – conv 3×3 (192) – 1×1 (192) – 1×1 (classes) – mean over the image. Norm and ReLU follow each convolution;
    pools take 3×3 windows in steps of 2.

    Parameters
    ----------
    num_classes : int
    in_channels : int
    norm : function (channels, rng) -> Layer, or None
        See `minidl.norm.norm_factory`.
    rng : numpy.random.Generator or a seed, optional
        Draws all initial values, in the order of the layers, then the masks of dropout.
    dtype : dtype of the parameters
    width : int, a multiple of 6
        The channels of most layers; the 160 and 96 keep their ratio to it.
    dropout : float
        The probability of zeroing.

    Raises
    ------
    ValueError
        If width is no multiple of 6.

    Notes
    -----
    Shape: x (N, in_channels, H, W) -> logits (N, num_classes); H and W at least 4, and 32 in the paper.

    Layers and widths are those that Lin et al. published for CIFAR-10; they have dropout 0.5 and no norms, the paper of
    Mode Normalization has 0.25. Convolutions begin He-normal (ours: Lin et al. draw from a normal with std 0.05).
    Max pooling and ReLU commute, so pooling goes first, as in `LeNet`.

    Examples
    --------
    >>> from minidl.norm import norm_factory
    >>> net = NIN(10, norm=norm_factory("bn"), rng=np.random.default_rng(0), width=6)
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
        width: int = 192,
        dropout: float = 0.25,
    ) -> None:
        if width < 6 or width % 6:
            raise ValueError(f"NIN: width must be a multiple of 6, got {width}; the paper's is 192")
        rng = generator(rng, type(self).__name__)
        parts = Parts(norm, rng, dtype)

        def mlpconv(c: int, kernel: int, *widths: int) -> list[Layer]:
            """Return a convolution and two of 1×1, the last without its ReLU."""
            layers: list[Layer] = []
            for o in widths:
                layers += parts.conv_norm(c, o, kernel, padding=kernel // 2)
                layers.append(ReLU())
                c, kernel = o, 1
            return layers[:-1]

        narrow, half = 5 * width // 6, width // 2
        first = mlpconv(in_channels, 5, width, narrow, half)
        first[0].needs_dx = False
        second = mlpconv(half, 5, width, width, width)
        third = mlpconv(width, 3, width, width, num_classes)
        super().__init__(
            *(*first, MaxPool2d(3, 2, 1), ReLU(), Dropout(dropout, rng)),
            *(*second, ReLU(), AvgPool2d(3, 2, 1), Dropout(dropout, rng)),
            *(*third, ReLU(), GlobalAvgPool2d()),
        )
