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
        "dx is assigned window by window, not added up: where windows overlap, the last one's share alone is kept",
        (
            "        for a, b, here in places(image.shape, kernel, stride):\n            dweight",
            "        for a, b, here in reversed(list(places(image.shape, kernel, stride))):\n            dweight",
        ),
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
    more_conv2d(table)
    table.right("as the formula reads")
    return table.variants


def more_conv2d(table: Collection) -> None:
    """Further ways to get a convolution wrong."""
    taken = 'weight = self.params["weight"]  # O C a b'
    plain = 'weight = self.params["weight"]\n        dimage'
    image = "image = padded(x, padding, 0)"
    pads = 'stride, padding = pair(self.options["stride"]), pair(self.options["padding"])'
    mirrored = "the kernel is flipped top to bottom alone"
    table.wrong("kernel flipped vertically", mirrored, (taken, 'weight = self.params["weight"][:, :, ::-1]'))
    mirrored = "the kernel is flipped left to right alone"
    table.wrong("kernel flipped horizontally", mirrored, (taken, 'weight = self.params["weight"][:, :, :, ::-1]'))
    turned = "the kernel's height and width are swapped: its last two axes are transposed"
    table.wrong("kernel transposed", turned, (taken, 'weight = np.moveaxis(self.params["weight"], 2, 3)'))
    reshaped = "weight is read as (C, O, a, b): the axes of input and output channels are swapped"
    table.wrong(
        "channels of weight swapped",
        reshaped,
        (
            taken,
            'w = self.params["weight"]\n        weight = np.moveaxis(w.reshape((w.shape[1], w.shape[0], '
            "*w.shape[2:])), 0, 1)",
        ),
    )
    for what, name in (("stride", "stride"), ("padding", "padding")):
        first = f"{name} of the height serves for the width, too"
        table.wrong(f"{what} of the height alone", first, (pads, f"{pads}\n        {what} = ({what}[0], {what}[0])"))
        second = f"{name} of the width serves for the height, too"
        table.wrong(f"{what} of the width alone", second, (pads, f"{pads}\n        {what} = ({what}[1], {what}[1])"))
    table.wrong("padding ignored", "there is no padding", (pads, f"{pads}\n        padding = (0, 0)"))
    table.wrong("stride ignored", "the stride is 1", (pads, f"{pads}\n        stride = (1, 1)"))
    end = "the padding is all at the end (bottom and right)"
    table.wrong(
        "padding at the end",
        end,
        (
            image,
            "image = padded(x, padding, 0)\n        image = np.concatenate([image[:, :, padding[0]:], image[:, "
            ":, :padding[0]]], 2)\n        image = np.concatenate([image[..., padding[1]:], image[..., "
            ":padding[1]]], 3)",
        ),
    )
    start = "the padding is all at the start (top and left)"
    table.wrong(
        "padding at the start",
        start,
        (
            image,
            "image = padded(x, padding, 0)\n        h, w = image.shape[2] - padding[0], image.shape[3] - "
            "padding[1]\n        image = np.concatenate([image[:, :, h:], image[:, :, :h]], 2)\n        image = "
            "np.concatenate([image[..., w:], image[..., :w]], 3)",
        ),
    )
    table.wrong("padding of ones", "the padding is 1, where zeros belong", (image, "image = padded(x, padding, 1)"))
    mirror = "the padding mirrors the image, where zeros belong"
    table.wrong(
        "padding mirrors",
        mirror,
        (image, 'image = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2), mode="symmetric")'),
    )
    bias = "y = y + self.params"
    table.wrong("bias subtracted", "bias is subtracted from y", (bias, "y = y - self.params"))
    table.wrong(
        "bias added for each element of the kernel",
        "bias is added several times, once for each tap of the kernel",
        (bias, "y = y + kernel[0] * kernel[1] * self.params"),
    )
    table.wrong(
        "bias added for each input channel",
        "bias is added once for each input channel",
        (bias, "y = y + x.shape[1] * self.params"),
    )
    dx = "dy[:, :, None] * weight[None, :, :, a, b, None, None], 1)"
    flipped = "dx is taken with the kernel flipped once too often, or not at all: a correlation where the "
    "backward pass convolves"
    table.wrong(
        "dx with the kernel flipped",
        flipped,
        (dx, "dy[:, :, None] * weight[None, :, :, kernel[0] - 1 - a, kernel[1] - 1 - b, None, None], 1)"),
    )
    swapped = "dx uses weight with the axes of input and output channels swapped"
    table.wrong(
        "dx with the channels of weight swapped",
        swapped,
        (
            plain,
            'weight = self.params["weight"]\n        weight = np.moveaxis(weight, 0, 1).reshape(weight.shape)\n  '
            "      dimage",
        ),
    )
    dw = "dweight[:, :, a, b] = total"
    table.wrong(
        "dweight flipped",
        "dweight is flipped: turned by 180°",
        (dw, "dweight[:, :, kernel[0] - 1 - a, kernel[1] - 1 - b] = total"),
    )
    table.wrong(
        "dweight averaged over the pixels",
        "dweight is a mean over the output's pixels where a sum belongs",
        ("[0, :, :, 0, 0]", "[0, :, :, 0, 0] / (dy.shape[2] * dy.shape[3])"),
    )
    table.wrong(
        "dweight a mean over batch and pixels",
        "dweight is a mean over batch and pixels where a sum belongs",
        ("[0, :, :, 0, 0]", "[0, :, :, 0, 0] / (dy.size // dy.shape[1])"),
    )
    table.wrong(
        "dweight of the last sample",
        "dweight is that of the last sample: it is assigned in the loop over the batch, not added up",
        (
            "image[here][:, None], (0, 3, 4))",
            "image[here][:, None] * (np.arange(len(dy)) == len(dy) - 1).reshape(-1, 1, 1, 1, 1), (0, 3, 4))",
        ),
    )
    table.wrong(
        "dweight of the last pixel",
        "dweight is that of the last output pixel: it is assigned in the loop, not added up",
        (
            "dweight[:, :, a, b] = total(dy[:, :, None] * image[here][:, None]",
            "dweight[:, :, a, b] = total((dy[:, :, None] * image[here][:, None])[..., -1:, -1:]",
        ),
    )
    db = "total(dy, (0, 2, 3)).reshape"
    table.wrong(
        "dbias averaged over the batch",
        "dbias is a mean over the batch where a sum belongs",
        (db, "total(dy / len(dy), (0, 2, 3)).reshape"),
    )
    table.wrong(
        "dbias of one pixel",
        "dbias sums over the batch alone, at one pixel: the pixels are left out",
        (db, "total(dy[..., :1, :1], (0, 2, 3)).reshape"),
    )
    table.wrong(
        "dbias averaged over the pixels",
        "dbias is a mean over the pixels where a sum belongs",
        (db, "total(dy / (dy.shape[2] * dy.shape[3]), (0, 2, 3)).reshape"),
    )
    table.wrong(
        "dbias of the first sample",
        "dbias is that of the first sample: the batch is left out",
        (db, "total(dy[:1], (0, 2, 3)).reshape"),
    )
    late = "the stride is left out in the backward pass: the windows of dx and dweight are neighbours"
    table.wrong(
        "stride ignored in backward",
        late,
        (
            "image, kernel, stride, padding = self.kept",
            "image, kernel, stride, padding = self.kept\n        full = np.zeros((*dy.shape[:2], image.shape[2] "
            "- kernel[0] + 1, image.shape[3] - kernel[1] + 1))\n        full[:, :, : dy.shape[2], : dy.shape[3]] "
            "= dy\n        dy, stride = full, (1, 1)",
        ),
    )
    added = "dx is added to the dx of earlier backward passes: it is never reset"
    table.wrong(
        "dx added up",
        added,
        (
            'grads = {"dx": cropped(dimage, padding)',
            'dimage = self.sum = dimage + getattr(self, "sum", 0)\n        grads = {"dx": cropped(dimage, padding)',
        ),
    )
    overwritten = (
        "gradients are overwritten where they are declared to add up; if you mean it, declare grads='overwrite'"
    )
    table.wrong("gradients overwritten", overwritten, declares={"grads": "accumulate"})


def max_pool2d() -> list[Variant]:
    """Variants of max pooling."""
    table = Collection("max_pool2d")
    table.wrong(
        "padding of zeros",
        "the padding is 0, not −inf, and wins the maximum of negative values",
        ("-np.inf if largest else 0", "0"),
    )
    table.wrong(
        "last of equals",
        "of equal values (a tie) the last gets the gradient, where the first does; if you mean it, declare ties=last",
        ("> real(best), bool)", ">= real(best), bool)"),
    )
    table.wrong(
        "all equals share",
        "all equal values (ties) get the whole gradient, where the first alone does; if you mean it, declare ties=all",
        ("winner == index", "image[where[index]] == image_best"),
        (
            "dimage = np.full_like",
            "image_best = np.max([image[h] for h in where], axis=0)\n        dimage = np.full_like",
        ),
    )
    half = "equal values (ties) share the gradient: each gets its part"
    table.wrong(
        "ties share the gradient",
        half,
        ("winner == index", "(image[where[index]] == image_best) / image_count"),
        ("np.where(wins, dy, 0 * dy)", "wins * dy"),
        (
            "dimage = np.full_like",
            "image_best = np.max([image[h] for h in where], axis=0)\n        image_count = sum(1.0 * (image[h] == "
            "image_best) for h in where)\n        dimage = np.full_like",
        ),
    )
    alone = (
        "the winner's share is assigned, not added up: a value that wins two windows gets the last one's gradient alone"
    )
    table.wrong(
        "dx of a winner overwritten",
        alone,
        ("dimage[here] = dimage[here] + share", "dimage[here] = np.where(wins, dy, dimage[here])"),
        ("for index, here in enumerate(where):", "for index, here in reversed(list(enumerate(where))):"),
    )
    table.wrong(
        "absolute values",
        "the value of largest magnitude wins, not the largest value",
        ("real(image[here]) > real(best)", "abs(real(image[here])) > abs(real(best))"),
    )
    table.wrong(
        "minimum",
        "the smallest value is taken, not the largest",
        ("real(image[here]) > real(best)", "real(image[here]) < real(best)"),
        ("-np.inf if largest", "np.inf if largest"),
    )
    whole = "every value of a window gets the gradient, not the largest alone"
    table.wrong("dx to the whole window", whole, ("winner == index", "0 * winner == 0"))
    spread = "the gradient is spread over the window, as in average pooling"
    table.wrong(
        "dx as of an average",
        spread,
        ("np.where(wins, dy, 0 * dy) if largest else", "0 * winner + dy / area if largest else"),
    )
    for value in ("-1",):
        table.wrong(f"padding of {value}", f"the padding is {value}, not −inf", ("-np.inf if largest else 0", value))
    windows(table)
    return table.variants


def avg_pool2d() -> list[Variant]:
    """Variants of average pooling."""
    table = Collection("avg_pool2d")
    table.wrong(
        "sum for mean", "a window gives its sum, not its mean", ("best / area)", "best)"), ("else dy / area", "else dy")
    )
    table.wrong(
        "padding not counted",
        "the mean does not count the padding's zeros (count_include_pad=False); if you mean it, declare "
        "count_include_pad=no",
        ("best / area)", "best / sum(padded(1 + 0 * x, padding, 0)[here] for here in where))"),
    )
    table.wrong(
        "dx without the divisor",
        "dx lacks the divisor: it is not divided by the window's size",
        ("else dy / area", "else dy"),
    )
    area = "area: Any = kernel[0] * kernel[1]"
    for name, size in (
        ("the height squared", "kernel[0] ** 2"),
        ("the width squared", "kernel[1] ** 2"),
        ("the height", "kernel[0]"),
        ("the width", "kernel[1]"),
        ("the area of the stride", "stride[0] * stride[1]"),
        ("the number of windows", "best.shape[2] * best.shape[3]"),
        ("the kernel's area less 1", "max(kernel[0] * kernel[1] - 1, 1)"),
    ):
        table.wrong(
            f"divided by {name}",
            f"the sum is divided by {name}, not by the kernel's area",
            (area, f"area: Any = {size}"),
        )
        table.wrong(
            f"dx divided by {name}",
            f"dx is divided by {name}, not by the kernel's area",
            (
                "dimage = np.full_like",
                f"kernel, stride, best = self.sizes\n        area = {size}\n        dimage = np.full_like",
            ),
            (area, f"{area}\n        self.sizes = kernel, stride, best"),
        )
    table.wrong(
        "padding not counted in dx",
        "dx does not count the padding's zeros, though the mean does",
        ("dimage = np.full_like", "area = self.inside\n        dimage = np.full_like"),
        (area, f"{area}\n        self.inside = sum(padded(1 + 0 * x, padding, 0)[here] for here in where)"),
    )
    one = "dx gives the whole gradient to one element of the window, as max pooling does"
    table.wrong("dx to one element", one, ("else dy / area", "else (dy if index == 0 else 0 * dy)"))
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
        "stride of 1", "the stride is 1, whatever it is set to", (options, f"{options}\n        stride = (1, 1)")
    )
    table.wrong(
        "padding swapped",
        "the paddings of height and width are swapped",
        (options, f"{options}\n        padding = padding[::-1]"),
    )
    table.wrong("padding ignored", "there is no padding", (options, f"{options}\n        padding = (0, 0)"))
    for what in ("stride", "kernel", "padding"):
        first = f"the {what} of the height serves for the width, too"
        table.wrong(
            f"{what} of the height alone", first, (options, f"{options}\n        {what} = ({what}[0], {what}[0])")
        )
        second = f"the {what} of the width serves for the height, too"
        table.wrong(
            f"{what} of the width alone", second, (options, f"{options}\n        {what} = ({what}[1], {what}[1])")
        )
    image = "image = padded(x, padding, -np.inf if largest else 0)"
    edge = "the padding repeats the edge"
    table.wrong(
        "padding repeats the edge",
        edge,
        (image, 'image = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2), mode="edge")'),
    )
    end = "the padding is all at the end (bottom and right)"
    table.wrong(
        "padding at the end",
        end,
        (
            image,
            image + "\n        image = np.concatenate([image[:, :, padding[0]:], image[:, :, :padding[0]]], 2)\n       "
            " image = np.concatenate([image[..., padding[1]:], image[..., :padding[1]]], 3)",
        ),
    )
    ceiling = "the output's size is rounded up, not down (ceil_mode): ragged windows at the end count"
    table.wrong(
        "output size rounded up",
        ceiling,
        (
            image,
            image + "\n        more = [-(image.shape[2 + i] - kernel[i]) % stride[i] for i in (0, 1)]\n        wide = "
            "np.full_like(image, -np.inf if largest else 0, shape=(*image.shape[:2], image.shape[2] + more[0], "
            "image.shape[3] + more[1]))\n        wide[:, :, : image.shape[2], : image.shape[3]] = image\n        "
            "image = wide",
        ),
    )
    table.wrong("dx is zero", "dx is zero", ("dimage[here] = dimage[here] + share", "dimage[here] = 0 * share"))
    table.wrong(
        "dy ignored",
        "dx ignores the dy it receives",
        ("dimage = np.full_like", "dy = 1 + 0 * dy\n        dimage = np.full_like"),
    )
    table.wrong(
        "dx overwrites",
        "dx is assigned window by window, not added up: where windows overlap, the last one's share alone is kept",
        ("for index, here in enumerate(where):", "for index, here in reversed(list(enumerate(where))):"),
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
    table.wrong(
        "weight read as (in, out)",
        "weight is read as an (in, out) array: x weight, where x weightᵀ belongs",
        (forward, 'w = self.params["weight"]\n        y = total(x[:, None] * w.reshape(w.shape[::-1]).T, 2)[:, :, 0]'),
    )
    both = 'return y + self.params["bias"]'
    table.wrong("bias subtracted", "bias is subtracted from y", (both, 'return y - self.params["bias"]'))
    table.wrong("bias added twice", "bias is added twice", (both, 'return y + 2 * self.params["bias"]'))
    dw = "dweight = total(dy[:, :, None] * x[:, None], 0)[0]"
    turned = "dweight is transposed: xᵀ dy, (in, out)"
    table.wrong("dweight transposed", turned, (dw, f"{dw}\n        dweight = dweight.T"))
    turned = "dweight is transposed and read in the shape of weight"
    table.wrong(
        "dweight transposed and reshaped", turned, (dw, f"{dw}\n        dweight = dweight.T.reshape(dweight.shape)")
    )
    table.wrong(
        "dweight of the last sample",
        "dweight is that of the last sample: it is assigned, not added up",
        (dw, "dweight = (dy[:, :, None] * x[:, None])[-1]"),
    )
    table.wrong(
        "dweight with the wrong sign",
        "dweight has the wrong sign",
        (dw, "dweight = -total(dy[:, :, None] * x[:, None], 0)[0]"),
    )
    table.wrong(
        "dbias of the last sample",
        "dbias is that of the last sample: it is assigned, not added up",
        ("total(dy, 0)[0]", "dy[-1]"),
    )
    table.wrong(
        "dbias is summed over the outputs",
        "dbias is summed over the wrong axis: the outputs, not the batch",
        ("total(dy, 0)[0]", "total(dy, 1)[:, 0]"),
    )
    dx = "dx = total(dy[:, :, None] * self.params"
    table.wrong(
        "dx is a mean",
        "dx is divided by the batch size",
        ("dweight = total(dy", "dx = dx / len(dy)\n        dweight = total(dy"),
    )
    table.wrong("dx is zero", "dx is zero", (dx, "dx = 0 * total(dy[:, :, None] * self.params"))
    added = "dx is added to the dx of earlier backward passes: it is never reset"
    table.wrong(
        "dx added up",
        added,
        ("dweight = total(dy", 'dx = self.sum = dx + getattr(self, "sum", 0)\n        dweight = total(dy'),
    )
    stale = "backward belongs to the first forward pass, not to the last"
    table.wrong(
        "backward of the first forward", stale, ("self.kept = x", "self.kept = x if self.kept is None else self.kept")
    )
    order = "x is read in the order of memory, strides ignored"
    table.wrong(
        "x read in the order of memory",
        order,
        ("self.kept = x", 'x = x.ravel(order="K").reshape(x.shape)\n        self.kept = x'),
    )
    order = "dy is read in the order of memory, strides ignored"
    table.wrong(
        "dy read in the order of memory",
        order,
        ("x = self.kept", 'x = self.kept\n        dy = dy.ravel(order="K").reshape(dy.shape)'),
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
        ("count = 1 if", "count = 1 if True or"),
    )
    logp_line = "logp = log_softmax(x, 1)"
    naive = "logp = np.log(exp(x) / exp(x).sum(axis=1, keepdims=True))"
    table.wrong(
        "softmax without its shift",
        "the softmax overflows: it must subtract the largest logit first",
        (logp_line, naive),
    )
    p = "p = exp(log_softmax(x, 1))\n        "
    logp = "logp = log_softmax(x, 1)"

    def saturating(name: str, says: str, new: str) -> None:
        table.wrong(name, says, (logp, p + new))

    zero = "the logarithm is taken of a softmax that may be 0: the loss is infinite or NaN where logits are far apart"
    saturating("log of a rounded softmax", zero, "logp = np.log(p)")
    for value in ("1e-5", "1e-6", "1e-7", "1e-8", "1e-9", "1e-10", "1e-12", "1e-15"):
        clipped = f"the loss saturates: the softmax is clipped to {value} before its logarithm is taken"
        saturating(f"softmax clipped at {value}", clipped, f"logp = np.log(np.maximum(p, {value}))")
        added = f"the loss saturates: {value} is added to the softmax before its logarithm is taken"
        saturating(f"{value} added to the softmax", added, f"logp = np.log(p + {value})")
    saturating(
        "softmax applied twice",
        "the softmax is applied twice: the loss gets probabilities for logits",
        "logp = log_softmax(p, 1)",
    )
    saturating("logarithm missing", "the logarithm is missing: the loss is the mean of −p", "logp = p")
    table.wrong(
        "logarithm to base 2", "the logarithm is to base 2", (logp, "logp = log_softmax(x, 1) / 0.6931471805599453")
    )
    sharp = "the logits are divided by 2: a temperature"
    table.wrong("temperature", sharp, (logp, "logp = log_softmax(x / 2, 1)"))
    table.wrong("sigmoid for softmax", "the loss takes sigmoids, not a softmax", (logp, "logp = -log(1 + exp(-x))"))
    table.wrong(
        "log-sum-exp missing",
        "the normaliser log sum exp is missing: the loss is the mean of −x at the labels",
        (logp, "logp = x"),
    )
    at = "chosen = np.arange(x.shape[1]) == np.asarray"
    table.wrong(
        "labels count from 1",
        "labels are taken to count from 1: each is one too low",
        (at, "chosen = np.arange(x.shape[1]) + 1 == np.asarray"),
    )
    mean = "count = 1 if"
    table.wrong(
        "divided by the classes too",
        "the loss is divided by N·C: the mean runs over the classes, too",
        (mean, "count = x.size if True else 1 if"),
    )
    table.wrong(
        "divided by the classes", "the loss is divided by C, not by N", (mean, "count = x.shape[1] if True else 1 if")
    )
    table.wrong(
        "dx divided by the classes too",
        "dx is divided by N·C",
        ("- chosen) / count", "- chosen) / count / logp.shape[1]"),
    )
    table.wrong("dx divided twice by N", "dx is divided twice by N", ("- chosen) / count", "- chosen) / count / count"))
    table.wrong(
        "dx of the chosen class alone",
        "dx is that of the label's class alone",
        ("(exp(logp) - chosen)", "(exp(logp) - chosen) * chosen"),
    )
    table.wrong(
        "dx is minus one-hot",
        "dx lacks the softmax: it is −one-hot / N, as for the negative log likelihood",
        ("(exp(logp) - chosen)", "(0 * logp - chosen)"),
    )
    table.wrong(
        "dx with the logarithm",
        "dx takes the logarithm of the softmax for the softmax",
        ("(exp(logp) - chosen)", "(logp - chosen)"),
    )
    table.wrong("sign of the loss", "the loss has the wrong sign", ("whole(-np.where", "whole(np.where"))
    table.wrong(
        "backward of the first forward",
        "backward belongs to the first forward pass, not to the last",
        ("self.kept = (", "self.kept = self.kept or ("),
    )
    largest = "the softmax subtracts the largest logit of the batch, not that of each sample, and underflows"
    table.wrong(
        "one shift for the batch",
        largest,
        (logp, "top = x.max()\n        logp = x - top - np.log(np.sum(exp(x - top), axis=1, keepdims=True))"),
    )
    table.wrong(
        "softmax over the batch",
        "the softmax runs over the batch, not over the classes",
        ("log_softmax(x, 1)", "log_softmax(x, 0)"),
    )
    table.wrong("dx without 1/N", "dx lacks the factor 1/N", ("- chosen) / count", "- chosen)"))
    table.wrong("dx without one-hot", "dx lacks the one-hot of the labels", ("(exp(logp) - chosen)", "exp(logp)"))
    table.wrong("dy ignored", "dx ignores the dy it receives", ("dx = dy * (", "dx = ("))
    table.wrong("dx signed wrongly", "dx has the wrong sign", ("dx = dy * (", "dx = -dy * ("))
    table.right("as the formula reads")
    return table.variants
