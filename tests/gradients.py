"""Numeric gradients to hold a backward against: the complex step, and central differences.

Both differentiate sum(dy * forward(...)) for a cotangent dy. Draw dy at random: with dy = 1 the gradient of a
normalization is zero and any wrong backward passes. `slope` is the central difference that knows its own error.

    from gradients import assert_gradients, central_differences, complex_step, slope
"""

import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tolerance import observe, rounding

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


STEPS = tuple(0.25 * 0.25**j for j in range(8))


def slope(f: Callable[[float], Any], noise: float, steps: tuple[float, ...] = STEPS) -> tuple[float, float]:
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
    steps : tuple of float
        h_0, h_1, ..., four or more, each a quarter of the one before.

    >>> got, error = slope(np.exp, noise=1e-15)
    >>> abs(got - 1) < error < 1e-10
    True
    """
    d = [(f(h) - f(-h)) / (2 * h) for h in steps]
    s = [(16 * fine - coarse) / 15 for coarse, fine in itertools.pairwise(d)]

    def error(j: int) -> float:
        too_long = max(abs(s[j] - s[j - 1]), abs(s[j - 1] - s[j - 2]) / 256)
        return float(too_long + noise * (16 / steps[j + 1] + 1 / steps[j]) / 15)

    best = min(range(2, len(s)), key=error)
    return float(s[best]), error(best)


def central_differences(
    forward: Forward, inputs: Mapping[str, Array], dy: Array
) -> tuple[dict[str, Array], dict[str, float]]:
    """Return the slope of sum(dy * forward) along each element of each input, and {"d" + name: its largest error}.

    Both are for `assert_gradients`. The error is the one of `slope`: of the steps' size, of a kink within them, and of
    rounding.

    >>> slopes, errors = central_differences(lambda x: x**3, {"x": np.array([2.0])}, dy=np.array([10.0]))
    >>> abs(slopes["x"][0] - 120) < errors["dx"] < 1e-9
    True
    """

    def loss(**arrays: Array) -> Any:
        return (dy * forward(**arrays)).sum()

    noise = rounding(loss, inputs)["y"]
    errors = {f"d{name}": 0.0 for name in inputs}

    def along(name: str, index: tuple[int, ...]) -> Any:
        def f(shift: float) -> Any:
            x = inputs[name].copy()
            x[index] += shift
            return loss(**{**inputs, name: x})

        found, error = slope(f, noise)
        errors[f"d{name}"] = max(error, errors[f"d{name}"])
        return found

    return _each_element(along, inputs), errors


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
        `complex_step`, or what returns slopes that are known.
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
