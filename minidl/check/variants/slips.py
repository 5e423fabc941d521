"""Further slips of convolution, pooling, loss, affine map and modes, found by going through each formula."""

from __future__ import annotations

from minidl.check.variants.kinds import Collection


def of_conv2d(table: Collection) -> None:
    """Of convolution: its border, its groups, and the size of y."""
    table.wrong(
        "padding wraps around",
        "the border is the image from its other side (circular padding), where zeros belong",
        (
            "image = padded(x, padding, 0)",
            'image = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2), mode="wrap")',
        ),
    )
    bias = 'if "bias" in self.params:\n            y = y +'
    table.wrong(
        "output channels of the groups dealt out in turn",
        "the output channels of a convolution's groups are interleaved, where those of a group are neighbours",
        (
            bias,
            'many = int(self.options.get("groups", 1))\n'
            "        split = y.reshape((len(y), many, y.shape[1] // many, *y.shape[2:]))\n"
            f"        y = np.moveaxis(split, 1, 2).reshape(y.shape)\n        {bias}",
        ),
    )
    options = 'dilation, groups = pair(self.options.get("dilation", 1)), int(self.options.get("groups", 1))'
    after = "        if dilation == (1, 1) and groups == 1:", "        into = "
    table.wrong(
        "dilation ignored",
        "the dilation is ignored",
        *((f"{options}\n{line}", f"{options}\n        dilation = (1, 1)\n{line}") for line in after),
    )
    whole = "out: Array = whole(y)"
    table.wrong(
        "last row and column of y missing",
        "the size of y is one too small in height and width",
        (whole, "y = y[:, :, : max(y.shape[2] - 1, 1), : max(y.shape[3] - 1, 1)]\n        out: Array = whole(y)"),
    )
    image = "image = padded(x, padding, 0)"
    table.wrong(
        "padding one too large",
        "the padding is one too large",
        (image, f"padding = (padding[0] + 1, padding[1] + 1)\n        {image}"),
    )
    add = "dimage[here] = dimage[here] + total(dy[:, :, None]"
    near = "(*here[:2], slice(a, a + dy.shape[2]), slice(b, b + dy.shape[3]))"
    table.wrong(
        "stride ignored in dx",
        "dx is put together as if the stride were 1",
        (add, f"here = {near}\n            {add}"),
    )
    term = "term = total(weight[None, :, :, a, b, None, None] * image[here][:, None], 2)[:, :, 0]\n"
    for name, says, skipped in (
        ("last column of the kernel skipped", "the last column of the kernel", "b == kernel[1] - 1 and b"),
        ("last row of the kernel skipped", "the last row of the kernel", "a == kernel[0] - 1 and a"),
    ):
        table.wrong(name, f"{says} is not multiplied", (term, f"{term[:-1]} * (0 if {skipped} else 1)\n"))


def of_windows(table: Collection) -> None:
    """Of max and average pooling: their windows."""
    where = "where = [here for _, _, here in places(image.shape, kernel, stride)]"
    for name, says, kept in (
        ("last column of the window skipped", "the last column of each window", "b < kernel[1] - 1 or not b"),
        ("last row of the window skipped", "the last row of each window", "a < kernel[0] - 1 or not a"),
        ("first column of the window skipped", "the first column of each window", "b or kernel[1] == 1"),
        ("first row of the window skipped", "the first row of each window", "a or kernel[0] == 1"),
    ):
        table.wrong(
            name,
            f"{says} is left out",
            (where, f"where = [here for a, b, here in places(image.shape, kernel, stride) if {kept}]"),
        )
    options = 'for key in ("kernel_size", "stride", "padding"))'
    table.wrong(
        "kernel and stride exchanged",
        "the kernel's size is taken for the stride, and the stride for the kernel's size",
        (options, f"{options}\n        kernel, stride = stride, kernel"),
    )
    if table.layer == "max_pool2d":
        wins = "wins = winner == index"
        for word, index in (("first", "0"), ("last", "len(where) - 1")):
            table.wrong(
                f"dx to the {word} of the window",
                f"dx goes to the {word} element of each window, not to the largest",
                (wins, f"wins = 0 * winner == abs(index - ({index}))"),
            )


def of_loss(table: Collection) -> None:
    """Of softmax cross-entropy: other losses, and labels that are mistaken."""
    chosen = "-np.where(chosen, logp, 0 * x).sum()"
    for power in ("1", "2"):
        table.wrong(
            f"focal factor (1 − p)^{power}",
            f"each sample's loss has a factor (1 − p)^{power}, as the focal loss has",
            (chosen, f"-np.where(chosen, (1 - exp(logp)) ** {power} * logp, 0 * x).sum()"),
        )
    others = "np.log(np.maximum(1 - np.where(chosen, 0 * x, exp(logp)), 1e-30))"
    table.wrong(
        "binary cross-entropy of every class",
        "the loss adds −log(1 − p) of the classes that are not the label",
        (chosen, f"-(np.where(chosen, logp, 0 * x) + {others}).sum()"),
    )
    table.wrong(
        "squared error of the softmax",
        "the loss is the squared distance of the softmax to one-hot",
        (chosen, "((exp(logp) - chosen) * (exp(logp) - chosen)).sum()"),
    )
    logp = "logp = log_softmax(x, 1)"
    for value in ("1e-2", "1e-3", "1e-4", "1e-5"):
        table.wrong(
            f"softmax clipped at {value} and 1 − {value}",
            f"the softmax is clipped to the range from {value} to 1 − {value} before its logarithm is taken",
            (logp, f"{logp}\n        logp = np.log(np.minimum(np.maximum(exp(logp), {value}), 1 - {value}))"),
        )
    gradient = "(exp(logp) - chosen)"
    at = "chosen = np.arange(x.shape[1]) == np.asarray"
    for name, says, number in (
        ("labels count from −1", "each label is one too high", "np.arange(x.shape[1]) - 1"),
        ("labels count backwards", "class C − 1 − label is taken for the label", "np.arange(x.shape[1])[::-1]"),
        (
            "label 0 for all",
            "all labels are taken for 0",
            'np.where(np.arange(x.shape[1]), -1, np.asarray(self.params["labels"]).reshape(-1, 1))',
        ),
    ):
        table.wrong(name, says, (at, f"chosen = {number} == np.asarray"))
    labels = 'np.asarray(self.params["labels"]).reshape(-1, 1)'
    table.wrong(
        "label of the next sample",
        "each sample is given the label of another: they are out of step by one",
        (labels, f"np.roll({labels}, 1, 0)"),
    )
    table.wrong(
        "winner for the label",
        "the class of the largest logit is taken for the label",
        (at + '(self.params["labels"]).reshape(-1, 1)', "chosen = np.asarray(logp == logp.max(1, keepdims=True))"),
    )
    kept = "self.kept = (logp, chosen, count)"
    for word, index in (("first", "0"), ("last", "-1")):
        table.wrong(
            f"samples of the {word} class ignored",
            f"samples whose label is the {word} class do not count, though they are divided by",
            (kept, f"valid = ~chosen[:, [{index}]]\n        chosen = chosen & valid\n        {kept}"),
            ("(exp(logp) - chosen)", "(exp(logp) - chosen) * chosen.any(1, keepdims=True)"),
        )
        table.wrong(
            f"samples of the {word} class left out of the mean",
            f"samples whose label is the {word} class do not count, and the mean is over the others",
            (
                kept,
                f"valid = ~chosen[:, [{index}]]\n        chosen = chosen & valid\n        "
                f"count = max(int(valid.sum()), 1)\n        {kept}",
            ),
            ("(exp(logp) - chosen)", "(exp(logp) - chosen) * chosen.any(1, keepdims=True)"),
        )
    for word, part in (("first", "min(1, len(x) - 1) :"), ("last", ": max(len(x) - 1, 1)")):
        table.wrong(
            f"{word} sample left out",
            f"the {word} sample does not count: the mean is over the others",
            (
                kept,
                f"some = np.zeros((len(x), 1), bool)\n        some[{part}] = True\n"
                f"        chosen = chosen & some\n        count = max(len(x) - 1, 1)\n        {kept}",
            ),
            (gradient, f"{gradient} * chosen.any(1, keepdims=True)"),
        )
    table.wrong(
        "logarithm of the mean",
        "the loss is −log of the mean probability, not the mean of −log",
        (f"whole({chosen} / count)", "whole(-log(np.where(chosen, exp(logp), 0 * x).sum() / count))"),
    )
    table.wrong(
        "dx with the softmax's slope once more",
        "dx is multiplied by p (1 − p): the softmax's derivative is taken twice",
        (gradient, f"{gradient} * exp(logp) * (1 - exp(logp))"),
    )
    jacobian = "(exp(logp) * (exp(logp) - chosen - np.sum(exp(logp) * (exp(logp) - chosen), 1, keepdims=True)))"
    table.wrong(
        "dx through the softmax once more",
        "dx is passed through the softmax's Jacobian, though it holds that already",
        (gradient, jacobian),
    )


def of_linear(table: Collection) -> None:
    """Of the affine map: gradients of one sample."""
    table.wrong(
        "dweight of the first sample",
        "dweight is that of the first sample alone",
        ("dweight = total(dy[:, :, None] * x[:, None], 0)[0]", "dweight = total(dy[:1, :, None] * x[:1, None], 0)[0]"),
    )
    table.wrong(
        "dbias of the first sample",
        "dbias is that of the first sample alone",
        ('grads["dbias"] = total(dy, 0)[0]', 'grads["dbias"] = total(dy[:1], 0)[0]'),
    )


def of_modes(table: Collection) -> None:
    """Of mode normalization: what the gates see, and how modes are mixed."""
    logits = 'total(m * self.params["gate.weight"], 2)[:, :, 0] + self.params["gate.bias"]  # N K'
    z = f"z = {logits}"
    standard = "seen = m - mean(m, 0)\n        seen = seen / sqrt(mean(seen * seen, 0) + 1e-5)\n        " + z.replace(
        "total(m", "total(seen"
    )
    table.wrong("gates see standardised means", "the gates see the means standardised over the batch", (z, standard))
    deviation = "seen = sqrt(mean(flat * flat, 2)[:, None, :, 0] - m * m + 1e-12)\n        " + z.replace(
        "total(m", "total(seen"
    )
    table.wrong("gates see the deviation", "the gates see the deviation over space, not the mean", (z, deviation))
    square = "seen = mean(flat * flat, 2)[:, None, :, 0]\n        " + z.replace("total(m", "total(seen")
    table.wrong("gates see the mean of squares", "the gates see the mean of x², not that of x", (z, square))
    last = "seen = flat[:, :, -1][:, None]\n        " + z.replace("total(m", "total(seen")
    table.wrong("gates see the last pixel", "the gates see the last pixel, not the mean", (z, last))
    table.wrong("logits cut off below 0", "the gates' logits pass a ReLU", (z, f"{z}\n        z = np.maximum(z, 0)"))
    update = "self.update(mu[0], second[0], var[0])"
    plain = "0 * second[0] + mean(mean(flat * flat, 2)[..., 0], 0)"
    table.wrong(
        "running_mean_square without gates",
        "the running second moment of each mode is that of the whole batch, the gates left out",
        (update, f"self.update(mu[0], {plain}, var[0])"),
    )
    table.wrong(
        "running_mean without gates",
        "the running mean of each mode is that of the whole batch, the gates left out",
        (update, "self.update(0 * mu[0] + mean(m, 0)[0], second[0], var[0])"),
    )
    root = 'rstd = 1 / sqrt(var + self.options["eps"])'
    table.wrong(
        "moments mixed before the normalisation",
        "the moments of the modes are mixed by the gates first, and x is normalised by the mixture",
        (
            root,
            "mixed = total(g[:, :, None] * mu, 1)\n"
            "        spread = total(g[:, :, None] * var, 1)\n"
            f"        d, var = flat[:, None] - mixed[..., None] + 0 * d, spread + 0 * var\n        {root}",
        ),
    )
