"""Sharing a compiled pass out to the threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minidl import hand_over, parallel
from minidl.engines.numba.jobs import MOST_HELPERS, MOST_PIECES

_WORTH = 1 << 13  # values; a compiled pass over fewer takes no longer than to hand half of it to a thread
_WORTH_WAKING = 1 << 17  # likewise, where that thread sleeps


class Workspace(NamedTuple):
    """Memory that each thread has of its own, for a pass whose first argument it is."""

    name: str
    size: int  # values for one thread
    dtype: np.dtype


def share(length: int, work: int, kernel: Callable[..., Any], *arguments: Any) -> None:
    """Call kernel(*arguments, start, stop, thread) on one part of range(length) per thread, or on all of a small work.

    `work` is the number of values in all. The values must not depend on the cut. See `minidl.engines.numba.jobs` for
    `thread`.
    """
    pieces = min(parallel.get_num_threads(), length) if work >= _WORTH else 1
    if pieces <= 1:
        kernel(*arguments, 0, length, 0)
    else:
        share_pieces(pieces, length, work >= _WORTH_WAKING, None, kernel, *arguments)


def share_pieces(
    pieces: int, length: int, wakes: bool, space: Workspace | None, kernel: Callable[..., Any], *arguments: Any
) -> None:
    """Call kernel(*arguments, start, stop, thread) on so many near-equal pieces of range(length), in any order.

    `wakes` says whether it is worth the time to wake a thread. A kernel that needs a workspace has it as its first
    argument, that of a thread from its number times the size on.
    """
    helpers = min(parallel.get_num_threads(), pieces, MOST_HELPERS + 1) - 1
    if helpers > 0 and pieces <= MOST_PIECES and hand_over.helps(helpers):
        kernel(*_with(space, helpers + 1), *arguments, pieces, length, hand_over.BOARD | helpers)
        return

    def piece(i: int) -> None:
        kernel(*_with(space, 1), *arguments, i * length // pieces, (i + 1) * length // pieces, 0)

    if wakes:
        parallel.run(piece, pieces)
        return
    parallel.wake(helpers)
    for i in range(pieces):
        piece(i)


def _with(space: Workspace | None, threads: int) -> tuple[Any, ...]:
    return () if space is None else (parallel.scratch(space.name, threads * space.size, space.dtype),)
