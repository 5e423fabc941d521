"""Second held-out set: norms in PyTorch, the wrong forward differentiated by autograd."""

from __future__ import annotations

from collections.abc import Mapping

from heldout.second.registry import bug
from heldout.torch_base import Torch, col, torch


class Bn(Torch):
    """Batch norm; a subclass changes a step."""

    def compute(self, x, training):
        if training:
            mean, var = self.statistics(x)
            self.track(mean.detach(), var.detach())
            mean, var = self.used(mean, var)
        else:
            mean, var = self.evaluated()
        return self.affine(self.normal(x, mean, var))

    def statistics(self, x):
        return x.mean((0, 2)), x.var((0, 2), correction=0)

    def track(self, mean, var):
        self.blend(mean, self.bessel(var))

    def used(self, mean, var):
        return mean, var

    def evaluated(self):
        return self.s["running_mean"], self.s["running_var"]

    def normal(self, x, mean, var):
        return (x - col(mean)) * torch.rsqrt(col(var) + self.eps)


class Grouped(Torch):
    """Instance, layer and group norm."""

    def groups(self, c):
        groups = {"instance_norm": c, "layer_norm": 1}.get(self.layer) or self.o["num_groups"]
        if c % groups:
            raise ValueError("the groups do not divide the channels")
        return groups

    def compute(self, x, training):
        z = x.reshape(len(x), self.groups(x.shape[1]), -1)
        return self.affine(self.normal(z).reshape(x.shape))

    def normal(self, z):
        var, mean = torch.var_mean(z, 2, correction=0, keepdim=True)
        return (z - mean) * torch.rsqrt(var + self.eps)


@bug(
    "t2-bn-blended",
    "batch_norm",
    "training normalises with the running statistics just updated, so that y depends on the momentum",
    "microsoft/onnxruntime#29790",
)
class BnBlended(Bn):
    def used(self, mean, var):
        lam, old = self.momentum, self.before
        return (1 - lam) * old["running_mean"] + lam * mean, (1 - lam) * old["running_var"] + lam * self.bessel(var)

    def track(self, mean, var):
        self.before = dict(self.s)
        super().track(mean, var)


@bug("t2-bn-corrections", "batch_norm", "n − 1 where n belongs and n where n − 1 belongs", "pytorch/pytorch#3122")
class BnCorrections(Bn):
    def statistics(self, x):
        return x.mean((0, 2)), x.var((0, 2))

    def track(self, mean, var):
        self.blend(mean, var * (self.n_values - 1) / self.n_values)


@bug(
    "t2-bn-reshape",
    "batch_norm",
    "statistics of x.reshape(C, −1): batch and channels are mixed",
    "PABannier/nanograd#2",
)
class BnReshape(Bn):
    def statistics(self, x):
        rows = x.reshape(x.shape[1], -1)
        return rows.mean(1), rows.var(1, correction=0)


@bug(
    "t2-bn-within",
    "batch_norm",
    "the variance is the mean of each sample's own variance",
    "common slip of synchronised BN",
)
class BnWithin(Bn):
    def statistics(self, x):
        return x.mean((0, 2)), x.var(2, correction=0).mean(0)


@bug(
    "t2-bn-debias", "batch_norm", "evaluation divides the running statistics by 1 − (1 − momentum)^t, for a start at 0"
)
class BnDebias(Bn):
    steps = 0

    def track(self, mean, var):
        self.steps += 1
        super().track(mean, var)

    def evaluated(self):
        weight = 1 - (1 - self.momentum) ** self.steps if self.steps and self.momentum else 1
        return self.s["running_mean"] / weight, self.s["running_var"] / weight


@bug("t2-bn-away", "batch_norm", "running += momentum (running − batch): the update has the wrong sign")
class BnAway(Bn):
    def track(self, mean, var):
        new = dict(zip(self.s, (mean, self.bessel(var)), strict=True))
        self.s = {k: v + self.momentum * (v - new[k]) for k, v in self.s.items()}


@bug("t2-bn-unbiased-all", "batch_norm", "x.var() for the normalisation too", "pytorch/pytorch#19916")
class BnUnbiasedAll(Bn):
    def normal(self, x, mean, var):
        return super().normal(x, mean, self.bessel(var) if var.requires_grad else var)


@bug(
    "t2-bn-frozen",
    "batch_norm",
    "the updated statistics are dropped: running values stay as they were",
    "HomericIntelligence/Odyssey#5533",
)
class BnFrozen(Bn):
    def track(self, mean, var):
        pass


@bug(
    "t2-bn-eps-outside",
    "batch_norm",
    "eps is added to the deviation",
    "NVIDIA/TransformerEngine#364, the paper's own place",
)
class BnEpsOutside(Bn):
    def normal(self, x, mean, var):
        return (x - col(mean)) / (torch.sqrt(col(var)) + self.eps)


@bug(
    "t2-ln-plus-one", "layer_norm", "the weight is taken as 1 + weight", "NVIDIA/TransformerEngine, zero_centered_gamma"
)
class LnPlusOne(Grouped):
    def affine(self, xhat):
        return super().affine(xhat) + xhat


@bug(
    "t2-ln-inflated",
    "layer_norm",
    "x is divided by max |x| before eps is added: eps grows by its square",
    "apple/coremltools#2821",
)
class LnInflated(Grouped):
    def normal(self, z):
        return super().normal(z / z.abs().amax(2, keepdim=True))


@bug("t2-ln-last-axis", "layer_norm", "normalises over the last axis of (N, C, L) only")
class LnLastAxis(Grouped):
    def compute(self, x, training):
        z = x.reshape(self.shape)
        var, mean = torch.var_mean(z, -1, correction=0, keepdim=True)
        return self.affine(((z - mean) * torch.rsqrt(var + self.eps)).reshape(x.shape))


@bug("t2-ln-no-grad", "layer_norm", "mean and variance are computed without gradient")
class LnNoGrad(Grouped):
    def normal(self, z):
        with torch.no_grad():
            var, mean = torch.var_mean(z, 2, correction=0, keepdim=True)
        return (z - mean) * torch.rsqrt(var + self.eps)


@bug("t2-ln-std", "layer_norm", "torch.std, which divides by n − 1, and eps beside it", "codertimo/BERT-pytorch#30")
class LnStd(Grouped):
    def normal(self, z):
        return (z - z.mean(2, keepdim=True)) / (z.std(2, keepdim=True) + self.eps)


@bug("t2-gn-size", "group_norm", "the number of groups is taken for the channels of a group")
class GnSize(Grouped):
    def groups(self, c):
        return c // super().groups(c)


@bug("t2-gn-unbiased", "group_norm", "torch.var with its default, n − 1")
class GnUnbiased(Grouped):
    def normal(self, z):
        return (z - z.mean(2, keepdim=True)) * torch.rsqrt(z.var(2, keepdim=True) + self.eps)


@bug("t2-gn-batch", "group_norm", "the statistics of a group are taken over the batch too")
class GnBatch(Grouped):
    def normal(self, z):
        var, mean = torch.var_mean(z, (0, 2), correction=0, keepdim=True)
        return (z - mean) * torch.rsqrt(var + self.eps)


@bug(
    "t2-gn-nhwc",
    "group_norm",
    "NHWC memory is reshaped to (N, G, H, W, C/G) without a transpose",
    "tensorflow/addons#751",
)
class GnNhwc(Grouped):
    conventions: Mapping[str, str] = {**Torch.conventions, "layout": "NHWC"}

    def forward(self, x, training):
        if x.ndim < 3:
            return super().forward(x, training)
        self.x = torch.tensor(x.copy(), requires_grad=True)
        c = x.shape[-1]
        z = self.x.reshape(len(x), self.groups(c), -1)
        self.y = self.normal(z).reshape(x.shape) * self.w + self.b
        return self.y.detach().numpy().copy()


@bug(
    "t2-in-rsqrt", "instance_norm", "divides by rsqrt(var + eps) instead of multiplying", "rasbt/LLMs-from-scratch#871"
)
class InRsqrt(Grouped):
    def normal(self, z):
        var, mean = torch.var_mean(z, 2, correction=0, keepdim=True)
        return (z - mean) / torch.rsqrt(var + self.eps)


@bug("t2-in-uncentred", "instance_norm", "the mean is not subtracted; the variance is right")
class InUncentred(Grouped):
    def normal(self, z):
        return z * torch.rsqrt(z.var(2, correction=0, keepdim=True) + self.eps)
