"""Folders as torchvision leaves them are read as they are."""

import pickle
import shutil

import numpy as np
import pytest
from data_files import cifar_content, colour, write, write_all

from minidl.data import DataError, load_task


@pytest.fixture
def root(tmp_path):
    """Write a root folder of torchvision's, next to what was drawn for it."""
    drawn = write_all(tmp_path / "plain", packing="")
    root = tmp_path / "root"
    for name, theirs in (("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw"), ("svhn", ".")):
        shutil.copytree(tmp_path / "plain" / name, root / theirs, dirs_exist_ok=True)
    for split, name in (("train", "data_batch_1"), ("test", "test_batch")):
        images, labels = drawn["cifar-10"][split]
        batch = {b"data": images.reshape(-1, 3072), b"labels": labels.tolist(), b"batch_label": b"a batch"}
        write(root / "cifar-10-batches-py" / name, pickle.dumps(batch, protocol=2))
        images, labels = drawn["cifar-100"][split]
        lists = {"fine_labels": labels.tolist(), "coarse_labels": (labels // 5).tolist()}
        write(root / "cifar-100-python" / split, pickle.dumps({"data": images.reshape(-1, 3072), **lists}, protocol=2))
    write(root / "cifar-10-batches-py" / "batches.meta", b"not read")
    return root, drawn


def load(name, folder, tmp_path):
    return load_task(name, data_dir=folder, cache_dir=tmp_path / "cache", progress=False)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100", "svhn"])
def test_each_set_is_found_in_torchvisions_root(root, tmp_path, name):
    folder, drawn = root
    task = load(name, folder, tmp_path)
    for split, dataset in (("train", task.train), ("test", task.test)):
        images, labels = drawn[{"cifar10": "cifar-10", "cifar100": "cifar-100"}.get(name, name)][split]
        inner = dataset.images[:, :, 2:30, 2:30] if images.ndim == 3 else dataset.images
        np.testing.assert_array_equal(inner, images[:, None].repeat(3, 1) if images.ndim == 3 else images)
        np.testing.assert_array_equal(dataset.labels, labels)


def test_the_union_is_made_of_torchvisions_root(root, tmp_path):
    assert np.bincount(load("multitask", root[0], tmp_path).train.source).tolist() == [23] * 4


@pytest.mark.parametrize("inner", ["MNIST", "MNIST/raw"])
def test_the_sets_own_folder_is_taken_and_anothers_refused(root, tmp_path, inner):
    folder = root[0] / inner
    np.testing.assert_array_equal(load("mnist", folder, tmp_path).train.labels, root[1]["mnist"]["train"][1])
    with pytest.raises(DataError, match="expected fashion-mnist, got the folder of mnist"):
        load("fashion-mnist", folder, tmp_path)


def test_the_binary_file_is_taken_where_both_versions_lie(root, tmp_path):
    folder = root[0] / "cifar-10-batches-py"
    images, labels = colour(np.random.default_rng(9), 3), np.array([1, 2, 3])
    write(folder / "data_batch_1.bin", cifar_content(images, labels))
    np.testing.assert_array_equal(load("cifar10", folder, tmp_path).train.labels, labels)
