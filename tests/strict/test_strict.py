"""What CuPy refuses, lacks or does in silence is caught by the stand-in: one planted violation each."""

import subprocess
import sys

import numpy as np
import pytest

import strict
from minidl import Linear, array_module, backend, to_device, to_host, use_backend


def device(*values, dtype=np.float32):
    return strict.asarray(np.array(values, dtype))


X = device([1.0, -2.0, 3.0], [4.0, 5.0, -6.0])
HOST = np.ones((2, 3), np.float32)

REFUSED = {
    "a host array in a sum": (lambda: X + HOST, TypeError, "Unsupported type <class 'numpy.ndarray'>"),
    "a host array on the left": (lambda: HOST + X, TypeError, "Unsupported type <class 'numpy.ndarray'>"),
    "a host array in place": (lambda: X.copy().__iadd__(HOST), TypeError, "Unsupported type"),
    "a host array of no dimension": (lambda: X * np.asarray(2.0), TypeError, "Unsupported type"),
    "a host array changed by one of the device": (lambda: np.ones(3).__iadd__(X), TypeError, "Unsupported type"),
    "a host array in a function": (lambda: strict.maximum(X, HOST), TypeError, "Unsupported type"),
    "a host array in a reduction": (lambda: strict.sum(HOST), TypeError, "Unsupported type"),
    "a host array in where": (lambda: strict.where(X > 0, X, HOST), TypeError, "Unsupported type"),
    "a host array in a product": (lambda: X @ HOST.T, TypeError, "Unsupported type"),
    "a host array stacked": (lambda: strict.stack([X, HOST]), TypeError, "Unsupported type"),
    "a list in a sum": (lambda: X * [1.0, 2.0, 3.0], TypeError, "Unsupported type <class 'list'>"),
    "a host array assigned": (lambda: X.copy().__setitem__(..., HOST), TypeError, "Unsupported type"),
    "a host array to fill with": (lambda: X.copy().fill(np.asarray(1.0)), TypeError, "Unsupported type"),
    "a host array as out": (lambda: strict.exp(X, out=HOST.copy()), TypeError, "Output arguments type"),
    "out of another shape": (lambda: strict.exp(X, out=strict.empty((3, 2), "f4")), ValueError, "shape"),
    "an implicit copy to the host": (lambda: np.asarray(X), TypeError, "Implicit conversion to a NumPy array"),
    "np.testing": (lambda: np.testing.assert_array_equal(X, HOST), TypeError, "Implicit conversion|Unsupported"),
    "a missing name": (lambda: strict.errstate(all="ignore"), AttributeError, "errstate"),
    "a missing function": (lambda: strict.einsum_path("ij->i", X), AttributeError, "einsum_path"),
    "random numbers of the device": (lambda: strict.random, AttributeError, "random"),
    "where= of a function": (lambda: strict.sqrt(X, where=X > 0), TypeError, "where"),
    "where= of a reduction": (lambda: strict.sum(X, where=X > 0), TypeError, "where"),
    "initial= of a reduction": (lambda: X.max(initial=0.0), TypeError, "initial"),
    "order= of a function": (lambda: strict.add(X, X, order="F"), TypeError, "order"),
    "maximum.reduce": (lambda: strict.maximum.reduce(X), NotImplementedError, "`cupy_maximum.reduce` is not supported"),
    "a host array set with another dtype": (lambda: X.copy().set(HOST.astype("f8")), TypeError, "dtype"),
    "an array of the device as a host index": (lambda: "abcdefg"[X.argmin()], TypeError, "indices must be integers"),
    "an array of the device in a slice": (lambda: X[: X.argmin()], TypeError, "slice indices must be integers"),
    "a row out of range": (lambda: X[2], IndexError, "out of bounds"),
    # what CuPy does, slowly or wrongly, without a word
    "np.mean": (lambda: np.mean(X), strict.StrictError, r"np\.mean was called"),
    "np.concatenate": (lambda: np.concatenate([X, X]), strict.StrictError, r"np\.concatenate was called"),
    "np.exp": (lambda: np.exp(X), strict.StrictError, r"np\.exp was called"),
    "np.multiply": (lambda: np.multiply(X, X), strict.StrictError, r"np\.multiply was called"),
    "np.add.reduce": (lambda: np.add.reduce(X), strict.StrictError, r"np\.add was called"),
    "a host index": (lambda: X[np.array([0, 1])], strict.StrictError, "would be uploaded at every call"),
    "a host mask": (lambda: X[np.array([True, False])], strict.StrictError, "would be uploaded at every call"),
    "a list as index": (lambda: X[[0, 1]], strict.StrictError, "would be uploaded at every call"),
    "a host index of an assignment": (
        lambda: X.copy().__setitem__(np.array([0]), 0),
        strict.StrictError,
        "would be uploaded at every call",
    ),
    "a host index to take": (lambda: X.take(np.array([0])), strict.StrictError, "would be uploaded at every call"),
    "an index out of range": (lambda: X[device(0, 2, dtype=np.int64)], strict.StrictError, "would wrap"),
    "an assignment out of range": (
        lambda: X.copy().__setitem__(device(2, dtype=np.int64), 0),
        strict.StrictError,
        "would wrap",
    ),
    "take out of range": (lambda: strict.take(X, device(3, dtype=np.int64), axis=1), strict.StrictError, "would wrap"),
    "maximum.at": (
        lambda: strict.add.at(X.copy(), device(0, 0, dtype=np.int64), X),
        strict.StrictError,
        "no fixed order",
    ),
    "a product of three dimensions": (lambda: X[None] @ X.T[None], strict.StrictError, "no single cuBLAS call"),
    "a product into another order": (
        lambda: strict.matmul(X, X.T, out=strict.empty((2, 4), "f4")[:, ::2]),
        strict.StrictError,
        "C-contiguous float32",
    ),
    "a product into another dtype": (
        lambda: strict.matmul(X, X.T, out=strict.empty((2, 2), "f8")),
        strict.StrictError,
        "C-contiguous float32",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused(what):
    call, error, message = REFUSED[what]
    before = X.get()
    with pytest.raises(error, match=message):
        call()
    np.testing.assert_array_equal(X.get(), before)


SYNCHRONISATIONS = {
    "float()": lambda: float(X.sum()),
    "int()": lambda: int(X.argmax()),
    "bool()": lambda: bool(X[0, 0]),
    "item()": lambda: X.max().item(),
    "get()": lambda: X.get(),
    "tolist()": lambda: X.tolist(),
    "complex()": lambda: complex(X[0, 0]),
    "repr()": lambda: repr(X),
    "str()": lambda: str(X),
    "format()": lambda: f"{X.sum():.3f}",
    "a boolean mask": lambda: X[X > 0],
    "nonzero()": lambda: strict.nonzero(X),
    "unique()": lambda: strict.unique(X),
    "Device.synchronize()": lambda: strict.cuda.Device().synchronize(),
    "Stream.synchronize()": lambda: strict.cuda.Stream.null.synchronize(),
}


@pytest.mark.parametrize("what", SYNCHRONISATIONS)
def test_waiting_for_the_device_is_recorded_and_refused_where_it_must_not_be(what):
    with strict.recording() as record:
        SYNCHRONISATIONS[what]()
    assert what in record.synchronisations
    message = f"^{what.replace('()', r'..')} waits for the device$"
    with strict.no_synchronisation(), pytest.raises(strict.SynchronisationError, match=message):
        SYNCHRONISATIONS[what]()
    SYNCHRONISATIONS[what]()  # outside it is allowed again


HIDDEN = {
    "an if": lambda: 1 if X.sum() > 0 else 0,
    "the maximum of two": lambda: max(X.sum(), 0.0),
    "flatnonzero": lambda: strict.flatnonzero(X),
    "where of one argument": lambda: strict.where(X > 0),
    "to_host": lambda: to_host(X),
    "asnumpy": lambda: strict.asnumpy(X),
}


@pytest.mark.parametrize("what", HIDDEN)
def test_a_hidden_wait_is_found(what):
    with strict.no_synchronisation(), pytest.raises(strict.SynchronisationError):
        HIDDEN[what]()


def test_what_does_not_wait_is_allowed():
    with strict.no_synchronisation(), strict.recording() as record:
        y = (2.0 * X + np.float32(1) * X - X / 3) ** 2
        y[y > 1] = 0  # CuPy does this in one kernel
        y[0] = X[1]
        y[1, 1:] += X[0, :2]
        z = strict.where(X > 0, X, 0.0).sum(axis=0) @ X.T
        assert X.shape == (2, 3)
        assert len(z) == 2
        strict.asarray(HOST)
    assert record.synchronisations == []
    assert record.uploads == 1
    assert record.operations.count("setitem") == 3


def test_results_are_numpys():
    x = X.get()
    for got, want in {
        "arithmetic": ((2 - X) / (X**2 + 1), (2 - x) / (x**2 + 1)),
        "a scalar of NumPy": (np.float64(2) * X, np.float64(2) * x),
        "comparison": ((X > 0) & (X < 4), (x > 0) & (x < 4)),
        "a product": (X @ X.T, x @ x.T),
        "a product with a vector": (X @ X[0], x @ x[0]),
        "rows": (X[:, ::-1][device(1, 0, 1, dtype=np.int64)], x[:, ::-1][[1, 0, 1]]),
        "a mask": (X[X > 0], x[x > 0]),
        "a sum": (X.sum(axis=1, keepdims=True), x.sum(axis=1, keepdims=True)),
        "add.reduce": (strict.add.reduce(X, axis=1), x.sum(axis=1)),
        "take": (strict.take(X, device(2, 0, dtype=np.int64), axis=1), x[:, [2, 0]]),
        "pad": (strict.pad(X, ((0, 1), (2, 0)), constant_values=7), np.pad(x, ((0, 1), (2, 0)), constant_values=7)),
        "stack": (strict.stack([X, X], axis=1), np.stack([x, x], axis=1)),
        "windows": (
            strict.lib.stride_tricks.sliding_window_view(X, 2, axis=1),
            np.lib.stride_tricks.sliding_window_view(x, 2, axis=1),
        ),
    }.values():
        np.testing.assert_array_equal(got.get(), want, strict=True)


def test_reductions_and_elements_are_arrays_of_the_device():
    for scalar in (X.sum(), X[0, 1], X[0].max(), strict.mean(X), X.argmax(), (X > 0).all()):
        assert type(scalar) is strict.ndarray
        assert scalar.shape == ()
    x = X.copy()
    x[0][1][...] = 9  # an element is a view
    assert x.get()[0, 1] == 9


def test_new_arrays_are_c_contiguous_whatever_the_operands_are():
    fortran = strict.asarray(np.asfortranarray(HOST))
    assert fortran.flags.f_contiguous
    assert (fortran + fortran).flags.c_contiguous
    assert (fortran.T * 2).flags.c_contiguous
    assert strict.zeros_like(fortran).flags.f_contiguous
    innermost = np.moveaxis(np.zeros((3, 4, 5, 2), np.float32), -1, 0)
    assert strict.asarray(innermost).flags.c_contiguous  # CuPy keeps C and Fortran order alone
    with strict.as_cupy(), use_backend("cupy"):
        assert to_device(innermost).strides == innermost.strides  # minidl keeps them all


def test_fresh_memory_is_not_zero():
    assert np.isnan(strict.empty((2, 3)).get()).all()
    assert np.isnan(strict.empty_like(X).get()).all()
    assert (strict.empty(3, "int64").get() != 0).all()


def test_an_array_is_no_numpy_array_and_has_a_library_of_its_own():
    assert not isinstance(X, np.ndarray)
    with strict.as_cupy():
        assert array_module(x=X) is strict
        with pytest.raises(TypeError) as caught:
            array_module(x=HOST, weight=X)
    assert str(caught.value) == (
        "array_module: all arrays must belong to one library, got x is numpy.ndarray, weight is strict.arrays.ndarray; "
        "move them with minidl.to_device(...) or minidl.to_host(...)"
    )


def test_inside_the_block_import_cupy_is_the_stand_in_and_outside_what_it_was(monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with strict.as_cupy():
        import cupy

        assert cupy is strict
        with use_backend("cupy") as xp:
            assert xp is strict
            assert type(Linear(3, 4).params["weight"]) is strict.ndarray
    assert "cupy" not in sys.modules
    monkeypatch.setitem(sys.modules, "cupy", other := object())
    with strict.as_cupy():
        assert sys.modules["cupy"] is strict
    assert sys.modules["cupy"] is other


def test_inside_the_block_no_module_of_cupys_own_is_seen_so_that_none_loads_late_and_finds_the_stand_in(monkeypatch):
    own = {name: object() for name in ("cupy", "cupyx", "cupyx.scipy", "cupy.testing", "cupycat")}
    for name, module in own.items():
        monkeypatch.setitem(sys.modules, name, module)
    with strict.as_cupy():
        assert [name for name in own if name in sys.modules] == ["cupy", "cupycat"]
        with strict.as_cupy():
            assert sys.modules["cupy"] is strict
        assert sys.modules["cupy"] is strict
    assert {name: sys.modules[name] for name in own} == own


def test_the_variable_finds_it_too(monkeypatch):
    monkeypatch.setenv("MINIDL_BACKEND", "cupy")
    backend._of_environment.cache_clear()
    with strict.as_cupy():
        assert backend.default_module() is strict
    backend._of_environment.cache_clear()


# -- kernels -----------------------------------------------------------------------------------------------------------

SOURCE = r"""
extern "C" __global__ void axpy(REAL a, const REAL *__restrict__ x, REAL *__restrict__ y, int n) {
    for (int i = int(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += int(gridDim.x * blockDim.x)) y[i] += a * x[i];
}
"""


def axpy(a, x, y, n, real="float"):
    options = ("-std=c++17", f"-DREAL={real}")
    strict.RawModule(code=SOURCE, options=options).get_function("axpy")((2,), (4,), (a, x, y, n))


@pytest.mark.parametrize(("real", "dtype"), [("float", "f4"), ("double", "f8")])
def test_a_kernel_runs_over_the_memory_of_the_arrays(real, dtype):
    x, y = X.reshape(-1).astype(dtype), strict.ones(6, dtype)
    with strict.recording() as record, strict.no_synchronisation():
        axpy(np.dtype(dtype).type(10), x, y, np.int32(6), real)
    assert record.operations == ["axpy"]
    np.testing.assert_array_equal(y.get(), 1 + 10 * x.get(), strict=True)


BAD_LAUNCHES = {
    "a host array": ((np.float32(1), HOST, X.copy(), np.int32(6)), strict.StrictError, "axpy: got a host array"),
    "a Python int": ((np.float32(1), X, X.copy(), 6), TypeError, "axpy: n must be"),
    "a Python float": ((1.0, X, X.copy(), np.int32(6)), TypeError, "axpy: a must be"),
    "a wide int": ((np.float32(1), X, X.copy(), np.int64(6)), TypeError, "axpy: n must be"),
    "another dtype": ((np.float32(1), X.astype("f8"), X.copy(), np.int32(6)), TypeError, "axpy: x must be"),
    "gaps": ((np.float32(1), strict.ones((2, 6), "f4")[:, ::2], X.copy(), np.int32(6)), TypeError, "axpy: x must be"),
    "too few": ((np.float32(1), X, X.copy()), TypeError, "axpy: takes 4 arguments, got 3"),
}


@pytest.mark.parametrize("what", BAD_LAUNCHES)
def test_arguments_that_a_gpu_would_misread_are_refused(what):
    arguments, error, message = BAD_LAUNCHES[what]
    module = strict.RawModule(code=SOURCE, options=("-std=c++17", "-DREAL=float"))
    with pytest.raises(error, match=message):
        module.get_function("axpy")((1,), (8,), arguments)


def test_kernels_are_skipped_visibly_without_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match=r"g\+\+, which is not installed"):
        strict.RawModule(code=SOURCE, options=("-DREAL=float",))


def test_nothing_of_minidl_imports_the_stand_in():
    program = "import sys, minidl; print('strict' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "False\n"
