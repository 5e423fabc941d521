"""The binary version of CIFAR-10 and CIFAR-100.

A file is a row of records: one label byte (CIFAR-100 has two, the coarse class before the fine one), then 1024 red,
1024 green and 1024 blue bytes, row by row.  The pickled "Python version" is never read: unpickling can run code.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidl.data.compressed import unpack
from minidl.data.errors import bad_file

PIXELS = 3 * 32 * 32


def read_cifar(path: Path, classes: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (M, 3, 32, 32) and labels (M, len(classes)) of a CIFAR binary file, plain or packed.

    Parameters
    ----------
    path : Path
        The file.
    classes : tuple of int
        Number of classes of each label byte: ``(10,)`` for CIFAR-10, ``(20, 100)`` for CIFAR-100.

    Raises
    ------
    DataError
        The file is missing, damaged, not whole records, or holds a label out of range.
    """
    return parse_cifar(unpack(path), path, classes)


def parse_cifar(
    data: bytes | bytearray, path: Path, classes: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images and labels in the content of a CIFAR file; ``path`` is for the messages."""
    record = len(classes) + PIXELS
    if len(data) % record:
        whole = len(data) // record * record
        raise bad_file(path, whole, f"records of {record} bytes", f"{len(data) - whole} bytes after the last whole one")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    labels = rows[:, : len(classes)]
    wrong = np.argwhere(labels >= classes)
    if len(wrong):
        n, j = map(int, wrong[0])
        raise bad_file(path, n * record + j, f"a label of 0 to {classes[j] - 1} in record {n}", int(labels[n, j]))
    return rows[:, len(classes) :].reshape(-1, 3, 32, 32), labels
