"""Recycled memory is never that of an array still in use, and any memory order becomes the fast one."""

import sys

import numpy as np
import pytest

from minidl import ReLU, memory

LARGE = (3, 5, 7, 1009)


@pytest.fixture(autouse=True)
def _own_pool(monkeypatch):
    """Start each test with nothing to recycle."""
    monkeypatch.setattr(memory, "_pool", {})
    monkeypatch.setattr(memory, "_asked", set())
    monkeypatch.setattr(memory, "_requests", 0)
    monkeypatch.setattr(memory, "_held", 0)
    monkeypatch.setattr(memory, "_peak", 0)


def address(array):
    return array.__array_interface__["data"][0]


def large():
    return memory.empty(np, LARGE, np.float32)


@pytest.mark.parametrize("shape", [(3, 4), LARGE, (0, 5), ()])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bool"])
def test_an_empty_array_has_its_shape_and_dtype_in_c_order_and_can_be_written(shape, dtype):
    array = memory.empty(np, shape, dtype)
    assert (array.shape, array.dtype) == (shape, dtype)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.flags.aligned
    array[...] = 1


def test_large_memory_is_handed_out_again_when_nobody_refers_to_it():
    array = large()
    before = address(array)
    del array
    assert address(large()) == before


def test_memory_of_another_shape_and_dtype_is_handed_out_where_the_bytes_are_as_many():
    array = large()
    before = address(array)
    del array
    other = memory.empty(np, (LARGE[3], 15, 7), np.int32)
    assert address(other) == before


KEPT_BY = {
    "the array": lambda a: a,
    "a slice": lambda a: a[1, 2:4],
    "a slice of a transpose of a reshape": lambda a: a.reshape(15, -1).T[5:9, ::3],
    "one element": lambda a: a[2, 4, 6, 1008:],
    "another dtype": lambda a: a.view(np.int32)[0],
    "a broadcast": lambda a: np.broadcast_to(a[0, 0, 0], (4, 1009)),
    "sliding windows": lambda a: np.lib.stride_tricks.sliding_window_view(a[0, 0, 0], 3),
    "a memoryview": lambda a: memoryview(a),
    "the buffer of a view": lambda a: np.frombuffer(a[1], np.uint8),
    "DLPack": lambda a: np.from_dlpack(a),
    "batch_first": lambda a: memory.batch_first(a),
    "a list": lambda a: [a],
}


@pytest.mark.parametrize("what", KEPT_BY)
def test_memory_that_something_refers_to_is_not_handed_out(what):
    array = large()
    array[...] = 3.0
    start = address(array)
    kept = KEPT_BY[what](array)
    del array
    other = large()
    other[...] = 5.0
    assert address(other) != start
    del kept, other
    assert start in {address(a) for a in [large() for _ in range(3)]}


def test_arrays_alive_together_share_nothing():
    alive = [memory.images(np, (31, 7, 11, 13), np.float64) for _ in range(9)]
    for i, array in enumerate(alive):
        array[...] = i
    for i, array in enumerate(alive):
        assert (array == i).all()
        assert not any(np.shares_memory(array, other) for other in alive[:i])


def test_memory_that_another_thread_takes_between_the_look_and_the_grasp_is_left_to_it(monkeypatch):
    before = address(large())  # free at once
    real = sys.getrefcount
    taken = []

    def count(thing):
        return real(thing)

    wrapped = count([]) - real([])  # the references that a Python function adds

    def interrupted(thing):
        references = real(thing) - wrapped
        del thing
        if references == memory.UNUSED and not taken:
            taken.append(None)  # once
            taken[0] = large()  # what another thread does at this moment
        return references

    monkeypatch.setattr(sys, "getrefcount", interrupted)
    mine = large()
    assert address(taken[0]) == before
    assert not np.shares_memory(mine, taken[0])


def test_sizes_nobody_asks_for_any_more_are_let_go(monkeypatch):
    monkeypatch.setattr(memory, "_SWEEP", 10)
    large()
    for _ in range(25):
        memory.empty(np, (2, *LARGE), np.float32)
    assert list(memory._pool) == [2 * 4 * 3 * 5 * 7 * 1009]


def test_an_array_outlives_the_letting_go_of_its_size(monkeypatch):
    monkeypatch.setattr(memory, "_SWEEP", 5)
    array = large()
    array[...] = 3.0
    for _ in range(25):
        memory.empty(np, (2, *LARGE), np.float32)[...] = 5.0
    assert (array == 3.0).all()


def test_asking_in_a_loop_takes_no_more_memory_than_is_alive():
    for _ in range(50):
        a, b = large(), large()
        a, b = b, a
    assert len(memory._pool[a.nbytes]) <= 4


def test_images_have_the_batch_innermost():
    x = memory.images(np, (3, 4, 5, 7), np.float32)
    assert x.shape == (3, 4, 5, 7)
    assert x.strides == (4, 5 * 7 * 3 * 4, 7 * 3 * 4, 3 * 4)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 7)])
def test_batch_last_is_a_view_of_the_fast_format_and_a_copy_of_any_other(shape):
    fast = memory.images(np, shape, np.float32)
    fast[...] = np.arange(fast.size).reshape(shape)
    slow = np.ascontiguousarray(fast)
    last = memory.batch_last(np, fast)
    assert np.shares_memory(last, fast)
    assert last.shape == (*shape[1:], shape[0])
    assert not np.shares_memory(memory.batch_last(np, slow), slow)
    np.testing.assert_array_equal(memory.batch_last(np, slow), last)
    np.testing.assert_array_equal(memory.batch_first(last), fast)


def test_batch_last_casts():
    fast = memory.images(np, (3, 4, 5), np.float16)
    fast[...] = 2.5
    last = memory.batch_last(np, fast, np.float32)
    assert (last.dtype, last.shape) == (np.float32, (4, 5, 3))
    assert (last == 2.5).all()
    assert memory.batch_last(np, fast, np.float16).base is not None


# -- bounds ------------------------------------------------------------------------------------------------------------


def held():
    """Return the bytes of all memory in the pool."""
    return sum(nbytes * len(buffers) for nbytes, buffers in memory._pool.items())


def test_sizes_that_never_come_again_do_not_pile_up():
    for i in range(1000):
        memory.empty(np, (10**6 + 16 * i,), np.float32)
        assert held() <= memory._FLOOR + 4 * (10**6 + 16 * i)
    assert held() == memory._held


def test_a_layer_on_inputs_of_ever_new_sizes_keeps_a_bounded_pool():
    relu = ReLU()
    for i in range(60):
        x = np.ones((1, 10**6 + 16 * i), np.float32)
        relu.forward(x)
        relu.backward(x)
    assert held() <= memory._FLOOR + x.nbytes


@pytest.mark.parametrize("times", [1, 3])
def test_the_pool_holds_at_most_as_much_again_as_was_in_use_at_once(monkeypatch, times):
    monkeypatch.setattr(memory, "_FLOOR", 1 << 20)
    rng = np.random.default_rng(0)
    for _ in range(50):  # passes over a network whose images have a new size each time
        size = int(rng.integers(10**5, 3 * 10**5))
        alive = [memory.empty(np, (size + k,), np.float32) for k in range(10 * times)]
        assert held() <= 2 * 10 * times * 4 * (3 * 10**5 + 100)
        del alive


def test_memory_in_use_is_never_taken_away(monkeypatch):
    monkeypatch.setattr(memory, "_FLOOR", 1 << 16)
    alive = []
    for i in range(40):
        alive.append(memory.empty(np, (20000 + 16 * i,), np.float32))
        alive[-1][...] = i
        memory.empty(np, (50000 + 16 * i,), np.float32)[...] = -1
    for i, array in enumerate(alive):
        assert (array == i).all()


def test_a_step_of_the_same_sizes_takes_no_new_memory(monkeypatch):
    monkeypatch.setattr(memory, "_FLOOR", 1 << 16)

    def step():
        return [memory.empty(np, (20000 + 1000 * k,), np.float32) for k in range(9)]

    step()
    first = {address(array) for array in step()}
    assert {address(array) for array in step()} == first


def test_where_memory_runs_out_the_pool_is_emptied_and_the_request_tried_again(monkeypatch):
    large()
    assert held() > 0
    real, left = np.empty, [1]

    def scarce(shape, dtype=float, **rest):
        if dtype is np.uint8 and left:
            left.pop()
            assert held() > 0
            raise MemoryError
        return real(shape, dtype, **rest)

    monkeypatch.setattr(np, "empty", scarce)
    array = memory.empty(np, (2, *LARGE), np.float32)
    assert held() == array.nbytes
    monkeypatch.setattr(np, "empty", real)


def test_memory_that_does_not_suffice_even_then_is_a_memory_error(monkeypatch):
    def none(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "empty", none)
    with pytest.raises(MemoryError):
        large()


@pytest.mark.parametrize("shape", [(3, 4), LARGE])
@pytest.mark.parametrize("dtype", ["object", [("a", object), ("b", "float32")]])
def test_python_objects_are_refused(shape, dtype):
    with pytest.raises(TypeError, match=r"^memory\.empty: dtype must be one of plain values, got .*; use x\.astype"):
        memory.empty(np, shape, dtype)
