"""Batch normalization in NumPy as public code gets it wrong; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.seventh.registry import bug
from heldout.third.nbase import Bn, col

SLIP = "a common slip"


@bug(
    "n7-bn-count-of-the-batch",
    "batch_norm",
    "The backward of the two-dimensional case, (N·d − Σd − xhat·Σ(d·xhat)) / N, is kept for images, with N = x.shape[0]: the "
    "pixels are not counted.",
    right="dx: the sums are divided by the batch size in place of the number of values / wrong count of values in dx / "
    "the terms of dx are sums over the pixels, not means",
    wrong="a term of dx missing, statistics, unbiased variance",
    seen="the backward of course notes for (N, D), used for (N, C, H, W)",
)
class CountOfBatch(Bn):
    def training_dx(self, d):
        n = d.shape[0]
        return col(self.rstd) / n * (n * d - col(d.sum((0, 2))) - self.xhat * col((d * self.xhat).sum((0, 2))))


@bug(
    "n7-bn-running-var-with-eps",
    "batch_norm",
    "eps is added to the variance in place, before the running variance takes it.",
    right="running variance holds eps / eps is added to the running variance",
    wrong="biased or unbiased running variance, eps outside of the root, momentum",
    seen="keras-team/keras-contrib#287",
)
class VarWithEps(Bn):
    def update(self, mean, var):
        super().update(mean, var + self.eps)


@bug(
    "n7-bn-first-batch-copied",
    "batch_norm",
    "The first training step copies the batch's statistics into the running ones, whatever they were; momentum is used from the second.",
    right="the first update copies the batch's statistics / momentum ignored in the first step / running statistics "
    "initialised by the first batch",
    wrong="momentum swapped, running statistics never updated, cumulative average",
    seen="a common initialisation of a moving average",
)
class FirstCopied(Bn):
    def load(self, params, state):
        super().load(params, state)
        self.steps = 0

    def update(self, mean, var):
        self.steps += 1
        if self.steps > 1:
            return super().update(mean, var)
        self.s = {k: v.astype(self.s[k].dtype) for k, v in (("running_mean", mean), ("running_var", var))}


@bug(
    "n7-bn-rstd-kept-for-evaluation",
    "batch_norm",
    "1/σ is computed where the batch's variance is, and kept: evaluation after a training step takes the running mean, but the last batch's 1/σ.",
    right="evaluation normalises by the last training batch's variance / evaluation uses the running mean with a batch's variance / "
    "the running variance is not used in evaluation after training",
    wrong="running mean not used, batch statistics of the evaluated batch, running variance wrong",
    seen=SLIP,
)
class RstdKept(Bn):
    def load(self, params, state):
        super().load(params, state)
        self.last = None

    def running(self):
        mean, var = super().running()
        return mean, var if self.last is None else self.last

    def update(self, mean, var):
        super().update(mean, var)
        n = self.shape[0] * int(np.prod(self.shape[2:]))
        self.last = var * (n - 1) / n


@bug(
    "n7-bn-variance-of-samples",
    "batch_norm",
    "The variance is the mean over the batch of each sample's own variance; what lies between the samples' means is missing. The backward "
    "is the usual one.",
    right="the average of the samples' variances / the variance within each sample / statistics of each sample averaged, without the "
    "spread of the means",
    wrong="unbiased variance, instance norm throughout, eps",
    seen="data-parallel code that averages variances, see NVIDIA/apex's SyncBatchNorm by Welford for the right merge",
)
class VarianceOfSamples(Bn):
    def run(self, x, training):
        if not training:
            return super().run(x, training)
        n = x.shape[0] * x.shape[2]
        mean = x.mean((0, 2))
        var = x.var(2).mean(0) if x.shape[2] > 1 else x.var(0).mean(1)
        if n > 1:
            self.update(mean, var * n / (n - 1))
        self.rstd = 1 / np.sqrt(var + self.eps)
        self.xhat = self.normalize(x, mean, self.rstd)
        return self.xhat * col(self.w) + col(self.b)


@bug(
    "n7-bn-parameter-gradients-averaged-over-batch",
    "batch_norm",
    "dweight and dbias are sums over the pixels, but means over the batch.",
    right="dweight and dbias are divided by the batch size / parameter gradients averaged over the batch",
    wrong="one of the two alone, divided by the number of values, overwritten",
    seen="a loss that is a sum, and a layer that takes the mean once more",
)
class GradsOverBatch(Bn):
    def grad(self, dy):
        grads = super().grad(dy)
        return grads | {k: grads[k] / len(dy) for k in ("dweight", "dbias")}
