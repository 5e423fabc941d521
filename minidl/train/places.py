"""Where code of one's own stands: the file and the line of a class, a function or a layer's method, for messages."""

from __future__ import annotations

import inspect
import linecache
import re
import sysconfig
from pathlib import Path
from typing import Any

from ..layers.base import Layer


def place_of_method(layer: Layer, name: str) -> str:
    """Return the file and the line where the class of a layer, or one that it is derived from, defines a method.

    It is "" for a method of minidl, such as that of a network that is put together of its layers.
    """
    return _place(getattr(type(layer), name, None), f"{type(layer).__name__}.{name}")


def place_of(thing: Any) -> str:
    """Return the file and the line where a class or a function of one's own is defined; "" for any other."""
    kind = "class" if inspect.isclass(thing) else "function"
    return _place(thing, f"{kind} {getattr(thing, '__name__', '')}")


def _place(thing: Any, what: str) -> str:
    try:
        file = inspect.getsourcefile(thing)
    except TypeError:
        return ""
    line = _line_of(thing, file) if file and not is_library(file) else None
    return f" ({what}, {Path(file).name}, line {line})" if file and line else ""


def _line_of(thing: Any, file: str) -> int | None:
    """Return the line where a function or a class begins.

    `inspect` parses the whole file for a class, in each thread that asks, and threads that parse at once may get a
    SystemError from Python 3.11.
    """
    if not inspect.isclass(thing):
        code = getattr(inspect.unwrap(thing), "__code__", None)
        return code.co_firstlineno if code else None
    lines = linecache.getlines(file)
    found = [i for i, line in enumerate(lines, 1) if re.match(rf"\s*class\s+{re.escape(thing.__name__)}\b", line)]
    codes = [code for value in vars(thing).values() if (code := getattr(value, "__code__", None))]
    first = min((code.co_firstlineno for code in codes if code.co_filename == file), default=len(lines))
    before = [line for line in found if line <= first]  # of two of this name, that which its methods stand in
    return before[-1] if before else None


def is_library(file: str) -> bool:
    """Whether a file is minidl's, of an installed package, of Python, or none at all, as `<frozen importlib>`."""
    path = Path(file)
    folders = Path(__file__).parents[1], sysconfig.get_path("stdlib")
    return (
        file.startswith("<") or "site-packages" in path.parts or any(path.is_relative_to(folder) for folder in folders)
    )
