"""Outputs that are wrong at one end of an axis alone: the first or the last channel, sample, row or column."""

from __future__ import annotations

import numpy as np

from minidl.check.case import Array
from minidl.check.diagnosis.evidence import Tensor
from minidl.check.diagnosis.functions import axis_name
from minidl.check.diagnosis.items import Item, agreed

LONG = 3  # values along an axis, so that its end is a part of it
MOST = 0.5  # of the end of an axis that is wrong


def off(item: Item) -> Array:
    """Which values are wrong."""
    return np.asarray(np.abs(item.got - item.want) > item.tol)


def ends(item: Item, name_of: dict[int, str]) -> set[str] | None:
    """The ends of axes outside of which all is right, in words; None where a short axis may hide one."""
    wrong = off(item)
    long = [axis for axis in range(wrong.ndim) if wrong.shape[axis] >= LONG]
    if not long or not wrong.any():
        return None
    found = set()
    for axis in long:
        along = np.moveaxis(wrong, axis, 0)
        for word, inner, end in (("first", along[1:], along[0]), ("last", along[:-1], along[-1])):
            if not inner.any() and end.mean() >= MOST:
                found.add(f"is wrong for the {word} of {name_of.get(axis, f'axis {axis}')} alone")
    return found if found or len(long) == wrong.ndim else None


def by_place(found: list[Item]) -> tuple[str, set[Tensor]] | None:
    """The one end of an axis at which nearly all wrong outputs of a kind are wrong, and nowhere else."""
    largest = max(found, key=lambda item: item.want.ndim)
    axes = {axis: axis_name(largest, axis) for axis in range(largest.want.ndim)}
    told = agreed(found, lambda item: ends(item, axes) if item.want.ndim == len(axes) else None)
    return (told[0][0], told[1]) if told is not None and len(told[0]) == 1 else None
