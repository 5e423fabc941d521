# ---
# jupyter:
#   minidl:
#     title: Mode normalization I
#     minutes: 75
#     needs: ["05", "06", "07"]
#     checks: 7
# ---

# %% [markdown]
# # 08 · Mode normalization I: the forward pass
#
# **Goal.** You write mode normalization (MN): gates, the statistics of a mode, the gated sum, and what changes in
# inference. The equations are the paper's; where a choice is minidl's or the released code's, the page says so. At the
# end you know in which cases MN *is* batch normalization (BN), to the last digit.
#
# **You need.** Lessons 05 (batch normalization), 06 (the numerics of a variance) and 07 (the other norms). **Time.**
# About 75 minutes.
#
# BN gives a channel one mean and one variance. That describes a channel well whose values form one heap. Train one
# network on handwritten digits *and* on photographs of house numbers, and its channels have two. MN gives a channel $K$
# means and variances, the **modes**, and lets every sample say how much of each it wants.
#
# Throughout, $x$ is $(N, C, H, W)$ with $P = HW$ values per channel of a sample. The letters $n, c, k, p$ count samples,
# channels, modes and pixels. $\alpha$ and $\beta$ are BN's affine pair, `weight` and `bias`.

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("08", checks=7)

# %% [markdown]
# ## One mean for two heaps
#
# Say a channel's values come from clusters $j$ with shares $\pi_j$, means $\mu_j$ and variances $\sigma_j^2$. BN's mean
# is $\mu = \sum_j \pi_j \mu_j$. For its variance, write $x - \mu = (x - \mu_j) + (\mu_j - \mu)$ inside cluster $j$ and
# square. The cross term averages to $2(\mu_j - \mu)\,\mathrm E_j[x - \mu_j] = 0$, and what remains is
#
# $$\sigma^2 = \sum_j \pi_j\,\sigma_j^2 + \sum_j \pi_j\,(\mu_j - \mu)^2 ,$$
#
# the **law of total variance**: the variance within the clusters plus the spread of their means. (You will need it
# twice more today.) After BN, cluster $j$ has mean $(\mu_j - \mu)/\sigma$ and deviation $\sigma_j/\sigma$. The further
# the clusters are apart, the larger $\sigma$ and the flatter each cluster: most of the unit variance says which cluster
# a value is from, and little is left for what happens inside it.
#
# **Predict.** The channel below is the brightness of an image, for 1150 images of MNIST (mean 0.10, deviation 0.03) and
# as many of SVHN (0.46 and 0.15). After BN, is the deviation of MNIST's values about 1, about 0.5, or about 0.15?

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
from minidl import data, reference

rng = np.random.default_rng(8)
N, C, H, W, K = 7, 5, 4, 6, 3
eps = 1e-5
x = rng.normal(rng.normal(size=(N, C, 1, 1)), rng.uniform(0.5, 2, (N, C, 1, 1)), (N, C, H, W))
weight, bias = rng.uniform(0.5, 2, C), rng.normal(size=C)
gate_weight, gate_bias = rng.normal(size=(K, C)), rng.normal(size=K)  # the affine map Psi
psi = gate_weight, gate_bias


def per_channel(a):
    """Return a (C,) array as (C, 1, 1), so that it broadcasts against (N, C, H, W)."""
    return a[:, None, None]


train = data.load_task("multitask", sample=True).train
brightness = train.images.mean(axis=(1, 2, 3)) / 255
mnist, svhn = (brightness[train.source == train.sources.index(name)] for name in ("mnist", "svhn"))
both = np.concatenate([mnist, svhn])
t = np.linspace(-0.35, 1, 500)


def bell(t, values):
    return np.exp(-(((t - values.mean()) / values.std()) ** 2) / 2) / (values.std() * np.sqrt(2 * np.pi))


figure, ax = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
bins = np.linspace(0, 1, 61)
ax.hist([mnist, svhn], bins, density=True, stacked=True, color=["#9cc4e4", "#f6c79a"], label=["MNIST", "SVHN"])
ax.plot(t, bell(t, both), "k--", label="BN: one mean, one variance")
ax.plot(t, bell(t, mnist) / 2, color="#1f5f99", label="mode 1")
ax.plot(t, bell(t, svhn) / 2, color="#c2600d", label="mode 2")
ax.set(xlabel="brightness of an image (0 black, 1 white)", ylabel="density", xlim=(-0.3, 1))
ax.set_title("BN's bell is low where the images are, and high where there are few", fontsize="medium")
ax.legend(frameon=False, fontsize="small")
plt.show()
print(f"after BN: deviation of MNIST {mnist.std() / both.std():.2f}, of SVHN {svhn.std() / both.std():.2f}")

# %% [markdown]
# ## The gates
#
# Every sample has a **gate vector** $g_n$: $K$ shares, positive, adding up to 1. A small affine map $\Psi$ looks at the
# sample's channel means and gives a logit per mode, and a softmax turns logits into shares:
#
# $$m_{nc} = \tfrac1P \textstyle\sum_p x_{ncp}, \qquad z_{nk} = \sum_c A_{kc}\,m_{nc} + b_k, \qquad
# g_{nk} = e^{z_{nk}} \big/ \sum_j e^{z_{nj}} .$$
#
# | | $m$ | $A$ (`gate_weight`) | $b$ (`gate_bias`) | $z$ and $g$ |
# |---|---|---|---|---|
# | shape | $(N, C)$ | $(K, C)$ | $(K,)$ | $(N, K)$ |
#
# The paper defines $\Psi:\mathcal X\to\mathbb R^K$, an affine map of the whole $x$, followed by a softmax. That $\Psi$ looks at the
# $C$ channel means, and not at the $C\cdot P$ values themselves, is a choice of minidl: $\Psi$ is then only $K(C+1)$ numbers, and
# the image's size does not matter. They are learned like every other parameter. Nobody tells them which dataset an image is from.
#
# A softmax sees *differences* of logits only: adding $a$ to all logits of a sample multiplies numerator and denominator
# by $e^a$. So subtract the largest logit first, and no exponential can overflow.


# %% tags=["wrong"]
# check: gates
# says: runs over the batch
def gates(x, gate_weight, gate_bias):
    z = x.mean(axis=(2, 3)) @ gate_weight.T + gate_bias
    e = np.exp(z - z.max(axis=0))
    return e / e.sum(axis=0)


# %%
def gates(x, gate_weight, gate_bias):
    """Return g (N, K) for x (N, C, H, W)."""
    ### BEGIN SOLUTION
    z = x.mean(axis=(2, 3)) @ gate_weight.T + gate_bias
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
    ### END SOLUTION


# %% tags=["check"]
def over_the_batch(z):
    e = np.exp(z - z.max(axis=0))
    return e / e.sum(axis=0)


means = x.mean(axis=(2, 3))
lesson.check(
    "gates",
    lambda: {"g": gates(x, *psi), "g of large logits": gates(x, 999 * gate_weight, gate_bias)},
    lambda: {"g": reference.gates(x, *psi), "g of large logits": reference.gates(x, 999 * gate_weight, gate_bias)},
    tol=1e-11,  # logits of a few thousand are themselves rounded by 5e-13
    wrong={
        "your softmax runs over the batch; it is a sample's gates that add up to 1": lambda: {
            "g": over_the_batch(means @ gate_weight.T + gate_bias),
            "g of large logits": over_the_batch(999 * means @ gate_weight.T + gate_bias),
        },
    },
)

# %% [markdown]
# ## The statistics of a mode
#
# How many samples did mode $k$ get? $N_k = \sum_n g_{nk}$, a sum of shares. Its mean is the average in which sample $n$
# counts $g_{nk}$ times (equation 3), and its variance is the mean square distance from that mean, in the same average.
# With $w_{nk} = g_{nk}/N_k$, whose columns add up to 1,
#
# $$\mu_{kc} = \sum_n w_{nk}\,m_{nc}, \qquad
# \sigma^2_{kc} = \sum_n w_{nk}\,\tfrac1P \sum_p (x_{ncp} - \mu_{kc})^2, \qquad (K, C) \text{ each.}$$
#
# The paper writes the variance as $\langle x^2\rangle_k - \langle x\rangle_k^2$. Multiply the square out and you have
# it: $\langle x^2\rangle_k - 2\mu_k\langle x\rangle_k + \mu_k^2$ with $\mu_k = \langle x\rangle_k$. On a computer it is
# not the same: lesson 06 showed what that difference of large numbers loses. The law of total variance comes to help,
# with the *samples* as clusters. Sample $n$ has mean $m_{nc}$ and variance
# $v_{nc} = \frac1P \sum_p (x_{ncp} - m_{nc})^2$, so
#
# $$\sigma^2_{kc} = \sum_n w_{nk} \left[\, v_{nc} + (m_{nc} - \mu_{kc})^2 \,\right].$$
#
# Now nothing cancels. And look at the shapes: with $m$ and $v$, both $(N, C)$, in hand, **no mode ever touches a
# pixel**. Lesson 09 makes much of this.


# %% tags=["wrong"]
# check: mode statistics
# says: not by the size of the batch
def mode_statistics(x, g):
    w = g / len(g)
    m, v = x.mean(axis=(2, 3)), x.var(axis=(2, 3))
    mu = w.T @ m
    return mu, w.T @ v + np.einsum("nk,knc->kc", w, (m - mu[:, None]) ** 2)


# %% tags=["wrong"]
# check: mode statistics
# says: the spread of the samples' means is missing
def mode_statistics(x, g):
    w = g / g.sum(axis=0)
    return w.T @ x.mean(axis=(2, 3)), w.T @ x.var(axis=(2, 3))


# %%
def mode_statistics(x, g):
    """Return mu and var, (K, C) each, for x (N, C, H, W) and gates g (N, K)."""
    ### BEGIN SOLUTION
    w = g / g.sum(axis=0)
    m, v = x.mean(axis=(2, 3)), x.var(axis=(2, 3))
    mu = w.T @ m
    spread = (m - mu[:, None]) ** 2  # (K, N, C)
    return mu, w.T @ v + np.einsum("nk,knc->kc", w, spread)
    ### END SOLUTION


# %% tags=["check"]
# The definition, value by value in extended precision: the oracle works with sums that you avoid.
def by_definition(x, w, centre=None):
    wide = x.astype(np.longdouble)
    mu = np.einsum("nk,nchw->kc", w, wide) / (H * W)
    d = wide - mu[:, None, :, None, None] if centre is None else wide - centre  # (K, N, C, H, W)
    return mu, np.einsum("nk,knchw->kc", w, np.broadcast_to(d**2, (K, *x.shape))) / (H * W)


def near_and_far(statistics):
    (mu, var), (_, far) = statistics(x), statistics(x + 1e6)
    return {"mu": mu, "var": var, "deviation, mean 1e6": np.abs(far) ** 0.5}


g = reference.gates(x, *psi)
lesson.check(
    "mode statistics",
    lambda: near_and_far(lambda x: mode_statistics(x, g)),
    lambda: near_and_far(lambda x: by_definition(x, g / g.sum(axis=0))),
    tol={"mu": 1e-13, "var": 1e-13, "deviation, mean 1e6": 1e-8},  # out there x itself is rounded by 1e-10
    wrong={
        "divide by N_k, what the mode got, not by the size of the batch": lambda: near_and_far(
            lambda x: by_definition(x, g / N)
        ),
        "the spread of the samples' means is missing": lambda: near_and_far(
            lambda x: by_definition(x, g / g.sum(axis=0), centre=x.mean(axis=(2, 3), keepdims=True))
        ),
        "the variance within the samples, v, is missing: this is the spread of their means alone": lambda: near_and_far(
            lambda x: by_definition(x.mean(axis=(2, 3), keepdims=True).repeat(H, 2).repeat(W, 3), g / g.sum(axis=0))
        ),
    },
)

# %% [markdown]
# ## The gated sum
#
# Equation 2 normalises a sample by *every* mode and mixes the results by the sample's gates:
#
# $$y_n = \alpha \sum_k g_{nk}\, \frac{x_n - \mu_k}{\sqrt{\sigma_k^2 + \varepsilon}} + \beta .$$
#
# One pair $(\alpha, \beta)$ for all modes, outside the sum. Take care what is mixed: the normalised samples, not the
# statistics. Mixing means and variances first and normalising once looks alike, and is another function. So is BN
# applied to $g_{nk}\,x_n$: it divides by $N$ where a mode has only $N_k$ samples.


# %% tags=["wrong"]
# check: y
# says: mixed the statistics
def mode_norm(x, weight, bias, gate_weight, gate_bias, eps):
    g = gates(x, gate_weight, gate_bias)
    mu, var = (g @ s for s in mode_statistics(x, g))
    return per_channel(weight) * (x - mu[..., None, None]) / np.sqrt(var[..., None, None] + eps) + per_channel(bias)


# %%
def mode_norm(x, weight, bias, gate_weight, gate_bias, eps):
    """Return y (N, C, H, W), equations 2 and 3 (Algorithm 1)."""
    ### BEGIN SOLUTION
    g = gates(x, gate_weight, gate_bias)
    mu, var = mode_statistics(x, g)
    total = np.zeros_like(x)
    for g_k, mu_k, var_k in zip(g.T, mu, var, strict=True):  # (N,), (C,), (C,)
        total += g_k[:, None, None, None] * (x - per_channel(mu_k)) / per_channel(np.sqrt(var_k + eps))
    return per_channel(weight) * total + per_channel(bias)
    ### END SOLUTION


# %% tags=["check"]
def mixed_first(x):
    mu, var = ((g @ s)[..., None, None] for s in by_definition(x, g / g.sum(axis=0)))
    return per_channel(weight) * (x - mu) / np.sqrt(var + eps) + per_channel(bias)


def strongest_mode(x):
    mu, var = (s[g.argmax(axis=1)][..., None, None] for s in by_definition(x, g / g.sum(axis=0)))
    return per_channel(weight) * (x - mu) / np.sqrt(var + eps) + per_channel(bias)


def gated_input(x):
    parts = (g_k[:, None, None, None] * x for g_k in g.T)
    return sum(reference.batch_norm(part, weight, bias / K, eps) for part in parts)


lesson.check(
    "y",
    lambda: mode_norm(x, weight, bias, *psi, eps),
    lambda: reference.mode_norm(x, weight, bias, *psi, eps),
    tol=1e-12,
    wrong={
        "you mixed the statistics and normalised once; normalise by each mode, then mix": lambda: mixed_first(x),
        "each sample has its strongest mode alone; every mode counts, by its gate": lambda: strongest_mode(x),
        "this is BN of g_nk·x_n; it is the statistics that are weighed, by g_nk / N_k": lambda: gated_input(x),
    },
)

# %% [markdown]
# ## From one heap to two
#
# Back to the two datasets. Take $K = 2$ with logits $z = \pm s\,(m - 0.22)$. The **sharpness** $s$ turns the gates from
# "everybody half and half" ($s = 0$) into a switch at brightness 0.22. In training nobody sets $s$; gradient descent
# does, if it lowers the loss.
#
# **Predict.** Which normalization is MN at $s = 0$? Which one as $s \to \infty$?

# %% tags=["figure"]
forward = lesson.yours(mode_norm, reference.mode_norm, check="y")
channel = both[:, None, None, None]  # (2300, 1, 1, 1): one channel, one value per sample
figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True, layout="constrained")
for ax, sharpness in zip(axes, (0, 10, 200), strict=True):
    slope = sharpness * np.array([[-1.0], [1.0]])
    y = forward(channel, np.ones(1), np.zeros(1), slope, -0.22 * slope[:, 0], eps).ravel()
    parts = y[: len(mnist)], y[len(mnist) :]
    ax.hist(parts, np.linspace(-3, 4, 57), stacked=True, color=["#9cc4e4", "#f6c79a"], label=["MNIST", "SVHN"])
    ax.set(xlabel="normalised brightness y", title=f"sharpness s = {sharpness}")
    print(f"s = {sharpness:3}: deviation of MNIST {parts[0].std():.2f}, of SVHN {parts[1].std():.2f}")
axes[0].set_ylabel("images")
axes[0].legend(frameon=False)
figure.suptitle("Equal gates are BN; sharp gates give each heap its own mean 0 and deviation 1", fontsize="medium")
plt.show()

# %% [markdown]
# ## Exercises: when MN is something else
#
# Read off equation 2 what happens in each case, then give the parameters of $\Psi$ that bring it about.
#
# 1. **Constant gates.** Every sample has the same gates `shares` (a vector of $K$ positive numbers, sum 1). Then
#    $w_{nk} = 1/N$ for every $k$, all modes have BN's statistics, and since $\sum_k g_{nk} = 1$, MN is BN. With $K = 1$
#    there is no other case: the only gate is 1.
# 2. **A switch.** Two modes; a sample belongs to mode 1 if the mean of its channel `c` is below `threshold`, else to
#    mode 2, and all gates are 0 or 1 to machine precision. Then $N_k$ counts samples, and MN is BN run on each cluster
#    alone.
# 3. **Another $\Psi$, the same $y$.** The modes have no names: permute them, and $y$ stays. And the softmax sees
#    differences only: give *every* mode the same extra `row` of weights and the same extra `constant`, and $y$ stays.
#    So $C + 1$ of the $K(C+1)$ numbers of $\Psi$ do nothing at all.


# %%
def constant_gates(shares, channels):
    """Return gate_weight (K, C) and gate_bias (K,) with which every sample's gates are `shares`."""
    ### BEGIN SOLUTION
    return np.zeros((len(shares), channels)), np.log(shares)
    ### END SOLUTION


def switch(c, threshold, channels):
    """Return gate_weight (2, C) and gate_bias (2,): mode 1 below the threshold in channel c, mode 2 above."""
    ### BEGIN SOLUTION
    sharpness = 1e6
    gate_weight = np.zeros((2, channels))
    gate_weight[:, c] = -sharpness, sharpness
    return gate_weight, np.array([sharpness, -sharpness]) * threshold
    ### END SOLUTION


def another_psi(gate_weight, gate_bias, order, row, constant):
    """Return Psi with its modes in this order, row (C,) added to every mode's weights and constant to its bias."""
    ### BEGIN SOLUTION
    return gate_weight[order] + row, gate_bias[order] + constant
    ### END SOLUTION


# %% tags=["check"]
threshold = np.sort(means[:, 2])[2:4].mean()  # three samples below, four above
below = means[:, 2] < threshold
clusters = np.empty_like(x)
for part in (below, ~below):
    clusters[part] = reference.batch_norm(x[part], weight, bias, eps)
shares = np.array([0.5, 0.3, 0.2])
lesson.check(
    "MN that is BN",
    lambda: {
        "gates": reference.gates(x, *constant_gates(shares, C)),
        "y, constant gates": reference.mode_norm(x, weight, bias, *constant_gates(shares, C), eps),
        "y, one mode": reference.mode_norm(x, weight, bias, *constant_gates(np.ones(1), C), eps),
        "y, switch": reference.mode_norm(x, weight, bias, *switch(2, threshold, C), eps),
    },
    {
        "gates": np.tile(shares, (N, 1)),
        "y, constant gates": reference.batch_norm(x, weight, bias, eps),
        "y, one mode": reference.batch_norm(x, weight, bias, eps),
        "y, switch": clusters,
    },
    tol=1e-12,
)

# %% tags=["check"]
own = np.random.default_rng(816)  # the check's own numbers
row, order = own.normal(size=C), np.array([2, 0, 1])
lesson.check(
    "another Psi",
    lambda: (
        dict(zip(("gate_weight", "gate_bias"), another_psi(*psi, order, row, 0.7), strict=True))
        | {"y": reference.mode_norm(x, weight, bias, *another_psi(*psi, order, row, 0.7), eps)}
    ),
    lambda: {
        "gate_weight": gate_weight[order] + row,
        "gate_bias": gate_bias[order] + 0.7,
        "y": reference.mode_norm(x, weight, bias, *psi, eps),
    },
    tol=1e-12,
)

# %% [markdown]
# Two more symmetries, about the batch. Shuffle its samples, and their $y$ are shuffled alike: every sum over $n$ stays
# as it is. Repeat the batch twice, and each half gets the $y$ it had: all $N_k$ double, all $w_{nk}$ halve. A batch
# norm that divides by $N-1$ fails the second one.
#
# ## Inference
#
# A test sample comes alone, so BN and MN use **running statistics** from training. Equation 4 keeps, for each mode, the
# two *moments*, and blends in every new batch with weight $\lambda$ (`momentum`, 0.1):
#
# $$\langle x\rangle_k \leftarrow \lambda \langle x\rangle_k^{\text{batch}} + (1-\lambda)\langle x\rangle_k, \qquad
# \langle x^2\rangle_k \leftarrow \lambda \langle x^2\rangle_k^{\text{batch}} + (1-\lambda)\langle x^2\rangle_k ,$$
#
# where $\langle x\rangle_k^{\text{batch}} = \mu_k$ and $\langle x^2\rangle_k^{\text{batch}} = \sigma_k^2 + \mu_k^2$.
# Algorithm 2 then sets $\mu_k = \langle x\rangle_k$ and $\sigma_k^2 = \langle x^2\rangle_k - \langle x\rangle_k^2$,
# computes the gates from the sample itself, and applies equation 2.
#
# **Why not a running variance, as in BN?** Because variances do not average. Moments are means, and the mean of the
# batches' means is the mean of all their values. Let $\mu_t, \sigma_t^2$ be the statistics of batch $t$, and average:
#
# $$\mathrm E_t[\langle x^2\rangle] - \mathrm E_t[\langle x\rangle]^2
# = \mathrm E_t[\sigma_t^2 + \mu_t^2] - \mathrm E_t[\mu_t]^2 = \mathrm E_t[\sigma_t^2] + \mathrm{Var}_t[\mu_t] .$$
#
# Total variance again, with batches as clusters. BN's running variance is the first term alone. So **with $K = 1$, MN
# and BN agree in training and differ in inference**, by the spread of the batches' means; MN's variance is the larger.
# For a mode that few samples of a batch take, that spread is not small.
#
# By Cauchy and Schwarz the difference of moments is never negative. Rounded moments do not know that (float32 at mean
# 3000 is enough), and one negative variance is a NaN in every later layer. So: keep them in float64, and clamp at 0.
# Both are minidl's choices. The paper is silent there, and the code that its authors released does not clamp.


# %% tags=["wrong"]
# check: running moments
# says: turned round
def update_moments(x, gate_weight, gate_bias, running_mean, running_mean_square, momentum):
    mu, var = mode_statistics(x, gates(x, gate_weight, gate_bias))
    new_mean = (1 - momentum) * mu + momentum * running_mean
    return new_mean, (1 - momentum) * (var + mu**2) + momentum * running_mean_square


# %% tags=["wrong"]
# check: inference
# says: NaN
def mode_norm_eval(x, weight, bias, gate_weight, gate_bias, running_mean, running_mean_square, eps):
    with np.errstate(invalid="ignore"):
        scale = 1 / np.sqrt(running_mean_square - running_mean**2 + eps)
    g = gates(x, gate_weight, gate_bias)
    s, u = g @ scale, g @ (scale * running_mean)
    return per_channel(weight) * (x * s[..., None, None] - u[..., None, None]) + per_channel(bias)


# %%
def update_moments(x, gate_weight, gate_bias, running_mean, running_mean_square, momentum):
    """Return the new running <x> and <x²>, (K, C) each (equation 4)."""
    ### BEGIN SOLUTION
    mu, var = mode_statistics(x, gates(x, gate_weight, gate_bias))
    new_mean = momentum * mu + (1 - momentum) * running_mean
    return new_mean, momentum * (var + mu**2) + (1 - momentum) * running_mean_square
    ### END SOLUTION


def mode_norm_eval(x, weight, bias, gate_weight, gate_bias, running_mean, running_mean_square, eps):
    """Return y (N, C, H, W) by running moments (K, C) (Algorithm 2)."""
    ### BEGIN SOLUTION
    var = np.maximum(running_mean_square - running_mean**2, 0)
    scale = 1 / np.sqrt(var + eps)  # (K, C)
    g = gates(x, gate_weight, gate_bias)
    s, u = g @ scale, g @ (scale * running_mean)  # (N, C): sum_k g (x - mu) scale = x·s - u
    return per_channel(weight) * (x * s[..., None, None] - u[..., None, None]) + per_channel(bias)
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(820)  # the check's own numbers
running = own.normal(size=(K, C)), own.uniform(2, 3, (K, C))
new_mean, new_square = reference.mode_norm_running(x, *psi, *running, 0.1)
lesson.check(
    "running moments",
    lambda: dict(zip(("<x>", "<x²>"), update_moments(x, *psi, *running, 0.1), strict=True)),
    {"<x>": new_mean, "<x²>": new_square},
    tol=1e-12,
    wrong={
        "momentum is turned round: it is the weight of the new batch": lambda: dict(
            zip(("<x>", "<x²>"), reference.mode_norm_running(x, *psi, *running, 0.9), strict=True)
        ),
        "the sums over the batch are not divided by N_k, what the mode got": lambda: {
            "<x>": 0.1 * g.T @ means + 0.9 * running[0],
            "<x²>": 0.1 * g.T @ (x**2).mean(axis=(2, 3)) + 0.9 * running[1],
        },
        "this blends the variance; equation 4 keeps the second moment, var + mu²": lambda: {
            "<x>": new_mean,
            "<x²>": 0.1 * by_definition(x, g / g.sum(axis=0))[1] + 0.9 * running[1],
        },
    },
)


# %% tags=["check"]
own = np.random.default_rng(821)  # the check's own numbers
rounded = new_mean, np.where(own.random((K, C)) < 0.2, new_mean**2 - 1e-3, new_square)  # some variances negative
lesson.check(
    "inference",
    lambda: {
        "y": mode_norm_eval(x, weight, bias, *psi, new_mean, new_square, eps),
        "y, rounded moments": mode_norm_eval(x, weight, bias, *psi, *rounded, eps),
    },
    lambda: {
        "y": reference.mode_norm_eval(x, weight, bias, *psi, new_mean, new_square, eps),
        "y, rounded moments": reference.mode_norm_eval(x, weight, bias, *psi, *rounded, eps),
    },
    tol={"y": 1e-12, "y, rounded moments": 1e-9},  # dividing by sqrt(eps) makes 300 of 1
    wrong={
        "these are the batch's statistics; inference takes the running ones": lambda: dict.fromkeys(
            ("y", "y, rounded moments"), reference.mode_norm(x, weight, bias, *psi, eps)
        ),
    },
)

# %% [markdown]
# ## See it, and break it
#
# **Predict** three things before you run the cell.
#
# 1. Batches of $N = 4$ images, one colour channel, $K = 1$. The images differ much in brightness, so the batches' means
#    spread, and BN's running variance is short of the truth. BN can also store the *unbiased* variance, times
#    $\frac{M}{M-1}$ with $M = NP = 4096$ values. Does that close the gap?
# 2. MN of a single image, with $K = 3$. Every mode's only sample is that image. Which norm is that?
# 3. A mode that nobody wants: its bias is $-1000$. What is $N_k$, and what becomes of $g_{nk}/N_k$?

# %% tags=["figure"]
pixels = train.images[:, :1] / 255  # (4600, 1, 32, 32)
layers = {
    "MN, K = 1": minidl.ModeNorm(1, num_modes=1, momentum=0.02, rng=rng, dtype="float64"),
    "BN, unbiased": minidl.BatchNorm(1, running="unbiased", momentum=0.02, dtype="float64"),
}
curves = {name: [] for name in layers}
for _ in range(600):
    batch = pixels[rng.choice(len(pixels), 4)]
    for name, layer in layers.items():
        layer(batch)
        b = {key: value.item() for key, value in layer.buffers.items()}
        curves[name].append(
            b["running_var"] if "running_var" in b else b["running_mean_square"] - b["running_mean"] ** 2
        )
figure, ax = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
ax.axhline(pixels.var(), color="k", lw=1, label="variance of the dataset")
for (name, curve), style in zip(curves.items(), ("C1", "C0"), strict=True):
    ax.plot(curve, style, label=name)
ax.set(xlabel="batches of 4 images seen", ylabel="running variance", ylim=(0.07, 0.17))
ax.set_title("An average of batch variances misses the spread of the batch means", fontsize="medium")
ax.legend(frameon=False, fontsize="small", ncols=2)
plt.show()
for name, curve in curves.items():
    print(f"{name:13} {np.mean(curve[300:]) / pixels.var():.3f} of the dataset's variance")

single = forward(x[:1], weight, bias, *psi, eps)
print("one image: differs from instance norm by", abs(single - reference.instance_norm(x[:1], weight, bias, eps)).max())

empty = reference.gates(x, gate_weight, gate_bias + np.array([0, 0, -1000]))[:, 2]
with np.errstate(invalid="ignore"):
    w = empty / empty.sum()
print("the empty mode's N_k:", empty.sum(), " its g/N_k:", w[:3], " what it adds to y: 0 times that =", 0 * w[0])

# %% [markdown]
# **One: no.** The factor $\frac{4096}{4095}$ is made for 4096 independent values. An image's pixels are anything but: a
# bright image is bright everywhere. For its mean, a batch holds closer to 4 independent values than to 4096. Is BN
# wrong, then? It is true to itself: in training it divided by batch deviations, in inference by their average. MN's
# inference describes the *data* better, and divides by a little more than training did. Both are conventions; what
# matters is to know which one a number came from.
#
# **Two: instance norm**, whatever the gates. No bug, but a warning. With many modes each $N_k$ is small, $\mu_k$ and
# $\sigma_k$ are noisy, and a mode drifts towards normalising every image by itself. The paper suspects this where
# $K = 6$ does worse than $K = 2$ at $N = 128$; at $N = 256$ its order is turned round.
#
# **Three: 0, and 0/0.** The gates of the empty mode are 0, so it should not matter. But $0 \cdot \mathrm{NaN}$ is NaN,
# and one unused mode spoils the whole batch. A small number added to $N_k$ hides this, and bends every other mode a
# little. Lesson 09 removes it without bending anything.
#
# ## In the package, in PyTorch
#
# `minidl/norm/mode.py` is this lesson made fast: `gates`, `mode_weights`, `mode_moments` and `mode_norm`, on $(N, C)$
# and $(K, C)$ arrays. `minidl/reference/mode.py` is it for reading, and `mode_inference.py` beside it is Algorithm 2.
# `minidl.ModeNorm` keeps the gates of its last batch in `layer.gates`.
#
# PyTorch has no MN. A usual implementation there stacks $K$ copies of $x$, so its cost grows with $K$; forgets to
# register the running moments as buffers, so that a saved model has none; and leaves the variance unclamped. Check any
# of them with `python -m minidl.check` (lesson 13).

# %%
lesson.done()
