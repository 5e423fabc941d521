"""What every function here does first: choose the precision, lay x out as (N, C, P), look at the shapes."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def common_precision(*arrays: ArrayLike) -> list[Array]:
    """Convert to one dtype, float64 or wider, that holds every argument.

    float64, longdouble, complex128 and clongdouble stay as they are, so that extended precision and
    the complex step run through every function; float32, float16 and integers become float64.

    >>> [a.dtype.name for a in common_precision(np.float32([1, 2]), [3, 4])]
    ['float64', 'float64']
    >>> [a.dtype.name for a in common_precision([1.0], [1j])]
    ['complex128', 'complex128']
    """
    converted = [np.asarray(a) for a in arrays]
    dtype = np.result_type(np.float64, *converted)
    return [a.astype(dtype) for a in converted]


def pixels(where: str, x: Array) -> Array:
    """Lay x out as (N, C, P): P = 1 for (N, C), P = L for (N, C, L), P = H·W for (N, C, H, W).

    >>> pixels("batch_norm", np.zeros((3, 4, 5, 7))).shape
    (3, 4, 35)
    """
    if x.ndim not in (2, 3, 4) or x.size == 0:
        raise ValueError(
            f"{where}: x must be a non-empty (N, C), (N, C, L) or (N, C, H, W), got shape {x.shape}; reshape x"
        )
    return x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))


def check_shapes(where: str, **arrays: tuple[Array, tuple[int, ...]]) -> None:
    """Raise a ValueError that names the first array whose shape is not the expected one.

    >>> check_shapes("batch_norm", weight=(np.ones(3), (4,)))
    Traceback (most recent call last):
    ValueError: batch_norm: weight must be of shape (4,), got (3,); reshape weight
    """
    for name, (array, shape) in arrays.items():
        if array.shape != shape:
            raise ValueError(f"{where}: {name} must be of shape {shape}, got {array.shape}; reshape {name}")
