"""Which library an array belongs to, how it moves to another and back, and what importing minidl costs."""

import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
import strict
from tolerance import assert_close, sums

from minidl import Linear, array_module, backend, to_device, to_host, use_backend

pytestmark = pytest.mark.usefixtures("plain_environment")


class OtherArray(np.ndarray):
    """An array of another library, for all that array_module can see."""


@pytest.fixture
def other(monkeypatch):
    """Plug in a second library."""
    library = ModuleType("other")
    library.asarray = lambda a: np.asarray(a).view(OtherArray)
    monkeypatch.setattr(backend, "_library_of", {**backend._library_of})
    backend.register_library(OtherArray, library)
    return library


def test_numpy_arrays_scalars_of_no_dimension_and_none_belong_to_numpy():
    assert array_module(np.zeros(3), None, x=np.float32(1) * np.ones(()).reshape(())[None], bias=None) is np
    assert array_module() is np
    assert array_module(None, x=None) is np


def test_subclasses_belong_to_the_library_of_their_class(tmp_path):
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(3,))
    assert array_module(x=mapped) is np


def test_an_array_of_a_registered_library_is_computed_by_it(other):
    assert array_module(x=np.zeros(3).view(OtherArray)) is other


def test_mixing_two_libraries_names_the_arguments_and_the_cure(other):
    x, weight = np.zeros(3), np.zeros(3).view(OtherArray)
    with pytest.raises(TypeError) as caught:
        array_module(x=x, weight=weight)
    assert str(caught.value) == (
        f"array_module: all arrays must belong to one library, got x is numpy.ndarray, "
        f"weight is {__name__}.OtherArray; "
        "move them with minidl.to_device(...) or minidl.to_host(...)"
    )
    with pytest.raises(TypeError, match=r"got argument 0 is numpy\.ndarray, argument 1 is "):
        array_module(x, weight)


def test_a_layer_refuses_an_array_of_another_library(other):
    with pytest.raises(TypeError, match="one library"):
        Linear(3, 4)(np.zeros((2, 3), np.float32).view(OtherArray))


@pytest.mark.parametrize("thing", [[1.0], 3.0, "x", (1, 2)])
def test_what_is_no_array_is_refused_with_the_cure(thing):
    with pytest.raises(TypeError) as caught:
        array_module(x=thing)
    assert str(caught.value) == (
        f"array_module: every argument must be a numpy or cupy array, got {type(thing).__name__}; use numpy.asarray"
    )


def test_arrays_move_to_the_library_of_another_and_back(other):
    x = np.arange(3.0)
    moved = to_device(x, like=np.zeros(1).view(OtherArray))
    assert type(moved) is OtherArray
    np.testing.assert_array_equal(moved, x)
    assert to_device(x, like=np.zeros(1)) is x
    assert to_device(x) is x
    assert to_host(x) is x


def test_to_host_gets_what_lives_on_a_device():
    class OnDevice:
        def get(self):
            return np.arange(3)

    np.testing.assert_array_equal(to_host(OnDevice()), np.arange(3))


ORDERS = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "batch innermost": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0),
    "channels innermost": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
}


@pytest.mark.parametrize("what", ORDERS)
def test_an_upload_keeps_the_order_in_memory(what):
    x = ORDERS[what](np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5))
    with strict.as_cupy(), use_backend("cupy"), strict.recording() as record:
        moved = to_device(x)
    assert type(moved) is strict.ndarray
    assert moved.strides == x.strides
    assert (record.uploads, record.operations) == (1, [])  # one copy, and no kernel that sorts it out there
    np.testing.assert_array_equal(moved.get(), x, strict=True)


@pytest.mark.parametrize(
    "x",
    [np.array(2.5), np.zeros((0, 3)), np.arange(12.0).reshape(3, 4)[::-1, ::2], np.broadcast_to(np.arange(3), (4, 3))],
    ids=["no dimension", "empty", "strided", "repeated"],
)
def test_any_array_of_the_host_can_be_uploaded_and_fetched(x):
    with strict.as_cupy(), use_backend("cupy"):
        np.testing.assert_array_equal(to_host(to_device(x)), x, strict=True)
        np.testing.assert_array_equal(to_device(to_device(x), like=x), x, strict=True)
        assert to_device(moved := to_device(x)) is moved


@pytest.mark.parametrize("library", ["numpy", "strict"], indirect=True)
def test_small_products_are_those_of_numpy(library):
    rng = np.random.default_rng(0)
    for a_shape, b_shape in (((5, 1, 7), (5, 7, 3)), ((5, 7, 3), (5, 3, 1)), ((5, 7, 3), (3, 1))):
        a, b = rng.normal(size=a_shape), rng.normal(size=b_shape)
        got = to_host(backend.products(to_device(a), to_device(b)))
        assert_close(got, a @ b, sums(2 * a.shape[-1], np.abs(a) @ np.abs(b)))
    xp = backend.default_module()
    a, b, out = to_device(rng.normal(size=(4, 3))), to_device(rng.normal(size=(3, 5))), to_device(np.empty((4, 5)))
    assert backend.gemm(xp, a, b, out=out) is out
    host_a, host_b = to_host(a), to_host(b)
    assert_close(to_host(out), host_a @ host_b, sums(2 * 3, np.abs(host_a) @ np.abs(host_b)))
    np.testing.assert_array_equal(to_host(backend.gemm(xp, a, b)), to_host(out))


# -- importing ---------------------------------------------------------------------------------------------------------


def test_importing_minidl_imports_no_dependency_but_numpy():
    program = """
import sys, numpy, numpy.random
before = set(sys.modules)
import minidl, minidl.models, minidl.norm, minidl.reference
net = minidl.LeNet(norm=minidl.norm_factory("mn"))
net(numpy.zeros((2, 3, 32, 32), numpy.float32))
tops = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(tops - set(sys.stdlib_module_names) - {"numpy", "minidl"}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == []


def test_every_public_name_exists():
    import minidl

    assert sorted(minidl.__all__) == sorted(set(minidl.__all__))
    for name in minidl.__all__:
        assert hasattr(minidl, name), name
