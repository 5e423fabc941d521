"""What the known-wrong normalizations answer, from values worked out by hand.

Two values, −1 and 3, are normalised together: their mean is 1, their variance 4, and with eps = 5 the root is 3.
With weight 3 and bias 2, y is 0 and 4; with dy = (6, 0), dx is 5/3 and −5/3, dweight −4 and dbias 6:

    xhat = (−2/3, 2/3),  d = dy weight = (18, 0),  mean(d) = 9,  xhat mean(d xhat) = (4, −4).
"""

from math import sqrt

import numpy as np
import pytest
from tolerance import assert_close, terms

from minidl.check.plain import plain_class
from minidl.check.variants import known_wrong

SHAPES = {
    "batch_norm": (2, 1),
    "instance_norm": (1, 1, 2),
    "layer_norm": (1, 1, 2),
    "group_norm": (1, 1, 2),
    "layer_norm_last": (1, 2),
}
RIGHT = {"y": (0, 4), "dx": (5 / 3, -5 / 3), "dweight": -4, "dbias": 6}


def apart(half):
    """y about its bias."""
    return 2 - half, 2 + half


Y = {
    "unbiased variance": apart(6 / sqrt(8 + 5)),
    "unbiased variance in forward": apart(6 / sqrt(8 + 5)),
    "eps outside the root": apart(6 / (2 + 5)),
    "eps missing": apart(6 / 2),
    "eps as a floor": apart(6 / sqrt(5)),
    "eps as a floor of the deviation": apart(6 / 5),
    "eps squared": apart(6 / sqrt(4 + 25)),
    "root of eps": apart(6 / sqrt(4 + sqrt(5))),
    "eps twice": apart(6 / sqrt(4 + 10)),
    "eps under the root and outside": apart(6 / (3 + 5)),
    "eps subtracted": apart(6 * 1e15),
    "eps fixed at 1e-3": apart(6 / sqrt(4.001)),
    "eps fixed at 1e-5": apart(6 / sqrt(4.00001)),
    "eps fixed at 1e-6": apart(6 / sqrt(4.000001)),
    "eps fixed at 1e-8": apart(6 / sqrt(4.00000001)),
    "eps fixed at 1e-12": apart(6 / sqrt(4.000000000001)),
    "eps scaled by the largest value": apart(6 / sqrt(4 + 5 * 3 * 3)),
    "deviation under the root": apart(6 / sqrt(2 + 5)),
    "root missing": apart(6 / 9),
    "square in place of the root": apart(6 / 81),
    "multiplied by the deviation": apart(6 * 3),
    "mean not subtracted": (-1 + 2, 3 + 2),
    "variance about zero": apart(6 / sqrt(5 + 5)),
    "root mean square in place of the deviation": (-3 / sqrt(10) + 2, 9 / sqrt(10) + 2),
    "variance is a sum": apart(6 / sqrt(8 + 5)),
    "mean is a sum": (-9 / sqrt(5 + 5) + 2, 3 / sqrt(5 + 5) + 2),
    "weight ignored": apart(2 / 3),
    "bias ignored": (-2, 2),
    "weight before centring": ((-3 - 1) / 3 + 2, (9 - 1) / 3 + 2),
    "weight plus one": apart(8 / 3),
    "bias before weight": (3 * (2 - 2 / 3), 3 * (2 + 2 / 3)),
    "bias subtracted": (-2 - 2, 2 - 2),
    "weight and bias swapped": (3 - 4 / 3, 3 + 4 / 3),
    "weight squared": apart(6),
    "bias added twice": (4 - 2, 4 + 2),
    "y divided by weight": apart(2 / 9),
    "affine map ignored": (-2 / 3, 2 / 3),
}
DX = {
    "statistics detached": (18 / 3, 0),
    "dx mean term with the wrong sign": ((18 + 9 - 4) / 3, (9 + 4) / 3),
    "dx xhat term with the wrong sign": ((18 - 9 + 4) / 3, (-9 - 4) / 3),
    "dx divided by the variance": (5 / 9, -5 / 9),
    "dx xhat term with another power of sigma": ((9 - 4 / 3) / 3, (-9 + 4 / 3) / 3),
    "dx xhat term without a power of sigma": ((9 - 4 * 3) / 3, (-9 + 4 * 3) / 3),
    "dx xhat term with sigma squared": ((9 - 4 * 9) / 3, (-9 + 4 * 9) / 3),
    "dx xhat term with 1/sigma squared": ((9 - 4 / 9) / 3, (-9 + 4 / 9) / 3),
    "dx is zero": (0, 0),
    "dx is dy": (18, 0),
    "dx with the wrong sign": (-5 / 3, 5 / 3),
    "dx xhat term halved": ((9 - 2) / 3, (-9 + 2) / 3),
    "dx xhat term doubled": ((9 - 8) / 3, (-9 + 8) / 3),
    "dx with the unbiased variance": ((18 - 18 - 8) / 3, (-18 + 8) / 3),
    "dx of the unbiased standard deviation": (sqrt(1 / 2) * 5 / 3, -sqrt(1 / 2) * 5 / 3),
    "dx without the mean of dy": ((18 - 4) / 3, 4 / 3),
    "dx without the xhat term": ((18 - 9) / 3, -9 / 3),
    "dx without dy": ((-9 - 4) / 3, (-9 + 4) / 3),
    "dx without weight": (5 / 9, -5 / 9),
    "dx without 1/sigma": (5, -5),
    "dx means are sums": ((18 - 18 - 8) / 3, (-18 + 8) / 3),
    "dx counts n − 1": ((18 - 9 - 8) / 3, (-9 + 8) / 3),
    "dx lacks weight in its direct term": ((6 - 9 - 4) / 3, (-9 + 4) / 3),
    "backward without eps": (5 / 2, -5 / 2),
}
DWEIGHT = {
    "dweight of x": 6 * -1,
    "dweight without 1/sigma": 6 * -2,
    "dweight is a mean": -4 / 2,
    "dweight is zero": 0,
    "dweight of y": 6 * 0,
    "dweight with weight": -4 * 3,
    "dweight with the wrong sign": 4,
    "dweight of dx": 5 / 3 * -2 / 3 + -5 / 3 * 2 / 3,
    "dweight and dbias swapped": 6,
}
DBIAS = {
    "dbias is a mean": 6 / 2,
    "dbias is zero": 0,
    "dbias with weight": 18,
    "dbias with the wrong sign": -6,
    "dweight and dbias swapped": -4,
}
TABLES = {"y": Y, "dx": DX, "dweight": DWEIGHT, "dbias": DBIAS}
ROWS = [
    (layer, variant, quantity, table[variant.name])
    for layer in SHAPES
    for variant in known_wrong(layer)
    for quantity, table in TABLES.items()
    if variant.name in table
]


def answers(layer, make):
    """What a layer answers to the values above; dweight and dbias summed over the elements, where each has its own."""
    made = make(layer, {"eps": 5.0, "momentum": 0.5, "num_groups": 1})
    size = 2 if layer == "layer_norm_last" else 1
    made.load({"weight": np.full(size, 3.0), "bias": np.full(size, 2.0)}, {})
    with np.errstate(all="ignore"):
        y = made.forward(np.array([-1.0, 3.0]).reshape(SHAPES[layer]), True)
        grads = made.backward(np.array([6.0, 0.0]).reshape(SHAPES[layer]))
    return {"y": y.reshape(-1), "dx": grads["dx"].reshape(-1)} | {k: grads[k].sum() for k in ("dweight", "dbias")}


@pytest.mark.parametrize("layer", SHAPES)
def test_a_right_layer_answers_what_was_worked_out_by_hand(layer):
    for name, value in answers(layer, plain_class(layer)).items():
        assert_close(value, np.array(RIGHT[name], float), terms(32, 18.0), name)


@pytest.mark.parametrize(
    ("layer", "variant", "quantity", "value"), ROWS, ids=lambda v: getattr(v, "name", v if isinstance(v, str) else "")
)
def test_a_wrong_normalization_answers_what_was_worked_out_by_hand(layer, variant, quantity, value):
    size = max(18.0, np.abs(value).max())
    if layer == "layer_norm_last" and variant.name in ("dweight is a mean", "dbias is a mean"):
        value = 2 * value  # a mean over the rows, of which there is one
    assert_close(answers(layer, variant)[quantity], np.array(value, float), terms(64, size), quantity)


def test_every_row_of_the_table_is_a_variant_of_some_layer():
    named = {variant.name for layer in SHAPES for variant in known_wrong(layer)}
    assert set().union(*TABLES.values()) <= named
