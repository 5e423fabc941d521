"""Known variants of batch normalization."""

from __future__ import annotations

from minidl.check.variants import found_in_code as found
from minidl.check.variants import reported_norms as reported
from minidl.check.variants.batch_backward import backward, interface
from minidl.check.variants.batch_state import more_state, odd_updates, state
from minidl.check.variants.kernels import kernels, of_batch
from minidl.check.variants.kinds import Collection, Variant
from minidl.check.variants.shared import BATCH, shared

VAR = "var = mean(centred * centred, axes)"
MU = "mu = mean(x, axes)"
RSTD = "rstd = 1 / sqrt(var + eps)"
UNBIASED = "rstd = 1 / sqrt(var * (count / max(count - 1, 1) if training else 1) + eps)"
UPDATE = "self.update(mu.reshape(-1), var.reshape(-1), x.size // x.shape[1])"
LIFT = 'axes = (0, *range(2, x.ndim))\n        eps, weight, bias = self.options["eps"]'
HALF = "x = x.astype(np.float16)\n        "
WELFORD = """axes = (0, *range(2, x.ndim))
        flat = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
        mu, square = 0 * flat[:, 0], 0 * flat[:, 0]
        for i in range(flat.shape[1]):
            delta = flat[:, i] - mu
            mu = mu + delta / (i + 1)
            square = square + delta * (flat[:, i] - mu)
        column_shape = (1, -1) + (1,) * (x.ndim - 2)
        welford = mu.reshape(column_shape), (square / flat.shape[1]).reshape(column_shape)
        eps, weight, bias = self.options["eps"]"""


def batch_norm() -> list[Variant]:
    """Variants of batch normalization."""
    table = Collection("batch_norm")
    statistics(table)
    state(table)
    more_state(table)
    odd_updates(table)
    shared(table, BATCH)
    kernels(table, BATCH)
    of_batch(table)
    reported.of_all(table, BATCH, "dx")
    reported.of_batch(table)
    backward(table)
    interface(table)
    correct(table)
    found.of_batch(table)
    return table.variants


def statistics(table: Collection) -> None:
    """Wrong forward passes."""
    one_pass = "the variance is computed in one pass, mean(x²) − mean(x)², which cancels when the mean is large"
    seen = ("google/flax#1491", "tensorflow/tensorflow#3290", "pytorch/pytorch#40302")
    table.wrong("one-pass variance", one_pass, (VAR, "var = mean(x * x, axes) - mu * mu"), symptom=True, seen=seen)
    unbiased = "y is normalised by the UNBIASED variance (n − 1); the formula takes the biased one"
    table.wrong(
        "unbiased variance in forward",
        unbiased,
        (RSTD, f"count = x.size // x.shape[1]\n        {UNBIASED}"),  # the running variance is right beside it
    )
    outside = "eps is added to the standard deviation, outside the root"
    table.wrong(
        "eps outside the root",
        outside,
        (RSTD, "rstd = 1 / (sqrt(var) + eps)"),
        seen=("Tencent/ncnn#311", "keras-team/keras#8726"),
    )
    table.wrong("eps missing", "there is no eps under the root", (RSTD, "rstd = 1 / sqrt(var)"))
    table.wrong(
        "eps as a floor",
        "the root is taken of max(var, eps), not of var + eps",
        (RSTD, "rstd = 1 / sqrt(np.maximum(var, eps))"),
        seen=("vacancy/Synchronized-BatchNorm-PyTorch#43",),
    )
    table.wrong("weight ignored", "weight does not multiply y", ("return weight * xhat", "return xhat"))
    table.wrong("bias ignored", "bias is not added to y", ("weight * xhat + bias", "weight * xhat"))
    table.wrong(
        "weight before centring",
        "weight multiplies x but not the mean: y = (weight x − mu) / sigma + bias",
        ("return weight * xhat + bias", "return (weight * x - mu) * rstd + bias"),
    )
    table.wrong(
        "statistics over the batch alone",
        "mean and variance are taken over the batch alone, not over space",
        (MU, "mu = mean(x, 0)"),
        (VAR, "var = mean(centred * centred, 0)"),
        (UPDATE, "self.update(mean(mu, axes).reshape(-1), mean(var, axes).reshape(-1), x.size // x.shape[1])"),
    )
    table.wrong(
        "statistics a sample",
        "mean and variance are those of each sample, as in instance normalization",
        (MU, "mu = mean(x, axes[1:])"),
        (VAR, "var = mean(centred * centred, axes[1:])"),
        (UPDATE, "self.update(mean(mu, axes).reshape(-1), mean(var, axes).reshape(-1), x.size // x.shape[1])"),
    )
    table.wrong(
        "float16 sums",
        "sums and squares are kept in float16, which ends at 65504",
        (LIFT, HALF + LIFT),
        dtype="float16",
    )
    table.wrong("NaN hidden", "NaN in x is replaced by 0", (LIFT, "x = np.nan_to_num(x)\n        " + LIFT))
    uneven = "the means of shards of unequal size are averaged with equal weight"
    parts = "np.split(x, self.cuts)"
    table.wrong(
        "uneven shards",
        uneven,
        (MU, f"mu = sum(mean(part, axes) for part in {parts}) / (len(self.cuts) + 1)"),
        (VAR, f"var = sum(mean((part - mu) * (part - mu), axes) for part in {parts}) / (len(self.cuts) + 1)"),
    )
    table.wrong(
        "shards not synchronised",
        "each shard uses its own statistics",
        (MU, f"mu = np.concatenate([mean(part, axes) + 0 * part for part in {parts}])"),
        (VAR, "var = np.concatenate([mean(part * part, axes) + 0 * part for part in np.split(centred, self.cuts)])"),
        (UPDATE, "self.update(mean(mu, axes).reshape(-1), mean(var, axes).reshape(-1), x.size // x.shape[1])"),
    )


def correct(table: Collection) -> None:
    """Right ways to compute the same."""
    table.right("two passes")
    table.right(
        "two passes, corrected mean",
        (MU, "mu = mean(x, axes)\n            rest = mean(x - mu, axes)"),
        ("centred = x - mu\n            var = mean", "centred = (x - mu) - rest\n            var = mean"),
    )
    table.right("Welford", (LIFT, WELFORD), (MU, "mu = welford[0]"), (VAR, "var = welford[1]"))
    table.right(
        "float64 statistics",
        (MU, "mu = mean(x.astype(np.float64), axes)"),
        ("centred = x - mu\n            var = mean", "centred = x - mu\n            var = mean"),
        (RSTD, "rstd = (1 / sqrt(var + eps)).astype(x.dtype)\n        centred = centred.astype(x.dtype)"),
        dtype="float32",
    )
    table.right(
        "scale and shift",
        ("return weight * xhat + bias", "return x * (weight * rstd) + (bias - mu * weight * rstd)"),
        dtype="float64",
    )
