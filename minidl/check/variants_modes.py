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
UPDATE = "self.update(mu[0], second[0])"
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
            self.update(mu[0], (var + mu * mu)[0])
            d, g = gx - mu[..., None], 1 + 0 * g"""


def mode_norm() -> list[Variant]:
    """Variants of mode normalization."""
    table = Collection("mode_norm")
    gates(table)
    moments(table)
    inference(table)
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
    table.wrong("BN of the gated input", keras, (text, KERAS))
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
        (EVAL, f"self.update(mean(m, 0)[0], mean(m * m, 0)[0])\n            {EVAL}"),
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
