"""What a learner is told of an answer that is not right: what its values show, else where a change would mend it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minidl.check.compare import TensorResult
from minidl.lesson.hints import DIGITS, GENERAL, WHERE, alone, hint
from minidl.lesson.lint import small_constants, unused
from minidl.lesson.missing import missing
from minidl.lesson.repair import handed_over, repair
from minidl.lesson.terms import parts, related, size, sums
from minidl.lesson.values import Tolerance, judge, named, of, outside, telling, wrong_kind
from minidl.lesson.watch import Watch

ONE_OFF = re.compile(r"one too (short|long): ")


def tutor(
    name: str,
    got: Callable[[], Any],
    given: Any,
    want: Any,
    tol: Tolerance,
    bad: list[TensorResult],
    trusted: set[Any],
    watch: Watch,
) -> list[str]:
    """Return what the values say, else what change would mend the answer, else what it leaves out."""
    said = _hints(name, given, want, tol, bad)
    vague = not said or said[0].startswith(GENERAL)
    if not vague and not said[0].startswith(WHERE):
        return said
    arrays, made = handed_over(got), dict(watch.made)
    eps = getattr(got, "__globals__", {}).get("eps")
    if isinstance(eps, float):
        variances = {key: a for key, a in {**arrays, **made}.items() if np.min(a) > 0}
        made |= {f"sqrt({key} + eps)": np.sqrt(a + eps) for key, a in variances.items()}
    if follows := _first(name, given, want, tol, bad, lambda a, b, t: related(a, b, t, arrays, made)):
        return [follows]
    sure = {key for key, value in named(name, want).items() if telling(value)}
    change = repair(got, judge(name, want, tol), trusted, sure)
    if not change and said and said[0].startswith(DIGITS):
        change = small_constants(got, trusted)
    elif not change:
        change = _first(name, given, want, tol, bad, lambda a, b, t: parts(a, b, t, {**arrays, **made}))
        change = change or _first(name, given, want, tol, bad, lambda a, b, t: missing(a, b, t, {**made, **arrays}))
    if not vague:
        return [*said, change] if change else said
    change = change or _of_another(name, given, want, tol, bad)
    change = change or unused(got, trusted, watch.keys) or _first(name, given, want, tol, bad, sums)
    change = change or _first(name, given, want, tol, bad, lambda a, b, t: size(a, b, {**made, **arrays}))
    return [*said, change] if change else said


def _hints(name: str, got: Any, want: Any, tol: Tolerance, bad: list[TensorResult]) -> list[str]:
    """Return what the pattern of the first wrong array says, where one was given."""
    given, wanted = named(name, got), named(name, want)
    if any(outside(value) for value in given.values()):
        return ["Your view reaches past the memory of its array: a stride in it is too large, or a length."]
    plain = not any(wrong_kind(given[key], wanted[key]) for key in wanted if key in given)
    if plain and (said := alone(given, wanted, float(max(np.max(of(tol, key)) for key in wanted)))):
        return [said]
    for result in bad:
        if (key := result.name) in given and key in wanted and not wrong_kind(given[key], wanted[key]):
            if np.ptp(of(tol, key)) > 0:
                return _each(np.asarray(given[key]), np.asarray(wanted[key]), of(tol, key))
            said = hint(given[key], wanted[key], float(np.max(of(tol, key))))
            if ONE_OFF.search(said) and not _all_one_off(given, wanted, tol, bad):
                return []  # a length of another array is off by something else
            if said.startswith("Each of your values") and _differs(said, given, wanted, tol, bad):
                said = f"In `{key}`: {said[0].lower()}{said[1:]}"
            return [said] if said else []
    return []


def _differs(
    said: str, given: Mapping[str, Any], wanted: Mapping[str, Any], tol: Tolerance, bad: list[TensorResult]
) -> bool:
    """Whether what is said of the first wrong result does not hold for another one."""
    keys = [r.name for r in bad if r.name in given and r.name in wanted and not wrong_kind(given[r.name])]
    return any(hint(given[key], wanted[key], float(np.max(of(tol, key)))) != said for key in keys)


def _all_one_off(given: Mapping[str, Any], wanted: Mapping[str, Any], tol: Tolerance, bad: list[TensorResult]) -> bool:
    """Whether each wrong result of a wrong shape is one too short or too long."""
    both = [r.name for r in bad if r.name in given and r.name in wanted]
    off = [key for key in both if np.shape(given[key]) != np.shape(wanted[key]) and not wrong_kind(given[key])]
    return all(ONE_OFF.search(hint(given[key], wanted[key], float(np.max(of(tol, key))))) for key in off)


def _of_another(name: str, got: Any, want: Any, tol: Tolerance, bad: list[TensorResult]) -> str:
    """Return what the pattern of another wrong result says, where that of the first says nothing."""
    given, wanted = named(name, got), named(name, want)
    for key in [result.name for result in bad if result.name in given and result.name in wanted]:
        largest = float(np.max(of(tol, key)))
        if wrong_kind(given[key], wanted[key]) or np.ptp(of(tol, key)) > 0:
            continue
        said = hint(given[key], wanted[key], largest)
        said = said or alone({key: given[key]}, {key: wanted[key]}, largest)
        if ONE_OFF.search(said) and not _all_one_off(given, wanted, tol, bad):
            continue
        if said and not said.startswith(GENERAL):
            return f"In `{key}`: {said[0].lower()}{said[1:]}"
    return ""


def _each(got: Any, want: Any, tol: Any) -> list[str]:
    """Say which of several numbers are wrong that have a tolerance each, and so are answers to several questions."""
    if got.shape != want.shape or got.ndim != 1:
        return []
    wrong = np.nonzero(np.abs(got - want) > tol)[0]
    said = [f"number {i} is {got[i] / want[i]:.3g} times the right one" for i in wrong if want[i] and got[i]]
    return [f"Counted from 0, {', '.join(said)}."] if len(said) == len(wrong) < len(want) else []


def _first(
    name: str,
    given: Any,
    want: Any,
    tol: Tolerance,
    bad: list[TensorResult],
    say: Callable[[Any, Any, float], str],
) -> str:
    """Return what is first said of a wrong array of the right kind."""
    values, wanted = named(name, given), named(name, want)
    for result in bad:
        if result.name in values and result.name in wanted and not wrong_kind(values[result.name]):
            largest = float(np.max(of(tol, result.name)))
            if said := say(values[result.name], wanted[result.name], largest):
                return said
    return ""


def in_place(names: list[str], back: bool = True) -> str:
    """Say that an answer changed what it was given, and what to write instead."""
    listed = ", ".join(names)
    returned = f" minidl gave {listed} {'its' if len(names) == 1 else 'their'} values back." if back else ""
    return (
        f"your code changed {listed} in place: `x -= a`, `x[...] = a` and `out=x` write into the array that was handed "
        "over, and all that comes after would compute with it. Write `x = x - a`, or begin with `x = x.copy()`."
    ) + returned
