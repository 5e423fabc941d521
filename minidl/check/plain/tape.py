"""Reverse-mode differentiation of a plain layer's forward pass: the gradients of a forward pass as it stands.

A wrong forward pass in a framework with automatic differentiation gets the right gradients of the wrong
function.  A plain layer runs on ``Traced`` arrays for that; only the operations that plain layers use are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from minidl.check.plain.arith import Array

Pull = Callable[[Array], Array]

ONE = np.float64(1.0)
LOCAL: dict[Any, Callable[..., tuple[Any, ...]]] = {
    np.add: lambda out, a, b: (ONE, ONE),
    np.subtract: lambda out, a, b: (ONE, -ONE),
    np.multiply: lambda out, a, b: (b, a),
    np.true_divide: lambda out, a, b: (1 / b, -out / b),
    np.negative: lambda out, a: (-ONE,),
    np.positive: lambda out, a: (ONE,),
    np.sqrt: lambda out, a: (0.5 / out,),
    np.exp: lambda out, a: (out,),
    np.log: lambda out, a: (1 / a,),
    np.square: lambda out, a: (2 * a,),
    np.absolute: lambda out, a: (np.sign(a),),
    np.power: lambda out, a, b: (b * a ** (b - 1), None),
    np.maximum: lambda out, a, b: (a >= b, a < b),
    np.minimum: lambda out, a, b: (a <= b, a > b),
}
PLAIN = (np.greater, np.less, np.greater_equal, np.less_equal, np.equal, np.not_equal, np.isnan, np.isfinite, np.sign)
_clock = count()


class Traced(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that remembers how it was computed.

    Attributes
    ----------
    value : the array
    parents : (Traced, function from the gradient of this array to that of the parent)
    """

    def __init__(self, value: Any, parents: Sequence[tuple[Traced, Pull]] = ()) -> None:
        self.value = np.asarray(value)
        self.parents = list(parents)
        self.order = next(_clock)

    shape = property(lambda self: self.value.shape)
    size = property(lambda self: self.value.size)
    ndim = property(lambda self: self.value.ndim)
    dtype = property(lambda self: self.value.dtype)
    flags = property(lambda self: self.value.flags)
    T = property(lambda self: self.taken(lambda ids: ids.T))

    def __len__(self) -> int:
        return len(self.value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        values = [of.value if isinstance(of, Traced) else of for of in inputs]
        kwargs.pop("out", None)
        if method != "__call__" or ufunc in PLAIN:
            return getattr(ufunc, method)(*values, **kwargs)
        if ufunc not in LOCAL:
            return NotImplemented
        out = np.asarray(ufunc(*values, **kwargs))
        parents = []
        for of, slope in zip(inputs, LOCAL[ufunc](out, *map(np.asarray, values)), strict=True):
            if isinstance(of, Traced) and slope is not None:
                parents.append((of, lambda g, of=of, slope=slope: folded(g * slope, of.shape)))
        return Traced(out, parents)

    def __array_function__(self, function: Any, types: Any, arguments: Any, kwargs: Any) -> Any:
        if function in FUNCTIONS:
            return FUNCTIONS[function](*arguments, **kwargs)
        return NotImplemented

    def taken(self, pick: Callable[[Array], Array]) -> Traced:
        """The elements that ``pick`` takes of an array of positions: every way to index, turn, repeat or reshape."""
        ids = np.asarray(pick(np.arange(self.size).reshape(self.shape)))

        def back(g: Array) -> Array:
            summed = np.bincount(ids.reshape(-1), weights=g.reshape(-1), minlength=self.size)
            return np.asarray(summed).reshape(self.shape)

        return Traced(self.value.reshape(-1)[ids], [(self, back)])

    def __getitem__(self, index: Any) -> Traced:
        return self.taken(lambda ids: ids[index])

    def __setitem__(self, index: Any, new: Any) -> None:
        before = Traced(self.value, self.parents)
        self.value = self.value.copy()
        self.value[index] = new.value if isinstance(new, Traced) else new

        def kept(g: Array) -> Array:
            rest = g.copy()
            rest[index] = 0
            return rest

        self.parents = [(before, kept)]
        if isinstance(new, Traced):
            self.parents.append((new, lambda g: folded(g[index], new.shape)))
        self.order = next(_clock)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Traced:
        """Sum over axes."""
        wide = self.value.sum(axis=axis, keepdims=True).shape
        return Traced(
            self.value.sum(axis=axis, keepdims=keepdims),
            [(self, lambda g: np.broadcast_to(np.reshape(g, wide), self.shape))],
        )

    def max(self, axis: Any = None, keepdims: bool = False) -> Array:
        """The largest value, a constant: plain layers subtract it where that changes nothing."""
        return np.asarray(self.value.max(axis=axis, keepdims=keepdims))

    def reshape(self, *shape: Any) -> Traced:
        """The same elements in another shape."""
        return Traced(self.value.reshape(*shape), [(self, lambda g: np.reshape(g, self.shape))])

    def squeeze(self) -> Traced:
        """Without axes of length 1."""
        return self.reshape(self.value.squeeze().shape)

    def ravel(self, order: Any = "C") -> Traced:
        """One axis; in the order of memory where that is asked for."""
        if order == "C":
            return self.reshape(-1)
        ids = np.empty_like(self.value, dtype=np.int64)
        ids[...] = np.arange(self.size).reshape(self.shape)
        along = ids.ravel(order=order)
        return self.taken(lambda _: along)

    def astype(self, dtype: Any) -> Traced:
        """The values in another dtype; the gradient passes."""
        return Traced(self.value.astype(dtype), [(self, lambda g: g)])

    def copy(self) -> Traced:
        """A copy."""
        return Traced(self.value.copy(), [(self, lambda g: g)])


def folded(g: Array, shape: tuple[int, ...]) -> Array:
    """A gradient summed over the axes that were broadcast."""
    g = np.asarray(g)
    g = g.sum(axis=tuple(range(g.ndim - len(shape)))) if g.ndim > len(shape) else g
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    g = g.sum(axis=axes, keepdims=True) if axes else g
    return np.broadcast_to(g, shape)


def detached(x: Any) -> Any:
    """The values without their history."""
    return x.value if isinstance(x, Traced) else x


def _where(condition: Any, a: Any, b: Any) -> Traced:
    chosen = np.asarray(detached(condition))
    parents = []
    for of, mask in ((a, chosen), (b, ~chosen)):
        if isinstance(of, Traced):
            parents.append((of, lambda g, of=of, mask=mask: folded(np.where(mask, g, 0.0), of.shape)))
    return Traced(np.where(chosen, detached(a), detached(b)), parents)


def _cut_out(g: Array, cuts: Array, axis: int, i: int) -> Array:
    return np.split(g, cuts, axis)[i]


def _concatenate(parts: Sequence[Any], axis: int = 0) -> Traced:
    cuts = np.cumsum([part.shape[axis] for part in parts])[:-1]
    parents: list[tuple[Traced, Pull]] = []
    for i, part in enumerate(parts):
        if isinstance(part, Traced):
            parents.append((part, partial(_cut_out, cuts=cuts, axis=axis, i=i)))
    return Traced(np.concatenate([detached(part) for part in parts], axis), parents)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: _where,
    np.concatenate: _concatenate,
    np.split: lambda x, cuts: [x[a:b] for a, b in zip([0, *cuts], [*cuts, len(x)], strict=True)],
    np.full_like: lambda x, value, shape=None: Traced(np.full_like(detached(x), value, shape=shape or x.shape)),
    np.pad: lambda x, width, mode: x.taken(lambda ids: np.pad(ids, width, mode=mode)),
    np.repeat: lambda x, times, axis=None: x.taken(lambda ids: np.repeat(ids, times, axis)),
    np.moveaxis: lambda x, a, b: x.taken(lambda ids: np.moveaxis(ids, a, b)),
    np.nan_to_num: lambda x: _where(np.isnan(detached(x)), 0.0, x),
    np.max: lambda x, axis=None: np.max(np.asarray([detached(part) for part in x]), axis=axis),
    np.iscomplexobj: lambda x: False,
    np.ndim: lambda x: x.ndim,
    np.shape: lambda x: x.shape,
    np.sum: lambda x, axis=None, keepdims=False: x.sum(axis, keepdims),
}


def gradients(y: Traced, seed: Array, leaves: Mapping[str, Traced]) -> dict[str, Array]:
    """The gradients of sum(seed · y) to each leaf, zero where y does not depend on it."""
    grads: dict[int, Array] = {id(y): np.broadcast_to(np.asarray(seed, np.float64), y.shape)}
    seen: dict[int, Traced] = {id(y): y}
    waiting = [y]
    while waiting:
        for parent, _ in waiting.pop().parents:
            if id(parent) not in seen:
                seen[id(parent)] = parent
                waiting.append(parent)
    for node in sorted(seen.values(), key=lambda node: -node.order):
        g = grads.get(id(node))
        if g is None:
            continue
        for parent, pull in node.parents:
            grads[id(parent)] = grads[id(parent)] + pull(g) if id(parent) in grads else pull(g)
    return {name: np.array(grads.get(id(leaf), np.zeros(leaf.shape))) for name, leaf in leaves.items()}
