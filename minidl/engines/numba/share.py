"""Sharing a compiled pass out to the threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl import parallel

_WORTH = 1 << 20  # values; a compiled pass over fewer takes no longer than to wake a thread


def share(length: int, work: int, kernel: Callable[..., Any], *arguments: Any) -> None:
    """Call kernel(*arguments, start, stop) on one part of range(length) per thread, or at once on all of a small work.

    `work` is the number of values in all. The values must not depend on the cut.
    """
    if work < _WORTH or parallel.get_num_threads() == 1:
        kernel(*arguments, 0, length)
    else:
        parallel.over(length, work, lambda some: kernel(*arguments, some.start, some.stop))
