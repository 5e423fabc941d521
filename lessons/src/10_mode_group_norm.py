# ---
# jupyter:
#   minidl:
#     title: Mode group normalization
#     minutes: 75
#     needs: ["07", "09"]
#     checks: 6
# ---

# %% [markdown]
# # 10 · Mode group normalization
#
# **Goal.** Mode normalization sorts the samples of a batch into modes. Mode group normalization (MGN, Algorithm 3 of
# the paper) sorts the *channels of one sample*, so it needs no batch at all. You write it, derive its whole backward
# pass, gates included, and verify it to 1e-12. On the way you find out what equation 5 really does, which is not what
# its name suggests.
#
# **You need.** Lessons 07 (moments, scale and shift) and 09 (the backward through gates). **Time.** About 75 minutes.
#
# Group normalization with $G = 2$ takes the first half of the channels as one group and the second half as the other.
# Why should channel 3 belong with channel 2 rather than with channel 17? MGN lets each channel of each sample choose,
# by a small learned map that looks at the channel's mean.
#
# **Predict before running.**
#
# 1. The map sees one number, the mean $m$ of a channel, and gives $K = 2$ gates. Into which two classes can it sort the
#    channels at all?
# 2. A channel has the gates $(1, 0)$: it is wholly in mode 1. By which mean and deviation is it normalised?
# 3. What is MGN with $K = 1$?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("10", checks=6)

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
from minidl import data, norm, reference

rng = np.random.default_rng(10)
N, C, H, W, K = 3, 7, 4, 5, 2
eps = 1e-5
x = rng.normal(size=(N, C, H, W)) * rng.uniform(0.5, 2, (N, C, 1, 1)) + 1.5 * rng.normal(size=(N, C, 1, 1))
weight, bias = rng.uniform(0.5, 1.5, C), rng.normal(size=C)
gate_weight, gate_bias = np.array([[0.8], [-0.5]]), np.array([0.3, -0.4])  # psi: R -> R^K
dy = rng.normal(size=x.shape)
args = x, weight, bias, gate_weight, gate_bias, eps
right = reference.mode_group_norm_backward(dy, *args)
right_gates = reference.channel_gates(x, gate_weight, gate_bias)


def map_moments(x):
    """Return mean and variance (N, C) of each feature map, as in lesson 07."""
    m = x.mean(axis=(2, 3))
    return m, ((x - maps(m)) ** 2).mean(axis=(2, 3))


def maps(a):
    """Return an (N, C) array as (N, C, 1, 1)."""
    return a[:, :, None, None]


def log_softmax(z, axis):
    """Return z − log sum exp z, the sum along the axis."""
    z = z - z.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


# %% [markdown]
# ## Algorithm 3, with shapes
#
# Let $P = H\cdot W$, and let $m_{nc}$ and $v_{nc}$ be mean and variance of a feature map over its pixels. The map
# $\psi:\mathbb R\to\mathbb R^K$ is affine, $\psi(t)_k = a_k\,t+b_k$, and the same for all channels: $2K$ parameters,
# however wide the layer.
#
# $$
# \begin{aligned}
# g_{nc} &= \mathrm{softmax}_k\,\psi(m_{nc}) && (N,C,K)\quad\text{gates: the shares of the modes in a channel}\\
# C_{nk} &= \textstyle\sum_c g_{nck} && (N,K)\quad\text{how many channels a mode has, in a sample}\\
# w_{nck} &= g_{nck}/C_{nk} && (N,C,K)\quad\text{weights of the channels in a mode: }\textstyle\sum_c w_{nck} = 1\\
# \mu_{nk} &= \textstyle\sum_c w_{nck}\,m_{nc} && (N,K)\\
# \sigma^2_{nk} &= \textstyle\sum_c w_{nck}\,[\,v_{nc}+(m_{nc}-\mu_{nk})^2\,] && (N,K)\\
# y_{nc} &= \frac{\mathrm{weight}_c}{K}\sum_k\frac{x_{nc}-\mu_{nk}}{\sqrt{\sigma^2_{nk}+\varepsilon}}+\mathrm{bias}_c
# && (N,C,H,W)\quad\text{equation 5}
# \end{aligned}
# $$
#
# Three remarks. The variance is the mean of $(x-\mu)^2$ over all pixels of the mode, by the law of total variance
# (lesson 07). The weights are computed as a softmax **over the channels** of $\log g$, since
# $g_{nck}/\sum_i g_{nik} = e^{\log g_{nck}}/\sum_i e^{\log g_{nik}}$: finite even if all gates of a mode underflow. And
# the sum over $k$ in the last line has the weight $1/K$, **not** the gates. Keep that in mind for question 2.
#
# **Two readings of the variance.** The paper says that estimators are computed "after average-pooling", from "channel
# values $x_c\in\mathbb R$". Read to the letter, the variance then sees the $m_{nc}$ alone and $v$ is left out:
# $\sigma^2_{nk} = \sum_c w_{nck}(m_{nc}-\mu_{nk})^2$. minidl offers both, as `moments="spatial"` (with $v$, the
# default) and `"pooled"` (without). Which one is the default is minidl's choice;
# you will see below why.


# %% tags=["wrong"]
# check: gates
# says: over the channels
def log_channel_gates(m, gate_weight, gate_bias):
    return log_softmax(m[:, :, None] * gate_weight[:, 0] + gate_bias, axis=1)


# %%
def log_channel_gates(m, gate_weight, gate_bias):
    """Return log g (N, C, K), for m (N, C), gate_weight (K, 1), gate_bias (K,)."""
    ### BEGIN SOLUTION
    return log_softmax(m[:, :, None] * gate_weight[:, 0] + gate_bias, axis=2)
    ### END SOLUTION


# %% tags=["check"]
lesson.check(
    "gates",
    lambda: np.exp(log_channel_gates(x.mean(axis=(2, 3)), gate_weight, gate_bias)),
    right_gates,
    tol=1e-13,
    wrong={
        "the softmax runs over the channels; a channel's gates add up to 1 over the modes": lambda: np.exp(
            log_softmax(x.mean(axis=(2, 3))[:, :, None] * gate_weight[:, 0] + gate_bias, axis=1)
        )
    },
)


# %% tags=["wrong"]
# check: y
# says: gates weigh the sum
def mode_group_norm(x, weight, bias, gate_weight, gate_bias, eps, moments="spatial"):
    m, v = map_moments(x)
    log_g = log_channel_gates(m, gate_weight, gate_bias)
    _, mu, var = mode_statistics(m, v * (moments == "spatial"), log_g)
    xhat = (x[..., None] - mu[:, :, None, None]) / np.sqrt(var + eps)[:, :, None, None]
    y = (np.exp(log_g)[:, :, None, None] * xhat).sum(axis=-1)
    return weight[:, None, None] * y + bias[:, None, None]


# %% tags=["wrong"]
# check: y
# says: pooled reading
def mode_statistics(m, v, log_g):
    w = np.exp(log_softmax(log_g, axis=1))
    mu = (w * m[:, :, None]).sum(axis=1, keepdims=True)
    return w, mu, (w * (m[:, :, None] - mu) ** 2).sum(axis=1, keepdims=True)


# %%
def mode_statistics(m, v, log_g):
    """Return w (N, C, K), mu (N, 1, K) and var (N, 1, K), for m, v (N, C)."""
    ### BEGIN SOLUTION
    w = np.exp(log_softmax(log_g, axis=1))
    mu = (w * m[:, :, None]).sum(axis=1, keepdims=True)
    var = (w * (v[:, :, None] + (m[:, :, None] - mu) ** 2)).sum(axis=1, keepdims=True)
    return w, mu, var
    ### END SOLUTION


def mode_group_norm(x, weight, bias, gate_weight, gate_bias, eps, moments="spatial"):
    """Return y (N, C, H, W) of equation 5; with moments="pooled", the variance is without v."""
    ### BEGIN SOLUTION
    m, v = map_moments(x)
    _, mu, var = mode_statistics(m, v * (moments == "spatial"), log_channel_gates(m, gate_weight, gate_bias))
    rstd = 1 / np.sqrt(var + eps)  # (N, 1, K)
    s = weight * rstd.mean(axis=2)  # (N, C)
    u = weight * (rstd * (m[:, :, None] - mu)).mean(axis=2) + bias
    return (x - maps(m)) * maps(s) + maps(u)
    ### END SOLUTION


# %% tags=["check"]
def both(function):
    return {moments: function(*args, moments=moments) for moments in ("spatial", "pooled")}


def gated(*args, moments):
    """Return y with mode normalization's sum, sum_k g_nck (x − mu_k)/sigma_k, in place of equation 5's."""
    g, (m, v), y = right_gates, map_moments(x), np.zeros_like(x)
    for k in range(K):
        w = g[:, :, k] / g[:, :, k].sum(axis=1, keepdims=True)
        mu = (w * m).sum(axis=1, keepdims=True)
        var = (w * (v * (moments == "spatial") + (m - mu) ** 2)).sum(axis=1, keepdims=True)
        y += maps(g[:, :, k] / np.sqrt(var + eps)) * (x - maps(mu))
    return weight[:, None, None] * y + bias[:, None, None]


lesson.check(
    "y",
    lambda: both(mode_group_norm),
    lambda: both(reference.mode_group_norm),
    tol=1e-11,
    wrong={
        "the gates weigh the sum over k, as in mode normalization; equation 5 has 1/K": lambda: both(gated),
        "both results are the pooled reading: v is left out": lambda: dict.fromkeys(
            ("spatial", "pooled"), reference.mode_group_norm(*args, moments="pooled")
        ),
    },
)

# %% [markdown]
# ## What equation 5 does
#
# Write $\mathrm{rstd}_{nk} = 1/\sqrt{\sigma^2_{nk}+\varepsilon}$ and pull the sum over $k$ apart:
#
# $$
# \frac1K\sum_k (x-\mu_k)\,\mathrm{rstd}_k
# = \underbrace{\Bigl(\tfrac1K\textstyle\sum_k\mathrm{rstd}_k\Bigr)}_{A_n}\;
#   \Bigl(x-\underbrace{\frac{\sum_k\mathrm{rstd}_k\,\mu_k}{\sum_k\mathrm{rstd}_k}}_{B_n}\Bigr).
# $$
#
# Neither $A_n$ nor $B_n$ depends on the channel. **All channels of a sample get the same scale and the same centre**,
# as in layer normalization; the modes only decide *which*. So the answer to question 2 is: by both modes, half each. A
# gate decides how much a channel counts **in** the statistics of a mode, not by which mode the channel is normalised.
# In particular GN with two groups is *not* a case of MGN: GN centres each group on its own mean. (In mode
# normalization, equation 2, the gate stands in both places.)
#
# What remains of the modes: $B_n$ is a mean of the mode means in which a narrow mode counts more; and $A_n$ is a mean
# of the modes' $1/\sigma$. A few channels with enormous values, which dominate layer norm's mean and variance, can be
# put into a wide mode of their own, and then hardly matter.
#
# Question 3: with $K = 1$ every gate is 1, $w = 1/C$, and $\mu$ and $\sigma$ are those of the whole sample: **MGN(1) =
# LN**, that is, GN with one group. The same holds for *any* $K$ as long as $a = 0$: gates that do not depend on $m$
# give every mode the weights $1/C$.


# %% tags=["wrong"]
# check: scale and centre
# says: narrow mode must count more
def scale_and_centre(x, gate_weight, gate_bias, eps):
    m, v = map_moments(x)
    _, mu, var = mode_statistics(m, v, log_channel_gates(m, gate_weight, gate_bias))
    return (1 / np.sqrt(var + eps)).mean(axis=2)[:, 0], mu.mean(axis=2)[:, 0]


# %%
def scale_and_centre(x, gate_weight, gate_bias, eps):
    """Return A (N,) and B (N,): without affine pair, y is A_n (x_n − B_n)."""
    ### BEGIN SOLUTION
    m, v = map_moments(x)
    _, mu, var = mode_statistics(m, v, log_channel_gates(m, gate_weight, gate_bias))
    rstd = 1 / np.sqrt(var + eps)
    return rstd.mean(axis=2)[:, 0], ((rstd * mu).sum(axis=2) / rstd.sum(axis=2))[:, 0]
    ### END SOLUTION


# %% tags=["check"]
def read_off(moments="spatial"):
    """Read A and B off the right y: from two values of x in a sample and their y, a line."""
    y = reference.mode_group_norm(x, np.ones(C), np.zeros(C), gate_weight, gate_bias, eps, moments)
    low, high = (np.unravel_index(f(axis=1), x.shape[1:]) for f in (x.reshape(N, -1).argmin, x.reshape(N, -1).argmax))
    n = np.arange(N)
    A = (y[n, *high] - y[n, *low]) / (x[n, *high] - x[n, *low])
    return {"A": A, "B": x[n, *low] - y[n, *low] / A}


lesson.check(
    "scale and centre",
    lambda: dict(zip("AB", scale_and_centre(x, gate_weight, gate_bias, eps), strict=True)),
    read_off,
    tol=1e-12,
    wrong={
        "B is the plain mean of the mode means; a narrow mode must count more": lambda: {
            **read_off(),
            "B": (right_gates * x.mean(axis=(2, 3))[:, :, None] / right_gates.sum(axis=1, keepdims=True))
            .sum(1)
            .mean(1),
        }
    },
)


# %% tags=["figure"]
train = data.load_task("multitask", sample=True).train
picked = [int(np.flatnonzero(train.source == i)[5]) for i in range(4)]
images = (train.images[picked] / 255).astype(np.float32)
features = minidl.Conv2d(3, 24, 5, rng=np.random.default_rng(2))(images).astype(np.float64)
m, v = map_moments(features)
psi = np.array([[12.0], [-12.0]]), np.zeros(2)
g = reference.channel_gates(features, *psi)
w = g / g.sum(axis=1, keepdims=True)
mu = (w * m[:, :, None]).sum(axis=1)
sigma = np.sqrt((w * (v[:, :, None] + (m[:, :, None] - mu[:, None]) ** 2)).sum(axis=1) + eps)
order = np.argsort(m.mean(axis=0))
fig, axes = plt.subplots(1, 4, figsize=(11, 5.2), sharex=True, sharey=True, layout="constrained")
for n, ax in enumerate(axes):
    ax.axvline(0, color="0.7", linewidth=1)
    ax.hlines(range(24), (m - np.sqrt(v))[n, order], (m + np.sqrt(v))[n, order], color="0.8")
    dots = ax.scatter(
        m[n, order], range(24), c=g[n, order, 0], cmap="coolwarm", vmin=0, vmax=1, zorder=3, edgecolor="k"
    )
    for k, colour in enumerate(("tab:red", "tab:blue")):
        ax.errorbar(
            mu[n, k], -2 - k, xerr=sigma[n, k], color=colour, marker="s", capsize=4, label=f"mode {k + 1}: mu ± sigma"
        )
    B = (mu[n] / sigma[n]).sum() / (1 / sigma[n]).sum()
    ax.plot(B, -4.2, "k^", markersize=9, label="B, the centre of MGN")
    ax.plot(m[n].mean(), -5.4, "x", color="tab:green", markersize=9, markeredgewidth=2.5, label="the centre of LN")
    ax.set(title=train.sources[n], xlabel="channel mean m", yticks=range(0, 24, 4))
axes[0].set_ylabel("channel, smallest mean first (bar: ± spread of its pixels)")
fig.colorbar(dots, label="gate of mode 1")
fig.legend(*axes[0].get_legend_handles_labels(), ncols=4, loc="outside lower center")
fig.suptitle("Each image sorts its own channels: right of one threshold into mode 1, left of it into mode 2")
plt.show()
init = minidl.ModeGroupNorm(24, num_modes=2, rng=np.random.default_rng(0))
init(features.astype(np.float32))
print(f"gates of mode 1 as initialised: {init.gates[..., 0].min():.3f} to {init.gates[..., 0].max():.3f}")

# %% [markdown]
# Here are 24 feature maps, of a random convolution, of one image of each data set; $\psi$'s threshold is at 0, since
# $a = (s, -s)$. That answers question 1. With $K = 2$, $g_1 = 1/(1+e^{-[(a_1-a_2)m+(b_1-b_2)]})$ is a logistic curve in $m$: *one*
# threshold, the same for all channels and samples, and a steepness. The same channel may be in mode 1 for one image and
# in mode 2 for the next. At the start of training the printed gates are nearly equal for all channels, since
# $a_1\approx a_2\approx 1/K$: MGN starts as layer norm, and has to learn to be more.
#
# ## Backward
#
# With lesson 07's cut, the images are dealt with: $y = (x-m)\,s+u$, and from $ds = \sum_p dy\,(x-m)$, $du = \sum_p dy$
# and the small function's $dm$, $dv$ follows $dx = s\,(dy-du/P)+2\,dv\,(x-m)/P+dm/P$. What is left is the small
# function, $(m,v)\to(s,u)$. Here it is in eight steps, forward on the left, with $\alpha$ for weight and $\beta$ for
# bias. $z$, $\ell$, $w$, $e$ are $(N,C,K)$; $\mu$, $\sigma^2$, $r$ are $(N,K)$; $m$, $v$, $s$, $u$ are $(N,C)$; a
# gradient has its variable's shape:
#
# $$
# \begin{array}{lll}
# ① & z_{nck} = a_k\,m_{nc}+b_k & da_k = \sum_{nc}dz\,m,\quad db_k = \sum_{nc}dz,\quad dm \mathrel{+}= \sum_k a_k\,dz_k\\
# ② & \ell = \log\mathrm{softmax}_k\,z\quad(=\log g) & dz = d\ell-g\,\sum_k d\ell_k\\
# ③ & w = \mathrm{softmax}_c\,\ell & d\ell = w\,(dw-\sum_c w\,dw)\\
# ④ & \mu_{nk} = \sum_c w\,m & dm \mathrel{+}= \sum_k w\,d\mu_k,\quad dw \mathrel{+}= d\mu\;m\\
# ⑤ & e_{nck} = m_{nc}-\mu_{nk} & dm = \sum_k de_k,\quad d\mu = -\sum_c de\\
# ⑥ & \sigma^2_{nk} = \sum_c w\,(v+e^2) & dv = \sum_k w\,d\sigma^2_k,\quad dw = d\sigma^2\,(v+e^2),\quad
#   de \mathrel{+}= 2\,w\,e\,d\sigma^2\\
# ⑦ & r_{nk} = (\sigma^2+\varepsilon)^{-1/2} & d\sigma^2 = -\frac12 r^3\,dr\\
# ⑧ & s = \alpha\,\frac1K\sum_k r_k,\quad u = \alpha\,\frac1K\sum_k r_k e_k+\beta
#   & dr = \sum_c\frac{\alpha}{K}(ds+du\,e),\quad de = \frac{\alpha}{K}\,du\;r
# \end{array}
# $$
#
# and from ⑧ also $d\alpha_c = \sum_n(ds\,\frac1K\sum_k r_k+du\,\frac1K\sum_k r_ke_k)$ and $d\beta_c = \sum_n du$. Read
# upwards from ⑧. Every line is a rule you know; the two softmaxes deserve a second look.
#
# ③ Let $w_c = e^{\ell_c}/S$ with $S = \sum_i e^{\ell_i}$. Then $\partial w_c/\partial\ell_j = w_c([c=j]-w_j)$, so
# $d\ell_j = \sum_c dw_c\,w_c([c=j]-w_j) = w_j\,(dw_j-\sum_c w_c\,dw_c)$. The subtracted term is the gradient through
# $C_{nk}$: raise one channel's gate, and all the others' weights shrink.
#
# ② $\ell_k = z_k-\log\sum_j e^{z_j}$, $\partial\ell_k/\partial z_j = [k=j]-g_j$, so
# $dz_j = d\ell_j-g_j\sum_k d\ell_k$.
#
# Two simplifications. In ⑤, $\sum_c 2\,w\,e\,d\sigma^2 = 2\,d\sigma^2\sum_c w\,(m-\mu) = 0$: the variance does not move
# with $\mu$, so $d\mu = -\frac1K\sum_c\alpha\,du\,r$. In ④, $m$ may be replaced by $e = m-\mu$ in $dw$: that changes
# $dw$ by the same number for every $c$, and ③ takes the mean away again. Better digits for free.
#
# Compare with lesson 09: there, $g$ stood in the sum of $y$ too and brought a second term $g\,dg$ into $d\ell$. Here
# the gates act on the statistics and nowhere else. With pooled moments, ⑥ has no $v$: $dv = 0$.


# %% tags=["wrong"]
# check: backward
# says: gates are constants
def mode_group_norm_backward(dy, x, weight, bias, gate_weight, gate_bias, eps):
    (m, v), p, k = map_moments(x), x.shape[2] * x.shape[3], len(gate_bias)
    w, mu, var = mode_statistics(m, v, log_channel_gates(m, gate_weight, gate_bias))
    d, r = m[:, :, None] - mu, 1 / np.sqrt(var + eps)
    s, shift = r.mean(axis=2), (r * d).mean(axis=2)
    ds, du = (dy * (x - maps(m))).sum(axis=(2, 3)), dy.sum(axis=(2, 3))
    ds_k, du_k = (weight * ds / k)[:, :, None], (weight * du / k)[:, :, None]
    dvar = -0.5 * r**3 * (ds_k + du_k * d).sum(axis=1, keepdims=True)
    dd = du_k * r
    dm = (dd + w * (2 * d * dvar - dd.sum(axis=1, keepdims=True))).sum(axis=2)
    dv = (w * dvar).sum(axis=2)
    dx = maps(weight * s) * (dy - maps(du) / p) + maps(2 * dv / p) * (x - maps(m)) + maps(dm) / p
    sums = {"dweight": (ds * s + du * shift).sum(axis=0), "dbias": du.sum(axis=0)}
    return {"dx": dx, **sums, "dgate_weight": 0 * gate_weight, "dgate_bias": 0 * gate_bias}


# %%
def mode_group_norm_backward(dy, x, weight, bias, gate_weight, gate_bias, eps):
    """Return {"dx", "dweight", "dbias", "dgate_weight" (K, 1), "dgate_bias" (K,)}, with spatial moments."""
    ### BEGIN SOLUTION
    (m, v), p, k = map_moments(x), x.shape[2] * x.shape[3], len(gate_bias)
    log_g = log_channel_gates(m, gate_weight, gate_bias)
    w, mu, var = mode_statistics(m, v, log_g)
    e, r = m[:, :, None] - mu, 1 / np.sqrt(var + eps)  # (N, C, K), (N, 1, K)
    s, shift = r.mean(axis=2), (r * e).mean(axis=2)  # (N, 1), (N, C): without weight
    ds, du = (dy * (x - maps(m))).sum(axis=(2, 3)), dy.sum(axis=(2, 3))
    dweight, dbias = (ds * s + du * shift).sum(axis=0), du.sum(axis=0)  # ⑧
    ds_k, du_k = (weight * ds / k)[:, :, None], (weight * du / k)[:, :, None]
    dr, de = (ds_k + du_k * e).sum(axis=1, keepdims=True), du_k * r
    dvar = -0.5 * r**3 * dr  # ⑦
    dmu = -de.sum(axis=1, keepdims=True)  # ⑤, where ⑥ adds nothing
    dv = (w * dvar).sum(axis=2)  # ⑥
    dm = (de + 2 * w * e * dvar + w * dmu).sum(axis=2)  # ⑤ ④
    dw = dvar * (v[:, :, None] + e**2) + dmu * e
    dlog_g = w * (dw - (w * dw).sum(axis=1, keepdims=True))  # ③
    dz = dlog_g - np.exp(log_g) * dlog_g.sum(axis=2, keepdims=True)  # ②
    dgate_weight, dgate_bias = (dz * m[:, :, None]).sum(axis=(0, 1))[:, None], dz.sum(axis=(0, 1))  # ①
    dm += dz @ gate_weight[:, 0]
    dx = maps(weight * s) * (dy - maps(du) / p) + maps(2 * dv / p) * (x - maps(m)) + maps(dm) / p
    return {"dx": dx, "dweight": dweight, "dbias": dbias, "dgate_weight": dgate_weight, "dgate_bias": dgate_bias}
    ### END SOLUTION


# %% tags=["check"]
def minidl_backward(follow_gates=1.0):
    """Return the gradients that minidl's layer; follow_gates=0 takes the gates as constants."""
    mean_parts, v, centred = norm.moments.moments(x)
    m = mean_parts.value()
    g, log_g = norm.mode_group.channel_gates(m, gate_weight, gate_bias)
    w = norm.mode_group.channel_weights(log_g)
    s, _, cache = norm.mode_group.mode_group_norm(m, v, w, weight, bias, eps)
    ds, du = norm.moments.scale_shift_sums(dy, centred)
    dm, dv, grads = norm.mode_group.mode_group_norm_backward(ds, du, g, m, follow_gates * gate_weight, True, cache)
    found = {"dx": norm.moments.scale_shift_backward(dy, centred, s, du, dm, dv)}
    found |= {"dweight": grads["weight"], "dbias": grads["bias"]}
    return found | {f"dgate_{name}": follow_gates * grads[f"gate.{name}"] for name in ("weight", "bias")}


# The layer that trains, against yours: five gradients to 1e-12.
lesson.check(
    "backward",
    lambda: mode_group_norm_backward(dy, *args),
    minidl_backward,
    tol=1e-12,
    wrong={"the gates are constants for it: steps ① to ③ are missing": lambda: minidl_backward(follow_gates=0)},
)


# %% tags=["check"]
def complex_step():
    """Return the gradients from the reference's *forward* alone: Im L(x + ih)/h has no rounding to speak of."""
    names, found = ("x", "weight", "bias", "gate_weight", "gate_bias"), {}
    for i, name in enumerate(names):
        found[f"d{name}"] = np.empty(args[i].shape)
        for at in np.ndindex(args[i].shape):
            moved = [a.astype(complex) if j == i else a for j, a in enumerate(args[:5])]
            moved[i][at] += 1e-100j
            found[f"d{name}"][at] = (dy * reference.mode_group_norm(*moved, eps)).sum().imag / 1e-100
    return found


# No backward pass is involved here, so a mistake that two derivations share would show.
lesson.check("complex step", lambda: mode_group_norm_backward(dy, *args), complex_step, tol=1e-12)

# %% [markdown]
# ## Same in training and in inference
#
# Nothing above looks at a second sample, so there is nothing to remember: no running statistics, no `eval()` that
# behaves otherwise, any batch size. The cell below shows it on minidl's layer, and the two identities with layer norm.
# Then it puts the two readings of the variance side by side.
# $\sigma^2_{\mathrm{spatial}}-\sigma^2_{\mathrm{pooled}} = \sum_c w\,v$: how much the *pixels* of a map vary.
# **Predict**: the channel means of a sample come closer and closer to each other, while the maps keep their contrast.
# What does $y$ do in the two readings?

# %% tags=["figure"]
layer = minidl.ModeGroupNorm(C, num_modes=2, rng=np.random.default_rng(1), dtype="float64")
y_train = layer(x)
y_eval = layer.eval()(x)
for what, psi in {
    "K = 1": (np.array([[0.8]]), np.ones(1)),
    "K = 3, a = 0": (np.zeros((3, 1)), rng.normal(size=3)),
}.items():
    y = reference.mode_group_norm(x, weight, bias, *psi, eps)
    print(f"{what:12}: |MGN − LN| is at most {np.abs(y - reference.layer_norm(x, weight, bias, eps)).max():.0e}")
print("training = evaluation:", np.array_equal(y_train, y_eval), "  buffers:", list(layer.buffers))
print(f"sample 0 alone, or in a batch of {N}: largest difference {np.abs(layer(x[:1]) - y_eval[:1]).max():.0e}")

m, _ = map_moments(x)
apart = np.logspace(0, -5, 26)  # the distance of the channel means, shrunk
fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
for moments, style in (("spatial", "o-"), ("pooled", "s-")):
    spread = []
    for t in apart:
        z = x - maps(m) + t * maps(m)
        spread.append(reference.mode_group_norm(z, np.ones(C), np.zeros(C), gate_weight, gate_bias, eps, moments).std())
    ax.loglog(apart, spread, style, markersize=4, label=f'moments="{moments}"')
ax.axhline(x.std(axis=(2, 3)).mean() / np.sqrt(eps), color="k", linestyle=":", label="spread of the pixels / sqrt(eps)")
ax.invert_xaxis()
ax.set(xlabel="channel means, multiplied by", ylabel="standard deviation of y")
ax.set_title("Pooled moments divide by the distance of the channel means alone")
ax.legend()
plt.show()

# %% [markdown]
# That is why `"spatial"` is the default: its $y$ has a spread near 1 whatever the channel means do, and its $K = 1$ is
# layer norm, as the paper says MGN should be built on GN. On inputs $(N, C)$, one value a map, $v = 0$ and the two
# agree.
#
# ## Break it
#
# **(a)** A sample with identical channels. What does $\psi$ do then, and what is its gradient? **(b)** A bias
# $b_2 = -30$, then $-2000$: nobody wants mode 2. Mode normalization then falls silent in that mode and becomes BN. Does
# MGN become LN? What does the plain formula $g/\sum_c g$ give? **(c)** One dead channel: a constant map (as after
# ReLU), with the largest mean, and a sharp $\psi$.

# %%
same = np.repeat(x[:, :1], C, axis=1)
found = reference.mode_group_norm_backward(dy, same, *args[1:])
ln = reference.layer_norm(same, weight, bias, eps)
print(f"(a) |MGN − LN| {np.abs(reference.mode_group_norm(same, *args[1:]) - ln).max():.0e},", end=" ")
print(f"|dgate_weight| {np.abs(found['dgate_weight']).max():.0e}, |dgate_bias| {np.abs(found['dgate_bias']).max():.0e}")

y = {b: reference.mode_group_norm(*args[:4], np.array([0.0, b]), eps) for b in (-30, -2000)}
g = reference.channel_gates(x, gate_weight, np.array([0.0, -2000.0]))
with np.errstate(invalid="ignore"):
    plain = g / g.sum(axis=1, keepdims=True)
print(f"(b) |y(b₂ = −2000) − y(b₂ = −30)| {np.abs(y[-2000] - y[-30]).max():.0e},", end=" ")
print(f"|MGN − LN| {np.abs(y[-2000] - reference.layer_norm(x, weight, bias, eps)).max():.2f},", end=" ")
print("weights by the plain formula:", plain[0, 0])

dead = x.copy()
dead[:, 3] = 6.0
for a in (0, 3, 10):  # the threshold lies at m = 5
    y = reference.mode_group_norm(dead, np.ones(C), np.zeros(C), np.array([[a], [0.0]]), np.array([-5.0 * a, 0.0]), eps)
    print(f"(c) a₁ − a₂ = {a:2}: standard deviation of y in the other channels {np.delete(y, 3, axis=1).std():6.2f}")

# %% [markdown]
# **(a)** Equal means have equal gates, $w = 1/C$ for every mode, and MGN is LN. All $dw$ of a mode are equal, ③ takes
# their mean away, and $\psi$'s gradient is 0: where there is nothing to sort, nothing is learned.
#
# **(b)** The softmax over channels is finite, the plain formula is $0/0$. And $y$ hardly cares how empty mode 2 is: in
# $w$, $b_2$ is the same for all channels and *cancels*. What stays is $w_{c2}\propto e^{(a_2-a_1)m_c}$, the statistics
# of those channels that come nearest to wanting the mode. They keep their vote, $1/K$ in equation 5. An empty mode of
# MN is silent, an empty mode of MGN is not. MGN returns to LN by $a_1 = a_2$, not by emptying a mode.
#
# **(c)** The sharp $\psi$ gives the dead channel a mode of its own. That mode's variance is nearly 0, its rstd nearly
# $1/\sqrt\varepsilon\approx 316$, and $A$, *every* channel's scale, is half of that. One channel of $C$ shouts down the
# sample. With GN the damage would stay in one group. Nothing in the formula forbids it; it is the price of scales that
# all channels share.
#
# ## Exercise: the threshold
#
# For $K = 2$, at which channel mean do both gates equal $1/2$? How steep is $g_1$ there, $\partial g_1/\partial m$?


# %% tags=["wrong"]
# check: threshold
# says: The threshold's sign is turned
def threshold(gate_weight, gate_bias):
    a, b = gate_weight[0, 0] - gate_weight[1, 0], gate_bias[0] - gate_bias[1]
    return b / a, a / 4


# %%
def threshold(gate_weight, gate_bias):
    """Return the mean m at which the two gates are equal, and the slope of the first gate there."""
    ### BEGIN SOLUTION
    a, b = gate_weight[0, 0] - gate_weight[1, 0], gate_bias[0] - gate_bias[1]
    return -b / a, a / 4  # the logistic function of a·m + b has the slope a·g·(1 − g)
    ### END SOLUTION


# %% tags=["check"]
def by_search():
    """Find the threshold by looking: the gates of many means; and the slope by a central difference."""
    low, high = -10.0, 10.0
    first = lambda t: reference.channel_gates(np.full((1, 1), t), gate_weight, gate_bias)[0, 0, 0]  # noqa: E731
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (first(middle) < 0.5) == (first(high) > 0.5) else (low, middle)
    return np.array([low, (first(low + 1e-4) - first(low - 1e-4)) / 2e-4])


# The search halves an interval 60 times; a central difference is good for eight digits.
lesson.check(
    "threshold",
    lambda: np.array(threshold(gate_weight, gate_bias)),
    by_search,
    tol=1e-7,
    wrong={
        "The threshold's sign is turned: there the two logits are equal, and their difference is 0.": lambda: (
            by_search() * [-1, 1]
        )
    },
)

# %% [markdown]
# ## In the package, and in PyTorch
#
# - `minidl/reference/mode_group.py`: Algorithm 3 in loops over samples and modes, with the same derivation in its
#   docstring.
# - `minidl/norm/mode_group.py`: your small function and its backward, line by line, between the passes of
#   `minidl/norm/moments.py`. Means are counted from each sample's first channel, so that a large offset costs no
#   digits.
# - `minidl.ModeGroupNorm(num_channels, num_modes, moments="spatial")`: `weight`, `bias` $(C,)$, `gate.weight` $(K,1)$,
#   `gate.bias` $(K,)$; after a forward, `layer.gates` $(N,C,K)$ can be looked at. It draws
#   $a = 1/K+0.01\,\mathcal N(0,1)$ and $b$ uniform in $\pm1$. The paper names no start: the released code draws MN's
#   gates so, and that MGN's are drawn alike is minidl's choice.
# - PyTorch has no MGN, and the code that the paper's authors released has none either: equation 5 and Algorithm 3 are
#   all there is to go by. The nearest relative is `nn.GroupNorm(1, C)`, which is $K = 1$.
#
# In the paper's Table 2, MGN with $K = 2$ has the smallest errors of four norms at batch sizes 4, 8 and 16. The next
# lesson trains such networks.

# %%
lesson.done()
