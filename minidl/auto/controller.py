"""Told of every update of a training, it gives each mode norm the number of modes that the norm uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.auto.prune import LOOK, Watch
from minidl.auto.split import best_split, install
from minidl.backend import Array, to_device
from minidl.layers.base import Layer
from minidl.norm.select import Rows, by_mode, mode_norms, take_modes

WAYS = ("entropy", "prune", "split")


class AutoModes:
    """Changes the number of modes of a network's `ModeNorm` layers while it trains.

    Parameters
    ----------
    model : Layer
        With at least one ModeNorm. For "entropy" and "prune" they begin with as many modes as there may be, for
        "split" with one.
    optimiser : FlatOptimiser
        SGD, Adam or AdamW over the network; what it keeps for a mode goes with the mode.
    by : str
        One of WAYS: see `minidl.auto`.
    window : int
        Updates between two decisions.
    until : int
        No mode is condemned and none is split after this update; those that fade are still dropped.
    threshold : float
        A mode goes whose mean gate over a window's last batches is below it.
    strength : float
        ρ of the penalty ρ·H on the entropy of the mean gate, for "entropy".
    max_modes : int
        A layer with as many modes is not split.
    seed : int
        For "split".
    dropout : numpy.random.Generator, optional
        That the network's dropout draws from: a trial of splits leaves it as it was.

    Raises
    ------
    ValueError
        If an argument is out of range, the network has no ModeNorm, or the optimiser cannot follow.

    Examples
    --------
    In a loop of one's own: `before` each forward, `after` each step.

    >>> from minidl import SGD, ModeNorm, Sequential
    >>> net = Sequential(ModeNorm(3, num_modes=8, rng=0))
    >>> optimiser = SGD(net, lr=0.1)
    >>> auto = AutoModes(net, optimiser, by="prune", window=10, until=100)
    >>> rng = np.random.default_rng(0)
    >>> for update in range(20):
    ...     x = rng.normal(size=(16, 3)).astype(np.float32)
    ...     auto.before(update, x, None)
    ...     y = net.forward(x)
    ...     optimiser.zero_grad()
    ...     _ = net.backward(y)
    ...     optimiser.step()
    ...     auto.after(update + 1)
    >>> auto.modes()
    {'0': 8}
    """

    def __init__(
        self,
        model: Layer,
        optimiser: Any,
        by: str,
        window: int,
        until: int,
        threshold: float = 0.05,
        strength: float = 0.01,
        max_modes: int = 8,
        seed: int = 0,
        dropout: np.random.Generator | None = None,
    ) -> None:
        if by not in WAYS:
            raise ValueError(f"AutoModes: by must be one of {', '.join(WAYS)}, got {by!r}; choose one")
        if window < 1:
            raise ValueError(f"AutoModes: window must be at least 1 update, got {window}; try 100")
        if not hasattr(optimiser, "follow"):
            raise ValueError(
                f"AutoModes: optimiser must have follow, which minidl.SGD has, got {type(optimiser).__name__}; "
                "take SGD, Adam or AdamW, or give a fixed number of modes"
            )
        self.model, self.optimiser, self.by = model, optimiser, by
        self.window, self.until, self.threshold, self.strength = window, until, threshold, strength
        self.max_modes, self.seed, self.dropout = max_modes, seed, dropout
        self.layers = mode_norms(model)
        if not self.layers:
            raise ValueError("AutoModes: model must have a ModeNorm, got none; use the norm mn")
        self._watched = {path: Watch(layer) for path, layer in self.layers.items()}

    def modes(self) -> dict[str, int]:
        """Return {path: K} of each layer now."""
        return {path: layer.num_modes for path, layer in self.layers.items()}

    def before(self, step: int, x: Array, labels: Array) -> None:
        """Prepare the update that follows `step` others, on this batch."""
        penalty = self.strength if self.by == "entropy" and step < self.until else 0.0
        for layer in self.layers.values():
            layer.gate_penalty = penalty
        if self.by == "split" and 0 < step <= self.until and step % self.window == 0:
            self._split(step, x, labels)

    def after(self, step: int) -> None:
        """Look at what the update did that is the `step`-th; at the end of a window, decide."""
        left = -step % self.window  # updates of this window to come
        for watch in self._watched.values():
            if left < LOOK:
                watch.look()
            watch.fade()
        if left == 0:
            self._decide(step)

    def _decide(self, step: int) -> None:
        """Drop the modes that have faded, and let those fade that are rarely used."""
        rows: Rows = {}
        for path, watch in self._watched.items():
            gone = watch.faded()  # of those that faded all through this window
            if step <= self.until:
                watch.condemn(self.threshold)
            if gone:
                left = watch.kept(gone)
                rows |= _named(path, take_modes(watch.layer, left), left)
            watch.begin()
        if rows:
            self.optimiser.follow(self.model, rows)

    def _split(self, step: int, x: Array, labels: Array) -> None:
        """Split the mode whose split lowers the held-out loss most, if there is one."""
        layers = {path: layer for path, layer in self.layers.items() if layer.num_modes < self.max_modes}
        rng = np.random.default_rng((self.seed, step))
        found = best_split(self.model, layers, x, labels, rng, self.dropout)
        if found is not None:
            layer = layers[found.path]
            modes = install(layer, found.mode, found.direction)
            self.optimiser.follow(self.model, _named(found.path, by_mode(layer), modes))
            self._watched[found.path].begin()

    # -- saving and loading ------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, np.ndarray]:
        """Return {"path.usage": array, "path.peak": array}: what was seen in this window, on the host."""
        return {
            f"{path}.{name}": array for path, watch in self._watched.items() for name, array in watch.state().items()
        }

    def state(self) -> dict[str, Any]:
        """Return the rest of what a checkpoint holds, as JSON can."""
        return {path: {"fading": list(watch.fading), "batches": watch.batches} for path, watch in self._watched.items()}

    def fit(self) -> None:
        """Follow the layers after their modes were changed from outside: begin a window."""
        for watch in self._watched.values():
            watch.fading = [mode for mode in watch.fading if mode < watch.layer.num_modes]
            watch.begin()

    def load_state(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Take over what `tensors` and `state` returned, for a network with the same modes.

        Parameters
        ----------
        tensors, state : dict
            As they were returned.

        Raises
        ------
        ValueError
            If it is of another network, or no state at all.
        """
        if not isinstance(state, Mapping) or state.keys() != self._watched.keys():
            raise ValueError(f"auto must have the layers {', '.join(self._watched)}, got {state!r:.100}")
        for path, watch in self._watched.items():
            fading, batches = state[path]["fading"], state[path]["batches"]
            modes = range(watch.layer.num_modes)
            fit = all(type(k) is int and k in modes for k in fading) and len(set(fading)) < len(modes)
            if type(batches) is not int or batches < 0 or not fit:
                raise ValueError(f"auto of {path} must have modes that fade and a count, got {state[path]!r:.100}")
            watch.fading, watch.batches = list(fading), batches
            like = watch.layer.buffers["running_mean"]
            watch.usage = to_device(np.array(tensors[f"{path}.usage"]), like=like)
            watch.peak = to_device(np.array(tensors[f"{path}.peak"]), like=like)


def _named(path: str, names: list[str], modes: list[int]) -> Rows:
    return {f"{path}.{name}" if path else name: modes for name in names}
