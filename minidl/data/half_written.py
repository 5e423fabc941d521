"""What processes left half-written in a folder that several may write into, and which of them are still at work there.

Each process that writes holds a shared lock on the folder, which its death releases. What is left is removed where no
other holds one, so a clock that jumps gives nobody's file away. Where a folder cannot be locked, as on Windows and on
some network file systems, its age alone decides.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

ABANDONED = 3600.0  # seconds, in either direction, from which on what lies there is not of this moment
PATIENCE = 5.0  # seconds to wait for a process that sweeps


@contextmanager
def writing(folder: Path, left: Callable[[], Iterable[Path]]) -> Iterator[None]:
    """Write into a folder inside the ``with`` block; first remove what is half-written there and nobody's any more.

    Parameters
    ----------
    folder : Path
        It is there.
    left : function
        Returns what may be half-written there.
    """
    descriptor = _opened(folder)
    try:
        if descriptor is None or _lock(descriptor, alone=True) is not False:
            _sweep(left())
        if descriptor is not None:
            _share(descriptor)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _opened(folder: Path) -> int | None:
    """Return a descriptor of the folder, None where there can be none to lock."""
    if sys.platform == "win32":
        return None
    with suppress(OSError):
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    return None


def _lock(descriptor: int, alone: bool) -> bool | None:
    """Try to lock a folder: True if it worked, False if others hold it, None where there are no such locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN) else None
    return True


def _share(descriptor: int) -> None:
    """Let others write into the folder too; wait for one that sweeps, which is soon done."""
    until = time.monotonic() + PATIENCE
    while _lock(descriptor, alone=False) is False and time.monotonic() < until:
        time.sleep(0.01)


def _sweep(left: Iterable[Path]) -> None:
    for path in left:
        with suppress(OSError):  # another process swept it, or may
            newest = max(each.lstat().st_mtime for each in (path, *path.glob("*")))
            if abs(time.time() - newest) > ABANDONED:
                remove(path)


def remove(path: Path) -> None:
    """Remove a folder, a file or a link, if it is there and can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
