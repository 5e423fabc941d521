"""How a wrong array follows the arrays that the learner's code was given.

`related` tries one array as a factor or a term; `parts` takes what is wrong apart into what follows each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.lesson.patterns import Array, same


def related(got: Any, want: Any, tol: float, arrays: Mapping[str, Any]) -> str:
    """Return a sentence that says how the difference follows an array of the notebook, or "".

    Examples
    --------
    >>> x = np.array([1.0, -2.0, 3.0, -5.0, 4.0, 2.0, -3.0, 6.0])
    >>> want = np.array([2.0, 7.0, 1.0, 8.0, 2.0, 8.0, 1.0, 8.0])
    >>> related(want * x, want, 1e-9, {"x": x})
    'Your values are the right ones times `x`.'
    >>> related(np.where(x < 0, 0.0, want), want, 1e-9, {"x": x})
    'Your values are wrong just where `x` is negative.'
    """
    got, want = np.asarray(got), np.asarray(want, float)
    if got.shape != want.shape or want.size < 4 or got.dtype.kind not in "fiub" or not np.isfinite(got).all():
        return ""
    wrong = np.abs(got - want) > tol
    some = want.size > 7 and wrong.any() and not wrong.all()
    with np.errstate(all="ignore"):
        for name, value in arrays.items():
            given = np.asarray(value, float)
            if some and given.shape == want.shape:
                for where, words in ((given < 0, "negative"), (given > 0, "positive"), (given == 0, "zero")):
                    if np.array_equal(wrong, where):
                        return f"Your values are wrong just where `{name}` is {words}."
            if not np.isfinite(given).all() or given.size < 2 or np.ptp(given) == 0:
                continue
            for shaped in _fitted(given, want.shape):
                for value, words in (
                    (want * shaped, f"the right ones times `{name}`"),
                    (want / shaped, f"the right ones divided by `{name}`"),
                    (want + shaped, f"the right ones plus `{name}`"),
                    (want - shaped, f"the right ones minus `{name}`"),
                    (shaped if shaped.shape == want.shape else want, f"those of `{name}`"),
                ):
                    if not same(want, value, tol) and np.isfinite(value).all() and same(got, value, tol):
                        return f"Your values are {words}."
    return ""


def _fitted(array: Array, shape: tuple[int, ...]) -> list[Array]:
    """Return an array in the shapes in which it meets one of that shape: as it is, per channel, per sample."""
    found = []
    if array.shape == shape or (array.ndim == 1 and shape[-1:] == array.shape):
        found.append(array)
    if array.ndim < len(shape) > 1:
        if array.shape == shape[: array.ndim]:
            found.append(array.reshape(*array.shape, *[1] * (len(shape) - array.ndim)))
        if array.ndim == 1 and array.shape == shape[1:2]:
            found.append(array.reshape(-1, *[1] * (len(shape) - 2)))
    return found
