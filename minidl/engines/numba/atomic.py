"""Numbers in memory that several threads read and change, in compiled code: each access is one instruction of its own.

A place is counted from an address in numbers of 64 bits. What a thread wrote before it changed such a number, another
one that has seen the change reads.
"""

from __future__ import annotations

import os
import platform
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

YIELDS = hasattr(os, "sched_yield")  # is there such a function?
_MACHINE = platform.machine().lower()
_NUMBER = ir.IntType(64)

sched_yield = types.ExternalFunction("sched_yield", types.int32())  # let other threads have this one's processor


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Return a pointer to the number at the place of an address, the first two arguments."""
    address, place = (context.cast(builder, args[i], signature.args[i], types.int64) for i in (0, 1))
    return builder.gep(builder.inttoptr(address, _NUMBER.as_pointer()), [place])


def _value(context: Any, builder: Any, signature: Any, args: Any, i: int) -> Any:
    return context.cast(builder, args[i], signature.args[i], types.int64)


@intrinsic
def load(typing: Any, address: Any, place: Any) -> Any:
    """Return the number as it is now, whichever thread wrote it."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, args), "acquire", 8)

    return types.int64(address, place), code


@intrinsic
def store(typing: Any, address: Any, place: Any, value: Any) -> Any:
    """Write the number, after all that this thread wrote before."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = _value(context, builder, signature, args, 2)
        builder.store_atomic(value, _place(context, builder, signature, args), "release", 8)
        return context.get_dummy_value()

    return types.void(address, place, value), code


@intrinsic
def swap(typing: Any, address: Any, place: Any, seen: Any, value: Any) -> Any:
    """Write the number if it is the one that was seen; tell whether it was."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        seen, value = (_value(context, builder, signature, args, i) for i in (2, 3))
        where = _place(context, builder, signature, args)
        return builder.extract_value(builder.cmpxchg(where, seen, value, "acq_rel", "acquire"), 1)

    return types.boolean(address, place, seen, value), code


def _change(operation: str) -> Any:
    def change(typing: Any, address: Any, place: Any, value: Any) -> Any:
        """Change the number, and return what it was."""

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = _value(context, builder, signature, args, 2)
            return builder.atomic_rmw(operation, _place(context, builder, signature, args), value, "acq_rel")

        return types.int64(address, place, value), code

    return intrinsic(change)


add, set_bits, keep_bits = _change("add"), _change("or"), _change("and")


@intrinsic
def rest(typing: Any) -> Any:
    """Tell the processor that this thread waits in a loop: it rests for some nanoseconds."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        nothing = ir.FunctionType(ir.VoidType(), ())
        number = ir.FunctionType(ir.VoidType(), (ir.IntType(32),))
        if _MACHINE in ("x86_64", "amd64"):
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), nothing), ())
        elif _MACHINE in ("aarch64", "arm64"):
            hint = builder.module.declare_intrinsic("llvm.aarch64.hint", (), number)
            builder.call(hint, (ir.Constant(ir.IntType(32), 1),))  # YIELD
        return context.get_dummy_value()

    return types.void(), code
