"""Mode and mode group normalization in PyTorch as one gets them wrong; gradients by autograd."""

from __future__ import annotations

import torch

from heldout.seventh.registry import bug
from heldout.third.tbase import Mgn, Mn, ch

SLIP = "a common slip"


@bug(
    "t7-mn-mixed-moments",
    "mode_norm",
    "The modes' means and variances are mixed by the gates first, and x is normalised once by the mixture: (x − Σ g μ) / √(Σ g σ² + eps).",
    right="the moments are mixed in place of the normalised values / normalised by the mixed mean and variance",
    wrong="gates wrong, variance's weighting, running statistics",
    seen="Gaussian-mixture readings of the formula",
)
class MixedMoments(Mn):
    def compute(self, x, training):
        f = x.reshape(*x.shape[:2], -1)
        gates, share = self.gates(self.logits(f.mean(2)))
        if training:
            mean = torch.einsum("nk,ncl->kc", share, f) / f.shape[2]
            var = self.variance(f, share, mean)
            self.track(mean.detach(), (torch.einsum("nk,ncl->kc", share, f.square()) / f.shape[2]).detach())
        else:
            mean = self.s["running_mean"]
            var = (self.s["running_mean_square"] - mean.square()).clamp(min=0)
        z = (f - (gates @ mean)[..., None]) * torch.rsqrt(gates @ var + self.eps)[..., None]
        return z.reshape(x.shape) * ch(self.w, x) + ch(self.b, x)


@bug(
    "t7-mn-gates-of-the-maximum",
    "mode_norm",
    "The gates see each channel's largest pixel, not its mean.",
    right="the gates' input is the maximum over the pixels / max pooling in place of mean pooling in the gates",
    wrong="softmax axis, statistics, gates detached",
    seen="squeeze-and-excitation variants with max pooling",
)
class MaximumGates(Mn):
    def compute(self, x, training):
        self.top = x.reshape(*x.shape[:2], -1).amax(2)
        return super().compute(x, training)

    def logits(self, m):
        return super().logits(self.top)


@bug(
    "t7-mn-evaluation-not-centred",
    "mode_norm",
    "Evaluation takes running_mean_square as the variance: the running mean's square is not subtracted.",
    right="running mean square used as the variance in evaluation / mean² is not subtracted in evaluation",
    wrong="training, momentum, the running buffers themselves",
    seen=SLIP,
)
class NotCentred(Mn):
    def compute(self, x, training):
        if training:
            return super().compute(x, training)
        f = x.reshape(*x.shape[:2], -1)
        gates, _ = self.gates(self.logits(f.mean(2)))
        mean, var = self.s["running_mean"], self.s["running_mean_square"]
        z = (f[:, None] - mean[None, :, :, None]) * torch.rsqrt(var + self.eps)[None, :, :, None]
        return self.mix(gates, z).reshape(x.shape) * ch(self.w, x) + ch(self.b, x)


@bug(
    "t7-mn-share-of-the-batch",
    "mode_norm",
    "A mode's statistics divide by the number of samples, not by the sum of its gates: the shares of a mode do not sum to 1.",
    right="the shares are not normalised / divided by N in place of the sum of the gates / the mode's mass is ignored",
    wrong="softmax axis, gates missing, running statistics",
    seen=SLIP,
)
class ShareOfBatch(Mn):
    def gates(self, z):
        gates, _ = super().gates(z)
        return gates, gates / len(z)


@bug(
    "t7-mgn-softmax-over-channels",
    "mode_group_norm",
    "The shares are a softmax of the logits over the channels; the softmax over the modes is left out.",
    right="the softmax over the modes is missing / softmax over the wrong axis (channels) alone / the gates do not compete among modes",
    wrong="variance's weighting, mean over modes, eps",
    seen=SLIP,
)
class OverChannels(Mgn):
    def share(self, z):
        return torch.softmax(z, 1)


@bug(
    "t7-mgn-modes-summed",
    "mode_group_norm",
    "The modes' normalised values are added, not averaged.",
    right="sum over the modes in place of the mean / not divided by K / y's normalised part times K",
    wrong="weight missing, gates, variance",
    seen=SLIP,
)
class ModesSummed(Mgn):
    def compute(self, x, training):
        y = super().compute(x, training)
        xhat = (y - ch(self.b, x)) * self.o["num_modes"]
        return xhat + ch(self.b, x)


@bug(
    "t7-mgn-variance-about-plain-mean",
    "mode_group_norm",
    "The variance is taken about the sample's plain mean, while x is centred by the mode's.",
    right="the variance is about another mean / the variance uses the unweighted mean / plain mean in the variance",
    wrong="the mean not weighted, the weights of the variance, eps",
    seen=SLIP,
)
class AboutPlainMean(Mgn):
    def compute(self, x, training):
        f = x.reshape(*x.shape[:2], -1)
        m = f.mean(2)
        share = self.share(self.gate_input(m)[..., None] * self.p["gate.weight"][:, 0] + self.p["gate.bias"])
        mean = self.total(share, m[..., None])
        var = self.total(share, (f - m.mean(1)[:, None, None]).square().mean(2)[..., None])
        z = ((f[:, :, None] - mean[:, None, :, None]) * torch.rsqrt(var + self.eps)[:, None, :, None]).mean(2)
        return z.reshape(x.shape) * ch(self.w, x) + ch(self.b, x)
