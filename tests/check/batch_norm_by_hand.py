"""Batch normalization by hand, whose bugs the tests of the check run, and what they ask of a report."""

from collections.abc import Mapping

import numpy as np

from minidl import check

FEW = ["shape", "momentum-0.1", "train3-eval", "eval-backward", "n2-1x1", "mean-10-", "accumulate"]


class Bn:
    """Batch normalization by hand, with a biased running variance; the bugs below change one thing."""

    conventions: Mapping[str, str] = {"running_var": "biased", "grads": "overwrite"}

    def __init__(self, layer, options):
        self.o = options

    def load(self, params, state):
        self.p = params
        start = {"running_mean": 0 * params["weight"], "running_var": 0 * params["weight"] + 1}
        self.s = start | {name: value.copy() for name, value in state.items()}

    def forward(self, x, training):
        self.axes, self.t = (0, *range(2, x.ndim)), training
        self.col = (1, -1) + (1,) * (x.ndim - 2)
        lam = x.dtype.type(self.o["momentum"])
        if training:
            mean, var = x.mean(self.axes), x.var(self.axes)
            self.s = {k: (1 - lam) * self.s[k] + lam * new for k, new in zip(self.s, (mean, var), strict=True)}
        else:
            mean, var = self.s["running_mean"], self.s["running_var"]
        self.r = (1 / np.sqrt(var + x.dtype.type(self.o["eps"]))).reshape(self.col).astype(x.dtype)
        self.h = (x - mean.reshape(self.col).astype(x.dtype)) * self.r
        return self.p["weight"].reshape(self.col) * self.h + self.p["bias"].reshape(self.col)

    def backward(self, dy):
        d, mean = dy * self.p["weight"].reshape(self.col), lambda v: v.mean(self.axes, keepdims=True)
        dx = self.r * (d - mean(d) - self.h * mean(d * self.h)) if self.t else self.r * d
        return {"dx": dx, "dweight": (dy * self.h).sum(self.axes), "dbias": dy.sum(self.axes)}

    def state(self):
        return self.s


def run(make, cases=FEW, layer="batch_norm", **more):
    return check.run(make, layer, cases=cases, **more)


def named(report):
    """The names of the causes; unknown and notes are none."""
    doubts = ("unknown", "note", "perhaps")
    return [line.partition(":")[0] for line in report.diagnosis if not line.startswith(doubts)]
