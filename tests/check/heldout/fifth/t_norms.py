"""Instance, layer, group and RMS norm in PyTorch, each wrong in one thing; gradients by autograd."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from heldout.fifth.registry import bug
from heldout.third.tbase import Torch, ch

G = "https://github.com/"


class PerSample(Torch):
    """Instance, layer and group norm: x as (N, groups, channels of a group, pixels)."""

    def groups(self, c):
        return {"instance_norm": c, "layer_norm": 1}.get(self.layer) or self.o["num_groups"]

    def compute(self, x, training):
        g = self.groups(x.shape[1])
        if x.shape[1] % g:
            raise ValueError(f"{x.shape[1]} channels, {g} groups")
        v = x.reshape(len(x), g, x.shape[1] // g, -1)
        mean, var = self.moments(v)
        return self.affine(self.normalize(v, mean, var).reshape(x.shape), x)

    def moments(self, v):
        return v.mean((2, 3), keepdim=True), v.var((2, 3), unbiased=False, keepdim=True)

    def normalize(self, v, mean, var):
        return (v - mean) / torch.sqrt(var + self.eps)

    def affine(self, xhat, x):
        return xhat * ch(self.w, x) + ch(self.b, x)


@bug(
    "t5-in-repeat-interleave",
    "instance_norm",
    "Instance norm as batch norm of (1, N·C) channels, with weight and bias by repeat_interleave(N) instead of repeat(N): channels get other channels' parameters unless N is 1.",
    right="weight and bias are repeated in the wrong order over the batch / repeat_interleave in place of repeat / affine parameters assigned to wrong channels, depending on the sample",
    wrong="weight and bias swapped, statistics over the batch, per-sample weights wrong only in a gradient",
    seen="cf. " + G + "NVlabs/FUNIT/issues/31",
)
class RepeatInterleave(Torch):
    def compute(self, x, training):
        n, c = x.shape[:2]
        flat = x.reshape(1, n * c, -1)
        w, b = self.w.repeat_interleave(n), self.b.repeat_interleave(n)
        mean = flat.mean((0, 2), keepdim=True)
        var = flat.var((0, 2), unbiased=False, keepdim=True)
        y = (flat - mean) / torch.sqrt(var + self.eps) * w[None, :, None] + b[None, :, None]
        return y.reshape(x.shape)


@bug(
    "t5-in-centre-of-sample",
    "instance_norm",
    "Each channel has its own deviation, but what is subtracted is the mean of the whole sample (over the channels too).",
    right="the mean is taken over the channels too (the layer-norm mean) with the deviation per channel / mean's axes contain the channels",
    wrong="layer normalization altogether, variance over the channels too",
    seen="a common slip",
)
class CentreOfSample(PerSample):
    def moments(self, v):
        mean, var = super().moments(v)
        return mean.mean(1, keepdim=True), var


@bug(
    "t5-in-mean-of-stds",
    "instance_norm",
    "The deviation is averaged over the channels: each channel is divided by the mean of the channels' standard deviations.",
    right="one deviation for all channels (the mean of their standard deviations) / std averaged over the channels",
    wrong="layer normalization, variance averaged over the batch, eps outside the root",
    seen="a common slip",
)
class MeanStd(PerSample):
    def normalize(self, v, mean, var):
        return (v - mean) / torch.sqrt(var + self.eps).mean(1, keepdim=True)


@bug(
    "t5-gn-block-spills-over",
    "group_norm",
    "The block of a group is rounded up to a power of two channels and masked only at the end of the tensor: the statistics add up channels of the next group and divide by the group's own size.",
    right="statistics include channels of the next group / group size rounded up to a power of two without a mask / sums spill into the neighbouring group",
    wrong="divided by the padded size, groups ignored, channels dealt out in turn",
    seen=G + "flagos-ai/FlagGems/issues/4984",
)
class BlockSpills(PerSample):
    def moments(self, v):
        n, g, size, pixels = v.shape
        block = 1 << (size - 1).bit_length()
        flat = F.pad(v.reshape(n, g * size, pixels), (0, 0, 0, block))
        spilled = torch.stack([flat[:, k * size : k * size + block] for k in range(g)], 1)
        inside = torch.stack([torch.arange(block) + k * size < g * size for k in range(g)])[None, :, :, None]
        mean = spilled.sum((2, 3), keepdim=True) / (size * pixels)
        centred = torch.where(inside, spilled - mean, 0)
        return mean, centred.square().sum((2, 3), keepdim=True) / (size * pixels)


@bug(
    "t5-gn-affine-per-group",
    "group_norm",
    "weight and bias are indexed by the group instead of the channel: all channels of group g get entry g.",
    right="one weight and bias per group / weight[g] for all channels of group g / gamma and beta indexed by the group",
    wrong="weight and bias swapped, channels regrouped, weight of the first channel of each group",
    seen=G + "apache/mxnet/issues/17139",
)
class AffinePerGroup(PerSample):
    def affine(self, xhat, x):
        group = torch.arange(x.shape[1]) // (x.shape[1] // self.o["num_groups"])
        return xhat * ch(self.w[group], x) + ch(self.b[group], x)


@bug(
    "t5-gn-group-axis-reduced",
    "group_norm",
    "x is (N, G, C/G, P) and the variance's axes are (1, 2, 3) with the group axis among them; the mean's are right.",
    right="the variance is taken over all groups (about each group's mean) / group axis reduced in the variance",
    wrong="layer normalization altogether (mean over all groups too), unbiased",
    seen=G + "brainpy/BrainPy/issues/765",
)
class GroupAxisReduced(PerSample):
    def moments(self, v):
        mean, _ = super().moments(v)
        return mean, (v - mean).square().mean((1, 2, 3), keepdim=True)


@bug(
    "t5-gn-mean-of-channel-variances",
    "group_norm",
    "The group's variance is the mean of its channels' variances; the spread of the channels' means is left out.",
    right="the variance of a group lacks the between-channels part / average of the channels' variances",
    wrong="instance normalization altogether, unbiased variance",
    seen="a common slip",
)
class ChannelVariances(PerSample):
    def moments(self, v):
        mean, _ = super().moments(v)
        return mean, v.var(3, unbiased=False, keepdim=True).mean(2, keepdim=True)


@bug(
    "t5-gn-two-affine-and-unbiased",
    "group_norm",
    "TWO: weight and bias are in reversed order of the channels, and the variance is unbiased.",
    right="both: channels of weight and bias reversed, and variance divided by n − 1; one of them alone is half right",
    wrong="anything that is neither of the two",
    seen="a common slip, twice",
)
class TwoGn(PerSample):
    def moments(self, v):
        mean, var = super().moments(v)
        n = v.shape[2] * v.shape[3]
        return mean, var * n / max(n - 1, 1)

    def affine(self, xhat, x):
        return xhat * ch(self.w.flip(0), x) + ch(self.b.flip(0), x)


@bug(
    "t5-ln-channels-at-each-pixel",
    "layer_norm",
    "The statistics are over the channels at each pixel (ConvNeXt's channels-first layer norm) instead of channels and pixels.",
    right="statistics over the channels only / at each pixel / per position layer norm",
    wrong="instance normalization, batch in the statistics",
    seen=G + "facebookresearch/ConvNeXt (LayerNorm, channels_first)",
)
class ChannelsAtEachPixel(PerSample):
    def moments(self, v):
        return v.mean(2, keepdim=True), v.var(2, unbiased=False, keepdim=True)


@bug(
    "t5-ln-mean-detached",
    "layer_norm",
    "The mean that is subtracted is detached: dx has no mean term, and the variance's part is kept.",
    right="the mean is detached / mean term missing in dx / gradient not sent through the subtracted mean",
    wrong="variance detached, both detached, forward wrong",
    seen="a common slip",
)
class MeanDetached(PerSample):
    def normalize(self, v, mean, var):
        return (v - mean.detach()) / torch.sqrt(var + self.eps)


@bug(
    "t5-ln-mean-abs-deviation",
    "layer_norm",
    "x is divided by the mean absolute deviation (L1 norm) instead of the standard deviation.",
    right="mean absolute deviation in place of the standard deviation / L1 instead of L2",
    wrong="eps outside the root alone, variance not rooted, unbiased",
    seen=G + "HomebrewML/Olmax/issues/72",
)
class MeanAbs(PerSample):
    def normalize(self, v, mean, var):
        return (v - mean) / ((v - mean).abs().mean((2, 3), keepdim=True) + self.eps)


class LastAxis(Torch):
    def compute(self, x, training):
        mean, var = self.moments(x)
        return (x - mean) * torch.rsqrt(var + self.eps) * self.w + self.b

    def moments(self, x):
        return x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)


@bug(
    "t5-lnl-all-but-batch",
    "layer_norm_last",
    "The statistics are over all axes but the first, as if normalized_shape were the sample's whole shape; weight and bias stay on the last axis.",
    right="normalised over all axes but the batch / sequence axis in the statistics / normalized_shape too large",
    wrong="statistics over the batch, over the sequence only",
    seen="a common slip (F.layer_norm(x, x.shape[1:]))",
)
class AllButBatch(LastAxis):
    def moments(self, x):
        axes = tuple(range(1, x.ndim))
        return x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)


@bug(
    "t5-lnl-two-annotated-transformer",
    "layer_norm_last",
    "TWO: x.std() is unbiased, and eps is added to it outside the root, as in the Annotated Transformer.",
    right="both: unbiased standard deviation, and eps outside the root; one of them alone is half right",
    wrong="anything that is neither of the two",
    seen=G + "harvardnlp/annotated-transformer/pull/119",
)
class AnnotatedTransformer(Torch):
    def compute(self, x, training):
        std = x.std(-1, keepdim=True) if x.shape[-1] > 1 else torch.zeros_like(x)
        return self.w * (x - x.mean(-1, keepdim=True)) / (std + self.eps) + self.b


@bug(
    "t5-lnl-sqrt-of-std",
    "layer_norm_last",
    "The root is taken twice: x is divided by sqrt(std + eps), as a fix proposed in a forum reads.",
    right="the root is taken of the standard deviation / fourth root of the variance / root twice",
    wrong="no root, eps outside the root alone, unbiased alone",
    seen=G + "hyunwoongko/transformer/issues/7",
)
class SqrtOfStd(LastAxis):
    def compute(self, x, training):
        mean, var = self.moments(x)
        std = torch.sqrt(var + torch.finfo(x.dtype).tiny)
        return (x - mean) / torch.sqrt(std + self.eps) * self.w + self.b


@bug(
    "t5-lnl-weight-in-the-statistics",
    "layer_norm_last",
    "The weight multiplies x before the statistics are taken: x·weight is normalised, then bias is added.",
    right="the weight is applied before normalisation / x·weight is normalised / weight inside the statistics",
    wrong="weight missing, weight and bias swapped",
    seen="a common slip",
)
class WeightFirst(LastAxis):
    def compute(self, x, training):
        x = x * self.w
        mean, var = self.moments(x)
        return (x - mean) * torch.rsqrt(var + self.eps) + self.b


@bug(
    "t5-rms-eps-after-rsqrt",
    "rms_norm",
    "eps is added after the reciprocal root: x · (rsqrt(mean square) + eps).",
    right="eps is added to the reciprocal (rstd) / eps outside rsqrt / rsqrt(ms) + eps",
    wrong="eps added to the root before dividing, eps missing (unless as one of several readings)",
    seen=G + "tile-ai/tilelang/pull/1243",
)
class EpsAfterRsqrt(Torch):
    def compute(self, x, training):
        return x * (torch.rsqrt(x.square().mean(-1, keepdim=True)) + self.eps) * self.w


@bug(
    "t5-rms-partial",
    "rms_norm",
    "The mean square is estimated from the first half of the features, as the paper's pRMSNorm allows.",
    right="the mean square is of the first half of the row / partial RMS / only part of the features in the statistic",
    wrong="centred, divided by the wrong count with all features summed",
    seen="pRMSNorm of the RMSNorm paper (bzhangGo/rmsnorm), ported",
)
class Partial(Torch):
    def compute(self, x, training):
        part = x[..., : max(x.shape[-1] // 2, 1)]
        return x * torch.rsqrt(part.square().mean(-1, keepdim=True) + self.eps) * self.w


@bug(
    "t5-rms-normalize-ignores-eps",
    "rms_norm",
    "F.normalize(x) · sqrt(C) · weight: the given eps is not used.",
    right="eps is ignored / missing / F.normalize in place of rsqrt(ms + eps)",
    wrong="eps outside the root, sqrt(C) missing, centred",
    seen=G + "lucidrains/x-transformers (RMSNorm)",
)
class Normalize(Torch):
    def compute(self, x, training):
        return F.normalize(x, dim=-1) * x.shape[-1] ** 0.5 * self.w


@bug(
    "t5-rms-eps-under-the-sum",
    "rms_norm",
    "eps is added to the sum of squares before it is divided by n: it is n times too small.",
    right="eps is divided by n / added to the sum instead of the mean / (sum + eps)/n",
    wrong="eps missing (unless as one of several readings), eps outside the root, count wrong",
    seen="a common slip",
)
class EpsUnderTheSum(Torch):
    def compute(self, x, training):
        n = x.shape[-1]
        return x * torch.rsqrt((x.square().sum(-1, keepdim=True) + self.eps) / n) * self.w


@bug(
    "t5-rms-bracket-leaves-x",
    "rms_norm",
    "A bracket is set wrongly in x · (1 + (weight − 1))/rms: y = x + x · (weight − 1)/rms, and a part of x stays unnormalised.",
    right="x is added unnormalised / y = x + x̂ (weight − 1) / a bracket leaves a part of x without the division",
    wrong="1 + weight, weight missing",
    seen="a common slip of zero-centred gammas",
)
class MisBracket(Torch):
    def compute(self, x, training):
        rstd = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return x + x * (self.w - 1) * rstd
