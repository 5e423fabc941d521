"""Sums of gradients over the ranks, in buckets that travel while backward goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from minidl import memory
from minidl.backend import Array, array_module
from minidl.distributed.communicator import Communicator, Pending
from minidl.layers.base import Layer
from minidl.optim import FlatOptimiser

BUCKET = 1 << 20  # bytes of gradients that travel together, at least


@dataclass
class _Bucket:
    """Gradients of adjacent layers: a stretch of the optimiser's buffer, or memory that `pieces` are copied to."""

    flat: Callable[[], Array]
    layers: set[int]
    pieces: list[tuple[dict[str, Array], str, slice]] = field(default_factory=list)
    missing: set[int] = field(default_factory=set)
    memory: Array = None
    pending: Pending | None = None

    def start(self, across: Communicator) -> None:
        self.memory = self.flat()
        for grads, name, where in self.pieces:
            self.memory[where] = grads[name].reshape(-1)
        self.pending = across.start_total(self.memory)

    def finish(self) -> None:
        assert self.pending is not None
        self.pending.wait()
        for grads, name, where in self.pieces:
            grads[name][...] = self.memory[where].reshape(grads[name].shape)
        self.pending = None


class GradientSums:
    """Sums the gradients of a network over the ranks.

    Backward reaches the last layers first. A bucket is summed as soon as the layers in it have their gradients, while
    backward goes on with those before. What was `begun` must be `finish`\\ ed before the gradients are read.

    Parameters
    ----------
    model : Layer
        Its layers' `backward` are wrapped.
    optimiser : object
        A `FlatOptimiser` has the gradients side by side already: they are summed where they are.
    across : Communicator
        Of the gradients' library.
    bucket : int
        Bytes that travel together, at least.
    """

    def __init__(self, model: Layer, optimiser: Any, across: Communicator, bucket: int = BUCKET) -> None:
        self._across = across
        self._begun = False
        if isinstance(optimiser, FlatOptimiser):
            self._buckets = _of_buffers(optimiser, bucket)
        else:
            self._buckets = _of_arrays(model, bucket)
        self._of_layer: dict[int, list[_Bucket]] = {}
        for each in self._buckets:
            for key in each.layers:
                self._of_layer.setdefault(key, []).append(each)
        for _, layer in model.named_layers():
            if layer.params:
                self._listen(layer)

    def __len__(self) -> int:
        """Return the number of buckets."""
        return len(self._buckets)

    def begin(self) -> None:
        """Wait for the gradients of the backward that comes."""
        self._begun = True
        for bucket in self._buckets:
            bucket.missing = set(bucket.layers)

    def finish(self) -> None:
        """Return when every gradient is the sum over the ranks."""
        self._begun = False
        for bucket in self._buckets:
            if bucket.pending is None:  # a layer that this backward did not reach
                bucket.start(self._across)
        for bucket in self._buckets:
            bucket.finish()

    def _listen(self, layer: Layer) -> None:
        """Let a layer's backward tell that its gradients are there."""
        backward = layer.backward

        def told(dy: Array) -> Array:
            dx = backward(dy)
            if self._begun:
                self._ready(id(layer))
            return dx

        vars(layer)["backward"] = told

    def _ready(self, layer: int) -> None:
        for bucket in self._buckets:
            if bucket.pending is not None:
                bucket.pending.go_on()
        for bucket in self._of_layer[layer]:
            bucket.missing.discard(layer)
            if not bucket.missing and bucket.pending is None:
                bucket.start(self._across)


def _of_buffers(optimiser: FlatOptimiser, least: int) -> list[_Bucket]:
    """Return stretches of an optimiser's buffers, of whole layers, the last ones first."""
    found = []
    for flat in optimiser._flats:
        stop, layers = flat.grads.size, set[int]()
        starts = {member.where.start: id(member.layer) for member in flat.members}
        following = {id(member.layer): member.where.start for member in reversed(flat.members)}
        for start in sorted(starts, reverse=True):
            layers.add(starts[start])
            whole = following[starts[start]] == start  # the first of its layer's arrays
            if start == 0 or (whole and (stop - start) * flat.grads.itemsize >= least):
                found.append(_Bucket(lambda flat=flat, a=start, b=stop: flat.grads[a:b], layers))  # type: ignore[misc]
                stop, layers = start, set()
    return found


def _of_arrays(model: Layer, least: int) -> list[_Bucket]:
    """Return buckets that gradients are copied to and from, for an optimiser that has them where they are."""
    found: list[_Bucket] = []
    pieces: list[tuple[dict[str, Array], str, slice]] = []
    layers: set[int] = set()
    start = 0

    def close() -> None:
        nonlocal pieces, layers, start
        if pieces:
            grads, name, _ = pieces[0]
            xp, dtype = array_module(grads[name]), grads[name].dtype
            space = memory.empty(xp, (start,), dtype)
            found.append(_Bucket(lambda: space, layers, pieces))
        pieces, layers, start = [], set(), 0

    for _, layer in reversed(list(model.named_layers())):
        for name, grad in layer.grads.items():
            if pieces and pieces[0][0][pieces[0][1]].dtype != grad.dtype:
                close()
            pieces.append((layer.grads, name, slice(start, start + grad.size)))
            layers.add(id(layer))
            start += grad.size
        if pieces and start * next(iter(pieces[0][0].values())).itemsize >= least:
            close()
    close()
    return found
