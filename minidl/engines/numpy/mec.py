"""Convolution on the CPU by memory-efficient lowering (MEC, Cho & Brand 2017), in the batch-innermost format.

Forward. x is lowered along its width only: L[h, c, j, w, n] = x[c, h, sw·w + j − pw, n], kw times the input where
im2col takes kh·kw times. Flattened to rows (H, C·kw, Wo·N), the im2col matrix of output row h is the contiguous view
L[sh·h : sh·h + kh], since the windows of neighbouring rows overlap: one GEMM per row and no further copy.

Backward uses the same views: dweight is the sum over rows of dy_h · viewᵀ. For dx the roles change: the rows of dL that
meet input row a are gathered by one GEMM over the contiguous view of the output rows that touched it, and kw shifted
adds undo the lowering. With stride sh the input rows fall into sh phases, each with its own rows of the kernel.

Two output rows share one GEMM where there are few output channels (`_rows_per_gemm`): OpenBLAS computes 12 rows at a
time, and LeNet's 6 would leave half of them idle. docs/convolution.md shows all of this in pictures and figures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from minidl import memory, parallel
from minidl.engine import NUMPY
from minidl.layers import conv
from minidl.parallel import scratch

Pair = tuple[int, int]

_COLUMNS = 1024  # columns of a GEMM, about: its lowered tile then stays near the core's cache
_SPLIT = 1 << 18  # values of one row's matrix, above which two threads should share it
_BAND = 1 << 17  # values of dL worked on at a time


@NUMPY.twin(conv.conv2d)
def conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: Pair, padding: Pair) -> np.ndarray:
    """y[n,o] = sum_cij weight[o,c,i,j] · x[n, c, sh·h + i − ph, sw·w + j − pw] + bias[o]."""
    o, n = len(weight), len(x)
    xt = _padded(memory.batch_last(np, x, weight.dtype), padding)  # (C, H, W, N)
    ho, wo = ((size - k) // step + 1 for size, k, step in zip(xt.shape[1:3], weight.shape[2:], stride, strict=True))
    y: np.ndarray = memory.images(np, (n, o, ho, wo), weight.dtype)
    yt = memory.batch_last(np, y)  # (O, Ho, Wo, N)
    r = _rows_per_gemm(o, ho)
    w2 = _spread_rows(weight, r, stride[0])  # (r·O, k·C·kw)
    tiles = _tiles(wo, n, weight[0].size)

    def tile(i: int) -> None:
        a, b = tiles[i]
        rows = _lower(xt, weight.shape, stride, a, b, ho, r)  # (Ho/r, k·C·kw, columns)
        out = scratch("out", (ho // r, r * o, (b - a) * n), weight.dtype)
        np.matmul(w2, rows, out=out)
        out = out.reshape(ho // r, r, o, b - a, n).transpose(2, 0, 1, 3, 4)
        target = yt.reshape(o, ho // r, r, wo, n)[:, :, :, a:b]
        if bias is None:
            target[...] = out
        else:
            np.add(out, bias[:, None, None, None, None], out=target)

    parallel.run(tile, len(tiles), products=y.size * weight[0].size)
    return y


@NUMPY.twin(conv.conv2d_backward)
def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: Pair,
    padding: Pair,
    needs_dx: bool = True,
    needs_dbias: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Return dx, dweight and dbias of `conv2d`; dx and dbias are None unless needed."""
    dyt = memory.batch_last(np, dy, weight.dtype)  # (O, Ho, Wo, N)
    xt = _padded(memory.batch_last(np, x, weight.dtype), padding)  # (C, H, W, N)
    tasks, sums = _weight_gradient(dyt, xt, weight, stride)
    dx = None
    if needs_dx:
        more, dx = _input_gradient(dyt, x.shape, weight, stride, padding)
        tasks += more
    parallel.run(lambda i: tasks[i](), len(tasks), products=dy.size * weight[0].size)
    dweight = _gather_rows(np.add.reduce(sums, axis=0).T, weight.shape, stride[0])
    dbias = dyt.reshape(len(dyt), -1) @ np.ones(dyt[0].size, dyt.dtype) if needs_dbias else None
    return dx, dweight, dbias


def _weight_gradient(
    dyt: np.ndarray, xt: np.ndarray, weight: np.ndarray, stride: Pair
) -> tuple[list[Callable[[], None]], np.ndarray]:
    """Return tasks, and an array that they fill: each tile's sum over rows h of view · dy_hᵀ, dweight's transpose.

    In this order the product takes half the time: OpenBLAS reads the long matrix as it lies, and turns the short one.
    """
    (o, c, kh, kw), (_, ho, wo, n) = weight.shape, dyt.shape
    r = _rows_per_gemm(o, ho)
    k = kh + (r - 1) * stride[0]
    tiles = _tiles(wo, n, weight[0].size)
    sums = np.empty((len(tiles), k * c * kw, r * o), weight.dtype)
    rows_at_once = max(1, (1 << 20) // sums[0].size)

    def tile(a: int, b: int, total: np.ndarray) -> None:
        rows = _lower(xt, weight.shape, stride, a, b, ho, r)  # (Ho/r, k·C·kw, columns)
        dout = scratch("out", (ho // r, r, o, b - a, n), weight.dtype)
        dout[...] = dyt.reshape(o, ho // r, r, wo, n)[:, :, :, a:b].transpose(1, 2, 0, 3, 4)
        dout = dout.reshape(ho // r, r * o, (b - a) * n).transpose(0, 2, 1)
        for start in range(0, ho // r, rows_at_once):
            some = slice(start, start + rows_at_once)
            products = scratch("products", (len(dout[some]), *total.shape), weight.dtype)
            np.matmul(rows[some], dout[some], out=products)
            if start == 0:
                np.add.reduce(products, axis=0, out=total)
            else:
                total += np.add.reduce(products, axis=0)

    return [partial(tile, a, b, total) for (a, b), total in zip(tiles, sums, strict=True)], sums


def _input_gradient(
    dyt: np.ndarray, shape: tuple[int, ...], weight: np.ndarray, stride: Pair, padding: Pair
) -> tuple[list[Callable[[], None]], np.ndarray]:
    """Return tasks, and dx that they fill: dL_a = W_phaseᵀ · (the rows of dy that met input row a), kw shifted adds."""
    (o, c, kh, kw), (_, ho, wo, n) = weight.shape, dyt.shape
    (sh, sw), (ph, pw) = stride, padding
    h, w = shape[2:]
    taps = -(-kh // sh)  # kernel rows in the longest phase: so many output rows meet an input row
    last = (h - 1 + ph) // sh  # the largest output row, real or not, that an input row asks for
    padded = memory.empty(np, (taps - 1 + max(ho, last + 1), o, wo * n), weight.dtype)
    padded[: taps - 1] = 0
    padded[taps - 1 + ho :] = 0
    padded[taps - 1 : taps - 1 + ho] = dyt.reshape(o, ho, wo * n).transpose(1, 0, 2)

    dx: np.ndarray = memory.images(np, (n, c, h, w), weight.dtype)
    dxt = memory.batch_last(np, dx)  # (C, H, W, N)
    band = max(1, _BAND // (c * kw * wo * n))

    def rows_of_dx(w_phase: np.ndarray, some: range, met: np.ndarray) -> None:
        target = dxt[:, some.start : some.stop : sh]  # (C, rows, W, N)
        target[...] = 0
        if w_phase.shape[1] == 0:
            return
        row = wo * n * met.itemsize
        met = _overlapping(met, (len(some), w_phase.shape[1], wo * n), (o * row, row, met.itemsize))
        lowered = scratch("lowered", (len(some), c, kw, wo, n), weight.dtype)
        np.matmul(w_phase, met, out=lowered.reshape(len(some), c * kw, wo * n))
        for j in range(kw):
            lo, hi, at = _valid(j - pw, sw, wo, w)
            target[:, :, at : at + sw * (hi - lo) : sw] += lowered[:, :, j, lo:hi].transpose(1, 0, 2, 3)

    tasks: list[Callable[[], None]] = []
    for phase in range(min(sh, h)):
        kernel_rows = weight[:, :, (phase + ph) % sh :: sh][:, :, ::-1]  # from the last: ascending output rows
        w_phase = kernel_rows.transpose(1, 3, 2, 0).reshape(c * kw, -1)  # (C·kw, taps·O)
        rows = range(phase, h, sh)
        for start in range(0, len(rows), band):
            some = rows[start : start + band]
            top = taps - 1 + (some[0] + ph) // sh - (kernel_rows.shape[2] - 1)
            tasks.append(partial(rows_of_dx, w_phase, some, padded[top:]))
    return tasks, dx


def _tiles(wo: int, n: int, depth: int) -> list[Pair]:
    """Cut the output's columns into tiles: of about _COLUMNS columns of the matrix, two at least where it pays."""
    width = max(1, _COLUMNS // n)
    if wo * n * depth > _SPLIT:
        width = min(width, -(-wo // 2))
    return parallel.partition(wo, width)


def _padded(xt: np.ndarray, padding: Pair) -> np.ndarray:
    """Return x (C, H, W, N) with ph rows and pw columns of zeros around it."""
    if padding == (0, 0):
        return xt
    (ph, pw), (c, h, w, n) = padding, xt.shape
    padded: np.ndarray = memory.empty(np, (c, h + 2 * ph, w + 2 * pw, n), xt.dtype)
    padded[:, :ph] = padded[:, ph + h :] = 0
    padded[:, ph : ph + h, :pw] = padded[:, ph : ph + h, pw + w :] = 0
    padded[:, ph : ph + h, pw : pw + w] = xt
    return padded


def _lower(xt: np.ndarray, weight: tuple[int, ...], stride: Pair, a: int, b: int, ho: int, r: int) -> np.ndarray:
    """Lower the columns that outputs a:b meet; return the (Ho/r, k·C·kw, (b−a)·N) view of overlapping rows."""
    (_, c, kh, kw), (_, h, w, n), (sh, sw) = weight, xt.shape, stride
    one = xt.itemsize
    column, row, plane = n * one, w * n * one, h * w * n * one  # strides of x, also where an axis has length 1
    lowered = scratch("lowered", (h, c, kw, b - a, n), xt.dtype)
    lowered[...] = _overlapping(xt, lowered.shape, (row, plane, column, sw * column, one), sw * a * column)
    rows, taps, columns = ho // r, (kh + (r - 1) * sh) * c * kw, (b - a) * n
    row = c * kw * columns * one
    return _overlapping(lowered, (rows, taps, columns), (r * sh * row, columns * one, one))


def _overlapping(array: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """View the memory of a contiguous array as windows that overlap (as_strided does it too, eight times slower)."""
    return np.ndarray(shape, array.dtype, array, offset, strides)


def _valid(first: int, step: int, count: int, size: int) -> tuple[int, int, int]:
    """For positions first + step·i, i < count: the range lo:hi of i inside range(size), and the position of lo."""
    lo = min(count, max(0, -(first // step)))
    hi = max(lo, min(count, (size - 1 - first) // step + 1))
    return lo, hi, max(0, first + step * lo)


def _rows_per_gemm(out_channels: int, ho: int) -> int:
    """2 where one row would leave the GEMM's micro-kernel half empty, else 1."""
    return 2 if out_channels <= 8 and ho % 2 == 0 else 1


def _spread_rows(weight: np.ndarray, r: int, sh: int) -> np.ndarray:
    """Return the matrix (r·O, k·C·kw) that computes r output rows at once: shifted copies of W2, zeros around them."""
    o, c, kh, kw = weight.shape
    if r == 1:
        return weight.transpose(0, 2, 1, 3).reshape(o, -1)
    spread = np.zeros((r, o, kh + (r - 1) * sh, c, kw), weight.dtype)
    for p in range(r):
        spread[p, :, p * sh : p * sh + kh] = weight.transpose(0, 2, 1, 3)
    return spread.reshape(r * o, -1)


def _gather_rows(dspread: np.ndarray, shape: tuple[int, ...], sh: int) -> np.ndarray:
    """Add the shifted copies up again: the adjoint of `_spread_rows`."""
    o, c, kh, kw = shape
    r = len(dspread) // o
    spread = dspread.reshape(r, o, kh + (r - 1) * sh, c, kw)
    dweight = spread[0, :, :kh]
    for p in range(1, r):
        dweight = dweight + spread[p, :, p * sh : p * sh + kh]
    return dweight.transpose(0, 2, 1, 3)  # (O, kh, C, kw) -> (O, C, kh, kw)
