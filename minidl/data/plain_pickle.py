"""Pickles that hold nothing but dictionaries, lists, tuples, text, bytes, integers and arrays of uint8.

Of the names in such a pickle five are known, the ones with which NumPy's arrays are written.  What an array is built
from is checked, and its values stay where they are in the file.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from minidl.data.pickle_machine import MAX_STEPS, Machine, Name

__all__ = ["MAX_STEPS", "parse_pickle"]

_ARRAY, _NDARRAY, _DTYPE, _ENCODE = "an array", "ndarray", "dtype", "encode"
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
    ("_codecs", "encode"): _ENCODE,  # Python 3 writes bytes so for Python 2
}
_BYTE_DTYPES = ("u1", b"u1")


class _Unbuilt:
    """An array whose shape and values are still to come, and then the array."""

    array: np.ndarray[Any, np.dtype[np.uint8]] | None = None


class _UInt8:
    """The dtype uint8."""


def parse_pickle(data: bytes | bytearray, path: Path) -> Any:
    """Return what a pickle holds; ``path`` is for the messages.

    Keys of dictionaries come out as str, also where Python 2 wrote them as bytes.

    Raises
    ------
    DataError
        The content is no pickle, is cut short or damaged, or holds anything but plain data.

    >>> import pickle
    >>> parse_pickle(pickle.dumps({"labels": [3, 1]}, protocol=2), Path("batch"))
    {'labels': [3, 1]}
    """
    return _ArrayMachine(data, path).run()


class _ArrayMachine(Machine):
    """The machine with the two instructions that make arrays."""

    NAMES = _NAMES
    WHAT = "plain data and NumPy arrays of bytes"

    def value(self, value: Any) -> Any:
        """Return an array where one was built."""
        return value.array if isinstance(value, _Unbuilt) else value

    def reduce(self) -> None:
        """Stand in for a call: of an array and a dtype still to be built, or of bytes written as text."""
        arguments, called = self.pop(tuple), self.pop(Name).meaning
        if called == _ARRAY and len(arguments) == 3 and arguments[0] == Name(_NDARRAY):
            self.stack.append(_Unbuilt())
        elif called == _DTYPE and len(arguments) == 3 and _is_one_of(arguments[0], _BYTE_DTYPES):
            self.stack.append(_UInt8())
        elif called == _ENCODE and len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] == "latin1":
            self.copied(len(arguments[0]))
            try:
                self.stack.append(arguments[0].encode("latin-1"))
            except UnicodeEncodeError as error:
                raise self.error("text of one byte a letter", error.reason) from error
        else:
            raise self.error("an array of uint8", f"arguments for {called} that make none")

    def build(self) -> None:
        """Give an array its shape and values; a dtype needs no more than its name."""
        state = self.pop(tuple)
        if self.stack and isinstance(self.stack[-1], _UInt8):
            return
        target = self.top(_Unbuilt)
        if len(state) != 5 or not isinstance(state[1], tuple) or not isinstance(state[4], bytes | memoryview):
            raise self.error("shape, dtype, order and values of an array", f"{len(state)} parts or other ones")
        _, shape, dtype, fortran, values = state
        if not isinstance(dtype, _UInt8) or not isinstance(fortran, bool | int):
            raise self.error("an array of uint8", "another")
        plain = len(shape) <= 4 and all(type(n) is int and 0 <= n < 1 << 32 for n in shape)
        if not plain or math.prod(shape) != len(values) or math.prod(n or 1 for n in shape) > 1 << 40:
            raise self.error("an array whose shape fits its values", f"{len(values)} values")
        target.array = np.frombuffer(values, np.uint8).reshape(shape, order="F" if fortran else "C")


def _is_one_of(value: object, known: tuple[object, ...]) -> bool:
    return isinstance(value, str | bytes) and value in known


_ArrayMachine.STEPS = Machine.STEPS | {ord("R"): _ArrayMachine.reduce, ord("b"): _ArrayMachine.build}
