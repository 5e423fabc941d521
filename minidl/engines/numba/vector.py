"""A vector of a cache line's 64 bytes as a value inside compiled functions: 16 float32 or 8 float64.

LLVM maps it to whatever the processor has: one AVX-512 register, two of AVX2, four of SSE or NEON. A loop over such
values says which of them stay in registers, which a compiler does not find out by itself for a matrix product.

    a = zeros(x); a = fma(spread_at(w, k), load(x, i), a); store(y, i, a); t = total(a)

An index counts values of a contiguous array, however many its axes, and is not checked.
"""

from __future__ import annotations

import operator
from typing import Any

import numba
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic, overload

BYTES = 64
_FEATURES = numba.config.CPU_FEATURES  # what Numba is told to compile for; None is this processor
WIDE = (  # 32 registers of 64 bytes; else 16, half as long, or fewer
    bool(dict(get_host_cpu_features()).get("avx512f")) if _FEATURES is None else "+avx512f" in _FEATURES
)


class VectorType(types.Type):
    """The type of a vector of `item`."""

    def __init__(self, item: Any) -> None:
        self.item = item
        self.lanes = BYTES * 8 // item.bitwidth
        super().__init__(name=f"Vector({item} x {self.lanes})")


@register_default(VectorType)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: VectorType) -> None:
        item = manager.lookup(kind.item).get_value_type()
        super().__init__(manager, kind, ir.VectorType(item, kind.lanes))


def place_of(context: Any, builder: Any, kind: Any, value: Any, index: Any, vector: Any) -> Any:
    """Return a pointer to a vector, or to an item, that begins at an index of an array."""
    data = context.make_array(kind)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def spread(vector: Any, builder: Any, value: Any) -> Any:
    """Return the vector that has a value in every lane."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)  # every lane takes lane 0
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


@intrinsic
def width(typing: Any, array: Any) -> Any:
    """Return how many values of the array a vector holds, a constant: LLVM makes better loops of a step it knows."""
    count = VectorType(array.dtype).lanes

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.intp, count)

    return types.intp(array), code


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Return array[index : index + lanes], a vector."""
    kind = VectorType(array.dtype)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = context.cast(builder, args[1], index, types.intp)
        place = place_of(context, builder, array, args[0], at, context.get_value_type(kind))
        return builder.load(place, align=array.dtype.bitwidth // 8)

    return kind(array, index), code


@intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Set array[index : index + lanes] to the vector."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = context.cast(builder, args[1], index, types.intp)
        place = place_of(context, builder, array, args[0], at, context.get_value_type(vector))
        builder.store(args[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, vector), code


@intrinsic
def copy(typing: Any, target: Any, at: Any, source: Any, start: Any, count: Any) -> Any:
    """Copy `count` values of a dtype from one array to another: no loop that has to be compiled."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        indices = [context.cast(builder, args[i], signature.args[i], types.intp) for i in (1, 3, 4)]
        item = context.get_value_type(target.dtype)
        to = place_of(context, builder, target, args[0], indices[0], item)
        origin = place_of(context, builder, source, args[2], indices[1], item)
        cgutils.raw_memcpy(builder, to, origin, indices[2], target.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(target, at, source, start, count), code


@intrinsic
def clear(typing: Any, target: Any, at: Any, count: Any) -> Any:
    """Set `count` values to 0."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start, values = (context.cast(builder, args[i], signature.args[i], types.intp) for i in (1, 2))
        to = place_of(context, builder, target, args[0], start, context.get_value_type(target.dtype))
        cgutils.memset(builder, to, builder.mul(values, ir.Constant(values.type, target.dtype.bitwidth // 8)), 0)
        return context.get_dummy_value()

    return types.void(target, at, count), code


@intrinsic
def zeros(typing: Any, array: Any) -> Any:
    """Return the vector of zeros of the array's dtype."""
    kind = VectorType(array.dtype)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(kind), None)

    return kind(array), code


@intrinsic
def pick(typing: Any, array: Any, index: Any) -> Any:
    """Return array[index]."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = context.cast(builder, args[1], index, types.intp)
        return builder.load(builder.gep(context.make_array(array)(context, builder, args[0]).data, [at]))

    return array.dtype(array, index), code


@intrinsic
def spread_at(typing: Any, array: Any, index: Any) -> Any:
    """Return the vector that has array[index] in every lane."""
    kind = VectorType(array.dtype)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = context.cast(builder, args[1], index, types.intp)
        value = builder.load(builder.gep(context.make_array(array)(context, builder, args[0]).data, [at]))
        return spread(context.get_value_type(kind), builder, value)

    return kind(array, index), code


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a·b + c, rounded once where the processor can."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(a)
        name = f"llvm.fmuladd.v{a.lanes}f{a.item.bitwidth}"
        call = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        return builder.call(call, args)

    return a(a, b, c), code


@intrinsic
def _scale(typing: Any, factor: Any, a: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = context.cast(builder, args[0], factor, a.item)
        return builder.fmul(spread(context.get_value_type(a), builder, value), args[1])

    return a(factor, a), code


def _elementwise(operation: str) -> Any:
    @intrinsic
    def function(typing: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, operation)(*args)

        return a(a, b), code

    return function


_add, _sub, _mul = (_elementwise(operation) for operation in ("fadd", "fsub", "fmul"))


@overload(operator.add)
def _vector_add(a, b):
    if isinstance(a, VectorType) and a == b:
        return lambda a, b: _add(a, b)
    return None


@overload(operator.sub)
def _vector_sub(a, b):
    if isinstance(a, VectorType) and a == b:
        return lambda a, b: _sub(a, b)
    return None


@overload(operator.mul)
def _vector_mul(a, b):
    if isinstance(b, VectorType):
        if a == b:
            return lambda a, b: _mul(a, b)
        if isinstance(a, types.Number):
            return lambda a, b: _scale(a, b)
    return None


def sums8(builder: Any, vectors: list[Any]) -> Any:
    """Return one vector: the sum of the lanes of each of eight, in two parts (one in float64) that lie side by side."""
    parts = 1
    while len(vectors) > 1:
        vectors = [_folded(builder, parts, *vectors[i : i + 2]) for i in range(0, len(vectors), 2)]
        parts *= 2
    return vectors[0]


def _folded(builder: Any, parts: int, a: Any, b: Any) -> Any:
    """Return the halves of each of so many parts added, those of a before those of b."""
    lanes = a.type.count
    group = lanes // parts
    low, high = (
        builder.shuffle_vector(
            a,
            b,
            ir.Constant(
                ir.VectorType(ir.IntType(32), lanes),
                [s + half + i for s in range(0, 2 * lanes, group) for i in range(group // 2)],
            ),
        )
        for half in (0, group // 2)
    )
    return builder.fadd(low, high)


@intrinsic
def turn(typing: Any, target: Any, at: Any, row: Any, source: Any, start: Any, step: Any, there: Any) -> Any:
    """Set target[at + i·row + j] to source[start + j·step + i], for i and j < lanes: a square turned in registers.

    The source has `there` rows j, one at least; the last of them stands in for those that it lacks.
    """
    lanes = VectorType(target.dtype).lanes

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at, row, start, step, there = (
            context.cast(builder, args[i], signature.args[i], types.intp) for i in (1, 2, 4, 5, 6)
        )
        vector, align = context.get_value_type(VectorType(target.dtype)), target.dtype.bitwidth // 8
        rows = []
        for j in range(lanes):
            rows.append(builder.load(place_of(context, builder, source, args[3], start, vector), align=align))
            further = builder.icmp_signed("<", ir.Constant(there.type, j + 1), there)
            start = builder.add(start, builder.select(further, step, ir.Constant(step.type, 0)))
        half = 1
        while half < lanes:  # swap the squares beside the diagonal, of one value, two, four, ...
            for i in range(lanes):
                if not i & half:
                    pair = rows[i], rows[i + half]
                    rows[i], rows[i + half] = (
                        builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(ir.IntType(32), lanes), places))
                        for places in _swapped(lanes, half)
                    )
            half *= 2
        for each in rows:
            builder.store(each, place_of(context, builder, target, args[0], at, vector), align=align)
            at = builder.add(at, row)
        return context.get_dummy_value()

    return types.void(target, at, row, source, start, step, there), code


def _swapped(lanes: int, half: int) -> tuple[list[int], list[int]]:
    """Return which lanes of two rows, half apart, make the new ones.

    >>> _swapped(4, 1), _swapped(4, 2)
    (([0, 4, 2, 6], [1, 5, 3, 7]), ([0, 1, 4, 5], [2, 3, 6, 7]))
    """
    low = [lanes + j - half if j & half else j for j in range(lanes)]
    return low, [lanes + j if j & half else j + half for j in range(lanes)]


@intrinsic
def total(typing: Any, a: Any) -> Any:
    """Return the sum of the lanes, added in pairs."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (vector,), lanes = args, a.lanes
        while lanes > 1:
            lanes //= 2
            low, high = (
                builder.shuffle_vector(
                    vector,
                    ir.Constant(vector.type, ir.Undefined),
                    ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(start, start + lanes))),
                )
                for start in (0, lanes)
            )
            vector = builder.fadd(low, high)
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return a.item(a), code
