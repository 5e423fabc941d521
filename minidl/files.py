"""Files of any name: its ``~`` is replaced, and a pipe, a device or a folder is refused, never waited for.

What cannot be written or read is named. To write a file whole or not at all is `minidl.writing`.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_NOTHING_BUT_FILES = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class NoFileError(OSError):
    """What lies under a name is no regular file, or a link where none may be."""


class UmaskError(OSError):
    """What was made just now is closed to its own maker; the message is one line that names the cure."""

    exit_status = 1


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


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let an OSError of the ``with`` block name this file, where it names none: a write or an fsync does not.

    >>> with naming("a.txt"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    ...
    OSError: [Errno 28] No space left on device: 'a.txt'
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise


def is_kind(kind: Callable[[int], bool], path: str | os.PathLike[str]) -> bool:
    """Whether a path is there and of a kind, such as ``stat.S_ISDIR``; raise the OSError that forbids to know.

    Since Python 3.14 Path.is_dir and Path.is_file answer False there.
    """
    try:
        return kind(os.stat(path).st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    except ValueError:  # a null character: no such name
        return False


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


def read_file(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """Return the content of a regular file; errors as of `open_file`, and EFBIG if it has more bytes than `most`."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise OSError(errno.EFBIG, f"has {size} bytes, more than the {most} that minidl reads", str(path))
        return file.read()


def parse_json(content: str | bytes) -> Any:
    """Return what JSON says; ValueError where it is none, or nested more deeply than any that minidl writes."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


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
    new = not os.path.lexists(path)
    try:
        descriptor = os.open(path, flags | os.O_CREAT | _NOTHING_BUT_FILES | _NO_LINK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):  # a link made just now; a pipe; a folder
            raise NoFileError(error.errno, "is no file", os.fspath(path)) from error
        raise
    try:
        _check(descriptor, path)
        if new and not os.access(path, os.R_OK | os.W_OK):
            os.unlink(path)
            raise UmaskError(_closed(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def sync_folder(path: Path, of: Path | None = None) -> None:
    """Wait until the names in a folder are on the disk: a rename, or a file's making, lasts then.

    Parameters
    ----------
    path : Path
    of : Path, optional
        What an OSError names, such as what was made there; the folder by default.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with naming(of or path):
            os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # a file system that has no such thing
            raise
    finally:
        os.close(folder)


def no_folder(path: str | os.PathLike[str]) -> str | None:
    """Return what lies under a name where a folder is to be, None for a folder or nothing at all.

    >>> no_folder("/dev/null"), no_folder("/"), no_folder("/no such name")
    ('is no folder', None, None)
    """
    try:
        mode = os.stat(path).st_mode  # asked once: another process may make the folder between two questions
    except (OSError, ValueError):
        return f"is a link to {os.readlink(path)}, which is not there" if os.path.islink(path) else None
    if stat.S_ISDIR(mode):
        return None
    return "is a file, not a folder" if stat.S_ISREG(mode) else "is no folder"


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Make a folder, and those above it, where they are missing; they last then, as after `sync_folder`.

    Raises
    ------
    UmaskError
        If what is made so is closed to its maker; it is removed again.
    OSError
        If it cannot be made, or something else has its name.
    """
    missing = []
    above = Path(folder)
    while above != above.parent and not os.path.lexists(above):
        missing.append(above)
        above = above.parent
    if (what := no_folder(above)) is not None:
        of_a_file = missing and os.path.exists(above)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR) if of_a_file else what, str(above))
    made: list[Path] = []
    for each in reversed(missing):
        with suppress(FileExistsError):  # another process made it meanwhile
            os.mkdir(each)
            made.append(each)
            if not os.access(each, os.R_OK | os.W_OK | os.X_OK):
                for mine in reversed(made):
                    os.rmdir(mine)
                raise UmaskError(_closed(each))
            with suppress(PermissionError):  # a folder above that may be written to, and not listed
                sync_folder(each.parent, each)


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
    make_folder(folder)


def _check(descriptor: int, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise NoFileError(errno.EINVAL, "is no file", os.fspath(path))


def _closed(path: str | os.PathLike[str]) -> str:
    return (
        f"{os.fspath(path)}: what is made here is closed even to its owner, by the umask of this shell; "
        "run: umask 022, then this once more"
    )
