# ---
# jupyter:
#   minidl:
#     title: Deep networks
#     minutes: 90
#     needs: ["02", "03", "04", "05", "08"]
#     checks: 5
# ---

# %% [markdown]
# # 16 · Deep networks
#
# **Goal.** You find out why a network of fifty plain layers does not learn, and mend it twice: with initial weights of
# the right size (He), and with residual connections, whose backward pass you derive. Then ResNet20 with mode
# normalization (MN) trains on CIFAR-10's part of the sample.
#
# **You need.** Lessons 02 to 05 and 08. **Time.** About 90 minutes, of which the training takes about one.
#
# A network is a product of many maps. Products have a habit: if each factor is a little less than 1, the product of
# fifty is nothing; if each is a little more, it is everything. That holds for the signal on its way up, and for the
# gradient on its way down.
#
# **Predict before running.** Write your answers down; this page will give them.
#
# 1. Fifty layers, each of which keeps 80 % of the signal's mean square. What is left of it at the top?
# 2. Weights with variance 1/fan_in keep the variance of a *linear* layer. What do they do with a ReLU behind each?
# 3. $y = x + f(x)$, and $f$ has the derivative $J$. What is the gradient $dx$, for $J$ near zero? And for fifty such
#    layers?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("16", checks=5)

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
from minidl import data
from minidl.layers.compose import Residual
from minidl.layers.shortcut import ZeroPaddedShortcut
from minidl.models.resnet import ResNetCIFAR

rng = np.random.default_rng(16)

# %% [markdown]
# ## The size of a signal
#
# Let $z_i = \sum_{j=1}^{n} w_{ij}\,x_j$, with $n$ inputs (the **fan-in**), and weights drawn independently with mean 0
# and variance $\sigma_w^2$, independent of $x$. Then $z_i$ has mean 0, and in its variance all mixed terms
# $\mathbb E[w_{ij}w_{ik}]$ vanish:
#
# $$ \mathbb E[z^2] = n\,\sigma_w^2\,\mathbb E[x^2] . $$
#
# Note that it is the **mean square** of $x$ that counts, not its variance: what comes out of a ReLU does not have mean 0. And a
# ReLU takes half: $z$ is symmetric about 0, so $\mathbb E[\max(z,0)^2] = \frac12\mathbb E[z^2]$. With $q_l$ the mean
# square of layer $l$'s output,
#
# $$ q_l = \tfrac12\, n_l\,\sigma_{w}^2\; q_{l-1} . $$
#
# So the signal keeps its size if $\sigma_w^2 = 2/n$ (He et al., 2015). A convolution's output is a sum over the channels
# *and* the taps of its window: $n = C\,k_h\,k_w$ for a weight of shape $(O, C, k_h, k_w)$.
#
# Write the initial values, and the mean squares that the recursion predicts.


# %% tags=["wrong"]
# check: He
# says: the fan-in of a convolution
def he(shape, rng):
    return rng.standard_normal(shape) * np.sqrt(2 / shape[1])


# %% tags=["wrong"]
# check: He
# says: ReLU takes half
def he(shape, rng):
    return rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))


# %%
def he(shape, rng):
    """Return weights of this shape, (O, I) or (O, C, kh, kw), from rng.standard_normal, with variance 2 / fan-in."""
    ### BEGIN SOLUTION
    return rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    ### END SOLUTION


def mean_squares(q, fan_ins, deviations):
    """Return the mean square behind each ReLU, from the input's q, for layers' fan-ins and weights' deviations."""
    ### BEGIN SOLUTION
    found = []
    for n, deviation in zip(fan_ins, deviations, strict=True):
        q = n * deviation**2 * q / 2
        found.append(q)
    return np.array(found)
    ### END SOLUTION


# %% tags=["check"]
shapes = {"linear": (5, 7), "convolution": (4, 3, 5, 2)}


def drawn(variance):
    """Return weights with the variance that a function of the shape gives."""
    return {
        name: np.random.default_rng(1604).standard_normal(shape) * np.sqrt(variance(shape))
        for name, shape in shapes.items()
    }


lesson.check(
    "He",
    lambda: {name: he(shape, np.random.default_rng(1604)) for name, shape in shapes.items()},
    lambda: drawn(lambda shape: 2 / np.prod(shape[1:])),
    tol=1e-12,
    wrong={
        "a ReLU takes half of the mean square: 2 / fan-in": lambda: drawn(lambda shape: 1 / np.prod(shape[1:])),
        "the fan-in of a convolution counts the taps of its window too": lambda: drawn(lambda shape: 2 / shape[1]),
        "these are uniform numbers; the docstring asks for rng.standard_normal": lambda: {
            name: np.random.default_rng(1604).uniform(-bound, bound, shape)
            for name, shape in shapes.items()
            for bound in [np.sqrt(2 / np.prod(shape[1:]))]
        },
        "this is the fan-out; a sum has as many terms as there are inputs": lambda: drawn(
            lambda shape: 2 * shape[1] / np.prod(shape)
        ),
    },
)

# %% tags=["check"]
fans, stds = [12, 7, 7, 20], [0.3, 0.5, 0.1, 0.4]
lesson.check(
    "mean squares",
    lambda: mean_squares(3.0, fans, stds),
    3.0 * np.cumprod([n * s**2 / 2 for n, s in zip(fans, stds, strict=True)]),
    tol=1e-12,
    wrong={
        "the half belongs to each layer, not to the last alone": lambda: (
            3.0 * np.cumprod([n * s**2 for n, s in zip(fans, stds, strict=True)]) / 2
        ),
        "each layer takes the mean square behind the layer before it; here each begins with the input's": lambda: (
            3.0 * np.array([n * s**2 / 2 for n, s in zip(fans, stds, strict=True)])
        ),
        "the first value is that behind the first ReLU: the input's own is not asked for": lambda: (
            np.cumprod([3.0, *(n * s**2 / 2 for n, s in zip(fans, stds, strict=True))])[some]
            for some in (slice(0, -1), slice(None))
        ),
        "the ReLU's half is missing": lambda: 3.0 * np.cumprod([n * s**2 for n, s in zip(fans, stds, strict=True)]),
        "the deviation enters squared": lambda: 3.0 * np.cumprod([n * s / 2 for n, s in zip(fans, stds, strict=True)]),
    },
)

# %% [markdown]
# Question 1: $0.8^{50} = 1.4\cdot10^{-5}$. Question 2: they halve the mean square in each layer, $2^{-50}\approx
# 10^{-15}$ at the top of fifty.
#
# **Backward** the same count holds the other way round: $dx_j = \sum_i w_{ij}\,dz_i$ sums over the *outputs*, so the
# gradient's mean square is multiplied by $\frac12 n_{\text{out}}\sigma_w^2$ in each layer. With equal widths one choice
# serves both directions.
#
# ## Two paths
#
# A mean square that stays the same is no guarantee: the *direction* of signal and gradient is still multiplied by fifty
# random matrices. A **residual block** (He et al., 2016) leaves the way open:
#
# $$ z = F(x) + S(x), \qquad y = \max(z, 0), $$
#
# with a branch $F$ (in ResNet20: conv – norm – ReLU – conv – norm) and a shortcut $S$, the identity if the shapes agree.
#
# **Backward.** $dz = dy\cdot[z>0]$, as in lesson 02. $x$ is *used twice*, so it receives both gradients, added:
#
# $$ dx = F'(x)^\top dz + S'(x)^\top dz . $$
#
# With $S$ the identity, $dx = dz + F'(x)^\top dz$: even if the branch passes nothing, the gradient arrives. That is
# question 3; for fifty blocks, $\prod_l (I + J_l)^\top$ contains the identity, where a plain network has $\prod_l J_l$
# alone. Expanded, the product is a sum over all $2^{50}$ ways through the network, the short ones among them.
#
# Where the shape changes, ResNet20 shortcuts without parameters: keep every second pixel of each row and column, and put
# the channels between new ones that are zero, $(O-C)/2$ before and as many behind. It is linear; its backward is its
# adjoint (lesson 04): the gradient goes back to the pixels and channels that were kept, and the rest get zero.


# %% tags=["wrong"]
# check: shortcut
# says: every second pixel
def shortcut(x, channels):
    pooled = (x[:, :, ::2, ::2] + x[:, :, 1::2, 1::2]) / 2
    before = (channels - x.shape[1]) // 2
    return np.pad(pooled, ((0, 0), (before, channels - x.shape[1] - before), (0, 0), (0, 0)))


# %% tags=["wrong"]
# check: block
# says: dx lacks the shortcut
class Block:
    def __init__(self, branch):
        self.branch = branch

    def forward(self, x):
        self.z = self.branch.forward(x) + x
        return np.maximum(self.z, 0)

    def backward(self, dy):
        return self.branch.backward(dy * (self.z > 0))


# %%
def shortcut(x, channels):
    """Return every second pixel of x (N, C, H, W) between channels of zeros, (N, channels, H/2, W/2)."""
    ### BEGIN SOLUTION
    before = (channels - x.shape[1]) // 2
    y = np.zeros((len(x), channels, x.shape[2] // 2, x.shape[3] // 2), x.dtype)
    y[:, before : before + x.shape[1]] = x[:, :, ::2, ::2]
    return y
    ### END SOLUTION


def shortcut_backward(dy, x):
    """Return dx, of the shape of x."""
    ### BEGIN SOLUTION
    before = (dy.shape[1] - x.shape[1]) // 2
    dx = np.zeros(x.shape, dy.dtype)
    dx[:, :, ::2, ::2] = dy[:, before : before + x.shape[1]]
    return dx
    ### END SOLUTION


class Block:
    """y = max(branch(x) + x, 0); the branch is a layer with forward and backward."""

    def __init__(self, branch):
        self.branch = branch

    def forward(self, x):
        """Return y and keep what backward needs."""
        ### BEGIN SOLUTION
        self.z = self.branch.forward(x) + x
        return np.maximum(self.z, 0)
        ### END SOLUTION

    def backward(self, dy):
        """Return dx."""
        ### BEGIN SOLUTION
        dz = dy * (self.z > 0)
        return self.branch.backward(dz) + dz
        ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(1608)  # the check's own numbers
x, dy = own.normal(size=(3, 4, 6, 10)), own.normal(size=(3, 10, 3, 5))
package = ZeroPaddedShortcut(10, stride=2)
right = {"y": package.forward(x), "dx": package.backward(dy)}
fours = x.reshape(3, 4, 3, 2, 5, 2)
spread = dy[:, 3:7].repeat(2, axis=2).repeat(2, axis=3)


def between(kept):
    """Return an array between channels of zeros."""
    return np.pad(kept, ((0, 0), (3, 3), (0, 0), (0, 0)))


mean_of_two = np.pad((x[:, :, ::2, ::2] + x[:, :, 1::2, 1::2]) / 2, ((0, 0), (3, 3), (0, 0), (0, 0)))
lesson.check(
    "shortcut",
    lambda: {"y": shortcut(x, 10), "dx": shortcut_backward(dy, x)},
    right,
    tol=1e-14,
    wrong={
        "this averages; the shortcut keeps every second pixel as it is": lambda: (
            right | {"y": y} for y in (mean_of_two, between(fours.mean((3, 5))))
        ),
        "this takes the largest of four pixels; the shortcut keeps every second one as it is": lambda: (
            right | {"y": between(fours.max((3, 5)))}
        ),
        "only the pixels that were kept get a gradient: the rest of dx is zero": lambda: (
            right | {"dx": dx} for dx in (spread, spread / 4, np.where(right["dx"] == 0, x, right["dx"]))
        ),
        "the zeros all lie behind; half of them go before": lambda: right | {"y": np.roll(right["y"], -3, axis=1)},
    },
)


# %% tags=["check"]
own = np.random.default_rng(1609)  # the check's own numbers
x, dy = own.normal(size=(5, 4)), own.normal(size=(5, 4))
A, B = own.normal(size=(7, 4)), own.normal(size=(4, 7))


def forward(x):
    """Return y of a block whose branch is linear – ReLU – linear, for complex x too."""
    h = x @ A.T
    z = (h * (h.real > 0)) @ B.T + x
    return z * (z.real > 0)


def branch():
    """Return the same branch as layers of minidl."""
    layers = [minidl.Linear(i, o, bias=False, dtype="float64", rng=0) for i, o in ((4, 7), (7, 4))]
    for layer, weight in zip(layers, (A, B), strict=True):
        layer.params["weight"][...] = weight
    return minidl.Sequential(layers[0], minidl.ReLU(), layers[1])


def played(make):
    block = make(branch())
    y = block.forward(x)
    return {"y": y, "dx": block.backward(dy)}


dx = np.empty_like(x)  # by the complex step of lesson 03: nobody's backward pass is in it
for at in np.ndindex(x.shape):
    moved = x.astype(complex)
    moved[at] += 1e-100j
    dx[at] = (dy * forward(moved)).sum().imag / 1e-100
dz = dy * (forward(x) > 0)


def branch_gradient(into):
    """Return what the branch alone passes back."""
    one = branch()
    one.forward(x)
    return one.backward(into)


lesson.check(
    "block",
    lambda: played(Block),
    {"y": forward(x), "dx": dx},
    tol=1e-12,
    wrong={
        "the branch gets the gradient behind the last ReLU, dz, and once": lambda: (
            {"y": forward(x), "dx": branch_gradient(into) + through}
            for into, through in ((dy, dz), (dy, dy), (2 * dz, 0 * dz), (2 * dz, dz))
        ),
        "a ReLU passes where z is positive: its slope is 1 there, 0 elsewhere, and it comes before the branch": lambda: (
            {"y": forward(x), "dx": dx}
            for dx in (
                (forward(x) > 0) * (branch_gradient(dy) + dy),
                branch_gradient(dy * forward(x)) + dy * forward(x),
                branch_gradient(dy * (x > 0)) + dy * (x > 0),
            )
        ),
        "dx lacks the shortcut's path: x is used twice": lambda: {"y": forward(x), "dx": dx - dz},
        "the shortcut's gradient passes through the last ReLU too": lambda: {"y": forward(x), "dx": dx - dz + dy},
    },
)

# %% [markdown]
# ## See it: fifty layers
#
# Linear layers of width 100 with a ReLU behind each, on random inputs; random $dy$ at the top. We look at the mean
# square of the signal behind each layer and of the gradient before it, for three ways to begin. Then the same with
# shortcuts: a branch linear – ReLU – linear in each block. **Predict** the slopes of the first two, from your recursion.

# %% tags=["figure"]
squares = lesson.yours(
    mean_squares, lambda q, fans, stds: q * np.cumprod(np.array(fans) * np.array(stds) ** 2 / 2), "mean squares"
)
BlockYours = lesson.yours(Block, lambda branch: minidl.Sequential(Residual(branch), minidl.ReLU()), "block")
width, depth, batch = 100, 50, 64


def profile(layers):
    """Return the mean squares of signal and gradient along the layers."""
    h, signal, gradient = rng.normal(size=(batch, width)), [], []
    for layer in layers:
        h = layer.forward(h)
        signal.append((h**2).mean())
    d = rng.normal(size=h.shape)
    for layer in reversed(layers):
        d = layer.backward(d)
        gradient.append((d**2).mean())
    return signal, gradient[::-1]


def linear(deviation):
    layer = minidl.Linear(width, width, bias=False, dtype="float64", rng=rng)
    layer.params["weight"][...] = deviation * rng.standard_normal((width, width))
    return layer


def plain(deviation):
    return [minidl.Sequential(linear(deviation), minidl.ReLU()) for _ in range(depth)]


def residual(last):
    he_std = np.sqrt(2 / width)
    return [BlockYours(minidl.Sequential(linear(he_std), minidl.ReLU(), linear(last * he_std))) for _ in range(depth)]


cases = {
    "plain, variance 1/n": (plain(np.sqrt(1 / width)), np.sqrt(1 / width), "C3"),
    "plain, variance 2/n (He)": (plain(np.sqrt(2 / width)), np.sqrt(2 / width), "C0"),
    "plain, variance 2.5/n": (plain(np.sqrt(2.5 / width)), np.sqrt(2.5 / width), "C1"),
    "residual, He": (residual(1.0), None, "C4"),
    "residual, last weight / 10": (residual(0.1), None, "C2"),
}
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
for name, (layers, deviation, colour) in cases.items():
    signal, gradient = profile(layers)
    axes[0].semilogy(signal, color=colour, label=name)
    axes[1].semilogy(gradient, color=colour)
    if deviation:
        axes[0].semilogy(squares(1.0, [width] * depth, [deviation] * depth), ":", color="k")
axes[0].set(xlabel="layer", ylabel="mean square", title="The signal on its way up (dotted: your recursion)")
axes[1].set(xlabel="layer", title="The gradient on its way down")
axes[0].legend(fontsize=8)
plt.show()

# %% [markdown]
# **Read it.** The dotted lines are the recursion, an expectation; the signal follows it but for the luck of the draw, which
# a width of 100 still shows. The gradient has the same slopes from the
# other end. A factor of 1.25 per layer already makes $10^5$ of fifty layers. Residual blocks with He weights *grow*: each
# adds as much as it passes. That is why something must hold the branch down: a small last weight, or a **norm** at the
# end of the branch, which sets its size whatever the weights are. With the norm, the blocks' sizes add, $q_l\approx
# q_{l-1}+1$: linear growth in place of exponential.
#
# ## ResNet20, with MN, on CIFAR-10
#
# One convolution, three stages of three blocks with 16, 32 and 64 channels (the last two begin with stride 2), the mean
# over the image, one linear layer: 20 layers with weights. Every norm is MN with $K=2$; the channels are half as many as
# He's, to save time. 1150 images are few: we train for a minute and look whether it moves. The comparison is the same
# network *without* its shortcuts.

# %% tags=["figure"]
task = data.load_task("multitask", sample=True)
number = task.train.sources.index("cifar-10")


def part(dataset):
    """Return CIFAR-10's images and labels 0 to 9, standardised."""
    which = dataset.source == number
    images = dataset.images[which].astype(np.float32) / 255
    labels = dataset.labels[which]
    return (images - 0.47) / 0.25, labels - labels.min()


(train_x, train_y), (test_x, test_y) = part(task.train), part(task.test)


def network(shortcuts):
    """Return a ResNet20 with MN, or the same layers in a row."""
    norm = minidl.norm_factory("mn", modes=2)
    model = minidl.ResNet20(10, norm=norm, rng=np.random.default_rng(3), width=8)
    if not shortcuts:
        flat = []
        for layer in model.layers:
            flat.append(layer.branch if isinstance(layer, Residual) else layer)
        model = minidl.Sequential(*flat)
    return model


def trained(model, updates=60, size=48):
    """Train with momentum; return the losses and the test accuracy."""
    loss, optimiser = minidl.SoftmaxCrossEntropy(), minidl.SGD(model, lr=0.05, momentum=0.9)
    order, losses = np.random.default_rng(5), []
    for _ in range(updates):
        pick = order.choice(len(train_x), size, replace=False)
        flip = train_x[pick][:, :, :, :: order.choice([-1, 1])]
        losses.append(float(loss.forward(model.forward(flip), train_y[pick])))
        optimiser.zero_grad()
        model.backward(loss.backward())
        optimiser.step()
    model.eval()
    right = np.concatenate([model.forward(test_x[i : i + 145]).argmax(1) for i in range(0, len(test_x), 145)]) == test_y
    return losses, 100 * right.mean()


figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
with minidl.threads(1):
    for name, shortcuts, colour in (("with shortcuts", True, "C0"), ("without", False, "C3")):
        losses, accuracy = trained(network(shortcuts))
        ax.plot(np.convolve(losses, np.ones(6) / 6, "valid"), color=colour, label=f"{name}: {accuracy:.0f} % right")
        print(f"{name}: test accuracy {accuracy:.1f} % of {len(test_y)} images; guessing gives 10 %")
ax.axhline(np.log(10), color="k", ls=":", label="guessing: log 10")
ax.set(xlabel="update (48 images each)", ylabel="cross-entropy, mean of 6", title="ResNet20 with MN, half as wide")
ax.legend()
plt.show()

# %% [markdown]
# **Read it.** Both losses fall, and with the shortcuts faster, though norms are in both networks. That is a start and no
# result: one seed, a minute, a thousand images (lesson 11 says what more it takes).
# Given time, a plain network of 20 layers learns too. At 56 layers and more it gets *worse* with depth, on the training
# set as well (He et al., 2016, figure 1), and that is what the shortcuts mend.
#
# ## Break it
#
# Take the norms away, keep He's weights, and look at the first logits of a ResNet of 8, 20 and 56 layers. **Predict**
# from the picture of the residual blocks.

# %%
x = train_x[:16]
for depth_ in (8, 20, 56):
    model = ResNetCIFAR(depth_, 10, norm=None, rng=np.random.default_rng(1), width=8)
    bare = np.abs(model.forward(x)).max()
    model = ResNetCIFAR(depth_, 10, norm=minidl.norm_factory("bn"), rng=np.random.default_rng(1), width=8)
    print(f"{depth_:3} layers: largest logit {bare:10.3g} without norms, {np.abs(model.forward(x)).max():6.3g} with BN")

# %% [markdown]
# Each block at least doubles the mean square, so the logits grow by more than $\sqrt2$ per block: exponentially in depth,
# to numbers at which softmax is certain and wrong. With a norm at the branch's end they stay of one size.
#
# ## Exercise: how many parameters?
#
# A ResNet of depth $6n+2$ and first width $w$, for 3 channels and $K$ classes, with BN. Count: convolutions are 3×3
# without bias, each norm has two numbers per channel, shortcuts have none, the linear layer has a bias.


# %%
def parameters(n, w, classes):
    """Return the number of parameters of the ResNet with 3 stages of n blocks, widths w, 2w, 4w."""
    ### BEGIN SOLUTION
    total, c = 9 * 3 * w + 2 * w, w
    for o in (w, 2 * w, 4 * w):
        for _ in range(n):
            total += 9 * c * o + 9 * o * o + 4 * o
            c = o
    return total + c * classes + classes
    ### END SOLUTION


# %% tags=["check"]
def counted(n, w, classes):
    model = ResNetCIFAR(6 * n + 2, classes, norm=minidl.norm_factory("bn"), rng=0, width=w)
    return model.num_params()


def norm_channels(n, w, classes):
    """Return how many channels all norms have together: as many as all convolutions put out."""
    return w + 2 * n * 7 * w


def other_channels(n, w, classes, late):
    """Return the count if all blocks of a stage had its own channels, or all those of the stage before."""
    total, c = 9 * 3 * w + 2 * w, w
    for o in (w, 2 * w, 4 * w):
        total += n * (9 * (c if late else o) * o + 9 * o * o + 4 * o)
        c = o
    return total + c * classes + classes


sizes = {"ResNet20": (3, 16, 10), "narrow": (2, 4, 7)}
lesson.check(
    "parameters",
    lambda: {name: parameters(*size) for name, size in sizes.items()},
    lambda: {name: counted(*size) for name, size in sizes.items()},
    tol=0.5,
    wrong={
        "the first block of a stage takes the channels of the stage before, all others their own": lambda: (
            {name: other_channels(*size, late=late) for name, size in sizes.items()} for late in (False, True)
        ),
        "a norm has two numbers per channel, its weight and its bias; running statistics are no parameters": lambda: (
            {name: counted(*s) + step * norm_channels(*s) for name, s in sizes.items()} for step in (2, -1, -2)
        ),
        "the convolutions have no bias": lambda: {name: counted(*s) + norm_channels(*s) for name, s in sizes.items()},
        "the linear layer's bias is missing": lambda: {name: counted(*s) - s[2] for name, s in sizes.items()},
    },
)

# %% [markdown]
# ## In the package, and in PyTorch
#
# - `minidl/models/resnet.py`: ResNet20, 56 and 18; `minidl/layers/compose.py`: `Residual`;
#   `minidl/layers/shortcut.py`: your shortcut; `minidl/init.py`: `he_normal`.
# - `minidl train resnet20 cifar10 --norm mn` trains it on the whole dataset.
# - PyTorch: `torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")` is He's rule by fan-in (`mode="fan_out"` by
#   fan-out). torchvision's ResNets are those for ImageNet, with a convolution in the shortcut where shapes change.

# %%
lesson.done()
