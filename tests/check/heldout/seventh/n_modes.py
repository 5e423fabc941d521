"""Mode and mode group normalization in NumPy as one gets them wrong; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.seventh.n_base import Mgn
from heldout.seventh.registry import bug
from heldout.third.nbase import Mn

SLIP = "a common slip"


@bug(
    "n7-mn-shares-constant",
    "mode_norm",
    "The backward takes the shares of the samples in the statistics as constants: the gates get a gradient through the mixture alone.",
    right="gradient through the shares (weights of the statistics) missing / the shares are detached / the gates' gradient lacks the "
    "statistics' path",
    wrong="the mixture's path missing, the statistics detached altogether",
    seen=SLIP,
)
class SharesConstant(Mn):
    def grad(self, dy):
        length = dy.shape[2]
        e = (dy * self.w[None, :, None])[:, None]
        dz = self.g[:, :, None, None] * e
        dd = dz * self.rstd[None, :, :, None]
        dlog = self.g * (e * self.z).sum((2, 3))
        dm = 0
        if self.t:
            dvar = -(dz * self.d).sum((0, 3)) * self.rstd**3 / 2
            dm = self.share @ -dd.sum((0, 3))
            dd = dd + (dvar * self.share[:, :, None])[..., None] * 2 * self.d / length
        dlogit = dlog - self.g * dlog.sum(1, keepdims=True)
        dm = dm + dlogit @ self.gw
        return {
            "dx": dd.sum(1) + dm[:, :, None] / length,
            "dweight": (dy * self.mixed).sum((0, 2)),
            "dbias": dy.sum((0, 2)),
            "dgate.weight": dlogit.T @ self.m,
            "dgate.bias": dlogit.sum(0),
        }


@bug(
    "n7-mn-running-square-centred",
    "mode_norm",
    "running_mean_square is given the modes' variance, not E[x²].",
    right="running_mean_square holds the variance / the second moment is centred / the mean's square is not added",
    wrong="momentum, running mean, unbiased",
    seen=SLIP,
)
class SquareCentred(Mn):
    def update(self, first, second, n):
        super().update(first, second - first**2, n)


@bug(
    "n7-mn-softmax-backward-diagonal",
    "mode_norm",
    "The softmax of the gates is differentiated as if it were a sigmoid for each mode: g·(1 − g), without the other modes.",
    right="softmax's Jacobian only diagonal / g(1 − g) in place of the softmax backward / dlogit lacks the other modes",
    wrong="the gates' gradient missing, the shares' path missing",
    seen="the softmax backward of from-scratch code",
)
class DiagonalSoftmax(Mn):
    def grad(self, dy):
        length = dy.shape[2]
        e = (dy * self.w[None, :, None])[:, None]
        dz = self.g[:, :, None, None] * e
        dd = dz * self.rstd[None, :, :, None]
        dlog = self.g * (e * self.z).sum((2, 3))
        dm = 0
        if self.t:
            dvar = -(dz * self.d).sum((0, 3)) * self.rstd**3 / 2
            dmu = -dd.sum((0, 3))
            dshare = (dvar * self.q).sum(2) + self.m @ dmu.T
            dd = dd + (dvar * self.share[:, :, None])[..., None] * 2 * self.d / length
            dm = self.share @ dmu
            dlog = dlog + self.share * (dshare - (self.share * dshare).sum(0))
        dlogit = dlog * (1 - self.g)
        dm = dm + dlogit @ self.gw
        return {
            "dx": dd.sum(1) + dm[:, :, None] / length,
            "dweight": (dy * self.mixed).sum((0, 2)),
            "dbias": dy.sum((0, 2)),
            "dgate.weight": dlogit.T @ self.m,
            "dgate.bias": dlogit.sum(0),
        }


@bug(
    "n7-mn-dx-without-gates",
    "mode_norm",
    "dx lacks what goes through the gates' logits (dlogit @ gate.weight).",
    right="dx: the path through the gates is missing / the gates' input is detached",
    wrong="dgate missing, statistics detached",
    seen=SLIP,
)
class WithoutGates(Mn):
    def grad(self, dy):
        self.gw = np.zeros_like(self.gw)
        return super().grad(dy)


@bug(
    "n7-mgn-mean-constant",
    "mode_group_norm",
    "dx lacks what goes through the modes' means: x is centred, and the mean taken as a constant.",
    right="dx: the mean's term is missing / the mean is detached in dx",
    wrong="the variance's term missing, the gates' path missing",
    seen=SLIP,
)
class MeanConstant(Mgn):
    def through_mean(self, dmean):
        return 0


@bug(
    "n7-mgn-dgate-weight-without-input",
    "mode_group_norm",
    "dgate.weight lacks the gates' input: it is the same as dgate.bias.",
    right="dgate.weight is not multiplied by its input / dgate.weight equals dgate.bias",
    wrong="dgate missing, swapped, the shares' path missing",
    seen=SLIP,
)
class WithoutInput(Mgn):
    def gate_grads(self, dlogit):
        total = dlogit.sum((0, 1))
        return {"dgate.weight": total[:, None], "dgate.bias": total}


@bug(
    "n7-mgn-variance-not-weighted",
    "mode_group_norm",
    "A mode's variance is the plain mean of (x − mean)² over the channels, not weighted by the shares; the backward fits.",
    right="the variance is not weighted by the gates / a plain mean over the channels in the variance",
    wrong="the mean not weighted, unbiased, eps",
    seen=SLIP,
)
class NotWeighted(Mgn):
    def variance(self):
        return self.q.mean(1)

    def dvariance(self, dvar):
        return np.broadcast_to(dvar[:, None] / self.q.shape[1], self.q.shape), np.zeros_like(self.q)
