# ---
# jupyter:
#   minidl:
#     title: Arrays, layouts and the backend
#     minutes: 60
#     needs: []
#     checks: 5
# ---

# %% [markdown]
# # 01 · Arrays, layouts and the backend
#
# **Goal.** You learn what a NumPy array *is*, a block of memory and a rule for reading it, well enough to predict
# which expressions copy, which are fast, and which silently lose digits. At the end one function of yours runs,
# unchanged, on two array libraries.
#
# **You need.** Python. **Time.** About an hour.
#
# Everything in this course is arithmetic on arrays of images. By convention an array of images has four axes,
# $(N, C, H, W)$: sample, channel, row, column. That convention says what an *index* means. It says nothing about where
# a number lies in memory, and that can make a factor of five in speed.
#
# **Predict before running.** Write your answers down; this page will give them.
#
# 1. An array of shape $(4, 3, 5, 7)$ holds float64. How many bytes lie between `x[0, 0, 0, 0]` and `x[0, 0, 1, 0]`?
# 2. Which of these copy the numbers: `x[:, 0]`, `x[::-1]`, `x[[0, 2]]`, `x.transpose(0, 2, 3, 1)`, `x.reshape(4, -1)`?
# 3. `images` is an array of uint8 pixels, 0 to 255. What is wrong with `(images**2).mean()`?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("01", checks=5)

# %%
import math
import time
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np

from minidl import array_module, data
from minidl.backend import register_library

rng = np.random.default_rng(1)
task = data.load_task("multitask", sample=True)  # a few images of MNIST, CIFAR-10, SVHN and Fashion-MNIST, in minidl
images = task.train.images  # (4600, 3, 32, 32), read-only
print("images:", images.shape, images.dtype, f"{images.nbytes / 2**20:.1f} MiB, pixels {images.min()}..{images.max()}")

# %% [markdown]
# ## A block of memory, and a rule
#
# Memory is one long row of bytes. An array is a *start* in it, a *dtype* (how many bytes a number has, and how to read
# them), a *shape*, and one **stride** per axis: the number of bytes to move when that axis's index grows by one. That is
# all. The element at index $(n, c, h, w)$ lies at the address
#
# $$ \text{start} + n\,s_N + c\,s_C + h\,s_H + w\,s_W . $$
#
# NumPy's default is **C order**: the last index runs fastest, like the digits of an odometer. Derive the strides from
# the right. Neighbours along $W$ are one number apart: $s_W = b$, the bytes of one number. A step along $H$ jumps over
# a whole row of $W$ numbers: $s_H = W b$. A step along $C$ jumps over $H$ rows: $s_C = H W b$. And $s_N = C H W b$. In
# words: **an axis's stride is $b$ times the product of all sizes to its right.**
#
# For question 1, $s_H = 7 \cdot 8 = 56$ bytes. Write the rule down, for any shape.


# %% tags=["wrong"]
# check: strides
# says: PyTorch counts numbers
def c_strides(shape, itemsize):
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


# %%
def c_strides(shape, itemsize):
    """Return the strides, in bytes, of a C-ordered array: a list with one number per axis."""
    ### BEGIN SOLUTION
    return [itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    ### END SOLUTION


# %% tags=["check"]
lesson.check(
    "strides",
    got=lambda: c_strides((4, 3, 5, 7), 8),
    want=np.empty((4, 3, 5, 7)).strides,
    tol=1e-12,
    wrong={
        "These are strides in numbers; NumPy counts bytes (PyTorch counts numbers).": lambda: [105, 35, 7, 1],
        "Here the first index runs fastest: that is Fortran's order.": lambda: [8, 32, 96, 480],
        "The product must begin to the right of the axis: an axis's own size is not part of its stride.": lambda: (
            np.array([420, 105, 35, 7]) * 8
        ),
    },
)


# %% [markdown]
# ## Views: another rule for the same memory
#
# If an array is memory plus a rule, then a transposed, sliced, reversed or repeated array needs no new memory: only a
# new rule. Such an array is a **view**. A view costs nothing to make, and writing into it writes into the original.
#
# - a slice `x[:, ::2]` moves the start and multiplies a stride; `x[::-1]` makes it *negative*;
# - `transpose` permutes the strides;
# - `broadcast_to` gives a repeated axis the stride **0**: the same number is read again and again.
#
# Where no rule of this form exists, NumPy has to copy: indexing with a list or a mask (the indices follow no single
# stride), arithmetic, and `reshape` *when the axes it merges do not lie in order in memory*.

# %%
x = np.arange(4 * 3 * 5 * 7, dtype=float).reshape(4, 3, 5, 7)
cases = {
    "x": x,
    "x[:, 0]": x[:, 0],
    "x[::-1]": x[::-1],
    "x[[0, 2]]": x[[0, 2]],
    "x.transpose(0, 2, 3, 1)": x.transpose(0, 2, 3, 1),
    "x.reshape(4, -1)": x.reshape(4, -1),
    "x.transpose(0, 2, 3, 1).reshape(4, -1)": x.transpose(0, 2, 3, 1).reshape(4, -1),
    "np.broadcast_to(x, (2, 4, 3, 5, 7))": np.broadcast_to(x, (2, 4, 3, 5, 7)),
}
for text, array in cases.items():
    what = "view" if np.shares_memory(x, array) else "COPY"
    print(f"{text:40s}{what}   shape {array.shape!s:18s} strides {array.strides}")

# %% [markdown]
# Question 2: only `x[[0, 2]]` copies. The two `reshape` lines are worth a second look. Merging $(3, 5, 7)$ into 105
# works as a view of `x`, because those three axes lie one inside the other. After the transpose they do not, and the
# same call silently copies everything.
#
# ## Index order and memory order are two things
#
# minidl keeps images as $(N, C, H, W)$ **by index**, so that formulas, PyTorch's state dictionaries and your intuition
# all agree. In **memory** it puts the batch innermost: the numbers lie as in a C-ordered array of shape
# $(C, H, W, N)$, and the array you hold is a transposed view of that. One pixel of one channel, for all samples, is
# then one contiguous run.
#
# By the rule above, the strides of a C-ordered $(C, H, W, N)$ array are
# $s_C = HWN\,b,\ s_H = WN\,b,\ s_W = N b,\ s_N = b$. Put in index order:
#
# | | $s_N$ | $s_C$ | $s_H$ | $s_W$ |
# |---|---|---|---|---|
# | C order | $CHW\,b$ | $HW\,b$ | $W\,b$ | $b$ |
# | batch innermost | $b$ | $HWN\,b$ | $WN\,b$ | $N\,b$ |
#
# Write the function that brings images into this format: the same values at the same indices, at other places. It takes
# one copy, and one `transpose` before and one after. (`transpose(1, 2, 3, 0)` says: the new axis 0 is the old axis 1,
# …) Beware of `reshape`: it keeps the memory and changes the indices, the very opposite of what is wanted.


# %% tags=["wrong"]
# check: batch innermost
# says: reshape(3, 5, 7, 4) renumbers the memory as it is
def batch_innermost(x):
    n, c, h, w = x.shape
    return x.reshape(c, h, w, n).transpose(3, 0, 1, 2)


# %% tags=["wrong"]
# check: batch innermost
# says: the copy between the two transposes is missing
def batch_innermost(x):
    return x.transpose(1, 2, 3, 0).transpose(3, 0, 1, 2)


# %%
def batch_innermost(x):
    """Return a copy of x, indexed (N, C, H, W) as before, whose memory is that of a C-ordered (C, H, W, N) array."""
    ### BEGIN SOLUTION
    memory = np.ascontiguousarray(x.transpose(1, 2, 3, 0))  # (C, H, W, N), copied
    return memory.transpose(3, 0, 1, 2)  # a view: (N, C, H, W)
    ### END SOLUTION


def values_and_strides(y):
    return {"values": y, "strides": y.strides}


# %% tags=["check"]
lesson.check(
    "batch innermost",
    got=lambda: values_and_strides(batch_innermost(x)),
    want={"values": x, "strides": np.array([1, 5 * 7 * 4, 7 * 4, 4]) * 8},
    tol=1e-12,
    wrong={
        "The strides are right and the values are scrambled: reshape(3, 5, 7, 4) renumbers the memory as it is, where "
        "x.transpose(1, 2, 3, 0) moves the axes.": lambda: values_and_strides(
            x.reshape(3, 5, 7, 4).transpose(3, 0, 1, 2)
        ),
        "Here the channels lie innermost; it is the batch that moves to the last place.": lambda: values_and_strides(
            x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
        ),
        "A view alone moves nothing: the copy between the two transposes is missing.": lambda: values_and_strides(x),
    },
)


# %% [markdown]
# ## See it: why the layout decides the speed
#
# NumPy walks through an array with one **inner loop** over as many numbers as one stride reaches, and some overhead
# around it for every start of that loop. The processor fetches memory in lines of 64 bytes and computes on 8 or 16
# floats at once. So an operation is fast when its inner loop is *long* and *contiguous*.
#
# Take the difference of neighbouring pixels, `x[..., 1:] - x[..., :-1]`: pooling and convolution are made of such
# shifted reads. The last column drops out, so in C order the inner loop covers one row, $W - 1$ numbers. With the batch
# innermost, neighbours along $W$ are whole runs of $N$ samples: the inner loop covers $(W - 1) N$ numbers.
#
# Predict: the arrays timed below hold the same amount of numbers for every side. How do the two times depend on the
# side? And what will it cost to add two arrays of *different* layout?


# %% tags=["figure"]
def milliseconds(f, repeats=5):
    """Return the shortest of a few runs: the least disturbed by everything else the machine does."""
    f()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


fast = lesson.yours(batch_innermost, lambda x: x.transpose(1, 2, 3, 0).copy().transpose(3, 0, 1, 2), "batch innermost")
figure, (strips, bars) = plt.subplots(2, 1, figsize=(9, 5.6), height_ratios=(2, 3), layout="constrained")
sample, _, _, column = np.indices(x.shape)
memory_order = (0, 1, 2, 3), (1, 2, 3, 0)
strips.imshow([sample.transpose(order).ravel()[:32] for order in memory_order], cmap="Pastel1", vmax=8, aspect="auto")
for row, order in enumerate(memory_order):
    for place, w in enumerate(column.transpose(order).ravel()[:32]):
        strips.text(place, row, w, ha="center", va="center")
strips.set(yticks=[0, 1], yticklabels=["C order", "batch innermost"], xlabel="place in memory (number of values)")
strips.set_title("The first values of x (4, 3, 5, 7) in memory: one colour per sample, the figure is the column w")

sides, channels = (4, 8, 16, 32), (512, 128, 32, 8)
for shift, layout in ((-0.2, "C order"), (0.2, "batch innermost")):
    for place, (side, c) in enumerate(zip(sides, channels, strict=True)):
        a = rng.normal(size=(128, c, side, side)).astype(np.float32)
        a = a if layout == "C order" else fast(a)
        time_ms = milliseconds(lambda a=a: a[..., 1:] - a[..., :-1])
        loop = (side - 1) * (1 if layout == "C order" else 128)
        bar = bars.bar(place + shift, time_ms, 0.38, color="tab:red" if layout == "C order" else "tab:blue")
        bars.bar_label(bar, [loop], fontsize=9)
        bar.set_label(layout if place == 0 else None)
bars.set(xticks=range(4), xticklabels=[f"{side} × {side}" for side in sides], ylabel="time (ms)", xlabel="image size")
bars.set_title("x[..., 1:] − x[..., :-1] on a million values: short inner loops (their length on the bars) are slow")
bars.legend(frameon=False)
bars.margins(y=0.15)
plt.show()

a, scale = (rng.normal(size=(128, 32, *pixels)).astype(np.float32) for pixels in ((16, 16), (1, 1)))
b, scale_b = fast(a), fast(scale)
for text, f in {
    "C order + C order": lambda: a + a,
    "innermost + innermost": lambda: b + b,
    "C order + innermost": lambda: a + b,
    "innermost * its scale (128, 32, 1, 1)": lambda: b * scale_b,
    "innermost * the scale in C order": lambda: b * scale,
}.items():
    print(f"{text:40s}{milliseconds(f):7.2f} ms")

# %% [markdown]
# On the machines this was tried on, small images cost several times more in C order: rows of three numbers keep the
# processor busy with that overhead. Deep in a network images *are* small, 4 or 8 pixels wide. The batch, 16 or 128, is
# the same everywhere, and so is the speed of the format that has it innermost.
#
# A layout is no free lunch. The table shows what an operation costs when its operands **disagree**: NumPy must walk
# along one of them and across the other, and every number read drags in a cache line of which it uses four bytes. The
# last line is the surprise: `scale` is tiny, one number per sample and channel, and its order still decides how NumPy
# walks through everything. The rule to keep: **choose one memory format and let every array follow it**, the small
# ones too.
#
# ## Broadcasting
#
# Shapes are aligned **from the right**. Two sizes fit if they are equal or one of them is 1; missing axes on the left
# count as 1. A size of 1 is then read with stride 0. With $x$ of shape $(N, C, H, W)$:
#
# | expression | second operand | means |
# |---|---|---|
# | `x - mu[:, None, None]` | $(C, 1, 1)$ | one number per channel |
# | `x - m[:, :, None, None]` | $(N, C, 1, 1)$ | one number per sample and channel |
# | `x - mu` | $(C)$ | an error, or, if $C = W$ by chance, **one number per column**: no error, wrong result |
#
# This is why the tests of this course use the sizes 3, 4, 5, 7: equal sizes hide transposed axes.
#
# ## Reductions, by axis and by dtype
#
# `x.sum(axis=(0, 2, 3))` adds over the axes *named*, and the others remain: $(N, C, H, W) \to (C)$. Two things can go
# wrong in the adding.
#
# **Integers wrap.** `images**2` is again uint8, so $200^2 = 40000$ becomes $40000 \bmod 256 = 64$. That is question 3.
#
# **Floats round.** float32 has 24 bits, about 7 digits. Adding a small number to a sum of a million rounds it to the
# sum's own grid. NumPy softens this by adding in pairs (*pairwise summation*), but only along the axis that lies
# innermost; along another axis it adds row after row, the naive way. So *the layout decides the accuracy as well*: the
# cell below first adds a million tenths, and is wrong by one percent, without a warning. `dtype=np.float64`
# in the reduction makes the sum in float64, and needs no float64 copy of the data.
#
# Now use all of it. The training of this course feeds networks with standardized images: for each channel $c$, with
# pixels $p = \text{uint8}/255$,
#
# $$ \mu_c = \operatorname*{mean}_{n,h,w}\, p_{nchw}, \qquad
#    \sigma_c^2 = \operatorname*{mean}_{n,h,w}\, (p_{nchw} - \mu_c)^2, \qquad
#    x_{nchw} = \frac{p_{nchw} - \mu_c}{\sigma_c} . $$
#
# The shapes: $\mu$ and $\sigma$ are $(C)$; they meet $(N, C, H, W)$ as $(C, 1, 1)$. Compute the statistics in float64,
# return $x$ as float32.


# %% tags=["wrong"]
# check: standardize
# says: The squares wrapped in uint8
def standardize(images):
    mu = images.mean(axis=(0, 2, 3)) / 255
    sigma = np.sqrt(np.abs((images**2).mean(axis=(0, 2, 3)) / 255**2 - mu**2))
    return (images / 255 - mu[:, None, None]) / sigma[:, None, None], mu, sigma


# %%
print("(images**2).mean():", (images[:100] ** 2).mean(), " true:", (images[:100].astype(float) ** 2).mean())
tenth = np.full((2, 1_000_000), 0.1, np.float32)  # two rows of a million tenths, contiguous
columns = np.ascontiguousarray(tenth.T)  # the same numbers as (1000000, 2): the long axis is not innermost
for text, total in {
    "along the innermost axis": tenth.sum(axis=1)[0],
    "along the other axis": columns.sum(axis=0)[0],
    "the same with dtype=np.float64": columns.sum(axis=0, dtype=np.float64)[0],
}.items():
    print(f"{text:32s}{total:.3f}   relative error {abs(total / 1e6 / float(np.float32(0.1)) - 1):.1e}")


def standardize(images):
    """Return x, float32 (N, C, H, W), with mean 0 and standard deviation 1 in each channel, and mu and sigma (C,)."""
    ### BEGIN SOLUTION
    pixels = images / 255.0  # float64, so nothing wraps
    mu, sigma = pixels.mean(axis=(0, 2, 3)), pixels.std(axis=(0, 2, 3))
    x = (pixels - mu[:, None, None]) / sigma[:, None, None]
    return x.astype(np.float32), mu, sigma
    ### END SOLUTION


def naive_statistics(images):
    """What arithmetic in uint8 gives: E p² − (E p)² with squares that wrapped."""
    mu = images.mean(axis=(0, 2, 3)) / 255
    return mu, np.sqrt(np.abs((images**2).mean(axis=(0, 2, 3)) / 255**2 - mu**2))


def named(x, mu, sigma):
    return {"mu": mu, "sigma": sigma, "x": x}


# %% tags=["check"]
some = images[1100:1200]  # the end of MNIST, whose three channels are equal, and the beginning of CIFAR-10
true_mu = np.array([(channel / 255).mean() for channel in some.transpose(1, 0, 2, 3)])
true_sigma = np.array([(channel / 255).std() for channel in some.transpose(1, 0, 2, 3)])
true_x = (some / 255 - true_mu.reshape(1, 3, 1, 1)) / true_sigma.reshape(1, 3, 1, 1)
whole = (some / 255 - (some / 255).mean()) / (some / 255).std()
lesson.check(
    "standardize",
    got=lambda: named(*standardize(some)),
    want=named(true_x, true_mu, true_sigma),
    tol={"mu": 1e-12, "sigma": 1e-12, "x": 1e-6},  # float32 rounds numbers below 4 by up to 1.2e-7
    wrong={
        "The squares wrapped in uint8: go to floats first.": lambda: named(
            (some / 255 - naive_statistics(some)[0][:, None, None]) / naive_statistics(some)[1][:, None, None],
            *naive_statistics(some),
        ),
        "One mean for the whole array: name the axes, axis=(0, 2, 3), so that one per channel remains.": lambda: named(
            whole, np.full(3, (some / 255).mean()), np.full(3, (some / 255).std())
        ),
    },
)


# %% [markdown]
# ## One function, two libraries
#
# CuPy is a library with NumPy's interface whose arrays lie on a GPU. JAX and others look alike, too. A function that
# says `np.exp` is bound to NumPy. A function that *asks its arguments* which library they belong to runs anywhere:
#
# ```
# xp = array_module(z)      # numpy, or cupy, or …
# y = xp.exp(z)
# ```
#
# This one line is all there is to minidl's "backend". The function never imports CuPy; it never moves an array behind
# your back; and if you mix arrays of two libraries, you get a TypeError that says so.
#
# To practise without a GPU we make a second library ourselves: `ledger`, whose arrays lie "elsewhere" and whose
# functions write down their names. NumPy's functions refuse its arrays, much as CuPy refuses to be read by accident.


# %%
class LedgerArray:
    """Numbers that only the library `ledger` may touch."""

    __array_ufunc__ = None  # NumPy's ufuncs now raise TypeError

    def __init__(self, host):
        self.host = host

    def __sub__(self, other):
        return ledger.subtract(self, other)

    def __add__(self, other):
        return ledger.add(self, other)


def ledger_function(name):
    def call(*args, **kwargs):
        ledger.written.append(name)
        bare = [a.host if isinstance(a, LedgerArray) else a for a in args]
        return LedgerArray(getattr(np, name)(*bare, **kwargs))

    return call


ledger = ModuleType("ledger")
ledger.written = []
for name in ("exp", "log", "sum", "max", "add", "subtract", "maximum"):
    setattr(ledger, name, ledger_function(name))
register_library(LedgerArray, ledger)  # from now on array_module knows these arrays

z = rng.normal(size=(5, 7)) * 300  # scores of 5 samples for 7 classes, large on purpose
print(array_module(z).__name__, array_module(LedgerArray(z)).__name__)
try:
    array_module(z=z, weight=LedgerArray(z))
except TypeError as error:
    print("mixed:", error)

# %% [markdown]
# Your function is the logarithm of the softmax, which lesson 02 needs. For each row of scores $z_n$,
#
# $$ \log p_{nk} = \log \frac{e^{z_{nk}}}{\sum_j e^{z_{nj}}} = z_{nk} - \log \sum_j e^{z_{nj}} . $$
#
# With scores near 300 or more the exponential runs towards overflow ($e^{710} > 10^{308}$). Softmax does not change if
# a constant is subtracted from a whole row: $e^{z - a} = e^{-a} e^{z}$, and $e^{-a}$ cancels in the quotient. With $a_n
# = \max_k z_{nk}$ the largest exponent is 0, and nothing overflows:
#
# $$ \log p_{nk} = (z_{nk} - a_n) - \log \sum_j e^{z_{nj} - a_n} . $$
#
# Shapes: $z$ is $(N, K)$; $a$ and the sum are $(N, 1)$, with `keepdims=True`, so that they broadcast. Call functions of
# `xp`, `xp.max(z, axis=1, keepdims=True)` for instance, rather than methods.


# %% tags=["wrong"]
# check: log_softmax
# says: does not support ufuncs
def log_softmax(z):
    xp = array_module(z)
    shifted = z - xp.max(z, axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


# %% tags=["wrong"]
# check: log_softmax
# says: each row is a distribution
def log_softmax(z):
    xp = array_module(z)
    shifted = z - xp.max(z, axis=0, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=0, keepdims=True))


# %%
def log_softmax(z):
    """Return log p, (N, K) as z, for NumPy arrays and for arrays of any registered library."""
    ### BEGIN SOLUTION
    xp = array_module(z)
    shifted = z - xp.max(z, axis=1, keepdims=True)  # (N, K) − (N, 1)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    ### END SOLUTION


def on_both(function, z):
    ledger.written.clear()
    found = {"on numpy": function(z), "on ledger": function(LedgerArray(z)).host}
    print("what ran on the second library:", " -> ".join(ledger.written))
    return found


# %% tags=["check"]
own = np.random.default_rng(104)  # the check's own scores, whatever ran above
spread, offset = np.array([[300.0], [1], [1], [2], [0.5]]), np.array([[0], [1500], [-1500], [900], [-900]])
scores = own.normal(size=(5, 7)) * spread + offset
true_log_p = np.stack([row - row.max() - math.log(math.fsum(np.exp(row - row.max()))) for row in scores])
over_samples = scores - scores.max(axis=0)
lesson.check(
    "log_softmax",
    got=lambda: on_both(log_softmax, scores),
    want={"on numpy": true_log_p, "on ledger": true_log_p},
    tol=1e-11,  # the numbers reach about 1500, and float64 has 16 digits
    wrong={
        "The sum must run over the classes, axis=1: each row is a distribution.": lambda: dict.fromkeys(
            ("on numpy", "on ledger"), over_samples - np.log(np.exp(over_samples).sum(axis=0))
        ),
    },
)


# %% [markdown]
# The check also printed what your function did on the second library: six operations. Each is one pass over memory on
# a CPU, and one *kernel launch* on a GPU. You will count them again in lesson 14.
#
# ## Exercise: windows without copying
#
# A convolution looks at every $k_h \times k_w$ window of an image. All windows of $x$ together have the shape
# $(N, C, H - k_h + 1, W - k_w + 1, k_h, k_w)$, nearly $k_h k_w$ times as many numbers as $x$. Yet no new memory is
# needed. Find the strides: moving the window down by one, and moving down by one *inside* the window, are the same step
# in memory. `np.lib.stride_tricks.as_strided(x, shape, strides)` makes the view. (It checks nothing; wrong strides read
# whatever lies there.)


# %% tags=["wrong"]
# check: windows
# says: Right values, but copied
def windows(x, kh, kw):
    n, c, h, w = x.shape
    out = np.empty((n, c, h - kh + 1, w - kw + 1, kh, kw))
    for i in range(kh):
        for j in range(kw):
            out[..., i, j] = x[:, :, i : i + h - kh + 1, j : j + w - kw + 1]
    return out


# %%
def windows(x, kh, kw):
    """Return the (N, C, H − kh + 1, W − kw + 1, kh, kw) view of all windows of x, whatever x's own strides are."""
    ### BEGIN SOLUTION
    n, c, h, w = x.shape
    sn, sc, sh, sw = x.strides
    shape = (n, c, h - kh + 1, w - kw + 1, kh, kw)
    return np.lib.stride_tricks.as_strided(x, shape, (sn, sc, sh, sw, sh, sw), writeable=False)
    ### END SOLUTION


# %% tags=["check"]
other = x.transpose(2, 3, 0, 1).copy().transpose(2, 3, 0, 1)  # the values of x in yet another memory order
right = np.lib.stride_tricks.sliding_window_view(other, (3, 2), axis=(2, 3))
lesson.check(
    "windows",
    got=lambda: {"values": windows(other, 3, 2), "is a view": np.shares_memory(windows(other, 3, 2), other)},
    want={"values": right, "is a view": True},
    tol=1e-12,
    wrong={
        "Right values, but copied: build the strides of a view instead.": lambda: {
            "values": right,
            "is a view": False,
        }
    },
)


# %% [markdown]
# ## In the package, and in PyTorch
#
# - `minidl/memory.py` makes and recognises the batch-innermost format (`images`, `batch_first`, `batch_last`), in 30
#   lines. A layer that is given other strides makes one copy and returns the same numbers.
# - `minidl/backend.py` has `array_module`, `to_device`, `to_host`, `use_backend`: every difference between NumPy and
#   CuPy that a layer can meet.
# - `minidl/layers/pool.py` shows what the format buys: pooling is a few shifted reads, and no line of it mentions a
#   layout.
#
# In PyTorch, `x.stride()` counts numbers, not bytes; `x.view(...)` refuses where NumPy's `reshape` would copy;
# `.to(memory_format=torch.channels_last)` is the same idea as ours with the *channel* innermost, which its GPU
# convolutions like. In JAX an array has no strides you could see: the compiler chooses.

# %%
lesson.done()
