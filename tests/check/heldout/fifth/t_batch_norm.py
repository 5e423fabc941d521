"""Batch normalization in PyTorch, each wrong in one thing; gradients by autograd."""

from __future__ import annotations

import torch

from heldout.fifth.registry import bug
from heldout.third.tbase import Bn, ch

G = "https://github.com/"


@bug(
    "t5-bn-zero-debias",
    "batch_norm",
    "The running statistics that evaluation uses are divided by 1 − (1 − momentum)^t after t updates, as Adam (and TensorFlow's zero_debias_moving_mean) does.",
    right="running statistics are debiased by 1 − (1 − momentum)^t / Adam's bias correction in evaluation / divided by the weight of the updates so far",
    wrong="momentum swapped, a cumulative average, Bessel's correction, eps",
    seen="TensorFlow's zero_debias_moving_mean, ported",
)
class ZeroDebias(Bn):
    steps = 0

    def track(self, mean, var, n):
        super().track(mean, var, n)
        self.steps += 1

    def normalize(self, x, mean, var):
        if mean is not None and not mean.requires_grad and self.steps:
            weight = 1 - (1 - self.momentum) ** self.steps
            if weight > 0:
                mean, var = mean / weight, var / weight
        return super().normalize(x, mean, var)


@bug(
    "t5-bn-first-batch-copied",
    "batch_norm",
    "The first training batch replaces the running statistics whole; only from the second on is the momentum used.",
    right="the first batch is copied into the running statistics / the first update ignores momentum (weight 1) / initial state thrown away at the first batch",
    wrong="momentum swapped, cumulative average, state not loaded",
    seen="a common slip (a flag `initialized`)",
)
class FirstBatchCopied(Bn):
    seen = False

    def blend(self, name, value):
        super().blend(name, value)
        if not self.seen:
            self.s[name] = value.to(self.s[name].dtype).clone()
        self.seen = self.seen or name == "running_var"


@bug(
    "t5-bn-abs-weight",
    "batch_norm",
    "The scale is |weight| + eps, as in in-place activated batch norm, which needs a positive one.",
    right="the absolute value of the weight is used (plus eps) / negative weights lose their sign",
    wrong="weight ignored, 1 + weight, eps added to the output",
    seen=G + "mapillary/inplace_abn (its forward scales by |weight| + eps)",
)
class AbsWeight(Bn):
    def normalize(self, x, mean, var):
        return (x - ch(mean, x)) * ch(torch.rsqrt(var + self.eps) * (self.w.abs() + self.eps), x) + ch(self.b, x)


@bug(
    "t5-bn-mean-of-sample-variances",
    "batch_norm",
    "The variance is the mean over the samples of each sample's own variance: the spread of the samples' means is left out.",
    right="the variance is averaged over the samples' variances / the between-samples part of the variance is missing / law of total variance's second term / parts' variances averaged",
    wrong="instance normalization altogether, biased or unbiased, wrong mean",
    seen="cf. " + G + "leggedrobotics/rsl_rl/pull/226",
)
class MeanOfSampleVariances(Bn):
    def compute(self, x, training):
        if not training:
            return super().compute(x, training)
        n = x.numel() // x.shape[1]
        if n == 1:
            raise ValueError("Expected more than 1 value per channel when training")
        flat = x.reshape(*x.shape[:2], -1)
        var = flat.var(2, unbiased=False).mean(0)
        mean = flat.mean((0, 2))
        self.track(mean.detach(), var.detach(), n)
        return self.normalize(x, mean, var)


@bug(
    "t5-bn-bessel-of-batch-only",
    "batch_norm",
    "Bessel's correction of the running variance is N/(N − 1) with the batch size N, whatever the number of pixels.",
    right="the correction uses the batch size without the pixels / N/(N − 1) instead of N·P/(N·P − 1) / count in the running variance wrong",
    wrong="biased running variance, momentum, second moment",
    seen="a common slip",
)
class BesselBatchOnly(Bn):
    def compute(self, x, training):
        self.batch = len(x)
        return super().compute(x, training)

    def track(self, mean, var, n):
        self.blend("running_mean", mean)
        self.blend("running_var", var * self.batch / max(self.batch - 1, 1))


@bug(
    "t5-bn-momentum-squared-for-var",
    "batch_norm",
    "The running variance is blended with the squares of the weights, (1 − m)² and m², as if it were the variance of a weighted sum.",
    right="the running variance is blended with squared momentum weights / (1 − m)² old + m² new / weights of the variance do not add up to 1",
    wrong="momentum swapped, std blended, biased variance",
    seen="a common slip",
)
class MomentumSquared(Bn):
    def track(self, mean, var, n):
        self.blend("running_mean", mean)
        m = self.momentum
        self.s["running_var"] = (1 - m) ** 2 * self.s["running_var"] + m**2 * (var * n / (n - 1))


@bug(
    "t5-bn-permuted-back-wrongly",
    "batch_norm",
    "Images go through (N, H, W, C) and come back by permute(0, 3, 2, 1) and a reshape: height and width are exchanged.",
    right="height and width of y are transposed / permuted back in the wrong order / (N, C, W, H) read as (N, C, H, W)",
    wrong="channels last read as first, statistics over wrong axes, weight and bias swapped",
    seen="cf. " + G + "alexlee-gk/lpips-tensorflow/issues/2",
)
class PermutedBack(Bn):
    def normalize(self, x, mean, var):
        if x.ndim != 4:
            return super().normalize(x, mean, var)
        last = x.permute(0, 2, 3, 1)
        y = (last - mean) * torch.rsqrt(var + self.eps) * self.w + self.b
        return y.permute(0, 3, 2, 1).reshape(x.shape)


@bug(
    "t5-bn-running-mean-in-training",
    "batch_norm",
    "In training x is centred with the running mean (after its update) and scaled with the batch variance.",
    right="the running mean is subtracted in training / training centres with the running instead of the batch mean",
    wrong="running variance in training (too), statistics detached only, momentum",
    seen="a common slip",
)
class RunningMeanInTraining(Bn):
    def normalize(self, x, mean, var):
        return super().normalize(x, self.s["running_mean"].to(x.dtype), var)


@bug(
    "t5-bn-tracks-output",
    "batch_norm",
    "The statistics are tracked after the affine map, of the layer's output instead of its input.",
    right="running statistics are of the output y / tracked after normalisation and affine / output in place of input statistics",
    wrong="statistics not updated, momentum, running statistics of x̂ (without the affine map)",
    seen="a common slip (x is reassigned before the update)",
)
class TracksOutput(Bn):
    def compute(self, x, training):
        kept = dict(self.s)
        y = super().compute(x, training)
        if training:
            self.s = kept
            axes = (0, *range(2, x.ndim))
            out = y.detach()
            self.track(out.mean(axes), out.var(axes, unbiased=False), out.numel() // out.shape[1])
        return y


@bug(
    "t5-bn-renorm-shift-left-on",
    "batch_norm",
    "Batch renormalization's shift is left on: in training, d = clip((batch mean − running mean)/running std, −1, 1) of the statistics before the update is added to x̂.",
    right="batch renormalization's d is added / the output is shifted by (batch mean − running mean)/running std, clipped / the running mean takes part in training",
    wrong="running statistics altogether in training, bias wrong",
    seen="batch renormalization (Ioffe 2017), ported",
)
class RenormShift(Bn):
    def compute(self, x, training):
        self.before = self.s["running_mean"].clone(), self.s["running_var"].clone()
        self.now = training
        return super().compute(x, training)

    def normalize(self, x, mean, var):
        if not self.now:
            return super().normalize(x, mean, var)
        old, spread = (v.to(x.dtype) for v in self.before)
        shift = ((mean - old) / torch.sqrt(spread + self.eps)).detach().clamp(-1, 1)
        xhat = (x - ch(mean, x)) * ch(torch.rsqrt(var + self.eps), x) + ch(shift, x)
        return xhat * ch(self.w, x) + ch(self.b, x)


@bug(
    "t5-bn-weight-after-bias",
    "batch_norm",
    "y = (x̂ + bias) · weight: the bias is added before the weight is multiplied.",
    right="the bias is multiplied by the weight / bias added before scaling / (x̂ + b)·w",
    wrong="weight and bias swapped, bias missing, 1 + weight",
    seen="a common slip",
)
class WeightAfterBias(Bn):
    def normalize(self, x, mean, var):
        return ((x - ch(mean, x)) * ch(torch.rsqrt(var + self.eps), x) + ch(self.b, x)) * ch(self.w, x)
