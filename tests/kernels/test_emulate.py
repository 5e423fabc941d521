"""The emulator runs every thread once, in either order, and refuses what a driver would misread."""

import numpy as np
import pytest

from kernels import emulate, needs

pytestmark = needs.GXX

SOURCE = """
// adds 1 for each visit: x (n)
extern "C" __global__ void visit(int *__restrict__ count, REAL *__restrict__ last, REAL scale, INDEX n) {
    for (INDEX i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        count[i] += 1;
        last[0] = scale * REAL(i);
    }
}
extern "C" __global__ void place(int *__restrict__ of) {
    const unsigned x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    of[y * gridDim.x * blockDim.x + x] = int(blockIdx.x + 10 * blockIdx.y + 100 * threadIdx.x + 1000 * threadIdx.y);
}
extern "C" __global__ void copy(const REAL *__restrict__ x, REAL *__restrict__ y) { y[threadIdx.x] = x[threadIdx.x]; }
"""


def kernel(name, dtype="float32", **settings):
    return emulate.compile(SOURCE, dtype, **settings)[name]


@pytest.mark.parametrize(
    ("grid", "block", "forwards", "backwards"),
    [((1,), (1,), 10, 10), ((2,), (2,), 7, 8), ((40,), (32,), 10, 0)],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_every_thread_runs_once_and_the_last_one_last(grid, block, forwards, backwards, reverse):
    count, last = np.zeros(11, np.int32), np.zeros(1, np.float32)
    kernel("visit")(grid, block, (count, last, np.float32(0.5), np.int32(11)), reverse=reverse)
    np.testing.assert_array_equal(count, 1)
    assert last[0] == 0.5 * (backwards if reverse else forwards)


def test_blocks_and_threads_may_have_two_dimensions():
    of = np.zeros((2 * 4, 3 * 2), np.int32)
    kernel("place")((3, 2), (2, 4), (of,))
    want = [[x // 2 + 10 * (y // 4) + 100 * (x % 2) + 1000 * (y % 4) for x in range(6)] for y in range(8)]
    np.testing.assert_array_equal(of, want)


def test_the_types_are_those_of_the_signature():
    names = [(p.name, p.c_type, p.dtype.name, p.pointer, p.written) for p in kernel("visit", "float64").parameters]
    assert names == [
        ("count", "int", "int32", True, True),
        ("last", "double", "float64", True, True),
        ("scale", "double", "float64", False, False),
        ("n", "int", "int32", False, False),
    ]
    assert kernel("visit", index="long long").parameters[3].dtype == np.int64
    assert [p.written for p in kernel("copy").parameters] == [False, True]


X, Y = np.ones(5, np.float32), np.zeros(5, np.float32)
READ_ONLY = np.zeros(5, np.float32)
READ_ONLY.flags.writeable = False
REFUSED = {
    "another dtype": ((X.astype("float64"), Y), "copy: x must be an array of float32, got ndarray of float64"),
    "no array": ((1.0, Y), "copy: x must be an array of float32, got float of no dtype"),
    "gaps": (
        (np.ones(10, np.float32)[::2], Y),
        r"copy: x must be dense in memory, got strides \(8,\)",
    ),
    "read-only": ((X, READ_ONLY), "copy: y must be writable, got a read-only array"),
    "one array twice": ((X, X), "copy: y must be memory of its own, since it is written, got an overlap"),
    "too few": ((X,), "copy: takes 2 arguments, got 1"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_arguments_that_do_not_fit_the_signature_are_refused(what):
    args, message = REFUSED[what]
    with pytest.raises(emulate.LaunchError, match=message):
        kernel("copy")((1,), (5,), args)


@pytest.mark.parametrize("number", [0.5, np.float64(0.5), np.int32(1), 1])
def test_a_number_of_another_type_is_refused(number):
    args = (np.zeros(3, np.int32), np.zeros(1, np.float32), number, np.int32(3))
    with pytest.raises(emulate.LaunchError, match=r"visit: scale must be a numpy\.float32, got "):
        kernel("visit")((1,), (1,), args)


@pytest.mark.parametrize(("grid", "block"), [((0,), (1,)), ((1,), (1025,)), ((1,), (64, 32))])
def test_what_no_gpu_launches_is_refused(grid, block):
    with pytest.raises(emulate.LaunchError, match="cannot be launched"):
        kernel("copy")(grid, block, (X, Y))


def test_a_source_that_is_no_cpp_is_an_error_that_shows_where():
    with pytest.raises(SyntaxError, match="expected"):
        emulate.compile(SOURCE.replace("count[i] += 1;", "count[i] += ;"), "float32")


@pytest.mark.parametrize("careless", ["count[i] += 1.5;", "last[0] = scale * 0.1;"])
def test_a_rounding_or_a_double_that_nobody_wrote_is_an_error(careless):
    with pytest.raises(SyntaxError, match="conversion"):
        emulate.compile(SOURCE.replace("count[i] += 1;", careless), "float32")


def test_threads_that_depend_on_each_other_are_seen_in_another_order():
    source = 'extern "C" __global__ void sum(REAL *__restrict__ x) { x[threadIdx.x + 1] += x[threadIdx.x]; }'
    results = []
    for reverse in (False, True):
        x = np.ones(6, np.float32)
        emulate.compile(source, "float32")["sum"]((1,), (5,), (x,), reverse=reverse)
        results.append(x.tolist())
    assert results == [[1, 2, 3, 4, 5, 6], [1, 2, 2, 2, 2, 2]]
