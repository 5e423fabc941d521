"""What minidl says goes through `logging`, under the names `minidl` and `minidl.train`, for an application to route.

    logging.getLogger("minidl").setLevel("INFO")    # what a run says is information, the rest are warnings
    logging.getLogger("minidl").addHandler(...)

A command shows it plainly: information as it is on standard output, a warning after the name on standard error. It is
shown so too where nobody has set up `logging`. What is noted is shown once it is sure that the command does its work:
where it refuses to, its one line stands alone. Python's own warnings are one line in a command too.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minidl.printable import one_line


def inform(name: str, line: str) -> None:
    """Say a line under a logger's name."""
    _send(name, logging.INFO, line)


def warn(name: str, line: str) -> None:
    """Say a line that a user should see even where information is not wanted."""
    _send(name, logging.WARNING, line)


def note(name: str, line: str) -> None:
    """Say how something is going to be done, as a warning; a command waits with it until it is `settled`."""
    _send(name, logging.WARNING, line, note=True)


def settled() -> None:
    """Say what was noted, and what is from now on at once: nothing is left that the command may refuse."""
    for handler in logging.getLogger("minidl").handlers:
        if isinstance(handler, PlainHandler):
            handler.settle()


class PlainHandler(logging.Handler):
    """Prints information to standard output as it is, and warnings to standard error after their logger's name.

    An output that takes nothing any more costs the line, never the run.

    Attributes
    ----------
    held : dict or None
        The notes that wait to be shown, by their text; None where they are shown at once.
    """

    held: dict[str, logging.LogRecord] | None = None

    def settle(self) -> None:
        """Print the notes that wait."""
        held, self.held = self.held, None
        for record in (held or {}).values():
            self.emit(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, or keep it where it is a note that is to wait."""
        text = record.getMessage()
        if self.held is not None and getattr(record, "note", False):
            self.held.setdefault(text, record)
            return
        if record.levelno < logging.WARNING:
            _print(text, sys.stdout)
        else:
            _print(f"{record.name}: {text}", sys.stderr)


@contextmanager
def plainly(hold: bool = False) -> Iterator[None]:
    """Show what minidl says, and Python's warnings, plainly, inside the block or the function that this decorates.

    Parameters
    ----------
    hold : bool
        Whether notes wait until it is `settled`; where it never is, they are not shown.
    """
    logger = logging.getLogger("minidl")
    there = next((handler for handler in logger.handlers if isinstance(handler, PlainHandler)), None)
    handler, level = there or PlainHandler(), logger.level
    before = handler.held
    if hold:
        handler.held = {}
    if there is None:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if level == logging.NOTSET else level)
    shown, warnings.showwarning = warnings.showwarning, _show
    try:
        yield
    finally:
        warnings.showwarning = shown
        handler.held = before
        if there is None:
            logger.removeHandler(handler)
            logger.setLevel(level)


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Say a warning in one line: a library's with the variable of the environment it names, one's own with its place.

    Numba warns with a traceback where it cannot read a variable, and goes on without.
    """
    from minidl.train.places import is_library

    text = str(message).strip().partition("\n")[0].rstrip(".") or category.__name__
    if not is_library(filename):
        warn("minidl", f"{filename}, line {lineno}: {text} ({category.__name__})")
        return
    named = [name for name in re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b", text) if name in os.environ]
    note("minidl", text + "".join(f"; unset {name}, or correct it" for name in named[:1]))


def _send(name: str, level: int, line: str, **about: Any) -> None:
    logger = logging.getLogger(name)
    if logger.hasHandlers():
        logger.log(level, "%s", line, extra=about)
    else:
        PlainHandler().emit(logger.makeRecord(name, level, "", 0, line, (), None, extra=about))


def _print(line: str, stream: Any) -> None:
    if stream is None:
        return
    line = one_line(line)
    try:
        print(line, file=stream, flush=True)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        print(line.encode(encoding, "replace").decode(encoding), file=stream, flush=True)
    except OSError:
        from minidl.command_line import drop

        drop(stream)
