"""Check a backward pass against derivatives of its forward pass, and refuse checks that could not fail."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minidl.check.case import Array
from minidl.check.values import away_from_zero

Forward = Callable[..., Array]
Backward = Callable[..., Mapping[str, Array]]
METHODS = ("complex", "central", "direction")
BOUND = {"complex": 1e-12, "central": 1e-6, "direction": 1e-6}


class VacuousCheckError(Exception):
    """The derivatives are about zero, so that a wrong backward pass would be accepted."""


def gradient(
    forward: Forward,
    backward: Backward,
    inputs: Mapping[str, Array],
    method: str = "complex",
    tol: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Compare backward's gradients with derivatives of sum(dy · forward), for a random dy.

    complex: Im f(x + ih) / h, exact to rounding, for a forward that runs in complex numbers (no abs, no max);
    central: (f(x + h) − f(x − h)) / 2h of every element; direction: the same along one random direction an input, for
    large ones.

    Parameters
    ----------
    forward : called as ``forward(**inputs)``, gives one array
    backward : called as ``backward(dy, **inputs)``, gives {"d" + name: gradient}
    inputs : float64 arrays; those whose gradient backward does not give are held constant
    method : complex, central or direction
    tol : largest relative error allowed; 1e-12 for complex, 1e-6 for the others
    seed : another number gives another dy

    Returns
    -------
    dict
        The largest error of each gradient, relative to its largest element.

    Raises
    ------
    TypeError
        If forward or backward cannot be called with the inputs, or these have no names.
    ValueError
        If the method is none of these, or an input is of too low a precision for the derivative.
    VacuousCheckError
        If an input's numeric gradient is about zero: with dy = 1, for instance, any backward of a norm would pass.
    AssertionError
        If a gradient is wrong, or is named after no input; the message names it.

    Examples
    --------
    >>> x = np.array([[0.3, -1.2], [0.7, 0.4], [2.0, 0.1]])
    >>> errors = gradient(lambda x: x**3, lambda dy, x: {"dx": 3 * x**2 * dy}, {"x": x})
    >>> errors["x"] < 1e-12
    True
    >>> gradient(lambda x: x**3, lambda dy, x: {"dx": 2 * x**2 * dy}, {"x": x})
    Traceback (most recent call last):
    AssertionError: gradient: dx must agree with the complex derivative to 1e-12, got 0.333; look at the terms of dx
    """
    if method not in METHODS:
        raise ValueError(f"gradient: method must be one of {', '.join(METHODS)}, got {method!r}")
    bound = BOUND[method] if tol is None else tol
    if not isinstance(inputs, Mapping):
        raise TypeError(
            f"gradient: inputs must be a mapping of names to arrays, got {type(inputs).__name__}; give {{'x': x}}"
        )
    held = {name: np.array(value) for name, value in inputs.items()}
    _check_called("forward", forward, (), held)
    _check_called("backward", backward, ("dy",), held)
    y = np.asarray(forward(**held))
    if y.dtype.kind not in "fc":
        raise AssertionError(f"gradient: forward must return an array of floating numbers, got {_what(y)}; return y")
    if not np.isfinite(y).all():
        raise AssertionError(
            f"gradient: forward must give finite numbers, got {y[~np.isfinite(y)].flat[0]}; look at forward, or use "
            "other inputs"
        )
    dy = away_from_zero(f"cotangent {seed}", *y.shape)
    grads: Any = backward(dy.copy(), **{name: value.copy() for name, value in held.items()})
    if not hasattr(grads, "keys"):
        what = type(grads).__name__ if grads is not None else "None"
        raise AssertionError(f"gradient: backward must return a dict, such as {{'dx': dx}}, got {what}; return it")
    if strangers := sorted(str(key) for key in grads if key not in {f"d{name}" for name in held}):
        raise AssertionError(
            f"gradient: backward must name its gradients d + input, {', '.join(f'd{name}' for name in held)}, got "
            f"{strangers[0]}; rename it, or leave it out"
        )
    errors: dict[str, float] = {}
    for name in held:
        if f"d{name}" not in grads:
            continue
        if _too_narrow(held[name].dtype, method, tol):
            raise ValueError(
                f"gradient: inputs must be float64, which a derivative to {bound:g} needs, got {held[name].dtype} for "
                f"{name}; use {name}.astype('float64')"
            )
        got = np.asarray(grads[f"d{name}"])
        if got.dtype.kind not in "fiuc":
            raise AssertionError(
                f"gradient: d{name} must be an array of numbers, got {_what(got)}; let backward give it"
            )
        if got.shape != held[name].shape:
            raise AssertionError(
                f"gradient: d{name} must have shape {held[name].shape}, got {got.shape}; see its sum over axes"
            )
        errors[name] = _error(forward, dy, held, name, got, method, seed)
        if not errors[name] <= bound:
            what = "complex" if method == "complex" else "numeric"
            raise AssertionError(
                f"gradient: d{name} must agree with the {what} derivative to {bound:g}, got {errors[name]:.3g}; "
                f"look at the terms of d{name}"
            )
    if not errors:
        raise VacuousCheckError("gradient: backward must give the gradient of an input, got none; name them d + input")
    return errors


def _check_called(what: str, function: Any, first: tuple[str, ...], held: Mapping[str, Array]) -> None:
    """Raise TypeError unless a function can be called as `gradient` calls it."""
    call = f"{what}({', '.join((*first, *held))})"
    if not callable(function):
        raise TypeError(f"gradient: {what} must be a function, got {type(function).__name__}; give {call}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function that was compiled
        return
    try:
        signature.bind(*first, **held)
    except TypeError as error:
        swapped = "; forward comes first, then backward" if "dy" in str(error) and what == "forward" else ""
        raise TypeError(
            f"gradient: {what} must take the inputs by their names, {call}, got {error}{swapped or '; define it so'}"
        ) from error


def _too_narrow(dtype: np.dtype[Any], method: str, tol: float | None) -> bool:
    """Whether rounding in a dtype, or a step that it cannot hold, would be taken for a wrong gradient."""
    if method == "complex":  # the derivative is of complex128: the gradient alone is rounded
        return dtype.kind == "f" and dtype.itemsize < 8 and tol is None
    return dtype.kind not in "fc" or dtype.itemsize < 8


def _what(array: Array) -> str:
    """Return what is no array of numbers."""
    return "None" if array.dtype == object and array.ndim == 0 and array[()] is None else str(array.dtype)


def _error(forward: Forward, dy: Array, held: dict[str, Array], name: str, got: Array, method: str, seed: int) -> float:
    """Largest error of one gradient relative to its largest element, or VacuousCheckError."""

    def loss(value: Array) -> Any:
        return np.asarray(dy * forward(**{**held, name: value})).sum()

    base = held[name]
    if method == "direction":
        along = away_from_zero(f"direction {name} {seed}", *base.shape)
        step = 1e-6 * max(1.0, float(np.abs(base).max(initial=0.0)))
        numeric = np.asarray((loss(base + step * along) - loss(base - step * along)) / (2 * step))
        claimed = np.asarray((got * along).sum())
        floor = float(np.abs(got * along).sum())
    else:
        numeric = np.empty(base.shape)
        for index in np.ndindex(*base.shape):
            numeric[index] = _derivative(loss, base, index, method)
        claimed, floor = got, 0.0
    size = max(float(np.abs(numeric).max(initial=0.0)), floor)
    noise = float(np.abs(dy).sum()) * (1e-13 if method == "complex" else 1e-7)
    if size <= noise:
        raise VacuousCheckError(
            f"gradient: the derivative by {name} must not vanish, got {size:.2g}; this check would accept any d{name}: "
            "use other inputs"
        )
    return float(np.abs(np.asarray(claimed) - numeric).max() / size)


def _derivative(loss: Callable[[Array], Any], base: Array, index: tuple[int, ...], method: str) -> float:
    if method == "complex":
        moved = base.astype(np.complex128)
        moved[index] += 1e-100j
        return float(np.imag(loss(moved)) / 1e-100)
    step = 1e-6 * max(1.0, abs(float(base[index])))
    up, down = base.copy(), base.copy()
    up[index] += step
    down[index] -= step
    return float((loss(up) - loss(down)) / (up[index] - down[index]))
