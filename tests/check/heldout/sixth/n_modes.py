"""Mode norm and mode group norm in NumPy, each wrong as ports get it; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.fifth.n_modes import ModeGroupNorm, ModeNorm
from heldout.sixth.registry import bug
from heldout.third.nbase import log_softmax

SLIP = "a common slip"


@bug(
    "n6-mn-dgate-bias-averaged",
    "mode_norm",
    "The gradient of the gates' bias is averaged over the batch, not summed; that of their weight is right.",
    right="dgate.bias is a mean over the batch / divided by N",
    wrong="dgate.weight too, the gates' softmax, swapped",
    seen=SLIP,
)
class DgateBiasMean(ModeNorm):
    def gate_grads(self, dlogit):
        return super().gate_grads(dlogit) | {"dgate.bias": dlogit.mean(0)}


@bug(
    "n6-mn-counts-are-n",
    "mode_norm",
    "The shares of a mode are the gates divided by N, not by the mode's own mass N_k; the backward fits.",
    right="a mode's moments are divided by N in place of N_k / the per-mode count is wrong / gates not normalised over the batch, divided by N",
    wrong="softmax over the wrong axis, N/K, hard gates",
    seen=SLIP,
)
class CountsN(ModeNorm):
    def gates(self, z):
        gates = np.exp(log_softmax(z, 1))
        return gates, gates / gates.dtype.type(len(z))

    def from_share(self, dshare):
        return self.share * dshare


@bug(
    "n6-mn-stores-variance",
    "mode_norm",
    "In place of E[x²] the running second moment gets the mode's variance; evaluation still subtracts the mean's square.",
    right="the variance is stored where E[x²] belongs / running second moment holds the variance",
    wrong="momentum, biased, evaluation by batch statistics",
    seen=SLIP,
)
class StoresVariance(ModeNorm):
    def update(self, first, second, n):
        super().update(first, second - first**2, n)


@bug(
    "n6-mn-variance-constant-in-backward",
    "mode_norm",
    "The backward holds the modes' variances constant.",
    right="the gradient through the variance is missing / variance held constant (detached) in the backward / dvar missing",
    wrong="through the mean, both missing, gates detached",
    seen=SLIP,
)
class NoDvar(ModeNorm):
    def dvar(self, dz):
        return 0 * super().dvar(dz)


@bug(
    "n6-mn-gate-path-times-pixels",
    "mode_norm",
    "The gates see the mean over the pixels, but their part of dx is not divided by the number of pixels.",
    right="the gates' part of dx is not divided by the pixels / 1/(H·W) missing in the gate's path to x",
    wrong="the gates' path missing, the mean's path, dgate wrong",
    seen=SLIP,
)
class GatePathSummed(ModeNorm):
    def to_input(self, dlogit):
        return super().to_input(dlogit) * self.f.shape[2]


@bug(
    "n6-mn-two-momentum-and-softmax-derivative",
    "mode_norm",
    "Two bugs: momentum weighs the old moments, and the derivative of the softmax over the modes lacks its second term.",
    right="both: momentum swapped, and the softmax's derivative (its sum term) missing",
    wrong="either with a wrong second name",
    seen=SLIP,
)
class TwoMn(ModeNorm):
    def update(self, first, second, n):
        lam = 1 - self.momentum
        for name, value in (("running_mean", first), ("running_mean_square", second)):
            self.s[name] = (1 - lam) * self.s[name] + lam * value

    def from_softmax(self, dlog):
        return dlog


@bug(
    "n6-mgn-modes-summed-in-dweight",
    "mode_group_norm",
    "dweight is the sum over the modes where y takes their mean: it is K times too large.",
    right="dweight is K times too large / the modes are summed in dweight, not averaged",
    wrong="y summed too, dweight from x, gates in dweight",
    seen=SLIP,
)
class DweightSummed(ModeGroupNorm):
    def grad(self, dy):
        grads = super().grad(dy)
        return grads | {"dweight": grads["dweight"] * len(self.gb)}


@bug(
    "n6-mgn-gate-weight-not-averaged-over-pixels",
    "mode_group_norm",
    "The gates' weight gets its gradient from the sum over the pixels, not the mean that the gates see.",
    right="dgate.weight is taken with the sum over the pixels in place of the mean / dgate.weight too large by H·W",
    wrong="dgate.bias too, dgate missing, softmax over a wrong axis",
    seen=SLIP,
)
class DgateOfSums(ModeGroupNorm):
    def gate_grads(self, dlogit):
        grads = super().gate_grads(dlogit)
        return grads | {"dgate.weight": grads["dgate.weight"] * self.f.shape[2]}
