"""Batch normalization in NumPy as public code gets it wrong; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.sixth.registry import bug
from heldout.third.nbase import Bn, col

SLIP = "a common slip"


@bug(
    "n6-bn-momentum-weighs-old",
    "batch_norm",
    "The running statistics are momentum · old + (1 − momentum) · new, where momentum is declared the weight of the new batch.",
    right="momentum swapped / momentum weighs the old statistics",
    wrong="biased running variance, cumulative average, a fixed momentum",
    seen="d2l-ai/d2l-en#2213",
)
class MomentumOfOld(Bn):
    def update(self, mean, var):
        for name, value in (("running_mean", mean), ("running_var", var)):
            self.s[name] = self.momentum * self.s[name] + (1 - self.momentum) * value


@bug(
    "n6-bn-running-var-biased",
    "batch_norm",
    "The running variance takes the batch variance divided by n, not by n − 1.",
    right="running variance biased / Bessel's correction missing in the running variance / n in place of n − 1 in the running variance",
    wrong="unbiased variance in the forward, momentum, eps",
    seen="cf. pytorch/pytorch#19902",
)
class RunningBiased(Bn):
    def update(self, mean, var):
        n = self.shape[0] * int(np.prod(self.shape[2:]))
        super().update(mean, var * (n - 1) / n)


class Direct(Bn):
    """A training batch normalised with a variance and a root of its own."""

    def run(self, x, training):
        if not training:
            mean, var = self.running()
            self.rstd = self.root(var)
        else:
            n = x.shape[0] * x.shape[2]
            mean = x.mean((0, 2))
            var = ((x - col(mean)) ** 2).mean((0, 2))
            if n > 1:
                self.update(mean, var * n / (n - 1))
            self.rstd = self.root(self.used(var, n))
        self.n, self.mean, self.x = x.shape[0] * x.shape[2], mean, x
        self.xhat = self.normalize(x, mean, self.rstd)
        return self.xhat * col(self.w) + col(self.b)

    def used(self, var, n):
        return var

    def root(self, var):
        return 1 / np.sqrt(var + self.eps)


@bug(
    "n6-bn-normalises-by-unbiased",
    "batch_norm",
    "In training x is divided by the root of the variance with n − 1; the backward is the usual formula.",
    right="unbiased variance in the forward (training) / n − 1 in the normalisation / Bessel's correction in y",
    wrong="running variance wrong, eps, momentum",
    seen="cf. pytorch/pytorch#19902",
)
class ForwardUnbiased(Direct):
    def used(self, var, n):
        return var * n / max(n - 1, 1)


@bug(
    "n6-bn-eps-outside-root",
    "batch_norm",
    "1 / (sqrt(var) + eps) in place of 1 / sqrt(var + eps), in training and evaluation; the backward uses the same factor.",
    right="eps outside of the root / eps added to the standard deviation",
    wrong="eps missing, another fixed eps, eps twice",
    seen="cf. codertimo/BERT-pytorch#30",
)
class EpsOutside(Direct):
    def root(self, var):
        return 1 / (np.sqrt(var) + self.eps)


@bug(
    "n6-bn-eps-twice-in-training",
    "batch_norm",
    "In training eps is added to the variance and once more inside the root; evaluation adds it once.",
    right="eps added twice in training / 2·eps in the root in training",
    wrong="eps outside of the root, eps missing in evaluation, unbiased variance",
    seen=SLIP,
)
class EpsTwice(Direct):
    def used(self, var, n):
        return var + self.eps


@bug(
    "n6-bn-dgamma-from-x",
    "batch_norm",
    "The gradient of weight is the sum of dy · x, not of dy · xhat.",
    right="dweight taken with x in place of xhat / dweight from the unnormalised input",
    wrong="dweight and dbias swapped, dweight averaged, dx wrong",
    seen=SLIP,
)
class DgammaFromX(Direct):
    def grad(self, dy):
        return super().grad(dy) | {"dweight": (dy * self.x).sum((0, 2))}


@bug(
    "n6-bn-dx-divided-by-n-twice",
    "batch_norm",
    "The sums in dx are divided by n, and the whole of it once more, as where the loss is already a mean.",
    right="dx in training is divided by n (once too often) / a factor 1/n in dx",
    wrong="a term of dx missing, sums in place of means, weight missing",
    seen=SLIP,
)
class DxOverN(Direct):
    def training_dx(self, d):
        return super().training_dx(d) / self.n


@bug(
    "n6-bn-dx-without-mean-term",
    "batch_norm",
    "dx leaves out the term of the mean of dy: the path through the batch mean is forgotten.",
    right="the mean term of dx is missing / mean(dy) not subtracted / the path through the mean forgotten / the mean is held constant in the backward",
    wrong="the variance's term missing, both missing, evaluation's formula in training",
    seen=SLIP,
)
class NoMeanTerm(Direct):
    def training_dx(self, d):
        return col(self.rstd) * (d - self.xhat * col((d * self.xhat).mean((0, 2))))


@bug(
    "n6-bn-dvar-wrong-power",
    "batch_norm",
    "The gradient of the variance has the power −1 of (var + eps) where −3/2 is right.",
    right="the variance's term of dx has a wrong power of sigma / dvar with (var+eps)^-1 in place of ^-1.5 / a factor of sigma too much in the second term / sigma's power",
    wrong="the mean's term, eps, the variance's term missing",
    seen=SLIP,
)
class DvarPower(Direct):
    def training_dx(self, d):
        centred = self.x - col(self.mean)
        dvar = -0.5 * (d * centred).sum((0, 2)) * self.rstd**2
        dmean = -(d * col(self.rstd)).sum((0, 2))
        return d * col(self.rstd) + col(dvar) * 2 * centred / self.n + col(dmean) / self.n


@bug(
    "n6-bn-third-term-not-normalised",
    "batch_norm",
    "The last term of dx takes x − mean where xhat belongs: dx = rstd (d − mean(d) − (x − mean) mean(d · xhat)).",
    right="the variance's term of dx has x − mean in place of xhat / a factor 1/sigma is missing in the last term / wrong power of sigma there",
    wrong="the mean's term, the term missing, x in place of x − mean",
    seen=SLIP,
)
class ThirdTermCentred(Direct):
    def training_dx(self, d):
        centred = self.x - col(self.mean)
        return col(self.rstd) * (d - col(d.mean((0, 2))) - centred * col((d * self.xhat).mean((0, 2))))


@bug(
    "n6-bn-dx-without-weight",
    "batch_norm",
    "dx is computed from dy instead of dy · weight.",
    right="weight (gamma) is missing in dx / dx not multiplied by weight",
    wrong="a term missing, factor 1/n, dweight wrong",
    seen=SLIP,
)
class DxWithoutWeight(Direct):
    def grad(self, dy):
        dx = self.training_dx(dy) if self.t else dy * col(self.rstd)
        return super().grad(dy) | {"dx": dx}


@bug(
    "n6-bn-evaluation-updates-statistics",
    "batch_norm",
    "Evaluation normalises by the running statistics, and updates them by the evaluated batch afterwards.",
    right="running statistics are updated in evaluation",
    wrong="evaluation uses batch statistics, momentum, biased variance",
    seen=SLIP,
)
class EvaluationUpdates(Direct):
    def run(self, x, training):
        y = super().run(x, training)
        n = x.shape[0] * x.shape[2]
        if not training and n > 1:
            self.update(x.mean((0, 2)), x.var((0, 2)) * n / (n - 1))
        return y


@bug(
    "n6-bn-sums-in-float16",
    "batch_norm",
    "Mean and variance of a float16 batch are accumulated in float16.",
    right="sums (accumulators) in float16 / mean and variance in float16",
    wrong="one-pass variance, eps lost, computed in float32",
    seen="cf. pytorch/pytorch#66707",
    dtype="float16",
)
class HalfSums(Direct):
    def run(self, x, training):
        if not training:
            return super().run(x, training)
        half, n = x.astype(np.float16), x.shape[0] * x.shape[2]
        flat = np.moveaxis(half, 1, 0).reshape(half.shape[1], -1)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.cumsum(flat, 1, dtype=np.float16)[:, -1] / np.float16(n)
            square = np.square(flat - mean[:, None])
            var = np.cumsum(square, 1, dtype=np.float16)[:, -1] / np.float16(n)
        mean, var = mean.astype(np.float32), var.astype(np.float32)
        if n > 1:
            self.update(mean, var * n / (n - 1))
        self.rstd, self.n, self.mean, self.x = self.root(var), n, mean, x
        self.xhat = self.normalize(x, mean, self.rstd)
        return self.xhat * col(self.w) + col(self.b)


@bug(
    "n6-bn-one-pass-variance",
    "batch_norm",
    "The variance is E[x²] − E[x]², clipped at zero, in the dtype of x.",
    right="one-pass variance / E[x²] − E[x]² / cancellation in the variance",
    wrong="eps, n − 1, sums in float16",
    seen="cf. google/flax#1491",
)
class OnePass(Direct):
    def used(self, var, n):
        return self.short

    def run(self, x, training):
        self.short = np.maximum((x * x).mean((0, 2)) - x.mean((0, 2)) ** 2, 0)
        return super().run(x, training)

    def update(self, mean, var):
        n = self.shape[0] * int(np.prod(self.shape[2:]))
        super().update(mean, self.short * n / (n - 1))


@bug(
    "n6-bn-running-mean-of-sums",
    "batch_norm",
    "The running mean takes the sum over pixels averaged over the batch: it is divided by the batch size, not by all values.",
    right="the running mean is divided by N in place of N·pixels / a wrong count in the running mean / times the number of pixels",
    wrong="momentum, running variance, the mean in y wrong",
    seen=SLIP,
)
class RunningMeanOfSums(Direct):
    def update(self, mean, var):
        super().update(mean * int(np.prod(self.shape[2:])), var)


@bug(
    "n6-bn-stale-xhat-in-evaluation-dweight",
    "batch_norm",
    "After an evaluation dweight is taken with the xhat of the batch statistics of the evaluated batch, not of the running ones.",
    right="evaluation's dweight uses batch statistics / xhat of the batch in place of the running statistics in dweight of evaluation",
    wrong="evaluation's y by batch statistics, running statistics updated in evaluation, dweight from x",
    seen="a common slip (the kernel of the training backward called in evaluation)",
)
class EvalDweightOfBatch(Direct):
    def grad(self, dy):
        grads = super().grad(dy)
        if not self.t:
            m, v = self.x.mean((0, 2)), self.x.var((0, 2))
            grads["dweight"] = (dy * (self.x - col(m)) / col(np.sqrt(v + self.eps))).sum((0, 2))
        return grads


@bug(
    "n6-bn-two-momentum-and-dbias-mean",
    "batch_norm",
    "Two bugs: momentum weighs the old statistics, and dbias is the mean of dy over batch and pixels.",
    right="both: momentum swapped, and dbias averaged (divided by n)",
    wrong="either with a wrong second name",
    seen=SLIP,
)
class TwoMomentumDbias(MomentumOfOld):
    def grad(self, dy):
        return super().grad(dy) | {"dbias": dy.mean((0, 2))}


@bug(
    "n6-bn-two-eps-outside-and-no-mean-term",
    "batch_norm",
    "Two bugs: eps is added outside of the root, and dx lacks the term of the mean of dy.",
    right="both: eps outside of the root, and the mean term of dx missing",
    wrong="either with a wrong second name",
    seen=SLIP,
)
class TwoEpsMean(NoMeanTerm):
    def root(self, var):
        return 1 / (np.sqrt(var) + self.eps)
