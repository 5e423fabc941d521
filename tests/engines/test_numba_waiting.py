"""A thread that waits awake sees a change, gives up after a while, and leaves the processor of the one it helps."""

import os
import queue
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from minidl import hand_over, parallel, threads

waiting = pytest.importorskip("minidl.engines.numba.waiting", reason="Numba is not installed")


def test_what_has_changed_already_is_seen_at_once():
    board = np.array([3])
    assert waiting.until_changed(board.ctypes.data, 0, 2, 7, 0) is False


def test_a_wait_ends_though_nothing_changes():
    board = np.array([3, 4])
    assert waiting.until_changed(board.ctypes.data, 1, 4, 7, 0) is False


def test_a_change_by_another_thread_is_seen_without_the_lock_of_the_interpreter():
    board, seen = np.zeros(16, np.int64), []

    def wait():
        while board[8] == 0:
            waiting.until_changed(board.ctypes.data, 8, 0, 5, 0)
        seen.append(int(board[8]))

    thread = threading.Thread(target=wait)
    thread.start()
    board[8] = 9
    thread.join(300)
    assert seen == [9]


@pytest.fixture
def awake(monkeypatch):
    """Threads that wait awake, however many processors there are; the looks that they took, by place."""
    looks = []

    def look(board, place, seen, rests, helper):
        looks.append(place)
        return waiting.until_changed(board, place, seen, rests, helper)

    monkeypatch.setattr(hand_over, "awake", look)
    monkeypatch.setattr(parallel, "available_threads", lambda: 99)
    monkeypatch.setattr(parallel, "_processors", 99)
    return looks


@pytest.mark.parametrize("n", [2, 3])
def test_threads_that_wait_awake_run_each_block_once(n, awake):
    with threads(n):
        for blocks in (2, 3, 7, 40):
            for _ in range(5):
                done = []
                parallel.run(done.append, blocks)
                assert sorted(done) == list(range(blocks))
        barrier = threading.Barrier(n, timeout=300)
        parallel.run(lambda i: barrier.wait(), n)  # all take part
    assert parallel._GIVEN.place in awake


def test_an_exception_of_a_block_reaches_who_waits_awake(awake):
    def fail(i):
        if i == 2:
            raise ArithmeticError("block 2")

    with threads(3), pytest.raises(ArithmeticError, match="block 2"):
        parallel.run(fail, 5)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no thread to a processor")
def test_a_helper_on_the_processor_of_who_gave_the_job_out_goes_elsewhere_and_may_come_back(monkeypatch):
    sets = [(0, {3, 5, 7})]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: sets[-1][1])
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, allowed: sets.append((pid, allowed)))
    monkeypatch.setattr(hand_over, "processor", lambda: 5)
    job = parallel._Job(lambda i: None, 1)
    job.help()
    assert sets[1:] == [(0, {3, 7}), (0, {3, 5, 7})]
    monkeypatch.setattr(hand_over, "processor", lambda: 7)
    job.help()
    assert len(sets) == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind threads to processors")
def test_many_threads_on_one_processor_finish():
    program = """
import os
import queue
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
from minidl import Conv2d, threads
from minidl.backend import use_backend
x = np.ones((64, 3, 32, 32), np.float32)
with use_backend("numba"), threads(3):
    for _ in range(20):
        layer = Conv2d(3, 7, 5)
        layer.backward(layer.forward(x))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_a_thread_that_was_woken_waits_awake(awake):
    with threads(2):
        deadline = time.monotonic() + 300
        while not hand_over.helps(1):  # for a millisecond or two, so that a busy machine may miss it
            parallel.wake(1)
            assert time.monotonic() < deadline


def test_threads_that_another_engine_started_are_given_passes_once_there_is_code_for_it():
    program = """
import time
import numpy as np
from minidl import hand_over, parallel, threads
parallel.available_threads = lambda: 2  # else nobody waits awake where there is one processor
with threads(2):
    parallel.run(lambda i: None, 2)
    from minidl.engines.numba.compose import add
    x = np.ones((64, 16, 16, 16), np.float32)
    until = time.monotonic() + 300
    while not hand_over.helps(1):
        add(x, x)
        parallel.run(lambda i: None, 2)
        assert time.monotonic() < until
    for _ in range(200):
        assert (add(x, x) == 2).all()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=400)


def test_threads_are_woken_once_in_a_while(monkeypatch):
    given = queue.SimpleQueue()
    monkeypatch.setattr(parallel, "_jobs", given)
    monkeypatch.setattr(parallel, "_start", lambda helpers: True)
    monkeypatch.setattr(parallel, "_processors", 3)
    monkeypatch.setattr(parallel, "_woken", 0)
    monkeypatch.setattr(parallel, "_WAKES", 10**15)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: 2 * 10**15)
    for helpers in (0, 5, 5, 1):
        parallel.wake(helpers)
    assert given.qsize() == 2  # once, and as many as have a processor


def test_helpers_are_asked_for_by_their_numbers(monkeypatch):
    monkeypatch.setattr(hand_over, "_cells", {hand_over.AWAKE: 1 << 3})
    assert [hand_over.helps(n) for n in (1, 2, 3, 61)] == [False, False, True, True]
