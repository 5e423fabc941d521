"""Further causes by hand: measures of spread, parts of the values, other 1/sigma, masks, options, and listed slips."""

import numpy as np
import pytest
from tolerance import assert_close, terms

from minidl.check.diagnosis.functions import functions
from minidl.check.diagnosis.items import Item
from minidl.check.diagnosis.partial import other_dy, statistics
from minidl.check.diagnosis.terms import other_statistics, pieces
from minidl.check.variants import known_wrong
from minidl.check.variants.composed import composed
from minidl.check.variants.parts import Parts
from minidl.check.variants.wrapped import families

PAIR = {"weight": np.ones(1), "bias": np.zeros(1)}


def forward(made, params, x, training=True, state=None):
    """y of one pass."""
    made.load({name: np.array(value) for name, value in params.items()}, state or {})
    return np.asarray(made.forward(np.array(x, float), training))


def listed(layer, name, **options):
    """A known-wrong layer, built."""
    return next(v for v in known_wrong(layer) if v.name == name).make(layer, options)


@pytest.mark.parametrize(
    ("word", "divisor"),
    [
        ("the mean magnitude of x − mean stands for the deviation", 2.0),  # of −3, 0, 1, 2 about their mean 0 is 6/4
        ("the mean magnitude of x stands for the deviation", 2.0),
        ("the largest magnitude of x − mean stands for the deviation", 4.0),
        ("the largest magnitude of x stands for the deviation", 4.0),
        ("the range of x stands for the deviation", 6.0),
        ("the mean of the fourth powers' root stands for the variance", ((256 + 1 + 1 + 16) / 4) ** 0.25),
    ],
)
def test_a_measure_of_spread_by_hand(word, divisor):
    x = [[-4.0, 1.0, 1.0, 2.0]]  # of mean 0; magnitudes 4, 1, 1, 2
    made = composed("layer_norm_last", Parts(about=word)).plain("layer_norm_last", {"eps": 0.0})
    y = forward(made, {"weight": np.ones(4), "bias": np.zeros(4)}, x)
    assert_close(y, np.array(x) / divisor, terms(16, 2.0))


@pytest.mark.parametrize(
    ("word", "seen"),
    [
        ("statistics are of the first half of the last axis", [0, 2]),
        ("statistics are of the second half of the last axis", [4, 10]),
        ("statistics are of every other value of the last axis", [0, 4]),
        ("statistics are of all but the last value of the last axis", [0, 2, 4]),
        ("statistics are of all but the first value of the last axis", [2, 4, 10]),
    ],
)
def test_statistics_of_a_part_of_the_row_by_hand(word, seen):
    x = np.array([[0.0, 2.0, 4.0, 10.0]])
    made = composed("layer_norm_last", Parts(seen=word)).plain("layer_norm_last", {"eps": 0.0})
    y = forward(made, {"weight": np.ones(4), "bias": np.zeros(4)}, x)
    assert_close(y, (x - np.mean(seen)) / np.std(seen), terms(16, 10.0))


def test_a_quarter_of_the_row_by_hand():
    made = composed("rms_norm", Parts(seen="statistics are of the first quarter of the last axis"))
    y = forward(made.plain("rms_norm", {"eps": 0.0}), {"weight": np.ones(4)}, [[2.0, 3.0, 4.0, 5.0]])
    np.testing.assert_array_equal(y, [[1.0, 1.5, 2.0, 2.5]])


@pytest.mark.parametrize(
    ("field", "word", "groups"),
    [
        ("chunk", "each half of the batch has its own statistics", [[0, 1], [2, 3, 4]]),
        ("chunk", "each half of the batch has its own statistics, the larger first", [[0, 1, 2], [3, 4]]),
        ("chunk", "each 2 samples have their own statistics", [[0, 1], [2, 3], [4]]),
        ("chunk", "each 4 samples have their own statistics", [[0, 1, 2, 3], [4]]),
    ],
)
def test_parts_of_the_batch_have_their_own_statistics_by_hand(field, word, groups):
    x = np.array([1.0, 5.0, 2.0, 8.0, 9.0])
    made = composed("batch_norm", Parts(**{field: word})).plain("batch_norm", {"eps": 1.0, "momentum": 0.5})
    y = forward(made, PAIR, x[:, None])
    want = np.concatenate([(x[g] - x[g].mean()) / np.sqrt(x[g].var() + 1) for g in groups])
    assert_close(y[:, 0], want, terms(16, 9.0))


@pytest.mark.parametrize(
    ("word", "seen"),
    [
        ("statistics are of the first half of the batch", [1, 5]),
        ("statistics are of all but the last sample", [1, 5, 2, 8]),
        ("statistics are of all but the first sample", [5, 2, 8, 9]),
    ],
)
def test_statistics_of_a_part_of_the_batch_by_hand(word, seen):
    x = np.array([1.0, 5.0, 2.0, 8.0, 9.0])
    made = composed("batch_norm", Parts(seen=word)).plain("batch_norm", {"eps": 1.0, "momentum": 0.5})
    want = (x - np.mean(seen)) / np.sqrt(np.var(seen) + 1)
    assert_close(forward(made, PAIR, x[:, None])[:, 0], want, terms(16, 9.0))


def test_eps_added_to_the_centred_x_by_hand():
    made = composed("layer_norm_last", Parts(centre="eps is added to x − mean"))
    y = forward(made.plain("layer_norm_last", {"eps": 3.0}), {"weight": np.ones(2), "bias": np.zeros(2)}, [[-1.0, 1.0]])
    np.testing.assert_array_equal(y, [[(-1 + 3) / 2, (1 + 3) / 2]])  # the variance is 1, with eps 4


def item(layer, x, dy, got, want=None, name="out.dx.0", **options):
    """An output of one step, with weight 2 and bias 1 in each channel."""
    x, dy, got = (np.array(v, float) for v in (x, dy, got))
    channels = x.shape[-1]
    params = {"weight": np.full(channels, 2.0), "bias": np.ones(channels)}
    tol = np.full(got.shape, 1e-9)
    return Item((0, name), True, got, got if want is None else want, tol, x, dy, params, options, layer, True)


def test_dx_of_another_sigma_by_hand():
    x, dy = np.array([[0.0, 2.0, 7.0, 3.0]]), np.array([[1.0, -2.0, 0.5, 3.0]])
    c, d, var = x - 3.0, 2 * dy, 6.5  # squares 9, 1, 16, 0
    for word, r in (
        ("takes 1/sigma without eps", var**-0.5),
        ("takes 1/sigma with eps outside the root", 1 / (var**0.5 + 0.5)),
        ("takes 1/sigma of the unbiased variance", (26 / 3 + 0.5) ** -0.5),
        ("takes 1/sigma with eps added twice", 7.5**-0.5),
        ("takes 1/sigma with eps outside the root too", 1 / (7.0**0.5 + 0.5)),
        ("takes 1/sigma with eps 1e-05", (var + 1e-5) ** -0.5),
    ):
        of = item("layer_norm_last", x, dy, r * (d - d.mean() - c * r * (d * c * r).mean()), eps=0.5)
        assert other_statistics(of, pieces(of)) == {word}
    r, right = var**-0.5, 7.0**-0.5
    of = item("layer_norm_last", x, dy, right * (d - d.mean() - c * r * (d * c * r).mean()), eps=0.5)
    assert other_statistics(of, pieces(of)) == {"takes 1/sigma without eps in xhat alone"}


def test_masks_by_hand():
    x, dy = [[1.0, -2.0], [0.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]
    of = item("linear", x, dy, dy)
    said = dict(other_dy(of, [("x", np.array(x))]))
    np.testing.assert_array_equal(said["dy where x is positive alone, as by a ReLU"], [[4, 0], [0, 7]])
    told = dict(functions(of))
    np.testing.assert_array_equal(told["is 0 where x is negative, as by the derivative of a ReLU"], [[4, 0], [0, 7]])
    np.testing.assert_array_equal(told["is 0 where x is positive"], [[0, 5], [6, 0]])


def test_statistics_of_the_output_by_hand():
    of = item("batch_norm", [[1.0], [3.0], [5.0]], np.ones((3, 1)), [0.0], eps=8 / 3 * 3)  # variance 8/3
    said = dict(statistics(of))
    part = 0.25  # of the variance 8/3 + 8 = 32/3
    assert_close(said["the mean of y"], [1.0], terms(16, 2.0))
    assert_close(said["the biased variance of xhat"], [part], terms(16, 1.0))
    assert_close(said["the unbiased variance of y"], [4 * part * 1.5], terms(16, 2.0))
    assert_close(said["the mean of the squares of y"], [4 * part + 1], terms(16, 2.0))
    assert_close(said["the mean of xhat"], [0.0], terms(16, 1.0))
    assert_close(said["the unbiased variance of the variance with eps"], [(8 / 3 + 8) * 1.5], terms(16, 16.0))


def window(layer, name, options):
    """A layer whose options are changed, built."""
    return next(family for family in families(layer) if family.name == name).plain(layer, options)


@pytest.mark.parametrize(
    ("name", "size"),  # of y, of 7 by 7 pixels, by (n + 2 padding − kernel) / stride + 1
    [
        ("the padding is (k − 1)//2 whatever it is set to", (3, 3)),
        ("the padding is k//2 whatever it is set to", (3, 4)),
        ("the padding is that of the stride", (4, 5)),
        ("the padding is 1 whatever it is set to", (3, 4)),
        ("the stride is 1 whatever it is set to", (9, 6)),
        ("the stride is 2 whatever it is set to", (5, 3)),
        ("the padding is multiplied by the dilation", (5, 3)),
    ],
)
def test_an_option_that_is_made_of_others_by_hand(name, size):
    options = {"kernel_size": [3, 2], "stride": [3, 2], "padding": [2, 0], "dilation": 2}
    made = window("max_pool2d", name, options)
    assert forward(made, {}, np.arange(49.0).reshape(1, 1, 7, 7)).shape[2:] == size


def test_a_dilation_that_is_the_stride_by_hand():
    options = {"kernel_size": 2, "stride": [1, 2], "padding": 0, "dilation": 1}
    made = window("conv2d", "the dilation is that of the stride", options)
    y = forward(made, {"weight": np.ones((1, 1, 2, 2))}, [[[[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]]]])
    np.testing.assert_array_equal(y, [[[[1 + 100 + 2 + 200]]]])


def test_a_weight_less_its_mean_by_hand():
    made = window("linear", "weight has its mean subtracted for each output", {})
    np.testing.assert_array_equal(
        forward(made, {"weight": [[1.0, 3.0]], "bias": [5.0]}, [[10.0, 20.0]]), [[-10 + 20 + 5]]
    )
    grads = made.backward(np.array([[1.0]]))
    np.testing.assert_array_equal(grads["dweight"], [[-5.0, 5.0]])


def test_listed_slips_by_hand():
    for layer, rest in (("rms_norm", {}), ("layer_norm_last", {"bias": np.zeros(2)})):
        made = listed(layer, "eps as a floor", eps=16.0)
        np.testing.assert_array_equal(forward(made, {"weight": np.ones(2), **rest}, [[-2.0, 2.0]]), [[-0.5, 0.5]])
        np.testing.assert_array_equal(forward(made, {"weight": np.ones(2), **rest}, [[-8.0, 8.0]]), [[-1.0, 1.0]])
    group = listed("group_norm", "weight of the place in the group", eps=3.0, num_groups=2)
    weights = {"weight": [1.0, 10.0, 100.0, 1000.0], "bias": np.zeros(4)}
    y = forward(group, weights, [[-1.0, 1.0, 1.0, -1.0]])  # of variance 1 in each group
    np.testing.assert_array_equal(y, [[-0.5, 5.0, 0.5, -5.0]])
    grads = group.backward(np.array([[1.0, 0.0, 0.0, 2.0]]))
    np.testing.assert_array_equal(grads["dweight"], [-0.5 * 1, -0.5 * 2, 0, 0])
    batch = listed("batch_norm", "evaluation subtracts the mean after the division", eps=1.0, momentum=0.5)
    state = {"running_mean": np.array([5.0]), "running_var": np.array([3.0])}
    np.testing.assert_array_equal(forward(batch, PAIR, [[8.0]], False, state), [[8 / 2 - 5]])
    mode = listed("mode_norm", "moments of the modes updated in evaluation", eps=1.0, momentum=0.5)
    params = {**PAIR, "gate.weight": np.zeros((2, 1)), "gate.bias": np.zeros(2)}
    state = {"running_mean": np.zeros((2, 1)), "running_mean_square": np.ones((2, 1))}
    forward(mode, params, [[[1.0]], [[3.0]]], False, state)
    np.testing.assert_array_equal(mode.state()["running_mean"], [[1.0], [1.0]])  # ½ of the mean 2
    np.testing.assert_array_equal(mode.state()["running_mean_square"], [[3.0], [3.0]])  # ½ · 1 + ½ · 5


@pytest.mark.parametrize(("name", "loss"), [("first sample left out", np.log(2)), ("last sample left out", np.log(4))])
def test_a_sample_that_does_not_count_by_hand(name, loss):
    made = listed("softmax_cross_entropy", name)
    made.load({"labels": np.array([0, 0])}, {})
    assert_close(made.forward(np.array([[0.0, np.log(3)], [7.0, 7.0]]), True), loss, terms(8, 2.0))
    dx = made.backward(np.float64(1))["dx"]
    assert not dx[int(name.startswith("last"))].any()
    assert dx[int(name.startswith("first"))].all()


@pytest.mark.parametrize(
    ("name", "x"),
    [
        ("first logit for the largest", [0.0, 1000.0]),
        ("last logit for the largest", [1000.0, 0.0]),
        ("mean for the largest logit", [0.0, 2000.0]),
        ("largest logit starts at 0", [-2000.0, -1000.0]),
    ],
)
def test_a_logarithm_of_a_softmax_that_overflows_or_is_lost_is_not_finite(name, x):
    made = listed("softmax_cross_entropy", f"{name}, then the logarithm of the softmax")
    made.load({"labels": np.array([0])}, {})
    with np.errstate(all="ignore"):
        assert not np.isfinite(made.forward(np.array([x]), True))
    made.load({"labels": np.array([0])}, {})
    assert_close(made.forward(np.array([[0.0, np.log(3)]]), True), np.log(4), terms(8, 2.0))
