"""Instance, layer, group and RMS normalization in PyTorch as public code gets them wrong; gradients by autograd."""

from __future__ import annotations

import torch

from heldout.seventh.registry import bug
from heldout.third.tbase import Torch, ch

SLIP = "a common slip"


class Grouped(Torch):
    """Statistics over the values of a group of channels of one sample."""

    def groups(self, c):
        if self.layer == "group_norm":
            if c % self.o["num_groups"]:
                raise ValueError(f"{c} channels cannot be divided into {self.o['num_groups']} groups")
            return self.o["num_groups"]
        return {"instance_norm": c, "layer_norm": 1}[self.layer]

    def compute(self, x, training):
        kind, x = x.dtype, x.float() if x.dtype == torch.float16 else x
        v = x.reshape(x.shape[0], self.groups(x.shape[1]), -1)
        return self.affine(self.standard(v).reshape(x.shape), x).to(kind)

    def standard(self, v):
        mean = v.mean(2, keepdim=True)
        return (v - mean) * torch.rsqrt(self.variance(v, mean) + self.eps)

    def variance(self, v, mean):
        return (v - mean).square().mean(2, keepdim=True)

    def affine(self, xhat, x):
        return xhat * ch(self.w, x) + ch(self.b, x)


class Rows(Torch):
    """Layer norm over the last axis."""

    def compute(self, x, training):
        kind, x = x.dtype, x.float() if x.dtype == torch.float16 else x
        return self.run(x).to(kind)

    def run(self, x):
        mean = x.mean(-1, keepdim=True)
        var = (x - mean).square().mean(-1, keepdim=True)
        return (x - mean) * torch.rsqrt(var + self.eps) * self.w + self.b


class Rms(Rows):
    def run(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.w


@bug(
    "t7-in-width-only",
    "instance_norm",
    "Mean and variance of an image run over the width alone (dim=-1): each row of pixels is normalised for itself.",
    right="statistics over the last axis only / the height is left out of the statistics / wrong axes: a mean for each row",
    wrong="over the batch, over the channels, unbiased",
    seen="a layer for (N, C, L) used for (N, C, H, W)",
)
class WidthOnly(Grouped):
    def compute(self, x, training):
        mean = x.mean(-1, keepdim=True)
        var = (x - mean).square().mean(-1, keepdim=True)
        return self.affine((x - mean) * torch.rsqrt(var + self.eps), x)


@bug(
    "t7-in-variance-detached",
    "instance_norm",
    "The variance is detached, as the statistics of a style image are; the mean is not.",
    right="the variance is detached / no gradient through the variance",
    wrong="the mean detached, both detached, weight",
    seen="AdaIN code that detaches the style's statistics",
)
class VarianceDetached(Grouped):
    def variance(self, v, mean):
        return super().variance(v, mean).detach()


@bug(
    "t7-ln-eps-built-in",
    "layer_norm",
    "eps is the constructor's 1e-12, whatever is asked.",
    right="eps is ignored / a built-in eps / eps missing (1e-12 is as good as none)",
    wrong="eps outside of the root, eps squared",
    seen="BERT's layer_norm_eps",
)
class EpsBuiltIn(Grouped):
    def standard(self, v):
        mean = v.mean(2, keepdim=True)
        return (v - mean) * torch.rsqrt(self.variance(v, mean) + 1e-12)


@bug(
    "t7-ln-variance-of-channel-means",
    "layer_norm",
    "The mean is that of the sample, but the variance is the mean of the channels' own variances.",
    right="variance within each channel / the channels' variances averaged / the variance about the channel's mean, not the sample's",
    wrong="instance norm throughout, unbiased, the mean",
    seen=SLIP,
)
class ChannelVariances(Grouped):
    def compute(self, x, training):
        self.channels = x.shape[1]
        return super().compute(x, training)

    def variance(self, v, mean):
        each = v.reshape(v.shape[0], self.channels, -1)
        spread = (each - each.mean(2, keepdim=True)).square().mean(2)
        return spread.mean(1)[:, None, None]


@bug(
    "t7-gn-channels-last-reshape",
    "group_norm",
    "The tensor is held as (N, …, C) and reshaped to (N, G, …, C/G) without a transpose: pixels and channels are mixed.",
    right="reshape without transpose: groups mix pixels and channels / wrong axis order in the reshape / the groups split the pixels, not "
    "the channels",
    wrong="interleaved groups, number of groups, over the batch",
    seen="tensorflow/addons#751, titu1994/Keras-Group-Normalization#6",
)
class ChannelsLastReshape(Grouped):
    def compute(self, x, training):
        kind, x = x.dtype, x.float() if x.dtype == torch.float16 else x
        last = x.movedim(1, -1).contiguous()
        v = last.reshape(x.shape[0], self.groups(x.shape[1]), -1)
        xhat = self.standard(v).reshape(last.shape).movedim(-1, 1)
        return self.affine(xhat, x).to(kind)


@bug(
    "t7-gn-affine-of-the-group",
    "group_norm",
    "Each group has one weight and one bias, those of its first channel.",
    right="the affine parameters of a group's first channel / weight and bias per group / parameters shared in a group",
    wrong="affine ignored, swapped, groups interleaved",
    seen="affine parameters of shape (1, G, 1, 1)",
)
class AffineOfGroup(Grouped):
    def affine(self, xhat, x):
        c, g = x.shape[1], self.groups(x.shape[1])
        first = torch.arange(c) // (c // g) * (c // g)
        return xhat * ch(self.w[first], x) + ch(self.b[first], x)


@bug(
    "t7-gn-variance-of-the-sample",
    "group_norm",
    "The mean is each group's, but the variance is that of the whole sample about these means.",
    right="the variance over the whole sample / wrong axes in the variance / variance not per group",
    wrong="layer norm throughout, the mean, unbiased",
    seen=SLIP,
)
class VarianceOfSample(Grouped):
    def variance(self, v, mean):
        return (v - mean).square().mean((1, 2), keepdim=True)


@bug(
    "t7-lnl-annotated",
    "layer_norm_last",
    "Two slips at once: the standard deviation is torch.std's, with n − 1, and eps is added to it, outside of the root.",
    right="unbiased variance / eps outside of the root (each is one of the two; both together best)",
    wrong="centring, weight, axes",
    seen="harvardnlp/annotated-transformer",
)
class Annotated(Rows):
    def run(self, x):
        mean, n = x.mean(-1, keepdim=True), x.shape[-1]
        std = ((x - mean).square().sum(-1, keepdim=True) / max(n - 1, 1)).clamp(min=1e-30).sqrt()
        return self.w * (x - mean) / (std + self.eps) + self.b


@bug(
    "t7-lnl-token-axis",
    "layer_norm_last",
    "Three and four axes are normalised over axis 1, the tokens (or heads), while weight and bias run along the last.",
    right="statistics over axis 1 in place of the last / wrong axis",
    wrong="over all axes, over the batch, unbiased",
    seen="dim=1 of a layer for (N, C)",
)
class TokenAxis(Rows):
    def run(self, x):
        mean = x.mean(1, keepdim=True)
        var = (x - mean).square().mean(1, keepdim=True)
        return (x - mean) * torch.rsqrt(var + self.eps) * self.w + self.b


@bug(
    "t7-lnl-mean-square",
    "layer_norm_last",
    "x is centred, but divided by the root of the mean square of x itself, not of x − mean.",
    right="the mean square in place of the variance / E[x²] without the mean's square / variance not centred",
    wrong="rms norm (not centred at all), eps, unbiased",
    seen="a mixture of layer norm and RMS norm",
)
class MeanSquare(Rows):
    def run(self, x):
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return (x - x.mean(-1, keepdim=True)) * scale * self.w + self.b


@bug(
    "t7-rms-eps-after-rescaling",
    "rms_norm",
    "x is first divided by the largest |x| of its row against overflow, and eps is added after that: eps is multiplied by max|x|².",
    right="eps multiplied by the row's largest square / eps scaled with x / eps added to a normalised mean square",
    wrong="eps missing, eps outside of the root",
    seen="apple/coremltools#2821",
)
class RescaledEps(Rms):
    def run(self, x):
        m = x.abs().amax(-1, keepdim=True).detach().clamp(min=1e-30)
        rms = torch.sqrt((x / m).square().mean(-1, keepdim=True) + self.eps) * m
        return x / rms * self.w


@bug(
    "t7-rms-eps-outside",
    "rms_norm",
    "x.norm() / √n + eps: eps is outside of the root.",
    right="eps outside of the root",
    wrong="eps missing, sum in place of mean",
    seen="allenai/OLMo#281",
)
class OlmoRms(Rms):
    def run(self, x):
        rms = x.norm(2, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        return self.w * (x / (rms + self.eps))


@bug(
    "t7-rms-root-of-std",
    "rms_norm",
    "Two slips at once: the standard deviation about the mean (n − 1) stands where the mean square should, and eps and the root are applied to it.",
    right="standard deviation in place of the mean square / the root is taken twice",
    wrong="eps outside of the root, weight",
    seen="stanford-cs336/assignment1-basics#93",
)
class RootOfStd(Rms):
    def run(self, x):
        n = x.shape[-1]
        std = ((x - x.mean(-1, keepdim=True)).square().sum(-1, keepdim=True) / max(n - 1, 1)).clamp(min=1e-30).sqrt()
        return x * torch.rsqrt(std + self.eps) * self.w


@bug(
    "t7-rms-divided-by-rsqrt",
    "rms_norm",
    "x is divided by rsqrt(mean square + eps): multiplied by the RMS.",
    right="multiplied by the RMS in place of divided / divided by rsqrt / inverse of the scale",
    wrong="the root missing, eps, weight",
    seen="mosaicml/llm-foundry#372",
)
class DividedByRsqrt(Rms):
    def run(self, x):
        return x / torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.w
