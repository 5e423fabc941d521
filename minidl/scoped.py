"""A value that ``with`` blocks set: a thread sees its own innermost block, one without a block the latest of any."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Scoped(Generic[Value]):
    """Blocks on several threads may overlap: each ends with what there was before, whatever the order.

    Threads that a block's own thread starts, for work of its own, see the block's value too.

    Examples
    --------
    >>> setting = Scoped()
    >>> with setting.to(3):
    ...     setting.value(1)
    3
    >>> setting.value(1)
    1
    """

    def __init__(self) -> None:
        self._open: list[tuple[Value, object]] = []  # of all threads, the latest last
        self._here = threading.local()

    def value(self, otherwise: Value) -> Value:
        """Return the value of the block that this thread is in."""
        if not self._open:
            return otherwise  # nearly always, and every layer asks
        own = getattr(self._here, "own", None)
        if own is not None:
            return own[0]  # type: ignore[no-any-return]
        for value, _ in self._open[-1:]:  # a slice: another thread may close its block meanwhile
            return value
        return otherwise

    @contextmanager
    def to(self, value: Value) -> Iterator[None]:
        """Set the value inside the ``with`` block."""
        before, own = getattr(self._here, "own", None), (value, object())  # equal to no other
        try:
            self._here.own = own
            self._open.append(own)
            yield
        finally:
            self._here.own = before
            if own in self._open:  # else an interrupt came before
                self._open.remove(own)
