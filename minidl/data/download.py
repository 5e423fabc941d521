"""Downloading a data set into the cache folder, through pooch.

Each file is written under a temporary name, checked against its sha256 and then renamed, so a path in the folder
always holds a whole file.  Two processes may download the same set at once.
"""

import logging
import os
import shutil
import tarfile
import tempfile
import time
from pathlib import Path, PurePosixPath
from typing import IO, Any

from minidl.data.catalog import CIFAR10_BIN, Remote, Source
from minidl.data.errors import DataError

RETRIES = 3
TIMEOUT = 30.0  # seconds without a byte
PAUSE = 1.0  # seconds before the second try; each further one waits that much longer


def fetch(source: Source, folder: Path, progress: bool) -> Path:
    """Return ``folder/<name of the set>`` holding the set's files, downloading those that are not there.

    Raises
    ------
    DataError
        No address gave the file.  The message says where to put it by hand, its sha256, and what runs without it.
    """
    place = folder / source.name
    names = [name for split in (source.train, source.test) for files in split.files for name in files]
    if source.format == "cifar":
        if not all((place / name).is_file() for name in names):
            archive = _fetch_file(source, source.remote[0], place, progress)
            _extract(archive, set(names))
            archive.unlink(missing_ok=True)
        return place
    for remote in source.remote:
        _fetch_file(source, remote, place, progress)
    return place


def _fetch_file(source: Source, remote: Remote, place: Path, progress: bool) -> Path:
    path = place / remote.name
    if path.is_file() and path.stat().st_size == remote.size:
        return path  # its sha256 was checked before it got this name
    reason = ""
    for attempt in range(RETRIES):
        time.sleep(attempt * PAUSE)
        for url in remote.urls:
            try:
                return _retrieve(url, remote, place, progress)
            except _Failed as error:
                reason = str(error)
    raise DataError(
        f"{source.name}: {remote.urls[0]} could not be downloaded ({reason}); put the file (sha256 {remote.sha256}) at "
        f"{path}, or give --data-dir a folder that has it; --sample runs now without a download"
    )


class _Failed(Exception):
    """One address did not give the file."""


def _retrieve(url: str, remote: Remote, place: Path, progress: bool) -> Path:
    import pooch
    import requests

    logging.getLogger(pooch.get_logger().name).setLevel(logging.WARNING)

    def download(url: str, output: str, _: Any) -> None:
        with open(output, "wb") as file:
            pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT, chunk_size=1 << 16)(
                url, _Bounded(file, remote.size), None
            )

    try:
        return Path(pooch.retrieve(url, remote.sha256, remote.name, place, downloader=download))
    except (requests.RequestException, ValueError, OSError) as error:
        raise _Failed(_reason(error)) from error
