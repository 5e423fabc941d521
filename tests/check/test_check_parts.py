"""A cause that explains a part of what is wrong: the report says which part, asks for no cause twice, and goes on."""

from types import SimpleNamespace

import numpy as np
from batch_norm_by_hand import named

from minidl import check
from minidl.check.diagnosis import unknown
from minidl.check.diagnosis.evidence import Hypothesis
from minidl.check.diagnosis.weighing import Cause
from minidl.check.variants import known_wrong


class Groups:
    """Group normalization by hand; channels that do not divide into the groups pass."""

    conventions = {"grads": "overwrite"}  # noqa: RUF012 - as an adapter of a user has it
    over = 2  # the axes of the statistics; 1 are the groups

    def __init__(self, layer, options):
        self.groups, self.eps = options["num_groups"], options["eps"]

    def load(self, params, state):
        self.p = params

    def root(self, var):
        return np.sqrt(var + var.dtype.type(self.eps))

    def forward(self, x, training):
        rows = x.reshape(len(x), self.groups if x[0].size % self.groups == 0 else 1, -1)
        self.r = 1 / self.root(rows.var(self.over, keepdims=True))
        self.h = (rows - rows.mean(self.over, keepdims=True)) * self.r
        self.col = (1, -1) + (1,) * (x.ndim - 2)
        return self.p["weight"].reshape(self.col) * self.h.reshape(x.shape) + self.p["bias"].reshape(self.col)

    def backward(self, dy):
        d, h = (dy * self.p["weight"].reshape(self.col)).reshape(self.h.shape), self.h.reshape(dy.shape)
        dx = self.r * (d - d.mean(2, keepdims=True) - self.h * (d * self.h).mean(2, keepdims=True))
        axes = (0, *range(2, dy.ndim))
        return {"dx": dx.reshape(dy.shape), "dweight": (dy * h).sum(axes), "dbias": dy.sum(axes)}

    def state(self):
        return {}


class OverTheBatch(Groups):
    over = (0, 2)  # and the backward pass as if it were not


class EpsOutside(Groups):
    def root(self, var):
        return np.sqrt(var) + var.dtype.type(self.eps)


def test_a_cause_of_y_alone_and_the_gradients_that_it_leaves_are_told_apart():
    report = check.run(OverTheBatch, "group_norm")
    assert named(report) == ["statistics over the batch", "indivisible channels pass"]
    assert "(explains y in 25 of 27 failing cases)" in report.diagnosis[0]
    assert "(explains 2 of 27 failing cases)" in report.diagnosis[1]
    assert report.diagnosis[2].startswith("unknown: no known variant explains dx in 24 of 27 failing cases; ")


def test_a_layer_that_accepts_what_must_raise_is_told_so_beside_another_cause():
    report = check.run(EpsOutside, "group_norm")
    assert named(report) == ["eps outside the root", "indivisible channels pass"]
    assert not any(line.startswith(("unknown", "perhaps")) for line in report.diagnosis)


def test_a_cause_that_is_named_is_not_asked_for():
    first, second = known_wrong("batch_norm")[:2]
    bench = SimpleNamespace(results=[SimpleNamespace(failed=[], tensors=[])], failing=[0])
    causes = [Cause([Hypothesis(first, "formula")], {(0, "out.y.0")})]
    doubts = [Cause([Hypothesis(one, "right")], {(0, "out.dx.0")}) for one in (first, second)]
    assert unknown(bench, {(0, "out.dx.0")}, causes, doubts)[1:] == [f"perhaps {second.name}?"]
    assert unknown(bench, {(0, "out.dx.0")}, [], doubts)[1:] == [f"perhaps {first.name}?", f"perhaps {second.name}?"]
