# ---
# jupyter:
#   minidl:
#     title: What do the modes find?
#     minutes: 75
#     needs: ["08", "09", "11"]
#     checks: 5
# ---

# %% [markdown]
# # 12 · What do the modes find?
#
# **Goal.** You train LeNet with mode normalization (MN) on four datasets at once and look at its gates: which datasets a
# mode takes, how much it tells about them in nats, and which images it likes best. You find out why the first norm can
# see only one thing. Then you watch a mode take everything, and learn what drives it there.
#
# **You need.** Lessons 08 and 09, and the training loop of lesson 11. **Time.** About 75 minutes, of which the computer
# takes less than half a minute.
#
# Nobody tells MN's gates which dataset an image is from. The loss alone moves them. The paper's Figure 2 shows that in a
# VGG13 one mode of an early norm took reddish images and the other bluish ones, and that a late norm told small objects
# from large ones. Our question is the one that the multi-task experiment suggests: **do the modes find the datasets?**
#
# **Predict.** LeNet has two norms with $K = 2$ modes each, one after each convolution.
#
# 1. Four datasets, two modes. Which datasets will share a mode in the first norm?
# 2. If the modes told the datasets apart as well as two modes can, how many nats would they tell?
# 3. Will a mode be used more, the more it is used?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("12", checks=5)

# %%
from itertools import chain

import matplotlib.pyplot as plt
import numpy as np

import minidl
from minidl import data
from minidl.reproduce.gates import LayerGates

task = data.load_task("multitask", sample=True)
mean, std = data.channel_statistics(task.train)
sources = task.test.sources


def start(scale=1.0):
    """Return LeNet with MN, K = 2, and a loader; scale multiplies the weights of the second convolution."""
    draw_weights, draw_order = (np.random.default_rng(s) for s in np.random.SeedSequence(0).spawn(3)[:2])
    net = minidl.LeNet(40, norm=minidl.norm_factory("mn", modes=2), rng=draw_weights)
    net.layers[4].params["weight"] *= scale
    return net, data.Loader(task.train, 128, mean=mean, std=std, drop_last=True, rng=draw_order)


def train(net, loader, epochs, before_step=lambda norm: None):
    """Train; return a list with (source, gates of norm 1, gates of norm 2) of every batch."""
    criterion, optimiser, seen = minidl.SoftmaxCrossEntropy(), minidl.SGD(net, lr=0.1, momentum=0.9), []
    with minidl.threads(2):
        for update, (x, labels, source) in enumerate(chain.from_iterable([loader] * epochs)):
            optimiser.lr = 0.1 if update < 0.75 * epochs * len(loader) else 0.01
            criterion.forward(net.forward(x), labels)
            optimiser.zero_grad()
            net.backward(criterion.backward())
            for norm in (net.layers[1], net.layers[5]):
                before_step(norm)
            optimiser.step()
            seen.append((source, net.layers[1].gates, net.layers[5].gates))
    return seen


def gates_of_test_images(net):
    """Return [gates of norm 1, gates of norm 2] in inference, (M, K) each."""
    found, loader = ([], []), data.Loader(task.test, 128, mean=mean, std=std, shuffle=False)
    net.eval()
    for x, _, _ in loader:
        net.forward(x)
        for gates, norm in zip(found, (net.layers[1], net.layers[5]), strict=True):
            gates.append(norm.gates)
    net.train()
    return [np.concatenate(gates) for gates in found]


net, loader = start()
first_weight = net.layers[4].params["weight"].copy()
seen = train(net, loader, epochs=6)
test_gates = gates_of_test_images(net)

# %% [markdown]
# ## A dataset's gates
#
# The simplest summary: average the gate vectors of all images of a dataset. With $g$ of shape $(M, K)$ and dataset $d$
# having $M_d$ images, $\bar g_{dk} = \frac1{M_d}\sum_{n \in d} g_{nk}$, $(D, K)$. Each row adds up to 1: the share of
# each mode in that dataset.


# %%
def mean_gates(g, source, datasets):
    """Return (D, K) for gates g (M, K), source (M,) in 0 .. datasets - 1."""
    ### BEGIN SOLUTION
    return np.stack([g[source == d].mean(axis=0) for d in range(datasets)])
    ### END SOLUTION


# %% tags=["check"]
rng = np.random.default_rng(12)
logits = rng.normal(size=(70, 3)) * 2
g = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
source = rng.choice(4, 70, p=[0.4, 0.3, 0.2, 0.1])  # datasets of different sizes
known = LayerGates("", g, source, sources)
lesson.check("mean gates", lambda: mean_gates(g, source, 4), known.means(), tol=1e-12)

# %% tags=["figure"]
means_of = lesson.yours(mean_gates, lambda g, source, _: LayerGates("", g, source, sources).means(), check="mean gates")
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
for norm, ax in enumerate(axes):
    track = np.array([means_of(batch[1 + norm], batch[0], 4)[:, 0] for batch in seen])  # (updates, D)
    smooth = np.array([track[max(0, i - 9) : i + 1].mean(axis=0) for i in range(len(track))])
    for d, name in enumerate(sources):
        ax.plot(np.arange(len(track)) / len(loader), smooth[:, d], color=f"C{d}", label=name)
    ax.set(xlabel="epoch", title=f"norm {norm + 1}", ylim=(0, 1))
axes[0].set_ylabel("mean gate of mode 1")
axes[0].legend(frameon=False, fontsize="small")
figure.suptitle("The gates start equal, wait, and part: datasets go to modes without being told", fontsize="medium")
plt.show()
for norm, g_test in enumerate(test_gates):
    first = means_of(g_test, task.test.source, 4)[:, 0]
    shares = ", ".join(f"{name} {share:.2f}" for name, share in zip(sources, first, strict=True))
    print(f"norm {norm + 1}, mode 1 on the test images: {shares}")

# %% [markdown]
# ## How much does a mode tell? Entropy
#
# "0.9 against 0.4" looks like a lot. A number that can be compared comes from information theory. The **entropy** of a
# distribution $p$ over $K$ things is
#
# $$H(p) = -\sum_k p_k \ln p_k \quad \text{nats},$$
#
# 0 if one $p_k$ is 1, and $\ln K$, the largest possible, if all are equal. ($-p\ln p \to 0$ as $p \to 0$; in floating
# point $0 \cdot \ln 0$ is NaN, so a vanished gate needs care.) Two entropies describe a norm: of its usage, $H(\bar g)$
# with $\bar g$ the mean over all images, and the mean entropy of single images, $\overline{H(g_n)}$. If the first is
# near $\ln K$ and the second near 0, the modes are used alike and every image makes a clear choice. If *both* are near
# $\ln K$, the gates do not choose at all.
#
# ## Mutual information
#
# Draw an image; let $d$ be its dataset. Draw a mode $k$ by the image's gates. How much does $k$ tell about $d$? Their
# joint probability is $p_{dk} = p_d\,\bar g_{dk}$ with $p_d = M_d/M$, and the marginal of $k$ is
# $p_k = \sum_d p_d\,\bar g_{dk}$. Mutual information compares the joint distribution with independence:
#
# $$I = \sum_{d,k} p_{dk} \ln\frac{p_{dk}}{p_d\,p_k}
# = \sum_{d,k} p_d\,\bar g_{dk} \ln \bar g_{dk} - \sum_k p_k \ln p_k
# = H(p_{k}) - \sum_d p_d\,H(\bar g_d).$$
#
# (Cancel $p_d$ in the fraction, split the logarithm, and sum the second part over $d$.) In words: the entropy of the
# mode, less what is left of it once the dataset is known. It is 0 if all datasets have the same mean gates. It cannot
# exceed $H(p_k) \le \ln K$, nor the entropy of the dataset. That is question 2: with two modes, $\ln 2 = 0.69$ nats.


# %% tags=["wrong"]
# check: entropy
# says: nats
def entropy(p):
    return -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=-1)


# %% tags=["wrong"]
# check: entropy
# says: NaN
def entropy(p):
    with np.errstate(all="ignore"):
        return -(p * np.log(p)).sum(axis=-1)


# %% tags=["wrong"]
# check: information
# says: what a mode tells of the image
def information(g, source, datasets):
    return entropy(g.mean(axis=0)) - entropy(g).mean()


# %% tags=["wrong"]
# check: information
# says: weigh each dataset by its share of the images
def information(g, source, datasets):
    means = mean_gates(g, source, datasets)
    return entropy(means.mean(axis=0)) - entropy(means).mean()


# %%
def entropy(p):
    """Return H in nats along the last axis of p, whose entries may be 0."""
    ### BEGIN SOLUTION
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)
    ### END SOLUTION


def information(g, source, datasets):
    """Return I in nats, for gates g (M, K) and source (M,)."""
    ### BEGIN SOLUTION
    means = mean_gates(g, source, datasets)
    p = np.bincount(source, minlength=datasets) / len(source)
    return entropy(p @ means) - p @ entropy(means)
    ### END SOLUTION


# %% tags=["check"]
some = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
by_hand = np.array([np.log(2), 0, -0.2 * np.log(0.2) - 0.3 * np.log(0.3) - 0.5 * np.log(0.5)])
lesson.check(
    "entropy",
    lambda: entropy(some),
    by_hand,
    tol=1e-12,
    wrong={"these are bits, of the logarithm to base 2; nats take ln": lambda: by_hand / np.log(2)},
)


# %% tags=["check"]
def plain(p):
    return -(p * np.log(p)).sum(axis=-1)


lesson.check(
    "information",
    lambda: np.array(information(g, source, 4)),
    known.information()[0],
    tol=1e-12,
    wrong={
        "this is what a mode tells of the image, not of its dataset": lambda: plain(g.mean(axis=0)) - plain(g).mean(),
        "weigh each dataset by its share of the images": lambda: (
            plain(known.means().mean(axis=0)) - plain(known.means()).mean()
        ),
        "this is the entropy of the mode; take away what is left of it once the dataset is known": lambda: plain(
            g.mean(axis=0)
        ),
        "this is what is left of the mode's entropy once the dataset is known; what it tells is the rest": lambda: (
            plain(g.mean(axis=0)) - known.information()[0]
        ),
    },
)


# %%
def package_information(g, source, datasets):
    return LayerGates("", g, source, sources).information()[0]


nats = lesson.yours(information, package_information, check="information")
for norm, g_test in enumerate(test_gates):
    chance = max(nats(g_test, rng.permutation(task.test.source), 4) for _ in range(50))
    print(f"norm {norm + 1}: a mode tells {nats(g_test, task.test.source, 4):.3f} of at most {np.log(2):.3f} nats;")
    print(f"        with the datasets' names shuffled among the images, at most {chance:.4f} in 50 tries")

# %% [markdown]
# The shuffle is the control. Information estimated from a finite sample is never quite 0, so one must know what *no*
# connection looks like; here it is far below what was found. So the modes do tell the datasets apart, in part: not
# because somebody wants them to, but because it helps to tell forty classes apart. (And not by naming a dataset each:
# with four datasets and two modes they cannot.)
#
# ## Which images does a mode like best?
#
# Figure 2 of the paper shows the images with the highest gates. Sorting by the gate looks easy, and there is a trap. A
# gate of $1 - 10^{-17}$ is rounded to 1: all confident images tie, and the order among them is an accident. The *other*
# gates still know: $10^{-17}$ and $10^{-30}$ are different numbers. So sort by the sum of the other gates, smallest first.


# %% tags=["wrong"]
# check: highest gates
# says: round to 1 and tie
def highest(g, mode, count):
    return np.argsort(-g[:, mode], kind="stable")[:count]


# %%
def highest(g, mode, count):
    """Return the indices of the count images with the highest gate of this mode, the highest first."""
    ### BEGIN SOLUTION
    others = np.delete(g, mode, axis=1).sum(axis=1)
    return np.argsort(others, kind="stable")[:count]
    ### END SOLUTION


# %% tags=["check"]
sure = np.exp(30 * (logits - logits.max(axis=1, keepdims=True)))
sure /= sure.sum(axis=1, keepdims=True)  # many gates round to 1
lesson.check(
    "highest gates",
    lambda: highest(sure, 1, 12),
    LayerGates("", sure, source, sources).highest(1, 12),
    tol=0.1,
    wrong={
        "high gates round to 1 and tie; the other gates tell them apart": lambda: np.argsort(
            -sure[:, 1], kind="stable"
        )[:12],
        "these images like the mode least: the smallest sum of the other gates comes first": lambda: np.argsort(
            sure[:, np.arange(sure.shape[1]) != 1].sum(axis=1), kind="stable"
        )[-12:],
    },
)

# %% tags=["figure"]
best = lesson.yours(
    highest, lambda g, k, n: LayerGates("", g, task.test.source, sources).highest(k, n), "highest gates"
)
figure, axes = plt.subplots(4, 12, figsize=(9, 3.3), layout="constrained")
for row, (norm, mode) in zip(axes, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
    for ax, image in zip(row, best(test_gates[norm], mode, 12), strict=True):
        ax.imshow(np.moveaxis(task.test.images[image], 0, -1))
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(f"norm {norm + 1}\nmode {mode + 1}", fontsize="small", rotation=0, ha="right", va="center")
figure.suptitle("The twelve test images with the highest gate of each mode", fontsize="medium")
plt.show()

# %% [markdown]
# ## Why the first norm can only see colour
#
# In the first norm one mode takes dark images, the other bright ones. It *cannot* do much else. The gate of a norm sees
# channel means, and here the channels come straight from a convolution of the image. The mean over all positions of a
# convolution is
#
# $$m_o = \frac1{P}\sum_{\text{positions}} \sum_{c,i,j} W_{ocij}\, x_c(\text{position} + (i, j))
# = \sum_{c,i,j} W_{ocij}\, \Bigl[\text{mean of } x_c \text{ over a } 28 \times 28 \text{ window}\Bigr].$$
#
# There are 25 windows, one for each $(i, j)$, and they share nearly all pixels: each mean is about the mean $\bar x_c$ of
# the whole image. So $m_o \approx \sum_c \bigl(\sum_{ij} W_{ocij}\bigr)\,\bar x_c$. Edges, shapes, textures: all
# averaged away. The logits of the first norm are, nearly, an affine function of *three numbers, the image's mean
# colour*. MNIST is dark, house numbers and photographs are bright, clothes lie between. That is question 1, and it is
# why the paper's early norm found red and blue. The second norm comes after a ReLU, which does not commute with a mean,
# so its gates can see more. (When this
# page was written, its smaller mode liked house numbers of low contrast. Yours may like something else.)
#
# **Predict.** How well does a straight line fit the first norm's logit difference $z_1 - z_2$ over the mean colour?

# %% tags=["figure"]
colour = task.test.images.mean(axis=(2, 3)) / 255  # (M, 3)
design = np.column_stack([colour, np.ones(len(colour))])
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for norm, (g_test, ax) in enumerate(zip(test_gates, axes, strict=True)):
    z = np.log(g_test[:, 0]) - np.log(g_test[:, 1])
    rest = z - design @ np.linalg.lstsq(design, z, rcond=None)[0]
    explained = 1 - rest.var() / z.var()
    for d, name in enumerate(sources):
        ax.scatter(colour[task.test.source == d].mean(axis=1), z[task.test.source == d], s=5, color=f"C{d}", label=name)
    ax.set(xlabel="brightness of the image", ylabel="logit difference $z_1 - z_2$")
    ax.set_title(f"norm {norm + 1}: mean colour explains {100 * explained:.0f} % of the variance", fontsize="medium")
axes[0].legend(frameon=False, fontsize="small", markerscale=3)
plt.show()

# %% [markdown]
# ## Break it: a mode that takes everything
#
# Look at the second norm above: one mode has most of the images. In long runs it goes all the way. Why do gates run?
#
# **The step of a logit.** $\Psi$ makes $z = mA^\top + b$. Gradient descent with rate $\eta$ subtracts
# $\eta\,dA = \eta\,dz^\top m$ and $\eta\,db = \eta\sum_n dz_n$ (lesson 09). So the logits of the same batch change by
#
# $$\Delta z = -\eta\,m\,(dz^\top m)^\top - \eta\,\textstyle\sum_n dz_n = -\eta\,(m m^\top + 1)\,dz \qquad (N, K),$$
#
# with $mm^\top$ of shape $(N, N)$ and 1 a matrix of ones. Sample $n$ moves by its own $dz_n$ times
# $\eta\,(|m_n|^2 + 1)$: **the step grows with the square of the gate's input**. And nothing normalises that input. It is
# what comes *before* the norm.
#
# **Who sets $|m|$?** The convolution. Multiply its weights $W$ by $a$: its outputs, their means, deviations and $m$ are
# all multiplied by $a$. BN's output does not change, since numerator and denominator both carry $a$. For MN the
# statistics cancel in the same way, but the gates see $a\,m$, and their steps are $a^2$ times as long.
#
# **And $W$ grows.** If the loss does not depend on the length of $W$, its gradient has no component along $W$: the
# derivative of $L(aW)$ by $a$ at 1, $\langle W, dW\rangle$, is 0. A plain step then gives
# $|W - \eta\,dW|^2 = |W|^2 + \eta^2 |dW|^2$. It never shrinks. (With MN the independence holds as far as the gates are
# alike, and momentum changes the account; measure it below.)
#
# **Why does it stay?** A mode without samples gets no gradient (lesson 09: its $q_{nk}$ is 0). Question 3: yes.
#
# Write $\Delta z$. The cell after the check then multiplies $W$ by 30, which would leave BN's output as it is.


# %% tags=["wrong"]
# check: logit change
# says: the bias takes a step too
def logit_change(m, dz, lr):
    return -lr * m @ (dz.T @ m).T


# %%
def logit_change(m, dz, lr):
    """Return the change (N, K) of the logits by one step of gradient descent on Psi, for m (N, C), dz (N, K)."""
    ### BEGIN SOLUTION
    return -lr * (m @ m.T + 1) @ dz
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(1221)  # the check's own numbers
m, dz = own.normal(size=(7, 5)), own.normal(size=(7, 3))
weights, biases = own.normal(size=(3, 5)), own.normal(size=3)
lesson.check(
    "logit change",
    lambda: logit_change(m, dz, 0.1),
    m @ (weights - 0.1 * dz.T @ m).T + (biases - 0.1 * dz.sum(axis=0)) - (m @ weights.T + biases),
    tol=1e-12,
    wrong={"the bias takes a step too, the same for every sample": lambda: -0.1 * m @ (dz.T @ m).T},
)


# %% tags=["figure"]
def normalised(norm):
    """Divide the gradient of Psi by 1 + |m|², so that a logit's step does not depend on the size of its input."""
    size = 1 + float(norm.gates.mean(axis=0) @ (norm.mean**2).sum(axis=1))
    for name in ("gate.weight", "gate.bias"):
        norm.grads[name] /= size


runs = {
    "weights as they are": train(*start(), 2),
    "weights × 30": train(*start(30), 2),
    "weights × 30, steps of Ψ normalised": train(*start(30), 2, normalised),
}
figure, ax = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
for (name, batches), color in zip(runs.items(), ("C0", "C3", "C2"), strict=True):
    usage = np.array([gates[:, 0].mean() for _, _, gates in batches])
    ax.plot(np.arange(1, len(usage) + 1), np.maximum(usage, 1 - usage), color=color, label=name)
    print(f"{name:36}: its larger mode has {max(usage[-1], 1 - usage[-1]):.4f} of the last batch")
ax.set(xlabel="updates", ylabel="usage of the larger mode, norm 2", ylim=(0.45, 1.05))
ax.set_title("Weights thirty times as long leave BN's output alone, and make a mode of MN collapse", fontsize="medium")
ax.legend(frameon=False, fontsize="small", loc="center right", bbox_to_anchor=(1, 0.28))
plt.show()
lengths = (float(np.linalg.norm(w)) for w in (first_weight, net.layers[4].params["weight"]))
print("length of the second convolution's weights before and after the six epochs: {:.2f}, {:.2f}".format(*lengths))

# %% [markdown]
# The weights of an ordinary run grow as well, so in a long run the gates' steps do, and the same thing happens slowly.
# In minidl's run of Table 1 at full length with momentum 0.9, as here, the second norm's gates ended on one mode
# ([docs/results](../docs/results/figure2-momentum.md)); without momentum they did not.
#
# **Is that bad?** A collapsed MN is a BN, and the paper *wants* MN to be able to become one. But a collapse by step size
# was not chosen by the loss, and cannot be taken back. **What helps**: a step of $\Psi$ that does not know the size of
# its input, as in the green curve; a smaller learning rate for $\Psi$ alone, or a warm-up; weight decay, which holds
# $|W|$ down; a normalised gate input. Others add a penalty for unequal use (Bengio et al., 2015; Shazeer et al., 2017).
# The paper says that it needs none.
#
# ## In the package
#
# `python -m minidl.reproduce figure2 --data-dir DIR` draws this lesson's pictures for the runs of Table 1, and
# `minidl/reproduce/gates.py` is what your functions were checked against. During every training
# `minidl/train/evaluate.py` records usage and both entropies of each norm with gates, under `gates` in `metrics.jsonl`;
# `curves.png` shows them. A collapse is the first thing to look for there.
#
# In PyTorch: keep the gates of the last forward on the module, as `layer.gates` here, or use a forward hook, and log
# the two entropies. A loss curve does not show a collapse.

# %%
lesson.done()
