"""Reading a file that may be packed with gzip or xz, in bounded memory."""

import gzip
import lzma
import zlib
from pathlib import Path
from typing import IO

from minidl.data.errors import DataError

MAX_BYTES = 256 << 20
"""No file of the catalog unpacks to more (the largest, SVHN's training file, has 225 MB)."""

_CHUNK = 1 << 20


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
        The file is missing, unreadable, empty, cut short, damaged or unpacks to more than ``max_bytes``.
    """
    data = bytearray()
    try:
        with open(path, "rb") as raw:
            try:
                stream = _stream(raw)
                while chunk := stream.read(_CHUNK):
                    data += chunk
                    if len(data) > max_bytes:
                        raise DataError(
                            f"{path}: expected at most {max_bytes} bytes of content, got more; "
                            "the file is not one of the catalog's, get it again"
                        )
            except MemoryError as error:
                raise DataError(f"{path}: not enough memory to unpack it; close other programs") from error
            except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
                raise DataError(
                    f"{path}: packed data expected to go on after byte {raw.tell()}, got {_one_line(error)}; "
                    "the file is damaged, get it again"
                ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path and its rights") from error
    if not data:
        raise DataError(f"{path}: expected an image or label file, got an empty one; get it again")
    return data


def _stream(raw: IO[bytes]) -> IO[bytes]:
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if head == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(raw)
    return raw


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
