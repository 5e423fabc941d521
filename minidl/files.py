"""Files of any name: its ``~`` is replaced, and a pipe, a device or a folder is refused, never waited for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO

_NOTHING_BUT_FILES = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class NoFileError(OSError):
    """What lies under a name is no regular file, or a link where none may be."""


class NoHomeError(ValueError):
    """A path begins with the home folder of nobody; the message is one line that names the cure."""


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with its ``~`` replaced.

    Raises
    ------
    NoHomeError
        There is no such user, or it is not known who this process belongs to.

    Examples
    --------
    >>> expanded("runs/a").as_posix()
    'runs/a'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise NoHomeError(f"{path}: there is no home folder of that name; write the path out") from error


def open_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file to be read.

    A pipe would keep its reader waiting for ever, and a device may have no end.

    Raises
    ------
    NoFileError
        If it is no regular file, nor a link to one.
    OSError
        If it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | _NOTHING_BUT_FILES)
    try:
        _check(descriptor, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a regular file; errors as of `open_file`."""
    with open_file(path) as file:
        return file.read()


def open_own(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file of one's own folder to be written, made if it is not there; return its descriptor.

    Parameters
    ----------
    path : path
    flags : int
        Such as ``os.O_WRONLY | os.O_APPEND``.

    Raises
    ------
    NoFileError
        If there is something else of that name, a link included: what it leads to belongs to somebody else.
    OSError
        If it cannot be opened.
    """
    if os.path.islink(path):
        raise NoFileError(errno.ELOOP, "is a link", os.fspath(path))
    try:
        descriptor = os.open(path, flags | os.O_CREAT | _NOTHING_BUT_FILES | _NO_LINK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):  # a link made just now; a pipe; a folder
            raise NoFileError(error.errno, "is no file", os.fspath(path)) from error
        raise
    try:
        _check(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_own(folder: str | os.PathLike[str]) -> None:
    """Make a folder within one's own, if it is not there.

    Raises
    ------
    NoFileError
        If there is a link of that name: what it leads to belongs to somebody else.
    OSError
        If it cannot be made.
    """
    if os.path.islink(folder):
        raise NoFileError(errno.ELOOP, "is a link", os.fspath(folder))
    os.makedirs(folder, exist_ok=True)


def _check(descriptor: int, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise NoFileError(errno.EINVAL, "is no file", os.fspath(path))
