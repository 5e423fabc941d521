"""Known variants of mode normalization: the moments of its modes."""

from __future__ import annotations

from minidl.check.variants.kinds import Collection

W = "w = softmax(log_softmax(z, 1), 0)  # g_nk / N_k"
VAR = "var = total(w[:, :, None] * mean(d * d, 3)[..., 0], 0)  # 1 K C"
RSTD = 'rstd = 1 / sqrt(var + self.options["eps"])'
CLAMP = "clamp(self.running_mean_square - self.running_mean * self.running_mean)[None]"
UPDATE = "self.update(mu[0], second[0], var[0])"
EVAL = "w = g\n            mu = self.running_mean[None]"
MOMENTS = (
    "mu = total(w[:, :, None] * m, 0)  # 1 K C",
    "d = flat[:, None] - mu[..., None]  # N K C L",
    VAR,
    "second = total(w[:, :, None] * mean(flat * flat, 2)[:, None, :, 0], 0)",
    UPDATE,
)
KERAS = """w = softmax(log_softmax(z, 1), 0)
            gx = g[:, :, None, None] * flat[:, None]  # N K C L
            mu = mean(gx, (0, 3))[..., 0]
            var = mean((gx - mu[..., None]) ** 2, (0, 3))[..., 0]
            self.update(mu[0], (var + mu * mu)[0], var[0])
            d, g = gx - mu[..., None], 1 + 0 * g"""


def moments(table: Collection) -> None:
    """Wrong moments of a mode."""
    one_pass = "the variance is computed in one pass, <x²>_k − <x>_k², which cancels when the mean is large"
    table.wrong(
        "one-pass variance",
        one_pass,
        (VAR, "var = total(w[:, :, None] * mean(flat * flat, 2)[:, None, :, 0], 0) - mu * mu"),
        symptom=True,
        seen=("google/flax#1491", "tensorflow/tensorflow#3290"),
    )
    table.wrong("N for N_k", "the moments of a mode are divided by N, not by N_k", (W, "w = g / g.shape[0]"))
    table.wrong(
        "N/K for N_k", "the moments of a mode are divided by N/K, not by N_k", (W, "w = g * g.shape[1] / g.shape[0]")
    )
    empty = "an empty mode gives 0/0: N_k = 0"
    table.wrong("0/0 for an empty mode", empty, (W, "w = g / total(g, 0)"))
    table.wrong("eps in N_k", "an eps is added to N_k", (W, "w = g / (total(g, 0) + 1e-3)"))
    table.wrong(
        "eps outside the root",
        "eps is added to the standard deviation, outside the root",
        (RSTD, 'rstd = 1 / (sqrt(var) + self.options["eps"])'),
    )
    table.wrong("eps missing", "there is no eps under the root", (RSTD, "rstd = 1 / sqrt(var)"))
    table.wrong(
        "variance of the means alone",
        "the variance of a mode is that of its samples' means; the variance within each sample is missing",
        (VAR, "var = total(w[:, :, None] * (m - mu) * (m - mu), 0)"),
    )
    table.wrong(
        "variance within samples alone",
        "the variance of a mode lacks the spread of its samples' means",
        (VAR, "var = total(w[:, :, None] * mean((flat - m[:, 0, :, None]) ** 2, 2)[:, None, :, 0], 0)"),
    )
    table.wrong(
        "variance shared by the modes",
        "all modes share the variance of the batch",
        (VAR, "var = mean((flat - mean(flat, (0, 2))) ** 2, (0, 2))[:, None, :, 0] + 0 * mu"),
    )
    keras = "BN of g_k x, which divides by N: another function for K > 1"
    original = (W, *MOMENTS)
    text = "\n            ".join(original)
    table.wrong(
        "BN of the gated input",
        keras,
        (text, KERAS),
        (
            "y = total(g[:, :, None, None] * (weight * xhat + bias), 1)",
            "y = total(g[:, :, None, None] * weight * xhat, 1) + mean(bias, 1)[:, 0]",
        ),
    )
    table.wrong(
        "uneven shards",
        "shards use their own moments, averaged with equal weight",
        (
            W,
            W
            + "\n            if self.cuts:"
            + "\n                parts = [p / total(p, 0) for p in np.split(w, self.cuts)]"
            + "\n                w = np.concatenate(parts) / (len(self.cuts) + 1)",
        ),
    )


def more_moments(table: Collection) -> None:
    """Further ways to get moments wrong."""
    mu = "mu = total(w[:, :, None] * m, 0)  # 1 K C"

    def weights(name: str, says: str, new: str) -> None:
        table.wrong(name, says, (W, new))

    weights(
        "moments without gates",
        "all modes take the moments of the whole batch: the gates do not weight them",
        "w = 0 * g + 1 / g.shape[0]",
    )
    weights(
        "gates squared in the moments", "the gates weight the moments by their squares", "w = g * g / total(g * g, 0)"
    )
    weights(
        "gates of the moments not normalised", "the moments are sums weighted by the gates, not divided by N_k", "w = g"
    )
    weights("N_k plus one", "1 is added to N_k", "w = g / (1 + total(g, 0))")
    for value in ("1e-5", "1e-6", "1e-8", "1e-10", "1e-12"):
        weights(f"eps in N_k ({value})", f"an eps of {value} is added to N_k", f"w = g / (total(g, 0) + {value})")
    weights(
        "moments of the winners",
        "the moments are those of the samples that a mode wins (hard assignment)",
        "w = np.asarray(z == largest(z, 1), float)\n            w = w / np.maximum(total(w, 0), 1e-30)",
    )
    both = "the moments of the modes are detached: dx lacks the paths through mu_k and sigma_k"
    table.wrong(
        "moments detached",
        both,
        (
            VAR,
            f"{VAR[: -len('  # 1 K C')]}\n            mu, var = detach(mu), detach(var)\n            d = flat[:, "
            f"None] - mu[..., None]",
        ),
    )
    table.wrong(
        "unbiased variance",
        "the variance of a mode is multiplied by n/(n − 1): unbiased, n = N·P",
        (VAR, f"{VAR[: -len('  # 1 K C')]} * (flat.size // flat.shape[1]) / max(flat.size // flat.shape[1] - 1, 1)"),
    )
    table.wrong(
        "unbiased N_k",
        "the variance of a mode is divided by N_k − 1/P, unbiased",
        (
            VAR,
            f"{VAR[: -len('  # 1 K C')]}\n            n_k = total(g, 0)[:, :, None] * flat.shape[2]\n            "
            f"var = var * n_k / np.maximum(n_k - 1, 1e-12)",
        ),
    )
    table.wrong(
        "mean not subtracted",
        "x is divided by sigma_k without its mean taken off",
        ("xhat = d * rstd[..., None]", "xhat = flat[:, None] * rstd[..., None]"),
    )
    table.wrong(
        "mean shared by the modes",
        "all modes share the mean of the batch",
        (mu, "mu = mean(m, 0) + 0 * total(w[:, :, None] * m, 0)"),
    )
    table.wrong(
        "variance about the batch's mean",
        "the variance of a mode is taken about the mean of the batch, not about its own",
        (
            VAR,
            "away = flat[:, None] - mean(m, 0)[..., None]\n            var = total(w[:, :, None] * mean(away * "
            "away, 3)[..., 0], 0)",
        ),
    )
    root = 'self.options["eps"]'
    table.wrong("root missing", "y is divided by the variance, not by its root", (RSTD, f"rstd = 1 / (var + {root})"))
    table.wrong(
        "eps squared", "the square of eps is added to the variance", (RSTD, f"rstd = 1 / sqrt(var + {root} ** 2)")
    )
    table.wrong(
        "eps as a floor",
        "the root is taken of max(var, eps), not of var + eps",
        (RSTD, f"rstd = 1 / sqrt(np.maximum(var, {root}))"),
    )
    table.wrong("eps twice", "eps is added twice to the variance", (RSTD, f"rstd = 1 / sqrt(var + 2 * {root})"))
    for value in ("1e-5", "1e-8"):
        fixed = f"eps is fixed at {value}, whatever it is set to; if you mean it, declare eps={value}"
        table.wrong(f"eps fixed at {value}", fixed, (RSTD, f"rstd = 1 / sqrt(var + {value})"))
    table.wrong(
        "weighted by the gates in every element",
        "the moments are those of the gated input g_k x about its own mean",
        (
            VAR,
            "away = g[:, :, None, None] * flat[:, None] - mu[..., None]\n            var = total(mean(away * "
            "away, 3)[..., 0], 0) / g.shape[0]",
        ),
    )
    first = "self.running_mean = (1 - lam) * self.running_mean + lam * first"
    second = "self.running_mean_square = (1 - lam) * self.running_mean_square + lam * second"
    table.wrong("running_mean never updated", "training leaves running_mean as it is", (first, "pass"))
    table.wrong("running_mean_square never updated", "training leaves running_mean_square as it is", (second, "pass"))
    table.wrong(
        "running moments do not decay",
        "the batch's moments are added to the running ones, which lack the factor 1 − momentum",
        (first, "self.running_mean = self.running_mean + lam * first"),
        (second, "self.running_mean_square = self.running_mean_square + lam * second"),
    )
    table.wrong(
        "running moments are those of the last batch",
        "the running moments are those of the last batch",
        (first, "self.running_mean = first"),
        (second, "self.running_mean_square = second"),
    )
    for value in ("0.1", "0.9", "0.01", "0.99"):
        table.wrong(
            f"momentum fixed at {value}",
            f"momentum is {value} whatever it is set to",
            ('lam = self.options["momentum"]', f"lam = {value}"),
        )
    table.wrong(
        "running moments shared by the modes",
        "the running moments are those of the whole batch, shared by all modes",
        (UPDATE, "self.update(mean(m, 0)[0] + 0 * mu[0], mean(flat * flat, (0, 2))[:, :, 0] + 0 * mu[0], var[0])"),
    )
    table.wrong(
        "running moments of a mode weighted by its share",
        "the running moments of a mode move by momentum times its share of the batch, N_k / N",
        (
            UPDATE,
            "share = mean(g, 0).reshape((-1, 1))\n            self.update(share * mu[0] + (1 - share) * "
            "self.running_mean, share * second[0] + (1 - share) * self.running_mean_square, var[0])",
        ),
    )
    table.wrong(
        "evaluation takes running_mean_square for the variance",
        "evaluation takes <x²> for the variance: <x>² is not subtracted",
        (CLAMP, "self.running_mean_square[None]"),
    )
    table.wrong(
        "evaluation takes the absolute variance",
        "evaluation takes |<x²> − <x>²|, where a negative variance is 0",
        (CLAMP, "abs(self.running_mean_square - self.running_mean * self.running_mean)[None]"),
    )
    table.wrong(
        "evaluation with uniform gates",
        "evaluation weights all modes alike, without their gates",
        (EVAL, f"g = 0 * g + 1 / g.shape[1]\n            {EVAL}"),
    )
    table.wrong(
        "evaluation with hard gates",
        "evaluation takes the winning mode alone",
        (EVAL, f"g = np.asarray(z == largest(z, 1), float)\n            {EVAL}"),
    )
