"""Sums that are over a part of what they must be over, statistics of something else, and a backward of another dy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from minidl.check.case import LAST_AXIS, Array
from minidl.check.conventions import is_gradient
from minidl.check.diagnosis.evidence import Bench, Tensor
from minidl.check.diagnosis.items import SHARE, Item, agreed
from minidl.check.diagnosis.norms import pieces
from minidl.check.expected import exactly

Found = tuple[str, set[Tensor]]
LARGEST = 20000  # values of x, up to which a backward pass is made anew
STEPS = 10  # that a backward of another dy is tried in
REDUCED: dict[str, Callable[[Array, int], Array]] = {
    "": lambda v, a: v.sum(axis=a, keepdims=True),
    "averaged over": lambda v, a: v.mean(axis=a, keepdims=True),
    "of the first of": lambda v, a: np.take(v, [0], a),
    "of the last of": lambda v, a: np.take(v, [-1], a),
    "of all but the last of": lambda v, a: np.delete(v, -1, a).sum(axis=a, keepdims=True),
    "of all but the first of": lambda v, a: np.delete(v, 0, a).sum(axis=a, keepdims=True),
    "the largest of": lambda v, a: v.max(axis=a, keepdims=True),
    "of every other of": lambda v, a: np.take(v, range(0, v.shape[a], 2), a).sum(axis=a, keepdims=True),
}


def contributions(item: Item) -> Array | None:
    """What a gradient of weight or bias per channel is a sum of, with the channels last."""
    quantity = item.at[1].split(".")[1]
    if item.dy is None or item.dy.ndim < 2 or quantity not in ("dweight", "dbias") or item.want.ndim != 1:
        return None
    value = item.dy
    if quantity == "dweight":
        p = pieces(item)
        if p is None:
            return None
        value = p.back(p.xhat * p.dy)
    return value if item.layer in LAST_AXIS else np.moveaxis(value, 1, -1)


def reduced(item: Item) -> set[str] | None:
    """In words, over what part a gradient may be summed; None if that cannot be told."""
    value = contributions(item)
    if value is None or value.shape[-1] != item.want.size or min(value.shape[:-1]) < 2:
        return None
    names = axes(item, value.ndim - 1)
    found = set()
    for ways in product(REDUCED, repeat=value.ndim - 1):
        if sum(bool(way) for way in ways) not in (1, 2):
            continue
        part = value
        for axis, way in enumerate(ways):
            part = REDUCED[way](part, axis)
        if item.equals(part.reshape(-1)):
            found.add("is " + " and ".join(f"{w} {names[a]}" for a, w in enumerate(ways) if w) + " where sums belong")
    flat = value.reshape(-1, value.shape[-1])
    if item.equals(flat[-1]):
        found.add("is of the last position alone where sums belong")
    if item.equals(flat[0]):
        found.add("is of the first position alone where sums belong")
    return found


def axes(item: Item, number: int) -> tuple[str, ...]:
    """What the summed axes are called."""
    if item.layer in LAST_AXIS:
        return ("the batch", "the tokens")[:number] if number < 3 else ("the batch", "the heads", "the tokens")
    return ("the batch", "the height", "the width")[:number] if number == 3 else ("the batch", "the positions")[:number]


def by_partial(found: list[Item]) -> Found | None:
    """A gradient of weight or bias that is summed over a part, or averaged over some axes."""
    if contributions(found[0]) is None and all(contributions(item) is None for item in found[:5]):
        return None
    wrong = [item for item in found if item.wrong and item.dy is not None]
    for rank in (None, 4, 3):
        same = [item for item in wrong if rank is None or rank_of(item) == rank]
        told = agreed(same, reduced)
        if told is not None:
            shortest = sorted(told[0], key=len)
            return shortest[0], told[1] | {item.at for item in wrong if rank is not None and rank_of(item) != rank}
    return None


def rank_of(item: Item) -> int:
    """How many axes dy has."""
    return 0 if item.dy is None else item.dy.ndim


def statistics(item: Item) -> Iterator[tuple[str, Array]]:
    """What may go into a running statistic of batch normalization in place of what belongs there."""
    flat = np.moveaxis(item.x, 1, 0).reshape(item.x.shape[1], -1)
    n, mean = flat.shape[1], flat.mean(1)
    per_sample = item.x.reshape(*item.x.shape[:2], -1)
    yield "the mean", mean
    yield "the magnitude of the mean", np.abs(mean)
    yield "minus the mean", -mean
    yield "the mean of the magnitudes", np.abs(flat).mean(1)
    yield "the median", np.median(flat, 1)
    yield "the largest value", flat.max(1)
    yield "the smallest value", flat.min(1)
    yield "the sum", flat.sum(1)
    yield "the mean of the first sample", per_sample[0].mean(-1)
    yield "the mean of the last sample", per_sample[-1].mean(-1)
    yield "the mean of the first pixel", per_sample[:, :, 0].mean(0)
    yield "the mean over all channels", 0 * mean + flat.mean()
    if item.running_mean is not None:
        lam = float(item.options.get("momentum", 0))
        for word, about in (("", item.running_mean), (", just updated", (1 - lam) * item.running_mean + lam * mean)):
            square = ((flat - about[:, None]) ** 2).mean(1)
            yield f"the mean of squares about the running mean{word}", square
            yield f"the squares about the running mean{word} over n − 1", square * n / max(n - 1, 1)
    yield "the square of the mean", mean**2
    for word, factor in (("the biased variance", 1.0), ("the unbiased variance", n / max(n - 1, 1))):
        yield word, flat.var(1) * factor
        yield f"the root of {word}", np.sqrt(flat.var(1) * factor)
        yield f"{word} with eps", flat.var(1) * factor + float(item.options["eps"])
        yield f"{word} of the variance with eps", (flat.var(1) + float(item.options["eps"])) * factor
        yield f"the square of {word}", (flat.var(1) * factor) ** 2
    yield "the sum of squares about the mean", flat.var(1) * n
    for word, count in (("pixels", per_sample.shape[2]), ("batch", len(item.x)), ("channels", len(mean))):
        yield f"the variance with a factor n/(n − 1), n being the {word}", flat.var(1) * count / max(count - 1, 1)
        yield f"the sum of squares about the mean, over the {word}", flat.var(1) * n / count
    if {"weight", "bias"} <= item.params.keys():
        y = (flat - mean[:, None]) / np.sqrt(flat.var(1) + float(item.options["eps"]))[:, None]
        for what, of in (("xhat", y), ("y", y * item.params["weight"][:, None] + item.params["bias"][:, None])):
            yield f"the mean of {what}", of.mean(1)
            yield f"the biased variance of {what}", of.var(1)
            yield f"the unbiased variance of {what}", of.var(1) * n / max(n - 1, 1)
            yield f"the mean of the squares of {what}", (of**2).mean(1)
    yield "the mean of squares", (flat**2).mean(1)
    yield "the mean of squares, with n − 1", (flat**2).sum(1) / max(n - 1, 1)
    yield "1/sigma", 1 / np.sqrt(flat.var(1) + float(item.options["eps"]))
    yield "sigma with eps under its root", np.sqrt(flat.var(1) + float(item.options["eps"]))
    yield "the mean of each sample's variance", per_sample.var(-1).mean(0)
    yield "the mean of each pixel's variance over the batch", per_sample.var(0).mean(-1)
    yield "the variance of the samples' means", per_sample.mean(-1).var(0)
    yield "the variance over all channels", 0 * mean + flat.var()
    yield (
        "the mean over the batch of each pixel's unbiased variance",
        (per_sample.var(0).mean(-1) * len(item.x) / max(len(item.x) - 1, 1)),
    )


def new_value(item: Item) -> set[str] | None:
    """What went into a running statistic, in words."""
    lam = float(item.options.get("momentum", 0))
    if item.layer != "batch_norm" or not item.training or item.old is None or not 0 < lam < 1 or item.x.size < 8:
        return None
    if np.abs(item.x).max() > 100 or item.x.size // item.x.shape[1] < 3:
        return None
    return {f"takes in {name}" for name, value in statistics(item) if item.equals((1 - lam) * item.old + lam * value)}


def by_statistic(found: list[Item]) -> Found | None:
    """Another statistic of the batch that a running one takes in."""
    told = agreed(found, new_value)
    if told is None or len(told[0]) > 2:
        return None
    return " or ".join(told[0]), told[1]


def other_dy(item: Item, masks: Sequence[tuple[str, Array]] = ()) -> Iterator[tuple[str, Array]]:
    """What the backward pass may take for dy."""
    dy = item.dy
    assert dy is not None
    if dy.ndim < 2:
        return
    words = ["the batch", "the channels", "the rows", "the columns"][: dy.ndim]
    if item.layer in LAST_AXIS:
        words = ["the batch", *["the tokens"] * (dy.ndim - 2), "the values"]
    if item.layer == "linear":
        words = ["the batch", "the outputs"]
    for axis, word in enumerate(words):
        for place, at in (("first", 0), ("last", -1)):
            chosen = np.zeros(dy.shape)
            np.moveaxis(chosen, axis, 0)[at] = 1
            yield f"dy of the {place} of {word} alone", dy * chosen
            yield f"dy without the {place} of {word}", dy * (1 - chosen)
        yield f"dy in reversed order along {word}", np.flip(dy, axis)
        yield f"dy shifted by one along {word}", np.roll(dy, 1, axis)
        yield f"dy shifted back by one along {word}", np.roll(dy, -1, axis)
        yield f"dy averaged over {word}", np.broadcast_to(dy.mean(axis=axis, keepdims=True), dy.shape)
        yield f"dy less its mean over {word}", dy - dy.mean(axis=axis, keepdims=True)
        yield f"dy summed over {word}", np.broadcast_to(dy.sum(axis=axis, keepdims=True), dy.shape)
    for word, mask in masks:
        if mask.shape == dy.shape:
            yield f"dy where {word} is positive alone, as by a ReLU", dy * (mask > 0)
    yield "1 for dy", np.ones(dy.shape)
    yield "the magnitude of dy", np.abs(dy)
    yield "the sign of dy", np.sign(dy)
    yield "the positive part of dy", np.maximum(dy, 0)
    yield "dy squared", dy * dy
    yield "dy clipped to the range from −1 to 1", np.clip(dy, -1, 1)
    yield "dy divided by its norm", dy / np.sqrt((dy * dy).sum())
    yield "dy less its mean", dy - dy.mean()
    if dy.shape[-1] != dy.shape[-2]:
        turned = np.swapaxes(dy, -1, -2).reshape(dy.shape)
        yield "dy with its last two axes swapped in memory", turned


def by_dy(bench: Bench, found: list[Item]) -> Found | None:
    """Another dy of which the layer's gradient is the right one."""
    wrong = [item for item in found if item.wrong and item.dy is not None and item.dy.ndim > 1]
    single = [
        item
        for item in wrong
        if (asked := bench.results[item.at[0]].asked) is not None
        and (len(asked.steps) == 1 or not is_gradient(item.at[1]) or bench.conventions.grads == "overwrite")
    ]
    if len(single) < 3:
        return None
    high = max(item.x.ndim for item in single)
    chosen = [item for item in single if item.x.ndim == high][:STEPS] or single[:STEPS]

    def names(item: Item) -> set[str] | None:
        i, name = item.at
        asked = bench.results[i].asked
        if asked is None or item.dy is None or min(item.dy.shape) < 2 or item.x.size > LARGEST:
            return None
        t = name.rpartition(".")[2]
        said = set()
        y = bench.results[i].wanted.get(f"{name.partition('.')[0]}.y.{t}")
        masks = [("x", item.x)] + ([] if y is None else [("y", np.asarray(y, np.float64))])
        for word, dy in other_dy(item, masks):
            if candidates and word not in candidates:
                continue
            redo = exactly(replace(asked, inputs={**asked.inputs, f"in.dy.{t}": dy}))
            if name in redo and item.equals(np.asarray(redo[name], np.float64)):
                said.add(f"is that of {word}")
        candidates[:] = [word.removeprefix("is that of ") for word in said] or candidates
        return said

    candidates: list[str] = []
    told = agreed(chosen, names)
    if told is None or len(told[0]) > 2 or len(told[1]) < SHARE * len(chosen) - 2:
        return None
    hits = told[1] | {item.at for item in wrong if item.at not in {c.at for c in chosen}}
    rest = [item for item in single if item.at not in {c.at for c in chosen}]
    others = sorted(rest, key=lambda item: -item.x.size)[:STEPS]  # the largest tell most from a part of them
    said_of = [said for item in others if (said := names(item)) is not None]
    kept = [word for word in told[0] if sum(word in said for said in said_of) >= SHARE * len(said_of)]
    return (" or ".join(kept), hits) if kept else None
