"""Every name that the stand-in offers is CuPy's, with parameters that CuPy has: where CuPy is installed."""

import functools
import inspect
import re

import pytest

import strict

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: the stand-in's names are not held against it")

NAMES = sorted(strict.OF_CUPY)
METHODS = sorted(name for name in vars(strict.ndarray) if name not in {"__slots__", "__module__", "_memory"})


def keywords(function):
    return {p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD}


def parameters_of_cupy(thing):
    """Return CuPy's parameters, from its signature or from the first line of its documentation."""
    try:
        found = inspect.signature(thing).parameters.values()
    except ValueError:
        return set(re.findall(r"(\w+)\s*(?:=|,|\))", (thing.__doc__ or "").partition("\n")[0]))
    return {p.name for p in found}


@pytest.mark.parametrize("name", NAMES)
def test_the_name_is_cupys(name):
    assert hasattr(cupy, name)


@pytest.mark.parametrize("name", [name for name in NAMES if inspect.isfunction(getattr(strict, name))])
def test_the_parameters_of_a_function_are_cupys(name):
    theirs = parameters_of_cupy(getattr(cupy, name))
    assert keywords(getattr(strict, name)) - {"args"} <= theirs | {"x1", "x2"}, theirs


def test_the_functions_of_each_element_take_what_cupys_do():
    assert keywords(strict.add.__call__) - {"args"} <= parameters_of_cupy(cupy.add)
    for name in NAMES:
        if type(getattr(strict, name)) is type(strict.add):
            assert isinstance(getattr(cupy, name), cupy.ufunc), name


@pytest.mark.parametrize("name", METHODS)
def test_the_method_is_cupys(name):
    if name != "__weakref__":
        assert hasattr(cupy.ndarray, name)


@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("__")])
def test_the_parameters_of_a_method_are_cupys(name):
    ours = vars(strict.ndarray)[name]
    if inspect.isfunction(ours) and name not in ("item", "tolist"):
        assert keywords(ours) <= parameters_of_cupy(getattr(cupy.ndarray, name)) | {"self"}


def test_what_the_stand_in_lacks_on_purpose_is_lacking_in_cupy():
    for name in ("errstate", "einsum_path", "nditer", "insert"):
        assert not hasattr(cupy, name)
        assert not hasattr(strict, name)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (strict.cuda.runtime, "cuda.runtime"),
        (strict.cuda.Device, "cuda.Device"),
        (strict.cuda.Stream, "cuda.Stream"),
        (strict.lib.stride_tricks, "lib.stride_tricks"),
        (strict.RawModule, "RawModule"),
    ],
    ids=lambda thing: thing if isinstance(thing, str) else "",
)
def test_what_lies_deeper_has_cupys_names_too(ours, theirs):
    found = functools.reduce(getattr, theirs.split("."), cupy)
    for name in vars(ours):
        assert name.startswith("_") or hasattr(found, name), name


@pytest.mark.parametrize("name", ["Device", "Stream", "get_current_stream", "is_available", "runtime"])
def test_devices_and_streams_are_found_where_cupy_has_them(name):
    assert hasattr(cupy.cuda, name)
    assert hasattr(strict.cuda, name)
