"""Layers that follow each other, computed in one pass: a norm and ReLU, and a norm, pooling by 2×2 and ReLU.

Each layer keeps what it keeps alone, so that each can also go backward alone; only the arrays between them are never
made. Forward rounds as the layers do one by one. What pooling does not hand on adds nothing to the norm's sums: in
backward these run over the windows' maxima alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minidl import memory
from minidl.arguments import arithmetic
from minidl.backend import Array
from minidl.engine import NUMBA
from minidl.engines.numba.compile import jit
from minidl.engines.numba.jobs import shared
from minidl.engines.numba.norm import Centred, counts, parts, rows
from minidl.engines.numba.norm_loops import add_block, add_up, backward_rows, begin_sums, is_last, scale_shift_rows
from minidl.engines.numba.share import share
from minidl.layers import compose
from minidl.layers.activation import ReLU
from minidl.layers.base import Layer, read_only
from minidl.layers.pool import MaxPool2d
from minidl.norm.base import Norm
from minidl.norm.moments import scale_shift

_NOTHING = np.empty(0)
_BEHIND = (ReLU,), (MaxPool2d, ReLU)  # a norm
_BLOCK = 32  # rows that are summed in the precision of x
_FEW = 8  # samples: loops over fewer are too short to be vectorised


class Behind(NamedTuple):
    """What came of the layers behind a norm, kept with x − m: y, and who won the pooling, and x there."""

    y: Array
    won: Array | None
    winners: Array


@NUMBA.twin(compose.forward_through)
def forward_through(layers: Sequence[Layer], x: Array) -> Array:
    """y = f_n(... f_1(x))."""
    for start, stop, together in _parts(tuple(map(type, layers))):
        some = layers[start:stop]
        if together and _fits(some, x):
            x = _forward(some[0], some[1:], x)
            for layer in some:
                layer._output_shape = x.shape
            if stop - start > 2:
                some[0]._output_shape = (*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        else:
            x = compose.forward_through(some, x)
    return x


@NUMBA.twin(compose.backward_through)
def backward_through(layers: Sequence[Layer], dy: Array) -> Array:
    """dx = f_1'(... f_n'(dy))."""
    for start, stop, together in reversed(_parts(tuple(map(type, layers)))):
        some = layers[start:stop]
        if together and _went_together(some, dy):
            dy = _backward(some[0], some[1:], dy)
        else:
            dy = compose.backward_through(some, dy)
    return dy


@lru_cache(256)
def _parts(kinds: tuple[Any, ...]) -> list[tuple[int, int, bool]]:
    """Cut layers of these types into those that may go together (True) and those between them.

    >>> from minidl import BatchNorm, Linear
    >>> _parts((Linear, BatchNorm, ReLU, Linear))
    [(0, 1, False), (1, 3, True), (3, 4, False)]
    """
    parts, start, i = [], 0, 0
    while i < len(kinds):
        size = 0
        if issubclass(kinds[i], Norm) and kinds[i]._written == Norm._written:
            size = next((1 + len(those) for those in _BEHIND if kinds[i + 1 : i + 1 + len(those)] == those), 0)
        if size:
            parts += [(start, i, False)] * (start < i) + [(i, i + size, True)]
            start = i + size
        i += size or 1
    return parts + [(start, i, False)] * (start < i)


def _fits(layers: Sequence[Any], x: Array) -> bool:
    """Tell whether these layers may go together over x."""
    if x.ndim != 4 or x.size == 0 or x.dtype.char not in "fd":
        return False
    if any(map(_replaced, layers)):
        return False
    return len(layers) == 2 or (layers[1]._window == ((2, 2), (2, 2), (0, 0)) and x.shape[2] % 2 == x.shape[3] % 2 == 0)


def _replaced(layer: Any) -> bool:
    """Tell whether somebody put another forward or backward in the place of a layer's, or of its class's."""
    of, kind = layer.__dict__, type(layer)
    return "forward" in of or "backward" in of or (kind.forward, kind.backward) != kind._written


@arithmetic()
def _forward(norm: Any, behind: Sequence[Layer], x: Array) -> Array:
    on = norm._check(x)
    centred, s, u, kept = norm.scale_and_shift(on, x)
    if not isinstance(centred, Centred):
        norm.keep(on, centred, s, kept, of=x, shape=x.shape)
        return compose.forward_through(behind, on(scale_shift)(centred, s, u, x.dtype))
    flat, m0, delta, shape, layout, _ = centred
    small = m0, delta, rows(s), rows(u)
    if len(behind) == 1:
        made = memory.empty(np, shape, x.dtype)
        share(layout[0], x.size, _scale_relu, flat, *small, made.reshape(-1), *layout)
        won, winners = None, flat
    else:
        c, h, w, n = shape
        made, winners = memory.empty(np, (2, c, h // 2, w // 2, n), x.dtype)
        won = memory.empty(np, made.shape, np.uint8)
        arrays = made.reshape(-1), won.reshape(-1), winners.reshape(-1)
        share(c * (h // 2), x.size, _scale_pool_relu, flat, *small, *arrays, h, w)
        behind[0].keep(on, _NOTHING, x.shape, won, shape=(n, c, h // 2, w // 2))
        winners = arrays[2]
    y = read_only(memory.batch_first(made))
    behind[-1].keep(on, y, shape=y.shape)
    centred = Centred(flat, m0, delta, shape, layout, Behind(y, won, winners))
    norm.keep(on, centred, s, kept, of=x, shape=x.shape)
    return y


def _went_together(layers: Sequence[Layer], dy: Array) -> bool:
    """Tell whether these layers went forward together, and dy fits what they gave."""
    for layer in layers:
        if layer._kept is None or _replaced(layer):
            return False
    centred, y = layers[0]._kept[1][1], layers[-1]._kept[1][1]
    if not isinstance(centred, Centred) or centred.behind is None or centred.behind.y is not y:
        return False
    if len(layers) == 3 and centred.behind.won is not layers[1]._kept[1][3]:
        return False
    return isinstance(dy, np.ndarray) and dy.shape == y.shape and dy.dtype == y.dtype


@arithmetic()
def _backward(norm: Any, behind: Sequence[Layer], dy: Array) -> Array:
    for layer in behind:  # `_went_together` looked at dy
        layer.take_kept()
    training, (on, centred, s, kept) = norm.take_kept()
    x, m0, delta, shape, (p, pixels), (y, won, winners) = centred
    dyt, yt = memory.batch_last(np, dy).reshape(-1), memory.batch_last(np, y).reshape(-1)
    some = parts(x.size, winners.size // m0.size, pixels)
    sums = np.empty((some, 2, *m0.shape))
    share(some * len(m0), x.size, _sums_where, dyt, yt, winners, m0, delta, sums, counts(some, len(m0)), pixels)
    (ds, du), dx = sums[0], memory.empty(np, shape, x.dtype)
    dm, dv = norm.scale_and_shift_backward(on, ds.T, du.T, training, kept)
    small = m0, delta, rows(s), du, rows(dm), rows(dv)
    if won is None:
        share(p, 2 * x.size, _backward_relu, dyt, yt, x, *small, dx.reshape(-1), pixels)
    else:
        c, h, w, n = shape
        kernel = _backward_pool_relu if n >= _FEW else _backward_pool_relu_of_few
        share(c * (h // 2), 2 * x.size, kernel, dyt, yt, won.reshape(-1), x, *small, dx.reshape(-1), h, w)
    return memory.batch_first(dx)


# -- compiled: arrays are flat but for the small ones (C, N) -----------------------------------------------------------


@jit(inner=True)
def _rows(start, stop, channel, channels):
    """Return the rows r of a channel, first and last, for which start <= r·channels + channel < stop."""
    return (start - channel + channels - 1) // channels, (stop - channel + channels - 1) // channels


@shared(in_order=True, apart=True)
def _scale_relu(x, m0, delta, s, u, y, p, pixels, start, stop, thread):
    """Take the pixels start to stop of all channels, as a convolution is shared out."""
    channels, n = m0.shape
    lanes, zero = np.uint64(pixels * n), x.dtype.type(0)
    m, scale, shift = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    for c in range(channels):
        scale_shift_rows(m, scale, shift, m0, delta, s, u, c)
        a, end = np.uint64((c * p + start) * n), np.uint64((c * p + stop) * n)
        while a < end:
            for j in range(min(lanes, end - a)):
                t = (x[a + j] - m[j]) * scale[j] + shift[j]
                y[a + j] = zero if t <= zero else t
            a += lanes


@shared(in_order=True, apart=True)
def _scale_pool_relu(x, m0, delta, s, u, y, won, winners, h, w, start, stop, thread):
    """Take the rows of windows start to stop, counted through the channels of a row first: see `_rows`."""
    channels, n = m0.shape
    size, zero = np.uint64(n), x.dtype.type(0)
    m, scale, shift = np.empty(n, x.dtype), np.empty(n, x.dtype), np.empty(n, x.dtype)
    for channel in range(channels):
        scale_shift_rows(m, scale, shift, m0, delta, s, u, channel)
        first, last = _rows(start, stop, channel, channels)
        out = np.uint64((channel * (h // 2) + first) * (w // 2) * n)
        for r in range(2 * first, 2 * last, 2):
            a = np.uint64((channel * h + r) * w * n)
            for _ in range(w // 2):
                b = a + size
                c, d = a + np.uint64(w * n), b + np.uint64(w * n)
                for i in range(size):
                    best, tap, at = (x[a + i] - m[i]) * scale[i] + shift[i], np.uint8(0), x[a + i]
                    v = (x[b + i] - m[i]) * scale[i] + shift[i]
                    take = (v > best) | (v != v)
                    best, tap, at = v if take else best, np.uint8(1) if take else tap, x[b + i] if take else at
                    v = (x[c + i] - m[i]) * scale[i] + shift[i]
                    take = (v > best) | (v != v)
                    best, tap, at = v if take else best, np.uint8(2) if take else tap, x[c + i] if take else at
                    v = (x[d + i] - m[i]) * scale[i] + shift[i]
                    take = (v > best) | (v != v)
                    best, tap, at = v if take else best, np.uint8(3) if take else tap, x[d + i] if take else at
                    y[out + i], won[out + i], winners[out + i] = zero if best <= zero else best, tap, at
                a, out = b + size, out + size


@shared(in_order=True, apart=True)
def _sums_where(dy, y, x, m0, delta, out, done, pixels, start, stop, thread):
    """Do as `write_sums` for the sums of dy·(x − m0) and of dy where y > 0."""
    parts, (channels, n) = len(out), m0.shape
    lanes, zero = np.uint64(pixels * n), x.dtype.type(0)
    m, first, second = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    p = len(dy) // (channels * n)
    rows = p // pixels
    for unit in range(start, stop):
        part, c = unit // channels, unit % channels
        begin_sums(out[part], m, m0, c)
        a = np.uint64((c * p + part * rows // parts * pixels) * n)
        end = np.uint64((c * p + (p if part == parts - 1 else (part + 1) * rows // parts * pixels)) * n)
        while a < end:
            for j in range(lanes):
                first[j] = second[j] = 0
            until = min(a + np.uint64(_BLOCK) * lanes, end)
            while a < until:
                for j in range(min(lanes, until - a)):
                    g = dy[a + j] * (y[a + j] > zero)
                    first[j] += g * (x[a + j] - m[j])
                    second[j] += g
                a += lanes
            a = until
            add_block(out[part], first, second, c)
        if is_last(done, c, parts):
            add_up(out, delta, c)


@shared(in_order=True, apart=True)
def _backward_relu(dy, y, x, m0, delta, s, du, dm, dv, dx, pixels, start, stop, thread):
    channels, n = m0.shape
    lanes, zero = np.uint64(pixels * n), x.dtype.type(0)
    m, scale = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    slope, shift = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    p = len(x) // channels // n
    for c in range(channels):
        backward_rows(m, scale, slope, shift, m0, delta, s, du, dm, dv, c, p)
        a, end = np.uint64((c * p + start) * n), np.uint64((c * p + stop) * n)
        while a < end:
            for j in range(min(lanes, end - a)):
                g = dy[a + j] * (y[a + j] > zero)
                dx[a + j] = g * scale[j] + ((x[a + j] - m[j]) * slope[j] + shift[j])
            a += lanes


@shared(in_order=True, apart=True)
def _backward_pool_relu(dy, y, won, x, m0, delta, s, du, dm, dv, dx, h, w, start, stop, thread):
    channels, n = m0.shape
    size, zero, p = np.uint64(n), x.dtype.type(0), h * w
    m, scale = np.empty(n, x.dtype), np.empty(n, x.dtype)
    slope, shift = np.empty(n, x.dtype), np.empty(n, x.dtype)
    for channel in range(channels):
        backward_rows(m, scale, slope, shift, m0, delta, s, du, dm, dv, channel, p)
        first, last = _rows(start, stop, channel, channels)
        at = np.uint64((channel * (h // 2) + first) * (w // 2) * n)
        for r in range(2 * first, 2 * last, 2):
            a = np.uint64((channel * h + r) * w * n)
            for _ in range(w // 2):
                b = a + size
                c, d = a + np.uint64(w * n), b + np.uint64(w * n)
                for i in range(size):
                    g = dy[at + i] * (y[at + i] > zero) * scale[i]
                    tap = won[at + i]
                    dx[a + i] = (g if tap == 0 else zero) + ((x[a + i] - m[i]) * slope[i] + shift[i])
                    dx[b + i] = (g if tap == 1 else zero) + ((x[b + i] - m[i]) * slope[i] + shift[i])
                    dx[c + i] = (g if tap == 2 else zero) + ((x[c + i] - m[i]) * slope[i] + shift[i])
                    dx[d + i] = (g if tap == 3 else zero) + ((x[d + i] - m[i]) * slope[i] + shift[i])
                a, at = b + size, at + size


@shared(in_order=True, apart=True)
def _backward_pool_relu_of_few(dy, y, won, x, m0, delta, s, du, dm, dv, dx, h, w, start, stop, thread):
    """Do as `_backward_pool_relu`: all along two rows of x, and then at the windows' maxima."""
    channels, n = m0.shape
    lanes, half, zero, p = np.uint64(2 * w * n), np.uint64(w // 2 * n), x.dtype.type(0), h * w
    m, scale = np.empty(lanes, x.dtype), np.empty(half, x.dtype)
    slope, shift, g = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype), np.empty(half, x.dtype)
    place = np.empty((half, 4), np.uint64)  # in the two rows, of each value of a window's row, and each tap
    for j in range(half):
        corner = j // np.uint64(n) * np.uint64(2 * n) + j % np.uint64(n)
        for tap in range(4):
            place[j, tap] = corner + np.uint64(tap % 2 * n + tap // 2 * w * n)
    for channel in range(channels):
        backward_rows(m, scale, slope, shift, m0, delta, s, du, dm, dv, channel, p)
        first, last = _rows(start, stop, channel, channels)
        row = np.uint64(channel * (h // 2) + first)
        at, a = row * half, row * lanes
        for _ in range(first, last):
            for j in range(half):
                g[j] = dy[at + j] * (y[at + j] > zero) * scale[j]
            for j in range(lanes):
                dx[a + j] = (x[a + j] - m[j]) * slope[j] + shift[j]
            for j in range(half):
                dx[a + place[j, won[at + j]]] += g[j]
            a, at = a + lanes, at + half
