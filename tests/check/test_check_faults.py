"""What a report must not say: a cause that is not one, a grade for what did not run; and what it must find."""

from collections.abc import Mapping

import numpy as np
import pytest
from batch_norm_by_hand import FEW, Bn, named, run

from minidl import check
from minidl.check.seeds import definitions, seeded
from minidl.check.variants import known_wrong


def test_the_layer_that_the_bugs_change_is_right():
    assert run(Bn, ()).exit_code == 0


class Strange(Bn):
    def forward(self, x, training):
        return super().forward(x, training) * np.float32(1.01)


def test_a_failure_that_nothing_explains_is_unknown_in_declared_conventions():
    report = run(Strange, ())
    assert named(report) == []
    assert report.diagnosis[0].startswith("unknown: no known variant explains")
    assert "the first wrong output is out.y.0" in report.diagnosis[0]
    assert "got / want is 1.01 everywhere" in report.diagnosis[0]


class Typo(Bn):
    def forward(self, x, training):
        raise AttributeError("typo in my adapter")


def test_an_exception_is_reported_as_itself_with_the_users_line():
    report = run(Typo)
    assert named(report) == []
    line = report.diagnosis[0]
    assert line.startswith("note: the adapter raises AttributeError: typo in my adapter, at test_check_faults.py:")
    assert all(result.cause == "AttributeError: typo in my adapter" for result in report.results)


class ForwardOnly(Bn):
    def backward(self, dy):
        return {}


def test_a_missing_backward_pass_is_no_cause_and_can_be_declared():
    report = run(ForwardOnly)
    assert named(report) == []
    assert "declare backward='none'" in report.diagnosis[0]
    declared = run(ForwardOnly, (), conventions={**Bn.conventions, "backward": "none"})
    assert declared.exit_code == 0
    assert declared.coverage < 0.8


class NoBackwardInEvaluation(Bn):
    def backward(self, dy):
        if not self.t:
            raise check.NotSupportedError("no backward in evaluation")
        return super().backward(dy)


class WrongEvaluation(NoBackwardInEvaluation):
    def forward(self, x, training):
        return super().forward(x, training) * (1 if training else 7)


def test_an_unsupported_backward_keeps_the_outputs_before_it():
    right, wrong = run(NoBackwardInEvaluation), run(WrongEvaluation)
    assert right.exit_code == 0
    assert right.coverage < 1
    assert wrong.exit_code == 1
    assert any(t.name.startswith("eval.y") for result in wrong.results for t in result.failed)
    assert (
        run(NoBackwardInEvaluation, (), conventions={**Bn.conventions, "backward": "training"}).count("declared") == 2
    )


class OneCase(Bn):
    def forward(self, x, training):
        if x.shape != (2, 3, 1, 1):
            raise check.NotSupportedError("no")
        return super().forward(x, training)


def test_one_pass_of_many_is_no_grade():
    report = run(OneCase, ())
    assert report.count("failed") == 0
    assert report.grade == "too little ran"
    assert report.exit_code == 3


class Float64(Bn):
    def backward(self, dy):
        return {name: value.astype(np.float64) for name, value in super().backward(dy).items()}


def test_a_wrong_dtype_is_the_cause_and_can_be_declared():
    report = run(Float64)
    assert report.exit_code == 1
    assert named(report)[0].startswith("dtype of")
    assert run(Float64, (), conventions={**Bn.conventions, "outputs": "float64"}).exit_code == 0


class TwoMeans(Bn):
    def backward(self, dy):
        grads, n = super().backward(dy), np.float32(dy.size // dy.shape[1])
        return {**grads, "dweight": grads["dweight"] / n, "dbias": grads["dbias"] / n}


class SwappedAndMean(Bn):
    def __init__(self, layer, options):
        super().__init__(layer, {**options, "momentum": 1 - options["momentum"]})

    def backward(self, dy):
        grads = super().backward(dy)
        return {**grads, "dbias": grads["dbias"] / np.float32(dy.size // dy.shape[1])}


@pytest.mark.parametrize(
    ("make", "names"),
    [(TwoMeans, {"dweight is a mean", "dbias is a mean"}), (SwappedAndMean, {"momentum swapped", "dbias is a mean"})],
)
def test_two_bugs_at_once_are_named_both(make, names):
    assert set(named(run(make))) == names


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("batch_norm", "unbiased variance in forward"),
        ("batch_norm", "eps outside the root"),
        ("group_norm", "channels dealt out in turn"),
        ("mode_norm", "N for N_k"),
        ("conv2d", "kernel flipped"),
        ("avg_pool2d", "padding not counted"),
        ("softmax_cross_entropy", "softmax applied twice"),
    ],
)
def test_a_wrong_forward_pass_with_its_own_derivatives_is_recognised(layer, name):
    from dataclasses import replace

    variant = next(v for v in known_wrong(layer) if v.name == name)
    report = run(replace(variant, derived=True), (), layer, conventions=variant.conventions)
    assert named(report) == [name]


class UnbiasedForBoth(Bn):
    """One variance, divided by n − 1, for y and for the running statistics, with the gradients of that y."""

    conventions: Mapping[str, str] = {"grads": "overwrite"}

    def forward(self, x, training):
        n = x.size // x.shape[1]
        y = super().forward(x, training)
        if not training or n == 1:
            return y
        lam, eps = (x.dtype.type(self.o[name]) for name in ("momentum", "eps"))
        var = x.var(self.axes, ddof=1)
        self.s = {**self.s, "running_var": self.s["running_var"] + lam * (var - x.var(self.axes))}
        self.count, self.r = n - 1, (1 / np.sqrt(var + eps)).reshape(self.col).astype(x.dtype)
        self.h = (x - x.mean(self.axes, keepdims=True)) * self.r
        return self.p["weight"].reshape(self.col) * self.h + self.p["bias"].reshape(self.col)

    def backward(self, dy):
        grads = super().backward(dy)
        if not self.t or dy.size == dy.shape[1]:
            return grads
        d = dy * self.p["weight"].reshape(self.col)
        along = (d * self.h).sum(self.axes, keepdims=True) / dy.dtype.type(self.count)
        return {**grads, "dx": self.r * (d - d.mean(self.axes, keepdims=True) - self.h * along)}


def test_one_unbiased_variance_for_y_and_the_running_statistics_is_recognised():
    report = run(UnbiasedForBoth, ())
    assert named(report) == ["unbiased variance in forward"]
    assert report.count("failed") > 30


class NanState(Bn):
    conventions: Mapping[str, str] = {"grads": "overwrite"}

    def forward(self, x, training):
        old, y = self.s, super().forward(x, training)
        if training:
            n, lam = x.size // x.shape[1], np.float32(self.o["momentum"])
            with np.errstate(all="ignore"):
                new = (self.s["running_var"] - (1 - lam) * old["running_var"]) * np.float32(n) / np.float32(n - 1)
            self.s = {**self.s, "running_var": (1 - lam) * old["running_var"] + new}
        return y


def test_nan_in_a_running_statistic_is_found_where_no_value_is_asked_for():
    report = run(NanState, ["single-value", *FEW])
    assert [result.case.flag for result in report.results if result.status == "failed"] == ["single-value"] * 2
    assert named(report) == ["NaN in running_var for a single value"]


class Block(Bn):
    def forward(self, x, training):
        return super().forward(x, training) + np.float32(training and x.size // x.shape[1] > 100)


class Table8(Bn):
    def forward(self, x, training):
        return super().forward(x, training) + np.float32(x.shape[1] > 8)


@pytest.mark.parametrize(
    ("make", "name"), [(Block, "limit on the values of a channel"), (Table8, "limit on the channels")]
)
def test_limits_of_kernels_are_found(make, name):
    report = run(make, ())
    assert report.exit_code == 1
    assert named(report)[0].startswith(name)


@pytest.mark.parametrize("layer", ["batch_norm", "mode_norm", "conv2d", "max_pool2d", "softmax_cross_entropy"])
def test_cases_from_seeds_have_the_references_values(layer):
    from minidl.check.generate import agree_with_reference

    made = seeded(layer, "float64")
    assert len(made) == len(definitions(layer)) >= 4
    for case in made:
        agree_with_reference(case, case.expected)  # to 1e-15, in extended precision
    assert run("minidl.check.adapters.reference:Adapter", ["seeded"], layer, dtype="float64").exit_code == 0


class Rounded(Bn):
    def forward(self, x, training):
        return super().forward(x.astype(np.float32), training).astype(x.dtype)


class DyScaled(Bn):
    def backward(self, dy):
        grads = super().backward(dy)
        if dy.flags.writeable:
            dy *= 0.5
        return grads


def test_a_layer_that_computes_in_float32_is_told_so_in_float64():
    assert named(check.run(Rounded, "batch_norm", "float64", cases=FEW))[0].startswith("computed in float32")


def test_an_input_that_is_changed_is_named():
    assert named(run(DyScaled)) == ["dy changed in place"]


class Reading(Bn):
    """Right, and keeps x by reference: nothing says that the caller's buffer changes before backward."""


class Writing(Bn):
    def forward(self, x, training):
        y = super().forward(x, training)
        if not training and x.flags.writeable:
            x += 1
        return y


class UpdatedWeight(Bn):
    def backward(self, dy):
        first = super().backward(dy)
        self.p = {**self.p, "weight": self.p["weight"] - np.float32(0.01) * first["dweight"]}
        return super().backward(dy)


class Half(Bn):
    def forward(self, x, training):
        return super().forward(x.astype(np.float16).astype(x.dtype) if training else x, training)


class HalfMean(Bn):
    def forward(self, x, training):
        y = super().forward(x, training)
        if training:
            exact, short = (x.mean(self.axes, dtype=kind, keepdims=True) for kind in (x.dtype, np.float16))
            y = (y + (exact - short) * self.r * self.p["weight"].reshape(self.col)).astype(x.dtype)
        return y


class HiddenEvaluation(NoBackwardInEvaluation):
    """Wrong in evaluation for some shapes alone, where its backward pass is not supported."""

    def forward(self, x, training):
        y = super().forward(x, training)
        return y if training or (x.ndim != 3 and x.shape[0] != 5) else y * 0 + 7


class HalfState(Bn):
    def state(self):
        return {name: value.astype(np.float16) for name, value in self.s.items()}


def test_a_layer_that_keeps_its_input_by_reference_is_right():
    assert run(Reading).exit_code == 0


def test_an_input_that_is_changed_in_evaluation_alone_is_named():
    assert named(run(Writing)) == ["x changed in place"]


def test_a_wrong_evaluation_is_found_though_its_backward_pass_is_not_supported():
    report = run(HiddenEvaluation, ())
    assert report.exit_code == 1
    assert all(t.name.startswith("eval.y") for result in report.results for t in result.failed)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (UpdatedWeight, ("weight", "unknown")),  # gradients of a changed weight: no variant, so no name
        (Half, ("float16", "unknown")),
        (HalfMean, ("float16", "unknown")),
        (HalfState, ("float16", "unknown")),
    ],
)
def test_a_short_format_or_a_late_weight_gets_its_name_or_none(make, words):
    report = run(make, ())
    assert report.exit_code == 1
    first = report.diagnosis[0]
    assert any(word in first for word in words), report.diagnosis
    if "unknown" not in first:
        assert all("float16" in name for name in named(report))
