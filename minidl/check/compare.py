"""Compare one tensor with what was expected, and say how it differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass
class TensorResult:
    """How one tensor compares: ``worst`` is the largest error in units of its tolerance, 1 or less passes.

    Parameters
    ----------
    name : str
        Of the tensor.
    worst : float
        The largest error, in units of the element's tolerance.
    problem : str
        What is wrong with the tensor as a whole: its shape, its dtype, NaN.
    index : tuple of int
        Where the worst element is.
    got, want, tol : float
        The worst element, what it should be, and its tolerance.
    ulp : float
        Its error in units of the last digit of its dtype.
    bad, size : int
        How many elements are out of tolerance, and how many there are.
    patterns : list of str
        What the wrong elements have in common.
    follows : str
        The tensor whose error explains this one.

    Examples
    --------
    >>> compare("y", np.array([1.0, 2.5]), np.array([1.0, 2.0]), 0.1).passed
    False
    """

    name: str
    worst: float = 0.0
    problem: str = ""
    index: tuple[int, ...] = ()
    got: float = 0.0
    want: float = 0.0
    tol: float = 0.0
    ulp: float = 0.0
    bad: int = 0
    size: int = 0
    patterns: list[str] = field(default_factory=list)
    follows: str = ""

    @property
    def passed(self) -> bool:
        """Whether shape and dtype are right and every element is within its tolerance."""
        return not self.problem and self.worst <= 1.0

    def lines(self) -> list[str]:
        """The result in words."""
        if self.passed:
            return [f"ok    {self.name}: worst {self.worst:.3g} of the tolerance"]
        if self.problem and not self.bad:
            return [f"WRONG {self.name}: {self.problem}"]
        first = [f"WRONG {self.name}: {self.problem}"] if self.problem.startswith("dtype") else []
        at = "[" + ", ".join(map(str, self.index)) + "]"
        error = abs(self.got - self.want)
        relative = error / abs(self.want) if self.want else np.inf
        text = [
            f"WRONG {self.name}{at}: got {self.got:.9g}, want {self.want:.9g}, {self.worst:.3g} × the tolerance "
            f"{self.tol:.2g}"
        ]
        text.append(
            f"      abs {error:.3g}, rel {relative:.3g}, {self.ulp:.3g} ulp; {self.bad} of {self.size} elements are out"
        )
        problem = [self.problem] if self.problem and not first else []
        text += [f"      {line}" for line in problem + self.patterns]
        if self.follows:
            text.append(f"      follows from {self.follows}")
        return first + text


def compare(name: str, got: Any, want: Any, tol: Any, dtype: Any = None) -> TensorResult:
    """Compare got with want: shape, then dtype (where one is asked for), then every element with its tolerance.

    Parameters
    ----------
    name : what the tensor is called in the report
    got, want : arrays; where want is NaN or infinite, got must be the same
    tol : absolute tolerance, one number or one per element
    dtype : the dtype got must have, or None; values are compared whatever the dtype

    Examples
    --------
    >>> compare("y", np.array([1.0, 2.5]), np.array([1.0, 2.0]), 0.1).worst
    5.0
    >>> print(compare("y", np.zeros((2, 3)), np.zeros((3, 2)), 0.1).lines()[0])
    WRONG y: shape is (2, 3), want (3, 2) (transposed)
    """
    result = TensorResult(name)
    try:
        array = np.asarray(got)
        if array.dtype == object:
            raise TypeError
        wide = array.astype(np.longdouble)
    except (TypeError, ValueError):
        result.problem = f"is {type(got).__name__}, want a NumPy array"
        return result
    expected, allowed = (
        np.asarray(want).astype(np.longdouble),
        np.broadcast_to(np.asarray(tol, np.longdouble), np.shape(want)),
    )
    result.size = expected.size
    if array.shape != expected.shape:
        turned = " (transposed)" if array.shape[::-1] == expected.shape else ""
        result.problem = f"shape is {array.shape}, want {expected.shape}{turned}"
        return result
    if dtype is not None and array.dtype != np.dtype(dtype):
        result.problem = f"dtype is {array.dtype}, want {np.dtype(dtype)}"
    with np.errstate(all="ignore"):
        same = (wide == expected) | (np.isnan(wide) & np.isnan(expected))
        units = np.where(same, 0.0, np.abs(wide - expected) / np.where(allowed > 0, allowed, 5e-324))
        units = np.where(np.isnan(units) | (~np.isfinite(expected) & ~same), np.inf, units)
    if not units.size or units.max() == 0:
        return result
    index = np.unravel_index(int(np.argmax(units)), units.shape)
    result.worst, result.index = float(units[index]), tuple(int(i) for i in index)
    result.got, result.want, result.tol = float(wide[index]), float(expected[index]), float(allowed[index])
    result.bad = int((units > 1).sum())
    if result.bad:
        result.ulp = _ulps(array, index, result)
        result.problem = ", ".join(text for text in (result.problem, _not_finite(wide, expected)) if text)
        result.patterns = [text for pattern in PATTERNS if (text := pattern(wide, expected, units > 1))]
    return result


def _ulps(array: Array, index: tuple[Any, ...], result: TensorResult) -> float:
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
    with np.errstate(all="ignore"):
        spacing = float(np.spacing(np.abs(np.asarray(result.want).astype(dtype))))
    return abs(result.got - result.want) / spacing if spacing and np.isfinite(result.got) else np.inf


def _not_finite(got: Array, want: Array) -> str:
    nans, infs = int((np.isnan(got) & ~np.isnan(want)).sum()), int((np.isinf(got) & ~np.isinf(want)).sum())
    lost = int((np.isnan(want) & ~np.isnan(got)).sum())
    parts = [f"{nans} NaN" * bool(nans), f"{infs} Inf" * bool(infs), f"{lost} finite where NaN is right" * bool(lost)]
    return ", ".join(part for part in parts if part)


def _one_slice(got: Array, want: Array, bad: Array) -> str:
    names = ("sample", "channel") if got.ndim > 1 else ("channel",)
    for axis, name in enumerate(names[: got.ndim]):
        where = np.unique(np.nonzero(bad)[axis])
        if got.shape[axis] > 1 and len(where) == 1:
            return f"all in {name} {where[0]}"
    return ""


def _constant(values: Array, what: str, trivial: float) -> str:
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return ""
    middle = float(np.median(values))
    distance = abs(middle - trivial)
    if distance > 1e-4 and np.all(np.abs(values - middle) <= min(1e-2 * distance, 1e-4 * abs(middle))):
        return f"{what} is {middle:.6g} everywhere"
    return ""


def _ratio(got: Array, want: Array, bad: Array) -> str:
    if np.array_equal(-got, want):
        return "the sign is turned"
    with np.errstate(all="ignore"):
        return _constant((got / want)[bad & (want != 0)], "got / want", 1.0)


def _shift(got: Array, want: Array, bad: Array) -> str:
    with np.errstate(all="ignore"):
        scale = np.abs(want[np.isfinite(want)]).max(initial=0.0) or 1.0
        shift = (got - want)[bad] / scale
        found = _constant(shift, "", 0.0)
        return f"got − want is {float(np.median(shift * scale)):.6g} everywhere" if found else ""


def _transposed(got: Array, want: Array, bad: Array) -> str:
    if got.size < 3 or not np.isfinite(got).all():
        return ""
    moved = np.abs(np.sort(got, axis=None) - np.sort(want, axis=None)).max()
    return "the right values in the wrong places" if np.abs(got - want).max() > 1e3 * moved else ""


def _missing(got: Array, want: Array, bad: Array) -> str:
    return "got is zero everywhere" if got.size > 1 and not got.any() else ""


PATTERNS: tuple[Callable[[Array, Array, Array], str], ...] = (_one_slice, _ratio, _shift, _transposed, _missing)
