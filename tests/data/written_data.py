"""Fixtures: small files of the four datasets in a folder, and the tasks that are loaded from them."""

import numpy as np
import pytest
from data_files import (
    write_all,
)

from minidl.data import load_task

OFFSETS = {"mnist": 0, "cifar-10": 10, "svhn": 20, "fashion-mnist": 30}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return folder, write_all(folder)


@pytest.fixture
def load(written, tmp_path):
    def load(name="multitask", folder=written[0], cache_dir=tmp_path / "cache"):
        return load_task(name, data_dir=folder, cache_dir=cache_dir, progress=False)

    return load


def in_colour(images):
    if images.ndim == 4:
        return images
    return np.repeat(np.pad(images, ((0, 0), (2, 2), (2, 2)))[:, None], 3, axis=1)


def check_multitask(task, drawn):
    for split, dataset in (("train", task.train), ("test", task.test)):
        expected = [drawn[name][split] for name in OFFSETS]
        np.testing.assert_array_equal(dataset.images, np.concatenate([in_colour(images) for images, _ in expected]))
        labels = [labels + OFFSETS[name] for name, (_, labels) in zip(OFFSETS, expected, strict=True)]
        np.testing.assert_array_equal(dataset.labels, np.concatenate(labels))
        np.testing.assert_array_equal(dataset.source, np.repeat(np.arange(4), [len(some) for some in labels]))
        assert dataset.sources == tuple(OFFSETS)
        assert (dataset.images.dtype, dataset.labels.dtype, dataset.source.dtype) == (np.uint8, np.int64, np.int64)
