"""Known variants of softmax cross-entropy."""

from __future__ import annotations

from minidl.check.variants import reported_layers as reported
from minidl.check.variants.kinds import Collection, Variant
from minidl.check.variants.slips import of_loss


def softmax_cross_entropy() -> list[Variant]:
    """Variants of softmax cross-entropy."""
    table = Collection("softmax_cross_entropy")
    table.wrong(
        "sum for mean",
        "the loss is summed over the batch, not averaged",
        ("count = 1 if", "count = 1 if True or"),
    )
    logp_line = "logp = log_softmax(x, 1)"
    naive = "logp = np.log(exp(x) / exp(x).sum(axis=1, keepdims=True))"
    table.wrong(
        "softmax without its shift",
        "the softmax overflows: it must subtract the largest logit first",
        (logp_line, naive),
    )
    table.wrong(
        "log-sum-exp without its shift",
        "exp overflows: log sum exp must subtract the largest logit first",
        (logp_line, "logp = x - np.log(exp(x).sum(axis=1, keepdims=True))"),
    )
    p = "p = exp(log_softmax(x, 1))\n        "
    logp = "logp = log_softmax(x, 1)"

    def saturating(name: str, says: str, new: str) -> None:
        table.wrong(name, says, (logp, p + new))

    zero = "the logarithm is taken of a softmax that may be 0: the loss is infinite or NaN where logits are far apart"
    saturating("log of a rounded softmax", zero, "logp = np.log(p)")
    for value in ("1e-3", "1e-4", "1e-5", "1e-6", "1e-7", "1e-8", "1e-9", "1e-10", "1e-12", "1e-15"):
        clipped = f"the loss saturates: the softmax is clipped to {value} before its logarithm is taken"
        saturating(f"softmax clipped at {value}", clipped, f"logp = np.log(np.maximum(p, {value}))")
        added = f"the loss saturates: {value} is added to the softmax before its logarithm is taken"
        saturating(f"{value} added to the softmax", added, f"logp = np.log(p + {value})")
    saturating(
        "softmax applied twice",
        "the softmax is applied twice: the loss gets probabilities for logits",
        "logp = log_softmax(p, 1)",
    )
    saturating("logarithm missing", "the logarithm is missing: the loss is the mean of −p", "logp = p")
    table.wrong(
        "logarithm to base 2", "the logarithm is to base 2", (logp, "logp = log_softmax(x, 1) / 0.6931471805599453")
    )
    sharp = "the logits are divided by 2: a temperature"
    table.wrong("temperature", sharp, (logp, "logp = log_softmax(x / 2, 1)"))
    table.wrong("sigmoid for softmax", "the loss takes sigmoids, not a softmax", (logp, "logp = -log(1 + exp(-x))"))
    table.wrong(
        "log-sum-exp missing",
        "the normaliser log sum exp is missing: the loss is the mean of −x at the labels",
        (logp, "logp = x"),
    )
    at = "chosen = np.arange(x.shape[1]) == np.asarray"
    table.wrong(
        "labels count from 1",
        "labels are taken to count from 1: each is one too low",
        (at, "chosen = np.arange(x.shape[1]) + 1 == np.asarray"),
    )
    mean = "count = 1 if"
    table.wrong(
        "divided by the classes too",
        "the loss is divided by N·C: the mean runs over the classes, too",
        (mean, "count = x.size if True else 1 if"),
    )
    table.wrong(
        "divided by the classes", "the loss is divided by C, not by N", (mean, "count = x.shape[1] if True else 1 if")
    )
    table.wrong(
        "dx divided by the classes too",
        "dx is divided by N·C",
        ("- chosen) / count", "- chosen) / count / logp.shape[1]"),
    )
    table.wrong("dx divided twice by N", "dx is divided twice by N", ("- chosen) / count", "- chosen) / count / count"))
    table.wrong(
        "dx of the chosen class alone",
        "dx is that of the label's class alone",
        ("(exp(logp) - chosen)", "(exp(logp) - chosen) * chosen"),
    )
    table.wrong(
        "dx is minus one-hot",
        "dx lacks the softmax: it is −one-hot / N, as for the negative log likelihood",
        ("(exp(logp) - chosen)", "(0 * logp - chosen)"),
    )
    table.wrong(
        "dx with the logarithm",
        "dx takes the logarithm of the softmax for the softmax",
        ("(exp(logp) - chosen)", "(logp - chosen)"),
    )
    table.wrong(
        "dx with the logits",
        "dx takes the logits for their softmax",
        ("logp = log_softmax(x, 1)", "self.x = x\n        logp = log_softmax(x, 1)"),
        ("(exp(logp) - chosen)", "(self.x - chosen)"),
    )
    table.wrong("sign of the loss", "the loss has the wrong sign", ("whole(-np.where", "whole(np.where"))
    table.wrong(
        "backward of the first forward",
        "backward belongs to the first forward pass, not to the last",
        ("self.kept = (", "self.kept = self.kept or ("),
    )
    largest = "the softmax subtracts the largest logit of the batch, not that of each sample, and underflows"
    table.wrong(
        "one shift for the batch",
        largest,
        (logp, "top = x.max()\n        logp = x - top - np.log(np.sum(exp(x - top), axis=1, keepdims=True))"),
    )
    table.wrong(
        "softmax over the batch",
        "the softmax runs over the batch, not over the classes",
        ("log_softmax(x, 1)", "log_softmax(x, 0)"),
    )
    table.wrong(
        "one shift for the batch, 0/0",
        "the softmax subtracts the largest logit of the batch, not that of each sample, so that a whole row underflows "
        "to 0/0",
        (logp, "e = exp(x - x.max())\n        logp = log(e / np.sum(e, axis=1, keepdims=True))"),
    )
    table.wrong(
        "dx with a softmax over the batch",
        "dx takes its softmax over the batch, not over the classes",
        ("(exp(logp) - chosen)", "(exp(log_softmax(self.x, 0)) - chosen)"),
        (logp, f"self.x = x\n        {logp}"),
        seen=("deeplearning4j/deeplearning4j#345",),
    )
    table.wrong(
        "dx by the probabilities",
        "dx is −one-hot / p / N, the derivative by the probabilities: the softmax's own derivative is missing",
        ("(exp(logp) - chosen)", "np.where(chosen, -exp(-logp), 0 * logp)"),
        seen=("fetchai/ledger#1580",),
    )
    for part in ("0.1", "0.05", "0.2"):
        table.wrong(
            f"labels smoothed by {part}",
            f"labels are smoothed by {part}: label smoothing is left on",
            ("-np.where(chosen, logp, 0 * x).sum()", f"-(({part} / x.shape[1] + (1 - {part}) * chosen) * logp).sum()"),
            ("(exp(logp) - chosen)", f"(exp(logp) - {part} / logp.shape[1] - (1 - {part}) * chosen)"),
        )
    table.wrong(
        "labels smoothed by 0.1 over the other classes",
        "labels are smoothed by 0.1, which is shared by the other classes alone",
        (
            "-np.where(chosen, logp, 0 * x).sum()",
            "-((0.1 * (1 - chosen) / (x.shape[1] - 1) + 0.9 * chosen) * logp).sum()",
        ),
        ("(exp(logp) - chosen)", "(exp(logp) - 0.1 * (1 - chosen) / (logp.shape[1] - 1) - 0.9 * chosen)"),
    )
    table.wrong(
        "square of the log-sum-exp added",
        "the loss has 1e-4 times the mean square of log sum exp added, as the z-loss of language models",
        (
            "y: Array = whole(-np.where(chosen, logp, 0 * x).sum() / count)",
            "self.z = mean(x - logp, 1)\n        "
            "y: Array = whole((1e-4 * (self.z * self.z).sum() - np.where(chosen, logp, 0 * x).sum()) / count)",
        ),
        ("dx = dy * (exp(logp) - chosen)", "dx = dy * (exp(logp) * (1 + 2e-4 * self.z) - chosen)"),
    )
    for bound in ("30", "50"):
        table.wrong(
            f"logits bent by {bound} tanh(x/{bound})",
            f"the logits are bent by {bound} tanh(x/{bound}) before the softmax, as language models do",
            (logp, f"self.bent = np.tanh(x / {bound})\n        logp = log_softmax({bound} * self.bent, 1)"),
            ("dx = dy * (exp(logp) - chosen)", "dx = dy * (1 - self.bent * self.bent) * (exp(logp) - chosen)"),
        )
    for size in ("32", "64", "100", "128"):
        table.wrong(
            f"divided by a batch of {size}",
            f"the loss is divided by {size}, whatever the size of the batch is",
            (mean, f"count = {size} if True else 1 if"),
            seen=("rinuboney/ladder#5",) if size == "100" else (),
        )
    table.wrong("dx without 1/N", "dx lacks the factor 1/N", ("- chosen) / count", "- chosen)"))
    table.wrong("dx without one-hot", "dx lacks the one-hot of the labels", ("(exp(logp) - chosen)", "exp(logp)"))
    table.wrong("dy ignored", "dx ignores the dy it receives", ("dx = dy * (", "dx = ("))
    table.wrong("dx signed wrongly", "dx has the wrong sign", ("dx = dy * (", "dx = -dy * ("))
    of_loss(table)
    reported.of_loss(table)
    table.right("as the formula reads")
    return table.variants
