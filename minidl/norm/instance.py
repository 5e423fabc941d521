"""Instance normalization (Ulyanov et al. 2017)."""

from __future__ import annotations

from typing import Any

from minidl.norm.group import GroupNorm


class InstanceNorm(GroupNorm):
    """Instance normalization: y = weight·(x − mu_nc)/sqrt(var_nc + eps) + bias, over H, W of each channel of a sample.

    It is GroupNorm with one channel per group; backward is group normalization's. Training and inference are the same.

    Parameters
    ----------
    num_features : int, the number C of channels
    eps : float
    dtype : dtype of the parameters

    Attributes
    ----------
    params : weight (C,), bias (C,)

    Raises
    ------
    ValueError
        If an argument is out of range or x has another shape.

    Notes
    -----
    Shape: x (N, C), (N, C, L) or (N, C, H, W) -> y of the same shape and dtype; with (N, C), a single value
    for each channel, y = bias.

    It has weight and bias and keeps no running statistics. PyTorch's InstanceNorm has no affine parameters by default
    (affine=False) and raises where a channel has a single value.

    Examples
    --------
    >>> import numpy as np
    >>> np.round(InstanceNorm(1)(np.array([[[1.0, 3.0]]])), 4)
    array([[[-1.,  1.]]])
    """

    _features = "num_features"

    def __init__(self, num_features: int, eps: float = 1e-5, dtype: Any = "float32") -> None:
        super().__init__(num_features, num_features, eps, dtype)
