# ---
# jupyter:
#   minidl:
#     title: Multi-task training
#     minutes: 75
#     needs: ["05", "08"]
#     checks: 5
# ---


# %% [markdown]
# # 11 · Multi-task training: a small Table 1, and whether to believe it
#
# **Goal.** You train one network on four datasets at once, with batch normalization (BN) and with mode normalization
# (MN), over five seeds. You turn ten test errors into one sentence that is true: how large is the difference, and how
# sure can one be?
#
# **You need.** Lessons 05 and 08. **Time.** About 75 minutes, of which the computer takes half a minute for ten
# trainings, more if it is busy.
#
# The paper's Table 1 trains LeNet on MNIST, CIFAR-10, SVHN and Fashion-MNIST together: forty classes, labels 0–9, 10–19,
# 20–29, 30–39. It reports 26.91 ± 1.08 % test error for BN and 23.16 ± 1.23 % for MN with $K = 2$, mean and deviation of
# five seeds. We have the bundled sample, 1150 training and 290 test images of each dataset, and train two epochs
# instead of fifteen. Same network, same optimiser, same batch size: a Table 1 through the wrong end of a telescope.
#
# **Predict.** Write down three numbers.
#
# 1. The test error of a network that guesses. And of ours, roughly, after 70 updates?
# 2. By how many points will two trainings differ that differ in nothing but the seed?
# 3. How many seeds does it take to see a difference of one point, if single differences spread by two?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("11", checks=5)

# %%
from dataclasses import replace
from itertools import chain, count

import matplotlib.pyplot as plt
import numpy as np

import minidl
from minidl import data, reference
from minidl.reproduce.statistics import paired_difference, student_quantile
from minidl.train import Trainer, recipe
from minidl.train.evaluate import evaluate

task = data.load_task("multitask", sample=True)
mean, std = data.channel_statistics(task.train)
NORMS, SEEDS, EPOCHS, BATCH = {"bn": "BN", "mn": "MN, K = 2"}, range(5), 2, 128


def trainer(norm, seed):
    """Return the package's trainer, with its model and optimiser ready; the seed draws the weights."""
    short = {"length": f"{EPOCHS}e", "lr_drops": ("2/3",), "momentum": 0.9, "sample": True}
    return Trainer(replace(recipe("lenet", "multitask"), norm=norm, seed=seed, **short), quiet=True, task=task)


def batches(seed):
    """Return the training set's loader, in the order that this seed draws."""
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(3)[1])
    return data.Loader(task.train, BATCH, mean=mean, std=std, drop_last=True, rng=rng)


test = data.Loader(task.test, BATCH, mean=mean, std=std, shuffle=False)
print(*(line.partition(", from ")[0] for line in task.describe()), sep="\n")

# %% [markdown]
# ## One update
#
# Look at how `trainer` and `batches` use a seed. `SeedSequence(seed).spawn(3)` makes three independent streams: one
# draws the weights, one the order of the images, one the dropout masks (LeNet has none). BN and MN of one seed so see
# **the same images in the same order**. Remember that; we shall want to know what it is worth.
#
# Training is five lines, again and again. Run the batch forward; measure the loss; forget the old gradients; run
# backward; take a step. The order is not free: `backward` *adds* to the gradients, because a parameter may be used
# twice, so somebody has to clear them before.


# %% tags=["wrong"]
# check: train_step
# says: gradients of the batches before
def train_step(model, criterion, optimiser, x, labels):
    loss = criterion.forward(model.forward(x), labels)
    model.backward(criterion.backward())
    optimiser.step()
    return loss


# %%
def train_step(model, criterion, optimiser, x, labels):
    """Do one update on one batch; return the loss before it."""
    ### BEGIN SOLUTION
    loss = criterion.forward(model.forward(x), labels)
    optimiser.zero_grad()
    model.backward(criterion.backward())
    optimiser.step()
    return loss
    ### END SOLUTION


# %% tags=["check"]
# The package's trainer on one side, your step on the other. The same operations give the same bits.
def five_updates(step):
    run, criterion, losses = trainer("mn", 0), minidl.SoftmaxCrossEntropy(), []
    with minidl.threads(run.config.threads):
        for _, (x, labels, _) in zip(range(5), batches(0), strict=False):
            losses.append(step(run.model, criterion, run.optimiser, x, labels))
    return {"first loss": losses[0], "first convolution": run.model.state()["0.weight"]}


def never_cleared(model, criterion, optimiser, x, labels):
    loss = criterion.forward(model.forward(x), labels)
    model.backward(criterion.backward())
    optimiser.step()
    return loss


def never_stepped(model, criterion, optimiser, x, labels):
    return criterion.forward(model.forward(x), labels)


def right():
    (x, labels, _), run = next(iter(batches(0))), trainer("mn", 0)
    loss = reference.softmax_cross_entropy(run.model.forward(x), labels)
    run = trainer("mn", 0)
    run.run(until=5)
    return {"first loss": loss, "first convolution": run.model.state()["0.weight"]}


lesson.check(
    "train_step",
    lambda: five_updates(train_step),
    right,
    tol=1e-6,
    wrong={
        "the gradients of the batches before are still in it: zero_grad": lambda: five_updates(never_cleared),
        "the weights are as they were drawn: the optimiser has not taken a step": lambda: five_updates(never_stepped),
    },
)

# %% [markdown]
# ## Whose mistakes
#
# We want more than a number: *which* test images a network gets wrong. The error in percent is the mean of that, and we
# shall need the rest of it at the end.
#
# Two classic slips. A network in training mode normalises the test images by *their own* batch: it peeks at 127 other
# test images, and moves its running statistics while it looks. And a network that was left in evaluation mode goes on
# training with frozen statistics. So: `model.eval()` before, `model.train()` after.


# %% tags=["wrong"]
# check: mistakes
# says: normalises the test images by their own batch
def mistakes(model, loader):
    return np.concatenate([model.forward(x).argmax(axis=1) != labels for x, labels, _ in loader])


# %% tags=["wrong"]
# check: mistakes
# says: left in evaluation mode
def mistakes(model, loader):
    model.eval()
    return np.concatenate([model.forward(x).argmax(axis=1) != labels for x, labels, _ in loader])


# %%
def mistakes(model, loader):
    """Return (M,) booleans in the loader's order: is the largest of the 40 logits another one than the label's?"""
    ### BEGIN SOLUTION
    model.eval()
    wrong = [model.forward(x).argmax(axis=1) != labels for x, labels, _ in loader]
    model.train()
    return np.concatenate(wrong)
    ### END SOLUTION


# %% tags=["check"]
def one_by_one(model, loader):
    """The package's evaluation, told that every image is a dataset of its own."""
    numbered = ((x, n, i + np.arange(len(n))) for i, (x, n, _) in zip(count(0, BATCH), loader, strict=False))
    return np.array([*evaluate(model, numbered, tuple(map(str, range(len(task.test)))))["test_errors"].values()]) > 0


def in_mode(training):
    def slip(model, loader):
        model.train() if training else model.eval()
        return np.concatenate([model.forward(x).argmax(axis=1) != labels for x, labels, _ in loader])

    return slip


short = trainer("bn", 1)
short.run(until=20)
state = short.model.state()


def examined(function):
    short.model.load_state(state)
    wrong = function(short.model.train(), test)
    return {"mistakes": wrong, "training afterwards": float(short.model.training)}


lesson.check(
    "mistakes",
    lambda: examined(mistakes),
    lambda: examined(one_by_one),
    tol=1e-9,
    wrong={
        "in training mode, BN normalises the test images by their own batch": lambda: examined(in_mode(True)),
        "the model is left in evaluation mode": lambda: examined(in_mode(False)),
    },
)


# %% [markdown]
# ## What would convince us?
#
# Decide that *before* looking at the numbers. Soon there will be five differences, MN less BN, one per seed:
# $d_1, \dots, d_n$ with $n = 5$. With other seeds the numbers would be others. Think of each $d_i$ as drawn from a heap with
# some true mean $\delta$ and deviation $\sigma$, which we do not know. $\delta$ is what we ask for.
#
# - The mean $\bar d$ of $n$ independent draws has mean $\delta$ and variance $\sigma^2/n$: variances of independent
#   numbers add up to $n\sigma^2$, and dividing a sum by $n$ divides its variance by $n^2$.
# - If the heap is a bell and we knew $\sigma$, then $|\bar d - \delta| \le 1.96\,\sigma/\sqrt n$ in 95 of 100 repeats.
# - We do not know $\sigma$. We estimate it: $s^2 = \frac1{n-1}\sum_i (d_i - \bar d)^2$. With five numbers this is often
#   far too small, and then so is the interval. Student (1908) found how much wider it must be. The ratio of
#   $\bar d - \delta$ to $s/\sqrt n$ is not a bell but has heavier tails, the $t$-distribution with $n - 1$ degrees of
#   freedom. Its 97.5 % point takes the place of 1.96: it is 12.7 for two seeds, 4.3 for three, 2.8 for five.
#
# $$\bar d \;\pm\; t_{0.975,\,n-1}\,\frac{s}{\sqrt n}$$
#
# `student_quantile(p, df)` gives the point. You need not take Student's word: the picture below will test him.


# %% tags=["wrong"]
# check: interval
# says: 1.96 is for a known deviation
def interval(d):
    half = 1.96 * np.std(d, ddof=1) / np.sqrt(len(d))
    return np.mean(d), np.mean(d) - half, np.mean(d) + half


# %% tags=["wrong"]
# check: interval
# says: how far single seeds spread
def interval(d):
    half = student_quantile(0.975, len(d) - 1) * np.std(d, ddof=1)
    return np.mean(d), np.mean(d) - half, np.mean(d) + half


# %%
def interval(d):
    """Return mean, low and high of Student's 95 % interval, for differences d (n,)."""
    ### BEGIN SOLUTION
    half = student_quantile(0.975, len(d) - 1) * np.std(d, ddof=1) / np.sqrt(len(d))
    return np.mean(d), np.mean(d) - half, np.mean(d) + half
    ### END SOLUTION


# %% tags=["check"]
def package_interval(d):
    found = paired_difference(dict(enumerate(d)), dict.fromkeys(range(len(d)), 0.0))
    return np.array([found.mean, *found.interval])


def with_half(half):
    return np.mean(example) + half * np.array([0, -1, 1])


example = np.array([1.4, -0.2, 2.3, 0.9])
deviation = example.std(ddof=1)
lesson.check(
    "interval",
    lambda: np.array(interval(example)),
    lambda: package_interval(example),
    tol=1e-12,
    wrong={
        "1.96 is for a known deviation; this one is estimated from n numbers": lambda: with_half(1.96 * deviation / 2),
        "this is how far single seeds spread; the mean of n spreads less, by sqrt(n)": lambda: with_half(
            student_quantile(0.975, 3) * deviation
        ),
        "estimating a deviation from its own mean takes n − 1": lambda: with_half(
            student_quantile(0.975, 3) * example.std() / 2
        ),
    },
)

# %% [markdown]
# ## Break it: intervals from few seeds
#
# Let us test Student. Draw $n$ differences from a bell with true mean 0, compute the interval, see whether it contains
# 0; a thousand times. A 95 % interval must, in 950 cases. **Predict** what 1.96 achieves with $n = 3$.

# %% tags=["figure"]
rng = np.random.default_rng(11)
of = lesson.yours(interval, package_interval, check="interval")
seeds = [2, 3, 4, 5, 8, 16]
hits = {"Student's t": [], "1.96": []}
for n in seeds:
    d = rng.normal(size=(1000, n))
    found = np.array([of(row) for row in d])  # (1000, 3)
    known = 1.96 * d.std(axis=1, ddof=1) / np.sqrt(n)
    hits["Student's t"].append(100 * np.mean((found[:, 1] < 0) & (found[:, 2] > 0)))
    hits["1.96"].append(100 * np.mean(abs(d.mean(axis=1)) < known))
figure, ax = plt.subplots(figsize=(7.5, 3), layout="constrained")
ax.axhline(95, color="k", lw=1)
for (name, percent), style in zip(hits.items(), ("C0o-", "C3s--"), strict=True):
    ax.plot(seeds, percent, style, label=name)
ax.set(xlabel="seeds", ylabel="intervals with the truth inside (%)", xscale="log", ylim=(65, 100))
ax.set_xticks(seeds, seeds)
ax.minorticks_off()
ax.set_title('With few seeds, "± 1.96 standard errors" promises 95 % and keeps much less', fontsize="medium")
ax.legend(frameon=False)
plt.show()
print("three seeds:", ", ".join(f"{name} {percent[1]:.0f} %" for name, percent in hits.items()))

# %% [markdown]
# ## How many seeds, then?
#
# This, too, is better asked *before* training. Suppose the true difference is $\delta > 0$. We shall be convinced if
# the interval lies above zero, $\bar d > t_{0.975,\,n-1}\, s/\sqrt n$. And $\bar d$ itself comes out above
# $\delta - t_{0.8,\,n-1}\, s/\sqrt n$ in 80 of 100 repeats (the same $t$, now one-sided). So with
#
# $$\bigl(t_{0.975,\,n-1} + t_{0.8,\,n-1}\bigr)\,\frac{s}{\sqrt n} \;\le\; \delta$$
#
# four experiments in five will see the difference: a **power** of 80 %. $n$ stands on both sides, so try 2, 3, 4 and on
# until it holds. (It is an estimate: $s$ is one, and the two quantiles are added as if $s$ were fixed. It is off by
# about a seed.)


# %% tags=["wrong"]
# check: seeds needed
# says: only half of all experiments
def seeds_needed(delta, s, power=0.8):
    n = 2
    while student_quantile(0.975, n - 1) * s / np.sqrt(n) > delta:
        n += 1
    return n


# %%
def seeds_needed(delta, s, power=0.8):
    """Return the smallest n >= 2 that sees a true difference delta with this power, given the deviation s."""
    ### BEGIN SOLUTION
    n = 2
    while (student_quantile(0.975, n - 1) + student_quantile(power, n - 1)) * s / np.sqrt(n) > delta:
        n += 1
    return n
    ### END SOLUTION


# %% tags=["check"]
lesson.check(
    "seeds needed",
    lambda: np.array([seeds_needed(2, 1.8), seeds_needed(1, 1.8), seeds_needed(1, 0.5), seeds_needed(1, 1.8, 0.95)]),
    np.array([9, 28, 5, 45]),
    tol=0.5,
    wrong={
        "so few that only half of all experiments see it: the power's quantile is missing": lambda: np.array(
            [6, 15, 4, 15]
        ),
        "1.96 and 0.84 are for a deviation that is known; s is estimated from n numbers": lambda: np.array(
            [7, 26, 2, 26]
        ),
    },
)


# %% [markdown]
# ## Ten trainings
#
# Now train: two norms, five seeds, your loop. A network that guesses is wrong in 39 of 40 cases, 97.5 %. **Predict**
# whether zero will lie in the interval.


# %%
# Your step is in the loop, if its check has passed.
def with_your_step(norm, seed):
    run, criterion, loader = trainer(norm, seed), minidl.SoftmaxCrossEntropy(), batches(seed)
    with minidl.threads(run.config.threads):
        for update, (x, labels, _) in enumerate(chain.from_iterable([loader] * EPOCHS)):
            run.optimiser.lr = 0.1 if update < EPOCHS * len(loader) * 2 / 3 else 0.01
            train_step(run.model, criterion, run.optimiser, x, labels)
    return run.model


def with_the_package(norm, seed):
    run = trainer(norm, seed)
    run.run()
    return run.model


train = lesson.yours(with_your_step, with_the_package, check="train_step")
mark = lesson.yours(mistakes, one_by_one, check="mistakes")
wrong = {norm: np.array([mark(train(norm, seed), test) for seed in SEEDS]) for norm in NORMS}  # (5, 1160) each
error = {norm: 100 * w.mean(axis=1) for norm, w in wrong.items()}
difference = error["mn"] - error["bn"]
print("test error (%) by seed", *(f"{seed:6}" for seed in SEEDS), "   mean ± deviation")
for name, values in ((NORMS["bn"], error["bn"]), (NORMS["mn"], error["mn"]), ("difference", difference)):
    print(f"{name:22}", *(f"{value:6.2f}" for value in values), f"   {values.mean():5.2f} ± {values.std(ddof=1):.2f}")
for d, source in enumerate(task.test.sources):
    parts = [100 * w[:, task.test.source == d].mean() for w in wrong.values()]
    print(f"{source:13}: BN {parts[0]:5.1f}, MN {parts[1]:5.1f}")

middle, low, high = of(difference)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", width_ratios=(1.2, 1))
for seed in SEEDS:
    left.plot([0, 1], [error["bn"][seed], error["mn"][seed]], "o-", color=f"C{seed}", label=f"seed {seed}")
left.set(xticks=[0, 1], xticklabels=NORMS.values(), xlim=(-0.3, 1.3), ylabel="test error (%)")
left.set_title("the two trainings of a seed", fontsize="medium")
left.legend(frameon=False, fontsize="x-small")
right.axhline(0, color="k", lw=1)
right.scatter(np.zeros(len(SEEDS)), difference, c=[f"C{seed}" for seed in SEEDS])
right.errorbar([0.5], [middle], [[middle - low], [high - middle]], color="k", fmt="o", capsize=6)
right.set(
    xticks=[0, 0.5], xticklabels=["seeds", "mean and\n95 % interval"], xlim=(-0.3, 0.8), ylabel="MN − BN (points)"
)
right.set_title("their difference", fontsize="medium")
plt.show()
print(f"MN − BN: {middle:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}")
print(f"correlation of BN's and MN's errors over the seeds: {np.corrcoef(error['bn'], error['mn'])[0, 1]:+.2f}")

# %% [markdown]
# Read the interval aloud: "these are the true differences that five such numbers do not speak against". If zero is in
# it, **nothing has been shown**, neither that MN is better nor that it is not. When this page was written, seeds 0 to 4
# put MN 1.4 points *behind* (interval −1.7 to +4.5). Seeds 5 to 9 put it 1.5 *ahead* (−4.0 to +1.0), and all of the
# first sixteen 0.4 behind (−0.9 to +1.6). If you stop at seed 4, or begin at seed 5, you have different stories to
# tell, and neither is news. Question 2 is answered by the deviations in the table: one to three points, from the seed
# alone.
#
# **Was the pairing worth it?** The variance of a difference $b - a$ is that of $a$ plus that of $b$ less twice their
# covariance. What the order of the images does to both networks alike cancels, if it does anything alike. Look at the
# correlation above, and do not trust it much, from five pairs: sixteen seeds gave 0.2. Pairing costs nothing, so take
# it; the interval of the differences is right with or without correlation.


# %% tags=["figure"]
def normal_guess(delta, s):
    return int(np.ceil(((1.96 + 0.84) * s / delta) ** 2)) + 2


needed = lesson.yours(seeds_needed, normal_guess, check="seeds needed")
deltas, s = np.geomspace(0.4, 5, 30), difference.std(ddof=1)
figure, ax = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
ax.loglog(deltas, [needed(delta, s) for delta in deltas], "C0")
for delta, name in ((3.75, "Table 1: MN, K = 2"), (1.79, "Table 1: MN, K = 6"), (0.45, "Table 3: ResNet20")):
    at = needed(delta, s)
    ax.plot(delta, at, "ko")
    ax.annotate(
        f"{name}\n{delta} points: {at} seeds", (delta, at), (8, 6), textcoords="offset points", fontsize="small"
    )
ax.axhline(5, color="k", lw=1, ls=":")
ax.text(0.31, 5.4, "five seeds", fontsize="small")
ax.set(xlabel="true difference (points)", ylabel="seeds for a power of 80 %", xlim=(0.3, 9), ylim=(3, 1000))
ax.set_xticks(ticks := [0.5, 1, 2, 5], ticks)
ax.minorticks_off()
ax.set_title(f"With differences that spread by {s:.1f} points, five seeds see large effects only", fontsize="medium")
plt.show()

# %% [markdown]
# A difference like the paper's in Table 1 would show up with six seeds or so, even here. A tenth of it needs about a
# hundred times as many, since $n$ grows like $(s/\delta)^2$. Question 3: a good thirty. A single pair of trainings says
# next to nothing. The formula also says what *helps*: a smaller $s$, and longer training, with a learning rate that
# falls, gives one.
#
# ## Exercise: the other noise
#
# The seeds all met the same 1160 test images. With other images, the errors would be others. How far? For one network,
# image $i$ counts $a_i = 1$ if it is wrong, else 0; the error is $\bar a$, and its standard error is
# $\mathrm{std}(a)/\sqrt M$ with $M$ images. For the difference of two networks there are two cases:
#
# - tested on **different** images: the variances add up, $\sqrt{\mathrm{var}(a)/M + \mathrm{var}(b)/M}$;
# - tested on **the same** images: pairs again, $\mathrm{std}(b - a)/\sqrt M$.
#
# Write both, in percent points, with $n - 1$ in the variances. **Predict** which is smaller, and why.


# %%
def standard_errors(a, b):
    """Return (same images, different images), in percent points, for mistakes a and b (M,) of two networks."""
    ### BEGIN SOLUTION
    a, b = 100.0 * a, 100.0 * b
    same = np.std(b - a, ddof=1) / np.sqrt(len(a))
    return same, np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))
    ### END SOLUTION


# %% tags=["check"]
a, b = np.array([1, 0, 1, 1, 0, 0, 1, 0.0]), np.array([1, 0, 1, 0, 0, 0, 0, 1.0])
lesson.check(
    "standard errors",
    lambda: np.array(standard_errors(a, b)),
    100 * np.array([np.sqrt(23 / 8 / 7 / 8), np.sqrt((2 + 15 / 8) / 7 / 8)]),
    tol=1e-10,
    wrong={
        "on different images both networks contribute their variance": lambda: (
            100 * np.array([np.sqrt(23 / 8 / 7 / 8), a.std(ddof=1) / np.sqrt(8)])
        ),
        "standard deviations were added; of independent things it is the variances that add": lambda: (
            100 * np.array([np.sqrt(23 / 8 / 7 / 8), (a.std(ddof=1) + b.std(ddof=1)) / np.sqrt(8)])
        ),
        "the variances of the two networks divide by n − 1, too": lambda: (
            100 * np.array([np.sqrt(23 / 8 / 7 / 8), np.sqrt((a.var() + b.var()) / 8)])
        ),
    },
)


# %% tags=["figure"]
def of_the_mean(*parts):
    """Return the standard error of the mean of the first part less those of the others, in percent points."""
    return 100 * np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts))


errors_of = lesson.yours(
    standard_errors, lambda a, b: (of_the_mean(b * 1.0 - a), of_the_mean(a, b)), check="standard errors"
)
same, different = errors_of(wrong["bn"][0], wrong["mn"][0])
print(f"seed 0, MN − BN {difference[0]:+.2f} points; standard error over test images: {same:.2f} on the same images,")
print(f"{different:.2f} on different ones; deviation over seeds, for comparison: {difference.std(ddof=1):.2f}")

# %% [markdown]
# The same images give the smaller one: most are easy or hard for both networks, and cancel. But it is no smaller than
# what the seeds do. With 1160 images, two networks can differ by a point or two for no other reason than *which* images
# were drawn, and no number of seeds removes that: the seeds' interval is about these test images. The paper's test set
# has 56 000, and a standard error seven times smaller.
#
# ## What this table shows, and what it cannot
#
# - It shows that the machinery works, that four datasets fit into one network, and which of them are hard. SVHN is hardly
#   begun: a network that knows it for SVHN, and guesses the digit, is wrong in 90 %.
# - It cannot decide between BN and MN. Two epochs on 4600 images are not 15 epochs on 243 000: after 70 updates the
#   gates have only begun to differ (lesson 12 watches them), and MN with equal gates *is* BN.
# - Even the full table needs the care of this page: five seeds, an interval of the paired differences, the best *and*
#   the last epoch. (The paper's figures are of the best epoch, chosen on the test set, which flatters all columns.)
#
# ## In the package
#
# `python -m minidl.reproduce table1 --data-dir DIR` trains the real thing and writes the paper's figures above ours,
# every column against BN with the interval you wrote (`minidl/reproduce/statistics.py`). `--sample --scale 0.1` tries
# it in a minute. [docs/reproduce.md](../docs/reproduce.md) says what its settings are; the tables that we ran at full
# length are in [docs/results](../docs/results/README.md).
# `minidl/train/trainer.py` is your loop plus what makes a run repeatable: `_update` is `train_step`.
#
# In PyTorch the five lines read the same, `loss.backward()` for `model.backward(criterion.backward())`. That it, too,
# adds to gradients and keeps a mode for training is no accident: state dictionaries of minidl and PyTorch are
# interchangeable.

# %%
lesson.done()
