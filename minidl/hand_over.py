"""How one thread hands something to another: through a queue, beside which who waits stays awake for a while.

To wake a thread that sleeps takes 50 to 100 µs, and a step of LeNet hands out work ten times. An engine may give the
function `awake`, which looks at a number in memory without the GIL until it changes. Then it rests: who changed the
number still has the GIL, and a thread that asks for it too early is put to sleep, for 25 µs. How long to rest hangs on
the machine and on what the other thread does next, so each `Sign` finds it out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import numpy as np

Awake = Callable[[int, int, int, int, int], bool]

awake: Awake | None = None  # awake(BOARD, place, seen, rests, helper): wait until board[place] is not `seen`, then rest
write_code: Callable[[np.ndarray], object] | None = None  # has the board know what code an engine calls by it
AWAKE = 48  # the place of the board that has a bit for each helper who waits awake: 1 << its number, from 1
CODE = 56  # from this place on the board has addresses of an engine's code
_memory = np.zeros(64 + 8, np.int64)
board = _memory[-_memory.ctypes.data % 64 // 8 :][:64]  # places 8 apart are in cache lines of their own
_cells = board.data  # the same numbers, read and written in less time
BOARD: int = board.ctypes.data
_LATE = 8000  # ns after the rest; a thread that was not put to sleep goes on much sooner
_MOST = 10_000  # ns of rest, then to be put to sleep costs little more

_LOOKS = 8  # of so many waits one is timed

_rest_ns = 0.0  # how long one rest takes; 0 until it was measured


class Sign:
    """What changes when something was put into a queue: the time of the last change, at a place of the board.

    Parameters
    ----------
    place : int
        Eight apart, so that no two lie in one cache line.
    rest : int
        How long to rest after a change, in ns, to begin with.
    """

    def __init__(self, place: int, rest: int) -> None:
        self.place = place
        self.rest = float(rest)
        self._rests = -1  # how many rests last so long; -1 until it is known how long one lasts
        self._waits = 0

    def change(self) -> None:
        """Tell who waits awake that there is something in the queue."""
        if awake is not None:
            now, before = time.perf_counter_ns(), _cells[self.place]
            _cells[self.place] = now if now > before else before + 1

    def take(self, queue: SimpleQueue[Any], spare: bool, helper: int = 0) -> Any:
        """Take from the queue; wait awake for a while where there is a processor to spare.

        A helper, by its number, does pieces of compiled passes meanwhile.
        """
        if awake is not None and spare:
            seen = _cells[self.place]
            if queue.empty():
                if self._rests < 0:
                    self._rests = int(self.rest / (_rest_ns or _measured()))
                if awake(BOARD, self.place, seen, self._rests, helper if _cells[CODE] else 0) and processor:
                    go_elsewhere(processor())
                self._waits += 1
                if self._waits % _LOOKS == 0 and _cells[self.place] != seen:
                    self.learn(time.perf_counter_ns() - _cells[self.place])
        return queue.get()

    def learn(self, waited: int) -> None:
        """Rest a quarter longer after having been put to sleep, else a little shorter, so that this is rare.

        >>> sign = Sign(0, 1000)
        >>> sign.learn(1100), sign.learn(30_000), round(sign.rest)
        (None, None, 1240)
        """
        if waited > self.rest + _LATE:
            self.rest = min(_MOST, self.rest * 1.25)
        else:
            self.rest *= 1 - 1 / 128
        self._rests = -1


def helps(helpers: int) -> bool:
    """Tell whether one of the first helpers, so many, waits awake."""
    return bool(_cells[AWAKE] & (2 << helpers) - 2)


def forget() -> None:
    """Clear what threads wrote to the board, in a new process that has one."""
    board[:CODE] = 0


def is_prepared() -> bool:
    """Tell whether the board has the code that an engine gave: else no pass may be given out by it."""
    return write_code is None or _cells[CODE] != 0


def prepare() -> None:
    """Have what an engine gave compiled, by one thread."""
    if write_code is not None:
        write_code(board)
    if awake is not None:
        _measured()


def _measured() -> float:
    """Measure how long one rest takes; return it, in ns."""
    global _rest_ns
    assert awake is not None
    awake(BOARD, 0, -1, 0, 0)
    taken = []
    for _ in range(3):
        start = time.perf_counter_ns()
        awake(BOARD, 0, -1, 1000, 0)
        taken.append((time.perf_counter_ns() - start) / 1000)
    _rest_ns = max(1.0, min(taken))
    return _rest_ns


def _find_processor() -> Callable[[], int] | None:
    """Return the function that says on which processor a thread runs (Linux), or None."""
    try:
        import ctypes

        found: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu  # it keeps the GIL
    except (ImportError, AttributeError, OSError, TypeError):
        return None
    return found if hasattr(os, "sched_setaffinity") else None


processor = _find_processor()


def go_elsewhere(here: int) -> None:
    """Let this thread go to another processor: systems leave two threads on one for long, another one idle."""
    with suppress(OSError):  # a system that forbids it, or has just taken the other processors away
        allowed = os.sched_getaffinity(0)
        if others := allowed - {here}:
            os.sched_setaffinity(0, others)
            if os.sched_getaffinity(0) == others:  # else somebody has chosen for this thread meanwhile
                os.sched_setaffinity(0, allowed)
