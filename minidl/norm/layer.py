"""Layer normalization (Ba et al. 2016), as the Mode Normalization paper uses it on images."""

from __future__ import annotations

from typing import Any

from minidl.norm.group import GroupNorm


class LayerNorm(GroupNorm):
    """Layer normalization: y = weight·(x − mu_n)/sqrt(var_n + eps) + bias, mean and variance over C, H, W of a sample.

    It is GroupNorm with one group; backward is group normalization's. Training and inference are the same.

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
    Shape: x (N, C), (N, C, L) or (N, C, H, W) -> y of the same shape and dtype.

    There is one weight and one bias per channel. PyTorch's LayerNorm has one of each per value of its
    normalized_shape (C, H, W) instead; on (N, C) inputs the two agree.

    Examples
    --------
    >>> import numpy as np
    >>> np.round(LayerNorm(2)(np.array([[1.0, 3.0]])), 4)
    array([[-1.,  1.]])
    """

    _features = "num_features"

    def __init__(self, num_features: int, eps: float = 1e-5, dtype: Any = "float32") -> None:
        super().__init__(1, num_features, eps, dtype)
