"""Known variants of mode group normalization."""

from __future__ import annotations

from minidl.check.variants import found_in_code as found
from minidl.check.variants.kinds import Collection, Variant
from minidl.check.variants.reported_norms import of_mode_groups


def mode_group_norm() -> list[Variant]:
    """Variants of mode group normalization."""
    table = Collection("mode_group_norm")
    weights = "w = softmax(log_softmax(z, 2), 1)  # g_nck / C_nk"
    spread = "var = total(w * mean(d * d, 3)[..., 0], 1)"
    soft = "g = softmax(z, 2)"
    root = 'rstd = 1 / sqrt(var + self.options["eps"])[..., None]'
    table.wrong(
        "one-pass variance",
        "the variance is computed in one pass, which cancels when the mean is large",
        (spread, "var = total(w * mean(flat * flat, 3)[..., 0], 1) - mu * mu"),
        symptom=True,
        seen=("google/flax#1491",),
    )
    table.wrong(
        "softmax without its shift",
        "the softmax overflows: it must subtract the largest logit first",
        (soft, "g = exp(z) / total(exp(z), 2)"),
        (weights, "w = g / total(g, 1)"),
    )
    table.wrong(
        "softmax over the channels",
        "the gates' softmax runs over the channels, not over the modes",
        (soft, "g = softmax(z, 1)"),
        (weights, "w = g"),
    )
    table.wrong("0/0 for an empty mode", "an empty mode gives 0/0: C_nk = 0", (weights, "w = g / total(g, 1)"))
    table.wrong("C for C_nk", "the moments of a mode are divided by C, not by C_nk", (weights, "w = g / g.shape[1]"))
    table.wrong(
        "C/K for C_nk",
        "the moments of a mode are divided by C/K, not by C_nk",
        (weights, "w = g * g.shape[2] / g.shape[1]"),
    )
    table.wrong("eps in C_nk", "an eps is added to C_nk", (weights, "w = g / (total(g, 1) + 1e-3)"))
    table.wrong(
        "y not divided by K",
        "y lacks the factor 1/K",
        ("xhat = mean(d * rstd, 2)", "xhat = total(d * rstd, 2)"),
        ("/ modes  # N C 1 L", "/ 1"),
    )
    table.wrong(
        "y weighted by the gates",
        "y is weighted by the gates, where (eq. 5) takes 1/K",
        ("xhat = mean(d * rstd, 2)", "xhat = total(g[..., None] * d * rstd, 2)"),
    )
    table.wrong(
        "pooled for spatial moments",
        "the variance is that of the channels' means; if you mean it, use moments='pooled'",
        ('self.options.get("moments") == "pooled":\n            var', "True:\n            var"),
        ('self.options.get("moments") == "pooled":\n            spread', "True:\n            spread"),
    )
    table.wrong(
        "spatial for pooled moments",
        "the variance is that of all values where the pooled reading was asked for",
        ('self.options.get("moments") == "pooled":\n            var', "False:\n            var"),
        ('self.options.get("moments") == "pooled":\n            spread', "False:\n            spread"),
    )
    table.wrong(
        "eps outside the root",
        "eps is added to the standard deviation, outside the root",
        (root, 'rstd = 1 / (sqrt(var) + self.options["eps"])[..., None]'),
    )
    table.wrong("eps missing", "there is no eps under the root", (root, "rstd = 1 / sqrt(var)[..., None]"))
    table.wrong(
        "statistics over the batch",
        "the moments are taken over the batch too",
        ("mu = total(w * m, 1)  # N 1 K", "mu = mean(total(w * m, 1), 0) + 0 * total(w * m, 1)"),
    )
    table.wrong(
        "weight ignored",
        "weight does not multiply y",
        ('return column(self.params["weight"], x) * xhat', "return xhat"),
    )
    table.wrong("bias ignored", "bias is not added to y", (' * xhat + column(self.params["bias"], x)', " * xhat"))
    table.wrong("gate bias ignored", "psi's bias is not added", (' + self.params["gate.bias"]  # N C K', ""))
    table.wrong(
        "x read in the order of memory",
        "x is read in the order of memory, strides ignored",
        ("shape, flat = x.shape", 'x = x.ravel(order="K").reshape(x.shape)\n        shape, flat = x.shape'),
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
    more(table, weights, spread, soft, root)
    table.wrong(
        "C/K for C_nk in the variance",
        "the variance of a mode is divided by C/K, not by C_nk; the mean is right",
        (spread, "var = total(g * g.shape[2] / g.shape[1] * mean(d * d, 3)[..., 0], 1)"),
    )
    for name, old in (("weight", "dgate_weight = total("), ("bias", "dgate_bias = total(")):
        table.wrong(
            f"dgate.{name} is a mean",
            f"the gradient of psi's {name} is a mean over batch and channels, where a sum belongs",
            (old, f"dgate_{name} = mean("),
        )
        table.wrong(
            f"dgate.{name} averaged over the batch",
            f"the gradient of psi's {name} is a mean over the batch, where a sum belongs",
            (old, f"{old}1 / len(dy) * "),
        )
    table.wrong(
        "derivative of sigma_k doubled",
        "the derivative of sigma_k lacks its factor 1/2: dx and the gates' gradient hold that path twice",
        ("* rstd * rstd * rstd / 2", "* rstd * rstd * rstd"),
    )
    drops = {
        "dC_nk": (
            "the gates' gradient lacks the path through C_nk, as if C_nk were detached",
            "w * (dw - total(w * dw, 1))",
            "w * dw",
        ),
        "dgates of mu_k": ("the gates' gradient lacks the path through mu_k", " + dmu * m  # N C K", ""),
        "dgates of sigma_k": ("the gates' gradient lacks the path through sigma_k", "dvar[..., 0] * spread + ", ""),
        "softmax normaliser": ("the backward of the gates' softmax lacks − g sum(dg)", " - g * total(dlogg, 2)", ""),
        "dx of mu_k": ("dx lacks the path through mu_k", "dm = dm + total(w * dmu, 2)", "pass"),
        "dx of sigma_k": (
            "dx lacks the path through sigma_k",
            "dd = dd + dvar * w[..., None] * 2 * d / length",
            "pass",
        ),
        "dx of pooled sigma_k": (
            "dx lacks the path through the pooled sigma_k",
            "dm = total(2 * dvar[..., 0] * w * (m - mu), 2)",
            "dm = 0 * m",
        ),
        "dx of the gates": (
            "dx lacks the path through psi: the gates are detached from x",
            "dm = dm + total(dz *",
            "dm = dm + 0 * total(dz *",
        ),
        "dx of xhat": (
            "dx lacks its direct term",
            "dx = total(dd, 2)[:, :, 0]",
            "dx = total(dd - dk * rstd, 2)[:, :, 0]",
        ),
        "dgate.weight": ("the gradient of psi's weight is zero", "dgate_weight = total(", "dgate_weight = 0 * total("),
        "dgate.bias": ("the gradient of psi's bias is zero", "dgate_bias = total(", "dgate_bias = 0 * total("),
        "dweight": (
            "dweight is zero",
            "dweight, dbias = total(dy * xhat, axes)",
            "dweight, dbias = 0 * total(dy * xhat, axes)",
        ),
        "dbias": (
            "dbias is zero",
            "total(dy * xhat, axes), total(dy, axes)",
            "total(dy * xhat, axes), 0 * total(dy, axes)",
        ),
        "weight in dx": ("dx lacks the factor weight", '(dy * column(self.params["weight"], dy))', "dy"),
        "1/P in dx": ("the path through the spatial mean lacks 1/P", "+ dm / length", "+ dm"),
    }
    for term, (says, old, new) in drops.items():
        table.wrong(f"dropped {term}", says, (old, new))
    of_mode_groups(table)
    table.right("as the formula reads")
    table.right(
        "law of total variance",
        (spread, "var = total(w * (mean((flat - m[..., None]) ** 2, 3)[..., 0] + (m - mu) * (m - mu)), 1)"),
    )
    found.of_mode_groups(table)
    return table.variants


def more(table: Collection, weights: str, spread: str, soft: str, root: str) -> None:
    """Further ways to go wrong."""

    def gate(name: str, says: str, new: str, *rest: tuple[str, str]) -> None:
        table.wrong(name, says, (soft, new), *rest)

    gate(
        "gates detached",
        "the gates are detached from the graph: psi's weight and bias get no gradient, and dx lacks that path",
        "z = detach(z)\n        g = softmax(z, 2)",
    )
    for name, factor in (("1/2", "0.5"), ("2", "2"), ("1/10", "0.1"), ("10", "10")):
        says = f"the logits of the gates are multiplied by {name}: a temperature"
        gate(f"temperature in the gates ({name})", says, f"z = z * {factor}\n        g = softmax(z, 2)")
    gate(
        "hard gates",
        "the gates are those of the winner alone, not the softmax",
        "g = np.asarray(z == largest(z, 2), float)",
        (weights, "w = g / np.maximum(total(g, 1), 1e-30)"),
    )
    gate(
        "sigmoid gates",
        "the gates are sigmoids that do not sum to 1",
        "g = 1 / (1 + exp(-z))",
        (weights, "w = g / total(g, 1)"),
    )
    gate(
        "softmax over the batch",
        "the gates' softmax runs over the batch, not over the modes",
        "g = softmax(z, 0)",
        (weights, "w = g / total(g, 1)"),
    )

    def weight(name: str, says: str, new: str) -> None:
        table.wrong(name, says, (weights, new))

    weight(
        "C_nk over the batch",
        "the moments of a mode are divided by the gates summed over the batch",
        "w = g / total(g, (0, 1)) * g.shape[0]",
    )
    weight(
        "gates of the moments not normalised",
        "the moments are sums weighted by the gates, not divided by C_nk",
        "w = g",
    )
    weight(
        "moments without gates",
        "the gates do not weight the moments: all modes take those of all channels",
        "w = 0 * g + 1 / g.shape[1]",
    )
    weight(
        "gates squared in the moments", "the gates weight the moments by their squares", "w = g * g / total(g * g, 1)"
    )
    for value in ("1e-5", "1e-6", "1e-8"):
        weight(f"eps in C_nk ({value})", f"an eps of {value} is added to C_nk", f"w = g / (total(g, 1) + {value})")
    table.wrong(
        "moments detached",
        "the moments of the modes are detached: dx lacks the paths through mu_k and sigma_k",
        (
            root,
            f"mu, var = detach(mu), detach(var)\n        d = flat[:, None, :, :].reshape(flat.shape) - mu[..., "
            f"None]\n        {root}",
        ),
    )
    eps = 'self.options["eps"]'
    table.wrong(
        "root missing", "y is divided by the variance, not by its root", (root, f"rstd = 1 / (var + {eps})[..., None]")
    )
    table.wrong(
        "eps squared",
        "the square of eps is added to the variance",
        (root, f"rstd = 1 / sqrt(var + {eps} ** 2)[..., None]"),
    )
    table.wrong(
        "eps as a floor",
        "the root is taken of max(var, eps)",
        (root, f"rstd = 1 / sqrt(np.maximum(var, {eps}))[..., None]"),
    )
    for value in ("1e-5",):
        fixed = f"eps is fixed at {value}, whatever it is set to; if you mean it, declare eps={value}"
        table.wrong(f"eps fixed at {value}", fixed, (root, f"rstd = 1 / sqrt(var + {value})[..., None]"))
    y = "xhat = mean(d * rstd, 2)"
    table.wrong(
        "y weighted by K times the gates",
        "y is weighted by K g_k / K, the gates, and divided by K",
        (y, "xhat = mean(g[..., None] * d * rstd, 2)"),
    )
    table.wrong(
        "mean not subtracted", "x is divided by sigma_k without its mean taken off", (y, "xhat = mean(flat * rstd, 2)")
    )
    table.wrong(
        "y of the winner",
        "y is that of the winning mode alone",
        (y, "xhat = total(np.asarray(z == largest(z, 2), float)[..., None] * d * rstd, 2)"),
    )
    table.wrong(
        "variance of each channel",
        "the variance of a mode lacks the spread of its channels' means",
        (spread, "var = total(w * mean((flat - m[..., None]) ** 2, 3)[..., 0], 1)"),
    )
    table.wrong(
        "unbiased variance",
        "the variance of a mode is multiplied by n/(n − 1): unbiased, n = C·P",
        (spread, f"{spread} * (flat[0].size / max(flat[0].size - 1, 1))"),
    )
    table.wrong(
        "gates see the largest value",
        "the gates see the largest value over space, not the mean",
        ("z = m * self", "z = flat.max(axis=3) * self"),
    )
    table.wrong(
        "gates on the sum",
        "the gates see the sum over space, not the mean",
        ("z = m * self", "z = m * flat.shape[3] * self"),
    )
