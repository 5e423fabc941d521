"""Causes that need no listed variant: a term, a factor, a part, a border, or a composition of slips is told."""

from collections.abc import Mapping

import numpy as np
import pytest
from tolerance import assert_close, terms

from minidl import check
from minidl.check.diagnosis.terms import library
from minidl.check.plain import plain_class
from minidl.check.plain.derived import Derived
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
