"""Reading a file that may be packed with gzip or xz, in bounded memory."""

import lzma
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from minidl.data.errors import DataError
from minidl.files import open_file

MAX_BYTES = 256 << 20
"""No file of the catalog unpacks to more (the largest, SVHN's training file, has 225 MB)."""

MAX_MEMBERS = 100
"""Of a gzip or xz file; publishers' have one."""

_CHUNK = 1 << 20
_MAX_DICTIONARY = 100 << 20  # bytes; what `xz -9` makes needs 65 MiB


def most_content(packed: int) -> int:
    """Return how many bytes so many packed ones may hold: 16 MiB, and 200 times as many for each."""
    return (16 << 20) + 200 * packed


def unpack(path: Path, max_bytes: int = MAX_BYTES) -> bytearray:
    """Return the content of a plain, gzip or xz file, told apart by their first bytes.

    Parameters
    ----------
    path : Path
        The file.
    max_bytes : int
        Reading stops with an error as soon as the content is longer, so a small file cannot unpack to fill the memory.

    Raises
    ------
    DataError
        The file is missing, unreadable, empty, cut short, damaged or unpacks to more than ``max_bytes`` or
        `most_content` of its size.
    """
    data = bytearray()
    try:
        with open_file(path) as raw:
            try:
                for chunk in _content(raw):
                    data += chunk
                    most = min(max_bytes, most_content(raw.tell()))
                    if len(data) > most:
                        raise DataError(
                            f"{path}: expected at most {most} bytes of content, got more; "
                            "the file is not one of the catalog's, get it again"
                        )
            except MemoryError as error:
                raise DataError(f"{path}: not enough memory to unpack it; close other programs") from error
            except (EOFError, zlib.error, lzma.LZMAError) as error:
                raise DataError(
                    f"{path}: packed data expected to go on after byte {raw.tell()}, got {_one_line(error)}; "
                    "the file is damaged, get it again"
                ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path and its rights") from error
    if not data:
        raise DataError(f"{path}: expected an image or label file, got an empty one; get it again")
    return data


def _content(raw: IO[bytes]) -> Iterator[bytes]:
    """Yield the content, unpacked, in chunks."""
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return _gzip(raw)
    if head == b"\xfd7zXZ\x00":
        return _xz(raw)
    return iter(partial(raw.read, _CHUNK), b"")


def _gzip(raw: IO[bytes]) -> Iterator[bytes]:
    packed = b""
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            packed = packed or _more(raw)
            yield member.decompress(packed, _CHUNK)
            packed = member.unconsumed_tail
        packed = _next(raw, member.unused_data)
        if not packed:
            return
    raise zlib.error(f"more than {MAX_MEMBERS} members")


def _xz(raw: IO[bytes]) -> Iterator[bytes]:
    packed = b""
    for _ in range(MAX_MEMBERS):
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_DICTIONARY)
        while not stream.eof:
            packed = (packed or _more(raw)) if stream.needs_input else b""
            yield stream.decompress(packed, _CHUNK)
            packed = b""
        packed = _next(raw, stream.unused_data)
        if not packed:
            return
    raise lzma.LZMAError(f"more than {MAX_MEMBERS} streams")


def _more(raw: IO[bytes]) -> bytes:
    chunk = raw.read(_CHUNK)
    if not chunk:
        raise EOFError("the end of the file")
    return chunk


def _next(raw: IO[bytes], rest: bytes) -> bytes:
    """Return what is packed after the end of a member, without zeros that fill the file up; nothing at its end."""
    rest = rest.lstrip(b"\0")
    while not rest and (chunk := raw.read(_CHUNK)):
        rest = chunk.lstrip(b"\0")
    return rest


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
