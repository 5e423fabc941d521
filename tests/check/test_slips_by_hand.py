"""Known-wrong layers give what their wrong formula gives, computed by hand: the loss, windows, convolution, modes."""

import numpy as np
from tolerance import assert_close, terms

from minidl.check.variants import known_wrong


def loss_of(name, x, labels, dy=1.0):
    layer = next(v for v in known_wrong("softmax_cross_entropy") if v.name == name).make("softmax_cross_entropy", {})
    layer.load({"labels": np.array(labels)}, {})
    y = float(layer.forward(np.array(x), True))
    return y, layer.backward(np.float64(dy))["dx"]


def test_further_slips_of_the_loss_have_values_that_were_computed_by_hand():
    """Logits 0 and log 3, so that the probabilities are 1/4 and 3/4; the label is 1 unless said otherwise."""
    x, p = [[0.0, np.log(3.0)]], 0.75
    third = [[0.0, np.log(3.0)], [0.0, 0.0]]
    for name, logits, labels, want in (
        ("focal factor (1 − p)^1", x, [1], -0.25 * np.log(p)),
        ("focal factor (1 − p)^2", x, [1], -(0.25**2) * np.log(p)),
        ("binary cross-entropy of every class", x, [1], -2 * np.log(p)),
        ("squared error of the softmax", x, [1], 2 * 0.25**2),
        ("labels count from −1", x, [0], 0.0),  # class 1 counts as 0: class 0 counts as −1
        ("labels count backwards", x, [1], -np.log(0.25)),
        ("label 0 for all", x, [1], -np.log(0.25)),
        ("label of the next sample", third, [1, 0], -(np.log(0.25) + np.log(0.5)) / 2),
        ("winner for the label", x, [0], -np.log(p)),
        ("samples of the first class ignored", third, [1, 0], -np.log(p) / 2),
        ("samples of the first class left out of the mean", third, [1, 0], -np.log(p)),
        ("samples of the last class ignored", third, [1, 0], -np.log(0.5) / 2),
        ("samples of the last class left out of the mean", third, [1, 0], -np.log(0.5)),
        ("logarithm of the mean", third, [1, 0], -np.log((0.75 + 0.5) / 2)),
    ):
        if name == "labels count from −1":
            want = -np.log(p)  # label 0 is one too high: class 1
        assert_close(np.array(loss_of(name, logits, labels)[0]), np.array(want), terms(16, 3.0), name)
    right = np.array([[0.25, -0.25]])
    assert_close(loss_of("dx with the softmax's slope once more", x, [1])[1], right * 3 / 16, terms(16, 1.0), "slope")
    # J v with J = 3/16 [[1, −1], [−1, 1]]: 3/16 (1/2, −1/2)
    assert_close(loss_of("dx through the softmax once more", x, [1])[1], right * 6 / 16, terms(16, 1.0), "Jacobian")


def pooled(layer, name, x, dy, **options):
    found = next(v for v in known_wrong(layer) if v.name == name)
    made = found.make(layer, {"kernel_size": [1, 2], "stride": [1, 2], "padding": [0, 0], **options})
    made.load({}, {})
    y = made.forward(np.array(x, float).reshape(1, 1, 1, -1), True)
    return y.ravel(), made.backward(np.array(dy, float).reshape(y.shape))["dx"].ravel()


def test_further_slips_of_windows_have_values_that_were_computed_by_hand():
    """Windows (1, 4) and (3, 2) of one row."""
    x, dy = [1, 4, 3, 2], [5, 7]
    for layer, name, y, dx in (
        ("max_pool2d", "last column of the window skipped", [1, 3], [5, 0, 7, 0]),
        ("max_pool2d", "first column of the window skipped", [4, 2], [0, 5, 0, 7]),
        ("avg_pool2d", "last column of the window skipped", [0.5, 1.5], [2.5, 0, 3.5, 0]),
        ("avg_pool2d", "first column of the window skipped", [2, 1], [0, 2.5, 0, 3.5]),
        ("max_pool2d", "last row of the window skipped", [4, 3], [0, 5, 7, 0]),  # of one row none is
        ("max_pool2d", "dx to the first of the window", [4, 3], [5, 0, 7, 0]),
        ("max_pool2d", "dx to the last of the window", [4, 3], [0, 5, 0, 7]),
    ):
        got = pooled(layer, name, x, dy)
        np.testing.assert_array_equal(got[0], y, name)
        np.testing.assert_array_equal(got[1], dx, name)


def convolved(name, x, weight, **options):
    found = next(v for v in known_wrong("conv2d") if v.name == name)
    made = found.make("conv2d", {"stride": 1, "padding": [0, 0], **options})
    made.load({"weight": np.array(weight, float)}, {})
    return made.forward(np.array(x, float), True)


def test_further_slips_of_convolution_have_values_that_were_computed_by_hand():
    """A row 1, 2, 3 and the kernel (1, 10)."""
    x, kernel = [[[[1, 2, 3]]]], [[[[1, 10]]]]
    wide = {"padding": [0, 1]}
    for name, want, options in (
        ("padding wraps around", [[[[13, 21, 32, 13]]]], wide),
        ("last row and column of y missing", [[[[10, 21, 32]]]], wide),
        ("last column of the kernel skipped", [[[[1, 2]]]], {}),
        ("last row of the kernel skipped", [[[[21, 32]]]], {}),  # of one row none is
        ("dilation ignored", [[[[21, 32]]]], {"dilation": [1, 2], "groups": 1}),
    ):
        np.testing.assert_array_equal(convolved(name, x, kernel, **options), want, name)
    assert convolved("padding one too large", x, kernel).shape == (1, 1, 3, 4)
    # two groups of one input channel with two outputs each: 1·(1, 2) and 10·(3, 4), interleaved
    split = convolved(
        "output channels of the groups dealt out in turn",
        [[[[1]], [[10]]]],
        [[[[1]]], [[[2]]], [[[3]]], [[[4]]]],
        groups=2,
    )
    np.testing.assert_array_equal(split.ravel(), [1, 30, 2, 40])


def test_further_slips_of_modes_have_values_that_were_computed_by_hand():
    """Two samples 1 and 3 of one channel; the logits of the two modes are 0 and x."""
    made = {}
    for name in (
        "running_mean_square without gates",
        "running_mean without gates",
        "moments mixed before the normalisation",
    ):
        found = next(v for v in known_wrong("mode_norm") if v.name == name)
        layer = found.make("mode_norm", {"eps": 0.0, "momentum": 1.0, "num_modes": 2})
        params = {"weight": np.array([2.0]), "bias": np.array([0.5])}
        layer.load({**params, "gate.weight": np.array([[0.0], [1.0]]), "gate.bias": np.array([0.0, 0.0])}, {})
        made[name] = layer.forward(np.array([[1.0], [3.0]]), True), layer.state()
    square = made["running_mean_square without gates"][1]["running_mean_square"]
    assert_close(square, np.array([[5.0], [5.0]]), terms(8, 5.0))
    assert_close(made["running_mean without gates"][1]["running_mean"], np.array([[2.0], [2.0]]), terms(8, 2.0))
    # the mixture by hand, from gates 1/(1 + e^x) and e^x/(1 + e^x)
    x = np.array([1.0, 3.0])
    g = np.stack([1 / (1 + np.exp(x)), np.exp(x) / (1 + np.exp(x))], 1)
    w = g / g.sum(0)
    mu = w.T @ x
    var = np.array([(w[:, k] * (x - mu[k]) ** 2).sum() for k in (0, 1)])
    want = 2 * (x - g @ mu) / np.sqrt(g @ var) + 0.5
    assert_close(made["moments mixed before the normalisation"][0][:, 0], want, terms(64, 4.0))
