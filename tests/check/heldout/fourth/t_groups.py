"""Group, instance and layer normalization and norms of the last axis in PyTorch, each wrong in one thing."""

from __future__ import annotations

import torch

from heldout.fourth.registry import bug
from heldout.third.tbase import Torch, ch


class GroupNorm(Torch):
    """Group normalization on a view (N, G, C/G, pixels)."""

    def compute(self, x, training):
        wide = x.float() if x.dtype == torch.float16 else x
        v = self.view(wide, self.num_groups(x.shape[1]))
        mean, var = self.moments(v)
        z = ((v - mean) * torch.rsqrt(var + self.eps)).reshape(x.shape)
        return self.affine(z).to(x.dtype)

    def num_groups(self, channels):
        groups = {"group_norm": self.o.get("num_groups"), "layer_norm": 1, "instance_norm": channels}[self.layer]
        if channels % groups:
            raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
        return groups

    def view(self, x, groups):
        return x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)

    def moments(self, v):
        return v.mean((2, 3), keepdim=True), self.variance(v)

    def variance(self, v):
        return v.var((2, 3), keepdim=True, unbiased=False)

    def affine(self, z):
        return z * ch(self.w, z) + ch(self.b, z)


@bug(
    "t4-gn-unbiased-variance",
    "group_norm",
    "the group's variance is torch's default: unbiased",
    right="the variance is unbiased / n - 1 in place of n / Bessel's correction",
    wrong="eps / another axis",
    seen="pytorch/pytorch#111824",
)
class GnUnbiased(GroupNorm):
    def variance(self, v):
        return v.var((2, 3), keepdim=True)


@bug(
    "t4-gn-nhwc-reshaped-without-transpose",
    "group_norm",
    "x of layout NHWC is reshaped to (N, G, H, W, C/G) with no transpose, so a group is a stretch of pixels with all "
    "channels",
    right="groups are cut from the pixels, not from the channels / a reshape without the transpose / the layout NHWC "
    "is read as if the channels came first / group statistics over a block of memory",
    wrong="channels dealt out in turn / batch statistics / the affine map",
    seen="tensorflow/addons#751",
)
class GnNhwcWithoutTranspose(GroupNorm):
    conventions = {"grads": "accumulate", "single_value": "zero", "layout": "NHWC"}

    def compute(self, x, training):
        channels = x.shape[-1]
        groups = self.num_groups(channels)
        v = x.reshape(x.shape[0], groups, -1, channels // groups)
        mean, var = self.moments(v)
        return ((v - mean) * torch.rsqrt(var + self.eps)).reshape(x.shape) * self.w + self.b


@bug(
    "t4-gn-channels-of-group-left-out",
    "group_norm",
    "mean and variance are taken over the pixels alone; the axis of the channels within a group is forgotten",
    right="groups are ignored / each channel is normalized by itself / instance normalization in place of group "
    "normalization / statistics per channel",
    wrong="groups dealt out in turn / layer normalization / batch statistics",
    seen="a common slip",
)
class GnChannelsLeftOut(GroupNorm):
    def moments(self, v):
        return v.mean(3, keepdim=True), v.var(3, keepdim=True, unbiased=False)


@bug(
    "t4-gn-statistics-detached",
    "group_norm",
    "mean and variance are computed from x.detach(): dx is dy·weight/std alone",
    right="dx lacks both the mean and the variance term / the statistics are taken as constants / the backward of "
    "evaluation",
    wrong="one of the two terms alone is missing / the weight is missing",
    seen="a common slip",
)
class GnStatisticsDetached(GroupNorm):
    def moments(self, v):
        return super().moments(v.detach())


@bug(
    "t4-gn-groups-as-size",
    "group_norm",
    "num_groups is taken for the number of channels in a group",
    right="num_groups is taken for the group's size / C / num_groups groups in place of num_groups",
    wrong="channels dealt out in turn / groups ignored",
    seen="a common slip",
)
class GnGroupsAsSize(GroupNorm):
    def view(self, x, groups):
        return super().view(x, x.shape[1] // groups)


@bug(
    "t4-gn-shared-over-batch",
    "group_norm",
    "the statistics of a group are taken over the batch too",
    right="statistics over the batch axis too / all samples share a group's mean and variance / batch statistics per "
    "group",
    wrong="over the pixels alone / groups ignored / running statistics",
    seen="a common slip",
)
class GnSharedOverBatch(GroupNorm):
    def moments(self, v):
        return v.mean((0, 2, 3), keepdim=True), v.var((0, 2, 3), keepdim=True, unbiased=False)


@bug(
    "t4-gn-square-in-half",
    "group_norm",
    "in float16 the deviations are squared in float16, which overflows above 256; the sum is in float32",
    right="squares in float16 overflow / the variance is computed in half precision / becomes infinite in float16",
    wrong="the mean / a missing term / eps",
    seen="neuroneural/brainchop-cli#56, microsoft/onnxruntime#28442",
    dtype="float16",
)
class GnSquareInHalf(GroupNorm):
    def variance(self, v):
        d = (v - v.mean((2, 3), keepdim=True)).half()
        return (d * d).float().mean((2, 3), keepdim=True)


@bug(
    "t4-gn-affine-order",
    "group_norm",
    "weight and bias are applied on the grouped view, reshaped to (C/G, G) and transposed: channels get each other's",
    right="weight and bias are in the wrong order of channels / are dealt out to the groups in turn / permuted "
    "between channels",
    wrong="the statistics' groups are wrong / weight and bias swapped / a weight per group",
    seen="a common slip",
)
class GnAffineOrder(GroupNorm):
    def affine(self, z):
        groups = self.num_groups(z.shape[1])
        weight, bias = (p.reshape(-1, groups).T.reshape(1, groups, -1, 1) for p in (self.w, self.b))
        return (self.view(z, groups) * weight + bias).reshape(z.shape)


@bug(
    "t4-in-running-statistics-in-evaluation",
    "instance_norm",
    "the layer keeps running statistics and uses them in evaluation",
    right="running statistics in evaluation / evaluation differs from training / the layer has a state",
    wrong="a wrong axis or variance in training",
    seen="pytorch/pytorch#4348, pytorch/pytorch#1604",
)
class InRunningInEvaluation(GroupNorm):
    running = None

    def compute(self, x, training):
        v = x.reshape(*x.shape[:2], -1)
        if training or self.running is None:
            mean, var = v.mean(2), v.var(2, unbiased=False)
            if training:
                old = self.running or (torch.zeros_like(mean[0]), torch.ones_like(mean[0]))
                new = mean.detach().mean(0), var.detach().mean(0)
                self.running = tuple(torch.lerp(o, s, 0.1) for o, s in zip(old, new, strict=True))
        else:
            mean, var = self.running
        z = (v - mean[..., None]) * torch.rsqrt(var + self.eps)[..., None]
        return self.affine(z.reshape(x.shape))


@bug(
    "t4-in-variance-clamped",
    "instance_norm",
    "the variance is clamped from below at eps; eps is not added",
    right="the variance is clamped (or the maximum with eps is taken) in place of adding eps / eps is missing / eps "
    "is not added",
    wrong="eps outside the root / added twice / an unbiased variance",
    seen="a common slip",
)
class InVarianceClamped(GroupNorm):
    def compute(self, x, training):
        v = self.view(x, x.shape[1])
        mean, var = self.moments(v)
        return self.affine(((v - mean) * torch.rsqrt(var.clamp(min=self.eps))).reshape(x.shape))


@bug(
    "t4-ln-eps-twice",
    "layer_norm",
    "eps is added to the variance, and again under the root",
    right="eps is added twice / eps is doubled / eps is too large",
    wrong="eps outside the root / a built-in eps / an unbiased variance",
    seen="a common slip",
)
class LnEpsTwice(GroupNorm):
    def variance(self, v):
        return super().variance(v) + self.eps


@bug(
    "t4-ln-mean-detached",
    "layer_norm",
    "the mean is computed without gradient, so dx lacks the mean term",
    right="dx: the term of the mean is missing / the mean is taken as constant in backward / dx is not centred",
    wrong="the variance term is missing / both are missing",
    seen="a common slip",
)
class LnMeanDetached(GroupNorm):
    def moments(self, v):
        mean = v.mean((2, 3), keepdim=True).detach()
        return mean, (v - mean).square().mean((2, 3), keepdim=True)


class LastNorm(Torch):
    """Layer normalization of the last axis."""

    axis = -1

    def compute(self, x, training):
        d = x - x.mean(self.axis, keepdim=True)
        return d * torch.rsqrt(d.square().mean(self.axis, keepdim=True) + self.eps) * self.weight() + self.b

    def weight(self):
        return self.w


@bug(
    "t4-lnl-std-plus-eps",
    "layer_norm_last",
    "two things: x - mean is divided by (unbiased std) + eps, as in a well-known annotated transformer",
    right="the standard deviation is unbiased and eps is outside the root / each of the two, alone or together",
    wrong="eps missing or doubled / wrong axes",
    seen="a common slip, from the layer of a well-known tutorial",
)
class LnlStdPlusEps(LastNorm):
    def compute(self, x, training):
        return self.w * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + self.eps) + self.b


@bug(
    "t4-lnl-second-axis",
    "layer_norm_last",
    "statistics are taken over axis 1, which is the last one of (N, C) alone",
    right="statistics over axis 1 (time or heads) in place of the last / a wrong axis in inputs of rank 3 and 4",
    wrong="over all axes but the first / over the batch / the affine map's axis",
    seen="tensorflow/addons#2142 is its like; a common slip",
)
class LnlSecondAxis(LastNorm):
    axis = 1


@bug(
    "t4-lnl-weight-without-gradient",
    "layer_norm_last",
    "forward uses weight.data, so dweight is zero",
    right="dweight is zero / is missing / the weight is detached",
    wrong="a wrong sum in dweight / dbias / dx",
    seen="a common slip",
)
class LnlWeightData(LastNorm):
    def weight(self):
        return self.w.data


class RmsNorm(Torch):
    def compute(self, x, training):
        return self.scaled(x, x.square().mean(-1, keepdim=True) + self.eps)

    def scaled(self, x, second):
        return x * torch.rsqrt(second) * self.w


@bug(
    "t4-rms-divided-by-rsqrt",
    "rms_norm",
    "x is divided by rsqrt(mean of squares + eps), which multiplies it by the root mean square",
    right="x is multiplied by the root mean square in place of divided / divided by rsqrt / the inverse of the scale",
    wrong="a missing normalization / a wrong power that is not the inverse / eps",
    seen="mosaicml/llm-foundry#371",
)
class RmsDividedByRsqrt(RmsNorm):
    def scaled(self, x, second):
        return x / torch.rsqrt(second) * self.w


@bug(
    "t4-rms-eps-after-rescale",
    "rms_norm",
    "x is divided by its largest magnitude m before the norm, so that eps counts m² times",
    right="eps is multiplied by max|x|² / eps is added after a rescaling / eps has a wrong (too large or too small) "
    "size that depends on x / eps is relative to x",
    wrong="eps outside the root / eps missing",
    seen="apple/coremltools#2822",
)
class RmsEpsAfterRescale(RmsNorm):
    def compute(self, x, training):
        return super().compute(x / x.abs().amax(-1, keepdim=True).clamp(min=1e-30), training)


@bug(
    "t4-rms-one-plus-weight",
    "rms_norm",
    "the weight is applied as 1 + weight, the way of models that start it at zero",
    right="1 + weight in place of weight / xhat is added to the output / the weight has an offset of one",
    wrong="a bias / eps / the root mean square",
    seen="a common slip between Gemma's and Llama's norms",
)
class RmsOnePlusWeight(RmsNorm):
    def scaled(self, x, second):
        return x * torch.rsqrt(second) * (1 + self.w)
