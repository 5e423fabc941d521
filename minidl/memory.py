"""Where large arrays come from, and the memory format of images.

Images are (N, C, H, W) by index with the batch innermost in memory: the strides of a (C, H, W, N) buffer (the format
of cuda-convnet). NumPy's inner loops are then long and contiguous in every layer, and no layer mentions it: any other
strides give the same numbers, at the cost of one copy.

Fresh large arrays are mapped and zeroed by the kernel page by page, which can cost more than the arithmetic that fills
them. `empty` therefore hands an array's memory out again once nobody refers to it any more. What is kept for that is
bounded: with the memory in use it takes at most `_FLOOR` bytes, or twice what was in use at once.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.parallel import RELEASE_ON_MEMORY_ERROR, UNUSED, aligned

_SMALL = 1 << 15  # bytes; below this malloc is as fast
_SWEEP = 2048  # requests between two sweeps of memory that was not asked for

_pool: dict[int, list[np.ndarray]] = {}
_asked: set[int] = set()
_requests = 0
_held = 0  # bytes of all memory in the pool, in use or not
_peak = 0  # bytes in use at once, of late
_FLOOR = 1 << 26
_LONG = 512  # bytes, see `pixels`


def empty(xp: ModuleType, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an uninitialised C-contiguous array, over recycled memory where there is some.

    Raises
    ------
    TypeError
        If the dtype holds Python objects, which are no plain values.
    """
    return ALLOCATORS.get(xp, xp.empty)(shape, dtype)


def recycled(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return `empty` for NumPy."""
    dtype = np.dtype(dtype)
    if dtype.hasobject:
        raise TypeError(f"memory.empty: dtype must be one of plain values, got {dtype}; use x.astype('float32')")
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < _SMALL:
        return np.empty(shape, dtype)
    global _requests, _held
    _requests += 1
    if _requests % _SWEEP == 0:
        _sweep()
    _asked.add(nbytes)
    buffers = _pool.setdefault(nbytes, [])
    for buffer in buffers:
        if sys.getrefcount(buffer.base) == UNUSED:  # every view of it refers to its owner
            array: np.ndarray = np.ndarray(shape, dtype, buffer)
            if sys.getrefcount(buffer.base) == UNUSED + 1:  # else another thread took it since
                return array
    if _held + nbytes > _FLOOR:
        _bound(nbytes)
    buffer = aligned(nbytes)
    array = np.ndarray(shape, dtype, buffer)
    buffers.append(buffer)
    _held += nbytes
    return array


ALLOCATORS: dict[ModuleType, Callable[[tuple[int, ...], Any], Array]] = {np: recycled}  # else the library's own


def _sweep() -> None:
    """Release the sizes that nobody asked for since the last sweep."""
    global _held
    for nbytes in list(_pool):  # at once, as other threads may add to it
        if nbytes not in _asked:
            _pool.pop(nbytes, None)
    _asked.clear()
    _held = sum(nbytes * len(buffers) for nbytes, buffers in list(_pool.items()))


def _bound(wanted: int) -> None:
    """Release memory that nobody uses until `wanted` bytes more are within the bound, old sizes first."""
    global _held, _peak
    used = {nbytes: sum(map(_in_use, list(buffers))) for nbytes, buffers in list(_pool.items())}
    in_use = wanted + sum(nbytes * count for nbytes, count in used.items())
    _peak = max(in_use, _peak - _peak // 8)
    _held = sum(nbytes * len(buffers) for nbytes, buffers in list(_pool.items()))
    bound = max(_FLOOR, 2 * _peak)
    if _held + wanted > bound:
        for nbytes in sorted(used, key=lambda nbytes: nbytes in _asked):
            if _held + wanted <= bound - bound // 4:  # some room, so that the next request need not look again
                break
            _held -= nbytes * _let_go(nbytes)


def release() -> None:
    """Release all memory that nobody uses."""
    global _held, _peak
    for nbytes in list(_pool):
        _let_go(nbytes)
    _peak = 0
    _held = sum(nbytes * len(buffers) for nbytes, buffers in list(_pool.items()))


def _let_go(nbytes: int) -> int:
    """Drop the memory of one size that nobody uses; return how many pieces there were."""
    buffers = _pool.get(nbytes, [])
    before = len(buffers)
    buffers[:] = [buffer for buffer in buffers if _in_use(buffer)]
    return before - len(buffers)


def _in_use(buffer: np.ndarray) -> bool:
    return sys.getrefcount(buffer.base) > UNUSED


RELEASE_ON_MEMORY_ERROR.append(release)


_BATCH_FIRST = {2: (1, 0), 3: (2, 0, 1), 4: (3, 0, 1, 2)}  # orders of axes that every layer asks for
_BATCH_LAST = {2: (1, 0), 3: (1, 2, 0), 4: (1, 2, 3, 0)}


def images(xp: ModuleType, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an uninitialised array of shape (N, C, ...) with the batch innermost in memory."""
    return batch_first(empty(xp, (*shape[1:], shape[0]), dtype))


def batch_first(t: Array) -> Array:
    """View a (C, ..., N) array as (N, C, ...)."""
    return t.transpose(_BATCH_FIRST.get(t.ndim) or (t.ndim - 1, *range(t.ndim - 1)))


def pixels(t: np.ndarray) -> np.ndarray:
    """View (..., N) as (..., 1), each item the N values that lie side by side; where N is large, return t itself.

    NumPy copies such items in one long loop, where copying the values takes a short loop for each N of them. Where
    those loops are long, it copies values as fast, and lets other threads run meanwhile.

    >>> pixels(np.zeros((2, 3, 4), np.float32)).shape
    (2, 3, 1)
    """
    nbytes = t.shape[-1] * t.itemsize
    return t.view(f"V{nbytes}") if nbytes < _LONG else t


def batch_last(xp: ModuleType, x: Array, dtype: Any = None) -> Array:
    """Return x (N, C, ...) as a C-contiguous (C, ..., N) array: a view of the fast format, else a copy.

    >>> x = np.arange(6.0).reshape(2, 3)
    >>> batch_last(np, x).shape
    (3, 2)
    """
    t = x.transpose(_BATCH_LAST.get(x.ndim) or (*range(1, x.ndim), 0))
    if t.flags.c_contiguous and (dtype is None or t.dtype == dtype):
        return t
    copy = empty(xp, t.shape, dtype or t.dtype)
    copy[...] = t
    return copy
