"""What is done at a wrong time: a cache or statistics of another pass, and a momentum that changes with the steps."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from minidl.check.plain import plain_class, plain_source
from minidl.check.variants.kinds import Variant
from minidl.check.variants.words import CALLED

FIRST, BEFORE, TRAINING = "the first pass", "the pass before", "the last training pass"
NOT_ARRAYS = ("training", "axes", "shape", "kernel", "stride", "padding", "modes", "largest", "where", "count")
STATEFUL = ("batch_norm", "mode_norm")
SCHEDULES: dict[str, Callable[[float, int], float]] = {  # the weight of the new at step t = 1, 2, …
    "the momentum is divided by the number of the step": lambda lam, t: lam / t,
    "the momentum is 1 at the first step, so that its statistics are copied": lambda lam, t: 1.0 if t == 1 else lam,
    "the momentum is 1/(t + 1) at step t": lambda lam, t: 1.0 / (t + 1),
    "the momentum is the larger of itself and 1/t": lambda lam, t: max(lam, 1.0 / t),
    "the momentum is corrected for a start at 0, lam / (1 − (1 − lam)^t)": lambda lam, t: lam / (1 - (1 - lam) ** t),
    "the momentum is raised to the power of the step": lambda lam, t: lam**t,
    "the momentum warms up as 1 − min(1 − lam, (1 + t)/(10 + t)), t from 0": lambda lam, t: (
        1 - min(1 - lam, t / (9 + t))
    ),
    "the momentum warms up as 1 − min(1 − lam, (1 + t)/(10 + t)), t from 1": lambda lam, t: (
        1 - min(1 - lam, (1 + t) / (10 + t))
    ),
    "the running statistics are updated at the first step alone": lambda lam, t: lam if t == 1 else 0.0,
    "the running statistics are not updated at the first step": lambda lam, t: 0.0 if t == 1 else lam,
    "the running statistics are updated at every other step": lambda lam, t: lam if t % 2 else 0.0,
    "the momentum weighs the old at the first step alone": lambda lam, t: 1 - lam if t == 1 else lam,
}


def kept_names(layer: str) -> tuple[str, ...]:
    """The names of what a plain layer's forward pass keeps for its gradients."""
    for node in ast.walk(ast.parse(plain_source(layer))):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self.kept":
            of = node.value
            return tuple(ast.unparse(e) for e in of.elts) if isinstance(of, ast.Tuple) else (ast.unparse(of),)
    return ()


@dataclass(frozen=True)
class Timed(Variant):
    """A right layer in which something is of another time.

    ``stale`` says of which pass the cache is, ``part`` which of what is kept (−1: all of it); ``schedule`` names how
    the momentum changes; ``late`` says that statistics are taken in by the backward pass, or a step too late.
    """

    stale: str = ""
    part: int = -1
    schedule: str = ""
    late: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from others."""
        return self.layer, self.name, self.stale, self.part, self.schedule, self.late

    @property
    def of_gradients(self) -> bool:
        """Whether the forward pass is right."""
        return bool(self.stale)

    @property
    def closed(self) -> bool:
        """Its gradients are settled."""
        return True

    def plain(self, layer: str, options: dict[str, Any]) -> Any:
        """Build the layer."""
        return InTime(plain_class(layer)(layer, options), self)


class InTime:
    """A plain layer that is made to do something at a wrong time, with the interface of an adapter."""

    def __init__(self, inner: Any, how: Timed) -> None:
        self.inner, self.how, self.step = inner, how, 0
        self.old: dict[str, Any] = {}
        self.waiting: tuple[Any, ...] | None = None
        self.update = getattr(inner, "update", None)
        self.momentum = inner.options.get("momentum", 0.0)
        if how.late and self.update:
            inner.update = self.wait

    def wait(self, *statistics: Any) -> None:
        """Keep statistics for later; a step too late, those of the step before are taken in."""
        if self.how.late == BEFORE and self.waiting is not None and self.update:
            self.update(*self.waiting)
        self.waiting = statistics

    def load(self, params: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Take parameters and state."""
        self.inner.load(params, state)

    def state(self) -> dict[str, Any]:
        """Return the running statistics."""
        found: dict[str, Any] = self.inner.state()
        return found

    def saved(self) -> Any:
        """Return what a saved model holds of them."""
        return getattr(self.inner, "saved", self.inner.state)()

    def forward(self, x: Any, training: bool) -> Any:
        """Forward pass."""
        if training:
            self.step += 1
            if self.how.schedule:
                weight = SCHEDULES[self.how.schedule](float(self.momentum), self.step)
                self.inner.options["momentum"] = weight
        before = self.inner.kept
        y = self.inner.forward(x, training)
        if before is not None:
            self.old[BEFORE] = before
        self.old.setdefault(FIRST, self.inner.kept)
        if training:
            self.old[TRAINING] = self.inner.kept
        return y

    def backward(self, dy: Any) -> dict[str, Any]:
        """Gradients, of what was kept in another pass."""
        own, how = self.inner.kept, self.how
        if how.late == "backward" and self.waiting is not None and self.update:
            self.update(*self.waiting)
            self.waiting = None
        if how.stale in self.old:
            other = self.old[how.stale]
            if how.part < 0 or not isinstance(own, tuple):
                self.inner.kept = other
            elif np.shape(other[how.part]) == np.shape(own[how.part]):
                self.inner.kept = (*own[: how.part], other[how.part], *own[how.part + 1 :])
        try:
            grads: dict[str, Any] = self.inner.backward(dy)
        finally:
            self.inner.kept = own
        return grads


@cache
def timed(layer: str) -> tuple[Timed, ...]:
    """What a layer may do at a wrong time."""
    made = []
    names = kept_names(layer)
    whiles = (FIRST, BEFORE, TRAINING) if layer in STATEFUL else (FIRST, BEFORE)
    for stale in whiles:
        what = f"backward takes what {stale} kept"
        made.append(Timed(layer, what, f"{what}, not the last one", (), stale=stale))
        for k, name in enumerate(names if len(names) > 1 else ()):
            if name not in NOT_ARRAYS:
                what = f"backward takes {CALLED.get(name, name)} of {stale}"
                made.append(Timed(layer, what, f"{what}, not of the last one", (), stale=stale, part=k))
    if layer in STATEFUL:
        made += [Timed(layer, words, words, (), schedule=words) for words in SCHEDULES]
        for late, words in (("backward", "by the backward pass"), (BEFORE, "a step too late")):
            what = f"the running statistics take in a batch {words}"
            made.append(Timed(layer, what, what, (), late=late))
    return tuple(made)
