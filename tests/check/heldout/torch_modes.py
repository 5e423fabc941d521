"""Held-out bugs: mode norm and mode group norm in PyTorch, gradients by autograd."""

from __future__ import annotations

from collections.abc import Mapping

from heldout.registry import bug
from heldout.torch_base import Torch, torch


class Mn(Torch):
    """Mode norm whose pieces the bugs below write anew; one value a channel normalises to zero, nothing raises."""

    conventions: Mapping[str, str] = {"grads": "accumulate", "single_value": "zero"}

    def pooled(self, x):
        return x.mean(2)

    def logits(self, x):
        return self.pooled(x) @ self.p["gate.weight"].T + self.p["gate.bias"]

    def log_gates(self, x):
        return torch.log_softmax(self.logits(x), 1)

    def shares(self, log_g):
        return torch.softmax(log_g, 0)

    def moments(self, x, w):
        mu = w.T @ x.mean(2)
        var = torch.einsum("nk,nkc->kc", w, (x[:, None] - mu[None, :, :, None]).square().mean(3))
        return mu, var

    def second_moment(self, x, w, mu, var):
        return w.T @ x.square().mean(2)

    def stored(self):
        mu, square = self.s.values()
        return mu, (square - mu * mu).clamp(min=0)

    def mixing(self, g, w):
        return g

    def compute(self, x, training):
        log_g = self.log_gates(x)
        g, w = log_g.exp(), self.shares(log_g)
        if training:
            mu, var = self.moments(x, w)
            self.blend(mu, self.second_moment(x, w, mu, var))
        else:
            mu, var = self.stored()
        xhat = (x[:, None] - mu[None, :, :, None]) / (var[None, :, :, None] + self.eps).sqrt()
        return self.affine(torch.einsum("nk,nkcp->ncp", self.mixing(g, w), xhat))


@bug(
    "t-mn-batch-softmax",
    "mode_norm",
    "gates' softmax over the batch axis",
    "softmax(dim=0): the gates of a mode sum to one over the samples",
)
class MnBatchSoftmax(Mn):
    def log_gates(self, x):
        return torch.log_softmax(self.logits(x), 0)


@bug(
    "t-mn-nk-missing",
    "mode_norm",
    "N_k missing",
    "the moments of a mode are averaged over the batch: the gates are divided by N, not by their sum N_k",
)
class MnNoNk(Mn):
    def shares(self, log_g):
        return log_g.exp() / len(log_g)


@bug("t-mn-nk-eps", "mode_norm", "eps added to N_k", "g / (g.sum(0) + eps)")
class MnNkEps(Mn):
    def shares(self, log_g):
        g = log_g.exp()
        return g / (g.sum(0) + self.eps)


@bug(
    "t-mn-gates-detached",
    "mode_norm",
    "gates detached",
    "the gates are detached: Psi gets no gradient, and x none through them",
)
class MnDetached(Mn):
    def log_gates(self, x):
        return super().log_gates(x).detach()


@bug(
    "t-mn-pool-detached",
    "mode_norm",
    "gradient through the pooled mean missing",
    "Psi is fed x.detach().mean(): Psi learns, but dx lacks the way through the gates",
)
class MnPoolDetached(Mn):
    def pooled(self, x):
        return x.detach().mean(2)


@bug("t-mn-max-pool", "mode_norm", "gates from max pooling", "Psi sees the largest pixel of a channel, not the mean")
class MnMaxPool(Mn):
    def pooled(self, x):
        return x.amax(2)


@bug("t-mn-hard", "mode_norm", "hard gates", "each sample belongs wholly to the mode of its largest logit")
class MnHard(Mn):
    def log_gates(self, x):
        g = torch.nn.functional.one_hot(self.logits(x).argmax(1), len(self.p["gate.bias"]))
        return g.to(x.dtype).clamp(min=1e-30).log()


@bug(
    "t-mn-temperature", "mode_norm", "temperature in the gates", "the logits are divided by sqrt(C) before the softmax"
)
class MnTemperature(Mn):
    def logits(self, x):
        return super().logits(x) / x.shape[1] ** 0.5


@bug(
    "t-mn-running-variance",
    "mode_norm",
    "running moments hold the variance",
    "keeps a running variance in place of the second moment, and evaluates with it",
)
class MnRunningVariance(Mn):
    def second_moment(self, x, w, mu, var):
        return var

    def stored(self):
        return tuple(self.s.values())


@bug(
    "t-mn-eval-order",
    "mode_norm",
    "modes in the wrong order in evaluation",
    "evaluation reads the running moments of the modes in reverse",
)
class MnOrder(Mn):
    def stored(self):
        return tuple(v.flip(0) for v in super().stored())


@bug(
    "t-mn-mix-shares",
    "mode_norm",
    "output mixed by the normalised gates",
    "the sum over the modes weighs by g / N_k, which is for the moments alone",
)
class MnMixShares(Mn):
    def mixing(self, g, w):
        return w


@bug(
    "t-mn-no-clamp",
    "mode_norm",
    "variance not clamped in evaluation",
    "<x²> − <x>² of the running moments can be negative; the root is then NaN",
)
class MnNoClamp(Mn):
    def stored(self):
        mu, square = self.s.values()
        return mu, square - mu * mu


@bug("t-mn-momentum", "mode_norm", "momentum swapped", "momentum weighs the old running moments")
class MnMomentum(Mn):
    def blend(self, first, second, mom=None):
        super().blend(first, second, 1 - self.momentum)


@bug(
    "t-mn-between",
    "mode_norm",
    "variance about the batch mean",
    "the variance of a mode is taken about the mean of the whole batch",
)
class MnBetween(Mn):
    def moments(self, x, w):
        mu = w.T @ x.mean(2)
        return mu, w.T @ (x - x.mean((0, 2), keepdim=True)).square().mean(2)


class Mgn(Torch):
    """Mode group norm whose pieces the bugs below write anew."""

    def log_gates(self, x):
        m = x.mean(2)[:, :, None]
        return torch.log_softmax(m * self.p["gate.weight"][:, 0] + self.p["gate.bias"], 2)

    def shares(self, log_g):
        return torch.softmax(log_g, 1)

    def variance(self, x, w, mu):
        return torch.einsum("nck,nck->nk", w, (x[..., None] - mu[:, None, None]).square().mean(2))

    def mixed(self, xhat, log_g):
        return xhat.mean(3)

    def compute(self, x, training):
        log_g = self.log_gates(x)
        w = self.shares(log_g)
        mu = torch.einsum("nck,nc->nk", w, x.mean(2))
        var = self.variance(x, w, mu)
        xhat = (x[..., None] - mu[:, None, None]) / (var[:, None, None] + self.eps).sqrt()
        return self.affine(self.mixed(xhat, log_g))


@bug(
    "t-mgn-gated-output",
    "mode_group_norm",
    "output mixed by the gates",
    "the sum over the modes weighs each by the channel's gate, not by 1/K",
)
class MgnGated(Mgn):
    def mixed(self, xhat, log_g):
        return (xhat * log_g.exp()[:, :, None]).sum(3)


@bug(
    "t-mgn-channel-softmax",
    "mode_group_norm",
    "gates' softmax over the channels",
    "softmax(dim=1): the gates of a mode sum to one over the channels",
)
class MgnChannels(Mgn):
    def log_gates(self, x):
        m = x.mean(2)[:, :, None]
        return torch.log_softmax(m * self.p["gate.weight"][:, 0] + self.p["gate.bias"], 1)


@bug("t-mgn-one-pass", "mode_group_norm", "one-pass variance", "the variance is E[x²] − E[x]²")
class MgnOnePass(Mgn):
    def variance(self, x, w, mu):
        return torch.einsum("nck,nc->nk", w, x.square().mean(2)) - mu.square()


@bug("t-mgn-sum", "mode_group_norm", "division by K missing", "adds the K normalised copies without dividing by K")
class MgnSum(Mgn):
    def mixed(self, xhat, log_g):
        return xhat.sum(3)


@bug("t-mgn-nk", "mode_group_norm", "C_k missing", "divides the gates by C, not by their sum over the channels")
class MgnNk(Mgn):
    def shares(self, log_g):
        return log_g.exp() / log_g.shape[1]
