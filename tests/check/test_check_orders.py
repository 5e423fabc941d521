"""Orders of channels, folded affine maps and parts of a spread: values by hand, and that what is not everywhere is no
cause.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from tolerance import assert_close, terms

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from heldout.third import nbase  # noqa: E402

from minidl.check import run  # noqa: E402
from minidl.check.diagnosis.evidence import Hypothesis  # noqa: E402
from minidl.check.diagnosis.items import Item, everywhere  # noqa: E402
from minidl.check.diagnosis.weighing import credible  # noqa: E402
from minidl.check.variants import known_wrong  # noqa: E402
from minidl.check.variants.composed import composed  # noqa: E402
from minidl.check.variants.parts import FOLDED, INSIDE, Parts  # noqa: E402
from minidl.check.variants.wrapped import OF_A_KERNEL  # noqa: E402

TENS = 10.0 ** np.arange(6)


def variant(layer, name, **options):
    """A known-wrong layer, built."""
    return next(v for v in known_wrong(layer) if v.name == name).make(layer, options)


@pytest.mark.parametrize(
    ("name", "second"), [("dealt out in turn", 2), ("gathered by their place in the group", 3)], ids=lambda v: str(v)
)
def test_weight_and_bias_in_another_order_are_those_of_other_channels(name, second):
    layer = variant("group_norm", f"weight and bias {name}", num_groups=2, eps=0.0)
    layer.load({"weight": np.ones(6), "bias": TENS}, {})
    y = layer.forward(np.array([[-1.0, 0.0, 1.0, -1.0, 0.0, 1.0]]), True)
    assert y[0, 1] == TENS[second]  # xhat is 0 there


@pytest.mark.parametrize(
    ("name", "sums"), [("dealt out in turn", (10101, 101010)), ("gathered by their place in the group", (1011, 110100))]
)
def test_input_channels_in_another_order_enter_other_groups(name, sums):
    layer = variant("conv2d", f"input channels of the groups {name}", stride=1, padding=0, groups=2)
    layer.load({"weight": np.ones((2, 3, 1, 1))}, {})
    np.testing.assert_array_equal(layer.forward(TENS.reshape(1, 6, 1, 1), True).ravel(), sums)
    dx = layer.backward(np.array([1.0, 2.0]).reshape(1, 2, 1, 1))["dx"].ravel()
    first = [int(digit) for digit in f"{sums[0]:06d}"[::-1]]
    np.testing.assert_array_equal(dx, [1 if of_first else 2 for of_first in first])


@pytest.mark.parametrize("name", ["dealt out in turn", "gathered by their place in the group"])
def test_dweight_in_another_order_pairs_other_channels(name):
    params = {"weight": np.ones((4, 2, 1, 1))}
    layer = variant("conv2d", f"dweight with the channels of dy {name}", stride=1, padding=0, groups=2)
    layer.load(params, {})
    layer.forward(np.ones((1, 4, 1, 1)), True)
    grads = layer.backward(np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1))
    np.testing.assert_array_equal(grads["dweight"][:, 0].ravel(), [1, 3, 2, 4])
    layer = variant("conv2d", f"dweight with the channels of x {name}", stride=1, padding=0, groups=2)
    layer.load(params, {})
    layer.forward(np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1), True)
    grads = layer.backward(np.ones((1, 4, 1, 1)))
    np.testing.assert_array_equal(grads["dweight"][:, :, 0, 0], [[1, 3], [1, 3], [2, 4], [2, 4]])
    layer = variant("conv2d", f"dx with the channels of dy {name}", stride=1, padding=0, groups=2)
    layer.load({"weight": np.ones((4, 1, 1, 1))}, {})
    layer.forward(np.ones((1, 2, 1, 1)), True)
    grads = layer.backward(np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1))
    np.testing.assert_array_equal(grads["dx"].ravel(), [1 + 3, 2 + 4])


@pytest.mark.parametrize(
    ("name", "square"),
    [
        ("running_mean_square takes in the square of the new running mean", (20 + (1 + 9)) / 2),
        ("running_mean_square takes in the square of the old running mean", (20 + (1 + 16)) / 2),
    ],
)
def test_the_second_moment_takes_in_the_square_of_a_running_mean(name, square):
    layer = variant("mode_norm", name, momentum=0.5, eps=0.0)
    params = {"weight": np.ones(1), "bias": np.zeros(1), "gate.weight": np.zeros((1, 1)), "gate.bias": np.zeros(1)}
    layer.load(params, {"running_mean": np.array([[4.0]]), "running_mean_square": np.array([[20.0]])})
    layer.forward(np.array([[1.0], [3.0]]), True)  # mean 2, variance 1; the running mean becomes 3
    assert layer.state()["running_mean"] == 3
    assert layer.state()["running_mean_square"] == square


def test_running_moments_averaged_over_the_modes_are_the_same_for_all():
    layer = variant("mode_norm", "running moments averaged over the modes", momentum=0.5, eps=0.0)
    zero = np.zeros((2, 1))
    layer.load({"gate.weight": zero}, {"running_mean": zero, "running_mean_square": zero})
    layer.update(np.array([[1.0], [3.0]]), np.array([[2.0], [10.0]]), zero)
    np.testing.assert_array_equal(layer.state()["running_mean"], [[1.0], [1.0]])
    np.testing.assert_array_equal(layer.state()["running_mean_square"], [[3.0], [3.0]])


@pytest.mark.parametrize("name", ["instance_norm", "layer_norm", "group_norm"])
def test_eps_as_a_floor_divides_by_the_root_of_the_larger(name):
    layer = variant(name, "eps as a floor", num_groups=1, eps=4.0)
    layer.load({"weight": np.ones(1), "bias": np.zeros(1)}, {})
    np.testing.assert_array_equal(layer.forward(np.array([[[-1.0, 1.0]]]), True), [[[-0.5, 0.5]]])  # variance 1


@pytest.mark.parametrize("name", ["instance_norm", "layer_norm", "group_norm", "layer_norm_last", "rms_norm"])
def test_squares_in_float16_are_infinite_above_255(name):
    layer = variant(name, "squares taken in float16", num_groups=1, eps=1e-3)
    wide = np.ones(4 if name in ("layer_norm_last", "rms_norm") else 1)
    layer.load({"weight": wide, "bias": 3 * wide} if name != "rms_norm" else {"weight": wide}, {})
    with np.errstate(over="ignore"):
        y = layer.forward(np.array([[[300.0, -300.0, 300.0, -300.0]]], np.float16), True)
    np.testing.assert_array_equal(y, np.full((1, 1, 4), 0.0 if name == "rms_norm" else 3.0))
    calm = layer.forward(np.array([[[2.0, -2.0, 2.0, -2.0]]], np.float16), True)
    assert np.all(np.abs(calm - (0 if name == "rms_norm" else 3)) > 0.9)


def of_parts(layer, x, weight=1.0, bias=0.0, **parts):
    """y of a layer composed of parts, in training."""
    made = composed(layer, Parts(**parts)).plain(layer, {"eps": 0.0, "momentum": 0.5, "num_groups": 1})
    size = x.shape[-1] if layer == "layer_norm_last" else x.shape[1]
    made.load({"weight": np.full(size, weight), "bias": np.full(size, bias)}, {})
    return np.asarray(made.forward(x, True))


def test_a_folded_shift_without_weight_leaves_a_part_of_the_mean():
    x = np.array([[1.0], [3.0]])  # mean 2, deviation 1
    np.testing.assert_array_equal(of_parts("batch_norm", x, 3.0, 5.0, form=FOLDED), [[3 + 5 - 2], [9 + 5 - 2]])


def test_the_spread_within_and_between_are_parts_of_the_variance():
    x = np.array([[[0.0, 2.0], [4.0, 8.0]]])  # means 1 and 6 about 3.5, variances 1 and 4
    words = "the variance is the mean of the variances within the pixels of each channel"
    within = of_parts("layer_norm", x, about=words)
    assert_close(within, (x - 3.5) / np.sqrt(2.5), terms(8, 8.0))
    between = of_parts("layer_norm", x, about="the variance is that of the means of the pixels of each channel")
    assert_close(between, (x - 3.5) / 2.5, terms(8, 8.0))


def test_the_last_and_the_second_axis_are_those_of_x():
    x = np.array([[[0.0, 2.0], [4.0, 12.0]]])
    np.testing.assert_array_equal(
        of_parts("instance_norm", x[..., None] * np.ones(3) + [-1, 0, 1], mean_over="the last axis alone",
                 root="x is not divided by sigma"),
        np.broadcast_to([-1.0, 0.0, 1.0], (1, 2, 2, 3)),
    )  # fmt: skip
    rows = of_parts("layer_norm_last", x, mean_over="the second axis", root="x is not divided by sigma")
    np.testing.assert_array_equal(rows, [[[-2.0, -5.0], [2.0, 5.0]]])


def test_a_kernel_flattened_in_another_order():
    kernel = np.arange(6.0).reshape(1, 2, 1, 3)
    of = OF_A_KERNEL["is flattened in the order (O, kh, kw, I)"]
    np.testing.assert_array_equal(of.of(kernel), [[[[0, 3, 1]], [[4, 2, 5]]]])
    np.testing.assert_array_equal(of.back(of.of(kernel), kernel), kernel)


def test_an_index_split_column_by_column_lands_across_the_diagonal():
    window = {"kernel_size": [2, 2], "stride": [2, 2], "padding": [0, 0]}
    layer = variant("max_pool2d", "index in the window split column by column", **window)
    layer.load({}, {})
    layer.forward(np.array([[[[1.0, 9.0], [3.0, 4.0]]]]), True)
    np.testing.assert_array_equal(layer.backward(np.array([[[[5.0]]]]))["dx"], [[[[0, 0], [5, 0]]]])


def test_an_affine_map_before_the_division_by_sigma():
    x = np.array([[-2.0], [2.0]])
    np.testing.assert_array_equal(of_parts("batch_norm", x, 3.0, 8.0, form=INSIDE), [[(-6 + 8) / 2], [(6 + 8) / 2]])


def item(case, step, rank):
    """An output of a case, of which nothing but its place counts."""
    one = np.zeros(1)
    return Item((case, f"eval.y.{step}"), True, one, one, one, np.zeros((1,) * rank), None, {}, {}, "batch_norm", False)


def test_what_holds_after_the_first_step_alone_holds_not_everywhere():
    looked_at = [item(case, 1, 4) for case in range(20)] + [item(case, 3, 4) for case in range(20, 22)]
    assert not everywhere(looked_at, {of.at for of in looked_at[:20]})
    assert everywhere(looked_at, {of.at for of in looked_at[:21]})
    assert everywhere(looked_at[:21], {of.at for of in looked_at[:20]})  # a single one may be odd


def test_that_both_raise_is_no_evidence_unless_it_is_said_of_just_those_cases():
    known = known_wrong("max_pool2d")[0]
    raised = {(case, "raised") for case in range(4)}
    values = {(case, "out.dx.0") for case in range(4, 9)}
    assert credible(Hypothesis(known, "formula", hits=set(raised)), raised | values)
    assert not credible(Hypothesis(known, "formula", hits={(0, "raised")}), raised | values)
    assert not credible(Hypothesis(known, "formula", hits=set(raised), misses={(4, "out.dx.0")}), raised | values)


class FlippedWithGroups(nbase.Conv):
    """A convolution whose dweight is flipped where there are groups."""

    def dweight(self, dyg):
        dweight = super().dweight(dyg)
        return dweight[:, :, ::-1, ::-1] if self.groups > 1 else dweight


class LastChannelLeft(nbase.Linear):
    """An affine map that is off in its last output."""

    def forward(self, x, training):
        y = super().forward(x, training)
        y[:, -1] += self.x[:, 0] ** 2
        return y


@pytest.mark.parametrize(
    ("make", "layer", "name"),
    [
        (FlippedWithGroups, "conv2d", "dweight flipped, with groups alone"),
        (LastChannelLeft, "linear", "y is wrong for the last of the channels alone"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_cause_under_a_condition_or_at_one_end_of_an_axis_is_named_alone(make, layer, name):
    report = run(make, layer)
    lines = [line.partition(":")[0] for line in report.diagnosis if not line.startswith(("unknown", "perhaps", "note"))]
    assert lines == [name]
