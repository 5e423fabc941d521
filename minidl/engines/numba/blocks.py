"""Sums of products that stay in registers: one vector, or two side by side, of each of six or four rows.

    out[y + r·ldo + m] (+)= sum over t0 <= t < t1 of weight[w + r·row + (t − t0)·tap] · x[at + offset[t] + m]

for the rows r and the m of a vector. A processor begins eight sums and more in the time that one takes: six rows of one
vector keep it waiting, where it has the registers for twelve.
"""

from __future__ import annotations

from minidl.engines.numba.compile import jit
from minidl.engines.numba.vector import fma, load, pick, spread_at, store, width, zeros


@jit(inner=True)
def finish(out, y, a, fresh):
    """Write a row's sums, or add them to what is there."""
    if fresh:
        store(out, y, a)
    else:
        store(out, y, load(out, y) + a)


@jit(inner=True)
def finish_twice(out, y, a, b, fresh):
    """Do so for two vectors."""
    finish(out, y, a, fresh)
    finish(out, y + width(out), b, fresh)


@jit(inner=True)
def six(x, at, offset, t0, t1, weight, w, row, tap, out, y, ldo, fresh):
    """Sum one vector of each of six rows."""
    a0 = a1 = a2 = a3 = a4 = a5 = zeros(out)
    for t in range(t0, t1):
        v = load(x, at + pick(offset, t))
        a0 = fma(spread_at(weight, w), v, a0)
        a1 = fma(spread_at(weight, w + row), v, a1)
        a2 = fma(spread_at(weight, w + 2 * row), v, a2)
        a3 = fma(spread_at(weight, w + 3 * row), v, a3)
        a4 = fma(spread_at(weight, w + 4 * row), v, a4)
        a5 = fma(spread_at(weight, w + 5 * row), v, a5)
        w += tap
    finish(out, y, a0, fresh)
    finish(out, y + ldo, a1, fresh)
    finish(out, y + 2 * ldo, a2, fresh)
    finish(out, y + 3 * ldo, a3, fresh)
    finish(out, y + 4 * ldo, a4, fresh)
    finish(out, y + 5 * ldo, a5, fresh)


@jit(inner=True)
def six_twice(x, at, offset, t0, t1, weight, w, row, tap, out, y, ldo, fresh):
    """Sum two vectors of each of six rows."""
    lanes = width(out)
    a0 = a1 = a2 = a3 = a4 = a5 = b0 = b1 = b2 = b3 = b4 = b5 = zeros(out)
    for t in range(t0, t1):
        place = at + pick(offset, t)
        u, v = load(x, place), load(x, place + lanes)
        s = spread_at(weight, w)
        a0, b0 = fma(s, u, a0), fma(s, v, b0)
        s = spread_at(weight, w + row)
        a1, b1 = fma(s, u, a1), fma(s, v, b1)
        s = spread_at(weight, w + 2 * row)
        a2, b2 = fma(s, u, a2), fma(s, v, b2)
        s = spread_at(weight, w + 3 * row)
        a3, b3 = fma(s, u, a3), fma(s, v, b3)
        s = spread_at(weight, w + 4 * row)
        a4, b4 = fma(s, u, a4), fma(s, v, b4)
        s = spread_at(weight, w + 5 * row)
        a5, b5 = fma(s, u, a5), fma(s, v, b5)
        w += tap
    finish_twice(out, y, a0, b0, fresh)
    finish_twice(out, y + ldo, a1, b1, fresh)
    finish_twice(out, y + 2 * ldo, a2, b2, fresh)
    finish_twice(out, y + 3 * ldo, a3, b3, fresh)
    finish_twice(out, y + 4 * ldo, a4, b4, fresh)
    finish_twice(out, y + 5 * ldo, a5, b5, fresh)


@jit(inner=True)
def four(x, at, offset, t0, t1, weight, w, row, tap, out, y, ldo, fresh):
    """Sum one vector of each of four rows."""
    a0 = a1 = a2 = a3 = zeros(out)
    for t in range(t0, t1):
        v = load(x, at + pick(offset, t))
        a0 = fma(spread_at(weight, w), v, a0)
        a1 = fma(spread_at(weight, w + row), v, a1)
        a2 = fma(spread_at(weight, w + 2 * row), v, a2)
        a3 = fma(spread_at(weight, w + 3 * row), v, a3)
        w += tap
    finish(out, y, a0, fresh)
    finish(out, y + ldo, a1, fresh)
    finish(out, y + 2 * ldo, a2, fresh)
    finish(out, y + 3 * ldo, a3, fresh)


@jit(inner=True)
def four_twice(x, at, offset, t0, t1, weight, w, row, tap, out, y, ldo, fresh):
    """Sum two vectors of each of four rows."""
    lanes = width(out)
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = zeros(out)
    for t in range(t0, t1):
        place = at + pick(offset, t)
        u, v = load(x, place), load(x, place + lanes)
        s = spread_at(weight, w)
        a0, b0 = fma(s, u, a0), fma(s, v, b0)
        s = spread_at(weight, w + row)
        a1, b1 = fma(s, u, a1), fma(s, v, b1)
        s = spread_at(weight, w + 2 * row)
        a2, b2 = fma(s, u, a2), fma(s, v, b2)
        s = spread_at(weight, w + 3 * row)
        a3, b3 = fma(s, u, a3), fma(s, v, b3)
        w += tap
    finish_twice(out, y, a0, b0, fresh)
    finish_twice(out, y + ldo, a1, b1, fresh)
    finish_twice(out, y + 2 * ldo, a2, b2, fresh)
    finish_twice(out, y + 3 * ldo, a3, b3, fresh)
