"""Timing several sides fairly in one process: in turn, in bursts, after the threads of the others came to rest.

PyTorch's OpenMP threads keep spinning for some milliseconds after a parallel region and would take a core from the
side that comes next; each side leaves the caches full of its own arrays; and a core that was idle takes a while to run
at full speed. So a round gives every side a rest, a tenth of a second of calls that do not count, and a burst that
does; the order is turned around from round to round. Slow drifts of the machine (its clock, its other work) hit both
sides of a round alike, so a ratio is taken in each round and the median of these is reported, with its quartiles.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

Rounds = list[np.ndarray]  # seconds of each call, one array per round


@dataclass(frozen=True)
class Plan:
    """How long to measure: `rounds` of a rest, a warm-up and a burst, both for at least so many seconds and calls."""

    rounds: int = 7
    rest: float = 0.02  # seconds
    warm_up: int = 2  # calls
    wake: float = 0.1  # seconds
    burst: float = 0.3  # seconds
    calls: int = 3


QUICK = Plan(rounds=2, rest=0.001, warm_up=1, wake=0.0, burst=0.002, calls=1)


@dataclass(frozen=True)
class Work:
    """What one side does in a call.

    Attributes
    ----------
    parts : {name: function}, called in this order, each timed for itself
    before : called before them, not timed
    inside : makes the context that the side's bursts run in (its number of threads)
    steps : how many steps a function does at once; its time is divided by them
    """

    parts: Mapping[str, Callable[[], object]]
    before: Callable[[], object] | None = None
    inside: Callable[[], AbstractContextManager[object]] = nullcontext
    steps: int = 1


def interleave(sides: Mapping[str, Work], plan: Plan) -> dict[str, dict[str, Rounds]]:
    """Measure the sides in turn; return {side: {part: rounds}}.

    Examples
    --------
    >>> taken = interleave({"a": Work({"sum": lambda: sum(range(9))})}, QUICK)
    >>> len(taken["a"]["sum"])
    2
    """
    taken: dict[str, dict[str, Rounds]] = {side: {part: [] for part in work.parts} for side, work in sides.items()}
    order = list(sides)
    with _without_gc():
        for _ in range(plan.rounds):
            for side in order:
                for part, seconds in _burst(sides[side], plan).items():
                    taken[side][part].append(np.array(seconds))
            order.reverse()
    return taken


def _burst(work: Work, plan: Plan) -> dict[str, list[float]]:
    time.sleep(plan.rest)
    taken: dict[str, list[float]] = {part: [] for part in work.parts}
    with work.inside():
        start, calls = time.perf_counter(), 0
        while calls < plan.warm_up or time.perf_counter() < start + plan.wake:
            _call(work)
            calls += 1
        start, calls = time.perf_counter(), 0
        while calls < plan.calls or time.perf_counter() < start + plan.burst:
            for part, seconds in _call(work).items():
                taken[part].append(seconds)
            calls += 1
    return taken


def _call(work: Work) -> dict[str, float]:
    if work.before:
        work.before()
    seconds = {}
    for part, function in work.parts.items():
        start = time.perf_counter()
        function()
        seconds[part] = (time.perf_counter() - start) / work.steps
    return seconds


@contextmanager
def _without_gc() -> Iterator[None]:
    """Keep the collector, which walks all objects of all imported modules, out of the bursts."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def median(rounds: Rounds) -> float:
    """Return the median over all calls."""
    return float(np.median(np.concatenate(rounds)))


def fastest_quartile(rounds: Rounds) -> float:
    """Return the time that a quarter of the calls stayed below: what noise of the machine moves least."""
    return float(np.quantile(np.concatenate(rounds), 0.25))


def ratio(above: Rounds, below: Rounds) -> tuple[float, float, float]:
    """Return the median of the rounds' ratios of medians, and their quartiles.

    >>> ratio([np.array([2.0, 2.0]), np.array([6.0])], [np.array([1.0]), np.array([2.0])])
    (2.5, 2.25, 2.75)
    """
    each = [np.median(a) / np.median(b) for a, b in zip(above, below, strict=True)]
    middle, low, high = (float(np.quantile(each, q)) for q in (0.5, 0.25, 0.75))
    return middle, low, high
