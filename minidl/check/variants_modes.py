"""Known variants of mode normalization."""

from __future__ import annotations

from minidl.check.variants import Collection, Variant
from minidl.check.variants_mode_backward import mode_backward

W = "w = softmax(log_softmax(z, 1), 0)  # g_nk / N_k"
VAR = "var = total(w[:, :, None] * mean(d * d, 3)[..., 0], 0)  # 1 K C"
RSTD = 'rstd = 1 / sqrt(var + self.options["eps"])'
CLAMP = "clamp(self.running_mean_square - self.running_mean * self.running_mean)[None]"
STATE = "def state(self)"
UNSAVED = "def saved(self):\n        return {}\n\n    def state(self)"
UPDATE = "self.update(mu[0], second[0], var[0])"
EVAL = "w = g\n            mu = self.running_mean[None]"
DM = "dm = dm + total(dz[:, :, None] * self.params"
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


def mode_norm() -> list[Variant]:
    """Variants of mode normalization."""
    table = Collection("mode_norm")
    gates(table)
    moments(table)
    inference(table)
    more_gates(table)
    more_moments(table)
    mode_backward(table)
    table.right("as the formula reads")
    table.right(
        "two passes, corrected mean",
        (
            "d = flat[:, None] - mu[..., None]  # N K C L",
            "d = flat[:, None] - mu[..., None]\n            rest = total(w[:, :, None] * mean(d, 3)[..., 0], "
            "0)\n            d = d - rest[..., None]",
        ),
    )
    table.right(
        "law of total variance",
        (
            VAR,
            "v = mean((flat - m[:, 0, :, None]) ** 2, 2)[:, None, :, 0]\n            var = total(w[:, :, None] "
            "* (v + (m - mu) * (m - mu)), 0)",
        ),
    )
    return table.variants


def gates(table: Collection) -> None:
    """Wrong gates."""
    shift = "the softmax overflows: it must subtract the largest logit first"
    table.wrong(
        "softmax without its shift",
        shift,
        ("g = softmax(z, 1)", "g = exp(z) / total(exp(z), 1)"),
        (W, "w = g / total(g, 0)"),
    )
    table.wrong(
        "softmax over the batch",
        "the gates' softmax runs over the batch, not over the modes",
        ("g = softmax(z, 1)", "g = softmax(z, 0)"),
        (W, "w = g / total(g, 0)"),
    )
    table.wrong(
        "hard gates",
        "the gates are those of the winner alone, not the softmax",
        ("g = softmax(z, 1)", "g = np.where(z == largest(z, 1), 1 + 0 * z, 0 * z)"),
        (W, "w = g / np.maximum(total(g, 0), 1e-30)"),
    )
    table.wrong(
        "gates squared",
        "y is weighted by the squares of the gates",
        ("gate = g[:, :, None, None]", "gate = (g * g)[:, :, None, None]"),
        ("y = total(g[:, :, None, None]", "y = total((g * g)[:, :, None, None]"),
    )
    table.wrong(
        "gates missing in y",
        "y is the plain mean over the modes, not weighted by the gates",
        ("y = total(g[:, :, None, None]", "y = total((0 * g + 1 / g.shape[1])[:, :, None, None]"),
    )
    table.wrong(
        "gate bias ignored",
        "Psi's bias is not added",
        (' + self.params["gate.bias"]  # N K', ' + 0 * self.params["gate.bias"]'),
    )
    table.wrong(
        "gates on the sum",
        "the gates see the sum over space, not the mean",
        ("z = total(m * self", "z = total(m * flat.shape[2] * self"),
    )
    table.wrong(
        "y divided by K", "y is divided by K", ("return y.reshape(shape)", "return (y / g.shape[1]).reshape(shape)")
    )
    table.wrong("weight ignored", "weight does not multiply y", ("(weight * xhat + bias), 1)", "(xhat + bias), 1)"))
    table.wrong("bias ignored", "bias is not added to y", ("(weight * xhat + bias), 1)", "(weight * xhat), 1)"))
    squeeze = "a squeeze drops the axis of a single mode, sample or pixel"
    table.wrong("squeeze of a single mode", squeeze, ("g = softmax(z, 1)", "g = softmax(z.squeeze(), 1)"))
    table.wrong(
        "rank taken for granted",
        "the layer takes four axes for granted",
        ("shape, flat = x.shape", "assert x.ndim == 4\n        shape, flat = x.shape"),
    )
    table.wrong(
        "x read in the order of memory",
        "x is read in the order of memory, strides ignored",
        ("shape, flat = x.shape", 'x = x.ravel(order="K").reshape(x.shape)\n        shape, flat = x.shape'),
    )
    table.wrong(
        "NaN hidden",
        "NaN in x is replaced by 0",
        ("shape, flat = x.shape", "x = np.nan_to_num(x)\n        shape, flat = x.shape"),
    )


def more_gates(table: Collection) -> None:
    """Further ways to get gates wrong."""
    soft = "g = softmax(z, 1)"

    def gate(name: str, says: str, new: str, *more: tuple[str, str]) -> None:
        table.wrong(name, says, (soft, new), *more)

    gate(
        "gates detached",
        "the gates are detached from the graph: no gradient passes through them, so that Psi's weight and bias "
        "get none "
        "and dx lacks that path",
        "z = detach(z)\n        g = softmax(z, 1)",
    )
    for name, factor in (("1/2", "0.5"), ("2", "2"), ("1/10", "0.1"), ("10", "10")):
        says = f"the logits of the gates are multiplied by {name}: a temperature"
        gate(f"temperature in the gates ({name})", says, f"z = z * {factor}\n        g = softmax(z, 1)")
    says = "the logits of the gates are divided by the root of C: a temperature"
    gate("temperature in the gates (1/root of C)", says, "z = z / m.shape[2] ** 0.5\n        g = softmax(z, 1)")
    gate(
        "sigmoid gates",
        "the gates are sigmoids that do not sum to 1, where a softmax over the modes belongs",
        "g = 1 / (1 + exp(-z))",
        (W, "w = g / total(g, 0)"),
    )
    gate(
        "gates normalised twice",
        "the softmax is applied twice to the gates",
        "z = softmax(z, 1)\n        g = softmax(z, 1)",
    )
    gate(
        "gates with the wrong sign", "the logits of the gates have the wrong sign", "z = -z\n        g = softmax(z, 1)"
    )
    gate(
        "uniform gates",
        "the gates are uniform, 1/K: Psi has no effect",
        "z = 0 * z\n        g = softmax(z, 1)",
    )
    seen = "z = total(m * self"
    table.wrong(
        "gates see the largest value",
        "the gates see the largest value over space, not the mean",
        (seen, "top = flat.max(axis=2)[:, None, :]\n        z = total(top * self"),
    )
    table.wrong(
        "gates see the first pixel",
        "the gates see the first pixel, not the mean over space",
        (seen, "z = total(flat[:, None, :, 0] * self"),
    )
    table.wrong(
        "gates of the batch",
        "all samples share the gates of the batch's mean",
        (seen, "z = total((mean(m, 0) + 0 * m) * self"),
    )
    y = "y = total(g[:, :, None, None] * (weight * xhat + bias), 1)"
    table.wrong(
        "y multiplied by K",
        "y is multiplied by K",
        ("return y.reshape(shape)", "return (y * g.shape[1]).reshape(shape)"),
    )
    table.wrong(
        "winner in y",
        "y is that of the winning mode alone (hard gates in y), where all modes are weighted by their gates",
        (
            y,
            "top = np.asarray(z == largest(z, 1), float)\n        y = total(top[:, :, None, None] * (weight * "
            "xhat + bias), 1)",
        ),
    )
    table.wrong(
        "y summed over the modes",
        "y is the sum over the modes, not weighted by the gates",
        (y, "y = total((weight * xhat + bias), 1)"),
    )
    table.wrong(
        "weight plus one", "1 + weight multiplies y", ("(weight * xhat + bias), 1)", "((1 + weight) * xhat + bias), 1)")
    )
    table.wrong(
        "weight and bias swapped",
        "weight and bias are swapped",
        ("(weight * xhat + bias), 1)", "(bias * xhat + weight), 1)"),
    )
    table.wrong(
        "bias a mode",
        "bias is added once a mode, K times in all",
        (y, "y = total(g[:, :, None, None] * (weight * xhat), 1) + bias[:, 0] * g.shape[1]"),
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


def inference(table: Collection) -> None:
    """Wrong running moments and evaluation."""
    table.wrong(
        "momentum swapped",
        "momentum is taken as the weight of the OLD moments; if you mean it, declare momentum='old'",
        ('lam = self.options["momentum"]', 'lam = 1 - self.options["momentum"]'),
        seen=("d2l-ai/d2l-en#2213",),
    )
    table.wrong(
        "moments of the means",
        "the running second moment is that of the samples' means",
        ("mean(flat * flat, 2)[:, None, :, 0], 0)\n", "m * m, 0)\n"),
    )
    table.wrong(
        "running variance for second moment",
        "running_mean_square holds a variance, not the mean of x²",
        ("second = total(w[:, :, None] * mean(flat * flat, 2)[:, None, :, 0], 0)", "second = var"),
    )
    table.wrong(
        "statistics updated in evaluation",
        "evaluation changes the running moments",
        (
            EVAL,
            f"self.update(mean(m, 0)[0], mean(m * m, 0)[0], mean(m * m, 0)[0] - mean(m, 0)[0] ** 2)\n            "
            f"{EVAL}",
        ),
    )
    table.wrong(
        "statistics updated twice",
        "the running moments are updated twice a forward pass",
        (UPDATE, f"{UPDATE}\n            {UPDATE}"),
    )
    table.wrong("statistics never updated", "training leaves the running moments as they are", (UPDATE, "pass"))
    table.wrong(
        "state not saved",
        "the running moments are not part of the saved state: a reload loses them",
        (STATE, UNSAVED),
        seen=("bayesiains/nflows#4",),
    )
    table.wrong(
        "running moments start at 0",
        "the running second moment starts at 0: evaluation before training divides by sqrt(eps)",
        ("zero, zero + 1", "zero, zero"),
    )
    table.wrong(
        "variance not clamped",
        "evaluation takes <x²> − <x>² as it comes: below −eps its root is NaN",
        (CLAMP, CLAMP.replace("clamp", "")),
    )
    table.wrong(
        "evaluation uses the batch",
        "evaluation normalises by the moments of the batch",
        ("if training:\n            w = softmax", "if True:\n            w = softmax"),
        (UPDATE, f"training and {UPDATE}"),
        ("if training:\n            dvar", "if True:\n            dvar"),
    )
    table.wrong(
        "training formula in the backward of evaluation",
        "backward after evaluation uses the training formula; running moments are constants",
        ("if training:\n            dvar", "if True:\n            dvar"),
    )
    table.wrong(
        "backward of the first forward",
        "backward belongs to the first forward pass, not to the last",
        ("self.kept = (", "self.kept = self.kept or ("),
    )
    table.wrong(
        "gradients overwritten",
        "gradients are overwritten where they are declared to add up; if you mean it, declare grads='overwrite'",
        declares={"grads": "accumulate"},
    )
