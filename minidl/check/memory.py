"""Put an array into memory the way a case asks for; the values stay the same."""

from __future__ import annotations

import numpy as np

from minidl.check.case import Array


def arranged(array: Array, memory: str) -> Array:
    """Return the array in Fortran order, strided, batch innermost, as an NHWC view, broadcast, or read-only."""
    if array.ndim < 2:
        return array.copy()
    if memory == "fortran":
        return np.array(array, order="F")
    if memory == "strided":
        room = np.full(tuple(2 * n + 1 for n in array.shape), 77.0, array.dtype)
        room[tuple(slice(1, None, 2) for _ in array.shape)] = array
        return room[tuple(slice(1, None, 2) for _ in array.shape)]
    if memory == "batch-innermost":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0)
    if memory == "nhwc-view":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
    if memory == "broadcast-dy" and array.ndim > 2:
        corner = array[(slice(None), slice(None), *(slice(1),) * (array.ndim - 2))]
        if np.array_equal(np.broadcast_to(corner, array.shape), array):
            return np.broadcast_to(corner.copy(), array.shape)
    copy = array.copy()
    copy.flags.writeable = memory not in ("read-only", "broadcast-dy")
    return copy
