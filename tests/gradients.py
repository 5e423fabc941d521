"""Numeric gradients to hold a backward against: the complex step, and central differences.

Both differentiate sum(dy * forward(...)) for a cotangent dy. Draw dy at random: with dy = 1 the gradient of a
normalization is zero and any wrong backward passes. `slope` is the central difference that knows its own error.

    from gradients import assert_gradients, central_difference, complex_step, slope
"""

import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tolerance import observe

Array = NDArray[Any]
Forward = Callable[..., Array]
Method = Callable[[Forward, Mapping[str, Array], Array], dict[str, Array]]


class VacuousCheckError(AssertionError):
    """The numeric gradient is about zero, so the check would pass for a backward that is wrong."""


def complex_step(forward: Forward, inputs: Mapping[str, Array], dy: Array, step: float = 1e-30) -> dict[str, Array]:
    """Return Im(sum(dy * forward(x + i·step·e))) / step for each element e of each input: exact to rounding.

    It needs a forward that takes complex numbers and is analytic.

    >>> complex_step(lambda x: x**3, {"x": np.array([2.0])}, dy=np.array([10.0]))
    {'x': array([120.])}
    """

    def along(name: str, index: tuple[int, ...]) -> Any:
        x = inputs[name].astype(np.result_type(inputs[name], np.complex128))
        x[index] += 1j * step
        return (dy * forward(**{**inputs, name: x})).sum().imag / step

    return _each_element(along, inputs)


def central_difference(
    forward: Forward, inputs: Mapping[str, Array], dy: Array, step: float = 1e-3
) -> dict[str, Array]:
    """Return the five-point central difference of sum(dy * forward): about ten digits in float64.

    Keep the inputs further than 2·step from every kink (a tie in a max pool, ReLU at 0).

    >>> central_difference(lambda x: x**3, {"x": np.array([2.0])}, dy=np.array([10.0]))["x"].round(6)
    array([120.])
    """

    def along(name: str, index: tuple[int, ...]) -> Any:
        def f(shift: float) -> Any:
            x = inputs[name].copy()
            x[index] += shift
            return (dy * forward(**{**inputs, name: x})).sum()

        return (8 * (f(step) - f(-step)) - (f(2 * step) - f(-2 * step))) / (12 * step)

    return _each_element(along, inputs)


STEPS = tuple(0.25 * 0.25**j for j in range(8))


def slope(f: Callable[[float], Any], noise: float) -> tuple[float, float]:
    """Return f'(0) by central differences, and the error that the step's size explains.

    d_j = [f(h_j) − f(−h_j)] / 2h_j errs by terms of h_j², so that s_j = (16 d_j − d_(j−1)) / 15 with h_j = h_(j−1)/4
    errs by terms of h_j⁴ (Richardson). The step is too long by |s_j − s_(j−1)|, which is 255 times the error of s_j in
    the limit, or by |s_(j−1) − s_(j−2)| / 256 where that is more. It is too short by the rounding of the four values,
    noise · (16/h_j + 1/h_(j−1)) / 15. The step whose two errors are least is taken.

    Parameters
    ----------
    f : callable
        Of a step along a line; a step of 1 changes it much.
    noise : float
        How far rounding may move a value of f.

    >>> got, error = slope(np.exp, noise=1e-15)
    >>> abs(got - 1) < error < 1e-10
    True
    """
    d = [(f(h) - f(-h)) / (2 * h) for h in STEPS]
    s = [(16 * fine - coarse) / 15 for coarse, fine in itertools.pairwise(d)]

    def error(j: int) -> float:
        too_long = max(abs(s[j] - s[j - 1]), abs(s[j - 1] - s[j - 2]) / 256)
        return float(too_long + noise * (16 / STEPS[j + 1] + 1 / STEPS[j]) / 15)

    best = min(range(2, len(s)), key=error)
    return float(s[best]), error(best)


def _each_element(along: Callable[[str, tuple[int, ...]], Any], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the slope along every element of every input."""
    gradients = {name: np.empty_like(x) for name, x in inputs.items()}
    for name, gradient in gradients.items():
        for index in np.ndindex(gradient.shape):
            gradient[index] = along(name, index)
    return gradients


def relative_error(got: Array, want: Array) -> float:
    """Return max |got − want| / max |want|.

    >>> relative_error(np.array([1.0, 2.5]), np.array([1.0, 2.0]))
    0.25
    """
    return float(np.abs(got - want).max() / np.abs(want).max())


def assert_gradients(
    forward: Forward,
    got: Mapping[str, Array],
    inputs: Mapping[str, Array],
    dy: Array,
    method: Method = complex_step,
    tolerance: float | Mapping[str, float] = 1e-12,
    zero: Collection[str] = (),
) -> None:
    """Fail unless got["d" + name] is the gradient of sum(dy * forward(**inputs)) for each name of inputs.

    Parameters
    ----------
    forward : callable
        Takes the inputs by name and returns y. For a layer, a closure that sets its parameters.
    got : mapping
        What the backward under test returned: "dx", "dweight", ...
    inputs : mapping
        The arrays to differentiate by.
    dy : array
        The cotangent that the backward was given.
    method : callable
        `complex_step` or `central_difference`.
    tolerance : float or mapping
        For `relative_error`; or for each gradient's largest absolute error, as `tolerance.rounding` returns them.
    zero : collection of str
        Inputs whose gradient must vanish. For all others a vanishing one raises VacuousCheckError.

    >>> assert_gradients(lambda x: x**2, {"dx": np.array([8.0])}, {"x": np.array([2.0])}, dy=np.array([2.0]))
    >>> assert_gradients(lambda x: x**2, {"dx": np.array([7.0])}, {"x": np.array([2.0])}, dy=np.array([2.0]))
    Traceback (most recent call last):
    AssertionError: dx is off by 0.125 of its largest element; at (0,) got 7.0, want 8.0
    """
    missing = {"d" + name for name in inputs} - set(got)
    _require(not missing, f"backward returned no {', '.join(sorted(missing))}")
    for name, want in method(forward, inputs, dy).items():
        gradient = np.asarray(got["d" + name])
        _require(gradient.shape == want.shape, f"d{name} has shape {gradient.shape}, want {want.shape}")
        _require(bool(np.isfinite(want).all()), f"the numeric d{name} is not finite")
        _require(bool(np.isfinite(gradient).all()), f"d{name} is not finite")
        negligible = 1e-8 * np.abs(dy).max()
        if name in zero:
            _require(np.abs(want).max() < negligible, f"the numeric d{name} is not zero")
            _require(np.abs(gradient).max() < negligible, f"d{name} must be zero, got {np.abs(gradient).max()}")
            continue
        if np.abs(want).max() < negligible:
            raise VacuousCheckError(f"the numeric d{name} is about zero, so the check is vacuous; draw dy at random")
        error = relative_error(gradient, want)
        allowed = tolerance["d" + name] / np.abs(want).max() if isinstance(tolerance, Mapping) else tolerance
        observe(error, allowed)
        worst = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(gradient - want)), want.shape))
        _require(
            error <= allowed,
            f"d{name} is off by {error:.3g} of its largest element; "
            f"at {worst} got {gradient[worst]}, want {want[worst]}",
        )


def _require(condition: bool, message: str) -> None:
    """Raise an AssertionError that says the message and nothing else."""
    if not condition:
        raise AssertionError(message)
