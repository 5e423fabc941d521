# ---
# jupyter:
#   minidl:
#     title: Batch normalization
#     minutes: 75
#     needs: ["02", "03"]
#     checks: 6
# ---

# %% [markdown]
# # 05 · Batch normalization
#
# **Goal.** You write batch normalization (BN): its forward pass, its backward pass twice, from two derivations that
# look nothing alike, and its running statistics. At the end you know what BN's gradient *cannot* contain, and why that
# makes it the easiest gradient to check wrongly.
#
# **You need.** Lessons 02 (a layer by hand) and 03 (checking a gradient). **Time.** About 75 minutes.
#
# A batch of feature maps is an array $x$ of shape $(N, C, H, W)$: sample $n$, channel $c$, pixel $(h, w)$. BN asks each
# channel one question, *what are your mean and your spread over this whole batch?*, and rescales the channel so that
# the answer is always "0 and 1". Two learned numbers per channel, `weight` and `bias`, then let the network choose
# another answer, if it wants one.
#
# **Predict before running.** Write your answers down; this page will give them.
#
# 1. A batch has shape $(5, 3, 4, 7)$. How many means does BN compute, and of how many values each?
# 2. You multiply the whole batch by 10 and add 100. How does $y$ change?
# 3. So, if $x$ moves along the direction "add the same to every value", what is the loss's derivative? And along
#    "stretch $x$ away from its mean"?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("05", checks=6)

# %%
import matplotlib.pyplot as plt
import numpy as np

from minidl import data, reference

rng = np.random.default_rng(5)
N, C, H, W = 5, 3, 4, 7  # all different, so that a transposed axis shows
eps = 1e-5
x = rng.normal([[[[2.0]], [[-1.0]], [[0.5]]]], [[[[1.5]], [[0.7]], [[3.0]]]], (N, C, H, W))
weight, bias = np.array([1.3, -0.6, 0.8]), np.array([0.2, 0.5, -0.9])  # neither 1 nor 0: a swap would show
dy = rng.normal(size=x.shape)  # a random cotangent: the gradient of some loss with respect to y
args = x, weight, bias, eps


def per_channel(a):
    """Return a (C,) array as (1, C, 1, 1), so that it broadcasts against (N, C, H, W)."""
    return a.reshape(1, -1, 1, 1)


def mean(a):
    """Return the mean of each channel over N, H and W, as (1, C, 1, 1)."""
    return a.mean(axis=(0, 2, 3), keepdims=True)


# %% [markdown]
# ## Forward
#
# Fix a channel $c$. It has $M = N\cdot H\cdot W$ values, and every sum below runs over all of them. Equation 1 of the
# paper is five lines; the shapes are on the right.
#
# $$
# \begin{aligned}
# \mu_c &= \tfrac1M \textstyle\sum_{nhw} x_{nchw} && (C,)\\
# \sigma^2_c &= \tfrac1M \textstyle\sum_{nhw} (x_{nchw}-\mu_c)^2 && (C,)\\
# \mathrm{rstd}_c &= 1/\sqrt{\sigma_c^2+\varepsilon} && (C,)\\
# \hat x_{nchw} &= (x_{nchw}-\mu_c)\,\mathrm{rstd}_c && (N,C,H,W)\\
# y_{nchw} &= \mathrm{weight}_c\,\hat x_{nchw} + \mathrm{bias}_c && (N,C,H,W)
# \end{aligned}
# $$
#
# (The paper calls `weight` $\alpha$ and `bias` $\beta$.) Two pieces of small print. The variance divides by $M$, not by
# $M-1$: it describes *this* batch, it estimates nothing. And $\varepsilon$ stands **inside** the root. It is there for
# channels that hardly vary; you will meet one at the end.
#
# So question 1: three means, of 140 values each. Question 2: not at all, up to $\varepsilon$. The 100 is
# in $x$ and in $\mu$ and drops out of $x-\mu$; the 10 is in $x-\mu$ and in $\sigma$ and drops out of their quotient.


# %% tags=["wrong"]
# check: y
# says: divides by M − 1
def batch_norm(x, weight, bias, eps):
    rstd = 1 / np.sqrt(x.var(axis=(0, 2, 3), ddof=1, keepdims=True) + eps)
    return per_channel(weight) * (x - mean(x)) * rstd + per_channel(bias)


# %%
def batch_norm(x, weight, bias, eps):
    """Return y (N, C, H, W) of equation 1."""
    ### BEGIN SOLUTION
    d = x - mean(x)
    rstd = 1 / np.sqrt(mean(d**2) + eps)
    return per_channel(weight) * d * rstd + per_channel(bias)
    ### END SOLUTION


# %% tags=["check"]
# Both sides are float64 sums of 140 values: rounding differs in the last digits, 1e-15 or so, no more.
lesson.check(
    "y",
    lambda: batch_norm(*args),
    lambda: reference.batch_norm(*args),
    tol=1e-12,
    wrong={
        "the variance divides by M − 1": lambda: (
            per_channel(weight) * (x - mean(x)) / np.sqrt(x.var(axis=(0, 2, 3), ddof=1, keepdims=True) + eps)
            + per_channel(bias)
        ),
        "eps is outside the root": lambda: (
            per_channel(weight) * (x - mean(x)) / (x.std(axis=(0, 2, 3), keepdims=True) + eps) + per_channel(bias)
        ),
    },
)

# %% [markdown]
# ## Backward, the first way: through the graph
#
# Given `dy` $=\partial L/\partial y$, we want `dx`, `dweight` and `dbias`. Write forward as a chain of steps so small
# that each has an obvious derivative, then walk it from the end. Write $d = x-\mu$, and read $dz$ as
# $\partial L/\partial z$ for any $z$ (so $dd$ is the gradient of $d$). Two rules do all the work:
#
# - what was **broadcast** forward is **summed** backward (a change of $\mu_c$ moves all $M$ values of its channel);
# - what was **used twice** receives **both** gradients, added.
#
# $$
# \begin{array}{llll}
# & \text{forward} & \text{backward} & \\
# \hline
# ① & \mu = \mathrm{mean}(x) & dx \mathrel{+}= d\mu/M
#   & \text{each } x \text{ has a share of } 1/M \text{ in the mean}\\
# ② & d = x-\mu & dx = dd,\quad d\mu = -\sum dd & \mu \text{ was broadcast}\\
# ③ & \sigma^2 = \mathrm{mean}(d^2) & dd \mathrel{+}= d\sigma^2\cdot 2d/M & d \text{ is used a second time}\\
# ④ & \mathrm{rstd} = (\sigma^2+\varepsilon)^{-1/2} & d\sigma^2 = -\frac12\,\mathrm{rstd}^3\,d\mathrm{rstd}
#   & \mathrm{rstd}^3 = (\sigma^2+\varepsilon)^{-3/2}\\
# ⑤ & \hat x = d\cdot\mathrm{rstd} & dd = d\hat x\cdot\mathrm{rstd},\quad d\mathrm{rstd} = \sum d\hat x\cdot d
#   & \mathrm{rstd} \text{ was broadcast}\\
# ⑥ & y = \mathrm{weight}\,\hat x+\mathrm{bias} & d\hat x = \mathrm{weight}\,dy,\quad
#   d\mathrm{weight} = \sum dy\,\hat x,\quad d\mathrm{bias} = \sum dy & \text{both were broadcast}
# \end{array}
# $$
#
# The gradients of $\mu$, $\sigma^2$, rstd, weight and bias are $(C,)$ like these; the rest is $(N,C,H,W)$. Read the
# backward column from ⑥ up to ①. Every $\sum$ runs over $n, h, w$. Nothing was skipped: this table *is* the backward
# pass, and a program that follows it line by line is right.


# %% tags=["wrong"]
# check: graph
# says: variance is a constant
def batch_norm_backward_graph(dy, x, weight, bias, eps):
    rstd = 1 / np.sqrt(mean((x - mean(x)) ** 2) + eps)
    dd = per_channel(weight) * dy * rstd
    sums = {"dweight": (dy * (x - mean(x)) * rstd).sum(axis=(0, 2, 3)), "dbias": dy.sum(axis=(0, 2, 3))}
    return {"dx": dd - mean(dd), **sums}


# %%
def batch_norm_backward_graph(dy, x, weight, bias, eps):
    """Return {"dx": (N, C, H, W), "dweight": (C,), "dbias": (C,)}, by the table, from ⑥ up to ①."""
    ### BEGIN SOLUTION
    m = x.size // x.shape[1]
    d = x - mean(x)
    rstd = 1 / np.sqrt(mean(d**2) + eps)
    xhat = d * rstd

    dbias = dy.sum(axis=(0, 2, 3))  # ⑥
    dweight = (dy * xhat).sum(axis=(0, 2, 3))
    dxhat = per_channel(weight) * dy
    dd = dxhat * rstd  # ⑤
    drstd = (dxhat * d).sum(axis=(0, 2, 3), keepdims=True)
    dvar = -0.5 * rstd**3 * drstd  # ④
    dd = dd + dvar * 2 * d / m  # ③
    dmu = -dd.sum(axis=(0, 2, 3), keepdims=True)  # ②
    dx = dd + dmu / m  # ①
    return {"dx": dx, "dweight": dweight, "dbias": dbias}
    ### END SOLUTION


# %% tags=["check"]
def mistake(kind):
    """Return the gradients with a usual mistake in dx; a check that fails compares yours with it."""
    right, centre = reference.batch_norm_backward(dy, *args), mean(x)
    held = centre.ravel(), mean((x - centre) ** 2).ravel()  # as if they were constants
    constant = reference.batch_norm_eval_backward(dy, x, weight, bias, *held, eps)["dx"]
    m = x.size // C
    dx = {
        "mean": right["dx"] + mean(constant),
        "variance": constant - mean(constant),
        "divisor": constant + (right["dx"] - constant) * m / (m - 1),
        "both": constant,
    }[kind]
    return {**right, "dx": dx}


# The reference follows the same chain with loops. Expect agreement to 1e-14; a wrong term shows in the first digit.
lesson.check(
    "graph",
    lambda: batch_norm_backward_graph(dy, *args),
    lambda: reference.batch_norm_backward(dy, *args),
    tol=1e-12,
    wrong={
        "step ① is missing: the mean is a constant for it": lambda: mistake("mean"),
        "steps ③ and ④ are missing: the variance is a constant for it": lambda: mistake("variance"),
        "only steps ⑥ and ⑤ are there: mean and variance are constants for it": lambda: mistake("both"),
    },
)

# %% [markdown]
# ## Backward, the second way: one line, and a picture
#
# Substitute ⑤ and ④ into ③. Since $d = \hat x/\mathrm{rstd}$, the sum $\sum d\hat x\cdot d$ is
# $\sum d\hat x\,\hat x/\mathrm{rstd}$, so
#
# $$
# d\sigma^2\,\frac{2d}{M}
# = -\frac12\,\mathrm{rstd}^3\;\frac{\sum d\hat x\,\hat x}{\mathrm{rstd}}\;\frac{2}{M}\;\frac{\hat x}{\mathrm{rstd}}
# = -\mathrm{rstd}\;\hat x\;\mathrm{mean}(d\hat x\,\hat x).
# $$
#
# With ⑤, $dd = \mathrm{rstd}\,[\,d\hat x-\hat x\,\mathrm{mean}(d\hat x\,\hat x)\,]$. Steps ② and ① together say
# $dx = dd-\mathrm{mean}(dd)$, and since $\mathrm{mean}(\hat x)=0$, the second part of $dd$ has no mean to take away:
# $\mathrm{mean}(dd) = \mathrm{rstd}\,\mathrm{mean}(d\hat x)$. Finally $d\hat x = \mathrm{weight}\,dy$, and weight is
# one number in a channel, so it comes out in front:
#
# $$
# \boxed{\;dx = \mathrm{weight}\cdot\mathrm{rstd}\cdot
# \bigl(\,dy \;-\; \mathrm{mean}(dy)\;-\;\hat x\;\mathrm{mean}(dy\,\hat x)\,\bigr)\;}
# $$
#
# No approximation has been made, $\varepsilon$ is inside rstd. Six steps became one line; here is what it *means*.
#
# **Geometry.** Take the $M$ values of a channel as one vector in $\mathbb R^M$. Question 3 said that $y$ stays as it is
# when $x$ moves along $\mathbf 1 = (1,\dots,1)$, and (but for $\varepsilon$) along $x-\mu$, that is, along $\hat x$. A
# loss that does not change along a direction has no gradient there. So we know, before any derivation, that
# $dx\perp\mathbf 1$ and $dx\perp\hat x$.
#
# The line above does just that. The component of $dy$ along $\mathbf 1$ is
# $\frac{\langle dy,\mathbf 1\rangle}{\langle\mathbf 1,\mathbf 1\rangle}\mathbf 1 = \mathrm{mean}(dy)\,\mathbf 1$. The
# component along $\hat x$ is $\frac{\langle dy,\hat x\rangle}{\langle\hat x,\hat x\rangle}\hat x$, and
# $\langle\hat x,\hat x\rangle = M\sigma^2/(\sigma^2+\varepsilon)$, which is $M$ where $\varepsilon$ is negligible: that
# gives $\hat x\,\mathrm{mean}(dy\,\hat x)$. As $\mathbf 1\perp\hat x$, both may be taken away one after the other.
# **BN's backward pass projects dy onto what BN has not thrown away, then scales it by weight · rstd.**


# %% tags=["wrong"]
# check: dx
# says: without the mean's term
def batch_norm_backward(dy, x, weight, bias, eps):
    rstd = 1 / np.sqrt(mean((x - mean(x)) ** 2) + eps)
    xhat = (x - mean(x)) * rstd
    dx = per_channel(weight) * rstd * (dy - xhat * mean(dy * xhat))
    return {"dx": dx, "dweight": (dy * xhat).sum(axis=(0, 2, 3)), "dbias": dy.sum(axis=(0, 2, 3))}


# %% tags=["wrong"]
# check: dx
# says: M − 1 instead of M
def batch_norm_backward(dy, x, weight, bias, eps):
    m = x.size // x.shape[1]
    rstd = 1 / np.sqrt(mean((x - mean(x)) ** 2) + eps)
    xhat = (x - mean(x)) * rstd
    dx = per_channel(weight) * rstd * (dy - (mean(dy) + xhat * mean(dy * xhat)) * m / (m - 1))
    return {"dx": dx, "dweight": (dy * xhat).sum(axis=(0, 2, 3)), "dbias": dy.sum(axis=(0, 2, 3))}


# %%
def batch_norm_backward(dy, x, weight, bias, eps):
    """Return the same as batch_norm_backward_graph, with dx from the boxed line."""
    ### BEGIN SOLUTION
    rstd = 1 / np.sqrt(mean((x - mean(x)) ** 2) + eps)
    xhat = (x - mean(x)) * rstd
    dx = per_channel(weight) * rstd * (dy - mean(dy) - xhat * mean(dy * xhat))
    return {"dx": dx, "dweight": (dy * xhat).sum(axis=(0, 2, 3)), "dbias": dy.sum(axis=(0, 2, 3))}
    ### END SOLUTION


# %% tags=["check"]
# Two derivations, one function: again 1e-14 or so.
lesson.check(
    "dx",
    lambda: batch_norm_backward(dy, *args),
    lambda: reference.batch_norm_backward(dy, *args),
    tol=1e-12,
    wrong={
        "dx is without the mean's term": lambda: mistake("mean"),
        "dx is without the variance's term": lambda: mistake("variance"),
        "dx has neither the mean's nor the variance's term": lambda: mistake("both"),
        "the means in dx divide by M − 1 instead of M": lambda: mistake("divisor"),
    },
)

# %% tags=["figure"]
backward = lesson.yours(batch_norm_backward, reference.batch_norm_backward, "dx")
plane = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])  # two unit vectors, orthogonal to (1, 1, 1)
slope = np.array([1.5, 0.2, -0.6])  # dy, the same for every x: the loss is L = sum(slope · y)


def dx_at(point):
    """Return dx, in the plane's coordinates, for the channel x whose x − mu is this point of the plane."""
    shape = (3, 1, 1, 1)
    dx = backward(slope.reshape(shape), (point @ plane).reshape(shape), np.ones(1), np.zeros(1), 1e-12)["dx"]
    return plane @ dx.reshape(3)


grid = np.stack(np.meshgrid(*[np.linspace(-4, 4, 301)] * 2), axis=-1)
loss = np.sqrt(3) * (grid @ plane @ slope) / (np.linalg.norm(grid, axis=2) + 1e-9)
fig, axes = plt.subplots(1, 2, figsize=(10.5, 5.2), layout="constrained")
for ax in axes:
    ax.imshow(loss, extent=(-4, 4, -4, 4), origin="lower", cmap="PuOr", alpha=0.5)
    ax.add_patch(plt.Circle((0, 0), np.sqrt(3), fill=False, linestyle="--"))
    ax.set(aspect="equal", xlabel="x along (1, −1, 0)/√2")
arrow = {"angles": "xy", "scale_units": "xy", "scale": 1, "zorder": 3}
xhat3 = np.sqrt(3) * np.array([np.cos(-0.1), np.sin(-0.1)])
flat, tangent = plane @ slope, dx_at(xhat3)
axes[0].quiver(*xhat3, *flat, color="0.25", width=0.008, label="dy − mean(dy)", **arrow)
axes[0].quiver(*xhat3, *(flat - tangent), color="tab:red", width=0.008, label="taken away: x̂ · mean(dy · x̂)", **arrow)
axes[0].quiver(*xhat3, *tangent, color="tab:blue", width=0.012, label="what is left: dx", **arrow)
axes[0].plot(*xhat3, "ko", markersize=7)
axes[0].set(title="At one x̂ (dashed: all that x̂ can be)", ylabel="x along (1, 1, −2)/√6")
axes[0].set(xlim=(-2.2, 3.2), ylim=(-2.7, 2.7))
axes[0].legend(loc="lower left")
for angle in np.arange(10) * np.pi / 5 + 0.25:
    for radius in (1.5, 2.5, 3.5):
        point = radius * np.array([np.cos(angle), np.sin(angle)])
        axes[1].quiver(*point, *dx_at(point), color="tab:blue", width=0.008, **arrow)
        axes[1].plot(*point, "k.", markersize=6)
axes[1].set(title="dx at many x: weaker further out")
fig.suptitle("The loss (purple: large) changes with the angle alone, so dx turns x and never stretches it")
plt.show()

# %% [markdown]
# A channel with $M = 3$ values is a point in space; seen along $(1, 1, 1)$, what is left is this plane. The mean's term
# put $dy$ into it, the variance's term made it tangent to the circle. Further out the arrows
# are shorter, by rstd: **the larger the activations, the smaller the gradient.** That is one reason why training with
# BN survives learning rates and initial weights that would blow up a plain network. And since $\sum dx = 0$ in each
# channel, a bias added just before BN has gradient 0: convolutions that BN follows are built without one.
#
# ## Training and evaluation
#
# A network in use must not let one image's answer depend on its neighbours in the batch. So in training BN also
# *remembers*, and in evaluation it uses the memory in place of $\mu$ and $\sigma^2$:
#
# $$
# \mathrm{running} \leftarrow \mathrm{momentum}\cdot\mathrm{batch} + (1-\mathrm{momentum})\cdot\mathrm{running},
# \qquad
# y = \mathrm{weight}\,\frac{x-\mathrm{running\ mean}}{\sqrt{\mathrm{running\ var}+\varepsilon}}+\mathrm{bias}.
# $$
#
# Three conventions hide in there, and each has cost somebody a day:
#
# - **momentum is the weight of which batch?** Here, in PyTorch and in the paper (its $\lambda$): of the *new* one, 0.1.
#   In Keras it is the weight of the *old* value, so our 0.1 is Keras's 0.9.
# - **which variance is stored?** PyTorch normalises with divisor $M$ and stores the one with divisor $M-1$. minidl does
#   so by default (`running="unbiased"`), and can store the other.
# - **the start**, mean 0 and variance 1, still has weight $(1-\mathrm{momentum})^t$ after $t$ batches: 35 % after 10.
#
# **Evaluation's backward.** The running statistics are constants: $x$ does not move them. What is left is an affine map
# of each channel, and the derivation is one line: $dx = \mathrm{weight}\cdot\mathrm{rstd}\cdot dy$, with
# $\mathrm{rstd} = 1/\sqrt{\mathrm{running\ var}+\varepsilon}$. No projection; the training formula here is *wrong*. You
# meet it when you fine-tune with frozen statistics or look for adversarial images. dweight and dbias are sums as
# before, with $\hat x$ made from the running statistics.


# %% tags=["wrong"]
# check: running
# says: weight of the old value
def batch_norm_running(x, running_mean, running_var, momentum):
    mu, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3), ddof=1)
    return (1 - momentum) * mu + momentum * running_mean, (1 - momentum) * var + momentum * running_var


# %% tags=["wrong"]
# check: eval
# says: formula of training
def batch_norm_eval_backward(dy, x, weight, bias, running_mean, running_var, eps):
    rstd = per_channel(1 / np.sqrt(running_var + eps))
    xhat = (x - per_channel(running_mean)) * rstd
    dx = per_channel(weight) * rstd * (dy - mean(dy) - xhat * mean(dy * xhat))
    return {"dx": dx, "dweight": (dy * xhat).sum(axis=(0, 2, 3)), "dbias": dy.sum(axis=(0, 2, 3))}


# %%
def batch_norm_running(x, running_mean, running_var, momentum):
    """Return the new running_mean and running_var (C,); the variance that is stored has divisor M − 1."""
    ### BEGIN SOLUTION
    mu, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3), ddof=1)
    return momentum * mu + (1 - momentum) * running_mean, momentum * var + (1 - momentum) * running_var
    ### END SOLUTION


def batch_norm_eval_backward(dy, x, weight, bias, running_mean, running_var, eps):
    """Return {"dx", "dweight", "dbias"} of batch_norm in evaluation."""
    ### BEGIN SOLUTION
    rstd = per_channel(1 / np.sqrt(running_var + eps))
    xhat = (x - per_channel(running_mean)) * rstd
    dx = per_channel(weight) * rstd * dy
    return {"dx": dx, "dweight": (dy * xhat).sum(axis=(0, 2, 3)), "dbias": dy.sum(axis=(0, 2, 3))}
    ### END SOLUTION


memory = np.array([0.4, -0.2, 1.1]), np.array([2.0, 0.6, 5.0])  # a running mean and variance, made up


# %% tags=["check"]
# momentum 0.1, not 0.5: swapped roles show. The two variances differ by 1 part in 140, a clear failure at 1e-12.
lesson.check(
    "running",
    lambda: dict(zip(("mean", "var"), batch_norm_running(x, *memory, 0.1), strict=True)),
    lambda: dict(zip(("mean", "var"), reference.batch_norm_running(x, *memory, 0.1), strict=True)),
    tol=1e-12,
    wrong={
        "momentum is taken as the weight of the old value": lambda: dict(
            zip(("mean", "var"), reference.batch_norm_running(x, *memory, 0.9), strict=True)
        ),
        "the stored variance has divisor M": lambda: dict(
            zip(("mean", "var"), reference.batch_norm_running(x, *memory, 0.1, running="biased"), strict=True)
        ),
    },
)


# %% tags=["check"]
def training_formula():
    """Return the gradients with the projection of training, which evaluation does not have."""
    right = reference.batch_norm_eval_backward(dy, x, weight, bias, *memory, eps)
    rstd = per_channel(1 / np.sqrt(memory[1] + eps))
    xhat = (x - per_channel(memory[0])) * rstd
    return {**right, "dx": per_channel(weight) * rstd * (dy - mean(dy) - xhat * mean(dy * xhat))}


lesson.check(
    "eval",
    lambda: batch_norm_eval_backward(dy, x, weight, bias, *memory, eps),
    lambda: reference.batch_norm_eval_backward(dy, x, weight, bias, *memory, eps),
    tol=1e-12,
    wrong={
        "dx has the formula of training": training_formula,
        "the statistics are those of the batch": lambda: reference.batch_norm_backward(dy, *args),
    },
)

# %% [markdown]
# ## See it: how much do a batch's statistics scatter?
#
# Take the green channel of real images, a mixture of four data sets (digits, clothes, objects, house numbers), and draw
# 400 random batches of each size. Before you look: each image has 1024 pixels, so even a batch of 2 has $M = 2048$
# values. Is that a large sample?

# %% tags=["figure"]
green = data.load_task("multitask", sample=True).train.images[:, 1].reshape(-1, 1024) / 255
image_mean, image_var = green.mean(axis=1), green.var(axis=1)
mine = int(np.argmax(image_var))  # one image, and of it the brightest pixel: always in the batch
sizes, stats = 2 ** np.arange(1, 8), []
for size in sizes:
    batch = rng.integers(len(green), size=(400, size))
    with_mine = np.where(np.arange(size) == 0, mine, batch)
    rows = []
    for picked in (batch, with_mine):
        mu = image_mean[picked].mean(axis=1)
        var = (image_var[picked] + (image_mean[picked] - mu[:, None]) ** 2).mean(axis=1)
        rows += [mu, var]
    stats.append([rows[0], np.sqrt(rows[1]), (green[mine].max() - rows[2]) / np.sqrt(rows[3] + eps)])
stats = np.array(stats)  # (sizes, 3 statistics, 400 batches)
whole = green.mean(), green.std(), (green[mine].max() - green.mean()) / green.std()

fig, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
titles = "mean of the batch", "standard deviation of the batch", "y of one and the same pixel"
for i, (ax, title) in enumerate(zip(axes, titles, strict=True)):
    low, middle, high = np.quantile(stats[:, i], [0.05, 0.5, 0.95], axis=1)
    ax.fill_between(sizes, low, high, alpha=0.3, label="9 of 10 batches" if i == 1 else None)
    ax.plot(sizes, middle, "o-", markersize=4, label="median" if i == 1 else None)
    ax.axhline(whole[i], color="k", linestyle="--", label="all images" if i == 1 else None)
    ax.set_xscale("log", base=2)
    ax.set(title=title, xlabel="batch size N", xticks=sizes, xticklabels=sizes)
spread = 1.645 * image_mean.std() / np.sqrt(sizes)
axes[0].plot(sizes, whole[0] + spread, "r:", label="N independent values", linewidth=2)
axes[0].plot(sizes, whole[0] - spread, "r:", linewidth=2)
axes[0].set_ylabel("pixel value, 0 to 1")
axes[0].legend(loc="upper right")
axes[1].legend(loc="lower right")
fig.suptitle("A batch of N images is a sample of N, not of N·H·W: small batches make a noisy y")
plt.show()
for size, (mu, std, _) in zip(sizes, stats, strict=True):
    parts = (std**2).mean() / whole[1] ** 2, mu.var() / whole[1] ** 2
    print(f"N = {size:3}: variance inside a batch {parts[0]:5.1%} of all, between batches {parts[1]:5.1%}")

# %% [markdown]
# Pixels of one image resemble each other, so the scatter follows the dotted lines, those of $N$ independent values. Two
# consequences. In training, the same pixel gets another $y$ in each batch: noise, a mild regulariser at $N=128$, a
# disease at $N=2$. And small batches see **too small a variance**: what is missing inside is found between the batches
# (the law of total variance; the two columns add up to about 100 %). The correction $M/(M-1)$ does not repair that, it
# counts pixels. In the third panel the image is itself a part of the batch that judges it, half of it at $N=2$, which
# draws $y$ towards 0. So evaluation, which mixes all batches, normalises differently from training; minidl's
# `running="second_moment"` stores $\langle x\rangle$ and $\langle x^2\rangle$ and keeps both columns.
#
# ## Break it
#
# Three experiments. Predict each: **(a)** the popular check with the loss `y.sum()`, so $dy = 1$; **(b)** a batch
# of one sample with one pixel; **(c)** a channel that is constant but for a speck of $10^{-6}$.

# %%
right = reference.batch_norm_backward
print("(a) largest error in dx, when dx is         all zeros   without the variance's term")
y = reference.batch_norm(*args)
for name, cotangent in {"dy = 1, L = sum y": np.ones_like(x), "dy = y, L = sum y²/2": y, "dy random": dy}.items():
    dx = right(cotangent, *args)["dx"]
    rstd = 1 / np.sqrt(mean((x - mean(x)) ** 2) + eps)
    half = per_channel(weight) * rstd * (cotangent - mean(cotangent))
    print(f"    {name:22}           {np.abs(dx).max():18.1e} {np.abs(half - dx).max():18.1e}")

one = rng.normal(size=(1, C, 1, 1))
print(
    "(b) y − bias for a single value per channel:",
    (reference.batch_norm(one, weight, bias, eps) - per_channel(bias)).ravel(),
)
print("    dx:", right(np.ones_like(one) * 7.0, one, weight, bias, eps)["dx"].ravel())

flat = x.copy()
flat[:, 1] = 3 + 1e-6 * rng.normal(size=(N, H, W))
size = np.abs(right(dy, flat, weight, bias, eps)["dx"]).max(axis=(0, 2, 3))
print(f"(c) largest dx per channel: {size.round(2)}; 1/sqrt(eps) = {1 / np.sqrt(eps):.0f}")

# %% [markdown]
# **(a)** With $dy = 1$, $\mathrm{mean}(dy)=1$ and $\mathrm{mean}(dy\,\hat x)=0$, so $dx = dy-1-0 = 0$: a backward that
# returns zeros *passes*. The sum of $y$ is $M\cdot\mathrm{bias}$, whatever $x$ is. $\sum y^2/2$ is hardly better: there
# $dy-\mathrm{mean}(dy)$ is parallel to $\hat x$, and only $\varepsilon$ keeps $dx$ from vanishing: at a tolerance of
# $10^{-4}$, zeros pass again. Such a check is **vacuous**. A random $dy$ has parts in all directions; that is why every
# check on this page uses one.
#
# **(b)** A single value is its own mean: $y=\mathrm{bias}$ and $dx=0$. No information passes, in either direction, and
# the unbiased variance is $0/0$. minidl and PyTorch refuse such a batch in training.
#
# **(c)** Here $\varepsilon$ is the variance: without it rstd would be $10^6$, now it is $1/\sqrt\varepsilon$. That is
# still large: such a channel passes gradients that are hundreds of times those of its neighbours.
#
# ## Exercise: fold it away
#
# In evaluation BN is affine, and so is the linear layer before it, $z = x\,A^\top+b$ with $A$ of shape
# $(C_{out},C_{in})$. Two affine maps are one. Find $A'$ and $b'$ with
# $x\,A'^\top+b' = \mathrm{BN_{eval}}(x\,A^\top+b)$. Every network that is shipped with BN in it does this: at inference
# BN costs nothing. (Start from
# $y_c = \mathrm{weight}_c\,\mathrm{rstd}_c\,(z_c-\mathrm{running\ mean}_c)+\mathrm{bias}_c$ and collect what multiplies
# $x$.)


# %%
def fold(A, b, weight, bias, running_mean, running_var, eps):
    """Return A' (C_out, C_in) and b' (C_out,)."""
    ### BEGIN SOLUTION
    s = weight / np.sqrt(running_var + eps)
    return A * s[:, None], (b - running_mean) * s + bias
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(525)  # the check's own numbers
A, b, features = own.normal(size=(C, 7)), own.normal(size=C), own.normal(size=(4, 7))
lesson.check(
    "fold",
    lambda: (lambda A2, b2: features @ A2.T + b2)(*fold(A, b, weight, bias, *memory, eps)),
    lambda: reference.batch_norm_eval(features @ A.T + b, weight, bias, *memory, eps),
    tol=1e-12,
    wrong={
        "b does not pass through the scale": lambda: (
            reference.batch_norm_eval(features @ A.T, weight, bias, *memory, eps) + b
        ),
    },
)

# %% [markdown]
# ## In the package, and in PyTorch
#
# - `minidl/reference/batch.py` is this page in loops, one channel after the other: the oracle you were checked against.
# - `minidl/norm/batch.py` is what trains. It never forms $\hat x$: it computes each *sample's* channel moments, turns
#   them into a scale and a shift, and goes over $x$ once more. Lesson 07 shows that all norms can be written so. The
#   running statistics are float64 and part of the layer's state; lesson 06 is about the digits.
# - PyTorch's `nn.BatchNorm2d` is the same function with the same conventions (momentum 0.1 for the new batch, $M$ for
#   normalising, $M-1$ for storing, `eps=1e-5` inside the root) and in addition `num_batches_tracked`; `momentum=None`
#   makes its memory a plain average over all batches. In Keras momentum is the weight of the old value (0.99) and
#   `epsilon` is 1e-3: copy weights between the two without changing these, and the outputs differ.
#
# What BN does to a mixture of data sets, where one mean fits nobody, is where Mode Normalization starts: lesson 08.

# %%
lesson.done()
