"""The term that a wrong answer lacks, or has too much: a product of two arrays that the answer knows, or of one.

What is wrong, got minus want, is compared with products. The sentence names the arrays; the term is for the learner.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.lesson.places import Array, same

MOST = 16  # arrays whose products are tried
FEWEST = 5  # values that a product explains beyond those that it is free to, so that it is no accident


def missing(got: Any, want: Any, tol: float, arrays: Mapping[str, Any]) -> str:
    """Return a sentence that names the arrays whose product the difference follows, or "".

    Parameters
    ----------
    got, want : array
        Real numbers, of one shape.
    tol : float
        What two values may differ by and count as equal.
    arrays : dict
        What a term may be made of, by name.

    Examples
    --------
    >>> a, b, want = np.random.default_rng(0).normal(size=(3, 4, 5))
    >>> missing(want - 2 * a * b, want, 1e-9, {"a": a, "b": b})
    'What is wrong follows `a` times `b`: that term is missing, too many, or has a wrong factor or sign.'
    """
    got, want = np.asarray(got), np.asarray(want, float)
    if got.shape != want.shape or got.dtype.kind not in "fiu" or not np.isfinite(got).all() or want.size < FEWEST:
        return ""
    error = got - want
    known = {name: np.asarray(value, float) for name, value in arrays.items()}
    known = {n: a for n, a in known.items() if a.size > 1 and np.isfinite(a).all() and np.ptp(a) > 0}
    known = dict(itertools.islice(known.items(), MOST))
    return _product(error, want, got, tol, known) or _matrix_product(error, want, got, tol, known)


def _product(error: Array, want: Array, got: Array, tol: float, known: Mapping[str, Array]) -> str:
    """Say of which two arrays the difference is the product, index by index, but for one factor."""
    for (a, left), (b, right) in itertools.combinations_with_replacement(known.items(), 2):
        if not _broadcasts(left, right, error.shape):
            continue
        value = np.broadcast_to(left * right, error.shape)
        if np.ptp(value) == 0 or _along(want, value, tol) or _along(got, value, tol):
            continue  # where all is one product, a factor is what is wrong, and said elsewhere
        if _along(error, value, tol):
            words = f"the square of `{a}`" if a == b else f"`{a}` times `{b}`"
            return f"What is wrong follows {words}: that term is missing, too many, or has a wrong factor or sign."
    return ""


def _broadcasts(left: Array, right: Array, shape: tuple[int, ...]) -> bool:
    """Whether the product of two arrays broadcasts to a shape, each axis longer than 1 coming from one of them."""
    try:
        return np.broadcast_shapes(left.shape, right.shape) == shape
    except ValueError:
        return False


def _along(array: Array, value: Array, tol: float) -> bool:
    """Whether an array is a multiple of another one."""
    factor = float((array * value).sum() / (value * value).sum())
    return abs(factor) > 0 and same(array, factor * value, tol)


def _matrix_product(error: Array, want: Array, got: Array, tol: float, known: Mapping[str, Array]) -> str:
    """Say of which one array the difference is a matrix product, `a @ …` or `… @ a`, where the rest is none of it."""
    if error.ndim != 2:
        return ""
    found: dict[str, tuple[str, int]] = {}
    for name, array in known.items():
        if array.ndim != 2:
            continue
        for factor, sides, words in (
            (array, (error, want, got), f"`{name} @ …`"),
            (array.T, (error, want, got), f"`{name}.T @ …`"),
            (array, (error.T, want.T, got.T), f"`… @ {name}.T`"),
            (array.T, (error.T, want.T, got.T), f"`… @ {name}`"),
        ):
            wrong, *whole = sides
            if len(factor) != len(wrong) or (len(wrong) - factor.shape[1]) * wrong.shape[1] < FEWEST:
                continue
            if _spans(factor, wrong, tol) and not any(_spans(factor, one, tol) for one in whole):
                found.setdefault(words, (name, factor.shape[1]))
    fewest = min((width for _, width in found.values()), default=0)
    best = [words for words, (_, width) in found.items() if width == fewest]
    if len(best) != 1:
        return ""  # none, or several that would do as well
    return f"What is wrong is a product {best[0]}: that term is missing, too many, or not right; the rest is."


def _spans(factor: Array, array: Array, tol: float) -> bool:
    """Whether an array is a matrix product of this left factor and of something."""
    rest = array - factor @ (np.linalg.pinv(factor) @ array)
    return bool(np.abs(rest).max() <= max(tol, 1e-9 * float(np.abs(array).max())))
