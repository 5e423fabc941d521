"""Mode normalization and mode group normalization in PyTorch, each wrong in one thing."""

from __future__ import annotations

import torch

from heldout.fourth.registry import bug
from heldout.third.tbase import Torch, ch


class ModeNorm(Torch):
    """x as (N, C, pixels); the gates weigh the samples of each mode, and the modes of each sample."""

    stateful = "running_mean", "running_mean_square"

    def compute(self, x, training):
        f = x.flatten(2) if x.ndim > 2 else x[..., None]
        logits = f.mean(2) @ self.p["gate.weight"].T + self.p["gate.bias"]  # n k
        gates = self.gates(logits, training)
        if training:
            share = self.share(logits, gates)
            mean = torch.einsum("nk,ncl->kc", share, f) / f.shape[2]
            var = torch.einsum("nk,nkcl->kc", share, self.deviation(f, mean).square()) / f.shape[2]
            with torch.no_grad():
                self.track(mean, torch.einsum("nk,ncl->kc", share, f.square()) / f.shape[2])
        else:
            mean = self.s["running_mean"].to(f.dtype)
            var = (self.s["running_mean_square"].to(f.dtype) - mean.square()).clamp(min=0)
        return self.mix(f, gates, mean, var).reshape(x.shape) * ch(self.w, x) + ch(self.b, x)

    def gates(self, logits, training):
        return torch.softmax(logits, 1)

    def share(self, logits, gates):
        """Each sample's part of a mode: its gate over the sum of the mode's gates."""
        return torch.softmax(torch.log_softmax(logits, 1), 0)

    def deviation(self, f, mean):
        return f[:, None] - mean[None, :, :, None]

    def mix(self, f, gates, mean, var):
        z = (f[:, None] - mean[None, :, :, None]) * torch.rsqrt(var + self.eps)[None, :, :, None]
        return torch.einsum("nk,nkcl->ncl", gates, z)

    def track(self, first, second):
        self.s["running_mean"] = torch.lerp(self.s["running_mean"], first, self.momentum)
        self.s["running_mean_square"] = torch.lerp(self.s["running_mean_square"], second, self.momentum)


@bug(
    "t4-mn-softmax-over-batch",
    "mode_norm",
    "the gates' softmax runs over the batch, not over the modes",
    right="the gates' softmax is over the batch (the wrong axis) / the gates of a sample do not add up to one",
    wrong="a missing softmax / a wrong count / the logits",
    seen="a common slip",
)
class SoftmaxOverBatch(ModeNorm):
    def gates(self, logits, training):
        return torch.softmax(logits, 0)

    def share(self, logits, gates):
        return gates / gates.sum(0)


@bug(
    "t4-mn-count-of-batch",
    "mode_norm",
    "a mode's moments are divided by the batch size N, not by the sum of the mode's gates",
    right="the count of a mode is N in place of its sum of gates / a mode's weights are not normalised / the moments "
    "are too small by the mode's share of the batch",
    wrong="the running moments alone / the softmax's axis / unbiased",
    seen="a common slip",
)
class CountOfBatch(ModeNorm):
    def share(self, logits, gates):
        return gates / len(gates)


@bug(
    "t4-mn-hard-gates-in-evaluation",
    "mode_norm",
    "in evaluation each sample goes to its largest gate's mode alone",
    right="hard gates in evaluation / the gates are decided by argmax in evaluation / one mode alone is used in "
    "evaluation",
    wrong="hard gates in training / wrong running moments",
    seen="a common slip",
)
class HardGatesInEvaluation(ModeNorm):
    def gates(self, logits, training):
        soft = super().gates(logits, training)
        return soft if training else torch.nn.functional.one_hot(soft.argmax(1), soft.shape[1]).to(soft.dtype)


@bug(
    "t4-mn-variance-about-batch-mean",
    "mode_norm",
    "a mode's variance is taken about the mean of the whole batch, not about the mode's mean",
    right="the variance of a mode takes deviations from the batch's mean / is centred on the wrong mean",
    wrong="E[x²] without centring / a wrong count / one variance for all modes",
    seen="a common slip",
)
class VarianceAboutBatchMean(ModeNorm):
    def deviation(self, f, mean):
        return (f - f.mean((0, 2), keepdim=True))[:, None].expand(-1, len(mean), -1, -1)


@bug(
    "t4-mn-moments-without-gate-gradient",
    "mode_norm",
    "the modes' weights are detached where the moments are formed: the gates learn through the output's mixture alone",
    right="the gates have no gradient through the moments / the weights (shares) of the moments are constants / "
    "dgate lacks the part of mean and variance",
    wrong="the gates' gradient is missing in full / the mean or variance is detached in full / the normaliser alone",
    seen="a common slip",
)
class MomentsWithoutGateGradient(ModeNorm):
    def share(self, logits, gates):
        return super().share(logits, gates).detach()


@bug(
    "t4-mn-moments-mixed-first",
    "mode_norm",
    "mean and variance of the modes are mixed by a sample's gates, and x is normalized once with the mixture",
    right="the moments are mixed in place of the normalized values / one normalization with gate-weighted mean and "
    "variance / the mixture is inside the division",
    wrong="one mode for all / hard gates / a wrong variance",
    seen="a common slip",
)
class MomentsMixedFirst(ModeNorm):
    def mix(self, f, gates, mean, var):
        return (f - (gates @ mean)[..., None]) * torch.rsqrt(gates @ var + self.eps)[..., None]


@bug(
    "t4-mn-count-plus-eps",
    "mode_norm",
    "eps is added to the sum of a mode's gates before the division",
    right="eps in the count of a mode / the weights of a mode add up to less than one by eps / count + eps",
    wrong="eps in the variance / the count is N",
    seen="a common slip",
)
class CountPlusEps(ModeNorm):
    def share(self, logits, gates):
        return gates / (gates.sum(0) + self.eps)


@bug(
    "t4-mn-running-moments-of-all-modes",
    "mode_norm",
    "the running moments of each mode are updated with the average over the modes, as by a buffer that is broadcast",
    right="all modes have the same running moments / the update is averaged over modes / the modes are pooled in the "
    "state",
    wrong="momentum / the training output is wrong / batch moments (all gates equal) in the forward",
    seen="a common slip",
)
class RunningMomentsOfAllModes(ModeNorm):
    def track(self, first, second):
        super().track(first.mean(0, keepdim=True).expand_as(first), second.mean(0, keepdim=True).expand_as(second))


class ModeGroupNorm(Torch):
    """Gates of every channel; the moments of a mode are weighted sums over a sample's channels."""

    def compute(self, x, training):
        f = x.flatten(2) if x.ndim > 2 else x[..., None]
        m = f.mean(2)
        log = torch.log_softmax(m[..., None] * self.p["gate.weight"][:, 0] + self.p["gate.bias"], 2)  # n c k
        share = self.share(log)
        mean = torch.einsum("nck,nc->nk", share, m)
        d = f[:, :, None] - mean[:, None, :, None]  # n c k l
        z = d * torch.rsqrt(self.variance(share, d.square().mean(3)) + self.eps)[:, None, :, None]
        return self.mix(log, z).reshape(x.shape) * ch(self.w, x) + ch(self.b, x)

    def share(self, log):
        return torch.softmax(log, 1)

    def variance(self, share, square):
        return (share * square).sum(1)

    def mix(self, log, z):
        return z.mean(2)


@bug(
    "t4-mgn-count-of-channels",
    "mode_group_norm",
    "a mode's moments are divided by the number of channels, not by the sum of the mode's gates",
    right="the count of a mode is C in place of its sum of gates / a mode's weights are not normalised",
    wrong="the softmax's axis / eps / the variance alone",
    seen="a common slip",
)
class MgnCountOfChannels(ModeGroupNorm):
    def share(self, log):
        return log.exp() / log.shape[1]


@bug(
    "t4-mgn-variance-unweighted",
    "mode_group_norm",
    "the variance about a mode's mean is the plain average over channels, without the gates",
    right="the variance is not weighted by the gates / all channels count alike in the variance / gates are missing "
    "in the variance",
    wrong="the mean is unweighted too / eps / unbiased",
    seen="a common slip",
)
class MgnVarianceUnweighted(ModeGroupNorm):
    def variance(self, share, square):
        return square.mean(1)


@bug(
    "t4-mgn-mixed-by-gates",
    "mode_group_norm",
    "the modes' normalized values are weighted by the channel's gates, as in mode normalization, not averaged",
    right="the output is a mixture by the gates in place of the mean over modes / the gates weigh the output",
    wrong="the moments are wrong / a sum over modes without weights",
    seen="a common slip between the two layers",
)
class MgnMixedByGates(ModeGroupNorm):
    def mix(self, log, z):
        return (log.exp()[..., None] * z).sum(2)
