"""An output that is the right one but for a factor, a summand, an order or a place: told from the right output alone.

No layer is replayed.  What a layer answers is held against simple functions of what it must answer; a function is
named only if it explains nearly all wrong outputs of a kind, leaves the right ones right, and is the only one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minidl.check.case import Array
from minidl.check.diagnosis.evaluation import by_evaluation
from minidl.check.diagnosis.evidence import Tensor
from minidl.check.diagnosis.functions import by_function
from minidl.check.diagnosis.items import CONSTANTS, SHARE, Item, everywhere, factors, fits, sizes
from minidl.check.diagnosis.norms import pieces
from minidl.check.diagnosis.partial import by_partial, by_statistic
from minidl.check.diagnosis.updates import by_update

Found = tuple[str, set[Tensor]]


def ratio(got: Array, want: Array, tol: Array, limit: float = 1e-3) -> float | None:
    """The one factor between two arrays, by least squares, or None if there is none."""
    weight = 1 / tol
    below = float(((want * weight) ** 2).sum())
    if below == 0:
        return None
    factor = float((got * want * weight**2).sum()) / below
    off = np.abs(got - factor * want) > np.maximum(tol * max(1.0, abs(factor)), 0)
    return factor if not off.any() and abs(factor - 1) > limit else None


def by_factor(found: list[Item], where: Callable[[Item], Array] | None = None) -> tuple[str, set[Tensor]] | None:
    """The factor that all wrong outputs of a kind have, in words."""
    wrong = [item for item in found if item.wrong]
    measured: list[tuple[Item, float]] = []
    for item in wrong:
        base = item.want * where(item) if where else item.want
        if np.shape(base) != item.got.shape:
            return None
        if not np.any(np.abs(base) > 30 * item.tol):
            continue
        factor = ratio(item.got, base, item.tol, -1.0 if where else 1e-3)
        if factor is not None:
            measured.append((item, factor))
    if len(measured) < max(2, min(3, len(wrong))) or len(measured) < 0.9 * len(wrong):
        return None
    if where and spoilt(found, lambda item: item.want * where(item)):
        return None
    if where and all(abs(factor - 1) < 1e-3 for _, factor in measured):
        return "", {item.at for item, _ in measured}
    if all(abs(factor) < 1e-6 for _, factor in measured) and not spoilt(found, lambda item: 0 * item.want):
        return "is zero", {item.at for item, _ in measured}
    if where:
        return None
    names: list[str] = []
    spread = np.ptp([factor for _, factor in measured]) > 1e-3
    tables = [(dict(factors(item)), factor) for item, factor in measured]
    counts = {name: sum(_close(t, name, factor) for t, factor in tables) for name in tables[0][0]}
    most = max(counts.values())
    if most >= SHARE * len(tables):
        names = [name for name, count in counts.items() if count == most]
    if not spread:  # a number that never changes is no count, though it may equal one
        names = [name for name in names if name in CONSTANTS]
    if not names or len(names) > 3:
        return None
    if spoilt(found, lambda item: item.want * dict(factors(item)).get(names[0], 1.0)):
        return None
    hits = {item.at for (item, factor), (t, _) in zip(measured, tables, strict=True) if _close(t, names[0], factor)}
    if not everywhere((item for item, _ in measured), hits):
        return None
    return " or ".join(names), hits


def spoilt(found: list[Item], predict: Callable[[Item], Array]) -> bool:
    """Whether a prediction would make many outputs wrong that are right."""
    right = [item for item in found if not item.wrong]
    wrong = len(found) - len(right)
    return sum(not item.equals(predict(item)) for item in right) > 0.1 * wrong


def _close(table: dict[str, float], name: str, factor: float) -> bool:
    return name in table and abs(table[name] - factor) <= 2e-3 * abs(factor)


def _as_param(item: Item, name: str) -> Array:
    """A parameter per channel in the shape of an output."""
    value = item.params.get(name)
    if value is None or value.ndim != 1:
        return np.zeros(())
    if value.shape == item.want.shape:
        return value
    channel = item.want.ndim - 1 if item.layer.endswith("_last") or item.layer == "rms_norm" else 1
    if item.want.ndim < 2 or item.want.shape[channel] != value.size:
        return np.zeros(())
    shape = [1] * item.want.ndim
    shape[channel] = -1
    return np.broadcast_to(value.reshape(shape), item.want.shape)


def _rstd(item: Item, power: float) -> Array:
    p = pieces(item)
    if p is None and item.layer == "batch_norm" and item.running is not None:
        rstd = 1 / np.sqrt(item.running + float(item.options["eps"]))
        if item.want.shape == rstd.shape:
            return np.asarray(rstd**power)
        return np.broadcast_to((rstd**power).reshape((1, -1) + (1,) * (item.x.ndim - 2)), item.want.shape)
    if p is None:
        return np.zeros(())
    if item.want.shape == item.x.shape:
        return p.back(np.broadcast_to(p.rstd, p.x.shape) ** power)
    return np.reshape(p.rstd**power, item.want.shape) if p.rstd.size == item.want.size else np.zeros(())


def _stale(item: Item) -> Array:
    """1/sigma of the running variance after the step, over that of the batch."""
    p = pieces(item)
    if p is None or item.after is None:
        return np.zeros(())
    stale = 1 / np.sqrt(item.after + float(item.options["eps"])).reshape(p.rstd.shape)
    both = stale / p.rstd
    return both.reshape(item.want.shape) if both.size == item.want.size else np.broadcast_to(both, item.want.shape)


FIELDS: dict[str, Callable[[Item], Array]] = {
    "has the factor weight once too often": lambda item: _as_param(item, "weight"),
    "lacks the factor weight": lambda item: 1 / _as_param(item, "weight"),
    "has the magnitude of weight for weight": lambda item: np.sign(_as_param(item, "weight")),
    "has bias as a factor": lambda item: _as_param(item, "bias"),
    "has the factor 1/sigma once too often": lambda item: _rstd(item, 1.0),
    "lacks the factor 1/sigma": lambda item: _rstd(item, -1.0),
    "has the factor 1/sigma² too many": lambda item: _rstd(item, 2.0),
    "has the factor sigma² too many": lambda item: _rstd(item, -2.0),
    "has sigma of the running variance": lambda item: _stale(item),
    "has dy as a factor once too often": lambda item: np.broadcast_to(
        item.dy if item.dy is not None and item.dy.ndim == 0 else np.zeros(()), item.want.shape
    ),
    "has the sign of dy alone": lambda item: np.broadcast_to(
        1 / abs(item.dy) if item.dy is not None and item.dy.ndim == 0 else np.zeros(()), item.want.shape
    ),
    "does not depend on dy": lambda item: np.broadcast_to(
        1 / item.dy if item.dy is not None and item.dy.ndim == 0 else np.zeros(()), item.want.shape
    ),
}


def by_summand(found: list[Item]) -> Found | None:
    """A multiple of a parameter or an input that is added to the right output."""
    wrong = [item for item in found if item.wrong]
    for name in ("weight", "bias", "x", "dy", "x squared", "a constant", "gate.weight", "gate.bias"):
        measured = []
        for item in wrong:
            source = summand(item, name)
            if source is None:
                break
            factor = ratio(item.got - item.want, source, item.tol, -np.inf)
            if factor is None or abs(factor) * np.abs(source).max() < 2 * item.tol.max():
                continue
            measured.append((item, factor))
        if len(measured) < 3 or len(measured) < 0.9 * len(wrong):
            continue
        numbers = np.array([factor for _, factor in measured])
        middle = float(np.median(numbers))
        hits = {item.at for item, factor in measured}
        if spoilt(found, lambda item, name=name, by=middle: _with(item, name, by)):  # type: ignore[misc]
            continue
        if np.all(np.abs(numbers - middle) <= 2e-2 * abs(middle)):
            times = {1.0: "", -1.0: "−"}.get(round(middle, 3), f"{middle:.3g} ")
            note = " (weight decay, or a residual path)" if name in ("weight", "x") else ""
            return f"has {times}{name} added{note}", hits
        if name in ("weight", "bias") and (whole := multiplied(measured)):
            return f"has {name} {whole}", hits
        for word, _ in sizes(measured[0][0]):
            tables = [(dict(sizes(item)).get(word, np.nan), factor) for item, factor in measured]
            for says, power in ((f"over {word}", -1.0), (f"times {word}", 1.0)):
                if np.mean([abs(v**power - f) <= 1e-2 * abs(f) for v, f in tables]) >= 0.9:
                    return f"has {name} {says} added", hits
    return None


def _with(item: Item, name: str, factor: float) -> Array:
    source = summand(item, name)
    return item.want if source is None else item.want + factor * source


def multiplied(measured: list[tuple[Item, float]]) -> str | None:
    """By what a summand is multiplied that should stand there once."""
    for word, _ in sizes(measured[0][0]):
        tables = [(dict(sizes(item)).get(word, np.nan), 1 + factor) for item, factor in measured]
        for says, power in (("divided by", -1.0), ("multiplied by", 1.0)):
            if np.mean([abs(v**power - f) <= 1e-2 * abs(f) for v, f in tables]) >= 0.9:
                return f"{says} {word}"
    return None


def summand(item: Item, name: str) -> Array | None:
    """What may be added to an output, in its shape."""
    source: Array | None = None
    if name in ("x", "x squared"):
        source = item.x if name == "x" else item.x**2
    elif name == "dy":
        source = item.dy
    elif name == "a constant":
        source = np.ones(item.want.shape)
    elif name in item.params and item.params[name].dtype.kind == "f":
        source = item.params[name]
        if source.ndim == 1 and source.shape != item.want.shape:
            source = _as_param(item, name)
    return source if source is not None and source.shape == item.want.shape and np.any(source) else None


def by_clipping(found: list[Item]) -> Found | None:
    """A bound that outputs are cut off at."""
    wrong = [item for item in found if item.wrong]
    bounds = [float(np.abs(item.got).max()) for item in wrong]
    middle = float(np.median(bounds))
    if len(wrong) < 3 or np.mean(np.abs(np.array(bounds) - middle) <= 1e-5 * middle) < 0.9:
        norms = [float(np.sqrt((item.got**2).sum())) for item in wrong]
        middle = float(np.median(norms))
        if len(wrong) >= 3 and np.mean(np.abs(np.array(norms) - middle) <= 1e-4 * middle) >= 0.9:
            hits = fits(found, lambda item: item.want * min(1.0, middle / (np.sqrt((item.want**2).sum()) or 1)))
            return (f"is scaled down to a norm of {middle:.4g}: gradient clipping", hits) if hits else None
        return None
    hits = fits(found, lambda item: np.clip(item.want, -middle, middle))
    return (f"is clipped to the range from −{middle:.4g} to {middle:.4g}", hits) if hits else None


def told_of(found: list[Item]) -> Found | None:
    """What is wrong with the outputs of one kind, in words, and the outputs it explains."""
    wrong = [item for item in found if item.wrong]
    if len(wrong) < 2:
        return None
    state = wrong[0].at[1].startswith("state.")
    prefix, _, rest = wrong[0].at[1].partition(".")
    if rest.startswith("y") and (evaluation := by_evaluation(found, training=prefix == "out")):
        return evaluation
    if scaled := by_factor(found):
        return scaled
    for name, field in FIELDS.items():
        with_field = by_factor(found, field)
        if with_field and not with_field[0]:
            return name, with_field[1]
    if state and (update := by_update(found) or by_statistic(found)):
        return update
    if partial := by_partial(found):
        return partial
    for way in (by_clipping, by_function, by_summand):
        if told := way(found):
            return told
    return None
