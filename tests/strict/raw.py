"""`cupy.RawModule` and its kernels: the CUDA source itself, compiled for the CPU and held to its own signature."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from kernels import emulate

from strict.arrays import StrictError, ndarray
from strict.events import computed


class RawModule:
    """The kernels of one CUDA source; a test that needs them is skipped where there is no g++."""

    def __init__(self, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc", **unknown: Any) -> None:
        if unknown:
            raise StrictError(f"RawModule({', '.join(unknown)}=) is not modelled")
        if shutil.which("g++") is None:
            pytest.skip("strict runs kernels through g++, which is not installed")
        defined = dict(option.removeprefix("-D").split("=") for option in options if option.startswith("-D"))
        real = {"float": "float32", "double": "float64"}[defined.get("REAL", "float")]
        self._kernels = emulate.compile(code, real, **({"index": defined["INDEX"]} if "INDEX" in defined else {}))

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(self._kernels[name])


class RawKernel:
    """One kernel: `kernel(grid, block, args)`, each argument an array of the device or a scalar of NumPy."""

    def __init__(self, kernel: emulate.Kernel) -> None:
        self._kernel = kernel

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared_mem: int = 0
    ) -> None:
        for arg in args:
            if isinstance(arg, np.ndarray):
                raise StrictError(f"{self._kernel.name}: got a host array, whose address means nothing on the device")
        computed(self._kernel.name)
        memories = tuple(arg._memory if isinstance(arg, ndarray) else arg for arg in args)
        self._kernel(grid, block, memories, shared_mem=shared_mem)
