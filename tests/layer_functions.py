"""Layers written value by value or in the reference's words: what `layer_cases` holds the package's layers against."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl import reference

Array = NDArray[Any]


def shaped_like(y: Array, x: Array) -> Array:
    return y.reshape(x.shape)


def flatten(x: Array) -> Array:
    return np.array([list(x_n.flat) for x_n in x])


def relu(x: Array) -> Array:
    return np.array([max(value, 0.0) for value in x.flat]).reshape(x.shape)


def relu_backward(dy: Array, x: Array) -> dict[str, Array]:
    return {
        "dx": np.array([d if value > 0 else 0.0 for d, value in zip(dy.flat, x.flat, strict=True)]).reshape(x.shape)
    }


def tanh(x: Array) -> Array:
    return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))


def tanh_backward(dy: Array, x: Array) -> dict[str, Array]:
    return {"dx": dy / np.cosh(x) ** 2}


def global_avg_pool(x: Array) -> Array:
    return reference.avg_pool2d(x, x.shape[2:])[:, :, 0, 0]


def global_avg_pool_backward(dy: Array, x: Array) -> dict[str, Array]:
    return reference.avg_pool2d_backward(dy[:, :, None, None], x, x.shape[2:])


MASK = (np.random.default_rng(11).random((3, 4, 5, 7)) >= 0.3) / 0.7


def residual(x: Array, branch_weight: Array, branch_bias: Array, shortcut_weight: Array, shortcut_bias: Array) -> Array:
    branch = reference.linear(x, branch_weight, branch_bias)
    return branch + reference.linear(x, shortcut_weight, shortcut_bias)


def residual_backward(
    dy: Array, x: Array, branch_weight: Array, branch_bias: Array, shortcut_weight: Array, shortcut_bias: Array
) -> dict[str, Array]:
    a = reference.linear_backward(dy, x, branch_weight, branch_bias)
    b = reference.linear_backward(dy, x, shortcut_weight, shortcut_bias)
    grads = {f"dbranch_{k}": a[f"d{k}"] for k in ("weight", "bias")}
    grads |= {f"dshortcut_{k}": b[f"d{k}"] for k in ("weight", "bias")}
    return grads | {"dx": a["dx"] + b["dx"]}


def identity_residual(x: Array, **branch: Array) -> Array:
    return x + reference.batch_norm(x, branch["branch_weight"], branch["branch_bias"], 0.01)


def identity_residual_backward(dy: Array, x: Array, **branch: Array) -> dict[str, Array]:
    grads = reference.batch_norm_backward(dy, x, branch["branch_weight"], branch["branch_bias"], 0.01)
    return {"dx": dy + grads["dx"], "dbranch_weight": grads["dweight"], "dbranch_bias": grads["dbias"]}


def row(x: Array, **p: Array) -> Array:
    return reference.linear(relu(reference.linear(x, p["0_weight"], p["0_bias"])), p["2_weight"], p["2_bias"])


def row_backward(dy: Array, x: Array, **p: Array) -> dict[str, Array]:
    hidden = reference.linear(x, p["0_weight"], p["0_bias"])
    last = reference.linear_backward(dy, relu(hidden), p["2_weight"], p["2_bias"])
    first = reference.linear_backward(relu_backward(last["dx"], hidden)["dx"], x, p["0_weight"], p["0_bias"])
    grads = {f"d{i}_{k}": g[f"d{k}"] for i, g in ((0, first), (2, last)) for k in ("weight", "bias")}
    return grads | {"dx": first["dx"]}


def second_moment(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function of the running variance into one of the running second moment."""

    def of_moments(*args: Array, running_mean: Array, running_mean_square: Array, **rest: Any) -> Any:
        var = np.maximum(running_mean_square - running_mean**2, 0)
        return function(*args, running_mean=running_mean, running_var=var, **rest)

    return of_moments
