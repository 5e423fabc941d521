"""How a compiled pass is shared out to threads that wait awake, in compiled code alone: in some hundred nanoseconds.

A pass is a compiled function whose last three arguments are (start, stop, on), and which begins with

    if on >= BOARD:
        return give(job(), start, stop, on)

It is called with a piece of its range and the number of the thread that runs it (0 for who gives out, helpers from 1),
or with the number of pieces, the length of the range, and the address of the board in the place of the thread. Then it
gives itself out: `job` says where its code and its arguments are, and `give` calls it for the pieces.

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
from numba.extending import intrinsic

from minidl import hand_over
from minidl.engines.numba.atomic import YIELDS, add, load, rest, sched_yield, store, swap
from minidl.engines.numba.compile import jit

BOARD = 4096  # threads have lesser numbers, and no memory lies at a lesser address
MOST_PIECES, MOST_HELPERS = 4095, 61

# places of the board; those of `hand_over.Sign` are 0 and 8
_WORD, _RUN, _FRAME, _PIECES, _LENGTH, _PROCESSOR = 16, 24, 25, 26, 27, 28
_DONE, _WRONG, _TAKEN = 32, 33, 40

_FIRST, _HELPERS, _NUMBER = 12, 24, 30  # bits of the word before each; the last piece comes first
_NUMBERS = (1 << 63 - _NUMBER) - 1
_GIVES_WAY = 64  # looks after which a giver lets others have the processor
_KNOWS_PROCESSOR = hand_over.processor is not None

_sched_getcpu = types.ExternalFunction("sched_getcpu", types.int32())
_PIECE = ir.FunctionType(ir.IntType(32), [cgutils.voidptr_t, ir.IntType(64), ir.IntType(64), ir.IntType(64)])


@intrinsic
def job(typing: Any) -> Any:
    """Return the addresses of a function run(frame, start, stop, on), and of a frame with the caller's own arguments.

    The function calls the caller with the arguments in the frame and the last three. It returns 0 where that went well.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        caller = builder.function
        caller.attributes.add("noinline")  # one code of it, the same bits whoever calls it
        result, error, *own = caller.args  # Numba's convention: where the result and an error go, then the arguments
        own = own[:-3]
        kind = ir.LiteralStructType([each.type for each in own])
        frame = cgutils.alloca_once(builder, kind)
        for i, each in enumerate(own):
            builder.store(each, cgutils.gep_inbounds(builder, frame, 0, i))

        run = ir.Function(builder.module, _PIECE, f"{caller.name}.piece")
        run.linkage = "internal"
        inside = ir.IRBuilder(run.append_basic_block())
        at = inside.bitcast(run.args[0], kind.as_pointer())
        loaded = [inside.load(cgutils.gep_inbounds(inside, at, 0, i)) for i in range(len(own))]
        places = [inside.alloca(each.type.pointee) for each in (result, error)]
        inside.ret(inside.call(caller, [*places, *loaded, *run.args[1:]]))

        addresses = [builder.ptrtoint(each, ir.IntType(64)) for each in (run, frame)]
        return context.make_tuple(builder, signature.return_type, addresses)

    return types.UniTuple(types.int64, 2)(), code


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


@jit(inner=True)
def give(where, pieces, length, on):
    """Do the pieces of range(length), here and on threads that wait awake; return when all are done.

    `on` is the board's address and, in the bits that are zero in it, how many helpers to take.
    """
    run, frame = where
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
        store(board, _WORD, number << _NUMBER | helpers << _HELPERS | pieces)
        while True:
            word = load(board, _WORD)
            piece = word >> _FIRST & MOST_PIECES
            if piece == word & MOST_PIECES:
                break
            if swap(board, _WORD, word, word + (1 << _FIRST)):
                own += 1
                wrong |= _run(run, frame, piece * length // pieces, (piece + 1) * length // pieces, 0)
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
    if wrong:
        raise MemoryError("no memory for what a compiled pass works with")


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
