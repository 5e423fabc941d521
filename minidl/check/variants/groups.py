"""Known variants of instance, layer and group normalization."""

from __future__ import annotations

from minidl.check.variants import found_in_code as found
from minidl.check.variants import orders
from minidl.check.variants import reported_norms as reported
from minidl.check.variants.batch_backward import affine_gradients
from minidl.check.variants.kernels import kernels, of_groups, of_instances, of_pixels
from minidl.check.variants.kinds import Collection, Variant
from minidl.check.variants.shared import GROUP, shared

MU = "mu = mean(split, 2)"
VAR = "var = mean(centred * centred, 2)"
RSTD = 'rstd = 1 / sqrt(var + self.options["eps"])'
DX = "dx = rstd * (d - mean(d, 2) - h * mean(d * h, 2))"
SPLIT = "split = x.reshape((shape[0], groups, -1))"
KEPT = "self.kept = (xhat, rstd, weight)"
MERGE = "xhat = (centred * rstd).reshape(shape)"


def instance_norm() -> list[Variant]:
    """Variants of instance normalization."""
    table = Collection("instance_norm")
    common(table, "one sample and channel")
    of_instances(table)
    batch = "statistics are taken over the batch, as in batch normalization"
    table.wrong(
        "statistics over the batch",
        batch,
        (MU, "mu = mean(split, (0, 2))"),
        (VAR, "var = mean(centred * centred, (0, 2))"),
    )
    layer = "statistics are taken over all channels, as in layer normalization"
    table.wrong(
        "statistics over all channels",
        layer,
        (
            'if self.layer == "instance_norm":\n            return channels',
            'if self.layer == "instance_norm":\n            return 1',
        ),
    )
    found.of_samples(table)
    return table.variants


def layer_norm() -> list[Variant]:
    """Variants of layer normalization."""
    table = Collection("layer_norm")
    common(table, "one sample")
    of_pixels(table)
    other_axes(table)
    table.wrong(
        "statistics over the batch",
        "statistics are taken over the batch too",
        (MU, "mu = mean(split, (0, 2))"),
        (VAR, "var = mean(centred * centred, (0, 2))"),
    )
    each = "statistics are taken over space alone, a channel at a time, as in instance normalization"
    table.wrong(
        "statistics a channel",
        each,
        (
            'if self.layer == "layer_norm":\n            return 1',
            'if self.layer == "layer_norm":\n            return channels',
        ),
    )
    last = "statistics are taken over the last axis alone"
    table.wrong(
        "statistics over the last axis",
        last,
        (SPLIT, "split = x"),
        (MU, "mu = mean(split, split.ndim - 1)"),
        (VAR, "var = mean(centred * centred, split.ndim - 1)"),
        (KEPT, "rstd = rstd.reshape((shape[0], -1))[:, :1, None]\n        " + KEPT),
    )
    return table.variants


def group_norm() -> list[Variant]:
    """Variants of group normalization."""
    table = Collection("group_norm")
    common(table, "one group")
    of_groups(table)
    orders.of_group_norm(table)
    of_pixels(table)
    other_axes(table)
    table.wrong(
        "channels last without a transpose",
        "x is reshaped as if its channels were the last axis (NHWC): groups mix pixels and channels, a transpose is "
        "missing",
        (
            SPLIT,
            "turned = np.moveaxis(x.reshape((shape[0], shape[1], -1)), 1, 2).reshape((shape[0], groups, -1))\n"
            "        split = turned",
        ),
        (MERGE, "xhat = np.moveaxis((centred * rstd).reshape((shape[0], -1, shape[1])), 1, 2).reshape(shape)"),
    )
    dealt = (
        "channels are dealt out to the groups in turn (c mod G), interleaved; a group is a run of neighbouring channels"
    )
    table.wrong(
        "channels dealt out in turn",
        dealt,
        (
            SPLIT,
            "turn = np.argsort(np.arange(shape[1]) % groups, kind='stable')\n        back = np.argsort(turn)\n  "
            "      split = x[:, turn].reshape((shape[0], groups, -1))",
        ),
        (MERGE, MERGE + "[:, back]"),
    )
    each = "weight and bias are those of the group, not of the channel"
    table.wrong(
        "weight per group",
        each,
        (
            "shape, groups = x.shape, self.groups(x.shape[1])",
            "shape, groups = x.shape, self.groups(x.shape[1])\n        self.params = {k: np.repeat(v[:groups], "
            "shape[1] // groups) for k, v in self.params.items()}",
        ),
    )
    table.wrong(
        "weight of the place in the group",
        "weight and bias are those of the channel's place in its group (c mod C/G), not of the channel",
        (
            "shape, groups = x.shape, self.groups(x.shape[1])",
            "shape, groups = x.shape, self.groups(x.shape[1])\n        each = shape[1] // groups\n        "
            "self.params = {k: v[np.arange(shape[1]) % each] for k, v in self.params.items()}",
        ),
        (
            'return {"dx": dx.reshape(dy.shape), "dweight": dweight.reshape(-1), "dbias": dbias.reshape(-1)}',
            "dweight, dbias = (v.reshape(rstd.shape[1], -1).sum(0) for v in (dweight, dbias))\n        rest = [(0, "
            "dy.shape[1] - dweight.size)]\n        dweight, dbias = np.pad(dweight, rest), np.pad(dbias, rest)\n"
            '        return {"dx": dx.reshape(dy.shape), "dweight": dweight, "dbias": dbias}',
        ),
    )
    table.wrong(
        "group size for number of groups",
        "num_groups is taken for the number of channels in a group: C / G groups of G channels",
        ('groups = int(self.options["num_groups"])', 'groups = max(channels // int(self.options["num_groups"]), 1)'),
    )
    silent = "channels that do not divide into the groups pass silently"
    table.wrong(
        "indivisible channels pass",
        silent,
        (
            'if channels % groups:\n            raise ValueError(f"num_groups must divide {channels} channels, '
            'got {groups}")',
            "if channels % groups:\n            groups = 1",
        ),
    )
    table.wrong(
        "statistics over the batch",
        "statistics are taken over the batch too",
        (MU, "mu = mean(split, (0, 2))"),
        (VAR, "var = mean(centred * centred, (0, 2))"),
    )
    found.of_groups(table)
    return table.variants


def other_axes(table: Collection) -> None:
    """Statistics over other axes than a group's channels and pixels; the gradients are the derived ones."""
    each = "split = x.reshape((shape[0], groups, shape[1] // groups, -1))"
    table.wrong(
        "rank taken for granted",
        "the layer takes four axes for granted",
        ("shape, groups = x.shape", "assert x.ndim == 4\n        shape, groups = x.shape"),
    )
    back = (
        KEPT,
        "rstd = rstd.reshape((len(rstd), groups, -1))[:, :, :1] + 0 * mean(x.reshape((shape[0], groups, -1)), "
        "2)\n        " + KEPT,
    )

    def over(name: str, says: str, axes: str) -> None:
        table.wrong(
            name,
            says,
            (SPLIT, each),
            (MU, f"mu = mean(split, {axes})"),
            (VAR, f"var = mean(centred * centred, {axes})"),
            back,
        )

    over(
        "statistics of each pixel",
        "statistics are taken over the channels alone, at each pixel (position) apart, not over space",
        "2",
    )
    over(
        "statistics over the batch and the channels",
        "statistics are taken over the batch and the channels at each pixel",
        "(0, 2)",
    )
    table.wrong(
        "reshaped without moving the axes back",
        "xhat is reshaped from (N, H, W, C) to (N, C, H, W) without a transpose: values land in wrong places",
        (MERGE, "xhat = np.moveaxis((centred * rstd).reshape((shape[0], shape[1], -1)), 1, 2).reshape(shape)"),
    )


def common(table: Collection, unit: str) -> None:
    """What goes wrong in all three."""
    one_pass = "the variance is computed in one pass, mean(x²) − mean(x)², which cancels when the mean is large"
    seen = ("pytorch/pytorch#51102", "pytorch/pytorch#40302", "microsoft/onnxruntime#28463")
    table.wrong("one-pass variance", one_pass, (VAR, "var = mean(split * split, 2) - mu * mu"), symptom=True, seen=seen)
    table.wrong(
        "unbiased variance",
        f"the variance of {unit} is divided by n − 1",
        (VAR, "var = total(centred * centred, 2) / max(split.shape[2] - 1, 1)"),
    )
    outside = "eps is added to the standard deviation, outside the root"
    table.wrong(
        "eps outside the root",
        outside,
        (RSTD, 'rstd = 1 / (sqrt(var) + self.options["eps"])'),
        seen=("pyg-team/pytorch_geometric#2917",),
    )
    table.wrong("eps missing", "there is no eps under the root", (RSTD, "rstd = 1 / sqrt(var)"))
    table.wrong(
        "eps as a floor",
        "the root is taken of max(var, eps), not of var + eps",
        (RSTD, 'rstd = 1 / sqrt(np.maximum(var, self.options["eps"]))'),
    )
    table.wrong("weight ignored", "weight does not multiply y", ("return weight * xhat", "return xhat"))
    table.wrong("bias ignored", "bias is not added to y", ("weight * xhat + bias", "weight * xhat"))
    table.wrong(
        "float16 sums",
        "sums and squares are kept in float16, which ends at 65504",
        (SPLIT, SPLIT.replace("x.", "x.astype(np.float16).")),
        dtype="float16",
    )
    table.wrong(
        "dx without the mean of dy",
        "dx lacks the term of the mean: the mean is taken for a constant, as if it were detached",
        (DX, DX.replace("- mean(d, 2) ", "")),
    )
    table.wrong(
        "dx without the xhat term",
        "dx lacks the term of the variance: the variance is taken for a constant, as if it were detached",
        (DX, DX.replace(" - h * mean(d * h, 2)", "")),
    )
    table.wrong("dx without dy", "dx lacks its direct term", (DX, DX.replace("(d - mean", "(0 * d - mean")))
    table.wrong("dx without weight", "dx lacks the factor weight", ("d = (dy * weight)", "d = dy"))
    table.wrong("dx without 1/sigma", "dx lacks the factor 1/sigma", (DX, DX.replace("rstd * (", "(")))
    table.wrong(
        "dweight without 1/sigma",
        "dweight lacks the factor 1/sigma",
        (
            DX,
            "dweight = total((dy * xhat).reshape(d.shape) / rstd + 0 * d, 0).reshape((1, dy.shape[1], "
            "-1)).sum(2)\n        " + DX,
        ),
    )
    table.wrong(
        "dweight is a mean",
        "dweight is a mean where a sum belongs",
        ("dweight = total(dy * xhat", "dweight = mean(dy * xhat"),
    )
    table.wrong(
        "dweight of x",
        "dweight is sum(dy x), without centring",
        ("dweight = total(dy * xhat, axes)", "dweight = total(dy * self.x, axes)"),
        ("shape, groups = x.shape", "self.x = x\n        shape, groups = x.shape"),
    )
    table.wrong(
        "dweight is zero",
        "dweight is zero",
        ("dweight = total(dy * xhat, axes)", "dweight = 0 * total(dy * xhat, axes)"),
    )
    shared(table, GROUP)
    kernels(table, GROUP)
    reported.of_all(table, GROUP, "dx.reshape(dy.shape)")
    reported.of_groups(table)
    affine_gradients(table, "dweight = total(dy * xhat, axes)", "dbias = total(dy, axes)", "xhat")
    table.wrong("dbias is a mean", "dbias is a mean where a sum belongs", ("dbias = total(dy", "dbias = mean(dy"))
    table.wrong("dbias is zero", "dbias is zero", ("dbias = total(dy, axes)", "dbias = 0 * total(dy, axes)"))
    layout = ("pytorch/pytorch#140913",)
    table.wrong(
        "x read in the order of memory",
        "x is read in the order of memory, strides ignored",
        (SPLIT, SPLIT.replace("x.", 'x.ravel(order="K").')),
        seen=layout,
    )
    table.wrong(
        "dy read in the order of memory",
        "dy is read in the order of memory, strides ignored",
        ("dbias = total(dy", 'dy = dy.ravel(order="K").reshape(dy.shape)\n        dbias = total(dy'),
        seen=layout,
    )
    table.wrong(
        "backward of the first forward",
        "backward belongs to the first forward pass, not to the last",
        (KEPT, "self.kept = self.kept or (xhat, rstd, weight)"),
    )
    table.right("two passes")
    table.right(
        "two passes, corrected mean",
        (MU, MU + "\n        rest = mean(split - mu, 2)"),
        ("centred = split - mu", "centred = (split - mu) - rest"),
    )
    table.right(
        "float64 statistics",
        (MU, "mu = mean(split.astype(np.float64), 2)"),
        (RSTD, RSTD + "\n        centred, rstd = centred.astype(x.dtype), rstd.astype(x.dtype)"),
    )
