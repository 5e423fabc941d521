"""Known variants of batch normalization: its backward pass and its border."""

from __future__ import annotations

from minidl.check.variants.kinds import Collection

VAR = "var = mean(centred * centred, axes)"
DX = "dx = rstd * (dxhat - mean(dxhat, axes) - xhat * mean(dxhat * xhat, axes))"
LIFT = 'axes = (0, *range(2, x.ndim))\n        eps, weight, bias = self.options["eps"]'


def backward(table: Collection) -> None:
    """Wrong gradients: each term dropped, and the training formula in evaluation."""
    table.wrong(
        "dx without the mean of dy",
        "dx lacks the term of the mean, − rstd mean(dxhat): the mean is taken for a constant, as if it were detached",
        (DX, DX.replace("- mean(dxhat, axes) ", "")),
    )
    table.wrong(
        "dx without the xhat term",
        "dx lacks the term of the variance, − rstd xhat mean(dxhat xhat): the variance is taken for a constant, "
        "as if it were detached",
        (DX, DX.replace(" - xhat * mean(dxhat * xhat, axes)", "")),
    )
    table.wrong(
        "dx without dy", "dx lacks its direct term rstd dxhat", (DX, DX.replace("(dxhat - mean", "(0 * dxhat - mean"))
    )
    table.wrong("dx without weight", "dx lacks the factor weight", ("dxhat = dy * weight", "dxhat = dy"))
    table.wrong("dx without 1/sigma", "dx lacks the factor 1/sigma in training", (DX, DX.replace("rstd * (", "(")))
    table.wrong("dx means are sums", "dx uses sums where means belong", (DX, DX.replace("mean", "total")))
    table.wrong(
        "dx counts n − 1",
        "dx divides by n − 1 in the term of the variance",
        (
            DX,
            DX.replace(
                "mean(dxhat * xhat, axes)", "total(dxhat * xhat, axes) / max(xhat.size // xhat.shape[1] - 1, 1)"
            ),
        ),
    )
    table.wrong(
        "dweight of x",
        "dweight is sum(dy x), without centring",
        ("dweight = total(dy * xhat, axes)", "dweight = total(dy * self.x, axes)"),
        (LIFT, "self.x = x\n        " + LIFT),
    )
    table.wrong(
        "dweight without 1/sigma",
        "dweight lacks the factor 1/sigma",
        ("dweight = total(dy * xhat, axes)", "dweight = total(dy * xhat / rstd, axes)"),
    )
    table.wrong(
        "dweight is a mean",
        "dweight is a mean where a sum belongs",
        ("dweight = total(dy * xhat", "dweight = mean(dy * xhat"),
    )
    table.wrong(
        "dweight is zero",
        "dweight is zero",
        ("dweight = total(dy * xhat, axes)", "dweight = 0 * total(dy * xhat, axes)"),
    )
    affine_gradients(table, "dweight = total(dy * xhat, axes)", "dbias = total(dy, axes)", "xhat")
    table.wrong("dbias is a mean", "dbias is a mean where a sum belongs", ("dbias = total(dy", "dbias = mean(dy"))
    table.wrong("dbias is zero", "dbias is zero", ("dbias = total(dy, axes)", "dbias = 0 * total(dy, axes)"))
    seen = ("apache/mxnet#18209",)
    table.wrong(
        "training formula in the backward of evaluation",
        "backward after evaluation uses the training formula; running statistics are constants, dx = rstd weight dy",
        ("if training:\n            dx", "if True:\n            dx"),
        seen=seen,
    )
    table.wrong(
        "backward of evaluation without 1/sigma",
        "dx of evaluation lacks the factor 1/sigma",
        ("dx = rstd * dxhat\n", "dx = dxhat\n"),
    )
    table.wrong(
        "backward of the first forward",
        "backward belongs to the first forward pass, not to the last",
        ("self.kept = (", "self.kept = self.kept or ("),
    )


def affine_gradients(table: Collection, dweight: str, dbias: str, h: str) -> None:
    """Wrong gradients of weight and bias."""
    table.wrong(
        "dweight of y",
        "dweight is sum(dy y): y is used in place of xhat",
        (dweight, f"dweight = total(dy * (weight * {h} + column(self.params['bias'], dy)), axes)"),
    )
    table.wrong(
        "dweight averaged over the batch",
        "dweight is a mean over the batch where a sum belongs",
        (dweight, f"{dweight} / len(dy)"),
    )
    table.wrong(
        "dbias averaged over the batch",
        "dbias is a mean over the batch where a sum belongs",
        (dbias, f"{dbias} / len(dy)"),
    )
    table.wrong(
        "dbias with weight",
        "dbias has weight as a factor: it sums the gradient of xhat",
        (dbias, "dbias = total(dy * weight, axes)"),
    )
    table.wrong(
        "dweight with weight",
        "dweight has weight as a factor too many",
        (dweight, f"dweight = total(dy * weight * {h}, axes)"),
    )
    table.wrong(
        "dweight with the wrong sign", "dweight has the wrong sign", (dweight, f"dweight = -total(dy * {h}, axes)")
    )
    table.wrong("dbias with the wrong sign", "dbias has the wrong sign", (dbias, "dbias = -total(dy, axes)"))
    table.wrong(
        "dweight and dbias swapped",
        "dweight and dbias are swapped",
        (dweight, "dweight = total(dy, axes)"),
        (dbias, f"dbias = total(dy * {h}, axes)"),
    )
    table.wrong(
        "dx added up",
        "dx is added to the dx of earlier backward passes: it is never reset",
        ('return {"dx": dx', 'dx = self.sum = dx + getattr(self, "sum", 0)\n        return {"dx": dx'),
    )


def interface(table: Collection) -> None:
    """Bugs at the border."""
    table.wrong(
        "rank taken for granted", "the layer takes four axes for granted", (LIFT, "assert x.ndim == 4\n        " + LIFT)
    )
    table.wrong(
        "x changed in place",
        "the layer writes into x",
        (
            "centred = x - mu\n            var = mean",
            "centred = np.subtract(x, mu, out=x) if x.flags.writeable else x - mu\n            var = mean",
        ),
    )
    table.wrong(
        "dy read in the order of memory",
        "dy is read in the order of memory, strides ignored",
        ("dbias = total(dy", 'dy = dy.ravel(order="K").reshape(dy.shape)\n        dbias = total(dy'),
    )
    table.wrong(
        "x read in the order of memory",
        "x is read in the order of memory, strides ignored",
        (LIFT, 'x = x.ravel(order="K").reshape(x.shape)\n        ' + LIFT),
    )
    table.wrong(
        "gradients overwritten",
        "gradients are overwritten where they are declared to add up; if you mean it, declare grads='overwrite'",
        declares={"grads": "accumulate"},
    )
    summed = "gradients add up where they are declared to be overwritten; if you mean it, declare grads='accumulate'"
    table.wrong(
        "gradients added up",
        summed,
        (
            'return {"dx": dx, "dweight": dweight.reshape(-1), "dbias": dbias.reshape(-1)}',
            'self.sums = [old + new.reshape(-1) for old, new in zip(getattr(self, "sums", [0, 0]), (dweight, '
            'dbias))]\n        return {"dx": dx, "dweight": self.sums[0], "dbias": self.sums[1]}',
        ),
    )
    table.wrong(
        "NaN in running_var for a single value",
        "running_var is NaN after a channel with one value, by n/(n − 1) with n − 1 = 0; y is right",
        ("max(n - 1, 1)", "(n - 1)"),
    )
    table.wrong(
        "NaN for a single value",
        "a channel with one value gives NaN: n − 1 = 0",
        ("max(n - 1, 1)", "(n - 1)"),
        (
            VAR,
            "var = mean(centred * centred, axes) * (x.size // x.shape[1] - 1) / np.float32(x.size // x.shape[1] - 1)",
        ),
    )
