"""A disk that fails at the k-th thing that a program asks of it: to make, write, sync, rename or link a file."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

CALLS = ("mkdir", "write", "fsync", "replace", "link", "ftruncate")


class Written:
    """A file that asks the disk at each write, and once more where it is closed: the rest is written then."""

    def __init__(self, file, ask):
        self._file, self._ask = file, ask

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        self._ask()
        return self._file.write(data)

    def close(self):
        self._file.close()
        self._ask()


@contextmanager
def failing(number, says, after, lasting, within):
    """Let the disk fail once it was asked so many times, for good where that is `lasting`; yield what it was asked.

    Parameters
    ----------
    number, says : the errno and its words
    after : int
    lasting : bool
    within : path
        Files elsewhere, such as those of a cache, are not counted.
    """
    asked, within = [], Path(within).absolute()

    def ask(what, path=None):
        if path is not None and within not in (absolute := Path(os.path.abspath(path)), *absolute.parents):
            return
        asked.append(what)
        if len(asked) == after + 1 or (lasting and len(asked) > after):
            raise OSError(number, says, *([] if path is None else [os.fspath(path)]))

    def counted(name, call):
        def instead(first, *args, **keywords):
            ask(name, first if isinstance(first, str | os.PathLike) else None)
            return call(first, *args, **keywords)

        return instead

    opened, fdopened, path_opened = os.open, os.fdopen, Path.open

    def open_(path, flags, *args, **keywords):
        if flags & os.O_CREAT:
            ask("open", path)
        return opened(path, flags, *args, **keywords)

    def fdopen(descriptor, mode="r", *args, **keywords):
        file = fdopened(descriptor, mode, *args, **keywords)
        return file if mode in ("r", "rb") else Written(file, lambda: ask("write"))

    def path_open(path, mode="r", *args, **keywords):
        if mode in ("r", "rb"):
            return path_opened(path, mode, *args, **keywords)
        ask("open", path)
        return Written(path_opened(path, mode, *args, **keywords), lambda: ask("write", path))

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(name, getattr(os, name)))
        patch.setattr(os, "open", open_)
        patch.setattr(os, "fdopen", fdopen)
        patch.setattr(Path, "open", path_open)
        yield asked
