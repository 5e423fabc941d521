"""Known variants of layer and RMS normalization over the last axis."""

from __future__ import annotations

from minidl.check.variants import reported_norms as reported
from minidl.check.variants.kernels import kernels
from minidl.check.variants.kinds import Collection, Variant
from minidl.check.variants.shared import Texts, of_affine, of_dx, of_eps, of_variance

DWEIGHT = "dweight = total(dy * xhat, axes)"
DBIAS = "dbias = total(dy, axes)"
KEPT = "self.kept = (xhat, rstd, weight)"
COUNTS = {"the rows": "(dy.size // dy.shape[-1])", "the batch": "len(dy)"}
LAYER = Texts(
    x="x",
    axes="last",
    eps='self.options["eps"]',
    mu="mu = mean(x, last)",
    var="var = mean(centred * centred, last)",
    rstd='rstd = 1 / sqrt(var + self.options["eps"])',
    xhat="xhat = centred * rstd",
    y="return weight * xhat + bias",
    dx="dx = rstd * (dxhat - mean(dxhat, last) - xhat * mean(dxhat * xhat, last))",
    d="dxhat",
    h="xhat",
    count="xhat.shape[-1]",
    raw="dy",
    counts=COUNTS,
)
RMS = Texts(
    x="x",
    axes="last",
    eps='self.options["eps"]',
    mu="",
    var="var = mean(x * x, last)",
    rstd='rstd = 1 / sqrt(var + self.options["eps"])',
    xhat="xhat = x * rstd",
    y="return weight * xhat",
    dx="dx = rstd * (dxhat - xhat * mean(dxhat * xhat, last))",
    d="dxhat",
    h="xhat",
    count="xhat.shape[-1]",
    raw="dy",
    counts=COUNTS,
)


def layer_norm_last() -> list[Variant]:
    """Variants of layer normalization over the last axis."""
    table = Collection("layer_norm_last")
    one_pass = "the variance is computed in one pass, mean(x²) − mean(x)², which cancels when the mean is large"
    seen = ("pytorch/pytorch#51102", "pytorch/pytorch#40302")
    new = "var = mean(x * x, last) - mu * mu"
    table.wrong("one-pass variance", one_pass, (LAYER.var, new), symptom=True, seen=seen)
    unbiased = "var = total(centred * centred, last) / max(x.shape[-1] - 1, 1)"
    table.wrong("unbiased variance", "the variance of a row is divided by n − 1", (LAYER.var, unbiased))
    table.wrong("bias ignored", "bias is not added to y", (LAYER.y, "return weight * xhat + 0 * bias"))
    of_variance(table, LAYER)
    of_affine(table, LAYER)
    of_dx(table, LAYER)
    without = LAYER.dx.replace("- mean(dxhat, last) ", "")
    table.wrong("dx without the mean of dy", "dx lacks the term of the mean", (LAYER.dx, without))
    common(table, LAYER)
    table.wrong("dbias is a mean", "dbias is a mean where a sum belongs", (DBIAS, "dbias = mean(dy, axes)"))
    table.wrong("dbias is zero", "dbias is zero", (DBIAS, "dbias = 0 * total(dy, axes)"))
    factor = "dbias has weight as a factor: it sums the gradient of xhat"
    table.wrong("dbias with weight", factor, (DBIAS, "dbias = total(dy * weight, axes)"))
    table.right("two passes")
    table.right(
        "two passes, corrected mean",
        (LAYER.mu, "mu = mean(x, last)\n        rest = mean(x - mu, last)"),
        ("centred = x - mu", "centred = (x - mu) - rest"),
    )
    return table.variants


def rms_norm() -> list[Variant]:
    """Variants of RMS normalization."""
    table = Collection("rms_norm")
    common(table, RMS)

    def squares(name: str, says: str, new: str) -> None:
        table.wrong(name, says, (RMS.var, new))

    less = "x = x - mean(x, last)\n        var = mean(x * x, last)"
    squares("mean subtracted", "the mean is subtracted from x, as in layer normalization", less)
    about = "the mean of squares is taken about the mean, as a variance is, though x keeps its mean"
    squares("variance in place of the mean of squares", about, "var = mean((x - mean(x, last)) ** 2, last)")
    fewer = "var = total(x * x, last) / max(x.shape[-1] - 1, 1)"
    squares("n − 1 in the mean of squares", "the sum of squares is divided by n − 1", fewer)
    squares("sum of squares", "the sum of squares is not divided by n", "var = total(x * x, last)")
    squares("mean of magnitudes", "x is divided by the mean of its magnitudes", "var = mean(abs(x), last) ** 2")
    square = 'rstd = 1 / (var + self.options["eps"])'
    table.wrong("root missing", "x is divided by the mean of squares, not by its root", (RMS.rstd, square))
    table.wrong(
        "multiplied by the root mean square",
        "x is multiplied by its root mean square, where it must be divided",
        (RMS.rstd, 'rstd = sqrt(var + self.options["eps"])'),
        seen=("rasbt/LLMs-from-scratch#871",),
    )
    table.wrong("weight plus one", "1 + weight multiplies y, where weight does", (RMS.y, "return (1 + weight) * xhat"))
    table.wrong("weight squared", "weight multiplies y twice", (RMS.y, "return weight * weight * xhat"))
    table.wrong("y divided by weight", "y is divided by weight", (RMS.y, "return xhat / weight"))
    of_root(table)
    table.right("as the formula reads")
    return table.variants


def of_root(table: Collection) -> None:
    """The term of the root in the dx of RMS normalization."""

    def dx(name: str, says: str, inner: str) -> None:
        table.wrong(name, says, (RMS.dx, f"dx = {inner}"))

    term = "xhat * mean(dxhat * xhat, last)"
    dx("dx xhat term with the wrong sign", "the term of the root in dx has the wrong sign", f"rstd * (dxhat + {term})")
    half = "the term of the root in dx has a wrong factor: 2 is lost or doubled"
    dx("dx xhat term halved", half, f"rstd * (dxhat - {term} / 2)")
    dx("dx xhat term doubled", half, f"rstd * (dxhat - 2 * {term})")
    power = "the term of the root in dx has a wrong power of the root"
    dx("dx xhat term with another power of the root", power, f"rstd * (dxhat - rstd * {term})")
    dx("dx xhat term without a power of the root", power, f"rstd * (dxhat - {term} / rstd)")
    as_layer = "dx has the term of a mean, as in layer normalization: RMS normalization subtracts none"
    dx("dx of layer normalization", as_layer, f"rstd * (dxhat - mean(dxhat, last) - {term})")
    dx("dx is zero", "dx is zero", "0 * rstd * dxhat")
    dx("dx with the wrong sign", "dx has the wrong sign", f"-rstd * (dxhat - {term})")


def common(table: Collection, t: Texts) -> None:
    """What goes wrong in both."""
    of_eps(table, t)
    kernels(table, t)
    reported.of_all(table, t, "dx")
    reported.of_rows(table, t)
    outside = "eps is added to the root, outside of it"
    table.wrong("eps outside the root", outside, (t.rstd, f"rstd = 1 / (sqrt(var) + {t.eps})"))
    table.wrong(
        "eps as a floor", "eps is a floor of the variance", (t.rstd, f"rstd = 1 / sqrt(np.maximum(var, {t.eps}))")
    )
    table.wrong("eps missing", "there is no eps under the root", (t.rstd, "rstd = 1 / sqrt(var)"))
    ignored = t.y.replace("weight * xhat", "xhat + 0 * weight")
    table.wrong("weight ignored", "weight does not multiply y", (t.y, ignored))
    of_axes(table, t)
    of_gradients(table, t)
    of_border(table)


def of_axes(table: Collection, t: Texts) -> None:
    """Statistics over other axes, or in float16."""
    for name, over in (
        ("statistics over the whole sample", "tuple(range(1, x.ndim))"),
        ("statistics over the first axis", "0"),
        ("statistics over the last axis but one", "max(x.ndim - 2, 0)"),
        ("statistics over the whole of x", "tuple(range(x.ndim))"),
    ):
        says = f"{name.replace('statistics', 'statistics are taken')}, where the last axis alone belongs"
        table.wrong(name, says, ("x.ndim - 1, self.params", f"{over}, self.params"))
    off = "x" if t is RMS else "centred"
    table.wrong(
        "float16 sums",
        "sums and squares are kept in float16, which ends at 65504",
        (t.rstd, f"half = {off}.astype(np.float16)\n        var = mean(half * half, last)\n        {t.rstd}"),
        dtype="float16",
    )


def of_gradients(table: Collection, t: Texts) -> None:
    """Wrong gradients."""
    lacking = "dx lacks the term of the root, as if the statistics were detached"
    table.wrong("dx without the xhat term", lacking, (t.dx, t.dx.replace(" - xhat * mean(dxhat * xhat, last)", "")))
    table.wrong("dx without dy", "dx lacks its direct term", (t.dx, t.dx.replace("(dxhat", "(0 * dxhat", 1)))
    table.wrong("dx without weight", "dx lacks the factor weight", ("dxhat = dy * weight", "dxhat = dy"))
    table.wrong("dx without 1/sigma", "dx lacks the factor 1/sigma", (t.dx, t.dx.replace("rstd * (", "(")))
    for name, says, new in (
        ("without 1/sigma", "lacks the factor 1/sigma", "total(dy * xhat / rstd, axes)"),
        ("is a mean", "is a mean where a sum belongs", "mean(dy * xhat, axes)"),
        ("averaged over the batch", "is a mean over the batch where a sum belongs", "total(dy * xhat, axes) / len(dy)"),
        ("is zero", "is zero", "0 * total(dy * xhat, axes)"),
        ("with weight", "has weight as a factor too many", "total(dy * weight * xhat, axes)"),
        ("with the wrong sign", "has the wrong sign", "-total(dy * xhat, axes)"),
    ):
        if t is LAYER or "1/sigma" not in name:  # which is dweight of x, where no mean is subtracted
            table.wrong(f"dweight {name}", f"dweight {says}", (DWEIGHT, f"dweight = {new}"))
    kept = KEPT, f"self.x = x\n        {KEPT}"
    table.wrong("dweight of x", "dweight is sum(dy x)", (DWEIGHT, "dweight = total(dy * self.x, axes)"), kept)


def of_border(table: Collection) -> None:
    """What goes wrong between calls, and at the border."""
    stale = "backward belongs to the first forward pass, not to the last"
    table.wrong("backward of the first forward", stale, (KEPT, "self.kept = self.kept or (xhat, rstd, weight)"))
    order = "is read in the order of memory, strides ignored"
    read = 'x = x.ravel(order="K").reshape(x.shape)\n        last, weight'
    table.wrong("x read in the order of memory", f"x {order}", ("last, weight", read))
    read = 'dy = dy.ravel(order="K").reshape(dy.shape)\n        last, axes'
    table.wrong("dy read in the order of memory", f"dy {order}", ("last, axes", read))
    three = "assert x.ndim == 3\n        last, weight"
    table.wrong("rank taken for granted", "the layer takes three axes for granted", ("last, weight", three))
    kept = "gradients are overwritten where they are declared to add up; if you mean it, declare grads='overwrite'"
    table.wrong("gradients overwritten", kept, declares={"grads": "accumulate"})
