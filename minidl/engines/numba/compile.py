"""How this engine compiles: one decorator for all its loops, a cache that can be written, a line before the first wait.

Numba compiles a function at its first call, for the dtypes of that call, and keeps the code on disk: beside the source,
else in the user's cache folder (``NUMBA_CACHE_DIR`` names another), else in a folder of the user's in the system's
folder for temporary files. Later processes load it in milliseconds.

The rules for the functions that are compiled here:

- They call `inner` functions alone, which become part of their caller's code. One that stays a call is there twice,
  compiled alone and with its caller, and which of the two runs hangs on whether this process compiled it or found it
  on disk: only a `call`, whose bits are the same however it is compiled, may.
- Arrays are C-contiguous, and rows are sliced first and indexed by the plain loop variable: a computed index is checked
  for negative values, and the loop is then not vectorised.
- NaN and Inf are values like others: the compiler may join products and sums and change their order, and no more.
- Where the order of a sum is part of the method, as in a mean that is put right by a second sum, `in_order` keeps it.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, overload

import numba
from numba.core import event
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock

from minidl import log
from minidl.engines.numba.kept import cache_of

F = TypeVar("F", bound=Callable[..., Any])

_FAST = {"contract", "reassoc", "nsz", "arcp"}  # all of fastmath that leaves NaN and Inf alone
_NOTICED = 0.3  # seconds of compiling, after which it is announced


@overload
def jit(function: F) -> F: ...
@overload
def jit(
    *, in_order: bool = ..., apart: bool = ..., inner: bool = ..., call: bool = ..., compiler: type = ...
) -> Callable[[F], F]: ...
def jit(
    function: F | None = None,
    *,
    in_order: bool = False,
    apart: bool = False,
    inner: bool = False,
    call: bool = False,
    compiler: type = Compiler,
) -> F | Callable[[F], F]:
    """Compile a function when it is first called, to code that runs without the GIL and is kept on disk.

    Parameters
    ----------
    function : the function to compile
    in_order : bool
        Sums keep their order: the compiler may join a product and a sum, but not regroup.
    apart : bool
        The arrays do not overlap, or none is written to: the compiler relies on it, and spares its checks.
    inner : bool
        For a function that compiled functions alone call, and that becomes part of them; `apart` holds for it as well.
    call : bool
        For an inner function that may stay a call, as it has loops of its own; `in_order` holds for it as well. It
        computes sums in the order written and `vector.fma` alone: every compilation of it gives the same bits.
    compiler : type
        Numba's compiler, or one derived from it.
    """
    if function is None:
        return lambda function: _compiled(function, in_order or call, apart or inner, inner, call, compiler)
    return _compiled(function, in_order or call, apart or inner, inner, call, compiler)


def _compiled(function: F, in_order: bool, apart: bool, inner: bool, call: bool, compiler: type) -> F:
    options: dict[str, Any] = {
        "fastmath": {"contract", "nsz"} if in_order else _FAST,
        "error_model": "numpy",
        "nogil": True,
        "no_cfunc_wrapper": True,
        "pipeline_class": _apart(compiler) if apart else compiler,
    }
    if inner:
        options["no_cpython_wrapper"] = True
    if inner and not call:
        options["forceinline"] = True
    compiled = numba.njit(**options)(function)
    if not inner:
        compiled._cache = cache_of(function)
    return compiled  # type: ignore[no-any-return]


@cache
def _apart(compiler: Any) -> type:
    """Return a compiler that is told that the arrays of a function do not overlap: Numba has no option for that."""

    class Apart(compiler):  # type: ignore[misc]
        def __init__(
            self, typingctx: Any, targetctx: Any, library: Any, args: Any, ret: Any, flags: Any, names: Any
        ) -> None:
            flags = flags.copy()
            flags.noalias = True
            super().__init__(typingctx, targetctx, library, args, ret, flags, names)

    return Apart


class _Announcer(event.Listener):  # type: ignore[misc]
    """Says once that functions of minidl are being compiled, when it takes long enough to be noticed.

    Python's collector of cycles rests meanwhile: it would take a tenth of the time, and find little.
    """

    def __init__(self) -> None:
        self.started = self.spent = 0.0
        self.depth = 0
        self.announced = self.collects = False

    def on_start(self, happened: Any) -> None:
        if self.depth == 0:
            if not happened.data["dispatcher"].py_func.__module__.startswith("minidl."):
                return
            self.collects = gc.isenabled()
            gc.disable()
            self.started = time.perf_counter()
        self.depth += 1
        if self.spent > _NOTICED and not self.announced:
            self.announced = True
            log.warn("minidl", "compiling for this processor, a few seconds, this once")

    def on_end(self, happened: Any) -> None:
        if self.depth:
            self.depth -= 1
            if self.depth == 0:
                self.spent += time.perf_counter() - self.started
                if self.collects:
                    gc.enable()


event.register("numba:compile", _Announcer())
if hasattr(os, "register_at_fork"):  # else a child that is forked while another thread compiles waits for it for ever
    _lock = global_compiler_lock
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
