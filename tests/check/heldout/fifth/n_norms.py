"""Instance, layer and group norm in NumPy (statistics of one sample), each wrong in one thing; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.fifth.registry import bug
from heldout.third.nbase import Grouped, col

G = "https://github.com/"


@bug(
    "n5-in-dweight-last-sample",
    "instance_norm",
    "dweight is assigned in the loop over the samples instead of added up: only the last sample's part is left.",
    right="dweight is of the last sample only / not summed over the batch, assigned instead of accumulated in the loop",
    wrong="mean over the batch, dweight of the first sample, dbias wrong",
    seen="a common slip",
)
class DweightLastSample(Grouped):
    def grad(self, dy):
        grads = super().grad(dy)
        for sample in range(len(dy)):
            grads["dweight"] = (dy[sample] * self.xhat[sample]).sum(1)
        return grads


@bug(
    "n5-in-var-shared-over-batch",
    "instance_norm",
    "Each sample has its own mean, but the variance is averaged over the batch (an axis too many in the second reduction).",
    right="the variance is taken (averaged) over the batch too, the mean per sample / variance's axes contain the batch / variance as in batch norm about the instance mean",
    wrong="batch normalization altogether (mean over the batch too), unbiased variance, eps",
    seen="a common slip",
)
class VarSharedOverBatch(Grouped):
    def variance(self, v, mean):
        shared = ((v - mean) ** 2).mean((0, 2), keepdims=True)
        return np.broadcast_to(shared, (v.shape[0], v.shape[1], 1))

    def dx(self, d):
        shape = self.rstd.shape[0], self.g, -1
        v, h = d.reshape(shape), self.xhat.reshape(shape)
        return (self.rstd * (v - v.mean(2, keepdims=True) - h * (v * h).mean((0, 2), keepdims=True))).reshape(d.shape)


@bug(
    "n5-in-backward-means-over-last-axis",
    "instance_norm",
    "The backward takes its means over the last axis alone (the width), where the forward normalises over height and width.",
    right="dx's means run over the width only / the last axis alone in the backward / height left out of the backward's reduction",
    wrong="statistics of the forward over the width only, a term forgotten, batch in the reduction",
    seen=G + "linkedin/Liger-Kernel/pull/1376",
)
class BackwardLastAxis(Grouped):
    def dx(self, d):
        shape = self.shape if len(self.shape) > 2 else (*self.shape, 1)
        v, h = d.reshape(shape), self.xhat.reshape(shape)
        rstd = self.rstd.reshape(shape[0], shape[1], *(1,) * (len(shape) - 2))
        dx = rstd * (v - v.mean(-1, keepdims=True) - h * (v * h).mean(-1, keepdims=True))
        return dx.reshape(d.shape)


@bug(
    "n5-in-max-of-var-and-eps",
    "instance_norm",
    "eps is a floor: the root is of max(var, eps) instead of var + eps.",
    right="eps is used as a lower bound of the variance / max(var, eps) in place of var + eps / variance clamped to eps",
    wrong="eps missing (unless it says: for variances above eps), eps outside the root, eps twice",
    seen="a common slip",
)
class MaxOfVarAndEps(Grouped):
    def variance(self, v, mean):
        return np.maximum(((v - mean) ** 2).mean(2, keepdims=True), self.eps) - self.eps


@bug(
    "n5-gn-sums-without-weight",
    "group_norm",
    "In dx, the weight multiplies dy in the first term alone; the two means are of dy without the weight.",
    right="dx's means lack the weight / weight applied to the direct term only / mean of dy and of dy·x̂ without the weight",
    wrong="the weight is missing everywhere in dx, weight outside (multiplied after the means, all terms)",
    seen=G + "uxlfoundation/oneDNN/issues/3543",
)
class SumsWithoutWeight(Grouped):
    def grad(self, dy):
        grads = super().grad(dy)
        shape = self.rstd.shape[0], self.g, -1
        v, h = dy.reshape(shape), self.xhat.reshape(shape)
        direct = (dy * col(self.w)).reshape(shape)
        dx = self.rstd * (direct - v.mean(2, keepdims=True) - h * (v * h).mean(2, keepdims=True))
        return grads | {"dx": dx.reshape(dy.shape)}


@bug(
    "n5-gn-weight-outside-the-means",
    "group_norm",
    "dx = weight · rstd · (dy − mean(dy) − x̂ mean(dy x̂)): batch norm's formula, where the weight may stand outside; in a group of several channels it may not.",
    right="the weight is multiplied after the means instead of before / weight outside the brackets of dx / batch norm's dx copied",
    wrong="the weight is missing in dx, only the means lack the weight",
    seen="a common slip (batch norm's backward taken over)",
)
class WeightOutside(Grouped):
    def grad(self, dy):
        return super().grad(dy) | {"dx": col(self.w) * self.dx(dy)}


@bug(
    "n5-gn-dweight-group-modulo",
    "group_norm",
    "dweight takes mean and rstd of group c mod G for channel c, instead of c // (C/G).",
    right="dweight uses the statistics of the wrong group / group index by remainder in dweight / channels dealt out in turn in dweight only",
    wrong="channels dealt out in turn in the forward, dweight not summed, dx wrong",
    seen=G + "tenstorrent/tt-metal/pull/56202",
)
class DweightGroupModulo(Grouped):
    def run(self, x, training):
        self.x = x
        return super().run(x, training)

    def grad(self, dy):
        grads = super().grad(dy)
        mean = self.x.reshape(len(dy), self.g, -1).mean(2)
        group = np.arange(dy.shape[1]) % self.g
        xhat = (self.x - mean[:, group, None]) * self.rstd[:, group, :]
        return grads | {"dweight": (dy * xhat).sum((0, 2))}


@bug(
    "n5-gn-affine-channels-regrouped",
    "group_norm",
    "weight and bias are applied in the grouped layout as (C/G, G) instead of (G, C/G): their channels are transposed.",
    right="weight and bias are assigned to the wrong channels / transposed over groups and channels of a group / order of the affine parameters",
    wrong="channels dealt out in turn to groups (statistics), one weight per group, weight and bias swapped",
    seen="a common slip",
)
class AffineRegrouped(Grouped):
    def order(self, c):
        return np.arange(c).reshape(c // self.g, self.g).T.ravel()

    def run(self, x, training):
        super().run(x, training)
        order = self.order(x.shape[1])
        return self.xhat * col(self.w[order]) + col(self.b[order])

    def grad(self, dy):
        order = self.order(dy.shape[1])
        grads = {"dx": self.dx(dy * col(self.w[order]))}
        for name, value in (("dweight", (dy * self.xhat).sum((0, 2))), ("dbias", dy.sum((0, 2)))):
            grads[name] = np.empty_like(value)
            grads[name][order] = value
        return grads


@bug(
    "n5-gn-backward-count-of-a-channel",
    "group_norm",
    "The backward's sums over a group are divided by the number of pixels, not by pixels times channels of the group.",
    right="dx's sums are divided by the pixels only / the channels of the group are left out of the backward's count / means too large by C/G",
    wrong="sums with no division, statistics of single channels, a term forgotten",
    seen="a common slip (instance norm's backward taken over)",
)
class CountOfAChannel(Grouped):
    def dx(self, d):
        shape, pixels = (self.rstd.shape[0], self.g, -1), d.shape[2]
        v, h = d.reshape(shape), self.xhat.reshape(shape)
        sums = v.sum(2, keepdims=True), (v * h).sum(2, keepdims=True)
        return (self.rstd * (v - sums[0] / pixels - h * sums[1] / pixels)).reshape(d.shape)


@bug(
    "n5-ln-backward-over-channels-only",
    "layer_norm",
    "The backward takes its means over the channels of each pixel, while the forward normalises over channels and pixels.",
    right="dx's means run over the channels only / per pixel / the pixels are left out of the backward's reduction",
    wrong="the forward's statistics per pixel, means over the batch, a term forgotten",
    seen="a common slip",
)
class BackwardOverChannels(Grouped):
    def dx(self, d):
        return self.rstd * (d - d.mean(1, keepdims=True) - self.xhat * (d * self.xhat).mean(1, keepdims=True))


@bug(
    "n5-ln-halves-without-delta",
    "layer_norm",
    "Mean and variance are computed of two halves of the sample and averaged, without the term of the halves' different means.",
    right="the variance lacks the between-halves (between-chunks) part / average of the chunks' variances / merge without the delta² term",
    wrong="unbiased variance, mean wrong, half of the values used",
    seen="cf. " + G + "leggedrobotics/rsl_rl/pull/226",
)
class HalvesMerged(Grouped):
    def variance(self, v, mean):
        half = v.shape[2] // 2
        if half == 0:
            return ((v - mean) ** 2).mean(2, keepdims=True)
        parts = v[:, :, :half], v[:, :, half:]
        return sum(p.var(2, keepdims=True) * p.shape[2] for p in parts) / v.shape[2]


@bug(
    "n5-ln-mean-term-without-rstd",
    "layer_norm",
    "A bracket of dx closes too early: rstd · (dy·w − x̂ mean(dy·w·x̂)) − mean(dy·w); the mean term is not multiplied by rstd.",
    right="the mean term of dx lacks rstd / mean(dy·w) is subtracted unscaled / bracket closes before the mean term",
    wrong="mean term forgotten, variance term wrong, rstd missing in all of dx",
    seen="a common slip",
)
class MeanTermWithoutRstd(Grouped):
    def dx(self, d):
        shape = self.rstd.shape[0], self.g, -1
        v, h = d.reshape(shape), self.xhat.reshape(shape)
        return (self.rstd * (v - h * (v * h).mean(2, keepdims=True)) - v.mean(2, keepdims=True)).reshape(d.shape)


@bug(
    "n5-ln-stale-xhat-buffer",
    "layer_norm",
    "A buffer for x̂ is kept between calls and only renewed when the shape changes: a second batch of the same shape is normalised anew, but the backward sees the first one's x̂.",
    right="the backward uses x̂ of an earlier forward of the same shape / stale x̂ / buffer not renewed",
    wrong="gradients accumulated, dy of an earlier backward",
    seen="a common slip of cached buffers",
)
class StaleBuffer(Grouped):
    buffer = None

    def run(self, x, training):
        y = super().run(x, training)
        if self.buffer is None or self.buffer.shape != x.shape:
            self.buffer = self.xhat.copy()
        self.xhat = self.buffer
        return y
