"""While layers use threads, BLAS has one, and gets its own back: whatever a signal's handler does meanwhile."""

import contextlib
import itertools
import subprocess
import sys
import threading

import pytest

from minidl import blas, parallel, scoped, threads


def test_blas_has_one_thread_inside_the_block():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")

    def of_blas():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    with threadpoolctl.threadpool_limits(2, "blas"):  # whatever OPENBLAS_NUM_THREADS says
        before = of_blas()
        with threads(2):
            assert set(of_blas()) <= {1}
        assert of_blas() == before


def test_a_signals_handler_may_open_a_block_while_one_is_being_opened_or_closed():
    pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    program = """
import faulthandler
from threadpoolctl import threadpool_info
from minidl import blas, parallel, threads
faulthandler.dump_traceback_later(60, exit=True)  # ends what hangs

def of_blas():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

def handler():
    with threads(3):
        assert parallel.get_num_threads() == 3
        assert all(n == 1 for n in of_blas())

def interrupted(library, n):
    blas._set_threads = set_threads
    handler()
    set_threads(library, n)

set_threads, before = blas._set_threads, of_blas()
blas._set_threads = interrupted
with threads(2):
    assert parallel.get_num_threads() == 2
    assert all(n == 1 for n in of_blas())
    blas._set_threads = interrupted
assert blas._set_threads is set_threads or not before
assert of_blas() == before
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


WHERE = [blas.__file__, parallel.__file__, scoped.__file__, contextlib.__file__, __file__]


class Libraries:
    """A BLAS library on four threads, as threadpoolctl shows those of a process."""

    def __init__(self):
        self.num_threads = 4
        self.lib_controllers = [self]

    def select(self, user_api):
        return self

    def set_num_threads(self, n):
        self.num_threads = n


@pytest.fixture
def libraries(monkeypatch):
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    libraries = Libraries()
    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", lambda: libraries)
    monkeypatch.setattr(parallel, "_num_threads", scoped.Scoped())
    monkeypatch.setattr(blas, "_lock", threading.RLock())
    monkeypatch.setattr(blas, "_open", set())
    monkeypatch.setattr(blas, "_before", [])
    return libraries


def block_with_a_signal(libraries, moment, handler):
    """Open and close a block, and call the handler once in between; return BLAS's threads within, and whether it was.

    The moments are those at which Python itself calls a signal's handler: where a function begins, and after a call.
    Where the handler raises KeyboardInterrupt, as for Ctrl-C, the threads may be None.
    """
    within, left = None, moment

    def look(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename in WHERE and event in ("call", "c_return"):
            left -= 1
            if not left:
                handler()

    looked = sys.getprofile()
    try:
        sys.setprofile(look)
        with threads(2):
            within = libraries.num_threads
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(looked)
    return within, left <= 0


def test_an_interrupt_at_any_moment_of_a_block_leaves_all_as_it_was(libraries):
    def interrupt():
        raise KeyboardInterrupt

    opening = closing = 0
    for moment in itertools.count(1):
        within, came = block_with_a_signal(libraries, moment, interrupt)
        assert (libraries.num_threads, parallel.get_num_threads()) == (4, 1), moment
        assert not blas._lock._is_owned(), moment  # other threads would wait for ever
        if not came:
            break
        opening, closing = opening + (within is None), closing + (within is not None)
    assert within == 1
    assert min(opening, closing) > 10


def test_a_handler_may_open_a_block_at_any_moment_of_another(libraries):
    def handler():
        with threads(3):
            assert (libraries.num_threads, parallel.get_num_threads()) == (1, 3)

    for moment in itertools.count(1):
        within, called = block_with_a_signal(libraries, moment, handler)
        assert (within, libraries.num_threads, parallel.get_num_threads()) == (1, 4, 1), moment
        if not called:
            break
    assert moment > 20


def test_where_blas_could_not_be_let_go_of_the_next_block_does_it(libraries, monkeypatch):
    def interrupted(n):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), threads(2):
        patch.setattr(libraries, "set_num_threads", interrupted)
    with threads(2):
        assert libraries.num_threads == 1
    assert libraries.num_threads == 4
