# ---
# jupyter:
#   minidl:
#     title: The same code on a GPU
#     minutes: 60
#     needs: ["01", "04", "05"]
#     checks: 4
# ---

# %% [markdown]
# # 14 · The same code on a GPU
#
# **Goal.** You learn what a GPU asks of code like ours: how a kernel is written, which memory layout it likes, why
# nothing is ever added into a shared place, and why the loss is printed so rarely. At the end you read one of minidl's
# CUDA kernels line by line.
#
# **You need.** Lessons 01 (layouts, `array_module`), 04 (convolution) and 05 (batch norm). **No GPU**: this lesson
# *emulates* threads in Python and *counts* what a GPU would do. Where there is a GPU and CuPy, the last cells use it.
# **Time.** About an hour. Nothing later depends on this lesson.
#
# **Predict before running.** Write your answers down; this page will give them.
#
# 1. To start a kernel takes the host about 5 µs. A training step starts 100 of them; each works 1 µs. How long does the
#    step take, and what does it help to make the kernels twice as fast?
# 2. Thirty-two threads read one float32 each. Memory is fetched in pieces of 32 bytes. How many pieces, at best and at
#    worst?
# 3. `counts = np.zeros(3)`, then `counts[[0, 0, 0, 2]] += 1`. What is in `counts`?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("14", checks=4)

# %%
import inspect
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minidl
from minidl.backend import why_no_cupy
from minidl.engines import cuda
from minidl.layers import conv

rng = np.random.default_rng(14)
no_gpu = why_no_cupy()  # None where CuPy can run a kernel, else the reason
print("a GPU is used in the last cells" if no_gpu is None else f"no GPU here:\n{no_gpu}")

# %% [markdown]
# ## A kernel
#
# A GPU runs one function, a **kernel**, in very many **threads** at once. All threads run the same code; they differ in
# one number, their index. In CUDA the threads come in blocks, and a thread's index, 0 … total − 1, is
#
# ```
# t = blockIdx.x
#     * blockDim.x
#     + threadIdx.x;
# total = gridDim.x
#     * blockDim.x;
# ```
#
# A kernel cannot return anything: it writes into arrays it was given. And it may not assume an order. The threads
# of different blocks run whenever there is room.
#
# How many threads? Not one a number: arrays have any size, and grids do not. The usual form is the **grid-stride
# loop**. Thread $t$ handles the numbers $t,\ t + \text{total},\ t + 2\,\text{total}, \dots$ as long as they are smaller
# than the size. Any number of threads then does any amount of work, each number exactly once: $i \bmod \text{total}$
# says whose it is.
#
# `launch` below emulates a GPU faithfully in one respect: its threads come in random order. Write the kernel of ReLU.


# %% tags=["wrong"]
# check: grid-stride
# says: Each thread wrote one number
def relu_kernel(t, total, x, y):
    if t < len(x):
        y[t] = max(x[t], 0)


# %% tags=["wrong"]
# check: grid-stride
# says: Every thread wrote everything
def relu_kernel(t, total, x, y):
    for i in range(len(x)):
        y[i] = max(x[i], 0)


# %%
def launch(kernel, blocks, threads, *args):
    """Run kernel(t, total, *args) for every thread of the grid, in random order."""
    total = blocks * threads
    for t in rng.permutation(total):
        kernel(int(t), total, *args)


def relu_kernel(t, total, x, y):
    """What thread t of `total` does: its share of y = max(x, 0), for one-dimensional x and y."""
    ### BEGIN SOLUTION
    for i in range(t, len(x), total):
        y[i] = x[i] if x[i] > 0 else 0
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(1406)  # the check's own numbers
total, size = 7 * 32, 1000  # 224 threads: four rounds and a bit


class Written(np.ndarray):
    """An array that notes how often each of its places is written, and by which thread: −1 for none, −2 for several."""

    def __setitem__(self, place, value):
        self.times[place] += 1
        before, now = self.writer[place], self.now[0]
        self.writer[place] = np.where((before == -1) | (before == now), now, -2)
        super().__setitem__(place, value)


def run_relu(kernel, x):
    y = np.zeros_like(x).view(Written)
    y.times, y.writer, y.now = np.zeros(len(x)), np.full(len(x), -1.0), [-1]

    def noted(t, total, x, y):
        y.now[0] = t
        kernel(t, total, x, y)

    launch(noted, 7, 32, x, y)
    return {"y": np.asarray(y), "times written": y.times, "thread that wrote": y.writer}


x = own.normal(size=size)


def shared_out(numbers, read=lambda i, t: i, write=lambda i, t: i):
    """Return what a kernel gives whose thread t goes through numbers(t), reads x[read(i, t)], writes y[write(i, t)]."""
    y, times, writer = np.zeros(size), np.zeros(size), np.full(size, -1.0)
    for t in range(total):
        for i in numbers(t):
            j = write(i, t)
            y[j], times[j] = max(x[read(i, t)], 0), times[j] + 1
            writer[j] = t if writer[j] in (-1, t) else -2
    return {"y": y, "times written": times, "thread that wrote": writer}


def rounds(t):
    return range(t, size, total)


pieces = np.array_split(np.arange(size), total)
lesson.check(
    "grid-stride",
    got=lambda: run_relu(relu_kernel, x),
    want={"y": x.clip(0), "times written": np.ones(size), "thread that wrote": np.arange(size) % total},
    tol=1e-15,
    wrong={
        "Each thread wrote one number: it must go on, in steps of `total`, to the end of the array.": lambda: (
            shared_out(lambda t: [t])
        ),
        "Every thread wrote everything: thread t begins at t and goes in steps of `total`.": lambda: shared_out(
            lambda t: range(size)
        ),
        "Pieces of one length leave the rest undone, where the size is no multiple of the threads.": lambda: shared_out(
            lambda t: range(4 * t, 4 * t + 4)
        ),
        "Each thread has a piece of neighbouring numbers, as on a CPU. Here thread t takes t, t + total, …": lambda: (
            shared_out(numbers)
            for numbers in (
                lambda t: range(5 * t, min(5 * t + 5, size)),
                lambda t: pieces[t],
                lambda t: range(t * total, min((t + 1) * total, size)),
                lambda t: range(4 * t, 4 * t + 4 if t < total - 1 else size),
            )
        ),
        "One thread did everything, the others nothing: thread t does its own share.": lambda: (
            shared_out(lambda t, one=one: range(size * (t == one))) for one in (0, total - 1)
        ),
        "The step from one number of a thread to its next is `total`, no other.": lambda: (
            shared_out(lambda t, step=step: range(t, size, step or t + 1)) for step in (1, 7, 32, 223, 225, 0)
        ),
        "A thread's numbers are not a stretch from t on: they are `total` apart.": lambda: shared_out(
            lambda t: range(t, min(t + total, size))
        ),
        "In a round it is number i that is read and written; t is only where the thread begins.": lambda: (
            shared_out(rounds, **{which: place})
            for which, place in (
                ("read", lambda i, t: t),
                ("write", lambda i, t: t),
                ("read", lambda i, t: i - t),
                ("write", lambda i, t: i - t),
            )
        ),
        "Some rounds are missing: the last number of a thread is the last below the size of the array.": lambda: (
            shared_out(lambda t, some=some: list(rounds(t))[some])
            for some in (slice(0, 2), slice(0, 3), slice(0, 4), slice(0, -1), slice(1, None))
        ),
        "Where x is negative nothing is written: y may hold anything there, so a kernel writes its zeros too.": lambda: (
            shared_out(lambda t: [i for i in rounds(t) if x[i] > 0])
        ),
    },
)

# %% [markdown]
# ## Coalescing: neighbours should read neighbours
#
# Threads run in groups of 32, **warps**, whose threads do the same instruction at the same time (NVIDIA's; AMD's have
# 32 or 64). When it is a read, the warp asks for 32 addresses at once, and memory answers in **sectors** of 32 bytes.
# What counts is how many *different* sectors the 32 addresses touch. Consecutive float32 numbers: $32 \cdot 4 / 32 = 4$
# sectors, every byte used. Far apart: 32 sectors, of each 4 bytes used, one eighth of the speed. That is question 2.
#
# So the grid-stride loop strides by `total` and does *not* give each thread a contiguous piece: neighbours in the warp
# are then neighbours in memory, at every round. (On a CPU it is the other way round: there each thread should have a
# piece of its own.)
#
# Write the count. Addresses are in bytes; sector $s$ holds the bytes $32 s$ to $32 s + 31$.


# %% tags=["wrong"]
# check: sectors
# says: also those that nobody asked for
def sectors(addresses):
    return addresses.max() // 32 - addresses.min() // 32 + 1


# %%
def sectors(addresses):
    """Return how many sectors of 32 bytes the addresses of one warp touch."""
    ### BEGIN SOLUTION
    return len(np.unique(addresses // 32))
    ### END SOLUTION


# %% tags=["check"]
lane = np.arange(32)
reads = {
    "neighbours": 4 * lane + 4096,
    "neighbours, not aligned": 4 * lane + 4100,
    "every second": 8 * lane,
    "far apart": 4 * 784 * lane,
    "all the same": 0 * lane + 68,
}


def of_each(count):
    return {name: count(addresses) for name, addresses in reads.items()}


lesson.check(
    "sectors",
    got=lambda: of_each(sectors),
    want=dict(zip(reads, (4, 5, 8, 32, 1), strict=True)),
    tol=0.5,
    wrong={
        "This counts addresses; eight floats share a sector.": lambda: (
            of_each(count) for count in (lambda a: len(set(a)), len)
        ),
        "This counts pieces of another size: a sector has 32 bytes, and addresses are in bytes.": lambda: (
            of_each(lambda a, size=size: len(np.unique(a // size))) for size in (8, 16, 64, 128)
        ),
        "This counts all sectors between the first and the last, also those that nobody asked for.": lambda: of_each(
            lambda a: a.max() // 32 - a.min() // 32 + 1
        ),
        "This counts bytes that are read; it matters where they lie, not only how many they are.": lambda: (
            of_each(count)
            for count in (
                lambda a: 4,
                lambda a: len(np.unique(a)) * 4 // 32,
                lambda a: -(-len(np.unique(a)) * 4 // 32),
                lambda a: len(np.unique(a)) / 8,
            )
        ),
        "`% 32` is the place inside a sector; the number of the sector is the quotient, `// 32`.": lambda: (
            of_each(count) for count in (lambda a: len(np.unique(a % 32)), lambda a: len(np.unique(a)) // 32)
        ),
        "A sector begins at a multiple of 32 and goes up from there: round down, as `//` does.": lambda: (
            of_each(lambda a, way=way: len(np.unique(way(a / 32)))) for way in (np.round, np.ceil, lambda a: a)
        ),
        "Sectors begin at multiples of 32, wherever the first address lies: do not count from it.": lambda: (
            of_each(count)
            for count in (
                lambda a: len(np.unique((a - a[0]) // 32)),
                lambda a: (a.max() - a.min()) // 32 + 1,
                lambda a: (a.max() - a.min()) // 32,
            )
        ),
        "These are the numbers of sectors, added or the largest of them: how many different ones are there?": lambda: (
            of_each(count)
            for count in (
                lambda a: np.unique(a // 32).sum(),
                lambda a: (a // 32).sum(),
                lambda a: a.max() // 32,
                lambda a: a.max() // 32 + 1,
            )
        ),
        "A sector can be entered in its middle, and two addresses less than 32 bytes apart can lie in two.": lambda: (
            of_each(count)
            for count in (
                lambda a: np.count_nonzero(a % 32 == 0),
                lambda a: len(np.unique(a[a % 32 == 0])),
                lambda a: 1 + np.count_nonzero(np.diff(a) > 32),
                lambda a: 1 + np.count_nonzero(np.diff(a) >= 32),
            )
        ),
    },
)

# %% [markdown]
# ## See it: which layout does a warp like?
#
# Take images with $C = 16$, $28 \times 28$, once in C order, $(N, C, H, W)$ in memory, and once with the batch
# innermost, $(C, H, W, N)$. In every kernel thread $t$ makes the $t$-th number of its output *in memory order*; from
# $t$ follow the indices, and from the indices the address it reads. Four reads of minidl's kernels:
#
# - **ReLU**: thread $t$ reads number $t$;
# - **max pooling 2×2**: the thread of output $(n, c, h, w)$ reads $x_{n, c, 2h, 2w}$;
# - **moments of a norm**: the thread of $(n, c)$ walks along the pixels of its image and begins at $x_{n,c,0,0}$;
# - **scale of a norm**: the thread of pixel $(n, c, h, w)$ reads $s_{nc}$.
#
# Predict the number of sectors a read for both layouts, with $N = 128$. Then: what happens to the second for $N = 4$?

# %% tags=["figure"]
C, H = 16, 28
count = lesson.yours(sectors, lambda addresses: len(np.unique(addresses // 32)), check="sectors")


def reads_of(layout, n):
    """Return {kernel: average sectors a read} for images in this layout."""
    sizes = {"n": n, "c": C, "h": H, "w": H}
    order = "nchw" if layout == "C order" else "chwn"

    def address(sizes, index):
        place = 0
        for axis in order:
            place = place * sizes.get(axis, 1) + index.get(axis, 0)
        return 4 * place

    def average(outputs, read):
        axes = [axis for axis in order if axis in outputs]
        shape = [outputs[axis] for axis in axes]
        warps = rng.integers(0, int(np.prod(shape)) // 32, 200)
        found = [dict(zip(axes, np.unravel_index(32 * warp + lane, shape), strict=True)) for warp in warps]
        return np.mean([count(read(index)) for index in found])

    small = {"n": n, "c": C}
    return {
        "ReLU": average(sizes, lambda i: address(sizes, i)),
        "max pooling": average(
            sizes | {"h": 14, "w": 14}, lambda i: address(sizes, i | {"h": 2 * i["h"], "w": 2 * i["w"]})
        ),
        "moments": average(small, lambda i: address(sizes, i)),
        "scale of a norm": average(sizes, lambda i: address(small, {"n": i["n"], "c": i["c"]})),
    }


figure, axes = plt.subplots(figsize=(9, 3.8), layout="constrained")
for place, (layout, n) in enumerate((("C order", 128), ("batch innermost", 128), ("batch innermost", 4))):
    counted = reads_of(layout, n)
    colour = ("tab:red", "tab:blue", "lightsteelblue")[place]
    bars = axes.bar(np.arange(4) + 0.27 * (place - 1), counted.values(), 0.26, label=f"{layout}, N = {n}", color=colour)
    axes.bar_label(bars, fmt="%.1f", fontsize=9)
axes.axhline(4, color="black", lw=1, ls="--", label="32 different floats need at least 4")
axes.set(xticks=range(4), xticklabels=counted, ylabel="sectors a read of one warp", ylim=(0, 36))
axes.set_title("With the batch innermost, a warp reads its neighbours in every kernel (counted, not timed)")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# With the batch innermost, the 32 threads of a warp do the same pixel for 32 neighbouring samples, *whatever the kernel
# does to that pixel*. That is why minidl's kernels can be simple. In C order a good kernel for the moments is possible
# too, but there the threads of a warp must share one image and exchange their sums. Small batches spoil it a little;
# and one read is cheaper in C order, the scale, where all threads want the same number.
#
# ## Nobody adds into a shared place
#
# The last trap of parallel code: two threads that *add* to the same place. Each reads the old value, adds, and writes.
# If both read before one writes, one addition is lost: a **race**. NumPy's `counts[index] += 1` does just that, in the
# open: it reads all, adds all, writes all. `np.add.at` does it one after the other, as a GPU's *atomic* additions do.
# But atomics come in the order in which threads happen to arrive, and floating-point addition depends on the order:

# %%
counts = np.zeros(3)
counts[[0, 0, 0, 2]] += 1
print("counts[[0, 0, 0, 2]] += 1 gives", counts, "(question 3)")
counts = np.zeros(3)
np.add.at(counts, [0, 0, 0, 2], 1)
print("np.add.at gives             ", counts)

shuffle = np.random.default_rng(15)
v = shuffle.normal(size=1000).astype(np.float32)
sums = [np.cumsum(shuffle.permutation(v))[-1] for _ in range(500)]  # cumsum adds one after the other, in float32
print(f"the same 1000 numbers added in 500 orders: {len(set(sums))} different sums")

# %% [markdown]
# Dozens of different results from the same numbers: a training that uses atomics does not repeat itself, and you cannot
# tell a bug from noise. Hence the rule of all our kernels: **one thread owns one output and gathers what belongs to
# it**, in a fixed order. Nothing is scattered.
#
# ## A scatter turned round: col2im
#
# In lesson 04, the backward pass of a convolution *added columns back to the pixels they came from*. In one dimension
# (one channel, kernel size $k$, stride $s$, padding $p$), im2col read
#
# $$ \text{cols}_{j,h} = x_{a}, \qquad a = s h + j - p . $$
#
# Its adjoint, as a scatter: for every $(j, h)$, add $\text{cols}_{j,h}$ to $dx_{sh + j - p}$. Overlapping windows meet
# in one pixel: a race. Turn the question round. *Pixel $a$: who sends to you?* Solve for $h$:
#
# $$ h = \frac{a + p - j}{s} . $$
#
# So for every tap $j$ there is at most one sender, if the division leaves **no remainder** and $0 \le h < H_o$. Pixel
# $a$ sums over $j = 0 \dots k-1$ whatever exists.
#
# Write the kernel with the batch innermost: `cols` is $(k, H_o, N)$, `dx` is $(H, N)$; thread $t$ owns output number
# $t = a N + n$, and those `total` further on.


# %% tags=["wrong"]
# check: col2im
# says: the division must leave no remainder
def col2im_kernel(t, total, cols, dx, stride, padding):
    for i in range(t, dx.size, total):
        a, n = divmod(i, dx.shape[1])
        senders = [(j, (a + padding - j) // stride) for j in range(len(cols))]
        dx[a, n] = sum(cols[j, h, n] for j, h in senders if 0 <= h < cols.shape[1])


# %%
def col2im_kernel(t, total, cols, dx, stride, padding):
    """What thread t of `total` does: its share of dx (H, N), gathered from cols (k, Ho, N)."""
    ### BEGIN SOLUTION
    k, ho, _ = cols.shape
    for i in range(t, dx.size, total):
        a, n = divmod(i, dx.shape[1])
        value = 0.0
        for j in range(k):
            h, remainder = divmod(a + padding - j, stride)
            if remainder == 0 and 0 <= h < ho:
                value += cols[j, h, n]
        dx[a, n] = value
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(1414)  # the check's own numbers
height, n, k, stride, padding = 20, 7, 5, 3, 1  # to the last pixel nobody sends
ho = conv.output_size(height, k, stride, padding)
cols = own.normal(size=(k, ho, n))


def run_col2im(kernel):
    dx = lesson.blank(height, n)
    launch(kernel, 2, 8, cols, dx, stride, padding)
    return dx


def gathered(sender, taps=range(k), first=0, last=ho - 1, window=lambda j: j):
    """What a gather gives that takes tap j of pixel a from sender(a, j), if it is one of first … last."""
    dx = np.zeros((height, n))
    for a in range(height):
        for j in taps:
            h = sender(a, j)
            dx[a] += cols[window(j), h] if h is not None and first <= h <= last else 0
    return dx


def exact(a, j):
    """Return who sends to pixel a by tap j, or None."""
    return None if (a + padding - j) % stride else (a + padding - j) // stride


def one_sender(which):
    """What pixels get that keep what one of their senders sends."""
    dx = np.zeros((height, n))
    for a in range(height):
        found = [(j, exact(a, j)) for j in range(k) if exact(a, j) is not None and 0 <= exact(a, j) < ho]
        if found:
            dx[a] = cols[found[which]]
    return dx


scattered = np.zeros((height + 2 * padding, n))  # as in lesson 04
for j, h in np.ndindex(k, ho):
    scattered[stride * h + j] += cols[j, h]
lesson.check(
    "col2im",
    got=lambda: run_col2im(col2im_kernel),
    want=scattered[padding : padding + height],
    tol=1e-14,
    wrong={
        "A window sends to every third pixel only: the division must leave no remainder.": lambda: (
            gathered(lambda a, j, way=way: int(way((a + padding - j) / stride))) for way in (np.floor, np.trunc)
        ),
        "The padding is missing: pixel a lies at a + p in the padded image.": lambda: gathered(
            lambda a, j: None if (a - j) % stride else (a - j) // stride
        ),
        "Solve a = s h + j − p for h again: p and j have other signs there.": lambda: (
            gathered(lambda a, j, p=p, q=q: None if (a + p + q * j) % stride else (a + p + q * j) // stride)
            for p, q in ((-padding, -1), (padding, 1), (-padding, 1), (0, 1))
        ),
        "The division by the stride is missing: h counts windows, and a window moves by s pixels.": lambda: (
            gathered(lambda a, j, p=p: a + p - j) for p in (padding, 0, -padding)
        ),
        "A sender's number goes from 0 to Ho − 1, both included.": lambda: (
            gathered(exact, first=first, last=last) for first, last in ((1, ho - 1), (0, ho - 2), (1, ho - 2))
        ),
        "A negative h is no sender: cols[j, -1] is the last window, not none.": lambda: gathered(exact, first=-ho),
        "Every tap may have sent: j goes from 0 to k − 1.": lambda: (
            gathered(exact, taps=taps)
            for taps in (range(1, k), range(k - 1), range(stride), range(padding, k), range(1))
        ),
        "A pixel adds up what all its taps send; here one of them is left.": lambda: (
            one_sender(which) for which in (-1, 0)
        ),
        "Tap j of the window is cols[j]: here the window is turned round.": lambda: gathered(
            exact, window=lambda j: k - 1 - j
        ),
        "It is the remainder 0 that makes a sender, not the others.": lambda: gathered(
            lambda a, j: (a + padding - j) // stride if exact(a, j) is None else None
        ),
    },
)

# %% [markdown]
# ## Read a real one
#
# Now you can read `minidl/engines/cuda/col2im.cu`, in two dimensions. Look for: the grid-stride loop; the four indices
# unpacked from $t$, `n` fastest; the two divisions with their tests; one write at the end. `REAL` and `INDEX` stand for
# float or double, int or long long, chosen at compilation.
#
# One line differs from Python, and it is a classic. In C, division rounds **towards zero**: `-1 / 2` is 0, a valid row.
# In Python `-1 // 2` is −1 and falls out by itself. Find the test that the kernel needs for this.
#
# Below it stands the function it is a twin of, which scatters. There it is safe: each `+=` touches every pixel at most once, and the
# loop's rounds come one after the other.

# %%
print(Path(cuda.__file__).with_name("col2im.cu").read_text())
print(inspect.getsource(conv.col2im))

# %% [markdown]
# The answer: `a + ph < i` (and `b + pw < j`), tested beside the remainder.
#
# How do we know that kernels are right on a machine without a GPU? A kernel of this form, one thread an output and no
# conversation between threads, is ordinary C++ with an odd loop. The tests compile each one with g++, run its threads
# forwards and backwards, and compare with the NumPy twin. What that cannot see is speed, and threads that disturb each
# other; so our threads do not talk to each other.
#
# ## The host is in a hurry
#
# `y = xp.maximum(x, 0)` on a GPU computes nothing yet. It puts a kernel into a queue and returns; the device works
# through the queue by itself. Host and device **overlap**, until the host wants to *see* a number: `float(loss)`,
# `print`, `if loss > …`, `x[mask]`. Then it must wait until the queue is empty: a **synchronisation**.
#
# A model, in microseconds. Each launch costs the host a time $\ell$. A kernel begins when it has been launched and the
# kernel before it is done; it takes $d_i$. If the host reads kernel $i$'s result, it waits until that is done, plus a
# latency $r$ for the copy, before it launches the next:
#
# $$ \text{host} \leftarrow \text{host} + \ell, \qquad \text{device} \leftarrow \max(\text{host}, \text{device}) + d_i,
#    \qquad \text{if read: } \text{host} \leftarrow \text{device} + r . $$
#
# Write it; return the time at which both are done.


# %% tags=["wrong"]
# check: timeline
# says: Host and device take turns here
def timeline(launch_time, durations, reads=(), latency=0.0):
    done = 0.0
    for i, duration in enumerate(durations):
        done += launch_time + duration + (latency if i in reads else 0)
    return done


# %%
def timeline(launch_time, durations, reads=(), latency=0.0):
    """Return when host and device are done, if the host reads the results of the kernels with the numbers `reads`."""
    ### BEGIN SOLUTION
    host = device = 0.0
    for i, duration in enumerate(durations):
        host += launch_time
        device = max(host, device) + duration
        if i in reads:
            host = device + latency
    return max(host, device)
    ### END SOLUTION


# %% tags=["check"]
cases = {  # name: when it is done, and what timeline is given
    "100 kernels of 1": (100 * 5 + 1, 5, [1] * 100),
    "100 kernels of 20": (5 + 100 * 20, 5, [20] * 100),
    "100 of 20, read every 10th": (10 * (5 + 10 * 20 + 15), 5, [20] * 100, range(9, 100, 10), 15),
    "read each": (100 * (5 + 1 + 15), 5, [1] * 100, range(100), 15),
    "mixed": (68, 5, [1, 30, 1, 1, 2], [2], 15),  # done at 6, 40, 41, then at 41 + 15 + 5 + 1 = 62, and at 68
}


def played(launch_time, durations, reads=(), latency=0.0, begin=max, end=max, late=False, **ways):
    """Return the model's time with parts of it exchanged: when a kernel begins, who reads, what a read costs, the end."""
    host = device = 0.0
    for i, duration in enumerate(durations):
        host += launch_time
        device = begin(host - launch_time * late, device) + duration
        if ways.get("reading", lambda i, reads: i in reads)(i, reads):
            host = ways.get("read", lambda host, device, latency: device + latency)(host, device, latency)
    return end(host, device)


def all_cases(**ways):
    return {name: played(*case, **ways) for name, (_, *case) in cases.items()}


def by_formula(formula):
    """Return what a formula of launch time, durations and latencies gives in each case."""
    return {
        name: formula(case[0], case[1], len(case[2]) * case[3] if case[2:] else 0) for name, (_, *case) in cases.items()
    }


lesson.check(
    "timeline",
    got=lambda: {name: timeline(*case) for name, (_, *case) in cases.items()},
    want={name: done for name, (done, *_) in cases.items()},
    tol=1e-9,
    wrong={
        "Host and device take turns here. They overlap: a kernel begins at max(host, device).": lambda: (
            by_formula(lambda launch, kernels, waits, k=k: launch * len(kernels) + sum(kernels) + k * waits)
            for k in (1, 0)
        ),
        "Launches and kernels overlap, and so do the waits: no formula of sums does it, follow host and device.": lambda: (
            by_formula(formula)
            for formula in (
                lambda launch, kernels, waits: sum(max(launch, d) for d in kernels) + waits,
                lambda launch, kernels, waits: max(launch * len(kernels), sum(kernels)) + waits,
                lambda launch, kernels, waits: launch + sum(max(launch, d) for d in kernels) + waits,
            )
        ),
        "A kernel cannot begin before the host has launched it, each of them.": lambda: iter(
            (
                *(all_cases(begin=lambda host, device: device, late=late) for late in (False, True)),
                by_formula(lambda launch, kernels, waits: launch + sum(kernels) + waits),
                by_formula(lambda launch, kernels, waits: sum(kernels) + waits),
            )
        ),
        "A kernel begins after its own launch, not before: add the launch time first.": lambda: all_cases(late=True),
        "A kernel cannot begin before the one before it is done, either.": lambda: all_cases(
            begin=lambda host, device: host
        ),
        "A kernel begins when both are ready, at the later of the two times.": lambda: all_cases(begin=min),
        "`reads` holds numbers of kernels, counted from 0; after these, and no others, the host waits.": lambda: (
            all_cases(reading=reading)
            for reading in (
                lambda i, reads: i + 1 in reads,
                lambda i, reads: i - 1 in reads,
                lambda i, reads: i not in reads,
                lambda i, reads: bool(reads),
                lambda i, reads: True,
                lambda i, reads: False,
            )
        ),
        "A read makes the host wait until the kernel is done; the latency comes on top of that.": lambda: iter(
            (
                *(
                    all_cases(read=read)
                    for read in (
                        lambda host, device, latency: host + latency,
                        lambda host, device, latency: device,
                        lambda host, device, latency: latency,
                    )
                ),
                {
                    name: played(*case, reading=lambda i, reads: False) + (len(case[2]) * case[3] if case[2:] else 0)
                    for name, (_, *case) in cases.items()
                },
            )
        ),
        "Both must be done at the end: it is the later of the two times.": lambda: (
            all_cases(end=end) for end in (lambda host, device: host, lambda host, device: device, min)
        ),
    },
)


# %% tags=["figure"]
def schedule(launch_time, durations, reads=(), latency=0.0):
    """Return (launched from, begins, ends) of every kernel, and the time at which both are done."""
    bars, host, device = [], 0.0, 0.0
    for i, duration in enumerate(durations):
        bars.append((host, max(host + launch_time, device), max(host + launch_time, device) + duration))
        host, device = host + launch_time, bars[-1][2]
        host = device + latency if i in reads else host
    return bars, max(host, device)


model = lesson.yours(timeline, lambda *case: schedule(*case)[1], check="timeline")
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained", width_ratios=(3, 2))
durations = (3, 9, 2, 2, 12, 3, 3, 8, 2, 2)
for row, (reads, text) in enumerate((((), "nothing read"), ((2, 5, 8), "3 results read"))):
    bars, _ = schedule(5, durations, reads, 15)
    left.broken_barh([(launched, 5) for launched, *_ in bars], (3 * row + 1, 0.8), color="tab:gray", ec="white")
    left.broken_barh([(b, e - b) for _, b, e in bars], (3 * row, 0.8), color="tab:blue", ec="white")
    waits = [(bars[i][2], 15) for i in reads]
    left.broken_barh(waits, (3 * row + 1, 0.8), color="tab:red", alpha=0.6, label="the copy of a number" * bool(reads))
    left.text(0, 3 * row + 2, text)
left.set(yticks=[0.4, 1.4, 3.4, 4.4], yticklabels=["device", "host"] * 2, xlabel="time (µs)", ylim=(-0.3, 6))
left.set_title("Each number that the host looks at empties the queue (a model)")
left.legend(frameon=False, loc="upper right")

batch = np.arange(4, 513, 4)
for reads, colour, text in (
    (range(0), "tab:blue", "nothing read"),
    (range(99, 100), "tab:orange", "the loss, every step"),
    (range(4, 100, 5), "tab:red", "one number, every 5 kernels"),
):
    right.plot(batch, [model(5, [1 + 0.025 * n] * 100, reads, 15) / 1000 for n in batch], color=colour, label=text)
right.set(xlabel="batch size N", ylabel="time of a step (ms)", ylim=(0, None))
right.set_title("A step of 100 kernels of 1 + N/40 µs")
right.legend(frameon=False)
plt.show()

# %% [markdown]
# The numbers are assumptions of the right order, not measurements; the shapes are what matters.
#
# - Below $N \approx 160$ the blue line is flat: the step is **launch-bound**. It takes $100 \cdot 5 + 1$ µs and the
#   device idles (question 1: 501 µs; making the kernels twice as fast saves half a microsecond). What helps is *fewer*
#   kernels: a norm in a handful of kernels, an optimiser on one flat buffer, ReLU in one.
# - Reading the loss once a step costs a few percent. Reading a number every five kernels, as one `float()` in every
#   layer would, makes the small step more than half as long again. minidl keeps losses on the device and reads those of
#   16 steps at once (`minidl/train/running.py`), and a test asserts that a training step never synchronises.
#
# ## The same code
#
# What remains for `array_module`? Everything that is not an image-sized pass: the small $(N, C)$ and $(K, C)$
# arithmetic of the norms, the losses, the layers' own work, and the matrix products. These are `@` on
# **two-dimensional** arrays, always: `y = W2 @ cols` with $(O, CK)(CK, M)$, never a batch of small ones. On CuPy a 2-D
# product is one call to cuBLAS, a transposed operand costs nothing (a flag says so), and large matrices fill the
# device; with more dimensions, operands whose strides do not fit are copied first.
#
# The cell below builds one LeNet with mode normalization on NumPy, and, where there is a GPU, its twin on CuPy from the
# same seed, and compares. Reading a number makes the clock honest: without it you would time the queue.


# %%
def one_step(backend, images):
    """Return the loss, the largest weight gradient of each layer, and the seconds of a step, on a backend."""
    with minidl.use_backend(backend), minidl.threads(1):
        norm = minidl.norm_factory("mn", modes=2)
        model = minidl.LeNet(num_classes=40, norm=norm, rng=np.random.default_rng(0))
        loss, labels, device_images = minidl.SoftmaxCrossEntropy(), np.arange(len(images)), minidl.to_device(images)
        for _ in range(3):  # the first step compiles, or warms the caches
            model.zero_grad()
            start = time.perf_counter()
            value = loss.forward(model(device_images), labels)
            model.backward(loss.backward())
            grads = [
                minidl.to_host(abs(layer.grads["weight"]).max()) for _, layer in model.named_layers() if layer.grads
            ]
            seconds = time.perf_counter() - start
        return np.array([float(value), *map(float, grads)]), seconds


images = np.random.default_rng(1).normal(size=(32, 3, 32, 32)).astype(np.float32)
numbers, seconds = one_step("numpy", images)
print(f"numpy: loss {numbers[0]:.6f}, a step in {1e3 * seconds:.1f} ms")
if no_gpu is None:
    there, seconds = one_step("cupy", images)
    print(f"cupy:  loss {there[0]:.6f}, a step in {1e3 * seconds:.1f} ms")
    print(f"largest relative difference of loss and gradients {np.abs(there / numbers - 1).max():.1e}")
else:
    print("cupy:  not run here; the second cell says why")

# %% [markdown]
# Two things to know if you run it on a GPU. The digits differ slightly: sums are added in another order. And float32
# products on a GPU may use TF32, with 10 bits of mantissa, if asked to; minidl does not ask.
#
# ## In the package, and in PyTorch
#
# - `minidl/backend.py`: `array_module`, `use_backend`, and why a missing GPU is an error rather than a silent change to NumPy.
# - `minidl/engines/cuda/*.cu`: each file names what it is a twin of; `launch.py` there starts them
#   ([docs/kernels.md](../docs/kernels.md)).
# - `minidl/train/running.py`: metrics without waiting.
#
# PyTorch's CUDA tensors queue work in the same way; `loss.item()` is its synchronisation, and
# `torch.use_deterministic_algorithms(True)` forbids its atomics. Its answer to launch-bound steps is to record a whole
# step once as a *CUDA graph* and replay it with one launch. In JAX the compiler fuses kernels instead.

# %%
lesson.done()
