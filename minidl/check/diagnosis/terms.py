"""Which term of a normalization's dx is wrong, and what stands in its place: dx held against the terms of the formula.

    dx = rstd (d − mean(d) − xhat mean(d xhat)),  d = dy weight

Each of the three terms may be missing, carry a wrong factor, or be computed of something else (dy for d, x or y for
xhat), reduced over the wrong values, or have another power of rstd.  One or two wrong terms are looked for, by the
residual that the right other terms leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from minidl.check.case import LAST_AXIS, Array
from minidl.check.diagnosis.evidence import Tensor
from minidl.check.diagnosis.items import LEAST, SHARE, Item, agreed, everywhere, sizes
from minidl.check.diagnosis.norms import Pieces, pieces

POWERS = {
    " lacks the factor 1/sigma": -1.0,
    " has the factor 1/sigma once too often": 1.0,
    " has the factor 1/sigma twice too often": 2.0,
    " has sigma for 1/sigma": -2.0,
    " has a power of sigma that is off by 3": -3.0,
    " has a power of sigma that is off by 1/2": -0.5,
    " has a power of sigma that is off by −1/2": 0.5,
    " has a power of sigma that is off by 3/2": -1.5,
    " has a power of sigma that is off by −3/2": 1.5,
}
FACTORS = {" is missing": 0.0, " has the wrong sign": -1.0, " is doubled": 2.0, " is halved": 0.5}
SLOTS = ("the direct term", "the term of the mean", "the term of the variance")
LARGE = 3  # steps of the largest x that are looked at besides
MOST = 24  # steps that are looked at


def reductions(item: Item, p: Pieces) -> Iterator[tuple[str, Any]]:
    """Means, and what stands in their place, in words."""
    yield "", p.mean
    count = p.x.size / p.mean(p.x).size
    yield " is a sum where a mean belongs", lambda v: p.mean(v) * count
    yield " divides by n − 1 for n", lambda v: p.mean(v) * count / max(count - 1, 1)
    for name, value in sizes(item):
        if abs(value - count) > 1e-9 and value > 1:
            yield f" divides by {name}", lambda v, value=value: p.mean(v) * count / value
            yield f" divides by n times {name}", lambda v, value=value: p.mean(v) / value
            yield f" leaves {name} out of n", lambda v, value=value: p.mean(v) * value
    yield " is a mean over all of x", lambda v: 0 * p.mean(v) + v.mean()
    if item.layer not in LAST_AXIS and item.x.ndim > 2:
        pixels, batch = tuple(range(2, item.x.ndim)), item.x.ndim
        yield " is a mean over the batch alone", lambda v: _over(p, v, item, (0,))
        yield " is a mean over the pixels alone", lambda v: _over(p, v, item, pixels)
        yield " is a mean over the channels alone", lambda v: _over(p, v, item, (1,))
        yield " is a mean over each sample", lambda v: _over(p, v, item, tuple(range(1, batch)))
        yield " is a mean over each channel", lambda v: _over(p, v, item, (0, *pixels))
    elif item.x.ndim == 2:
        yield " is a mean over the last axis but one", lambda v: v.mean(axis=-2, keepdims=True)
    else:
        yield " is a mean over each sample", lambda v: v.mean(axis=tuple(range(1, v.ndim)), keepdims=True)
        yield " is a mean over the last axis but one", lambda v: v.mean(axis=-2, keepdims=True)
        yield " is a mean over the batch", lambda v: v.mean(axis=0, keepdims=True)


def _over(p: Pieces, value: Array, item: Item, axes: tuple[int, ...]) -> Array:
    there = np.reshape(value, item.x.shape).mean(axis=axes, keepdims=True)
    return np.reshape(np.broadcast_to(there, item.x.shape), p.x.shape)


Terms = list[dict[str, Array]]


def library(item: Item, p: Pieces) -> Terms:
    """Of each of the three terms what it must be, under "", and what else it may be, under words."""
    d, h, r, whole = p.dy * p.weight, p.xhat, p.rstd, p.x.shape
    y = p.weight * h + p.bias
    direct: dict[str, Array] = {"": r * d, " lacks the factor weight": r * p.dy}
    for word, power in POWERS.items():
        direct.setdefault(word, r * d * r**power)
    direct[" has weight twice"] = r * d * p.weight
    of_mean: dict[str, Array] = {}
    of_var: dict[str, Array] = {}
    sources = {"": d, " lacks the factor weight": p.dy, " has weight twice": d * p.weight}
    for reduced, reduce in reductions(item, p):
        for source, value in sources.items():
            both = _both(source, reduced)
            if both is not None:
                of_mean[both] = np.broadcast_to(-r * reduce(value), whole)
                of_var[both] = np.broadcast_to(-r * h * reduce(value * h), whole)
    of_mean[" has weight multiplied after the mean is taken"] = np.broadcast_to(-r * p.weight * p.mean(p.dy), whole)
    of_var[" has weight multiplied after the mean is taken"] = -r * h * p.weight * p.mean(p.dy * h)
    others = {"y": y, "x": p.x, "x − mean": p.x - p.mu, "x squared": p.x**2, "x/sigma": p.x * r}
    for name, other in others.items():
        of_var[f" takes {name} for xhat outside the mean"] = -r * other * p.mean(d * h)
        of_var[f" takes {name} for xhat inside the mean"] = -r * h * p.mean(d * other)
        of_var[f" takes {name} for xhat"] = -r * other * p.mean(d * other)
    of_var[" lacks xhat inside the mean"] = -r * h * p.mean(d)
    of_var[" lacks xhat outside the mean"] = np.broadcast_to(-r * p.mean(d * h), whole)
    of_var[" takes the mean of products for a product of means"] = -r * h * p.mean(d) * p.mean(h)
    for terms in (direct, of_mean, of_var):
        base = terms[""]
        for word, power in POWERS.items():
            terms.setdefault(word, base * r**power)
        for word, factor in FACTORS.items():
            terms[word] = base * factor
    if item.layer == "rms_norm":
        of_mean = {"": 0 * d, " is there, though no mean is subtracted": np.broadcast_to(-r * p.mean(d), whole)}
    return [direct, of_mean, of_var]


def _both(one: str, other: str) -> str | None:
    if one and other:
        return f"{one} and{other}" if other.startswith(" is a sum") else None
    return one or other


def explained(item: Item, limit: float = 2.0) -> set[str] | None:
    """What may be wrong with one dx, in words, of one term if that will do, else of two; None if it tells nothing."""
    p = pieces(item)
    if p is None or p.x.size / p.mean(p.x).size < 3:
        return None
    slots = library(item, p)
    scale = (1 / item.tol).reshape(-1)
    got = item.got.reshape(-1) * scale
    names = [list(slot) for slot in slots]
    flat = [
        np.stack([np.reshape(p.back(np.asarray(np.broadcast_to(v, p.x.shape))), -1) * scale for v in slot.values()])
        for slot in slots
    ]
    if whole := other_statistics(item, p):
        return whole
    for number in (1, 2):
        found: set[str] = set()
        for changed in combinations(range(3), number):
            rest = got - sum(flat[k][0] for k in range(3) if k not in changed)
            if number == 1:
                worst = np.abs(rest - flat[changed[0]][1:]).max(axis=1)
                found |= {SLOTS[changed[0]] + names[changed[0]][1 + k] for k in np.flatnonzero(worst <= limit)}
                continue
            first, second = (flat[k][1:] for k in changed)
            far = rest - first  # what is left when one of them is settled
            squares = (
                (far * far).sum(1)[:, None] - 2 * far @ second.T + (second * second).sum(1)[None]
            )  # loses digits: a first sieve
            sieve = rest.size * limit**2 + 1e-10 * (far * far).sum(1)[:, None]
            for a, b in np.argwhere(squares <= sieve):
                if np.abs(far[a] - second[b]).max() <= limit:
                    found.add(joined(changed, names[changed[0]][1 + a], names[changed[1]][1 + b]))
        if found:
            return found
    return set()


def sigmas(item: Item, p: Pieces) -> Iterator[tuple[str, Array]]:
    """Other 1/sigma than that of the formula."""
    eps = float(item.options["eps"])
    var = p.mean((p.x - p.mu) ** 2)
    count = p.x.size / var.size
    yield "1/sigma without eps", 1 / np.sqrt(np.maximum(var, 1e-300))
    yield "1/sigma with eps outside the root", 1 / (np.sqrt(var) + eps)
    yield "1/sigma of the unbiased variance", 1 / np.sqrt(var * count / max(count - 1, 1) + eps)
    yield "1/sigma with eps added twice", 1 / np.sqrt(var + 2 * eps)
    yield "1/sigma with eps outside the root too", 1 / (np.sqrt(var + eps) + eps)
    yield "1/sigma of a kept 1/sigma, taken for a variance", 1 / np.sqrt(1 / np.sqrt(var + eps) + eps)
    yield "1/sigma of a kept sigma, taken for a variance", 1 / np.sqrt(np.sqrt(var + eps) + eps)
    yield "the kept variance for 1/sigma", var
    yield "the kept variance with eps for 1/sigma", var + eps
    yield "the kept sigma for 1/sigma", np.sqrt(var + eps)
    for value in (1e-5, 1e-6, 1e-8, 1e-12):
        yield f"1/sigma with eps {value:g}", 1 / np.sqrt(var + value)


def other_statistics(item: Item, p: Pieces) -> set[str]:
    """Of which other 1/sigma dx is the right one: in all of it, in xhat alone, or outside of xhat alone."""
    d, found = p.dy * p.weight, set()
    centred = p.x - p.mu
    mean = (lambda v: 0.0) if item.layer == "rms_norm" else p.mean
    with np.errstate(all="ignore"):
        for word, other in sigmas(item, p):
            for where, outer, inner in (
                ("", other, other),
                (" in xhat alone", p.rstd, other),
                (" in front alone", other, p.rstd),
            ):
                h = centred * inner
                if item.equals(p.back(np.asarray(outer * (d - mean(d) - h * p.mean(d * h))))):
                    found.add(f"takes {word}{where}")
    if any("without eps" in name for name in found):  # so small a one is as none
        found = {name for name in found if "with eps 1e" not in name}
    return found


def of_weight(item: Item) -> set[str] | None:
    """Of which other 1/sigma a dweight is the right one."""
    p = pieces(item)
    if p is None or item.want.ndim != 1 or p.x.size / p.mean(p.x).size < 3:
        return None
    found = set()
    for word, other in sigmas(item, p):
        with np.errstate(all="ignore"):
            value = p.back(np.asarray(p.dy * (p.x - p.mu) * other))
        column = value if item.layer in LAST_AXIS else np.moveaxis(value, 1, -1)
        if column.shape[-1] == item.want.size and item.equals(column.reshape(-1, item.want.size).sum(0)):
            found.add(f"takes {word}")
    return {name for name in found if "with eps 1e" not in name} if "takes 1/sigma without eps" in found else found


def by_sigma(found: list[Item]) -> tuple[str, set[Tensor]] | None:
    """The other 1/sigma that nearly all wrong dweight take."""
    told = agreed(found, of_weight)
    return (" or ".join(sorted(told[0])), told[1]) if told is not None and len(told[0]) <= 2 else None


def joined(changed: tuple[int, ...], one: str, other: str) -> str:
    """Two slips in words; the same slip in both terms is one."""
    if one == other:
        return f"in {SLOTS[changed[0]]} and in {SLOTS[changed[1]]} each{one}"
    return f"{SLOTS[changed[0]]}{one} and {SLOTS[changed[1]]}{other}"


def by_terms(found: list[Item]) -> tuple[str, set[Tensor]] | None:
    """The one explanation that holds for nearly all wrong dx, with the outputs it explains."""
    wrong = [item for item in found if item.wrong]
    told: dict[str, set[Tensor]] = {}
    counted, asked = 0, []
    large = sorted(wrong[MOST:], key=lambda item: -item.x.size)[:LARGE]  # which tell most from a part of them
    for item in [*wrong[:MOST], *large]:
        said = explained(item)
        if said is None:
            continue
        counted += 1
        asked.append(item)
        for name in said:
            told.setdefault(name, set()).add(item.at)
        if counted >= 5 and not any(len(hits) >= SHARE * counted - 1 for hits in told.values()):
            return None
    whole = {n: hits for n, hits in told.items() if len(hits) >= SHARE * counted and everywhere(asked, hits)}
    if counted < LEAST or not whole:
        return None
    simple = [name for name in whole if " and the term" not in name] or list(whole)
    if len(simple) > 2:  # all of them are true of nearly all steps: the same function, of which the simplest names tell
        simple = sorted(simple, key=len)[:2]
    hits = whole[simple[0]]
    rest = {item.at for item in wrong if item.at not in hits and (len(wrong) > MOST or explained(item) is None)}
    return " or ".join(simple), hits | rest
