"""What batch normalization normalises with in evaluation, read from its y."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minidl.check.case import Array
from minidl.check.diagnosis.evidence import Tensor
from minidl.check.diagnosis.items import LEAST, SHARE, Item, everywhere

Found = tuple[str, set[Tensor]]


def by_evaluation(found: list[Item], training: bool = False) -> Found | None:
    """What batch normalization normalises with, in evaluation or in training: y is an affine map of x per channel."""
    told: dict[str, set[Tensor]] = {}
    looked_at: list[Item] = []
    for item in (item for item in found if item.wrong and item.training == training):
        measured = affine(item)
        if measured is None:
            continue
        looked_at.append(item)
        names = [
            " and ".join(filter(None, (a, b, form))) or "nothing"
            for form, centre, square in measured
            for a, value in (of_batch_centres(item) if training else centres(item))
            if near(value, centre)
            for b, other in (of_batch_squares(item) if training else squares(item))
            if near(other, square)
        ]
        for name in names:
            told.setdefault(name, set()).add(item.at)
    least = max(LEAST, SHARE * len(looked_at))
    best = [name for name, hits in told.items() if len(hits) >= least and everywhere(looked_at, hits)]
    best.sort(key=lambda name: (-len(told[name]), len(name)))
    where = "training" if training else "evaluation"
    return (f"of {where}: {best[0]}", told[best[0]]) if best and best[0] != "nothing" else None


def near(value: Array, measured: Array) -> bool:
    """Whether a statistic is what was read from y, with few digits lost."""
    return bool((np.abs(value - measured) <= 1e-4 * (np.abs(measured) + np.abs(value) + 0.1)).all())


def slope_and_start(item: Item) -> tuple[Array, Array] | None:
    """The slope and the intercept of y as an affine map of x, for each channel, of batch normalization."""
    if item.layer != "batch_norm" or item.x.ndim < 2 or item.x.size // item.x.shape[1] < 3:
        return None
    x, y = (np.moveaxis(v, 1, 0).reshape(v.shape[1], -1) for v in (item.x, item.got))
    middle = x.mean(1, keepdims=True)
    spread = ((x - middle) ** 2).sum(1)
    if not (spread > 0).all() or np.abs(middle).max() > 100:
        return None
    slope = ((x - middle) * y).sum(1) / spread
    start = y.mean(1) - slope * middle[:, 0]
    if not item.equals(np.reshape(_column(slope, item.x) * item.x + _column(start, item.x), item.x.shape), 4.0):
        return None
    if not np.all(slope):
        return None
    return slope, start


def affine(item: Item) -> list[tuple[str, Array, Array]] | None:
    """The centre and the squared divisor of y in each channel, for each way that weight and bias may be applied."""
    lines = slope_and_start(item)
    if lines is None:
        return None
    slope, start = lines
    weight, bias = item.params["weight"], item.params["bias"]
    zero = 0 * bias
    forms = {
        "": (weight, bias),
        "weight is ignored": (zero + 1, bias),
        "bias is ignored": (weight, zero),
        "weight and bias are ignored": (zero + 1, zero),
        "weight has 1 added": (weight + 1, bias),
        "bias is subtracted": (weight, -bias),
        "weight and bias are swapped": (bias, weight),
        "bias is added before weight multiplies": (weight, weight * bias),
    }
    return [(name, (b - start) / slope, (w / slope) ** 2) for name, (w, b) in forms.items()]


def _column(value: Array, x: Array) -> Array:
    return value.reshape((1, -1) + (1,) * (x.ndim - 2))


def of_batch_centres(item: Item) -> Iterator[tuple[str, Array]]:
    """What may be subtracted in training."""
    mean = item.x.mean((0, *range(2, item.x.ndim)))
    yield "", mean
    yield "no mean is subtracted", 0 * mean
    if item.running_mean is not None:
        lam = float(item.options["momentum"])
        yield "the mean is the running one", item.running_mean
        yield "the mean is the running one, just updated", (1 - lam) * item.running_mean + lam * mean


def of_batch_squares(item: Item) -> Iterator[tuple[str, Array]]:
    """What may be under the root in training, eps included."""
    eps, var = float(item.options["eps"]), item.x.var((0, *range(2, item.x.ndim)))
    yield "", var + eps
    for word, running in (("the running one", item.running), ("the running one, just updated", item.after)):
        if running is not None:
            yield f"the variance is {word}", running + eps
            yield f"the variance is {word} and eps is missing", running
            yield f"the variance is {word} and is taken for a deviation", (running + eps) ** 2
    yield "there is no division by the deviation", 0 * var + 1


def square_of(item: Item) -> Array:
    """The running variance with eps."""
    running = item.running if item.running is not None else np.ones(item.x.shape[1])
    return np.asarray(running + float(item.options["eps"]))


def debiased(item: Item) -> Iterator[tuple[str, float]]:
    """What running statistics are divided by that are taken to have started at 0, after some steps of training."""
    lam = float(item.options["momentum"])
    if item.trained and 0 < lam < 1:
        yield "1 − (1 − momentum)^t, t being the number of steps", 1 - (1 - lam) ** item.trained


def centres(item: Item) -> Iterator[tuple[str, Array]]:
    """What may be subtracted in evaluation."""
    running = item.running_mean
    axes = (0, *range(2, item.x.ndim))
    if running is not None:
        yield "", running
        yield "the running mean is added", -running
        lam = float(item.options["momentum"])
        for word, value in (("momentum", lam), ("1 − momentum", 1 - lam)):
            yield f"the running mean is multiplied by {word}", running * value
            yield f"the running mean is divided by {word}", running / (value or np.nan)
        for word, part in debiased(item):
            yield f"the running mean is divided by {word}", running / part
        weight, sigma = item.params["weight"], np.sqrt(np.abs(square_of(item)))
        with np.errstate(all="ignore"):
            yield "weight is missing in the folded shift, bias − mean/sigma", running / weight
            yield "weight stands twice in the folded shift", running * weight
            yield "weight and sigma are missing in the folded shift, bias − mean", running * sigma / weight
    yield "the mean is that of the batch", item.x.mean(axes)
    yield "no mean is subtracted", 0 * item.x.mean(axes)


def squares(item: Item) -> Iterator[tuple[str, Array]]:
    """What may be under the root in evaluation, eps included."""
    running, eps = item.running, float(item.options["eps"])
    axes = (0, *range(2, item.x.ndim))
    n = item.x.size // item.x.shape[1]
    if running is not None:
        yield "", running + eps
        yield "eps is missing", running
        yield "eps is outside the root", (np.sqrt(running) + eps) ** 2
        yield "eps is squared", running + eps * eps
        yield "eps is fixed at 1e-5", running + 1e-5
        yield "the running variance is multiplied by n/(n − 1)", running * n / max(n - 1, 1) + eps
        yield "the running variance is multiplied by (n − 1)/n", running * (n - 1) / n + eps
        big = item.x.shape[0]
        yield "the running variance is multiplied by N/(N − 1)", running * big / max(big - 1, 1) + eps
        yield "the running variance is multiplied by n", running * n + eps
        yield "the running variance is divided by n", running / n + eps
        yield "the running variance is taken for a deviation", (running + eps) ** 2
        yield "the running variance is taken for a deviation, eps missing", running**2
        yield "x is multiplied by the deviation", 1 / (running + eps)
        yield "the running variance is taken for 1/sigma", 1 / running**2
        lam = float(item.options["momentum"])
        for word, value in (("momentum", lam), ("1 − momentum", 1 - lam)):
            yield f"the running variance is multiplied by {word}", running * value + eps
            yield f"the running variance is divided by {word}", running / (value or np.nan) + eps
        for word, part in debiased(item):
            yield f"the running variance is divided by {word}", running / part + eps
        if item.running_mean is not None:
            square = item.running_mean**2
            yield "the square of the running mean is subtracted from the running variance", running - square + eps
            yield "the square of the running mean is added to the running variance", running + square + eps
    var = item.x.var(axes)
    yield "the variance is that of the batch", var + eps
    yield "the variance is that of the batch, by n − 1", var * n / max(n - 1, 1) + eps
    yield "there is no division by the deviation", 0 * var + 1
    if item.running_mean is not None:
        about = ((item.x - _column(item.running_mean, item.x)) ** 2).mean(axes)
        yield "the variance is that of the batch about the running mean", about + eps
