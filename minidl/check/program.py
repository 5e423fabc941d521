"""Play a case's steps on anything with the interface of an adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from minidl.check.case import Array, Case
from minidl.check.conventions import NotSupportedError


class Adapter(Protocol):
    """What a layer under test must offer; arrays are NumPy arrays at this border.

    A method ``saved()`` may say what a saved model holds of the state, where that is less than ``state()``.
    """

    def load(self, params: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Take the parameters and, where given, the running statistics."""

    def forward(self, x: Any, training: bool) -> Any:
        """Return y."""

    def backward(self, dy: Any) -> Mapping[str, Any]:
        """Return {"dx": ..., "dweight": ..., ...} of the last forward pass."""

    def state(self) -> Mapping[str, Array]:
        """Return the running statistics."""


UNSUPPORTED = "backward not supported"
Make = Callable[[str, dict[str, Any]], Adapter]


def _cut(array: Array, case: Case) -> Any:
    return np.split(array, np.cumsum(case.shards)[:-1]) if case.shards else array


def _join(value: Any) -> Any:
    return np.concatenate(value) if isinstance(value, list) else value


def play(make: Make, case: Case, place: Callable[[str, Array], Array]) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of each output as soon as it is there; ``place`` gives each input its dtype and memory."""
    options = dict(case.options)
    params = {name: place(f"param.{name}", value) for name, value in case.group("param.").items()}
    state = {name: place(f"state.0.{name}", value) for name, value in case.group("state.0.").items()}
    adapter = make(case.layer, options)
    adapter.load(params, state)
    t = 0
    for step in case.steps:
        if step == "reload":
            saved = getattr(adapter, "saved", adapter.state)()
            kept = {name: np.array(value) for name, value in saved.items()}
            adapter = make(case.layer, options)
            adapter.load(params, kept)
            continue
        prefix = "out" if step == "train" else "eval"
        x = place(f"in.x.{t}", case.inputs[f"in.x.{t}"])
        yield f"{prefix}.y.{t}", _join(adapter.forward(_cut(x, case), step == "train"))
        if f"in.dy.{t}" in case.inputs:
            try:
                grads = adapter.backward(_cut(place(f"in.dy.{t}", case.inputs[f"in.dy.{t}"]), case))
            except NotSupportedError as error:
                yield f"{UNSUPPORTED}.{t}", error
                grads = {}
            for name, value in grads.items():
                yield f"{prefix}.{name}.{t}", _join(value)
        t += 1
        for name, value in adapter.state().items():
            yield f"state.{t}.{name}", np.array(value)
