"""BLAS on one thread while minidl shares the work out to threads of its own, and on its own threads again after it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.RLock()  # a signal's handler may open a block while one is being opened
_open: set[object] = set()  # one for each block
_before: list[tuple[Any, int]] = []  # the libraries and their threads; empty where BLAS is not held


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS to one thread while any such block is open, of whatever thread; without threadpoolctl do nothing.

    A signal's handler may open a block of its own meanwhile, or raise at any moment. What the libraries had before is
    kept until they have it again.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        yield
        return
    own = object()

    def begin() -> None:
        global _before
        _open.add(own)
        if not _before:
            libraries = ThreadpoolController().select(user_api="blas").lib_controllers
            before = [(library, library.num_threads) for library in libraries]
            _before = _before or before
        for library, _ in _before:
            _set_threads(library, 1)

    def end() -> None:
        global _before
        _open.discard(own)
        if not _open:
            for library, n in _before:
                _set_threads(library, n)
            _before = []

    try:
        _alone(begin)
        yield
    finally:
        try:
            _alone(end)
        except BaseException:  # of a handler, perhaps before the end of `end`
            _alone(end)
            raise


def _alone(change: Callable[[], object]) -> None:
    """Call it while no other thread is in here; a handler of this thread may come in once more, or raise, anywhere.

    Not by ``with``: from Python 3.14 on a handler may raise between the lock's `__enter__` and the block.
    """
    within: bool = _lock._is_owned()  # type: ignore[attr-defined]
    try:
        if not within:
            _lock.acquire()
        change()
    finally:
        if not within:
            try:  # noqa: SIM105  a handler may raise in `suppress`, too
                _lock.release()
            except RuntimeError:  # it raised before the lock was taken
                pass


def _set_threads(library: Any, n: int) -> None:
    """Set a BLAS library's threads; threadpoolctl itself lets one Python thread alone, the first, do so."""
    getattr(library, "_real_set_num_threads", library.set_num_threads)(n)


def _after_fork() -> None:
    """Let a forked child open blocks, whatever thread of its parent was within the lock."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
