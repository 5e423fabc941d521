"""The two versions of CIFAR-10 and CIFAR-100.

A binary file is a row of records: one label byte (CIFAR-100 has two, the coarse class before the fine one), then 1024
red, 1024 green and 1024 blue bytes, row by row.  A file of the Python version is a pickled dictionary with ``data``,
uint8 (M, 3072), and a list of ``labels``, or of ``coarse_labels`` and ``fine_labels``; it is read by `plain_pickle`,
which runs nothing.  Their first bytes tell them apart: a pickle begins with 128, which is no label.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data.compressed import unpack
from minidl.data.errors import bad_file
from minidl.data.plain_pickle import parse_pickle

PIXELS = 3 * 32 * 32


def read_cifar(path: Path, classes: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (M, 3, 32, 32) and labels (M, len(classes)) of a CIFAR file of either version, plain or packed.

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
    data = unpack(path)
    return (parse_cifar_pickle if data[0] == 0x80 else parse_cifar)(data, path, classes)


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


def parse_cifar_pickle(
    data: bytes | bytearray, path: Path, classes: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images and labels in the content of a file of the Python version; ``path`` is for the messages."""
    batch = parse_pickle(data, path)
    if not isinstance(batch, dict):
        raise bad_file(path, 0, "a pickled dictionary", type(batch).__name__)
    images = batch.get("data")
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != PIXELS:
        raise bad_file(path, 0, f"an array 'data' of shape (M, {PIXELS})", _shown(images))
    labels = np.empty((len(images), len(classes)), np.uint8)
    for j, name in enumerate(("labels",) if len(classes) == 1 else ("coarse_labels", "fine_labels")):
        column = batch.get(name)
        if not isinstance(column, list) or len(column) != len(images):
            raise bad_file(path, 0, f"a list {name!r} of {len(images)} labels", _shown(column))
        for n, label in enumerate(column):
            if type(label) is not int or not 0 <= label < classes[j]:
                raise bad_file(path, 0, f"a label of 0 to {classes[j] - 1} in {name}[{n}]", _shown(label))
            labels[n, j] = label
    return images.reshape(-1, 3, 32, 32), labels


def _shown(value: Any) -> str:
    """Return a few words for what a pickle holds; it may be endless in depth and is not printed."""
    if isinstance(value, np.ndarray):
        return f"one of shape {value.shape}"
    if isinstance(value, list):
        return f"{len(value)}"
    return str(value) if type(value) is int and abs(value) < 1 << 64 else type(value).__name__
