# ---
# jupyter:
#   minidl:
#     title: Checking a gradient
#     minutes: 75
#     needs: ["02"]
#     checks: 6
# ---

# %% [markdown]
# # 03 · Checking a gradient
#
# **Goal.** You can tell a right backward pass from a wrong one without knowing the right one. You know how exact a
# numeric derivative can be, how to get all 16 digits, and, most of all, how a check can pass although the gradient is
# wrong.
#
# **You need.** Lesson 02. **Time.** About 75 minutes.
#
# A wrong gradient rarely crashes. The network still learns, a little worse than it should, and somebody spends a month
# on the learning rate. Derivatives are the one kind of code that can be tested without an oracle: the forward pass
# knows what its own derivative is. You only have to ask well.
#
# **Predict before running.** Write your answers down; this page will give them.
#
# 1. The derivative of a smooth function in float64, by $(f(x+h) - f(x-h))/2h$: which $h$ is best, about $10^{-2}$,
#    $10^{-6}$ or $10^{-12}$? And how many of the 16 digits are right then?
# 2. Batch normalization gives each channel the mean 0 and variance 1. You check its $dx$ with the loss
#    $L = \sum y$, so $dy = 1$. What is the right $dx$? Which wrong ones do you find?
# 3. Every gradient of a layer passes your check. Is the layer right?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("03", checks=6)

# %% [markdown]
# ## The central difference
#
# Let $f$ turn an array into one number. Its gradient has one entry for each entry of the array: nudge that entry alone,
# up and down, and look at the number,
#
# $$ D(h) = \frac{f(x + h) - f(x - h)}{2h} . $$
#
# Why both ways? Taylor's series up and down are $f(x \pm h) = f \pm h f' + \tfrac{h^2}{2} f'' \pm \tfrac{h^3}{6} f''' +
# \dots$ In the difference all even terms cancel:
#
# $$ D(h) = f' + \frac{h^2}{6} f''' + O(h^4) , \qquad\text{one-sided:}\quad
#    \frac{f(x+h) - f(x)}{h} = f' + \frac{h}{2} f'' + O(h^2) . $$
#
# Write it for an array of any shape. Do not change the array you were given. (Hint: `np.ndindex(*x.shape)` runs over
# all indices.)


# %% tags=["wrong"]
# check: central difference
# says: This is the one-sided difference
def central_difference(f, x, h):
    grad = np.empty(x.shape)
    for index in np.ndindex(*x.shape):
        up = x.copy()
        up[index] += h
        grad[index] = (f(up) - f(x)) / h
    return grad


# %%
import matplotlib.pyplot as plt
import numpy as np

from minidl.check import VacuousCheckError, gradient
from minidl.reference import batch_norm, batch_norm_backward, batch_norm_eval_backward

rng = np.random.default_rng(3)
a, v = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)) + 2.0


def central_difference(f, x, h):
    """Return the array, of x's shape, of central differences of f at x with step h."""
    ### BEGIN SOLUTION
    grad = np.empty(x.shape)
    for index in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[index] += h
        down[index] -= h
        grad[index] = (f(up) - f(down)) / (2 * h)
    return grad
    ### END SOLUTION


# %% tags=["check"]
# Of a x³ the difference is known exactly: a (3x² + h²). The error term h²/6 · f''' is the h².
lesson.check(
    "central difference",
    got=lambda: central_difference(lambda x: (a * x**3).sum(), v, h=0.1),
    want=a * (3 * v**2 + 0.1**2),
    tol=1e-11,
    wrong={
        "This is the one-sided difference, whose error is of order h: go both ways.": lambda: (
            a * (3 * v**2 + 3 * v * 0.1 + 0.1**2)
        ),
        "The two points are 2h apart: divide by 2h.": lambda: 2 * a * (3 * v**2 + 0.1**2),
    },
)


# %% [markdown]
# ## The best step
#
# The formula says: make $h$ small. The computer says no. It does not return $f$ but $f$ rounded; call the relative
# error of a rounding $u$: $1.1 \cdot 10^{-16}$ in float64, $6.0 \cdot 10^{-8}$ in float32. Each of the two values is
# off by about $u|f|$, so their difference by up to $2u|f|$, and dividing by $2h$ makes of it $u|f|/h$. Small steps
# *amplify* rounding. Together:
#
# $$ E(h) = \underbrace{\frac{|f'''|}{6} h^2}_{\text{truncation}} + \underbrace{\frac{u|f|}{h}}_{\text{rounding}} . $$
#
# The minimum is where $E'(h) = \frac{|f'''|}{3} h - \frac{u|f|}{h^2} = 0$, that is
#
# $$ h_\star = \left(\frac{3u|f|}{|f'''|}\right)^{1/3} . $$
#
# What is the error there? From $h_\star^3 = 3u|f|/|f'''|$ follows $u|f|/h_\star = |f'''| h_\star^2/3$, so
# $E(h_\star) = |f'''| h_\star^2 \big(\tfrac16 + \tfrac13\big) = \tfrac12 |f'''| h_\star^2$, which grows as $u^{2/3}$.
# With $f$ and $f'''$ of order one that means $h_\star \approx 10^{-5}$ and an error near $10^{-10}$ in float64;
# $h_\star \approx 5 \cdot 10^{-3}$ and $10^{-5}$ in float32. **Two thirds of the digits are the best that a central
# difference can give** (question 1: $10^{-6}$ is closest, and about 10 digits are right). Hence two habits: check in
# float64, and do not expect errors below $10^{-10}$.


# %%
def best_step(f, f3, u):
    """Return h_star for a function with value f and third derivative f3, in arithmetic with rounding error u."""
    ### BEGIN SOLUTION
    return (3 * u * abs(f) / abs(f3)) ** (1 / 3)
    ### END SOLUTION


def error_at(h, f, f3, u):
    """E(h): truncation plus rounding."""
    return abs(f3) * h**2 / 6 + u * abs(f) / h


# %% tags=["check"]
cases = {"float64": (2.3, -1.6, 2.0**-53), "float32": (2.3, -1.6, 2.0**-24)}
fine = np.geomspace(1e-9, 1, 2_000_001)
lesson.check(
    "best step",
    got=lambda: {name: best_step(*case) / 10.0 ** -(5 if name == "float64" else 2) for name, case in cases.items()},
    want={
        "float64": fine[error_at(fine, *cases["float64"]).argmin()] / 1e-5,  # found by trying two million steps
        "float32": fine[error_at(fine, *cases["float32"]).argmin()] / 1e-2,
    },
    tol=1e-4,
    wrong={
        "The square root belongs to the one-sided difference.": lambda: {
            name: (2 * u * abs(f) / abs(f3)) ** 0.5 / 10.0 ** -(5 if name == "float64" else 2)
            for name, (f, f3, u) in cases.items()
        },
    },
)

# %% [markdown]
# ## The complex step
#
# The rounding error came from subtracting two numbers that agree in most digits. Here is a derivative without a
# subtraction. If $f$ is made of $+, -, \times, /$ and analytic functions such as $\exp$, $\log$, $\sqrt{x}$, it also
# runs on complex numbers. Step in the *imaginary* direction:
#
# $$ f(x + ih) = f + ih f' - \tfrac{h^2}{2} f'' - \tfrac{i h^3}{6} f''' + \dots
#    \qquad\Longrightarrow\qquad \frac{\operatorname{Im} f(x + ih)}{h} = f' - \frac{h^2}{6} f''' + \dots $$
#
# The value sits in the real part, the derivative in the imaginary part, and they do not disturb each other. Nothing
# cancels, so $h$ may be absurdly small. With $h = 10^{-100}$ the error term is $10^{-200}$: the derivative is exact to
# rounding, all 16 digits.


# %% tags=["wrong"]
# check: complex step
# says: divide the imaginary part by h
def complex_step(f, x, h=1e-100):
    grad = np.empty(x.shape)
    for index in np.ndindex(*x.shape):
        moved = x.astype(complex)
        moved[index] += 1j * h
        grad[index] = f(moved).imag
    return grad


# %%
def complex_step(f, x, h=1e-100):
    """Return the array, of x's shape, of complex-step derivatives of f at x."""
    ### BEGIN SOLUTION
    grad = np.empty(x.shape)
    for index in np.ndindex(*x.shape):
        moved = x.astype(complex)
        moved[index] += 1j * h
        grad[index] = f(moved).imag / h
    return grad
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(309)  # the check's own numbers
weight, bias, eps = np.array([1.3, -0.6, 0.8]), np.array([0.2, 0.5, -0.9]), 1e-5
x = own.normal(1.0, 2.0, size=(5, 3, 4))  # 5 samples, 3 channels, 4 pixels
dy = own.normal(size=x.shape)
lesson.check(
    "complex step",
    got=lambda: complex_step(lambda x: (dy * batch_norm(x, weight, bias, eps)).sum(), x),
    want=batch_norm_backward(dy, x, weight, bias, eps)["dx"],
    tol=1e-13,  # a whole batch norm, to the last digits
    wrong={"The step h is still in it: divide the imaginary part by h.": lambda: np.zeros(x.shape)},
)


# %% [markdown]
# ## See it
#
# Take $f(x) = e^x \sin x$ at $x = 1$: $f' = e^x(\sin x + \cos x)$ and $f''' = 2e^x(\cos x - \sin x)$. Before you run
# the cell, sketch three curves: the error of the central difference against $h$ in float64, in float32, and that of the
# complex step. Both axes logarithmic. Which slopes?

# %% tags=["figure"]
f1, f3 = np.e * (np.sin(1) + np.cos(1)), 2 * np.e * (np.cos(1) - np.sin(1))
value = np.e * np.sin(1)
step_of = lesson.yours(best_step, lambda f, f3, u: (3 * u * abs(f / f3)) ** (1 / 3), check="best step")
figure, axes = plt.subplots(figsize=(9, 4.6), layout="constrained")
for dtype, colour, smallest in ((np.float32, "tab:orange", 1e-7), (np.float64, "tab:blue", 1e-15)):
    h = np.geomspace(smallest, 1, 400).astype(dtype)
    up, down = dtype(1) + h, dtype(1) - h
    h, up, down = h[up > down], up[up > down], down[up > down]
    error = np.abs((np.exp(up) * np.sin(up) - np.exp(down) * np.sin(down)) / (up - down) / f1 - 1)
    u = np.finfo(dtype).eps / 2
    best = step_of(value, f3, u)
    axes.plot(h, error, ".", ms=3, color=colour, label=f"central difference, {dtype.__name__}")
    axes.plot(h, error_at(h.astype(float), value, f3, u) / f1, color=colour, lw=1, label="E(h) as derived")
    axes.plot(best, error_at(best, value, f3, u) / f1, "v", color=colour, ms=9, mec="black")
    near = np.abs(np.log(h / best)) < np.log(2)
    print(f"{dtype.__name__}: best step {best:.1e}, E there {error_at(best, value, f3, u) / f1:.1e},", end=" ")
    print(f"largest measured within a factor 2 of it {error[near].max():.1e}")
h = np.geomspace(1e-20, 1, 300)
error = np.abs((np.exp(1 + 1j * h) * np.sin(1 + 1j * h)).imag / h / f1 - 1)
axes.plot(h, np.maximum(error, 1e-17), color="tab:green", lw=2, label="complex step (0 drawn at 1e-17)")
axes.set(xscale="log", yscale="log", xlabel="step h", ylabel="relative error of the derivative", ylim=(5e-18, 5))
axes.set_title("Truncation from the right, rounding from the left; the complex step has no left")
axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.12))
plt.show()

# %% [markdown]
# The right branches fall with slope 2, the left ones rise with slope −1: a **U-curve**, for which the triangle marks
# the bottom that you computed. The complex step comes down the same right branch, and stays down.
#
# ## From a number to a layer
#
# A layer gives an array $y$, not a number. Make one: choose an array $dy$ of $y$'s shape and let
# $L = \langle dy, y\rangle = \sum dy \cdot y$. Its gradient with respect to $y$ is exactly $dy$, so its gradient with
# respect to $x$ must be what `backward(dy)` returns. The array $dy$ is called the **cotangent**.
#
# Which one? The obvious choice, $dy = 1$, is a trap. Take batch normalization, $y = w \hat x + b$ with $\hat x$ of mean
# 0 in each channel, whatever $x$ is. With $M$ values per channel,
#
# $$ L = \sum y = \sum_c \Big[w_c \underbrace{\textstyle\sum \hat x}_{0} + M b_c\Big] = M \sum_c b_c . $$
#
# The loss does not depend on $x$ or on $w$ at all: $dx = 0$ and $dw = 0$, exactly. (That is question 2.) A backward
# pass that returns zeros passes. So does one that forgets a factor, or a whole term that happens to vanish with it.
# Such a check is **vacuous**: it could not have failed. Published courses and frameworks contain it.
#
# So a check needs two things more than a comparison:
#
# 1. a **random cotangent**, so that no symmetry of the layer makes the gradient vanish;
# 2. a look at the **size of the numeric gradient**: if it is about zero, the check must say "this proves nothing"
#    rather than "passed".
#
# Write it. `forward(**inputs)` gives $y$; `backward(dy, **inputs)` gives `{"dx": ..., "dweight": ..., ...}`, "d" and
# the input's name. For each input compare with your central difference, $h = 10^{-5}$, relative to the largest numeric
# entry. Raise `AssertionError` above `tol`, `VacuousCheckError` if the largest numeric entry is below $10^{-6}$.
#
# The check plays ten cases to your function and writes down its verdict: 0 accepted, 1 rejected, 2 found vacuous.


# %% tags=["wrong"]
# check: check_gradient
# says: With dy = 1 the right dx is zero
def check_gradient(forward, backward, inputs, rng, tol=1e-6):
    dy = np.ones_like(forward(**inputs))
    for name, grad in backward(dy, **inputs).items():
        numeric = central_difference(
            lambda v, name=name: forward(**{**inputs, name[1:]: v}).sum(), inputs[name[1:]], 1e-5
        )
        assert np.allclose(grad, numeric, atol=tol)


# %% tags=["wrong"]
# check: check_gradient
# says: look at the size of the numeric gradient
def check_gradient(forward, backward, inputs, rng, tol=1e-6):
    dy = rng.normal(size=forward(**inputs).shape)
    for name, grad in backward(dy, **inputs).items():
        numeric = central_difference(
            lambda v, name=name: (dy * forward(**{**inputs, name[1:]: v})).sum(), inputs[name[1:]], 1e-5
        )
        assert np.allclose(grad, numeric, rtol=tol, atol=tol)


# %%
def check_gradient(forward, backward, inputs, rng, tol=1e-6):
    """Raise AssertionError if a gradient is wrong, VacuousCheckError if this could not be seen."""
    ### BEGIN SOLUTION
    dy = rng.normal(size=forward(**inputs).shape)
    grads = backward(dy, **inputs)
    for name, start in inputs.items():
        numeric = central_difference(lambda v, name=name: (dy * forward(**{**inputs, name: v})).sum(), start, 1e-5)
        size = np.abs(numeric).max()
        if size < 1e-6:
            raise VacuousCheckError(f"the derivative by {name} is about zero: any d{name} would pass")
        error = np.abs(grads[f"d{name}"] - numeric).max() / size
        if error > tol:
            raise AssertionError(f"d{name}: relative error {error:.2g}")
    ### END SOLUTION


# %% tags=["check"]
def planted(**bugs):
    """Batch norm's backward with some of its results replaced by functions of (grads, dy, x, weight, bias)."""

    def backward(dy, x, weight, bias):
        grads = batch_norm_backward(dy, x, weight, bias, eps)
        return grads | {name: bug(grads, dy, x, weight, bias) for name, bug in bugs.items()}

    return backward


def largest(a):
    return np.abs(a) == np.abs(a).max()


def constant_statistics(grads, dy, x, weight, bias):
    return batch_norm_eval_backward(dy, x, weight, bias, x.mean(axis=(0, 2)), x.var(axis=(0, 2)), eps)["dx"]


backwards = {
    "right": planted(),
    "dx is zero": planted(dx=lambda grads, *_: 0 * grads["dx"]),
    "dx lacks the weight": planted(dx=lambda grads, dy, x, weight, bias: grads["dx"] / weight[:, None]),
    "dx takes mean and variance for constants": planted(dx=constant_statistics),
    "dweight has x in place of x hat": planted(dweight=lambda _, dy, x, *__: (dy * x).sum(axis=(0, 2))),
    "dbias is a mean": planted(dbias=lambda _, dy, *__: dy.mean(axis=(0, 2))),
    "one dbias is too small": planted(dbias=lambda grads, *_: grads["dbias"] - np.array([0, 1, 0])),
    "dx is 9 millionths too large": planted(dx=lambda grads, *_: grads["dx"] * (1 + 9e-6)),
    "one dx is 30 millionths too large": planted(dx=lambda grads, *_: grads["dx"] * (1 + 3e-5 * largest(grads["dx"]))),
    "y is tiny, dx 9 millionths too large": planted(dx=lambda grads, *_: grads["dx"] * (1 + 9e-6)),
}


def verdict(checker, backward, x, size=1.0):
    """0: accepted, 1: rejected, 2: found vacuous."""
    inputs = {"x": x, "weight": weight, "bias": bias}

    def forward(x, weight, bias):
        return size * batch_norm(x, weight, bias, eps)

    try:
        checker(forward, lambda dy, **given: backward(size * dy, **given), inputs, np.random.default_rng(7))
    except VacuousCheckError:
        return 2
    except AssertionError:
        return 1
    return 0


def verdicts(checker):
    one_value_a_channel = x[:1, :, :1]  # then y = bias, whatever x is
    sizes = {name: 1e-3 if "tiny" in name else 1.0 for name in backwards if name != "right"}
    return {name: verdict(checker, backwards[name], x, size) for name, size in sizes.items()} | {
        "right, then a vacuous one": np.array(
            [verdict(checker, planted(), x), verdict(checker, planted(), one_value_a_channel)]
        )
    }


def pattern(*numbers):
    names = [name for name in backwards if name != "right"]
    return dict(zip(names, numbers, strict=False)) | {"right, then a vacuous one": np.array(numbers[-2:])}


lesson.check(
    "check_gradient",
    got=lambda: verdicts(check_gradient),
    want=pattern(1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2),
    tol=0.5,
    wrong={
        "With dy = 1 the right dx is zero: draw dy at random.": lambda: pattern(0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0),
        "With dy = 1 everything is vacuous: draw dy at random.": lambda: pattern(*[2] * 11),
        "It takes a vacuous comparison for a success: look at the size of the numeric gradient.": lambda: (
            pattern(1, 1, 1, 1, 1, 1, 1, 1, tiny, 0, 0) for tiny in (0, 1)
        ),
        "An error of 9 millionths passes: hold the error against `tol`, as a share of the gradient.": lambda: (
            pattern(1, 1, 1, 1, 1, 1, 0, one, 0, 0, 2) for one in (0, 1)
        ),
        "The mean of the errors hides one wrong entry among many: take the largest.": lambda: pattern(
            1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 2
        ),
        "Where y is tiny an error passes: divide it by the largest numeric entry before you hold it against `tol`.": lambda: (
            pattern(1, 1, 1, 1, 1, 1, 1, one, 0, 0, 2) for one in (0, 1)
        ),
        "It only looks at dx: go through all inputs.": lambda: pattern(1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 2),
    },
)


# %% [markdown]
# ## Large layers: one direction
#
# A full check costs two forward passes *for every number*. For a hundred thousand weights that is too slow. But
# $\langle dx, v\rangle$ is one number for any direction $v$ of $x$'s shape, and two forward passes give it:
#
# $$ \langle dx, v\rangle = \frac{d}{dt} L(x + t v)\Big|_{t=0} \approx \frac{L(x + hv) - L(x - hv)}{2h} . $$
#
# All inputs can move at once, each along its own direction: the derivatives add.
#
# What can such a *projection* miss? If $dx$ is off by an array $e$, the comparison is off by $\langle e, v\rangle$.
# With $v$ of independent standard normal numbers this is itself normal, with mean 0 and standard deviation $\|e\|$. It
# falls below $t\|e\|$ with a probability of about $2t/\sqrt{2\pi} \approx 0.8\,t$: an error a million times as large as
# what the comparison can resolve slips through about once in a million. So a random direction misses next to nothing.
# But it does not say *where* the error is, and one wrong entry is measured against the size of the whole: tolerances
# must be tight.


# %%
def derivative_along(forward, dy, inputs, directions, h=1e-5):
    """Return the derivative of <dy, forward> as all inputs move along their directions at once: a number."""
    ### BEGIN SOLUTION
    up = {name: value + h * directions[name] for name, value in inputs.items()}
    down = {name: value - h * directions[name] for name, value in inputs.items()}
    return (dy * (forward(**up) - forward(**down))).sum() / (2 * h)
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(316)  # the check's own numbers
inputs = {"x": x, "weight": weight, "bias": bias}
directions = {name: own.normal(size=value.shape) for name, value in inputs.items()}
grads = batch_norm_backward(dy, **inputs, eps=eps)
lesson.check(
    "along",
    got=lambda: derivative_along(lambda **given: batch_norm(**given, eps=eps), dy, inputs, directions),
    want=sum((grads[f"d{name}"] * directions[name]).sum() for name in inputs),
    tol=1e-7,
    wrong={
        "Only x moved: let all inputs move, then all gradients are checked at once.": lambda: (
            grads["dx"] * directions["x"]
        ).sum(),
        "This is the one-sided difference, whose error is of order h: go both ways.": lambda: (
            (
                (dy * batch_norm(**{name: inputs[name] + 1e-5 * directions[name] for name in inputs}, eps=eps)).sum()
                - (dy * batch_norm(**inputs, eps=eps)).sum()
            )
            / 1e-5
        ),
    },
)

# %% [markdown]
# ## Break it: four ways to be fooled
#
# **Vacuous.** The left picture plots the claimed $dx$ of three backward passes against the numeric one, for $dy = 1$
# and for a random $dy$. With $dy = 1$ there is nothing to see, since everything sits at zero.
#
# **Kinks.** Near $x = 0$ the central difference of ReLU steps over the kink and returns a mixture,
# $(x + h)/2h$ for $|x| < h$. Backward is right and the check complains. Keep inputs away from kinks by more than $h$;
# the same holds for maximum pooling with ties.
#
# **Not analytic.** The complex step silently fails where the forward pass uses `abs`, `max`, or a conjugate: a variance
# written as `mean(abs(x - mu)**2)` has *no* imaginary part.
#
# **The forward pass itself.** Question 3: no. A gradient check compares backward with forward. If both divide the
# variance by $M - 1$ where $M$ belongs, they agree perfectly. For the forward pass you need an independent oracle: a
# formula in plain loops, or another library.

# %% tags=["figure"]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for name, colour in (("right", "tab:green"), ("dx lacks the weight", "tab:orange"), ("dx is zero", "tab:red")):
    for cotangent, style in (
        (dy, {"marker": "o", "ms": 4, "label": name}),
        (np.ones_like(x), {"marker": "+", "ms": 14}),
    ):
        true = batch_norm_backward(cotangent, x, weight, bias, eps)["dx"]  # checked above, to 1e-13
        claimed = backwards[name](cotangent, x, weight, bias)["dx"]
        left.plot(true.ravel(), claimed.ravel(), ls="", color=colour if cotangent is dy else "black", **style)
left.plot([], [], "+", ms=14, color="black", label="all three, with dy = 1")
left.set(xlabel="numeric dx", ylabel="claimed dx", title="With dy = 1 right and wrong are one point, at 0")
left.set_ylim(-1.4, 2.6)
left.legend(frameon=False, loc="upper left")
near, h = np.linspace(-2.5, 2.5, 501), 1.0
right.plot(near, (np.maximum(near + h, 0) - np.maximum(near - h, 0)) / (2 * h), label="central difference")
right.plot(near, near > 0, "--", color="black", label="backward: [x > 0]")
right.axvspan(-1, 1, color="tab:orange", alpha=0.15, label="the kink is within the step")
right.set(
    xlabel="x / h",
    ylabel="derivative of ReLU",
    title="Within h of a kink the numeric derivative is wrong",
    ylim=(-0.1, 1.6),
)
right.legend(frameon=False, loc="upper left")
plt.show()

moved = v[0] + 1e-100j * np.array([1, 0, 0, 0])  # the derivative of a variance by its first number
centred = moved - moved.mean()
print("true derivative                    ", 2 * (v[0, 0] - v[0].mean()) / 4)
print("complex step, mean((x - mu)**2)    ", (centred**2).mean().imag / 1e-100)
print("complex step, mean(abs(x - mu)**2) ", (np.abs(centred) ** 2).mean().imag / 1e-100)

# %% [markdown]
# ## Exercise: four more digits
#
# If the complex step is not available, the truncation can be cancelled instead. The central difference has only even
# powers of $h$ in its error: $D(h) = f' + \alpha h^2 + \beta h^4 + \dots$ Combine the steps $h$ and $h/2$ so that the
# $h^2$ term drops out (*Richardson's extrapolation*): $D(h/2) = f' + \tfrac{\alpha}{4} h^2 + \tfrac{\beta}{16} h^4$.
# Find the two coefficients, then write it for a function of one number.


# %%
def richardson(f, x, h):
    """Return an estimate of f'(x), from D(h) and D(h/2), whose error is of order h⁴."""
    ### BEGIN SOLUTION
    wide, narrow = (f(x + h) - f(x - h)) / (2 * h), (f(x + h / 2) - f(x - h / 2)) / h
    return (4 * narrow - wide) / 3
    ### END SOLUTION


# %% tags=["check"]
# Of x⁵: D(h) = 5x⁴ + 10x²h² + h⁴, so the h⁴ terms leave (4/16 − 1)/3 = −1/4 of h⁴.
lesson.check(
    "richardson",
    got=lambda: richardson(lambda t: t**5, 1.7, h=0.5),
    want=5 * 1.7**4 - 0.5**4 / 4,
    tol=1e-11,
    wrong={
        "The h² term is still there: weigh D(h/2) with 4/3 and D(h) with −1/3.": lambda: (
            5 * 1.7**4 + 10 * 1.7**2 * 0.25**2 + 0.25**4
        ),
        "The two weights are exchanged.": lambda: (
            5 * 1.7**4 + (4 * 10 - 10 / 4) / 3 * (1.7 * 0.5) ** 2 + (4 - 1 / 16) / 3 * 0.5**4
        ),
    },
)

# %% [markdown]
# ## In the package, and in PyTorch
#
# - `minidl.check.gradient(forward, backward, inputs, method=...)` is your `check_gradient`, with `"complex"` (the
#   default, to $10^{-12}$), `"central"` and `"direction"`. It always draws its cotangent, and raises
#   `VacuousCheckError`. The last cell uses it.
# - `tests/gradients.py` holds the package's layers to both kinds of derivative; `tests/test_mutations.py` then *breaks*
#   the norms' backward passes, dropping one term or factor after the other, and demands that every loss is noticed. A
#   check is worth what it has been seen to catch.
#
# PyTorch has `torch.autograd.gradcheck(function, inputs)`: central differences with $h = 10^{-6}$, inputs in float64,
# and a full Jacobian, so that every cotangent is tried; `fast_mode=True` projects on random directions, as you did. It
# warns if inputs are not in float64, for the reason your U-curve shows. JAX has `jax.test_util.check_grads`.

# %%
print("right:", gradient(lambda **given: batch_norm(**given, eps=eps), planted(), inputs))
try:
    gradient(lambda **given: batch_norm(**given, eps=eps), backwards["dx lacks the weight"], inputs)
except AssertionError as error:
    print("planted:", error)

# %%
lesson.done()
