"""Mode normalization and mode group normalization by hand, each wrong in one thing."""

from __future__ import annotations

import numpy as np

from heldout.fourth.registry import bug
from heldout.third import nbase
from heldout.third.nbase import col, log_softmax, softmax


class ModeNorm(nbase.Mn):
    """The forward of the base; a backward whose steps have names."""

    def grad(self, dy):
        length = dy.shape[2]
        grads = {"dweight": (dy * self.mixed).sum((0, 2)), "dbias": dy.sum((0, 2))}
        e = (dy * col(self.w))[:, None]
        dz = self.g[:, :, None, None] * e
        dd = dz * self.rstd[None, :, :, None]
        dlog = self.g * self.gate_signal(dy, e)
        dm = 0
        if self.t:
            dvar = -(dz * self.d).sum((0, 3)) * self.rstd**3 / 2
            dmu = -dd.sum((0, 3))
            dshare = (dvar * self.q).sum(2) + self.m @ dmu.T
            dd = dd + (dvar * self.share[:, :, None])[..., None] * 2 * self.d / length
            dm = self.share @ dmu
            dlog = dlog + self.through_share(dshare)
        dlogit = self.through_softmax(dlog)
        grads |= {"dgate.weight": dlogit.T @ self.m, "dgate.bias": dlogit.sum(0)}
        return {**grads, "dx": dd.sum(1) + (dm + self.through_gate_input(dlogit))[:, :, None] / length}

    def gate_signal(self, dy, e):
        return (e * self.z).sum((2, 3))

    def through_share(self, dshare):
        return self.share * (dshare - (self.share * dshare).sum(0))

    def through_softmax(self, dlog):
        return dlog - self.g * dlog.sum(1, keepdims=True)

    def through_gate_input(self, dlogit):
        return dlogit @ self.gw


@bug(
    "n4-mn-dx-without-gates",
    "mode_norm",
    "dx has no part that comes through the gates, which are functions of x; the gates' parameters have their gradients",
    right="dx lacks the path through the gates / the gates' input (the average of x) is taken as constant in dx",
    wrong="the gates' own gradients are missing / the mean or variance term of dx is missing",
    seen="a common slip",
)
class DxWithoutGates(ModeNorm):
    def through_gate_input(self, dlogit):
        return np.zeros_like(self.m)


@bug(
    "n4-mn-mode-count-constant",
    "mode_norm",
    "in backward the count of a mode, N_k = sum of its gates, is taken as constant",
    right="backward: the normaliser (the count) of a mode's weights is constant / the gradient through the sum of "
    "gates is missing / the weights' softmax over the batch lacks its second term",
    wrong="the gates' gradient is missing in full in the moments / a wrong softmax over modes / the forward",
    seen="a common slip",
)
class ModeCountConstant(ModeNorm):
    def through_share(self, dshare):
        return self.share * dshare


@bug(
    "n4-mn-softmax-diagonal",
    "mode_norm",
    "the backward of the gates' softmax has its diagonal alone: g·(1 - g), as for a sigmoid",
    right="the backward of softmax has the diagonal alone / off-diagonal terms of the softmax's Jacobian are missing "
    "/ a sigmoid's derivative in place of a softmax's / the gradient of the gates' softmax is wrong",
    wrong="the softmax is over a wrong axis in the forward / the gates' gradient is missing",
    seen="a common slip",
)
class SoftmaxDiagonal(ModeNorm):
    def through_softmax(self, dlog):
        return dlog * (1 - self.g)


@bug(
    "n4-mn-second-moment-from-running-mean",
    "mode_norm",
    "the second moment that is averaged is the batch's variance plus the square of the running mean, not of the "
    "batch's mean",
    right="the running second moment uses the running mean's square / E[x²] is formed from var + running_mean² / "
    "from the wrong mean",
    wrong="the variance is stored in place of E[x²] / momentum swapped / unbiased",
    seen="a common slip",
)
class SecondMomentFromRunningMean(ModeNorm):
    def update(self, first, second, n):
        lam, var = self.momentum, second - first**2
        self.s["running_mean"] = (1 - lam) * self.s["running_mean"] + lam * first
        second = var + self.s["running_mean"] ** 2
        self.s["running_mean_square"] = (1 - lam) * self.s["running_mean_square"] + lam * second


@bug(
    "n4-mn-eval-second-moment-as-variance",
    "mode_norm",
    "evaluation divides by the root of the running second moment: the mean's square is not subtracted",
    right="evaluation takes E[x²] for the variance / the running mean's square is not subtracted",
    wrong="batch statistics in evaluation / the state is wrong / eps",
    seen="a common slip",
)
class EvalSecondMomentAsVariance(ModeNorm):
    def run(self, f, training):
        if training:
            return super().run(f, training)
        kept = self.s
        self.s = kept | {"running_mean_square": kept["running_mean_square"] + kept["running_mean"] ** 2}
        y = super().run(f, training)
        self.s = kept
        return y


@bug(
    "n4-mn-update-weighted-by-count",
    "mode_norm",
    "the running moments of a mode move by momentum times the mode's share of the batch, not by momentum",
    right="the momentum of a mode is multiplied by its count (its mean gate) / the update is weighted by how much "
    "the batch belongs to the mode",
    wrong="momentum swapped / a momentum that is built in / the moments themselves are not normalised",
    seen="a common slip",
)
class UpdateWeightedByCount(ModeNorm):
    def update(self, first, second, n):
        lam = self.momentum * self.g.mean(0)[:, None]
        self.s["running_mean"] = ((1 - lam) * self.s["running_mean"] + lam * first).astype(first.dtype)
        self.s["running_mean_square"] = ((1 - lam) * self.s["running_mean_square"] + lam * second).astype(first.dtype)


@bug(
    "n4-mn-gate-signal-without-weight",
    "mode_norm",
    "the gradient of the gates, as weights of the output, uses dy and not dy·weight",
    right="the gates' gradient lacks the affine weight / uses dy in place of dy·weight / weight (gamma) missing on "
    "the way through the gates",
    wrong="the weight is missing in the whole of dx / the gates' gradient is missing / a wrong softmax",
    seen="a common slip",
)
class GateSignalWithoutWeight(ModeNorm):
    def gate_signal(self, dy, e):
        return (dy[:, None] * self.z).sum((2, 3))


@bug(
    "n4-mn-running-updated-in-evaluation",
    "mode_norm",
    "evaluation also moves the running mean and second moment, by the batch that is evaluated",
    right="the running statistics are updated in evaluation / evaluation changes the state",
    wrong="batch statistics are used in evaluation / updated twice in training / momentum",
    seen="a common slip",
)
class UpdatedInEvaluation(ModeNorm):
    def run(self, f, training):
        y = super().run(f, training)
        if not training:
            self.update(self.share.T @ self.m, self.share.T @ (f**2).mean(2), f.shape[0] * f.shape[2])
        return y


class ModeGroupNorm(nbase.Norm):
    """Every channel has gates over the modes; the moments of a mode are sums over a sample's channels."""

    def run(self, f, training):
        gw, gb = nbase.wide(self.p["gate.weight"])[:, 0], nbase.wide(self.p["gate.bias"])
        self.gw, self.m = gw, f.mean(2)
        log = log_softmax(self.m[..., None] * gw + gb, 2)  # n c k
        self.g, self.share = np.exp(log), softmax(log, 1)
        mu = (self.share * self.m[..., None]).sum(1)  # n k
        self.d = f[:, :, None] - mu[:, None, :, None]  # n c k l
        self.q = (self.d**2).mean(3)
        self.rstd = 1 / np.sqrt((self.share * self.q).sum(1) + f.dtype.type(self.eps))
        self.mixed = self.mix(self.d * self.rstd[:, None, :, None])
        return self.mixed * col(self.w) + col(self.b)

    def mix(self, z):
        return z.mean(2)

    def spread(self, e):
        return np.repeat(e[:, :, None] / len(self.gw), len(self.gw), 2)

    def grad(self, dy):
        grads = {"dweight": (dy * self.mixed).sum((0, 2)), "dbias": dy.sum((0, 2))}
        dz, length = self.spread(dy * col(self.w)), dy.shape[2]
        dd = dz * self.rstd[:, None, :, None]
        dvar = -(dz * self.d).sum((1, 3)) * self.rstd**3 / 2
        dmu = self.to_mean(dd)
        dshare = dvar[:, None] * self.q + dmu[:, None] * self.m[..., None]
        dd = dd + (dvar[:, None] * self.share)[..., None] * 2 * self.d / length
        dlog = self.share * (dshare - (self.share * dshare).sum(1, keepdims=True))
        dlogit = dlog - self.g * dlog.sum(2, keepdims=True)
        grads |= {"dgate.weight": (dlogit * self.m[..., None]).sum((0, 1))[:, None], "dgate.bias": dlogit.sum((0, 1))}
        through_mean, through_gates = (self.share * dmu[:, None]).sum(2), dlogit @ self.gw
        return {**grads, "dx": dd.sum(2) + self.over_pixels(through_mean, through_gates, length)}

    def to_mean(self, dd):
        return -dd.sum((1, 3))

    def over_pixels(self, through_mean, through_gates, length):
        return (through_mean + through_gates)[..., None] / length


@bug(
    "n4-mgn-sum-of-modes",
    "mode_group_norm",
    "the normalized values of the modes are summed, not averaged; the backward matches that",
    right="a sum over modes in place of a mean / the factor 1/K is missing / xhat is K times too large",
    wrong="a wrong variance or eps / the gates",
    seen="a common slip",
)
class SumOfModes(ModeGroupNorm):
    def mix(self, z):
        return z.sum(2)

    def spread(self, e):
        return np.repeat(e[:, :, None], len(self.gw), 2)


@bug(
    "n4-mgn-gate-path-not-averaged",
    "mode_group_norm",
    "dx's part through the gates is not divided by the number of pixels over which the gates' input is averaged",
    right="dx: the path through the gates lacks 1/(number of pixels) / is too large by the number of pixels / a sum "
    "in place of the average in the backward of the gates' pooling",
    wrong="the path through the gates is missing / a wrong mean term / the parameters' gradients",
    seen="a common slip",
)
class GatePathNotAveraged(ModeGroupNorm):
    def over_pixels(self, through_mean, through_gates, length):
        return through_mean[..., None] / length + through_gates[..., None]


@bug(
    "n4-mgn-dx-without-mean-term",
    "mode_group_norm",
    "backward takes the modes' means as constants: neither dx nor the gates have a part through them",
    right="the modes' means are taken as constants in backward / the term of the mean is missing in dx and in the "
    "gates' gradients / dmean is zero",
    wrong="the variance term is missing / the path through the gates is missing in dx",
    seen="a common slip",
)
class MgnWithoutMeanTerm(ModeGroupNorm):
    def to_mean(self, dd):
        return np.zeros_like(self.rstd)
