"""Examples small enough to work by hand; the working stands beside each."""

from math import log, sqrt

import numpy as np
import pytest
from tolerance import assert_close, terms

from minidl import reference as R

ONE = np.ones(1)
# A sample whose mean is m has the odds exp(0) : exp(m·log 3) = 1 : 3^m.
PSI = {"gate_weight": np.array([[0.0], [log(3)]]), "gate_bias": np.zeros(2)}


def close(got, want):
    assert_close(got, np.asarray(want, float), terms(64, max(1.0, np.abs(want).max())))  # tens of operations each


def test_batch_norm_of_two_samples():
    # channel 0: 1, 3: mean 2, variance 1, + eps 3 = 4, root 2: ∓1/2.  channel 1: −2, 8: mean 3, variance 25, + 3 = 28
    y = R.batch_norm(np.array([[1.0, -2.0], [3.0, 8.0]]), np.array([10.0, 4.0]), np.array([7.0, 6.0]), eps=3.0)
    close(y, [[7 - 5, 6 - 20 / sqrt(28)], [7 + 5, 6 + 20 / sqrt(28)]])


def test_batch_norm_backward_of_two_samples():
    # x = ∓1, s = 2, xhat = ∓1/2, alpha 4, dy = (1, 0): dxhat = (4, 0); dsigma² = 4·(−1)·(−1/2)/8 = 1/4, dmu = −2
    # dx = dxhat/s + dsigma²·2(x − mu)/2 + dmu/2 = (2 − 1/4 − 1, 0 + 1/4 − 1) = (3/4, −3/4)
    grads = R.batch_norm_backward(np.array([[1.0], [0.0]]), np.array([[-1.0], [1.0]]), 4 * ONE, 5 * ONE, eps=3.0)
    close(grads["dx"], [[3 / 4], [-3 / 4]])
    close(grads["dweight"], [-1 / 2])
    close(grads["dbias"], [1])


def test_batch_norm_eval_backward_scales_by_the_running_deviation():
    # s = sqrt(6 + 3) = 3, alpha 4: dx = dy·4/3; dalpha = (7 − 1)/3·dy = 2·dy
    grads = R.batch_norm_eval_backward(np.array([[9.0]]), np.array([[7.0]]), 4 * ONE, 5 * ONE, ONE, 6 * ONE, eps=3.0)
    close(grads["dx"], [[12]])
    close(grads["dweight"], [18])
    close(grads["dbias"], [9])


def test_batch_norm_running_statistics():
    # values 1, 2, 6: mean 3, sum of squares 4 + 1 + 9 = 14, unbiased 7, biased 14/3, mean square 41/3
    x = np.array([[1.0], [2.0], [6.0]])
    start = 10 * ONE, 20 * ONE
    close(R.batch_norm_running(x, *start, momentum=0.3), [[0.3 * 3 + 7], [0.3 * 7 + 14]])
    close(R.batch_norm_running(x, *start, momentum=0.3, running="biased"), [[0.3 * 3 + 7], [0.3 * 14 / 3 + 14]])
    close(R.batch_norm_running_moments(x, *start, momentum=0.3), [[0.3 * 3 + 7], [0.3 * 41 / 3 + 14]])


def test_group_layer_and_instance_norm_of_one_sample():
    # pixels (1, 3), (5, 7) | (2, 2), (2, 6)
    x = np.array([[[1.0, 3.0], [5.0, 7.0], [2.0, 2.0], [2.0, 6.0]]])
    weight, bias = np.array([2.0, 3.0, 4.0, 5.0]), np.array([6.0, 7.0, 8.0, 9.0])
    # groups: mean 4, variance (9 + 1 + 1 + 9)/4 = 5, + 4 = 9, root 3 | mean 3, variance (1 + 1 + 1 + 9)/4 = 3, + 4 = 7
    g = sqrt(7)
    want = [[6 - 2, 6 - 2 / 3], [7 + 1, 7 + 3], [8 - 4 / g, 8 - 4 / g], [9 - 5 / g, 9 + 15 / g]]
    close(R.group_norm(x, 2, weight, bias, eps=4.0), [want])
    # layer: mean 28/8 = 3.5, mean square 132/8 = 16.5, variance 16.5 − 12.25 = 4.25, + 2 = 6.25, root 2.5
    want = [[6 - 2, 6 - 0.4], [7 + 1.8, 7 + 4.2], [8 - 2.4, 8 - 2.4], [9 - 3, 9 + 5]]
    close(R.layer_norm(x, weight, bias, eps=2.0), [want])
    # instance: means 2, 6, 2, 4 and variances 1, 1, 0, 4, each + 5
    a, b = 1 / sqrt(6), 2 / 3
    want = [[6 - 2 * a, 6 + 2 * a], [7 - 3 * a, 7 + 3 * a], [8, 8], [9 - 5 * b, 9 + 5 * b]]
    close(R.instance_norm(x, weight, bias, eps=5.0), [want])


def test_gates_of_two_samples():
    # means 0 and 1: odds 1 : 1 and 1 : 3
    x = np.array([[[-1.0, 1.0]], [[0.0, 2.0]]])
    close(R.gates(x, **PSI), [[1 / 2, 1 / 2], [1 / 4, 3 / 4]])
    close(R.channel_gates(x, **PSI), [[[1 / 2, 1 / 2]], [[1 / 4, 3 / 4]]])


def test_mode_norm_of_two_samples():
    # gates (1/2, 1/2), (1/4, 3/4); N_1 = 3/4, N_2 = 5/4; w_1 = (2/3, 1/3), w_2 = (2/5, 3/5)
    # samples (−1, 1) and (0, 2) of one channel: means 0, 1 and mean squares 1, 2
    # mu_1 = 1/3, <x²>_1 = 2/3 + 2/3 = 4/3, sigma²_1 = 4/3 − 1/9 = 11/9, + 5/9 = 16/9, root 4/3
    # mu_2 = 3/5, <x²>_2 = 2/5 + 6/5 = 8/5, sigma²_2 = 8/5 − 9/25 = 31/25, + 5/9 = 404/225
    x = np.array([[[-1.0, 1.0]], [[0.0, 2.0]]])
    s = sqrt(404 / 225)
    want = np.array(
        [
            [[1 / 2 * (-4 / 3) / (4 / 3) + 1 / 2 * (-8 / 5) / s, 1 / 2 * (2 / 3) / (4 / 3) + 1 / 2 * (2 / 5) / s]],
            [[1 / 4 * (-1 / 3) / (4 / 3) + 3 / 4 * (-3 / 5) / s, 1 / 4 * (5 / 3) / (4 / 3) + 3 / 4 * (7 / 5) / s]],
        ]
    )
    close(R.mode_norm(x, 3 * ONE, 7 * ONE, **PSI, eps=5 / 9), 3 * want + 7)


def test_mode_norm_with_an_affine_pair_a_mode():
    # the same batch, (x − mu_k)/s_k gated: alpha = (3, 30), beta = (7, 70)
    x = np.array([[[-1.0, 1.0]], [[0.0, 2.0]]])
    s = sqrt(404 / 225)
    y = R.mode_norm(x, np.array([[3.0], [30.0]]), np.array([[7.0], [70.0]]), **PSI, eps=5 / 9)
    close(y[0, 0, 0], 1 / 2 * (3 * (-4 / 3) / (4 / 3) + 7) + 1 / 2 * (30 * (-8 / 5) / s + 70))
    close(y[1, 0, 1], 1 / 4 * (3 * (5 / 3) / (4 / 3) + 7) + 3 / 4 * (30 * (7 / 5) / s + 70))


def test_mode_norm_running_moments():
    # the same batch: <x> = (1/3, 3/5), <x²> = (4/3, 8/5)
    x = np.array([[[-1.0, 1.0]], [[0.0, 2.0]]])
    mean, mean_square = R.mode_norm_running(
        x, **PSI, running_mean=np.array([[2.0], [3.0]]), running_mean_square=np.array([[5.0], [11.0]]), momentum=0.3
    )
    close(mean, [[0.1 + 1.4], [0.18 + 2.1]])
    close(mean_square, [[0.4 + 3.5], [0.48 + 7.7]])


def test_mode_norm_eval_of_one_sample():
    # mean 1: gates (1/4, 3/4); mu = (2, −1), sigma² = (7 − 4, 9 − 1) = (3, 8), + eps 1, roots 2 and 3
    y = R.mode_norm_eval(
        np.array([[[0.0, 2.0]]]),
        3 * ONE,
        7 * ONE,
        **PSI,
        running_mean=np.array([[2.0], [-1.0]]),
        running_mean_square=np.array([[7.0], [9.0]]),
        eps=1.0,
    )
    close(y, [[[3 * (1 / 4 * -1 + 3 / 4 * 1 / 3) + 7, 3 * (0 + 3 / 4 * 1) + 7]]])


def test_mode_norm_eval_clamps_a_negative_difference_of_moments_at_zero():
    # <x²> − <x>² = 3 − 4 < 0: variance 0, root of eps 4 is 2
    moments = {"running_mean": np.array([[2.0]]), "running_mean_square": np.array([[3.0]])}
    arguments = (np.array([[8.0]]), 5 * ONE, 7 * ONE, np.zeros((1, 1)), ONE)
    close(R.mode_norm_eval(*arguments, **moments, eps=4.0), [[5 * 3 + 7]])
    close(R.mode_norm_eval_backward(np.array([[3.0]]), *arguments, **moments, eps=4.0)["dx"], [[3 * 5 / 2]])


@pytest.mark.parametrize(
    ("moments", "var_1", "var_2"),
    # <m²> = (1/3, 3/5), less 1/9 and 9/25; with the pixels, <x²> = (4/3, 8/5)
    [("pooled", 2 / 9, 6 / 25), ("spatial", 11 / 9, 31 / 25)],
)
def test_mode_group_norm_of_one_sample(moments, var_1, var_2):
    # channels (−1, 1) and (0, 2): means 0, 1, gates (1/2, 1/2), (1/4, 3/4), w_1 = (2/3, 1/3), w_2 = (2/5, 3/5),
    # mu = (1/3, 3/5); the modes' outputs are averaged, not gated
    x = np.array([[[-1.0, 1.0], [0.0, 2.0]]])
    y = R.mode_group_norm(x, np.array([3.0, 5.0]), np.array([7.0, 9.0]), **PSI, eps=0.5, moments=moments)
    s_1, s_2 = sqrt(var_1 + 0.5), sqrt(var_2 + 0.5)
    xhat = [[((v - 1 / 3) / s_1 + (v - 3 / 5) / s_2) / 2 for v in channel] for channel in x[0]]
    close(y[0], [[3 * v + 7 for v in xhat[0]], [5 * v + 9 for v in xhat[1]]])


def test_conv2d_with_stride_and_padding():
    # image  1 2 3   kernel 10 1, stride (1, 2), padding (0, 1): columns of the padded rows 0 1 2 3 0 from 0 and 2
    #        4 5 6
    x = np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    y = R.conv2d(x, np.array([[[[10.0, 1.0]]]]), np.array([0.5]), stride=(1, 2), padding=(0, 1))
    close(y, [[[[1.5, 23.5], [4.5, 56.5]]]])


def test_conv2d_sums_over_the_input_channels_and_does_not_flip_the_kernel():
    x = np.array([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    weight = np.array([[[[1.0, 10.0]], [[100.0, 1000.0]]], [[[5.0, 0.0]], [[0.0, 7.0]]]])
    close(R.conv2d(x, weight), [[[[1 + 20 + 300 + 4000]], [[5 + 28]]]])


def test_max_pool2d_gives_a_tie_to_the_first_in_row_major_order():
    x = np.array([[[[1.0, 6.0, 2.0], [6.0, 6.0, 9.0]]]])
    close(R.max_pool2d(x, 2, stride=1), [[[[6, 9]]]])
    close(R.max_pool2d_backward(np.array([[[[5.0, 7.0]]]]), x, 2, stride=1)["dx"], [[[[0, 5, 0], [0, 0, 7]]]])


def test_max_pool2d_pads_with_minus_infinity_and_avg_pool2d_counts_zeros():
    x = np.array([[[[-4.0, -2.0], [-8.0, -6.0]]]])
    close(R.max_pool2d(x, 2, stride=2, padding=1), [[[[-4, -2], [-8, -6]]]])
    close(R.avg_pool2d(x, 2, stride=2, padding=1), [[[[-1, -0.5], [-2, -1.5]]]])


def test_pooling_with_a_kernel_that_is_not_square():
    # kernel 1 × 3, stride 1 × 2: columns 0 to 2 and 2 to 4
    x = np.array([[[[1.0, 2.0, 6.0, 3.0, 9.0]]]])
    close(R.max_pool2d(x, (1, 3), (1, 2)), [[[[6, 9]]]])
    close(R.avg_pool2d(x, (1, 3), (1, 2)), [[[[3, 6]]]])
    dy = np.array([[[[30.0, 60.0]]]])
    close(R.max_pool2d_backward(dy, x, (1, 3), (1, 2))["dx"], [[[[0, 0, 30, 0, 60]]]])
    close(R.avg_pool2d_backward(dy, x, (1, 3), (1, 2))["dx"], [[[[10, 10, 30, 20, 20]]]])


def test_linear_of_one_sample():
    y = R.linear(np.array([[1.0, 2.0, 3.0]]), np.array([[100.0, 10.0, 1.0], [0.0, 1.0, 0.0]]), np.array([0.5, 0.25]))
    close(y, [[123.5, 2.25]])


def test_softmax_cross_entropy_of_two_samples():
    # p = (1/4, 3/4) and (2/5, 3/5), labels 1 and 0
    logits, labels = np.log([[1.0, 3.0], [2.0, 3.0]]), np.array([1, 0])
    close(R.softmax_cross_entropy(logits, labels), (log(4 / 3) + log(5 / 2)) / 2)
    close(R.softmax_cross_entropy_backward(6.0, logits, labels)["dlogits"], [[3 / 4, -3 / 4], [-9 / 5, 9 / 5]])
