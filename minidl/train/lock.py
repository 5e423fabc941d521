"""One process a run's folder: a lock that its death releases, and a token that tells who was there last."""

from __future__ import annotations

import errno
import os
import re
import secrets
import sys
import weakref
from contextlib import suppress
from pathlib import Path

from ..files import NoFileError, naming, open_own

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

HANDED_DOWN = "MINIDL_RUN_LOCK"  # names the descriptor of a lock that the parent process has taken
_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class BusyError(RuntimeError):
    """Another process works in the folder; the message is one line."""


class FolderLock:
    """A lock on a folder, held inside ``with`` blocks, which may be nested; `keep` holds it on to the next of them.

    The operating system lets go of it when the process ends, however it ends. The file `.lock` stays and holds the
    token of its last new holder; one that comes back to find another's token knows that its own state is old. Where the
    file system has no locks the token is all there is.

    Parameters
    ----------
    folder : Path
        It must exist when the lock is taken.

    Raises
    ------
    BusyError
        On entering: if another holds the lock, or has held it since this one did.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._token: bytes | None = None
        self._process = 0
        self._descriptor: int | None = None
        self._depth = 0
        self._keeps = False

    def __enter__(self) -> FolderLock:
        if self._descriptor is not None and self._process != os.getpid():  # a forked child: its parent holds the lock
            self.release()
            self._depth = 0
        if self._depth == 0:
            _kept.discard(self)
            self._keeps = False
            if self._descriptor is None:
                self.take()
        self._depth += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._keeps:
            _kept.add(self)
        elif self._depth == 0:
            self.release()

    def __del__(self) -> None:
        self.release()

    def keep(self) -> None:
        """Hold the lock on after this ``with`` block, until the next one ends or this process locks the folder anew."""
        self._keeps = True

    def take(self) -> int:
        """Take the lock without a ``with`` block and return its descriptor, for a child process to inherit."""
        path = self.folder / ".lock"
        try:
            with naming(path):
                self._take(path)
        except OSError:
            self.release()
            raise
        assert self._descriptor is not None
        return self._descriptor

    def check(self) -> None:
        """Raise BusyError where what is held is no longer the lock of the folder of this name.

        It was moved or removed meanwhile, and another process may train in what has its name now.
        """
        if self._descriptor is None:
            return
        held = os.fstat(self._descriptor)
        with suppress(FileNotFoundError, NotADirectoryError):
            there = os.stat(self.folder / ".lock")
            if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
                return
        raise BusyError(
            f"{self.folder} was moved or replaced, or its .lock removed, while this process trained in it; nothing "
            "more is written there; --resume goes on with the run where it lies now"
        )

    def release(self) -> None:
        """Let go of the lock; a child that inherited it still holds it."""
        _kept.discard(self)
        if self._descriptor is not None and not _is_handed_down(self._descriptor):
            os.close(self._descriptor)
        self._descriptor = None

    def _take(self, path: Path) -> None:
        descriptor = _handed_down(path)
        if descriptor is None:
            try:
                descriptor = open_own(path, os.O_RDWR)
            except NoFileError as error:
                raise BusyError(f"{path} {error.strerror}; remove it, or give another --out") from error
            _release_kept(descriptor)
            try:
                _lock(descriptor)
            except OSError as error:
                if error.errno in _BUSY:
                    os.close(descriptor)
                    raise BusyError(
                        f"another process is training in {self.folder}; run the same command again when it is done, "
                        "or give another --out"
                    ) from error
        self._descriptor = descriptor
        os.lseek(descriptor, 0, os.SEEK_SET)
        if not re.fullmatch(rb"[0-9a-f]{0,16}", os.read(descriptor, 64)):
            self.release()
            raise BusyError(f"{path} is not minidl's; remove it, or give another --out")
        os.lseek(descriptor, 0, os.SEEK_SET)
        if self._token is None or self._process != os.getpid():  # a forked child is another, with the same memory
            self._process = os.getpid()
            self._token = secrets.token_hex(8).encode()
            os.ftruncate(descriptor, 0)
            os.write(descriptor, self._token)
        elif os.read(descriptor, 64) != self._token:
            self.release()
            raise BusyError(f"another Trainer went on with the run in {self.folder}; make a new one with resume=True")


_kept: weakref.WeakSet[FolderLock] = weakref.WeakSet()  # of this process, held on though no block needs them


def _release_kept(descriptor: int) -> None:
    """Let go of a kept lock on the file that a descriptor is of: whose it was finds another's token."""
    for lock in list(_kept):
        if lock._descriptor is not None and os.path.sameopenfile(lock._descriptor, descriptor):
            lock.release()


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # a byte that is not read: locks of Windows keep readers out
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _handed_down(path: Path) -> int | None:
    """Return the descriptor of this very lock, if the parent process took it and handed it down."""
    text = os.environ.get(HANDED_DOWN, "")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        return None
    try:
        there, here = os.fstat(int(text)), os.stat(path)
    except OSError:
        return None
    return int(text) if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) else None


def _is_handed_down(descriptor: int) -> bool:
    return os.environ.get(HANDED_DOWN) == str(descriptor)
