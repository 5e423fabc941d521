"""Taking modes out of use: a mode whose mean gate stays small fades, and is dropped when its gates are below rounding.

**Which.** At the end of each window of updates, p_k is the mean gate of mode k over the window's last batches. A mode
with p_k below the threshold is to go; the one with the largest p_k never is.

**How.** To drop a mode with gates g_nj at once would change the function by terms of their size. So its logit is
lowered by a constant `FADE` at each update: its gates fall by a factor of e^FADE, and training goes on
meanwhile, so that the network adapts. When all g_nj of the last batches are below the rounding of the parameters, the
mode is dropped, which changes nothing any more: `minidl.norm.select`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl.backend import Array, array_module, to_host
from minidl.norm.mode import ModeNorm

LOOK = 64  # the last batches of a window are looked at
FADE = 0.25  # nats that the logit of a mode loses in an update
BELOW = 1 / 16  # of the parameters' rounding: where all gates of a mode are below it, the mode can go


@dataclass
class Watch:
    """What is known of the use of one layer's modes.

    Attributes
    ----------
    layer : ModeNorm
    fading : list of int
        The modes that are to go.
    usage, peak : (K,), float64, of the layer's library
        The sum over the batches looked at of each mode's mean gate, and its largest gate.
    batches : int
        Looked at in this window.
    """

    layer: ModeNorm
    fading: list[int] = field(default_factory=list)
    usage: Array = None
    peak: Array = None
    batches: int = 0

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin a window."""
        xp = array_module(self.layer.buffers["running_mean"])
        self.usage, self.peak = (xp.zeros(self.layer.num_modes) for _ in range(2))
        self.batches = 0

    def look(self) -> None:
        """Take in the gates of the last forward."""
        gates = self.layer.gates
        self.usage += gates.sum(axis=0) / len(gates)
        if self.fading:
            array_module(gates).maximum(self.peak, gates.max(axis=0), out=self.peak)
        self.batches += 1

    def fade(self) -> None:
        """Lower the logits of the modes that are to go."""
        for mode in self.fading:
            self.layer.params["gate.bias"][mode] -= FADE * self.layer.gate_temperature

    def faded(self) -> list[int]:
        """Return the modes that can be dropped."""
        if not self.fading or not self.batches:
            return []
        rounding = BELOW * np.finfo(self.layer.params["gate.weight"].dtype).eps
        peak = to_host(self.peak)
        return [mode for mode in self.fading if peak[mode] < rounding]

    def condemn(self, threshold: float) -> None:
        """Let the modes fade whose mean gate is below the threshold."""
        if self.batches and self.layer.num_modes > 1:
            usage = to_host(self.usage) / self.batches
            self.fading += rarely_used(usage, threshold, self.fading)

    def kept(self, gone: list[int]) -> list[int]:
        """Return the modes that are left without some, and renumber those that fade."""
        left = [mode for mode in range(self.layer.num_modes) if mode not in gone]
        self.fading = [left.index(mode) for mode in self.fading if mode in left]
        return left

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds: arrays on the host."""
        return {"usage": np.array(to_host(self.usage)), "peak": np.array(to_host(self.peak))}


def rarely_used(usage: np.ndarray, threshold: float, fading: Sequence[int] = ()) -> list[int]:
    """Return the modes whose mean gate is below the threshold, but neither those that fade nor the most used other.

    >>> rarely_used(np.array([0.02, 0.87, 0.08, 0.03]), 0.05, fading=[3])
    [0]
    """
    others = [k for k in range(len(usage)) if k not in fading]
    most = max(others, key=lambda k: float(usage[k]), default=None)
    return [k for k in others if usage[k] < threshold and k != most]
