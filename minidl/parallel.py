"""CPU threads over independent blocks of work.

The partition into blocks is the caller's, and must depend only on shapes: then the results are the same to the last
bit for every number of threads. NumPy releases the GIL inside its loops and inside BLAS, so plain threads are enough.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np

from minidl import blas, hand_over
from minidl.arguments import whole
from minidl.hand_over import Sign
from minidl.scoped import Scoped

Task = Callable[[int], object]

_WORTH = 1 << 18  # values that a thread should work on, at least: to wake it costs tens of microseconds
_WORTH_PRODUCTS = 1 << 24  # multiplications, likewise, of a task that is all matrix products

UNUSED = 2  # references to the owner of `aligned` memory that nobody uses: from its view, and getrefcount's own

RELEASE_ON_MEMORY_ERROR: list[Callable[[], None]] = []  # called, then the memory is asked for again

_num_threads: Scoped[int] = Scoped()
_jobs: SimpleQueue[_Job] = SimpleQueue()
_started = 0
_here = threading.local()

_GIVEN, _DONE = Sign(0, 4000), Sign(8, 2500)  # of a job that is given out, and of a thread that is done with one
_processors = 1  # those of this process when a thread was started last: as many threads may wait awake
_WAKES, _woken = 1_000_000, 0  # ns between two times that threads are woken, and when they were


def available_threads() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def get_num_threads() -> int:
    """Return the number of threads that layers use."""
    return _num_threads.value(1)


@contextmanager
def threads(n: int | None = None) -> Iterator[None]:
    """Let layers use `n` threads (every available core by default) inside the ``with`` block, and BLAS one.

    The numbers that a layer gives do not depend on `n`. BLAS is held by threadpoolctl; where that is not installed,
    set ``OPENBLAS_NUM_THREADS=1`` before Python starts.

    Parameters
    ----------
    n : int, optional
        At least 1; all available cores by default.

    Raises
    ------
    ValueError
        If n < 1.

    Examples
    --------
    >>> with threads(2):
    ...     get_num_threads()
    2
    """
    if n is not None:
        n = whole(n, "threads: n", cure="leave it out to use every core")
    with _num_threads.to(n or available_threads()), blas.one_thread():
        yield


def run(task: Task, blocks: int, products: int = _WORTH_PRODUCTS) -> None:
    """Call ``task(0) ... task(blocks - 1)``, in any order, on the threads; return when all are done.

    `products` is the number of multiplications in all, for matrix products: few of them stay on this thread.
    The first exception a task raised is raised here. A task that itself calls `run` runs its blocks alone. Where an
    exception comes from outside, as from a signal's handler, no further block begins, and those under way end first.
    """
    if blocks == 1:
        task(0)
        return
    helpers = min(get_num_threads(), blocks) - 1
    if helpers <= 0 or products < _WORTH_PRODUCTS or getattr(_here, "busy", False) or not _start(helpers):
        for i in range(blocks):
            task(i)
    else:
        _share(task, blocks, helpers)


def _share(task: Task, blocks: int, helpers: int) -> None:
    job = _Job(task, blocks)
    try:
        _here.busy = job
        for _ in range(helpers):
            _jobs.put(job)
        _GIVEN.change()
        left = blocks - job.work(job.todo.popleft)
        while left:
            done = _DONE.take(job.done, helpers < _processors)
            if not done:
                raise RuntimeError(
                    "this process was forked by a signal's handler within a parallel pass, whose threads it lacks; "
                    "let the handler end it with os._exit, or fork outside of one"
                )
            left -= done
    except BaseException:
        job.leave()
        raise
    finally:
        _here.busy = False
    if job.errors:
        raise job.errors[0]


class _Job:
    """The blocks of one call of `run`, for all threads that work on it."""

    __slots__ = ("done", "errors", "helping", "processor", "task", "todo")

    def __init__(self, task: Task, blocks: int) -> None:
        self.task = task
        self.todo = deque(range(blocks))  # taken from under the GIL
        self.done: SimpleQueue[int] = SimpleQueue()  # how many blocks a helper did; 0 where they will not be done
        self.errors: list[BaseException] = []
        self.helping: list[None] = []  # one for each thread that helps now
        self.processor = hand_over.processor() if hand_over.processor else None  # of the thread that gives it out

    def work(self, take: Callable[[], int]) -> int:
        """Do blocks until none is left; return how many.

        Who gave the job out takes them from its front, the others from its end: jobs over the same arrays that are cut
        along the same axis then meet in each thread what its last one wrote.
        """
        did = 0
        while self.todo:
            try:
                i = take()
            except IndexError:  # another thread was faster
                break
            did += 1
            try:
                self.task(i)
            except BaseException as error:  # handed to the thread that called run
                self.errors.append(error)
        return did

    def help(self) -> None:
        if hand_over.processor and hand_over.processor() == self.processor:
            hand_over.go_elsewhere(self.processor)
        self.helping.append(None)
        did = self.work(self.todo.pop)
        self.helping.pop()
        if did:
            self.done.put(did)
            _DONE.change()

    def forked(self) -> None:
        """Tell who gave the job out, in a forked child, that what helpers had begun is never done."""
        self.helping.clear()
        self.done.put(0)

    def leave(self) -> None:
        """Let no further block begin, and wait for those under way."""
        self.todo.clear()
        while self.helping:  # rare: after Ctrl-C
            time.sleep(1e-4)


def _loop(helper: int) -> None:
    _here.busy = True
    with np.errstate(all="ignore"):  # as in the thread that waits: minidl.arguments.arithmetic
        while True:
            _GIVEN.take(_jobs, helper < _processors, helper).help()


def _start(helpers: int) -> bool:
    """Have at least `helpers` worker threads; False where threads cannot start (a browser)."""
    global _started, _processors
    if _started < helpers or not hand_over.is_prepared():  # an engine may come after the threads of another
        hand_over.prepare()
        _processors = available_threads()
    try:
        while _started < helpers:
            threading.Thread(target=_loop, args=(_started + 1,), name=f"minidl-{_started}", daemon=True).start()
            _started += 1
    except RuntimeError:
        return _started > 0
    return True


def wake(helpers: int) -> None:
    """Wake so many threads, of those that have a processor, for jobs to come: they stay awake for a while.

    Once in a while alone: a thread may take as long to wake up as several of these jobs take.
    """
    global _woken
    now = time.perf_counter_ns()
    if helpers > 0 and now > _woken + _WAKES and _start(helpers):
        _woken = now
        for _ in range(min(helpers, _processors - 1)):
            _jobs.put(_Job(_woken_up, 0))
        _GIVEN.change()


def _woken_up(block: int) -> None:
    """Do nothing: who took this job is awake."""


def _after_fork() -> None:
    global _started, _jobs
    _started, _jobs = 0, SimpleQueue()
    hand_over.forget()
    if isinstance(job := getattr(_here, "busy", None), _Job):
        job.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def over(length: int, work: int, share: Callable[[slice], object]) -> None:
    """Call share(slice) on one slice of range(length) per thread, for shares whose results do not depend on the cut.

    `work` is the number of values in all: few of them are not worth waking a thread for.
    """
    pieces = min(get_num_threads(), length, work // _WORTH)
    if pieces <= 1:
        share(slice(0, length))
        return
    edges = [i * length // pieces for i in range(pieces + 1)]
    run(lambda i: share(slice(edges[i], edges[i + 1])), pieces)


def partition(length: int, size: int) -> list[tuple[int, int]]:
    """Cut range(length) into near-equal pieces of at most about `size`, an even number of them where more than one.

    >>> partition(10, 7), partition(3, 100)
    ([(0, 5), (5, 10)], [(0, 3)])
    """
    pieces = max(1, -(-length // max(1, size)))
    if pieces > 1:
        pieces = min(length, pieces + pieces % 2)
    edges = [i * length // pieces for i in range(pieces + 1)]
    return list(pairwise(edges))


def scratch(name: str, shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an uninitialised array in this thread's own workspace, the same memory at each call with this name.

    It is for a task's temporaries: nothing that outlives the task may be kept in it. While an array over that memory
    is in use, as where a signal's handler runs a network of its own within a task, it is other memory.
    """
    try:
        buffers: dict[str, np.ndarray] = _here.buffers
    except AttributeError:
        buffers = _here.buffers = {}
    size = (shape if isinstance(shape, int) else math.prod(shape)) * np.dtype(dtype).itemsize
    buffer = buffers.get(name)
    if buffer is None or buffer.size < size:
        buffer = buffers[name] = aligned(size)
    elif sys.getrefcount(buffer.base) > UNUSED:
        buffer = aligned(size)
    return np.ndarray(shape, dtype, buffer)


def aligned(size: int) -> np.ndarray:
    """Return `size` uninitialised bytes that begin on a cache line, where SIMD loads are fastest.

    Where memory runs out, what is kept for later is released first.
    """
    try:
        memory = np.empty(size + 64, np.uint8)
    except MemoryError:
        for release in RELEASE_ON_MEMORY_ERROR:
            release()
        memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]
