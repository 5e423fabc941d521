"""How a compiled pass is shared out to threads that wait awake, in compiled code alone: in some hundred nanoseconds.

A pass is a compiled function, marked `shared`, whose last three arguments are (start, stop, thread). It is called with
a piece of its range and the number of the thread that runs it, 0 for who gives it out, helpers from 1. Or it is called
with the number of pieces, the length of the range, and the address of the board in the place of the thread: then it
gives itself out, and `_give` calls it for the pieces.

**The board** is memory that all threads see. One number on it, the word, is what they agree by: the number of the job,
how many helpers it takes, and the first and the last of the pieces that nobody has taken. Who takes a piece changes the
word by one instruction, which fails where the word is not what was seen; so no piece is taken twice, and none of a job
that is over. The giver takes pieces from the front and helpers from the end: jobs over the same arrays that are cut
along the same axis then meet in each thread what its last one wrote. The giver takes what helpers leave, and waits for
pieces alone that a helper has taken. A second giver, on a thread of its own, does its pieces itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import NativeLowering
from numba.extending import intrinsic

from minidl import hand_over
from minidl.engines.numba.atomic import YIELDS, add, load, rest, sched_yield, store, swap
from minidl.engines.numba.compile import jit

BOARD = 4096  # threads have lesser numbers, and no memory lies at a lesser address
MOST_PIECES, MOST_HELPERS = 4095, 61

# places of the board; those of `hand_over.Sign` are 0 and 8
_WORD, _RUN, _FRAME, _PIECES, _LENGTH, _PROCESSOR, _DONE, _WRONG = range(16, 24)  # in one cache line
_TAKEN, _GIVE = 24, hand_over.CODE

_FIRST, _HELPERS, _NUMBER = 12, 24, 30  # bits of the word before each; the last piece comes first
_NUMBERS = (1 << 63 - _NUMBER) - 1
_GIVES_WAY = 64  # looks after which a giver lets others have the processor
_KNOWS_PROCESSOR = hand_over.processor is not None

_sched_getcpu = types.ExternalFunction("sched_getcpu", types.int32())
_PIECE = ir.FunctionType(ir.IntType(32), [cgutils.voidptr_t, ir.IntType(64), ir.IntType(64), ir.IntType(64)])


@intrinsic
def _run(typing: Any, run: Any, frame: Any, start: Any, stop: Any, on: Any) -> Any:
    """Call the function at an address; tell whether it failed."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = builder.inttoptr(args[0], _PIECE.as_pointer())
        status = builder.call(function, [builder.inttoptr(args[1], cgutils.voidptr_t), *args[2:]])
        return builder.zext(builder.icmp_signed("!=", status, ir.Constant(status.type, 0)), ir.IntType(64))

    return types.int64(*[types.int64] * 5), code


@jit(inner=True)
def _processor():
    """Return the processor of this thread, or −1."""
    if _KNOWS_PROCESSOR:
        return np.int64(_sched_getcpu())
    return np.int64(-1)


@jit
def _give(run, frame, pieces, length, on):
    """Do the pieces of range(length), here and on threads that wait awake; return 0, or 1 where one failed.

    `on` is the board's address and, in the bits that are zero in it, how many helpers to take. run(frame, start, stop,
    thread) is the address of a function.
    """
    board, helpers = on & ~63, on & 63
    own = wrong = 0
    if swap(board, _TAKEN, 0, 1):
        store(board, _RUN, run)
        store(board, _FRAME, frame)
        store(board, _PIECES, pieces)
        store(board, _LENGTH, length)
        store(board, _PROCESSOR, _processor())
        store(board, _DONE, 0)
        store(board, _WRONG, 0)
        number = (load(board, _WORD) >> _NUMBER) + 1 & _NUMBERS
        store(board, _WORD, number << _NUMBER | helpers << _HELPERS | 1 << _FIRST | pieces)  # the first piece is taken
        piece = 0
        while True:
            wrong |= _run(run, frame, piece * length // pieces, (piece + 1) * length // pieces, 0)
            own += 1
            word = load(board, _WORD)
            piece = word >> _FIRST & MOST_PIECES
            while piece != word & MOST_PIECES and not swap(board, _WORD, word, word + (1 << _FIRST)):
                word = load(board, _WORD)
                piece = word >> _FIRST & MOST_PIECES
            if piece == word & MOST_PIECES:
                break
        looks = 0
        while load(board, _DONE) != pieces - own:
            rest()
            looks += 1
            if YIELDS and looks % _GIVES_WAY == 0:
                sched_yield()
        wrong |= load(board, _WRONG)
        store(board, _TAKEN, 0)
    else:
        for piece in range(pieces):
            wrong |= _run(run, frame, piece * length // pieces, (piece + 1) * length // pieces, 0)
    return wrong


@jit(inner=True)
def help_out(board, helper):
    """Do a piece of the job that is given out; return 1, or 2 on the giver's own processor, or 0 where none is left."""
    word = load(board, _WORD)
    last = word & MOST_PIECES
    if word >> _FIRST & MOST_PIECES == last or helper > word >> _HELPERS & 63 or not swap(board, _WORD, word, word - 1):
        return 0
    pieces, length = load(board, _PIECES), load(board, _LENGTH)  # the giver waits now for this piece
    together = _KNOWS_PROCESSOR and _processor() == load(board, _PROCESSOR)
    run, frame = load(board, _RUN), load(board, _FRAME)
    if _run(run, frame, (last - 1) * length // pieces, last * length // pieces, helper):
        store(board, _WRONG, 1)
    add(board, _DONE, 1)
    return 2 if together else 1


def write_code(board: np.ndarray) -> None:
    """Write to a board, 64 numbers that begin on a cache line, where the code of `_give` is."""
    dispatcher: Any = _give
    numbers = (types.int64,) * 5
    dispatcher.compile(numbers)
    found = dispatcher.overloads[numbers]
    with global_compiler_lock:  # no other thread forks meanwhile: its child would wait for LLVM's lock for ever
        board[_GIVE] = found.library.get_pointer_to_function(found.fndesc.llvm_func_name)


# -- compiled beside each pass: the function that Python calls in its place, and the one that `_give` calls ------------


class _Lower(Lower):  # type: ignore[misc]
    """Numba's way from a function to code, with another function for Python to call."""

    def create_cpython_wrapper(self, release_gil: bool = False) -> None:
        """Make what Python calls: the pass where it is called with a piece, else what gives it out."""
        context, library = self.context, self.library
        module = context.create_module("shared")
        kind = context.call_conv.get_function_type(self.fndesc.restype, self.fndesc.argtypes)
        name = self.fndesc.llvm_func_name
        kernel = ir.Function(module, kind, name)
        called = ir.Function(module, kind, f"{name}.shared")
        builder = ir.IRBuilder(called.append_basic_block())
        start, stop, thread = called.args[-3:]
        with builder.if_then(builder.icmp_signed("<", thread, ir.Constant(thread.type, BOARD))):
            builder.ret(builder.call(kernel, called.args, attrs=("noinline",)))

        own = called.args[2:-3]  # Numba's convention: first where the result and an error go
        frame = builder.alloca(ir.LiteralStructType([each.type for each in own]))
        for i, each in enumerate(own):
            builder.store(each, cgutils.gep_inbounds(builder, frame, 0, i))
        run = _piece(module, kernel, frame.type)
        number = ir.IntType(64)
        board = builder.inttoptr(builder.and_(thread, ir.Constant(number, ~63)), number.as_pointer())
        given = context.call_conv.get_function_type(types.int64, (types.int64,) * 5)
        give = builder.inttoptr(builder.load(builder.gep(board, [ir.Constant(number, _GIVE)])), given.as_pointer())
        result, error = (builder.alloca(each.pointee) for each in given.args[:2])
        addresses = builder.ptrtoint(run, number), builder.ptrtoint(frame, number)
        builder.call(give, [result, error, *addresses, start, stop, thread])
        failed = builder.load(result)
        with builder.if_then(builder.icmp_signed("!=", failed, ir.Constant(number, 0))):
            context.call_conv.return_user_exc(builder, MemoryError, ("no memory for what a compiled pass works with",))
        builder.ret(ir.Constant(ir.IntType(32), 0))
        library.add_ir_module(module)
        context.create_cpython_wrapper(
            library, _Named(self.fndesc, called.name), self.env, self.call_helper, release_gil
        )


def _piece(module: Any, kernel: Any, frame: Any) -> Any:
    """Return a function that calls the kernel with the arguments in a frame, and start, stop, thread."""
    run = ir.Function(module, _PIECE, f"{kernel.name}.piece")
    run.linkage = "internal"
    builder = ir.IRBuilder(run.append_basic_block())
    arguments = builder.bitcast(run.args[0], frame)
    places = [builder.alloca(each.type.pointee) for each in kernel.args[:2]]
    own = [builder.load(cgutils.gep_inbounds(builder, arguments, 0, i)) for i in range(len(kernel.args) - 5)]
    builder.ret(builder.call(kernel, [*places, *own, *run.args[1:]], attrs=("noinline",)))
    return run


class _Named:
    """The description of a function under another name."""

    def __init__(self, of: Any, name: str) -> None:
        self._of, self.llvm_func_name = of, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):  # type: ignore[misc]
    _name = "shared_lowering"

    @property
    def lowering_class(self) -> type:
        """The class that lowers."""
        return _Lower


class _Shared(Compiler):  # type: ignore[misc]
    """Numba's compiler, for functions that give themselves out."""

    def define_pipelines(self) -> list[Any]:
        """Return Numba's passes, the last but one of them changed."""
        (passes,) = super().define_pipelines()
        passes.passes = [(_Lowering if each is NativeLowering else each, text) for each, text in passes.passes]
        passes.finalize()
        return [passes]


def shared(function: Any = None, *, in_order: bool = False, apart: bool = False) -> Any:
    """Compile a pass that is shared out: see `jit`."""
    if function is None:
        return lambda function: shared(function, in_order=in_order, apart=apart)
    return jit(in_order=in_order, apart=apart, compiler=_Shared)(function)
