"""Rebuild the bundled sample: ``python -m minidl.data.make_sample --data-dir DIR``.

The rule: of each class, the first images of the set's first training file and of its test file, in the file's order.
The outcome is in the publishers' formats, packed, and has the same bytes each time it is built from the same files
with the same zlib and liblzma.
"""

import argparse
import gzip
import lzma
import struct
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidl.command_line import as_path
from minidl.data.catalog import CIFAR10, FASHION_MNIST, MNIST, SVHN, Source
from minidl.data.errors import DataError
from minidl.data.locate import find, read

TRAIN, TEST = 115, 29
"""Images of a class in the sample's training and test set."""

Uint8 = NDArray[np.uint8]


def first_of_each_class(labels: Uint8, count: int) -> NDArray[np.int64]:
    """Return the indices of the first ``count`` images of each class, in order.

    >>> first_of_each_class(np.array([1, 0, 1, 1, 0, 0], np.uint8), 2)
    array([0, 1, 2, 4])
    """
    chosen = [np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]
    if any(len(indices) < count for indices in chosen):
        raise DataError(f"make_sample: {count} images of each class are needed, got fewer; give it whole data files")
    return np.sort(np.concatenate(chosen))


def make_sample(data_dir: Path, out: Path) -> None:
    """Write the sample of the four sets under ``out``, from the first file of each split under ``data_dir``."""
    for source in (MNIST, CIFAR10, SVHN, FASHION_MNIST):
        train, test = find(source, data_dir, alone=False)
        folder = out / source.name
        folder.mkdir(parents=True, exist_ok=True)
        for files, names, count in ((train[0], source.train.files[0], TRAIN), (test[0], source.test.files[0], TEST)):
            images, labels = read(source, files)
            chosen = first_of_each_class(labels, count)
            contents = _encode(source, images[chosen], labels[chosen])
            for name, content in zip(names, contents, strict=True):
                _pack(folder / name, content, source.format)


def _encode(source: Source, images: Uint8, labels: Uint8) -> tuple[bytes, ...]:
    """Return the content of the files that hold these images in the set's own format."""
    if source.format == "idx":
        return idx_bytes(images), idx_bytes(labels)
    if source.format == "cifar":
        return (np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1).tobytes(),)
    return (svhn_bytes(images, labels),)


def idx_bytes(array: Uint8) -> bytes:
    """Return the content of an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def svhn_bytes(images: Uint8, labels: Uint8) -> bytes:
    """Return the content of an SVHN file: a MATLAB 5 file with X (32, 32, 3, N) and y (N, 1), digit 0 as label 10."""
    text = b"MATLAB 5.0 MAT-file: the first images of each class of an SVHN file".ljust(124)
    y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    return text + struct.pack("<H2s", 0x0100, b"IM") + _matrix(b"X", images.transpose(2, 3, 1, 0)) + _matrix(b"y", y)


def _matrix(name: bytes, array: Uint8) -> bytes:
    uint8_class, dims = 9, struct.pack(f"<{array.ndim}i", *array.shape)
    parts = ((6, struct.pack("<2I", uint8_class, 0)), (5, dims), (1, name), (2, array.tobytes(order="F")))
    body = b"".join(struct.pack("<2I", kind, len(part)) + part + bytes(-len(part) % 8) for kind, part in parts)
    return struct.pack("<2I", 14, len(body)) + body


def _pack(path: Path, content: bytes, form: str) -> None:
    """Write gzip for IDX, as the publishers do, and xz for the others, for which it is much the smaller."""
    if form == "idx":
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content, 9, mtime=0))
        return
    filters = [
        {"id": lzma.FILTER_DELTA, "dist": 1},  # the pixel before
        {"id": lzma.FILTER_DELTA, "dist": 32},  # the row before
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0},
    ]
    packed = lzma.compress(content, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)
    path.with_name(path.name + ".xz").write_bytes(packed)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser("python -m minidl.data.make_sample", description="Rebuild the bundled sample.")
    parser.add_argument("--data-dir", required=True, type=as_path, help="the folder with the four data sets")
    parser.add_argument("--out", type=as_path, default=Path(__file__).parent / "sample", help="where to write it")
    options = parser.parse_args(arguments)
    try:
        make_sample(options.data_dir, options.out)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
