"""Ctrl-C while a command's modules are still being imported: one line instead of a traceback.

Only `python -m minidl.COMMAND` comes here, before NumPy is imported. A program that imports minidl keeps its own
handlers.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

COMMANDS = ("minidl.train", "minidl.reproduce", "minidl.parity", "minidl.bench")  # those that call `end`

_before: Any = None


def begin() -> None:
    """Let an interrupt end the process at once, if it is such a command that starts."""
    global _before
    arguments = sys.orig_argv[sys.orig_argv.index("-m") + 1 :] if "-m" in sys.orig_argv else []
    if arguments and arguments[0] in COMMANDS and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _before = signal.signal(signal.SIGINT, _leave)


def end() -> None:
    """Give an interrupt its usual meaning back."""
    global _before
    if _before is not None:
        signal.signal(signal.SIGINT, _before)
        _before = None


def _leave(signum: int, frame: FrameType | None) -> None:
    os.write(2, b"minidl: interrupted before anything had begun\n")
    os._exit(128 + signum)
