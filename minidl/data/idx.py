"""The IDX format of MNIST and Fashion-MNIST.

A big-endian header (two zero bytes, the type, the number of dimensions, the dimensions as uint32), then the values.
"""

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidl.data.compressed import MAX_BYTES, unpack
from minidl.data.errors import bad_file

_UINT8 = 0x08


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array held by an IDX file of uint8, plain or packed with gzip or xz.

    Raises
    ------
    DataError
        The file is missing, damaged, or not an IDX file of uint8.
    """
    return parse_idx(unpack(path), path)


def parse_idx(data: bytes | bytearray, path: Path) -> NDArray[np.uint8]:
    """Return the array in the content of an IDX file; ``path`` is for the messages.

    >>> parse_idx(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]), Path("six"))
    array([[1, 2, 3],
           [4, 5, 6]], dtype=uint8)
    """
    if len(data) < 4:
        raise bad_file(path, len(data), "the 4 bytes of an IDX magic number", "the end of the file")
    if data[0] or data[1] or data[2] != _UINT8 or not 1 <= data[3] <= 4:
        raise bad_file(path, 0, "IDX magic 00 00 08 and 1 to 4 dimensions", bytes(data[:4]).hex(" "))
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise bad_file(path, len(data), f"a header of {header} bytes", "the end of the file")
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    size = math.prod(shape)
    if not size and math.prod(n or 1 for n in shape) > MAX_BYTES:
        raise bad_file(path, 4, "a shape that memory can hold", shape)
    if len(data) < header + size:
        raise bad_file(path, len(data), f"{size} values for the shape {shape}", "the end of the file")
    if len(data) > header + size:
        raise bad_file(path, header + size, f"the end of the file (shape {shape})", f"{len(data)} bytes in all")
    return np.frombuffer(data, np.uint8, size, header).reshape(shape)
