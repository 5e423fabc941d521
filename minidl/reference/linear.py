"""The linear layer."""

import numpy as np

from minidl.reference.arrays import Array, check_shapes, common_precision


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Take the dot product of each sample with each row of the weight.

    y_no = sum_i weight_oi x_ni + bias_o

    Parameters
    ----------
    x : array
        The batch.
    weight, bias : array
        One row, and one number or None, an output.

    Raises
    ------
    ValueError
        If a shape is not one of these.

    >>> linear(np.array([[1.0, 2.0]]), weight=np.array([[10.0, 1.0]]), bias=np.array([0.5]))
    array([[12.5]])

    Notes
    -----
    Shape: x : (N, I);  weight : (O, I);  bias : (O,);  y : (N, O)
    """
    x, weight, b = common_precision(x, weight, np.zeros(len(weight)) if bias is None else bias)
    N, O = len(x), len(weight)
    check_shapes("linear", x=(x, (N, weight.shape[1])), bias=(b, (O,)))
    y = np.empty((N, O), x.dtype)
    for n in range(N):
        for o in range(O):
            y[n, o] = (weight[o] * x[n]).sum() + b[o]
    return y


def linear_backward(dy: Array, x: Array, weight: Array, bias: Array | None = None) -> dict[str, Array]:
    """Return dx, dweight and, unless bias is None, dbias of :func:`linear`.

    dx_n = sum_o dy_no weight_o,  dweight_o = sum_n dy_no x_n,  dbias_o = sum_n dy_no
    """
    dy, x, weight, b = common_precision(dy, x, weight, np.zeros(len(weight)) if bias is None else bias)
    N, O = len(x), len(weight)
    check_shapes("linear_backward", x=(x, (N, weight.shape[1])), bias=(b, (O,)), dy=(dy, (N, O)))
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(b)
    for n in range(N):
        for o in range(O):
            dx[n] += dy[n, o] * weight[o]
            dweight[o] += dy[n, o] * x[n]
            dbias[o] += dy[n, o]
    grads = {"dx": dx, "dweight": dweight}
    return grads if bias is None else grads | {"dbias": dbias}
