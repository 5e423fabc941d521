"""Convolution (cross-correlation, as in every deep-learning library): one dot product a window."""

import numpy as np

from minidl.reference.arrays import Array, check_shapes, common_precision
from minidl.reference.windows import Pair, output_size, pair


def conv2d(x: Array, weight: Array, bias: Array | None = None, stride: Pair = 1, padding: Pair = 0) -> Array:
    """Slide every kernel over every image.

    y_noij = sum_cab weight_ocab · x_n,c,i·stride+a−padding,j·stride+b−padding + bias_o,  x being 0 outside the image

    Parameters
    ----------
    x : array
        The images.
    weight, bias : array
        The kernels, and one number per kernel or None.
    stride, padding : int or (int, int)
        For both directions, or for height and width.

    Raises
    ------
    ValueError
        If a shape is not one of these, or no window fits.

    >>> conv2d(np.array([[[[1.0, 2.0, 3.0]]]]), weight=np.array([[[[10.0, 1.0]]]]), bias=np.array([0.5]))
    array([[[[12.5, 23.5]]]])

    Notes
    -----
    Shape: x : (N, C, H, W);  weight : (O, C, kh, kw);  bias : (O,);  y : (N, O, Ho, Wo) with
    Ho = floor((H + 2·padding − kh) / stride) + 1
    """
    x, weight, b = common_precision(x, weight, np.zeros(len(weight)) if bias is None else bias)
    (sh, sw), (ph, pw) = pair(stride), pair(padding)
    O, _, kh, kw = weight.shape
    Ho, Wo = output_size("conv2d", x, (kh, kw), stride, padding)
    check_shapes("conv2d", weight=(weight, (O, x.shape[1], kh, kw)), bias=(b, (O,)))
    xp = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)])
    y = np.empty((len(x), O, Ho, Wo), x.dtype)
    for n in range(len(x)):
        for o in range(O):
            for i in range(Ho):
                for j in range(Wo):
                    window = xp[n, :, i * sh : i * sh + kh, j * sw : j * sw + kw]  # (C, kh, kw)
                    y[n, o, i, j] = (weight[o] * window).sum() + b[o]
    return y


def conv2d_backward(
    dy: Array, x: Array, weight: Array, bias: Array | None = None, stride: Pair = 1, padding: Pair = 0
) -> dict[str, Array]:
    """Return dx, dweight and, unless bias is None, dbias of :func:`conv2d`.

    Each window's dot product gives dx[window] += dy · weight_o,  dweight_o += dy · x[window],  dbias_o += dy.
    """
    dy, x, weight, b = common_precision(dy, x, weight, np.zeros(len(weight)) if bias is None else bias)
    (sh, sw), (ph, pw) = pair(stride), pair(padding)
    (O, _, kh, kw), (H, W) = weight.shape, x.shape[2:]
    Ho, Wo = output_size("conv2d_backward", x, (kh, kw), stride, padding)
    check_shapes("conv2d_backward", weight=(weight, (O, x.shape[1], kh, kw)), bias=(b, (O,)))
    check_shapes("conv2d_backward", dy=(dy, (len(x), O, Ho, Wo)))
    xp = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)])
    dxp, dweight, dbias = np.zeros_like(xp), np.zeros_like(weight), np.zeros_like(b)
    for n in range(len(x)):
        for o in range(O):
            for i in range(Ho):
                for j in range(Wo):
                    window = (n, slice(None), slice(i * sh, i * sh + kh), slice(j * sw, j * sw + kw))  # (C, kh, kw)
                    dxp[window] += dy[n, o, i, j] * weight[o]
                    dweight[o] += dy[n, o, i, j] * xp[window]
                    dbias[o] += dy[n, o, i, j]
    grads = {"dx": dxp[:, :, ph : ph + H, pw : pw + W], "dweight": dweight}
    return grads if bias is None else grads | {"dbias": dbias}
