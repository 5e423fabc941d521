"""An .npz file from anybody: what its numbers ask for is refused before memory is taken."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from minidl.data import DataError, arrays_task
from minidl.data.arrays import MOST_CLASSES, load_npz
from minidl.train.__main__ import main

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 4), np.uint8)
LABELS = np.arange(40) % 2


def member(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def claiming(shape, dtype="|u1"):
    """Return an .npy file whose header claims more than follows."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(100)


def npz(path, **members):
    parts = {"images": member(IMAGES), "labels": member(LABELS), **members}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)
    return path


FILES = {
    "labels far above the images": {"labels": member(np.arange(40) * 10**12)},
    "a label just too high": {"labels": member(np.where(LABELS, MOST_CLASSES, 0))},
    "images of zeros that unpack to far more": {"images": member(np.zeros((100, 1000, 1000), np.uint8))},
    "images whose header claims more": {"images": claiming((10**6, 1000, 1000))},
    "labels whose header claims more": {"labels": claiming((10**10,), "<i8")},
    "names of no letters, without end": {"class_names": claiming((10**12,), "<U0")},
    "more names than classes may be": {"class_names": member(np.arange(MOST_CLASSES + 1).astype("U6"))},
    "names that are no text": {"class_names": member(np.array(["ä".encode(), b"b"] * 20))},
    "names of no characters": {"class_names": member(np.full(40, 0x7FFFFFFF, np.uint32).view("<U1"))},
    "labels of no characters": {"labels": member(np.full(40, 0x7FFFFFFF, np.uint32).view("<U1"))},
    "a shape of no number": {"labels": claiming((True,))},
    "labels of no letters": {"labels": claiming((10**12,), "<U0")},
}


@pytest.mark.parametrize("what", FILES)
def test_a_number_in_the_file_takes_no_memory(tmp_path, what):
    path = npz(tmp_path / "a.npz", **FILES[what])
    load_npz(npz(tmp_path / "whole.npz"))  # imports what it needs, and shows that the rest of the file is right
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            load_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value)) < 400


def test_a_command_ends_with_4_and_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINIDL_BACKEND", "numpy")
    monkeypatch.chdir(tmp_path)
    npz(tmp_path / "a.npz", labels=member(np.arange(40) * 10**12))
    assert main(["lenet", "arrays", "--data-dir", "a.npz", "--quiet"]) == 4
    assert capsys.readouterr().err == (
        "minidl.train: a.npz: labels must be below 100000, got 39000000000000; "
        "number the classes that there are from 0\n"
    )


def test_arrays_from_python_have_the_same_bound():
    with pytest.raises(DataError, match="labels must be below 100000, got 99999000"):
        arrays_task(IMAGES, LABELS * 99_999_000)
    assert arrays_task(IMAGES, LABELS).num_classes == 2
