"""What a report must not say: a cause that is not one, a grade for what did not run; and what it must find."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping

import numpy as np
import pytest
from tolerance import assert_close, rounding, terms

from minidl import check
from minidl.check.__main__ import main
from minidl.check.plain import plain_class
from minidl.check.seeds import definitions, seeded
from minidl.check.variants import known_wrong

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


def test_variants_give_values_that_were_computed_by_hand():
    """Two samples of one channel, 1 and 3; gates of two modes that are 1/2 each."""
    x = np.array([[1.0], [3.0]])
    gated = next(v for v in known_wrong("mode_norm") if v.name == "BN of the gated input")
    layer = gated.make("mode_norm", {"eps": 0.0, "momentum": 0.1, "num_modes": 2})
    params = {"weight": np.array([2.0]), "bias": np.array([0.5])}
    layer.load({**params, "gate.weight": np.zeros((2, 1)), "gate.bias": np.zeros(2)}, {})
    # BN of x/2 is −1 and 1 in each of the two modes; their sum is weighted by 2, and the bias comes once
    assert_close(layer.forward(x, True), np.array([[-3.5], [4.5]]), terms(16, 4.5))

    rounded = next(v for v in known_wrong("softmax_cross_entropy") if v.name == "log of a rounded softmax")
    loss = rounded.make("softmax_cross_entropy", {})
    loss.load({"labels": np.array([1])}, {})
    with np.errstate(all="ignore"):
        assert loss.forward(np.array([[0.0, -800.0]]), True) == np.inf
        loss.load({"labels": np.array([0])}, {})
        assert loss.forward(np.array([[0.0, -800.0]]), True) == 0

    pool = next(v for v in known_wrong("avg_pool2d") if v.name == "dx overwrites")
    made = pool.make("avg_pool2d", {"kernel_size": [1, 2], "stride": [1, 1], "padding": [0, 0]})
    made.load({}, {})
    made.forward(np.arange(3.0).reshape(1, 1, 1, 3), True)
    # the windows are (0, 1) and (1, 2): the second overwrites the first at 1
    np.testing.assert_array_equal(made.backward(np.array([[[[2.0, 4.0]]]]))["dx"], [[[[1.0, 2.0, 2.0]]]])


def test_derived_gradients_are_those_of_the_forward_pass():
    """The plain layers' own formulas, against their forward passes differentiated in reverse."""
    from minidl.check.plain.derived import Derived

    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((5, 4, 3)), rng.standard_normal((5, 4, 3))
    options = {"eps": 1e-2, "momentum": 0.3, "num_modes": 3}
    params = {"weight": rng.standard_normal(4), "bias": rng.standard_normal(4)}
    params |= {"gate.weight": rng.standard_normal((3, 4)), "gate.bias": rng.standard_normal(3)}

    def gradients(x, dy, wrap=lambda layer: layer, **params):
        layer = wrap(plain_class("mode_norm")("mode_norm", options))
        layer.load(params, {})
        layer.forward(x, True)
        return layer.backward(dy)

    inputs = {"x": x, "dy": dy} | params
    allowed, derived = rounding(gradients, inputs), gradients(**inputs, wrap=Derived)
    for name, value in gradients(**inputs).items():
        assert np.abs(value).max() > 1e3 * allowed[name], f"{name}: a vacuous gradient"
        assert_close(derived[name], value, allowed[name], name)


def test_fixed_numbers_and_starts_can_be_declared():
    class Fixed(Bn):
        def __init__(self, layer, options):
            super().__init__(layer, {**options, "eps": 1e-5, "momentum": 0.1})

    assert run(Fixed).exit_code == 1
    declared = {**Bn.conventions, "eps": "1e-5", "momentum_value": "0.1"}
    assert run(Fixed, (), conventions=declared).exit_code == 0
    with pytest.raises(ValueError, match='eps must be "given" or a number'):
        run(Fixed, conventions={"eps": "small"})


@pytest.mark.parametrize(
    ("layer", "name", "convention"),
    [
        ("avg_pool2d", "padding not counted", {"count_include_pad": "no"}),
        ("max_pool2d", "last of equals", {"ties": "last"}),
        ("softmax_cross_entropy", "sum for mean", {"reduction": "sum"}),
        ("batch_norm", "running_var starts at 0", {"start": "zero"}),
    ],
)
def test_what_a_variant_does_can_be_declared(layer, name, convention):
    from dataclasses import replace

    variant = replace(next(v for v in known_wrong(layer) if v.name == name), derived=layer != "batch_norm")
    assert check.run(variant, layer, conventions=variant.conventions).exit_code == 1
    assert check.run(variant, layer, conventions={**variant.conventions, **convention}).exit_code == 0


def test_a_baseline_lets_known_failures_pass_and_new_ones_fail(tmp_path, capsys):
    known, wrong = tmp_path / "known.txt", ["--declare", "momentum=old", "--case", "momentum-0.1", "--case", "train3"]
    command = [
        "run",
        "minidl.check.adapters.reference:Adapter",
        "--layer",
        "batch_norm",
        *wrong,
        "--baseline",
        str(known),
    ]
    assert main(command) == 0
    assert "written, with 2 known failures" in capsys.readouterr().out
    assert main(command) == 0
    known.write_text("\n".join(known.read_text().splitlines()[:-1]) + "\n")
    assert main(command) == 1
    junit = tmp_path / "junit.xml"
    assert main([*command, "--junit", str(junit)]) == 1
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "1")


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
