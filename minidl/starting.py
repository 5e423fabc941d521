"""A signal, or a NumPy that fails, while a command's modules are imported: one line and a status, and no traceback.

Only a process that was started as `minidl` or as `python -m minidl.COMMAND` is changed, before NumPy is imported. A
program that imports minidl keeps its own handlers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # each import here is time in which a signal is not answered yet
    from types import FrameType
    from typing import Any

COMMANDS = ("train", "evaluate", "predict", "export", "check", "bench", "reproduce", "parity")
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_MODULES = ("minidl", *(f"minidl.{name}" for name in COMMANDS))
_before: dict[int, Any] = {}
is_command = False  # whether this process is one


def begin() -> None:
    """Let a signal end the process at once, if it is a command that starts; `end` undoes it. Import NumPy.

    Raises
    ------
    SystemExit
        With status 1, in a command, where NumPy cannot be imported: it was said why.
    """
    global is_command
    is_command = _is_command()
    if not is_command:
        return
    for signum in SIGNALS:
        if signal.getsignal(signum) in (signal.default_int_handler, signal.SIG_DFL):
            _before[signum] = signal.signal(signum, _leave)
    try:
        import numpy  # noqa: F401 - all of minidl does
    except Exception as error:
        _say_no_numpy(error)
        raise SystemExit(1) from None


def end() -> None:
    """Give the signals their usual meaning back."""
    while _before:
        signum, handler = _before.popitem()
        signal.signal(signum, handler)


def _say_no_numpy(error: Exception) -> None:
    """Print one line: the cause, of which NumPy makes forty, and the variable that it could not read, if it was one."""
    first: BaseException = error
    while (cause := first.__cause__ or first.__context__) is not None:
        first = cause
    here = sorted(name for name in os.environ if name.startswith(("NPY_", "NUMPY_")))
    cure = f"unset {' and '.join(here)}" if here else "install it anew: pip install --force-reinstall numpy"
    line = f"minidl: NumPy cannot be imported ({' '.join(str(first).split())}); {cure}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode(errors="replace"))


def _is_command() -> bool:
    """Whether this process was started as a command of minidl, which is being imported."""
    if sys.argv[:1] == ["-m"]:  # Python is looking for the module still
        return _module(sys.orig_argv[1:]) in _MODULES
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "__main__":  # the script that the installer made
            return "minidl.__main__" in frame.f_code.co_names
        frame = frame.f_back
    return False


def _module(arguments: list[str]) -> str:
    """Return the module that Python was told to run.

    >>> _module(["-W", "error", "-m", "minidl.train", "--list"]), _module(["-um", "tool"]), _module(["-mtool"])
    ('minidl.train', 'tool', 'tool')
    """
    given = iter(arguments)
    for argument in given:
        if argument in ("-W", "-X", "--check-hash-based-pycs"):
            next(given, None)
            continue
        flags, m, name = argument[1:].partition("m")
        if argument.startswith("-") and m and not set(flags) & set("-WXc"):
            return name or next(given, "")
    return ""


def leave_over(signum: int, frame: FrameType | None) -> None:
    """Answer a signal that comes once a command's work is over, while Python ends."""
    try:
        os.write(2, b"minidl: interrupted when the work was over already\n")
    finally:
        os._exit(128 + signum)


def _leave(signum: int, frame: FrameType | None) -> None:
    try:
        os.write(2, b"minidl: interrupted before anything had begun\n")
    finally:
        os._exit(128 + signum)
