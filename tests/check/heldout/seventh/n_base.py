"""Mode group normalization by hand, which the third set's NumPy layers lack; it is right, and wrong ones derive from it."""

from __future__ import annotations

import numpy as np

from heldout.third.nbase import Norm, col, log_softmax, softmax, wide


class Mgn(Norm):
    """Shapes: f (N, C, L); gates, shares (N, C, K); means, variances (N, K)."""

    def run(self, f, training):
        self.gw, self.gb = wide(self.p["gate.weight"])[:, 0], wide(self.p["gate.bias"])
        self.m = f.mean(2)
        log = log_softmax(self.m[..., None] * self.gw + self.gb, 2)
        self.g, self.share = np.exp(log), softmax(log, 1)
        mean = (self.share * self.m[..., None]).sum(1)
        self.d = f[:, :, None] - mean[:, None, :, None]
        self.q = (self.d**2).mean(3)
        self.rstd = 1 / np.sqrt(self.variance() + f.dtype.type(self.eps))
        self.mixed = (self.d * self.rstd[:, None, :, None]).mean(2)
        return self.mixed * col(self.w) + col(self.b)

    def variance(self):
        return (self.share * self.q).sum(1)

    def grad(self, dy):
        length, modes = dy.shape[2], self.g.shape[2]
        dz = (dy * col(self.w))[:, :, None] / modes
        dvar = -(dz * self.d).sum((1, 3)) * self.rstd**3 / 2
        dq, dshare = self.dvariance(dvar)
        dd = dz * self.rstd[:, None, :, None] + dq[..., None] * 2 * self.d / length
        dmean = -dd.sum((1, 3))
        dshare = dshare + self.m[..., None] * dmean[:, None]
        dlog = self.share * (dshare - (self.share * dshare).sum(1, keepdims=True))
        dlogit = dlog - self.g * dlog.sum(2, keepdims=True)
        dm = (dlogit * self.gw).sum(2) + self.through_mean(dmean)
        return {
            "dx": dd.sum(2) + dm[..., None] / length,
            "dweight": (dy * self.mixed).sum((0, 2)),
            "dbias": dy.sum((0, 2)),
            **self.gate_grads(dlogit),
        }

    def dvariance(self, dvar):
        """What dvar gives to q and to the shares."""
        return dvar[:, None] * self.share, dvar[:, None] * self.q

    def through_mean(self, dmean):
        return (self.share * dmean[:, None]).sum(2)

    def gate_grads(self, dlogit):
        return {"dgate.weight": (dlogit * self.m[..., None]).sum((0, 1))[:, None], "dgate.bias": dlogit.sum((0, 1))}
