"""What stands in the wrong place in an array: axes swapped, indices moved or in another order, one index for all.

Each function takes what was given, what is right and the tolerance, and returns a sentence or "".
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SHOWN = 8  # indices of an axis whose order is told
MOST = 64  # indices of an axis that are compared with each other
KINDS = 3  # different values, with which a match is no accident
MANY = 7  # indices of which every second one is no accident


def same(a: Array, b: Any, tol: float) -> bool:
    """Whether two arrays agree to the tolerance, or to rounding in what leads there."""
    scale = max(float(np.abs(b).max(initial=0)), float(np.abs(a).max(initial=0)))
    return bool(np.all(np.abs(a - b) <= max(tol, 1e-9 * scale)))


def subsets(ndim: int) -> list[tuple[int, ...]]:
    """Return every non-empty choice of axes, the smallest first."""
    if ndim > 5:
        return []
    found = [tuple(i for i in range(ndim) if bits >> i & 1) for bits in range(1, 1 << ndim)]
    return sorted(found, key=len)


def axis_name(axis: int, ndim: int) -> str:
    """Return what an axis is called, in (N, C, H, W) with what it counts."""
    return f"axis {axis}" + ({0: " (samples)", 1: " (channels)"}.get(axis, "") if ndim == 4 else "")


def places(got: Array, want: Array, tol: float) -> str:
    """Say which axes are swapped or turned, or how the indices of one are moved, if the values are right."""
    if want.size < 3 or np.ptp(want) == 0:
        return ""
    if not same(np.sort(got, axis=None), np.sort(want, axis=None), tol):
        return ""
    for i in range(want.ndim):
        if same(np.flip(got, i), want, tol):
            return f"The values are right; they run backwards along axis {i}."
        for j in range(i):
            if got.shape[i] == got.shape[j] and same(np.swapaxes(got, i, j), want, tol):
                return f"The values are right; axes {j} and {i} are swapped."
    for axis in range(want.ndim):
        order = _order(got, want, axis, tol)
        count = len(order)
        step = order[0] if order else 0
        if step and order == [(i + step) % count for i in range(count)]:
            return f"The values are right; along axis {axis} they are turned round by {min(step, count - step)}."
        if order and want.ndim > 1:
            listed = f", {', '.join(map(str, order))}" if count <= SHOWN else ""
            return f"The values are right; the indices of axis {axis} stand in another order{listed}."
    return "The right values stand in the wrong places: an order of axes, a reshape or an index is turned."


def _order(got: Array, want: Array, axis: int, tol: float) -> list[int]:
    """Return which index of an axis each one has the values of, or [] where that is no order."""
    count = want.shape[axis]
    if not 2 < count <= MOST:
        return []
    given, right = (np.moveaxis(a, axis, 0).reshape(count, -1) for a in (got, want))
    found = [[j for j in range(count) if same(row, right[j], tol)] for row in given]
    order = [one[0] for one in found if len(one) == 1]
    return order if sorted(order) == [*range(count)] and order != sorted(order) else []


def moved(got: Array, want: Array, tol: float) -> str:
    """Say along which axis each index has what belongs to its neighbour, or to one for all, or to all before it."""
    if len(np.unique(want)) <= KINDS:  # verdicts: an answer that says the same to all is no index for all
        return ""
    for axis in range(want.ndim):
        count = want.shape[axis]
        if count < 3 or not np.ptp(want, axis=axis).any():
            continue
        a, b = np.moveaxis(got, axis, 0), np.moveaxis(want, axis, 0)
        where = axis_name(axis, want.ndim)
        for k in range(min(count, MOST)):
            if same(a, np.broadcast_to(b[k], b.shape), tol):
                return f"Every index of {where} has what belongs to index {k}: is that index written where a loop's is?"
        if count * b[0].size < 4:
            continue
        if same(a, np.cumsum(b, axis=0), tol):
            return f"Your values are running totals of the right ones along {where}: is a sum to begin anew there?"
        if same(np.cumsum(a, axis=0), b, tol):
            return f"The right values are running totals of yours along {where}: is something to be added up there?"
        if same(b[1:], b[:-1], tol):
            continue
        if count > 3 and same(a[1:], b[:-1], tol):
            return f"Along {where} each index has what belongs to the one before it: an index is one too small."
        if count > 3 and same(a[:-1], b[1:], tol):
            return f"Along {where} each index has what belongs to the next one: an index is one too large."
    return ""


def single(right: Array) -> str:
    """Say which one index of an axis, or every which, is right or wrong, for booleans that say what is right."""
    for axis in range(right.ndim):
        count = right.shape[axis]
        others = tuple(i for i in range(right.ndim) if i != axis)
        where = axis_name(axis, right.ndim)
        good, bad = np.asarray(right.all(axis=others)), ~np.asarray(right.any(axis=others))
        wrong = ~good
        if count > 2 and good.sum() == 1 and right.ndim > 1:
            return (
                f"Only index {int(np.argmax(good))} of {where} is right: does what belongs to it stand in for all, "
                "or ends a loop too soon?"
            )
        if count > 2 and wrong.sum() == 1 and 0 < np.argmax(wrong) < count - 1:
            return f"Only index {int(np.argmax(wrong))} of {where} is wrong."
        for first in (0, 1) if count >= MANY else ():
            every = np.arange(count) % 2 == first
            if np.array_equal(wrong, every) and bad[every].all():
                return f"Every second index of {where} is wrong, from {first} on."
    return ""
