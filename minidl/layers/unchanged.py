"""Noticing that an array which backward needs was written to since forward."""

from __future__ import annotations

import weakref
from functools import lru_cache
from typing import Any

import numpy as np

from minidl.backend import Array, is_on_host

_LOOKS = 256  # values that are looked at, about


class Unchanged:
    """What an array on the host held at some of its places, spread over all of it; `holds` looks whether it still does.

    Writing to the whole array is noticed, and to a part of it where one of those places lies in it. To hold a sum of
    all values would cost as much as a small layer. Arrays on a GPU are not looked at, which would wait for it.
    """

    __slots__ = ("_array", "_held")

    def __init__(self, array: Array) -> None:
        self._array: Any = None
        if is_on_host(array) and array.flags.writeable:
            self._array = weakref.ref(array)  # what nobody holds any more, nobody writes to
            self._held = array[_places(array.shape)].tobytes()

    def holds(self) -> bool:
        """Tell whether the array is as it was."""
        array = self._array and self._array()
        return array is None or array[_places(array.shape)].tobytes() == self._held

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        """Let a copy or a pickle look at nothing: its arrays are others."""
        return _nothing, ()


def _nothing() -> Unchanged:
    return Unchanged(np.broadcast_to(0.0, ()))


@lru_cache(1024)
def _places(shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Return an index of at most about `_LOOKS` values: the middle pixel of samples and channels in equal steps.

    >>> np.zeros((128, 64, 28, 28))[_places((128, 64, 28, 28))].shape
    (64, 4)
    """
    if 0 in shape:
        return (slice(0),) * min(1, len(shape))
    n, *rest = shape or (1,)
    c = rest[0] if rest else 1
    steps = slice(None, None, max(1, n // 64)), slice(None, None, max(1, c * min(n, 64) // _LOOKS))
    return (*steps[: len(shape)], *(size // 2 for size in shape[2:]))
