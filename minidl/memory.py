"""Where large arrays come from, and the memory format of images.

Images are (N, C, H, W) by index with the batch innermost in memory: the strides of a (C, H, W, N) buffer (the format
of cuda-convnet). NumPy's inner loops are then long and contiguous in every layer, and no layer mentions it: any other
strides give the same numbers, at the cost of one copy.

Fresh large arrays are mapped and zeroed by the kernel page by page, which can cost more than the arithmetic that fills
them. `empty` therefore hands an array's memory out again once nobody refers to it any more.
"""

from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.parallel import aligned

_SMALL = 1 << 15  # bytes; below this malloc is as fast
_SWEEP = 2048  # requests between two sweeps of memory that was not asked for

_pool: dict[int, list[np.ndarray]] = {}
_asked: set[int] = set()
_requests = 0
_FREE = 2  # references to the owner of memory that nobody uses: from the pool's view of it, and getrefcount's own


def empty(xp: ModuleType, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an uninitialised C-contiguous array, over recycled memory where there is some."""
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    if xp is not np or nbytes < _SMALL:
        return xp.empty(shape, dtype)
    global _requests
    _requests += 1
    if _requests % _SWEEP == 0:
        _sweep()
    _asked.add(nbytes)
    buffers = _pool.setdefault(nbytes, [])
    for buffer in buffers:
        if sys.getrefcount(buffer.base) == _FREE:  # every view of it refers to its owner
            array = np.ndarray(shape, dtype, buffer)
            if sys.getrefcount(buffer.base) == _FREE + 1:  # else another thread took it since
                return array
    buffer = aligned(nbytes)
    array = np.ndarray(shape, dtype, buffer)
    buffers.append(buffer)
    return array


def _sweep() -> None:
    """Let go of the sizes that nobody asked for since the last sweep."""
    for nbytes in list(_pool):  # at once, as other threads may add to it
        if nbytes not in _asked:
            _pool.pop(nbytes, None)
    _asked.clear()


def images(xp: ModuleType, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an uninitialised array of shape (N, C, ...) with the batch innermost in memory."""
    n, *rest = shape
    return batch_first(empty(xp, (*rest, n), dtype))


def batch_first(t: Array) -> Array:
    """View a (C, ..., N) array as (N, C, ...)."""
    return t.transpose(t.ndim - 1, *range(t.ndim - 1))


def batch_last(xp: ModuleType, x: Array, dtype: Any = None) -> Array:
    """Return x (N, C, ...) as a C-contiguous (C, ..., N) array: a view of the fast format, else a copy.

    >>> x = np.arange(6.0).reshape(2, 3)
    >>> batch_last(np, x).shape
    (3, 2)
    """
    t = x.transpose(*range(1, x.ndim), 0)
    if t.flags.c_contiguous and (dtype is None or t.dtype == dtype):
        return t
    copy = empty(xp, t.shape, dtype or t.dtype)
    copy[...] = t
    return copy
