"""Residual networks (He et al. 2016): ResNet20 and ResNet56 for CIFAR, ResNet18 for ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl.arguments import generator
from minidl.layers.activation import ReLU
from minidl.layers.base import Layer
from minidl.layers.compose import Residual, Sequential
from minidl.layers.linear import Linear
from minidl.layers.pool import GlobalAvgPool2d, MaxPool2d
from minidl.layers.shortcut import ZeroPaddedShortcut
from minidl.models.parts import Parts
from minidl.norm import NormFactory


def basic_block(parts: Parts, c: int, o: int, stride: int, projected: bool) -> list[Layer]:
    """Return y = relu(branch(x) + shortcut(x)), branch: conv 3×3 – norm – ReLU – conv 3×3 – norm.

    Where the shape changes, the shortcut is a convolution 1×1 and its norm if `projected`, else it keeps every
    stride-th pixel and pads with zero channels; elsewhere it is the identity.
    """
    branch = Sequential(
        *(*parts.conv_norm(c, o, 3, stride, 1), ReLU()),
        *parts.conv_norm(o, o, 3, 1, 1),
    )
    shortcut: Layer | None = None
    if stride > 1 or c != o:
        shortcut = Sequential(*parts.conv_norm(c, o, 1, stride)) if projected else ZeroPaddedShortcut(o, stride)
    return [Residual(branch, shortcut), ReLU()]


def stages(parts: Parts, width: int, blocks: Sequence[int], projected: bool) -> list[Layer]:
    """Return the blocks of all stages; each stage has twice the channels and half the image of the one before."""
    layers: list[Layer] = []
    c = width
    for stage, count in enumerate(blocks):
        for block in range(count):
            o = width << stage
            layers += basic_block(parts, c, o, 2 if stage and block == 0 else 1, projected)
            c = o
    return layers


class ResNetCIFAR(Sequential):
    """A residual network for 32×32 images: 6n + 2 layers with weights, in three stages of n blocks.

    conv 3×3 (16) – norm – ReLU – n blocks of 16 channels – n of 32 – n of 64 – mean over the image – linear. The first
    block of the second and third stage has stride 2. Shortcuts are identities, padded with channels of zeros where the
    shape changes, so that they have no parameters.

    Parameters
    ----------
    depth : int
        6n + 2: 20, 32, 44, 56 or 110 in He et al.
    num_classes : int
    in_channels : int
    norm : function (channels, rng) -> Layer, or None
        See `minidl.norm.norm_factory`.
    rng : numpy.random.Generator or a seed, optional
        Draws all initial values, in the order of the layers.
    dtype : dtype of the parameters
    width : int
        The channels of the first stage.

    Raises
    ------
    ValueError
        If depth is not 6n + 2.

    Notes
    -----
    Shape: x (N, in_channels, H, W) -> logits (N, num_classes); 32×32 in the paper.

    Convolutions begin He-normal, the linear layer as in PyTorch.

    Examples
    --------
    >>> from minidl.norm import norm_factory
    >>> ResNetCIFAR(20, norm=norm_factory("bn")).num_params()
    269722
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        norm: NormFactory | None = None,
        rng: np.random.Generator | int | None = None,
        dtype: Any = "float32",
        width: int = 16,
    ) -> None:
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"ResNetCIFAR: depth must be 6n + 2, got {depth}; the paper's are 20 and 56")
        rng = generator(rng, type(self).__name__)
        parts = Parts(norm, rng, dtype)
        self.blocks = (depth // 6,) * 3
        layers = [*parts.conv_norm(in_channels, width, 3, padding=1, needs_dx=False), ReLU()]
        body = stages(parts, width, self.blocks, projected=False)
        channels = width << (len(self.blocks) - 1)
        super().__init__(*layers, *body, GlobalAvgPool2d(), Linear(channels, num_classes, rng=rng, dtype=dtype))


class ResNet20(ResNetCIFAR):
    """The `ResNetCIFAR` of 20 layers: 269 722 parameters with BN and ten classes.

    Parameters
    ----------
    num_classes : int
        Of the logits.
    **arguments : dict
        Those of `ResNetCIFAR`.

    Returns
    -------
    ResNetCIFAR
        With 3 blocks in each stage.

    Examples
    --------
    >>> from minidl import norm_factory
    >>> ResNet20(10, norm=norm_factory("bn"), rng=np.random.default_rng(0)).num_params()
    269722
    """

    def __init__(self, num_classes: int = 10, **arguments: Any) -> None:
        super().__init__(20, num_classes, **arguments)


class ResNet56(ResNetCIFAR):
    """The `ResNetCIFAR` of 56 layers: 853 018 parameters with BN and ten classes.

    Parameters
    ----------
    num_classes : int
        Of the logits.
    **arguments : dict
        Those of `ResNetCIFAR`.

    Returns
    -------
    ResNetCIFAR
        With 9 blocks in each stage.

    Examples
    --------
    >>> from minidl import norm_factory
    >>> ResNet56(10, norm=norm_factory("bn"), rng=np.random.default_rng(0)).num_params()
    853018
    """

    def __init__(self, num_classes: int = 10, **arguments: Any) -> None:
        super().__init__(56, num_classes, **arguments)


class ResNet18(Sequential):
    """The residual network of 18 layers for ImageNet: 11 689 512 parameters with BN and 1000 classes.

    conv 7×7, stride 2 (64) – norm – max pool 3×3, stride 2 – ReLU – two blocks of 64 channels – two of 128 – two of
    256 – two of 512 – mean over the image – linear. The first block of each later stage has stride 2, and its shortcut
    a convolution 1×1 with a norm (option B of He et al.).

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
        The channels of the first stage.

    Notes
    -----
    Shape: x (N, in_channels, H, W) -> logits (N, num_classes); 224×224 in the paper, 32×32 at least in training.

    Convolutions begin He-normal, the linear layer as in PyTorch. Pooling and ReLU commute, so pooling goes first.

    Examples
    --------
    >>> from minidl.norm import norm_factory
    >>> net = ResNet18(5, norm=norm_factory("bn"), rng=np.random.default_rng(0), width=4)
    >>> net(np.zeros((2, 3, 64, 64), np.float32)).shape
    (2, 5)
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        norm: NormFactory | None = None,
        rng: np.random.Generator | int | None = None,
        dtype: Any = "float32",
        width: int = 64,
    ) -> None:
        rng = generator(rng, type(self).__name__)
        parts = Parts(norm, rng, dtype)
        self.blocks = (2, 2, 2, 2)
        stem = parts.conv_norm(in_channels, width, 7, stride=2, padding=3, needs_dx=False)
        layers: list[Layer] = [*stem, MaxPool2d(3, 2, 1), ReLU()]
        body = stages(parts, width, self.blocks, projected=True)
        channels = width << (len(self.blocks) - 1)
        super().__init__(*layers, *body, GlobalAvgPool2d(), Linear(channels, num_classes, rng=rng, dtype=dtype))
