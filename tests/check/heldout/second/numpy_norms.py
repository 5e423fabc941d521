"""Second held-out set: norms in NumPy, by hand."""

from __future__ import annotations

import numpy as np

from heldout.numpy_base import col
from heldout.second.numpy_pieces import Rows, StagedBn
from heldout.second.registry import bug


@bug("n2-bn-dx-no-weight", "batch_norm", "dx is that of weight 1: dy is multiplied too late", "denizyuret/Knet.jl#288")
class BnDxNoWeight(StagedBn):
    def dx(self, dy):
        return super().dx(dy / col(self.w))


@bug(
    "n2-bn-dx-direct", "batch_norm", "the direct term of dx lacks the weight, the other two have it", "ROCm/MIOpen#104"
)
class BnDxDirect(StagedBn):
    def dx(self, dy):
        if not self.t:
            return super().dx(dy)
        return super().dx(dy) + (dy - dy * col(self.w)) * col(self.ivar)


@bug("n2-bn-half", "batch_norm", "the derivative of the variance lacks its 1/2: that term of dx counts twice")
class BnHalf(StagedBn):
    def dvar(self, dxhat):
        return -((dxhat * self.xmu).sum((0, 2)) * self.ivar**3)


@bug("n2-bn-sign", "batch_norm", "the gradient through the mean is added with the wrong sign")
class BnSign(StagedBn):
    def dmean(self, dxhat):
        return dxhat.sum((0, 2)) * self.ivar


@bug("n2-bn-count", "batch_norm", "the sums in dx are divided by the batch, not by batch times pixels")
class BnCount(StagedBn):
    def dx(self, dy):
        self.n = dy.shape[0]
        return super().dx(dy)


@bug("n2-bn-dgamma-centred", "batch_norm", "dweight sums dy (x − mean): the division by the deviation is forgotten")
class BnDgammaCentred(StagedBn):
    def dweight(self, dy):
        return (dy * self.xmu).sum((0, 2))


@bug("n2-bn-keep", "batch_norm", "momentum weighs the old statistics", "cs231n/cs231n.github.io#180")
class BnKeep(StagedBn):
    def track(self, mean, var, rate):
        super().track(mean, var, 1 - rate)


@bug("n2-bn-no-affine-gradient", "batch_norm", "weight and bias get no gradient: both are 0", "paiml/aprender#2200")
class BnNoAffineGradient(StagedBn):
    def dweight(self, dy):
        return np.zeros_like(self.w)

    dbias = dweight


@bug("n2-bn-numel", "batch_norm", "Bessel's correction counts all values of x, not those of a channel")
class BnNumel(StagedBn):
    def corrected(self, var):
        return var * (self.xmu.size / (self.xmu.size - 1))


@bug("n2-bn-running-biased", "batch_norm", "the running variance is the biased one", "tenstorrent/tt-metal#55438")
class BnRunningBiased(StagedBn):
    def corrected(self, var):
        return var


@bug(
    "n2-bn-partial-dx",
    "batch_norm",
    "dx has no gradient through mean and variance",
    "deeplearning4j/deeplearning4j#8379",
)
class BnPartial(StagedBn):
    def dx(self, dy):
        return dy * col(self.w * self.ivar)


@bug("n2-bn-dbeta-x", "batch_norm", "dbias is the sum of x, not of dy", "pytorch/pytorch#2330")
class BnDbetaX(StagedBn):
    def dbias(self, dy):
        return self.x.sum((0, 2)).astype(dy.dtype)


@bug(
    "n2-ln-lanes",
    "layer_norm",
    "a block of the next power of two: the lanes beyond the row count as zeros in the variance",
    "triton-lang/triton#9838, linkedin/Liger-Kernel#518, unslothai/unsloth#1867",
)
class LnLanes(Rows):
    def variance(self):
        values = self.row.shape[1]
        spare = (1 << (values - 1).bit_length()) - values
        return super().variance() + spare * np.square(self.mean) / self.row.dtype.type(values)


@bug(
    "n2-gn-lanes",
    "group_norm",
    "a block of the next power of two: channels of the next group enter the sums of this one",
    "flagos-ai/FlagGems#4985",
)
class GnLanes(Rows):
    def run(self, x, training):
        groups, c = self.o["num_groups"], x.shape[1]
        self.check(c, groups)
        size = c // groups
        block = 1 << (size - 1).bit_length()
        wide = x.astype(np.promote_types(x.dtype, np.float32))
        parts = [wide[:, g * size : min(g * size + block, c)].reshape(len(x), -1) for g in range(groups)]
        values = wide.dtype.type(size * x.shape[2])
        mean = np.stack([part.sum(1) / values for part in parts], 1)
        off = [np.square(part - mean[:, g, None]).sum(1) / values for g, part in enumerate(parts)]
        self.foreign = mean.ravel(), np.stack(off, 1).ravel()
        return super().run(x, training)

    def variance(self):
        self.mean, variance = self.foreign
        return variance


@bug(
    "n2-gn-dgamma-group",
    "group_norm",
    "dweight takes mean and deviation of group c mod G, not of the channel's own group",
    "tenstorrent/tt-metal#56202",
)
class GnDgammaGroup(Rows):
    def dweight(self, dy):
        n, c, _ = dy.shape
        other = np.arange(c) % self.groups
        mean = self.mean.reshape(n, self.groups)[:, other, None]
        rstd = self.rstd.reshape(n, self.groups)[:, other, None]
        return (dy * (self.row.reshape(dy.shape) - mean) * rstd).sum((0, 2))


@bug("n2-in-constants", "instance_norm", "dx takes mean and deviation for constants", "ooples/AiDotNet#702")
class InConstants(Rows):
    def drow(self, wdy, xhat):
        return wdy * self.rstd[:, None]


@bug(
    "n2-ln-rank",
    "layer_norm",
    "dx takes its two means over the channels of each pixel, as if x had rank 2",
    "flagos-ai/FlagGems#5392",
)
class LnRank(Rows):
    def dx(self, dy):
        wdy = dy * col(self.w)
        inner = wdy - wdy.mean(1, keepdims=True) - self.xhat * (wdy * self.xhat).mean(1, keepdims=True)
        return inner * self.rstd[:, None, None]


@bug("n2-ln-last-sample", "layer_norm", "dweight and dbias are those of the last sample: a store where an add belongs")
class LnLastSample(Rows):
    def dweight(self, dy):
        return (dy * self.xhat).sum(2)[-1]

    def dbias(self, dy):
        return dy.sum(2)[-1]


@bug("n2-gn-count", "group_norm", "the means in dx divide by the channels of a group, not by its values")
class GnCount(Rows):
    def drow(self, wdy, xhat):
        size = self.xhat.shape[1] // self.groups
        return (wdy - wdy.sum(1, keepdims=True) / size - xhat * (wdy * xhat).sum(1, keepdims=True) / size) * self.rstd[
            :, None
        ]


@bug(
    "n2-in-index", "instance_norm", "weight and bias are taken of row // N instead of row mod C", "kendryte/nncase#1072"
)
class InIndex(Rows):
    def out(self, xhat):
        n, c, _ = xhat.shape
        self.of = np.arange(n * c).reshape(n, c) // n
        return xhat * self.w[self.of][:, :, None] + self.b[self.of][:, :, None]


@bug(
    "n2-in-block",
    "instance_norm",
    "values beyond the first 32 of a channel are never written: y and dx are 0 there, the statistics lack them",
    "facebookresearch/xformers#785",
)
class InBlock(Rows):
    def normalised(self):
        part = self.row[:, :32]
        self.mean = part.mean(1)
        self.rstd = 1 / np.sqrt(np.square(part - self.mean[:, None]).mean(1) + part.dtype.type(self.eps))
        out = np.zeros_like(self.row)
        out[:, :32] = (part - self.mean[:, None]) * self.rstd[:, None]
        return out

    def drow(self, wdy, xhat):
        out = np.zeros_like(wdy)
        out[:, :32] = super().drow(wdy[:, :32], xhat[:, :32])
        return out


@bug("n2-ln-backward-eps", "layer_norm", "backward computes the deviation anew, without eps")
class LnBackwardEps(Rows):
    def dx(self, dy):
        kept, self.rstd = self.rstd, 1 / np.sqrt(self.variance())
        dx = super().dx(dy)
        self.rstd = kept
        return dx


@bug(
    "n2-gn-no-check",
    "group_norm",
    "channels that the groups do not divide are taken all the same",
    "PaddlePaddle/Paddle#35644",
)
class GnNoCheck(Rows):
    def check(self, channels, groups):
        self.size = (channels - 1) // groups + 1

    def run(self, x, training):
        c, groups = x.shape[1], self.o["num_groups"]
        if c % groups == 0:
            return super().run(x, training)
        self.check(c, groups)
        self.parts = [Rows("layer_norm", self.o) for _ in range(0, c, self.size)]
        out = []
        for part, cut in zip(self.parts, self.cuts(c), strict=True):
            part.p = {k: v[cut] for k, v in self.p.items()}
            out.append(part.forward(x[:, cut], training))
        self.xhat = np.concatenate([part.xhat for part in self.parts], 1)
        return np.concatenate(out, 1)

    def cuts(self, c):
        return [slice(first, first + self.size) for first in range(0, c, self.size)]

    def dx(self, dy):
        c = dy.shape[1]
        if c % self.o["num_groups"] == 0:
            return super().dx(dy)
        return np.concatenate([part.dx(dy[:, cut]) for part, cut in zip(self.parts, self.cuts(c), strict=True)], 1)
