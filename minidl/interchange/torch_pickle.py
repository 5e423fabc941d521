"""The pickle within a file of torch.save, read without PyTorch: a machine that describes tensors and runs nothing."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidl.data.pickle_machine import Machine, Name, Stopped
from minidl.interchange.errors import StateError

CURE = "save the state dictionary alone, torch.save(net.state_dict(), path)"
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
_DICT, _TENSOR, _PARAMETER = "a dictionary", "a tensor", "a parameter"
_MOST = 1 << 40  # values of a tensor
_INTEGER_KEYS = 1 << 20  # small ones have different hashes
_MAX_DIM = 16


@dataclass(frozen=True)
class Storage:
    """Values in the file: `size` of them, under this key."""

    key: str
    dtype: str
    size: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, whose last value is known to lie within."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchMachine(Machine):
    """The machine for dictionaries, lists and numbers around tensors, which come out as `Tensor`.

    Parameters
    ----------
    data : bytes
    path : Path
        For the messages.
    start : int
        Where the pickle begins.
    whole : bool
        Whether nothing may follow it.

    Attributes
    ----------
    at : int
        The end of the pickle, after `run`.
    storages : {key: Storage}
        All that the pickle refers to.
    """

    NAMES = {  # noqa: RUF012
        ("collections", "OrderedDict"): _DICT,
        ("torch._utils", "_rebuild_tensor_v2"): _TENSOR,
        ("torch._utils", "_rebuild_parameter"): _PARAMETER,
        **{("torch", storage): dtype for storage, dtype in STORAGES.items()},
    }
    WHAT = "tensors, dictionaries, lists, numbers and text"

    def __init__(self, data: bytes, path: Path, start: int = 0, whole: bool = True) -> None:
        super().__init__(data, path)
        self.at, self.whole = start, whole
        self.storages: dict[str, Storage] = {}  # by key, all that the pickle mentions

    def error(self, expected: str, got: object) -> Exception:
        """Return the error for an instruction that does not do what is expected."""
        return StateError(f"{self.path}: byte {self.began} of its pickle: expected {expected}, got {got}; {CURE}")

    def key(self, key: Any) -> Any:
        """Return a key; an optimiser's state has small integers for keys."""
        return key if type(key) is int and 0 <= key < _INTEGER_KEYS else super().key(key)

    def end(self) -> None:
        """Stop, also where something follows."""
        if self.whole:
            self.stop()
        if len(self.stack) != 1:
            raise self.error("one value at the end", f"{len(self.stack)}")
        raise Stopped

    def persistent(self) -> None:
        """Push the storage that ('storage', type, key, location, size) means; an older file has one part more."""
        parts = self.pop(tuple)
        if len(parts) == 6 and parts[5] is None:
            parts = parts[:5]
        if len(parts) != 5 or parts[0] != "storage" or not isinstance(parts[1], Name):
            raise self.error("a storage", "something else by reference")
        _, kind, key, _, size = parts
        if kind.meaning not in STORAGES.values() or not isinstance(key, str) or not _is_size(size):
            raise self.error("a storage's type, key and size", "others")
        storage = Storage(key, kind.meaning, size)
        if self.storages.setdefault(key, storage) != storage:
            raise self.error(f"one type and size of storage {key[:50]!r}", "two")
        self.stack.append(storage)

    def call(self) -> None:
        """Stand in for a call: of an empty dictionary, a tensor, or a parameter that holds one."""
        arguments, called = self.pop(tuple), self.pop(Name).meaning
        if called == _DICT and not arguments:
            self.stack.append({})
        elif called == _TENSOR and len(arguments) in (6, 7) and isinstance(arguments[0], Storage):
            self.stack.append(self.tensor(*arguments[:4]))
        elif called == _PARAMETER and len(arguments) == 3 and isinstance(arguments[0], Tensor):
            self.stack.append(arguments[0])
        else:
            raise self.error("a dictionary or a tensor", f"arguments for {called} that make none")

    def tensor(self, storage: Storage, offset: Any, shape: Any, strides: Any) -> Tensor:
        """Return a tensor, if it lies within its storage."""
        plain = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= _MAX_DIM
        if not plain or not all(_is_size(n) for n in (offset, *shape, *strides)):
            raise self.error("a tensor's offset, shape and strides", "others")
        if math.prod(n or 1 for n in shape) >= _MOST:
            raise self.error("a tensor of a shape that fits a memory", str(shape)[:100])
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if math.prod(shape) and (last >= storage.size or math.prod(shape) > storage.size):
            raise self.error(f"a tensor within its storage of {storage.size} values", f"{str(shape)[:100]} at {offset}")
        return Tensor(storage, offset, shape, strides)

    def build(self) -> None:
        """Leave out an attribute of a dictionary: PyTorch notes versions of layers in one."""
        self.pop(dict)
        self.top(dict)

    def double(self) -> None:
        """Push a number of floating point."""
        self.stack.append(struct.unpack(">d", self.take(8))[0])


TorchMachine.STEPS = Machine.STEPS | {
    ord("."): TorchMachine.end,
    ord("Q"): TorchMachine.persistent,
    ord("R"): TorchMachine.call,
    ord("b"): TorchMachine.build,
    ord("G"): TorchMachine.double,
}


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST
