"""What two arrays of one shape show: a factor, a shift, a function, an order, a slice that is off, a lack of digits.

Each pattern takes what was given, what is right and the tolerance, and returns a sentence or "".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.lesson.places import Array, axis_name, moved, places, same, single, subsets
from minidl.lesson.values import unwritten

Pattern = Callable[[Array, Array, float], str]

NEARLY = 0.04  # of all values: what may be off beside a factor
PRECISE = 1e-3  # of the largest value: nearer than that, it is digits that are missing, not a term


def shown(got: Array, want: Array, tol: float) -> str:
    """Return the sentence of the first pattern that two arrays of one shape show, or ""."""
    dtype, got = got.dtype, got.astype(float)
    with np.errstate(all="ignore"):
        some = np.abs(want[want != 0])
        uneven = some.max() > 1e4 * np.median(some) if some.size else False
        hidden = np.abs(got).max(initial=0) > 1e6 * np.abs(want).max(initial=0)  # what is right would not show
        if said := _single(got, want, tol, dtype):
            return said
        for pattern in PATTERNS:
            if (hidden and pattern in (_moved, _by_slice, moved, _flat)) or (
                uneven and pattern in (scaled, _moved, _digits)
            ):
                continue
            if said := pattern(got, want, tol):
                return said
    return ""


def _not_finite(got: Array, want: Array, tol: float) -> str:
    bad = ~np.isfinite(got) & np.isfinite(want)
    if not bad.any():
        return ""
    if said := _unwritten(got):
        return said
    if np.isnan(got[bad]).any():
        return "There is NaN: 0 divided by 0, infinity minus infinity, or the root or logarithm of a negative number."
    return "There is infinity: a division by zero, or exp of a large number."


def _unwritten(got: Array) -> str:
    """Say how much of an array that was handed over empty is so still."""
    empty = unwritten(got)
    count = int(empty.sum())
    if count == got.size:
        return (
            "Not one value of it was written: the array is handed over full of NaN. `y = …` only gives the name to "
            "another array, `y[...] = …` writes into this one; and `+=` needs a value that is there before."
        )
    if not count:
        return ""
    first = ", ".join(str(int(i[0])) for i in np.nonzero(empty))
    verb = "was" if count == 1 else "were"
    return (
        f"{count} of its {got.size} values {verb} never written, the first at index {first}: "
        "look at where the loop begins and ends, at its step, and at whether `+=` meets a value that is there before."
    )


def _single(got: Array, want: Array, tol: float, dtype: Any) -> str:
    """Say that a result is as exact as its dtype, where the check wants more."""
    if dtype not in (np.float32, np.float16) or same(got, want, tol):
        return ""
    info, scale = np.finfo(dtype), np.abs(want).max(initial=0)
    if not np.abs(got - want).max(initial=0) <= 16 * info.eps * scale or tol > 0.01 * info.eps * scale:
        return ""
    return f"Your result is {dtype}, right to its {info.precision} digits: compute in float64 throughout."


def _digits(got: Array, want: Array, tol: float) -> str:
    """Say how many digits are right, where that is all that is wrong."""
    scale = np.abs(want).max(initial=0)
    error = np.abs(got - want).max(initial=0)
    if not 0 < error <= PRECISE * scale:
        return ""
    digits = int(-np.log10(error / scale))
    return (
        f"It is right to about {digits} digits, and the check asks for more. Often that is a small constant that the "
        "formula does not have or that stands elsewhere, a divisor of N − 1 for a large N, a difference of two large "
        "numbers, or float32 on the way."
    )


def _nothing(got: Array, want: Array, tol: float) -> str:
    if got.size > 1 and not got.any():
        return "It is zero everywhere: does the result ever get its values?"
    return ""


def scaled(got: Array, want: Array, tol: float) -> str:
    """Say the factor, and where it comes from, if it is one for all."""
    if same(got, -want, tol):
        return "The sign is turned."
    known = np.abs(want) > 1e-6 * np.abs(want).max(initial=0)
    if known.sum() < min(2, want.size):
        return ""
    factor = float(np.median(got[known] / want[known]))
    if not np.isfinite(factor) or factor == 0 or want.size < 2 or not same(got, factor * want, tol):
        return ""
    if abs(factor - 1) < PRECISE:  # its digits would say nothing
        return ""
    for n in (n for n in _counts(want.shape) if n > 2):
        for value, words in ((n / (n - 1), f"{n}/{n - 1}"), ((n - 1) / n, f"{n - 1}/{n}"), (1 / n, f"1/{n}")):
            if abs(factor - value) < 1e-9:
                return (
                    f"Each of your values is {words} of the right one: look at what is divided by {n}, or by {n - 1}."
                )
    turned = f", that is 1/{1 / factor:.6g}" if abs(factor) < 1 else ""
    square = max(factor**2, factor**-2)
    if factor > 0 and abs(square - round(square)) < 1e-9 * square and math.isqrt(round(square)) ** 2 != round(square):
        turned = f", that is {'1/' if factor < 1 else ''}√{round(square)}: is a root missing, or one too many?"
        return f"Each of your values is {factor:.6g} times the right one{turned}"
    return f"Each of your values is {factor:.6g} times the right one{turned}."


def _counts(shape: tuple[int, ...]) -> list[int]:
    """Return what sums over this shape may have divided by: the lengths of axes, and products of them."""
    return sorted({int(np.prod([shape[i] for i in over])) for over in subsets(len(shape))})


def _moved(got: Array, want: Array, tol: float) -> str:
    """Say the shift, or the line, if it is one for all."""
    if want.size < 3:
        return ""
    if same(got, 1 - want, tol):
        return "Each of your values is 1 minus the right one: is a comparison, or a share, turned round?"
    shift = float(np.median(got - want))
    scale = np.abs(want).max()
    if abs(shift) > 1e-9 * scale and np.abs(got - want - shift).max() <= max(1e-3 * abs(shift), 1e-14 * scale):
        return f"Each of your values is the right one {'plus' if shift > 0 else 'minus'} {abs(shift):.6g}."
    if want.size < 5 or np.abs(got - want).max() <= PRECISE * scale:
        return ""
    a, b = np.polyfit(want.ravel(), got.ravel(), 1) if np.ptp(want) > 0 and np.isfinite(got).all() else (0.0, 0.0)
    if abs(a) > 1e-9 and same(got, a * want + b, tol):
        return f"Your values are {a:.6g} times the right ones, {'plus' if b > 0 else 'minus'} {abs(b):.6g}."
    return ""


def function(got: Array, want: Array, tol: float) -> str:
    """Say which function turns right into wrong."""
    functions: list[tuple[Array, str]] = [
        (want**2, "Your values are the squares of the right ones: is a root missing?"),
        (np.sqrt(want), "Your values are the roots of the right ones: is a root too many, or a square missing?"),
        (want**3, "Your values are the cubes of the right ones: is a cube root missing?"),
        (np.cbrt(want), "Your values are the cube roots of the right ones: is a root too many?"),
        (1 / want, "Your values are one over the right ones: is it divided where it should be multiplied?"),
        (1 / want**2, "Your values are one over the squares of the right ones."),
        (np.abs(want), "Your values are the magnitudes of the right ones: the sign is lost."),
        (np.exp(want), "Your values are exp of the right ones: is a logarithm missing?"),
        (np.log(want), "Your values are the logarithms of the right ones: is an exp missing?"),
        (np.maximum(want, 0), "Your values are the right ones with the negative ones set to zero."),
        (want + 1, "Each of your values is the right one plus 1."),
        (np.sign(want), "Your values are the signs of the right ones: the size is lost."),
        (-np.log(want), "Your values are the logarithms of the right ones, with the sign turned."),
        (np.round(want), "Your values are the right ones, rounded to whole numbers: was an array of integers filled?"),
        (np.trunc(want), "Your values are the right ones, cut to whole numbers: was an array of integers filled?"),
    ]
    if want.size < 2:
        return ""
    return next((said for value, said in functions if np.isfinite(value).all() and same(got, value, tol)), "")


def _by_slice(got: Array, want: Array, tol: float) -> str:
    """Say along which axis one factor or one term for each slice is wrong."""
    if want.ndim < 2:
        return ""
    error = got - want
    for axis in range(want.ndim):
        others = tuple(i for i in range(want.ndim) if i != axis)
        if all(want.shape[i] == 1 for i in others) or want.shape[axis] == want.size:
            continue
        if not np.ptp(want, axis=others).any():  # nothing else can be
            continue
        middle = error.mean(axis=others, keepdims=True)
        if same(error, middle, tol):
            return (
                f"What is wrong is one number for each index of {axis_name(axis, want.ndim)}: a term that is "
                "constant over the other axes (a mean, a bias) is missing, doubled, or taken over other axes."
            )
        square = (want * want).sum(axis=others, keepdims=True)
        factor = (got * want).sum(axis=others, keepdims=True) / square
        if (square > 0).all() and same(got, factor * want, tol):
            return (
                f"Each index of {axis_name(axis, want.ndim)} has a wrong factor of its own: a factor that is "
                "constant over the other axes (a weight, a standard deviation) is missing, doubled, or another's."
            )
    for kept in [two for two in subsets(want.ndim) if len(two) == 2 < want.ndim]:
        others = tuple(i for i in range(want.ndim) if i not in kept)
        if np.prod([want.shape[i] for i in others]) < 3 or not np.ptp(want, axis=others).any():
            continue
        each = (
            "each sample and channel"
            if want.ndim == 4 and kept == (0, 1)
            else f"each index of axes {kept[0]} and {kept[1]}"
        )
        if same(error, error.mean(axis=others, keepdims=True), tol):
            return f"What is wrong is one number for {each}: a term that is constant over the rest."
        square = (want * want).sum(axis=others, keepdims=True)
        factor = (got * want).sum(axis=others, keepdims=True) / square
        if (square > 0).all() and same(got, factor * want, tol):
            return f"There is a wrong factor for {each}, constant over the rest."
    for axis in range(want.ndim):
        varies = want.shape[axis] > 1 and want.ndim < 5 and np.ptp(want, axis=axis).any()
        if varies and same(error, error.mean(axis=axis, keepdims=True), tol):
            return (
                f"What is wrong does not vary along {axis_name(axis, want.ndim)}: look at what is computed once "
                "for all of that axis, such as a sum or a mean over it."
            )
    return ""


def _flat(got: Array, want: Array, tol: float) -> str:
    """Say along which axis the answer does not vary, though it should."""
    for axis in range(want.ndim):
        if want.shape[axis] > 1 and not np.ptp(got, axis=axis).any() and np.ptp(want, axis=axis).any():
            return (
                f"Your values do not vary along axis {axis}, and they should: was something summed or broadcast there?"
            )
    return ""


def _along(got: Array, right: Array) -> str:
    """Say up to where, or from where on, a row of values is right."""
    last = int(np.nonzero(right)[0][-1])
    if not right[: last + 1].all():
        first = int(np.argmax(right))
        if first < 2 or not right[first:].all():
            return ""
        return (
            f"Only the first {first} of the {len(right)} values are wrong: what do they get that the others do not, or "
            "lack? Look at what is left over, or at where a loop begins."
        )
    zero = " they are 0, as if never reached" if not got[last + 1 :].any() else " they are wrong"
    return f"The values are right up to index {last}; from {last + 1} on{zero}: look at where the loop ends." * (
        last < len(right) - 2
    )


def _nearly_scaled(got: Array, want: Array) -> str:
    """Say the factor where it is one for nearly all that is wrong, and something small is off besides."""
    square = float((want * want).sum())
    if want.size < 4 or not square or not np.isfinite(got).all() or np.ptp(want) <= NEARLY * np.abs(want).max():
        return ""
    factor = float((got * want).sum()) / square
    rest = float(np.linalg.norm(got - factor * want))
    if abs(factor - 1) < 5 * NEARLY or not rest < NEARLY * abs(factor) * square**0.5:
        return ""
    return (
        f"Your values are nearly {factor:.2g} times the right ones: a factor is lost or doubled, and something small "
        "is off besides, such as a step, an approximation or a small constant."
    )


def _part(got: Array, want: Array, tol: float) -> str:
    """Say which elements are right, or how large the missing part is."""
    right = np.abs(got - want) <= tol
    if want.size > 3 and right.sum() >= max(2, want.size // 8) and not right.all():
        for where, words in ((want > 0, "positive"), (want < 0, "negative")):
            if where.any() and not where.all() and np.array_equal(right, ~where):
                return f"Only the values that should be {words} are wrong."
        if want.ndim == 1 and (said := _along(got, right)):
            return said
        for axis in range(want.ndim):
            wrong = np.unique(np.nonzero(~right)[axis])
            if want.ndim > 2 and want.shape[axis] > 2 and set(wrong) <= {0, want.shape[axis] - 1}:
                return f"Only the border of axis {axis} is wrong: look at padding, or at where a loop begins and ends."
        for axis in range(want.ndim):
            wrong, last = np.unique(np.nonzero(~right)[axis]), want.shape[axis] - 1
            if last > 1 and len(wrong) == 1 and wrong[0] in (0, last):
                end = "first" if wrong[0] == 0 else "last"
                return f"Only the {end} index of axis {axis} is wrong: look at where a loop, a slice or a sum ends."
        if said := single(right):
            return said
        return f"Of the {want.size} values, {int(right.sum())} are right: what sets the others apart?"
    norm = np.linalg.norm(got) * np.linalg.norm(want)
    alike = float((got * want).sum() / norm) if norm > 0 else 0.0
    if said := _nearly_scaled(got, want):
        return said
    one_sign = (want >= 0).all() or (want <= 0).all()  # then any values of that sign are alike
    if want.size > 3 and alike > (0.9 if one_sign else 0.5):
        off = float(np.linalg.norm(got - want) / np.linalg.norm(want))
        return (
            f"Most of it is there (cosine {alike:.3f}; the difference is {100 * off:.3g} % of the whole): look for a "
            "term that is missing or too many, or for a factor that varies."
        )
    if want.size > 3 and alike < -0.5:
        return f"It points the other way (cosine {alike:.3f}): look for a sign, then for a missing term."
    return ""


PATTERNS: tuple[Pattern, ...] = (
    *(_not_finite, _nothing, scaled, _moved, _digits, function),
    *(places, moved, _by_slice, _flat, _part),
)
