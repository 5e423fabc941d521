"""How a thread waits for another one: awake for a millisecond or two, in compiled code, without the GIL.

To wake a thread that sleeps takes 50 to 100 µs, and a step of LeNet hands out work ten times. A thread that looks at a
number in memory sees within a microsecond that it changed. Between two looks it rests; now and then it gives way to
other threads that want its processor.
"""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from minidl.engines.numba.compile import jit

_LOOKS = 1 << 16  # then the thread goes to sleep
_GIVES_WAY = 64  # looks after which it lets others have the processor
_POSIX = hasattr(os, "sched_yield")
_MACHINE = platform.machine().lower()

_sched_yield = types.ExternalFunction("sched_yield", types.int32())


@intrinsic
def _current(typing: Any, array: Any, index: Any) -> Any:
    """Return array[index] as it is in memory now, whichever thread wrote it."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(array)(context, builder, args[0]).data
        at = context.cast(builder, args[1], index, types.intp)
        return builder.load_atomic(builder.gep(data, [at]), "acquire", array.dtype.bitwidth // 8)

    return array.dtype(array, index), code


@intrinsic
def _rest(typing: Any) -> Any:
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


@jit
def _until_changed(board, place, seen, rests):
    for look in range(_LOOKS):
        if _current(board, place) != seen:
            for _ in range(rests):
                _rest()
            return
        _rest()
        if _POSIX and look % _GIVES_WAY == 0:
            _sched_yield()


def until_changed(board: np.ndarray, place: int, seen: int, rests: int) -> None:
    """Wait until board[place] is not what was seen and then for some rests more, or give up after a while."""
    _until_changed(board, place, seen, rests)
