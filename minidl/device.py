"""The processor that arrays of the default backend are computed on: its name, its versions, and waiting for it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from minidl.backend import compiles, default_module, default_name, on_gpu


def synchronize() -> None:
    """Wait until the GPU has done all that was asked of it; with numpy nothing is ever left to do."""
    if on_gpu():
        default_module().cuda.get_current_stream().synchronize()


def name() -> str:
    """Return what the processor is called: the current GPU, or the CPU."""
    if not on_gpu():
        return cpu()
    xp = default_module()
    found = xp.cuda.runtime.getDeviceProperties(xp.cuda.runtime.getDevice())["name"]
    return found.decode() if isinstance(found, bytes) else str(found)


def describe() -> str:
    """Return the backend and its processor, such as "cupy on device 0, NVIDIA H200"."""
    if not on_gpu():
        return default_name()
    return f"cupy on device {default_module().cuda.runtime.getDevice()}, {name()}"


def versions() -> dict[str, str]:
    """Return the versions of the default backend: of CuPy also those of CUDA and of what the driver supports."""
    if compiles():
        import numba

        return {"numpy": np.__version__, "numba": numba.__version__}
    if not on_gpu():
        return {"numpy": np.__version__}
    xp = default_module()
    runtime, driver = xp.cuda.runtime.runtimeGetVersion(), xp.cuda.runtime.driverGetVersion()
    return {
        "numpy": np.__version__,
        "cupy": xp.__version__,
        "CUDA runtime": _dotted(runtime),
        "CUDA of the driver": _dotted(driver),
    }


def _dotted(version: int) -> str:
    """Return such as "12.9" for 12090.

    >>> _dotted(12090)
    '12.9'
    """
    return f"{version // 1000}.{version % 1000 // 10}"


def machine() -> dict[str, Any]:
    """Return the system, the number of cores, and the versions of Python and NumPy."""
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def cpu() -> str:
    """Return what the CPU is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
