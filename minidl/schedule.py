"""Learning-rate schedules: small objects that map the time t spent training to a learning rate.

The unit of t is the caller's: epochs, updates or data touches (images seen). A schedule only compares t with the
numbers it was made with, so the two must be counted alike.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise

Schedule = Callable[[float], float]


class StepSchedule:
    """A learning rate that is multiplied by a factor at each drop.

    lr(t) = lr · factor^d(t), where d(t) is the number of drops at or before t.

    Parameters
    ----------
    lr : float
        The rate before the first drop.
    drops : sequence of float
        When to drop, in ascending order, in the unit t is counted in.
    factor : float
        What each drop multiplies the rate by.

    Raises
    ------
    ValueError
        If lr or factor is not positive, or the drops do not ascend.

    Notes
    -----
    The paper's Table 1 divides the rate by ten after 2.5 and 3.0 million data touches.

    Examples
    --------
    >>> schedule = StepSchedule(0.1, drops=[2.5e6, 3.0e6])
    >>> [round(schedule(t), 6) for t in (0, 2.5e6 - 1, 2.5e6, 3.0e6)]
    [0.1, 0.1, 0.01, 0.001]
    """

    def __init__(self, lr: float, drops: Sequence[float] = (), factor: float = 0.1) -> None:
        _require_positive("StepSchedule", "lr", lr)
        _require_positive("StepSchedule", "factor", factor)
        if any(b < a for a, b in pairwise(drops)):
            raise ValueError(f"StepSchedule: drops must ascend, got {list(drops)}; sort them")
        self.lr = lr
        self.drops = list(drops)
        self.factor = factor

    def __call__(self, t: float) -> float:
        """Return the learning rate at time t."""
        return self.lr * self.factor ** bisect_right(self.drops, t)


class CosineSchedule:
    """A learning rate that falls along half a cosine.

    lr(t) = end + (lr − end)·(1 + cos(π·min(t, total)/total))/2: equation 5 of Loshchilov & Hutter 2017 (SGDR, ICLR)
    without restarts.

    Parameters
    ----------
    lr : float
        The rate at t = 0.
    total : float
        When the rate has fallen to `end`; it stays there.
    end : float
        The last rate.

    Raises
    ------
    ValueError
        If lr or total is not positive, or end is negative.

    Examples
    --------
    >>> schedule = CosineSchedule(0.1, total=10)
    >>> [round(schedule(t), 6) for t in (0, 5, 10, 11)]
    [0.1, 0.05, 0.0, 0.0]
    """

    def __init__(self, lr: float, total: float, end: float = 0.0) -> None:
        _require_positive("CosineSchedule", "lr", lr)
        _require_positive("CosineSchedule", "total", total)
        if not 0 <= end < math.inf:
            raise ValueError(
                f"CosineSchedule: end must be at least 0 and finite, got {end}; give the last learning rate"
            )
        self.lr = lr
        self.total = total
        self.end = end

    def __call__(self, t: float) -> float:
        """Return the learning rate at time t."""
        return self.end + (self.lr - self.end) * (1 + math.cos(math.pi * min(t, self.total) / self.total)) / 2


class Warmup:
    """Another schedule whose first part is scaled up along a straight line.

    lr(t) = schedule(t)·(start + (1 − start)·min(t, length)/length): the gradual warmup of Goyal et al. 2017 (Accurate,
    large minibatch SGD, section 2.2).

    Parameters
    ----------
    schedule : callable
        The schedule to warm up to; its own clock runs from t = 0 too.
    length : float
        When the full rate is reached.
    start : float
        The share of the rate at t = 0. It is not 0 by default: the first update would change nothing.

    Raises
    ------
    ValueError
        If length is not positive or start is outside [0, 1].

    Examples
    --------
    >>> schedule = Warmup(StepSchedule(0.1, drops=[20]), length=10)
    >>> [round(schedule(t), 6) for t in (0, 5, 10, 20)]
    [0.01, 0.055, 0.1, 0.01]
    """

    def __init__(self, schedule: Schedule, length: float, start: float = 0.1) -> None:
        _require_positive("Warmup", "length", length)
        if not 0 <= start <= 1:
            raise ValueError(f"Warmup: start must lie in [0, 1], got {start}; give a share of the full rate")
        self.schedule = schedule
        self.length = length
        self.start = start

    def __call__(self, t: float) -> float:
        """Return the learning rate at time t."""
        return self.schedule(t) * (self.start + (1 - self.start) * min(t, self.length) / self.length)


def _require_positive(owner: str, name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{owner}: {name} must be positive and finite, got {value}; give a number above 0")
