"""`launch` turns Python's numbers into those of the kernel, covers all the work, and compiles once."""

from types import SimpleNamespace

import numpy as np
import pytest

from minidl.engines.cuda import launch as kernels


class Array:
    """What looks like an array of this size."""

    def __init__(self, size):
        self.size = size


class Library:
    """A library whose modules write down what they are given."""

    ndarray = Array

    def __init__(self):
        self.compiled, self.launched = [], []

    def RawModule(self, code, options):
        self.compiled.append((code, options))
        return SimpleNamespace(get_function=lambda name: lambda *launch: self.launched.append((name, *launch)))


@pytest.fixture
def xp():
    """Return such a library."""
    return Library()


def test_numbers_become_those_of_the_kernel_and_the_size_comes_last(xp):
    x = Array(10)
    kernels.launch(xp, "relu", "relu", 1000, x, 3, 0.5, True, np.float64(2.5), dtype="float32")
    ((name, grid, block, args),) = xp.launched
    assert (name, grid, block) == ("relu", (4,), (256,))
    assert args[0] is x
    assert [type(arg) for arg in args[1:]] == [np.int32, np.float32, np.int32, np.float64, np.int32]
    assert list(args[1:]) == [3, 0.5, 1, 2.5, 1000]
    ((code, options),) = xp.compiled
    assert 'extern "C" __global__ void relu(' in code
    assert options == ("-std=c++17", "-DREAL=float", "-DINDEX=int")


@pytest.mark.parametrize(("size", "of_array"), [(2**30 + 1, 10), (10, 2**30 + 1), (2**33, 2**33)])
def test_what_an_int_cannot_count_gets_long_indices(xp, size, of_array):
    kernels.launch(xp, "relu", "relu", size, Array(of_array), 3, dtype="float64")
    ((_, (blocks,), _, args),) = xp.launched
    assert [type(arg) for arg in args[1:]] == [np.int64, np.int64]
    assert args[-1] == size
    assert blocks == min(-(-size // 256), 4096)
    assert xp.compiled[0][1] == ("-std=c++17", "-DREAL=double", "-DINDEX=long long")


def test_an_int_counts_up_to_its_limit_and_the_stride_beyond_it(xp):
    kernels.launch(xp, "relu", "relu", 2**30, Array(2**30), dtype="float32")
    ((_, (blocks,), (threads,), args),) = xp.launched
    assert type(args[-1]) is np.int32
    assert 2**30 + blocks * threads < 2**31


def test_a_source_is_compiled_once_for_each_pair_of_types(xp):
    for dtype in ("float32", np.dtype("float64"), np.float32, "float64"):
        kernels.launch(xp, "relu", "relu", 3, Array(3), dtype=dtype)
        kernels.launch(xp, "relu", "relu_backward", 3, Array(3), dtype=dtype)
    assert len(xp.launched) == 8
    assert len(xp.compiled) == 2


def test_nothing_is_launched_for_no_work(xp):
    kernels.launch(xp, "relu", "relu", 0, Array(0), dtype="float32")
    assert not xp.launched
