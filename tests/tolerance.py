"""How far rounding may move a result: what follows from the arithmetic, and from no machine, kernel or seed.

Five tolerances, and one comparison that takes any:

- `rounding` measures a function's condition: how far its results move when every input moves by a unit roundoff, its
  own operations rounded anew each time. It serves where the size of the terms that cancel is not at hand.
- `terms` counts: so many operations on terms of that size err by no more than their number of unit roundoffs.
- `sums` is `terms` for long sums, whose roundings cancel: it grows as the root of their number.
- `cancelled_gates` is `sums` for gradients of gates that are 0.
- `draws` is no rounding, but how far the mean of random draws lies from what is expected, whatever the seed.

    from tolerance import assert_close, draws, rounding, sums, terms
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TRIALS = 8
FACTOR = (
    16.0  # twice that of minidl.check: two computations err, each in an order of its own; few trials miss the worst
)

LAMBDA = 8.0  # of `sums`: one sum in exp(LAMBDA² / 2) / 2 = 4e13 errs by more


def unit(dtype: Any) -> float:
    """Return the unit roundoff of a dtype, real or complex: half the distance from 1 to the next number.

    >>> unit("float64") == 2.0**-53
    True
    """
    return float(np.finfo(dtype).eps) / 2


def rounding(function: Callable[..., Any], inputs: Mapping[str, Any], trials: int = TRIALS) -> dict[str, float]:
    """Return, for every result of function(**inputs), how far rounding may move any of its elements.

    FACTOR times the largest of: the change of any element in `trials` runs whose floating inputs are each moved by
    −2, 0 or 2 unit roundoffs (one bit) at random, and a unit roundoff of the largest element.

    Parameters
    ----------
    function : callable
        Returns a mapping of arrays, or one array, which gets the name "y".
    inputs : mapping
        Its arguments by name. What holds no floating numbers stays as it is.
    trials : int
        The number of runs.

    >>> rounding(lambda a, b: a - b, {"a": np.array([1.0]), "b": np.array([0.99])})["y"] < 1e-14
    True
    """
    rng = np.random.default_rng(0)
    want = _named(function(**inputs))
    moved = dict.fromkeys(want, 0.0)
    for _ in range(trials):
        for name, value in _named(function(**{key: _shaken(rng, a) for key, a in inputs.items()})).items():
            moved[name] = max(moved[name], _largest(value - want[name]))
    return {name: FACTOR * max(moved[name], unit(a.dtype) * _largest(a)) for name, a in want.items()}


def terms(operations: float, size: Any, dtype: Any = "float64") -> Any:
    """Return operations · u · size: what that many operations on terms of that size may err by.

    Parameters
    ----------
    operations : float
        How many roundings the two results together take, one after another: n for a sum of n terms.
    size : float or array
        The magnitude of the terms, before they cancel.
    dtype : dtype
        Of the computation; u is its unit roundoff.

    >>> float(terms(4, size=2.0)) == 8 * 2.0**-53
    True
    """
    return operations * unit(dtype) * np.abs(size)


def sums(roundings: int, size: Any, dtype: Any = "float64") -> Any:
    """Return λ · √n · u · size, or n · u · size where that is less: what a sum may err by, whatever its order.

    n · u · Σ|terms| bounds the error for certain. The roundings are of either sign, so that λ√n takes the place of n
    but for one sum in exp(λ²/2)/2 (Higham and Mary, SIAM J. Sci. Comput. 41, A2815, 2019).

    Parameters
    ----------
    roundings : int
        How many the two results together take of each term: n of a sum of n products, 2n where both sums are rounded.
    size : float or array
        Σ|terms|: the same sum, of magnitudes.
    dtype : dtype
        Of the computation; u is its unit roundoff.

    >>> float(sums(4, size=2.0)) == float(terms(4, size=2.0))
    True
    >>> float(sums(10000, size=2.0)) == float(terms(800, size=2.0))
    True
    """
    return terms(min(roundings, LAMBDA * np.sqrt(roundings)), size, dtype)


def draws(number: int, deviation: float) -> float:
    """Return λ · σ/√n: how far the mean of n independent draws of standard deviation σ may lie from the expected one.

    The mean of normal draws lies further in one of exp(λ²/2) / 2 = 4e13 seeds.

    >>> draws(400, deviation=0.5)
    0.2
    """
    return float(LAMBDA * deviation / np.sqrt(number))


def cancelled_gates(dy: Array, y: Array, x: Array, bias: Any) -> dict[str, float]:
    """Return what rounding leaves of gates' gradients that are 0: with one mode, one sample, or a gate at 0 or 1.

    The slope of a gate's logarithm is a sum of terms dy · (y − β), which are there and cancel; the gates' bias takes it
    as it is, their weight times x.
    """
    size = 2 * (np.abs(dy) * (np.abs(y) + 2 * np.abs(bias).max())).sum(dtype=float)
    return {
        "dgate_weight": float(sums(2 * dy.size, size * np.abs(x).max(), x.dtype)),
        "dgate_bias": float(sums(2 * dy.size, size, x.dtype)),
    }


def assert_close(got: Any, want: Any, tolerance: Any, what: str = "") -> None:
    """Fail unless |got − want| <= tolerance everywhere, and both have one shape; NaN is never close.

    >>> assert_close(np.array([1.0, 2.5]), np.array([1.0, 2.0]), tolerance=0.25, what="y")
    Traceback (most recent call last):
    AssertionError: y is off by 0.5 where 0.25 is allowed; at (1,) got 2.5, want 2.0
    """
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise AssertionError(f"{what or 'the result'} has shape {got.shape}, want {want.shape}")
    error, allowed = np.abs(got - want), np.broadcast_to(tolerance, got.shape)
    observe(error, allowed)
    wrong = ~(error <= allowed)
    if wrong.any():
        excess = np.where(wrong, np.nan_to_num(error - allowed, nan=np.inf), -np.inf)
        at = tuple(int(i) for i in np.unravel_index(np.argmax(excess), got.shape))
        raise AssertionError(
            f"{what or 'the result'} is off by {error[at]:.3g} where {allowed[at]:.3g} is allowed; "
            f"at {at} got {got[at]}, want {want[at]}"
        )


def observe(error: Any, tolerance: Any) -> None:
    """Do nothing: the place where `margins` listens to every comparison."""


def _named(result: Any) -> dict[str, Array]:
    """Return copies of the results by name: a layer's gradients are overwritten by its next backward."""
    return {k: np.array(v) for k, v in (result if isinstance(result, Mapping) else {"y": result}).items()}


def _shaken(rng: np.random.Generator, value: Any) -> Any:
    """Move each element by −2, 0 or 2 unit roundoffs, if the value is a floating array."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fc":
        return value
    moves = rng.integers(-1, 2, value.shape) * np.finfo(value.dtype).eps
    return value * (1 + moves.astype(value.dtype))


def _largest(array: Array) -> float:
    """Return the largest magnitude; 0 for none."""
    return float(np.abs(array).max(initial=0))
