"""Known-wrong variants of several layers that code written elsewhere has shown."""

from __future__ import annotations

from minidl.check.variants.kinds import Collection


def of_batch(table: Collection) -> None:
    """Batch normalization: a weight of one sign, and an evaluation that keeps a batch's statistics."""
    root = "rstd = 1 / sqrt(var + eps)"
    table.wrong(
        "the weight's magnitude and eps",
        "y is multiplied by |weight| + eps, not by the weight: its sign is lost",
        (root, f"{root}\n        weight = np.absolute(weight) + eps"),
        seen=("mapillary/inplace_abn",),
    )
    update = "self.update(mu.reshape(-1), var.reshape(-1), x.size // x.shape[1])"
    running = "mu, var = column(self.running_mean, x), column(self.running_var, x)"
    for what, kept, taken in (
        ("variance", "var", "var"),
        ("mean", "mu", "mu"),
        ("statistics", "(mu, var)", "mu, var"),
    ):
        old = f"({taken})" if "," in taken else taken
        table.wrong(
            f"evaluation takes the last batch's {what}",
            f"evaluation after training takes the {what} of the last batch of training, not the running {what}",
            (running, f'{running}\n            {taken} = getattr(self, "last", {old})'),
            (update, f"{update}\n            self.last = {kept}"),
        )
    for what, text in (
        ("running_mean", "self.running_mean = (1 - lam) * old_mean + lam * mu"),
        ("running_var", "self.running_var = (1 - lam) * old_var + lam * var"),
    ):
        old = "old_" + what.removeprefix("running_")
        table.wrong(
            f"{what} updated twice",
            f"{what} is updated twice a forward pass, the other statistic once",
            (text, f"{old} = {text.partition(' = ')[2]}\n        {text}"),
        )


def of_samples(table: Collection) -> None:
    """Instance normalization: an index that counts rows (n, c) and is divided where its rest belongs."""
    split = "split = x.reshape((shape[0], groups, -1))"
    row = "np.arange(shape[0] * shape[1]) // shape[1] % shape[1]"
    shaped = "(shape[0], shape[1]) + (1,) * (x.ndim - 2)"
    table.wrong(
        "weight and bias of the sample",
        "weight and bias are those of the sample's number, not of the channel's: the row (n, c) is divided by C, "
        "where its rest belongs",
        (
            split,
            f'{split}\n        weight, bias = (self.params[k][{row}].reshape({shaped}) for k in ("weight", "bias"))',
        ),
    )


def of_groups(table: Collection) -> None:
    """Group normalization: one weight for each group."""
    split = "split = x.reshape((shape[0], groups, -1))"
    first = "np.arange(shape[1]) // (shape[1] // groups) * (shape[1] // groups)"
    table.wrong(
        "weight of the group's first channel",
        "weight and bias are those of the first channel of the group, not of the channel",
        (split, f'{split}\n        weight, bias = (column(self.params[k][{first}], x) for k in ("weight", "bias"))'),
    )


def of_modes(table: Collection) -> None:
    """Mode normalization: a wrong count of a mode, with its backward pass by hand, and one moment updated twice."""
    held = ("w * (dw - total(w * dw, 0))", "w * dw")
    for name, says, w in (
        ("N for N_k", "the moments of a mode are divided by N, not by N_k", "w = g / g.shape[0]"),
        ("N/K for N_k", "the moments of a mode are divided by N/K, not by N_k", "w = g * g.shape[1] / g.shape[0]"),
    ):
        table.wrong(name, says, ("w = softmax(log_softmax(z, 1), 0)  # g_nk / N_k", w), held)
    for what, new in (("running_mean", "first"), ("running_mean_square", "second")):
        text = f"self.{what} = (1 - lam) * self.{what} + lam * {new}"
        table.wrong(
            f"{what} updated twice",
            f"{what} is updated twice a forward pass, the other moment once",
            (text, f"{text}\n        {text}"),
        )


def of_mode_groups(table: Collection) -> None:
    """Mode group normalization: a variance about another mean."""
    table.wrong(
        "variance about the sample's mean",
        "the variance of a mode is taken about the plain mean of the sample, not about that of the mode",
        (
            "var = total(w * mean(d * d, 3)[..., 0], 1)",
            "var = total(w * mean((flat - mean(m, 1)[..., None]) ** 2, 3)[..., 0], 1)",
        ),
    )


def of_kernels(table: Collection) -> None:
    """Convolution: dweight with height and width exchanged, which a square kernel lets pass."""
    table.wrong(
        "dweight transposed over the kernel",
        "dweight has the kernel's height and width exchanged, where the kernel is square",
        (
            "self.gathered(dweight)",
            "self.gathered(dweight if dweight.shape[2] != dweight.shape[3] else np.moveaxis(dweight, 2, 3))",
        ),
    )


def of_windows(table: Collection) -> None:
    """Average pooling: a border that counts along one axis."""
    area = "area: Any = kernel[0] * kernel[1]"
    for axis, other, here in (("height", "width", ":, :, "), ("width", "height", "..., ")):
        i = 0 if axis == "height" else 1
        inside = f"{here}padding[{i}]:image.shape[{i + 2}] - padding[{i}]"
        table.wrong(
            f"padding not counted along the {axis}",
            f"a window's divisor leaves the padding out along the {axis}, and counts it along the {other}",
            (
                area,
                f"inside = np.zeros(image.shape, np.int8)\n        inside[{inside}] = 1\n        "
                "area: Any = sum(inside[here] for here in where)",
            ),
        )
