"""Decoded arrays kept on disk, so that a second start maps them instead of decoding again.

An entry is a folder with ``meta.json`` and one .npy file an array. ``meta.json`` holds the stamp of the files the
arrays came from (paths, sizes, times, inodes), each array's shape, dtype and CRC-32, some facts about them, and a
CRC-32 of its own. An entry that fails any of these is not used. It is written under another name and then renamed, so
it is there whole or not at all.
"""

import json
import os
import secrets
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl import files
from minidl.data.errors import DataError
from minidl.data.half_written import remove, writing
from minidl.files import open_file, read_file

FORMAT = 2
"""Raised whenever what is stored, or how it is decoded, changes."""


@dataclass(frozen=True)
class Stream:
    """An array that is written block by block and is never in memory as a whole."""

    shape: tuple[int, ...]
    dtype: str
    blocks: Iterable[NDArray[Any]]

    def gathered(self) -> NDArray[Any]:
        """Return the array whole, in memory."""
        whole = np.empty(self.shape, self.dtype)
        start = 0
        for block in self.blocks:
            whole[start : start + len(block)] = block
            start += len(block)
        return whole


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with its ``~`` replaced; DataError where there is no such user."""
    try:
        return files.expanded(path)
    except files.NoHomeError as error:
        raise DataError(str(error)) from error


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder for downloads and decoded arrays: the argument, else ``MINIDL_DATA``, else the platform's."""
    chosen = cache_dir or os.environ.get("MINIDL_DATA")
    if chosen:
        return expanded(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return files.expanded(base) / "minidl"
    except files.NoHomeError as error:
        raise DataError(f"{base}: the home folder is not known; set MINIDL_DATA to a folder for the data") from error


def refuse_within(
    tops: Iterable[Path], cache_dir: str | os.PathLike[str] | None = None, hidden_too: bool = False
) -> None:
    """Raise DataError where the cache lies in a folder of classes, as it would be taken for one of them.

    Parameters
    ----------
    tops : iterable of Path
        The folders of the classes.
    cache_dir : path, optional
        As for `cache_folder`.
    hidden_too : bool
        Whether hidden folders are looked into as well.
    """
    try:
        kept = cache_folder(cache_dir)
    except DataError:
        return  # which is said where it is needed
    for top in tops:
        real, within = Path(os.path.realpath(top)), Path(os.path.realpath(kept))
        if not within.is_relative_to(real) or (
            not hidden_too and any(name.startswith(".") for name in within.relative_to(real).parts)
        ):
            continue
        what = "cache_dir" if cache_dir else "MINIDL_DATA" if os.environ.get("MINIDL_DATA") else "the cache"
        cure = "give another" if cache_dir else "set MINIDL_DATA to another folder"
        raise DataError(
            f"{what} must lie outside {real}, the folder of the images, where it would be taken for a class, "
            f"got {kept}; {cure}"
        )


def file_stamp(paths: Iterable[Path]) -> list[list[Any]]:
    """Return what tells whether the files are still the ones that were decoded."""
    # A copy may bring size and time of modification along, but no program can set the time of change or the inode.
    stats = [(str(path), path.stat() if path.exists() or not path.is_symlink() else path.lstat()) for path in paths]
    return [[name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for name, stat in stats]


def load(entry: Path, stamp: object) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """Return the arrays of an entry, mapped read-only, and its facts; None when it is missing, stale or damaged."""
    try:
        file = json.loads(read_file(entry / "meta.json"))
        meta = file["meta"]
        if file["crc32"] != _crc(meta) or meta["format"] != FORMAT or meta["stamp"] != stamp:
            return None
        arrays = {name: _mapped(entry / f"{name}.npy") for name in meta["arrays"]}
        for name, array in arrays.items():
            got = {"shape": list(array.shape), "dtype": str(array.dtype), "crc32": zlib.crc32(array.data)}
            if got != meta["arrays"][name]:
                return None
        return arrays, meta["facts"]
    except Exception:  # whatever is wrong with it, the cure is to build the entry again
        return None


def _mapped(path: Path) -> NDArray[Any]:
    """Return an array on the disk; a pipe in its place is not waited for."""
    with open_file(path):
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def store(entry: Path, stamp: object, arrays: Mapping[str, Stream], facts: Callable[[], Mapping[str, Any]]) -> None:
    """Write an entry, in place of the one there may be; the facts are asked for once all blocks are written.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full.  Nothing is left behind then.
    """
    files.make_folder(entry.parent)
    with writing(entry.parent, lambda: entry.parent.glob(f".{entry.name}.*")):
        building, old = _beside(entry, "new"), _beside(entry, "old")
        building.mkdir()
        try:
            described = {name: _write(building / f"{name}.npy", stream) for name, stream in arrays.items()}
            meta = {"format": FORMAT, "stamp": stamp, "arrays": described, "facts": dict(facts())}
            (building / "meta.json").write_text(json.dumps({"meta": meta, "crc32": _crc(meta)}, indent=1), "utf-8")
            if os.path.lexists(entry):
                entry.rename(old)
            building.rename(entry)
        finally:
            remove(building)
            remove(old)


def _write(path: Path, stream: Stream) -> dict[str, Any]:
    crc = 0
    with files.naming(path), open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(stream.dtype)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, header | {"shape": stream.shape})
        for block in stream.blocks:
            contiguous = np.ascontiguousarray(block, stream.dtype)
            crc = zlib.crc32(contiguous.data, crc)
            file.write(contiguous.data)  # not tofile, whose error does not say that the disk is full
    return {"shape": list(stream.shape), "dtype": stream.dtype, "crc32": crc}


def _crc(meta: object) -> int:
    return zlib.crc32(json.dumps(meta).encode())


def _beside(entry: Path, what: str) -> Path:
    return entry.with_name(f".{entry.name}.{secrets.token_hex(8)}.{what}")
