"""Stopping between steps: SIGINT, SIGTERM and SIGHUP set a flag, a second one acts at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StoppedError(Exception):
    """Training stopped after a whole step because of a signal, and its state was saved."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum
        self.exit_status = 128 + signum


class LeftError(BaseException):
    """A signal came where there is nothing to save, while a command starts or draws; what is open is closed."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def leaving() -> Iterator[None]:
    """Raise LeftError at SIGTERM and SIGHUP, as Python raises KeyboardInterrupt at SIGINT, inside the ``with`` block.

    Handlers that somebody else set, and signals that are ignored, stay as they are.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for signum in SIGNALS[1:]:
            if signal.getsignal(signum) is signal.SIG_DFL:
                before[signum] = signal.signal(signum, _leave)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _leave(signum: int, frame: FrameType | None) -> None:
    raise LeftError(signum)


class StopSignal:
    """While entered, the first of SIGNALS sets `received`; the handlers from before answer the second.

    A signal that the process was told to ignore, as a job in the background or under nohup is, stays ignored.
    Outside the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                if signal.getsignal(signum) is not signal.SIG_IGN:
                    self._before[signum] = signal.signal(signum, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signum, handler = self._before.popitem()
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
