"""Second held-out set: mode norms in PyTorch; slips of the kinds that other norms have in public."""

from __future__ import annotations

from heldout.second.registry import bug
from heldout.torch_base import Torch, col, torch


class Mn(Torch):
    """Mode norm; a subclass changes a step."""

    def compute(self, x, training):
        gates = self.gates(self.pooled(x) @ self.p["gate.weight"].T + self.p["gate.bias"])
        if training:
            share = gates / gates.sum(0)
            mean = torch.einsum("nk,ncp->kc", share, x) / x.shape[2]
            var = self.variance(x, share, mean)
            self.track(x, share, mean)
        else:
            mean = self.s["running_mean"]
            var = (self.s["running_mean_square"] - mean.square()).clamp(min=0)
        z = (x[:, None] - mean[None, :, :, None]) * torch.rsqrt(var + self.eps)[None, :, :, None]
        return self.affine(torch.einsum("nk,nkcp->ncp", gates, z))

    def pooled(self, x):
        return x.mean(2)

    def gates(self, logits):
        return torch.softmax(logits, 1)

    def variance(self, x, share, mean):
        off = (x[:, None] - mean[None, :, :, None]).square().mean(3)
        return torch.einsum("nk,nkc->kc", share, off)

    def track(self, x, share, mean):
        self.blend(mean, torch.einsum("nk,ncp->kc", share, x.square()) / x.shape[2])


@bug("t2-mn-sum-pool", "mode_norm", "the gates see the sum over the pixels, not the mean")
class MnSumPool(Mn):
    def pooled(self, x):
        return x.sum(2)


@bug("t2-mn-sigmoid", "mode_norm", "gates by a sigmoid, which do not sum to 1")
class MnSigmoid(Mn):
    def gates(self, logits):
        return torch.sigmoid(logits)


@bug("t2-mn-batch-variance", "mode_norm", "the variance is taken about the batch's mean, not the mode's")
class MnBatchVariance(Mn):
    def variance(self, x, share, mean):
        return super().variance(x, share, x.mean((0, 2)).expand_as(mean))


@bug("t2-mn-running-plain", "mode_norm", "the running statistics of all modes are those of the plain batch")
class MnRunningPlain(Mn):
    def track(self, x, share, mean):
        plain = x.mean((0, 2)).expand_as(mean)
        self.blend(plain, x.square().mean((0, 2)).expand_as(mean))


@bug("t2-mn-first-pixel", "mode_norm", "the gates see the first pixel instead of the mean of all")
class MnFirstPixel(Mn):
    def pooled(self, x):
        return x[:, :, 0]


@bug("t2-mn-momentum", "mode_norm", "momentum weighs the old statistics")
class MnMomentum(Mn):
    def track(self, x, share, mean):
        kept, self.momentum = self.momentum, 1 - self.momentum
        super().track(x, share, mean)
        self.momentum = kept


class Mgn(Torch):
    """Mode group norm; a subclass changes a step."""

    def compute(self, x, training):
        logits = self.seen(x)[:, :, None] * self.p["gate.weight"][:, 0] + self.p["gate.bias"]
        share = self.shares(torch.softmax(logits, 2))
        mean = torch.einsum("nck,ncp->nk", share, x) / x.shape[2]
        off = x[..., None] - mean[:, None, None]
        var = torch.einsum("nck,ncpk->nk", share, off.square()) / x.shape[2]
        z = off * torch.rsqrt(self.corrected(var, x) + self.eps)[:, None, None]
        return z.mean(3) * col(self.w) + col(self.b)

    def seen(self, x):
        return x.mean(2)

    def shares(self, gates):
        return gates / gates.sum(1, keepdim=True)

    def corrected(self, var, x):
        return var


@bug("t2-mgn-one-gate", "mode_group_norm", "the gates see the mean of the whole sample, the same for each channel")
class MgnOneGate(Mgn):
    def seen(self, x):
        return x.mean((1, 2), keepdim=False)[:, None].expand(x.shape[:2])


@bug("t2-mgn-unbiased", "mode_group_norm", "the modes' variance is corrected by n/(n − 1)")
class MgnUnbiased(Mgn):
    def corrected(self, var, x):
        n = x.shape[1] * x.shape[2]
        return var * n / max(n - 1, 1)
