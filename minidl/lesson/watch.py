"""What the learner's functions do with what a check hands to them: the arrays that they change, and those they make."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator, Set
from types import CodeType, FrameType, TracebackType
from typing import Any

import numpy as np

from minidl.lesson.inputs import equal

Array = np.ndarray[Any, Any]


class Watch:
    """Sees each call of some functions from outside of them, in a ``with`` block.

    A function that returns something must leave its arguments as they were, also those that only the check knows. One
    that returns nothing is there to write into them.

    Parameters
    ----------
    codes : the code of the functions

    Examples
    --------
    >>> def centred(x):
    ...     x -= x.mean()
    ...     return x
    >>> with Watch({centred.__code__}) as seen:
    ...     _ = centred(np.array([1.0, 3.0]))
    >>> seen.changed
    {'x of centred': None}
    """

    def __init__(self, codes: Set[CodeType]) -> None:
        self.codes = codes
        self.changed: dict[str, None] = {}
        self.made: dict[str, Array] = {}
        self.keys: dict[str, list[str]] = {}
        self._open: dict[int, list[tuple[str, Array, Array]]] = {}
        self._mine = False

    def __enter__(self) -> Watch:
        self._mine = sys.getprofile() is None and bool(self.codes)  # somebody who profiles comes first
        if self._mine:
            sys.setprofile(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mine:
            sys.setprofile(None)
        self._open.clear()

    def _note(self, frame: FrameType, event: str, result: Any) -> None:
        if frame.f_code not in self.codes or event not in ("call", "return"):
            return
        if event == "call":
            if tracemalloc.is_tracing():
                return  # the check measures memory, and a copy would count
            if frame.f_back is None or frame.f_back.f_code not in self.codes:
                self._open[id(frame)] = [(name, a, a.copy()) for name, a in _arguments(frame)]
            return
        kept = self._open.pop(id(frame), None)
        if kept is None:
            return
        if result is not None:
            changed = [name for name, array, before in kept if not equal(array, before)]
            self.changed |= dict.fromkeys(f"{name} of {frame.f_code.co_name}" for name in changed)
        for name, value in frame.f_locals.items():
            if type(value) is dict and name in _argument_names(frame):
                self.keys[f"{frame.f_code.co_name}.{name}"] = [key for key in value if isinstance(key, str)]
            if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.size > 1:
                self.made[name] = value


def _argument_names(frame: FrameType) -> tuple[str, ...]:
    """Return the names of a call's arguments."""
    return frame.f_code.co_varnames[: frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount]


def _arguments(frame: FrameType) -> Iterator[tuple[str, Array]]:
    """Yield the arrays that a call is given, also in a list, a tuple or a dictionary, with what to call them."""
    for name in _argument_names(frame):
        value = frame.f_locals.get(name)
        held = {name: value}
        if isinstance(value, list | tuple):
            held = {f"{name}[{i}]": one for i, one in enumerate(value)}
        elif isinstance(value, dict):
            held = {f"{name}[{key!r}]": one for key, one in value.items()}
        for place, one in held.items():
            if isinstance(one, np.ndarray) and one.dtype.kind in "fciub":
                yield place, one
