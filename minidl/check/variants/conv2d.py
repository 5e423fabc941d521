"""Known variants of convolution."""

from __future__ import annotations

from minidl.check.variants import found_in_code as found
from minidl.check.variants import orders
from minidl.check.variants import reported_layers as reported
from minidl.check.variants.kinds import Collection, Variant
from minidl.check.variants.slips import of_conv2d


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
    odd_conv2d(table)
    table.right("as the formula reads")
    found.of_kernels(table)
    return table.variants


def more_conv2d(table: Collection) -> None:
    """Further ways to get a convolution wrong."""
    taken = 'weight = self.params["weight"]  # O C a b'
    plain = 'weight = self.params["weight"]\n        weight = self.spread(weight)\n        dimage'
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
    table.wrong(
        "padding reflects without the edge",
        "the padding mirrors the image without repeating its edge, where zeros belong",
        (image, 'image = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2), mode="reflect")'),
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
            'weight = self.params["weight"]\n        weight = np.moveaxis(weight, 0, 1).reshape(weight.shape)\n'
            "        weight = self.spread(weight)\n        dimage",
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


def odd_conv2d(table: Collection) -> None:
    """A convolution whose arrays are shaped, cropped or aligned wrongly."""
    crop = "cropped(dimage, padding)"
    keep = "image, kernel, stride, padding = self.kept"
    table.wrong(
        "kernel read as (O, C, b, a)",
        "weight's memory is read as (O, C, width, height) and transposed: right for a square kernel's shape alone",
        (
            'weight = self.params["weight"]  # O C a b',
            'w = self.params["weight"]\n'
            "        weight = np.moveaxis(w.reshape((*w.shape[:2], w.shape[3], w.shape[2])), 2, 3)",
        ),
    )
    table.wrong(
        "y reshaped without a transpose",
        "the product (O, N, H, W) is reshaped to (N, O, H, W), where its axes must be transposed",
        ("out: Array = whole(y)", "y = np.moveaxis(y, 0, 1).reshape(y.shape)\n        out: Array = whole(y)"),
        (keep, f"{keep}\n        dy = np.moveaxis(dy.reshape((dy.shape[1], dy.shape[0], *dy.shape[2:])), 0, 1)"),
    )
    table.wrong(
        "dx aligned with the far edge",
        "where the stride leaves a rest, dx is aligned with the far edge of the image, not with the near one",
        (
            crop,
            "cropped(np.roll(dimage, [(dimage.shape[2 + i] - kernel[i]) % stride[i] for i in (0, 1)], (2, 3)), "
            "padding)",
        ),
        seen=("flagos-ai/FlagGems#1576", "f-dangel/backpack#30"),
    )
    spaced_conv2d(table)
    crops(table)
    of_conv2d(table)
    reported.of_conv2d(table)
    orders.of_conv2d(table)


def spaced_conv2d(table: Collection) -> None:
    """A convolution that mistakes its dilation or its groups."""
    options = 'dilation, groups = pair(self.options.get("dilation", 1)), int(self.options.get("groups", 1))'
    after = "        if dilation == (1, 1) and groups == 1:", "        into = "
    both = "serves for both directions"
    for name, says, new in (
        ("dilation swapped", "the dilations of height and width are swapped", "dilation[::-1]"),
        ("dilation of the height alone", f"the dilation of the height {both}", "(dilation[0],) * 2"),
        ("dilation of the width alone", f"the dilation of the width {both}", "(dilation[1],) * 2"),
        ("dilation one too large", "a dilation is one too large", "dilation[0] + 1, dilation[1] + 1"),
    ):
        changed = f"{options}\n        dilation = {new}\n"
        table.wrong(name, says, *((f"{options}\n{line}", f"{changed}{line}") for line in after))
    blocks = "return [(slice(g * size, (g + 1) * size), g * into) for g in range(groups)]"
    dealt = "output channel o takes the inputs of group o mod G, interleaved, where groups are runs of neighbours"
    new = "return [(slice(o, o + 1), o % groups * into) for o in range(out)]"
    table.wrong("channels of a convolution's groups dealt out in turn", dealt, (blocks, new))
    first = "every group of a convolution takes the input channels of the first group"
    table.wrong("all groups take the inputs of the first", first, (blocks, blocks.replace("g * into", "0")))


def crops(table: Collection) -> None:
    """A dx that is cut out of the padded image at a wrong place, of convolution and pooling."""
    crop, wide = "cropped(dimage, padding)", "np.concatenate([dimage, 0 * dimage], 3)"
    size = "dimage.shape[2] - 2 * padding[0]", "dimage.shape[3] - 2 * padding[1]"
    for name, says, top, left in (
        (
            "dx cropped by the padding of the height",
            "by the padding of the height along both axes",
            "padding[0]",
            "padding[0]",
        ),
        ("dx not shifted by the padding", "at the padded image's origin: it is shifted by the padding", "0", "0"),
    ):
        cut = f"{wide}[:, :, {top} : {top} + {size[0]}, {left} : {left} + {size[1]}]"
        table.wrong(name, f"dx is cut out of the padded image {says}", (crop, cut))
