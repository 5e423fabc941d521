# ---
# jupyter:
#   minidl:
#     title: Many machines
#     minutes: 90
#     needs: ["05", "06", "09"]
#     checks: 5
# ---

# %% [markdown]
# # 17 · Many machines
#
# **Goal.** You train one network on several machines and get the gradient of one machine, to the last digits: you write
# the all-reduce that adds up what lies apart, find out what of a norm must be added up and derive its backward pass, and
# run it in two processes on this laptop.
#
# **You need.** Lessons 05 (BN), 06 (variances of parts) and 09 (the sums of a backward pass). **Time.** About 90 minutes.
#
# **Data parallel** training: $P$ machines hold the same weights. Each takes its *shard* of the batch, runs forward and
# backward, and they add up their gradients before everybody takes the same step. The gradient of a sum is the sum of the
# gradients, so nothing should change. Two things stand in the way: somebody has to do the adding, and a norm's
# statistics look at the whole batch.
#
# **Predict before running.** Write your answers down; this page will give them.
#
# 1. Eight machines add up a vector of 100 MB, and each must have the sum. How much does each have to send, at least
#    roughly: 100 MB, 200 MB, 700 MB?
# 2. Batch norm on 4 machines with 8 images each: are its statistics those of 32 images or of 8, if nobody does anything
#    about it?
# 3. Machine 1 has a batch of 30 images, machine 2 one of 10. Each has the gradient of its *mean* loss. Is their mean the
#    gradient of the mean loss of all 40?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("17", checks=5)

# %%
import pickle
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np

from minidl import reference

rng = np.random.default_rng(17)
eps = 1e-5


class Wire:
    """A network between machines: it delivers copies, and notes how many numbers each machine has sent."""

    def __init__(self, machines):
        self.sent = np.zeros(machines, int)
        self.steps = 0

    def deliver(self, letters):
        """Deliver at once what {(sender, receiver): array} holds; return {receiver: array}. This is one step."""
        self.steps += 1
        for (sender, _), array in letters.items():
            self.sent[sender] += array.size
        return {receiver: array.copy() for (_, receiver), array in letters.items()}


# %% [markdown]
# ## Adding up: the ring
#
# The obvious way: everybody sends its vector to machine 0, which adds and sends the sum back. Machine 0 receives $P-1$
# vectors and sends as many: with more machines *it* takes longer and longer, while the others wait.
#
# The **ring all-reduce** leaves nobody idle. Cut the vector of $n$ numbers into $P$ chunks. Machine $r$ talks to its
# neighbour $r+1$ (mod $P$) alone, and all send at the same time.
#
# - **Reduce-scatter**, $P-1$ steps. In step $t = 0, 1, \dots$ machine $r$ sends its chunk number $r-t$ (mod $P$), and
#   *adds* what it receives, chunk $r-1-t$, to its own. After the last step, machine $r$ has the complete sum of one
#   chunk: number $r+1$.
# - **All-gather**, $P-1$ steps. In step $t$ machine $r$ sends chunk $r+1-t$, which is complete, and *replaces* its own
#   chunk $r-t$ by what it receives.
#
# Each sends $2(P-1)$ chunks of $n/P$ numbers: $2\frac{P-1}{P}n$, less than $2n$ for any number of machines. Nobody can do
# with much less: what a machine holds must get out, and the rest of the sum must get in.


# %% tags=["wrong"]
# check: ring
# says: more than its share
def ring_all_reduce(parts, wire):
    P = len(parts)
    total, travelling = [part.copy() for part in parts], [part.copy() for part in parts]
    for _ in range(P - 1):
        arrived = wire.deliver({(r, (r + 1) % P): travelling[r] for r in range(P)})
        for r in range(P):
            travelling[r] = arrived[r]
            total[r] += arrived[r]
    return total


# %%
def ring_all_reduce(parts, wire):
    """Return what each machine has in the end, the sum of all parts (n,), by 2 (P − 1) steps of the wire."""
    ### BEGIN SOLUTION
    P = len(parts)
    chunks = [[chunk.copy() for chunk in np.array_split(part, P)] for part in parts]  # of each machine
    for t in range(P - 1):
        arrived = wire.deliver({(r, (r + 1) % P): chunks[r][(r - t) % P] for r in range(P)})
        for r in range(P):
            chunks[r][(r - 1 - t) % P] += arrived[r]
    for t in range(P - 1):
        arrived = wire.deliver({(r, (r + 1) % P): chunks[r][(r + 1 - t) % P] for r in range(P)})
        for r in range(P):
            chunks[r][(r - t) % P] = arrived[r]
    return [np.concatenate(chunk) for chunk in chunks]
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(1705)  # the check's own numbers
vectors = own.normal(size=(5, 35))  # five machines, chunks of seven numbers


def reduced(function):
    """Return what each machine has in the end, and what it cost."""
    wire = Wire(len(vectors))
    found = function([v.copy() for v in vectors], wire)
    return {"sums": np.array(found), "numbers sent by each": wire.sent, "steps": wire.steps}


lesson.check(
    "ring",
    lambda: reduced(ring_all_reduce),
    {"sums": np.tile(vectors.sum(axis=0), (5, 1)), "numbers sent by each": np.full(5, 2 * 4 * 7), "steps": 8},
    tol=1e-12,
    wrong={
        "each machine sends more than its share: whole vectors go round, where chunks would do": lambda: {
            "sums": np.tile(vectors.sum(axis=0), (5, 1)),
            "numbers sent by each": np.full(5, 4 * 35),
            "steps": 4,
        },
        "the machines wait for each other: in a step all of them send at once, in one `deliver`": lambda: {
            "sums": np.tile(vectors.sum(axis=0), (5, 1)),
            "numbers sent by each": np.full(5, 56),
            "steps": 40,
        },
        "one machine does all the adding and sending, while the others wait: chunks go round a ring": lambda: (
            {
                "sums": np.tile(vectors.sum(axis=0), (5, 1)),
                "numbers sent by each": np.array([140, 35, 35, 35, 35]),
                "steps": steps,
            }
            for steps in (2, 5, 8)
        ),
    },
)

# %% [markdown]
# Question 1: $2\cdot\frac78\cdot100 = 175$ MB each.
#
# One thing to note for later: chunk after chunk is added in a different order, but *once*; all machines receive the very
# same bits. That matters. If two machines had sums that differ in the last digit, their weights would drift apart.
#
# ## Means of unequal shards
#
# Let shard $r$ have $n_r$ samples and mean loss $L_r$. The loss of all is $L = \sum_r\frac{n_r}{n}L_r$ with $n=\sum n_r$.
# So its gradient is the mean of the gradients **weighed by the shards' sizes**; the plain mean of question 3 is another
# number. Libraries that take the plain mean are right if all shards are equal, which those of an epoch's last batch often
# are not.


# %% tags=["wrong"]
# check: mean gradient
# says: plain mean
def mean_gradient(gradients, sizes):
    return np.mean(gradients, axis=0)


# %%
def mean_gradient(gradients, sizes):
    """Return the gradient of the mean loss of all samples, from those of the shards' mean losses and their sizes."""
    ### BEGIN SOLUTION
    return sum(n * gradient for n, gradient in zip(sizes, gradients, strict=True)) / sum(sizes)
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(1707)  # the check's own numbers
features, target = own.normal(size=(12, 4)), own.normal(size=12)
line = own.normal(size=4)
cuts = [slice(0, 3), slice(3, 5), slice(5, 12)]  # shards of 3, 2 and 7 samples


def slope(rows):
    """Return the gradient of mean((features @ line − target)²) / 2 over some rows."""
    error = features[rows] @ line - target[rows]
    return features[rows].T @ error / len(error)


shards = [slope(cut) for cut in cuts]
lesson.check(
    "mean gradient",
    lambda: mean_gradient(shards, [3, 2, 7]),
    slope(slice(None)),
    tol=1e-12,
    wrong={
        "this is the plain mean; a shard of seven counts more than one of two": lambda: np.mean(shards, axis=0),
        "the sum must be divided by the number of all samples": lambda: 12 * slope(slice(None)),
    },
)

# %% [markdown]
# ## Statistics that lie apart
#
# Question 2: of 8. Each machine's BN sees its own images: a noisier norm, and *another function* than on one machine. For
# small shards (object detection trains with one or two images a machine) that hurts, so the statistics are
# **synchronised**: the mean and variance of the whole batch, in each channel.
#
# A machine has $n_r$ values of a channel with mean $m_r$ and $S_r=\sum(x-m_r)^2$. Lesson 06 said how parts combine
# without cancellation: $m=\frac1n\sum_r n_rm_r$ and
#
# $$ V = \frac1n\sum_r\bigl[S_r + n_r(m_r-m)^2\bigr] . $$
#
# What is sent: three numbers per channel, whatever the images' size. (Adding $\sum x$ and $\sum x^2$ is one all-reduce
# instead of a gather, and loses digits at large means: lesson 06 again.)


# %% tags=["wrong"]
# check: statistics
# says: the spread of the machines' means
def combined(counts, means, squares):
    n = counts.sum()
    return counts @ means / n, squares.sum(axis=0) / n


# %%
def combined(counts, means, squares):
    """Return mean and variance (C,) of all values, for counts (P,), means (P, C) and squares S (P, C)."""
    ### BEGIN SOLUTION
    n = counts.sum()
    mean = counts @ means / n
    return mean, (squares.sum(axis=0) + counts @ (means - mean) ** 2) / n
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(1709)  # the check's own numbers
rows = 1e6 + own.normal(size=(20, 4)) * [1, 2, 5, 3] + np.arange(20)[:, None]  # a large mean: sums of squares lose it
pieces = [rows[:4], rows[4:13], rows[13:]]
given = (
    np.array([len(p) for p in pieces]),
    np.array([p.mean(axis=0) for p in pieces]),
    np.array([((p - p.mean(axis=0)) ** 2).sum(axis=0) for p in pieces]),
)
of_all = {"mean": rows.mean(axis=0), "var": rows.var(axis=0)}
apart = given[1] - of_all["mean"]
lesson.check(
    "statistics",
    lambda: dict(zip(("mean", "var"), combined(*given), strict=True)),
    of_all,
    tol=1e-7,  # float64 at mean 1e6: the means themselves are good to 1e-10
    wrong={
        "the spread of the machines' means is missing": lambda: of_all | {"var": given[2].sum(axis=0) / 20},
        "each machine counts alike; weigh them by their counts": lambda: {
            "mean": given[1].mean(axis=0),
            "var": (given[2].sum(axis=0) + given[0] @ (given[1] - given[1].mean(axis=0)) ** 2) / 20,
        },
        "the distance of a machine's mean counts as often as the machine has values": lambda: (
            of_all | {"var": (given[2].sum(axis=0) + factor * (apart**2).sum(axis=0)) / 20}
            for factor in (20, 20 / 3, 1)
        ),
        "S is a sum of squares already, no variance: add up all S": lambda: (
            of_all | {"var": var}
            for var in (
                given[0] @ (given[2] + apart**2) / 20,
                (given[2] / given[0][:, None]).mean(axis=0),
                (given[2] / given[0][:, None] + apart**2).mean(axis=0),
                given[0] @ given[2] / 20,
            )
        ),
    },
)

# %% [markdown]
# ## Backward
#
# Now every machine's loss depends on every machine's images, through $\mu$ and $\sigma^2$. Let $L$ be the sum over all
# machines. Lesson 05's derivation does not care where a value lies:
#
# $$ dx_i = \mathrm{weight}\cdot\mathrm{rstd}\,\Bigl(dy_i - \tfrac1M\textstyle\sum_j dy_j
#    - \hat x_i\,\tfrac1M\sum_j dy_j\,\hat x_j\Bigr), $$
#
# with sums over **all** $M$ values of the channel, on all machines. Each machine has its part of two sums,
#
# $$ A_r = \sum_{i\in r} dy_i, \qquad B_r = \sum_{i\in r} dy_i\,\hat x_i , $$
#
# one all-reduce of $2C$ numbers gives $A$ and $B$, and each computes its own $dx$. No image ever travels.
#
# And the parameters: $d\mathrm{bias}$ of *all* is $A$, $d\mathrm{weight}$ of all is $B$. A machine must return its own
# **part**, $A_r$ and $B_r$: the gradients of all parameters are added up later, once. To return $A$ here counts it
# $P$ times.


# %% tags=["wrong"]
# check: backward
# says: sums of one machine
def sync_backward(dy, x, weight, mean, var, total, all_reduce):
    rstd = 1 / np.sqrt(var + eps)
    xhat = (x - mean) * rstd
    A, B = dy.sum(axis=0), (dy * xhat).sum(axis=0)
    return {"dx": weight * rstd * (dy - A / len(x) - xhat * B / len(x)), "dweight": B, "dbias": A}


# %% tags=["wrong"]
# check: backward
# says: counted once for each machine
def sync_backward(dy, x, weight, mean, var, total, all_reduce):
    rstd = 1 / np.sqrt(var + eps)
    xhat = (x - mean) * rstd
    A, B = all_reduce(np.array([dy.sum(axis=0), (dy * xhat).sum(axis=0)]))
    return {"dx": weight * rstd * (dy - A / total - xhat * B / total), "dweight": B, "dbias": A}


# %%
def sync_backward(dy, x, weight, mean, var, total, all_reduce):
    """Return {"dx", "dweight", "dbias"} of one machine.

    dy, x (n, C) are its shard; mean, var (C,) are of all `total` values; all_reduce(array) returns the sum over all
    machines of the arrays that they give it.
    """
    ### BEGIN SOLUTION
    rstd = 1 / np.sqrt(var + eps)
    xhat = (x - mean) * rstd
    part = np.array([dy.sum(axis=0), (dy * xhat).sum(axis=0)])
    A, B = all_reduce(part)
    dx = weight * rstd * (dy - A / total - xhat * B / total)
    return {"dx": dx, "dweight": part[1], "dbias": part[0]}
    ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(1711)  # the check's own numbers
x, dy = 2 + own.normal(size=(13, 4)), own.normal(size=(13, 4))
weight, bias = np.array([1.3, -0.6, 0.8, 2.1]), np.zeros(4)
shares = [slice(0, 2), slice(2, 7), slice(7, 13)]
xhat = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)
sums = np.array([dy.sum(axis=0), (dy * xhat).sum(axis=0)])


class WaitsError(Exception):
    """A machine waits for the others' parts of a sum."""


def on_three(function):
    """Return what three machines give: dx one below the other, and their parts of dweight and dbias.

    A machine that asks for a sum waits until all three have given their parts: each begins anew when a sum is known.
    """
    known = []
    for _ in range(9):  # all-reduces, at most
        parts, found = [], []
        for s in shares:
            sums_so_far = iter(known)

            def all_reduce(part, sums_so_far=sums_so_far, parts=parts):
                for one in sums_so_far:
                    return one.copy()
                parts.append(np.array(part, float))
                raise WaitsError

            try:
                found.append(function(dy[s], x[s], weight, x.mean(axis=0), x.var(axis=0), 13, all_reduce))
            except WaitsError:
                continue
        if not parts:
            break
        known.append(sum(parts))
    parts = {f"{name} of machine {r}": one[name] for r, one in enumerate(found) for name in ("dweight", "dbias")}
    return {"dx": np.concatenate([one["dx"] for one in found])} | parts


def right_ones(whole=False):
    found = {"dx": reference.batch_norm_backward(dy, x, weight, bias, eps)["dx"]}
    for r, s in enumerate(shares):
        found[f"dweight of machine {r}"] = sums[1] if whole else (dy[s] * xhat[s]).sum(axis=0)
        found[f"dbias of machine {r}"] = sums[0] if whole else dy[s].sum(axis=0)
    return found


def of_parts(A_of=None, B_of=None, n_of=lambda s: 13, own_statistics=False):
    """Return what comes out if A, B and the number of values are those of one machine, or its statistics."""
    dx = []
    for s in shares:
        at = x[s] if own_statistics else x
        rstd = 1 / np.sqrt(at.var(axis=0) + eps)
        hat = (x[s] - at.mean(axis=0)) * rstd
        A = sums[0] if A_of is None else A_of(dy[s])
        B = sums[1] if B_of is None else B_of(dy[s] * hat)
        dx.append(weight * rstd * (dy[s] - A / n_of(s) - hat * B / n_of(s)))
    return right_ones() | {"dx": np.concatenate(dx)}


def added(array):
    return array.sum(axis=0)


lesson.check(
    "backward",
    lambda: on_three(sync_backward),
    right_ones,
    tol=1e-12,
    wrong={
        "dx has the sums of one machine; those of all machines belong there": lambda: (
            of_parts(added, added, n_of) for n_of in (lambda s: len(x[s]), lambda s: 13)
        ),
        "one of the two sums in dx is that of one machine": lambda: (
            of_parts(*which) for which in ((added, None), (None, added))
        ),
        "sums over all machines are divided by the number of all values, `total`": lambda: of_parts(
            n_of=lambda s: len(x[s])
        ),
        "dweight and dbias will be counted once for each machine: return the machine's own part": lambda: right_ones(
            whole=True
        ),
    },
)

# %% [markdown]
# The same holds for mode normalization. Lesson 09's sums over the batch are $N_k$, $\mu_k$, $\sigma_k^2$ forward and
# $d\mu_k$, $d\sigma_k^2$, $\sum_n w\,dw$ backward: $K$ times as many numbers, still none that grows with the images. Layer, instance and
# group norm have no sums over the batch and need nothing.
#
# ## Two processes
#
# Now for real: two Python processes that share no memory. Each gets its shard and answers on its standard output; this
# notebook is the wire. The cell below, which a click opens, holds the whole worker in `WORKER`: it does its part of
# forward, *waits* for the statistics of all, does its part of backward, waits for the sums, and sends its $dx$. On a
# cluster MPI or NCCL take the notebook's place, and the waiting is the same.

# %% tags=["figure"]
WORKER = """
import pickle, sys
import numpy as np
read = lambda: pickle.load(sys.stdin.buffer)
def tell(a):
    pickle.dump(a, sys.stdout.buffer)
    sys.stdout.buffer.flush()
x, dy, weight = read(), read(), read()
m = x.mean(axis=0)
tell(np.array([np.full(len(m), len(x)), m, ((x - m) ** 2).sum(axis=0)]))   # count, mean, S
total, mean, var = read()                                                 # waits for all
rstd = 1 / np.sqrt(var + 1e-5)
xhat = (x - mean) * rstd
tell(np.array([dy.sum(axis=0), (dy * xhat).sum(axis=0)]))                  # A and B of this shard
A, B = read()                                                             # waits for all
tell(weight * rstd * (dy - A / total - xhat * B / total))
"""

parts_of = lesson.yours(
    combined, lambda n, m, S: (n @ m / n.sum(), (S.sum(0) + n @ (m - n @ m / n.sum()) ** 2) / n.sum()), "statistics"
)
ring = lesson.yours(ring_all_reduce, lambda parts, wire: [sum(parts)] * len(parts), "ring")
X, DY, W = rng.normal(2, 3, (1000, 4)), rng.normal(size=(1000, 4)), np.array([1.3, -0.6, 0.8, 2.1])
halves = slice(0, 300), slice(300, 1000)  # unequal, on purpose
workers = [
    subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in halves
]


def send(worker, *arrays):
    for array in arrays:
        pickle.dump(array, worker.stdin)
    worker.stdin.flush()


for worker, half in zip(workers, halves, strict=True):
    send(worker, X[half], DY[half], W)
counts, means, squares = np.array([pickle.load(worker.stdout) for worker in workers]).transpose(1, 0, 2)
mean, var = parts_of(counts[:, 0], means, squares)
for worker in workers:
    send(worker, np.array([np.full(4, 1000.0), mean, var]))
local = [pickle.load(worker.stdout) for worker in workers]
everywhere = ring([part.ravel() for part in local], Wire(2))
for worker, of_all_machines in zip(workers, everywhere, strict=True):
    send(worker, of_all_machines.reshape(2, 4))
together = np.concatenate([pickle.load(worker.stdout) for worker in workers])
for worker in workers:
    worker.stdin.close()
    worker.stdout.close()
    worker.wait()
one = reference.batch_norm_backward(DY, X, W, np.zeros(4), eps)["dx"]
print("processes:", [worker.pid for worker in workers], "ended with", [worker.returncode for worker in workers])
print(f"dx of two processes against dx of one: largest difference {np.abs(together - one).max():.1e}")
apart = np.concatenate([reference.batch_norm_backward(DY[h], X[h], W, np.zeros(4), eps)["dx"] for h in halves])
print(f"without synchronisation:               largest difference {np.abs(apart - one).max():.1e}")

# %% [markdown]
# ## What does it cost?
#
# A step takes the time $c$ to compute (on one machine, for all of the batch), so $c/P$ on $P$. Then $n$ bytes of
# gradients go round the ring: each of $2(P-1)$ steps takes a **latency** $\ell$ and moves $n/P$ bytes at $\beta$ bytes a
# second:
#
# $$ t(P) = \frac cP + 2(P-1)\Bigl(\ell+\frac{n}{P\,\beta}\Bigr), \qquad\text{for } P>1; \quad t(1)=c . $$
#
# Write it.


# %% tags=["wrong"]
# check: step time
# says: only one of the two phases
def step_time(P, compute, nbytes, bandwidth, latency):
    return compute / P + (P - 1) * (latency + nbytes / (P * bandwidth))


# %%
def step_time(P, compute, nbytes, bandwidth, latency):
    """Return the seconds of a step on P machines."""
    ### BEGIN SOLUTION
    return compute / P + 2 * (P - 1) * (latency + nbytes / (P * bandwidth))
    ### END SOLUTION


# %% tags=["check"]
settings = {"one": (1, 2.0, 1e8, 1e9, 1e-3), "eight": (8, 2.0, 1e8, 1e9, 1e-3), "slow wire": (4, 0.1, 1e8, 1e8, 5e-3)}
lesson.check(
    "step time",
    lambda: {name: step_time(*setting) for name, setting in settings.items()},
    {"one": 2.0, "eight": 0.25 + 14 * 0.001 + 14 * 0.0125, "slow wire": 0.025 + 6 * 0.005 + 6 * 0.25},
    tol=1e-9,
    wrong={
        "this is only one of the two phases: reduce-scatter and all-gather have P − 1 steps each": lambda: {
            "one": 2.0,
            "eight": 0.25 + 7 * 0.001 + 7 * 0.0125,
            "slow wire": 0.025 + 3 * 0.005 + 3 * 0.25,
        },
    },
)

# %% tags=["figure"]
model = lesson.yours(step_time, lambda P, c, n, b, latency: c / P + 2 * (P - 1) * (latency + n / (P * b)), "step time")
machines = 2 ** np.arange(0, 9)
figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
for name, nbytes, colour in (("1 MB (ResNet20)", 1.1e6, "C0"), ("47 MB (ResNet18)", 47e6, "C1"), ("500 MB", 5e8, "C3")):
    speedup = [1.0 / model(int(P), 1.0, nbytes, 1e9, 50e-6) for P in machines]
    axes[0].loglog(machines, speedup, "o-", color=colour, label=name)
axes[0].loglog(machines, machines, "k:", label="ideal")
axes[0].set(
    xlabel="machines", ylabel="speed against one machine", title="A step of 1 s, a wire of 1 GB/s, 50 µs (a model)"
)
axes[0].legend(fontsize=8)
ring_sent, star_sent = 2 * (machines - 1) / machines, np.maximum(machines - 1, 0)
axes[1].plot(machines[:6], ring_sent[:6], "o-", label="ring: every machine")
axes[1].plot(machines[:6], star_sent[:6], "s-", label="star: machine 0")
axes[1].set(xlabel="machines", ylabel="sent, in vectors", title="What the busiest machine sends")
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# **Read it.** The bytes of the ring stop growing, $2n/\beta$ at most, so many machines only pay *latency* more, $2(P-1)\ell$. What bends the
# lines is that $c/P$ shrinks and the communication does not: with 500 MB of gradients a step of 1 s never gets below one
# second of sending, so it gains nothing at all. Remedies: larger batches a machine, sending while backward still
# computes (the last layers' gradients are ready first), fewer bytes (float16).
#
# ## Break it
#
# What happens if one machine draws other initial weights, or takes its shard from another shuffle? Think before you read
# on. The first: every machine adds the same update to *different* weights; they never meet again, and the gradients that
# are averaged belong to different functions. Frameworks send machine 0's weights to all at the start. The second: some
# images are seen twice and others never, and nobody notices. So all machines draw from **one** seed, and each takes its
# rows.
#
# ## In the package, and in PyTorch
#
# - [docs/scale.md](../docs/scale.md) says how minidl trains in several processes by MPI, and `--sync-norm` synchronises
#   the statistics of BN and MN as here.
# - PyTorch: `DistributedDataParallel` (a ring or tree by NCCL, overlapped with backward; it takes the plain mean over
#   machines) and `nn.SyncBatchNorm` (your `combined` and `sync_backward`).

# %%
lesson.done()
