"""Read and write safetensors with NumPy alone: an 8-byte length, a JSON header, raw little-endian data.

Loading runs no code, and every number in the header is checked against the file's size before it is used.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidl.files import naming, open_file

Array = np.ndarray[Any, Any]
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
NAMES = {np.dtype(code): name for name, code in DTYPES.items()}
MAX_BYTES = 1 << 26


class VectorError(ValueError):
    """A vector file that is missing, damaged, or not safetensors."""


def dumps(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a safetensors file; equal tensors give equal bytes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    data = bytearray()
    for name, value in tensors.items():
        array = np.asarray(value)
        dtype = array.dtype.newbyteorder("<")
        if dtype not in NAMES:
            raise ValueError(f"safetensors.dumps: tensor {name} must be one of {', '.join(DTYPES)}, got {array.dtype}")
        raw = array.astype(dtype).tobytes()
        header[name] = {
            "dtype": NAMES[dtype],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(data)


def loads(raw: bytes, name: str = "file") -> tuple[dict[str, Array], dict[str, str]]:
    """Return (tensors, metadata) of the bytes of a safetensors file, or raise VectorError."""
    size = struct.unpack("<Q", raw[:8])[0] if len(raw) >= 8 else len(raw)
    if not 0 < size <= len(raw) - 8:
        raise VectorError(f"{name}: the header's length must fit the file of {len(raw)} bytes, got {size}")
    try:
        header = json.loads(raw[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise VectorError(f"{name}: the header must be JSON, got {error}") from None
    body = memoryview(raw)[8 + size :]
    tensors: dict[str, Array] = {}
    try:
        metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
        for key, entry in header.items():
            dtype, (begin, end) = np.dtype(DTYPES[entry["dtype"]]), entry["data_offsets"]
            shape = tuple(int(n) for n in entry["shape"])
            if min(shape, default=0) < 0 or not 0 <= begin <= end <= len(body):
                raise ValueError(f"offsets {begin}..{end} outside {len(body)} bytes")
            if math.prod(shape) * dtype.itemsize != end - begin:
                raise ValueError(f"shape {shape} needs {math.prod(shape) * dtype.itemsize} bytes, got {end - begin}")
            tensors[key] = np.frombuffer(body[begin:end], dtype).reshape(shape)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise VectorError(
            f"{name}: the header must describe its tensors, got {type(error).__name__}: {error}"
        ) from None
    return tensors, metadata


def read_bytes(path: str | Path) -> bytes:
    """Return a file's bytes, or raise VectorError where it is missing or too large."""
    path = Path(path)
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise VectorError(f"{path.name}: a vector file must be under {MAX_BYTES} bytes, got {size}")
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise VectorError(f"{path.name}: cannot be read ({error.strerror}); export the vectors again") from None


def read(path: str | Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Return (tensors, metadata) of a file, or raise VectorError with one line that says what is wrong."""
    return loads(read_bytes(path), Path(path).name)


def write(path: str | Path, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a file."""
    with naming(path):
        Path(path).write_bytes(dumps(tensors, metadata))
