"""The readers: what a writer wrote they read, and nothing else than DataError comes of damage."""

import hashlib
import struct
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
    mat_content,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl.data.catalog import CIFAR10, FASHION_MNIST, MNIST, SVHN
from minidl.data.cifar import read_cifar
from minidl.data.compressed import unpack
from minidl.data.idx import read_idx
from minidl.data.locate import find, read
from minidl.data.make_sample import svhn_bytes
from minidl.data.svhn import parse_svhn, read_svhn

RNG = np.random.default_rng(3)
IMAGES, LABELS = colour(RNG, 5), np.array([7, 0, 9, 3, 0])
GREY = RNG.integers(0, 256, (4, 3, 5), dtype=np.uint8)
HERE = Path("damaged")


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
