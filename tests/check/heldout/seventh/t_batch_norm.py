"""Batch normalization in PyTorch as public code gets it wrong; gradients by autograd."""

from __future__ import annotations

import torch

from heldout.seventh.registry import bug
from heldout.third.tbase import Bn, ch

SLIP = "a common slip"


@bug(
    "t7-bn-denominator-squared",
    "batch_norm",
    "Divides by (var + eps)², where the root was meant.",
    right="(var + eps)² in place of the root / wrong power of the variance / the square in place of the root",
    wrong="eps outside of the root, the root missing (var + eps), unbiased",
    seen="jax-ml/jax#442",
)
class DenominatorSquared(Bn):
    def normalize(self, x, mean, var):
        return (x - ch(mean, x)) / ch((var + self.eps) ** 2, x) * ch(self.w, x) + ch(self.b, x)


@bug(
    "t7-bn-mean-under-no-grad",
    "batch_norm",
    "The batch's mean is computed under no_grad, with the running statistics; the variance is differentiated, with that mean as a constant.",
    right="the mean is detached / no gradient through the mean",
    wrong="the variance detached, both detached, the backward of evaluation",
    seen=SLIP,
)
class MeanNoGrad(Bn):
    def compute(self, x, training):
        if not training:
            return super().compute(x, training)
        axes = (0, *range(2, x.ndim))
        n = x.numel() // x.shape[1]
        if n == 1:
            raise ValueError("Expected more than 1 value per channel when training")
        kind, x = x.dtype, x.float() if x.dtype == torch.float16 else x
        with torch.no_grad():
            mean = x.mean(axes)
            self.track(mean, x.var(axes, unbiased=False), n)
        var = (x - ch(mean, x)).square().mean(axes)
        return self.normalize(x, mean, var).to(kind)


@bug(
    "t7-bn-weight-by-its-size",
    "batch_norm",
    "y takes |weight| + eps in place of the weight, as a layer that is inverted in place does.",
    right="the weight's absolute value / |weight| / the weight's sign is lost",
    wrong="weight missing, swapped",
    seen="mapillary/inplace_abn",
)
class WeightSize(Bn):
    def normalize(self, x, mean, var):
        xhat = (x - ch(mean, x)) * ch(torch.rsqrt(var + self.eps), x)
        return xhat * (ch(self.w, x).abs() + self.eps) + ch(self.b, x)


@bug(
    "t7-bn-eps-in-and-out",
    "batch_norm",
    "std = √(var + eps), and x − mean is divided by std + eps: eps counts twice.",
    right="eps is also added outside of the root / eps twice",
    wrong="eps outside of the root alone, eps missing, unbiased",
    seen="std = sqrt(var + eps) and a later guard against division by zero",
)
class EpsTwice(Bn):
    def normalize(self, x, mean, var):
        std = torch.sqrt(var + self.eps) + self.eps
        return (x - ch(mean, x)) / ch(std, x) * ch(self.w, x) + ch(self.b, x)


@bug(
    "t7-bn-running-mean-after-blend",
    "batch_norm",
    "In training x is normalised by the running mean that was just updated, and by the batch's variance.",
    right="training normalises by the running mean / the blended mean in training / running mean in place of the batch's mean in training",
    wrong="evaluation, mean detached alone, momentum",
    seen="batch renormalization and streaming variants of it",
)
class BlendedMean(Bn):
    def compute(self, x, training):
        self.training = training
        return super().compute(x, training)

    def normalize(self, x, mean, var):
        if self.training:
            mean = self.s["running_mean"].to(x.dtype)
        return super().normalize(x, mean, var)


@bug(
    "t7-bn-momentum-doubled-for-mean",
    "batch_norm",
    "The running mean is blended twice in a step: once by its own line, once by the loop over both buffers.",
    right="the running mean is updated twice in a step / the mean's momentum is not momentum but 1 − (1 − momentum)²",
    wrong="both updated twice, momentum swapped, running variance",
    seen="a line left after a refactoring",
)
class MeanTwice(Bn):
    def track(self, mean, var, n):
        self.blend("running_mean", mean)
        for name, value in (("running_mean", mean), ("running_var", var * n / (n - 1))):
            self.blend(name, value)
