"""Norms in PyTorch whose forward is wrong; autograd follows."""

from __future__ import annotations

import numpy as np
import torch

from heldout.third.registry import bug
from heldout.third.tbase import Bn, Torch, ch

G = "https://github.com/"


@bug(
    "t3-bn-mean-bessel", "batch_norm",
    "The running mean is updated with the batch mean times m/(m−1): Bessel's correction, meant for the variance, is applied to the mean too.",
    right="Bessel's correction (n/(n−1)) wrongly on the running mean / running mean scaled by n/(n−1)",
    wrong="momentum, biased or unbiased running variance, anything about y or the gradients of training",
    seen=G + "chainer/chainer/issues/332",
)
class MeanBessel(Bn):
    def track(self, mean, var, n):
        adjust = n / (n - 1)
        self.blend("running_mean", adjust * mean)
        self.blend("running_var", adjust * var)


@bug(
    "t3-bn-sync-local-count", "batch_norm",
    "Synchronised batch norm merges the workers' statistics with the local worker's count for all of them, so that shards of unequal size get equal weight.",
    right="shards of unequal size weighted equally / wrong counts in the merge of shards",
    wrong="a fault of ordinary batches: momentum, eps, unbiased variance, dx terms",
    seen=G + "pytorch/pytorch/issues/22192",
)
class SyncLocalCount(Bn):
    conventions = {"grads": "accumulate", "single_value": "raises", "shards": "synchronised"}

    def forward(self, x, training):
        self.sizes = [len(part) for part in x] if isinstance(x, list) else None
        y = super().forward(np.concatenate(x) if self.sizes else x, training)
        return np.split(y, np.cumsum(self.sizes)[:-1]) if self.sizes else y

    def backward(self, dy):
        grads = super().backward(np.concatenate(dy) if self.sizes else dy)
        if self.sizes:
            grads["dx"] = np.split(grads["dx"], np.cumsum(self.sizes)[:-1])
        return grads

    def compute(self, x, training):
        if not training or self.sizes is None:
            return super().compute(x, training)
        axes = (0, *range(2, x.ndim))
        shards = torch.split(x, self.sizes)
        count = shards[0].numel() // x.shape[1]  # this worker's
        means = torch.stack([s.mean(axes) for s in shards])
        variances = torch.stack([s.var(axes, unbiased=False) for s in shards])
        n = count * len(shards)
        mean = (count * means).sum(0) / n
        var = (count * (variances + (means - mean) ** 2)).sum(0) / n
        self.track(mean.detach(), var.detach(), n)
        return self.normalize(x, mean, var)


@bug(
    "t3-bn-no-detach", "batch_norm",
    "The running statistics are not detached: they keep the graph of earlier batches, so that a backward after evaluation walks through a graph that is already freed and raises.",
    right="running statistics keep the graph / not detached / backward through a freed graph named from the exception",
    wrong="a formula of dx, statistics detached in training, momentum",
    seen=G + "bayesiains/nflows/pull/11",
)
class NoDetach(Bn):
    def compute(self, x, training):
        axes = (0, *range(2, x.ndim))
        if training:
            n = x.numel() // x.shape[1]
            if n == 1:
                raise ValueError("Expected more than 1 value per channel when training")
            mean, var = x.mean(axes), x.var(axes, unbiased=False)
            self.track(mean, var, n)
        else:
            mean, var = self.s["running_mean"].to(x.dtype), self.s["running_var"].to(x.dtype)
        return self.normalize(x, mean, var)


@bug(
    "t3-bn-std-ema", "batch_norm",
    "The moving average is taken of the standard deviation and squared afterwards, instead of being taken of the variance.",
    right="running average of the standard deviation instead of the variance",
    wrong="running variance biased, momentum swapped, running_var stored as a standard deviation (its unit is right), eps",
    seen=G + "FluxML/Flux.jl/pull/84",
)
class StdEma(Bn):
    def track(self, mean, var, n):
        self.blend("running_mean", mean)
        std = (1 - self.momentum) * self.s["running_var"].sqrt() + self.momentum * (var * n / (n - 1)).sqrt()
        self.s["running_var"] = std.square()


@bug(
    "t3-bn-half-buffers", "batch_norm", dtype="float16",
    cause="The running statistics are kept in float16 (model.half() casts the buffers): they lose digits, and a variance above 65504 becomes inf.",
    right="running statistics kept in float16 / overflow or rounding of the state in half precision",
    wrong="sums of the batch in float16 (those are float32), momentum, eps",
    seen=G + "apple/coreai-torch/pull/54",
)
class HalfBuffers(Bn):
    def load(self, params, state):
        super().load(params, state)
        self.s = {k: v.half() for k, v in self.s.items()}

    def state(self):
        return {k: v.float().numpy().copy() for k, v in self.s.items()}


@bug(
    "t3-bn-cumulative", "batch_norm",
    "The update averages cumulatively with 1/(number of batches) though a momentum is given: the momentum is never used.",
    right="momentum ignored / cumulative average 1/t / momentum not the one given",
    wrong="momentum swapped (unless given as one of several), biased variance, anything about y in training",
    seen=G + "mlpack/mlpack/pull/2474",
)
class Cumulative(Bn):
    count = 0

    def blend(self, name, value):
        if name == "running_mean":
            self.count += 1
        factor = 1.0 / self.count
        self.s[name] = (1 - factor) * self.s[name] + factor * value.to(self.s[name].dtype)


@bug(
    "t3-bn-fix-gamma", "batch_norm",
    "The scale is fixed to 1 (fix_gamma, on by default): weight is ignored and gets no gradient.",
    right="weight (gamma) ignored / taken as 1; dweight zero together with it",
    wrong="dweight zero alone as the cause, weight and bias swapped, dx without weight alone",
    seen=G + "apache/mxnet/pull/1061",
)
class FixGamma(Bn):
    def normalize(self, x, mean, var):
        return (x - ch(mean, x)) * ch(torch.rsqrt(var + self.eps), x) + ch(self.b, x)


@bug(
    "t3-bn-momentum-falsy", "batch_norm",
    "A momentum of 0 counts as not given (momentum or 0.1), so that statistics that should stay fixed move by 0.1.",
    right="momentum 0 taken for not given / default used for momentum 0",
    wrong="momentum swapped, running statistics updated in evaluation, hard-coded momentum for all values",
    seen=G + "pytorch/pytorch/issues/15298",
)
class MomentumFalsy(Bn):
    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.momentum = options.get("momentum") or 0.1


@bug(
    "t3-bn-eval-identity", "batch_norm",
    "Evaluation normalises with the initial mean 0 and variance 1; the running statistics, which are tracked rightly, are not used.",
    right="evaluation does not use the running statistics / uses mean 0 and variance 1",
    wrong="evaluation uses batch statistics, running statistics never updated, start values",
    seen=G + "LaurentMazare/tch-rs/issues/628",
)
class EvalIdentity(Bn):
    def compute(self, x, training):
        if training:
            return super().compute(x, training)
        return self.normalize(x, torch.zeros_like(self.w), torch.ones_like(self.w))


class Grouped(Torch):
    """Instance, layer and group norm by groups of channels."""

    def groups(self, c):
        if self.layer == "group_norm":
            if c % self.o["num_groups"]:
                raise ValueError("num_channels must be divisible by num_groups")
            return self.o["num_groups"]
        return {"instance_norm": c, "layer_norm": 1}[self.layer]

    def compute(self, x, training):
        v = x.reshape(x.shape[0], self.groups(x.shape[1]), -1)
        return self.affine(self.standard(v).reshape(x.shape), x)

    def standard(self, v):
        mean = v.mean(2, keepdim=True)
        return (v - mean) / torch.sqrt((v - mean).square().mean(2, keepdim=True) + self.eps)

    def affine(self, z, x):
        return z * ch(self.w, x) + ch(self.b, x)


@bug(
    "t3-in-running-eval", "instance_norm",
    "In evaluation instance norm normalises with running statistics, averaged over the instances it was trained on, instead of those of the instance.",
    right="evaluation uses running statistics / evaluation differs from training though instance norm has no state",
    wrong="statistics over the batch too, eps, unbiased variance",
    seen=G + "pytorch/pytorch/pull/1604",
)
class InRunningEval(Grouped):
    running = None

    def compute(self, x, training):
        v = x.reshape(*x.shape[:2], -1)
        mean, var = v.mean(2), v.var(2, unbiased=False)
        if self.running is None:
            self.running = torch.zeros_like(self.w).detach(), torch.ones_like(self.w).detach()
        if training:
            self.running = tuple(0.9 * old + 0.1 * new.detach().mean(0) for old, new in zip(self.running, (mean, var), strict=True))
        else:
            mean, var = (s.expand_as(mean) for s in self.running)
        z = (v - mean[..., None]) / torch.sqrt(var + self.eps)[..., None]
        return self.affine(z.reshape(x.shape), x)


@bug(
    "t3-in-std-in-root", "instance_norm",
    "The standard deviation stands where the variance belongs: x − mean is divided by sqrt(std + eps).",
    right="the root is taken twice / std in place of the variance under the root / wrong power of sigma",
    wrong="eps outside the root, unbiased variance, root missing",
    seen=G + "fastai/course-v3/pull/363",
)
class InStdInRoot(Grouped):
    def standard(self, v):
        mean = v.mean(2, keepdim=True)
        std = (v - mean).square().mean(2, keepdim=True).sqrt()
        return (v - mean) / torch.sqrt(std + self.eps)


@bug(
    "t3-in-no-affine", "instance_norm",
    "Instance norm is built with the default affine=False: weight and bias are loaded but never used.",
    right="weight and bias ignored / no affine map",
    wrong="bias alone, weight alone, gradients of weight and bias zero as the cause",
    seen=G + "pytorch/pytorch/issues/22755",
)
class InNoAffine(Grouped):
    def affine(self, z, x):
        return z


@bug(
    "t3-ln-whole-tensor", "layer_norm",
    "Mean and variance are taken over the whole tensor, the batch included, instead of over each sample.",
    right="statistics over the batch too / over the whole tensor",
    wrong="per pixel, over the last axis, as batch norm (per channel), unbiased variance",
    seen=G + "pytorch/pytorch/issues/22617",
)
class LnWhole(Grouped):
    def standard(self, v):
        return (v - v.mean()) / torch.sqrt(v.var(unbiased=False) + self.eps)


@bug(
    "t3-gn-all-groups", "group_norm",
    "The reduction axes take in the axis of the groups, so that all groups share one mean and variance: it is layer norm.",
    right="statistics over all channels / groups ignored / is layer norm",
    wrong="interleaved groups, number of groups as group size, over the batch",
    seen=G + "brainpy/BrainPy/issues/765",
)
class GnAllGroups(Grouped):
    def standard(self, v):
        mean = v.mean((1, 2), keepdim=True)
        return (v - mean) / torch.sqrt((v - mean).square().mean((1, 2), keepdim=True) + self.eps)


@bug(
    "t3-gn-one-pass-clipped", "group_norm",
    "The variance is E[x²] − E[x]², clipped at 0: it cancels where the mean is large beside the deviation.",
    right="one-pass variance / cancellation at a large mean",
    wrong="eps place, float16 sums, unbiased variance",
    seen=G + "patrick-kidger/equinox/pull/314",
)
class GnOnePass(Grouped):
    def standard(self, v):
        mean = v.mean(2, keepdim=True)
        var = (v.square().mean(2, keepdim=True) - mean.square()).clamp(min=0)
        return (v - mean) / torch.sqrt(var + self.eps)


class Last(Torch):
    def compute(self, x, training):
        mean = x.mean(-1, keepdim=True)
        return (x - mean) * torch.rsqrt((x - mean).square().mean(-1, keepdim=True) + self.eps) * self.w + self.b


@bug(
    "t3-lnl-all-axes", "layer_norm_last",
    "The statistics are taken over all axes but the first, instead of over the last axis alone.",
    right="statistics over more axes than the last / over all of a sample",
    wrong="over the tokens alone, over the batch, unbiased variance",
    seen=G + "Qualcomm-AI-research/geometric-algebra-transformer/pull/8",
)
class LnlAllAxes(Last):
    def compute(self, x, training):
        dims = tuple(range(1, x.ndim))
        mean = x.mean(dims, keepdim=True)
        return (x - mean) * torch.rsqrt((x - mean).square().mean(dims, keepdim=True) + self.eps) * self.w + self.b


@bug(
    "t3-lnl-frozen-affine", "layer_norm_last",
    "weight and bias are made without requires_grad: they get no gradient and never learn.",
    right="weight and bias get no gradient / dweight and dbias are zero",
    wrong="dx wrong, weight ignored in the forward pass, only one of the two",
    seen=G + "harvard-edge/cs249r_book/pull/1504",
)
class LnlFrozen(Last):
    def load(self, params, state):
        super().load(params, state)
        self.p = {k: v.detach() for k, v in self.p.items()}


class Rms(Torch):
    def compute(self, x, training):
        v = x.float() if x.dtype == torch.float16 else x
        return (v * torch.rsqrt(v.square().mean(-1, keepdim=True) + self.eps) * self.w).to(x.dtype)


@bug(
    "t3-rms-half-square", "rms_norm", dtype="float16",
    cause="x² is computed in float16 and overflows for |x| > 255: the mean square is inf and y is 0.",
    right="squares or sums in float16 / overflow in half precision",
    wrong="eps, a missing mean, weight cast",
    seen=G + "pytorch/pytorch/pull/133085 and jingyaogong/minimind/issues/301",
)
class RmsHalfSquare(Rms):
    def compute(self, x, training):
        return (x.float() * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.w


@bug(
    "t3-rms-inv-bf16", "rms_norm",
    "The reciprocal root mean square is rounded to bfloat16 before it is multiplied, an error of the same direction for a whole row.",
    right="reduced precision (bfloat16) of the reciprocal rms / low precision in the scale",
    wrong="eps, a formula error such as n − 1, weight",
    seen=G + "amd/IRON/pull/139",
)
class RmsInvBf16(Rms):
    def compute(self, x, training):
        inv = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return x * inv.bfloat16().to(x.dtype) * self.w


@bug(
    "t3-rms-variance", "rms_norm",
    "The variance (with the mean subtracted) stands where the mean of the squares belongs.",
    right="variance in place of the mean square / mean subtracted in the statistic",
    wrong="the mean is subtracted from x in y (it is not), eps, n − 1",
    seen=G + "keras-team/keras/pull/22393",
)
class RmsVariance(Rms):
    def compute(self, x, training):
        return x * torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + self.eps) * self.w


@bug(
    "t3-rms-eps-outside", "rms_norm",
    "eps is added to the root mean square, outside of the root.",
    right="eps outside the root / eps added to the rms",
    wrong="eps missing, eps squared, another eps value",
    seen=G + "allenai/OLMo/issues/281",
)
class RmsEpsOutside(Rms):
    def compute(self, x, training):
        rms = x.norm(2, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        return x / (rms + self.eps) * self.w


@bug(
    "t3-rms-scale-inverted", "rms_norm",
    "The unit vector is multiplied by d^−½ where it must be divided by it: y is d times too small.",
    right="y (and dx) too small by the number of features / scale sqrt(d) inverted / wrong factor d",
    wrong="eps, sum in place of mean as such only if it says factor sqrt(d)",
    seen=G + "kyegomez/zeta/issues/180",
)
class RmsScale(Rms):
    def compute(self, x, training):
        d = x.shape[-1]
        unit = x * torch.rsqrt(x.square().sum(-1, keepdim=True) + d * self.eps)
        return unit * d**-0.5 * self.w


@bug(
    "t3-rms-second-last-axis", "rms_norm",
    "The mean of the squares is taken over the last axis but one (dim=−2) instead of the last.",
    right="statistics over another axis than the last / over the tokens",
    wrong="statistics over all axes, over the batch only if x has rank 3 or more, weight of another axis",
    seen=G + "kyegomez/zeta/issues/180 (second half)",
)
class RmsDim2(Rms):
    def compute(self, x, training):
        return x * torch.rsqrt(x.square().mean(-2, keepdim=True) + self.eps) * self.w
