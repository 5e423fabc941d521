# ---
# jupyter:
#   minidl:
#     title: A layer by hand
#     minutes: 75
#     needs: ["01"]
#     checks: 6
# ---

# %% [markdown]
# # 02 · A layer by hand
#
# **Goal.** You derive and write three layers with their backward passes, linear, ReLU and softmax cross-entropy, and
# put them together into a network that learns. There is no autograd here: at the end you know what one does for you.
#
# **You need.** Lesson 01 and the chain rule. **Time.** About 75 minutes.
#
# A network is a composition of functions that ends in one number, the loss $L$. Training needs to know how $L$ changes
# when any parameter changes a little. The chain rule answers that layer by layer, from the loss backwards; each layer
# needs to know its own derivative and nothing else. So a layer is a *pair* of functions, `forward` and `backward`, and
# this course writes many such pairs. Here you meet the form that they all have.
#
# **Predict before running.** Write your answers down; this page will give them.
#
# 1. A linear layer maps 128 flattened images, $(128, 3072)$, to $(128, 64)$. How large, in float32, is the Jacobian
#    matrix that holds the derivative of every output by every input?
# 2. The same bias is added to all samples of the batch. What does that mean for its gradient?
# 3. A network for 40 classes that has not learned anything: what is its loss, about?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("02", checks=6)

# %%
import math

import matplotlib.pyplot as plt
import numpy as np

import minidl
from minidl import data, reference

rng = np.random.default_rng(2)
N, I, O = 5, 7, 3  # batch, inputs, outputs: all different, so that a transposed matrix shows
x, weight, bias = rng.normal(size=(N, I)), rng.normal(size=(O, I)), rng.normal(size=O)
dy = rng.normal(size=(N, O))  # a random gradient from above

task = data.load_task("multitask", sample=True)  # MNIST, CIFAR-10, SVHN and Fashion-MNIST: 4 × 10 = 40 classes
mean, std = data.channel_statistics(task.train)


def flattened(dataset):
    """Return the images of a dataset, standardized, as (M, 3072) in float32."""
    images = (dataset.images / 255 - mean[:, None, None]) / std[:, None, None]
    return images.reshape(len(images), -1).astype(np.float32)


train_x, test_x = flattened(task.train), flattened(task.test)
print("train", train_x.shape, "test", test_x.shape, "classes", task.num_classes)

# %% [markdown]
# ## The one idea: from $dy$ to $dx$
#
# For every quantity $v$ of a network, write $dv$ for the array of derivatives $\partial L/\partial v$. It has **the
# same shape as $v$**. Its meaning is: if $v$ changes by a small $\delta v$, the loss changes by
#
# $$ \delta L = \langle dv, \delta v\rangle = \sum_i dv_i\, \delta v_i . $$
#
# A layer computes $y = f(x)$. A small change of $x$ changes $y$ by $\delta y = J\,\delta x$, with the Jacobian matrix
# $J_{ij} = \partial y_i/\partial x_j$. So
#
# $$ \delta L = \langle dy, J\,\delta x\rangle = \langle J^\top dy, \delta x\rangle
#    \quad\text{for every } \delta x, \qquad\text{hence}\qquad dx = J^\top dy . $$
#
# That is the whole of backpropagation: **backward gets $dy$ and returns $J^\top dy$**, a *vector-Jacobian product*. The
# matrix $J$ is never built. For question 1 it would have $(128 \cdot 64) \times (128 \cdot 3072)$ entries, 12.9 GB; the
# product $J^\top dy$ has the shape of $x$, 1.6 MB, and turns out to be one matrix product of small matrices.
#
# ## Linear
#
# $$ y = x W^\top + b, \qquad x: (N, I),\quad W: (O, I),\quad b: (O),\quad y: (N, O) . $$
#
# To find a backward pass, change everything a little, and move what stands beside each $\delta$ to the other side of
# $\langle\cdot,\cdot\rangle$. First order changes:
#
# $$ \delta y = \delta x\, W^\top + x\, \delta W^\top + \mathbf 1\, \delta b^\top , $$
#
# with $\mathbf 1$ a column of $N$ ones: that is what broadcasting the bias does. Moving needs one identity,
# $\langle A, B C\rangle = \sum_{ijk} A_{ij} B_{ik} C_{kj} = \langle A\,C^\top, B\rangle = \langle B^\top A, C\rangle$.
#
# - $\langle dy, \delta x\, W^\top\rangle = \langle dy\, W, \delta x\rangle$: so $dx = dy\,W$, shapes
#   $(N, O)(O, I) \to (N, I)$.
# - $\langle dy, x\, \delta W^\top\rangle = \langle x^\top dy, \delta W^\top\rangle = \langle dy^\top x, \delta
#   W\rangle$: so $dW = dy^\top x$, shapes $(O, N)(N, I) \to (O, I)$.
# - $\langle dy, \mathbf 1\,\delta b^\top\rangle = \langle dy^\top \mathbf 1, \delta b\rangle$: so $db = \sum_n dy_n$,
#   shape $(O)$. This is question 2: what is used $N$ times collects $N$ contributions. **A broadcast forwards is a sum
#   backwards.**
#
# If you forget which matrix goes where: only one order makes the shapes fit.


# %% tags=["wrong"]
# check: linear
# says: dbias is a sum over the batch
def linear_backward(dy, x, weight):
    return dy @ weight, dy.T @ x, dy.mean(axis=0)


# %% tags=["wrong"]
# check: linear
# says: only the loss averages, every layer sums
def linear_backward(dy, x, weight):
    return dy @ weight, dy.T @ x / len(x), dy.mean(axis=0)


# %%
def linear(x, weight, bias):
    """Return y (N, O)."""
    ### BEGIN SOLUTION
    return x @ weight.T + bias
    ### END SOLUTION


def linear_backward(dy, x, weight):
    """Return dx (N, I), dweight (O, I) and dbias (O,)."""
    ### BEGIN SOLUTION
    return dy @ weight, dy.T @ x, dy.sum(axis=0)
    ### END SOLUTION


# %% tags=["check"]
def named(dx, dweight, dbias):
    return {"dx": dx, "dweight": dweight, "dbias": dbias}


lesson.check(
    "linear",
    got=lambda: {"y": linear(x, weight, bias), **named(*linear_backward(dy, x, weight))},
    want={"y": reference.linear(x, weight, bias), **reference.linear_backward(dy, x, weight, bias)},
    tol=1e-13,
    wrong={
        "dbias is a sum over the batch, not a mean: the loss has divided by N already.": lambda: {
            "y": linear(x, weight, bias),
            **named(dy @ weight, dy.T @ x, dy.mean(axis=0)),
        },
        "dweight and dbias are divided by N: only the loss averages, every layer sums.": lambda: {
            "y": linear(x, weight, bias),
            **named(dy @ weight, dy.T @ x / N, dy.mean(axis=0)),
        },
    },
)


# %% [markdown]
# ## ReLU
#
# $y = \max(x, 0)$, number by number. Output $i$ depends on input $i$ alone, so $J$ is diagonal, with
# $J_{ii} = 1$ where $x_i > 0$ and $0$ where $x_i < 0$. Then $dx = J^\top dy$ is a product number by number:
#
# $$ dx_i = dy_i \cdot [x_i > 0] . $$
#
# At $x_i = 0$ there is no derivative. We take 0 there, as every library does; the network does not care.
#
# In words: where the unit was off, nothing that happens above can be blamed on it. Note what backward needs to know:
# not $x$ itself, only where it was positive.


# %% tags=["wrong"]
# check: relu
# says: the mask must come from x
def relu_backward(dy, x):
    return np.maximum(dy, 0)


# %%
def relu(x):
    """Return max(x, 0), of any shape."""
    ### BEGIN SOLUTION
    return np.maximum(x, 0)
    ### END SOLUTION


def relu_backward(dy, x):
    """Return dx for dy; x is the input of `relu`."""
    ### BEGIN SOLUTION
    return dy * (x > 0)
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(209)  # the check's own numbers
h, dh = own.normal(size=(4, 5, 3)), own.normal(size=(4, 5, 3))
lesson.check(
    "relu",
    got=lambda: {"y": relu(h), "dx": relu_backward(dh, h)},
    want={"y": h.clip(0), "dx": np.where(h > 0, dh, 0)},
    tol=1e-15,
    wrong={
        "This is max(dy, 0): the mask must come from x, from the forward pass.": lambda: {
            "y": relu(h),
            "dx": dh * (dh > 0),
        },
        "This is J alone, a 0 or a 1: multiply it by dy.": lambda: {"y": relu(h), "dx": 1.0 * (h > 0)},
    },
)


# %% [markdown]
# ## Softmax cross-entropy
#
# The last layer gives scores ("logits") $z$ of shape $(N, K)$. Softmax makes a distribution of each row, and the loss
# is the mean surprise at the true classes $t_n$:
#
# $$ p_{nk} = \frac{e^{z_{nk}}}{\sum_j e^{z_{nj}}}, \qquad
#    L = -\frac1N \sum_n \log p_{n t_n} = \frac1N \sum_n \Big[\log \sum_j e^{z_{nj}} - z_{n t_n}\Big] . $$
#
# All classes equally likely means $p = 1/K$ and $L = \log K$; with 40 classes 3.69, which answers question 3.
#
# Differentiate the form on the right: no Jacobian of softmax is needed. For one row,
# $\frac{\partial}{\partial z_k} \log \sum_j e^{z_j} = e^{z_k} / \sum_j e^{z_j} = p_k$, and
# $\frac{\partial z_t}{\partial z_k} = [k = t]$. So
#
# $$ dz_{nk} = \frac{1}{N}\big(p_{nk} - [k = t_n]\big) , \qquad (N, K) . $$
#
# "What you said, minus what was true." Each row sums to zero, as it must: adding a constant to a row of $z$ does not
# change $L$. That same freedom makes the forward pass safe: subtract the row's maximum before the exponential, as in
# lesson 01, and nothing overflows.


# %% tags=["wrong"]
# check: softmax cross-entropy
# says: dz lacks the 1/N
def softmax_cross_entropy_backward(p, labels):
    return p - np.eye(p.shape[1])[labels]


# %% tags=["wrong"]
# check: softmax cross-entropy
# says: overflow
def softmax_cross_entropy(z, labels):
    with np.errstate(over="raise"):
        e = np.exp(z)
    p = e / e.sum(axis=1, keepdims=True)
    return -np.log(p[np.arange(len(z)), labels]).mean(), p


# %%
def softmax_cross_entropy(z, labels):
    """Return the loss, a number, and p (N, K), for scores z (N, K) and labels (N,)."""
    ### BEGIN SOLUTION
    shifted = z - z.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)  # (N, 1)
    log_p = shifted - np.log(total)  # (N, K)
    loss = -log_p[np.arange(len(z)), labels].mean()
    return loss, np.exp(log_p)
    ### END SOLUTION


def softmax_cross_entropy_backward(p, labels):
    """Return dz (N, K)."""
    ### BEGIN SOLUTION
    dz = p.copy()
    dz[np.arange(len(p)), labels] -= 1
    return dz / len(p)
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(213)  # the check's own numbers


def play_loss(z, labels):
    loss, p = softmax_cross_entropy(z, labels)
    return {"loss": loss, "dz": softmax_cross_entropy_backward(p, labels)}


z, labels = 2 * own.normal(size=(4, 7)), own.integers(0, 7, size=4)
z[0] += 1000  # softmax does not notice a constant added to a row
right = {
    "loss": reference.softmax_cross_entropy(z, labels),
    "dz": reference.softmax_cross_entropy_backward(1.0, z, labels)["dlogits"],
}
lesson.check(
    "softmax cross-entropy",
    got=lambda: play_loss(z, labels),
    want=right,
    tol=1e-12,  # z has 1000 in it, whose last bit is 1e-13
    wrong={
        "dz lacks the 1/N: the loss is a mean over the batch.": lambda: {**right, "dz": right["dz"] * len(z)},
        "The sign of dz is turned: it is what you said, minus what was true.": lambda: {**right, "dz": -right["dz"]},
    },
)


# %% [markdown]
# ## From functions to layers
#
# A layer is what surrounds such a pair. It owns its parameters, it keeps what its backward pass will need, and it
# collects gradients. Two rules deserve their reasons.
#
# **Keep.** `linear_backward` needs $x$, so `forward` keeps it until `backward` has come. This is where the memory of
# training goes: every layer's input stays alive until the gradient has travelled back to it. (At inference nothing is
# kept.)
#
# **Add.** `backward` *adds* to `grads` and never assigns. If a value is used in two places, $y_1 = f(v)$ and
# $y_2 = g(v)$, a change of it reaches the loss in two ways: $\delta L = \langle dy_1, J_f\,\delta v\rangle + \langle
# dy_2, J_g\,\delta v\rangle$, so $dv = J_f^\top dy_1 + J_g^\top dy_2$. Gradients add. The same rule serves a batch too
# large for the memory: send its halves through one after the other, and the gradients add up to those of the whole.
# The price: somebody must set them to zero before the next step.


# %% tags=["wrong"]
# check: Linear
# says: The second backward overwrote
class Linear(minidl.Linear):
    def backward(self, dy):
        for grad in self.grads.values():
            grad[...] = 0
        return super().backward(dy)


# %%
class Linear:
    """y = x Wᵀ + b, with its parameters and gradients."""

    def __init__(self, in_features, out_features, rng, dtype="float32"):
        bound = 1 / math.sqrt(in_features)
        shapes = {"weight": (out_features, in_features), "bias": (out_features,)}
        self.params = {name: rng.uniform(-bound, bound, shape).astype(dtype) for name, shape in shapes.items()}
        self.grads = {name: np.zeros_like(value) for name, value in self.params.items()}

    def forward(self, x):
        """Return y and keep what backward needs."""
        ### BEGIN SOLUTION
        self.kept = x
        return linear(x, self.params["weight"], self.params["bias"])
        ### END SOLUTION

    def backward(self, dy):
        """Return dx; add to `grads`."""
        ### BEGIN SOLUTION
        dx, dweight, dbias = linear_backward(dy, self.kept, self.params["weight"])
        self.grads["weight"] += dweight
        self.grads["bias"] += dbias
        return dx
        ### END SOLUTION


class ReLU:
    """y = max(x, 0): nothing to learn, so no parameters."""

    params, grads = {}, {}

    def forward(self, x):
        """Return y and keep what backward needs."""
        self.kept = x
        return relu(x)

    def backward(self, dy):
        """Return dx."""
        return relu_backward(dy, self.kept)


# %% tags=["check"]
def two_halves(make):
    """Send a batch of 5 through a layer as 2 + 3 samples; return what came out and what was collected."""
    layer = make(I, O, rng=np.random.default_rng(3), dtype="float64")
    ys, dxs = [], []
    for half in (slice(0, 2), slice(2, 5)):
        ys.append(layer.forward(x[half]))
        dxs.append(layer.backward(dy[half]))
    return {
        **{"y": np.concatenate(ys), "dx": np.concatenate(dxs)},
        "grads weight": layer.grads["weight"].copy(),
        "grads bias": layer.grads["bias"].copy(),
    }


right = two_halves(minidl.Linear)
lesson.check(
    "Linear",
    got=lambda: two_halves(Linear),
    want=right,
    tol=1e-13,
    wrong={
        "The second backward overwrote what the first had collected: add, with +=.": lambda: {
            **right,
            **{"grads weight": dy[2:].T @ x[2:], "grads bias": dy[2:].sum(axis=0)},
        },
    },
)


# %% [markdown]
# ## A network, and one step of learning
#
# Layers in a row are again a function, $L(f_3(f_2(f_1(x))))$, and its transposed Jacobian is $J_1^\top J_2^\top
# J_3^\top$, applied **from the right**: the last layer's backward comes first. That order is what makes it cheap. Every
# intermediate result is one $dv$, of the shape of one $v$; multiplying the Jacobians in the other order would carry
# huge matrices along.
#
# One step of gradient descent:
#
# 1. forward through the layers, then the loss;
# 2. backward: the loss, then the layers in reverse;
# 3. every parameter moves against its gradient, $v \leftarrow v - \eta\, dv$, **in place**;
# 4. the gradients are set to zero.


# %% tags=["wrong"]
# check: step
# says: The gradients of earlier steps are still in
def step(layers, x, labels, lr):
    for layer in layers:
        x = layer.forward(x)
    loss, p = softmax_cross_entropy(x, labels)
    d = softmax_cross_entropy_backward(p, labels)
    for layer in reversed(layers):
        d = layer.backward(d)
    for layer in layers:
        for name, value in layer.params.items():
            value -= lr * layer.grads[name]
    return loss


# %% tags=["wrong"]
# check: step
# says: The parameters have not moved
def step(layers, x, labels, lr):
    for layer in layers:
        x = layer.forward(x)
    loss, p = softmax_cross_entropy(x, labels)
    d = softmax_cross_entropy_backward(p, labels)
    for layer in reversed(layers):
        d = layer.backward(d)
    for layer in layers:
        for name, value in layer.params.items():
            value = value - lr * layer.grads[name]
            layer.grads[name][...] = 0
    return loss


# %%
def step(layers, x, labels, lr):
    """Make one step of gradient descent with the layers in a row; return the loss before it."""
    ### BEGIN SOLUTION
    for layer in layers:
        x = layer.forward(x)
    loss, p = softmax_cross_entropy(x, labels)
    d = softmax_cross_entropy_backward(p, labels)
    for layer in reversed(layers):
        d = layer.backward(d)
    for layer in layers:
        for name, value in layer.params.items():
            value -= lr * layer.grads[name]
            layer.grads[name][...] = 0
    return loss
    ### END SOLUTION


def own_network(inputs, hidden, outputs, rng, dtype="float32"):
    """Return the layers of a two-layer network, and the function that trains them one step."""
    layers = Linear(inputs, hidden, rng=rng, dtype=dtype), ReLU(), Linear(hidden, outputs, rng=rng, dtype=dtype)
    return layers, step


def package_network(inputs, hidden, outputs, rng, dtype="float32", zero=True):
    """The same with minidl's own classes."""
    first = minidl.Linear(inputs, hidden, rng=rng, dtype=dtype)
    layers = first, minidl.ReLU(), minidl.Linear(hidden, outputs, rng=rng, dtype=dtype)
    model, loss = minidl.Sequential(*layers), minidl.SoftmaxCrossEntropy()

    def package_step(layers, x, labels, lr):
        value = loss.forward(model.forward(x), labels)
        model.backward(loss.backward())
        minidl.SGD(model, lr).step()
        if zero:
            model.zero_grad()
        return float(value)

    return layers, package_step


# %% tags=["check"]
def three_steps(network, lr=0.5):
    """Train a small network for three steps; return its losses and parameters."""
    layers, train = network(I, 4, O, np.random.default_rng(5), dtype="float64")
    losses = np.array([train(layers, x, np.arange(N) % O, lr) for _ in range(3)])
    return {"losses": losses} | {f"layer {i} {name}": value for i in (0, 2) for name, value in layers[i].params.items()}


lesson.check(
    "step",
    got=lambda: three_steps(own_network),
    want=lambda: three_steps(package_network),
    tol=1e-12,
    wrong={
        "The gradients of earlier steps are still in `grads`: set them to zero.": lambda: three_steps(
            lambda *sizes, dtype: package_network(*sizes, dtype, zero=False)
        ),
        "The parameters have not moved: `value = value - ...` makes a new array, `value -= ...` changes it.": lambda: (
            three_steps(package_network, lr=0.0)
        ),
    },
)


# %% tags=["figure"]
network = lesson.yours(own_network, package_network, check="step")
layers, train = network(3072, 64, task.num_classes, np.random.default_rng(7))
order, losses = np.random.default_rng(8), []
with minidl.threads(1):  # the matrices are small: more threads would wait for each other
    for _ in range(12):  # epochs
        for batch in np.array_split(order.permutation(len(train_x)), 92):  # of 50 images
            losses.append(train(layers, train_x[batch], task.train.labels[batch], lr=0.03))


def errors(x, dataset):
    """Return the share of wrong answers on each of the four sources."""
    for layer in layers:
        x = layer.forward(x)
    wrong = x.argmax(axis=1) != dataset.labels
    return [100 * wrong[dataset.source == i].mean() for i in range(len(dataset.sources))]


figure, (left, right_side) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
left.plot(losses, ".", ms=2, color="tab:gray", label="each step")
left.plot(46 + np.arange(len(losses) - 91), np.convolve(losses, np.ones(92) / 92, "valid"), label="mean of 92 steps")
left.axhline(np.log(40), color="tab:red", ls="--", label="log 40: knows nothing")
left.set(xlabel="step", ylabel="loss", title="A network written by hand learns", ylim=(0, 4))
left.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.88))
for shift, name, values in (
    (-0.2, "training images", errors(train_x, task.train)),
    (0.2, "test images", errors(test_x, task.test)),
):
    bars = right_side.bar(np.arange(4) + shift, values, 0.4, label=name)
    right_side.bar_label(bars, fmt="%.0f", fontsize=9)
right_side.set(xticks=range(4), xticklabels=task.train.sources, ylabel="error (%)", ylim=(0, 100))
right_side.set_title("… but of photos it mostly learns the ones it was shown")
right_side.legend(frameon=False, loc="upper right")
plt.show()
print(f"loss of the first step {losses[0]:.2f}, of the last {losses[-1]:.2f}")

# %% [markdown]
# The loss starts at log 40 and falls. On digits and clothes, centred on black, comparing pixels works: those errors are
# small, from 1150 images per set. On CIFAR-10 and SVHN the network does clearly better on the images it was shown than on
# new ones. A linear layer on flattened pixels does not know that two pixels are neighbours; shift a photo by one pixel
# and all 3072 inputs change. Lesson 04 gives the network that knowledge.
#
# ## Break it
#
# Two failures, both silent. First: `forward` keeps $x$, not a copy of it. What if somebody changes $x$ in between, to
# save memory? Second: the softmax, without its shift and with it. Predict what each prints.

# %%
layer = minidl.Linear(I, O, rng=np.random.default_rng(3), dtype="float64")
batch = x.copy()
layer.forward(batch)
batch -= batch.mean(axis=0)  # "nobody needs the batch any more"
print("with the changed batch dweight is off by up to", np.abs(dy.T @ batch - dy.T @ x).max().round(2))
try:
    layer.backward(dy)
except RuntimeError as error:  # the package looks; a layer by hand would say nothing
    print(error)

scores = np.array([[1000.0, 998.0, 990.0]])
with np.errstate(over="ignore", invalid="ignore"):
    for e in (np.exp(scores), np.exp(scores - scores.max())):
        print("softmax:", e / e.sum())

# %% [markdown]
# Hence a rule of this package: **no layer changes its input**, and in-place updates belong to the optimiser, after
# backward.
#
# ## Exercise: a broadcast forwards is a sum backwards
#
# You have met it in $db = \sum_n dy_n$. Write it once for any shape. A small array was broadcast against a larger one,
# so each of its numbers collects what all its copies received: sum over the axes that broadcasting added on the left,
# and over those where the small array's size is 1.


# %% tags=["wrong"]
# check: unbroadcast
# says: the mean over the copies
def unbroadcast(dy, shape):
    added = dy.ndim - len(shape)
    axes = [*range(added), *(added + i for i, size in enumerate(shape) if size == 1)]
    return dy.mean(axis=tuple(axes)).reshape(shape)


# %%
def unbroadcast(dy, shape):
    """Return the gradient, of the given shape, of an array that was broadcast to dy's shape."""
    ### BEGIN SOLUTION
    added = dy.ndim - len(shape)
    axes = [*range(added), *(added + i for i, size in enumerate(shape) if size == 1)]
    return dy.sum(axis=tuple(axes)).reshape(shape)
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(224)  # the check's own numbers
large = own.normal(size=(4, 3, 5, 7))
shapes = {"c": (3, 1, 1), "nc": (4, 3, 1, 1), "w": (7,), "chw": (1, 3, 5, 7)}  # the axes that remain
lesson.check(
    "unbroadcast",
    got=lambda: {axes: unbroadcast(large, shape) for axes, shape in shapes.items()},
    want={axes: np.einsum(f"nchw->{axes}", large).reshape(shape) for axes, shape in shapes.items()},
    tol=1e-12,
    wrong={
        "This is the mean over the copies: each of them changes the loss, so their gradients add up.": lambda: {
            axes: np.einsum(f"nchw->{axes}", large).reshape(shape) / (large.size / math.prod(shape))
            for axes, shape in shapes.items()
        },
    },
)

# %% [markdown]
# ## In the package, and in PyTorch
#
# - `minidl/layers/linear.py`, `minidl/layers/activation.py`, `minidl/losses.py`: the same pairs, forward directly above
#   backward, and the classes around them. `minidl/layers/base.py` has what all layers share: `params`, `grads`, `keep`, and
#   an error that says so if backward is called without a forward.
# - `minidl/optim.py`: the step, with momentum and weight decay.
#
# PyTorch has the same pairs, written once for every operation in `derivatives.yaml`. Its autograd keeps the record:
# it writes down which operation made each tensor, and `loss.backward()` calls the backward functions in reverse order. The
# rest looks as it does here. `.grad` accumulates too, which is why every PyTorch loop calls `optimizer.zero_grad()`.
# `nn.Linear` stores its weight as $(O, I)$. `nn.CrossEntropyLoss` takes logits and averages over the batch. And it
# notices the failure you provoked above: a tensor kept for backward that was changed in place raises an error.
#
# One question is open: how do you know that a backward pass is right when there is no reference to compare with?
# Lesson 03.

# %%
lesson.done()
