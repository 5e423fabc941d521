"""What known-wrong batch normalizations make of their running statistics, from values worked out by hand.

In training, x is −1 and 3: mean 1, variance 4, unbiased 8.  The running mean is 4 before and 3.25 after, the running
variance 10 and 9.5, with a momentum of 1/4.  In evaluation, x is 8 and 4, the running mean 5, the running variance 20
and eps 5, so that the root is 5; the batch's own mean is 6 and its variance 4.  Weight is 3, bias 2.
"""

from math import sqrt

import numpy as np
import pytest
from tolerance import assert_close, terms

from minidl.check.plain import plain_class
from minidl.check.variants import known_wrong

AFTER = {
    "momentum swapped": (1.75, 8.5),
    "running_var biased": (3.25, 7.5 + 4 / 4),
    "statistics updated twice": (3.25 * 3 / 4 + 1 / 4, 9.5 * 3 / 4 + 8 / 4),
    "statistics never updated": (4, 10),
    "running_mean never updated": (4, 9.5),
    "running_var never updated": (3.25, 10),
    "momentum fixed at 0.1": (3.7, 9.8),
    "momentum fixed at 0.01": (3.97, 9.98),
    "momentum fixed at 0.9": (1.3, 8.2),
    "momentum fixed at 0.99": (1.03, 8.02),
    "running_mean has the momentum swapped": (1.75, 9.5),
    "running_var has the momentum swapped": (3.25, 8.5),
    "running statistics are those of the last batch": (1, 8),
    "cumulative average for momentum": (1, 8),
    "running statistics do not decay": (4 + 1 / 4, 10 + 8 / 4),
    "running statistics move away from the batch": (5 - 1 / 4, 12.5 - 8 / 4),
    "running_var corrected by (n − 1)/n": (3.25, 7.5 + 2 / 4),
    "running_var corrected twice": (3.25, 7.5 + 16 / 4),
    "running_var about the running mean": (3.25, 7.5 + (25 + 1) / 4),
    "running_var holds the second moment": (3.25, 7.5 + (1 + 9) / 4),
    "running_var is an inverse deviation": (3.25, 7.5 + 1 / sqrt(8 + 5) / 4),
    "running average of the standard deviation": (3.25, (sqrt(10) * 3 / 4 + sqrt(8) / 4) ** 2),
}
EVALUATION = {
    "": (2 + 9 / 5, 2 - 3 / 5),
    "evaluation without eps": (2 + 9 / sqrt(20), 2 - 3 / sqrt(20)),
    "evaluation with eps outside the root": (2 + 9 / (sqrt(20) + 5), 2 - 3 / (sqrt(20) + 5)),
    "evaluation without the affine map": (3 / 5, -1 / 5),
    "evaluation ignores the running mean": (2 + 24 / 5, 2 + 12 / 5),
    "evaluation uses the batch": (2 + 6 / 3, 2 - 6 / 3),
    "evaluation mixes batch mean and running_var": (2 + 6 / 5, 2 - 6 / 5),
    "evaluation mixes running mean and batch variance": (2 + 9 / 3, 2 - 3 / 3),
    "evaluation with mean 0 and variance 1": (2 + 24 / sqrt(6), 2 + 12 / sqrt(6)),
}


def name(value):
    """What a case is called."""
    return getattr(value, "name", "")


def variants(table):
    """The variants of a table with what is said of each."""
    found = [(variant, table[variant.name]) for variant in known_wrong("batch_norm") if variant.name in table]
    assert len(found) == len(table) - ("" in table), set(table) - {variant.name for variant, _ in found}
    return found


def loaded(make, mean, var):
    """A batch normalization of one channel."""
    made = make("batch_norm", {"eps": 5.0, "momentum": 0.25})
    state = {"running_mean": np.array([mean]), "running_var": np.array([var])}
    made.load({"weight": np.array([3.0]), "bias": np.array([2.0])}, state)
    return made


def after(make):
    """The running statistics after a step of training."""
    made = loaded(make, 4.0, 10.0)
    made.forward(np.array([[-1.0], [3.0]]), True)
    return np.concatenate([made.state()[key] for key in ("running_mean", "running_var")])


@pytest.mark.parametrize(("variant", "value"), variants(AFTER), ids=name)
def test_a_wrong_update_gives_what_was_worked_out_by_hand(variant, value):
    assert_close(after(variant.make), np.array(value, float), terms(32, 16.0))


def test_a_right_update_gives_what_was_worked_out_by_hand():
    np.testing.assert_array_equal(after(plain_class("batch_norm")), [3.25, 9.5])


@pytest.mark.parametrize(
    ("make", "value"), [(plain_class("batch_norm"), EVALUATION[""]), *variants(EVALUATION)], ids=name
)
def test_a_wrong_evaluation_gives_what_was_worked_out_by_hand(make, value):
    y = loaded(make, 5.0, 20.0).forward(np.array([[8.0], [4.0]]), False)
    assert_close(y.reshape(-1), np.array(value, float), terms(32, 24.0))
