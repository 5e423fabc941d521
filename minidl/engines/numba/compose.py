"""The sum of a branch and its shortcut, compiled."""

from __future__ import annotations

from minidl.backend import Array
from minidl.engine import NUMBA, NUMPY
from minidl.engines.numba.activation import each_value
from minidl.engines.numba.jobs import shared
from minidl.layers import compose


@NUMBA.twin(compose.add)
def add(one: Array, other: Array) -> Array:
    """y = one + other."""
    if one.ndim != 4 or one.dtype != other.dtype or one.dtype.char not in "fd":
        return NUMPY(compose.add)(one, other)
    return each_value(_add, one, other)


# -- compiled: (channels, pixels and samples) --------------------------------------------------------------------------


@shared
def _add(a, b, y, start, stop, thread):
    for c in range(len(a)):
        one, other, out = a[c, start:stop], b[c, start:stop], y[c, start:stop]
        for i in range(len(out)):
            out[i] = one[i] + other[i]
