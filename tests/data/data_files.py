"""Small data files in the publishers' formats, written independently of the readers under test."""

import gzip
import io
import lzma
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from tolerance import assert_close, sums, terms

from minidl.data import DataError
from minidl.data.multitask import SAMPLE

REAL = Path(os.environ["MINIDL_TEST_DATA"]) if "MINIDL_TEST_DATA" in os.environ else None
REAL_OR_SAMPLE = REAL or SAMPLE

PACK = {"": lambda content: content, ".gz": lambda content: gzip.compress(content, 1), ".xz": lzma.compress}


def assert_statistics(mean, std, pixels):
    """Hold the mean and deviation of each channel against NumPy's, of pixels (channels, n) between 0 and 1.

    NumPy's sums of n terms err by their additions, and each deviation by a rounding of its pixel.
    """
    n = pixels.shape[1]
    assert_close(mean, pixels.mean(axis=1), sums(n + 8, pixels.mean(axis=1)), "the mean")
    assert_close(std, pixels.std(axis=1), sums(n + 8, std) + terms(4, 1.0), "the deviation")


def idx_content(array):
    head = struct.pack(">HBB", 0, 8, array.ndim) + b"".join(struct.pack(">I", n) for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def cifar_content(images, *labels):
    return b"".join(bytes(int(column[n]) for column in labels) + image.tobytes() for n, image in enumerate(images))


def mat_content(images, labels, compressed=False, **more):
    """MATLAB 5, by SciPy: X (32, 32, 3, N) and y (N, 1) with digit 0 as 10."""
    from scipy.io import savemat

    file = io.BytesIO()
    y = np.array([[label or 10] for label in labels], np.uint8).reshape(-1, 1)
    savemat(file, {"X": np.transpose(images, (2, 3, 1, 0)), "y": y, **more}, do_compression=compressed)
    return file.getvalue()


def colour(rng, n):
    return rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)


def grey(rng, n):
    return rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)


def write(path, content, packing=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.with_name(path.name + packing)
    path.write_bytes(PACK[packing](content))
    return path


def write_all(folder, seed=0, packing=".gz"):
    """Write tiny subsets of all five sets; return {set: {split: (images, labels)}} as they were drawn."""
    rng = np.random.default_rng(seed)
    sizes = {"train": 23, "test": 11}
    drawn = {}
    for name, make in (("mnist", grey), ("fashion-mnist", grey), ("cifar-10", colour), ("svhn", colour)):
        drawn[name] = {split: (make(rng, n), rng.integers(0, 10, n)) for split, n in sizes.items()}
    drawn["cifar-100"] = {split: (colour(rng, n), rng.integers(0, 100, n)) for split, n in sizes.items()}
    for name in ("mnist", "fashion-mnist"):
        for split, stem in (("train", "train"), ("test", "t10k")):
            images, labels = drawn[name][split]
            write(folder / name / f"{stem}-images-idx3-ubyte", idx_content(images), packing)
            write(folder / name / f"{stem}-labels-idx1-ubyte", idx_content(labels), packing)
    for split, file in (("train", "data_batch_1.bin"), ("test", "test_batch.bin")):
        write(folder / "cifar-10" / file, cifar_content(*drawn["cifar-10"][split]), packing)
    for split in sizes:
        images, labels = drawn["cifar-100"][split]
        write(folder / "cifar-100" / f"{split}.bin", cifar_content(images, labels // 5, labels), packing)
        write(folder / "svhn" / f"{split}_32x32.mat", mat_content(*drawn["svhn"][split]), packing)
    return drawn


def or_data_error(read):
    """Return what ``read`` gives, or None where it raises a DataError of one line; let nothing else pass."""
    try:
        return read()
    except DataError as error:
        return None if is_one_line(error, "damaged") else pytest.fail(f"not one line: {error}")


def is_one_line(error, *parts):
    """Whether an exception's text is one line holding all the parts."""
    text = str(error.value if hasattr(error, "value") else error)
    return "\n" not in text and all(part in text for part in parts)
