"""Causes that need no listed variant: a term, a factor, a part, a border, or a composition of slips is told."""

from collections.abc import Mapping

import numpy as np
import pytest
from tolerance import assert_close, terms

from minidl import check
from minidl.check.diagnosis.terms import library
from minidl.check.plain import plain_class
from minidl.check.plain.derived import Derived
from minidl.check.variants import known_wrong
from minidl.check.variants.composed import Layer, composed
from minidl.check.variants.parts import Parts, choices
from minidl.check.variants.wrapped import families

FEW = ["shape", "momentum-0.1", "train3-eval", "eval-backward", "mean-10-", "accumulate"]


class Bn:
    """Batch normalization by hand; each bug below changes one method."""

    conventions: Mapping[str, str] = {"grads": "overwrite"}

    def __init__(self, layer, options):
        self.o = options

    def load(self, params, state):
        self.w, self.b = params["weight"], params["bias"]
        start = {"running_mean": 0 * self.w, "running_var": 0 * self.w + 1}
        self.s = start | {name: value.copy() for name, value in state.items()}

    def forward(self, x, training):
        self.axes, self.t, self.x = (0, *range(2, x.ndim)), training, x.copy()
        self.n, self.col = x.size // x.shape[1], (1, -1) + (1,) * (x.ndim - 2)
        self.lam = x.dtype.type(self.o["momentum"])
        if training:
            mean, var = x.mean(self.axes), x.var(self.axes)
            self.track(mean, var)
        else:
            mean, var = self.inference()
        self.r = (1 / np.sqrt(var + x.dtype.type(self.o["eps"]))).reshape(self.col).astype(x.dtype)
        self.h = (x - mean.reshape(self.col).astype(x.dtype)) * self.r
        return self.w.reshape(self.col) * self.h + self.b.reshape(self.col)

    def track(self, mean, var):
        var = var * self.x.dtype.type(self.n / max(self.n - 1, 1))
        new = {"running_mean": mean, "running_var": var}
        self.s = {k: (1 - self.lam) * self.s[k] + self.lam * new[k] for k in new}

    def inference(self):
        return self.s["running_mean"], self.s["running_var"]

    def mean(self, v):
        return v.mean(self.axes, keepdims=True)

    def terms(self, dy):
        d = dy * self.w.reshape(self.col)
        return self.r * d, -self.r * self.mean(d), -self.r * self.h * self.mean(d * self.h)

    def dx(self, dy):
        return sum(self.terms(dy)) if self.t else self.r * dy * self.w.reshape(self.col)

    def dweight(self, dy):
        return (dy * self.h).sum(self.axes)

    def dbias(self, dy):
        return dy.sum(self.axes)

    def backward(self, dy):
        grads = {"dx": self.dx(dy), "dweight": self.dweight(dy), "dbias": self.dbias(dy)}
        return {name: value.astype(dy.dtype) for name, value in grads.items()}

    def state(self):
        return self.s


def changed(**methods):
    return type("Changed", (Bn,), methods)


def named(make, layer="batch_norm", cases=FEW, **more):
    report = check.run(make, layer, cases=cases, **more)
    doubts = ("unknown", "note", "perhaps")
    return [line.partition(":")[0] for line in report.diagnosis if not line.startswith(doubts)]


def in_training(of):
    return lambda self, dy: of(self, dy) if self.t else Bn.dx(self, dy)


def test_the_layer_that_the_bugs_change_is_right():
    assert check.run(Bn, "batch_norm").exit_code == 0


@in_training
def sum_for_mean(self, dy):
    direct, mean, var = self.terms(dy)
    return direct + mean * self.n + var


@in_training
def without_weight(self, dy):
    direct, *_ = self.terms(dy)
    _, mean, var = Bn.terms(self, dy / self.w.reshape(self.col))
    return direct + mean + var


@in_training
def y_for_xhat(self, dy):
    direct, mean, var = self.terms(dy)
    y = self.w.reshape(self.col) * self.h + self.b.reshape(self.col)
    return direct + mean + var / self.h * y


@in_training
def over_all(self, dy):
    direct, _, var = self.terms(dy)
    d = dy * self.w.reshape(self.col)
    return direct - self.r * d.mean() + var


@in_training
def another_power(self, dy):
    direct, mean, var = self.terms(dy)
    return direct + mean / self.r**2 + var


@pytest.mark.parametrize(
    ("dx", "name"),
    [
        (sum_for_mean, "dx, the term of the mean is a sum where a mean belongs"),
        (without_weight, "dx, in the term of the mean and in the term of the variance each lacks the factor weight"),
        (y_for_xhat, "dx, the term of the variance takes y for xhat outside the mean"),
        (over_all, "dx, the term of the mean is a mean over all of x"),
        (another_power, "dx, the term of the mean has sigma for 1/sigma"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or "name",
)
def test_the_wrong_term_of_dx_is_told_and_what_stands_in_its_place(dx, name):
    assert named(changed(dx=dx)) == [name]


@pytest.mark.parametrize(
    ("methods", "name"),
    [
        ({"dx": lambda s, dy: Bn.dx(s, dy) * s.n}, "dx is multiplied by all values of a channel"),
        ({"dweight": lambda s, dy: Bn.dweight(s, dy) * s.r.reshape(-1)},
         "dweight has the factor 1/sigma once too often"),
        ({"dweight": lambda s, dy: np.clip(Bn.dweight(s, dy), -1, 1)}, "dweight is clipped to the range from −1 to 1"),
        ({"dweight": lambda s, dy: Bn.dweight(s, dy) + np.float32(0.01) * s.w},
         "dweight has 0.01 weight added (weight decay, or a residual path)"),
        ({"dbias": lambda s, dy: dy[:-1].sum(s.axes)}, "dbias is of all but the last of the batch where sums belong"),
        ({"dbias": lambda s, dy: Bn.dbias(s, dy)[::-1]}, "dbias is in reversed order along the channels"),
        ({"dx": lambda s, dy: Bn.dx(s, np.abs(dy))}, "dx is that of the magnitude of dy"),
        ({"track": lambda s, mean, var: Bn.track(s, np.abs(mean), var)},
         "running_mean takes in the magnitude of the mean"),
        ({"track": lambda s, mean, var: Bn.track(s, mean * np.float32(s.n / max(s.n - 1, 1)), var)},
         "running_mean is updated wrongly, the old one weighs 1 − momentum and the new one weighs momentum times "
         "n/(n − 1)"),
        ({"inference": lambda s: (s.s["running_mean"], s.s["running_var"] * np.float32(s.n / max(s.n - 1, 1)))},
         "y of evaluation, the running variance is multiplied by n/(n − 1)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "name",
)  # fmt: skip
def test_a_factor_a_bound_a_summand_a_part_or_another_statistic_is_told(methods, name):
    assert named(changed(**methods)) == [name]


def twice_wrong(self, dy):
    return Bn.dx(self, dy) * np.float32(1.01)


def test_a_factor_that_is_no_slip_has_no_name():
    assert named(changed(dx=twice_wrong)) == []


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("linear", "weight is scaled by 1/root of its inputs"),
        ("linear", "y is passed through a leaky ReLU (0.01)"),
        ("conv2d", "weight is read as memory of (O, kh, kw, I)"),
        ("conv2d", "the padding is doubled"),
        ("softmax_cross_entropy", "x is clipped to the range from −10 to 10"),
        ("layer_norm", "weight and bias each is read in reversed order"),
        ("rms_norm", "y has x added, as by a residual path"),
    ],
)
def test_what_is_done_to_the_borders_of_a_right_layer_is_told(layer, name):
    family = next(family for family in families(layer) if family.name == name)
    more = {"conventions": family.conventions}
    assert named(family, layer, (), **more) == [name]


@pytest.mark.parametrize(
    ("layer", "parts"),
    [
        ("group_norm", Parts(var_over="each sample")),
        ("instance_norm", Parts(mean_over="the width alone", var_over="the width alone")),
        ("layer_norm_last", Parts(count="divides by n − 1", root="eps is outside the root")),
        ("rms_norm", Parts(root="eps is divided by n")),
        ("batch_norm", Parts(form="weight is ignored and bias is added twice")),
    ],
    ids=lambda value: value if isinstance(value, str) else " and ".join(value.slips),
)
def test_a_forward_pass_with_one_slip_or_two_is_told_by_its_parts(layer, parts):
    made = composed(layer, parts)
    (name,) = named(made, layer, (), conventions=made.conventions)
    assert made.name in name.split(" or ")


@pytest.mark.parametrize(
    "layer", ["batch_norm", "instance_norm", "layer_norm", "group_norm", "layer_norm_last", "rms_norm"]
)
def test_the_right_parts_are_the_right_layer(layer):
    rng = np.random.default_rng(5)
    shape = (4, 5, 6) if layer in ("layer_norm_last", "rms_norm") else (4, 6, 3, 5)
    x, dy = rng.standard_normal(shape), rng.standard_normal(shape)
    options = {"eps": 1e-2, "momentum": 0.3, "num_groups": 3}
    options = options if layer == "group_norm" else {k: v for k, v in options.items() if k != "num_groups"}
    params = {"weight": rng.standard_normal(6), "bias": rng.standard_normal(6)}
    if layer == "rms_norm":
        del params["bias"]
    right, made = plain_class(layer)(layer, options), Derived(Layer(layer, options, Parts()))
    outputs = []
    for one in (right, made):
        one.load(params, {})
        outputs.append({"y": one.forward(x, True)} | dict(one.backward(dy)) | dict(one.state()))
    for name, value in outputs[0].items():
        assert_close(outputs[1][name], value, terms(256, float(np.abs(value).max()) + 4), name)


def test_parts_give_values_that_were_computed_by_hand():
    """One channel, values 1 and 3: the mean is 2, the variance 1, halved by n + 1 … and so on; weight 2, bias 1/2."""
    x = np.array([[1.0], [3.0]])
    want = {
        Parts(): [-1.5, 2.5],
        Parts(count="is a sum"): [0.5 - 2 / np.sqrt(2), 0.5 + 2 / np.sqrt(2)],
        Parts(centre="the mean is not subtracted"): [2.5, 6.5],
        Parts(centre="the mean is added"): [6.5, 10.5],
        Parts(about="the variance is E[x²] + E[x]²"): [0.5 - 2 / 3, 0.5 + 2 / 3],  # 5 + 4
        Parts(root="the root is taken twice", count="divides by n − 1"): [0.5 - 2 / 2**0.25, 0.5 + 2 / 2**0.25],
        Parts(form="weight is ignored and bias is subtracted"): [-1.5, 0.5],
        Parts(picked="the mean is that of the first sample for all"): [-1.5, 2.5],
    }
    for parts, values in want.items():
        layer = Layer("batch_norm", {"eps": 0.0, "momentum": 0.5}, parts)
        layer.load({"weight": np.array([2.0]), "bias": np.array([0.5])}, {})
        assert_close(layer.forward(x, True)[:, 0], np.array(values), terms(32, 10.5), str(parts.slips))


def test_no_two_compositions_have_one_name():
    for layer in ("batch_norm", "rms_norm"):
        names = [" and ".join(parts.slips) for parts in choices(layer)]
        assert len(names) == len(set(names)) > 1000


def loss_of(name, x, labels, dy=1.0):
    layer = next(v for v in known_wrong("softmax_cross_entropy") if v.name == name).make("softmax_cross_entropy", {})
    layer.load({"labels": np.array(labels)}, {})
    y = float(layer.forward(np.array(x), True))
    return y, layer.backward(np.float64(dy))["dx"]


def test_further_slips_of_the_loss_have_values_that_were_computed_by_hand():
    """Logits 0 and log 3, so that the probabilities are 1/4 and 3/4; the label is 1 unless said otherwise."""
    x, p = [[0.0, np.log(3.0)]], 0.75
    third = [[0.0, np.log(3.0)], [0.0, 0.0]]
    for name, logits, labels, want in (
        ("focal factor (1 − p)^1", x, [1], -0.25 * np.log(p)),
        ("focal factor (1 − p)^2", x, [1], -(0.25**2) * np.log(p)),
        ("binary cross-entropy of every class", x, [1], -2 * np.log(p)),
        ("squared error of the softmax", x, [1], 2 * 0.25**2),
        ("labels count from −1", x, [0], 0.0),  # class 1 counts as 0: class 0 counts as −1
        ("labels count backwards", x, [1], -np.log(0.25)),
        ("label 0 for all", x, [1], -np.log(0.25)),
        ("label of the next sample", third, [1, 0], -(np.log(0.25) + np.log(0.5)) / 2),
        ("winner for the label", x, [0], -np.log(p)),
        ("samples of the first class ignored", third, [1, 0], -np.log(p) / 2),
        ("samples of the first class left out of the mean", third, [1, 0], -np.log(p)),
        ("samples of the last class ignored", third, [1, 0], -np.log(0.5) / 2),
        ("samples of the last class left out of the mean", third, [1, 0], -np.log(0.5)),
        ("logarithm of the mean", third, [1, 0], -np.log((0.75 + 0.5) / 2)),
    ):
        if name == "labels count from −1":
            want = -np.log(p)  # label 0 is one too high: class 1
        assert_close(np.array(loss_of(name, logits, labels)[0]), np.array(want), terms(16, 3.0), name)
    right = np.array([[0.25, -0.25]])
    assert_close(loss_of("dx with the softmax's slope once more", x, [1])[1], right * 3 / 16, terms(16, 1.0), "slope")
    # J v with J = 3/16 [[1, −1], [−1, 1]]: 3/16 (1/2, −1/2)
    assert_close(loss_of("dx through the softmax once more", x, [1])[1], right * 6 / 16, terms(16, 1.0), "Jacobian")


def pooled(layer, name, x, dy, **options):
    found = next(v for v in known_wrong(layer) if v.name == name)
    made = found.make(layer, {"kernel_size": [1, 2], "stride": [1, 2], "padding": [0, 0], **options})
    made.load({}, {})
    y = made.forward(np.array(x, float).reshape(1, 1, 1, -1), True)
    return y.ravel(), made.backward(np.array(dy, float).reshape(y.shape))["dx"].ravel()


def test_further_slips_of_windows_have_values_that_were_computed_by_hand():
    """Windows (1, 4) and (3, 2) of one row."""
    x, dy = [1, 4, 3, 2], [5, 7]
    for layer, name, y, dx in (
        ("max_pool2d", "last column of the window skipped", [1, 3], [5, 0, 7, 0]),
        ("max_pool2d", "first column of the window skipped", [4, 2], [0, 5, 0, 7]),
        ("avg_pool2d", "last column of the window skipped", [0.5, 1.5], [2.5, 0, 3.5, 0]),
        ("avg_pool2d", "first column of the window skipped", [2, 1], [0, 2.5, 0, 3.5]),
        ("max_pool2d", "last row of the window skipped", [4, 3], [0, 5, 7, 0]),  # of one row none is
        ("max_pool2d", "dx to the first of the window", [4, 3], [5, 0, 7, 0]),
        ("max_pool2d", "dx to the last of the window", [4, 3], [0, 5, 0, 7]),
    ):
        got = pooled(layer, name, x, dy)
        np.testing.assert_array_equal(got[0], y, name)
        np.testing.assert_array_equal(got[1], dx, name)


def convolved(name, x, weight, **options):
    found = next(v for v in known_wrong("conv2d") if v.name == name)
    made = found.make("conv2d", {"stride": 1, "padding": [0, 0], **options})
    made.load({"weight": np.array(weight, float)}, {})
    return made.forward(np.array(x, float), True)


def test_further_slips_of_convolution_have_values_that_were_computed_by_hand():
    """A row 1, 2, 3 and the kernel (1, 10)."""
    x, kernel = [[[[1, 2, 3]]]], [[[[1, 10]]]]
    wide = {"padding": [0, 1]}
    for name, want, options in (
        ("padding wraps around", [[[[13, 21, 32, 13]]]], wide),
        ("last row and column of y missing", [[[[10, 21, 32]]]], wide),
        ("last column of the kernel skipped", [[[[1, 2]]]], {}),
        ("last row of the kernel skipped", [[[[21, 32]]]], {}),  # of one row none is
        ("dilation ignored", [[[[21, 32]]]], {"dilation": [1, 2], "groups": 1}),
    ):
        np.testing.assert_array_equal(convolved(name, x, kernel, **options), want, name)
    assert convolved("padding one too large", x, kernel).shape == (1, 1, 3, 4)
    # two groups of one input channel with two outputs each: 1·(1, 2) and 10·(3, 4), interleaved
    split = convolved(
        "output channels of the groups dealt out in turn",
        [[[[1]], [[10]]]],
        [[[[1]]], [[[2]]], [[[3]]], [[[4]]]],
        groups=2,
    )
    np.testing.assert_array_equal(split.ravel(), [1, 30, 2, 40])


def test_further_slips_of_modes_have_values_that_were_computed_by_hand():
    """Two samples 1 and 3 of one channel; the logits of the two modes are 0 and x."""
    made = {}
    for name in (
        "running_mean_square without gates",
        "running_mean without gates",
        "moments mixed before the normalisation",
    ):
        found = next(v for v in known_wrong("mode_norm") if v.name == name)
        layer = found.make("mode_norm", {"eps": 0.0, "momentum": 1.0, "num_modes": 2})
        params = {"weight": np.array([2.0]), "bias": np.array([0.5])}
        layer.load({**params, "gate.weight": np.array([[0.0], [1.0]]), "gate.bias": np.array([0.0, 0.0])}, {})
        made[name] = layer.forward(np.array([[1.0], [3.0]]), True), layer.state()
    square = made["running_mean_square without gates"][1]["running_mean_square"]
    assert_close(square, np.array([[5.0], [5.0]]), terms(8, 5.0))
    assert_close(made["running_mean without gates"][1]["running_mean"], np.array([[2.0], [2.0]]), terms(8, 2.0))
    # the mixture by hand, from gates 1/(1 + e^x) and e^x/(1 + e^x)
    x = np.array([1.0, 3.0])
    g = np.stack([1 / (1 + np.exp(x)), np.exp(x) / (1 + np.exp(x))], 1)
    w = g / g.sum(0)
    mu = w.T @ x
    var = np.array([(w[:, k] * (x - mu[k]) ** 2).sum() for k in (0, 1)])
    want = 2 * (x - g @ mu) / np.sqrt(g @ var) + 0.5
    assert_close(made["moments mixed before the normalisation"][0][:, 0], want, terms(64, 4.0))


def test_the_terms_of_dx_add_up_to_it():
    from minidl.check.diagnosis.items import Item
    from minidl.check.diagnosis.norms import pieces

    rng = np.random.default_rng(8)
    x, dy, weight, bias = (rng.standard_normal(s) for s in ((4, 6, 3), (4, 6, 3), 6, 6))
    for layer, options in (("batch_norm", {"momentum": 0.1}), ("group_norm", {"num_groups": 2}), ("rms_norm", {})):
        size = 3 if layer == "rms_norm" else 6
        params = {"weight": weight[:size]} | ({} if layer == "rms_norm" else {"bias": bias})
        right = plain_class(layer)(layer, {**options, "eps": 1e-2})
        right.load(params, {})
        right.forward(x, True)
        dx = right.backward(dy)["dx"]
        item = Item((0, "out.dx.0"), True, dx, dx, dx, x, dy, params, {**options, "eps": 1e-2}, layer, True)
        slots = library(item, pieces(item))
        total = pieces(item).back(sum(np.broadcast_to(slot[""], pieces(item).x.shape) for slot in slots))
        assert_close(total, dx, terms(256, float(np.abs(dx).max()) + 8), layer)
