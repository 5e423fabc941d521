"""Simple functions of the right output, and along its axes, that the layer's outputs may be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minidl.check.case import Array
from minidl.check.diagnosis.evidence import Tensor
from minidl.check.diagnosis.items import Item, fits


def functions(item: Item) -> Iterator[tuple[str, Array]]:
    """Simple functions of the right output, in words."""
    v = item.want
    yield "is its magnitude: the sign is lost", np.abs(v)
    yield "is cut off below 0, as by a ReLU", np.maximum(v, 0)
    if v.shape == item.x.shape and v.ndim > 1:
        yield "is 0 where x is negative, as by the derivative of a ReLU", v * (item.x > 0)
        yield "is 0 where x is positive", v * (item.x <= 0)
    yield "is squared", np.square(v)
    yield "is the root of what it must be", np.sqrt(np.abs(v))
    yield "is the inverse of what it must be", 1 / np.where(v == 0, np.inf, v)
    yield "is passed through a tanh", np.tanh(v)
    yield "is passed through a sigmoid", 1 / (1 + np.exp(-v))
    yield "is its sign alone", np.sign(v)
    yield "is exponentiated", np.exp(np.minimum(v, 700))
    yield "is divided by its norm", v / (np.sqrt((v * v).sum()) or 1)
    yield "is rounded to whole numbers", np.round(v)
    yield "has its mean subtracted", v - v.mean()
    yield "is the sum over all, the same everywhere", 0 * v + v.sum()
    yield "is the mean over all, the same everywhere", 0 * v + v.mean()
    for axis in range(v.ndim):
        yield from along(v, axis, axis_name(item, axis))
    for a in range(v.ndim):
        for b in range(a + 1, v.ndim):
            what = f"has {axis_name(item, a)} and {axis_name(item, b)} swapped in memory"
            yield what, np.swapaxes(v, a, b).reshape(v.shape)


def along(v: Array, axis: int, word: str) -> Iterator[tuple[str, Array]]:
    """Functions along an axis."""
    yield f"is in reversed order along {word}", np.flip(v, axis)
    yield f"is shifted by one along {word}", np.roll(v, 1, axis)
    yield f"is shifted back by one along {word}", np.roll(v, -1, axis)
    if v.ndim > 1:
        yield f"is averaged over {word}, the same for all", 0 * v + v.mean(axis=axis, keepdims=True)
        yield f"is summed over {word}, the same for all", 0 * v + v.sum(axis=axis, keepdims=True)
    for place, at in (("first", 0), ("last", -1)):
        rest = v.copy()
        rest.swapaxes(0, axis)[at] = 0
        yield f"is zero for the {place} of {word}", rest
        yield f"is zero but for the {place} of {word}", v - rest


def by_function(found: list[Item]) -> tuple[str, set[Tensor]] | None:
    """The one simple function of the right outputs that the layer's outputs are."""
    wrong = [item for item in found if item.wrong]
    largest = max(wrong, key=lambda item: (item.want.ndim, item.want.size))
    told: list[tuple[str, set[Tensor]]] = []
    for name, value in functions(largest):
        if not largest.equals(value):
            continue
        same = [item for item in found if item.want.ndim == largest.want.ndim]
        hits = fits(same, lambda item, name=name: dict(functions(item)).get(name))  # type: ignore[misc]
        rest = [item for item in wrong if item.want.ndim != largest.want.ndim]
        if hits and len(rest) <= 0.7 * len(wrong):
            told.append((name, hits | {item.at for item in rest if item.equals(dict(functions(item)).get(name))}))
    return told[0] if len(told) == 1 else None


def axis_name(item: Item, axis: int) -> str:
    """What an axis of an output is called."""
    names: tuple[str, ...]
    ndim = item.want.ndim
    if item.want.shape == item.x.shape or item.at[1].partition(".")[2].startswith("y"):
        names = ("the batch", "the channels", "the height", "the width") if ndim == 4 else ("the batch", "the channels")
        if item.layer.endswith("_last") or item.layer == "rms_norm":
            names = ("the batch",)
    elif ndim == 4:
        names = ("the output channels", "the input channels", "the kernel's height", "the kernel's width")
    elif "gate" in item.at[1] or item.at[1].startswith("state."):
        names = ("the modes", "the channels") if item.layer.startswith("mode") else ("the channels",)
    else:
        names = ("the outputs", "the inputs") if item.layer == "linear" else ("the channels",)
    return names[axis] if axis < len(names) else f"axis {axis}"
