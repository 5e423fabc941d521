"""Rounding noise: arrays whose every operation errs by up to one unit roundoff, which is how a tolerance is found.

A sum errs by one unit of the sum of its terms' magnitudes, any other operation by one unit of its result.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.check.case import Array
from minidl.check.values import signs

EXACT = {np.negative, np.absolute, np.maximum, np.minimum, np.conjugate, np.positive}


def noisy_class(unit: float, key: str) -> type[Array]:
    """Return an array class whose arithmetic carries noise of relative size ``unit``, drawn from ``key``."""
    calls = iter(range(1 << 62))

    def noise(shape: tuple[int, ...]) -> Array:
        return unit * signs(f"{key} {next(calls)}", *shape)

    class Noisy(np.ndarray[Any, Any]):
        def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
            plain = [np.asarray(value) if isinstance(value, np.ndarray) else value for value in inputs]
            result = np.asarray(getattr(ufunc, method)(*plain, **kwargs))
            if result.dtype.kind != "f" or ufunc in EXACT:
                return result if result.dtype.kind != "f" else result.view(Noisy)
            size = np.add.reduce(np.abs(plain[0]), **kwargs) if method == "reduce" else np.abs(result)
            return np.asarray(result + noise(result.shape) * size).view(Noisy)

    return Noisy


def shaken(array: Array, unit: float, key: str, tiny: float) -> Array:
    """The array with each element moved by up to one unit of input rounding, in longdouble."""
    wide = array.astype(np.longdouble)
    return np.asarray(wide + np.maximum(np.abs(wide) * unit, tiny) * signs(key, *array.shape))
