# ---
# jupyter:
#   minidl:
#     title: Layer, instance and group normalization
#     minutes: 75
#     needs: ["05", "06"]
#     checks: 6
# ---

# %% [markdown]
# # 07 · Layer, instance and group normalization
#
# **Goal.** You write batch, instance, layer and group normalization as *one* function with two settings. Then you write
# them a second time, cut in another place: two passes over the images that all norms share, and a tiny function in
# between that is the norm. That cut is how minidl is built, and it makes mode normalization, in the next lessons, a
# matter of a dozen lines.
#
# **You need.** Lesson 05 (BN's two backward passes) and, for the law of total variance, lesson 06. **Time.** About 75
# minutes.
#
# **Predict before running.** Take $x$ of shape $(N, C, H, W) = (4, 6, 5, 7)$.
#
# 1. How many means does each of the four norms compute (group normalization with 2 groups)? Of how many values each?
# 2. You replace sample 3 of the batch by another image. For which norms does $y$ of sample 0 change?
# 3. You make sample 0 twice as bright. For which norms does *its* $y$ change?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("07", checks=6)

# %%
import matplotlib.pyplot as plt
import numpy as np

from minidl import data, norm, reference

rng = np.random.default_rng(7)
N, C, H, W = 4, 6, 5, 7
eps = 1e-5
x = rng.normal(size=(N, C, H, W)) * rng.uniform(0.5, 3, (N, C, 1, 1)) + 2 * rng.normal(size=(N, C, 1, 1))
weight, bias = rng.uniform(0.5, 1.5, C), rng.normal(size=C)
dy = rng.normal(size=x.shape)
some_s, some_u, some_dm, some_dv = rng.normal(size=(4, N, C))
mean_parts, v_want, centred = norm.moments.moments(x)  # minidl's own passes
m_want = mean_parts.value()
# name: (how many groups the channels form, whether a set runs over the whole batch)
NORMS = {"BN": (C, True), "IN": (C, False), "LN": (1, False), "GN": (2, False)}


def reference_norms(suffix, *first):
    """Return the reference's batch_norm, instance_norm, layer_norm and group_norm (or their _backward) on x."""
    names = {"BN": "batch_norm", "IN": "instance_norm", "LN": "layer_norm", "GN": "group_norm"}
    functions = {key: getattr(reference, name + suffix) for key, name in names.items()}
    return {key: f(*first, x, *([2] if key == "GN" else []), weight, bias, eps) for key, f in functions.items()}


def channels(a):
    """Return a (C,) array as (1, C, 1, 1)."""
    return a.reshape(1, -1, 1, 1)


# %% [markdown]
# ## One function, four axis sets
#
# Every norm of this page does the same thing to a **set** of values: subtract their mean, divide by their standard
# deviation. Only the sets differ. They always hold all the pixels of a feature map; the open questions are *which
# channels share a set*, and *whether samples do*:
#
# | | channels in a set | samples in a set | sets | values in a set |
# |---|---|---|---|---|
# | batch norm | 1 | all | $C$ | $N\cdot H\cdot W$ |
# | instance norm | 1 | 1 | $N\cdot C$ | $H\cdot W$ |
# | layer norm | all | 1 | $N$ | $C\cdot H\cdot W$ |
# | group norm | $C/G$ neighbours | 1 | $N\cdot G$ | $(C/G)\cdot H\cdot W$ |
#
# View $x$ as $(N, G, C/G, H, W)$, which in NumPy is a `reshape` that moves nothing. Then the mean is over axes
# $(2, 3, 4)$, and over axis 0 too where a set runs over the batch. BN is the case $G = C$ with the batch. With
# $\hat x = (x-\mu)/\sqrt{\sigma^2+\varepsilon}$ back in the shape $(N,C,H,W)$, each **channel** (not each set) has its
# affine pair: $y_{nc} = \mathrm{weight}_c\,\hat x_{nc}+\mathrm{bias}_c$.


# %% tags=["wrong"]
# check: four norms
# says: far apart
def normalize(x, groups, over_batch, weight, bias, eps):
    n, c, h, w = x.shape
    sets = x.reshape(n, c // groups, groups, h, w)
    axes = (0, 1, 3, 4) if over_batch else (1, 3, 4)
    d = sets - sets.mean(axis=axes, keepdims=True)
    xhat = d / np.sqrt((d**2).mean(axis=axes, keepdims=True) + eps)
    return channels(weight) * xhat.reshape(x.shape) + channels(bias)


# %%
def normalize(x, groups, over_batch, weight, bias, eps):
    """Return y (N, C, H, W), normalised over the sets that `groups` and `over_batch` say."""
    ### BEGIN SOLUTION
    n, c, h, w = x.shape
    sets = x.reshape(n, groups, c // groups, h, w)
    axes = (0, 2, 3, 4) if over_batch else (2, 3, 4)
    d = sets - sets.mean(axis=axes, keepdims=True)
    xhat = d / np.sqrt((d**2).mean(axis=axes, keepdims=True) + eps)
    return channels(weight) * xhat.reshape(x.shape) + channels(bias)
    ### END SOLUTION


# %% tags=["check"]
order = np.array([0, 2, 4, 1, 3, 5])  # with the channels in this order, neighbours were two apart
lesson.check(
    "four norms",
    lambda: {name: normalize(x, *settings, weight, bias, eps) for name, settings in NORMS.items()},
    lambda: reference_norms(""),
    tol=1e-12,
    wrong={
        "GN's groups are of channels far apart (0, 2, 4), not of neighbours (0, 1, 2)": lambda: {
            **reference_norms(""),
            "GN": reference.group_norm(x[:, order], 2, weight[order], bias[order], eps)[:, np.argsort(order)],
        },
    },
)

# %% tags=["figure"]
fig, axes = plt.subplots(1, 4, figsize=(11, 3), sharey=True, layout="constrained")
for ax, (name, (groups, over_batch)) in zip(axes, NORMS.items(), strict=True):
    group = np.arange(C) // (C // groups)
    sets = group + groups * np.arange(N)[:, None] * (not over_batch)  # (N, C): the number of the set of a feature map
    count = sets.max() + 1
    ax.imshow((sets * 7) % count if count > 8 else sets, cmap="turbo" if count > 8 else "Set2", alpha=0.75)
    for c in range(C):
        for n in range(N):
            if sets[n, c] == sets[1, 2]:
                ax.add_patch(plt.Rectangle((c - 0.4, n - 0.4), 0.8, 0.8, fill=False, linewidth=2.5))
    ax.set(title=f"{name}: {count} sets of {sets.size // count}·H·W values", xlabel="channel c")
    ax.set_xticks(np.arange(0.5, C - 1), minor=True)
    ax.set_yticks(np.arange(0.5, N - 1), minor=True)
    ax.grid(which="minor", color="w", linewidth=3)
    ax.tick_params(which="minor", length=0)
axes[0].set(ylabel="sample n", yticks=range(N))
fig.suptitle("Who shares a mean? One tile is a feature map; framed: the set of sample 1, channel 2")
plt.show()

# %% [markdown]
# Questions 1 and 2 are in the picture: only BN's sets cross the samples. Question 3: all but BN's $y$ stays as it is
# (up to $\varepsilon$), for the factor 2 is in the whole set, and the set forgets its scale. BN's sets hold other
# images too.
#
# ## The idea that holds the norms together
#
# Now cut the computation elsewhere. Let $P = H\cdot W$ and give each feature map $(n, c)$ its own two moments,
#
# $$
# m_{nc} = \tfrac1P\textstyle\sum_p x_{ncp},\qquad v_{nc} = \tfrac1P\sum_p (x_{ncp}-m_{nc})^2,\qquad (N, C)\text{ each.}
# $$
#
# **These two small arrays are all that any of the norms needs to know of $x$.** For a set $A$ of feature maps, the mean
# is $\mu = \mathrm{mean}_A\,m$, because every map has the same number of pixels. And the variance: write
# $x-\mu = (x-m)+(m-\mu)$ and take the mean of the square over the pixels of one map,
#
# $$\tfrac1P\textstyle\sum_p(x_p-\mu)^2 = v + 2\,(m-\mu)\,\underbrace{\tfrac1P\sum_p(x_p-m)}_{0} + (m-\mu)^2,
# \qquad\text{so}\qquad \sigma^2 = \mathrm{mean}_A\,[\,v+(m-\mu)^2\,].$$
#
# Spread within the maps plus spread between them: the law of total variance, and nothing is subtracted, so nothing
# cancels (lesson 06). What the norm does with $x$ is then, writing $x-\mu = (x-m)+(m-\mu)$ once more,
#
# $$y = \mathrm{weight}\,\frac{x-\mu}{\sqrt{\sigma^2+\varepsilon}}+\mathrm{bias} = (x-m)\,s+u,\qquad
# s = \frac{\mathrm{weight}}{\sqrt{\sigma^2+\varepsilon}},\qquad u = \mathrm{bias}+s\,(m-\mu),$$
#
# with a scale $s$ and a shift $u$ that are one number a feature map, $(N,C)$. So every norm is three steps:
#
# > **moments** $x\to(m,v)$, a pass over the images · **the norm itself** $(m,v)\to(s,u)$, on $(N,C)$ arrays ·
# > **scale and shift** $(x,m,s,u)\to y$, a pass over the images


# %%
def moments(x):
    """Return m and v (N, C), for x (N, C, H, W)."""
    ### BEGIN SOLUTION
    m = x.mean(axis=(2, 3))
    return m, ((x - m[:, :, None, None]) ** 2).mean(axis=(2, 3))
    ### END SOLUTION


def scale_shift(x, m, s, u):
    """Return y = (x − m)·s + u (N, C, H, W), for m, s, u (N, C)."""
    ### BEGIN SOLUTION
    return (x - m[:, :, None, None]) * s[:, :, None, None] + u[:, :, None, None]
    ### END SOLUTION


# %% tags=["check"]
# Any s and u will do here: these two passes know nothing of norms.
lesson.check(
    "moments",
    lambda: dict(zip("mvy", (*moments(x), scale_shift(x, moments(x)[0], some_s, some_u)), strict=True)),
    {"m": m_want, "v": v_want, "y": norm.moments.scale_shift(centred, some_s, some_u, x.dtype)},
    tol=1e-12,
    wrong={
        "v divides by P − 1": lambda: {
            "m": m_want,
            "v": x.var(axis=(2, 3), ddof=1),
            "y": norm.moments.scale_shift(centred, some_s, some_u, x.dtype),
        }
    },
)

# %% [markdown]
# ## Backward through the two passes
#
# Take $y_{ncp} = (x_{ncp}-m_{nc})\,s_{nc}+u_{nc}$ and ask how $L$ depends on each of the four arrays. $u$ and $s$ were
# broadcast over $p$, so their gradients are sums over $p$:
#
# $$du_{nc} = \textstyle\sum_p dy_{ncp} =: D_0,\qquad ds_{nc} = \sum_p dy_{ncp}\,(x_{ncp}-m_{nc}) =: D_1 .$$
#
# Hand these to the norm's own backward (next section); it answers with $dm$ and $dv$, the gradients with respect to the
# small function's *inputs*, $(N,C)$ each. Now collect everything that reaches one value $x_{ncp}$:
#
# 1. directly, through $x$ in $(x-m)\,s$: $\;s\,dy$;
# 2. through $m$ in $(x-m)\,s$, which gives $m$ the gradient $-s\sum_p dy = -s\,D_0$; each of the $P$ pixels has a share
#    of $1/P$ in $m$: $\;-s\,D_0/P$;
# 3. through $m$ as input of the small function: $\;dm/P$;
# 4. through $v = \frac1P\sum_q(x_q-m)^2$:
#    $\;\partial v/\partial x_p = \frac2P(x_p-m)-\frac2P\sum_q(x_q-m)\, \frac{\partial m}{\partial x_p}$, and the last
#    sum is zero: $\;dv\cdot\frac2P(x_p-m)$.
#
# $$\boxed{\;dx = s\,\Bigl(dy-\frac{D_0}{P}\Bigr)+\frac{2\,dv}{P}\,(x-m)+\frac{dm}{P}\;}$$
#
# One pass for $D_0$ and $D_1$, one for $dx$. No norm has been named: this holds for all of them, those to come
# included.


# %% tags=["wrong"]
# check: passes
# says: dx lacks −s·D0/P
def scale_shift_backward(dy, x, m, s, du, dm, dv):
    p = x.shape[2] * x.shape[3]
    m, s, dm, dv = (a[:, :, None, None] for a in (m, s, dm, dv))
    return s * dy + 2 * dv / p * (x - m) + dm / p


# %%
def scale_shift_sums(dy, x, m):
    """Return ds and du (N, C), that is, D1 and D0."""
    ### BEGIN SOLUTION
    return (dy * (x - m[:, :, None, None])).sum(axis=(2, 3)), dy.sum(axis=(2, 3))
    ### END SOLUTION


def scale_shift_backward(dy, x, m, s, du, dm, dv):
    """Return dx (N, C, H, W), for m, s, du, dm, dv (N, C)."""
    ### BEGIN SOLUTION
    p = x.shape[2] * x.shape[3]
    slope, shift = 2 * dv / p, (dm - s * du) / p
    return s[:, :, None, None] * dy + slope[:, :, None, None] * (x - m[:, :, None, None]) + shift[:, :, None, None]
    ### END SOLUTION


# %% tags=["check"]
ds_want, du_want = norm.moments.scale_shift_sums(dy, centred)
dx_want = norm.moments.scale_shift_backward(dy, centred, some_s, du_want, some_dm, some_dv)
lesson.check(
    "passes",
    lambda: {
        **dict(zip(("ds", "du"), scale_shift_sums(dy, x, m_want), strict=True)),
        "dx": scale_shift_backward(dy, x, m_want, some_s, du_want, some_dm, some_dv),
    },
    {"ds": ds_want, "du": du_want, "dx": dx_want},
    tol=1e-12,
    wrong={
        "dx lacks −s·D0/P: m moves with x inside (x − m)·s too": lambda: {
            "ds": ds_want,
            "du": du_want,
            "dx": dx_want + (some_s * du_want)[:, :, None, None] / (H * W),
        }
    },
)

# %% [markdown]
# ## The norm itself, and its backward
#
# View $m$, $v$, $s$, $u$ as $(N, G, C/G)$ and weight, bias as $(G, C/G)$. A set is axis 2, with axis 0 where it runs
# over the batch; let $|A|$ be how many feature maps it holds. Forward, with $e = m-\mu$, and backward from the last
# line up; it is lesson 05's table once more, on arrays that are $H\cdot W$ times smaller:
#
# $$
# \begin{array}{lll}
# & \text{forward} & \text{backward}\\
# \hline
# ① & \mu = \mathrm{mean}_A\,m & dm \mathrel{+}= d\mu/|A|\\
# ② & e = m-\mu & dm = de,\quad d\mu = -\sum_A de\\
# ③ & \sigma^2 = \mathrm{mean}_A\,(v+e^2) & dv = d\sigma^2/|A|,\quad de \mathrel{+}= 2e\,d\sigma^2/|A|\\
# ④ & \mathrm{rstd} = (\sigma^2+\varepsilon)^{-1/2} & d\sigma^2 = -\frac12\mathrm{rstd}^3\,d\mathrm{rstd}\\
# ⑤ & s = \mathrm{weight}\cdot\mathrm{rstd} & d\mathrm{weight} = \sum_n t\,\mathrm{rstd},\quad
#   d\mathrm{rstd} = \sum_A \mathrm{weight}\; t\\
# ⑥ & u = \mathrm{bias}+s\,e & d\mathrm{bias} = \sum_n du,\quad t = ds+du\,e,\quad de = s\,du
# \end{array}
# $$
#
# $t$ is *all* of $\partial L/\partial s$: what came from the images, $ds$, and what comes through $u$. Note ⑤: in LN
# and GN a set holds several channels, so weight stays **inside** the sum. In BN it is constant in the set and may come
# out.


# %% tags=["wrong"]
# check: small
# says: spread of the means
def small(m, v, groups, over_batch, weight, bias, eps):
    axes = (0, 2) if over_batch else (2,)
    shape, m, v = m.shape, m.reshape(len(m), groups, -1), v.reshape(len(m), groups, -1)
    e = m - m.mean(axis=axes, keepdims=True)
    s = weight.reshape(groups, -1) / np.sqrt(v.mean(axis=axes, keepdims=True) + eps) + 0 * e
    return s.reshape(shape), (bias.reshape(groups, -1) + s * e).reshape(shape), None


# %% tags=["wrong"]
# check: backward
# says: s is in u too
def small_backward(ds, du, cache):
    e, s, rstd, weight, axes = cache
    shape, ds, du = ds.shape, ds.reshape(e.shape), du.reshape(e.shape)
    size = e.shape[2] * (len(e) if 0 in axes else 1)
    dvar = -0.5 * rstd**3 * (weight * ds).sum(axis=axes, keepdims=True)
    de = s * du + 2 * e * dvar / size
    dm = de - de.sum(axis=axes, keepdims=True) / size
    return (
        dm.reshape(shape),
        (dvar / size + 0 * e).reshape(shape),
        (ds * rstd).sum(axis=0).ravel(),
        du.sum(axis=0).ravel(),
    )


# %%
def small(m, v, groups, over_batch, weight, bias, eps):
    """Return s, u (N, C) and, for backward, (e, s, rstd, weight, axes) as (N, G, C/G) or what broadcasts to it."""
    ### BEGIN SOLUTION
    axes = (0, 2) if over_batch else (2,)
    shape, m, v = m.shape, m.reshape(len(m), groups, -1), v.reshape(len(m), groups, -1)
    weight, bias = weight.reshape(groups, -1), bias.reshape(groups, -1)
    e = m - m.mean(axis=axes, keepdims=True)
    rstd = 1 / np.sqrt((v + e**2).mean(axis=axes, keepdims=True) + eps)
    s = weight * rstd + 0 * e
    return s.reshape(shape), (bias + s * e).reshape(shape), (e, s, rstd, weight, axes)
    ### END SOLUTION


def small_backward(ds, du, cache):
    """Return dm, dv (N, C) and dweight, dbias (C,), for ds, du (N, C) and the cache of `small`."""
    ### BEGIN SOLUTION
    e, s, rstd, weight, axes = cache
    shape, ds, du = ds.shape, ds.reshape(e.shape), du.reshape(e.shape)
    size = e.shape[2] * (len(e) if 0 in axes else 1)
    t, de = ds + du * e, s * du  # ⑥
    dvar = -0.5 * rstd**3 * (weight * t).sum(axis=axes, keepdims=True)  # ⑤ ④
    de = de + 2 * e * dvar / size  # ③
    dm = de - de.sum(axis=axes, keepdims=True) / size  # ② ①
    dv = dvar / size + 0 * e
    return dm.reshape(shape), dv.reshape(shape), (t * rstd).sum(axis=0).ravel(), du.sum(axis=0).ravel()
    ### END SOLUTION


def norm_backward(dy, x, settings):
    """Return {"dx", "dweight", "dbias"} of any of the four norms, from your six functions."""
    m, v = moments(x)
    s, _, cache = small(m, v, *settings, weight, bias, eps)
    ds, du = scale_shift_sums(dy, x, m)
    dm, dv, dweight, dbias = small_backward(ds, du, cache)
    return {"dx": scale_shift_backward(dy, x, m, s, du, dm, dv), "dweight": dweight, "dbias": dbias}


# %% tags=["check"]
def set_mean(a, groups, over_batch):
    """Return the mean over the sets of an (N, C) array, repeated for each member of the set."""
    a = a.reshape(N, groups, -1).mean(axis=2).repeat(C // groups, axis=1)
    return a.mean(axis=0, keepdims=True).repeat(N, axis=0) if over_batch else a


def by_name(found):
    """Return {"BN": {"s": a}} as {"s of BN": a}."""
    return {f"{key} of {name}": a for name, arrays in found.items() for key, a in arrays.items()}


def scale_and_shift(name, settings):
    """Read u and s off the right y: over the pixels of a map, u is the mean of y and s its slope against x − m."""
    y = reference_norms("")[name]
    return {"s": ((x - m_want[:, :, None, None]) * y).mean(axis=(2, 3)) / v_want, "u": y.mean(axis=(2, 3))}


def without_spread(name, settings):
    s = weight / np.sqrt(set_mean(v_want, *settings) + eps)
    return {"s": s, "u": bias + s * (m_want - set_mean(m_want, *settings))}


def each(function):
    return by_name({name: function(name, settings) for name, settings in NORMS.items()})


lesson.check(
    "small",
    lambda: each(lambda _, how: dict(zip("su", small(m_want, v_want, *how, weight, bias, eps)[:2], strict=True))),
    lambda: each(scale_and_shift),
    tol=1e-12,
    wrong={"the variance lacks the spread of the means, (m − mu)²": lambda: each(without_spread)},
)


# %% tags=["check"]
def shift_forgotten(name, settings):
    """Return the gradients where t is ds alone."""
    right, e, du = reference_norms("_backward", dy)[name], m_want - set_mean(m_want, *settings), dy.sum(axis=(2, 3))
    rstd = 1 / np.sqrt(set_mean(v_want + e**2, *settings) + eps)
    xhat = (reference_norms("")[name] - channels(bias)) / channels(weight)
    extra = rstd**2 * set_mean(weight * du * e, *settings) / (H * W)
    return {
        **right,
        "dx": right["dx"] + extra[:, :, None, None] * xhat,
        "dweight": right["dweight"] - (rstd * du * e).sum(axis=0),
    }


# Twelve arrays, four norms, one backward. Expect 1e-13: the sums are longer than those of a single map.
lesson.check(
    "backward",
    lambda: each(lambda _, settings: norm_backward(dy, x, settings)),
    lambda: by_name(reference_norms("_backward", dy)),
    tol=1e-11,
    wrong={"t lacks du·e: s is in u too": lambda: each(shift_forgotten)},
)

# %% [markdown]
# Two identities come for free. With $G = 1$ all channels share a set: **GN(1) = LN**. With $G = C$ each has its own:
# **GN(C) = IN**. They are the same call of the same function, so they hold to the last bit.
#
# ## See it: what does each norm make of images?
#
# Four images from four data sets, normalised with the three colours as channels, in a batch of 64. A norm forgets the
# mean and the spread of each of its sets. Which difference between these images is left to the network afterwards?

# %% tags=["figure"]
normalized = lesson.yours(
    normalize,
    lambda x, groups, over_batch, *affine: (
        reference.batch_norm(x, *affine) if over_batch else reference.group_norm(x, groups, *affine)
    ),
    "four norms",
)
train = data.load_task("multitask", sample=True).train
images = train.images[rng.permutation(len(train))[:64]] / 255
for i in range(4):
    images[i] = train.images[np.flatnonzero(train.source == i)[5]] / 255
plain = np.ones(3), np.zeros(3), eps
rows = {"pixels": 4 * images - 2}
for name, settings in {"BN": (3, True), "LN": (1, False), "IN": (3, False)}.items():
    rows[name] = normalized(images, *settings, *plain)
fig, axes = plt.subplots(4, 4, figsize=(8, 8.6), layout="constrained")
for line, (name, y) in zip(axes, rows.items(), strict=True):
    for i, ax in enumerate(line):
        ax.imshow(np.clip(y[i].transpose(1, 2, 0) / 4 + 0.5, 0, 1))
        shown = images if name == "pixels" else y
        means = ", ".join(f"{a:.2f}".replace("-0.00", "0.00") for a in shown[i].mean(axis=(1, 2)))
        ax.set(xticks=[], yticks=[], xlabel=f"means {means}")
    line[0].set_ylabel(name, fontsize=14)
for ax, source in zip(axes[0], train.sources, strict=True):
    ax.set_title(source)
fig.suptitle("Means of red, green, blue: BN keeps an image's brightness, LN its tint, IN neither")
plt.show()

fig, ax = plt.subplots(figsize=(9, 4), layout="constrained")
for label, size in {"BN, N = 4": 4, "BN, N = 64": 64, "LN, any N": 4, "IN, any N": 4}.items():
    values = []
    for _ in range(40):
        batch = train.images[rng.integers(len(train), size=size)] / 255
        batch[0] = images[1]  # the car
        y = normalized(batch, *{"B": (3, True), "L": (1, False), "I": (3, False)}[label[0]], *plain)
        values.append(y[0, 0, 16, 16])
    ax.plot(values, ".-", label=label, markersize=8)
ax.set(xlabel="40 batches around the same image", ylabel="y of one pixel of the image")
ax.set_title("Only BN's answer depends on the company the image keeps")
fig.legend(ncols=4, loc="outside lower center")
plt.show()

# %% [markdown]
# This is why LN, IN and GN need no running statistics: training and evaluation are the same function, at any batch
# size, even at $N = 1$. What they pay is in the first picture: brightness and contrast *between* images were
# information.
#
# ## Break it
#
# A norm that looks at one sample alone needs enough values in a set. Predict what each norm gives **(a)** with one
# pixel a map, as after global pooling, **(b)** with two, and **(c)** in front of global pooling: how much do the pooled
# features of different samples differ?

# %%
one, two = rng.normal(size=(N, C, 1, 1)), rng.normal(size=(N, C, 1, 2))
print("(a) one pixel: max |y − bias|\n(b) two pixels: |y−bias|/weight\n(c) spread of the pooled y")
print("   (a)           (b)      (c)")
for name, settings in NORMS.items():
    a, b, c = (normalized(z, *settings, weight, bias, eps) - channels(bias) for z in (one, two, x))
    b = np.abs(b / channels(weight))
    spread = c.mean(axis=(2, 3)).std(axis=0).mean()
    print(f"{name} {np.abs(a).max():3.2g}  {b.min():.2f} to {b.max():.2f}  {spread:.1e}")

# %% [markdown]
# **(a)** In IN a set is then a single value, its own mean: $y = \mathrm{bias}$, $dx = 0$, and the network below learns
# nothing, without any error. GN does the same as soon as a group is one channel. PyTorch's `InstanceNorm2d` refuses
# such input in training; minidl, like PyTorch's `GroupNorm`, computes what the formula says. **(b)** Two values have
# mean and deviation such that one becomes $+1$ and the other $-1$ (less where they hardly differ and $\varepsilon$
# counts): of the input only *which is larger* is left. **(c)** IN sets the mean of every map to bias. Pool globally
# right after it, and all images have the same features: the spread is rounding.
#
# ## Exercise: PyTorch's layer norm
#
# `torch.nn.LayerNorm((C, H, W))` normalises the same sets as our LN, but has an affine pair for each *value*: weight
# and bias are $(C,H,W)$. Write its backward. (Start from lesson 05: with $g = d\hat x = \mathrm{weight}\cdot dy$,
# $dx = \mathrm{rstd}\,(g-\mathrm{mean}(g)-\hat x\,\mathrm{mean}(g\,\hat x))$ for any set. Which sums are over $n$?)


# %% tags=["wrong"]
# check: LayerNorm of PyTorch
# says: weight varies within the set
def layer_norm_backward(dy, x, weight, eps):
    axes = (1, 2, 3)
    rstd = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    xhat = (x - x.mean(axis=axes, keepdims=True)) * rstd
    dx = weight * rstd * (dy - dy.mean(axis=axes, keepdims=True) - xhat * (dy * xhat).mean(axis=axes, keepdims=True))
    return {"dx": dx, "dweight": (dy * xhat).sum(axis=0), "dbias": dy.sum(axis=0)}


# %%
def layer_norm_backward(dy, x, weight, eps):
    """Return {"dx": (N, C, H, W), "dweight": (C, H, W), "dbias": (C, H, W)}, for weight (C, H, W)."""
    ### BEGIN SOLUTION
    axes = (1, 2, 3)
    d = x - x.mean(axis=axes, keepdims=True)
    rstd = 1 / np.sqrt((d**2).mean(axis=axes, keepdims=True) + eps)
    xhat, g = d * rstd, weight * dy
    dx = rstd * (g - g.mean(axis=axes, keepdims=True) - xhat * (g * xhat).mean(axis=axes, keepdims=True))
    return {"dx": dx, "dweight": (dy * xhat).sum(axis=0), "dbias": dy.sum(axis=0)}
    ### END SOLUTION


# %% tags=["check"]
every_weight = np.random.default_rng(725).uniform(0.5, 1.5, (C, H, W))  # the check's own numbers


# On (N, F) inputs the two conventions agree, so the reference on flattened images is PyTorch's LayerNorm.
def pytorch(weight):
    flat = reference.layer_norm_backward(dy.reshape(N, -1), x.reshape(N, -1), weight.ravel(), 0 * weight.ravel(), eps)
    return {key: a.reshape(x.shape if key == "dx" else (C, H, W)) for key, a in flat.items()}


lesson.check(
    "LayerNorm of PyTorch",
    lambda: layer_norm_backward(dy, x, every_weight, eps),
    lambda: pytorch(every_weight),
    tol=1e-12,
    wrong={
        "weight varies within the set: it belongs inside the means, not in front of them": lambda: {
            **pytorch(every_weight),
            "dx": every_weight * pytorch(np.ones((C, H, W)))["dx"],
        }
    },
)

# %% [markdown]
# ## In the package, and in PyTorch
#
# - `minidl/norm/moments.py` has your four passes (`moments`, `scale_shift`, `scale_shift_sums`,
#   `scale_shift_backward`), with the digits of lesson 06 and the speed of lesson 04 looked after; `minidl/norm/base.py`
#   strings them together.
# - `minidl/norm/batch.py` and `group.py` are your `small`, one for sets over the batch and one for sets over channels;
#   `layer.py` and `instance.py` are GroupNorm with 1 and with $C$ groups, and hold nothing but a constructor.
# - The gain: the heavy passes were made fast *once*, and a norm with more means and variances pays for them on $(N,C)$
#   arrays only. That is how mode normalization gets its $K$ modes almost free of charge.
#
# | PyTorch | differs from minidl in |
# |---|---|
# | `nn.GroupNorm(G, C)` | nothing: one affine pair per channel |
# | `nn.InstanceNorm2d(C)` | **no** weight and bias unless `affine=True`; refuses one pixel in training |
# | `nn.LayerNorm(shape)` | normalises the *last* axes; weight and bias have that shape, one pair per value |
#
# Transformers use the last line with shape $(C,)$ on $(N, L, C)$: there a *token* is a set, as if each pixel had its
# own mean over the channels. The same name stands for two different sets; ask which axes.

# %%
lesson.done()
