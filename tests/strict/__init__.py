"""A stand-in for CuPy that needs no GPU: NumPy inside, CuPy's rules outside, and stricter where CuPy is silent.

    from minidl import use_backend
    with strict.as_cupy(), use_backend("cupy"):     # `import cupy` now gives this library
        layer = Linear(3, 4)
        with strict.no_synchronisation():
            y = layer(strict.asarray(x))

Its arrays are a class of their own, no subclass of numpy.ndarray, so that whatever slips past the dispatch fails.

What it takes from CuPy 14:

- The names below are all there are, each with CuPy's parameters: no `where=` or `initial=`, no `errstate`, no
  `maximum.reduce`, no random numbers. `test_strict_is_cupy.py` holds them against CuPy itself where that is installed.
- A host array in an operation, in an assignment or as `out` is a TypeError. Only `asarray` and `array` upload.
- Reductions and `a[i]` of a vector give 0-d arrays of the device, and a row of an array is always a view of it.
- New arrays are C-contiguous, whatever the operands are; an upload keeps C and Fortran order alone.
- A `RawModule` is the CUDA source itself, compiled for the CPU (`raw.py`).

Where CuPy is silent, it fails (`StrictError`): host arrays and lists as indices, which CuPy uploads at every call;
indices out of range, which CuPy wraps; `np.mean(x)`, which CuPy takes over; products of more than two dimensions,
which CuPy computes by a slow route. Memory of `empty` is NaN, and reading it before writing it shows.

What waits for the device is counted, and refused inside `no_synchronisation()`: float(), int(), bool(), item(), get(),
tolist(), printing, boolean masks, nonzero. Operations are counted too: `recording()` gives both.

What it does not model: time, streams and events, more than one device at once, the asynchronous order of kernels and
copies, memory limits, alignment, the last digits of CuPy's own reductions and functions and of float16 arithmetic,
floating-point warnings (CuPy has none), and whether NVRTC compiles a kernel (tests/kernels does that).
"""

from strict import cuda, functions, lib
from strict.arrays import StrictError, asnumpy, ndarray
from strict.events import Recording, SynchronisationError, as_cupy, no_synchronisation, recording
from strict.functions import *  # noqa: F403
from strict.raw import RawModule

__version__ = "14.2.0"  # whose rules these are
OF_CUPY = [*functions.__all__, "RawModule", "asnumpy", "cuda", "lib", "ndarray"]
__all__ = [
    "OF_CUPY",
    "RawModule",
    "Recording",
    "StrictError",
    "SynchronisationError",
    "as_cupy",
    "asnumpy",
    "cuda",
    "lib",
    "ndarray",
    "no_synchronisation",
    "recording",
    *functions.__all__,
]
