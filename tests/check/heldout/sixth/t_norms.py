"""Instance, layer, group and RMS normalization in PyTorch as public code gets them wrong; gradients by autograd."""

from __future__ import annotations

import torch

from heldout.fifth.t_norms import PerSample
from heldout.sixth.registry import bug
from heldout.third.tbase import Torch, ch

SLIP = "a common slip"


@bug(
    "t6-in-affine-ignored",
    "instance_norm",
    "affine=False, the default of InstanceNorm2d, is left: weight and bias are not used.",
    right="affine parameters ignored / weight and bias missing in y",
    wrong="swapped, only one missing",
    seen="PyTorch's InstanceNorm default",
)
class NoAffine(PerSample):
    def affine(self, xhat, x):
        return xhat


@bug(
    "t6-in-calc-mean-std",
    "instance_norm",
    "The helper calc_mean_std of style transfer takes var() with n − 1.",
    right="unbiased variance / n − 1 in the variance / Bessel's correction",
    wrong="eps outside of the root, over the batch",
    seen="style-transfer code's calc_mean_std",
)
class CalcMeanStd(PerSample):
    def moments(self, v):
        n = v.shape[2] * v.shape[3]
        return v.mean((2, 3), keepdim=True), v.var((2, 3), unbiased=False, keepdim=True) * n / max(n - 1, 1)


@bug(
    "t6-in-bias-inside-weight",
    "instance_norm",
    "y = (xhat + bias) · weight.",
    right="bias is added before the weight is multiplied / bias multiplied by weight",
    wrong="swapped, bias missing",
    seen=SLIP,
)
class BiasInside(PerSample):
    def affine(self, xhat, x):
        return (xhat + ch(self.b, x)) * ch(self.w, x)


@bug(
    "t6-ln-channels-first",
    "layer_norm",
    "ConvNeXt's channels-first form: the statistics run over the channels of each pixel, not over the whole sample.",
    right="statistics over the channels only / wrong axes: pixels not included / a mean for each pixel",
    wrong="instance norm, batch norm, eps",
    seen="facebookresearch/ConvNeXt's LayerNorm, used where the sample was meant",
)
class ChannelsFirst(PerSample):
    def compute(self, x, training):
        mean = x.mean(1, keepdim=True)
        var = (x - mean).square().mean(1, keepdim=True)
        return self.affine((x - mean) / torch.sqrt(var + self.eps), x)


@bug(
    "t6-ln-not-centred",
    "layer_norm",
    "The variance is about the mean, but x itself is scaled: the mean is not subtracted.",
    right="the mean is not subtracted (from the numerator) / x not centred",
    wrong="RMS norm altogether (E[x²] in the root), bias missing",
    seen=SLIP,
)
class NotCentred(PerSample):
    def normalize(self, v, mean, var):
        return v / torch.sqrt(var + self.eps)


@bug(
    "t6-ln-as-rms",
    "layer_norm",
    "An RMS normalization in its place: no mean, and E[x²] in the root; with bias.",
    right="RMS norm in place of layer norm / mean neither subtracted nor in the variance / second moment in place of the variance, without centring",
    wrong="only the numerator, one-pass variance",
    seen=SLIP,
)
class AsRms(PerSample):
    def moments(self, v):
        return torch.zeros_like(v[:, :, :1, :1]), v.square().mean((2, 3), keepdim=True)


@bug(
    "t6-ln-eps-after-rsqrt",
    "layer_norm",
    "xhat = (x − mean) · (rsqrt(var) + eps).",
    right="eps is added to 1/sigma / eps added after the reciprocal root",
    wrong="eps missing, eps outside of the root (added to sigma)",
    seen=SLIP,
)
class EpsAfter(PerSample):
    def normalize(self, v, mean, var):
        return (v - mean) * (torch.rsqrt(var + 1e-30) + self.eps)


@bug(
    "t6-gn-group-size",
    "group_norm",
    "num_groups is taken for the number of channels in a group.",
    right="num_groups taken for the channels per group / number and size of the groups exchanged",
    wrong="interleaved, layer norm, instance norm",
    seen=SLIP,
)
class GroupSize(PerSample):
    def compute(self, x, training):
        if x.shape[1] % self.o["num_groups"]:
            raise ValueError("channels and groups do not fit")
        g = x.shape[1] // self.o["num_groups"]
        v = x.reshape(len(x), g, x.shape[1] // g, -1)
        return self.affine(self.normalize(v, *self.moments(v)).reshape(x.shape), x)


@bug(
    "t6-gn-over-batch",
    "group_norm",
    "The statistics of a group run over the batch too.",
    right="statistics over the batch too / wrong axes: the batch included",
    wrong="groups ignored, interleaved, batch norm a channel",
    seen=SLIP,
)
class OverBatch(PerSample):
    def moments(self, v):
        return v.mean((0, 2, 3), keepdim=True), v.var((0, 2, 3), unbiased=False, keepdim=True)


@bug(
    "t6-gn-moments-of-channels-averaged",
    "group_norm",
    "The group's variance is the mean of its channels' own variances: what lies between channels is lost.",
    right="variance within the channels only / spread between the channels of a group missing / channel variances averaged",
    wrong="instance norm, unbiased, one-pass",
    seen=SLIP,
)
class WithinChannels(PerSample):
    def moments(self, v):
        return v.mean((2, 3), keepdim=True), v.var(3, unbiased=False, keepdim=True).mean(2, keepdim=True)


@bug(
    "t6-gn-two-interleaved-and-eps-missing",
    "group_norm",
    "Two bugs: channels are dealt out to the groups in turn, and eps is missing.",
    right="both: groups interleaved, and eps missing",
    wrong="either with a wrong second name",
    seen=SLIP,
)
class TwoGn(PerSample):
    def compute(self, x, training):
        g = self.groups(x.shape[1])
        if x.shape[1] % g:
            raise ValueError("channels and groups do not fit")
        v = x.reshape(len(x), x.shape[1] // g, g, -1).transpose(1, 2)
        mean, var = self.moments(v)
        return self.affine(((v - mean) / torch.sqrt(var + 1e-12)).transpose(1, 2).reshape(x.shape), x)


class Rows(Torch):
    """Layer norm over the last axis."""

    def compute(self, x, training):
        d = x - x.mean(-1, keepdim=True)
        return self.w * d * torch.rsqrt(self.variance(x, d) + self.eps) + self.b

    def variance(self, x, d):
        return d.square().mean(-1, keepdim=True)


@bug(
    "t6-ll-annotated-transformer",
    "layer_norm_last",
    "Two bugs, as in a well-known tutorial: a · (x − mean) / (x.std() + eps) + b, so n − 1 and eps outside of the root.",
    right="both: unbiased variance (n − 1), and eps outside of the root",
    wrong="either with a wrong second name",
    seen="codertimo/BERT-pytorch#30",
)
class Annotated(Rows):
    def compute(self, x, training):
        d = x - x.mean(-1, keepdim=True)
        n = x.shape[-1]
        std = (d.square().sum(-1, keepdim=True) / max(n - 1, 1)).clamp(min=1e-24).sqrt()
        return self.w * d / (std + self.eps) + self.b


@bug(
    "t6-ll-over-all-but-batch",
    "layer_norm_last",
    "The statistics run over every axis but the first: over time and features of a sample.",
    right="statistics over all axes but the batch / wrong axes: over (T, C) in place of C / layer norm of the whole sample",
    wrong="over the batch, over axis 1 only, eps",
    seen="a common slip (normalized_shape = x.shape[1:])",
)
class AllButBatch(Rows):
    def compute(self, x, training):
        axes = tuple(range(1, x.ndim))
        d = x - x.mean(axes, keepdim=True)
        return self.w * d * torch.rsqrt(d.square().mean(axes, keepdim=True) + self.eps) + self.b


@bug(
    "t6-ll-variance-of-uncentred",
    "layer_norm_last",
    "x is centred, but the root holds E[x²], not the variance.",
    right="E[x²] (second moment) in place of the variance / the RMS divides the centred x / mean not subtracted in the variance",
    wrong="RMS norm altogether, one-pass variance, eps",
    seen=SLIP,
)
class CentredByRms(Rows):
    def variance(self, x, d):
        return x.square().mean(-1, keepdim=True)


@bug(
    "t6-ll-mean-absolute-deviation",
    "layer_norm_last",
    "Divided by the mean absolute deviation + eps, in place of the standard deviation.",
    right="mean absolute deviation in place of the standard deviation / L1 norm in place of L2",
    wrong="eps only, unbiased, variance without root",
    seen="L1 normalizations",
)
class AbsoluteDeviation(Rows):
    def compute(self, x, training):
        d = x - x.mean(-1, keepdim=True)
        return self.w * d / (d.abs().mean(-1, keepdim=True) + self.eps) + self.b


@bug(
    "t6-rms-detached",
    "rms_norm",
    "The reciprocal RMS is computed under no_grad.",
    right="1/rms detached / the RMS is constant in the backward / the second term of dx missing",
    wrong="eps, weight missing in dx",
    seen=SLIP,
)
class RmsDetached(Torch):
    def compute(self, x, training):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps).detach() * self.w


@bug(
    "t6-rms-eps-as-minimum",
    "rms_norm",
    "rsqrt(max(ms, eps)): eps is a lower bound, not added.",
    right="eps is a lower bound (clamp, max) in place of a summand / eps not added unless ms is small / max(ms, eps)",
    wrong="eps outside of the root, a fixed eps",
    seen=SLIP,
)
class RmsMaximum(Torch):
    def compute(self, x, training):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True).clamp(min=self.eps)) * self.w


@bug(
    "t6-rms-sum-of-squares",
    "rms_norm",
    "x / sqrt(Σ x² + eps): the sum, not the mean (L2 normalization).",
    right="sum of squares in place of the mean / L2 norm in place of RMS / 1/C missing",
    wrong="eps, another factor on y without the sum",
    seen="a common slip (F.normalize)",
)
class RmsSum(Torch):
    def compute(self, x, training):
        return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + self.eps) * self.w
