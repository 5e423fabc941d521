"""What the pattern of a wrong answer says, in a sentence: a factor, a shift, an axis, a lost root, a lack of digits.

`hint(got, want, tol)` looks only at the two arrays. It names what they show and leaves the reason to the learner: of
a lost factor it says the factor, of a missing term how the term varies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.lesson.patterns import function, scaled, shown
from minidl.lesson.places import Array, same, subsets

DIGITS = "It is right to about"
WHERE = (
    *("What is wrong", "There is a wrong factor", "Your values are nearly"),
    *("Each index of", "Only index", "Every second index", "Only the"),
)
# the beginnings of sentences that say where to look, and may be followed by one that says more
FEW = 4  # numbers, at most, that are answers to as many questions rather than an array
GENERAL = ("Most of it is there", "It points the other way", "It has ", "Of the ", DIGITS)
# the beginnings of sentences that describe, and name nothing


def hint(got: Any, want: Any, tol: float) -> str:
    """Return a sentence about the difference, or "" where no pattern shows.

    Parameters
    ----------
    got, want : array
        Real numbers.
    tol : float
        What two values may differ by and count as equal.

    Examples
    --------
    >>> hint(np.array([2.0, 6.0, -8.0]), np.array([1.0, 3.0, -4.0]), 1e-9)
    'Each of your values is 2 times the right one.'
    >>> hint(np.array([1.0, 9.0, 16.0]), np.array([1.0, 3.0, 4.0]), 1e-9)
    'Your values are the squares of the right ones: is a root missing?'
    """
    got, want = np.asarray(got), np.asarray(want, float)
    if got.dtype.kind not in "fiub":
        return ""
    if got.shape != want.shape:
        return _shape(got.astype(float), want, tol)
    return shown(got, want, tol)


def _shape(got: Array, want: Array, tol: float) -> str:
    """Say what an answer of another shape is: a sum that is missing, or one too many."""
    if got.size == want.size and same(got.ravel(), want.ravel(), tol):
        if [n for n in got.shape if n > 1] == [n for n in want.shape if n > 1]:
            return "The values are right; the shape differs by axes of length 1: look at keepdims, reshape or None."
        return f"The values are right, in another shape: reshape them to {want.shape}."
    if got.ndim == want.ndim and got.shape[::-1] == want.shape and same(got.T, want, tol):
        return "It is the transpose of what is right."
    if got.ndim == want.ndim <= 5 and got.size == want.size:
        for order in itertools.permutations(range(got.ndim)):
            if tuple(got.shape[i] for i in order) == want.shape and same(got.transpose(order), want, tol):
                return "The values are right, and the axes in another order: look at transpose, or at moveaxis."
    for operation in (np.sum, np.mean):
        for over in subsets(got.ndim):
            reduced = operation(got, axis=over)
            kept = operation(got, axis=over, keepdims=True)
            if any(r.shape == want.shape and same(r, want, tol) for r in (reduced, kept)):
                listed = ", ".join(map(str, over))
                return (
                    f"It becomes right when its {operation.__name__} is taken over axis {listed}: that step is missing."
                )
    if said := _reduced(got, want, tol) or _lengths(got.shape, want.shape) or _cut(got, want, tol):
        return said
    lost = [over for over in subsets(want.ndim) if np.delete(want.shape, over).tolist() == [*got.shape]]
    if len(lost) == 1 and got.ndim:
        which = ", ".join(map(str, lost[0]))
        return f"Axis {which} of {want.shape} is gone: it was summed, averaged or indexed away where it should stay."
    if got.ndim == 0:
        return (
            f"It is one number, and {want.shape} are wanted: does `return` leave a part out, or is an axis missing "
            "where it is added up?"
        )
    if got.size == want.size:
        return f"It has as many values as it should, in the shape {got.shape} instead of {want.shape}."
    if got.size < want.size:
        return f"It has {got.size} values, not {want.size}: was an axis summed, or lost, that should be there?"
    return f"It has {got.size} values, not {want.size}: which axis should be summed, or did two arrays broadcast?"


def _cut(got: Array, want: Array, tol: float) -> str:
    """Say that what is right is a part of an answer, or an answer a part of what is right."""
    if got.ndim != want.ndim or not 0 < got.ndim < 6 or min(got.size, want.size) < 4:
        return ""
    large, small, words = (got, want, "has too much: cut") if got.size > want.size else (want, got, "lacks")
    rest = [a - b for a, b in zip(large.shape, small.shape, strict=True)]
    if min(rest) < 0 or np.ptp(small) == 0:
        return ""
    for begins in itertools.product(*({0: None, n // 2: None, n: None} for n in rest)):
        part = tuple(slice(begin, begin + n) for begin, n in zip(begins, small.shape, strict=True))
        if same(large[part], small, tol):
            off = [
                f"{begin} at the beginning and {n - begin} at the end of axis {axis}"
                for axis, (begin, n) in enumerate(zip(begins, rest, strict=True))
                if n
            ]
            return f"The values are right, and it {words} {', '.join(off)}."
    return ""


def _reduced(got: Array, want: Array, tol: float) -> str:
    """Say that an answer is a sum, a mean or a largest value of what is right."""
    if got.size >= want.size or want.size > 10**6 or np.count_nonzero(want) < 3:
        return ""
    for operation in (np.sum, np.mean, np.max, np.min):
        for over in subsets(want.ndim):
            if got.shape in ((found := operation(want, axis=over)).shape,) and same(got, found, tol):
                listed = ", ".join(map(str, over))
                return f"It is the {operation.__name__} of what is right over axis {listed}: a step too many."
    return ""


def _lengths(got: tuple[int, ...], want: tuple[int, ...]) -> str:
    """Say which axes are one too short or too long, or in which order they should stand."""
    off = {i: a - b for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b}
    if len(got) != len(want) or not off:
        return ""
    if len(want) == 1 and got[0] < want[0] <= FEW:
        some = "1 number" if got[0] == 1 else f"{got[0]} numbers"
        return f"You give {some}, and {want[0]} are wanted: does `return` leave one out?"
    listed = " and ".join(map(str, off))
    axes = f"axis {listed} is" if len(off) == 1 else f"axes {listed} are"
    for step, words in ((-1, "short"), (1, "long")):
        if set(off.values()) == {step}:
            return (
                f"The {axes} one too {words}: look at how a length is counted, or where a loop or a slice ends "
                "(n − k + 1 windows of length k fit into n)."
            )
    if sorted(got) == sorted(want) and len(set(want)) == len(want):
        order = ", ".join(str(got.index(size)) for size in want)
        return f"The axes have the right lengths, in another order: yours should stand in the order {order}."
    if len(off) > 1 and sorted(got) == sorted(want):
        return f"The axes have the right lengths, in another order: {axes} not where they should be."
    return ""


def alone(got: Mapping[str, Any], want: Mapping[str, Any], tol: float) -> str:
    """Return what several single numbers say together, or one by a plain factor, or "".

    Examples
    --------
    >>> alone({"a": 9.0, "b": 25.0}, {"a": 3.0, "b": 5.0}, 1e-9)
    'Your values are the squares of the right ones: is a root missing?'
    >>> alone({"a": 9.0}, {"a": 18.0}, 1e-9)
    'Your number is 1/2 of the right one.'
    """
    pairs = [(np.asarray(got[key]), np.asarray(want[key], float)) for key in want if key in got]
    if len(pairs) != len(want) or any(a.size != 1 or b.size != 1 or a.dtype.kind not in "fiu" for a, b in pairs):
        return ""
    a, b = (np.array([float(pair[side].item()) for pair in pairs]) for side in (0, 1))
    if not (np.isfinite(a).all() and np.isfinite(b).all() and a.all() and b.all()):
        return ""
    with np.errstate(all="ignore"):
        if len(a) > 1:
            if said := scaled(a, b, 0.0) or (function(a, b, 0.0) if np.ptp(b) > 0 else ""):
                return said
            shift = a - b
            if len(a) > 2 and np.ptp(shift) <= 1e-12 * np.abs(b).max() and np.abs(shift).min() > tol:
                return (
                    f"Each of your values is the right one {'plus' if shift[0] > 0 else 'minus'} {abs(shift[0]):.6g}."
                )
            return ""
        close = max(1e-9, tol / abs(b[0]))
        for words, factor in PLAIN_FACTORS.items():
            if abs(a[0] / b[0] / factor - 1) < close < 1e-6:
                return f"Your number is {words} the right one."
        for words, value in _of_a_number(b[0]).items() if b[0] != np.round(b[0]) else ():
            if abs(a[0] / value - 1) < close < 1e-6:
                return f"Your number is {words}"
    return ""


def _of_a_number(right: float) -> dict[str, float]:
    """Return what a slip makes of a number; of a whole one it may be chance."""
    roots = {"the root of the right one: is a root too many?": math.sqrt(right)} if right > 0 else {}
    return roots | {
        "the right one with the sign turned.": -right,
        "the square of the right one: is a root missing?": right**2,
        "one over the right one: is it divided where it should be multiplied?": 1 / right,
        "1 minus the right one.": 1 - right,
    }


PLAIN_FACTORS = {f"{n} times": float(n) for n in (2, 3, 4, 8, 10, 100, 1000, 1024, 10**6, 10**9)}
PLAIN_FACTORS |= {f"1/{round(n)} of": 1 / n for n in list(PLAIN_FACTORS.values())}
