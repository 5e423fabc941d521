"""Sharing a compiled pass out to the threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from minidl import parallel
from minidl.hand_over import Gain

_WORTH = 1 << 17  # values; a compiled pass over fewer takes no longer than to hand half of it to a thread


def share(length: int, work: int, kernel: Callable[..., Any], *arguments: Any) -> None:
    """Call kernel(*arguments, start, stop) on one part of range(length) per thread, or at once on all of a small work.

    `work` is the number of values in all. The values must not depend on the cut.
    """
    pieces = min(parallel.get_num_threads(), length) if work >= _WORTH else 1
    if pieces == 1:
        kernel(*arguments, 0, length)
    else:
        edges = [i * length // pieces for i in range(pieces + 1)]
        gain = _gain(kernel, length, work, pieces)
        parallel.run(lambda i: kernel(*arguments, edges[i], edges[i + 1]), pieces, gain=gain)


@lru_cache(1024)
def _gain(kernel: Callable[..., Any], length: int, work: int, pieces: int) -> Gain:
    """Return what is known of this job."""
    return Gain()
