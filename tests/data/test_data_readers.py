"""The readers: what a writer wrote they read, and nothing else than DataError comes of damage."""

import hashlib
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_files import (
    PACK,
    REAL,
    REAL_OR_SAMPLE,
    cifar_content,
    colour,
    idx_content,
    is_one_line,
    mat_content,
    or_data_error,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl.data import DataError, svhn
from minidl.data.catalog import CIFAR10, FASHION_MNIST, MNIST, SVHN
from minidl.data.cifar import parse_cifar, read_cifar
from minidl.data.compressed import unpack
from minidl.data.idx import parse_idx, read_idx
from minidl.data.locate import find, read
from minidl.data.make_sample import svhn_bytes
from minidl.data.svhn import parse_svhn, read_svhn

RNG = np.random.default_rng(3)
IMAGES, LABELS = colour(RNG, 5), np.array([7, 0, 9, 3, 0])
GREY = RNG.integers(0, 256, (4, 3, 5), dtype=np.uint8)
HERE = Path("damaged")

PARSERS = {
    "idx": (idx_content(GREY), lambda content: parse_idx(content, HERE)),
    "cifar-10": (cifar_content(IMAGES, LABELS), lambda content: parse_cifar(content, HERE, (10,))),
    "cifar-100": (cifar_content(IMAGES, LABELS, 11 * LABELS), lambda content: parse_cifar(content, HERE, (20, 100))),
    "svhn": (mat_content(IMAGES, LABELS), lambda content: parse_svhn(content, HERE)),
    "svhn compressed": (mat_content(IMAGES, LABELS, compressed=True), lambda content: parse_svhn(content, HERE)),
}
each_format = pytest.mark.parametrize("form", PARSERS)


@pytest.mark.parametrize("packing", PACK)
@given(shape=st.lists(st.integers(0, 7), min_size=1, max_size=4))
@settings(max_examples=20)
def test_an_idx_file_is_read_as_written(tmp_path_factory, packing, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = write(tmp_path_factory.mktemp("idx") / "a", idx_content(array), packing)
    got = read_idx(path)
    assert got.shape == array.shape
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("packing", PACK)
def test_cifar_files_are_read_as_written(tmp_path, packing):
    images, labels = read_cifar(write(tmp_path / "a", cifar_content(IMAGES, LABELS), packing), (10,))
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS[:, None])
    fine = 11 * LABELS
    images, labels = read_cifar(write(tmp_path / "b", cifar_content(IMAGES, LABELS, fine), packing), (20, 100))
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, np.stack([LABELS, fine], axis=1))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("packing", PACK)
def test_an_svhn_file_of_scipy_is_read_as_written_among_other_variables(tmp_path, packing, compressed):
    more = {"note": "text", "cells": np.array([1, "two"], object), "x": np.eye(3), "empty": np.zeros((0, 0))}
    path = write(tmp_path / "a.mat", mat_content(IMAGES, LABELS, compressed, **more), packing)
    images, labels = read_svhn(path)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


def test_a_big_endian_mat_file_is_read_as_a_little_endian_one():
    def matrix(name, array):
        parts = ((6, struct.pack(">2I", 9, 0)), (5, struct.pack(f">{array.ndim}i", *array.shape)), (1, name))
        body = b"".join(struct.pack(">2I", kind, len(p)) + p + bytes(-len(p) % 8) for kind, p in parts)
        values = array.tobytes(order="F")
        body += struct.pack(">2I", 2, len(values)) + values + bytes(-len(values) % 8)
        return struct.pack(">2I", 14, len(body)) + body

    y = np.where(LABELS == 0, 10, LABELS).astype(np.uint8)[:, None]
    content = bytes(124) + b"\x01\x00MI" + matrix(b"X", IMAGES.transpose(2, 3, 1, 0)) + matrix(b"y", y)
    images, labels = parse_svhn(content, HERE)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


def test_the_samples_mat_writer_is_read_by_scipy(tmp_path):
    from scipy.io import loadmat

    got = loadmat(write(tmp_path / "a.mat", svhn_bytes(IMAGES, LABELS.astype(np.uint8))))
    np.testing.assert_array_equal(got["X"], IMAGES.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(got["y"][:, 0] % 10, LABELS)


def test_real_svhn_reads_the_same_with_scipy(tmp_path):
    from scipy.io import loadmat

    path = REAL_OR_SAMPLE / "svhn" / "test_32x32.mat.xz"
    images, labels = read_svhn(path)
    got = loadmat(write(tmp_path / "a.mat", bytes(unpack(path))))
    np.testing.assert_array_equal(images, got["X"].transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(labels, got["y"][:, 0] % 10)


TEST_LABELS = {
    "mnist": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    "fashion-mnist": [1000] * 10,
    "cifar-10": [1000] * 10,
    "svhn": [684, 1968, 1590, 1104, 964, 909, 773, 767, 621, 620],
}


@pytest.mark.parametrize("source", [MNIST, FASHION_MNIST, CIFAR10, SVHN], ids=lambda source: source.name)
def test_the_test_set_has_its_known_label_counts(source):
    _, [files] = find(source, REAL_OR_SAMPLE, alone=False)
    images, labels = read(source, files)
    assert np.bincount(labels).tolist() == (TEST_LABELS[source.name] if REAL else [29] * 10)
    assert images.shape == (len(labels), 28, 28) if source.format == "idx" else (len(labels), 3, 32, 32)
    assert 20 < images.mean() < 150  # pixels, not something else


CIFAR10_SUMS = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}


@pytest.mark.skipif(REAL is None, reason="needs MINIDL_TEST_DATA, a folder with the data sets")
@pytest.mark.parametrize("name", CIFAR10_SUMS)
def test_real_cifar10_unpacks_to_the_official_bytes(name):
    assert hashlib.sha256(unpack(REAL / "cifar-10" / f"{name}.xz")).hexdigest() == CIFAR10_SUMS[name]


# --- damage -------------------------------------------------------------------------------------


@each_format
@given(data=st.data())
@settings(max_examples=50)
def test_a_file_cut_short_is_refused(form, data):
    content, parse = PARSERS[form]
    end = data.draw(st.integers(0, len(content) - 1))
    if form.startswith("cifar"):
        record = 3072 + 1 + (form == "cifar-100")
        end -= end % record == 0  # whole records are a smaller file, not a damaged one
        end = max(end, 1)
    with pytest.raises(DataError) as error:
        parse(content[:end])
    assert is_one_line(error, "damaged: byte ", "expected", "get it again")


@each_format
@given(data=st.data())
@settings(max_examples=50)
def test_flipped_bits_give_arrays_of_the_right_kind_or_a_data_error(form, data):
    content, parse = PARSERS[form]
    broken = bytearray(content)
    # most of a file is pixels; aim at the structure around them as well
    places = st.integers(0, len(content) - 1) | st.integers(0, min(400, len(content) - 1))
    for at in data.draw(st.lists(places | places.map(lambda at: -1 - at), min_size=1, max_size=4)):
        broken[at] ^= data.draw(st.integers(1, 255))
    got = or_data_error(lambda: parse(bytes(broken)))
    if got is not None:
        arrays = got if isinstance(got, tuple) else (got,)
        assert all(array.dtype == np.uint8 for array in arrays)
        assert len({len(array) for array in arrays}) == 1


@each_format
@given(tail=st.binary(max_size=600), start=st.integers(0, 300))
@settings(max_examples=50)
def test_random_bytes_after_a_true_start_give_a_data_error_or_arrays(form, tail, start):
    content, parse = PARSERS[form]
    or_data_error(lambda: parse(content[:start] + tail))


@each_format
def test_bytes_after_the_end_are_refused(form):
    content, parse = PARSERS[form]
    with pytest.raises(DataError) as error:
        parse(content + b"\x01\x02\x03")
    assert is_one_line(error, "expected")


@given(dims=st.lists(st.integers(2**31 - 1, 2**32 - 1), min_size=1, max_size=4))
@settings(max_examples=20)
def test_huge_idx_dimensions_cost_no_memory(dims):
    content = struct.pack(f">HBB{len(dims)}I", 0, 8, len(dims), *dims) + bytes(100)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="values for the shape"):
            parse_idx(content, HERE)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [2**31 - 1, 2**32 - 1, 2**16])
@pytest.mark.parametrize("at", [132, 140, 156, 172, 188])  # sizes and dimensions of the first matrix
def test_huge_mat_sizes_are_refused(at, size):
    content = bytearray(mat_content(IMAGES, LABELS))
    struct.pack_into("<I", content, at, size)
    with pytest.raises(DataError) as error:
        parse_svhn(content, HERE)
    assert is_one_line(error, "damaged: byte ")


def changed(content, at, value):
    content = bytearray(content)
    content[at : at + len(value)] = value
    return bytes(content)


def without_y():
    return changed(mat_content(IMAGES, LABELS), len(mat_content(IMAGES, LABELS)) - 24, b"\1\0\1\0z")


WRONG = {
    "idx magic": (lambda: parse_idx(changed(idx_content(GREY), 0, b"\1"), HERE), "byte 0", "magic 00 00 08", "01 00"),
    "idx of int32": (lambda: parse_idx(changed(idx_content(GREY), 2, b"\x0c"), HERE), "byte 0", "00 00 08", "00 00 0c"),
    "idx of 9 dimensions": (lambda: parse_idx(changed(idx_content(GREY), 3, b"\x09"), HERE), "1 to 4 dimensions"),
    "cifar label": (
        lambda: parse_cifar(changed(cifar_content(IMAGES, LABELS), 3073, b"\x0a"), HERE, (10,)),
        "byte 3073", "a label of 0 to 9 in record 1", "got 10",
    ),
    "cifar-100 fine label": (
        lambda: parse_cifar(changed(cifar_content(IMAGES, LABELS, LABELS), 2 * 3074 + 1, b"\x64"), HERE, (20, 100)),
        "byte 6149", "a label of 0 to 99 in record 2", "got 100",
    ),
    "cifar-100 read as cifar-10": (
        lambda: parse_cifar(cifar_content(IMAGES, LABELS, LABELS), HERE, (10,)), "records of 3073 bytes",
    ),
    "mat of MATLAB 7.3": (lambda: parse_svhn(changed(mat_content(IMAGES, LABELS), 124, b"\0\2IM"), HERE), "byte 124"),
    "mat without y": (lambda: parse_svhn(without_y(), HERE), "a variable y", "['X']"),
    "mat with y twice": (
        lambda: parse_svhn(mat_content(IMAGES, LABELS) + mat_content(IMAGES, LABELS)[128:], HERE),
        "one variable X", "two",
    ),
    "mat label 11": (
        lambda: parse_svhn(mat_content(IMAGES, [1, 2, 11, 3, 4]), HERE), "a label of 1 to 10 in y[2]", "got 11",
    ),
    "mat label count": (lambda: parse_svhn(mat_content(IMAGES, LABELS[:4]), HERE), "y of shape (N, 1)", "(4, 1)"),
    "mat image size": (lambda: parse_svhn(mat_content(IMAGES[:, :, :30], LABELS), HERE), "X of shape (32, 32, 3, N)"),
    "mat of complex numbers": (
        lambda: parse_svhn(changed(mat_content(IMAGES, LABELS), 145, b"\x08"), HERE), "real uint8 values", "in X",
    ),
    "mat of floats": (lambda: parse_svhn(mat_content(IMAGES / 2, LABELS), HERE), "real uint8 values", "in X"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_named_with_offset_and_what_was_expected(case):
    parse, *parts = WRONG[case]
    with pytest.raises(DataError) as error:
        parse()
    assert is_one_line(error, "damaged: byte ", "expected", "get it again", *parts)


@pytest.mark.parametrize("packing", [".gz", ".xz"])
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=30)
def test_a_packed_file_cut_short_is_refused(tmp_path_factory, packing, share):
    content = PACK[packing](idx_content(GREY))
    path = tmp_path_factory.mktemp("cut") / "a"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError) as error:
        read_idx(path)
    assert is_one_line(error, str(path), "get it again")


@pytest.mark.parametrize("packing", [".gz", ".xz"])
@given(data=st.data())
@settings(max_examples=50)
def test_a_packed_file_with_a_flipped_byte_reads_the_same_or_not_at_all(tmp_path_factory, packing, data):
    content = bytearray(PACK[packing](idx_content(GREY)))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("flip") / "a"
    path.write_bytes(content)
    got = or_data_error(lambda: read_idx(path))
    if got is not None:
        np.testing.assert_array_equal(got, GREY)


@pytest.mark.parametrize("packing", PACK)
def test_a_file_that_unpacks_to_too_much_is_refused_in_bounded_memory(tmp_path, packing):
    path = write(tmp_path / "bomb", bytes(64 << 20), packing)
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            unpack(path, max_bytes=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert is_one_line(error, "at most 1048576 bytes")


def test_a_zlib_stream_in_a_mat_file_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(svhn, "MAX_BYTES", 1 << 20)
    bomb = zlib.compress(bytes(64 << 20))
    content = mat_content(IMAGES, LABELS)[:128] + struct.pack("<2I", 15, len(bomb)) + bomb
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            parse_svhn(content, HERE)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert is_one_line(error, "byte 128", "at most 1048576 bytes")


def test_a_missing_file_a_folder_and_an_empty_file_are_refused_in_one_line(tmp_path):
    (tmp_path / "empty").touch()
    cases = ((tmp_path / "none", "No such file"), (tmp_path, "cannot be read"), (tmp_path / "empty", "empty"))
    for path, part in cases:
        with pytest.raises(DataError) as error:
            unpack(path)
        assert is_one_line(error, str(path), part)
