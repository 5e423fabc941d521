"""The arrays of a notebook, kept as they were: an answer that writes into its input spoils no later cell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Inputs:
    """The arrays that a function can reach by its globals and its closure, or those of some names, and copies of them.

    Examples
    --------
    >>> x = np.array([1.0, 2.0])
    >>> def centred():
    ...     global x
    ...     return np.subtract(x, x.mean(), out=x)
    >>> kept = Inputs(centred)
    >>> _ = centred()
    >>> kept.restore(), x
    (['x'], array([1., 2.]))
    """

    def __init__(self, function: Callable[..., Any], only: Collection[str] | None = None) -> None:
        found = [(name, a) for name, a in _reachable(function) if only is None or name.partition("[")[0] in only]
        self._kept = {id(array): (name, array, array.copy()) for name, array in found}
        self.size = sum(array.size for _, array, _ in self._kept.values())

    def restore(self) -> list[str]:
        """Give every array that was changed its values back, and return the names of those."""
        changed = []
        for name, array, copy in self._kept.values():
            if not equal(array, copy):
                array[...] = copy
                changed.append(name)
        return changed


def _reachable(function: Callable[..., Any]) -> Iterator[tuple[str, Array]]:
    """Yield names and writable arrays: variables first, then what tuples, lists and dictionaries hold."""
    names: dict[str, Any] = dict(getattr(function, "__globals__", {}))
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    for name, cell in zip(code.co_freevars if code else (), cells or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not bound yet
            continue
    held = []
    for name, value in names.items():
        if name.startswith("_"):  # a notebook's own, such as the outputs of its cells
            continue
        if isinstance(value, np.ndarray):
            yield from _writable(name, value)
        elif type(value) in (tuple, list):
            held += [(f"{name}[{i}]", one) for i, one in enumerate(value)]
        elif isinstance(value, Mapping) and type(value) is dict:
            held += [(f"{name}[{key!r}]", one) for key, one in value.items()]
    for name, value in held:
        if isinstance(value, np.ndarray):
            yield from _writable(name, value)


def _writable(name: str, array: Array) -> Iterator[tuple[str, Array]]:
    if array.flags.writeable and array.dtype.kind in "fciub":
        yield name, array


def equal(a: Array, b: Array) -> bool:
    """Whether two arrays hold the same values; NaN is the same as NaN."""
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
