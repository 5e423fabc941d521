"""Blocks run once each on however many threads, and the numbers do not depend on how many."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl import SGD, LeNet, SoftmaxCrossEntropy, norm_factory, parallel, threads

NORMS = ("bn", "in", "ln", "gn", "mn", "mgn", "none")


def lenet_step(norm, batch=128, steps=1):
    """Return everything that training steps of LeNet leave behind."""
    rng = np.random.default_rng(7)
    net = LeNet(10, norm=norm_factory(norm, modes=3), rng=rng)
    loss, optimiser = SoftmaxCrossEntropy(), SGD(net, lr=0.1, momentum=0.9)
    for _ in range(steps):
        x = rng.standard_normal((3, 32, 32, batch), np.float32).transpose(3, 0, 1, 2)
        labels = rng.integers(0, 10, batch)
        value = loss.forward(net.forward(x), labels)
        optimiser.zero_grad()
        net.backward(loss.backward())
        optimiser.step()
    return net.state() | optimiser.state() | {"loss": np.asarray(value)}


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_of_lenet_gives_the_same_bits_on_any_number_of_threads(norm):
    with threads(1):
        want = lenet_step(norm)
    for n in (2, 3):
        with threads(n):
            got = lenet_step(norm)
        for name in want:
            np.testing.assert_array_equal(got[name], want[name], err_msg=f"{name} on {n} threads")


@pytest.mark.parametrize("batch", [1, 5, 300])
def test_steps_of_other_batches_give_the_same_bits_on_any_number_of_threads(batch):
    with threads(1):
        want = lenet_step("mn", batch, steps=2)
    with threads(3):
        got = lenet_step("mn", batch, steps=2)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)


def test_layers_work_where_threads_cannot_start(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    with threads(1):
        want = lenet_step("mn")
    monkeypatch.setattr(parallel, "_started", 0)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with threads(3):
        got = lenet_step("mn")
    assert parallel._started == 0
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


def test_layers_use_the_threads_that_did_start(monkeypatch):
    start, started = threading.Thread.start, []

    def start_one(self):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(parallel, "_started", 0)
    monkeypatch.setattr(threading.Thread, "start", start_one)
    done = []
    with threads(4):
        parallel.run(done.append, 9)
    assert sorted(done) == list(range(9))
    assert parallel._started == len(started) == 1


@settings(max_examples=50)
@given(st.integers(1, 5), st.integers(0, 40))
def test_each_block_runs_once(n, blocks):
    done = []
    with threads(n):
        parallel.run(done.append, blocks)
    assert sorted(done) == list(range(blocks))


def test_several_threads_work_at_once():
    barrier = threading.Barrier(3, timeout=300)
    with threads(3):
        parallel.run(lambda i: barrier.wait(), 3)  # returns only if three tasks are under way together


def test_a_task_that_runs_tasks_runs_them_itself_though_another_thread_is_idle():
    inner = []

    def wait(i, j):
        time.sleep(0.001)  # time enough for the idle thread to help
        inner.append((i, j, threading.get_ident()))

    barrier = threading.Barrier(3, timeout=300)
    with threads(3):
        parallel.run(lambda i: barrier.wait(), 3)  # three are there
        parallel.run(lambda i: parallel.run(lambda j: wait(i, j), 20), 2)  # two have work
    assert sorted((i, j) for i, j, _ in inner) == [(i, j) for i in range(2) for j in range(20)]
    for i in range(2):
        assert len({ident for k, _, ident in inner if k == i}) == 1


@pytest.mark.parametrize("n", [1, 3])
def test_the_exception_of_a_task_is_raised_and_the_threads_go_on(n):
    def fail(i):
        if i == 4:
            raise ArithmeticError("block 4")

    with threads(n):
        for _ in range(3):
            with pytest.raises(ArithmeticError, match="block 4"):
                parallel.run(fail, 9)
        done = []
        parallel.run(done.append, 9)
    assert sorted(done) == list(range(9))


def test_an_exception_from_outside_while_a_job_is_given_out_lets_the_blocks_under_way_end_first(monkeypatch):
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def task(i):
        begun.set()
        go_on.wait(300)
        ended.append(i)

    def change():
        assert begun.wait(300)
        raise KeyboardInterrupt  # as where Ctrl-C comes just then

    with threads(2):
        parallel.run(lambda i: None, 2)  # the threads have started
        with monkeypatch.context() as patch:
            patch.setattr(parallel._GIVEN, "change", change)
            patch.setattr(parallel.time, "sleep", lambda seconds: go_on.set())  # `leave` waits so
            with pytest.raises(KeyboardInterrupt):
                parallel.run(task, 5)
        go_on.set()
        assert ended == [4]
        barrier = threading.Barrier(2, timeout=300)
        parallel.run(lambda i: barrier.wait(), 2)


def test_two_callers_at_once_get_their_own_results():
    def caller(k):
        total = np.zeros(50)
        for _ in range(20):
            parallel.run(lambda i: total.__setitem__(i, total[i] + k), 50)
        results[k] = total

    results = {}
    with threads(3):
        callers = [threading.Thread(target=caller, args=(k,)) for k in (1, 2, 3)]
        for one in callers:
            one.start()
        for one in callers:
            one.join()
    for k, total in results.items():
        assert (total == 20 * k).all()


def test_the_number_of_threads_holds_inside_the_block_alone():
    before = parallel.get_num_threads()
    with threads(3):
        assert parallel.get_num_threads() == 3
        with threads(2):
            assert parallel.get_num_threads() == 2
        assert parallel.get_num_threads() == 3
        with threads():
            assert parallel.get_num_threads() == parallel.available_threads() >= 1
    assert parallel.get_num_threads() == before
    with pytest.raises(KeyError), threads(3):
        raise KeyError
    assert parallel.get_num_threads() == before


@pytest.mark.parametrize("n", [0, -2])
def test_fewer_than_one_thread_is_refused(n):
    with (
        pytest.raises(ValueError, match=f"^threads: n must be >= 1, got {n}; leave it out to use every core$"),
        threads(n),
    ):
        pass


def test_threads_work_without_threadpoolctl(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    done = []
    with threads(2):
        parallel.run(done.append, 5)
    assert sorted(done) == list(range(5))


def test_a_forked_child_starts_threads_of_its_own():
    program = """
import os, threading, warnings
from minidl import parallel, threads
warnings.simplefilter("ignore")  # newer Pythons warn of forking with threads: that is what is tried here
with threads(3):
    parallel.run(lambda i: None, 9)
    if (child := os.fork()) == 0:
        barrier = threading.Barrier(3, timeout=300)
        parallel.run(lambda i: barrier.wait(), 3)  # raises unless three threads take part
        os._exit(0)
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


@given(st.integers(1, 3000), st.integers(-3, 3000))
@settings(max_examples=100)
def test_a_partition_covers_the_range_in_near_equal_pieces_an_even_number_of_them(length, size):
    pieces = parallel.partition(length, size)
    assert [i for a, b in pieces for i in range(a, b)] == list(range(length))
    widths = [b - a for a, b in pieces]
    assert min(widths) >= 1
    assert max(widths) - min(widths) <= 1
    assert max(widths) <= max(1, size)
    assert len(pieces) % 2 == 0 or len(pieces) in (1, length)


@given(st.integers(1, 500), st.integers(1, 1 << 22), st.integers(1, 5))
@settings(max_examples=50)
def test_over_covers_the_range_once(length, work, n):
    hits = np.zeros(length, int)
    with threads(n):
        parallel.over(length, work, lambda some: hits.__setitem__(some, hits[some] + 1))
    assert (hits == 1).all()


def test_little_work_stays_on_one_thread():
    idents = []
    with threads(3):
        parallel.over(100, 100, lambda some: idents.append((threading.get_ident(), some)))
    assert idents == [(threading.get_ident(), slice(0, 100))]


def test_scratch_is_the_same_memory_at_each_call_and_grows():
    a = parallel.scratch("test", (3, 5), np.float32)
    address = a.ctypes.data
    del a
    b = parallel.scratch("test", (5, 3), np.float32)
    assert (b.shape, b.dtype) == ((5, 3), np.float32)
    assert b.ctypes.data == address
    a = b
    other = parallel.scratch("test of another name", (3, 5), np.float32)
    assert not np.shares_memory(a, other)
    larger = parallel.scratch("test", (300, 5), np.float64)
    larger[...] = 1
    assert larger.shape == (300, 5)


def test_scratch_that_is_in_use_is_left_to_its_user():
    a = parallel.scratch("test", (30, 5), np.float32)
    view = a.T[2:]
    address = a.ctypes.data
    del a
    b = parallel.scratch("test", (30, 5), np.float32)
    assert not np.shares_memory(view, b)
    del view, b
    assert parallel.scratch("test", (30, 5), np.float32).ctypes.data == address


def test_each_thread_has_its_own_scratch():
    barrier, seen = threading.Barrier(2, timeout=300), []

    def task(i):
        array = parallel.scratch("test", (100,), np.float64)
        array[...] = i
        barrier.wait()
        seen.append((array == i).all())

    with threads(2):
        parallel.run(task, 2)
    assert seen == [True, True]


@pytest.mark.parametrize("size", [1, 63, 64, 100_003])
def test_aligned_memory_begins_on_a_cache_line(size):
    memory = parallel.aligned(size)
    assert memory.shape == (size,)
    assert memory.ctypes.data % 64 == 0
