"""Mode norm in NumPy, with the backward by hand."""

from __future__ import annotations

import numpy as np

from heldout.third.nbase import Mn, log_softmax, softmax
from heldout.third.registry import bug

G = "https://github.com/"


@bug(
    "n3-mn-decay-in-loop", "mode_norm",
    "The update stands in the loop over the modes and decays the whole table each time: old values fade K times a step.",
    right="running moments decayed K times a step / updated once for each mode",
    wrong="momentum swapped, updated twice only if K = 2 is meant in general, order of the modes",
    seen=G + "lucidrains/st-moe-pytorch/issues/13",
)
class DecayInLoop(Mn):
    def update(self, first, second, n):
        lam = self.momentum
        for name, batch in (("running_mean", first), ("running_mean_square", second)):
            table = self.s[name].copy()
            for k in range(len(batch)):
                table *= 1 - lam
                table[k] += lam * batch[k]
            self.s[name] = table


@bug(
    "n3-mn-exp-overflow", "mode_norm",
    "The gates' softmax has no shift: exp overflows for large logits and the gates are inf/inf.",
    right="softmax without the shift / overflow of exp in the gates",
    wrong="empty mode (0/0 of N_k) unless named as an alternative, hard gates",
    seen=G + "uTensor/uTensor/issues/175",
)
class ExpOverflow(Mn):
    def gates(self, z):
        e = np.exp(z)
        return e / e.sum(1, keepdims=True), softmax(log_softmax(z, 1), 0)


@bug(
    "n3-mn-second-moment-bessel", "mode_norm",
    "The running second moment is multiplied by n/(n − 1), which is meant for a variance.",
    right="Bessel's correction on the second moment / second moment scaled by n/(n − 1)",
    wrong="momentum, second moment holds the variance, mean corrected",
    seen=G + "kakaobrain/trident/pull/125",
)
class SecondBessel(Mn):
    def update(self, first, second, n):
        super().update(first, second * n / max(n - 1, 1), n)
