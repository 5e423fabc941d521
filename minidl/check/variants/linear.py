"""Known variants of the affine map."""

from __future__ import annotations

from minidl.check.variants import reported_layers as reported
from minidl.check.variants.kinds import Collection, Variant
from minidl.check.variants.slips import of_linear


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
    table.wrong(
        "dbias is one sum over all",
        "dbias sums over batch and outputs: every output gets the same number",
        ("total(dy, 0)[0]", "0 * dy[0] + dy.sum()"),
    )
    table.wrong(
        "gradients added up",
        "gradients add up where they are declared to be overwritten; if you mean it, declare grads='accumulate'",
        (
            'grads = {"dx": dx, "dweight": dweight}',
            'self.sums = getattr(self, "sums", 0) + dweight\n        grads = {"dx": dx, "dweight": self.sums}',
        ),
        ("total(dy, 0)[0]", 'self.rest = getattr(self, "rest", 0) + total(dy, 0)[0]'),
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
    of_linear(table)
    reported.of_linear(table)
    table.right("as the formula reads")
    table.right("matrix product", (forward, 'y = x @ self.params["weight"].T'))
    return table.variants
