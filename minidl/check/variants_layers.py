"""Known variants of convolution, pooling, the affine map and the loss."""

from __future__ import annotations

from minidl.check.variants import Collection, Variant


def conv2d() -> list[Variant]:
    """Variants of convolution."""
    table = Collection("conv2d")
    table.wrong(
        "kernel flipped",
        "the kernel is turned by 180°: a true convolution, where deep learning takes the cross-correlation",
        ('weight = self.params["weight"]  # O C a b', 'weight = self.params["weight"][:, :, ::-1, ::-1]'),
    )
    table.wrong(
        "stride swapped",
        "the strides of height and width are swapped",
        ('stride, padding = pair(self.options["stride"])', 'stride, padding = pair(self.options["stride"])[::-1]'),
    )
    table.wrong(
        "padding swapped",
        "the paddings of height and width are swapped",
        ('pair(self.options["padding"])', 'pair(self.options["padding"])[::-1]'),
    )
    table.wrong(
        "padding repeats the edge",
        "the border repeats the edge, where zeros belong",
        (
            "image = padded(x, padding, 0)",
            'image = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2), mode="edge")',
        ),
    )
    table.wrong(
        "bias ignored", "bias is not added to y", ('y = y + self.params["bias"]', 'y = y + 0 * self.params["bias"]')
    )
    table.wrong(
        "dx overwrites",
        "dx keeps the last window's share alone",
        ("dimage[here] = dimage[here] + total", "dimage[here] = total"),
    )
    table.wrong(
        "dx without weight",
        "dx lacks the weight",
        (
            "dy[:, :, None] * weight[None, :, :, a, b, None, None], 1)",
            "dy[:, :, None] * (1 + 0 * weight)[None, :, :, a, b, None, None], 1)",
        ),
    )
    table.wrong(
        "dweight is a mean",
        "dweight is a mean over the batch where a sum belongs",
        ("[0, :, :, 0, 0]", "[0, :, :, 0, 0] / len(dy)"),
    )
    table.wrong(
        "dweight is zero", "dweight is zero", ("dweight[:, :, a, b] = total", "dweight[:, :, a, b] = 0 * total")
    )
    table.wrong("dbias is zero", "dbias is zero", ('grads["dbias"] = total', 'grads["dbias"] = 0 * total'))
    table.wrong(
        "dbias a mean",
        "dbias is a mean where a sum belongs",
        ("total(dy, (0, 2, 3)).reshape", "total(dy / (dy.size // dy.shape[1]), (0, 2, 3)).reshape"),
    )
    table.wrong(
        "x read in the order of memory",
        "x is read in the order of memory, strides ignored",
        ("image = padded(x", 'image = padded(x.ravel(order="K").reshape(x.shape)'),
    )
    table.right("as the formula reads")
    return table.variants


def max_pool2d() -> list[Variant]:
    """Variants of max pooling."""
    table = Collection("max_pool2d")
    table.wrong(
        "border of zeros",
        "the border counts as 0 and wins the maximum of negative values",
        ("-np.inf if largest else 0", "0"),
    )
    table.wrong(
        "last of equals",
        "of equal values the last gets the gradient; if you mean it, avoid ties",
        ("> real(best), bool)", ">= real(best), bool)"),
    )
    table.wrong(
        "all equals share",
        "all equal values get the gradient",
        ("winner == index", "image[where[index]] == image_best"),
        (
            "dimage = np.full_like",
            "image_best = np.max([image[h] for h in where], axis=0)\n        dimage = np.full_like",
        ),
    )
    windows(table)
    return table.variants


def avg_pool2d() -> list[Variant]:
    """Variants of average pooling."""
    table = Collection("avg_pool2d")
    table.wrong(
        "sum for mean", "a window gives its sum, not its mean", ("best / area)", "best)"), ("else dy / area", "else dy")
    )
    table.wrong(
        "border not counted",
        "the mean does not count the border's zeros",
        ("best / area)", "best / sum(padded(1 + 0 * x, padding, 0)[here] for here in where))"),
    )
    table.wrong("dx without the divisor", "dx lacks the divisor", ("else dy / area", "else dy"))
    windows(table)
    return table.variants


def windows(table: Collection) -> None:
    """What goes wrong in both poolings."""
    options = 'for key in ("kernel_size", "stride", "padding"))'
    swapped = "the strides of height and width are swapped"
    table.wrong("stride swapped", swapped, (options, f"{options}\n        stride = stride[::-1]"))
    table.wrong(
        "kernel swapped",
        "height and width of the kernel are swapped",
        (options, f"{options}\n        kernel = kernel[::-1]"),
    )
    table.wrong("stride ignored", "the stride is that of the kernel", (options, f"{options}\n        stride = kernel"))
    table.wrong(
        "dx overwrites",
        "dx keeps the last window's share alone",
        ("dimage[here] = dimage[here] + share", "dimage[here] = share"),
    )
    table.wrong(
        "x read in the order of memory",
        "x is read in the order of memory, strides ignored",
        ("image = padded(x", 'image = padded(x.ravel(order="K").reshape(x.shape)'),
    )
    table.right("as the formula reads")


def linear() -> list[Variant]:
    """Variants of the affine map."""
    table = Collection("linear")
    forward = 'y = total(x[:, None] * self.params["weight"], 2)[:, :, 0]'
    table.wrong(
        "weight transposed",
        "weight is used transposed, (in, out)",
        (forward, 'w = self.params["weight"]\n        y = total(x[:, None] * w.T.reshape(w.shape), 2)[:, :, 0]'),
    )
    table.wrong("bias ignored", "bias is not added to y", ('return y + self.params["bias"]', "return y"))
    table.wrong(
        "dx with weight transposed",
        "dx uses weight transposed",
        (
            'total(dy[:, :, None] * self.params["weight"], 1)',
            'total(dy[:, :, None] * self.params["weight"].T.reshape(self.params["weight"].shape), 1)',
        ),
    )
    table.wrong(
        "dweight is a mean",
        "dweight is a mean where a sum belongs",
        (
            "dweight = total(dy[:, :, None] * x[:, None], 0)[0]",
            "dweight = total(dy[:, :, None] * x[:, None], 0)[0] / len(x)",
        ),
    )
    table.wrong("dweight is zero", "dweight is zero", ("dweight = total", "dweight = 0 * total"))
    table.wrong(
        "dbias is a mean", "dbias is a mean where a sum belongs", ("total(dy, 0)[0]", "total(dy, 0)[0] / len(x)")
    )
    table.wrong("dbias is zero", "dbias is zero", ("total(dy, 0)[0]", "0 * total(dy, 0)[0]"))
    table.wrong(
        "gradients overwritten",
        "gradients are overwritten where they are declared to add up; if you mean it, declare grads='overwrite'",
        declares={"grads": "accumulate"},
    )
    table.right("as the formula reads")
    table.right("matrix product", (forward, 'y = x @ self.params["weight"].T'))
    return table.variants


def softmax_cross_entropy() -> list[Variant]:
    """Variants of softmax cross-entropy."""
    table = Collection("softmax_cross_entropy")
    table.wrong(
        "sum for mean",
        "the loss is summed over the batch, not averaged",
        (".sum() / x.shape[0])", ".sum())"),
        (" / logp.shape[0]", ""),
    )
    naive = "logp = np.log(exp(x) / exp(x).sum(axis=1, keepdims=True))"
    table.wrong(
        "softmax without its shift",
        "the softmax overflows: it must subtract the largest logit first",
        ("logp = log_softmax(x, 1)", naive),
    )
    table.wrong(
        "log of a rounded softmax",
        "the logarithm is taken of a softmax that may be 0",
        ("logp = log_softmax(x, 1)", "logp = np.log(exp(log_softmax(x, 1)))"),
    )
    table.wrong(
        "softmax over the batch",
        "the softmax runs over the batch, not over the classes",
        ("log_softmax(x, 1)", "log_softmax(x, 0)"),
    )
    table.wrong("dx without 1/N", "dx lacks the factor 1/N", (" / logp.shape[0]", ""))
    table.wrong("dx without one-hot", "dx lacks the one-hot of the labels", ("(exp(logp) - chosen)", "exp(logp)"))
    table.wrong("dy ignored", "dx ignores the dy it receives", ("dx = dy * (", "dx = ("))
    table.wrong("dx signed wrongly", "dx has the wrong sign", ("dx = dy * (", "dx = -dy * ("))
    table.right("as the formula reads")
    return table.variants
