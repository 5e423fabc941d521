"""Batch normalization in PyTorch, each wrong in one thing."""

from __future__ import annotations

import torch

from heldout.fourth.registry import bug
from heldout.third.tbase import Torch, ch


class BatchNorm(Torch):
    """Batch normalization in steps: moments, tracking, normalization."""

    conventions = {"grads": "accumulate", "single_value": "raises"}
    stateful = "running_mean", "running_var"

    def compute(self, x, training):
        self.axes = [axis for axis in range(x.ndim) if axis != 1]
        if training:
            count = x.numel() // x.shape[1]
            if count == 1:
                raise ValueError("training needs more than one value per channel")
            mean, var = self.moments(x)
            with torch.no_grad():
                self.track(mean, var, count)
        else:
            mean, var = self.frozen(x)
        return self.normalize(x, mean, var)

    def moments(self, x):
        return x.mean(self.axes), x.var(self.axes, unbiased=False)

    def frozen(self, x):
        return self.s["running_mean"], self.s["running_var"]

    def normalize(self, x, mean, var):
        return (x - ch(mean, x)) / ch(torch.sqrt(var + self.eps), x) * ch(self.w, x) + ch(self.b, x)

    def track(self, mean, var, count):
        self.s["running_mean"] = torch.lerp(self.s["running_mean"], mean, self.momentum)
        self.s["running_var"] = torch.lerp(self.s["running_var"], var * count / (count - 1), self.momentum)


@bug(
    "t4-bn-momentum-or-default",
    "batch_norm",
    "momentum is read with `or`, so a momentum of 0 becomes the default 0.1",
    right="a momentum of 0 is taken for not given / a default momentum replaces 0",
    wrong="momentum swapped / a built-in momentum in every case",
    seen="a common slip",
)
class MomentumOrDefault(BatchNorm):
    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.momentum = options.get("momentum") or 0.1


@bug(
    "t4-bn-unbiased-in-training",
    "batch_norm",
    "x is normalized with the unbiased variance, which torch's var gives by default",
    right="the training output uses the unbiased variance / n - 1 in place of n",
    wrong="the running variance is wrong / eps / a wrong axis",
    seen="pytorch/pytorch#111824 holds such a line (of group norm); a common slip",
)
class UnbiasedInTraining(BatchNorm):
    def moments(self, x):
        return x.mean(self.axes), x.var(self.axes)

    def track(self, mean, var, count):
        super().track(mean, var * (count - 1) / count, count)


@bug(
    "t4-bn-variance-of-samples-averaged",
    "batch_norm",
    "the variance is the average over the batch of each sample's own variance; the spread of the samples' means is "
    "left out",
    right="the variance is taken within samples / per sample and averaged / lacks the part between samples / is that "
    "of instance normalization averaged",
    wrong="the mean is per sample too (instance normalization in full) / unbiased / eps",
    seen="a common slip of merging shards",
)
class VarianceOfSamplesAveraged(BatchNorm):
    def moments(self, x):
        return x.mean(self.axes), x.reshape(*x.shape[:2], -1).var(2, unbiased=False).mean(0)


@bug(
    "t4-bn-std-detached",
    "batch_norm",
    "the standard deviation is computed without gradient, so dx lacks the variance term",
    right="dx: the variance term is missing / the variance (standard deviation) is taken as constant in backward",
    wrong="the mean term is missing / both are missing / a factor 1/2",
    seen="a common slip",
)
class StdDetached(BatchNorm):
    def normalize(self, x, mean, var):
        with torch.no_grad():
            std = torch.sqrt(var + self.eps)
        return (x - ch(mean, x)) / ch(std, x) * ch(self.w, x) + ch(self.b, x)


@bug(
    "t4-bn-over-batch-alone",
    "batch_norm",
    "statistics are taken over the batch axis alone: each pixel has its own; the running ones are averaged over pixels",
    right="statistics over the batch alone / pixels left out of the statistics / each pixel of a channel has its own "
    "mean and variance",
    wrong="instance or layer normalization / the running statistics alone",
    seen="a common slip: a layer for (N, C) that is given images",
)
class OverBatchAlone(BatchNorm):
    def moments(self, x):
        return x.mean(0, keepdim=True), x.var(0, keepdim=True, unbiased=False)

    def normalize(self, x, mean, var):
        if mean.ndim == 1:
            return super().normalize(x, mean, var)
        return (x - mean) * torch.rsqrt(var + self.eps) * ch(self.w, x) + ch(self.b, x)

    def track(self, mean, var, count):
        c = mean.shape[1]
        n = count // (mean.numel() // c)
        super().track(mean.reshape(c, -1).mean(1), var.reshape(c, -1).mean(1), max(n, 2))


@bug(
    "t4-bn-eval-mean-debiased",
    "batch_norm",
    "evaluation divides the running mean by 1 - (1 - momentum)^steps, as if it had started at zero",
    right="the running mean is corrected for its start (debiased, as in Adam) in evaluation / evaluation scales the "
    "running mean by a factor of the number of steps",
    wrong="the state is wrong / momentum / batch statistics in evaluation",
    seen="patrick-kidger/equinox#1010",
)
class EvalMeanDebiased(BatchNorm):
    steps = 0

    def track(self, mean, var, count):
        super().track(mean, var, count)
        self.steps += 1

    def frozen(self, x):
        mean, var = super().frozen(x)
        return mean / (1 - (1 - self.momentum) ** self.steps) if self.steps else mean, var


@bug(
    "t4-bn-eval-batch-statistics",
    "batch_norm",
    "evaluation normalizes with the batch's own mean and variance; the running ones are kept and never used",
    right="batch statistics in evaluation / running statistics are not used / no evaluation mode",
    wrong="the running statistics are wrong / the training formula in the backward of evaluation alone",
    seen="a common slip",
)
class EvalBatchStatistics(BatchNorm):
    def frozen(self, x):
        return self.moments(x)


@bug(
    "t4-bn-var-momentum-swapped",
    "batch_norm",
    "momentum weighs the old running variance, while it weighs the new mean",
    right="momentum is swapped for the variance alone / the running variance has the weights exchanged",
    wrong="momentum swapped for both / biased or unbiased",
    seen="a slip of the kind of d2l-ai/d2l-en#2213",
)
class VarMomentumSwapped(BatchNorm):
    def track(self, mean, var, count):
        old, m = self.s["running_var"], self.momentum
        super().track(mean, var, count)
        self.s["running_var"] = m * old + (1 - m) * var * count / (count - 1)


@bug(
    "t4-bn-tracked-twice",
    "batch_norm",
    "the running statistics are updated twice for each training step, as when a checkpointed forward is run again",
    right="the running statistics are updated twice / the momentum is 1 - (1 - m)²",
    wrong="momentum swapped / a built-in momentum / updated in evaluation",
    seen="a common slip of activation checkpointing",
)
class TrackedTwice(BatchNorm):
    def track(self, mean, var, count):
        super().track(mean, var, count)
        super().track(mean, var, count)
