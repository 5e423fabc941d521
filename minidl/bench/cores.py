"""How near two cores are: how long what one writes takes to reach the other.

Steps on several threads hang on it, and in a virtual machine it changes while nothing else does: the host moves the
processors, and at times two of them share no cache.
"""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import Any

import numpy as np

from minidl.parallel import available_threads

_MEET, _TIMES = 100, 2000  # exchanges before those that are timed, and these
_LOOKS = 1 << 24  # at a number before a thread gives up


def exchange_ns() -> float | None:
    """Return the time in ns that a number takes from one thread to another, on two processors, both awake.

    Two threads write in turn, each what the other waits for; the median of five such runs counts. None where there is
    one processor alone, or no Numba, or where the threads did not meet.
    """
    if available_threads() < 2:
        return None
    try:
        take_turns = _compiled()
    except ImportError:
        return None
    take_turns(np.zeros(64, np.int64).ctypes.data, 0, 16, True, 0)  # compiles
    found = [taken for taken in (_once(take_turns) for _ in range(5)) if taken is not None]
    return float(np.median(found)) if found else None


def _once(take_turns: Any) -> float | None:
    boards = np.zeros((2, 64), np.int64)

    def answer() -> None:
        for board, times in zip(boards, (_MEET, _TIMES), strict=True):  # kept where an interrupt ends `_once`
            take_turns(board.ctypes.data, 16, 0, False, times)

    other = threading.Thread(target=answer, daemon=True)
    other.start()
    met = take_turns(boards[0].ctypes.data, 0, 16, True, _MEET)
    start = time.perf_counter_ns()
    met = take_turns(boards[1].ctypes.data, 0, 16, True, _TIMES) and met
    taken = time.perf_counter_ns() - start
    other.join()
    return taken / (2 * _TIMES) if met else None


@cache
def _compiled() -> Any:
    from minidl.engines.numba.atomic import load, store
    from minidl.engines.numba.compile import jit

    @jit
    def take_turns(board, own, other, ahead, times):  # type: ignore[no-untyped-def]
        """Write 1, 2, ... to a place, each after what the other thread wrote: who is ahead begins."""
        for turn in range(1, times + 1):
            if ahead:
                store(board, own, turn)
            looks = 0
            while load(board, other) < turn:
                looks += 1
                if looks == _LOOKS:
                    return False
            if not ahead:
                store(board, own, turn)
        return True

    return take_turns
