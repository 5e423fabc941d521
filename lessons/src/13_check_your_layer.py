# ---
# jupyter:
#   minidl:
#     title: Check your own PyTorch, JAX or C++ layer
#     minutes: 60
#     needs: ["03", "05"]
#     checks: 4
# ---

# %% [markdown]
# # 13 · Check your own PyTorch, JAX or C++ layer
#
# **Goal.** You will take a batch norm that somebody wrote in PyTorch's manner and that passes the usual tests, find
# its three bugs by reading a report, mend them one by one, and know what a green report means and what it does not.
# Then the same for a program in another language. **You need.** Lessons 03 and 05. PyTorch is not needed: the layer is
# plain NumPy with PyTorch's names. **Time.** about an hour.
#
# ## The usual test
#
# How does one test a normalization layer? Most repositories do this: standard normal inputs, a trusted layer beside
# it, `allclose` with a tolerance of $10^{-3}$; the careful ones compare gradients as well, often of `y.sum()`.
#
# minidl keeps a table of known-wrong batch norms, each with one bug that was seen somewhere or is easily made: a term
# of the gradient missing, $\epsilon$ in the wrong place, momentum swapped, statistics updated twice, a one-pass
# variance, ...
#
# **Predict before you run.** Of these wrong layers, which share do the usual tests let through? Comparing $y$ only?
# With the gradient of `y.sum()`? With random cotangents and weights? With running statistics?

# %% tags=["start"]
try:
    from minidl.lesson import Lesson
except ImportError:
    raise ImportError(
        "this lesson needs minidl: in the clone's folder run `pip install -e '.[train]'`, then restart the kernel"
    ) from None

lesson = Lesson("13", checks=4)

# %%
import json
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

from minidl import check, reference
from minidl.check import safetensors
from minidl.check.mutants import kill
from minidl.check.suite import VECTORS, open_suite
from minidl.check.variants import known_wrong

rng = np.random.default_rng(13)
x, random_dy, ones = rng.standard_normal((64, 3, 8, 8)), rng.standard_normal((64, 3, 8, 8)), np.ones(3)


def agrees(variant, weight, dy):
    """Return for y, each gradient and each running statistic whether it is the reference's, to a tolerance of 1e-3."""
    layer, bias = variant.make("batch_norm", {"num_features": 3, "eps": 1e-5, "momentum": 0.1}), weight - 1
    layer.load({"weight": weight, "bias": bias}, {})
    with np.errstate(all="ignore"):
        got = {"y": layer.forward(x, True), **layer.backward(dy), **layer.state()}
    right = {
        "y": reference.batch_norm(x, weight, bias, 1e-5),
        **reference.batch_norm_backward(dy, x, weight, bias, 1e-5),
    }
    right["running_mean"], right["running_var"] = reference.batch_norm_running(x, 0 * ones, ones, 0.1)
    return [np.allclose(got[name], value, 1e-3, 1e-3) for name, value in right.items()]


def usual_tests(variant):
    """Return which of four tests, each stricter than the one before, let a layer pass."""
    plain, mixed = agrees(variant, ones, np.ones_like(x)), agrees(variant, np.array([0.7, -1.3, 2.1]), random_dy)
    return np.cumprod([plain[0], all(plain[1:4]), all(mixed[:4]), all(mixed)])


wrong_layers, suite = [v for v in known_wrong("batch_norm") if v.dtype == "float32"], open_suite()
survived = [*sum(usual_tests(v) for v in wrong_layers), sum(kill(v, suite, enough=1).killed == 0 for v in wrong_layers)]
tests = ["y alone", "+ gradient of y.sum()", "+ random dy and weights", "+ running statistics", "minidl.check's cases"]
fig, ax = plt.subplots(figsize=(8, 2.8), layout="constrained")
ax.barh(tests, survived, color=["C3"] * 4 + ["C0"])
ax.bar_label(ax.containers[0], [f" {n} of {len(wrong_layers)}" for n in survived])
ax.invert_yaxis()
ax.set(
    xlabel="known-wrong batch norms that pass",
    xlim=(0, 1.2 * len(wrong_layers)),
    title="What the usual tests let through",
)
plt.show()

# %% [markdown]
# **Read it.** Most wrong layers give the right $y$ on friendly inputs: where the weight is 1, the bias 0 and the
# variance 1, it hardly matters what one does with them. `y.sum()` adds little, because its cotangent is 1 everywhere,
# for which a norm's $dx$ and $dweight$ are zero (lesson 03): only $dbias$ is tested. Even the careful test of the
# fourth bar lets about four in ten through: whatever shows only with a mean, a constant channel, other memory,
# evaluation after training, a second backward. `minidl.check` ships small cases for each of those, with expected
# values from 50 digits and a tolerance for every element. They find all, as they must: the table was used to make
# them. How they fare with bugs that nobody planned for, [docs/check-torch.md](../docs/check-torch.md) shows on
# PyTorch's own layers and on a published one.
#
# ## Your suspect
#
# Here is the layer, as you might meet it in a repository. Its names are PyTorch's, its arithmetic is NumPy. Three bugs
# are in it, none of them in the training forward pass. **Read it once**, and note what you would bet on.


# %%
class BatchNorm2d:
    """Batch normalization with the interface of torch.nn.BatchNorm2d."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        self.eps, self.momentum, self.training = eps, momentum, True
        self.weight, self.bias = np.ones(num_features, np.float32), np.zeros(num_features, np.float32)
        self.running_mean, self.running_var = np.zeros_like(self.weight), np.ones_like(self.weight)

    def train(self, mode=True):
        self.training = mode
        return self

    def state_dict(self):
        return {name: getattr(self, name) for name in ("weight", "bias", "running_mean", "running_var")}

    def load_state_dict(self, state):
        for name, value in state.items():
            setattr(self, name, value.copy())

    def forward(self, x):
        self.axes, column = (0, *range(2, x.ndim)), (1, -1, *(1,) * (x.ndim - 2))
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(self.axes), x.var(self.axes)
            self.update_running(x, mean, var)
        self.rstd = 1 / np.sqrt(var + self.eps).reshape(column)
        self.xhat, self.column = (x - mean.reshape(column)) * self.rstd, column
        return self.weight.reshape(column) * self.xhat + self.bias.reshape(column)

    def update_running(self, x, mean, var):
        """Move the running statistics towards those of the batch, the variance unbiased as in PyTorch."""
        n = x.shape[0]
        self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
        self.running_var = (1 - self.momentum) * self.running_var + self.momentum * var * (n / max(n - 1, 1))

    def backward(self, dy):
        """Return dx; leave the parameters' gradients in self.grad."""
        dy = self.contiguous(dy)
        self.grad = {"weight": (dy * self.xhat).sum(self.axes), "bias": dy.sum(self.axes)}
        return self.input_gradient(dy * self.weight.reshape(self.column))

    def contiguous(self, a):
        """Return a in one stretch of memory, without moving what already lies there."""
        return a.ravel(order="K").reshape(a.shape)

    def input_gradient(self, dxhat):
        """Return dx from the gradient of xhat, lesson 05's formula."""
        mean_d, mean_dx = (a.mean(self.axes, keepdims=True) for a in (dxhat, dxhat * self.xhat))
        return self.rstd * (dxhat - mean_d - self.xhat * mean_dx)


# %% [markdown]
# ## The adapter
#
# The suite knows nothing of your framework. It talks to an **adapter** of four methods, in NumPy arrays, and makes a
# fresh one for each case:
#
# | method | takes and gives |
# |---|---|
# | `load(params, state)` | `{"weight", "bias"}`, each $(C)$; `{"running_mean", "running_var"}`, or `{}` for a new layer |
# | `forward(x, training)` | $y$; $x$ may be $(N,C)$, $(N,C,L)$ or $(N,C,H,W)$, in any memory order |
# | `backward(dy)` | `{"dx", "dweight", "dbias"}` of the last forward |
# | `state()` | the running statistics |
#
# What layers do differently *without being wrong* is declared in `conventions`, and the expected values are converted:
# momentum weighs the new batch or the old statistics, `running_var` is unbiased or biased, gradients accumulate or are
# overwritten, NCHW or NHWC. Ours sets `self.grad` anew at each backward: `overwrite`.
#
# For PyTorch the four methods would read alike, with `torch.from_numpy` and `.numpy()` at the border
# (`minidl/check/adapters/torch_norms.py`); for JAX, `jax.vjp` gives `backward`. **Write them for the suspect.**


# %% tags=["wrong"]
# check: adapter
# says: the layer is not told whether it trains
class Adapter:
    def __init__(self, layer, options):
        self.bn = BatchNorm2d(options["num_features"], options["eps"], options["momentum"])

    def load(self, params, state):
        self.bn.load_state_dict({**params, **state})

    def forward(self, x, training):
        return self.bn.forward(x)

    def backward(self, dy):
        dx = self.bn.backward(dy)
        return {"dx": dx, "dweight": self.bn.grad["weight"], "dbias": self.bn.grad["bias"]}

    def state(self):
        return {name: self.bn.state_dict()[name] for name in ("running_mean", "running_var")}


# %%
class Adapter:
    conventions = {"momentum": "new", "running_var": "unbiased", "grads": "overwrite"}  # noqa: RUF012
    module = BatchNorm2d

    def __init__(self, layer, options):
        self.bn = self.module(options["num_features"], options["eps"], options["momentum"])

    def load(self, params, state):
        """Put parameters and running statistics into the layer."""
        ### BEGIN SOLUTION
        self.bn.load_state_dict({**params, **state})
        ### END SOLUTION

    def forward(self, x, training):
        """Return y."""
        ### BEGIN SOLUTION
        return self.bn.train(training).forward(x)
        ### END SOLUTION

    def backward(self, dy):
        """Return the gradients dx, dweight and dbias."""
        ### BEGIN SOLUTION
        dx = self.bn.backward(dy)
        return {"dx": dx, "dweight": self.bn.grad["weight"], "dbias": self.bn.grad["bias"]}
        ### END SOLUTION

    def state(self):
        """Return the running statistics."""
        ### BEGIN SOLUTION
        return {name: self.bn.state_dict()[name] for name in ("running_mean", "running_var")}
        ### END SOLUTION


# %% tags=["check"]
own = np.random.default_rng(1306)  # the check's own numbers
shape, options = (4, 3, 5, 7), {"num_features": 3, "eps": 1e-3, "momentum": 0.3}
x, dy = own.standard_normal(shape), own.standard_normal(shape)
params = {"weight": np.array([0.7, -1.3, 2.1]), "bias": np.array([0.2, 0.5, -0.4])}
state = {"running_mean": np.array([0.3, -0.6, 0.1]), "running_var": np.array([0.5, 1.4, 2.2])}
weight, bias, mean, var = *params.values(), *state.values()


def played(make):
    """An evaluation step, then a training step with its gradients."""
    layer = make("batch_norm", options)
    layer.load(params, state)
    eval_y, train_y = layer.forward(x, False), layer.forward(x, True)
    return {"eval.y": eval_y, "y": train_y, **layer.backward(dy), "running_mean": layer.state()["running_mean"]}


right = reference.batch_norm_backward(dy, x, weight, bias, 1e-3) | {"y": reference.batch_norm(x, weight, bias, 1e-3)}
right["eval.y"] = reference.batch_norm_eval(x, weight, bias, mean, var, 1e-3)
right["running_mean"], unbiased = reference.batch_norm_running(x, mean, var, 0.3)
twice = reference.batch_norm_running(x, right["running_mean"], var, 0.3)[0]
untold = right | {"eval.y": right["y"], "running_mean": twice}

lesson.check(
    "adapter",  # float64: some 1e-14; the three bugs do not show here
    lambda: played(Adapter),
    right,
    tol=1e-11,
    wrong={"the layer is not told whether it trains: eval.y is y": lambda: untold},
)


# %%
BUGS = (
    "training formula in the backward of evaluation",
    "n − 1 counts the batch alone",
    "dy read in the order of memory",
)


def stand_in(*bugs):
    """minidl's plain batch norm with some known bugs: what runs below until your adapter passes its check."""
    chosen = [variant for variant in known_wrong("batch_norm") if variant.name in bugs]
    return replace(known_wrong("batch_norm")[0], patches=sum((variant.patches for variant in chosen), ()))


planted = check.run(lesson.yours(Adapter, stand_in(*BUGS), "adapter"), "batch_norm", "float32")
print("passed:", *sorted({result.case.flag for result in planted.results if result.status == "passed"}))
for result in planted.results:
    if result.status == "failed":
        wrong = [tensor.name for tensor in result.failed]
        print(f"{result.case.flag:24} {', '.join(wrong[:3])}{' ...' * (len(wrong) > 3)}")
print(planted.text().splitlines()[-1])

# %% [markdown]
# ## Form hypotheses, before the diagnosis does
#
# Tensors stand in the order in which they are computed: `out.*` of a training step, `state.1.*` after it, `eval.*` of
# an evaluation step; the number counts the steps. The **first** wrong tensor of a case is the one to think about;
# later ones may only follow from it. Read the table like a detective:
#
# 1. `out.y` is wrong nowhere: the training forward is right. `out.dx` is wrong in three of the `memory-*` cases and
#    nowhere else, so its formula is right too, and something is wrong with *how arrays lie in memory*. Is it $x$ or
#    $dy$ that is misread?
# 2. In `eval-backward` and `eval-fresh` only `eval.dx` is wrong: no training step came before, and `eval.y` is right.
#    What is different about $dx$ in evaluation?
# 3. `running_var` is wrong nearly everywhere, `running_mean` nowhere. But `shape-nc`, inputs $(N,C)$, has no wrong
#    `state`. Which number in the formula of `running_var` is the same for $(N,C)$ and not for $(N,C,H,W)$?
#
# Write your three answers down. Then look at one case in full, and at the diagnosis. It replays known-wrong layers on
# the same inputs, and names the one that answers as yours did, right and wrong values alike.

# %%
for result in planted.results:
    if result.case.flag in ("eval-backward", "constant"):
        print(result.case.id, *("    " + line for tensor in result.failed for line in tensor.lines()), sep="\n")
        print(f"    → {result.cause}")
print(*("\nDiagnosis: " + line for line in planted.diagnosis), sep="\n")

# %% [markdown]
# **Read it.** Three lines, three bugs. The correction of `running_var` and the memory order of $dy$ are named alone.
# The formula of evaluation is named together with the first: most cases that show it have a training step before, and
# so show both. In `constant`, `running_var` came out too large: with 4 samples of $2\cdot5$ values, $\frac43$ stands
# where $\frac{40}{39}$ belongs.
#
# **Why in evaluation $dx$ is simpler.** In training $\mu$ and $\sigma^2$ depend on $x$, which gives the formula its
# two mean terms. In evaluation they are constants: $y=w\,(x-\mu_r)\,/\sqrt{\sigma_r^2+\epsilon}+b$, so
# $dx=w\,dy/\sqrt{\sigma_r^2+\epsilon}$ and nothing else.
#
# **Which $n$.** The unbiased variance of $M$ numbers is $\frac{M}{M-1}$ times the biased one. A channel's numbers are
# those of the batch *and of space*: $M=N\cdot H\cdot W$.
#
# Mend the two that are formulas, in evaluation and in `running_var`. The methods are rewritten outside the class; `self`
# has what `forward` kept.


# %% tags=["wrong"]
# check: two mends
# says: running_var is the biased variance now
def update_running(self, x, mean, var):
    self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
    self.running_var = (1 - self.momentum) * self.running_var + self.momentum * var


# %%
def input_gradient(self, dxhat):
    """Return dx from the gradient of xhat, in training and in evaluation."""
    ### BEGIN SOLUTION
    if not self.training:
        return self.rstd * dxhat
    mean_d, mean_dx = (a.mean(self.axes, keepdims=True) for a in (dxhat, dxhat * self.xhat))
    return self.rstd * (dxhat - mean_d - self.xhat * mean_dx)
    ### END SOLUTION


def update_running(self, x, mean, var):
    """Move the running statistics towards those of the batch, the variance unbiased."""
    ### BEGIN SOLUTION
    n = x.size // x.shape[1]
    self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
    self.running_var = (1 - self.momentum) * self.running_var + self.momentum * var * (n / max(n - 1, 1))
    ### END SOLUTION


# %% tags=["check"]
def mended(**methods):
    """A BatchNorm2d with some methods exchanged, and a case's parameters and state."""
    layer = type("Mended", (BatchNorm2d,), methods)(3, 1e-3, 0.3)
    layer.load_state_dict({**params, **state})
    return layer


def two_mends():
    layer = mended(input_gradient=input_gradient, update_running=update_running).train(False)
    found = {"eval.y": layer.forward(x), "eval.dx": layer.backward(dy)}
    return found | {"y": layer.train().forward(x), "dx": layer.backward(dy), "running_var": layer.running_var}


eval_dx = reference.batch_norm_eval_backward(dy, x, weight, bias, mean, var, 1e-3)["dx"]
want = {name: right[name] for name in ("eval.y", "y", "dx")} | {"eval.dx": eval_dx, "running_var": unbiased}
biased = 0.7 * var + 0.3 * x.var((0, 2, 3))
eval_xhat = (x - mean.reshape(3, 1, 1)) / np.sqrt(var + 1e-3).reshape(3, 1, 1)
eval_with_means = eval_dx - eval_dx.mean((0, 2, 3), keepdims=True)
eval_with_means -= eval_xhat * (eval_dx * eval_xhat).mean((0, 2, 3), keepdims=True)
training_without = dy * (weight / np.sqrt(x.var((0, 2, 3)) + 1e-3)).reshape(3, 1, 1)

lesson.check(
    "two mends",
    two_mends,
    want,
    tol=1e-11,
    wrong={
        "dx lost its mean terms in training too; they go in evaluation alone": lambda: want | {"dx": training_without},
        "eval.dx has the formula of training: there mean and variance do not depend on x": lambda: (
            want | {"eval.dx": eval_with_means}
        ),
        "running_var is the biased variance now; PyTorch's is unbiased": lambda: want | {"running_var": biased},
    },
)


# %%
class TwoMended(Adapter):
    module = type("TwoMended", (BatchNorm2d,), {"input_gradient": input_gradient, "update_running": update_running})


second = check.run(lesson.yours(TwoMended, stand_in(BUGS[2]), "two mends"), "batch_norm", "float32")
print(second)

# %% [markdown]
# ## The third
#
# With the others gone the last one stands alone. All its cases have $dy$ in an unusual memory order;
# with $x$ in such an order `out.y` would be wrong too, and it is not.
#
# An array's *index* order and its *memory* order are two things (lesson 01). `ravel(order="K")` reads values as they
# lie in memory, and `reshape` then lays them out as if they had been in C order. For a C-ordered $dy$ that is
# harmless, and all tests that begin with `rng.standard_normal(shape)` have C-ordered arrays. But a transposed view, an
# NHWC image or a batch-innermost one comes out shuffled. In CUDA and C++ the same bug is a kernel that takes a data
# pointer without asking for strides.


# %% tags=["wrong"]
# check: third mend
# says: the values are still read as they lie in memory
def contiguous(self, a):
    return a.ravel(order="A").reshape(a.shape)


# %%
def contiguous(self, a):
    """Return the same array, index by index, in one C-ordered stretch of memory."""
    ### BEGIN SOLUTION
    return np.ascontiguousarray(a)
    ### END SOLUTION


# %% tags=["check"]
def dx_of(layer):
    layer.forward(x)
    return layer.backward(np.asfortranarray(dy))


lesson.check(
    "third mend",  # dx for a dy in Fortran order: the same numbers as for the same dy in C order
    lambda: {
        "dx": dx_of(mended(contiguous=contiguous)),
        "in C order": contiguous(None, np.asfortranarray(dy)).flags.c_contiguous,
    },
    {"dx": right["dx"], "in C order": True},
    tol=1e-11,
    wrong={
        "the values are still read as they lie in memory": lambda: {"dx": dx_of(mended()), "in C order": True},
        "the array given back still lies in memory as it came": lambda: {"dx": right["dx"], "in C order": False},
    },
)


# %% tags=["figure"]
class AllMended(Adapter):
    module = type("AllMended", (TwoMended.module,), {"contiguous": contiguous})


make = lesson.yours(AllMended, stand_in(), "third mend")
reports = {"as it came": planted, "two mended": second, "all mended": check.run(make, "batch_norm", "float32")}
kinds = {"passed": 0, "declared": 1, "failed": 2}
picture = [[kinds[result.status] for result in report.results] for report in reports.values()]
fig, ax = plt.subplots(figsize=(11, 3.2), layout="constrained")
colours = ListedColormap(["#9ecae1", "#dddddd", "#d6403a"])
ax.pcolormesh(picture, cmap=colours, vmin=0, vmax=2, edgecolors="w", lw=1)
flags = [result.case.flag for result in planted.results]
ax.set_xticks(np.arange(len(flags)) + 0.5, flags, rotation=90, fontsize=7)
ax.set_yticks([0.5, 1.5, 2.5], reports)
ax.invert_yaxis()
ax.set_title("Each case: failed (red), passed (blue), declared (grey)")
print(reports["all mended"])
undeclared = check.run(make, "batch_norm", "float32", conventions={"grads": "accumulate"})
print("\nand if the convention of the gradients were declared wrongly:", *undeclared.diagnosis, sep="\n")

# %% [markdown]
# ## What green means
#
# *conforms*: in all those cases every element of every tensor is as near to the truth as a careful implementation in
# this precision must be. The tolerance of an element is 8 times what rounding of the inputs and of each operation can
# move it; correct code stays far below. *INACCURATE* lines say that the error grows with the mean of $x$, which the
# grade *accurate* would exclude (lesson 06 mends exactly that).
#
# What it does not mean: that shapes beyond the cases work, that it is fast, that threads do not race, that a second
# layer sharing memory is safe. And a mistake in the *specification* (is `momentum` what your users think?) is
# invisible, if you declare what you do.
#
# Two tools need no expected values at all, so they work for layers that have no cases:
#
# - **`check.gradient`** compares a backward pass with derivatives of your own forward pass, for a random cotangent,
#   and refuses checks that could not fail (lesson 03). It cannot find a wrong forward.
# - **`check.metamorphic`** tests relations: permute the batch and $y$ is permuted; give the batch twice and $y$
#   repeats; for modes, one mode is batch norm, constant gates are batch norm, permuted modes change nothing. A
#   relation can find a wrong *forward* without knowing the right one, as the last cell shows on two wrong mode norms;
#   but what keeps all symmetries, such as a missing term in the gradient of the gates, stays hidden from it.
#
# ## Another language: vectors
#
# `python -m minidl.check export DIR` writes the cases as files that any language reads in fifteen lines: 8 bytes, a
# little-endian integer $L$; $L$ bytes of JSON, `{"in.x.0": {"dtype": "F32", "shape": [4, 3, 2, 5], "data_offsets":
# [begin, end]}, ...}`; then the raw little-endian numbers, with offsets counted from the end of the header. (The
# format is safetensors. Loading it runs no code.) A file holds the inputs, the expected outputs and, for each, the
# tolerance `tol.float32.out.y.0` of every element: all that a program needs is `fabs(a - b) <= tol`. **Write the
# reader.**


# %%
def read_vector(path):
    """Return {name: array} of a vector file; the entry "__metadata__" of the header is no array."""
    ### BEGIN SOLUTION
    raw = Path(path).read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:begin])
    header.pop("__metadata__", None)
    kinds = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}
    return {
        name: np.frombuffer(raw[begin:][slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }
    ### END SOLUTION


# %% tags=["check"]
vector = VECTORS / "batch_norm" / "batch_norm-train3-eval-float32-01.safetensors"
chosen = ("in.x.0", "param.weight", "out.y.0", "eval.dx.3", "tol.float32.out.y.0")

lesson.check(
    "vector",
    lambda: {name: read_vector(vector)[name] for name in chosen},
    lambda: {name: safetensors.read(vector)[0][name] for name in chosen},
    tol=1e-300,
)

# %%
for name in ("BN of the gated input", "N/K for N_k", "dropped dN_k"):
    variant = next(variant for variant in known_wrong("mode_norm") if variant.name == name)
    results = check.metamorphic(variant, "mode_norm").results
    broken = [result.case.id.partition(": ")[2] for result in results if result.status == "failed"]
    print(f"mode norm, {name!r} breaks:", ", ".join(broken) or "no relation")

compiler = shutil.which("cc") or shutil.which("gcc")
if compiler is None:
    print("\nno C compiler here: with one, this cell builds and judges minidl/check/examples/check_norms.c")
else:
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(check.__file__).parent / "examples" / "check_norms.c", Path(folder) / "check_norms"
        for bug in (0, 3):  # as it is, and with one of its six planted bugs
            subprocess.run([compiler, "-O1", f"-DBUG={bug}", "-o", program, source, "-lm"], check=True)
            (outputs := Path(folder) / f"bug{bug}").mkdir()
            for file in sorted((VECTORS / "batch_norm").glob("*float32*")):
                subprocess.run([program, file, outputs / file.name], check=True)
            judged = check.verify(VECTORS, outputs, "batch_norm", {"momentum": "new"}).text().splitlines()
            print(f"\nC, bug {bug}:", *[line for line in judged if line.startswith("Diagnosis")], judged[-1], sep="\n")

# %% [markdown]
# ## Keep it in your tests
#
# One pytest test per case, nothing to configure:
#
# ```python
# from minidl import check
#
# @check.conformance("batch_norm", "float32")
# def test_my_batch_norm():
#     return "my_package.my_adapter:Adapter"
# ```
#
# On the command line: `python -m minidl.check run my_package.my_adapter:Adapter --layer batch_norm`. Exit code 0
# conforms, 1 deviates, 2 usage, **3 nothing ran**, so that an empty run never looks like success. Layers with cases:
# all norms of this course and RMS norm, convolution, pooling, the affine map, softmax cross-entropy.
#
# **Exercises without a check.** 1. Swap the two weights in `update_running`. Which convention makes the report green
# again, and would you declare it or mend it? 2. Delete the running statistics from `state_dict`. Which cases notice?
# (Your adapter's `state` must then say what *would* be saved.) 3. Write an adapter for a layer of yours, today: it takes ten minutes.
#
# ## In the package
#
# [docs/check-your-layer.md](../docs/check-your-layer.md) is the reference page.
# [`minidl/check/adapters/`](../minidl/check/adapters/) has adapters for PyTorch, JAX and minidl itself, which goes
# through the same suite as anybody; [`minidl/check/diagnosis/causes.py`](../minidl/check/diagnosis/causes.py) is how a bug gets its
# name; [docs/check-mutants.md](../docs/check-mutants.md) is the table of known-wrong layers, with how many cases kill
# each; `minidl/check/examples/check_norms.c` is the C program of the last cell.

# %%
lesson.done()
