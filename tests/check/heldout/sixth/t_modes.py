"""Mode norm and mode group norm in PyTorch as ports get them wrong; gradients by autograd."""

from __future__ import annotations

import torch

from heldout.fifth.t_modes import ModeGroupNorm
from heldout.sixth.registry import bug
from heldout.third.tbase import Mn

SLIP = "a common slip"


@bug(
    "t6-mn-softmax-over-batch",
    "mode_norm",
    "The gates' softmax runs over the batch (dim 0) instead of the modes.",
    right="the gates' softmax over the batch / wrong axis / gates normalised over the samples",
    wrong="counts wrong, sigmoid, hard gates",
    seen="a common slip (softmax without dim)",
)
class SoftmaxOverBatch(Mn):
    def gates(self, z):
        log = torch.log_softmax(z, 0)
        return log.exp(), torch.softmax(log, 0)


@bug(
    "t6-mn-gates-detached",
    "mode_norm",
    "The gates are computed under no_grad.",
    right="gates detached / no gradient to (and through) the gates / gates constant in the backward",
    wrong="statistics detached, only gate.bias, softmax's derivative",
    seen=SLIP,
)
class GatesDetached(Mn):
    def gates(self, z):
        return super().gates(z.detach())


@bug(
    "t6-mn-gate-bias-missing",
    "mode_norm",
    "The gates are a linear map without bias.",
    right="gate.bias missing / ignored",
    wrong="gate.weight, logits scaled",
    seen=SLIP,
)
class NoGateBias(Mn):
    def logits(self, m):
        return m @ self.p["gate.weight"].T


@bug(
    "t6-mn-eps-in-count",
    "mode_norm",
    "A mode's mass is N_k + eps where the gates are divided by it.",
    right="eps is added to N_k / to the count (mass) of a mode",
    wrong="eps in the variance, N in place of N_k",
    seen="a common slip (against division by zero)",
)
class EpsInCount(Mn):
    def gates(self, z):
        gates = torch.softmax(z, 1)
        return gates, gates / (gates.sum(0) + self.eps)


@bug(
    "t6-mn-uniform-gates-in-evaluation",
    "mode_norm",
    "Evaluation mixes the modes evenly: every gate is 1/K.",
    right="uniform gates (1/K) in evaluation / gates ignored in evaluation",
    wrong="hard gates, uniform in training too, running moments",
    seen=SLIP,
)
class UniformInEvaluation(Mn):
    def compute(self, x, training):
        self.training = training
        return super().compute(x, training)

    def mix(self, gates, z):
        return super().mix(gates if self.training else torch.full_like(gates, 1 / gates.shape[1]), z)


@bug(
    "t6-mn-statistics-of-batch-mean",
    "mode_norm",
    "The modes' variances are taken about the mean of the whole batch, not about their own means.",
    right="variance about the batch mean / about the common mean in place of the mode's own",
    wrong="unweighted variance, one-pass, mean of the batch in y too",
    seen=SLIP,
)
class AboutBatchMean(Mn):
    def variance(self, f, share, mean):
        centre = f.mean((0, 2))
        return torch.einsum("nk,nc->kc", share, (f - centre[None, :, None]).square().mean(2))


@bug(
    "t6-mn-two-momentum-and-gate-bias",
    "mode_norm",
    "Two bugs: momentum weighs the old moments, and the gates have no bias.",
    right="both: momentum swapped, and gate.bias missing",
    wrong="either with a wrong second name",
    seen=SLIP,
)
class TwoMn(NoGateBias):
    def track(self, first, second):
        self.momentum = 1 - self.momentum
        super().track(first, second)
        self.momentum = 1 - self.momentum


@bug(
    "t6-mgn-modes-summed",
    "mode_group_norm",
    "The modes' outputs are summed, not averaged.",
    right="sum over the modes in place of the mean / y times K (before bias)",
    wrong="weighted by the gates, bias too",
    seen=SLIP,
)
class ModesSummed(ModeGroupNorm):
    def combine(self, f, gates, mean, rstd):
        return super().combine(f, gates, mean, rstd) * rstd.shape[1]


@bug(
    "t6-mgn-shares-divided-by-c",
    "mode_group_norm",
    "The gates are divided by the number of channels, not by the mode's mass over the channels.",
    right="a mode's moments divided by C in place of the mode's mass / gates not normalised over the channels, divided by C",
    wrong="softmax over the wrong axis, over the batch",
    seen=SLIP,
)
class OverC(ModeGroupNorm):
    def gates(self, z):
        gates = torch.softmax(z, 2)
        return gates, gates / z.shape[1]
