"""Normalizations composed of parts (`minidl.check.variants.parts`): a layer with one or two slips is a variant.

Gradients are derived from the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from minidl.check.case import LAST_AXIS
from minidl.check.plain.arith import Array, detach, mean, sqrt, total
from minidl.check.plain.base import Plain
from minidl.check.plain.derived import Derived
from minidl.check.variants.kinds import Variant
from minidl.check.variants.parts import (
    ABOUT,
    BEFORE,
    CENTRES,
    CHUNKS,
    COUNTS,
    FOLDED,
    FORMS,
    INSIDE,
    PARTS_OF,
    PICKED,
    ROOTS,
    SCALED,
    SEEN,
    SHORT,
    Parts,
    actual,
    axes_of,
)


def viewed(x: Any, layer: str, groups: int) -> Any:
    """x with the axes that regions are told in."""
    shape = x.shape
    if layer in LAST_AXIS:
        middle = shape[1:-1]
        return x.reshape((shape[0], *((1,) * (2 - len(middle))), *middle, shape[-1]))
    space = (*shape[2:], *(1,) * (4 - len(shape)))
    return x.reshape((shape[0], groups, shape[1] // groups, *space))


def centred_by(centre: str, x: Any, mu: Any, rstd: Any, eps: float) -> Any:
    """x with its mean taken off, or what is done in place of it, and divided by its deviation."""
    if centre == "eps":
        return (x - mu) * rstd + eps
    if centre == "eps before":
        return (x - mu + eps) * rstd
    if centre == "after":
        return x * rstd - mu
    times = {"none": 0.0, "added": -1.0, "twice": 2.0}.get(centre, 1.0)
    return (x - times * (detach(mu) if centre == "detached" else mu)) * rstd


def largest(x: Any, axes: tuple[int, ...]) -> Any:
    """The largest of x over some axes, with its gradient."""
    top = detach(x).max(axis=axes, keepdims=True)
    chosen = detach(x) == top
    return total(x * chosen, axes) / chosen.sum(axis=axes, keepdims=True)


MEASURES: dict[str, Callable[[Any, Any, tuple[int, ...]], Any]] = {  # of x and x − mean, in place of the deviation
    "absolute": lambda x, c, axes: mean(abs(c), axes),
    "raw absolute": lambda x, c, axes: mean(abs(x), axes),
    "largest": lambda x, c, axes: largest(abs(c), axes),
    "raw largest": lambda x, c, axes: largest(abs(x), axes),
    "range": lambda x, c, axes: largest(x, axes) + largest(-x, axes),
    "fourth": lambda x, c, axes: sqrt(sqrt(mean(c * c * c * c, axes))),
}

MIDDLES: dict[str, Callable[[Any, tuple[int, ...]], Any]] = {  # in place of the mean, taken for constants
    "median": lambda x, axes: np.median(x, axis=axes, keepdims=True),
    "middle": lambda x, axes: (x.max(axis=axes, keepdims=True) + x.min(axis=axes, keepdims=True)) / 2,
    "first": lambda x, axes: x[tuple(slice(0, 1) if k in axes else slice(None) for k in range(x.ndim))],
}


def normalised(x: Any, weight: Any, bias: Any, parts: Parts, layer: str, eps: float) -> tuple[Any, Any, Any]:
    """y, the mean and the variance of x in view, by the parts."""
    if parts.chunk and (cuts := CHUNKS[parts.chunk](len(x))):
        whole = replace(parts, chunk="")
        found = [normalised(part, weight, bias, whole, layer, eps) for part in np.split(x, cuts)]
        both = list(zip(np.split(x, cuts), found, strict=True))
        y, means, variances = (np.concatenate([0 * part + of[k] for part, of in both]) for k in range(3))
        return y, means, variances
    if parts.form in (BEFORE, SCALED):
        x = x * weight + bias if parts.form == BEFORE else x * weight
    form = FORMS.get(parts.form, lambda h, w, b: h + b if parts.form == SCALED else h)
    mean_axes, var_axes = (actual(axes_of(layer, region), x.shape) for region in (parts.mean_over, parts.var_over))
    seen = SEEN[parts.seen](x)
    mu = mean(seen, mean_axes)
    if parts.mean_count:
        mu = mu * COUNTS[parts.mean_count](x.size // mu.size, x.shape)
    subtract = layer != "rms_norm"
    kind = PARTS_OF[parts.about][0] if parts.about in PARTS_OF else ABOUT[parts.about]
    if not subtract and kind == "centred" and not parts.centre:
        kind = "raw"
    if kind == "centred":
        var = mean((seen - mu) * (seen - mu), var_axes)
    elif kind == "raw":
        var = mean(seen * seen, var_axes)
    elif kind in ("within", "between"):
        own = mean(seen, actual(axes_of(layer, PARTS_OF[parts.about][1]), x.shape))
        off = seen - own if kind == "within" else own - mu + 0 * seen
        var = mean(off * off, var_axes)
    elif kind in MEASURES:
        spread = MEASURES[kind](x, x - mu, var_axes)
        var = spread * spread
    elif kind == "magnitudes":
        size = abs(x)
        var = mean(size * size, var_axes) - mean(size, var_axes) * mean(size, var_axes)
    else:
        first, second = mean(x, var_axes), mean(x * x, var_axes)
        var = {"twice": second - 2 * first * first, "plus": second + first * first, "mean": first * first}[kind]
    n = x.size // var.size if var.size else 1
    if parts.picked:
        which, pick = PICKED[parts.picked]
        mu = pick(mu) if "m" in which else mu
        var = pick(var) if "v" in which else var
    counted = var * COUNTS[parts.count](n, x.shape)
    rstd = ROOTS[parts.root](counted, eps, n)
    centre = CENTRES[parts.centre]
    if not subtract and centre == "mean":
        centre = "none"
    if centre == "magnitudes":
        mu, centre = mean(abs(x), mean_axes), "mean"
    elif centre == "rms":
        mu, centre = sqrt(mean(x * x, mean_axes)), "mean"
    elif centre == "largest":
        mu, centre = detach(x).max(axis=mean_axes, keepdims=True), "mean"
    elif centre in MIDDLES:
        mu, centre = MIDDLES[centre](detach(x), mean_axes), "mean"
    if parts.form == FOLDED:
        return x * rstd * weight + bias - mu * rstd, mu, var
    if parts.form == INSIDE:
        times = 1.0 if subtract else 0.0
        return ((x - times * mu) * weight + bias) * rstd, mu, var
    h = centred_by(centre, x, mu, rstd, eps)
    return form(h, weight, bias), mu, counted if parts.tracked else var


class Layer(Plain):
    """A normalization composed of parts."""

    def __init__(self, layer: str, options: Mapping[str, Any], parts: Parts) -> None:
        super().__init__(layer, options)
        self.parts = parts
        self.running_mean: Any = None
        self.running_var: Any = None

    def start(self) -> None:
        """Running mean 0 and running variance 1, of batch normalization."""
        zero = 0 * self.params["weight"]
        self.running_mean, self.running_var = zero, zero + (self.options.get("start") != "zero")

    def state(self) -> dict[str, Array]:
        """Return the running statistics."""
        if self.layer != "batch_norm":
            return {}
        return {"running_mean": self.running_mean, "running_var": self.running_var}

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass."""
        groups = {"layer_norm": 1}.get(self.layer) or int(self.options.get("num_groups", x.shape[1]))
        if self.layer not in LAST_AXIS and x.shape[1] % groups:
            raise ValueError("num_groups must divide the channels")
        view = viewed(x, self.layer, groups)
        weight, bias = (self.column(name, x, groups) for name in ("weight", "bias"))
        parts = self.parts
        if self.layer == "batch_norm" and not training:
            column = (1, -1, 1, 1, 1)
            mu, var = self.running_mean.reshape(column), self.running_var.reshape(column)
            rstd = ROOTS[parts.root](var, self.options["eps"], 1)
            form = FORMS.get(parts.form, FORMS[""])
            h = centred_by(CENTRES[parts.centre], view, mu, rstd, self.options["eps"])
            if parts.form == FOLDED:
                h = h + mu * rstd * (weight - 1) / weight
            if parts.form == INSIDE:
                h = h + bias * (rstd - 1) / weight
            given: Array = (form(h, weight, bias) + 0 * view).reshape(x.shape)
            return given
        y, mu, var = normalised(view, weight, bias, parts, self.layer, self.options["eps"])
        if self.layer == "batch_norm":
            self.update(detach(mu), detach(var), x)
        out: Array = (y + 0 * view).reshape(x.shape)
        return out

    def column(self, name: str, x: Array, groups: int) -> Any:
        """A parameter in the shape of the view."""
        value = self.params.get(name)
        if value is None:
            return 0.0
        if self.layer in LAST_AXIS:
            return value
        return value.reshape((1, groups, -1, 1, 1))

    def update(self, mu: Array, var: Array, x: Array) -> None:
        """Move the running statistics; of statistics over other values, by their means."""
        lam, n, shape = self.options["momentum"], x.size // x.shape[1], (1, x.shape[1], 1, 1, 1)
        first, second = (mean(np.broadcast_to(v, np.broadcast_shapes(v.shape, shape)), (0, 2, 3, 4)) for v in (mu, var))
        if self.options.get("running_var", "unbiased") == "unbiased":
            second = second * n / max(n - 1, 1)
        self.running_mean = (1 - lam) * self.running_mean + lam * first.reshape(-1)
        self.running_var = (1 - lam) * self.running_var + lam * second.reshape(-1)


@dataclass(frozen=True)
class Composed(Variant):
    """A variant that is composed of parts."""

    parts: Parts = field(default_factory=Parts)

    @property
    def key(self) -> tuple[Any, ...]:
        """Its parts tell it from others."""
        return *super().key, self.parts

    @property
    def closed(self) -> bool:
        """Its gradients are derived already."""
        return True

    def plain(self, layer: str, options: dict[str, Any]) -> Any:
        """Build the layer; its gradients are derived from its forward pass."""
        return Derived(Layer(layer, options, self.parts))


def answering(
    layer: str,
    options: Mapping[str, Any],
    x: Array,
    y: Array,
    tol: Array,
    params: Mapping[str, Array],
    among: tuple[Parts, ...],
) -> Iterator[Parts]:
    """The parts that give y of x in training."""
    made = Layer(layer, options, Parts())
    groups = {"layer_norm": 1}.get(layer) or int(options.get("num_groups", x.shape[1]))
    made.params = dict(params)
    view = viewed(x, layer, groups)
    want, allowed = viewed(y, layer, groups), viewed(tol, layer, groups)
    weight, bias = (made.column(name, x, groups) for name in ("weight", "bias"))
    for parts in among:
        with np.errstate(all="ignore"):
            try:
                said = normalised(view, weight, bias, parts, layer, float(options["eps"]))[0]
            except ValueError:  # shapes that do not fit
                continue
            if np.shape(said) == want.shape and bool((np.abs(said - want) <= allowed).all()):
                yield parts


def composed(layer: str, parts: Parts) -> Composed:
    """The variant of some parts."""
    slips = parts.slips
    name = " + ".join(SHORT.get(slip, slip) for slip in slips)
    says = f"{' and '.join(slips)}; the rest of the forward pass is right"
    return Composed(layer, name, says, (), parts=parts)
