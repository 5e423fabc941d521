"""What an error in a learner's answer means, and where it is."""

from __future__ import annotations

import linecache
import re
import traceback
from types import FrameType
from typing import Any

import numpy as np

PLAIN = (  # what Python or NumPy says, and the same in the words of a lesson
    (
        r"truth value of an array",
        "`max`, `min`, `if`, `and`, `or` and `not` take one number. Element by element it is np.maximum, np.minimum, "
        "np.where, `&`, `|` and `~`.",
    ),
    (
        r"cannot unpack non-iterable|not enough values to unpack|too many values to unpack",
        "What is returned there is not as many values as are taken apart: compare `return` with the docstring.",
    ),
    (
        r"(tuple|list) indices must be integers or slices, not str",
        "A dictionary is wanted there, and a tuple or a list came: compare `return` with the docstring.",
    ),
    (
        r"zip\(\) argument",
        "What is returned there is not as many values as are asked for: compare `return` with the docstring.",
    ),
    (r"[Aa]xis must be specified", "The mean there runs over everything: say over which axis, `axis=0` for the first."),
    (
        r"takes .* positional arguments? but",
        "The check hands on what your function returns: is it as many values as asked for?",
    ),
    (r"'?NoneType'?", "Something there is None: does a function end without `return`?"),
    (
        r"zero-dimensional arrays cannot be concatenated",
        "An array is wanted there, and a function gave None or one number.",
    ),
    (
        r"^IndexError: .*out of (bounds|range)",
        "An index there runs past the end: count from 0, and stop one before the length.",
    ),
    (r"^KeyError", "The dictionary has no such key: compare it with the docstring, letter by letter."),
    (
        r"only integer|cannot be interpreted as an integer|indices must be integers",
        "A whole number is wanted there: `//` gives one, `/` does not.",
    ),
    (r"^UnboundLocalError|cannot access local variable", "The name is read before the function has given it a value."),
    (r"^RecursionError", "The function calls itself without an end."),
    (r"read-only", "The array there may not be written into: compute a new one."),
    (
        r"Cannot cast ufunc|same_kind",
        "`+=` and `out=` keep the dtype of the array on the left: begin with an array of floats.",
    ),
    (
        r"JSONDecodeError|UnicodeDecodeError",
        "What is read there is not the text that is expected: look at where it begins and where it ends.",
    ),
    (
        r"buffer size must be|buffer is smaller than",
        "The bytes there are no whole number of values: look at where they begin and end, and at the size of a value.",
    ),
    (
        r"^TypeError: .* gave (float|int)\d+, and",
        "An array keeps the dtype that it was made with: `np.zeros(n)` is float64, `np.zeros(n, x.dtype)` is as x.",
    ),
    (
        r"unsupported operand type|has no attribute|unexpected keyword",
        "The object there cannot do that: look at what it is, and at the functions that the text above names.",
    ),
)


def _plain(what: str) -> list[str]:
    """Return an error in the words of a lesson, where it is one of the frequent ones."""
    return next(([words] for pattern, words in PLAIN if re.search(pattern, what)), [])


def explain(error: Exception, home: dict[str, Any] | None) -> str:
    """Say what went wrong in the learner's code, and where."""
    if isinstance(error, NotImplementedError) and str(error).startswith("your turn"):
        return f"{error} is still to be written. Write it, run its cell, then run this one again."
    frame, line = _innermost(error, home)
    code = frame.f_code
    outside = code.co_name in ("<lambda>", "<module>") or frame.f_globals.get("__name__", "").startswith(
        "minidl.lesson"
    )
    if isinstance(error, NameError) and outside:
        return f"{error}. Run the cells above first, from the top, then this one again."
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    if outside:
        return "\n".join([f"calling your code raised {what}", *_plain(what)])
    text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
    where = f"{code.co_name}, line {line} of its cell" + (f", `{text}`" if text else "")
    hint = " (a slip of the pen, or a cell above that has not run)" if isinstance(error, NameError) else ""
    return "\n".join([f"an error in {where}", f"      {what}{hint}", *_plain(what), *_shapes(frame, text)])


def _shapes(frame: FrameType, text: str) -> list[str]:
    """Return a sentence with the shapes of the arrays that a line of the learner's code names."""
    names = dict.fromkeys(re.findall(r"[A-Za-z_]\w*", text))
    values = {name: frame.f_locals.get(name) for name in names}
    known = [f"{name} is {value.shape}" for name, value in values.items() if isinstance(value, np.ndarray)]
    return [f"There, {', '.join(known)}."] if known else []


def _innermost(error: Exception, home: dict[str, Any] | None) -> tuple[FrameType, int]:
    """Return the innermost frame of the learner's own code; of any code, if none is the learner's."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return ([pair for pair in frames if pair[0].f_globals is home] or frames)[-1]
