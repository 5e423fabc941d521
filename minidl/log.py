"""What minidl says goes through `logging`, under the names `minidl` and `minidl.train`, for an application to route.

    logging.getLogger("minidl").setLevel("INFO")    # what a run says is information, the rest are warnings
    logging.getLogger("minidl").addHandler(...)

A command shows it plainly: information as it is on standard output, a warning after the name on standard error. It is
shown so too where nobody has set up `logging`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def inform(name: str, line: str) -> None:
    """Say a line under a logger's name."""
    _send(name, logging.INFO, line)


def warn(name: str, line: str) -> None:
    """Say a line that a user should see even where information is not wanted."""
    _send(name, logging.WARNING, line)


class PlainHandler(logging.Handler):
    """Prints information to standard output as it is, and warnings to standard error after their logger's name.

    An output that takes nothing any more costs the line, never the run.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        text = record.getMessage()
        if record.levelno < logging.WARNING:
            _print(text, sys.stdout)
        else:
            _print(f"{record.name}: {text}", sys.stderr)


@contextmanager
def plainly() -> Iterator[None]:
    """Show what minidl says plainly, inside the block or the function that this decorates."""
    logger = logging.getLogger("minidl")
    if any(isinstance(handler, PlainHandler) for handler in logger.handlers):
        yield
        return
    handler, level = PlainHandler(), logger.level
    logger.addHandler(handler)
    if level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _send(name: str, level: int, line: str) -> None:
    logger = logging.getLogger(name)
    if logger.hasHandlers():
        logger.log(level, "%s", line)
    else:
        PlainHandler().emit(logger.makeRecord(name, level, "", 0, line, (), None))


def _print(line: str, stream: Any) -> None:
    if stream is None:
        return
    try:
        print(line, file=stream, flush=True)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        print(line.encode(encoding, "replace").decode(encoding), file=stream, flush=True)
    except OSError:
        from minidl.command_line import drop

        drop(stream)
