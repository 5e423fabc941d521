"""Bugs of hand-written norm kernels, in batch, instance, layer and group normalization alike: counts, blocks, lanes,
sums that are stored where they must be added, and a backward pass that computes its statistics anew.
"""

from __future__ import annotations

from minidl.check.variants.kinds import Collection
from minidl.check.variants.shared import Texts

DWEIGHT = "dweight = total(dy * xhat, axes)"
DBIAS = "dbias = total(dy, axes)"


def kernels(table: Collection, t: Texts) -> None:
    """Add what goes wrong in the kernels of all of them."""
    counts(table, t)
    parts(table, "bias" in t.y)
    table.wrong(
        "dx lacks weight in its direct term",
        "the direct term of dx lacks the factor weight, which the terms of the statistics have",
        (t.dx, t.dx.replace(f"({t.d} - ", f"({t.raw} - ", 1)),
        seen=("ROCm/MIOpen#104",),
    )
    table.wrong(
        "backward without eps",
        "the backward pass computes the deviation anew, without eps",
        (t.dx, t.dx.replace("rstd *", '(1 / sqrt(np.maximum(1 / (rstd * rstd) - self.options["eps"], 1e-30))) *')),
    )
    table.wrong(
        "eps scaled by the largest value",
        "x is divided by its largest magnitude before eps is added, so that eps grows by the square of it",
        (
            t.rstd,
            f"top = abs({t.x}).max(axis={t.axes}, keepdims=True)\n        rstd = 1 / sqrt(var + {t.eps} * top * top)",
        ),
        seen=("apple/coremltools#2821",),
    )
    if t.mu:
        number = f"({t.x}.size // mu.size)"
        table.wrong(
            "lanes of a block counted",
            "sums run over a block of a power of two: the lanes beyond the values count as zeros in the variance",
            (
                t.var,
                f"{t.var}\n        {t.indent}block = 1 << ({number} - 1).bit_length()\n"
                f"        {t.indent}var = var + mu * mu * (block - {number}) / {number}",
            ),
            seen=("triton-lang/triton#9838", "linkedin/Liger-Kernel#518"),
        )


def counts(table: Collection, t: Texts) -> None:
    """The means in dx divided by another number."""
    mean_term = f" - total({t.d}, {t.axes}) / {{0}}" if t.mu else ""
    xhat_term = f" - {t.h} * total({t.d} * {t.h}, {t.axes}) / {{0}}"
    for what, number in t.counts.items():
        if table.layer == "instance_norm" and what == "the pixels":
            continue  # which are all that it normalises
        table.wrong(
            f"dx counts {what} alone",
            f"the means in dx divide by the number of {what.removeprefix('the ')} alone, not by that of all values",
            (t.dx, f"dx = rstd * ({t.d}{(mean_term + xhat_term).format(number)})"),
        )


def parts(table: Collection, bias: bool) -> None:
    """Gradients of weight and bias that are those of a part of the batch."""
    for what, cut in (("last", "[-1:]"), ("first", "[:1]")):
        stored = f"that of the {what} sample: it is stored, not added up"
        table.wrong(
            f"dweight of the {what} sample",
            f"dweight is {stored}",
            (DWEIGHT, f"dweight = total((dy * xhat){cut}, axes)"),
        )
        if bias:
            table.wrong(f"dbias of the {what} sample", f"dbias is {stored}", (DBIAS, f"dbias = total(dy{cut}, axes)"))


def of_batch(table: Collection) -> None:
    """Statistics of batch normalization over wrong values."""
    mu, var = "mu = mean(x, axes)", "var = mean(centred * centred, axes)"
    column = "(1, -1) + (1,) * (x.ndim - 2)"
    table.wrong(
        "variance within samples alone",
        "the variance is the mean of each sample's own variance: the spread of the samples' means is missing",
        (
            var,
            "own = x - mean(x, (*axes[1:], 1)[:-1]) if x.ndim > 2 else x - x\n            var = mean(own * own, axes)",
        ),
    )
    table.wrong(
        "x reshaped to (C, -1)",
        "statistics are taken of x.reshape(C, −1), which mixes batch and channels: a transpose is missing",
        (mu, f"rows = x.reshape((x.shape[1], -1))\n            mu = mean(rows, 1).reshape({column})"),
        (var, f"off = rows - mean(rows, 1)\n            var = mean(off * off, 1).reshape({column})"),
    )
    table.wrong(
        "dbias of x",
        "dbias sums x, not dy",
        ("dbias = total(dy, axes)", "dbias = total(self.x, axes)"),
        (
            "axes = (0, *range(2, x.ndim))\n        eps",
            "self.x = x\n        axes = (0, *range(2, x.ndim))\n        eps",
        ),
    )


def of_pixels(table: Collection) -> None:
    """The means in dx of layer and group normalization taken over the channels of a pixel, or over a channel."""
    dx = "dx = rstd * (d - mean(d, 2) - h * mean(d * h, 2))"
    cut = "d, h = (a.reshape((len(a), d.shape[1], -1, dy[0, 0].size)) for a in (d, h))"
    for what, axis in (("the channels of each pixel", 2), ("the pixels of each channel", 3)):
        table.wrong(
            f"dx means over {what}",
            f"the means in dx are taken over {what}, not over all that was normalised",
            (dx, f"{cut}\n        dx = rstd[..., None] * (d - mean(d, {axis}) - h * mean(d * h, {axis}))"),
            seen=("flagos-ai/FlagGems#5392",) if axis == 2 else (),
        )


def of_groups(table: Collection) -> None:
    """Group normalization that takes the wrong channels."""
    split = "split = x.reshape((shape[0], groups, -1))"
    table.wrong(
        "channels of the next group counted",
        "sums run over a block of the next power of two: channels of the next group enter those of a group",
        (
            split,
            f"{split}\n        size, flat = shape[1] // groups, x.reshape((shape[0], shape[1], -1))\n"
            "        block = 1 << (size - 1).bit_length()\n"
            "        parts = [flat[:, g * size : g * size + block].reshape((shape[0], 1, -1)) for g in range(groups)]\n"
            "        values = split.shape[2]",
        ),
        ("mu = mean(split, 2)", "mu = np.concatenate([total(part, 2) / values for part in parts], 1)"),
        (
            "var = mean(centred * centred, 2)",
            "off = [part - mu[:, g : g + 1] for g, part in enumerate(parts)]\n"
            "        var = np.concatenate([total(part * part, 2) / values for part in off], 1)",
        ),
        seen=("flagos-ai/FlagGems#4985",),
    )
    table.wrong(
        "dweight takes the statistics of group c mod G",
        "dweight takes mean and deviation of group c mod G, not of the group that channel c belongs to",
        (
            DWEIGHT,
            "flat, turn = self.x.reshape((*dy.shape[:2], -1)), np.arange(dy.shape[1]) % rstd.shape[1]\n"
            "        off = (flat - self.mu[:, turn]) * rstd[:, turn]\n"
            "        dweight = total(dy.reshape(off.shape) * off, (0, 2))",
        ),
        ("mu = mean(split, 2)", "mu = mean(split, 2)\n        self.x, self.mu = x, mu"),
        seen=("tenstorrent/tt-metal#56202",),
    )


def of_instances(table: Collection) -> None:
    """Instance normalization with the wrong parameters."""
    table.wrong(
        "weight of row // N",
        "weight and bias are those of row // N of the N·C rows, not of row mod C: right for a single sample alone",
        (
            'weight, bias = column(self.params["weight"], x), column(self.params["bias"], x)',
            "row = (np.arange(shape[0] * shape[1]) // shape[0]).reshape(shape[:2])\n"
            "        weight, bias = (self.params[k][row].reshape((*shape[:2], *(1,) * (x.ndim - 2))) for k in "
            '("weight", "bias"))',
        ),
        seen=("kendryte/nncase#1072",),
    )
