"""How a wrong array follows the arrays that the learner's code was given.

`related` tries one array as a factor or a term; `parts` takes what is wrong apart into what follows each of them;
`sums` looks at totals that what is right always has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.lesson.places import Array, same, subsets


def related(got: Any, want: Any, tol: float, arrays: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> str:
    """Return a sentence that says how the difference follows an array of the notebook, or of the answer, or "".

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
    if got.shape != want.shape or want.size < 3 or got.dtype.kind not in "fiub" or not np.isfinite(got).all():
        return ""
    wrong = np.abs(got - want) > tol
    some = want.size > 7 and wrong.any() and not wrong.all()
    with np.errstate(all="ignore"):
        for name, value in [*arrays.items(), *(own or {}).items()]:
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
                    (want * shaped**2, f"the right ones times the square of `{name}`"),
                    (want / shaped**2, f"the right ones divided by the square of `{name}`"),
                    (want + shaped, f"the right ones plus `{name}`"),
                    (want - shaped, f"the right ones minus `{name}`"),
                    (shaped if shaped.shape == want.shape and name in arrays else want, f"those of `{name}`"),
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


FEWEST = 3  # values of a slice beyond its unknowns, so that a fit is no accident
STRANGE = 1e15  # times the right values: no slip in a formula makes that
MOST = 3  # arrays that a difference is taken apart into


def parts(got: Any, want: Any, tol: float, arrays: Mapping[str, Any]) -> str:
    """Return a sentence that takes an answer apart into what follows each array and a constant, or "".

    In each slice, say a channel, the right values are a sum of the arrays with a factor each, and of a constant: so it
    is of the gradient of a norm, in which dy, x and a constant add up. The factors are found by least squares, of what
    was given and of what is right. An array is taken less its mean over the slice.

    Parameters
    ----------
    got, want : array
        Real numbers, of one shape.
    tol : float
        What two values may differ by and count as equal.
    arrays : dict
        What the terms may follow, by name; those of another shape are passed over.

    Examples
    --------
    >>> dy, x = np.random.default_rng(0).normal(size=(2, 8, 3))
    >>> want = 2 * dy + 3 * (x - x.mean(axis=0)) + 1
    >>> parts(want + 3 * (x - x.mean(axis=0)), want, 1e-9, {"dy": dy, "x": x})
    'Taken apart channel by channel, what follows `x` is 2 times as large as it should be; all the rest is right.'
    >>> parts(2 * dy + 1, want, 1e-9, {"dy": dy, "x": x})
    'Taken apart channel by channel, what follows `x` is missing; all the rest is right.'
    """
    got, want = np.asarray(got), np.asarray(want, float)
    if got.shape != want.shape or got.dtype.kind not in "fiu" or not np.isfinite(got).all() or want.ndim < 2:
        return ""
    known = {name: np.asarray(value, float) for name, value in arrays.items() if np.shape(value) == want.shape}
    known = {name: value for name, value in known.items() if np.isfinite(value).all() and np.ptp(value) > 0}
    error = got - want
    for kept in [(), *((i,) for i in range(want.ndim)), (0, 1)] if known else []:
        if len(kept) < want.ndim and (said := _taken_apart(error, want, tol, known, kept)):
            return said
    return ""


def _taken_apart(error: Array, want: Array, tol: float, known: Mapping[str, Array], kept: tuple[int, ...]) -> str:
    """Say which terms are off in the slices that have one index of each kept axis, where all slices fit."""
    wrong, right = _slices(error, kept), _slices(want, kept)
    columns: dict[str, Array] = {}
    for name, array in known.items():
        if len(columns) < MOST and (rest := _beyond(_slices(array, kept), [*columns.values()])) is not None:
            columns[name] = rest
    if not columns or wrong.shape[1] < len(columns) + 1 + FEWEST:
        return ""
    basis = np.stack([*columns.values(), np.full(wrong.shape, wrong.shape[1] ** -0.5)], axis=2)
    e, w = (np.linalg.pinv(basis) @ a[:, :, None] for a in (wrong, right))
    if not same((basis @ e)[:, :, 0], wrong, tol):
        return ""
    names = [*(f"what follows `{name}`" for name in columns), "what is constant"]
    off = np.abs(e[:, :, 0]).max(axis=0) > 1e-7 * np.abs(wrong).max()
    if off.all() or not off[:-1].any():
        return ""  # all of it, or a constant alone, which has a sentence of its own
    places = {(): "into terms", (0,): "for each index of axis 0 into terms", (0, 1): "for each sample and channel"}
    if want.ndim > 2 or kept == (1,):
        places |= {(0,): "sample by sample", (1,): "channel by channel"}
    where = places.get(kept, f"for each index of axis {', '.join(map(str, kept))}")
    if not same((basis @ w)[:, :, 0], right, tol):
        return f"Taken apart {where}, what is wrong is {' and '.join(np.array(names)[off])}: look at that term."
    told = [f"{name} {_factor(e[:, i, 0], w[:, i, 0])}" for i, name in enumerate(names) if off[i]]
    return f"Taken apart {where}, {' and '.join(told)}; all the rest is right."


def _slices(array: Array, kept: tuple[int, ...]) -> Array:
    """Return an array as one row for each index of the kept axes."""
    moved = np.moveaxis(array, kept, range(len(kept)))
    return moved.reshape(int(np.prod(moved.shape[: len(kept)])), -1)


def _beyond(array: Array, columns: list[Array]) -> Array | None:
    """Return an array less its mean, of length 1 in each slice; None if it follows from those that are there."""
    centred: Array = array - array.mean(axis=1, keepdims=True)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    if (size <= 1e-9 * np.abs(array).max()).any():
        return None
    centred /= size
    if columns:
        others = np.stack(columns, axis=2)
        rest = centred - (others @ (np.linalg.pinv(others) @ centred[:, :, None]))[:, :, 0]
        if np.linalg.norm(rest, axis=1).min() < 1e-3:
            return None
    return centred


def _factor(error: Array, want: Array) -> str:
    """Say what is wrong with the factor of a term, for what each slice has too much and should have."""
    scale = np.abs(want).max()
    if scale == 0 or scale <= 1e-9 * np.abs(error).max():
        return "is there and should not be"
    if np.abs(want + error).max() <= 1e-7 * scale:
        return "is missing"
    sure = np.abs(want) > 1e-3 * scale
    ratios = 1 + error[sure] / want[sure]
    factor = float(np.median(ratios))
    if np.ptp(ratios) > 1e-6 * abs(factor):
        return "has a wrong factor, another one in each slice" if len(want) > 1 else "has a wrong factor"
    if abs(factor + 1) < 1e-6:
        return "has the wrong sign"
    return f"is {factor:.6g} times as large as it should be"


def sums(got: Any, want: Any, tol: float) -> str:
    """Return a sentence about sums that are the same everywhere in what is right, as those of a softmax, or "".

    Examples
    --------
    >>> sums(np.array([[0.2, 0.9], [0.3, 0.4]]), np.array([[0.2, 0.8], [0.3, 0.7]]), 1e-9)
    'What is right adds up to 1 along axis 1; yours adds up to 0.7 to 1.1.'
    """
    got, want = np.asarray(got), np.asarray(want, float)
    if got.shape != want.shape or got.dtype.kind not in "fiu" or not np.isfinite(got).all():
        return ""
    scale = max(float(np.abs(want).max(initial=0)), tol)
    if np.abs(got).max(initial=0) > STRANGE * scale:
        return ""  # the total would say no more than that
    for over in subsets(want.ndim):
        count = int(np.prod([want.shape[i] for i in over]))
        right, given = want.sum(axis=over), got.sum(axis=over)
        if count < 2 or right.size < 2 or np.ptp(right) > 1e-9 * scale * count:
            continue
        total = float(right.mean())
        if abs(total - round(total)) > 1e-9 * scale * count or round(total) not in (0, 1):
            continue
        if np.abs(given - total).max() > max(tol, 1e-6 * scale) * count:
            axes = f"axis {over[0]}" if len(over) == 1 else f"axes {', '.join(map(str, over))}"
            span = f"{given.min():.3g} to {given.max():.3g}" if np.ptp(given) > 1e-6 * scale else f"{given.mean():.3g}"
            return f"What is right adds up to {round(total)} along {axes}; yours adds up to {span}."
    return ""


def size(got: Any, want: Any, arrays: Mapping[str, Any]) -> str:
    """Return a sentence about values of no sensible size, or about where a row has its wrong length from, or "".

    Examples
    --------
    >>> size(np.zeros(3), np.zeros(12), {"g": np.zeros((70, 3))})
    'You give one value for each index of axis 1 of `g`.'
    """
    got, want = np.asarray(got), np.asarray(want)
    if got.shape == want.shape and got.dtype.kind in "fiu" and want.size > 1:
        with np.errstate(all="ignore"):
            if np.isfinite(got).all() and np.abs(got).max() > STRANGE * np.abs(want).max():
                return (
                    f"Your values are of no sensible size, up to {np.abs(got).max():.2g}: were bytes read from another "
                    "place or as another type, or is something divided by a number that is nearly 0?"
                )
    if got.ndim == want.ndim == 1 and got.size != want.size:
        for name, array in arrays.items():
            if list(np.shape(array)).count(got.size) == 1 and np.ndim(array) > 1:
                return f"You give one value for each index of axis {np.shape(array).index(got.size)} of `{name}`."
    return ""
