"""Stopping between steps: SIGINT, SIGTERM and SIGHUP set a flag, a second one acts at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from ..leaving import overdue
from ..starting import SIGNALS


class StoppedError(Exception):
    """Training stopped after a whole step because of a signal, and its state was saved."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum
        self.exit_status = 128 + signum


class StopSignal:
    """While entered, the first of SIGNALS sets `received`; the handlers from before answer the second.

    A signal that the process was told to ignore, as a job in the background or under nohup is, stays ignored.
    One that came before, and whose exception was lost, is received already.
    Outside the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self.received = overdue()
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
