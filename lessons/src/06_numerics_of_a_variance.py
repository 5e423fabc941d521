# ---
# jupyter:
#   minidl:
#     title: The numerics of a variance
#     minutes: 60
#     needs: ["02", "05"]
#     checks: 5
# ---

# %% [markdown]
# # 06 · The numerics of a variance
#
# **Goal.** You will know, with proofs, how many digits each way of computing a variance loses, see batch norm turn
# into NaN because of one line that is right on paper, find that line in a layer whose gradient check passes, and mend
# it so that its error no longer depends on the mean at all. **You need.** Lessons 02 and 05. **Time.** about an hour.
#
# Two formulas, the same number on paper:
#
# $$V=\frac1n\sum_i(x_i-\mu)^2\qquad\text{and}\qquad V=\frac1n\sum_i x_i^2-\mu^2 .$$
#
# The second one needs a single pass over the data, and has therefore been written into fast kernels again and again.
#
# **Predict before you run.** The variance of 10000, 10001, 10002, 10003 is exactly 1.25. What does the second formula
# give in float32? A hint: near $10^8$, float32 numbers are 8 apart. So which answers are possible at all?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("06", checks=5)

# %%
import textwrap

import matplotlib.pyplot as plt
import numpy as np

import minidl
from minidl import check
from minidl.check.adapters.minidl import Adapter
from minidl.norm.moments import moments


def one_pass(x):
    """E[x²] − E[x]² over the last axis, in x's dtype."""
    return (x * x).mean(-1) - x.mean(-1) ** 2


def two_pass(x):
    """E[(x − E[x])²] over the last axis, in x's dtype."""
    return ((x - x.mean(-1, keepdims=True)) ** 2).mean(-1)


four = np.array([10000, 10001, 10002, 10003], np.float32)
print(f"one pass {one_pass(four)}, two passes {two_pass(four)}")
for name in ("float16", "float32", "float64"):
    u, near = np.finfo(name).eps / 2, np.dtype(name).type(1e4)
    print(f"{name}: unit roundoff u = {u:.1e}, neighbours of 1e4 are {np.spacing(near):.1e} apart")
print("5000 ones, added one after another in float16:", np.cumsum(np.ones(5000, np.float16))[-1])

# %% [markdown]
# ## Floating point, as much as is needed here
#
# A float is $\pm m\cdot2^e$ with an integer $m$ of $p$ bits: $p=11$ for float16, 24 for float32, 53 for float64.
# Between $2^k$ and $2^{k+1}$ the floats lie on a ruler with steps $2^{k+1-p}$, so rounding a number moves it by at
# most half a step, relatively by at most the **unit roundoff** $u=2^{-p}$. Every operation is computed exactly and
# then rounded:
#
# $$\mathrm{fl}(a\circ b)=(a\circ b)(1+\delta),\qquad|\delta|\le u .$$
#
# **A sum.** Each $x_i$ passes through at most $h$ additions, each of which multiplies it by some $(1+\delta)$. So, to
# first order in $u$,
#
# $$\hat s=\sum_i x_i(1+\theta_i),\quad|\theta_i|\le hu,\qquad|\hat s-s|\le hu\sum_i|x_i| .$$
#
# One after another, $h=n-1$. In pairs, and pairs of pairs, $h=\log_2 n$; NumPy does nearly that along a contiguous
# axis. (The sum of ones above stopped at 2048: there the ruler's step is 2, and $2048+1$ rounds back to 2048.)
#
# **A difference** is special. If $y\le x\le2y$ are floats, both are multiples of the ruler's step at $y$, so $x-y$ is
# one too; it is not larger than $y$, so it is on the ruler: **$x-y$ is exact** (Sterbenz). Cancellation makes no
# error. It takes the leading digits away, and what is left is the error that the operands *already had*.
#
# That is the whole story of the four numbers: squares near $10^8$ lie on a ruler with step 8, so each moves by up
# to 4. The difference is then exact, and a multiple of 8. The 1.25 was lost before the minus sign.
#
# ## How hard is the problem itself?
#
# Let each $x_i$ be off by a relative $\delta_i$, $|\delta_i|\le u$: the data were rounded, say. As $\partial
# V/\partial x_i=\frac2n(x_i-\mu)$, and with Cauchy–Schwarz,
#
# $$|\Delta V|\le u\cdot\frac2n\sum_i|x_i||x_i-\mu|\le2u\sqrt{\overline{x^2}}\,\sigma,\qquad
# \frac{|\Delta V|}{V}\le2\kappa u,\qquad\kappa=\frac{\sqrt{\overline{x^2}}}{\sigma}=\sqrt{1+\mu^2/\sigma^2} .$$
#
# $\kappa$ is the variance's **condition number**, in essence mean / std. Nobody can do better than $2\kappa u$ for
# data that were rounded on the way in. Take the data as exact, though, and the question is how much the *algorithm*
# adds.
#
# ## One identity
#
# Put $x_i-a=(x_i-\mu)+(\mu-a)$ and square; the mixed term vanishes, because $\sum_i(x_i-\mu)=0$:
#
# $$\overline{(x-a)^2}=V+(\mu-a)^2\qquad\Longleftrightarrow\qquad
# V=\overline{(x-a)^2}-\left(\overline{x-a}\right)^2\quad\text{for every }a.\tag{★}$$
#
# Everything in this lesson is (★) with another $a$. Its rounding errors: the first mean has only positive terms, and
# each goes through a subtraction, a square, $h$ additions and a division, so its relative error is at most $(h+4)u$.
# The mean of $x-a$ is off by at most $(h+2)u\,\overline{|x-a|}$, its square by twice that times $|\mu-a|$. With
# $\overline{|x-a|}^2\le\overline{(x-a)^2}=\kappa_a^2V$ the two add up to
#
# $$\frac{|\hat V-V|}{V}\lesssim(3h+9)\,u\,\kappa_a^2,\qquad\kappa_a^2=1+\frac{(\mu-a)^2}{V} .$$
#
# - $a=0$, **one pass**: $\kappa^2u$. The problem costs $\kappa$, the algorithm takes $\kappa^2$: twice as many digits.
# - $a=\hat m$, the computed mean: $\kappa_a\approx1$ and nothing is lost. This is the **corrected two-pass** variance.
# - $a=\hat m$ without the last term is the ordinary **two-pass** variance. By (★) it is $V+(\mu-\hat m)^2$ exactly;
#   with $|\mu-\hat m|\le(h+1)u\,\overline{|x|}$ its relative error is $(h+4)u+(h+1)^2\,u^2\kappa^2$. Harmless until
#   $\kappa u$ nears 1.
#
# **Write (★)**, and the corrected two-pass variance with it.


# %% tags=["wrong"]
# check: shifted
# says: the square of the mean of x is taken off
def shifted(x, a):
    d = x - a
    return (d * d).mean(-1) - x.mean(-1) ** 2


# %% tags=["wrong"]
# check: corrected
# says: the square of the mean's own rounding error
def corrected(x):
    return two_pass(x)


# %%
def shifted(x, a):
    """Return the variance of x over its last axis by (★), in x's dtype; a broadcasts against x."""
    ### BEGIN SOLUTION
    d = x - a
    return (d * d).mean(-1) - d.mean(-1) ** 2
    ### END SOLUTION


def corrected(x):
    """Return the corrected two-pass variance of x over its last axis."""
    ### BEGIN SOLUTION
    return shifted(x, x.mean(-1, keepdims=True))
    ### END SOLUTION


# %% tags=["check"]
rng = np.random.default_rng(6)
sample = 1.5 + 2 * rng.standard_normal((3, 7))

lesson.check(
    "shifted",  # float64, and a is of the size of x: rounding is all that may differ, some 1e-15
    lambda: {
        **{"a = 0": shifted(sample, 0), "a = 1.7": shifted(sample, 1.7), "a = x_0": shifted(sample, sample[:, :1])},
        "bytes of a float32 result": shifted(sample.astype(np.float32), 0).dtype.itemsize,
    },
    lambda: dict.fromkeys(("a = 0", "a = 1.7", "a = x_0"), sample.var(-1)) | {"bytes of a float32 result": 4},
    tol=1e-13,
    wrong={
        "the square of the mean of x is taken off where that of x − a belongs": lambda: (
            {
                f"a = {k}": ((sample - a) ** 2).mean(-1) - sample.mean(-1) ** 2
                for k, a in (("0", 0), ("1.7", 1.7), ("x_0", sample[:, :1]))
            }
            | {"bytes of a float32 result": 4}
        ),
        "x was made float64 on the way; the variance of a float32 x is float32": lambda: (
            dict.fromkeys(("a = 0", "a = 1.7", "a = x_0"), sample.var(-1)) | {"bytes of a float32 result": 8}
        ),
    },
)


# %% tags=["check"]
own = np.random.default_rng(607)  # the check's own numbers
centres = np.array([[1e6], [-1e6], [8e5], [6e5]])  # float32 numbers near 1e6 are 1/16 apart
far = (centres + own.standard_normal((4, 4096))).astype(np.float32)

lesson.check(
    "corrected",  # float32: some 1e-7, whatever the mean
    lambda: corrected(far),
    lambda: far.astype(np.float64).var(-1),
    tol=1e-5,
    wrong={
        "the square of the mean's own rounding error is still in it": lambda: two_pass(far),
        "this is the one-pass formula: take the mean from the values before they are squared": lambda: one_pass(far),
    },
)


# %% [markdown]
# ## Measure it
#
# Now hold the four algorithms against the bounds: 4096 values of std 1 around a growing mean, each time compared with
# the exact variance *of those floats*. The fourth, **Welford's**, updates mean $M$ and sum of squares $S$ value by
# value; it is derived below. On the right the inputs are float16: everything in float16, or only the inputs.
#
# **Predict** the slopes in the left picture, and where one pass reaches an error of 1, that is, has no digit left.

# %%
best = lesson.yours(corrected, lambda x: moments(x[None])[1][0].astype(x.dtype), "corrected")


def welford(x):
    """The variance over the last axis, one value after the other."""
    M, S = x[..., 0], np.zeros_like(x[..., 0])
    for i in range(1, x.shape[-1]):
        delta = x[..., i] - M
        M = M + delta / x.dtype.type(i + 1)
        S = S + delta * (x[..., i] - M)
    return S / x.dtype.type(x.shape[-1])


wide = {"one pass": lambda x: one_pass(x.astype(np.float32)), "corrected": lambda x: best(x.astype(np.float32))}
ways = {"one pass": one_pass, "two passes": two_pass, "Welford": welford, "corrected": best}
colours = dict(zip(ways, ("C3", "C1", "C2", "C0"), strict=True))
panels = [
    ("float32", np.logspace(0, 6.5, 14), [(name, way, name, "o-") for name, way in ways.items()]),
    ("float16", np.logspace(0, 3.2, 12), [(f"{name}, float32 sums", way, name, "s-") for name, way in wide.items()]),
]
panels[1][2].append(("one pass, all in float16", one_pass, "one pass", "o--"))
fig, axes = plt.subplots(1, 2, figsize=(11, 4.3), sharey=True, layout="constrained")
for ax, (dtype, ratios, curves) in zip(axes, panels, strict=True):
    draws = [(ratio + rng.standard_normal((32, 4096))).astype(dtype) for ratio in ratios]
    exact = [x.astype(np.float64).var(-1) for x in draws]
    for label, way, name, mark in curves:
        with np.errstate(all="ignore"):  # squares beyond 65504 are infinite in float16
            error = [np.max(np.abs(way(x) / var - 1)) for x, var in zip(draws, exact, strict=True)]
        ax.loglog(ratios, error, mark, ms=4, label=label, color=colours[name])
    ax.loglog(ratios, ratios * np.finfo(dtype).eps, "k:", label=r"$2\kappa u$: rounding the inputs")
    ax.axhline(1, color="0.6", lw=1)
    ax.set(xlabel="mean / std", title=f"inputs in {dtype}", ylim=(1e-9, 1e7))
    ax.legend(fontsize=8, loc="upper left")
axes[0].set_ylabel("relative error of the variance (largest of 32)")
fig.suptitle("One pass pays the square of mean / std; the corrected variance pays nothing")
print(f"float32 has no digit left from mean / std = 1/sqrt(u) = {2**12} on; float64 from {2**26.5:.2g} on")

# %% [markdown]
# **Read it.** On log-log axes one pass climbs with slope 2, and passes 1 near $\kappa=1/\sqrt u=4096$. The two-pass
# variance is flat until its $\kappa^2u^2$ appears, far to the right. The corrected one is flat for good. Welford
# climbs with slope 1: its $M$ is rounded to one float at *every* step, so $x-M$ is off by about $u\mu$, to first
# order. That is as good as the problem, not better.
#
# On the right, squares in float16 lose all digits at $\kappa\approx45$ and overflow at $256^2>65504$. But there is a
# comfort, and it explains why one-pass kernels survive: **with float16 inputs and float32 sums one pass does no
# harm.** Its error $u_{32}\kappa^2$ stays under the dotted line $2\kappa u_{16}$, which rounding the inputs costs
# anyway, as long as $\kappa<2u_{16}/u_{32}=2^{14}$, and float16 cannot even hold a spread that far from zero
# ($\kappa<2^{11}$ or so). With float32 inputs and float32 sums nothing protects you.
#
# ## Variances of parts: Chan, Welford, and the law of total variance
#
# Often the data come in parts: threads, devices, samples of a batch. Let part $a$ have $n_a$ values, mean $m_a$ and
# sum of squares $S_a=\sum(x-m_a)^2$; $b$ likewise; $n=n_a+n_b$, $\delta=m_b-m_a$. The mean of all is
#
# $$m=\frac{n_am_a+n_bm_b}{n}=m_a+\delta\,\frac{n_b}{n},\qquad m-m_a=\delta\frac{n_b}n,\quad m_b-m=\delta\frac{n_a}n .$$
#
# (★) for each part with $a=m$, times its count: $\sum_a(x-m)^2=S_a+n_a\delta^2n_b^2/n^2$, and the same with $a$ and
# $b$ exchanged. Add them, and use $n_an_b^2+n_bn_a^2=n_an_bn$:
#
# $$S=S_a+S_b+\delta^2\,\frac{n_an_b}{n}\qquad\text{(Chan, Golub and LeVeque)}.$$
#
# Nothing cancels: three terms, none negative. Two special cases have names of their own.
#
# - **Welford**: $b$ is a single value, $S_b=0$, $n_b=1$. Then $m=m_a+\delta/n$, and
#   $\delta^2\frac{n-1}n=\delta\,(x-m)$.
# - **Law of total variance**: $N$ parts of equal size with means $m_n$ and variances $v_n$. (★) for each with $a=\mu$,
#   averaged: $V=\frac1N\sum_n\big[v_n+(m_n-\mu)^2\big]$, spread *inside* the parts plus spread *of* the parts. That is
#   how minidl goes from samples to a batch (`batch_moments` in `norm/batch.py`) and, with weights, to a mode.
#
# **Write both**; a forgotten spread of the means is a classic of synchronised batch norm.


# %% tags=["wrong"]
# check: parts
# says: the spread between the two means
def combine(first, second):
    (na, ma, Sa), (nb, mb, Sb) = first, second
    n = na + nb
    return n, (na * ma + nb * mb) / n, Sa + Sb


# %% tags=["wrong"]
# check: parts
# says: the spread of the samples' means is missing
def batch_moments(m, v):
    return m.mean(0), v.mean(0)


# %%
def combine(first, second):
    """Return (n, m, S) of all values from (n, m, S) of two parts."""
    ### BEGIN SOLUTION
    (na, ma, Sa), (nb, mb, Sb) = first, second
    n, delta = na + nb, mb - ma
    return n, ma + delta * nb / n, Sa + Sb + delta**2 * na * nb / n
    ### END SOLUTION


def batch_moments(m, v):
    """Return mean and variance (C,) of a batch from its samples' means and variances (N, C)."""
    ### BEGIN SOLUTION
    mu = m.mean(0)
    return mu, (v + (m - mu) ** 2).mean(0)
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(612)  # the check's own numbers


def summary(x):
    """Return (n, m, S) over axis 0."""
    return len(x), x.mean(0), ((x - x.mean(0)) ** 2).sum(0)


rows = 1e5 + own.standard_normal((8, 4)) * [0.5, 1, 2, 3]  # two shards of 3 and 5 rows
three, five = summary(rows[:3]), summary(rows[3:])
images = 7 + 3 * own.standard_normal((5, 3, 4, 7)) + own.standard_normal((5, 3, 1, 1))
m, v = images.mean((2, 3)), images.var((2, 3))


def both(combined, batch):
    return dict(zip(("n", "m", "S"), combined, strict=True)) | dict(zip(("mu", "var"), batch, strict=True))


right = summary(rows), (images.mean((0, 2, 3)), images.var((0, 2, 3)))
lesson.check(
    "parts",  # float64 at mean 1e5: the means themselves are good to some 1e-11
    lambda: both(combine(three, five), batch_moments(m, v)),
    both(*right),
    tol=1e-9,
    wrong={
        "the spread between the two means, δ² n_a n_b / n, is missing from S": lambda: both(
            (8, right[0][1], three[2] + five[2]), batch_moments(m, v)
        ),
        "the spread of the samples' means is missing from the variance": lambda: both(
            combine(three, five), (m.mean(0), v.mean(0))
        ),
    },
)


# %% [markdown]
# ## Break it: a batch norm written in one pass
#
# A channel that nobody centred: a pressure of 101 325 Pa that varies by 10, a temperature in kelvin that varies by a
# tenth, a 16-bit image. Say mean $10^4$, std 1. Here are 1000 such channels, float32, through $\hat
# x=(x-\mu)/\sqrt{V+\epsilon}$ with $\epsilon=10^{-5}$.
#
# **Predict.** In how many of the 1000 channels is the result NaN? And do the usual remedies, a larger $\epsilon$ or
# clamping $V$ at 0, give a std of 1, which is what the layer is for?

# %% tags=["figure"]
channels = (1e4 + rng.standard_normal((1000, 4096))).astype(np.float32)
xc = channels - channels.mean(-1, keepdims=True)
v, eps = one_pass(channels), np.float32(1e-5)
remedies = {
    "one pass": v + eps,
    "eps = 1": v + 1,
    "clamped at 0": np.maximum(v, 0) + eps,
    "corrected": best(channels) + eps,
}
fig, axes = plt.subplots(1, 4, figsize=(11, 2.9), sharey=True, layout="constrained")
for ax, (name, variance) in zip(axes, remedies.items(), strict=True):
    with np.errstate(invalid="ignore"):
        std = (xc / np.sqrt(variance)[:, None]).std(-1)
    nan = int(np.isnan(std).sum())
    print(f"{name:13} NaN in {nan} channels; std of the others from {np.nanmin(std):.3g} to {np.nanmax(std):.3g}")
    ax.hist(std[~np.isnan(std)], bins=np.logspace(-1, 3, 40), color="C0" if name == "corrected" else "C3")
    ax.set(xscale="log", title=f"{name}\n{nan} of 1000 are NaN", xlabel="std after batch norm")
    ax.axvline(1, color="k", lw=1, ls=":")
axes[0].set_ylabel("channels")
print("the variances that came out:", *np.unique(v))

# %% [markdown]
# **Why $\epsilon$ does not save you.** The variances are multiples of 8 around the true 1, and the negative ones are
# NaN under the root. $\epsilon$ was made for $V\approx0$; the error here is about $u\mu^2=6$, whatever $V$ is. An
# $\epsilon$ that covers it ($\epsilon\gg u\mu^2$) is no longer small beside $V$: it *replaces* the variance. Clamping
# is what several libraries do after a report of NaN. It is worse in one respect: $V=0$ gives $1/\sqrt\epsilon=316$,
# the channel comes out 316 times too large, and nothing complains.
#
# ## Find the bug in real code
#
# The layer below is in the style of the fast paths of well-known libraries. It has the interface that `minidl.check`
# runs (lesson 13 is about that): `load`, `forward`, `backward`, `state`. First the tests that most authors write.
#
# **Predict.** Which of these find a one-pass variance: a comparison with a trusted layer on standard normal inputs, a
# gradient check, a look at the running statistics? Do not read on before you have named one or none.


# %%
class FastBatchNorm:
    """Batch normalization that reads x once for its statistics."""

    conventions = {"grads": "overwrite"}  # noqa: RUF012

    def __init__(self, layer, options):
        self.eps, self.momentum = options["eps"], options["momentum"]

    def load(self, params, state):
        self.weight, self.bias = params["weight"], params["bias"]
        self.running = dict(state) or {"running_mean": 0 * self.bias, "running_var": 0 * self.bias + 1}

    @staticmethod
    def centre(x, axes):
        """Return x − mean, the mean and the variance, kept as axes of length 1."""
        mean, mean_of_squares = x.mean(axes, keepdims=True), (x * x).mean(axes, keepdims=True)
        return x - mean, mean, mean_of_squares - mean * mean

    def forward(self, x, training):
        axes, column = (0, *range(2, x.ndim)), lambda p: p.reshape(1, -1, *(1,) * (x.ndim - 2))
        if training:
            xc, mean, var = self.centre(x, axes)
            n = x.size // x.shape[1]
            for name, new in (("running_mean", mean), ("running_var", var * n / max(n - 1, 1))):
                self.running[name] = (1 - self.momentum) * self.running[name] + self.momentum * new.ravel()
        else:
            xc, var = x - column(self.running["running_mean"]), column(self.running["running_var"])
        rstd = 1 / np.sqrt(var + self.eps)
        self.kept = training, axes, column(self.weight), xc * rstd, rstd
        return column(self.weight) * (xc * rstd) + column(self.bias)

    def backward(self, dy):
        training, axes, weight, xhat, rstd = self.kept
        dxhat, mean = dy * weight, lambda a: a.mean(axes, keepdims=True)
        dx = rstd * (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)) if training else rstd * dxhat
        return {"dx": dx, "dweight": (dy * xhat).sum(axes), "dbias": dy.sum(axes)}

    def state(self):
        return self.running


x, weight, bias = rng.standard_normal((5, 3, 4, 7)), np.array([0.7, -1.3, 2.1]), np.array([0.2, 0.5, -0.4])
layer = FastBatchNorm("batch_norm", {"eps": 1e-3, "momentum": 0.3})


def forward(x, weight, bias):
    layer.load({"weight": weight, "bias": bias}, {})
    return layer.forward(x, True)


y = minidl.reference.batch_norm(x, weight, bias, 1e-3)
print("largest difference from a trusted layer:", np.abs(forward(x, weight, bias) - y).max())
errors = check.gradient(forward, lambda dy, **_: layer.backward(dy), {"x": x, "weight": weight, "bias": bias})
print("relative error of its gradients:", {k: float(f"{e:.1g}") for k, e in errors.items()})

# %%
report = check.run(FastBatchNorm, "batch_norm", "float32")
for result in report.results:
    if result.status == "failed":
        print(f"{result.case.flag:12} {result.failed[0].lines()[0]}")
for line in report.text().splitlines()[-2:]:
    print(textwrap.fill(line, 100))

# %% [markdown]
# None of the usual tests sees it. The trusted layer agrees to sixteen digits; the gradients are those of the formula,
# and the formula is right. **A gradient check cannot find an inaccurate forward**, and inputs around 0 cannot find a
# cancellation. What finds it are inputs with a mean: the shipped cases with a constant channel and with means up to
# $10^5$. The diagnosis names the bug and public reports of it; `google/flax#1491` is titled "Variance can be negative
# in BatchNorm computation, leading to NaN's", and in `microsoft/onnxruntime#28463` (2026) the inputs are 40000, 40001,
# 40002, 40003.
#
# ## Mend it: a mean in two parts
#
# The corrected variance mends $V$. Is $y$ then right? Let $\hat m=\mu+e$ be the rounded mean. $V$ forgives, since its
# error is $e^2$. But
#
# $$\hat y=\frac{x-\mu-e}{\sqrt{V+\epsilon}}=y-\frac{e}{\sqrt{V+\epsilon}}$$
#
# is **shifted by $e/\sigma$ to first order**, and $|e|$ may be half a ruler's step of the mean: at $10^4$, about
# $5\cdot10^{-4}$ in float32, ten thousand times the rounding of $y$ itself. No float32 number for the mean can do
# better. So keep the mean in *two* parts, as minidl does (`norm/moments.py`):
#
# 1. $m_0$ = the mean, rounded to $x$'s precision;
# 2. $x_c=x-m_0$: exact by Sterbenz wherever $x$ is within a factor 2 of $m_0$, else rounded relatively by $u$;
# 3. $\delta=\overline{x_c}$: small numbers, so their sum errs by $hu\,\sigma$, not by $hu\,\mu$;
# 4. $\mu=m_0+\delta$, $x-\mu=x_c-\delta$, and by (★) with $a=m_0$: $V=\overline{x_c^2}-\delta^2$, where
#    $\kappa_a\approx1$.
#
# The mean appears nowhere but in the exact subtraction: **the error of $y$ no longer depends on it.**


# %% tags=["wrong"]
# check: centre
# says: δ, the remainder of the rounded mean, is not taken off
def centre(x, axes):
    m0 = x.mean(axes, keepdims=True)
    xc = x - m0
    return xc, m0, (xc * xc).mean(axes, keepdims=True) - xc.mean(axes, keepdims=True) ** 2


# %%
def centre(x, axes):
    """Return x − mean (with the remainder δ taken off), the mean and the variance, kept as axes of length 1."""
    ### BEGIN SOLUTION
    m0 = x.mean(axes, keepdims=True)
    xc = x - m0
    delta = xc.mean(axes, keepdims=True)
    return xc - delta, m0 + delta, (xc * xc).mean(axes, keepdims=True) - delta**2
    ### END SOLUTION


def centre_in_float64(x, axes):
    """The other cure: statistics in float64, at the price of converting x."""
    wide = x.astype(np.float64)
    mean = wide.mean(axes, keepdims=True)
    return tuple(a.astype(x.dtype) for a in (wide - mean, mean, wide.var(axes, keepdims=True)))


# %% tags=["check"]
own = np.random.default_rng(618)  # the check's own numbers
uncentred = (1e4 + own.standard_normal((7, 3, 5, 4)) * np.array([0.5, 1, 2]).reshape(3, 1, 1)).astype(np.float32)
answer = dict(zip(("x - mean", "mean", "var"), centre_in_float64(uncentred, (0, 2, 3)), strict=True))
plain = uncentred - uncentred.mean((0, 2, 3), keepdims=True)

lesson.check(
    "centre",  # float32: some 1e-7 of a std, at a mean where float32 numbers are 1e-3 apart
    lambda: dict(zip(("x - mean", "mean", "var"), centre(uncentred, (0, 2, 3)), strict=True)),
    answer,
    tol={"x - mean": 2e-6, "mean": 5e-4, "var": 1e-5},  # half of what separates two float32 numbers
    wrong={
        "δ, the remainder of the rounded mean, is not taken off x − m0": lambda: answer | {"x - mean": plain},
    },
)


# %% tags=["figure"]
class MendedBatchNorm(FastBatchNorm):
    centre = staticmethod(lesson.yours(centre, centre_in_float64, "centre"))


class TwoPassBatchNorm(FastBatchNorm):
    @staticmethod
    def centre(x, axes):
        mean = x.mean(axes, keepdims=True)
        return x - mean, mean, ((x - mean) ** 2).mean(axes, keepdims=True)


makers = {
    "FastBatchNorm": (FastBatchNorm, "C3o-"),
    "TwoPassBatchNorm": (TwoPassBatchNorm, "C1o-"),
    "MendedBatchNorm": (MendedBatchNorm, "C0o-"),
    "minidl.BatchNorm": (Adapter, "kx:"),  # as minidl.check runs it
}
ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
ratios, noise = np.logspace(0, 6, 13), rng.standard_normal((32, 3, 8, 8))
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for name, (make, style) in makers.items():
    errors = []
    for ratio in ratios:
        x = (ratio + noise).astype(np.float32)
        layer = make("batch_norm", {"num_features": 3, "eps": 1e-5, "momentum": 0.1})
        layer.load({"weight": ones, "bias": zeros}, {})
        with np.errstate(invalid="ignore"):
            y = layer.forward(x, True)
        errors.append(np.abs(y - minidl.reference.batch_norm(x, ones, zeros, 1e-5)).max())
    ax.loglog(ratios, errors, style, ms=5, label=name)
ax.set(
    xlabel="mean / std",
    ylabel="largest error of y",
    title="With the mean in two parts, the error of batch norm forgets the mean",
)
ax.legend()
for name, (make, _) in makers.items():
    counted, graded = check.run(make, "batch_norm", "float32").text().splitlines()[-1].split("; ", 1)
    print(f"{name:16} {counted};\n{'':16} {graded}")

# %% [markdown]
# **Read it.** One pass climbs with slope 2 until NaN takes its points away. Two passes climb with slope 1, which is
# $e/\sigma$: within what rounding the *inputs* explains, so the report grades it *conforms*. Yours is flat, on
# minidl's line, and is graded *accurate*.
#
# ## Exercises
#
# 1. Float32 inputs, float32 sums. From which mean / std on has the one-pass variance no correct digit (the power of
#    two at which $u\kappa^2=1$)?
# 2. The same with float64 inputs and sums.
# 3. A channel of std 1 whose one-pass variance was clamped to 0, with $\epsilon=10^{-5}$: how many times too large is
#    $y$?
# 4. (★) needs only *some* $a$ near the mean, such as the first value $x_0$, and then is a single pass. If $x_0$ lies 3
#    std from the mean, by what factor $\kappa_a^2$ are rounding errors amplified?


# %%
def answers():
    """Return the four numbers."""
    ### BEGIN SOLUTION
    return np.array([2.0**12, 2.0**26.5, 1 / np.sqrt(1e-5), 1 + 3**2])
    ### END SOLUTION


# %% tags=["check"]
lesson.check(
    "answers",  # the first two to a factor of 1.5
    lambda: answers(),
    [2.0**12, 2.0**26.5, 10**2.5, 10.0],
    tol=[2.0**11, 2.0**25.5, 1.0, 0.01],
    wrong={
        "the first two are 1/u; one pass loses κ², so its digits end at 1/√u": lambda: [2.0**24, 2.0**53, 10**2.5, 10.0]
    },
)

# %% [markdown]
# ## In the package, and elsewhere
#
# - [`minidl/norm/moments.py`](../minidl/norm/moments.py): $m_0$, $\delta$ and $v$ for each sample and channel, in two
#   reads of $x$, sums of $P$ values in $x$'s precision and the small (N, C) arrays in float64. The norms never ask for
#   the mean itself but for differences of means, `Mean.since(origin)`. [`norm/batch.py`](../minidl/norm/batch.py):
#   `batch_moments`, which you wrote; `norm/mode.py` has the same law with a mode's weights.
# - Mode norm's *inference* needs $\langle x^2\rangle_k-\langle x\rangle_k^2$ of running moments, one pass by
#   definition. So minidl keeps these K×C numbers in float64, which moves the end from 4096 to $9\cdot10^7$, and clamps
#   at 0.
# - PyTorch's norms pass every case of `minidl.check` and are graded *conforms*, not *accurate*: they subtract a mean
#   of one float ([docs/check-torch.md](../docs/check-torch.md)). Flax and Keras have offered the one-pass formula as
#   "fast variance", clamped.
# - Why not float64 for everything? On a CPU it is twice the memory traffic. On most GPUs it is 32 to 64 times slower;
#   shifting costs one more subtraction.
#
# Further reading: Chan, Golub & LeVeque, *Algorithms for Computing the Sample Variance* (1983); Higham, *Accuracy and
# Stability of Numerical Algorithms*, chapters 1, 2 and 4.

# %%
lesson.done()
