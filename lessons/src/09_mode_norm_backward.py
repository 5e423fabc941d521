# ---
# jupyter:
#   minidl:
#     title: Mode normalization II
#     minutes: 120
#     needs: ["03", "05", "07", "08"]
#     checks: 6
# ---

# %% [markdown]
# # 09 · Mode normalization II: backward, through the gates
#
# **Goal.** You derive and write the whole backward pass of mode normalization (MN), gates included, and see it agree
# with an independent derivative to twelve digits. On the way the modes become free: sixteen of them take hardly longer
# than one. And a mode that no sample takes stops being a danger.
#
# **You need.** Lessons 03 (complex step), 05 (backward through a mean and a variance), 07 (scale and shift) and 08.
# **Time.** About two hours. It is the steepest page of the course, and every step of it is small.
#
# **Predict.** Keep your answers; the page will come back to them.
#
# 1. A sample $x_n$ reaches $y$ straight. By how many *other* ways does it, and through what?
# 2. With $K = 1$, what gradient do the gates' parameters get?
# 3. What do the $K$ numbers of the gradient of `gate_bias` add up to?
# 4. Twice as many modes: how much longer does forward plus backward take?
#
# ## Something to check against
#
# First an oracle that shares nothing with what you will write. The function below is Algorithm 1 as it stands, pixels
# and all, and it accepts complex numbers. So the **complex step** of lesson 03 differentiates it to machine precision:
# move one input by $ih$ with $h = 10^{-30}$, and the imaginary part of the result divided by $h$ is the derivative.
#
# It has one trick more. Its inner values pass through `keep`, which drops the imaginary part of those named in
# `constant`. A derivative *is* that imaginary part, so dropping it means "as if this were a constant". In other words:
# the oracle can also compute the gradient that you get **when you forget a path**, and your checks will use this to
# tell you which one you forgot.

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("09", checks=6)

# %%
import timeit
from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np

import minidl
from minidl import reference

rng = np.random.default_rng(9)
N, C, H, W, K = 7, 5, 4, 3, 3
P, eps = H * W, 1e-5
x = rng.normal(rng.normal(size=(N, C, 1, 1)), rng.uniform(0.5, 2, (N, C, 1, 1)), (N, C, H, W))
params = {"weight": rng.uniform(0.5, 2, C), "bias": rng.normal(size=C)}
params |= {"gate_weight": rng.normal(size=(K, C)), "gate_bias": rng.normal(size=K)}
dy = rng.normal(size=x.shape)  # a random cotangent


def wide(a):
    """Return an (N, C) or (C,) array with two axes more, so that it broadcasts against (N, C, H, W)."""
    return a[..., None, None]


def algorithm_1(x, weight, bias, gate_weight, gate_bias, constant=()):
    def keep(name, a):
        return a.real if name in constant else a

    m = x.mean(axis=(2, 3))
    z = m @ gate_weight.T + gate_bias
    e = np.exp(z - z.real.max(axis=1, keepdims=True))
    g = keep("g", e / e.sum(axis=1, keepdims=True))
    w = g / keep("n_k", g.sum(axis=0))
    mu = keep("mu", w.T @ m)
    d = x - wide(mu)[:, None]  # (K, N, C, H, W): every mode meets every pixel
    var = keep("var", np.einsum("nk,knc->kc", w, (d**2).mean(axis=(3, 4))))
    return wide(weight) * np.einsum("nk,knchw->nchw", g, d / wide(np.sqrt(var + eps))[:, None]) + wide(bias)


def complex_step(f, cotangents, **point):
    """Return {"d" + name: gradient of sum_j <cotangent_j, f(**point)_j>} for every array of point."""
    grads = {f"d{name}": np.empty(a.shape) for name, a in point.items()}
    for name, a in point.items():
        for i in np.ndindex(a.shape):
            moved = a.astype(complex)
            moved[i] += 1e-30j
            outputs = f(**{**point, name: moved})
            grads[f"d{name}"][i] = sum((c * o.imag).sum() for c, o in zip(cotangents, outputs, strict=True)) / 1e-30
    return grads


# %% [markdown]
# ## The plan: pixels, small arrays, pixels
#
# Lesson 07 wrote every norm as moments → scale and shift → output. MN fits. Write $x - \mu_k = (x - m) + (m - \mu_k)$
# in equation 2, and call $\mathrm{scale}_{kc} = \alpha_c/\sqrt{\sigma^2_{kc} + \varepsilon}$:
#
# $$y = \sum_k g_{nk}\,\mathrm{scale}_k\,(x - \mu_k) + \beta
# = (x - m)\underbrace{\textstyle\sum_k g_{nk}\,\mathrm{scale}_k}_{s}
# + \underbrace{\textstyle\sum_k g_{nk}\,\mathrm{scale}_k\,(m - \mu_k) + \beta}_{u}.$$
#
# So forward is a pass over the pixels for $m, v$; a **small function** $(m, v) \to (s, u)$; and a pass for
# $y = (x - m)s + u$. The modes occur in the small function only. Here it is, step by step, as matrix products:
#
# | step | | shape |
# |---|---|---|
# | 1 | $z = m A^\top + b$ | $(N, K)$ |
# | 2 | $\log g_{nk} = z_{nk} - \log \sum_j e^{z_{nj}}$ | $(N, K)$ |
# | 3 | $w_{nk} = g_{nk}/N_k$, $\;N_k = \sum_n g_{nk}$ | $(N, K)$ |
# | 4 | $\mu = w^\top m$ | $(K, C)$ |
# | 5 | $\sigma^2_{kc} = \sum_n w_{nk}\,[v_{nc} + (m_{nc} - \mu_{kc})^2]$ | $(K, C)$ |
# | 6 | $\mathrm{rstd} = (\sigma^2 + \varepsilon)^{-1/2}$, $\;\mathrm{scale} = \alpha\,\mathrm{rstd}$ | $(K, C)$ |
# | 7 | $s = g\,\mathrm{scale}$ | $(N, C)$ |
# | 8 | $u = m \odot s - g\,(\mathrm{scale} \odot \mu) + \beta$ | $(N, C)$ |
#
# **Empty modes.** Lesson 08 ended with $g_{nk}/N_k = 0/0$. Put $g = e^{\log g}$ into step 3:
# $w_{nk} = e^{\log g_{nk}} / \sum_{n'} e^{\log g_{n'k}}$. That is a **softmax over the batch** of $\log g$, and a
# softmax may subtract its maximum first. Then one exponential is $e^0 = 1$ and the denominator at least 1, whatever the
# logits. $\log g$ must come from step 2 as written, as a difference; `np.log(g)` would be $\log 0$. A mode that nobody
# takes gets the statistics of the samples that refuse it least: finite, and multiplied by $g = 0$ afterwards. The paper
# is silent on empty modes, and the released code divides 0 by 0: this is minidl's choice, and it bends no other mode.


# %% tags=["wrong"]
# check: s and u
# says: NaN
def scale_and_shift(m, v, weight, bias, gate_weight, gate_bias, eps):
    z = m @ gate_weight.T + gate_bias
    g = np.exp(z - z.max(axis=1, keepdims=True))
    g /= g.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        w = g / g.sum(axis=0)
    mu = w.T @ m
    var = w.T @ v + np.einsum("nk,knc->kc", w, (m - mu[:, None]) ** 2)
    scale = weight / np.sqrt(var + eps)
    s = g @ scale
    return s, m * s - g @ (scale * mu) + bias, None


# %%
def scale_and_shift(m, v, weight, bias, gate_weight, gate_bias, eps):
    """Return s, u (N, C) and what backward needs: a SimpleNamespace with g, w, mu, rstd, scale."""
    ### BEGIN SOLUTION
    z = m @ gate_weight.T + gate_bias
    z = z - z.max(axis=1, keepdims=True)
    log_g = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    g = np.exp(log_g)
    w = np.exp(log_g - log_g.max(axis=0))
    w /= w.sum(axis=0)
    mu = w.T @ m
    var = w.T @ v + np.einsum("nk,knc->kc", w, (m - mu[:, None]) ** 2)
    rstd = 1 / np.sqrt(var + eps)
    scale = weight * rstd
    s = g @ scale
    u = m * s - g @ (scale * mu) + bias
    return s, u, SimpleNamespace(g=g, w=w, mu=mu, rstd=rstd, scale=scale)
    ### END SOLUTION


# %% tags=["check"]
m, v = x.mean(axis=(2, 3)), x.var(axis=(2, 3))
nobody = {**params, "gate_bias": params["gate_bias"] - np.array([0, 0, 1000])}  # mode 3 is empty
two_modes = {**params, "gate_weight": params["gate_weight"][:2], "gate_bias": params["gate_bias"][:2]}


def y_of(params):
    s, u, _ = scale_and_shift(m, v, **params, eps=eps)
    return (x - wide(m)) * wide(s) + wide(u)


lesson.check(
    "s and u",
    lambda: {"y": y_of(params), "y, an empty mode": y_of(nobody)},
    {"y": reference.mode_norm(x, **params, eps=eps), "y, an empty mode": reference.mode_norm(x, **two_modes, eps=eps)},
    tol=1e-12,
)

# %% [markdown]
# ## Backward over the pixels
#
# Given $dy$, $(N, C, H, W)$; wanted $dx$. In $y = (x - m)s + u$, $s$ and $u$ are one number per sample and channel, so
#
# $$du_{nc} = \sum_p dy_{ncp}, \qquad ds_{nc} = \sum_p dy_{ncp}\,(x_{ncp} - m_{nc}) \qquad (N, C)\ \text{each}.$$
#
# The small function's backward, which is still to come, turns them into $dm$ and $dv$, $(N, C)$: how the loss changes
# with $m$ and $v$ *as inputs of the small function*. A pixel then reaches the loss in three ways:
#
# - in $y$ itself, by $x_{ncp}$ and by the $m$ of $x - m$: $\;s\,dy_{ncp}$, and $-s\sum_p dy_{ncp} = -s\,du$ for $m$;
# - in $m = \frac1P\sum_p x_p$, with slope $1/P$: $\;(dm - s\,du)/P$ in all;
# - in $v = \frac1P\sum_p (x_p - m)^2$, with slope $2(x_p - m)/P$. ($v$ contains $m$ too, with slope
#   $-\frac2P\sum_p(x_p - m) = 0$.)
#
# $$\boxed{\;dx = s\,\bigl(dy - \tfrac{du}{P}\bigr) + \tfrac{2\,dv}{P}\,(x - m) + \tfrac{dm}{P}\;}$$
#
# Two passes over the pixels, for every norm of this course. All that is MN's own happens on small arrays.
#
# ## Backward through the sum (steps 8 and 7)
#
# $u = m \odot s - g\,(\mathrm{scale} \odot \mu) + \beta$ contains $s$, so the whole slope with respect to $s$ is
# $t = ds + du \odot m$, $(N, C)$. A matrix product $s = g\,\mathrm{scale}$ sends $t$ back as $t\,\mathrm{scale}^\top$ to
# $g$ and as $g^\top t$ to $\mathrm{scale}$; the other product works the same way with $-du$. Collect, per variable:
#
# $$
# \begin{aligned}
# dm &= du \odot s && (N, C)\\
# d\mathrm{scale} &= g^\top t - \mu \odot (g^\top du) && (K, C)\\
# d\mu &= -\,\mathrm{scale} \odot (g^\top du) && (K, C)\\
# dg &= t\,\mathrm{scale}^\top - du\,(\mathrm{scale} \odot \mu)^\top && (N, K)\\
# d\beta &= \textstyle\sum_n du_n && (C,)
# \end{aligned}
# $$
#
# This is $dm$'s first part; two more will be added. The same holds for $dg$.


# %%
def sum_backward(ds, du, m, g, mu, scale):
    """Return {"dm", "dg", "dmu", "dscale", "dbias"} of steps 7 and 8."""
    ### BEGIN SOLUTION
    t = ds + du * m
    g_du = g.T @ du
    return {
        "dm": du * (g @ scale),
        "dg": t @ scale.T - du @ (scale * mu).T,
        "dmu": -scale * g_du,
        "dscale": g.T @ t - mu * g_du,
        "dbias": du.sum(axis=0),
    }
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(907)  # the check's own numbers
g = reference.gates(x, params["gate_weight"], params["gate_bias"])
w = g / g.sum(axis=0)
mu = w.T @ m
rstd = 1 / np.sqrt(w.T @ v + np.einsum("nk,knc->kc", w, (m - mu[:, None]) ** 2) + eps)
scale = params["weight"] * rstd
ds, du = own.normal(size=(2, N, C))


def steps_7_and_8(m, g, mu, scale, bias):
    s = g @ scale
    return s, m * s - g @ (scale * mu) + bias


lesson.check(
    "back through the sum",
    lambda: sum_backward(ds, du, m, g, mu, scale),
    lambda: complex_step(steps_7_and_8, (ds, du), m=m, g=g, mu=mu, scale=scale, bias=params["bias"]),
    tol=1e-12,
    wrong={
        "u contains s: its slope is ds + du·m, not ds": lambda: sum_backward(ds - du * m, du, m, g, mu, scale),
    },
)

# %% [markdown]
# ## Backward through the statistics (steps 6, 5 and 4)
#
# Step 6 is a power, channel by channel and mode by mode:
#
# $$d\alpha_c = \sum_k d\mathrm{scale}_{kc}\,\mathrm{rstd}_{kc}, \qquad
# d\sigma^2 = -\tfrac12\,\alpha\,\mathrm{rstd}^3\,d\mathrm{scale} \qquad (K, C).$$
#
# Step 5, $\sigma^2_{kc} = \sum_n w_{nk}[v_{nc} + (m_{nc} - \mu_{kc})^2]$, has four inputs:
#
# $$
# \begin{aligned}
# dv_{nc} &= \textstyle\sum_k w_{nk}\,d\sigma^2_{kc} && (N, C)\\
# dw_{nk} &\mathrel{+}= \textstyle\sum_c d\sigma^2_{kc}\,[v_{nc} + (m_{nc} - \mu_{kc})^2] && (N, K)\\
# dm_{nc} &\mathrel{+}= \textstyle\sum_k 2\,w_{nk}\,d\sigma^2_{kc}\,(m_{nc} - \mu_{kc}) && (N, C)\\
# d\mu_{kc} &\mathrel{+}= -2\,d\sigma^2_{kc}\,\textstyle\sum_n w_{nk}(m_{nc} - \mu_{kc}) = 0
# \end{aligned}
# $$
#
# The last is zero because $\sum_n w_{nk} m_{nc} = \mu_{kc}$ and $\sum_n w_{nk} = 1$: a variance has its minimum where
# its centre is the mean, so it does not feel a small shift of the centre. Step 4, $\mu = w^\top m$, is a product:
#
# $$dm \mathrel{+}= w\,d\mu \quad (N, C), \qquad dw \mathrel{+}= m\,d\mu^\top \quad (N, K).$$


# %% tags=["wrong"]
# check: back through the statistics
# says: the gates move the variance too
def statistics_backward(dmu, dscale, m, v, w, mu, rstd, weight):
    dvar = -(rstd**3) / 2 * weight * dscale
    d = m - mu[:, None]
    dm = w @ dmu + 2 * np.einsum("nk,kc,knc->nc", w, dvar, d)
    return {"dm": dm, "dv": w @ dvar, "dw": m @ dmu.T, "dweight": (dscale * rstd).sum(axis=0)}


# %%
def statistics_backward(dmu, dscale, m, v, w, mu, rstd, weight):
    """Return {"dm", "dv", "dw", "dweight"} of steps 4 to 6, for dmu and dscale (K, C)."""
    ### BEGIN SOLUTION
    dvar = -(rstd**3) / 2 * weight * dscale  # (K, C)
    d = m - mu[:, None]  # (K, N, C)
    return {
        "dm": w @ dmu + 2 * np.einsum("nk,kc,knc->nc", w, dvar, d),
        "dv": w @ dvar,
        "dw": m @ dmu.T + v @ dvar.T + np.einsum("kc,knc->nk", dvar, d**2),
        "dweight": (dscale * rstd).sum(axis=0),
    }
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(910)  # the check's own numbers
dmu, dscale = own.normal(size=(2, K, C))


def steps_4_to_6(constant=False):
    def f(m, v, w, weight):
        mu, fixed = w.T @ m, w.real if constant else w
        var = fixed.T @ v + np.einsum("nk,knc->kc", fixed, (m - mu[:, None]) ** 2)
        return mu, weight / np.sqrt(var + eps)

    return complex_step(f, (dmu, dscale), m=m, v=v, w=w, weight=params["weight"])


lesson.check(
    "back through the statistics",
    lambda: statistics_backward(dmu, dscale, m, v, w, mu, rstd, params["weight"]),
    steps_4_to_6,
    tol=1e-12,
    wrong={"the gates move the variance too: dw lacks its part of step 5": lambda: steps_4_to_6(constant=True)},
)

# %% [markdown]
# ## Backward through the gates (steps 3, 2 and 1)
#
# The gates feel the loss twice: as shares in the sum ($dg$) and as weights in the statistics ($dw$).
#
# **Step 3** by hand: $w_{nk} = g_{nk}/N_k$ depends on $g_{nk}$ itself and, through $N_k = \sum_n g_{nk}$, on *every*
# sample's gate. So $N_k$ needs its own gradient, which all $dg_{nk}$ of that mode share:
#
# $$dN_k = -\sum_n dw_{nk}\,\frac{g_{nk}}{N_k^2} = -\frac1{N_k}\sum_n w_{nk}\,dw_{nk}, \qquad
# dg_{nk} \mathrel{+}= \frac{dw_{nk}}{N_k} + dN_k .$$
#
# For an empty mode that divides by zero again. Multiply by $g_{nk}$, and it does not. Let $q_{nk}$ be the gradient of
# $\log g_{nk}$, that is $g_{nk}\,dg_{nk}$ with everything in it:
#
# $$q_{nk} = g_{nk}\,dg_{nk} + w_{nk}\Bigl(dw_{nk} - \sum_{n'} w_{n'k}\,dw_{n'k}\Bigr) \qquad (N, K).$$
#
# The bracket is the backward of a softmax over $n$, as it must be: step 3 *is* one.
#
# **Step 2**, $\log g_{nk} = z_{nk} - \log\sum_j e^{z_{nj}}$: logit $z_{nj}$ raises $\log g_{nj}$ by 1, and lowers all
# $\log g_{nk}$ of the sample by $e^{z_{nj}}/\sum_i e^{z_{ni}} = g_{nj}$. Hence
#
# $$dz_{nj} = q_{nj} - g_{nj}\sum_k q_{nk} \qquad (N, K).$$
#
# Sum over $j$: since $\sum_j g_{nj} = 1$, each sample's $dz$ adds up to **zero**. **Step 1**, $z = mA^\top + b$:
#
# $$dA = dz^\top m \quad (K, C), \qquad db = \textstyle\sum_n dz_n \quad (K,), \qquad dm \mathrel{+}= dz\,A \quad (N, C).$$


# %% tags=["wrong"]
# check: back through the gates
# says: dN_k is missing
def gates_backward(dg, dw, m, g, w, gate_weight):
    q = g * dg + w * dw
    dz = q - g * q.sum(axis=1, keepdims=True)
    return {"dm": dz @ gate_weight, "dgate_weight": dz.T @ m, "dgate_bias": dz.sum(axis=0)}


# %% tags=["wrong"]
# check: back through the gates
# says: one sample's gates add up to 1
def gates_backward(dg, dw, m, g, w, gate_weight):
    dz = g * dg + w * (dw - (w * dw).sum(axis=0))
    return {"dm": dz @ gate_weight, "dgate_weight": dz.T @ m, "dgate_bias": dz.sum(axis=0)}


# %%
def gates_backward(dg, dw, m, g, w, gate_weight):
    """Return {"dm", "dgate_weight", "dgate_bias"} of steps 1 to 3, for dg and dw (N, K)."""
    ### BEGIN SOLUTION
    q = g * dg + w * (dw - (w * dw).sum(axis=0))
    dz = q - g * q.sum(axis=1, keepdims=True)
    return {"dm": dz @ gate_weight, "dgate_weight": dz.T @ m, "dgate_bias": dz.sum(axis=0)}
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(914)  # the check's own numbers
dg, dw = own.normal(size=(2, N, K))


def steps_1_to_3(constant=""):
    def f(m, gate_weight, gate_bias):
        e = np.exp(m @ gate_weight.T + gate_bias)
        total = e.sum(axis=1, keepdims=True)
        g = e / (total.real if constant == "total" else total)
        n_k = g.sum(axis=0)
        return g, g / (n_k.real if constant == "n_k" else n_k)

    return complex_step(f, (dg, dw), m=m, gate_weight=params["gate_weight"], gate_bias=params["gate_bias"])


lesson.check(
    "back through the gates",
    lambda: gates_backward(dg, dw, m, g, w, params["gate_weight"]),
    steps_1_to_3,
    tol=1e-12,
    wrong={
        "dN_k is missing: all gates of a mode share its N_k": lambda: steps_1_to_3("n_k"),
        "step 2 is missing: one sample's gates add up to 1": lambda: steps_1_to_3("total"),
    },
)

# %% [markdown]
# ## All of it
#
# Put the pieces in a row. The three parts of $dm$ add up, and the pixels' formula finishes.
#
# Question 1: four other ways. Through the gates into the sum; through the gates into $N_k$ and so into all weights
# $w$; through its mean into $\mu_k$; through its mean and its pixels into $\sigma_k$. Drop any of them and the gradient
# is wrong in a way that still trains, a little worse, with nothing to see. Hence this check: a random cotangent and all
# five gradients, against the reference in extended precision. Expect 1e-14.
#
# **And an empty mode?** Give mode 3 the bias $-1000$ and follow its column. $g_{n3} = 0$ makes $d\mathrm{scale}_3 = 0$
# and $d\mu_3 = 0$, hence $d\sigma^2_3 = 0$, hence its $dw$ is 0, and $q_{n3} = 0$. All is finite, and as if the mode did
# not exist; the check asks for that too. Good news for the numbers, bad news for the mode: *nothing pulls it back*.
# Lesson 12 meets such modes.


# %% tags=["wrong"]
# check: all gradients
# says: no gradient goes through the gates
def mode_norm_backward(dy, x, weight, bias, gate_weight, gate_bias, eps):
    m, v = x.mean(axis=(2, 3)), x.var(axis=(2, 3))
    _, _, f = scale_and_shift(m, v, weight, bias, gate_weight, gate_bias, eps)
    du, ds = dy.sum(axis=(2, 3)), (dy * (x - wide(m))).sum(axis=(2, 3))
    a = sum_backward(ds, du, m, f.g, f.mu, f.scale)
    b = statistics_backward(a["dmu"], a["dscale"], m, v, f.w, f.mu, f.rstd, weight)
    dx = wide(f.g @ f.scale) * (dy - wide(du) / P) + wide(2 * b["dv"] / P) * (x - wide(m)) + wide(a["dm"] + b["dm"]) / P
    grads = {"dx": dx, "dweight": b["dweight"], "dbias": a["dbias"]}
    return grads | {"dgate_weight": 0 * gate_weight, "dgate_bias": 0 * gate_bias}


# %%
def mode_norm_backward(dy, x, weight, bias, gate_weight, gate_bias, eps):
    """Return {"dx", "dweight", "dbias", "dgate_weight", "dgate_bias"}."""
    ### BEGIN SOLUTION
    p = x[0, 0].size
    m, v = x.mean(axis=(2, 3)), x.var(axis=(2, 3))
    s, _, f = scale_and_shift(m, v, weight, bias, gate_weight, gate_bias, eps)
    centred = x - wide(m)
    du, ds = dy.sum(axis=(2, 3)), (dy * centred).sum(axis=(2, 3))
    a = sum_backward(ds, du, m, f.g, f.mu, f.scale)
    b = statistics_backward(a["dmu"], a["dscale"], m, v, f.w, f.mu, f.rstd, weight)
    c = gates_backward(a["dg"], b["dw"], m, f.g, f.w, gate_weight)
    dm = a["dm"] + b["dm"] + c.pop("dm")
    dx = wide(s) * (dy - wide(du) / p) + wide(2 * b["dv"] / p) * centred + wide(dm) / p
    return {"dx": dx, "dweight": b["dweight"], "dbias": a["dbias"], **c}
    ### END SOLUTION


# %% tags=["check"]
def with_empty(gradients, empty):
    return gradients(params) | {"dx, an empty mode": gradients(empty)["dx"]}


def without(*names):
    return with_empty(lambda p: complex_step(lambda **a: [algorithm_1(**a, constant=names)], [dy], x=x, **p), two_modes)


exact = with_empty(lambda p: reference.mode_norm_backward(dy.astype(np.longdouble), x, **p, eps=eps), two_modes)
lesson.check(
    "all gradients",
    lambda: with_empty(lambda p: mode_norm_backward(dy, x, **p, eps=eps), nobody),
    exact,
    tol=1e-12,
    wrong={
        "no gradient goes through the gates": lambda: without("g"),
        "N_k is taken for a constant": lambda: without("n_k"),
        "mu_k and var_k are taken for constants": lambda: without("mu", "var"),
    },
)

# %% [markdown]
# ## See it: what a check can see
#
# Three ways to get the gradient of `gate_weight`, and how far each is from the truth (extended precision), over the step
# $h$. **Predict** the shape of the two curves that depend on $h$.


# %% tags=["figure"]
def package(dy, x, weight, bias, gate_weight, gate_bias, eps):
    layer = minidl.ModeNorm(len(weight), len(gate_bias), eps, dtype="float64")
    given = {"weight": weight, "bias": bias, "gate.weight": gate_weight, "gate.bias": gate_bias}
    layer.load_state({**layer.state(), **given})
    layer.forward(x)
    return {"dx": layer.backward(dy)} | {f"d{name.replace('.', '_')}": grad for name, grad in layer.grads.items()}


backward = lesson.yours(mode_norm_backward, package, check="all gradients")


def error(gradient):
    return float(abs(gradient - exact["dgate_weight"]).max() / abs(exact["dgate_weight"]).max())


def loss(gate_weight):
    return (dy * algorithm_1(x, **{**params, "gate_weight": gate_weight})).sum()


def numeric(slope):
    return error(np.reshape([slope(params["gate_weight"], e) for e in np.eye(K * C).reshape(-1, K, C)], (K, C)))


def central(h):
    return numeric(lambda at, e: (loss(at + h * e) - loss(at - h * e)) / (2 * h))


def imaginary(h):
    return max(numeric(lambda at, e: loss(at + 1j * h * e).imag / h), 1e-17)


steps = 10.0 ** np.arange(-16, 0)
figure, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
ax.loglog(steps, [central(h) for h in steps], "C0o-", ms=4, label="central difference")
ax.loglog(steps, [imaginary(h) for h in steps], "C2s-", ms=4, label="complex step")
ax.axhline(error(backward(dy, x, **params, eps=eps)["dgate_weight"]), color="k", label="backward, derived")
ax.axhline(error(without("n_k")["dgate_weight"]), color="C3", ls="--", label="backward without dN_k")
ax.set(xlabel="step h", ylabel="relative error of dgate_weight", ylim=(1e-17, 10))
ax.set_title("A central difference cannot see below 1e-10; the complex step sees the last digit", fontsize="medium")
ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(0.02, 0.45))
plt.show()
print("dgate_bias adds up to", float(backward(dy, x, **params, eps=eps)["dgate_bias"].sum()))

# %% [markdown]
# Question 3: they add up to zero, as each $dz_n$ does. That is lesson 08's finding, that the same constant added to all
# logits changes nothing, seen from behind. Question 2 is the extreme case: with one mode, a number that adds up to
# zero by itself *is* zero. The gates get no gradient, and MN's backward is BN's.
#
# ## Exercise: backward in inference
#
# In inference $\mu_k$ and $\sigma_k^2$ are running statistics: constants (lesson 08). So steps 3 to 5 are gone. What is
# left of `mode_norm_backward`? Take the pieces you have; it is shorter than you may think. (Who needs it? All who
# fine-tune with frozen statistics, or ask which pixels a trained network looks at.)


# %% tags=["wrong"]
# check: inference
# says: constants in inference
def mode_norm_eval_backward(dy, x, weight, bias, gate_weight, gate_bias, running_mean, running_mean_square, eps):
    return mode_norm_backward(dy, x, weight, bias, gate_weight, gate_bias, eps)


# %%
def mode_norm_eval_backward(dy, x, weight, bias, gate_weight, gate_bias, running_mean, running_mean_square, eps):
    """Return the same five gradients, with constant statistics (K, C)."""
    ### BEGIN SOLUTION
    p, m = x[0, 0].size, x.mean(axis=(2, 3))
    rstd = 1 / np.sqrt(np.maximum(running_mean_square - running_mean**2, 0) + eps)
    _, _, f = scale_and_shift(m, 0 * m, weight, bias, gate_weight, gate_bias, eps)  # for the gates alone
    du, ds = dy.sum(axis=(2, 3)), (dy * (x - wide(m))).sum(axis=(2, 3))
    a = sum_backward(ds, du, m, f.g, running_mean, weight * rstd)
    c = gates_backward(a["dg"], 0 * f.w, m, f.g, f.w, gate_weight)
    dx = wide(f.g @ (weight * rstd)) * (dy - wide(du) / p) + wide(a["dm"] + c.pop("dm")) / p
    return {"dx": dx, "dweight": (a["dscale"] * rstd).sum(axis=0), "dbias": a["dbias"], **c}
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(921)  # the check's own numbers
running = own.normal(size=(K, C)), own.uniform(4, 5, (K, C))
lesson.check(
    "inference",
    lambda: mode_norm_eval_backward(dy, x, *params.values(), *running, eps),
    lambda: reference.mode_norm_eval_backward(dy, x, *params.values(), *running, eps),
    tol=1e-12,
    wrong={
        "mu_k and var_k are constants in inference": lambda: reference.mode_norm_backward(dy, x, *params.values(), eps)
    },
)

# %% [markdown]
# ## See it: modes for free
#
# Question 4. The paper's algorithm, taken to the letter, passes over the pixels for every mode, and so does its
# backward. Below, `to_the_letter` does just that (without the gates' gradient, which is small in any case). Your
# function passes over the pixels a fixed number of times, and for each mode over $(N, C)$ numbers only, $P$ times
# fewer.


# %% tags=["figure"]
def to_the_letter(dy, x, weight, g, w):
    """Forward and backward of Algorithm 1, mode by mode, over the pixels; the gates are given."""
    p, y, dx = x[0, 0].size, np.zeros_like(x), np.zeros_like(x)
    for g_k, w_k in zip(g.T, w.T, strict=True):
        g_n, w_n = g_k[:, None, None, None], w_k[:, None, None, None]
        d = x - wide((w_n * x).sum(axis=(0, 2, 3)) / p)
        rstd = wide(1 / np.sqrt((w_n * d**2).sum(axis=(0, 2, 3)) / p + eps))
        y += g_n * d * rstd
        dxhat = g_n * wide(weight) * dy
        dvar = wide((dxhat * d).sum(axis=(0, 2, 3))) * rstd**3 / -2
        dx += dxhat * rstd + w_n / p * (2 * dvar * d - rstd * wide(dxhat.sum(axis=(0, 2, 3))))
    return wide(weight) * y, dx


def milliseconds(run, *args):
    return 1e3 * min(timeit.repeat(partial(run, *big, *args), number=1, repeat=5))


big, counts, weight, bias = rng.normal(size=(2, 64, 16, 16, 16)), (1, 2, 4, 8, 16), np.ones(16), np.zeros(16)
cost = {"to the letter": [], "moments": []}
for modes in counts:
    psi = rng.normal(size=(modes, 16)), np.zeros(modes)
    shares = reference.gates(big[1], *psi)
    cost["to the letter"].append(milliseconds(to_the_letter, weight, shares, shares / shares.sum(axis=0)))
    cost["moments"].append(milliseconds(backward, weight, bias, *psi, eps))
figure, ax = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
for (name, times), style in zip(cost.items(), ("C3o-", "C0o-"), strict=True):
    ax.plot(counts, times, style, label=name)
    print(f"{name:13}: 16 modes take {times[-1] / times[0]:.1f} times as long as one")
ax.set(xlabel="number of modes K", ylabel="forward + backward (ms)", xticks=counts, ylim=(0, None))
ax.set_title("A pass over the pixels for every mode, or modes on the moments", fontsize="medium")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## In the package, in PyTorch
#
# `minidl/norm/mode.py` has the small function and, right below it, its backward: your three pieces as one function of
# thirty lines, and footnote 3 of the paper (an affine pair per mode) for one line more. `minidl/norm/moments.py` has the
# passes over the pixels, which all six norms share. `minidl/reference/mode.py` is Algorithm 1 with its backward in plain
# loops; its step numbers run the other way, from the last line up.
#
# In PyTorch, autograd finds all four ways by itself; what people lose there are the other things: a `detach()` around
# the gates, 0/0 in an empty mode, and a cost that grows with $K$, because the formulas are followed to the letter.
# Autograd cannot know that the modes do not need the pixels. You can, by hand.

# %%
lesson.done()
