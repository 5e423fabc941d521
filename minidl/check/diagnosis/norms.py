"""What a normalization's formula is made of, seen in the groups of values that are normalised together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minidl.check.case import LAST_AXIS, Array
from minidl.check.diagnosis.items import Item

NORMS = ("batch_norm", "instance_norm", "layer_norm", "group_norm", *LAST_AXIS)


@dataclass
class Pieces:
    """x, dy, weight and bias of one step in the shape that statistics are taken in, over ``axes``."""

    x: Array
    dy: Array
    weight: Array
    bias: Array
    axes: tuple[int, ...]
    mu: Array
    rstd: Array
    back: Callable[[Array], Array]

    @property
    def xhat(self) -> Array:
        """The normalised x."""
        return np.asarray((self.x - self.mu) * self.rstd)

    def mean(self, value: Array) -> Array:
        """The mean over the values that are normalised together."""
        return np.asarray(value.mean(axis=self.axes, keepdims=True))


def pieces(item: Item) -> Pieces | None:
    """The pieces of a step in training (in evaluation, of a layer that has no running statistics)."""
    if item.layer not in NORMS or item.dy is None or item.dy.shape != item.x.shape:
        return None
    if item.layer == "batch_norm" and not item.training:
        return None
    x, shape = item.x, item.x.shape
    grouped: tuple[int, ...] = ()
    if item.layer in LAST_AXIS:
        axes: tuple[int, ...] = (x.ndim - 1,)
        column = (1,) * (x.ndim - 1) + (-1,)
    elif item.layer == "batch_norm":
        axes, column = (0, *range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
    else:
        groups = {"layer_norm": 1, "instance_norm": shape[1]}.get(item.layer) or int(item.options["num_groups"])
        axes, column = (2,), (1, -1) + (1,) * (x.ndim - 2)
        grouped = (shape[0], groups, -1)

    def view(a: Array) -> Array:
        return a.reshape(grouped) if grouped else a

    def param(name: str) -> Array:
        value = item.params.get(name)
        return view(np.broadcast_to(np.zeros(1) if value is None else value.reshape(column), shape))

    value = view(x)
    rms = item.layer == "rms_norm"
    mu = 0 * value.mean(axis=axes, keepdims=True) if rms else value.mean(axis=axes, keepdims=True)
    var = ((value - mu) ** 2).mean(axis=axes, keepdims=True)
    rstd = 1 / np.sqrt(var + float(item.options["eps"]))
    return Pieces(value, view(item.dy), param("weight"), param("bias"), axes, mu, rstd, lambda a: np.reshape(a, shape))
