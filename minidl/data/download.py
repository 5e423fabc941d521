"""Downloading a data set into the cache folder, through pooch.

Each file is written under a temporary name, checked against its sha256 and then renamed, so a path in the folder
always holds a whole file.  Two processes may download the same set at once.
"""

import os
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from queue import Empty, SimpleQueue
from typing import IO, Any

from minidl.data.catalog import Remote, Source
from minidl.data.cifar import PIXELS
from minidl.data.errors import DataError
from minidl.data.half_written import writing
from minidl.extras import require
from minidl.files import make_folder

ROUNDS = 3  # times that every address is tried
PAUSE = 1.0  # seconds before the second round; the third waits twice that
TIMEOUT = (5.0, 30.0)  # seconds to connect, seconds without a byte
SLOWEST = 40.0  # seconds in which a piece must come, however steadily single bytes do
_PIECE = 1 << 14  # bytes


def fetch(source: Source, folder: Path, progress: bool) -> None:
    """Make ``folder/<name of the set>`` hold the set's files, downloading those that are not there.

    Raises
    ------
    DataError
        No address gave the file, or the folder cannot be written.  The message says where to put the file by hand,
        its sha256, and what runs without it.
    MissingLibraryError
        pooch or tqdm is not installed.
    """
    require("a download", "pooch", "tqdm")
    place = folder / source.name
    try:
        make_folder(place)
        with writing(place, lambda: _half_written(place)):
            _fetch_missing(source, place, progress)
    except OSError as error:
        raise DataError(
            f"{place}: cannot be written ({error.strerror or error}); set MINIDL_DATA to a folder that can, with room "
            f"for {sum(remote.size for remote in source.remote) >> 20} MiB; --sample runs now without one"
        ) from error


def _fetch_missing(source: Source, place: Path, progress: bool) -> None:
    if source.format == "cifar":
        sizes = {
            name: split.count // len(split.files) * (len(source.label_bytes) + PIXELS)
            for split in (source.train, source.test)
            for files in split.files
            for name in files
        }
        if not all(_has_size(place / name, size) for name, size in sizes.items()):
            _fetch_archive(source, source.remote[0], place, set(sizes), progress)
        return
    for remote in source.remote:
        if not _whole(place / remote.name, remote):
            _fetch_file(source, remote, place, place / remote.name, progress)


def _whole(path: Path, remote: Remote) -> bool:
    """Whether a file is there; its sha256 was checked before it got this name."""
    return _has_size(path, remote.size)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _half_written(place: Path) -> list[Path]:
    return [*place.glob("tmp*"), *place.glob(".download.*")]


def _fetch_archive(source: Source, remote: Remote, place: Path, names: set[str], progress: bool) -> None:
    """Download a tar.gz and keep the named members, whatever folder of the archive they are in, and nothing else."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download.", dir=place) as own:
        by_hand = place / remote.name
        archive = by_hand if _whole(by_hand, remote) else Path(own, remote.name)
        _fetch_file(source, remote, archive.parent, by_hand, progress)
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                content = tar.extractfile(member) if member.isfile() and name in names else None
                if content is not None:
                    with open(Path(own, name), "wb") as file:
                        shutil.copyfileobj(content, file, 1 << 20)
                    os.replace(Path(own, name), place / name)


def _fetch_file(source: Source, remote: Remote, place: Path, by_hand: Path, progress: bool) -> None:
    """Download one file to ``place``; ``by_hand`` is where the error asks the user to put it."""
    path = place / remote.name
    if path.exists() and not path.is_file():  # pooch would read a pipe or a device to its end
        raise DataError(f"{path}: is no file; remove it, and it is downloaded, or put the file there")
    reason = ""
    for round_ in range(ROUNDS):
        time.sleep(round_ * PAUSE)
        for url in remote.urls:
            try:
                return _retrieve(url, remote, place, progress)
            except _FailedError as error:
                reason = str(error)
    raise DataError(
        f"{source.name}: {remote.urls[0]} could not be downloaded ({reason}); put the file (sha256 {remote.sha256}) at "
        f"{by_hand}, or give --data-dir a folder that has it; --sample runs now without a download"
    )


class _FailedError(Exception):
    """One address did not give the file."""


def _retrieve(url: str, remote: Remote, place: Path, progress: bool) -> None:
    import pooch
    import requests
    from tqdm import tqdm

    pooch.get_logger().setLevel("WARNING")  # the bar says what it would

    def download(url: str, output: str, _: Any) -> None:
        with (
            open(output, "wb") as file,
            tqdm(
                None, remote.name, remote.size, leave=False, unit="B", unit_scale=True, disable=_hidden(progress)
            ) as bar,
        ):
            get = pooch.HTTPDownloader(
                progressbar=bar if progress else False,
                chunk_size=_PIECE,
                timeout=TIMEOUT,
                headers={"Accept-Encoding": "identity"},  # else a .gz may arrive unpacked
            )
            bounded = _Bounded(file, remote.size)
            _watched(lambda: get(url, bounded, None), bounded)

    try:
        pooch.retrieve(url, remote.sha256, remote.name, place, downloader=download)
    except requests.Timeout as error:
        raise _FailedError("no answer in time") from error
    except _TooSlowError as error:
        raise _FailedError("it came too slowly") from error
    except requests.HTTPError as error:
        raise _FailedError(str(error).split(" for url")[0]) from error
    except requests.RequestException as error:
        raise _FailedError("no connection, or it broke off") from error
    except ValueError as error:
        raise _FailedError("what came is not the file: its size or sha256 differs") from error


def _hidden(progress: bool) -> bool | None:
    """Return tqdm's ``disable``: None hides a bar where stderr is not a terminal."""
    return None if progress else True


class _TooSlowError(Exception):
    """Bytes came, but hardly."""


def _watched(work: Callable[[], object], file: "_Bounded") -> None:
    """Call a function on a thread; _TooSlowError where it writes nothing to the file for long.

    A socket's own timeout begins anew with every byte.
    """
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # handed to the thread that waits
            ended.put(error)
        else:
            ended.put(None)

    threading.Thread(target=run, name="minidl-download", daemon=True).start()
    while True:
        left = file.left
        try:
            error = ended.get(timeout=SLOWEST)
        except Empty:
            if file.left < left:
                continue
            file.abandoned = True
            raise _TooSlowError from None
        except BaseException:  # an interrupt
            file.abandoned = True
            raise
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame, and the connection
        return


class _Bounded:
    """A file to write to that refuses more bytes than are due: a wrong answer cannot fill the disk."""

    def __init__(self, file: IO[bytes], limit: int):
        self.file, self.left, self.abandoned = file, limit, False

    def write(self, chunk: bytes) -> None:
        if self.abandoned:  # nobody waits for it any more
            raise ValueError("abandoned")
        self.left -= len(chunk)
        if self.left < 0:
            raise ValueError("more bytes than expected")
        self.file.write(chunk)

    def flush(self) -> None:
        self.file.flush()
