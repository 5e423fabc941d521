"""Instance, layer, group and RMS normalization in NumPy as public code gets them wrong; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.sixth.registry import bug
from heldout.third.nbase import Grouped, Rms, Rows, col

SLIP = "a common slip"


class Stepwise(Grouped):
    """Keeps x and the mean for the backward."""

    def run(self, x, training):
        self.g, self.x = self.groups(x.shape[1]), x
        v = x.reshape(x.shape[0], self.g, -1)
        mean = v.mean(2, keepdims=True)
        self.rstd = self.root(self.variance(v, mean))
        self.xhat = ((v - mean) * self.rstd).reshape(x.shape)
        return self.xhat * col(self.w) + col(self.b)

    def root(self, var):
        return 1 / np.sqrt(var + self.eps)

    def cut(self, a):
        return a.reshape(a.shape[0], self.g, -1)


@bug(
    "n6-in-statistics-over-batch",
    "instance_norm",
    "Mean and variance are taken over the batch too, as in batch norm; the backward fits.",
    right="statistics over the batch / batch norm in place of instance norm",
    wrong="over the channels, unbiased variance, affine parameters",
    seen=SLIP,
)
class BatchStatistics(Stepwise):
    def run(self, x, training):
        mean = x.mean((0, 2), keepdims=True)
        self.r = 1 / np.sqrt(((x - mean) ** 2).mean((0, 2), keepdims=True) + self.eps)
        self.xhat = (x - mean) * self.r
        return self.xhat * col(self.w) + col(self.b)

    def dx(self, d):
        over = {"axis": (0, 2), "keepdims": True}
        return self.r * (d - d.mean(**over) - self.xhat * (d * self.xhat).mean(**over))


@bug(
    "n6-in-dweight-of-last-sample",
    "instance_norm",
    "In the loop over samples the gradients of weight and bias are assigned (=), not added: the last sample's remain.",
    right="dweight and dbias are those of the last sample / gradients assigned in place of added over the batch",
    wrong="gradients averaged, overwritten between backwards, swapped",
    seen=SLIP,
)
class LastSample(Stepwise):
    def grad(self, dy):
        grads = super().grad(dy)
        for i in range(len(dy)):
            grads["dweight"] = (dy[i] * self.xhat[i]).sum(1)
            grads["dbias"] = dy[i].sum(1)
        return grads


@bug(
    "n6-in-backward-n-minus-1",
    "instance_norm",
    "The backward divides its sums by the pixels less one; the forward is right.",
    right="n − 1 in place of n in the backward (dx) / unbiased means in dx / the count in dx is one too small",
    wrong="unbiased variance in the forward, a term missing, sums in place of means",
    seen=SLIP,
)
class BackwardUnbiased(Stepwise):
    def dx(self, d):
        v, h = self.cut(d), self.cut(self.xhat)
        n = max(v.shape[2] - 1, 1)
        dx = v - v.sum(2, keepdims=True) / n - h * (v * h).sum(2, keepdims=True) / n
        return (self.rstd * dx).reshape(d.shape)


@bug(
    "n6-in-centres-in-place",
    "instance_norm",
    "The forward subtracts the mean in place and so writes into the caller's x.",
    right="x is changed in place / x (the input) is written to / the exception that x is read-only",
    wrong="dx wrong, the mean wrong",
    seen="a common slip (x -= x.mean(...))",
)
class InPlace(Stepwise):
    def forward(self, x, training):
        axes = tuple(range(2, x.ndim))
        if axes:
            x -= x.mean(axes, keepdims=True)
        return super().forward(x, training)


@bug(
    "n6-ln-gradients-averaged",
    "layer_norm",
    "dweight and dbias are averaged over the batch, not summed.",
    right="dweight and dbias are means over the batch / divided by the number of samples",
    wrong="dx divided too, over the pixels too, swapped",
    seen=SLIP,
)
class AveragedGradients(Stepwise):
    def grad(self, dy):
        grads = super().grad(dy)
        return grads | {k: grads[k] / len(dy) for k in ("dweight", "dbias")}


@bug(
    "n6-ln-weight-behind-the-means",
    "layer_norm",
    "As in batch norm weight is taken out of the bracket: dx = weight · rstd (dy − mean(dy) − xhat mean(dy · xhat)), though it differs between the values of a mean.",
    right="weight is multiplied outside of (after) the means in dx / the means of dx leave out weight / batch norm's formula with weight in front",
    wrong="weight missing in dx altogether, a term missing, wrong axes",
    seen=SLIP,
)
class WeightBehind(Stepwise):
    def grad(self, dy):
        return super().grad(dy) | {"dx": col(self.w) * self.dx(dy)}


@bug(
    "n6-ln-backward-means-over-channels-only",
    "layer_norm",
    "The two means of dx are taken over the channels of one pixel; the forward normalises over channels and pixels.",
    right="the means of dx over the channels only / wrong axes in the backward, the pixels left out",
    wrong="forward over the channels only, a count wrong, a term missing",
    seen=SLIP,
)
class BackwardOverChannels(Stepwise):
    def dx(self, d):
        return self.rstd * (d - d.mean(1, keepdims=True) - self.xhat * (d * self.xhat).mean(1, keepdims=True))


@bug(
    "n6-gn-interleaved",
    "group_norm",
    "Channel c goes to group c mod G instead of c // (C/G); forward and backward agree.",
    right="groups are interleaved / channels dealt out in turn to the groups",
    wrong="num_groups taken for the group size, statistics over the batch, affine a group",
    seen=SLIP,
)
class Interleaved(Grouped):
    def run(self, x, training):
        g, c = self.groups(x.shape[1]), x.shape[1]
        self.place = np.arange(c).reshape(-1, g).T.reshape(-1)
        v = x[:, self.place].reshape(x.shape[0], g, -1)
        mean = v.mean(2, keepdims=True)
        self.g, self.rstd = g, 1 / np.sqrt(self.variance(v, mean) + self.eps)
        self.sorted = ((v - mean) * self.rstd).reshape(x.shape)
        self.xhat = self.sorted[:, np.argsort(self.place)]
        return self.xhat * col(self.w) + col(self.b)

    def dx(self, d):
        shape = d.shape[0], self.g, -1
        v, h = d[:, self.place].reshape(shape), self.sorted.reshape(shape)
        dx = self.rstd * (v - v.mean(2, keepdims=True) - h * (v * h).mean(2, keepdims=True))
        return dx.reshape(d.shape)[:, np.argsort(self.place)]


@bug(
    "n6-gn-affine-a-group",
    "group_norm",
    "Channel c takes weight and bias of index c // (C/G): the first G values, one a group; their gradients go there too.",
    right="weight and bias a group in place of a channel / affine parameters indexed by the group",
    wrong="affine missing, swapped, groups interleaved",
    seen="cf. apache/mxnet#17139",
)
class AffineAGroup(Stepwise):
    def run(self, x, training):
        super().run(x, training)
        self.index = np.arange(x.shape[1]) // (x.shape[1] // self.g)
        return self.xhat * col(self.w[self.index]) + col(self.b[self.index])

    def grad(self, dy):
        grads = {"dx": self.dx(dy * col(self.w[self.index]))}
        for name, value in (("dweight", (dy * self.xhat).sum((0, 2))), ("dbias", dy.sum((0, 2)))):
            grads[name] = np.zeros_like(value)
            np.add.at(grads[name], self.index, value)
        return grads


@bug(
    "n6-gn-backward-over-batch",
    "group_norm",
    "The two means of dx run over the batch as well.",
    right="the means of dx over the batch too / wrong axes in the backward: the batch included",
    wrong="forward over the batch, groups ignored, a term missing",
    seen=SLIP,
)
class BackwardOverBatch(Stepwise):
    def dx(self, d):
        v, h = self.cut(d), self.cut(self.xhat)
        over = {"axis": (0, 2), "keepdims": True}
        return (self.rstd * (v - v.mean(**over) - h * (v * h).mean(**over))).reshape(d.shape)


@bug(
    "n6-gn-two-eps-outside-and-dgamma-from-x",
    "group_norm",
    "Two bugs: eps is added outside of the root, and dweight is taken with x in place of xhat.",
    right="both: eps outside of the root, and dweight from x",
    wrong="either with a wrong second name",
    seen=SLIP,
)
class TwoGn(Stepwise):
    def root(self, var):
        return 1 / (np.sqrt(var) + self.eps)

    def grad(self, dy):
        return super().grad(dy) | {"dweight": (dy * self.x).sum((0, 2))}


@bug(
    "n6-gn-two-unbiased-and-gradients-averaged",
    "group_norm",
    "Two bugs: the variance of the forward has n − 1, and dweight and dbias are averaged over the batch.",
    right="both: unbiased variance in the forward, and dweight and dbias divided by the number of samples",
    wrong="either with a wrong second name",
    seen=SLIP,
)
class TwoGnAveraged(AveragedGradients):
    def variance(self, v, mean):
        return ((v - mean) ** 2).sum(2, keepdims=True) / max(v.shape[2] - 1, 1)


@bug(
    "n6-ll-variance-term-summed",
    "layer_norm_last",
    "The variance's term of dx takes the sum of d · xhat, not its mean; the mean's term is right.",
    right="the variance's term of dx is summed in place of averaged / 1/n missing in the last term",
    wrong="both terms, the mean's term, power of sigma",
    seen=SLIP,
)
class TermSummed(Rows):
    def dx(self, d):
        return self.rstd * (d - d.mean(1, keepdims=True) - self.xhat * (d * self.xhat).sum(1, keepdims=True))


@bug(
    "n6-ll-partial-sums-drop-the-rest",
    "layer_norm_last",
    "dweight and dbias are reduced in blocks of four rows; the rows of the last, incomplete block are dropped.",
    right="rows of an incomplete block are missing in dweight and dbias / a limit on (a part of) the rows in the gradients / the last rows left out",
    wrong="averaged, swapped, forward wrong",
    seen="a common slip (two-stage reduction of a GPU kernel)",
)
class DropsRest(Rows):
    def grad(self, dy):
        whole = len(dy) // 4 * 4
        kept, xhat = dy[:whole], self.xhat[:whole]
        return super().grad(dy) | {"dweight": (kept * xhat).sum(0), "dbias": kept.sum(0)}


@bug(
    "n6-ll-xhat-from-y-without-bias",
    "layer_norm_last",
    "To save memory the backward recovers xhat from y as y / weight and forgets to subtract the bias.",
    right="xhat in the backward is y / weight, bias not subtracted / bias left in the recovered xhat / xhat + bias/weight in the backward",
    wrong="y in place of xhat without the division, dweight from x, a term missing",
    seen="a common slip (memory-efficient layer norm)",
)
class FromY(Rows):
    def run(self, x):
        y = super().run(x)
        self.xhat = y / self.w
        return y


@bug(
    "n6-rms-eps-outside",
    "rms_norm",
    "x / (rms + eps) in place of x / sqrt(ms + eps).",
    right="eps outside of the root / eps added to the RMS",
    wrong="eps missing, eps twice, a fixed eps",
    seen=SLIP,
)
class RmsEpsOutside(Rms):
    def run(self, x):
        self.rstd = 1 / (np.sqrt((x * x).mean(1, keepdims=True)) + x.dtype.type(self.eps))
        self.xhat = x * self.rstd
        return self.xhat * self.w


@bug(
    "n6-rms-one-plus-weight",
    "rms_norm",
    "The output is xhat · (1 + weight), for weights that are stored less one.",
    right="1 + weight in place of weight / weight is taken as an offset from one",
    wrong="residual connection (x added), bias, eps",
    seen="Gemma's convention, ported",
)
class OnePlus(Rms):
    @property
    def w(self):
        return 1 + super().w


@bug(
    "n6-rms-dx-one-rstd-missing",
    "rms_norm",
    "The second term of dx has x in place of xhat: dx = rstd (d − x mean(d · xhat)).",
    right="the second term of dx takes x in place of xhat / a factor 1/rms missing there / power of sigma wrong in the second term",
    wrong="the term missing, summed, eps",
    seen=SLIP,
)
class RmsTermOfX(Rms):
    def dx(self, d):
        return self.rstd * (d - self.d * (d * self.xhat).mean(1, keepdims=True))
