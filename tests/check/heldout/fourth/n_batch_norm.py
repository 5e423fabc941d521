"""Batch normalization by hand, each wrong in one thing."""

from __future__ import annotations

import numpy as np

from heldout.fourth.registry import bug
from heldout.third import nbase
from heldout.third.nbase import col


class Staged(nbase.Bn):
    """The backward pass goes through the variance and the mean one after the other."""

    def normalize(self, x, mean, rstd):
        self.diff = x - col(mean)
        return self.diff * col(rstd)

    def training_dx(self, d):
        n = d.shape[0] * d.shape[2]
        dvar = self.dvar((d * self.diff).sum((0, 2)))
        dmean = -(d * col(self.rstd)).sum((0, 2))
        return d * col(self.rstd) + col(dvar) * 2 * self.diff / n + col(dmean) / n

    def dvar(self, total):
        return -0.5 * total * self.rstd**3


@bug(
    "n4-bn-dx-count-batch",
    "batch_norm",
    "the closed form of dx divides its two sums by the batch size N instead of by N·H·W",
    right="dx: the count is the batch size, not N times the pixels / the sums in dx are divided by N alone / the two "
    "reductions of dx (of d and of d·xhat) are too large by the number of pixels / sums over pixels where means "
    "belong",
    wrong="a missing term / a missing weight / a wrong variance or count in the forward pass",
    seen="linkedin/Liger-Kernel#1376 is its like in group norm; a common slip",
)
class DxCountBatch(nbase.Bn):
    def training_dx(self, d):
        n = d.shape[0]
        total, dot = d.sum((0, 2)), (d * self.xhat).sum((0, 2))
        return col(self.rstd) / n * (n * d - col(total) - self.xhat * col(dot))


@bug(
    "n4-bn-dx-scale-one-term",
    "batch_norm",
    "in training, dx multiplies by weight in the two averaged terms but not in the direct one",
    right="dx: the weight (gamma) is missing in the direct term / the direct term takes dy in place of dy·weight",
    wrong="the weight is missing in the whole of dx / another term is missing",
    seen="ROCm/MIOpen#104",
)
class DxScaleOneTerm(nbase.Bn):
    def grad(self, dy):
        grads = super().grad(dy)
        if self.t:
            d = dy * col(self.w)
            mean, dot = d.mean((0, 2)), (d * self.xhat).mean((0, 2))
            grads["dx"] = col(self.rstd) * (dy - col(mean) - self.xhat * col(dot))
        return grads


@bug(
    "n4-bn-saved-rstd-as-variance",
    "batch_norm",
    "the training backward takes the saved 1/std for a variance and computes 1/sqrt(saved + eps) from it again",
    right="backward: 1/std is computed from the saved 1/std as if it were the variance / rsqrt applied twice / "
    "backward uses another 1/std than forward, in dx and in dweight / the standard deviation of the backward is "
    "wrong",
    wrong="a missing term of dx / only dweight or only dx is said to be wrong for another reason / the forward",
    seen="flagos-ai/FlagGems#5222",
)
class SavedRstdAsVariance(Staged):
    def grad(self, dy):
        if not self.t:
            return super().grad(dy)
        inv = col(1 / np.sqrt(self.rstd + self.rstd.dtype.type(self.eps)))
        xhat, d = self.diff * inv, dy * col(self.w)
        dx = inv * (d - col(d.mean((0, 2))) - xhat * col((d * xhat).mean((0, 2))))
        return {"dx": dx, "dweight": (dy * xhat).sum((0, 2)), "dbias": dy.sum((0, 2))}


@bug(
    "n4-bn-eval-backward-of-training",
    "batch_norm",
    "the backward after an evaluation uses the training formula: it takes the frozen statistics for functions of x",
    right="the training formula of dx in the backward of evaluation / dx of evaluation has the mean and variance terms",
    wrong="any cause in the forward or in the training backward",
    seen="pytorch/xla#913, vlfeat/matconvnet#1174",
)
class EvalBackwardOfTraining(nbase.Bn):
    def grad(self, dy):
        grads = super().grad(dy)
        return grads | {"dx": self.training_dx(dy * col(self.w))}


@bug(
    "n4-bn-running-std",
    "batch_norm",
    "the moving average is taken of the standard deviation, which is squared where the variance is needed",
    right="the running average is of the standard deviation (its square is stored) / std averaged instead of variance",
    wrong="biased or unbiased / momentum swapped / another start / a wrong momentum",
    seen="torch/nn#567, where 1/std is averaged",
)
class RunningStd(nbase.Bn):
    def update(self, mean, var):
        old, m = self.s["running_var"], self.momentum
        super().update(mean, var)
        std = (1 - m) * np.sqrt(old) + m * np.sqrt(var)
        self.s["running_var"] = (std**2).astype(old.dtype)


@bug(
    "n4-bn-running-var-about-running-mean",
    "batch_norm",
    "the variance that enters the running variance is taken about the running mean, not about the batch's mean",
    right="the running variance takes deviations from the running mean (old or new) / is not centred on the batch "
    "mean / has the squared distance of the batch mean from the running mean in it",
    wrong="biased or unbiased / momentum swapped / eps in it / E[x²] stored without any centring",
    seen="a common slip",
)
class RunningVarAboutRunningMean(nbase.Bn):
    def run(self, x, training):
        self.x = x
        return super().run(x, training)

    def update(self, mean, var):
        n = self.x.shape[0] * self.x.shape[2]
        super().update(mean, ((self.x - col(self.s["running_mean"])) ** 2).sum((0, 2)) / (n - 1))


@bug(
    "n4-bn-dvar-without-half",
    "batch_norm",
    "the derivative of (var + eps)^(-1/2) lacks its factor 1/2, so the variance term of dx is doubled",
    right="dx: the variance term is twice what it should be / a factor 1/2 is missing in dvar / the term of xhat is "
    "doubled",
    wrong="the variance term is missing / the mean term is wrong / a wrong count",
    seen="a common slip",
)
class DvarWithoutHalf(Staged):
    def dvar(self, total):
        return -total * self.rstd**3


@bug(
    "n4-bn-xhat-scaled-in-place",
    "batch_norm",
    "weight and bias are applied in place to the array that is kept as xhat, so backward takes y for xhat",
    right="backward uses y (after the affine map) in place of xhat / the cached xhat was overwritten in place",
    wrong="a wrong forward / a missing term / dweight without 1/std",
    seen="a common slip of in-place code",
)
class XhatScaledInPlace(nbase.Bn):
    def run(self, x, training):
        super().run(x, training)
        y = self.xhat
        y *= col(self.w)
        y += col(self.b)
        return y


@bug(
    "n4-bn-running-var-with-eps",
    "batch_norm",
    "eps is added to the variance before the running variance is updated, so the stored variance contains eps",
    right="the running variance contains eps / eps is added twice in evaluation, once by way of the state",
    wrong="biased or unbiased / momentum / eps wrong in the training output",
    seen="a common slip",
)
class RunningVarWithEps(nbase.Bn):
    def update(self, mean, var):
        n = self.shape[0] * int(np.prod(self.shape[2:]))
        biased = var * (n - 1) / n + self.eps
        super().update(mean, biased * n / (n - 1))


@bug(
    "n4-bn-running-var-biased",
    "batch_norm",
    "the running variance is updated with the biased variance (divided by n), though the layer says unbiased",
    right="the running variance is biased / it is divided by n where n - 1 belongs / Bessel's correction is missing",
    wrong="momentum / the training output's variance is wrong",
    seen="brainpy/BrainPy#843, ml-explore/mlx#3817",
)
class RunningVarBiased(nbase.Bn):
    def update(self, mean, var):
        n = self.shape[0] * int(np.prod(self.shape[2:]))
        super().update(mean, var * (n - 1) / n)
