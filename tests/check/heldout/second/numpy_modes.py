"""Second held-out set: mode norms in NumPy, by hand; slips of the kinds that other norms have in public."""

from __future__ import annotations

import numpy as np

from heldout.numpy_base import Mgn, Mn, log_softmax
from heldout.second.registry import bug


@bug("n2-mn-jacobian", "mode_norm", "the softmax's derivative sums over the batch, not over the modes")
class MnJacobian(Mn):
    def to_logits(self, dlog_g):
        return dlog_g - self.g * dlog_g.sum(0, keepdims=True)


@bug("n2-mn-half-swapped", "mode_norm", "the running second moment has the momentum swapped, the mean has not")
class MnHalfSwapped(Mn):
    def run(self, x, training):
        old, key = self.s["running_mean_square"], "running_mean_square"
        y = super().run(x, training)
        if training:
            lam = self.momentum
            square = (self.s[key] - (1 - lam) * old) / lam
            self.s[key] = lam * old + (1 - lam) * square
        return y


@bug("n2-mn-pool-count", "mode_norm", "dx through the gates is not divided by the pixels")
class MnPoolCount(Mn):
    def to_input(self, dz, P):
        return super().to_input(dz, 1)


@bug("n2-mn-dpsi", "mode_norm", "the gates' gradients are means over the batch")
class MnDpsi(Mn):
    def grad(self, dy):
        grads = super().grad(dy)
        return {k: v / len(dy) if "gate" in k else v for k, v in grads.items()}


@bug("n2-mn-half", "mode_norm", "the derivative of the mode's variance lacks its 1/2")
class MnHalf(Mn):
    def through_statistics(self, dmu, dvar, P):
        return super().through_statistics(dmu, 2 * dvar, P)

    def through_shares(self, dmu, dvar):
        return super().through_shares(dmu, 2 * dvar)


@bug("n2-mgn-dbias-mean", "mode_group_norm", "the gate bias's gradient is a mean over batch and channels")
class MgnDbiasMean(Mgn):
    def grad(self, dy):
        grads = super().grad(dy)
        return {**grads, "dgate.bias": grads["dgate.bias"] / (dy.shape[0] * dy.shape[1])}


@bug(
    "n2-mgn-variance-count",
    "mode_group_norm",
    "the mean divides by the gates' sum, the variance by the channels over K",
)
class MgnVarianceCount(Mgn):
    def run(self, x, training):
        self.m = x.mean(2)
        self.log_g = log_softmax(self.m[:, :, None] * self.p["gate.weight"][:, 0] + self.p["gate.bias"], 2)
        self.share = np.exp(log_softmax(self.log_g, 1))
        self.mu = np.einsum("nck,nc->nk", self.share, self.m)
        self.centred = x[..., None] - self.mu[:, None, None]
        constant = x.dtype.type(len(self.p["gate.bias"]) / x.shape[1])
        var = np.einsum("nck,nck->nk", np.exp(self.log_g) * constant, np.square(self.centred).mean(2))
        self.r = 1 / np.sqrt(var + x.dtype.type(self.eps))
        from heldout.numpy_base import col

        self.xhat = self.centred * self.r[:, None, None]
        return self.xhat.mean(3) * col(self.p["weight"]) + col(self.p["bias"])


@bug("n2-mgn-no-mean", "mode_group_norm", "dx has no term through the modes' means")
class MgnNoMean(Mgn):
    def grad(self, dy):
        full = super().grad(dy)
        d = self.spread(dy * self.w[:, None], len(self.p["gate.bias"]))[..., None]
        dmu = -np.broadcast_to(d, self.centred.shape).sum((1, 2)) * self.r
        lost = (self.share[:, :, None] * dmu[:, None, None]).sum(3) / dy.shape[2]
        return {**full, "dx": full["dx"] - lost}
