"""Files of torch.save, read without PyTorch and without running what is in them, and written for torch.load.

A file is a zip archive of PyTorch 1.6 or newer, NAME/data.pkl beside NAME/data/0, NAME/data/1, ..., the raw values of
each storage; or in the older form four pickles and the storages behind them. No more is read than the tensors of the
state need, and no more than the file's size: nothing is unpacked, since PyTorch compresses nothing.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidl.files import open_file
from minidl.interchange.errors import StateError
from minidl.interchange.torch_pickle import CURE, STORAGES, Storage, Tensor, TorchMachine

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "ema_state_dict")  # where training scripts put a state
_MAX_PICKLE = 64 << 20  # bytes
_LEGACY = 0x1950A86A20F9469CFC6C  # the number that the older form begins with
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, ValueError, EOFError)

Read = Callable[[Storage], np.ndarray]


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Return {name: array} of a file's state dictionary: read-only views of what was read.

    A state that lies in a checkpoint's dictionary, under one of `WRAPPERS`, is found there. bfloat16 becomes float32.

    Raises
    ------
    StateError
        If the file is damaged, or holds anything but tensors, dictionaries, lists, numbers and text.
    """
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(4) == b"PK\x03\x04":
                return _read_zip(path, file, size)
            file.seek(0)
            return _read_legacy(path, file.read())
    except OSError as error:
        raise StateError(f"{path} cannot be read ({error.strerror or error}); give a file of torch.save") from error


def _read_zip(path: Path, file: Any, size: int) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(pickles) != 1 or f"{(folder := pickles[0].partition('/')[0])}/constants.pkl" in entries:
                raise StateError(f"{path} is a zip archive but no state dictionary of PyTorch; {CURE}")
            left = size

            def member(name: str, most: int) -> bytes:
                """Return an entry's content: stored as it is, so that it is no longer than the file."""
                nonlocal left
                info = entries.get(f"{folder}/{name}")
                if info is None:
                    raise StateError(f"{path} lacks its entry {name[:60]!r}; get it again, or {CURE}")
                if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                    raise StateError(f"{path}: its entry {name[:60]!r} is packed, as PyTorch packs none; {CURE}")
                left -= info.file_size
                if info.file_size > most or left < 0:
                    raise StateError(f"{path}: its entry {name[:60]!r} of {info.file_size} bytes is too large; {CURE}")
                return archive.read(info)

            swapped = f"{folder}/byteorder" in entries and member("byteorder", 16) == b"big"

            def values(storage: Storage) -> np.ndarray:
                dtype = _dtype(storage, swapped)
                raw = member(f"data/{storage.key}", storage.size * dtype.itemsize)
                if len(raw) != storage.size * dtype.itemsize:
                    raise StateError(
                        f"{path}: storage {storage.key[:60]!r} must have {storage.size * dtype.itemsize} bytes, "
                        f"got {len(raw)}; get the file again"
                    )
                return np.frombuffer(raw, dtype)

            return _arrays(path, TorchMachine(member("data.pkl", _MAX_PICKLE), path).run(), values)
    except StateError:
        raise
    except _ZIP_ERRORS as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise StateError(f"{path} is damaged ({what}); get it again") from error


def _read_legacy(path: Path, data: bytes) -> dict[str, np.ndarray]:
    """Read the form before PyTorch 1.6: magic number, version, system, the object, the storages' keys, the storages."""
    if not data.startswith(b"\x80\x02\x8a\x0a" + _LEGACY.to_bytes(10, "little")):
        raise StateError(f"{path} is neither a safetensors file nor one of torch.save; {CURE}")
    at, parts = 0, []
    storages: dict[str, Storage] = {}
    for _ in range(5):
        machine = TorchMachine(data, path, at, whole=False)
        parts.append(machine.run())
        storages |= machine.storages
        at = machine.at
    _, _, system, root, keys = parts
    swapped = isinstance(system, dict) and system.get("little_endian") is False
    found: dict[str, np.ndarray] = {}
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in storages:
            break
        dtype, size = _dtype(storages[key], swapped), storages[key].size
        count, at = int.from_bytes(data[at : at + 8], "big" if swapped else "little"), at + 8
        if count != size or size * dtype.itemsize > len(data) - at:
            break
        found[key] = np.frombuffer(data, dtype, size, at)
        at += size * dtype.itemsize
    if found.keys() != storages.keys():
        raise StateError(f"{path} is damaged (its storages are not those of its tensors); get it again")
    return _arrays(path, root, lambda storage: found[storage.key])


def _state_of(path: Path, root: Any) -> dict[str, Tensor]:
    """Return the state dictionary: what the file holds, or the one that lies in it under a usual name."""
    for candidate in (root, *(root.get(name) for name in WRAPPERS if isinstance(root, dict))):
        tensors = candidate and isinstance(candidate, dict) and all(isinstance(v, Tensor) for v in candidate.values())
        if tensors and all(isinstance(name, str) for name in candidate):
            return dict(candidate)
    raise StateError(f"{path} holds no state dictionary, neither alone nor under {', '.join(WRAPPERS)}; {CURE}")


def _arrays(path: Path, root: Any, read: Read) -> dict[str, np.ndarray]:
    """Return the tensors as views of their storages, each of which is read once."""
    storages: dict[str, np.ndarray] = {}
    state = {}
    for name, tensor in _state_of(path, root).items():
        key = tensor.storage.key
        if key not in storages:
            storages[key] = _plain(tensor.storage, read(tensor.storage))
        values = storages[key]
        steps = tuple(step * values.itemsize for step in tensor.strides)
        state[name] = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, steps, writeable=False)
    return state


def _dtype(storage: Storage, swapped: bool) -> np.dtype[Any]:
    dtype = np.dtype("<u2" if storage.dtype == "bfloat16" else storage.dtype)
    return dtype.newbyteorder() if swapped else dtype


def _plain(storage: Storage, values: np.ndarray) -> np.ndarray:
    """Return bfloat16 as float32, other values as they are, in the machine's order."""
    if storage.dtype == "bfloat16":
        return widened(values)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def widened(values: np.ndarray) -> np.ndarray:
    """Return bfloat16, the upper half of a float32, given as uint16, as float32.

    >>> widened(np.array([0x3F80, 0xC000], np.uint16))
    array([ 1., -2.], dtype=float32)
    """
    return (values.astype(np.uint32) << 16).view(np.float32)


# -- writing -----------------------------------------------------------------------------------------------------------


def torch_bytes(state: Mapping[str, np.ndarray]) -> bytes:
    """Return the file that ``torch.load(path, weights_only=True)`` reads as this state; equal states, equal bytes.

    Raises
    ------
    StateError
        If an array's dtype is not one of PyTorch's.
    """
    names = {np.dtype(code): storage for storage, code in STORAGES.items() if code != "bfloat16"}
    program, blobs = bytearray(b"\x80\x02ccollections\nOrderedDict\n)R("), []
    for key, (name, value) in enumerate(state.items()):
        array = np.asarray(value)
        array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        if array.dtype not in names:
            raise StateError(f"{name} must have a dtype of PyTorch, got {array.dtype}; convert it before")
        strides = tuple(step // array.itemsize for step in array.strides)
        program += _text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
        program += b"(" + _text("storage") + f"ctorch\n{names[array.dtype]}\n".encode()
        program += _text(str(key)) + _text("cpu") + _integer(array.size) + b"tQ" + _integer(0)
        program += _tuple(array.shape) + _tuple(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
        blobs.append(array.tobytes())
    program += b"u."
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        entries = [("data.pkl", bytes(program)), ("byteorder", b"little"), ("version", b"3\n")]
        for name, content in [*entries, *((f"data/{key}", blob) for key, blob in enumerate(blobs))]:
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return file.getvalue()


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _integer(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
