"""What the known-wrong convolutions and poolings answer, from values worked out by hand.

One row of three pixels, a window of two, a border of one on the left and the right.  The convolution has x = (1, 2, 3),
weights 1 and 10 and bias 100: y − bias is (10, 21, 32, 3).  The means of the same x are (1, 3, 5, 3)/2; the largest
of (1, 3, −2) are (1, 3, 3, −2).
"""

import numpy as np
import pytest

from minidl.check.plain import plain_class
from minidl.check.variants import known_wrong

ROW = {"stride": [1, 1], "padding": [0, 1]}
WINDOW = {**ROW, "kernel_size": [1, 2]}
CONV = {
    "kernel flipped": {"y": [1, 12, 23, 30]},
    "kernel flipped horizontally": {"y": [1, 12, 23, 30]},
    "padding repeats the edge": {"y": [11, 21, 32, 33]},
    "padding mirrors": {"y": [11, 21, 32, 33]},
    "padding reflects without the edge": {"y": [2 + 10, 21, 32, 3 + 20]},
    "padding wraps around": {"y": [13, 21, 32, 13]},
    "padding of ones": {"y": [11, 21, 32, 13]},
    "padding at the end": {"y": [21, 32, 3, 0]},
    "padding at the start": {"y": [0, 10, 21, 32]},
    "padding ignored": {"y": [21, 32]},
    "padding of the height alone": {"y": [21, 32]},
    "padding swapped": {"y": [0, 0, 21, 32, 0, 0]},
    "padding of the width alone": {"y": [0, 0, 0, 0, 10, 21, 32, 3, 0, 0, 0, 0]},
    "last column of the kernel skipped": {"y": [0, 1, 2, 3]},
    "last row and column of y missing": {"y": [10, 21, 32]},
    "bias ignored": {"y": [-90, -79, -68, -97]},
    "bias subtracted": {"y": [-190, -179, -168, -197]},
    "bias added for each element of the kernel": {"y": [110, 121, 132, 103]},
    "dx without weight": {"dx": [1 + 2, 2 + 3, 3 + 4]},
    "dx with the kernel flipped": {"dx": [1 + 20, 2 + 30, 3 + 40]},
    "dx not shifted by the padding": {"dx": [1, 12, 23]},
    "dx cropped by the padding of the height": {"dx": [1, 12, 23]},
    "dweight is zero": {"dweight": [0, 0]},
    "dweight flipped": {"dweight": [14, 20]},
    "dweight averaged over the pixels": {"dweight": [5, 3.5]},
    "dweight a mean over batch and pixels": {"dweight": [5, 3.5]},
    "dweight of the last pixel": {"dweight": [4 * 3, 0]},
    "dbias is zero": {"dbias": [0]},
    "dbias a mean": {"dbias": [2.5]},
    "dbias averaged over the pixels": {"dbias": [2.5]},
    "dbias of one pixel": {"dbias": [1]},
}
CONV_RIGHT = {"y": [10, 21, 32, 3], "dx": [12, 23, 34], "dweight": [20, 14], "dbias": [10]}
AVERAGE = {
    "sum for mean": {"y": [1, 3, 5, 3]},
    "padding not counted": {"y": [1, 1.5, 2.5, 3]},
    "divided by the height squared": {"y": [1, 3, 5, 3]},
    "divided by the width squared": {"y": [0.25, 0.75, 1.25, 0.75]},
    "divided by the height": {"y": [1, 3, 5, 3]},
    "divided by the area of the stride": {"y": [1, 3, 5, 3]},
    "divided by the number of windows": {"y": [0.25, 0.75, 1.25, 0.75]},
    "divided by the kernel's area less 1": {"y": [1, 3, 5, 3]},
    "padding ignored": {"y": [1.5, 2.5]},
    "padding of the height alone": {"y": [1.5, 2.5]},
    "padding repeats the edge": {"y": [1, 1.5, 2.5, 3]},
    "padding at the end": {"y": [1.5, 2.5, 1.5, 0]},
    "first column of the window skipped": {"y": [0.5, 1, 1.5, 0]},
    "last column of the window skipped": {"y": [0, 0.5, 1, 1.5]},
    "dx without the divisor": {"dx": [6, 10, 14]},
    "dx divided by the height squared": {"dx": [6, 10, 14]},
    "dx divided by the width squared": {"dx": [1.5, 2.5, 3.5]},
    "dx divided by the number of windows": {"dx": [1.5, 2.5, 3.5]},
    "dx not shifted by the padding": {"dx": [1, 3, 5]},
    "dx is zero": {"dx": [0, 0, 0]},
    "dy ignored": {"dx": [1, 1, 1]},
}
AVERAGE_RIGHT = {"y": [0.5, 1.5, 2.5, 1.5], "dx": [3, 5, 7]}
LARGEST = {
    "padding of zeros": {"y": [1, 3, 3, 0]},
    "padding of -1": {"y": [1, 3, 3, -1]},
    "minimum": {"y": [1, 1, -2, -2]},
    "padding ignored": {"y": [3, 3]},
    "padding of the height alone": {"y": [3, 3]},
    "padding at the end": {"y": [3, 3, -2, -np.inf]},
    "first column of the window skipped": {"y": [1, 3, -2, -np.inf]},
    "last column of the window skipped": {"y": [-np.inf, 1, 3, -2]},
    "dx of a winner overwritten": {"dx": [1, 4, 8]},
    "dx to the whole window": {"dx": [1 + 2, 2 + 4, 4 + 8]},
    "dx as of an average": {"dx": [1.5, 3, 6]},
    "dx to the first of the window": {"dx": [2, 4, 8]},
    "dx to the last of the window": {"dx": [1, 2, 4]},
    "dx is zero": {"dx": [0, 0, 0]},
    "dy ignored": {"dx": [1, 2, 1]},
}
LARGEST_RIGHT = {"y": [1, 3, 3, -2], "dx": [1, 2 + 4, 8]}
STRIDED = {  # the stride of the width is 2: of the four windows the first and the third
    "": [10, 32],
    "stride ignored": [10, 21, 32, 3],
    "stride of the height alone": [10, 21, 32, 3],
    "stride swapped": [10, 21, 32, 3],
}


def variants(layer, table):
    """The variants of a table with what is said of each."""
    found = [(variant, table[variant.name]) for variant in known_wrong(layer) if variant.name in table]
    assert len(found) == len(table) - ("" in table), set(table) - {variant.name for variant, _ in found}
    return found


def name(value):
    """What a case is called."""
    return getattr(value, "name", "")


def convolved(make, options=ROW):
    """y less its bias, and the gradients."""
    made = make("conv2d", options)
    made.load({"weight": np.array([[[[1.0, 10.0]]]]), "bias": np.array([100.0])}, {})
    y = made.forward(np.array([[[[1.0, 2.0, 3.0]]]]), True)
    if y.size != 4:
        return {"y": y.reshape(-1) - 100}
    grads = made.backward(np.array([[[[1.0, 2.0, 3.0, 4.0]]]]))
    return {"y": y.reshape(-1) - 100} | {k: v.reshape(-1) for k, v in grads.items()}


def pooled(layer, make, x, dy):
    """y and dx."""
    made = make(layer, WINDOW)
    made.load({}, {})
    y = made.forward(np.array([[[x]]], float), True)
    return {"y": y.reshape(-1)} | (
        {"dx": made.backward(np.array([[[dy]]], float))["dx"].reshape(-1)} if y.size == 4 else {}
    )


def holds(found, said):
    """Assert that what was worked out by hand is so; the values are whole, or halves and quarters."""
    for quantity, value in said.items():
        np.testing.assert_array_equal(found[quantity], value)


def test_right_windows_answer_what_was_worked_out_by_hand():
    holds(convolved(plain_class("conv2d")), CONV_RIGHT)
    holds(pooled("avg_pool2d", plain_class("avg_pool2d"), [1, 2, 3], [2, 4, 6, 8]), AVERAGE_RIGHT)
    holds(pooled("max_pool2d", plain_class("max_pool2d"), [1, 3, -2], [1, 2, 4, 8]), LARGEST_RIGHT)


@pytest.mark.parametrize(("variant", "said"), variants("conv2d", CONV), ids=name)
def test_a_wrong_convolution_answers_what_was_worked_out_by_hand(variant, said):
    holds(convolved(variant.make), said)


@pytest.mark.parametrize(("variant", "said"), variants("conv2d", STRIDED), ids=name)
def test_a_wrong_stride_takes_other_windows(variant, said):
    holds(convolved(variant.make, {"stride": [1, 2], "padding": [0, 1]}), {"y": said})
    holds(convolved(plain_class("conv2d"), {"stride": [1, 2], "padding": [0, 1]}), {"y": STRIDED[""]})


@pytest.mark.parametrize(("variant", "said"), variants("avg_pool2d", AVERAGE), ids=name)
def test_a_wrong_average_answers_what_was_worked_out_by_hand(variant, said):
    holds(pooled("avg_pool2d", variant.make, [1, 2, 3], [2, 4, 6, 8]), said)


@pytest.mark.parametrize(("variant", "said"), variants("max_pool2d", LARGEST), ids=name)
def test_a_wrong_maximum_answers_what_was_worked_out_by_hand(variant, said):
    holds(pooled("max_pool2d", variant.make, [1, 3, -2], [1, 2, 4, 8]), said)
