"""Instance, layer, group and RMS normalization in NumPy as public code gets them wrong; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.seventh.registry import bug
from heldout.third.nbase import Grouped, Rms, Rows, col

SLIP = "a common slip"


@bug(
    "n7-in-weight-index-of-sample",
    "instance_norm",
    "A kernel with one block for each (n, c) takes the weight and bias at i // C in place of i % C: the sample's index, not the channel's "
    "(past the end it starts again); so does dx. dweight and dbias are the channels'.",
    right="weight and bias indexed by the sample / affine parameters of the wrong channel / parameters indexed by n in place of c",
    wrong="weight missing, statistics over wrong axes, swapped weight and bias",
    seen="deepspeedai/DeepSpeed#692 is of this kind",
)
class SampleIndex(Grouped):
    def of_sample(self, v, shape):
        n, c = shape[:2]
        return v[(np.arange(n * c) // c) % c].reshape(n, c, 1)

    def run(self, x, training):
        super().run(x, training)
        return self.xhat * self.of_sample(self.w, x.shape) + self.of_sample(self.b, x.shape)

    def grad(self, dy):
        return super().grad(dy) | {"dx": self.dx(dy * self.of_sample(self.w, dy.shape))}


@bug(
    "n7-in-third-term-centred-only",
    "instance_norm",
    "In dx the term of the variance multiplies x − mean, not xhat: one factor 1/σ is missing.",
    right="dx: x − mean in place of xhat in the third term / a factor rstd missing in the variance's term / wrong power of rstd",
    wrong="mean's term missing, count, weight missing",
    seen=SLIP,
)
class CentredTerm(Grouped):
    def dx(self, d):
        shape = self.rstd.shape[0], self.g, -1
        v, h = d.reshape(shape), self.xhat.reshape(shape)
        dx = self.rstd * (v - v.mean(2, keepdims=True) - h / self.rstd * (v * h).mean(2, keepdims=True))
        return dx.reshape(d.shape)


@bug(
    "n7-ln-backward-unbiased",
    "layer_norm",
    "The backward divides the two sums of dx by n − 1, the forward by n.",
    right="dx: the means are divided by n − 1 / unbiased count in the backward only / wrong count in dx",
    wrong="unbiased variance in the forward, a term missing",
    seen=SLIP,
)
class BackwardUnbiased(Grouped):
    def dx(self, d):
        shape = self.rstd.shape[0], self.g, -1
        v, h = d.reshape(shape), self.xhat.reshape(shape)
        n = max(v.shape[2] - 1, 1)
        dx = self.rstd * (v - v.sum(2, keepdims=True) / n - h * (v * h).sum(2, keepdims=True) / n)
        return dx.reshape(d.shape)


@bug(
    "n7-ln-dweight-not-scaled",
    "layer_norm",
    "dweight sums dy·(x − mean), without 1/σ.",
    right="dweight lacks rstd / dweight of x − mean in place of xhat",
    wrong="dweight of x without centring, averaged, dx",
    seen=SLIP,
)
class DweightNotScaled(Grouped):
    def grad(self, dy):
        h = self.xhat.reshape(dy.shape[0], self.g, -1) / self.rstd
        return super().grad(dy) | {"dweight": (dy * h.reshape(dy.shape)).sum((0, 2))}


@bug(
    "n7-gn-interleaved-groups",
    "group_norm",
    "Channel c goes to group c mod G, not to c // (C / G), in forward and backward.",
    right="groups interleaved / channels assigned to groups by c mod G / wrong order of channels in the groups",
    wrong="number of groups, instance norm, layer norm",
    seen="the order of a channel shuffle, reshape(N, C/G, G, …)",
)
class Interleaved(Grouped):
    def order(self, c):
        return np.arange(c).reshape(-1, self.g).T.ravel()

    def run(self, x, training):
        self.g = self.groups(x.shape[1])
        order = self.order(x.shape[1])
        v = x[:, order].reshape(x.shape[0], self.g, -1)
        mean = v.mean(2, keepdims=True)
        self.rstd = 1 / np.sqrt(self.variance(v, mean) + self.eps)
        self.xhat = np.empty_like(x)
        self.xhat[:, order] = ((v - mean) * self.rstd).reshape(x.shape)
        return self.xhat * col(self.w) + col(self.b)

    def dx(self, d):
        order = self.order(d.shape[1])
        shape = self.rstd.shape[0], self.g, -1
        v, h = d[:, order].reshape(shape), self.xhat[:, order].reshape(shape)
        out = np.empty_like(d)
        out[:, order] = (self.rstd * (v - v.mean(2, keepdims=True) - h * (v * h).mean(2, keepdims=True))).reshape(
            d.shape
        )
        return out


@bug(
    "n7-gn-size-for-number",
    "group_norm",
    "num_groups is taken as the number of channels in a group.",
    right="num_groups is taken as channels per group / wrong number of groups / group size in place of number of groups",
    wrong="interleaved groups, wrong axes",
    seen="tf.contrib's and Caffe2's group norms name one or the other",
)
class SizeForNumber(Grouped):
    def groups(self, c):
        return c // super().groups(c)


@bug(
    "n7-gn-backward-count-of-sample",
    "group_norm",
    "The backward divides the group's sums by all C·L values of the sample, not by the group's (C / G)·L.",
    right="dx: the group's sums are divided by the sample's count / wrong count of values in dx / means divided by the number of groups",
    wrong="a term missing, layer norm's backward sums over all groups, unbiased",
    seen=SLIP,
)
class CountOfSample(Grouped):
    def dx(self, d):
        shape = self.rstd.shape[0], self.g, -1
        v, h = d.reshape(shape), self.xhat.reshape(shape)
        n = d[0].size
        dx = self.rstd * (v - v.sum(2, keepdims=True) / n - h * (v * h).sum(2, keepdims=True) / n)
        return dx.reshape(d.shape)


@bug(
    "n7-lnl-backward-of-two-axes",
    "layer_norm_last",
    "The backward takes M = x.shape[0] rows of numel / M values: for three or four axes the means of dx run over everything but the first.",
    right="dx: means over all axes but the first / the backward assumes two axes / wrong axes of the means in dx",
    wrong="statistics of the forward, a term missing, dweight",
    seen="flagos-ai/FlagGems#5392",
)
class TwoAxes(Rows):
    def dx(self, d):
        v, h = d.reshape(self.shape[0], -1), self.xhat.reshape(self.shape[0], -1)
        inner = v - v.mean(1, keepdims=True) - h * (v * h).mean(1, keepdims=True)
        return self.rstd * inner.reshape(d.shape)


@bug(
    "n7-lnl-mean-subtracted-twice",
    "layer_norm_last",
    "dx subtracts mean(dy·weight) twice: a register that holds it is not cleared before the next product is accumulated.",
    right="dx: mean(dy·weight) is subtracted twice / the mean's term doubled",
    wrong="the mean's term missing, the variance's term",
    seen="tenstorrent/tt-metal#53215",
)
class SubtractedTwice(Rows):
    def dx(self, d):
        return super().dx(d) - self.rstd * d.mean(1, keepdims=True)


@bug(
    "n7-lnl-last-block",
    "layer_norm_last",
    "The row is read in blocks of four; of mean(dy·weight·xhat) only the last block's sum survives.",
    right="dx: the variance's term sums only the last values of a row / a partial sum in the third term / only the last block counts",
    wrong="the variance's term missing altogether, the mean's term",
    seen="tenstorrent/tt-metal#53215",
)
class LastBlock(Rows):
    def dx(self, d):
        n = d.shape[1]
        start = (n - 1) // 4 * 4
        part = (d * self.xhat)[:, start:].sum(1, keepdims=True) / n
        return self.rstd * (d - d.mean(1, keepdims=True) - self.xhat * part)


@bug(
    "n7-lnl-invertible-index",
    "layer_norm_last",
    "xhat is not kept but recovered for dweight from y, (y − bias) / weight, with the row's index in place of the column's for both.",
    right="dweight: weight and bias of the wrong index (the row's) / dweight's xhat is recovered with parameters of the wrong index",
    wrong="dweight of x, averaged, swapped dweight and dbias",
    seen="deepspeedai/DeepSpeed#692",
)
class InvertibleIndex(Rows):
    def run(self, x):
        self.y = super().run(x)
        return self.y

    def grad(self, dy):
        pos = np.arange(len(dy)) % dy.shape[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            xhat = (self.y - self.b[pos][:, None]) / self.w[pos][:, None]
        return super().grad(dy) | {"dweight": (dy * xhat).sum(0)}


@bug(
    "n7-rms-norm-of-the-row",
    "rms_norm",
    "Divides by the row's norm, √(Σx² + eps): the sum is not divided by the number of values; the backward fits.",
    right="the sum of squares in place of the mean / L2 norm in place of RMS / not divided by n",
    wrong="eps, centred, std",
    seen="F.normalize in place of RMSNorm",
)
class RowNorm(Rms):
    def variance(self, x, d):
        return (d**2).sum(1, keepdims=True)

    def dx(self, d):
        return self.rstd * (d - self.xhat * (d * self.xhat).sum(1, keepdims=True))


@bug(
    "n7-rms-projection-of-dy",
    "rms_norm",
    "The second term of dx takes mean(dy·xhat), without the weight.",
    right="dx: the weight is missing in the second term's mean / dy in place of dy·weight in the projection",
    wrong="the weight missing in the whole of dx, the term missing",
    seen=SLIP,
)
class ProjectionOfDy(Rms):
    def grad(self, dy):
        dot = (dy * self.xhat).mean(1, keepdims=True)
        return {"dx": self.rstd * (dy * self.w - self.xhat * dot), "dweight": (dy * self.xhat).sum(0)}


@bug(
    "n7-rms-projection-summed",
    "rms_norm",
    "The second term of dx takes the sum of dy·weight·xhat, not its mean.",
    right="dx: the second term is a sum, not a mean / a factor n in the projection / not divided by the number of values",
    wrong="the term missing, the weight missing, sum of squares in the forward",
    seen=SLIP,
)
class ProjectionSummed(Rms):
    def dx(self, d):
        return self.rstd * (d - self.xhat * (d * self.xhat).sum(1, keepdims=True))
