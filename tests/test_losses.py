"""Softmax cross-entropy is the reference, its backward the slope of it, and large logits do it no harm."""

import numpy as np
import pytest
import strict
from gradients import assert_gradients, complex_step
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runs import EACH_ENGINE, draw
from tolerance import assert_close, terms

from minidl import SoftmaxCrossEntropy, reference, to_device, to_host

pytestmark = EACH_ENGINE
LABELS = np.array([3, 0, 2, 2, 1])


def forward(loss, logits, labels):
    """Return the loss on the host."""
    return to_host(loss.forward(to_device(logits), labels))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(2, 7), st.sampled_from([0.3, 5.0, 500.0]))
def test_the_loss_and_its_gradient_are_the_reference(seed, n, k, scale):
    rng = np.random.default_rng(seed)
    logits, labels = scale * rng.normal(size=(n, k)), rng.integers(0, k, n)
    loss = SoftmaxCrossEntropy()
    size = np.abs(logits).max()  # a probability is off by the rounding of its logit, and of the sum of k of them
    want = reference.softmax_cross_entropy(logits, labels)
    assert_close(forward(loss, logits, labels), np.asarray(want), terms(2 * (n + k + 8), 2 * size + k), "the loss")
    want = reference.softmax_cross_entropy_backward(1.0, logits, labels)["dlogits"]
    assert_close(to_host(loss.backward()), want, terms(2 * (k + 8), (2 * size + 1) / n), "dlogits")


def test_backward_is_the_slope_of_forward():
    logits = draw(1, 5, 4)
    loss = SoftmaxCrossEntropy()
    value = forward(loss, logits, LABELS)

    def simple(logits):
        z = np.exp(logits)
        return -np.log(z[np.arange(5), LABELS] / z.sum(axis=1)).mean()

    assert_close(value, simple(logits), terms(2 * (4 + 5 + 8), np.abs(logits).max() + np.log(4)))
    assert_gradients(simple, {"dlogits": to_host(loss.backward())}, {"logits": logits}, np.float64(1.0), complex_step)


@pytest.mark.parametrize("smoothing", [0.1, 0.7])
def test_with_label_smoothing_backward_is_the_slope_of_forward_and_both_are_the_formula(smoothing):
    logits = draw(1, 5, 4)
    cotangent = np.float64(-0.7)
    loss = SoftmaxCrossEntropy(smoothing)
    value = forward(loss, logits, LABELS)

    def simple(logits):
        z = np.exp(logits)
        target = (1 - smoothing) * np.eye(4)[LABELS] + smoothing / 4
        return -(target * np.log(z / z.sum(axis=1, keepdims=True))).sum(axis=1).mean()

    assert_close(value, simple(logits), terms(2 * (4 + 5 + 8), np.abs(logits).max() + np.log(4)))
    dlogits = cotangent * to_host(loss.backward())
    assert_gradients(simple, {"dlogits": dlogits}, {"logits": logits}, cotangent, complex_step)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_pytorchs(smoothing):
    torch = pytest.importorskip("torch")
    logits = draw(1, 5, 4)
    loss = SoftmaxCrossEntropy(smoothing)
    value = forward(loss, logits, LABELS)
    theirs = torch.tensor(logits, requires_grad=True)
    other = torch.nn.functional.cross_entropy(theirs, torch.tensor(LABELS), label_smoothing=smoothing)
    other.backward()
    size = np.abs(logits).max()
    assert_close(value, other.item(), terms(2 * (4 + 5 + 8), 2 * size))
    assert_close(to_host(loss.backward()), theirs.grad.numpy(), terms(2 * (4 + 8), 2 * size / 5))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_a_share_that_leaves_no_label_is_refused(smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\), got .*; try 0.1"):
        SoftmaxCrossEntropy(smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_gradients_of_a_sample_sum_to_zero(smoothing):
    loss = SoftmaxCrossEntropy(smoothing)
    forward(loss, draw(1, 5, 4), LABELS)
    assert_close(to_host(loss.backward()).sum(axis=1), np.zeros(5), terms(4 + 8, 2 / 5))


@pytest.mark.parametrize("gap", [800.0, 1e6, 1e30])
def test_logits_far_apart_are_finite(gap):
    logits = np.array([[gap, 0.0, -gap], [0.0, gap, gap]])
    loss = SoftmaxCrossEntropy()
    assert_close(forward(loss, logits, np.array([0, 2])), np.log(2) / 2, terms(8, np.log(2)))
    assert_close(to_host(loss.backward()), [[0, 0, 0], [0, 0.25, -0.25]], terms(8, 0.5))
    assert_close(forward(loss, logits, np.array([2, 0])), (3 * gap + np.log(2)) / 2, terms(8, 2 * gap))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("of_labels", ["int64", "int32", "uint8"])
def test_dtypes_are_kept_and_nothing_is_changed(dtype, of_labels):
    before = draw(1, 5, 4).astype(dtype), LABELS.astype(of_labels)
    logits, labels = (to_device(a.copy()) for a in before)
    loss = SoftmaxCrossEntropy()
    assert loss.forward(logits, labels).dtype == np.promote_types(dtype, "float32")
    assert loss.backward().dtype == dtype
    np.testing.assert_array_equal(to_host(logits), before[0])
    np.testing.assert_array_equal(to_host(labels), before[1])


def test_labels_of_the_device_that_are_out_of_range_make_the_loss_nan_and_are_not_waited_for(library):
    if library != "strict":
        return  # refused below
    for wrong in (4, -1):
        logits, labels = to_device(draw(1, 5, 4)), to_device(np.where(LABELS == 1, wrong, LABELS))
        with strict.no_synchronisation():
            value = SoftmaxCrossEntropy().forward(logits, labels)
        assert np.isnan(to_host(value))


def test_any_memory_order_of_the_logits_gives_the_same_bits():
    logits = draw(1, 5, 4).astype("float32")
    results = []
    for x in (logits, np.asfortranarray(logits), np.repeat(logits, 2, axis=1)[:, ::2]):
        loss = SoftmaxCrossEntropy()
        results.append((forward(loss, x, LABELS), to_host(loss.backward())))
    for value, gradient in results[1:]:
        assert value == results[0][0]
        np.testing.assert_array_equal(gradient, results[0][1])


def test_backward_needs_a_forward_and_each_forward_allows_one():
    loss = SoftmaxCrossEntropy()
    message = "^SoftmaxCrossEntropy.backward: forward must come first, one backward for each$"
    with pytest.raises(RuntimeError, match=message):
        loss.backward()
    forward(loss, draw(1, 5, 4), LABELS)
    loss.backward()
    with pytest.raises(RuntimeError, match=message):
        loss.backward()


ERRORS = {
    "images": (
        draw(1, 5, 4, 3, 3),
        LABELS,
        "logits must be (N, K) and labels (N,), got (5, 4, 3, 3) and (5,); flatten the logits to one row per sample",
    ),
    "number of labels": (
        draw(1, 7, 4),
        LABELS,
        "logits must be (N, K) and labels (N,), got (7, 4) and (5,); flatten the logits to one row per sample",
    ),
    "no samples": (
        draw(1, 0, 4),
        LABELS[:0],
        "logits must be of one sample at least, got none; an empty batch has no mean, leave it out",
    ),
    "label too large": (
        draw(1, 5, 3),
        LABELS,
        "labels must be in [0, 3), got 0 to 3; give the network that many classes",
    ),
    "label below 0": (
        draw(1, 5, 4),
        LABELS - 1,
        "labels must be in [0, 4), got -1 to 2; give the network that many classes",
    ),
    "labels not integers": (
        draw(1, 5, 4),
        LABELS.astype(float),
        "labels must be of an integer dtype, got float64; use labels.astype('int64')",
    ),
    "labels as a mask": (
        draw(1, 5, 4),
        LABELS > 1,
        "labels must be of an integer dtype, got bool; use labels.astype('int64')",
    ),
}


@pytest.mark.parametrize("what", ERRORS)
def test_logits_and_labels_that_do_not_fit_are_refused_in_one_line(what):
    logits, labels, message = ERRORS[what]
    with pytest.raises(ValueError, match="forward") as caught:
        SoftmaxCrossEntropy().forward(to_device(logits), labels)
    assert str(caught.value) == f"SoftmaxCrossEntropy.forward: {message}"


def test_float16_logits_near_the_largest_number_give_a_finite_loss_and_gradient():
    logits = np.array([[6e4, -6e4, 0.0], [-6e4, 6e4, 6e4]], np.float16)
    loss = SoftmaxCrossEntropy()
    want = (2 * np.float16(6e4).astype(float) + np.log(2)) / 2
    assert_close(float(forward(loss, logits, np.array([1, 2]))), want, terms(8, 2 * want, "float32"))
    dlogits = to_host(loss.backward())
    assert dlogits.dtype == np.float16
    np.testing.assert_array_equal(dlogits, [[0.5, -0.5, 0], [0, 0.25, -0.25]])
