"""A signal to a command at work: it ends with the signal's status, also where Python would lose an exception.

Python prints and drops what is raised within a callback that C calls, such as those of Numba's compiler, or within a
finaliser. So the signal is remembered, and sent once more where its exception was lost.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from minidl import starting
from minidl.starting import SIGNALS

AGAIN = 0.05  # seconds after which a signal whose exception was lost is sent again


class LeftError(BaseException):
    """A signal came where there is nothing to save, while a command starts or draws; what is open is closed."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class _AtWork:
    """A command at work, and the signal that is to end it."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._print_lost = sys.unraisablehook
        self._again: threading.Timer | None = None

    def receive(self, signum: int, frame: FrameType | None) -> None:
        """Remember a signal, and raise what ends the command."""
        self.received = signum
        raise _ending(signum)

    def lost(self, unraisable: Any) -> None:
        """Send the signal again where what it had raised was dropped."""
        if self.received is None or not isinstance(unraisable.exc_value, KeyboardInterrupt | LeftError):
            self._print_lost(unraisable)
            return
        again = threading.Timer(AGAIN, _send, (self.received,))
        again.daemon = True
        try:
            again.start()
        except RuntimeError:  # no thread can be started here: it is looked at where the command ends
            return
        self._again = again

    def take(self) -> int | None:
        """Return the signal that came, if any, and forget it."""
        if self._again is not None:
            self._again.cancel()
        signum, self.received = self.received, None
        return signum


_at_work: _AtWork | None = None


def overdue() -> int | None:
    """Return the signal whose exception was lost, if one was; the caller acts on it."""
    return None if _at_work is None else _at_work.take()


@contextmanager
def leaving() -> Iterator[None]:
    """Raise LeftError at SIGTERM and SIGHUP and KeyboardInterrupt at SIGINT, inside the ``with`` block or at its end.

    Handlers that somebody else set, and signals that are ignored, stay as they are.
    """
    global _at_work
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    starting.end()
    outer, hook, before = _at_work, sys.unraisablehook, {}
    _at_work = command = _AtWork()
    for signum in SIGNALS:
        if signal.getsignal(signum) in (signal.default_int_handler, signal.SIG_DFL, starting.leave_over):
            before[signum] = signal.signal(signum, command.receive)
    sys.unraisablehook = command.lost
    try:
        yield
        if (late := command.take()) is not None:
            raise _ending(late)
    finally:
        command.take()
        sys.unraisablehook = hook
        for signum, handler in before.items():
            signal.signal(signum, starting.leave_over if outer is None and starting.is_command else handler)
        _at_work = outer


def _ending(signum: int) -> BaseException:
    return KeyboardInterrupt() if signum == signal.SIGINT else LeftError(signum)


def _send(signum: int) -> None:
    """Send a signal to the main thread, so that it also wakes up what waits there."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signum)
    else:
        _thread.interrupt_main(signal.Signals(signum))
