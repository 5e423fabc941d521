"""Sums of products that stay in registers: one vector, or two side by side, of each of six or four rows.

    out[y + r·ldo + m] (+)= sum over t0 <= t < t1 of weight[w + r·row + (t − t0)·tap] · x[at + offset[t] + m]

for the rows r and the m of a vector. A processor begins eight sums and more in the time that one takes: six rows of one
vector keep it waiting, where it has the registers for twelve.

They are written as LLVM's instructions: as loops over values of `vector` they took Numba a second to compile.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from minidl.engines.numba.vector import VectorType, place_of, spread, sums8


def _fma(builder: Any, kind: Any, vector: Any) -> Any:
    """Return LLVM's function a·b + c."""
    name = f"llvm.fmuladd.v{kind.lanes}f{kind.item.bitwidth}"
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)


def _block(rows: int, vectors: int) -> Any:
    """Return the function for so many rows and vectors."""

    def block(typing, x, at, offset, t0, t1, weight, w, row, tap, out, y, ldo, fresh):
        kind = VectorType(x.dtype)
        signature = types.void(x, at, offset, t0, t1, weight, w, row, tap, out, y, ldo, fresh)

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector, item = context.get_value_type(kind), context.get_value_type(x.dtype)
            align, number = x.dtype.bitwidth // 8, ir.IntType(64)
            at, t0, t1, w, row, tap, y, ldo = (
                context.cast(builder, args[i], signature.args[i], types.intp) for i in (1, 3, 4, 6, 7, 8, 10, 11)
            )
            fma = _fma(builder, kind, vector)
            zero = ir.Constant(vector, None)
            sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(vectors)] for _ in range(rows)]
            for row_sums in sums:
                for each in row_sums:
                    builder.store(zero, each)
            first = cgutils.alloca_once(builder, number)
            builder.store(w, first)
            offsets = context.make_array(offset)(context, builder, args[2]).data

            with cgutils.for_range(builder, t1, start=t0) as loop:
                start = builder.add(at, builder.load(builder.gep(offsets, [loop.index])))
                taken = []
                for k in range(vectors):
                    index = builder.add(start, ir.Constant(number, k * kind.lanes))
                    taken.append(builder.load(place_of(context, builder, x, args[0], index, vector), align=align))
                index = builder.load(first)
                builder.store(builder.add(index, tap), first)
                for row_sums in sums:
                    value = builder.load(place_of(context, builder, weight, args[5], index, item))
                    factor = spread(vector, builder, value)
                    for each, those in zip(row_sums, taken, strict=True):
                        builder.store(builder.call(fma, [factor, those, builder.load(each)]), each)
                    index = builder.add(index, row)

            for row_sums in sums:
                for k, each in enumerate(row_sums):
                    index = builder.add(y, ir.Constant(number, k * kind.lanes))
                    place = place_of(context, builder, out, args[9], index, vector)
                    with builder.if_else(args[12], likely=True) as (then, otherwise):
                        with then:
                            builder.store(builder.load(each), place, align=align)
                        with otherwise:
                            total = builder.fadd(builder.load(place, align=align), builder.load(each))
                            builder.store(total, place, align=align)
                y = builder.add(y, ldo)
            return context.get_dummy_value()

        return signature, code

    return intrinsic(block)


six, six_twice, four, four_twice = _block(6, 1), _block(6, 2), _block(4, 1), _block(4, 2)


def _dots(rows: int) -> Any:
    """Return the function for so many rows."""

    def dots(typing, dy, d0, ld, d_step, x, ta, tb, tc, x_step, count, columns, sums, s0, s_step):
        """Add the products of `rows` rows of dy with three of x to vectors of sums, two parts of each side by side.

        Each row is `columns` long, `count` times, `d_step` (`x_step`) apart. Each two rows of dy have one vector, which
        is `s_step` after that of the two before.
        """
        kind = VectorType(x.dtype)
        signature = types.void(dy, d0, ld, d_step, x, ta, tb, tc, x_step, count, columns, sums, s0, s_step)

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector, align, number = context.get_value_type(kind), x.dtype.bitwidth // 8, ir.IntType(64)
            d0, ld, d_step, ta, tb, tc, x_step, count, columns, s0, s_step = (
                context.cast(builder, args[i], signature.args[i], types.intp)
                for i in (1, 2, 3, 5, 6, 7, 8, 9, 10, 12, 13)
            )
            fma = _fma(builder, kind, vector)
            zero = ir.Constant(vector, None)
            totals = [[cgutils.alloca_once_value(builder, zero) for _ in range(3)] for _ in range(rows)]
            for row_totals in totals:
                for each in row_totals:
                    builder.store(zero, each)

            def load(array: Any, i: int, index: Any) -> Any:
                return builder.load(place_of(context, builder, array, args[i], index, vector), align=align)

            with cgutils.for_range(builder, count) as times:
                here = builder.mul(times.index, x_step)
                starts = [builder.add(here, t) for t in (ta, tb, tc)]
                d = builder.add(d0, builder.mul(times.index, d_step))
                step = ir.Constant(number, kind.lanes)
                with cgutils.for_range_slice(builder, ir.Constant(number, 0), columns, step, number) as (m, _):
                    taken = [load(x, 4, builder.add(start, m)) for start in starts]
                    index = builder.add(d, m)
                    for row_totals in totals:
                        g = load(dy, 0, index)
                        for each, those in zip(row_totals, taken, strict=True):
                            builder.store(builder.call(fma, [g, those, builder.load(each)]), each)
                        index = builder.add(index, ld)

            for r in range(0, rows, 2):
                those = [builder.load(each) for each in totals[r] + totals[r + 1]]
                place = place_of(context, builder, sums, args[11], s0, vector)
                total = builder.fadd(builder.load(place, align=align), sums8(builder, [*those, zero, zero]))
                builder.store(total, place, align=align)
                s0 = builder.add(s0, s_step)
            return context.get_dummy_value()

        return signature, code

    return intrinsic(dots)


dots2, dots6 = _dots(2), _dots(6)
