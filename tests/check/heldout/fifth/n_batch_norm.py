"""Batch normalization in NumPy, each wrong in one thing; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.fifth.registry import bug
from heldout.third.nbase import Bn, col

G = "https://github.com/"


@bug(
    "n5-bn-eval-dx-times-std",
    "batch_norm",
    "In evaluation, dx is multiplied by the standard deviation where it should be divided by it.",
    right="evaluation's dx is multiplied by the standard deviation / divided by rstd, not multiplied / std and rstd mixed up in the evaluation backward",
    wrong="eps of the evaluation, the training formula in evaluation, a wrong running variance",
    seen=G + "soumith/cudnn.torch/issues/244",
)
class EvalDxTimesStd(Bn):
    def grad(self, dy):
        grads = super().grad(dy)
        if not self.t:
            grads["dx"] = dy * col(self.w) / col(self.rstd)
        return grads


@bug(
    "n5-bn-eval-dx-stale-rstd",
    "batch_norm",
    "The reciprocal deviation for the backward is saved in training alone; dx after an evaluation uses that of the last training batch (ones before any).",
    right="evaluation's dx uses the rstd of the last training batch / a saved statistic that evaluation does not renew / stale rstd",
    wrong="the training formula (mean terms) in evaluation, eps, momentum",
    seen=G + "torch/nn/pull/768",
)
class EvalDxStaleRstd(Bn):
    def load(self, params, state):
        super().load(params, state)
        self.saved_rstd = np.ones_like(self.w)

    def run(self, x, training):
        y = super().run(x, training)
        if training:
            self.saved_rstd = self.rstd
        return y

    def grad(self, dy):
        grads = super().grad(dy)
        if not self.t:
            grads["dx"] = dy * col(self.w) * col(self.saved_rstd)
        return grads


@bug(
    "n5-bn-backward-no-eps",
    "batch_norm",
    "The backward computes 1/sqrt(var) anew and forgets eps; the forward has it.",
    right="eps is missing in the backward only / dx divides by sqrt(var) without eps",
    wrong="eps missing in the forward, eps outside the root in the forward, a built-in eps everywhere",
    seen="a common slip",
)
class BackwardNoEps(Bn):
    def run(self, x, training):
        self.var = x.var((0, 2))
        return super().run(x, training)

    def training_dx(self, d):
        with np.errstate(divide="ignore", invalid="ignore"):
            rstd = self.var**-0.5
            return col(rstd) * (d - col(d.mean((0, 2))) - self.xhat * col((d * self.xhat).mean((0, 2))))


@bug(
    "n5-bn-backward-divides-by-batch",
    "batch_norm",
    "The sums of dx run over batch and pixels but are divided by the batch size alone, as in the fully connected code.",
    right="dx's sums are divided by N instead of N times pixels / the count of the backward leaves out the pixels / N in place of N·P",
    wrong="sums instead of means (divided by nothing), n − 1 in place of n, a term forgotten",
    seen="a common slip (the formula of cs231n's batchnorm_backward taken over to images)",
)
class BackwardDividesByBatch(Bn):
    def training_dx(self, d):
        n = d.shape[0]
        return col(self.rstd) / n * (n * d - col(d.sum((0, 2))) - self.xhat * col((d * self.xhat).sum((0, 2))))


@bug(
    "n5-bn-blends-std",
    "batch_norm",
    "The running average is taken of the standard deviations and squared afterwards, instead of the average of the variances.",
    right="standard deviations are averaged, not variances / the running variance is the square of a running std / blend of roots",
    wrong="the state holds the standard deviation itself, momentum swapped, biased variance",
    seen="a common slip",
)
class BlendsStd(Bn):
    def update(self, mean, var):
        kept = np.sqrt(self.s["running_var"])
        super().update(mean, var)
        std = (1 - self.momentum) * kept + self.momentum * np.sqrt(var)
        self.s["running_var"] = (std**2).astype(kept.dtype)


@bug(
    "n5-bn-var-about-running-mean",
    "batch_norm",
    "What is blended into the running variance is the mean square distance from the running mean (already updated), not from the batch mean.",
    right="the running variance is taken about the running mean / squared deviations from the running mean instead of the batch mean",
    wrong="biased or unbiased, momentum, second moment E[x²]",
    seen="a common slip",
)
class VarAboutRunningMean(Bn):
    def run(self, x, training):
        self.seen = x
        return super().run(x, training)

    def update(self, mean, var):
        kept = self.s["running_var"]
        super().update(mean, var)
        d = self.seen - col(self.s["running_mean"]).astype(self.seen.dtype)
        n = self.seen.shape[0] * self.seen.shape[2]
        around = (d**2).sum((0, 2)) / (n - 1)
        self.s["running_var"] = ((1 - self.momentum) * kept + self.momentum * around).astype(kept.dtype)


@bug(
    "n5-bn-dweight-from-output",
    "batch_norm",
    "dweight takes y − bias for x̂ to save memory and forgets to divide by the weight.",
    right="dweight is summed with y − bias (weight · x̂) instead of x̂ / dweight is too large by the factor weight / dweight not divided by weight",
    wrong="dweight of x in place of x̂, dbias wrong",
    seen="a common slip of in-place batch norm, which rebuilds x̂ from y",
)
class DweightFromOutput(Bn):
    def run(self, x, training):
        self.y = super().run(x, training)
        return self.y

    def grad(self, dy):
        grads = super().grad(dy)
        grads["dweight"] = (dy * (self.y - col(self.b))).sum((0, 2))
        return grads


@bug(
    "n5-bn-tracks-var-plus-eps",
    "batch_norm",
    "eps is added to the batch variance before it is stored, so the running variance holds var + eps (and evaluation adds eps again).",
    right="the running variance contains eps / var + eps is tracked / eps is added to the stored variance",
    wrong="eps missing in evaluation, eps doubled in training, biased variance",
    seen="a common slip",
)
class TracksVarPlusEps(Bn):
    def update(self, mean, var):
        super().update(mean, var + self.eps)


@bug(
    "n5-bn-backward-xhat-term-unbiased",
    "batch_norm",
    "In dx, the term with x̂ is divided by n − 1 while everything else, the forward too, uses n.",
    right="the x̂ term (variance term) of dx is divided by n − 1 / Bessel's correction in the backward's variance term",
    wrong="an unbiased variance in the forward, the mean term of dx wrong, a term forgotten",
    seen="a common slip",
)
class XhatTermUnbiased(Bn):
    def training_dx(self, d):
        n = d.shape[0] * d.shape[2]
        second = (d * self.xhat).sum((0, 2)) / max(n - 1, 1)
        return col(self.rstd) * (d - col(d.mean((0, 2))) - self.xhat * col(second))


@bug(
    "n5-bn-folded-shift-without-weight",
    "batch_norm",
    "Evaluation is folded into scale and shift, and the shift is bias − mean · rstd: the weight is missing in it.",
    right="in evaluation the running mean is subtracted without the weight / shift = bias − mean·rstd lacks the weight / the mean's part of the folded shift is not multiplied by weight",
    wrong="the bias is scaled, evaluation uses batch statistics, eps",
    seen=G + "ultralytics/yolov3/issues/807",
)
class FoldedShift(Bn):
    def run(self, x, training):
        y = super().run(x, training)
        if not training:
            mean, _ = self.running()
            y = x * col(self.w * self.rstd) + col(self.b - mean * self.rstd)
        return y


@bug(
    "n5-bn-eval-bessel-again",
    "batch_norm",
    "Evaluation multiplies the running variance, which is unbiased already, by n/(n − 1) of the batch at hand, as the paper's m/(m − 1) is read.",
    right="Bessel's correction is applied (again) to the running variance in evaluation / evaluation scales the running variance by n/(n − 1)",
    wrong="biased running variance in training, momentum, eps",
    seen="cf. " + G + "ml-explore/mlx/pull/3817",
)
class EvalBesselAgain(Bn):
    def running(self):
        n = self.count
        return self.s["running_mean"], self.s["running_var"] * (n / max(n - 1, 1))

    def run(self, x, training):
        self.count = x.shape[0] * x.shape[2]
        return super().run(x, training)


@bug(
    "n5-bn-two-dbias-mean-and-bessel-batch",
    "batch_norm",
    "TWO: the bias gradient is averaged over the batch instead of summed, and Bessel's correction of the running variance uses the batch size without the pixels.",
    right="both: dbias is a mean over the batch / divided by N, and running variance corrected with N/(N − 1) instead of N·P/(N·P − 1); one of them alone is half right",
    wrong="anything that is neither of the two",
    seen="a common slip, twice",
)
class TwoBn(Bn):
    def run(self, x, training):
        self.batch = x.shape[0], x.shape[0] * x.shape[2]
        return super().run(x, training)

    def update(self, mean, var):
        n, count = self.batch
        biased = var * (count - 1) / count
        super().update(mean, biased * n / max(n - 1, 1))

    def grad(self, dy):
        grads = super().grad(dy)
        grads["dbias"] = dy.sum(2).mean(0)
        return grads
