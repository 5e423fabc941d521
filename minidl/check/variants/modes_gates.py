"""Known variants of mode normalization: its gates."""

from __future__ import annotations

from minidl.check.variants.kinds import Collection

W = "w = softmax(log_softmax(z, 1), 0)  # g_nk / N_k"


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
    once = (
        "y = total(g[:, :, None, None] * (weight * xhat + bias), 1)",
        "y = total(g[:, :, None, None] * (weight * xhat), 1) + bias[:, 0]",
    )
    gate(
        "sigmoid gates, bias added once",
        "the gates are sigmoids that do not sum to 1, where a softmax over the modes belongs; bias is added once",
        "g = 1 / (1 + exp(-z))",
        (W, "w = g / total(g, 0)"),
        once,
    )
    gate(
        "softmax over the batch, bias added once",
        "the gates' softmax runs over the batch, not over the modes; bias is added once",
        "g = softmax(z, 0)",
        (W, "w = g / total(g, 0)"),
        once,
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
