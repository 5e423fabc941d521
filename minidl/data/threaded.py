"""Mapping over files on threads, with a progress bar."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

BLOCK = 64  # items that are computed ahead of the one that is asked for, at most
THREADS = 8  # at most


def map_on_threads(
    work: Callable[[Item], Result], items: Sequence[Item], title: str | None = None, unit: str = "file"
) -> Iterator[Result]:
    """Yield ``work(item)`` for each item in order, computed on threads, or without where none can be started.

    Parameters
    ----------
    work : function
    items : sequence
    title : str, optional
        What a progress bar is called, on a terminal where tqdm is installed. Without it there is no bar.
    unit : str
        What the bar counts.

    Examples
    --------
    >>> list(map_on_threads(len, ["a", "bc"]))
    [1, 2]
    """
    bar: Any = None
    if title is not None:
        with suppress(ImportError):  # a bar is not worth an error
            from tqdm import tqdm

            bar = tqdm(total=len(items), desc=title, unit=unit, leave=False, disable=None)
    pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))
    mapped: Any = pool.map
    try:
        try:
            pool.submit(int)
        except RuntimeError:
            mapped = map
        for start in range(0, len(items), BLOCK):
            for result in mapped(work, items[start : start + BLOCK]):
                yield result
                if bar is not None:
                    bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
        if bar is not None:
            bar.close()
