# ---
# jupyter:
#   minidl:
#     title: Faster than NumPy
#     minutes: 75
#     needs: ["01", "06", "07"]
#     checks: 5
# ---

# %% [markdown]
# # 15 · Faster than NumPy
#
# **Goal.** You take one pass of a norm from NumPy's expression to compiled code, and know at each step how far it is
# from the best that your machine can do: how many bytes it moves, in how many passes, and what the *floor* is.
#
# **You need.** Lessons 01 (layouts), 06 (variances) and 07 (scale and shift). The compiled part needs Numba
# (`pip install -e '.[fast]'` in the clone's folder); without it everything runs, and the figures lack its bars.
# **Time.** About 75 minutes.
#
# All norms of this course end in the same pass over the images, $y = (x-m)\,s+u$: one subtraction, one product, one
# sum for every number. A processor core does billions of those in a second. So why is it slow?
#
# **Predict before running.** Write your answers down; this page will give them.
#
# 1. `y = (x - m) * s + u` with arrays far larger than the cache: how many times does an array of that size cross the
#    border between memory and processor? How often would it have to?
# 2. Adding up a million float32 one after the other, in compiled code: what limits the speed, the memory or the adder?
# 3. A machine moves 10 GB/s and computes 20 GFLOP/s a core. Which of the two limits this pass?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("15", checks=5)

# %%
import importlib
import importlib.util
import time
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np

rng = np.random.default_rng(15)
numba = importlib.import_module("numba") if importlib.util.find_spec("numba") else None
print("Numba is here." if numba else "Numba is missing: pip install -e '.[fast]' in the clone's folder adds it.")


def seconds(f, repeats=7):
    """Return the shortest time of a few runs: the least disturbed by everything else the machine does."""
    f()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)


# %% [markdown]
# ## Count the bytes
#
# NumPy computes `(x - m) * s + u` in three steps, each a loop over all numbers: $a = x-m$, $b = a\,s$, $y = b+u$. ($m$,
# $s$ and $u$ are small, one number a map; they stay in the cache.) Each loop reads one large array and writes one. What
# does not fit into the cache goes through memory, and is gone when the next loop wants it.
#
# A write costs more than it seems. The processor fetches memory in lines of 64 bytes, and most stores first *read* the
# line they write into, unless it was read anyway: that is a **write allocate**. (Some instructions avoid it; compilers
# use them now and then.) So for each pass, in units of one large array:
#
# $$ \text{traffic} = \#\text{read} + \#\text{written} + \#(\text{written, but not read}) . $$
#
# Write the rule. A pass is a pair of sets of names: what it reads and what it writes.


# %% tags=["wrong"]
# check: traffic
# says: a store fetches the line first
def traffic(passes):
    return sum(len(read) + len(written) for read, written in passes)


# %%
def traffic(passes):
    """Return how many large arrays cross the border between memory and processor, for a list of (read, written)."""
    ### BEGIN SOLUTION
    return sum(len(read) + len(written) + len(written - read) for read, written in passes)
    ### END SOLUTION


three = [({"x"}, {"a"}), ({"a"}, {"b"}), ({"b"}, {"y"})]  # y = (x - m) * s + u
in_place = [({"x"}, {"y"}), ({"y"}, {"y"}), ({"y"}, {"y"})]  # y = x - m; y *= s; y += u
once = [({"x"}, {"y"})]  # one loop that does it all

# %% tags=["check"]
ways = {"three": three, "in place": in_place, "once": once, "add": [({"x", "z"}, {"y"})], "sum": [({"x"}, set())]}


def summed(of_a_pass, passes_of=lambda passes: passes):
    """Return what the ways would cost if a pass cost of_a_pass(read, written)."""
    return {name: sum(of_a_pass(*one) for one in passes_of(passes)) for name, passes in ways.items()}


def rule(read, written):
    return len(read) + len(written) + len(written - read)


lesson.check(
    "traffic",
    lambda: {name: traffic(passes) for name, passes in ways.items()},
    {"three": 9, "in place": 7, "once": 3, "add": 4, "sum": 1},
    tol=0.1,
    wrong={
        "a store fetches the line first, unless the pass reads the array anyway": lambda: summed(
            lambda r, w: len(r) + len(w)
        ),
        "what a pass reads has to be fetched, too": lambda: (
            summed(cost) for cost in (lambda r, w: len(w) + len(w - r), lambda r, w: 2 * len(w), lambda r, w: len(w))
        ),
        "what a pass writes has to be stored, too: the fetch of its line is not all": lambda: summed(
            lambda r, w: len(r) + len(w - r)
        ),
        "an array that is read and written crosses twice: add the sizes of the sets, do not unite the sets": lambda: (
            iter(
                (
                    summed(lambda r, w: len(r | w)),
                    summed(lambda r, w: len(r | w) + len(w - r)),
                    {name: len(set().union(*(r | w for r, w in passes))) for name, passes in ways.items()},
                )
            )
        ),
        "where the pass reads the array that it writes, nothing is fetched for the store: count `written - read`": lambda: (
            summed(cost)
            for cost in (
                lambda r, w: len(r) + 2 * len(w),
                lambda r, w: len(r) + len(w) + 1,
                lambda r, w: 3,
                lambda r, w: len(r) + len(w) + bool(w),
            )
        ),
        "the third term is what is written and not read; here it is another set": lambda: (
            summed(lambda r, w, third=third: len(r) + len(w) + len(third(r, w)))
            for third in (lambda r, w: r - w, lambda r, w: r & w, lambda r, w: r ^ w)
        ),
        "the fetch for a store is traffic as well: it is added, not taken away": lambda: summed(
            lambda r, w: len(r) + len(w) - len(w - r)
        ),
        "every pass counts: here it is one of them, the first or the last": lambda: (
            summed(rule, lambda passes, one=one: [passes[one]]) for one in (0, -1)
        ),
        "count arrays, not passes, nor the parts of a pair": lambda: (
            summed(lambda r, w, each=each: each) for each in (1, 2)
        ),
        "what is read crosses once; only a store may need a fetch before it": lambda: (
            summed(cost) for cost in (lambda r, w: 2 * (len(r) + len(w)), lambda r, w: 2 * len(r) + len(w))
        ),
    },
)

# %% [markdown]
# Question 1: nine times, where three would do. In place it is seven. That is the whole secret of this lesson: **fusion**,
# doing in one pass what takes three, can win a factor of three, and nothing about the arithmetic has changed.
#
# ## What is a floor?
#
# A pass moves $B$ bytes and does $F$ floating-point operations. Memory delivers $\beta$ bytes a second, the core
# computes $\pi$ operations a second, and the two overlap at best completely. So no program whatsoever is faster than
#
# $$ t \;\ge\; \max\!\left(\frac{B}{\beta},\; \frac{F}{\pi}\right) . $$
#
# This is the **roofline**. $F/B$, operations a byte, is the pass's *intensity*: below $\pi/\beta$ the memory is the
# limit and the arithmetic is free. A floor says when to stop: at 1.1 times the floor nothing is left to win, at 5 times
# there is. Return the floor, and which of the two makes it.


# %% tags=["wrong"]
# check: floor
# says: they overlap
def floor(bytes_moved, operations, bandwidth, peak):
    memory, arithmetic = bytes_moved / bandwidth, operations / peak
    return memory + arithmetic, memory > arithmetic


# %%
def floor(bytes_moved, operations, bandwidth, peak):
    """Return the least time in seconds, and whether the memory is what limits it."""
    ### BEGIN SOLUTION
    memory, arithmetic = bytes_moved / bandwidth, operations / peak
    return max(memory, arithmetic), memory > arithmetic
    ### END SOLUTION


# %% tags=["check"]
tasks = {  # bytes, operations, bytes/s, operations/s
    "scale and shift": (3 * 4e8, 3e8, 1e10, 2e10),
    "product of 1000×1000": (3 * 4e6, 2e9, 1e10, 2e10),
    "a slow core": (1e6, 1e6, 1e10, 5e8),
    "a slow memory": (2e6, 3e6, 1e8, 1e10),
}
answers = {"scale and shift": (0.12, True), "product of 1000×1000": (0.1, False), "a slow core": (0.002, False)}
answers["a slow memory"] = (0.02, True)


def of_tasks(answer):
    """Return what answer(memory's time, arithmetic's time) gives for each task."""
    return {name: np.array(answer(b / w, f / p)) for name, (b, f, w, p) in tasks.items()}


lesson.check(
    "floor",
    lambda: {name: floor(*task) for name, task in tasks.items()},
    {name: np.array(answer) for name, answer in answers.items()},
    tol=1e-9,
    wrong={
        "this adds the two times; they overlap, so the longer one counts": lambda: (
            of_tasks(lambda m, a, turn=turn: (m + a, (m > a) != turn)) for turn in (False, True)
        ),
        "bytes move at the bandwidth, operations are done at the peak: the two rates are exchanged": lambda: {
            name: np.array([max(b / p, f / w), b / p > f / w]) for name, (b, f, w, p) in tasks.items()
        },
        "both must be done before the pass is: the longer of the two times counts": lambda: (
            of_tasks(lambda m, a, turn=turn: (min(m, a), (m > a) != turn)) for turn in (False, True)
        ),
        "the time is right; what limits is the one that takes longer": lambda: (
            of_tasks(lambda m, a, flag=flag: (max(m, a), flag(m, a)))
            for flag in (lambda m, a: m < a, lambda m, a: True, lambda m, a: False)
        ),
        "a time is a number divided by its rate; here rates are divided by numbers": lambda: iter(
            [
                of_tasks(lambda m, a, which=which, turn=turn: (which(1 / m, 1 / a), (m > a) != turn))
                for which in (max, min)
                for turn in (False, True)
            ]
        ),
        "this is the time of one of the two; the longer one is asked for": lambda: (
            of_tasks(lambda m, a, one=one, turn=turn: ((m, a)[one], (m > a) != turn))
            for one in (0, 1)
            for turn in (False, True)
        ),
        "this is the intensity, operations a byte; a time in seconds is asked for": lambda: (
            {name: np.array([f / b if way else b / f, (b / w > f / p) != turn]) for name, (b, f, w, p) in tasks.items()}
            for way in (False, True)
            for turn in (False, True)
        ),
        "what limits is a comparison of times: bytes and operations have different rates": lambda: (
            {
                name: np.array([max(b / w, f / p), (b > f if way else w < p) != turn])
                for name, (b, f, w, p) in tasks.items()
            }
            for way in (False, True)
            for turn in (False, True)
        ),
        "first the time, then whether memory limits: here it is the other way round": lambda: of_tasks(
            lambda m, a: (m > a, max(m, a))
        ),
    },
)

# %% [markdown]
# Question 3: the pass moves 12 bytes a number (float32, three crossings) and does three operations: 1.2 ns against
# 0.15 ns. The memory, by a factor of eight.
#
# ## Fusion without a compiler: blocks
#
# If an intermediate result fits into the cache, it never crosses the border. So cut $x$ into blocks of maps, small
# enough for the cache (some hundred kilobytes), and do all three steps on one block before the next. `y` is given: write
# into its rows by `out=` and `+=`, and make no large array. The check measures what your function allocates. (Fresh memory
# is not free: the system clears each page of it when it is first touched.)
#
# Here $x$ is $(M, P)$: $M = N\cdot C$ maps of $P$ pixels; $m$, $s$, $u$ are $(M, 1)$.


# %% tags=["wrong"]
# check: blocked
# says: temporaries are as large as x
def blocked(x, m, s, u, y, rows):
    y[...] = (x - m) * s + u


# %%
def blocked(x, m, s, u, y, rows):
    """Write (x − m)·s + u into y, for x and y (M, P) and m, s, u (M, 1), by blocks of this many rows."""
    ### BEGIN SOLUTION
    for i in range(0, len(x), rows):
        block = y[i : i + rows]
        np.subtract(x[i : i + rows], m[i : i + rows], out=block)
        block *= s[i : i + rows]
        block += u[i : i + rows]
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(1504)  # the check's own numbers
maps, pixels = 103, 4096  # 103 is no multiple of the blocks: the last one is shorter
x_small = own.normal(size=(maps, pixels))
msu = tuple(own.normal(size=(maps, 1)) for _ in range(3))
wanted = np.einsum("mp,mo->mp", x_small - msu[0], msu[1]) + msu[2]


class Watched(np.ndarray):
    """An array that notes how many rows are written at once, into itself and its slices."""

    def __array_finalize__(self, whole):
        self.most = getattr(whole, "most", None)

    def __array_ufunc__(self, ufunc, method, *given, out=None, **options):
        def plain(all_of_them):
            return [a.view(np.ndarray) if isinstance(a, Watched) else a for a in all_of_them]

        if out:
            self.most[0] = max(self.most[0], *(len(a) for a in out))
            getattr(ufunc, method)(*plain(given), out=tuple(plain(out)), **options)
            return out[0]
        return getattr(ufunc, method)(*plain(given), **options)

    def __setitem__(self, place, value):
        self.most[0] = max(self.most[0], len(np.atleast_2d(self[place])))
        super().__setitem__(place, value)


def measured(function):
    """Return y, whether the memory at the peak is that of a few blocks, and whether y is written by blocks."""
    y = lesson.blank(*x_small.shape).view(Watched)
    y.most = [0]
    tracemalloc.start()
    function(x_small, *msu, y, 8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result(np.asarray(y), peak < x_small.nbytes / 2, y.most[0] <= 8)


def result(y, fits=True, blocks=True):
    return {"y": y, "temporaries fit into blocks": fits, "y is written block by block": blocks}


def all_of(formula):
    """Return what a formula of x, m, s and u gives by blocks."""
    return result(formula(x_small, *msu))


def started(rows):
    """Return y with all but these rows left as they were handed over."""
    y = lesson.blank(*x_small.shape)
    y[rows] = wanted[rows]
    return y


lesson.check(
    "blocked",
    lambda: measured(blocked),
    result(wanted),
    tol=1e-12,
    wrong={
        "y is right, but its temporaries are as large as x: work on one block after the other": lambda: (
            result(wanted, False, blocks) for blocks in (False, True)
        ),
        "y is right, but a step goes over all rows of y: do all three on one block of rows before the next": lambda: (
            result(wanted, True, False)
        ),
        "the last block is shorter than the others: 103 rows are no multiple of 8, and none may be left out": lambda: (
            result(started(slice(0, 96)), fits) for fits in (True, False)
        ),
        "one row of each block is written, or one block of all: `i : i + rows` is a block, for each i": lambda: (
            result(started(rows), fits)
            for rows in (slice(0, None, 8), slice(0, 8), slice(0, 13), slice(0, 1))
            for fits in (True, False)
        ),
        "s is a factor of x − m alone: first the difference, then the product, then the sum": lambda: (
            all_of(formula)
            for formula in (
                lambda x, m, s, u: (x - m + u) * s,
                lambda x, m, s, u: (x + u) * s - m,
                lambda x, m, s, u: x - m * s + u,
                lambda x, m, s, u: x * s - m + u,
                lambda x, m, s, u: (x - m) / s + u,
            )
        ),
        "a step is lost: each works on what the one before has written into y, not on x": lambda: (
            all_of(formula)
            for formula in (
                lambda x, m, s, u: x * s + u,
                lambda x, m, s, u: x + u,
                lambda x, m, s, u: x * s,
                lambda x, m, s, u: x - m,
                lambda x, m, s, u: (x - m) * s,
                lambda x, m, s, u: x - m + u,
            )
        ),
        "a sign is turned in (x − m)·s + u": lambda: (
            all_of(formula)
            for formula in (
                lambda x, m, s, u: (x + m) * s + u,
                lambda x, m, s, u: (x - m) * s - u,
                lambda x, m, s, u: (m - x) * s + u,
            )
        ),
        "m, s and u have a row for each row of x: take those of the block": lambda: (
            all_of(lambda x, m, s, u, i=i: (x - m[i]) * s[i] + u[i]) for i in (np.arange(103) % 8, np.zeros(103, int))
        ),
    },
)

# %% [markdown]
# ## The loop itself
#
# With a compiler there is no need for blocks: one loop reads a number, subtracts, multiplies, adds in *registers*, and
# writes the result. Numba compiles plain Python of this kind. It wants what a C compiler wants: loops over indices,
# scalars, arrays of a known dtype, no lists or dictionaries.
#
# The other pass of a norm needs more care: mean and variance **in one pass**. By lesson 06,
# $V = \overline{(x-a)^2}-(\overline{x-a})^2$ for every $a$, and it loses $\kappa_a^2$ digits: so take $a$ near the mean.
# One value of the map, say its first, is near enough: then $|\mu-a|$ is a deviation or three.
#
# Write it as a loop. Sums in float64 (`0.0` is one), the shift $a$ = the map's first value.


# %% tags=["wrong"]
# check: moments
# says: without the shift
def moments(x, mean, var):
    for i in range(x.shape[0]):
        total = square = 0.0
        for j in range(x.shape[1]):
            total += x[i, j]
            square += x[i, j] * x[i, j]
        mean[i] = total / x.shape[1]
        var[i] = square / x.shape[1] - mean[i] ** 2


# %%
def moments(x, mean, var):
    """Fill mean (M,) and var (M,) with those of the rows of x (M, P), in one pass over x."""
    ### BEGIN SOLUTION
    for i in range(x.shape[0]):
        a = x[i, 0]
        total = square = 0.0
        for j in range(x.shape[1]):
            d = x[i, j] - a
            total += d
            square += d * d
        shift = total / x.shape[1]
        mean[i] = a + shift
        var[i] = square / x.shape[1] - shift * shift
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(1506)  # the check's own numbers
near, far = own.normal(2.0, 3.0, (5, 84)), own.normal(1e6, 1.0, (5, 84))
exact = far.astype(np.longdouble)


def filled(function):
    """Return what the loop gives for maps near 0 and far from it."""
    found = {}
    for name, x in {"near": near, "far": far}.items():
        mean, var = lesson.blank(5), lesson.blank(5)
        function(x, mean, var)
        found |= {f"mean, {name}": mean, f"var, {name}": var}
    return found


def of_sums(mean, var, centre=lambda x, a: x - a, running=False):
    """Return what other formulas give of the sums of d and d², the shift a, and the number n of values."""
    found = {}
    for name, x in {"near": near, "far": far}.items():
        a = x[:, 0]
        d = centre(x, a[:, None])
        total, square = d.sum(1), (d * d).sum(1)
        if running:
            total, square = total.cumsum(), square.cumsum()
        shift = total / 84
        found |= {f"mean, {name}": mean(a, shift, total), f"var, {name}": var(square / 84, shift, square)}
    return found


def drifting(x, which):
    """Return Welford's variance with the square of one distance from the growing mean."""
    mean, square = np.zeros(len(x)), np.zeros(len(x))
    for j in range(x.shape[1]):
        before = x[:, j] - mean
        mean += before / (j + 1)
        square += before**2 if which == "old" else (x[:, j] - mean) ** 2
    return square / x.shape[1]


maps_of = {"near": near, "far": far}
right = {"mean, near": near.mean(1), "var, near": near.var(1)}
right |= {"mean, far": exact.mean(1).astype(float), "var, far": exact.var(1).astype(float)}
lesson.check(
    "moments",
    lambda: filled(moments),
    right,
    tol={"mean, near": 1e-13, "var, near": 1e-12, "mean, far": 1e-8, "var, far": 1e-8},
    wrong={
        "without the shift a variance of 1 at mean 1e6 keeps four digits: subtract x[i, 0] first": lambda: (
            right | {"var, far": np.cumsum(far * far, 1)[:, -1] / 84 - (np.cumsum(far, 1)[:, -1] / 84) ** 2}
        ),
        "this is the mean of x − x[i, 0]: what was taken away at first is to be added to it": lambda: (
            right | {"mean, near": near.mean(1) - near[:, 0], "mean, far": far.mean(1) - far[:, 0]}
        ),
        "this is the mean square around x[i, 0]: the square of its distance from the mean comes off": lambda: (
            right
            | {"var, near": near.var(1) + (near.mean(1) - near[:, 0]) ** 2}
            | {"var, far": far.var(1) + (far.mean(1) - far[:, 0]) ** 2}
        ),
        "the sums are those of x − a: it is the square of their shift that comes off, not that of the mean": lambda: (
            right
            | {f"var, {name}": x.var(1) + (x.mean(1) - x[:, 0]) ** 2 - x.mean(1) ** 2 for name, x in maps_of.items()}
        ),
        "both sums begin at 0 in each row": lambda: of_sums(
            lambda a, shift, total: a + shift, lambda mean_square, shift, square: mean_square - shift**2, running=True
        ),
        "a row has x.shape[1] values: that is what a mean divides by": lambda: (
            of_sums(
                lambda a, shift, total, n=n: a + total / n,
                lambda mean_square, shift, square, n=n: square / n - (shift * 84 / n) ** 2,
            )
            for n in (5, 83, 85)
        ),
        "a sum is divided by the number of values before it is a mean": lambda: (
            of_sums(
                lambda a, shift, total, m=m: a + (total if m else shift),
                lambda mean_square, shift, square, s=s, m=m: (
                    (square if s else mean_square) - (shift * 84 if m else shift) ** 2
                ),
            )
            for m, s in ((1, 1), (0, 1), (1, 0))
        ),
        "the variance of lesson 06 divides by n, not by n − 1": lambda: (
            right | {f"var, {name}": x.var(1, ddof=1) for name, x in maps_of.items()}
        ),
        "the shift comes off once: add it to a mean of x − a, not to one of x": lambda: (
            of_sums(
                lambda a, shift, total: 2 * a + shift,
                lambda mean_square, shift, square, k=k: mean_square - (shift**2 if k else 0),
            )
            for k in (0, 1)
        ),
        "a mean that grows with the row is two numbers for each value: d before and after it moved (Welford)": lambda: (
            right | {f"var, {name}": drifting(x, both) for name, x in maps_of.items()} for both in ("old", "new")
        ),
        "distances are from a, the same for all of a row": lambda: of_sums(
            lambda a, shift, total: a + shift,
            lambda mean_square, shift, square: mean_square - shift**2,
            centre=lambda x, a: np.diff(x, axis=1, prepend=x[:, :1]),
        ),
        "the square of the shift comes off; here it is added, or the shift itself taken": lambda: (
            of_sums(
                lambda a, shift, total: a + shift,
                lambda mean_square, shift, square, off=off: mean_square - off(shift),
            )
            for off in (lambda shift: -(shift**2), lambda shift: shift, abs)
        ),
    },
)

# %% tags=["figure"]
# The ways, timed. What Numba would need is said where it is missing.
big = rng.normal(size=(4096, 4096)).astype(np.float32)  # 64 MiB, larger than most caches
column = [rng.normal(size=(4096, 1)).astype(np.float32) for _ in range(3)]
out = np.empty_like(big)


def loop(x, m, s, u, y):
    """Write y = (x − m)·s + u, one number after the other."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[i, j] = (x[i, j] - m[i, 0]) * s[i, 0] + u[i, 0]


def in_three(x, m, s, u, y):
    """Write y in place, in three passes."""
    np.subtract(x, m, out=y)
    y *= s
    y += u


def in_blocks(x, *rest):
    """Write y by blocks, each in three passes; the last of the arguments says of how many rows."""
    *arrays, rows = rest
    for part in (slice(i, i + rows) for i in range(0, len(x), rows)):
        in_three(x[part], *(a[part] for a in arrays))


yours = lesson.yours(blocked, in_blocks, "blocked")
runs = {
    "NumPy: (x − m)·s + u": (lambda: (big - column[0]) * column[1] + column[2], three),
    "NumPy, in place": (lambda: in_three(big, *column, out), in_place),
    "NumPy, your blocks": (lambda: yours(big, *column, out, 8), once),
}
if numba:
    compiled = numba.njit(loop)
    runs["Numba: the loop"] = (lambda: compiled(big, *column, out), once)
copied = seconds(lambda: np.copyto(out, big))
bandwidth = 3 * big.nbytes / copied  # read, write, and the write's fetch
times = {name: seconds(run) for name, (run, _) in runs.items()}

figure, (left, right_) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained", width_ratios=(3, 2))
colours = ("C3", "C1", "C0", "C2")
left.barh(list(times), [1e3 * t for t in times.values()], color=colours[: len(times)])
left.axvline(1e3 * copied, color="k", ls="--", label="a copy of x, for comparison")
for row, (name, (_, passes)) in enumerate(runs.items()):
    crossings = sum(len(r) + len(w) + len(w - r) for r, w in passes)
    left.text(
        1e3 * times[name] * 1.02, row, f"{crossings} crossings", va="center", bbox={"fc": "white", "lw": 0, "pad": 1}
    )
left.invert_yaxis()
left.set(xlabel="time (ms)", title="One pass of a norm, written in several ways", xlim=(0, 1.3e3 * max(times.values())))
left.legend(loc="lower right", fontsize=8)
rows = 2 ** np.arange(0, 13)
by_rows = [1e3 * seconds(lambda r=r: yours(big, *column, out, int(r)), 3) for r in rows]
right_.semilogx(rows * big.shape[1] * 4 / 2**10, by_rows, "o-", base=2)
right_.axhline(1e3 * copied, color="k", ls="--")
right_.set(xlabel="block (KiB)", ylabel="time (ms)", title="Your blocks, by size", ylim=(0, None))
plt.show()
print(f"a copy moves {bandwidth / 1e9:.1f} GB/s with the write's fetch counted")

# %% [markdown]
# **Read it.** NumPy's first line is the slowest by far: nine crossings, and each temporary is fresh memory besides. In
# place is much better. A compiled loop that does all of it takes about as long as a copy, which does nothing: three
# operations for the price of none. On the right, very small blocks pay the interpreter, and large ones fall out of the
# cache. How much your blocks win depends on the machine: where the cache is large and memory fast, they may win little.
#
# Now the other limit. A sum reads and writes nothing back, one crossing; yet a plain compiled sum is far from its
# floor.
#
# ## Width: why a sum is slow, and lanes
#
# A core adds 4, 8 or 16 floats with one instruction (a *vector*), and starts two such additions every cycle. But an
# addition takes about four cycles to finish, and in
#
# $$ t \leftarrow t + x_j $$
#
# each waits for the one before: one number every four cycles, where 32 to 128 would be possible. The
# compiler must not help: $(a+b)+c \ne a+(b+c)$ in floating point, so adding in another order is *another result*. You
# may, if you say so: keep $L$ partial sums, **lanes**; number $j$ goes to lane $j \bmod L$. Then $L$ chains run beside
# each other, and each is one place of a vector.
#
# As a present, the rounding error shrinks: each chain is $L$ times shorter (lesson 06).


# %% tags=["wrong"]
# check: lanes
# says: neighbours belong to different lanes
def lanes(x, count):
    per = -(-len(x) // count)
    partial = np.zeros(count, x.dtype)
    for j in range(len(x)):
        partial[j // per] += x[j]
    return partial


# %%
def lanes(x, count):
    """Return the partial sums (count,) of x, in x's dtype: lane k adds x[k], x[k + count], … in this order."""
    ### BEGIN SOLUTION
    partial = np.zeros(count, x.dtype)
    whole = len(x) - len(x) % count
    for j in range(0, whole, count):
        partial += x[j : j + count]
    partial[: len(x) - whole] += x[whole:]
    return partial
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(1508)  # the check's own numbers
numbers = own.normal(size=1003).astype(np.float32)  # 1003 = 125·8 + 3: three lanes get one more
chains = np.array([np.cumsum(numbers[k::8])[-1] for k in range(8)])  # cumsum adds in order, in float32
parts = np.array([numbers[k * 126 : (k + 1) * 126].sum() for k in range(8)])
whole, rest = numbers[:1000], numbers[1000:]


cut_sums = np.zeros(8, int)
for j, number in enumerate(numbers):
    cut_sums[j % 8] += number


def of_its_dtype(found):
    """Return what lanes gave, if it is of the dtype of x."""
    if np.asarray(found).dtype != numbers.dtype:
        raise TypeError(
            f"lanes gave {np.asarray(found).dtype}, and x is {numbers.dtype}: the rounding is of another size"
        )
    return found


def with_rest(places):
    """Return the lanes of the first 1000 numbers, with the last three added elsewhere."""
    found = whole.reshape(-1, 8).sum(axis=0)
    np.add.at(found, list(places), rest[: len(places)])
    return found


lesson.check(
    "lanes",
    lambda: of_its_dtype(lanes(numbers, 8)),
    chains,
    tol=1e-4,  # float32 sums of some ten: each of 126 steps rounds by at most 1e-6
    wrong={
        "these are stretches of x; neighbours belong to different lanes, as in a vector": lambda: iter(
            [
                parts,
                whole.reshape(8, -1).sum(axis=1),
                np.array([part.sum() for part in np.array_split(numbers, 8)]),
                np.array([numbers[k * 125 : (k + 1) * 125 if k < 7 else None].sum() for k in range(8)]),
                np.array([numbers[k * 8 : (k + 1) * 8].sum() for k in range(8)]),
            ]
        ),
        "the last values are fewer than the lanes; each is still to be added, to a lane of its own": lambda: (
            with_rest(places) for places in ((), (0,), (0, 1))
        ),
        "what is left over goes on as it began: the first of it to lane 0, the next to lane 1": lambda: (
            with_rest(places)
            for places in ((0, 0, 0), (7, 7, 7), (5, 6, 7), (7, 6, 5), (2, 1, 0), (1, 2, 3), (3, 4, 5))
        ),
        "a round is missing: lane k begins with x[k] and ends with the last x[k + i·count] that there is": lambda: (
            np.array([numbers[some][k::8].sum() for k in range(8)])
            for some in (slice(8, None), slice(16, None), slice(0, 992), slice(0, 16), slice(0, 8))
        ),
        "each lane keeps one of its numbers: add them up, with +=": lambda: iter(
            [np.array([numbers[k::8][-1] for k in range(8)]), numbers[:8]]
        ),
        "an array of integers cuts what is added to it: begin with zeros of x's dtype": lambda: iter(
            [cut_sums, np.trunc(chains)]
        ),
        "the step is missing: lane k takes every `count`-th number from x[k] on": lambda: (
            np.array([numbers[k:stop].sum() for k in range(8)]) for stop in (None, 8)
        ),
        "a lane is a sum; this is a mean": lambda: np.array([numbers[k::8].mean() for k in range(8)]),
        "every lane gets what belongs to one of them, or to all": lambda: (
            np.full(8, total) for total in (numbers.sum(), chains[0], numbers[:8].sum())
        ),
    },
)

# %% tags=["figure"]
million = rng.random(1_000_000).astype(np.float32)
true = float(million[: 2**16].sum(dtype=np.float64))


def plain_sum(x):
    """Add up in order, in float32."""
    total = np.float32(0)
    for j in range(x.shape[0]):
        total += x[j]
    return total


yours = lesson.yours(lanes, lambda x, count: np.cumsum(x.reshape(-1, count), axis=0)[-1], "lanes")
many = [1, 2, 4, 8, 16, 32, 64]  # all divide 65 536
errors = [abs(float(yours(million[: 2**16], k).sum(dtype=np.float64)) / true - 1) for k in many]
figure, (left, right_) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
left.loglog(many, errors, "o-")
left.set_xticks(many, many)
left.minorticks_off()
left.set(xlabel="lanes", ylabel="relative error", title="65 536 float32, added in L lanes")
names = ["np.sum"]
rates = [million.size / seconds(lambda: million.sum(), 21) / 1e9]
if numba:
    for name, options in {"loop, in order": {}, "loop, any order": {"fastmath": True}}.items():
        compiled_sum = numba.njit(**options)(plain_sum)
        names.append(f"Numba: {name}")
        rates.append(million.size / seconds(lambda f=compiled_sum: f(million), 21) / 1e9)
right_.barh(names, rates, color="C0")
right_.invert_yaxis()
right_.set(xlabel="billion numbers a second", title="One chain against many")
plt.show()
for name, rate in zip(names, rates, strict=True):
    print(f"{name:24} {rate:6.2f} billion numbers a second")

# %% [markdown]
# **Read it.** Question 2: the adder. In order, a sum waits for its own last result; allowed any order (`fastmath`), the
# compiler makes lanes by itself. `np.sum` has eight lanes and pairwise sums, written by hand. On the left the error falls
# with the number of lanes, with some luck in each point: the faster sum is also the more accurate one.
#
# ## Break it
#
# `fastmath` means more than "any order". It also promises that no number is NaN or infinite. **Predict** what becomes of
# a test for NaN, and of a compensated sum whose correction $(t-s)-y$ is zero in exact arithmetic.


# %%
def compensated(x):
    """Kahan's sum: c holds what the last addition lost."""
    s = c = np.float32(0)
    for j in range(x.shape[0]):
        y = x[j] - c
        t = s + y
        c = (t - s) - y
        s = t
    return s


tenths = np.full(300_000, 0.1, np.float32)
true_tenths = 300_000 * float(np.float32(0.1))
print(f"plain {float(np.cumsum(tenths)[-1]) / true_tenths - 1:.1e} relative error")
for name, options in {"compensated": {}, "compensated, fastmath": {"fastmath": True}}.items():
    if numba:
        print(f"{name}: {float(numba.njit(**options)(compensated)(tenths)) / true_tenths - 1:.1e}")
    else:
        print(f"{name}: needs Numba")

# %% [markdown]
# With `fastmath` the compiler may simplify the correction to zero, since on paper it is: the care is gone, and what is left
# is the error of a plain sum in lanes. minidl's compiled passes therefore allow reordering and contraction (`reassoc`, `contract`) and nothing that
# forgets NaN; where the order of a sum matters they allow no reordering either.
#
# ## How far down can a norm go?
#
# In your rule's units, training's **forward** is one pass for the moments (reads $x$: 1) and one for $y$ (reads $x$,
# writes $y$: 3). **Backward** is one pass for the two sums (reads $dy$ and $x$: 2) and one for $dx$ (reads both, writes
# $dx$: 4). Ten crossings; written as NumPy's expressions it is thirty and more. No norm whose statistics need the whole
# batch gets below, for $y$ cannot begin before the last $x$ was seen, unless the array fits into the cache.

# %% [markdown]
# ## In the package, and in PyTorch
#
# - `minidl/engines/numba/`: the passes of all norms as loops over tiles, one compiled function each;
#   [docs/performance.md](../docs/performance.md) holds them against their floors, and [docs/engines.md](../docs/engines.md)
#   says how an engine is chosen.
# - `minidl/engines/numpy/`: blocks, as yours, with threads.
# - PyTorch's eager mode runs kernels one after the other, like NumPy; `torch.compile` fuses them, as you did. Its BN is
#   one hand-written kernel for each pass. XLA fuses by default.

# %%
lesson.done()
