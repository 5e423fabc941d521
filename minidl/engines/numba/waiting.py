"""How a thread waits for another one: awake for a millisecond or two, in compiled code, without the GIL.

To wake a thread that sleeps takes 50 to 100 µs, and a step of LeNet hands out work ten times. A thread that looks at a
number in memory sees within a microsecond that it changed. Between two looks it rests; now and then it gives way to
other threads that want its processor. A helper looks as well whether a compiled pass gives itself out (`jobs`).
"""

from __future__ import annotations

from minidl.engines.numba.atomic import YIELDS, keep_bits, load, rest, sched_yield, set_bits
from minidl.engines.numba.compile import jit
from minidl.engines.numba.jobs import help_out
from minidl.hand_over import AWAKE

_LOOKS = 1 << 16  # then the thread goes to sleep
_GIVES_WAY = 64  # looks after which it lets others have the processor


@jit
def _until_changed(board, place, seen, rests, helper):
    look, together, bit = 0, False, 1 << helper
    if helper and set_bits(board, AWAKE, bit) & bit:
        helper = 0  # another thread helps under this number, which names its workspace
    while look < _LOOKS and not together:
        if load(board, place) != seen:
            for _ in range(rests):
                rest()
            break
        if helper:
            helped = help_out(board, helper)
            if helped:
                look, together = 0, helped == 2
                continue
        rest()
        if YIELDS and look % _GIVES_WAY == 0:
            sched_yield()
        look += 1
    if helper:
        keep_bits(board, AWAKE, ~bit)
    return together


def until_changed(board: int, place: int, seen: int, rests: int, helper: int) -> bool:
    """Wait until the number at a place of the board is not what was seen, and then for some rests more, or give up.

    `board` is an address. A helper's number is its bit of the place `AWAKE` meanwhile; 0 is none, and helps nobody.
    Return whether a helper did a piece on the processor of who gave it out: it had better go elsewhere.
    """
    return bool(_until_changed(board, place, seen, rests, helper))
