"""Mode norm and mode group norm in NumPy, each wrong in one thing; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.fifth.registry import bug
from heldout.third.nbase import Mn, Norm, col, log_softmax, softmax, wide


class ModeNorm(Mn):
    """Mode norm whose backward is in pieces."""

    def grad(self, dy):
        grads = {"dweight": (dy * self.mixed).sum((0, 2)), "dbias": dy.sum((0, 2))}
        e = (dy * col(self.w))[:, None]
        dz = self.g[:, :, None, None] * e
        dd = dz * self.rstd[None, :, :, None]
        dlog = self.from_mixture((e * self.z).sum((2, 3)))
        dm = 0
        if self.t:
            dmu, dvar = -dd.sum((0, 3)), self.dvar(dz)
            dd = dd + (dvar * self.share[:, :, None])[..., None] * 2 * self.d / dy.shape[2]
            dm = self.share @ dmu
            dlog = dlog + self.from_share(self.dshare(dmu, dvar))
        dlogit = self.from_softmax(dlog)
        grads |= self.gate_grads(dlogit)
        return {**grads, "dx": dd.sum(1) + (dm + self.to_input(dlogit))[:, :, None] / dy.shape[2]}

    def from_mixture(self, dg):
        return self.g * dg

    def dvar(self, dz):
        return -(dz * self.d).sum((0, 3)) * self.rstd**3 / 2

    def dshare(self, dmu, dvar):
        return (dvar * self.q).sum(2) + self.m @ dmu.T

    def from_share(self, dshare):
        return self.share * (dshare - (self.share * dshare).sum(0))

    def from_softmax(self, dlog):
        return dlog - self.g * dlog.sum(1, keepdims=True)

    def gate_grads(self, dlogit):
        return {"dgate.weight": dlogit.T @ self.m, "dgate.bias": dlogit.sum(0)}

    def to_input(self, dlogit):
        return dlogit @ self.gw


@bug(
    "n5-mn-mixture-gradient-forgotten",
    "mode_norm",
    "The gates get their gradient through the statistics alone; the part through the mixture of the modes' outputs is forgotten.",
    right="the gradient of the gates through the mixing (gates times outputs) is missing / dL/dg of the mixture forgotten",
    wrong="the gradient through the statistics missing, gates detached altogether, softmax's derivative",
    seen="a common slip",
)
class MixtureForgotten(ModeNorm):
    def from_mixture(self, dg):
        return 0 * dg


@bug(
    "n5-mn-mass-constant-in-backward",
    "mode_norm",
    "The backward takes a mode's mass N_k, by which the gates are divided, for a constant.",
    right="N_k is held constant in the backward / the derivative of the normalisation over the batch is missing / quotient rule's second term forgotten",
    wrong="statistics' gradient missing altogether, softmax over the modes, N_k wrong in the forward",
    seen="a common slip",
)
class MassConstant(ModeNorm):
    def from_share(self, dshare):
        return self.share * dshare


@bug(
    "n5-mn-gates-see-mean-only",
    "mode_norm",
    "The gates' gradient through the statistics has the modes' means but not their variances.",
    right="the gradient of the gates through the variance is missing / dvar · q forgotten in the gates' gradient",
    wrong="the gradient through the mean missing, both missing, mixture missing",
    seen="a common slip",
)
class GatesSeeMean(ModeNorm):
    def dshare(self, dmu, dvar):
        return self.m @ dmu.T


@bug(
    "n5-mn-dgate-weight-from-sums",
    "mode_norm",
    "dgate.weight is taken with the sum over the pixels of x instead of the mean the gates are fed with.",
    right="dgate.weight is too large by the number of pixels / sum in place of mean of x in dgate.weight",
    wrong="the gates are fed with sums (forward), dgate.bias wrong, dx wrong",
    seen="a common slip",
)
class DgateFromSums(ModeNorm):
    def gate_grads(self, dlogit):
        return super().gate_grads(dlogit) | {"dgate.weight": dlogit.T @ self.f.sum(2)}


@bug(
    "n5-mn-gate-path-missing-in-dx",
    "mode_norm",
    "dx has no part through the gates: dlogit · gate.weight is not sent back to x.",
    right="the path from x through the gates is missing in dx / gate input detached",
    wrong="statistics detached, gates' own gradient missing, path through the mean missing",
    seen="a common slip",
)
class GatePathMissing(ModeNorm):
    def to_input(self, dlogit):
        return 0 * (dlogit @ self.gw)


@bug(
    "n5-mn-second-moment-of-means",
    "mode_norm",
    "The running second moment is that of the samples' channel means, not of their pixels.",
    right="the running second moment is of the channel means (squared after averaging) / mean before the square / pixels' spread left out of the second moment",
    wrong="the square of the running mean, variance in place of the second moment, momentum",
    seen="a common slip",
)
class SecondMomentOfMeans(ModeNorm):
    def update(self, first, second, n):
        super().update(first, self.share.T @ self.m**2, n)


@bug(
    "n5-mn-share-over-batch-size",
    "mode_norm",
    "A mode's statistics are divided by N/K (as if all modes were equally large) instead of by the mode's mass N_k.",
    right="the statistics are divided by N/K instead of N_k / modes taken as equally large / responsibilities not normalised by their sum",
    wrong="divided by N (no factor K), softmax over the wrong axis, hard gates",
    seen="a common slip",
)
class ShareOverBatch(ModeNorm):
    def gates(self, z):
        g = np.exp(log_softmax(z, 1))
        return g, g * g.shape[1] / g.shape[0]

    def from_share(self, dshare):
        return self.share * dshare


@bug(
    "n5-mn-two-momentum-and-dgate-bias",
    "mode_norm",
    "TWO: the running second moment is blended with the momentum turned round (weight of the old), and dgate.bias is averaged over the batch.",
    right="both: momentum of the second moment swapped, and dgate.bias a mean over the batch; one of them alone is half right",
    wrong="anything that is neither of the two",
    seen="a common slip, twice",
)
class TwoMn(ModeNorm):
    def update(self, first, second, n):
        kept = self.s["running_mean_square"]
        super().update(first, second, n)
        self.s["running_mean_square"] = self.momentum * kept + (1 - self.momentum) * second

    def gate_grads(self, dlogit):
        return super().gate_grads(dlogit) | {"dgate.bias": dlogit.mean(0)}


class ModeGroupNorm(Norm):
    """Mode group norm: the gates divide the channels of a sample; the modes' outputs are averaged."""

    def run(self, f, training):
        self.gw, self.gb = wide(self.p["gate.weight"])[:, 0], wide(self.p["gate.bias"])
        self.f, self.m = f, f.mean(2)
        log = log_softmax(self.m[:, :, None] * self.gw + self.gb, 2)
        self.g, self.share = np.exp(log), softmax(log, 1)
        mean = np.einsum("nck,nc->nk", self.share, self.m)
        self.d = f[:, :, None] - mean[:, None, :, None]
        self.q = (self.d**2).mean(3)
        self.rstd = 1 / np.sqrt((self.share * self.q).sum(1) + f.dtype.type(self.eps))
        self.mixed = (self.d * self.rstd[:, None, :, None]).mean(2)
        return self.mixed * col(self.w) + col(self.b)

    def grad(self, dy):
        modes = len(self.gb)
        dz = np.repeat((dy * col(self.w))[:, :, None] / modes, modes, 2)
        dd = dz * self.rstd[:, None, :, None]
        dvar = -(dz * self.d).sum((1, 3)) * self.rstd**3 / 2
        dmean = -dd.sum((1, 3))
        dd = dd + self.spread(dvar)[..., None] * 2 * self.d / dy.shape[2]
        dm = (self.share * dmean[:, None]).sum(2)
        dlog = self.from_share(dvar[:, None] * self.q + dmean[:, None] * self.m[:, :, None])
        dlogit = self.from_softmax(dlog)
        dm = dm + self.to_input(dlogit)
        grads = {"dweight": (dy * self.mixed).sum((0, 2)), "dbias": dy.sum((0, 2))} | self.gate_grads(dlogit)
        return grads | {"dx": dd.sum(2) + self.over_pixels(dm, dy.shape[2])}

    def spread(self, dvar):
        return self.share * dvar[:, None]

    def from_share(self, dshare):
        return self.share * (dshare - (self.share * dshare).sum(1, keepdims=True))

    def from_softmax(self, dlog):
        return dlog - self.g * dlog.sum(2, keepdims=True)

    def to_input(self, dlogit):
        return (dlogit * self.gw).sum(2)

    def over_pixels(self, dm, pixels):
        return dm[:, :, None] / pixels

    def gate_grads(self, dlogit):
        return {"dgate.weight": (dlogit * self.m[:, :, None]).sum((0, 1))[:, None], "dgate.bias": dlogit.sum((0, 1))}


@bug(
    "n5-mgn-softmax-derivative-left-out",
    "mode_group_norm",
    "The backward skips the softmax over the modes: the gradient of the logarithm of the gates is taken for that of the logits.",
    right="the derivative of the softmax over the modes is missing / gradient of log-gates used as that of the logits / − g · sum term forgotten",
    wrong="the softmax over the channels missing in the backward, gates detached, forward without softmax",
    seen="a common slip",
)
class SoftmaxLeftOut(ModeGroupNorm):
    def from_softmax(self, dlog):
        return dlog


@bug(
    "n5-mgn-channel-means-not-over-pixels",
    "mode_group_norm",
    "The gradient of a channel's mean is sent to every pixel whole, without division by the number of pixels.",
    right="the gradient through the channel means is not divided by the pixels / mean treated as a sum in the backward",
    wrong="the gradient through the means missing, gates' path missing, variance's part",
    seen="a common slip",
)
class NotOverPixels(ModeGroupNorm):
    def over_pixels(self, dm, pixels):
        return dm[:, :, None]


@bug(
    "n5-mgn-dgate-over-channels",
    "mode_group_norm",
    "The gates' gradients are averaged over the channels instead of summed: all channels share the gate.",
    right="dgate.weight and dgate.bias are averaged over the channels / divided by C / mean in place of sum over the channels",
    wrong="averaged over the batch, only one of the two wrong, gates detached",
    seen="a common slip",
)
class DgateOverChannels(ModeGroupNorm):
    def gate_grads(self, dlogit):
        return {k: v / dlogit.shape[1] for k, v in super().gate_grads(dlogit).items()}


@bug(
    "n5-mgn-variance-spread-evenly",
    "mode_group_norm",
    "The gradient of a mode's variance is spread evenly over the channels (1/C) instead of by the channels' shares in the mode.",
    right="the variance's gradient is not weighted by the shares (gates) / 1/C in place of the channel's share in dx's variance term",
    wrong="the variance unweighted in the forward, variance term missing, N_k constant",
    seen="a common slip (group norm's backward taken over)",
)
class SpreadEvenly(ModeGroupNorm):
    def spread(self, dvar):
        return np.repeat(dvar[:, None], self.share.shape[1], 1) / self.share.shape[1]
