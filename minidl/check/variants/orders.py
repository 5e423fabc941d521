"""Channels, weights and windows in another order than that of their groups, and running moments of modes mixed up."""

from __future__ import annotations

from minidl.check.variants.kinds import Collection

DEALT = "np.arange({n}).reshape((-1, {g})).T.reshape(-1)"
GATHERED = "np.arange({n}).reshape(({g}, -1)).T.reshape(-1)"


def of_group_norm(table: Collection) -> None:
    """Weight and bias in another order than the channels."""
    affine = 'weight, bias = column(self.params["weight"], x), column(self.params["bias"], x)'
    for name, says, order in (
        ("weight and bias dealt out in turn", "are read as (C/G, G) and turned", DEALT),
        ("weight and bias gathered by their place in the group", "are read as (G, C/G) and turned", GATHERED),
    ):
        turn = order.format(n="shape[1]", g="groups")
        table.wrong(
            name,
            f"weight and bias {says}: channels get each other's; the statistics are right",
            (
                affine,
                f'turn = {turn}\n        weight, bias = (column(self.params[k][turn], x) for k in ("weight", "bias"))',
            ),
        )


def of_conv2d(table: Collection) -> None:
    """The channels of a convolution's groups in another order."""
    image, crop = "image = padded(x, padding, 0)", "cropped(dimage, padding)"
    many = 'int(self.options.get("groups", 1))'
    kept = "image, kernel, stride, padding = self.kept"
    product = "dweight[:, :, a, b] = total(dy[:, :, None] * image[here][:, None]"
    for name, order in (("dealt out in turn", DEALT), ("gathered by their place in the group", GATHERED)):
        turn = order.format(n="x.shape[1]", g=many)
        table.wrong(
            f"input channels of the groups {name}",
            f"the input channels of a convolution's groups are {name}, where those of a group are neighbours",
            (image, f"self.turn = {turn}\n        image = padded(x[:, self.turn], padding, 0)"),
            (crop, "cropped(dimage[:, np.argsort(self.turn)], padding)"),
        )
        turn = order.format(n="dy.shape[1]", g=many)
        table.wrong(
            f"dx with the channels of dy {name}",
            f"y and dweight are right; in dx the channels of dy are {name}, where those of a group are neighbours",
            (kept, f"{kept}\n        turn = {turn}"),
            (
                "dimage[here] + total(dy[:, :, None] * weight[None",
                "dimage[here] + total(dy[:, turn][:, :, None] * weight[None",
            ),
        )
        for what, number in (("dy", "dy.shape[1]"), ("x", "image.shape[1]")):
            turn = order.format(n=number, g=many)
            taken = {"dy": ("dy[:, turn]", "image[here]"), "x": ("dy", "image[here][:, turn]")}[what]
            table.wrong(
                f"dweight with the channels of {what} {name}",
                f"y and dx are right; in dweight the channels of {what} are {name}, where those of a group are "
                "neighbours",
                (kept, f"{kept}\n        turn = {turn}"),
                (product, f"dweight[:, :, a, b] = total({taken[0]}[:, :, None] * {taken[1]}[:, None]"),
            )


def of_modes(table: Collection) -> None:
    """Running moments of mode normalization that are made of each other."""
    new = "self.running_mean_square = (1 - lam) * self.running_mean_square + lam * second"
    var = "(second - first * first)"
    for name, says, mean in (
        ("of the new running mean", "of the running mean, just updated", "self.running_mean"),
        ("of the old running mean", "of the running mean before the step", "old_mean"),
    ):
        table.wrong(
            f"running_mean_square takes in the square {name}",
            f"running_mean_square takes in the variance of a mode and the square {says}, not that of the batch's mean",
            ('lam = self.options["momentum"]', 'lam, old_mean = self.options["momentum"], self.running_mean'),
            (new, f"{new[: -len('second')]}({var} + {mean} * {mean})"),
        )
    moved = "self.running_mean = (1 - lam) * self.running_mean + lam * first"
    table.wrong(
        "running moments averaged over the modes",
        "all modes take in the mean over the modes of the batch's moments",
        (moved, moved.replace("lam * first", "lam * (mean(first, 0) + 0 * first)")),
        (new, new.replace("lam * second", "lam * (mean(second, 0) + 0 * second)")),
    )
