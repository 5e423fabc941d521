"""The cropped-digits files of SVHN: MATLAB 5 files with X, uint8 (32, 32, 3, N), and y, uint8 (N, 1).

Only what those files need of the format is read: a 128-byte header, then elements, each a tag (type, size) and a
body.  An element is a matrix, or a zlib stream holding one.  A matrix is four elements: flags, dimensions, name,
values, these in column-major order.  Every size is checked before it is used, and nothing is ever executed.
"""

import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidl.data.compressed import MAX_BYTES, most_content, unpack
from minidl.data.errors import DataError, bad_file

_INT8, _UINT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 2, 5, 6, 14, 15
_COMPLEX = 0x0800
MAX_VARIABLES = 1000  # a file of SVHN has two


class _Element(NamedTuple):
    kind: int
    body: memoryview
    start: int  # of the body
    after: int  # of the next tag


class _Content:
    """Bytes with their byte order, and where they stand in the file: errors name an offset."""

    def __init__(self, data: memoryview, order: str, path: Path, packed_at: int | None = None):
        self.data, self.order, self.path, self.packed_at = data, order, path, packed_at

    def error(self, offset: int, expected: str, got: object) -> DataError:
        if self.packed_at is None:
            return bad_file(self.path, offset, expected, got)
        return bad_file(self.path, self.packed_at, f"{expected} at unpacked byte {offset} of this element", got)

    def element(self, offset: int) -> _Element:
        """Return the element whose tag is at ``offset``."""
        if len(self.data) - offset < 8:
            raise self.error(offset, "the 8 bytes of an element's tag", f"{len(self.data) - offset} bytes")
        kind, size = struct.unpack_from(f"{self.order}2I", self.data, offset)
        start, after = offset + 8, offset + 8 + size
        if kind >> 16:  # the short form: size and type share one word, the body the other
            kind, size = kind & 0xFFFF, kind >> 16
            start, after = offset + 4, offset + 8
            if size > 4:
                raise self.error(offset, "at most 4 bytes in a short element", size)
        elif kind != _COMPRESSED:
            after = offset + 8 + (size + 7) // 8 * 8
        if start + size > len(self.data):
            raise self.error(offset, f"an element of {size} bytes", f"{len(self.data) - start} bytes to the end")
        return _Element(kind, self.data[start : start + size], start, after)


def read_svhn(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (N, 3, 32, 32) and labels (N,) in 0..9 of an SVHN file, plain or packed with gzip or xz.

    The file's label 10 stands for the digit 0 and comes out as 0.

    Raises
    ------
    DataError
        The file is missing, damaged, or does not hold SVHN's X and y.
    """
    return parse_svhn(unpack(path), path)


def parse_svhn(data: bytes | bytearray, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images and labels in the content of an SVHN file; ``path`` is for the messages."""
    if len(data) < 128:
        raise bad_file(path, len(data), "the 128-byte header of a MATLAB 5 file", "the end of the file")
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(bytes(data[124:128]))
    if order is None:
        raise bad_file(path, 124, "version 1 and byte order of a MATLAB 5 file", bytes(data[124:128]))
    arrays = _variables(_Content(memoryview(data), order, path))
    for name, shape in (("X", (32, 32, 3)), ("y", ())):
        if name not in arrays:
            raise bad_file(path, len(data), f"a variable {name} before the end of the file", sorted(arrays) or "none")
        if arrays[name].shape[: len(shape)] != shape:
            raise bad_file(path, 128, f"{name} of shape (32, 32, 3, N)", arrays[name].shape)
    X, y = arrays["X"], arrays["y"]
    if X.ndim != 4 or y.shape != (X.shape[3], 1):
        raise bad_file(path, 128, "X of shape (32, 32, 3, N) and y of shape (N, 1)", f"{X.shape} and {y.shape}")
    wrong = np.flatnonzero((y < 1) | (y > 10))
    if len(wrong):
        raise bad_file(path, 128, f"a label of 1 to 10 in y[{wrong[0]}]", int(y[wrong[0], 0]))
    return X.transpose(3, 2, 0, 1), y[:, 0] % 10


def _variables(content: _Content) -> dict[str, NDArray[np.uint8]]:
    """Return the arrays X and y of a file; other variables are stepped over."""
    arrays: dict[str, NDArray[np.uint8]] = {}
    offset, budget = 128, min(MAX_BYTES, most_content(len(content.data)))
    for _ in range(MAX_VARIABLES):
        if offset >= len(content.data):
            return arrays
        element = content.element(offset)
        inner, at = content, offset
        if element.kind == _COMPRESSED:
            unpacked = _inflate(element, budget, content, offset)
            budget -= len(unpacked)
            inner, at = _Content(memoryview(unpacked), content.order, content.path, packed_at=offset), 0
        matrix = inner.element(at)
        if matrix.kind != _MATRIX:
            raise inner.error(at, f"a matrix (type {_MATRIX})", f"type {matrix.kind}")
        _read_matrix(inner, matrix, arrays)
        offset = element.after
    if offset >= len(content.data):
        return arrays
    raise content.error(offset, f"at most {MAX_VARIABLES} variables", "more")


def _inflate(element: _Element, budget: int, content: _Content, offset: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        unpacked = stream.decompress(element.body, budget + 1)
    except zlib.error as error:
        raise content.error(offset, "a zlib stream", error) from error
    if len(unpacked) > budget:
        raise content.error(offset, f"at most {budget} bytes of unpacked content", "more")
    if not stream.eof:
        raise content.error(offset, "a whole zlib stream", "one that is cut short")
    return unpacked


def _read_matrix(content: _Content, matrix: _Element, arrays: dict[str, NDArray[np.uint8]]) -> None:
    """Add the matrix to ``arrays`` where it is X or y."""
    part = _Content(content.data[: matrix.start + len(matrix.body)], content.order, content.path, content.packed_at)
    flags = part.element(matrix.start)
    dims = part.element(flags.after)
    label = part.element(dims.after)
    if (flags.kind, len(flags.body)) != (_UINT32, 8):
        raise part.error(matrix.start, "8 bytes of array flags", f"{len(flags.body)} bytes of type {flags.kind}")
    if dims.kind != _INT32 or len(dims.body) < 8 or len(dims.body) % 4:
        raise part.error(flags.after, "2 or more dimensions", f"{len(dims.body)} bytes of type {dims.kind}")
    if label.kind != _INT8 or len(label.body) > 63:
        raise part.error(dims.after, "a variable's name", f"{len(label.body)} bytes of type {label.kind}")
    name = bytes(label.body).decode("latin-1")
    if name not in ("X", "y"):
        return
    if name in arrays:
        raise part.error(dims.after, f"one variable {name}", "two")
    if len(dims.body) > 16:
        raise part.error(flags.after, f"2 to 4 dimensions of {name}", len(dims.body) // 4)
    values = part.element(label.after)
    shape = struct.unpack(f"{content.order}{len(dims.body) // 4}i", dims.body)
    complex_flag = struct.unpack_from(f"{content.order}I", flags.body)[0] & _COMPLEX
    if values.kind != _UINT8 or complex_flag:
        raise part.error(label.after, f"real uint8 values (type {_UINT8}) in {name}", f"type {values.kind}")
    fits = math.prod(n or 1 for n in shape) <= MAX_BYTES  # also where one is 0
    if min(shape) < 0 or math.prod(shape) != len(values.body) or not fits:
        raise part.error(flags.after, f"dimensions of {len(values.body)} values in {name}", shape)
    arrays[name] = np.frombuffer(values.body, np.uint8).reshape(shape, order="F")
