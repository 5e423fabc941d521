"""Known variants of max and average pooling."""

from __future__ import annotations

from minidl.check.variants import found_in_code as found
from minidl.check.variants.conv2d import crops
from minidl.check.variants.kinds import Collection, Variant
from minidl.check.variants.reported_layers import of_pooling
from minidl.check.variants.slips import of_windows


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
    odd_winners(table)
    windows(table)
    return table.variants


def odd_winners(table: Collection) -> None:
    """Gradients of max pooling that go to the wrong values."""
    wins = "wins = winner == index"
    for within in ("1e-2", "1e-3"):
        table.wrong(
            f"values within {within} of the maximum win",
            f"all values within {within} of the maximum get the whole gradient, not the largest alone",
            (wins, f"wins = abs(image[here] - best) < {within}"),
            seen=("mni-ml/framework#22",) if within == "1e-2" else (),
        )
    loop = "for index, here in enumerate(where):\n            wins"
    table.wrong(
        "one gate for each pixel",
        "a pixel that wins the last of its windows gets the dy of all of them, one that does not gets none",
        ('return {"dx": cropped(dimage', 'dimage = dimage * gate\n        return {"dx": cropped(dimage'),
        (
            "share = np.where(wins, dy, 0 * dy) if largest",
            "later = gated[here] > turn\n"
            "            gate[here] = np.where(later, gate[here], wins)\n"
            "            gated[here] = np.where(later, gated[here], turn)\n"
            "            share = dy if largest",
        ),
        (
            loop,
            "gate, gated = np.zeros(image.shape), np.full(image.shape, -1)\n"
            f"        turn = np.arange(dy[0, 0].size).reshape(dy.shape[2:])\n        {loop}",
        ),
        seen=("ahrefs/ocannl#512",),
    )
    table.wrong(
        "index in the window split by its height",
        "the flat index of the winner in its window is split by the window's height, where its width belongs",
        (
            wins,
            "high, across = self.high, self.across\n            row, column = winner // high, winner % high\n"
            "            wins = np.minimum(row, high - 1) * across + np.minimum(column, across - 1) == index",
        ),
        ("largest, ties = self.layer", "self.high, self.across = kernel\n        largest, ties = self.layer"),
    )
    table.wrong(
        "index in the window split column by column",
        "the flat index of the winner counts row by row, and is split as if it counted column by column",
        (wins, "wins = winner == (index % self.across) * self.high + index // self.across"),
        ("largest, ties = self.layer", "self.high, self.across = kernel\n        largest, ties = self.layer"),
    )


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
    found.of_windows(table)
    return table.variants


def windows(table: Collection) -> None:
    """What goes wrong in both poolings."""
    of_windows(table)
    of_pooling(table)
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
    crops(table)
    table.right("as the formula reads")
