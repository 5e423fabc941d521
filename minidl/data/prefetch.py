"""Computing ahead on a thread."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetched(function: Callable[[Item], Result], items: Sequence[Item], depth: int) -> Iterator[Result]:
    """Yield ``function(item)`` for each item in order, up to ``depth`` results computed ahead on one thread.

    An exception of the function is raised here, at its item's place.  When the iterator is closed or dropped the
    thread ends before control returns.  With ``depth`` 0, or where no thread can be started (in a browser), the
    results are the same and are computed when asked for.

    >>> list(prefetched(lambda n: n * n, [1, 2, 3], depth=2))
    [1, 4, 9]
    """
    results: SimpleQueue[tuple[Result | None, BaseException | None]] = SimpleQueue()
    slots = threading.Semaphore(depth)
    stopped = threading.Event()

    def work() -> None:
        for item in items:
            slots.acquire()
            if stopped.is_set():
                return
            try:
                results.put((function(item), None))
            except BaseException as error:  # handed over, whatever it is
                results.put((None, error))
                return

    thread = threading.Thread(target=work, name="minidl-loader", daemon=True)
    try:
        if depth == 0:
            raise RuntimeError
        thread.start()
    except RuntimeError:
        yield from map(function, items)
        return
    process = os.getpid()
    try:
        for item in items:
            if os.getpid() != process:  # a fork: the thread is the parent's
                yield function(item)
                continue
            result, error = results.get()
            if error is not None:
                raise error
            slots.release()
            yield result  # type: ignore[misc]
    finally:
        if os.getpid() == process:
            stopped.set()
            slots.release()
            thread.join()
