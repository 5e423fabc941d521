"""What a library may do differently without being wrong, and how expected values are converted to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from minidl.check.case import Array, Case

CHOICES = {
    "momentum": ("new", "old"),
    "running_var": ("unbiased", "biased", "second_moment"),
    "layout": ("NCHW", "NHWC"),
    "single_value": ("zero", "raises"),
    "grads": ("accumulate", "overwrite"),
    "shards": ("unsupported", "synchronised"),
}


class NotSupportedError(Exception):
    """Raised by an adapter for an option its layer does not have: the case counts as declared, not as failed."""


@dataclass(frozen=True)
class Conventions:
    """Declared conventions; the first value of each is what holds when an adapter says nothing.

    Parameters
    ----------
    momentum : {"new", "old"}
        The weight of the new batch, or of the old statistics.
    running_var : {"unbiased", "biased", "second_moment"}
        The last is E[x²], named running_mean_square.
    layout : {"NCHW", "NHWC"}
        Of x and dy as the adapter gets them.
    single_value : {"zero", "raises"}
        Training BN on a single value for each channel gives zero (so y = bias), or raises.
    grads : {"accumulate", "overwrite"}
        Backward adds to the parameters' gradients, or overwrites them.
    shards : {"unsupported", "synchronised"}
        Whether forward and backward take a list of shards as one batch.

    Raises
    ------
    ValueError
        If a value is not one of the choices.

    Examples
    --------
    >>> Conventions(momentum="old").running_var
    'unbiased'
    """

    momentum: str = "new"
    running_var: str = "unbiased"
    layout: str = "NCHW"
    single_value: str = "zero"
    grads: str = "accumulate"
    shards: str = "unsupported"

    def __post_init__(self) -> None:
        """Refuse a value that is not one of the choices."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Conventions: {name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )


def declared(given: Mapping[str, str] | Conventions | None) -> Conventions:
    """Return the conventions that an adapter's attribute or the command line declares."""
    if isinstance(given, Conventions):
        return given
    known = {field.name for field in fields(Conventions)}
    for name in given or {}:
        if name not in known:
            raise ValueError(f"Conventions: a convention must be one of {', '.join(sorted(known))}, got {name!r}")
    return Conventions(**dict(given or {}))


def in_convention(case: Case, conventions: Conventions, dtype: str) -> Case:
    """The case as a layer of these conventions must answer it: other running statistics mean other expected values."""
    if case.layer != "batch_norm" or conventions.running_var == "unbiased" or case.result == "error":
        return case
    from minidl.check.expected import exactly, tolerances

    options = case.options | {"running_var": conventions.running_var}
    wide = replace(case, options=options, inputs=dict(case.inputs))
    values = exactly(wide)
    want = {
        name: value.astype(np.float64) for name, value in values.items() if name in case.expected or "_square" in name
    }
    if "state.1.running_mean" not in case.expected:
        want = {name: value for name, value in want.items() if not name.startswith("state")}
    kept = {key for key in want if key.startswith("out.") or key.endswith("running_mean")}
    tol = tolerances(wide, dtype, {key: value for key, value in want.items() if key not in kept})
    expected = {key: case.expected[key] if key in kept else value for key, value in want.items()}
    return replace(case, expected=expected, tol={dtype: tol | {key: case.tol[dtype][key] for key in kept}})


def adapted_inputs(case: Case, conventions: Conventions) -> tuple[dict[str, Array], dict[str, Any]]:
    """The inputs and options to hand to a layer of these conventions."""
    inputs, options = dict(case.inputs), dict(case.options)
    if conventions.momentum == "old" and "momentum" in options:
        options["momentum"] = 1.0 - options["momentum"]
    if conventions.running_var == "second_moment" and "state.0.running_var" in inputs:
        mean = inputs["state.0.running_mean"].astype(np.float64)
        inputs["state.0.running_mean_square"] = inputs.pop("state.0.running_var") + mean * mean
    return inputs, options


def is_gradient(name: str) -> bool:
    """Whether an output is the gradient of a parameter."""
    prefix, _, rest = name.partition(".")
    return prefix in ("out", "eval") and rest.startswith("d") and not rest.startswith("dx.")


def summed_gradients(values: Mapping[str, Array], conventions: Conventions) -> dict[str, Array]:
    """Parameter gradients as they stand after each backward: sums over the steps, where gradients accumulate."""
    if conventions.grads == "overwrite":
        return dict(values)
    sums: dict[str, Array] = {}
    result: dict[str, Array] = {}
    for name, value in values.items():
        if is_gradient(name):
            quantity = name.split(".", 1)[1].rpartition(".")[0]
            sums[quantity] = sums[quantity] + value if quantity in sums else value
            value = sums[quantity]
        result[name] = value
    return result
