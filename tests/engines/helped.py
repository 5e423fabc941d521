"""Threads that wait awake all the time, so that every compiled pass is given out, however many processors there are."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from minidl import hand_over, threads

QUIET = 8 + 1  # a place of the board that nobody changes


@contextmanager
def helpers(n: int) -> Iterator[None]:
    """Have n helpers wait awake, and compiled passes of any size be given out to them."""
    from minidl.engines.numba import jobs, share, waiting

    jobs.write_code(hand_over.board)
    over = threading.Event()

    def wait(number: int) -> None:
        while not over.is_set():
            waiting.until_changed(hand_over.BOARD, QUIET, 0, 0, number)

    those = [threading.Thread(target=wait, args=(i + 1,), daemon=True) for i in range(n)]
    for one in those:
        one.start()
    try:
        with pytest.MonkeyPatch.context() as patch, threads(n + 1):
            patch.setattr(share, "_WORTH", 1)
            patch.setattr(hand_over, "helps", lambda helpers: True)
            yield
    finally:
        over.set()
        for one in those:
            one.join(300)
