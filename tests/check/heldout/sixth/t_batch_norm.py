"""Batch normalization in PyTorch as public code gets it wrong; gradients by autograd."""

from __future__ import annotations

import torch

from heldout.sixth.registry import bug
from heldout.third.tbase import Bn, ch

SLIP = "a common slip"


def axes_of(x):
    """Every axis but that of the channels."""
    return 0, *range(2, x.ndim)


class Stepwise(Bn):
    """Batch norm in steps, in the dtype of x."""

    def compute(self, x, training):
        if not training:
            return self.normalize(x, self.s["running_mean"].to(x.dtype), self.s["running_var"].to(x.dtype))
        n = x.numel() // x.shape[1]
        if n == 1:
            raise ValueError("Expected more than 1 value per channel when training")
        mean = x.mean(axes_of(x))
        var = self.variance(x, mean)
        self.track(mean.detach(), var.detach(), n)
        return self.normalize(x, *self.used(mean, var, n))

    def variance(self, x, mean):
        return (x - ch(mean, x)).square().mean(axes_of(x))

    def used(self, mean, var, n):
        return mean, var


@bug(
    "t6-bn-var-default",
    "batch_norm",
    "x.var(...) with its default n − 1 both normalises the batch and goes into the running variance (which is right there).",
    right="unbiased variance in the forward (training) / n − 1 in the normalisation / Bessel's correction in y",
    wrong="running variance wrong, eps",
    seen="cf. pytorch/pytorch#19902",
)
class VarDefault(Stepwise):
    def used(self, mean, var, n):
        return mean, var * n / (n - 1)


@bug(
    "t6-bn-statistics-detached",
    "batch_norm",
    "Mean and variance are computed under no_grad: no gradient runs through them.",
    right="statistics detached / mean and variance constant in the backward / evaluation's formula of dx in training",
    wrong="only one of the two detached, weight missing",
    seen=SLIP,
)
class Detached(Stepwise):
    def used(self, mean, var, n):
        return mean.detach(), var.detach()


@bug(
    "t6-bn-variance-detached",
    "batch_norm",
    "The variance is detached (it was computed for the running statistics first), the mean is not.",
    right="the variance is detached / constant in the backward / the variance's term of dx missing",
    wrong="the mean detached, both detached",
    seen=SLIP,
)
class VarianceDetached(Stepwise):
    def used(self, mean, var, n):
        return mean, var.detach()


@bug(
    "t6-bn-always-batch-statistics",
    "batch_norm",
    "The flag of training is not looked at: evaluation normalises by the statistics of its batch (and leaves the running ones).",
    right="evaluation uses batch statistics / training's statistics in evaluation / track_running_stats off",
    wrong="running statistics updated in evaluation, momentum",
    seen=SLIP,
)
class AlwaysBatch(Stepwise):
    def compute(self, x, training):
        if training:
            return super().compute(x, training)
        mean = x.mean(axes_of(x))
        return self.normalize(x, mean, self.variance(x, mean))


@bug(
    "t6-bn-never-updates",
    "batch_norm",
    "The new running statistics are computed into local names: the buffers never change.",
    right="running statistics are not updated / stay as they were loaded",
    wrong="momentum swapped, evaluation by batch statistics",
    seen=SLIP,
)
class NeverUpdates(Stepwise):
    def blend(self, name, value):
        value = (1 - self.momentum) * self.s[name] + self.momentum * value


@bug(
    "t6-bn-average-of-within-sample-variances",
    "batch_norm",
    "The variance is the mean over the batch of each sample's own variance about its own mean; what lies between samples is lost.",
    right="variance within the samples only, averaged over the batch / spread between samples (of the samples' means) missing / per-device variances averaged",
    wrong="instance norm altogether, unbiased, one-pass",
    seen="cf. pytorch/pytorch#36688 (statistics of shards averaged)",
)
class WithinSamples(Stepwise):
    def variance(self, x, mean):
        f = x.reshape(*x.shape[:2], -1)
        return f.var(2, unbiased=False).mean(0)


@bug(
    "t6-bn-one-pass",
    "batch_norm",
    "var = E[x²] − E[x]², in float32, without a clamp.",
    right="one-pass variance / E[x²] − E[x]² / cancellation in the variance / NaN from a negative variance",
    wrong="eps, unbiased",
    seen="cf. google/flax#1491",
)
class OnePass(Stepwise):
    def variance(self, x, mean):
        return x.square().mean(axes_of(x)) - mean.square()


@bug(
    "t6-bn-bessel-twice",
    "batch_norm",
    "The running variance takes x.var() (n − 1) and multiplies it by n / (n − 1) again.",
    right="Bessel's correction twice in the running variance / n/(n−1) squared",
    wrong="biased, unbiased in the forward, momentum",
    seen=SLIP,
)
class BesselTwice(Stepwise):
    def track(self, mean, var, n):
        super().track(mean, var * n / (n - 1), n)


@bug(
    "t6-bn-running-std",
    "batch_norm",
    "The running variance is fed with standard deviations; evaluation takes it for a variance.",
    right="the standard deviation is stored in the running variance / root in the running variance",
    wrong="biased, momentum, eps",
    seen=SLIP,
)
class RunningStd(Stepwise):
    def track(self, mean, var, n):
        self.blend("running_mean", mean)
        self.blend("running_var", (var * n / (n - 1)).sqrt())


@bug(
    "t6-bn-weight-and-bias-swapped",
    "batch_norm",
    "y = xhat · bias + weight: the two parameters are exchanged where they are passed on.",
    right="weight and bias swapped",
    wrong="affine missing, only gradients swapped",
    seen=SLIP,
)
class Swapped(Stepwise):
    def normalize(self, x, mean, var):
        return (x - ch(mean, x)) * ch(torch.rsqrt(var + self.eps), x) * ch(self.b, x) + ch(self.w, x)


@bug(
    "t6-bn-updated-twice",
    "batch_norm",
    "The running statistics are updated twice in each training step (the forward runs again under checkpointing).",
    right="running statistics are updated twice a step",
    wrong="momentum swapped, another momentum, cumulative average",
    seen="pytorch/pytorch#96136",
)
class UpdatedTwice(Stepwise):
    def track(self, mean, var, n):
        super().track(mean, var, n)
        super().track(mean, var, n)


@bug(
    "t6-bn-eps-and-momentum-exchanged",
    "batch_norm",
    "Positional arguments: momentum arrives as eps and eps as momentum.",
    right="eps and momentum exchanged (both)",
    wrong="only one of them named with a wrong cause, momentum swapped (1 − m)",
    seen=SLIP,
)
class EpsMomentum(Stepwise):
    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.eps, self.momentum = self.momentum, self.eps


@bug(
    "t6-bn-evaluation-without-eps",
    "batch_norm",
    "Evaluation (the folded form) divides by sqrt(running_var) without eps.",
    right="eps missing in evaluation",
    wrong="eps outside of the root, eps missing in training too",
    seen="a common slip (folding into a convolution)",
)
class EvaluationWithoutEps(Stepwise):
    def compute(self, x, training):
        if training:
            return super().compute(x, training)
        scale = self.w / self.s["running_var"].to(x.dtype).sqrt()
        return x * ch(scale, x) + ch(self.b - self.s["running_mean"].to(x.dtype) * scale, x)


@bug(
    "t6-bn-buffers-in-float32",
    "batch_norm",
    "The running statistics are kept in float32 though everything is in float64.",
    right="running statistics kept in float32 / state loses digits / computed in float32 (the state)",
    wrong="everything in float32, momentum",
    seen=SLIP,
    dtype="float64",
)
class Float32Buffers(Stepwise):
    def blend(self, name, value):
        super().blend(name, value)
        self.s[name] = self.s[name].float().to(value.dtype)


@bug(
    "t6-bn-cumulative",
    "batch_norm",
    "momentum=None: the t-th batch has the weight 1/t, a cumulative average.",
    right="cumulative average / weight 1/t in place of momentum / momentum ignored in favour of 1/steps",
    wrong="momentum swapped, first batch copied",
    seen="PyTorch's momentum=None",
)
class Cumulative(Stepwise):
    steps = 0

    def track(self, mean, var, n):
        self.steps += 1
        self.momentum = 1 / self.steps
        super().track(mean, var, n)


@bug(
    "t6-bn-evaluation-variance-multiplied",
    "batch_norm",
    "In evaluation x − mean is multiplied by sqrt(var + eps), not divided.",
    right="evaluation multiplies by the standard deviation / sqrt in place of rsqrt in evaluation",
    wrong="eps, training too",
    seen=SLIP,
)
class EvaluationMultiplies(Stepwise):
    def compute(self, x, training):
        if training:
            return super().compute(x, training)
        mean, var = self.s["running_mean"].to(x.dtype), self.s["running_var"].to(x.dtype)
        return (x - ch(mean, x)) * ch(torch.sqrt(var + self.eps), x) * ch(self.w, x) + ch(self.b, x)


@bug(
    "t6-bn-last-axis-left-out-of-variance",
    "batch_norm",
    "For images the variance's axes are (0, 2): the last one is averaged as deviations first (mean over W inside the square).",
    right="the variance is of the means over the last axis / the width averaged before squaring / spread along the last axis missing",
    wrong="variance within the samples, unbiased, one-pass",
    seen="a common slip (axes written for (N, C, L))",
)
class LastAxisInside(Stepwise):
    def variance(self, x, mean):
        if x.ndim < 4:
            return super().variance(x, mean)
        return (x - ch(mean, x)).mean(3).square().mean((0, 2))


@bug(
    "t6-bn-two-biased-and-updated-in-evaluation",
    "batch_norm",
    "Two bugs: the running variance is biased, and evaluation updates the running statistics.",
    right="both: running variance biased, and running statistics updated in evaluation",
    wrong="either with a wrong second name",
    seen=SLIP,
)
class TwoBiasedUpdated(Stepwise):
    def track(self, mean, var, n):
        self.blend("running_mean", mean)
        self.blend("running_var", var)

    def compute(self, x, training):
        y = super().compute(x, training)
        if not training:
            mean = x.mean(axes_of(x)).detach()
            self.track(mean, self.variance(x, mean).detach(), 0)
        return y


@bug(
    "t6-bn-two-swapped-momentum-and-detached",
    "batch_norm",
    "Two bugs: momentum weighs the old statistics, and mean and variance are detached.",
    right="both: momentum swapped, and statistics detached (constant in the backward)",
    wrong="either with a wrong second name",
    seen=SLIP,
)
class TwoMomentumDetached(Detached):
    def blend(self, name, value):
        self.s[name] = self.momentum * self.s[name] + (1 - self.momentum) * value
