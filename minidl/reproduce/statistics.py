"""Means over seeds, and what two columns differ by over the seeds that both have."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Sample(NamedTuple):
    """Mean and sample standard deviation (None below two values) of `n` values."""

    n: int
    mean: float
    std: float | None


class Difference(NamedTuple):
    """Mean of the differences of `n` pairs, and its 95 % confidence interval (None below two pairs)."""

    n: int
    mean: float
    interval: tuple[float, float] | None


def sample(values: Sequence[float]) -> Sample | None:
    """Return mean and standard deviation, divided by n − 1; None of no values.

    Examples
    --------
    >>> sample([1.0, 2.0, 6.0])
    Sample(n=3, mean=3.0, std=2.6457513110645907)
    """
    if not values:
        return None
    return Sample(len(values), float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def paired_difference(ours: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    r"""Return the mean of ours − baseline over the seeds that both have, with its 95 % interval; None of no pairs.

    .. math:: \bar d \pm t_{0.975,\,n-1}\; s_d / \sqrt{n}

    Parameters
    ----------
    ours, baseline : {seed: error}

    Notes
    -----
    Runs of one seed see the data in one order; what that does to both cancels in d. The interval takes the differences
    for independent and normal, and is not corrected for the number of columns.
    """
    seeds = ours.keys() & baseline.keys()
    found = sample([ours[seed] - baseline[seed] for seed in sorted(seeds)])
    if found is None:
        return None
    n, mean, std = found
    if std is None:
        return Difference(n, mean, None)
    half = student_quantile(0.975, n - 1) * std / math.sqrt(n)
    return Difference(n, mean, (mean - half, mean + half))


def student_cdf(t: float, df: int) -> float:
    r"""Return P(T ≤ t) of Student's distribution with a whole number of degrees of freedom, by its finite sum.

    With θ = atan(t / √df), A = P(|T| ≤ t) is (Abramowitz and Stegun, 26.7.3 and 26.7.4)

    .. math::
        A = \sin\theta\,(1 + \tfrac12\cos^2\theta + \tfrac{1·3}{2·4}\cos^4\theta + \dots) \quad (df\ even)
        A = \tfrac2\pi\,(\theta + \sin\theta\,(\cos\theta + \tfrac23\cos^3\theta + \dots)) \quad (df\ odd)

    with powers of cos θ up to df − 2.
    """
    theta = math.atan(t / math.sqrt(df))
    odd = df % 2
    term, total = math.cos(theta) if odd else 1.0, 0.0
    for power in range(odd, df - 1, 2):
        total += term
        term *= (power + 1) / (power + 2) * math.cos(theta) ** 2
    inside = 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total
    return (1 + inside) / 2


@functools.lru_cache(maxsize=1024, typed=True)
def student_quantile(p: float, df: int) -> float:
    """Return the t with `student_cdf(t, df)` = p, for 0.5 < p < 1, by bisection.

    Examples
    --------
    >>> round(student_quantile(0.975, 4), 3)
    2.776
    """
    if not (0.5 < p < 1 and df >= 1):
        raise ValueError(
            f"student_quantile: p must be within (0.5, 1) and df at least 1, got {p} and {df}; mirror smaller p"
        )
    low, high = 0.0, 1.0
    while student_cdf(high, df) < p:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if student_cdf(middle, df) < p else (low, middle)
    return middle
