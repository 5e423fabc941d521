"""A right layer between wrong borders: what is done to x, to a parameter, or to y before or after a layer of any kind.

These are written once for all layers.  The gradients follow by the chain rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np

from minidl.check.plain import plain_class
from minidl.check.plain.arith import Array
from minidl.check.plain.base import Plain
from minidl.check.plain.windows import pair
from minidl.check.variants.kinds import Variant

Params = dict[str, tuple[str, ...]]
NORM = ("weight", "bias")
PARAMS: Params = {
    "batch_norm": NORM,
    "instance_norm": NORM,
    "layer_norm": NORM,
    "group_norm": NORM,
    "layer_norm_last": NORM,
    "rms_norm": ("weight",),
    "mode_norm": (*NORM, "gate.weight", "gate.bias"),
    "mode_group_norm": (*NORM, "gate.weight", "gate.bias"),
    "conv2d": NORM,
    "linear": NORM,
    "max_pool2d": (),
    "avg_pool2d": (),
    "softmax_cross_entropy": (),
}


@dataclass(frozen=True)
class Map:
    """A function of an array, and the gradient that it passes back: (g, array) gives the gradient of the array."""

    of: Callable[[Array], Array]
    back: Callable[[Array, Array], Array]


def elementwise(of: Callable[[Array], Array], slope: Callable[[Array], Any]) -> Map:
    """A function of each element, with its derivative."""
    return Map(of, lambda g, v: g * slope(v))


def sigmoid(v: Array) -> Array:
    """The logistic function."""
    return np.asarray(1 / (1 + np.exp(-v)))


def first_of(v: Array) -> Array:
    """The first along the first axis, for all."""
    return np.asarray(0 * v + v[:1])


def to_first(g: Array, v: Array) -> Array:
    """The gradient of ``first_of``."""
    out = 0 * v
    out[0] = g.sum(axis=0)
    return out


def standardised(v: Array) -> Array:
    """Each output's weights with mean 0 and deviation 1."""
    flat = v.reshape(len(v), -1)
    centred = flat - flat.mean(1, keepdims=True)
    return np.asarray((centred / np.sqrt((centred * centred).mean(1, keepdims=True) + 1e-5)).reshape(v.shape))


MAPS: dict[str, Map] = {
    "is taken as its magnitude": elementwise(np.abs, np.sign),
    "has the wrong sign": elementwise(lambda v: -v, lambda v: -1.0),
    "is exponentiated": elementwise(np.exp, np.exp),
    "is passed through a sigmoid": elementwise(sigmoid, lambda v: sigmoid(v) * (1 - sigmoid(v))),
    "is passed through a softplus": elementwise(lambda v: np.log1p(np.exp(v)), sigmoid),
    "is passed through a tanh": elementwise(np.tanh, lambda v: 1 - np.tanh(v) ** 2),
    "is cut off below 0, as by a ReLU": elementwise(lambda v: np.maximum(v, 0), lambda v: v > 0),
    "is clipped to the range from −1 to 1": elementwise(lambda v: np.clip(v, -1, 1), lambda v: np.abs(v) < 1),
    "is squared": elementwise(np.square, lambda v: 2 * v),
    "is inverted": elementwise(lambda v: 1 / v, lambda v: -1 / (v * v)),
    "is doubled": elementwise(lambda v: 2 * v, lambda v: 2.0),
    "is halved": elementwise(lambda v: v / 2, lambda v: 0.5),
    "has 1 added": elementwise(lambda v: v + 1, lambda v: 1.0),
    "has 1 subtracted": elementwise(lambda v: v - 1, lambda v: 1.0),
}
OF_A_PARAM: dict[str, Map] = {
    "is read in reversed order": Map(lambda v: v[::-1], lambda g, v: g[::-1]),
    "is read shifted by one": Map(lambda v: np.roll(v, 1, 0), lambda g, v: np.roll(g, -1, 0)),
    "is read shifted back by one": Map(lambda v: np.roll(v, -1, 0), lambda g, v: np.roll(g, 1, 0)),
    "is that of the first for all": Map(first_of, to_first),
    "is that of the last for all": Map(lambda v: first_of(v[::-1]), lambda g, v: to_first(g[::-1], v[::-1])[::-1]),
    "is its mean for all": Map(lambda v: 0 * v + v.mean(0), lambda g, v: 0 * v + g.mean(0)),
    "is 0 for the last": Map(lambda v: v * _not_last(v), lambda g, v: g * _not_last(v)),
    "is 1 for the last": Map(lambda v: v * _not_last(v) + 1 - _not_last(v), lambda g, v: g * _not_last(v)),
}
OF_A_MATRIX: dict[str, Map] = {
    "is scaled by 1/root of its inputs": Map(lambda v: v / np.sqrt(v[0].size), lambda g, v: g / np.sqrt(v[0].size)),
    "is scaled by 1/its inputs": Map(lambda v: v / v[0].size, lambda g, v: g / v[0].size),
    "is scaled by the root of 2/its inputs": Map(
        lambda v: v * np.sqrt(2 / v[0].size), lambda g, v: g * np.sqrt(2 / v[0].size)
    ),
    "is scaled by 1/root of its outputs": Map(lambda v: v / np.sqrt(len(v)), lambda g, v: g / np.sqrt(len(v))),
    "has its mean subtracted for each output": Map(
        lambda v: v - v.reshape(len(v), -1).mean(1).reshape((-1,) + (1,) * (v.ndim - 1)),
        lambda g, v: g - g.reshape(len(g), -1).mean(1).reshape((-1,) + (1,) * (v.ndim - 1)),
    ),
    "is standardised for each output": Map(standardised, lambda g, v: g),
    "is divided by its norm for each output": Map(
        lambda v: v / np.sqrt((v * v).sum(axis=tuple(range(1, v.ndim)), keepdims=True)), lambda g, v: g
    ),
}


def moved(v: Array, by: int) -> Array:
    """The values moved along the last axis, zeros coming in."""
    out = np.roll(v, by, -1)
    out[..., 0 if by > 0 else -1] = 0
    return out


def in_memory(order: tuple[int, ...]) -> Map:
    """An array whose memory is read with its axes in another order, and turned back."""
    back = tuple(int(k) for k in np.argsort(order))
    return Map(
        lambda v: v.reshape([v.shape[k] for k in order]).transpose(back),
        lambda g, v: np.ascontiguousarray(g.transpose(order)).reshape(v.shape),
    )


def flattened(order: tuple[int, ...]) -> Map:
    """An array that is flattened with its axes in another order, and taken for the right one."""
    back = in_memory(order)
    return Map(lambda v: back.back(v, v), lambda g, v: back.of(g))


AXES = ("O", "I", "kh", "kw")
OF_A_KERNEL: dict[str, Map] = {
    f"is read as memory of ({', '.join(AXES[k] for k in order)})": in_memory(order)
    for order in permutations(range(4))
    if order != (0, 1, 2, 3)
} | {
    f"is flattened in the order ({', '.join(AXES[k] for k in order)})": flattened(order)
    for order in permutations(range(4))
    if order not in ((0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 3, 2)) and order[0] == 0
}


def _not_last(v: Array) -> Array:
    keep = np.ones((len(v),) + (1,) * (v.ndim - 1))
    keep[-1] = 0
    return keep


OF_X: dict[str, Map] = {
    "is reversed along its last axis": Map(lambda v: v[..., ::-1], lambda g, v: g[..., ::-1]),
    "has its channels in reversed order": Map(lambda v: v[:, ::-1], lambda g, v: g[:, ::-1]),
    "has its channels shifted by one": Map(lambda v: np.roll(v, 1, 1), lambda g, v: np.roll(g, -1, 1)),
    "is shifted by one along its last axis": Map(lambda v: np.roll(v, 1, -1), lambda g, v: np.roll(g, -1, -1)),
    "is shifted back by one along its last axis": Map(lambda v: np.roll(v, -1, -1), lambda g, v: np.roll(g, 1, -1)),
    "is shifted by one along its last axis but one": Map(lambda v: np.roll(v, 1, -2), lambda g, v: np.roll(g, -1, -2)),
    "is shifted back by one along its last axis but one": Map(
        lambda v: np.roll(v, -1, -2), lambda g, v: np.roll(g, 1, -2)
    ),
    "is moved by one along its last axis, zeros coming in": Map(lambda v: moved(v, 1), lambda g, v: moved(g, -1)),
    "is moved back by one along its last axis, zeros coming in": Map(lambda v: moved(v, -1), lambda g, v: moved(g, 1)),
    "has its samples in reversed order": Map(lambda v: v[::-1], lambda g, v: g[::-1]),
    "is that of the first sample for all": Map(first_of, to_first),
    "has the mean of its batch subtracted": Map(
        lambda v: v - v.mean(0, keepdims=True), lambda g, v: g - g.mean(0, keepdims=True)
    ),
    "has the mean of all its values subtracted": Map(lambda v: v - v.mean(), lambda g, v: g - g.mean()),
    "is divided by its largest magnitude": Map(lambda v: v / np.abs(v).max(), lambda g, v: g / np.abs(v).max()),
    "is rounded to whole numbers": Map(np.round, lambda g, v: g),
    "is read without its last column": Map(lambda v: _no_last_column(v), lambda g, v: _no_last_column(g)),
    "is read without its last row": Map(
        lambda v: np.swapaxes(_no_last_column(np.swapaxes(v, -1, -2)), -1, -2),
        lambda g, v: np.swapaxes(_no_last_column(np.swapaxes(g, -1, -2)), -1, -2),
    ),
    "has its height and width swapped": Map(lambda v: np.swapaxes(v, -1, -2), lambda g, v: np.swapaxes(g, -1, -2)),
    **{
        f"is clipped to the range from −{bound} to {bound}": elementwise(
            lambda v, bound=bound: np.clip(v, -bound, bound),  # type: ignore[misc]
            lambda v, bound=bound: np.abs(v) < bound,  # type: ignore[misc]
        )
        for bound in (3, 5, 6, 10, 15, 20, 30, 50, 80, 88, 100)
    },
}


def _no_last_column(v: Array) -> Array:
    out = v.copy()
    out[..., -1] = 0
    return out


OF_Y: dict[str, Map] = {
    "is cut off below 0, as by a ReLU": Map(lambda v: np.maximum(v, 0), lambda g, y: g * (y > 0)),
    "is passed through a leaky ReLU (0.01)": Map(
        lambda v: np.where(v > 0, v, 0.01 * v), lambda g, y: g * np.where(y > 0, 1, 0.01)
    ),
    "is passed through a leaky ReLU (0.2)": Map(
        lambda v: np.where(v > 0, v, 0.2 * v), lambda g, y: g * np.where(y > 0, 1, 0.2)
    ),
    "is clipped to the range from 0 to 6": Map(lambda v: np.clip(v, 0, 6), lambda g, y: g * ((y > 0) & (y < 6))),
    "is clipped to the range from 0 to 1": Map(lambda v: np.clip(v, 0, 1), lambda g, y: g * ((y > 0) & (y < 1))),
    "is passed through a SiLU": Map(lambda v: v * sigmoid(v), lambda g, y: g * sigmoid(y) * (1 + y * (1 - sigmoid(y)))),
    "is divided by its largest magnitude": Map(lambda v: v / np.abs(v).max(), lambda g, y: g / np.abs(y).max()),
}


def _each(of: Callable[[int], int]) -> Callable[[Any], Any]:
    return lambda value: of(int(value)) if np.ndim(value) == 0 else [of(int(v)) for v in value]


OF_OPTIONS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("the padding", "is doubled", _each(lambda v: 2 * v)),
    ("the padding", "is one too small", _each(lambda v: max(v - 1, 0))),
    ("the padding", "is halved", _each(lambda v: v // 2)),
    ("the stride", "is one too large", _each(lambda v: v + 1)),
    ("the stride", "is doubled", _each(lambda v: 2 * v)),
    ("the kernel's size", "is one too small", _each(lambda v: max(v - 1, 1))),
    ("the kernel's size", "is one too large", _each(lambda v: v + 1)),
    ("the dilation", "is doubled", _each(lambda v: 2 * v)),
    ("the dilation", "is ignored", _each(lambda v: 1)),
)


def of_both(of: Callable[[Any], Any]) -> Callable[[Mapping[str, Any]], Any]:
    """An option made of another, for height and width."""
    return lambda options: [of({k: pair(v)[axis] for k, v in options.items() if k in SHAPING}) for axis in (0, 1)]


SHAPING = ("kernel_size", "stride", "padding", "dilation")
WINDOWED = ("conv2d", "max_pool2d", "avg_pool2d")
MADE_OPTIONS: tuple[tuple[str, str, str, Callable[[Mapping[str, Any]], Any]], ...] = (
    ("the padding", "padding", "is (k − 1)//2 whatever it is set to", of_both(lambda o: (o["kernel_size"] - 1) // 2)),
    ("the padding", "padding", "is k//2 whatever it is set to", of_both(lambda o: o["kernel_size"] // 2)),
    ("the padding", "padding", "is that of the stride", of_both(lambda o: o["stride"])),
    ("the padding", "padding", "is 1 whatever it is set to", of_both(lambda o: 1)),
    ("the stride", "stride", "is 1 whatever it is set to", of_both(lambda o: 1)),
    ("the stride", "stride", "is 2 whatever it is set to", of_both(lambda o: 2)),
    ("the padding", "padding", "is multiplied by the dilation", of_both(lambda o: o["padding"] * o.get("dilation", 1))),
    ("the dilation", "dilation", "is that of the stride", of_both(lambda o: o["stride"])),
)


@dataclass(frozen=True)
class Wrap:
    """What is done to x, to parameters and to y; ``residual`` adds x to y."""

    x: Map | None = None
    params: Mapping[str, Map] = field(default_factory=dict)
    y: Map | None = None
    residual: bool = False
    inverted: bool = False
    options: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    made: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)


class Wrapped:
    """A plain layer inside a wrap, with the interface of an adapter."""

    def __init__(self, inner: Plain, wrap: Wrap) -> None:
        self.inner, self.wrap = inner, wrap
        self.params: dict[str, Array] = {}
        self.kept: tuple[Array, Array] = (np.zeros(0), np.zeros(0))

    def load(self, params: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Take parameters, changed by the wrap, and state."""
        self.params = dict(params)
        changed = {k: self.wrap.params[k].of(v) if k in self.wrap.params else v for k, v in params.items()}
        self.inner.load(changed, state)

    def forward(self, x: Any, training: bool) -> Any:
        """Forward pass."""
        if isinstance(x, list):
            raise NotImplementedError("shards")
        y = self.inner.forward(self.wrap.x.of(x) if self.wrap.x else x, training != self.wrap.inverted)
        self.kept = x, np.asarray(y)
        if self.wrap.y:
            y = self.wrap.y.of(np.asarray(y))
        return y + x if self.wrap.residual else y

    def backward(self, dy: Any) -> dict[str, Any]:
        """Gradients by the chain rule."""
        x, y = self.kept
        grads = self.inner.backward(self.wrap.y.back(dy, y) if self.wrap.y else dy)
        if self.wrap.x:
            grads["dx"] = self.wrap.x.back(grads["dx"], x)
        if self.wrap.residual:
            grads["dx"] = grads["dx"] + dy
        for name, of in self.wrap.params.items():
            if f"d{name}" in grads:
                grads[f"d{name}"] = of.back(grads[f"d{name}"], self.params[name])
        return grads

    def state(self) -> dict[str, Array]:
        """Return the running statistics."""
        return self.inner.state()

    def saved(self) -> Any:
        """Return what a saved model holds of them."""
        return getattr(self.inner, "saved", self.inner.state)()


@dataclass(frozen=True)
class Family(Variant):
    """A variant that is a right layer between wrong borders."""

    wrap: Wrap = field(default_factory=Wrap, compare=False)

    @property
    def closed(self) -> bool:
        """Its gradients follow by the chain rule."""
        return True

    def plain(self, layer: str, options: dict[str, Any]) -> Any:
        """Build the wrapped layer; an option that is made of all options is made of them."""
        changed = {name: of(options[name]) for name, of in self.wrap.options.items() if name in options}
        changed |= {name: of(options) for name, of in self.wrap.made.items() if name in options}
        return Wrapped(plain_class(layer)(layer, {**options, **changed}), self.wrap)


@cache
def families(layer: str) -> tuple[Family, ...]:
    """What may be done to a layer's borders."""
    made: list[Family] = []

    def add(what: str, name: str, wrap: Wrap) -> None:
        says = f"{what} {name}; the rest of the layer is right"
        made.append(Family(layer, f"{what} {name}", says, (), wrap=wrap))

    for param in PARAMS.get(layer, ()):
        matrix = layer in ("conv2d", "linear") and param == "weight"
        more = {**(OF_A_MATRIX if matrix else {}), **(OF_A_KERNEL if matrix and layer == "conv2d" else {})}
        for name, of in {**MAPS, **OF_A_PARAM, **more}.items():
            add(param, name, Wrap(params={param: of}))
    if PARAMS.get(layer, ()) == NORM and layer not in ("conv2d", "linear"):
        for name, of in OF_A_PARAM.items():
            add("weight and bias", f"each {name}", Wrap(params={"weight": of, "bias": of}))
    for name, of in {**MAPS, **OF_X}.items():
        add("x", name, Wrap(x=of))
    for name, of in OF_Y.items():
        add("y", name, Wrap(y=of))
    for option, name, change in OF_OPTIONS:
        if layer in WINDOWED:
            add(option, name, Wrap(options={option.replace("the kernel's size", "kernel_size").split()[-1]: change}))
    if layer in WINDOWED:
        for what, option, name, make in MADE_OPTIONS:
            add(what, name, Wrap(made={option: make}))
    if layer in ("batch_norm", "mode_norm"):
        add("training and evaluation", "are exchanged, the flag is inverted", Wrap(inverted=True))
    if layer.endswith(("_norm", "_last")):
        add("y", "has x added, as by a residual path", Wrap(residual=True))
    return tuple(made)
