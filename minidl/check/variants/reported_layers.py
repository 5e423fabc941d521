"""Bugs of convolution, pooling, the affine map and the loss that public reports tell of."""

from __future__ import annotations

from minidl.check.variants.kinds import Collection

TAPS = '''def at(self, dy: Array, a: int, b: int, taps: Any, steps: Any) -> Any:
        """The pixels that tap (a, b) meets."""
        ends = [n * t + (m - 1) * s + 1 for n, t, m, s in zip((a, b), taps, dy.shape[2:], steps)]
        return slice(a * taps[0], ends[0], steps[0]), slice(b * taps[1], ends[1], steps[1])

    def weighed(self, image: Array, dy: Array, taps: Any, steps: Any) -> Array:
        """dweight, its taps and its windows so far apart."""
        weight = self.params["weight"]
        out = 0 * weight
        for at, first in self.blocks(len(weight), weight.shape[1], int(self.options.get("groups", 1))):
            for a in range(weight.shape[2]):
                for b in range(weight.shape[3]):
                    part = image[:, first : first + weight.shape[1]][(..., *self.at(dy, a, b, taps, steps))]
                    out[at, :, a, b] = np.einsum("nohw,nchw->oc", dy[:, at], part)
        return out

    def scattered(self, image: Array, dy: Array, taps: Any, steps: Any) -> Array:
        """The gradient of the image, its taps and its windows so far apart."""
        weight, out = self.params["weight"], 0 * image
        for at, first in self.blocks(len(weight), weight.shape[1], int(self.options.get("groups", 1))):
            for a in range(weight.shape[2]):
                for b in range(weight.shape[3]):
                    here = (..., *self.at(dy, a, b, taps, steps))
                    part = np.einsum("nohw,oc->nchw", dy[:, at], weight[at, :, a, b])
                    out[:, first : first + weight.shape[1]][here] += part
        return out

    def blocks('''
TOTAL = "the padding is taken for the total of both sides: half of it stands on each"


def of_conv2d(table: Collection) -> None:
    """Of convolution."""
    method = "def blocks(", TAPS
    grads = 'grads = {"dx": cropped(dimage, padding), "dweight": self.gathered(dweight)}'
    spaced = 'spaced = pair(self.options.get("dilation", 1))'
    for name, says, taps, steps in (
        ("dilation ignored", "the dilation is ignored", "(1, 1)", "stride"),
        ("stride and dilation swapped", "stride and dilation have changed places", "stride", "spaced"),
        ("dilation swapped", "the dilations of height and width are swapped", "spaced[::-1]", "stride"),
        ("stride swapped", "the strides of height and width are swapped", "spaced", "stride[::-1]"),
    ):
        dx = f"{spaced}\n        dimage = self.scattered(image, dy, {taps}, {steps})"
        table.wrong(
            f"{name} in dx", f"y and dweight are right; in dx {says}", method, (grads, f"{dx}\n        {grads}")
        )
        dw = grads.replace("self.gathered(dweight)", f"self.weighed(image, dy, {taps}, {steps})")
        table.wrong(
            f"{name} in dweight", f"y and dx are right; in dweight {says}", method, (grads, f"{spaced}\n        {dw}")
        )
    far = "where the stride leaves a rest, dweight is aligned with the far edge of the image, not with the near one"
    rest = "[(image.shape[2 + i] - kernel[i]) % stride[i] for i in (0, 1)]"
    turned = (
        f"image[np.ix_(*map(np.arange, image.shape))] if self.near else np.roll(image, [-n for n in {rest}], (2, 3))"
    )
    kept = "image, kernel, stride, padding = self.kept"
    for name, says, near in (
        ("dweight aligned with the far edge", far, "False"),
        (
            "dweight aligned with the far edge in groups",
            f"with groups, {far}",
            'int(self.options.get("groups", 1)) == 1',
        ),
    ):
        table.wrong(
            name,
            says,
            (kept, f"{kept}\n        self.near = {near}\n        turned = {turned}"),
            (
                "total(dy[:, :, None] * image[here][:, None], (0, 3, 4))",
                "total(dy[:, :, None] * turned[here][:, None], (0, 3, 4))",
            ),
            seen=("tracel-ai/burn#1891",) if near != "False" else (),
        )
    table.wrong(
        "bias of the sample's index",
        "the bias is taken by the number of the sample, where that of the output channel belongs",
        (
            'y = y + self.params["bias"].reshape(1, -1, 1, 1)',
            'y = y + self.params["bias"][np.arange(len(y)) % y.shape[1]].reshape(-1, 1, 1, 1)',
        ),
        seen=("kraiskil/onnx2c#7",),
    )
    table.wrong(
        "patches placed by the pixel",
        "with a stride, a patch is written in the place of its pixel, i·W + j, where that of its number belongs",
        (
            'if "bias" in self.params:\n            y = y +',
            "rows, columns = y.shape[2:]\n"
            "        flat, table = y.reshape((*y.shape[:2], -1)), np.zeros((*y.shape[:2], rows * columns))\n"
            "        for i in range(rows):\n"
            "            for j in range(columns):\n"
            "                if (at := i * stride[0] * columns + j * stride[1]) < rows * columns:\n"
            "                    table[:, :, at] = flat[:, :, i * columns + j]\n"
            "        y = table.reshape(y.shape)\n"
            '        if "bias" in self.params:\n            y = y +',
        ),
        seen=("mengxinZHANG/numpy-realizes-CNN#2",),
    )
    options = 'dilation, groups = pair(self.options.get("dilation", 1)), int(self.options.get("groups", 1))'
    after = "        if dilation == (1, 1) and groups == 1:", "        into = "
    counted = f'{options}\n        dilation = tuple(d + ("dilation" in self.options) for d in dilation)\n'
    table.wrong(
        "dilation counts the gaps",
        "a dilation is taken for the number of pixels between two taps: it is one too large wherever it is given",
        *((f"{options}\n{line}", f"{counted}{line}") for line in after),
        seen=("ddbourgin/numpy-ml#27",),
    )
    taken = 'weight = self.params["weight"]  # O C a b'
    for word, at in (("first", ":1"), ("last", "-1:")):
        table.wrong(
            f"kernel of the {word} input channel for all",
            f"the kernel of the {word} input channel serves for every input channel",
            (taken, f'weight = self.params["weight"]\n        weight = weight[:, {at}] + 0 * weight'),
            seen=("LazaroHurtado/micrograd-rs#31",) if at == ":1" else (),
        )
    both_sides(table, "image = padded(x, padding, 0)")


def both_sides(table: Collection, image: str) -> None:
    """A padding that is the total of both sides."""
    cut = [f"padding[{i}] - padding[{i}] // 2 : image.shape[{i + 2}] - padding[{i}] // 2" for i in (0, 1)]
    back = [f"padding[{i}] // 2 : dimage.shape[{i + 2}] - (padding[{i}] - padding[{i}] // 2)" for i in (0, 1)]
    table.wrong(
        "padding is the total of both sides",
        TOTAL,
        (image, f"{image}\n        image = image[:, :, {cut[0]}, {cut[1]}]"),
        ("cropped(dimage, padding)", f"dimage[:, :, {back[0]}, {back[1]}]"),
        seen=("AlexeyAB/darknet#3706",),
    )


def of_pooling(table: Collection) -> None:
    """Of max and average pooling."""
    both_sides(table, "image = padded(x, padding, -np.inf if largest else 0)")
    start = "dimage = np.full_like(dy, 0, shape=image.shape)"
    for word, at in (("first", "0"), ("last", "-1")):
        table.wrong(
            f"dx of the {word} window alone",
            f"dx is that of the {word} window alone: a return or an assignment stands inside of the loop",
            (
                start,
                f"one = 0 * dy\n        one[:, :, {at}, {at}] = dy[:, :, {at}, {at}]\n"
                f"        dy = one\n        {start}",
            ),
        )
    done = 'return {"dx": cropped(dimage'
    table.wrong(
        "dx of all samples in the first",
        "the gradients of all samples of the batch are added into the first: the index does not count the sample",
        (done, f"every = dimage.sum(axis=0)\n        dimage = 0 * dimage\n        dimage[0] = every\n        {done}"),
        seen=("tensorflow/tensorflow#2821",) if table.layer == "max_pool2d" else (),
    )
    own = "across, down = dy.shape[3], dy.shape[2]"
    sized = 'high, wide = pair(self.options["kernel_size"])'
    room = "dimage = np.zeros((*image.shape[:2], image.shape[2] + 99, image.shape[3] + 99))"
    step = "slice({0}, {0} + {1} * ({2} - 1) + 1, {1})"
    here = (
        f"        for index, here in enumerate(where):\n            a, b = divmod(index, wide)\n"
        f"            here = (*here[:2], {step.format('a', 'high', 'down')}, {step.format('b', 'wide', 'across')})\n"
    )
    table.wrong(
        "dx places windows by the kernel",
        "dx places window (i, j) at i and j times the kernel's size, where the stride belongs",
        (
            f"{start}\n        for index, here in enumerate(where):\n",
            f"{own}\n        {sized}\n        {room}\n{here}",
        ),
        ("wins = np.asarray(real(image[here])", "wins = np.asarray(real(image[where[index]])"),
        (done, f"dimage = dimage[:, :, : image.shape[2], : image.shape[3]]\n        {done}"),
        seen=("devitocodes/joey#5",) if table.layer == "max_pool2d" else (),
    )
    if table.layer == "avg_pool2d":
        of_average(table, start)


def of_average(table: Collection, start: str) -> None:
    """Of average pooling: its divisor, and a kernel that backward works out anew."""
    area = "area: Any = kernel[0] * kernel[1]"
    for name, this, other in (("the width", 0, 1), ("the height", 1, 0)):
        axis = "reshape(-1, 1)" if this == 0 else "reshape(1, -1)"
        begin = f"(np.arange(best.shape[{2 + this}]) * stride[{this}] - padding[{this}])"
        end = f"np.minimum({begin} + kernel[{this}], x.shape[{2 + this}] + padding[{other}])"
        table.wrong(
            f"count cut off by the padding of {name}",
            f"the divisor counts a window up to the edge and the padding of {name}, where that of its own axis belongs",
            (area, f"area: Any = (np.maximum({end} - {begin}, 1) * kernel[{other}]).{axis}"),
            seen=("microsoft/onnxruntime#27375",) if this == 0 else (),
        )
    shape = "image.shape[{0}] - 2 * padding[{1}]"
    high, wide = (f"max(({shape.format(2 + i, i)}) // dy.shape[{2 + i}], 1)" for i in (0, 1))
    table.wrong(
        "dx with a kernel worked out from the sizes",
        "dx takes the size of x divided by that of y for the kernel's size",
        (
            start,
            f"{start}\n        high, wide = {high}, {wide}\n        steps = pair(self.options['stride'])\n"
            "        for i in range(dy.shape[2]):\n"
            "            for j in range(dy.shape[3]):\n"
            "                at = slice(i * steps[0], i * steps[0] + high), slice(j * steps[1], j * steps[1] + wide)\n"
            "                share = dy[:, :, i : i + 1, j : j + 1] / (high * wide)\n"
            "                dimage[(slice(None), slice(None), *at)] += share\n"
            '        return {"dx": cropped(dimage[:], padding)}',
        ),
        seen=("mlpack/mlpack#2865",),
    )


def of_linear(table: Collection) -> None:
    """Of the affine map."""
    table.wrong(
        "dx with weight transposed where it is square",
        "dx uses weight transposed wherever it is square: whether to transpose is decided by the shapes",
        (
            'total(dy[:, :, None] * self.params["weight"], 1)',
            'total(dy[:, :, None] * (self.params["weight"].T if x.shape[1] == dy.shape[1] '
            'else self.params["weight"]), 1)',
        ),
        seen=("nntile/nntile#433",),
    )
    table.wrong(
        "dbias sums dweight",
        "dbias is the sum of dweight over the inputs, where that of dy over the batch belongs",
        ("total(dy, 0)[0]", "dweight.sum(axis=1)"),
    )


def of_loss(table: Collection) -> None:
    """Of softmax cross-entropy."""
    table.wrong(
        "one-hot of every row subtracted",
        "dx has 1 subtracted in the column of every label in every row, where each row has its own label",
        ("(exp(logp) - chosen)", "(exp(logp) - chosen.any(axis=0))"),
        seen=("a question about scaling of backpropagation, Stack Overflow 41653482",),
    )
    chosen = "-np.where(chosen, logp, 0 * x).sum()"
    labels = 'np.asarray(self.params["labels"]).reshape(-1, 1)'
    table.wrong(
        "labels taken for weights",
        "the labels' numbers are multiplied with log p of every class, where each picks out its own class",
        (chosen, f"-({labels} * logp).sum()"),
        seen=("kekmodel/MPL-pytorch#34",),
    )
    logp = "logp = log_softmax(x, 1)"
    clipped = f"{logp}\n        p = np.minimum(np.maximum(exp(logp), 1e-15), 1 - 2.0**-23)\n        logp = np.log(p)"
    table.wrong(
        "binary cross-entropy of every class, clipped",
        "the loss adds −log(1 − p) of the classes that are not the label, p kept away from 0 and 1",
        (logp, clipped),
        (chosen, "-(np.where(chosen, logp, 0 * x) + np.where(chosen, 0 * x, np.log(1 - p))).sum()"),
        seen=("eriklindernoren/ML-From-Scratch#98",),
    )
    of_p = (
        ("self.kept = (logp, chosen, count)", "self.kept = (p, chosen, count)"),
        ("logp, chosen, count = self.kept", "p, chosen, count = self.kept"),
        ("(exp(logp) - chosen)", "(p - chosen)"),
    )
    for name, says, top in (
        ("first logit for the largest", "subtracts the first logit, not the largest", "x[:, :1]"),
        ("last logit for the largest", "subtracts the last logit, not the largest", "x[:, -1:]"),
        ("mean for the largest logit", "subtracts the mean of the logits, not the largest", "mean(x, 1)"),
        ("largest logit starts at 0", "starts its search for the largest logit at 0", "np.maximum(largest(x, 1), 0)"),
    ):
        table.wrong(
            name,
            f"the softmax {says}: exp overflows or underflows where logits are far from it",
            (
                logp,
                f"z = x - {top}\n        sums = total(exp(z), 1)\n"
                "        logp = z - np.log(sums)\n        p = exp(z) / sums",
            ),
            *of_p,
        )
        table.wrong(
            f"{name}, then the logarithm of the softmax",
            f"the softmax {says}, and its logarithm is taken afterwards: both overflow or underflow",
            (logp, f"e = exp(x - {top})\n        p = e / total(e, 1)\n        logp = np.log(p)"),
            *of_p,
        )
