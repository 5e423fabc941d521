"""Causes that are a single change of a formula, or of its timing: their values by hand, and that they are named."""

import ast

import numpy as np
import pytest

from minidl import check
from minidl.check import NotSupportedError
from minidl.check.diagnosis.pairs import combined
from minidl.check.plain import plain_class
from minidl.check.suite import VECTORS, open_suite
from minidl.check.variants import known_wrong
from minidl.check.variants.edited import functions, namespace_of
from minidl.check.variants.edits import edits
from minidl.check.variants.timing import SCHEDULES, timed
from minidl.check.variants.words import FORMS

SUITE = open_suite(VECTORS)
CLOSE = 1e-12  # of float64, where terms of size 1 are summed
FORM_CASES = [
    (layer, form, entry)
    for layer, forms in FORMS.items()
    for form, _ in forms[1:]
    for entry in SUITE.entries
    if entry.layer == layer
    and entry.result == "valid"
    and entry.flag in ("shape", "kernel", "dilation", "modes", "ties")
]


def named(layer, name):
    """The changes of a name."""
    return [change for change in edits(layer) if change.name == name]


def one(layer, name, form=None):
    """The first change of a name, of a form where one is given."""
    return next(change for change in named(layer, name) if form is None or change.form == form)


def answer(made, params, x, dy, state=None):
    """y and the gradients of one step of training."""
    made.load({k: np.array(v, float) if k != "labels" else np.array(v) for k, v in params.items()}, state or {})
    y = made.forward(np.array(x, float), True)
    return np.asarray(y), made.backward(np.array(dy, float))


@pytest.mark.parametrize(("layer", "form", "entry"), FORM_CASES, ids=lambda v: getattr(v, "id", None))
def test_every_form_of_a_layer_is_the_same_function(layer, form, entry):
    case = SUITE.case(entry)
    params = {k[6:]: np.float64(v) if v.dtype.kind == "f" else v for k, v in case.inputs.items() if k[:6] == "param."}
    state = {k[8:]: np.float64(v) for k, v in case.inputs.items() if k.startswith("state.0.")}
    x, dy = (np.float64(case.inputs[name]) for name in ("in.x.0", "in.dy.0"))
    found = []
    for made in (
        plain_class(layer)(layer, dict(case.options)),
        namespace_of(layer, form)["Layer"](layer, dict(case.options)),
    ):
        y, grads = answer(made, params, x, dy, state)
        found.append({"y": y, **grads})
    for name, value in found[0].items():
        scale = max(np.abs(value).max(), 1.0)
        np.testing.assert_allclose(found[1][name], value, rtol=0, atol=1e-9 * scale, err_msg=name)


@pytest.mark.parametrize(
    "layer", ["batch_norm", "group_norm", "rms_norm", "mode_norm", "conv2d", "max_pool2d", "linear"]
)
def test_every_change_is_one_change_of_a_source_that_compiles(layer):
    whole = {form: functions(layer, form) for form in {change.form for change in edits(layer)}}
    for change in edits(layer)[::13]:
        ast.parse(change.source)
        assert change.source != whole[change.form][change.function]
    assert len({change.key for change in edits(layer)}) == len(edits(layer))


def test_a_bias_divided_by_the_root_of_the_inputs_by_hand():
    made = one("linear", "in y, bias is divided by the root of the inputs").plain("linear", {})
    y, _ = answer(made, {"weight": [[1, 2, 3, 4]], "bias": [6]}, [[1, 1, 1, 1]], [[1]])
    assert y.item() == 10 + 6 / 2


def test_a_convolution_that_overwrites_dx_by_hand():
    change = one("conv2d", "in dx, what is there is overwritten, where terms must add up", FORMS["conv2d"][1][0])
    made = change.plain("conv2d", {"stride": 1, "padding": 0})
    _, grads = answer(made, {"weight": [[[[2, 3]]]]}, [[[[1, 4, 5]]]], [[[[10, 100]]]])
    # tap 0 writes 2·10, 2·100 to pixels 0, 1; tap 1 writes 3·10, 3·100 to pixels 1, 2: the 200 of pixel 1 is lost
    np.testing.assert_array_equal(grads["dx"][0, 0, 0], [20, 30, 300])
    np.testing.assert_array_equal(grads["dweight"][0, 0, 0], [10 + 400, 40 + 500])


def test_a_crop_that_starts_at_twice_the_padding_by_hand():
    made = one("conv2d", "the crop of dx, padding is doubled").plain("conv2d", {"stride": 1, "padding": [0, 1]})
    _, grads = answer(made, {"weight": [[[[2]]]]}, [[[[1, 4, 5]]]], [[[[7, 10, 20, 30, 9]]]])
    np.testing.assert_array_equal(grads["dx"][0, 0, 0], [40, 60, 18])  # one pixel to the right of 20, 40, 60


def test_a_maximum_of_magnitudes_by_hand():
    change = one("max_pool2d", "in what the maximum is sought of, the magnitude of x is taken")
    made = change.plain("max_pool2d", {"kernel_size": [1, 3], "stride": 1, "padding": 0})
    y, grads = answer(made, {}, [[[[1, -5, 3]]]], [[[[7]]]])
    assert y.item() == -5
    np.testing.assert_array_equal(grads["dx"][0, 0, 0], [0, 7, 0])


def test_a_softmax_loss_of_uniform_labels_by_hand():
    made = one("softmax_cross_entropy", "in dx, one-hot is averaged over the channels, the same for all").plain(
        "softmax_cross_entropy", {}
    )
    _, grads = answer(made, {"labels": [1]}, [[0, np.log(3)]], 2.0)
    np.testing.assert_allclose(grads["dx"], [[2 * (0.25 - 0.5), 2 * (0.75 - 0.5)]], atol=CLOSE)


def gated(name, form=None):
    """Mode norm with two modes, two samples, one channel of one pixel: gates 1/2 and 1/2, 3/4 and 1/4."""
    made = one("mode_norm", name, form).plain("mode_norm", {"eps": 0.0, "momentum": 0.5})
    params = {"weight": [1], "bias": [0], "gate.weight": [[0], [-np.log(3) / 4]], "gate.bias": [0, 0]}
    return answer(made, params, [[[0]], [[4]]], [[[1]], [[0]]])


def test_modes_mixed_by_the_roots_of_their_gates_by_hand():
    y, _ = gated("in y, the root of the gates is taken")
    # shares of mode 1: 2/5, 3/5, so mean 12/5, variance (2·144 + 3·64)/125 = 96/25; of mode 2: 2/3, 1/3, 4/3, 32/9
    xhat = np.array([[0 - 12 / 5, 4 - 12 / 5], [0 - 4 / 3, 4 - 4 / 3]]) / np.sqrt([[96 / 25], [32 / 9]])
    np.testing.assert_allclose(y.ravel(), (np.sqrt([[0.5, 0.75], [0.5, 0.25]]) * xhat).sum(0), atol=CLOSE)


def test_modes_mixed_by_their_shares_by_hand():
    y, _ = gated("in y, the gates' shares g/N_k stands for the gates")
    xhat = np.array([[0 - 12 / 5, 4 - 12 / 5], [0 - 4 / 3, 4 - 4 / 3]]) / np.sqrt([[96 / 25], [32 / 9]])
    np.testing.assert_allclose(y.ravel(), ([[0.4, 0.6], [2 / 3, 1 / 3]] * xhat).sum(0), atol=CLOSE)


def test_logits_whose_gradient_lacks_the_sum_over_the_modes_by_hand():
    name = "in the gradient of the logits, the sum in sum(dlogg) is left out"
    made, right = one("mode_norm", name), plain_class("mode_norm")("mode_norm", {"eps": 0.0, "momentum": 0.5})
    params = {"weight": [1], "bias": [0], "gate.weight": [[0], [-np.log(3) / 4]], "gate.bias": [0, 0]}
    step = params, [[[0]], [[4]]], [[[1]], [[0]]]
    _, wrong = answer(made.plain("mode_norm", {"eps": 0.0, "momentum": 0.5}), *step)
    _, good = answer(right, *step)
    # of two gates the right dz is g2 a1 − g1 a2 for the first mode, a being dlogg; here dz is g2 a1 and g1 a2
    assert abs(good["dgate.bias"][0]) > 0.001
    np.testing.assert_allclose(wrong["dgate.bias"][0] - wrong["dgate.bias"][1], good["dgate.bias"][0], atol=CLOSE)
    np.testing.assert_allclose(wrong["dweight"], good["dweight"], atol=CLOSE)


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        ("the momentum is divided by the number of the step", (0.5, 0.25, 0.5 / 3)),
        ("the momentum is 1 at the first step, so that its statistics are copied", (1, 0.5, 0.5)),
        ("the momentum is 1/(t + 1) at step t", (1 / 2, 1 / 3, 1 / 4)),
        ("the momentum is the larger of itself and 1/t", (1, 0.5, 0.5)),
        ("the momentum is corrected for a start at 0, lam / (1 − (1 − lam)^t)", (1, 0.5 / 0.75, 0.5 / 0.875)),
        ("the momentum is raised to the power of the step", (0.5, 0.25, 0.125)),
        ("the momentum warms up as 1 − min(1 − lam, (1 + t)/(10 + t)), t from 0", (0.9, 1 - 2 / 11, 1 - 3 / 12)),
        ("the momentum warms up as 1 − min(1 − lam, (1 + t)/(10 + t)), t from 1", (1 - 2 / 11, 1 - 3 / 12, 1 - 4 / 13)),
        ("the running statistics are updated at the first step alone", (0.5, 0, 0)),
        ("the running statistics are not updated at the first step", (0, 0.5, 0.5)),
        ("the running statistics are updated at every other step", (0.5, 0, 0.5)),
        ("the momentum weighs the old at the first step alone", (0.5, 0.5, 0.5)),
    ],
)
def test_a_momentum_that_changes_by_hand(words, weights):
    variant = next(v for v in timed("batch_norm") if v.schedule == words)
    made = variant.plain("batch_norm", {"eps": 0.1, "momentum": 0.5})
    made.load({"weight": np.ones(1), "bias": np.zeros(1)}, {"running_mean": np.zeros(1), "running_var": np.ones(1)})
    mean = 0.0
    for step, weight in enumerate(weights):
        x = np.array([[step + 1.0], [step + 3.0]])  # of mean step + 2
        made.forward(x, True)
        mean += weight * (step + 2 - mean)
        np.testing.assert_allclose(made.state()["running_mean"], mean, atol=CLOSE)
    assert set(SCHEDULES) == {v.schedule for v in timed("batch_norm")} - {""}


def steps(variant, xs, dy):
    """The gradients of the last of some training steps of batch normalization of two samples and one channel."""
    made = variant.plain("batch_norm", {"eps": 0.0, "momentum": 0.5})
    made.load(
        {"weight": np.array([2.0]), "bias": np.zeros(1)}, {"running_mean": np.zeros(1), "running_var": np.ones(1)}
    )
    for x in xs:
        made.forward(np.array(x, float), True)
    return made, made.backward(np.array(dy, float))


@pytest.mark.parametrize(
    ("name", "dweight"),
    [
        ("backward takes what the first pass kept", -3.0),  # xhat of the first pass is (−1, 1)
        ("backward takes xhat of the pass before", 3.0),  # of the pass before the last (1, −1)
        ("backward takes what the pass before kept", 3.0),
    ],
)
def test_a_stale_cache_by_hand(name, dweight):
    variant = next(v for v in timed("batch_norm") if v.name == name)
    _, grads = steps(variant, ([[0], [2]], [[8], [2]], [[1], [7]]), [[5], [2]])
    np.testing.assert_allclose(grads["dweight"], dweight, atol=CLOSE)


@pytest.mark.parametrize(
    ("late", "before", "after"),
    [("backward", 0.0, 0.5), ("the pass before", 0.0, 0.0)],
    ids=["by backward", "a step late"],
)
def test_statistics_that_are_taken_in_too_late_by_hand(late, before, after):
    variant = next(v for v in timed("batch_norm") if v.late == late)
    made = variant.plain("batch_norm", {"eps": 0.1, "momentum": 0.5})
    made.load({"weight": np.ones(1), "bias": np.zeros(1)}, {"running_mean": np.zeros(1), "running_var": np.ones(1)})
    made.forward(np.array([[0.0], [2.0]]), True)
    assert made.state()["running_mean"] == before
    made.backward(np.ones((2, 1)))
    assert made.state()["running_mean"] == after
    made.forward(np.array([[6.0], [8.0]]), True)
    assert made.state()["running_mean"] == 0.5


def changed(layer, name, form=None, conventions=None):
    """An adapter that is a change of a plain layer."""
    change = one(layer, name, form)

    class Adapter:
        def __new__(cls, layer, options):
            if options.get("per_mode_affine") or options.get("moments", "spatial") != "spatial":
                raise NotSupportedError("one affine pair; moments over the pixels")
            return change.plain(layer, options)

    Adapter.conventions = {"grads": "overwrite", **(conventions or {})}
    return Adapter


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("conv2d", "in dx, the first row of the kernel is left out"),
        ("linear", "in y, bias is divided by the root of the inputs"),
        ("max_pool2d", "in what the maximum is sought of, the magnitude of x is taken"),
        ("mode_group_norm", "in the gates' shares, the sum in sum(g) is over the batch and the channels"),
    ],
)
def test_a_change_that_is_not_listed_is_named(layer, name):
    report = check.run(changed(layer, name), layer)
    assert report.diagnosis
    assert name in report.diagnosis[0].partition(":")[0]
    assert not any(line.startswith("unknown") for line in report.diagnosis)


def test_only_texts_that_are_replaced_make_a_pair():
    late = next(v for v in timed("batch_norm") if v.late)
    listed = known_wrong("batch_norm")[:2]
    assert [pair.name for pair in combined([late, listed[0]], [late, listed[1]])] == [
        f"{listed[0].name} + {listed[1].name}"
    ]
