"""Mode norms in PyTorch; slips that mixtures of experts, attention and other soft assignments have in public."""

from __future__ import annotations

import torch

from heldout.third.registry import bug
from heldout.third.tbase import Mgn, Mn

G = "https://github.com/"


@bug(
    "t3-mn-double-softmax", "mode_norm",
    "The gates go through a softmax twice: the second flattens them towards 1/K.",
    right="softmax applied twice / gates too flat through a second softmax",
    wrong="temperature unless named as an alternative, softmax axis, sigmoid",
    seen=G + "davidmrau/mixture-of-experts/issues/27",
)
class DoubleSoftmax(Mn):
    def logits(self, m):
        return torch.softmax(super().logits(m), 1)


@bug(
    "t3-mn-ungated-sum", "mode_norm",
    "The modes' outputs are summed without being weighted by their gates; the gates serve the statistics only.",
    right="output not weighted by the gates / gates missing in the sum over modes",
    wrong="division by K missing alone, N_k, output mixed by shares",
    seen=G + "edwardcapriolo/deliverance/pull/88",
)
class Ungated(Mn):
    def mix(self, gates, z):
        return z.sum(1)


@bug(
    "t3-mn-within-variance", "mode_norm",
    "A mode's variance is the weighted mean of the samples' own variances: the spread between the samples' means is missing.",
    right="variance within samples only / between-sample part missing / variance about each sample's mean",
    wrong="variance about the batch mean, one-pass variance, unbiased variance",
    seen=G + "speechbrain/speechbrain/pull/2835",
)
class Within(Mn):
    def variance(self, f, share, mean):
        return share.T @ f.var(2, unbiased=False)


@bug(
    "t3-mn-bias-after-softmax", "mode_norm",
    "The gates' bias is added to the probabilities after the softmax instead of to the logits before it: the gates do not sum to 1.",
    right="gate bias added after the softmax / gates do not sum to 1 because of the bias",
    wrong="gate bias missing, softmax axis, sigmoid gates",
    seen=G + "JavierAntoran/Bayesian-Neural-Networks/issues/15",
)
class BiasAfter(Mn):
    def logits(self, m):
        return m @ self.p["gate.weight"].T

    def gates(self, z):
        g = torch.softmax(z, 1) + self.p["gate.bias"]
        return g, g / g.sum(0)


@bug(
    "t3-mn-top2", "mode_norm",
    "Only the two largest gates of a sample are kept and renormalised, as in sparse mixtures of experts.",
    right="top-k (sparse) gates / small gates dropped",
    wrong="hard gates (argmax), temperature, N_k",
    seen=G + "davidmrau/mixture-of-experts/issues/32",
)
class Top2(Mn):
    def gates(self, z):
        kept, where = z.topk(min(2, z.shape[1]), 1)
        log = torch.full_like(z, -1e9).scatter(1, where, torch.log_softmax(kept, 1))
        return log.exp(), torch.softmax(log, 0)


@bug(
    "t3-mn-l2-gates", "mode_norm",
    "The gates of a sample are normalised by their Euclidean norm, so that their squares, not they, sum to 1.",
    right="gates do not sum to 1 / normalised by the wrong norm",
    wrong="softmax axis, temperature, sigmoid",
    seen=G + "databricks/megablocks/pull/87",
)
class L2Gates(Mn):
    def gates(self, z):
        log = z - torch.logsumexp(2 * z, 1, keepdim=True) / 2  # e^z over the root of the sum of their squares
        return log.exp(), torch.softmax(log, 0)


@bug(
    "t3-mn-last-mode", "mode_norm",
    "In the loop over the modes the output is assigned, not added: only the last mode's contribution remains.",
    right="only the last mode counts in y / output overwritten in the loop over modes",
    wrong="one mode of wrong order, hard gates, N_k",
    seen=G + "AviSoori1x/makeMoE/issues/2",
)
class LastMode(Mn):
    def mix(self, gates, z):
        out = torch.zeros_like(z[:, 0])
        for k in range(z.shape[1]):
            out = gates[:, k, None, None] * z[:, k]
        return out


@bug(
    "t3-mgn-input-detached", "mode_group_norm",
    "The gates' input, the channel means, is detached: dx lacks the path through the gates.",
    right="gradient of x through the gates missing / gate input detached",
    wrong="gates detached altogether (dgate is right here), statistics detached, softmax derivative",
    seen=G + "davidmrau/mixture-of-experts/issues/27 (gating out of the graph)",
)
class InputDetached(Mgn):
    def gate_input(self, m):
        return m.detach()


@bug(
    "t3-mgn-batch-moments", "mode_group_norm",
    "The weighted moments are taken over the batch as well as over the channels: the samples share their modes.",
    right="moments over the batch too / shares normalised over batch and channels",
    wrong="softmax over the channels, C_k missing, pooled moments",
    seen=G + "fkodom/soft-mixture-of-experts/pull/1",
)
class BatchMoments(Mgn):
    def share(self, z):
        log = torch.log_softmax(z, 2)
        return torch.softmax(log.reshape(-1, z.shape[2]), 0).reshape(z.shape)

    def total(self, share, values):
        return (share * values).sum((0, 1)).expand(share.shape[0], -1)


@bug(
    "t3-mgn-global-max", "mode_group_norm",
    "The softmax over the modes subtracts the largest logit of the whole tensor, not of each row: in rows far below every exp underflows and the logarithm of 0 follows.",
    right="softmax without its own row's maximum / underflow of exp in the gates",
    wrong="empty mode (0/0 of C_k), eps, one-pass variance",
    seen=G + "manassharma07/crysx_nn/issues/7",
)
class GlobalMax(Mgn):
    def share(self, z):
        z = z - z.max()
        return torch.softmax(z - torch.log(torch.exp(z).sum(2, keepdim=True)), 1)
