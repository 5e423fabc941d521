"""Engines: which of them has a faster version of a function, and which one computes.

A function is *written* once, plainly, in terms of the array library: that is what a reader reads, and what every
library can run. An engine may have a faster *twin* of it, a function of the same signature that gives the same values
within rounding. `engine(x)` finds the engine for some arrays; called with a written function it returns its twin of it,
or the function itself:

    on = engine(x)                       # in forward; kept, so that backward has the same
    m, v, centred = on(moments)(x)

A condition of a twin ("float32 only") is in the twin, which calls the written function where it does not hold. What
the twin of a forward returns to be kept is read only by the twin of its backward, so it may have any form; where there
is none, the form of the written forward.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

import numpy as np

from minidl import backend
from minidl.backend import Array, array_module

P = ParamSpec("P")
R = TypeVar("R")
Function = Callable[..., Any]


class Engine:
    """Called with a written function, it returns its twin of it, else the function itself.

    Parameters
    ----------
    name : str
    package : the package that registers its twins when it is imported, on first use; None for an engine without twins
    """

    def __init__(self, name: str, package: str | None) -> None:
        self.name = name
        self.package = package
        self.twins: dict[Function, Function] = {}

    def twin(self, written: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Take the decorated function in place of `written`, whose signature it has."""

        def register(fast: Callable[P, R]) -> Callable[P, R]:
            self.twins[written] = fast
            return fast

        return register

    def __call__(self, written: Callable[P, R]) -> Callable[P, R]:
        """Return this engine's twin of a function, else the function itself."""
        return self.twins.get(written, written)

    def __reduce__(self) -> tuple[Callable[[str], Engine], tuple[str]]:
        """Let a copy or a pickle of what a layer keeps refer to this very engine."""
        return _named, (self.name,)

    def __repr__(self) -> str:
        return f"<minidl engine {self.name}>"


WRITTEN = Engine("written", None)  # any library that minidl.register_library was told of
NUMPY = Engine("numpy", "minidl.engines.numpy")
NUMBA = Engine("numba", "minidl.engines.numba")
CUDA = Engine("cuda", "minidl.engines.cuda")

_BY_LIBRARY = {"numpy": NUMPY, "numba": NUMBA, "cupy": CUDA}  # by the backend's name
_ready: dict[str, Engine] = {}


def engine(*arrays: Array, **named: Array) -> Engine:
    """Return the engine for these arrays, which must be of one library; NumPy's depend on the backend asked for.

    Examples
    --------
    >>> import numpy as np
    >>> engine(np.zeros(3))
    <minidl engine numpy>
    """
    name = backend.engine_name(array_module(*arrays, **named))
    return _ready.get(name) or _prepared(name)


def host_engine() -> Engine:
    """Return the engine for NumPy's arrays, as `engine` does: nearly every call asks for it."""
    name = backend.engine_name(np)
    return _ready.get(name) or _prepared(name)


def _named(name: str) -> Engine:
    return next(each for each in (WRITTEN, NUMPY, NUMBA, CUDA) if each.name == name)


def _prepared(name: str) -> Engine:
    """Import an engine's twins."""
    found = _BY_LIBRARY.get(name, WRITTEN)
    if found.package is not None:
        import_module(found.package)
    _ready[name] = found
    return found
