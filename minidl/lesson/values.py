"""What an answer is compared with, and what an answer of the wrong kind is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from minidl.check.compare import TensorResult, compare

Values = Mapping[str, Any]
Tolerance = float | Mapping[str, float]


def named(name: str, value: Any) -> Values:
    """Return a dict of arrays as it is, and an array as the dict of one."""
    return value if isinstance(value, Mapping) else {name: value}


def of(tol: Tolerance, key: str) -> float:
    """Return the tolerance of one array."""
    return tol[key] if isinstance(tol, Mapping) else tol


def compare_all(name: str, got: Any, want: Any, tol: Tolerance) -> list[TensorResult]:
    """Compare every array that is wanted; what is missing, too much, or no array is a problem of its own."""
    if isinstance(got, Mapping) != isinstance(want, Mapping):
        kind = f"a dict with the keys {', '.join(want)}" if isinstance(want, Mapping) else "one array"
        return [TensorResult(name, problem=f"is {kind_of(got)}; want {kind}")]
    given, wanted = named(name, got), named(name, want)
    results = [TensorResult(key, problem="is not wanted; leave it out") for key in given if key not in wanted]
    for key, value in wanted.items():
        if key not in given:
            results.append(TensorResult(key, problem="is missing"))
        elif kind := wrong_kind(given[key], value):
            results.append(TensorResult(key, problem=f"is {kind}"))
        else:
            results.append(compare(key, given[key], value, of(tol, key)))
    return results


def wrong_kind(value: Any, want: Any = None) -> str:
    """Say what a value is that no check can compare; "" for an array of real numbers or what becomes one."""
    if value is None or isinstance(value, str | bytes | set | Mapping) or callable(value):
        return f"{kind_of(value)}, want an array of real numbers" if value is not None else kind_of(value)
    try:
        array = np.asarray(value)
    except ValueError:  # arrays of several shapes in one tuple or list
        return f"{type(value).__name__} of {len(value)} arrays of several shapes, want one array: which of them is it?"
    if array.dtype.kind == "c":
        return kind_of(array)
    if array.dtype.kind not in "fiub":
        strange = [one for one in value if not isinstance(one, int | float)] if isinstance(value, tuple | list) else []
        if strange:
            return f"{type(value).__name__} that holds {str(strange[0])!r}, want real numbers alone"
        return f"{type(value).__name__} of {array.dtype} values, want an array of real numbers"
    return _several(value, want)


def _several(value: Any, want: Any) -> str:
    """Say that a tuple holds several answers where one is wanted, and which of them is right."""
    if not isinstance(value, tuple) or want is None or np.shape(value) == np.shape(want) or len(value) < 2:
        return ""
    right = [
        i for i, one in enumerate(value) if np.shape(one) == np.shape(want) and np.allclose(one, want, 1e-9, 1e-12)
    ]
    which = f"number {right[0]} of them is right" if right else "which of them is it?"
    return f"a tuple of {len(value)}, want one {'array' if np.ndim(want) else 'number'}: {which}"


def outside(value: Any) -> bool:
    """Whether an array is a view that reaches past the memory of the array that it is of."""
    owner = value
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    if owner is value or not isinstance(value, np.ndarray) or not isinstance(owner, np.ndarray):
        return False
    (begin, end), (low, high) = map(np.lib.array_utils.byte_bounds, (value, owner))
    return begin < low or end > high


def kind_of(value: Any) -> str:
    """Return what a value is called, with the likely reason."""
    if value is None:
        return "None: does your function end without `return`?"
    if isinstance(value, np.ndarray) and np.iscomplexobj(value):
        return "complex, want real numbers"
    if callable(value):
        return f"a function, {getattr(value, '__name__', 'without a name')}: is it called, with ()?"
    return type(value).__name__


def judge(name: str, want: Any, tol: Tolerance) -> Callable[[Any], set[str]]:
    """Return a function that gives the names of what is wrong in an answer, quicker than `compare_all`."""
    wanted = {key: np.asarray(value) for key, value in named(name, want).items()}
    finite = {key: bool(np.isfinite(value).all()) for key, value in wanted.items()}

    def near(key: str, value: Any) -> bool:
        array = np.asarray(value)
        if array.shape != wanted[key].shape or array.dtype.kind not in "fiub":
            return False
        if not finite[key]:
            return True  # left to the comparison
        with np.errstate(all="ignore"):
            return bool(np.all(np.abs(array - wanted[key].astype(float)) <= 2 * of(tol, key)))

    def bad(given: Any) -> set[str]:
        if isinstance(given, Mapping) == isinstance(want, Mapping):
            values = named(name, given)
            far = {key for key in wanted if key not in values or wrong_kind(values[key]) or not near(key, values[key])}
            if far == set(wanted):
                return far | (set(values) - set(wanted))
        return {result.name for result in compare_all(name, given, want, tol) if not result.passed}

    return bad


def same(name: str, got: Any, mistake: Callable[[], Any], tol: Tolerance) -> bool:
    """Whether got is what the mistake gives; a mistake that needs what does not work yet says nothing."""
    try:
        given = alternatives(mistake())
        return any(all(r.passed for r in compare_all(name, got, one, _to_rounding(name, one, tol))) for one in given)
    except Exception:
        return False


def in_part(name: str, got: Any, want: Any, mistake: Callable[[], Any], tol: Tolerance) -> bool:
    """Whether one of the wrong arrays is what the mistake gives, where others have another mistake besides."""
    try:
        given, wanted = named(name, got), named(name, want)
        for one in alternatives(mistake()):
            wrong, close = named(name, one), _to_rounding(name, one, tol)
            for key in wanted:
                off = not compare(key, wrong[key], wanted[key], of(tol, key)).passed
                if off and telling(wrong[key]) and compare(key, given[key], wrong[key], of(close, key)).passed:
                    return True
    except Exception:
        return False
    return False


def telling(value: Any) -> bool:
    """Whether values are so many, or so odd, that a match is no accident: verdicts and counts are not."""
    array = np.asarray(value, float)
    return array.size > 7 or (array.size > 2 and bool((array != np.round(array)).any()))


def _to_rounding(name: str, mistake: Any, tol: Tolerance) -> Tolerance:
    """Return tolerances for the values of a mistake, which may be far larger than the right ones."""
    sizes = {key: np.abs(np.asarray(value, float)).max(initial=0) for key, value in named(name, mistake).items()}
    return {key: max(of(tol, key), 1e-9 * size) if np.isfinite(size) else of(tol, key) for key, size in sizes.items()}


def alternatives(mistake: Any) -> Iterable[Any]:
    """Return the values of one mistake: those of an iterator, else the one."""
    return mistake if isinstance(mistake, Iterator) else [mistake]


BLANK = 0x7FF8_0000_6D69_6E69  # the bits of a NaN that no arithmetic makes; what is added to it keeps them


def blank(*shape: int) -> np.ndarray[Any, Any]:
    """Return an array of NaN that can be told from a NaN that was computed."""
    made = np.empty(shape)
    made.view(np.uint64)[...] = BLANK
    return made


def unwritten(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return where an array is as `blank` made it, or as that plus something."""
    bits = np.array(array, np.float64, order="C").reshape(-1).view(np.uint64)
    found: np.ndarray[Any, Any] = (bits == BLANK).reshape(array.shape)
    return found
