"""CUDA kernels on the CPU: the very source, compiled by g++ and called for one thread after the other.

    kernels = emulate.compile(source, "float32")
    kernels["relu"](grid, block, (x, y, np.int32(x.size)))

This executes what a kernel computes. It cannot see what threads do to each other when they run at once, how fast memory
is read, or how a GPU rounds exp and log. `reverse` runs the threads from the last to the first: a kernel whose threads
depend on each other then gives other numbers.

Products and sums are not contracted to fused multiply-adds by default, so that a kernel that does what its NumPy twin
does gives the same bits; `contract` fuses wherever the compiler can, as NVRTC does, on a processor that is able to.

An argument must be what the kernel's signature says to the last bit: a driver takes any bytes.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
REAL = {"float32": "float", "float64": "double"}
_TYPES = {
    "bool": np.bool_,
    "int": np.int32,
    "long long": np.int64,
    "float": np.float32,
    "double": np.float64,
}
_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(\w+)\s*\(([^)]*)\)')
_VISIT = """
extern "C" void visit_{name}(const unsigned *grid, const unsigned *block, int reverse, void **args) {{
    gridDim = {{grid[0], grid[1], grid[2]}};
    blockDim = {{block[0], block[1], block[2]}};
    unsigned long long all = 1;
    for (int a = 0; a < 3; ++a) all *= (unsigned long long)grid[a] * block[a];
    for (unsigned long long i = 0; i < all; ++i) {{
        unsigned long long t = reverse ? all - 1 - i : i;
        for (int a = 0; a < 3; ++a) (&threadIdx.x)[a] = (unsigned)(t % block[a]), t /= block[a];
        for (int a = 0; a < 3; ++a) (&blockIdx.x)[a] = (unsigned)(t % grid[a]), t /= grid[a];
        {name}({args});
    }}
}}
"""


class LaunchError(TypeError):
    """A call that a GPU would carry out with other bytes than were meant, or not at all."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel; `written` where it is a pointer to what is not const."""

    name: str
    c_type: str
    dtype: np.dtype
    pointer: bool
    written: bool


@dataclass(frozen=True)
class Kernel:
    """One kernel of a source: `kernel(grid, block, args)`, as CuPy's."""

    name: str
    parameters: tuple[Parameter, ...]
    visit: Callable[..., None]

    def __call__(
        self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_mem: int = 0, reverse: bool = False
    ) -> None:
        if len(args) != len(self.parameters):
            raise LaunchError(f"{self.name}: takes {len(self.parameters)} arguments, got {len(args)}")
        if shared_mem or not 1 <= np.prod(block) <= 1024 or min(grid) < 1:
            raise LaunchError(f"{self.name}: grid {grid}, block {block}, {shared_mem} shared bytes cannot be launched")
        for i, (parameter, arg) in enumerate(zip(self.parameters, args, strict=True)):
            self._check(parameter, arg, [*args[:i], *args[i + 1 :]])
        pointers = [arg.ctypes.data if p.pointer else None for p, arg in zip(self.parameters, args, strict=True)]
        cells = [
            np.array(arg if pointer is None else pointer, p.dtype if pointer is None else np.uintp)
            for p, arg, pointer in zip(self.parameters, args, pointers, strict=True)
        ]
        sizes = ((ctypes.c_uint * 3)(*size, *(1,) * (3 - len(size))) for size in (grid, block))
        self.visit(*sizes, int(reverse), (ctypes.c_void_p * len(cells))(*(cell.ctypes.data for cell in cells)))

    def _check(self, parameter: Parameter, arg: Any, others: list[Any]) -> None:
        wanted = f"{self.name}: {parameter.name} must be {{}}, got {{}}"
        if not parameter.pointer:
            if not isinstance(arg, np.generic) or arg.dtype != parameter.dtype:
                kind = f"{type(arg).__name__} {arg!r}"
                raise LaunchError(wanted.format(f"a numpy.{parameter.dtype}", kind))
            return
        if not isinstance(arg, np.ndarray) or arg.dtype != parameter.dtype:
            kind = f"{type(arg).__name__} of {getattr(arg, 'dtype', 'no dtype')}"
            raise LaunchError(wanted.format(f"an array of {parameter.dtype}", kind))
        order = sorted(range(arg.ndim), key=lambda axis: -arg.strides[axis])
        if not arg.transpose(order).flags.c_contiguous:
            raise LaunchError(wanted.format("dense in memory", f"strides {arg.strides} for shape {arg.shape}"))
        if parameter.written:
            if not arg.flags.writeable:
                raise LaunchError(wanted.format("writable", "a read-only array"))
            if any(isinstance(other, np.ndarray) and np.shares_memory(arg, other) for other in others):
                raise LaunchError(wanted.format("memory of its own, since it is written", "an overlap"))


def compile(
    source: str, dtype: Any, index: str = "int", contract: bool = False, flags: Sequence[str] = ()
) -> dict[str, Kernel]:
    """Return the kernels of a source by their names, for a REAL of this dtype and this INDEX type."""
    real = REAL[np.dtype(dtype).name]
    kernels = {name: parameters(text, real, index) for name, text in _KERNEL.findall(without_comments(source))}
    visits = (_VISIT.format(name=name, args=_arguments(of)) for name, of in kernels.items())
    options = (
        *("-std=c++17", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion"),
        *("-Wno-sign-conversion", "-Wno-unused-function", "-Werror", f"-DREAL={real}", f"-DINDEX={index}"),
        *(("-ffp-contract=fast", "-mfma") if contract else ("-ffp-contract=off",)),
        *flags,
    )
    whole = HEADER.read_text("utf-8") + source + "".join(visits)
    library = ctypes.PyDLL(str(_library(whole, options)))  # holds the GIL
    return {name: Kernel(name, of, getattr(library, f"visit_{name}")) for name, of in kernels.items()}


def without_comments(source: str) -> str:
    """Return the source without // comments."""
    return re.sub(r"//[^\n]*", "", source)


def parameters(text: str, real: str = "float", index: str = "int") -> tuple[Parameter, ...]:
    """Read the parameters of a kernel: `const REAL *__restrict__ x, INDEX n`."""
    found = []
    for one in text.split(","):
        *words, name = re.sub(r"\b__restrict__\b", "", one).replace("*", " * ").split()
        c_type = " ".join(word for word in words if word not in ("const", "*"))
        c_type = {"REAL": real, "INDEX": index}.get(c_type, c_type)
        pointer = "*" in words
        found.append(Parameter(name, c_type, np.dtype(_TYPES[c_type]), pointer, pointer and "const" not in words))
    return tuple(found)


def _arguments(of: tuple[Parameter, ...]) -> str:
    return ", ".join(f"*({p.c_type} *{'*' if p.pointer else ''})args[{i}]" for i, p in enumerate(of))


@cache
def _library(code: str, options: tuple[str, ...]) -> Path:
    """Compile once for all runs: a library is named by the hash of all that goes into it."""
    folder = Path(tempfile.gettempdir()) / f"minidl-kernels-on-the-cpu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    name = hashlib.sha256("\0".join((code, *options, _version())).encode()).hexdigest()
    library = folder / f"{name}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as here:
            made = Path(here) / "kernels.so"
            command = ["g++", *options, "-x", "c++", "-", "-o", str(made)]
            english = {**os.environ, "LC_ALL": "C"}  # what it says is looked at
            done = subprocess.run(command, input=code, capture_output=True, encoding="utf-8", env=english)
            if done.returncode:
                raise SyntaxError(f"g++ does not take the source:\n{done.stderr}")
            made.replace(library)
    return library


@cache
def _version() -> str:
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout


def can_contract() -> bool:
    """Tell whether this processor has fused multiply-adds."""
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and " fma " in cpu.read_text("utf-8")
