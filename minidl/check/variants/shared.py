"""Bugs that all normalizations share, each written once: eps, the variance, the affine map, and the terms of dx."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minidl.check.variants.kinds import Collection


@dataclass(frozen=True)
class Texts:
    """The texts of a plain layer's source in which the bugs are.

    ``x`` and ``axes`` name the array and the axes that statistics are taken over, ``d`` and ``h`` the gradient of xhat
    and xhat itself in the backward pass, ``raw`` dy in their shape, ``indent`` what stands before the variance.
    """

    x: str
    axes: str
    eps: str
    mu: str
    var: str
    rstd: str
    xhat: str
    y: str
    dx: str
    d: str
    h: str
    count: str
    raw: str
    indent: str = ""
    counts: Mapping[str, str] = field(default_factory=dict)

    def gradient(self, inner: str) -> str:
        """A line for dx."""
        return f"dx = {inner}"


BATCH = Texts(
    x="x",
    axes="axes",
    eps="eps",
    mu="mu = mean(x, axes)",
    var="var = mean(centred * centred, axes)",
    rstd="rstd = 1 / sqrt(var + eps)",
    xhat="xhat = centred * rstd",
    y="return weight * xhat + bias",
    dx="dx = rstd * (dxhat - mean(dxhat, axes) - xhat * mean(dxhat * xhat, axes))",
    d="dxhat",
    h="xhat",
    count="(xhat.size // xhat.shape[1])",
    raw="dy",
    indent="    ",
    counts={"the batch": "len(dy)", "the pixels": "dy[0, 0].size"},
)
GROUP = Texts(
    x="split",
    axes="2",
    eps='self.options["eps"]',
    mu="mu = mean(split, 2)",
    var="var = mean(centred * centred, 2)",
    rstd='rstd = 1 / sqrt(var + self.options["eps"])',
    xhat="xhat = (centred * rstd).reshape(shape)",
    y="return weight * xhat + bias",
    dx="dx = rstd * (d - mean(d, 2) - h * mean(d * h, 2))",
    d="d",
    h="h",
    count="h.shape[2]",
    raw="dy.reshape(d.shape)",
    counts={"the channels of a group": "(d.shape[2] // dy[0, 0].size)", "the pixels": "dy[0, 0].size"},
)


def shared(table: Collection, t: Texts) -> None:
    """Add what goes wrong in all of them."""
    of_eps(table, t)
    of_variance(table, t)
    of_affine(table, t)
    of_dx(table, t)


def of_eps(table: Collection, t: Texts) -> None:
    """eps in other places than under the root."""

    def root(name: str, says: str, rstd: str) -> None:
        table.wrong(name, says, (t.rstd, f"rstd = {rstd}"))

    root("eps squared", "eps is squared before it is added to the variance", f"1 / sqrt(var + {t.eps} * {t.eps})")
    root("root of eps", "the root of eps is added to the variance", f"1 / sqrt(var + {t.eps} ** 0.5)")
    root("eps twice", "eps is added twice to the variance", f"1 / sqrt(var + 2 * {t.eps})")
    both = f"1 / (sqrt(var + {t.eps}) + {t.eps})"
    root("eps under the root and outside", "eps is added under the root and to the standard deviation", both)
    root("eps subtracted", "eps is subtracted from the variance", f"1 / sqrt(np.maximum(var - {t.eps}, 1e-30))")
    floor = f"1 / np.maximum(sqrt(var), {t.eps})"
    if t is BATCH:
        root("eps as a floor of the deviation", "the standard deviation is clamped to eps from below", floor)
    for value in ("1e-5", "1e-8") + (("1e-3", "1e-6", "1e-12") if t is BATCH else ()):
        fixed = f"eps is fixed at {value}, whatever it is set to; if you mean it, declare eps={value}"
        root(f"eps fixed at {value}", fixed, f"1 / sqrt(var + {value})")


def of_variance(table: Collection, t: Texts) -> None:
    """Wrong variances, and wrong powers of them."""
    table.wrong(
        "root missing",
        "y is divided by the variance, not by its root: the square root is missing",
        (t.rstd, f"rstd = 1 / (var + {t.eps})"),
    )
    table.wrong(
        "square in place of the root",
        "y is divided by the square of the variance, where its root belongs",
        (t.rstd, f"rstd = 1 / ((var + {t.eps}) * (var + {t.eps}))"),
    )
    table.wrong(
        "multiplied by the deviation",
        "y is multiplied by the standard deviation, where it must be divided",
        (t.rstd, f"rstd = sqrt(var + {t.eps})"),
    )
    table.wrong(
        "mean not subtracted",
        "the mean is not subtracted from x, though the variance is about the mean",
        (t.xhat, t.xhat.replace("centred", t.x)),
    )
    table.wrong(
        "variance about zero",
        "the variance is the mean of x², the mean is not subtracted from x in it",
        (t.var, t.var.replace("centred * centred", f"{t.x} * {t.x}")),
    )
    table.wrong(
        "root mean square in place of the deviation",
        "x is divided by its root mean square: the mean is not subtracted, as in RMSNorm",
        (t.mu, f"mu = mean(0 * {t.x}, {t.axes})"),
    )
    table.wrong(
        "variance is a sum",
        "the variance is a sum of squares that is not divided by n",
        (t.var, t.var.replace("mean(", "total(")),
    )
    table.wrong(
        "mean absolute deviation",
        "the mean absolute deviation stands in place of the standard deviation",
        (t.var, f"var = mean(abs(centred), {t.axes}) ** 2"),
    )
    table.wrong("mean is a sum", "the mean is a sum that is not divided by n", (t.mu, t.mu.replace("mean(", "total(")))
    table.wrong(
        "xhat clamped",
        "xhat is clamped to the range from −2 to 2",
        (t.xhat, t.xhat + "\n        xhat = np.minimum(np.maximum(xhat, -2.0), 2.0)"),
    )


def of_affine(table: Collection, t: Texts) -> None:
    """The affine map."""

    def affine(name: str, says: str, y: str) -> None:
        table.wrong(name, says, (t.y, f"return {y}"))

    affine("weight plus one", "1 + weight multiplies y, where weight does", "(1 + weight) * xhat + bias")
    affine(
        "bias before weight", "bias is added before weight multiplies: weight (xhat + bias)", "weight * (xhat + bias)"
    )
    if t in (BATCH, GROUP):
        shape = "shape" if t is GROUP else "x.shape"
        last = f"(len({shape}) > 2 and {shape}[1] == {shape}[-1])"
        table.wrong(
            "weight and bias along the last axis",
            "weight and bias are broadcast along the last axis where it is as long as the channels",
            (t.y, f"if {last}:\n            weight, bias = self.params['weight'], self.params['bias']\n        {t.y}"),
        )
    affine("bias subtracted", "bias is subtracted from y", "weight * xhat - bias")
    affine("weight and bias swapped", "weight and bias are swapped", "bias * xhat + weight")
    affine("weight squared", "weight multiplies y twice", "weight * weight * xhat + bias")
    affine("bias added twice", "bias is added twice", "weight * xhat + 2 * bias")
    affine("y divided by weight", "y is divided by weight", "xhat / weight + bias")
    affine(
        "affine map ignored",
        "neither weight nor bias is applied: the affine map is ignored",
        "xhat + 0 * (weight + bias)",
    )


def of_dx(table: Collection, t: Texts) -> None:
    """The terms of dx."""
    d, h, axes = t.d, t.h, t.axes
    mean_term, xhat_term = f"mean({d}, {axes})", f"{h} * mean({d} * {h}, {axes})"

    def dx(name: str, says: str, inner: str) -> None:
        table.wrong(name, says, (t.dx, t.gradient(inner)))

    dx(
        "statistics detached",
        "dx takes mean and variance for constants: both terms are missing, as if the statistics were detached, or "
        "evaluation's formula were used in training",
        f"rstd * {d}",
    )
    plus = "the term of the mean is added in dx, where it is subtracted: a wrong sign"
    dx("dx mean term with the wrong sign", plus, f"rstd * ({d} + {mean_term} - {xhat_term})")
    plus = "the term of the variance is added in dx, where it is subtracted: a wrong sign"
    dx("dx xhat term with the wrong sign", plus, f"rstd * ({d} - {mean_term} + {xhat_term})")
    power = "dx has a wrong power of the standard deviation: 1/sigma² where 1/sigma belongs"
    dx("dx divided by the variance", power, f"rstd * rstd * ({d} - {mean_term} - {xhat_term})")
    power = "the term of the variance in dx has a wrong power of the standard deviation"
    dx("dx xhat term with another power of sigma", power, f"rstd * ({d} - {mean_term} - rstd * {xhat_term})")
    dx("dx xhat term without a power of sigma", power, f"rstd * ({d} - {mean_term} - {xhat_term} / rstd)")
    dx("dx xhat term with sigma squared", power, f"rstd * ({d} - {mean_term} - {xhat_term} / (rstd * rstd))")
    dx("dx xhat term with 1/sigma squared", power, f"rstd * ({d} - {mean_term} - rstd * rstd * {xhat_term})")
    dx("dx is zero", "dx is zero", f"0 * rstd * {d}")
    dx("dx is dy", "dx is dy with weight alone: no 1/sigma and no term of the statistics", f"0 * rstd + {d}")
    dx("dx with the wrong sign", "dx has the wrong sign", f"-rstd * ({d} - {mean_term} - {xhat_term})")
    half = "the term of the variance in dx has a wrong factor: 2 is lost or doubled"
    dx("dx xhat term halved", half, f"rstd * ({d} - {mean_term} - {xhat_term} / 2)")
    dx("dx xhat term doubled", half, f"rstd * ({d} - {mean_term} - 2 * {xhat_term})")
    n = f"max({t.count} - 1, 1)"
    dx(
        "dx with the unbiased variance",
        "dx counts n − 1 where n belongs, in the sums of both terms",
        f"rstd * ({d} - total({d}, {axes}) / {n} - {h} * total({d} * {h}, {axes}) / {n})",
    )
    dx(
        "dx of the unbiased standard deviation",
        "dx takes sigma of the unbiased variance (n − 1)",
        f"rstd * (max({t.count} - 1, 1) / {t.count}) ** 0.5 * ({d} - {mean_term} - {xhat_term})",
    )
