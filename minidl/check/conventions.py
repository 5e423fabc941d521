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
    "dilation": ("unsupported", "supported"),
    "start": ("one", "zero"),
    "backward": ("full", "training", "none"),
    "outputs": ("same", "float64"),
    "variance": ("two_pass", "one_pass"),
    "reduction": ("mean", "sum"),
    "count_include_pad": ("yes", "no"),
    "ties": ("first", "last", "all"),
}
NUMBERS = ("eps", "momentum_value")  # "given", or the number a layer has built in
SMALL_MEAN = 1e3  # an offset that a one-pass variance does not stand


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
        The last is E[x²], named running_mean_square; a mode norm keeps it unless it declares ``biased``: then it keeps
        a variance, named running_var.
    layout : {"NCHW", "NHWC"}
        Of x and dy as the adapter gets them.
    single_value : {"zero", "raises"}
        Training BN on a single value for each channel gives zero (so y = bias), or raises.
    grads : {"accumulate", "overwrite"}
        Backward adds to the parameters' gradients, or overwrites them.
    shards : {"unsupported", "synchronised"}
        Whether forward and backward take a list of shards as one batch.
    dilation : {"unsupported", "supported"}
        Whether a convolution has dilation and groups: options ``dilation`` and ``groups``.
    start : {"one", "zero"}
        The running variance (or second moment) of a layer that has seen nothing.
    backward : str
        There is a backward pass, there is one after training alone, or there is none.
    outputs : str
        In the dtype of x, or always in float64.
    variance : str
        In two passes; or in one pass by design: then the tolerance grows by about 1 + m²/v, of a mean m and a variance
        v, and cases of a mean of 1000 or more do not count.
    reduction : {"mean", "sum"}
        The loss is the mean over the batch, or the sum.
    count_include_pad : str
        Whether the mean of a window counts the border's zeros.
    ties : str
        Which of equal values of a window gets the gradient.
    eps, momentum_value : str
        "given", or the number that the layer has built in.

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
    dilation: str = "unsupported"
    start: str = "one"
    backward: str = "full"
    outputs: str = "same"
    variance: str = "two_pass"
    reduction: str = "mean"
    count_include_pad: str = "yes"
    ties: str = "first"
    eps: str = "given"
    momentum_value: str = "given"

    def __post_init__(self) -> None:
        """Refuse a value that is not one of the choices."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Conventions: {name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        for name in NUMBERS:
            value = getattr(self, name)
            try:
                usable = value == "given" or float(value) >= 0
            except (TypeError, ValueError):
                usable = False
            if not usable:
                raise ValueError(f'Conventions: {name} must be "given" or a number of at least 0, got {value!r}')

    def excused(self, case: Case) -> str:
        """Why a case does not count for a layer of these conventions, or nothing."""
        if case.shards and self.shards == "unsupported":
            return "shards are declared unsupported"
        if self.dilation == "unsupported" and {"dilation", "groups"} & case.options.keys():
            return "dilation and groups are declared unsupported"
        large = abs(case.offset) >= SMALL_MEAN or case.flag == "constant"
        if self.variance == "one_pass" and large:
            return "a one-pass variance is declared, which a large mean is not for"
        if self.running_var == "biased" and case.layer == "mode_norm" and case.flag == "negative-variance":
            return "a running variance is declared, which cannot be negative"
        return ""


def declared(given: Mapping[str, Any] | Conventions | None) -> Conventions:
    """Return the conventions that an adapter's attribute or the command line declares."""
    if isinstance(given, Conventions):
        return given
    known = {field.name for field in fields(Conventions)}
    for name in given or {}:
        if name not in known:
            raise ValueError(f"Conventions: a convention must be one of {', '.join(sorted(known))}, got {name!r}")
    return Conventions(**{name: str(value) for name, value in (given or {}).items()})


def asked_options(case: Case, conventions: Conventions) -> dict[str, Any]:
    """The options by which a plain layer computes what a layer of these conventions must answer."""
    options = dict(case.options)
    if "eps" in options and conventions.eps != "given":
        options["eps"] = float(conventions.eps)
    if "momentum" in options and conventions.momentum_value != "given":
        number = float(conventions.momentum_value)
        options["momentum"] = number if conventions.momentum == "new" else 1.0 - number
    concerned = {
        "running_var": ("batch_norm", "mode_norm"),
        "start": ("batch_norm", "mode_norm"),
        "reduction": ("softmax_cross_entropy",),
        "count_include_pad": ("avg_pool2d",),
        "ties": ("max_pool2d",),
    }
    for name, layers in concerned.items():
        value = getattr(conventions, name)
        moments = name == "running_var" and case.layer == "mode_norm" and value != "biased"
        if case.layer in layers and value != CHOICES[name][0] and not moments:
            options[name] = value
    return options


def asked(case: Case, conventions: Conventions) -> Case:
    """The case as a plain layer must be asked it, to answer as a layer of these conventions must."""
    inputs = dict(case.inputs)
    steps = [step for step in case.steps if step != "reload"]
    for t, step in enumerate(steps):
        if conventions.backward == "none" or (conventions.backward == "training" and step == "eval"):
            inputs.pop(f"in.dy.{t}", None)
    if case.layer == "mode_norm" and conventions.running_var == "biased" and "state.0.running_mean_square" in inputs:
        mean = inputs["state.0.running_mean"].astype(np.float64)
        square = inputs.pop("state.0.running_mean_square")
        inputs["state.0.running_var"] = np.maximum(square - mean * mean, 0).astype(square.dtype)
    return replace(case, inputs=inputs, options=asked_options(case, conventions))


def adapted_inputs(case: Case, conventions: Conventions) -> tuple[dict[str, Array], dict[str, Any]]:
    """The inputs and options to hand to a layer of these conventions."""
    wide = asked(case, conventions)
    inputs, options = dict(wide.inputs), dict(case.options)
    for name in ("eps", "momentum"):
        if name in options:
            options[name] = wide.options[name]
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
