"""Empty modes, huge logits, single samples, far means; precision, dtypes and what stays untouched."""

import numpy as np
import pytest
from gradients import assert_gradients
from reference_cases import CASES, draw, gate, norm_inputs
from tolerance import assert_close, rounding, terms

from minidl import reference as R

EACH_CASE = pytest.mark.parametrize("name", CASES)
EPS = 1e-3


def rounding_of(forward, inputs):
    """Return how far rounding may move what a norm gives."""
    return rounding(lambda **arrays: forward(**arrays, eps=EPS), inputs)["y"]


@pytest.mark.parametrize("gap", [105.0, 800.0, 1e5, -800.0])
def test_mode_norm_with_an_empty_mode_is_finite_and_its_backward_right(gap):
    # mode 1 is exp(−gap) below mode 0 in every sample; from 746 on, every g_n1 is exactly zero
    inputs = norm_inputs(5, 4, 3) | {"gate_weight": draw(5, 2, 4, std=0.2), "gate_bias": np.array([0.0, -gap])}
    if gap == 800.0:
        assert (R.gates(inputs["x"], inputs["gate_weight"], inputs["gate_bias"])[:, 1] == 0).all()
    dy, zero = np.random.default_rng(2).normal(size=(5, 4, 3)), ("gate_weight", "gate_bias")
    assert_gradients(
        lambda **i: R.mode_norm(**i, eps=EPS), R.mode_norm_backward(dy, **inputs, eps=EPS), inputs, dy, zero=zero
    )


def test_mode_norm_with_an_empty_mode_is_batch_norm():
    inputs = norm_inputs(5, 4, 3)
    psi = {"gate_weight": draw(5, 2, 4, std=0.2), "gate_bias": np.array([0.0, -800.0])}
    y = R.mode_norm(**inputs, **psi, eps=EPS)
    assert_close(y, R.batch_norm(**inputs, eps=EPS), rounding_of(R.batch_norm, inputs))


def test_an_empty_modes_statistics_belong_to_the_sample_least_far_from_it():
    # logits −900 and −1000 against 0: w of mode 1 is (1, exp(−100)), its mean the first sample's
    x, psi = np.array([[9.0], [10.0]]), {"gate_weight": np.array([[0.0], [-100.0]]), "gate_bias": np.zeros(2)}
    zeros = np.zeros((2, 1))
    mean, mean_square = R.mode_norm_running(x, **psi, running_mean=zeros, running_mean_square=zeros, momentum=1.0)
    assert_close(mean, [[9.5], [9.0]], terms(8, 10.0))
    assert_close(mean_square, [[90.5], [81.0]], terms(8, 100.0))


def test_mode_group_norm_with_an_empty_mode_still_averages_its_output():
    # logits −900 and −1000 against 0: mode 1 sees channel 0 alone, mean 9 and variance 0; mode 0 both, 9.5 and 1/4
    x, psi = np.array([[9.0, 10.0]]), {"gate_weight": np.array([[0.0], [-100.0]]), "gate_bias": np.zeros(2)}
    y = R.mode_group_norm(x, np.array([2.0, 4.0]), np.array([5.0, 7.0]), **psi, eps=2.0)
    # 16 roundings on the way; those of a mean near 10 meet a slope below 4/sqrt(2)
    assert_close(y, [[5 + (-0.5 / 1.5), 7 + 2 * (0.5 / 1.5 + 1 / np.sqrt(2))]], terms(16, 10 * 4 / np.sqrt(2)))


def test_mode_group_norm_backward_with_an_empty_mode():
    inputs = norm_inputs(3, 5, 4) | {"gate_weight": np.array([[0.3], [-0.4]]), "gate_bias": np.array([0.0, -800.0])}
    dy = np.random.default_rng(2).normal(size=(3, 5, 4))
    got = R.mode_group_norm_backward(dy, **inputs, eps=EPS)
    # shifting the bias scales w_1 = g_1/C_1 not at all: the statistics of an empty mode do not depend on it
    assert_gradients(lambda **i: R.mode_group_norm(**i, eps=EPS), got, inputs, dy, zero=("gate_bias",))


def test_one_sample_alone_in_a_mode_is_normalized_over_its_pixels():
    inputs = norm_inputs(5, 4, 3)
    inputs["x"][2, 1] += 40 - inputs["x"][2, 1].mean()
    psi = {"gate_weight": np.array([[0.0] * 4, [0.0, 100.0, 0.0, 0.0]]), "gate_bias": np.array([0.0, -2000.0])}
    y = R.mode_norm(**inputs, **psi, eps=EPS)
    want = R.batch_norm(**inputs | {"x": inputs["x"][2:3]}, eps=EPS)
    assert_close(y[2:3], want, rounding_of(R.mode_norm, inputs | psi))


@pytest.mark.parametrize("K", [1, 3])
def test_mode_norm_of_one_sample_is_instance_norm(K):
    inputs = norm_inputs(1, 4, 5)
    y = R.mode_norm(**inputs, **gate(K, 4), eps=EPS)
    assert_close(y, R.instance_norm(**inputs, eps=EPS), rounding_of(R.instance_norm, inputs))


def test_one_value_a_channel_gives_the_bias_and_no_dx():
    inputs = norm_inputs(1, 4) | gate(3, 4)
    dy = draw(2, 1, 4)
    x, weight, bias, gate_weight = (np.abs(inputs[k]).max() for k in ("x", "weight", "bias", "gate_weight"))
    slope = weight / np.sqrt(EPS)  # of x − x, and of dy − dy
    assert_close(R.mode_norm(**inputs, eps=EPS), inputs["bias"][None], terms(16, slope * x + bias))
    size = np.abs(dy).max() * (slope + bias * gate_weight)
    assert_close(R.mode_norm_backward(dy, **inputs, eps=EPS)["dx"], np.zeros((1, 4)), terms(16, size))


@pytest.mark.parametrize("mean", [1e3, 1e6])
@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "mode_norm", "mode_group_norm", "mode_norm (N, C)"])
def test_a_far_mean_costs_no_more_than_the_inputs_own_rounding(name, mean):
    case = CASES[name]
    far = case.inputs["x"].astype(np.float32).astype(np.float64) + mean  # exact: float32 has 24 bits, float64 has 53
    near = far - mean
    far_inputs, near_inputs = case.inputs | {"x": far}, case.inputs | {"x": near}
    if "gate_weight" in case.inputs:
        # gates that a mean does not saturate, and a bias that undoes it: A·(m + mean) + (b − A·mean) = A·m + b
        A = near_inputs["gate_weight"] = far_inputs["gate_weight"] = 1e-3 * case.inputs["gate_weight"]
        far_inputs["gate_bias"] = case.inputs["gate_bias"] - mean * A.sum(axis=1)
    dy = case.cotangent()
    allowed = case.tolerances(dy, **far_inputs)
    assert_close(case.y(**far_inputs), case.y(**near_inputs), allowed["y"], "y")
    got, want = (case.backward(dy, **i, **case.constants) for i in (far_inputs, near_inputs))
    assert_close(got["dx"], want["dx"], allowed["dx"], "dx")


@EACH_CASE
@pytest.mark.parametrize(
    ("dtype", "computed"),
    [
        ("float16", "float64"),
        ("float32", "float64"),
        ("float64", "float64"),
        ("longdouble", "longdouble"),
        ("complex64", "complex128"),
        ("complex128", "complex128"),
        ("clongdouble", "clongdouble"),
    ],
)
def test_everything_is_computed_in_float64_or_wider(name, dtype, computed):
    case = CASES[name]
    inputs = {k: v.astype(dtype) for k, v in case.inputs.items()}
    dy = case.cotangent().astype(dtype)
    assert np.asarray(case.y(**inputs)).dtype == computed
    for gradient in case.backward(dy, **inputs, **case.constants).values():
        assert gradient.dtype == computed


@EACH_CASE
def test_inputs_are_not_changed_and_any_strides_give_the_same(name):
    case = CASES[name]
    dy = case.cotangent()

    def unusual(a):
        """Return the array read-only, its first axis innermost in memory and every other element skipped."""
        buffer = np.repeat(np.moveaxis(a, 0, -1), 2, axis=-1) if a.ndim else a.copy()
        view = np.moveaxis(buffer[..., ::2], -1, 0) if a.ndim else buffer
        view.flags.writeable = False
        return view

    inputs = {k: unusual(v) for k, v in case.inputs.items()}
    want, allowed = case.gradients(dy), case.tolerances(dy)
    assert_close(case.y(**inputs), case.y(**case.inputs), allowed["y"], "y")
    for k, gradient in case.backward(unusual(dy), **inputs, **case.constants).items():
        assert_close(gradient, want[k], allowed[k], k)


X = np.ones((3, 4, 5, 7))
ONES, PSI_W, PSI_B = np.ones(4), np.ones((3, 4)), np.ones(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: R.batch_norm(np.ones(4), ONES, ONES), r"batch_norm: x must be .*got shape \(4,\)"),
        (lambda: R.layer_norm(np.ones((0, 4)), ONES, ONES), r"layer_norm: x must be a non-empty .*\(0, 4\)"),
        (lambda: R.instance_norm(X, np.ones(5), ONES), r"instance_norm: weight must be of shape \(4,\), got \(5,\)"),
        (
            lambda: R.batch_norm_backward(X[1:], X, ONES, ONES),
            r"dy must be of shape \(3, 4, 5, 7\), got \(2, 4, 5, 7\)",
        ),
        (lambda: R.group_norm(X, 3, ONES, ONES), r"num_groups must divide .* 3 groups for 4 .* one of \[1, 2, 4\]"),
        (lambda: R.group_norm(X, 0, ONES, ONES), r"num_groups must divide .* got 0 groups"),
        (lambda: R.batch_norm_running(X, ONES, ONES, 0.1, "second_moment"), "call batch_norm_running_moments"),
        (lambda: R.batch_norm_running(np.ones((1, 4)), ONES, ONES, 0.1), "x must have more than one value per channel"),
        (lambda: R.gates(X, PSI_W.T, PSI_B), r"gates: gate_weight must be of shape \(3, 4\), got \(4, 3\)"),
        (lambda: R.channel_gates(X, PSI_W, PSI_B), r"gate_weight must be of shape \(3, 1\), got \(3, 4\)"),
        (
            lambda: R.mode_norm(X, np.ones((4, 3)), ONES, PSI_W, PSI_B),
            r"weight .* one per mode, \(3, 4\), got \(4, 3\)",
        ),
        (
            lambda: R.mode_norm_eval(X, ONES, ONES, PSI_W, PSI_B, ONES, PSI_W),
            r"mode_norm_eval: running_mean must be of shape \(3, 4\), got \(4,\)",
        ),
        (
            lambda: R.mode_group_norm(X, ONES, ONES, PSI_W[:, :1], PSI_B, 1e-5, "local"),
            'moments must be "spatial" or "pooled", got \'local\'',
        ),
        (lambda: R.conv2d(X[0], np.ones((2, 4, 3, 3))), r"conv2d: x must be of shape \(N, C, H, W\), got \(4, 5, 7\)"),
        (lambda: R.conv2d(X, np.ones((2, 3, 3, 3))), r"weight must be of shape \(2, 4, 3, 3\), got \(2, 3, 3, 3\)"),
        (lambda: R.conv2d(X, np.ones((2, 4, 6, 3))), r"kernel_size must be at most the padded image, got 6 for 5"),
        (lambda: R.conv2d(X, np.ones((2, 4, 3, 3)), stride=0), "stride must be at least 1"),
        (lambda: R.max_pool2d(X, 3, padding=2), "padding must be at most half of kernel_size, got 2 for 3"),
        (lambda: R.linear(np.ones((2, 3)), np.ones((4, 5))), r"linear: x must be of shape \(2, 5\), got \(2, 3\)"),
        (lambda: R.softmax_cross_entropy(np.ones((2, 3)), np.array([0, 3])), "labels must be integers from 0 to 2"),
        (lambda: R.softmax_cross_entropy(np.ones((2, 3)), np.array([-1, 0])), "labels must be integers from 0 to 2"),
        (lambda: R.softmax_cross_entropy(np.ones((2, 3)), np.array([0.0, 1.0])), "got float64"),
        (
            lambda: R.softmax_cross_entropy(np.ones((2, 3)), np.array([0])),
            r"labels must be of shape \(2,\), got \(1,\)",
        ),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
