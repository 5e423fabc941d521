"""Which array library an array belongs to, and moving arrays between host and device.

Every difference between NumPy and CuPy that matters to a layer is in this file. A pure function starts with
``xp = array_module(x=x, weight=weight)`` and calls ``xp`` from there on; cupy is never imported by doing so.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from minidl import extras, log
from minidl.scoped import Scoped

Array = Any  # numpy.ndarray or cupy.ndarray: the two share an interface, not a base class

NAMES = ("numpy", "numba", "cupy", "auto")
VARIABLE = "MINIDL_BACKEND"

_library_of: dict[type, ModuleType] = {np.ndarray: np}
_default: Scoped[str | None] = Scoped()


class BackendError(RuntimeError):
    """The backend asked for cannot be used here; the message says why and what to install."""

    exit_status = 1


def array_module(*arrays: Array, **named: Array) -> ModuleType:
    """Return the library (numpy or cupy) that all the given arrays belong to; None is passed over.

    Parameters
    ----------
    *arrays, **named : array or None
        A keyword names an array in the error's message.

    Raises
    ------
    TypeError
        If arrays of both libraries are mixed, or something is not an array.

    Examples
    --------
    >>> array_module(np.zeros(3)) is np
    True
    """
    given = (*arrays, *named.values()) if named else arrays
    for array in given:
        if type(array) is not np.ndarray:
            break
    else:
        return np  # nearly always, and every layer asks
    found: ModuleType | None = None
    for array in given:
        if array is None:
            continue
        library = _library_of.get(type(array)) or _find_library(array)
        if found is None:
            found = library
        elif library is not found:
            names = [*(f"argument {i}" for i in range(len(arrays))), *named]
            kinds = zip(names, (*arrays, *named.values()), strict=True)
            mixed = ", ".join(f"{name} is {type(a).__module__}.{type(a).__name__}" for name, a in kinds)
            raise TypeError(
                f"array_module: all arrays must belong to one library, got {mixed}; "
                f"move them with minidl.to_device(...) or minidl.to_host(...)"
            )
    return found or np


def _find_library(array: Array) -> ModuleType:
    """Look along the classes of `array`, for subclasses and for a cupy imported since the last look."""
    cupy = sys.modules.get("cupy")
    if cupy is not None and hasattr(cupy, "ndarray"):
        _library_of[cupy.ndarray] = cupy
    for cls in type(array).__mro__:
        if cls in _library_of:
            return _library_of[cls]
    raise TypeError(
        f"array_module: every argument must be a numpy or cupy array, got {type(array).__name__}; use numpy.asarray"
    )


def register_library(array_type: type, library: ModuleType) -> None:
    """Let arrays of `array_type` be computed by `library` (how another NumPy-like library is plugged in)."""
    _library_of[array_type] = library


@contextmanager
def use_backend(name: str) -> Iterator[ModuleType]:
    """Create the parameters of layers with this backend, and compute with it, inside the ``with`` block.

    Parameters
    ----------
    name : {"numpy", "numba", "cupy", "auto"}
        "numba" is NumPy arrays and compiled passes; "auto" takes the first that is usable of cupy, numba and
        numpy, and says on standard error which where it is not cupy; why not cupy only on a machine with a GPU.

    Raises
    ------
    BackendError
        If the backend cannot be used; the message holds the reason and the pip line.

    Examples
    --------
    >>> with use_backend("numpy") as xp:
    ...     xp is np
    True
    """
    with _default.to(resolve(name)):
        yield default_module()


def resolve(name: str | None = None) -> str:
    """Return the name of a backend for a name or "auto"; None asks the ``MINIDL_BACKEND`` variable, then numpy."""
    name = name or os.environ.get(VARIABLE) or "numpy"
    if name not in NAMES:
        raise BackendError(f"{named_by(name)} must be one of {', '.join(NAMES)}, got {name!r}; choose one of them")
    if name == "numpy":
        return name
    reasons: list[str] = []
    for each, why_not in (("cupy", why_no_cupy), ("numba", why_no_numba)):
        if name not in (each, "auto"):
            continue
        reason = why_not()
        if reason is None:
            if name == "auto" and each != "cupy":
                _say_auto(each, reasons)
            return each
        if name == each:
            raise BackendError(f"backend {each} cannot be used: {reason}")
        if each != "cupy" or has_gpu():  # no word of CuPy where it would be of no use
            reasons.append(reason)
    _say_auto("numpy", reasons)
    return "numpy"


def named_by(name: str) -> str:
    """Return who named an unknown backend, as a message begins with: the variable or the argument."""
    return VARIABLE if name == os.environ.get(VARIABLE) else "backend"


def _say_auto(taken: str, reasons: list[str]) -> None:
    log.note("minidl", f"backend auto: {taken}" + (f", since {'; and '.join(reasons)}" if reasons else ""))


def has_gpu() -> bool:
    """Return whether this machine seems to have a GPU that CuPy could use: NVIDIA's driver is there."""
    return os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi") is not None


def of_commands() -> str:
    """Return the backend that a command takes where none is named: the variable's, then "auto"."""
    return os.environ.get(VARIABLE) or "auto"


def why_no_cupy() -> str | None:
    """Return None where CuPy works, else the reason and the cure in one line."""
    pip = "pip install 'minidl[cuda12x]' (or cuda13x, to match the driver)"
    try:
        import cupy
    except ImportError as error:
        return f"cupy is not installed ({error}); {pip}"
    except Exception as error:  # a variable of the environment that it cannot read
        return f"cupy cannot be imported ({extras.reason(error)}); {extras.cure(error, pip)}"
    try:
        if not cupy.is_available():
            return "cupy finds no CUDA device; install the NVIDIA driver or run on a machine with a GPU"
        float((cupy.arange(1) + 1).sum())  # a driver without NVRTC passes both steps before
    except Exception as error:  # cupy raises many kinds here; every one of them means "cannot be used"
        first_line = str(error).partition("\n")[0]
        return f"cupy cannot run a kernel ({type(error).__name__}: {first_line}); {pip}"
    return None


def why_no_numba() -> str | None:
    """Return None where Numba can be imported and compiles, else the reason and the cure in one line."""
    try:
        import numba
    except Exception as error:  # Numba raises ImportError also for a NumPy that it does not know yet
        return _no_numba(error)
    if not hasattr(numba, "njit"):
        place = getattr(numba, "__file__", None) or next(iter(getattr(numba, "__path__", [])), "a module")
        return f"{place} has the name of Numba and is not Numba; rename it, or pip install 'minidl[fast]'"
    if numba.config.DISABLE_JIT:
        return "numba does not compile, since NUMBA_DISABLE_JIT is set; unset it"
    try:
        from numba.core.registry import cpu_target

        from minidl.processor import why_not_for

        if (wrong := why_not_for(numba.config.CPU_NAME, numba.config.CPU_FEATURES)) is not None:
            return f"numba does not compile, since {wrong}"
        cpu_target.target_context.refresh()  # imports what it compiles with, SciPy too, as the first compilation would
    except Exception as error:
        return _no_numba(error)
    return None


def _no_numba(error: Exception) -> str:
    otherwise = "pip install 'minidl[fast]'" if isinstance(error, ImportError) else "look at the NUMBA_ variables"
    return f"numba cannot be imported ({extras.reason(error)}); {extras.cure(error, otherwise)}"


def engine_name(library: ModuleType) -> str:
    """Return the name of the backend that computes with arrays of this library."""
    if library is not np:
        return "cupy" if library is sys.modules.get("cupy") else library.__name__
    return "numba" if default_name() == "numba" else "numpy"


def default_name() -> str:
    """Return the name of the default backend, never "auto"."""
    return _default.value(None) or _of_environment()


def default_module() -> ModuleType:
    """Return the library that new parameters are made with."""
    if default_name() != "cupy":
        return np
    import cupy

    return cupy  # type: ignore[no-any-return]


@cache
def _of_environment() -> str:
    """Return what the variable says, read when it is first needed: each parameter and each layer asks."""
    return resolve()


def device_count() -> int:
    """Return how many GPUs the default backend, which must be on one, has."""
    return int(default_module().cuda.runtime.getDeviceCount())


@contextmanager
def use_device(index: int | None) -> Iterator[None]:
    """Compute on the GPU with this number inside the ``with`` block, on this thread; None leaves the current one.

    Raises
    ------
    BackendError
        If the default backend has no GPU of this number.
    """
    if index is None:
        yield
        return
    xp = default_module()
    if xp is np:
        raise BackendError(f"device {index} cannot be used: the backend is numpy; ask for cupy (--backend cupy)")
    count = device_count()
    if not 0 <= index < count:
        raise BackendError(f"device must be in [0, {count}), got {index}; nvidia-smi lists the GPUs")
    with xp.cuda.Device(index):
        yield


def gemm(xp: ModuleType, a: Array, b: Array, out: Array | None = None) -> Array:
    """Return the matrix product a @ b of two-dimensional arrays: where another engine for products would come in."""
    return xp.matmul(a, b, out=out)


def products(a: Array, b: Array) -> Array:
    """Return the small matrix products a[i] @ b[i] of two stacks (B, L, M), (B, M, N), or of a stack and a matrix.

    On CuPy as a sum, for its products of stacks are slow and copy.
    """
    return a @ b if type(a) is np.ndarray else (a[..., None] * b[..., None, :, :]).sum(axis=-2)


def to_device(array: Array, like: Array | None = None) -> Array:
    """Move an array to the library of `like`, or to the default backend; its values keep their order in memory.

    Parameters
    ----------
    array : array
        Of any library.
    like : array, optional
        An array that is where the result is to be.

    Examples
    --------
    >>> to_device(np.arange(3), like=np.zeros(1))
    array([0, 1, 2])
    """
    xp = array_module(like) if like is not None else default_module()
    if xp is np:
        return to_host(array)
    if not isinstance(array, np.ndarray):
        return xp.asarray(array)
    axes = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))  # CuPy keeps C and Fortran order alone
    return xp.asarray(array.transpose(axes)).transpose([axes.index(axis) for axis in range(array.ndim)])


def is_on_host(array: Array) -> bool:
    """Return whether the array's values can be looked at without waiting for a GPU."""
    return isinstance(array, np.ndarray)


def is_plain(array: Any) -> bool:
    """Return whether this is an array of NumPy itself: the usual one, whose library need not be looked for."""
    return type(array) is np.ndarray


def on_device(thing: Any) -> bool:
    """Return whether this is an array of a device, not one of NumPy's or a number."""
    return hasattr(thing, "get")


def compiles(name: str | None = None) -> bool:
    """Return whether this backend, the default one where none is named, computes with code compiled for the CPU."""
    return (name or default_name()) == "numba"


def on_gpu(name: str | None = None) -> bool:
    """Return whether this backend, the default one where none is named, computes on a GPU."""
    return (name or default_name()) == "cupy"


def to_host(array: Array) -> np.ndarray:
    """Return the array as a NumPy array, copied from the device if it is there.

    Parameters
    ----------
    array : array
        Of any library.

    Examples
    --------
    >>> to_host(np.arange(3))
    array([0, 1, 2])
    """
    return array.get() if on_device(array) else np.asarray(array)
