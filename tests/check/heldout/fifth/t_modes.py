"""Mode norm and mode group norm in PyTorch, each wrong in one thing; gradients by autograd."""

from __future__ import annotations

import torch

from heldout.fifth.registry import bug
from heldout.third.tbase import Mgn, Mn, ch

G = "https://github.com/"


@bug(
    "t5-mn-gates-see-the-maximum",
    "mode_norm",
    "The gating network is fed with the maximum over the pixels instead of the mean.",
    right="the gates' input is max-pooled / maximum of x in place of the mean in the gates",
    wrong="gates fed with sums, gates of single pixels, hard gates",
    seen="a common slip (global max pooling)",
)
class GatesSeeMax(Mn):
    def compute(self, x, training):
        self.image = x.reshape(*x.shape[:2], -1)
        return super().compute(x, training)

    def logits(self, m):
        return super().logits(self.image.amax(2))


@bug(
    "t5-mn-mixes-moments",
    "mode_norm",
    "The modes' means and variances are mixed by the gates, and x is normalised once with the mixed moments, instead of mixing the modes' outputs.",
    right="moments are mixed instead of outputs / normalised once with gate-weighted mean and variance / mixing inside the root",
    wrong="hard gates, batch norm statistics, N_k wrong",
    seen="a common slip",
)
class MixesMoments(Mn):
    def compute(self, x, training):
        f = x.reshape(*x.shape[:2], -1)
        gates, share = self.gates(self.logits(f.mean(2)))
        if training:
            mean = torch.einsum("nk,ncl->kc", share, f) / f.shape[2]
            var = self.variance(f, share, mean)
            self.track(mean.detach(), (torch.einsum("nk,ncl->kc", share, f.square()) / f.shape[2]).detach())
        else:
            mean = self.s["running_mean"].to(x.dtype)
            var = (self.s["running_mean_square"].to(x.dtype) - mean.square()).clamp(min=0)
        mean, var = (gates @ mean)[:, :, None], (gates @ var)[:, :, None]
        return ((f - mean) * torch.rsqrt(var + self.eps)).reshape(x.shape) * ch(self.w, x) + ch(self.b, x)


@bug(
    "t5-mn-hard-gates-in-evaluation",
    "mode_norm",
    "Evaluation takes the single most likely mode (argmax) instead of the mixture.",
    right="hard gates (argmax) in evaluation / evaluation uses one mode only",
    wrong="hard gates in training too, wrong running moments",
    seen="a common slip (mixtures of experts at inference)",
)
class HardInEvaluation(Mn):
    def compute(self, x, training):
        self.hard = not training
        return super().compute(x, training)

    def mix(self, gates, z):
        if self.hard:
            gates = torch.nn.functional.one_hot(gates.argmax(1), gates.shape[1]).to(gates.dtype)
        return super().mix(gates, z)


@bug(
    "t5-mn-variance-unweighted",
    "mode_norm",
    "A mode's variance about its mean is averaged over all samples alike, without the gates.",
    right="the variance of a mode is not weighted by the gates (shares) / all samples count alike in the variance",
    wrong="mean unweighted too (batch norm), batch variance about the batch mean, momentum",
    seen="a common slip",
)
class VarianceUnweighted(Mn):
    def variance(self, f, share, mean):
        return (f[:, None] - mean[None, :, :, None]).square().mean((0, 3))


@bug(
    "t5-mn-logits-over-sqrt-c",
    "mode_norm",
    "The gates' logits are divided by sqrt(C) as in scaled dot-product attention.",
    right="the logits are scaled by 1/sqrt(C) / a temperature of sqrt(C) in the gates",
    wrong="gate bias missing, hard gates, a fixed temperature",
    seen="a common slip (attention's scaling)",
)
class ScaledLogits(Mn):
    def logits(self, m):
        return super().logits(m) / m.shape[1] ** 0.5


@bug(
    "t5-mn-momentum-by-mass",
    "mode_norm",
    "A mode's running moments move by momentum times the mode's share of the batch, N_k/N.",
    right="the momentum is multiplied by the mode's mass / update weighted by N_k/N / small modes move less",
    wrong="momentum swapped, N_k wrong in the statistics, divided by K",
    seen="a common slip (online EM)",
)
class MomentumByMass(Mn):
    def gates(self, z):
        gates, share = super().gates(z)
        self.mass = gates.detach().mean(0)[:, None]
        return gates, share

    def track(self, first, second):
        lam = self.momentum * self.mass.to(first.dtype)
        self.s["running_mean"] = (1 - lam) * self.s["running_mean"] + lam * first
        self.s["running_mean_square"] = (1 - lam) * self.s["running_mean_square"] + lam * second


@bug(
    "t5-mn-sigmoid-gates",
    "mode_norm",
    "The gates are sigmoids of their logits, one by one, and do not add up to one over the modes.",
    right="sigmoid instead of softmax in the gates / gates not normalised over the modes",
    wrong="softmax over the batch, temperature, hard gates",
    seen="a common slip (sigmoid gates of mixtures of experts)",
)
class SigmoidGates(Mn):
    def gates(self, z):
        log = torch.nn.functional.logsigmoid(z)
        return log.exp(), torch.softmax(log, 0)


@bug(
    "t5-mn-mixed-by-shares",
    "mode_norm",
    "The modes' outputs are mixed by the shares over the batch, times N/K, instead of by the gates over the modes.",
    right="mixed by the responsibilities normalised over the batch / softmax over the samples in the mixture / shares in place of gates",
    wrong="statistics with gates that are not normalised, hard gates",
    seen=G + "fkodom/soft-mixture-of-experts/pull/1",
)
class MixedByShares(Mn):
    def gates(self, z):
        _, share = super().gates(z)
        return share * share.shape[0] / share.shape[1], share


@bug(
    "t5-mn-evaluation-pools-the-modes",
    "mode_norm",
    "In evaluation the running moments are averaged over the modes first, so all modes normalise alike.",
    right="evaluation averages the running moments over the modes / one pooled mode in evaluation / modes lost in evaluation",
    wrong="evaluation uses batch statistics, running moments not tracked, hard gates",
    seen="a common slip",
)
class EvaluationPools(Mn):
    def compute(self, x, training):
        if training:
            return super().compute(x, training)
        kept, self.s = self.s, {k: v.mean(0, keepdim=True).expand_as(v) for k, v in self.s.items()}
        y = super().compute(x, training)
        self.s = kept
        return y


@bug(
    "t5-mn-two-logits-and-second-moment",
    "mode_norm",
    "TWO: the gates' bias is left out, and the running second moment holds the variance.",
    right="both: gate bias missing, and the variance stored in place of the second moment; one of them alone is half right",
    wrong="anything that is neither of the two",
    seen="a common slip, twice",
)
class TwoMn(Mn):
    def logits(self, m):
        return m @ self.p["gate.weight"].T

    def track(self, first, second):
        super().track(first, second - first.square())


class ModeGroupNorm(Mgn):
    """Mode group norm in steps."""

    def compute(self, x, training):
        f = x.reshape(*x.shape[:2], -1)
        m = f.mean(2)
        logits = m[..., None] * self.p["gate.weight"][:, 0] + self.p["gate.bias"]
        gates, share = self.gates(logits)
        mean = (share * m[..., None]).sum(1)
        var = (share * (f[:, :, None] - self.centre(mean, m)[:, None, :, None]).square().mean(3)).sum(1)
        y = self.combine(f, gates, mean, torch.rsqrt(var + self.eps))
        return y.reshape(x.shape) * ch(self.w, x) + ch(self.b, x)

    def gates(self, z):
        log = torch.log_softmax(z, 2)
        return log.exp(), torch.softmax(log, 1)

    def centre(self, mean, m):
        return mean

    def combine(self, f, gates, mean, rstd):
        return ((f[:, :, None] - mean[:, None, :, None]) * rstd[:, None, :, None]).mean(2)


@bug(
    "t5-mgn-mixed-by-gates",
    "mode_group_norm",
    "The modes' outputs are mixed by each channel's gates, as in mode norm, instead of averaged over the modes.",
    right="mixed by the gates instead of 1/K / gates weigh the outputs of the modes",
    wrong="sum over the modes without 1/K, one mode only",
    seen="a common slip (mode norm's mixture taken over)",
)
class MixedByGates(ModeGroupNorm):
    def combine(self, f, gates, mean, rstd):
        z = (f[:, :, None] - mean[:, None, :, None]) * rstd[:, None, :, None]
        return (gates[..., None] * z).sum(2)


@bug(
    "t5-mgn-no-softmax-over-modes",
    "mode_group_norm",
    "The softmax over the modes is left out: the logits go to the softmax over the channels as they are.",
    right="softmax over the modes missing / logits normalised over the channels only",
    wrong="softmax over the channels missing, hard gates, order of the two",
    seen="a common slip",
)
class NoSoftmaxOverModes(ModeGroupNorm):
    def gates(self, z):
        return torch.softmax(z, 2), torch.softmax(z, 1)


@bug(
    "t5-mgn-softmax-of-gates",
    "mode_group_norm",
    "The shares over the channels are the softmax of the gates themselves instead of their logarithms (gates divided by their sum).",
    right="softmax of the gates in place of division by their sum / exp applied to probabilities / softmax twice",
    wrong="softmax over the modes missing, temperature, shares over the batch",
    seen="a common slip",
)
class SoftmaxOfGates(ModeGroupNorm):
    def gates(self, z):
        gates = torch.softmax(z, 2)
        return gates, torch.softmax(gates, 1)


@bug(
    "t5-mgn-variance-about-sample-mean",
    "mode_group_norm",
    "A mode's variance is taken about the plain mean of the sample instead of the mode's mean.",
    right="the variance is about the sample's (unweighted) mean / wrong centre of the variance / not about the mode's mean",
    wrong="mean unweighted in the output too, variance unweighted, unbiased",
    seen="a common slip",
)
class AboutSampleMean(ModeGroupNorm):
    def centre(self, mean, m):
        return m.mean(1, keepdim=True).expand_as(mean)


@bug(
    "t5-mgn-means-and-scales-averaged",
    "mode_group_norm",
    "The modes' means and reciprocal deviations are averaged over the modes apart: mean of (x − μ_k) times mean of rstd_k.",
    right="mean and scale are averaged separately over the modes / product of the averages instead of the average of the products",
    wrong="gates in the mixture, variances averaged, one mode only",
    seen="a common slip",
)
class AveragedApart(ModeGroupNorm):
    def combine(self, f, gates, mean, rstd):
        return (f - mean.mean(1)[:, None, None]) * rstd.mean(1)[:, None, None]


@bug(
    "t5-mgn-shares-over-batch",
    "mode_group_norm",
    "The shares are normalised over the samples (axis 0) instead of the channels (and scaled by N/C).",
    right="the gates are normalised over the batch instead of the channels / softmax over the wrong axis / samples of the batch influence each other",
    wrong="softmax over the modes missing, mixed by gates",
    seen="a common slip (mode norm's axis taken over)",
)
class SharesOverBatch(ModeGroupNorm):
    def gates(self, z):
        log = torch.log_softmax(z, 2)
        return log.exp(), torch.softmax(log, 0) * (z.shape[0] / z.shape[1])
