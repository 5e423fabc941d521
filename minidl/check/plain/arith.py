"""The few operations the plain layers need, for float16 up to 50 digits.

The same source runs on float32 (as a user's layer would), on longdouble, on complex numbers (for the complex step) and
on object arrays of mpmath numbers (for the expected values).  mpmath is imported only when such an array arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _elementwise(name: str, ufunc: Callable[[Array], Array], x: Array) -> Array:
    if x.dtype != object:
        return ufunc(x)
    import mpmath

    return np.asarray(np.frompyfunc(getattr(mpmath, name), 1, 1)(x), dtype=object)


def sqrt(x: Array) -> Array:
    """Square root."""
    return _elementwise("sqrt", np.sqrt, x)


def exp(x: Array) -> Array:
    """Exponential."""
    return _elementwise("exp", np.exp, x)


def log(x: Array) -> Array:
    """Natural logarithm."""
    return _elementwise("log", np.log, x)


def real(x: Array) -> Array:
    """The real part, by which complex numbers are compared."""
    if x.dtype == object:
        return np.asarray(np.frompyfunc(lambda v: v.real, 1, 1)(x), dtype=object)
    return x.real if np.iscomplexobj(x) else x


def clamp(x: Array) -> Array:
    """max(x, 0), by the real part."""
    return np.where(real(x) < 0, 0 * x, x)


def total(x: Array, axes: int | Sequence[int]) -> Array:
    """Sum over axes, kept as axes of length 1."""
    summed: Array = x.sum(axis=axes if isinstance(axes, int) else tuple(axes), keepdims=True)
    return summed


def mean(x: Array, axes: int | Sequence[int]) -> Array:
    """Mean over axes, kept as axes of length 1."""
    summed = total(x, axes)
    return summed / (x.size // summed.size)


def largest(x: Array, axis: int) -> Array:
    """Largest real part along an axis, kept: what a softmax subtracts."""
    top: Array = real(x).max(axis=axis, keepdims=True)
    return top


def log_softmax(z: Array, axis: int) -> Array:
    """log(softmax(z)), finite for any finite z."""
    shifted = z - largest(z, axis)
    return shifted - log(total(exp(shifted), axis))


def softmax(z: Array, axis: int) -> Array:
    """softmax(z), no overflow for any finite z."""
    e = exp(z - largest(z, axis))
    return e / total(e, axis)


def work(x: Array) -> Array:
    """x in the precision statistics are computed in: formats of 16 bits are lifted to float32, the others stay."""
    x = np.asanyarray(x)
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def give(y: Array, like: Array) -> Array:
    """y in the dtype of the caller's array."""
    return y.astype(like.dtype) if like.dtype.itemsize == 2 else y


def whole(x: Any) -> Any:
    """x as an array, where it is a number."""
    return x if hasattr(x, "parents") else np.asanyarray(x)


def detach(x: Any) -> Any:
    """x as a constant to its derivatives: it changes nothing but gradients that are derived from the forward pass."""
    return x.value if hasattr(x, "parents") else x
