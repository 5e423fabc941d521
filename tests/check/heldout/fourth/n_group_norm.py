"""Group, instance and layer normalization by hand, each wrong in one thing."""

from __future__ import annotations

import numpy as np

from heldout.fourth.registry import bug
from heldout.third import nbase
from heldout.third.nbase import col


class Sums(nbase.Grouped):
    """Keeps x less its mean, and writes dx as a·d + b·(x - mean) + c with three numbers for each group."""

    def run(self, x, training):
        self.g = self.groups(x.shape[1])
        v = x.reshape(x.shape[0], self.g, -1)
        self.mean = v.mean(2, keepdims=True)
        self.x, self.diff = x, v - self.mean
        self.rstd = 1 / np.sqrt(self.variance(v, self.mean) + self.eps)
        self.xhat = (self.diff * self.rstd).reshape(x.shape)
        return self.xhat * col(self.w) + col(self.b)

    def dx(self, d):
        v = d.reshape(self.diff.shape)
        ds, db, n = (v * self.diff).sum(2, keepdims=True), v.sum(2, keepdims=True), v.shape[2]
        return (v * self.rstd + self.slope(ds, n) * self.diff - db * self.rstd / n).reshape(d.shape)

    def slope(self, ds, n):
        return -ds * self.rstd**3 / n


@bug(
    "n4-gn-dx-count-last-axis",
    "group_norm",
    "the count in dx is taken as channels per group times the last axis (W), not times all pixels (H·W)",
    right="dx: the count leaves out an axis of the pixels / is W times the channels of a group / the sums of dx are "
    "divided by too small a count, in inputs of rank 4 / both averages in dx are too large by a factor (the height)",
    wrong="a missing term / a wrong forward / sums over the wrong channels",
    seen="linkedin/Liger-Kernel#1376",
)
class DxCountLastAxis(nbase.Grouped):
    def dx(self, d):
        shape = self.rstd.shape[0], self.g, -1
        v, h = d.reshape(shape), self.xhat.reshape(shape)
        pixels = self.shape[-1] if len(self.shape) > 2 else 1
        n = self.shape[1] // self.g * pixels
        dx = self.rstd * (v - v.sum(2, keepdims=True) / n - h * (v * h).sum(2, keepdims=True) / n)
        return dx.reshape(d.shape)


@bug(
    "n4-gn-dweight-group-by-modulo",
    "group_norm",
    "dweight takes the mean and 1/std of group c mod G for channel c, instead of those of group c // (C / G)",
    right="dweight is computed with another group's statistics / with the group index c mod G / with groups dealt "
    "out in turn, in the backward alone",
    wrong="the forward's groups are wrong / dweight lacks a factor / a sum over the wrong axes",
    seen="tenstorrent/tt-metal#56202",
)
class DweightGroupByModulo(Sums):
    def grad(self, dy):
        group = np.arange(self.x.shape[1]) % self.g
        xhat = (self.x - self.mean[:, group]) * self.rstd[:, group]
        return super().grad(dy) | {"dweight": (dy * xhat).sum((0, 2))}


@bug(
    "n4-gn-groups-interleaved",
    "group_norm",
    "the channel axis is reshaped to (C/G, G), so that channels c, c + G, c + 2G … form a group",
    right="groups are interleaved / channels are dealt out to the groups in turn / the reshape has the two group "
    "axes swapped",
    wrong="num_groups taken for the group's size / batch or layer statistics / per-channel statistics",
    seen="a common slip",
)
class GroupsInterleaved(nbase.Grouped):
    def deal(self, a):
        n, c, length = a.shape
        return a.reshape(n, c // self.g, self.g, length).swapaxes(1, 2).reshape(a.shape)

    def collect(self, a):
        n, c, length = a.shape
        return a.reshape(n, self.g, c // self.g, length).swapaxes(1, 2).reshape(a.shape)

    def run(self, x, training):
        self.g = self.groups(x.shape[1])
        v = self.deal(x).reshape(x.shape[0], self.g, -1)
        mean = v.mean(2, keepdims=True)
        self.rstd = 1 / np.sqrt(self.variance(v, mean) + self.eps)
        self.xhat = self.collect(((v - mean) * self.rstd).reshape(x.shape))
        return self.xhat * col(self.w) + col(self.b)

    def dx(self, d):
        kept, self.xhat = self.xhat, self.deal(self.xhat)
        dx = self.collect(super().dx(self.deal(d)))
        self.xhat = kept
        return dx


@bug(
    "n4-gn-variance-within-channels",
    "group_norm",
    "the group's variance is the average of its channels' variances: the spread between channels' means is left out",
    right="the variance is averaged over channels, each about its own mean / the variance lacks the part between "
    "channels / deviations are taken from the channel's mean in the variance",
    wrong="instance normalization in full (the mean too) / an unbiased variance / other groups",
    seen="a common slip of merging variances",
)
class VarianceWithinChannels(nbase.Grouped):
    def variance(self, v, mean):
        channels = v.reshape(v.shape[0], self.g, self.shape[1] // self.g, -1)
        return channels.var(3).mean(2, keepdims=True)


@bug(
    "n4-gn-dx-rstd-squared",
    "group_norm",
    "the coefficient of (x - mean) in dx has 1/std squared where it should be cubed",
    right="dx: the variance term has the wrong power of 1/std / lacks a factor 1/std / is multiplied by std",
    wrong="the variance term is missing / the mean term / a wrong count",
    seen="a common slip",
)
class DxRstdSquared(Sums):
    def slope(self, ds, n):
        return -ds * self.rstd**2 / n


@bug(
    "n4-gn-block-tail-unmasked",
    "group_norm",
    "a group is read into a block of a power of two; the zeros of its tail enter the variance as (0 - mean)²",
    right="padding zeros of a block count in the variance / the tail is not masked in the variance / an extra "
    "multiple of mean² in the variance, where the group's size is not a power of two",
    wrong="the mean is wrong too / biased or unbiased / a limit on the values that are read (values left out)",
    seen="flagos-ai/FlagGems#4984",
)
class BlockTailUnmasked(nbase.Grouped):
    def variance(self, v, mean):
        n = v.shape[2]
        block = np.zeros((*v.shape[:2], 1 << (n - 1).bit_length()), v.dtype)
        block[..., :n] = v
        return ((block - mean) ** 2).sum(2, keepdims=True) / n


@bug(
    "n4-in-dx-mean-term",
    "instance_norm",
    "dx lacks the term that comes through the mean",
    right="dx: the term of the mean is missing / the mean is taken as constant in backward / dx is not centred",
    wrong="the variance term is missing / both are missing",
    seen="a common slip",
)
class InstanceDxMeanTerm(nbase.Grouped):
    def dx(self, d):
        shape = self.rstd.shape[0], self.g, -1
        v, h = d.reshape(shape), self.xhat.reshape(shape)
        return (self.rstd * (v - h * (v * h).mean(2, keepdims=True))).reshape(d.shape)


@bug(
    "n4-in-last-axis-alone",
    "instance_norm",
    "statistics are taken over the last axis alone, so each row of an image is normalized by itself",
    right="statistics over the width (the last axis) alone / the height is left out / each row is normalized "
    "separately",
    wrong="over channels / over the batch / over the height alone",
    seen="a common slip",
)
class InstanceLastAxisAlone(nbase.Layer):
    def forward(self, x, training):
        self.kind, v = x.dtype, nbase.wide(x)
        self.vec = (1, -1, *(1,) * (x.ndim - 2))
        d = v - v.mean(-1, keepdims=True)
        self.rstd = 1 / np.sqrt((d * d).mean(-1, keepdims=True) + self.eps)
        self.xhat = d * self.rstd
        return (self.xhat * self.w.reshape(self.vec) + self.b.reshape(self.vec)).astype(self.kind)

    def backward(self, dy):
        dy = nbase.wide(np.asarray(dy))
        d, axes = dy * self.w.reshape(self.vec), (0, *range(2, dy.ndim))
        dot = (d * self.xhat).mean(-1, keepdims=True)
        dx = self.rstd * (d - d.mean(-1, keepdims=True) - self.xhat * dot)
        grads = {"dx": dx, "dweight": (dy * self.xhat).sum(axes), "dbias": dy.sum(axes)}
        return {k: v.astype(self.kind) for k, v in grads.items()}


@bug(
    "n4-ln-over-channels-alone",
    "layer_norm",
    "each pixel is normalized over its channels alone, not over channels and pixels",
    right="statistics over the channel axis alone / per pixel / pixels left out of the statistics",
    wrong="instance normalization / batch statistics",
    seen="keras-team/tf-keras#173",
)
class LayerOverChannels(nbase.Norm):
    def run(self, x, training):
        d = x - x.mean(1, keepdims=True)
        self.rstd = 1 / np.sqrt((d * d).mean(1, keepdims=True) + self.eps)
        self.xhat = d * self.rstd
        return self.xhat * col(self.w) + col(self.b)

    def grad(self, dy):
        d = dy * col(self.w)
        dx = self.rstd * (d - d.mean(1, keepdims=True) - self.xhat * (d * self.xhat).mean(1, keepdims=True))
        return {"dx": dx, "dweight": (dy * self.xhat).sum((0, 2)), "dbias": dy.sum((0, 2))}


@bug(
    "n4-ln-dweight-without-rstd",
    "layer_norm",
    "dweight sums dy·(x - mean), without the division by the standard deviation",
    right="dweight lacks 1/std / dweight uses x - mean in place of xhat",
    wrong="dweight uses x that is not centred / dx is wrong",
    seen="a common slip",
)
class DweightWithoutRstd(Sums):
    def grad(self, dy):
        return super().grad(dy) | {"dweight": (dy * self.diff.reshape(dy.shape)).sum((0, 2))}


@bug(
    "n4-ln-one-pass-variance",
    "layer_norm",
    "the variance is E[x²] - E[x]², which cancels where the mean is large",
    right="a one-pass variance / E[x²] - mean² / catastrophic cancellation where the mean is large against the "
    "deviation",
    wrong="eps / an unbiased variance / lower precision in general",
    seen="a common slip of fused kernels",
)
class OnePassVariance(nbase.Grouped):
    def variance(self, v, mean):
        return np.maximum((v * v).mean(2, keepdims=True) - mean * mean, 0)
