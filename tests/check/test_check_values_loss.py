"""What the known-wrong losses and affine maps answer, from values worked out by hand.

Of the loss, the exponentials of the logits are (1, 2, 1) and (6, 1, 1), so that the softmax is (1/4, 1/2, 1/4) and
(3/4, 1/8, 1/8); the labels are 1 and 2, their losses ln 2 and ln 8.
"""

from math import exp, log, tanh

import numpy as np
import pytest
from tolerance import assert_close, terms

from minidl.check.variants import known_wrong

LN2 = log(2)
LOGITS = np.log([[1.0, 2.0, 1.0], [6.0, 1.0, 1.0]])
LABELS = np.array([1, 2])
P = np.array([[1 / 4, 1 / 2, 1 / 4], [3 / 4, 1 / 8, 1 / 8]])
CHOSEN = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
RIGHT = 3 * (P - CHOSEN) / 2  # dx of dy = 3
SMOOTH = (LN2 * (2 + 1 + 2) / 3 + (log(4 / 3) + 6 * LN2) / 3) / 2  # of uniform labels
BENT = {  # of the two rows (0, ln 2, 0) and (ln 6, 0, 0)
    bound: (log(2 + exp(a)) - a + log(exp(b) + 2)) / 2
    for bound in (30, 50)
    for a, b in [(bound * tanh(LN2 / bound), bound * tanh(log(6) / bound))]
}

LOSS = {
    "sum for mean": 4 * LN2,
    "divided by the classes too": 4 * LN2 / 6,
    "divided by the classes": 4 * LN2 / 3,
    "logarithm missing": -(1 / 2 + 1 / 8) / 2,
    "logarithm to base 2": 2,
    "log-sum-exp missing": -(LN2 + 0) / 2,
    "sign of the loss": -2 * LN2,
    "divided by a batch of 32": 4 * LN2 / 32,
    "divided by a batch of 64": 4 * LN2 / 64,
    "divided by a batch of 100": 4 * LN2 / 100,
    "divided by a batch of 128": 4 * LN2 / 128,
    "labels smoothed by 0.05": 0.95 * 2 * LN2 + 0.05 * SMOOTH,
    "labels smoothed by 0.1": 0.9 * 2 * LN2 + 0.1 * SMOOTH,
    "labels smoothed by 0.2": 0.8 * 2 * LN2 + 0.2 * SMOOTH,
    "labels smoothed by 0.1 over the other classes": (
        0.9 * LN2 + 0.1 * 2 * LN2 + 0.9 * 3 * LN2 + 0.1 * (log(4 / 3) + 3 * LN2) / 2
    )
    / 2,
    "square of the log-sum-exp added": 2 * LN2 + 1e-4 * (4 * LN2**2 + 9 * LN2**2) / 2,
    "logits bent by 30 tanh(x/30)": BENT[30],
    "logits bent by 50 tanh(x/50)": BENT[50],
    "label 0 for all": (log(4) + log(4 / 3)) / 2,
    "label of the next sample": (log(4) + log(8)) / 2,
    "labels count backwards": (LN2 + log(4 / 3)) / 2,
    "winner for the label": (LN2 + log(4 / 3)) / 2,
    "focal factor (1 − p)^1": (LN2 / 2 + 3 * LN2 * 7 / 8) / 2,
    "focal factor (1 − p)^2": (LN2 / 4 + 3 * LN2 * 49 / 64) / 2,
    "binary cross-entropy of every class": (LN2 - 2 * log(3 / 4) + 3 * LN2 - log(1 / 4) - log(7 / 8)) / 2,
    "squared error of the softmax": ((1 + 4 + 1) / 16 + (36 + 1 + 49) / 64) / 2,
    "logarithm of the mean": -log((1 / 2 + 1 / 8) / 2),
    "sigmoid for softmax": -(log(2 / 3) + log(1 / 2)) / 2,
    "softmax over the batch": -(log(2 / 3) + log(1 / 2)) / 2,
    "first sample left out": 3 * LN2,
    "last sample left out": LN2,
}
GRADIENTS = {
    "dx without 1/N": 2 * RIGHT,
    "dx divided by the classes too": RIGHT / 3,
    "dx divided twice by N": RIGHT / 2,
    "dx without one-hot": 3 * P / 2,
    "dx is minus one-hot": -3 * CHOSEN / 2,
    "dx of the chosen class alone": RIGHT * CHOSEN,
    "dx with the logarithm": 3 * (np.log(P) - CHOSEN) / 2,
    "dx with the logits": 3 * (LOGITS - CHOSEN) / 2,
    "dx signed wrongly": -RIGHT,
    "dy ignored": RIGHT / 3,
}
LOW = [
    (variant, value)
    for variant in known_wrong("softmax_cross_entropy")
    for value in (10.0**-k for k in range(2, 16))
    if variant.name in (f"softmax clipped at {value:.0e}".replace("e-0", "e-"), f"softmax clipped at {value:.0e}")
    or variant.name == f"{value:.0e}".replace("e-0", "e-") + " added to the softmax"
]

X = np.array([[1.0, 2.0], [3.0, 4.0]])
WEIGHT, BIAS = np.array([[1.0, 10.0], [100.0, 1000.0], [0.0, 1.0]]), np.array([1.0, 2.0, 3.0])
DY = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
Y = np.array([[21.0, 2100.0, 2.0], [43.0, 4300.0, 4.0]])  # without its bias
DWEIGHT = np.array([[1.0, 2.0], [3.0, 4.0], [2.0, 4.0]])
LINEAR = {
    "bias ignored": {"y": Y},
    "bias subtracted": {"y": Y - BIAS},
    "bias added twice": {"y": Y + 2 * BIAS},
    "dweight is a mean": {"dweight": DWEIGHT / 2},
    "dweight is zero": {"dweight": 0 * DWEIGHT},
    "dweight with the wrong sign": {"dweight": -DWEIGHT},
    "dweight of the last sample": {"dweight": [[0, 0], [3, 4], [0, 0]]},
    "dweight of the first sample": {"dweight": [[1, 2], [0, 0], [2, 4]]},
    "dbias is a mean": {"dbias": [1 / 2, 1 / 2, 1]},
    "dbias is zero": {"dbias": [0, 0, 0]},
    "dbias of the last sample": {"dbias": [0, 1, 0]},
    "dbias of the first sample": {"dbias": [1, 0, 2]},
    "dbias sums dweight": {"dbias": [3, 7, 6]},
    "dx is zero": {"dx": [[0, 0], [0, 0]]},
    "dx is a mean": {"dx": [[0.5, 6], [50, 500]]},
}


def variants(layer, table):
    """The variants of a table with what is said of each."""
    found = [(variant, table[variant.name]) for variant in known_wrong(layer) if variant.name in table]
    assert len(found) == len(table), set(table) - {variant.name for variant, _ in found}
    return found


def name(value):
    """What a case is called."""
    return getattr(value, "name", "")


def loss_of(variant, logits=LOGITS, labels=LABELS):
    """The loss, and dx of dy = 3."""
    made = variant.make("softmax_cross_entropy", {})
    made.load({"labels": labels}, {})
    with np.errstate(all="ignore"):
        return made.forward(logits, True), made.backward(np.float64(3))["dx"]


@pytest.mark.parametrize(("variant", "value"), variants("softmax_cross_entropy", LOSS), ids=name)
def test_a_wrong_loss_answers_what_was_worked_out_by_hand(variant, value):
    assert_close(loss_of(variant)[0], np.float64(value), terms(32, 4.0))


@pytest.mark.parametrize(("variant", "value"), variants("softmax_cross_entropy", GRADIENTS), ids=name)
def test_a_wrong_gradient_of_the_loss_answers_what_was_worked_out_by_hand(variant, value):
    assert_close(loss_of(variant)[1], value, terms(32, 4.0))


@pytest.mark.parametrize(("variant", "value"), LOW, ids=name)
def test_a_loss_of_a_probability_of_0_ends_at_what_it_is_clipped_to(variant, value):
    loss, _ = loss_of(variant, np.array([[0.0, -1000.0]]), np.array([1]))
    assert_close(loss, np.float64(-log(value)), terms(8, 40.0))


OVERFLOWS = {  # the loss, and dx of dy = 3 where the logit is 1000
    "log-sum-exp without its shift": (np.inf, -3),
    "softmax without its shift": (np.nan, np.nan),
}


@pytest.mark.parametrize(("variant", "value"), variants("softmax_cross_entropy", OVERFLOWS), ids=name)
def test_a_loss_without_its_shift_is_right_until_exp_overflows(variant, value):
    assert_close(loss_of(variant)[0], np.float64(2 * LN2), terms(32, 4.0))
    loss, dx = loss_of(variant, np.array([[0.0, 1000.0]]), np.array([1]))  # of which the right one is 0
    np.testing.assert_array_equal((loss, dx[0, 1]), value)


@pytest.mark.parametrize(("variant", "said"), variants("linear", LINEAR), ids=name)
def test_a_wrong_affine_map_answers_what_was_worked_out_by_hand(variant, said):
    made = variant.make("linear", {})
    made.load({"weight": WEIGHT, "bias": BIAS}, {})
    found = {"y": made.forward(X, True), **made.backward(DY)}
    for quantity, value in said.items():
        np.testing.assert_array_equal(found[quantity], value)
