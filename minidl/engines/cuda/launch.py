"""CUDA kernels for arrays on a GPU, and how they are started (docs/kernels.md).

Each `.cu` file holds the kernels of one idea and names its NumPy twin. They are compiled by CuPy when first called.
"""

from __future__ import annotations

import os
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from minidl.backend import Array

_THREADS = 256  # in a block
_BLOCKS = 4096  # at most: a million threads fill the largest GPU several times over
_SHORT = 1 << 30  # values that an int can count, with room for a grid's stride


def launch(xp: ModuleType, source: str, name: str, size: int, *args: Array | float, dtype: Any) -> None:
    """Run a kernel of `source`.cu with `size` threads' work, for REAL of this dtype, float32 or float64.

    An argument is an array that lies dense in memory, an int (INDEX in the kernel), a float (REAL), or a number of
    NumPy, which keeps its type. The kernel gets `size` as its last parameter. INDEX is int, and long long where an
    array is too large for that.
    """
    if size == 0:
        return
    array = xp.ndarray
    longest = max([size, *[arg.size for arg in args if isinstance(arg, array)]])  # the host's time is what a step takes
    index = np.int32 if longest <= _SHORT else np.int64
    real = np.dtype(dtype).type
    as_they_are = array, np.generic
    passed = [
        arg if isinstance(arg, as_they_are) else real(arg) if isinstance(arg, float) else index(arg) for arg in args
    ]
    blocks = min(-(-size // _THREADS), _BLOCKS)
    _module(xp, source, real, index).get_function(name)((blocks,), (_THREADS,), (*passed, index(size)))


@cache
def _module(xp: ModuleType, source: str, real: Any, index: Any) -> Any:
    with open(os.path.join(os.path.dirname(__file__), f"{source}.cu"), encoding="utf-8") as file:
        code = file.read()
    types = {np.float32: "float", np.float64: "double", np.int32: "int", np.int64: "long long"}
    return xp.RawModule(code=code, options=("-std=c++17", f"-DREAL={types[real]}", f"-DINDEX={types[index]}"))
