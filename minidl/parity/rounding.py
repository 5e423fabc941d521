"""How far rounding may move what a case gives: the tolerance of a comparison, from the arithmetic alone.

Two engines sum in different orders, and one of them may fuse a product with a sum. In blocks a sum of n terms takes
d = 2√n additions one after another, and each of them rounds: a term comes out moved by λ√d · u at most, but for one
sum in exp(λ²/2)/2 (Higham and Mary, SIAM J. Sci. Comput. 41, A2815, 2019), u the unit roundoff. What a move of the
terms does to a value a is its condition. It is measured in float64 on NumPy: every number that goes in, and every image
that a forward keeps for its backward, is moved by a small part of itself, up or down at random; c is the largest change
of a over that part. A norm's statistics are float64 on every engine, whatever the images are; c64 is the same for a
move of those. So

    |a − b| <= λ √d · (u max(c, max |a|) + u64 c64),    λ = 8,  d = 2√n,

n being the number of values of the largest array, which no sum exceeds. An input moves by a part of its deviation from
its mean: all that a norm computes follows from the deviations, whose digits no engine may lose to a large mean. The
gradient of gates that are 0 or 1 but for 1e-12 is below the rounding of its own terms: more than itself is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minidl.backend import to_host, use_backend

if TYPE_CHECKING:
    from minidl.layers.base import Layer
    from minidl.parity.subjects import Subject

LAMBDA = 8.0
TRIALS = 3
STEP = 2.0**-40  # far above the rounding of float64, and far below the distance to a kink


class Moves:
    """Moves each element of an array by STEP of itself, up or down at random: of images, or else of statistics."""

    def __init__(self, seed: int, statistics: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.statistics = statistics

    def __call__(self, array: np.ndarray, about: float = 0.0) -> np.ndarray:
        """Return an array that goes in, moved by STEP · |array − about|."""
        return array if self.statistics else self._moved(array, about)

    def _moved(self, array: np.ndarray, about: float = 0.0) -> np.ndarray:
        moved: np.ndarray = array + STEP * self.rng.choice((-1.0, 1.0), array.shape) * (array - about)
        return moved

    def kept(self, net: Layer) -> None:
        """Move what the forward of every layer kept: its images, the largest arrays, or its statistics, the others."""
        for _, one in net.named_layers():
            size = max((a.size for a in _arrays(one._kept)), default=0)
            one._kept = self._inside(one._kept, size)

    def _inside(self, value: Any, size: int) -> Any:
        if isinstance(value, tuple):
            inside = [self._inside(each, size) for each in value]
            return type(value)(*inside) if hasattr(value, "_fields") else tuple(inside)
        moves = any((a.size < size) == self.statistics for a in _arrays(value))
        return self._moved(value) if moves else value


class Condition(NamedTuple):
    """How far rounding may move a value, as multiples of two unit roundoffs."""

    images: float  # of that of the images
    statistics: float  # of that of float64

    def allowed(self, dtype: str) -> float:
        """Return the largest |a − b| for two engines that compute in a dtype."""
        return _roundoff(dtype) * self.images + _roundoff("float64") * self.statistics


@lru_cache(maxsize=1)  # of the case at hand, whose dtypes come one after the other
def conditions(subject: Subject) -> dict[str, Condition]:
    """Return λ √d · (max(c, max |a|), c64) of every value by name.

    Parameters
    ----------
    subject : Subject
        What is compared. Where nothing that goes in is a floating number, as in a loader, all is 0: the values are the
        same to the last bit.

    Examples
    --------
    >>> from minidl.parity.subjects import loss
    >>> found = conditions(loss(4, 3))["dlogits"]
    >>> found.statistics, 1e-16 < found.allowed("float64") < 1e-14
    (0.0, True)
    """
    with use_backend("numpy"):
        still = _values(subject, None)
        c, c64 = (_changes(subject, still, statistics) for statistics in (False, True))
    factor = LAMBDA * math.sqrt(2 * math.sqrt(max(a.size for a in still.values())))
    moved = any(c.values())
    return {
        name: Condition(factor * max(c[name], _largest(a)) if moved else 0.0, factor * c64[name])
        for name, a in still.items()
    }


def _changes(subject: Subject, still: dict[str, np.ndarray], statistics: bool) -> dict[str, float]:
    """Return the largest change of every value in the trials, over STEP."""
    trials = [_values(subject, Moves(seed, statistics)) for seed in range(TRIALS)]
    return {name: max(_largest(one[name] - a) for one in trials) / STEP for name, a in still.items()}


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """Yield the floating arrays in nested tuples."""
    if isinstance(value, tuple):
        for each in value:
            yield from _arrays(each)
    elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
        yield value


def _values(subject: Subject, moves: Moves | None) -> dict[str, np.ndarray]:
    """Return copies of the floating values in float64; of others zeros, which nothing moves."""
    given = {name: np.array(to_host(a)) for name, a in subject("float64", moves)().items()}
    return {name: a if a.dtype.kind == "f" else np.zeros(a.shape) for name, a in given.items()}


def _roundoff(dtype: str) -> float:
    return float(np.finfo(dtype).eps) / 2


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array).max(initial=0.0))
