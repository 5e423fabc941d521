"""Files that are written whole or not at all: one alone, or several that belong together, such as those of a table.

Several take the place of those before in two steps: first all of these are put aside, then all of the new ones get
their names. So a folder has the files of one set at each moment, or some of them, and never some of two. Before the
first step a record is written that names them, ``NAME.unfinished`` for the first of them. Where the process is killed
before the record is gone, the next one that writes there, or the same command, completes what it finds.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from minidl.files import NoFileError, open_file, parse_json, sync_folder
from minidl.half_written import beside, is_token, may_live, put_aside, sweep, token

RECORD = ".unfinished"
_NOTE = '{"note": "These files are being replaced together. If no process does so, the same command completes it."'
_LARGEST = 1 << 16  # bytes of a record
_PATIENCE = 10.0  # seconds for another process to end what takes it some milliseconds


class UnfinishedError(RuntimeError):
    """Files that are being replaced cannot be completed; the message is one line that names the cure."""

    exit_status = 1


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that its path holds either what it held before or all of `data`, whenever the machine stops.

    Raises
    ------
    UnfinishedError
        As `complete`, which comes first: what is completed later must not take the place of what is written now.
    NoFileError
        If a pipe or a device has this name: it stays.
    OSError
        If it cannot be written, or a folder has this name.
    """
    _check(path)
    complete(path.parent, [path.name])
    sweep(path.parent, [path.name])
    with token() as own:
        temporary = beside(path, own)
        try:
            with _named(path):
                _write(temporary, data)
                os.replace(temporary, path)
        finally:
            with suppress(OSError):  # where its folder is a file, it is not even looked for
                temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_together(files: Mapping[Path, bytes | None]) -> None:
    """Write files of one folder that belong together; what fails leaves all of them as they were.

    One file alone is written as by `write_atomic`. If the process is killed, or to put them back fails too, the folder
    has files of one set alone, maybe not all of them, and `complete` gives all of the new ones their names.

    Parameters
    ----------
    files : {path: bytes or None}
        What each is to hold; None for one that is to be there no more.

    Raises
    ------
    UnfinishedError, NoFileError, OSError
        As `write_atomic`.
    """
    (folder,) = {path.parent for path in files}
    for path in files:
        _check(path)
    names = [path.name for path in files]
    if len(files) == 1 and (data := next(iter(files.values()))) is not None:
        write_atomic(next(iter(files)), data)
        return
    complete(folder, names)
    sweep(folder, [*names, f"{names[0]}{RECORD}"])
    with token() as own:
        digests = {path.name: None if data is None else _digest(data) for path, data in files.items()}
        replaced = _Set(folder / f"{names[0]}{RECORD}", own, digests)
        try:
            for path, data in files.items():
                if data is not None:
                    with _named(path):
                        _write(beside(path, own), data)
            replaced.begin()
            replaced.forward()
        except BaseException:
            replaced.back()
            raise
        replaced.end()


def complete(folder: Path, names: Iterable[str] | None = None) -> None:
    """Complete what processes that were killed had begun to replace in a folder.

    Parameters
    ----------
    folder : path
        It need not be there.
    names : iterable of str, optional
        Files that will be written: where a process that may live replaces one of them, it is waited for.

    Raises
    ------
    UnfinishedError
        If that process does not end what it does, or a part of the new files is gone.
    OSError
        If a file cannot be renamed.
    """
    wanted = set(names or ())
    until = time.monotonic() + _PATIENCE
    for there in _records(folder):
        while may_live(there.token, there.record) and os.path.lexists(there.record):
            if not wanted & there.files.keys():
                break
            if time.monotonic() > until:
                raise UnfinishedError(
                    f"{there.record}: another process replaces these files; run this again when it is done, or remove "
                    "that file if it no longer runs"
                )
            time.sleep(0.02)
        else:
            if os.path.lexists(there.record):
                there.forward()
                there.end()


@dataclass(frozen=True)
class _Set:
    """Files of a folder that are replaced together.

    Attributes
    ----------
    record : path
    token : str
        In the names of what is written and of what is put aside.
    files : {str: str or None}
        The sha256 of each by its name; None for one that goes.
    """

    record: Path
    token: str
    files: Mapping[str, str | None]

    def _paths(self) -> Iterator[tuple[Path, Path, Path]]:
        """Yield of each file its path, where the new one is written, and where the one before is put aside."""
        for path in (self.record.with_name(name) for name in self.files):
            yield path, beside(path, self.token), put_aside(path, self.token)

    def begin(self) -> None:
        """Write the record; from now on a process that is killed leaves something to complete."""
        text = f'{_NOTE}, "token": {json.dumps(self.token)}, "files": {json.dumps(self.files)}}}\n'
        written = beside(self.record, self.token)
        with _named(self.record):
            _write(written, text.encode())
            try:
                _give(written, self.record)
            except FileExistsError as error:
                raise UnfinishedError(
                    f"{self.record} is in the way, as no record of these files or that of another process; run this "
                    "again, and if it stays, move it away"
                ) from error
        sync_folder(self.record.parent)

    def forward(self) -> None:
        """Put the files before aside, then give the new ones their names; from wherever it was stopped."""
        for name, (path, new, old) in zip(self.files, self._paths(), strict=True):
            digest = self.files[name]
            if digest is not None and not os.path.lexists(new) and _digest_of(path) != digest:
                raise UnfinishedError(
                    f"{self.record.parent} has files that were being replaced when the process was killed, and "
                    f"{new.name}, a part of the new ones, is gone; remove {self.record.name} and the files that it "
                    "names, then run this again"
                )
            if (digest is None or os.path.lexists(new)) and not os.path.lexists(old):
                with _named(path), suppress(FileNotFoundError):
                    os.replace(path, old)
        for path, new, _ in self._paths():
            with _named(path), suppress(FileNotFoundError):
                os.replace(new, path)
        sync_folder(self.record.parent)

    def back(self) -> None:
        """Undo `begin` and `forward`, from wherever they were stopped; where that fails too, the record stays.

        The record goes before the new files do: without one of them it could not be completed.
        """
        with suppress(OSError):
            if self._is_begun():
                for name, (path, new, _) in zip(self.files, self._paths(), strict=True):
                    if self.files[name] is not None and not os.path.lexists(new):
                        os.replace(path, new)
                for path, _, old in self._paths():
                    if os.path.lexists(old):
                        os.replace(old, path)
                self.record.unlink()
            for path in (self.record, *(self.record.with_name(name) for name in self.files)):
                beside(path, self.token).unlink(missing_ok=True)

    def _is_begun(self) -> bool:
        try:
            there = _parsed(self.record)
        except (FileNotFoundError, NoFileError):
            return False
        return there is not None and there.token == self.token

    def end(self) -> None:
        """Remove what was put aside, and last the record."""
        with suppress(OSError):  # then the next process does it
            for _, _, old in self._paths():
                old.unlink(missing_ok=True)
            self.record.unlink(missing_ok=True)


def _give(written: Path, path: Path) -> None:
    """Give a file that is written a name that nothing has; FileExistsError where something does."""
    try:
        os.link(written, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a file system without links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(written, path)
    else:
        written.unlink()


def _records(folder: Path) -> list[_Set]:
    """Return what is or was being replaced in a folder."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(RECORD)]
    except OSError:
        return []
    return [read for name in sorted(names) if (read := _read(folder / name)) is not None]


def _read(record: Path) -> _Set | None:
    """Return what a record says; None where it is none, or cannot be read."""
    with suppress(OSError):
        return _parsed(record)
    return None


def _parsed(record: Path) -> _Set | None:
    """Return what a record says; None where it is none."""
    if record.is_symlink():
        return None
    with open_file(record) as file:
        data = file.read(_LARGEST)
    try:
        content = parse_json(data)
    except ValueError:
        return None
    if not isinstance(content, dict) or not is_token(content.get("token")):
        return None
    files = content.get("files")
    if not isinstance(files, dict) or not all(_is_plain(name) for name in files):
        return None
    if not all(digest is None or isinstance(digest, str) for digest in files.values()):
        return None
    return _Set(record, content["token"], files)


def _is_plain(name: str) -> bool:
    """Whether this is the name of a file in the folder itself."""
    return bool(name) and not name.startswith(".") and Path(name).name == name


def _check(path: Path) -> None:
    """Raise NoFileError or IsADirectoryError where something else than a file has this name."""
    if path.exists() and not path.is_file():
        raise (
            IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            if path.is_dir()
            else NoFileError(errno.EINVAL, "is no file", str(path))
        )


def _write(path: Path, data: bytes) -> None:
    """Write a new file, and wait until it is on the disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an OSError name this file, which the caller knows, and not the one beside it."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
        raise


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of(path: Path) -> str | None:
    try:
        with open_file(path) as file:
            return _digest(file.read())
    except (FileNotFoundError, NoFileError):
        return None
