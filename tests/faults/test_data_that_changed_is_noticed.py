"""Promise 10: data that changed is not taken for the old, whatever its size and time say."""

import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataclasses import replace

from data_files import idx_content, write

from minidl.data import data_sha256, load_task


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_decoded_again(tmp_path):
    def put(value):
        for stem in ("train", "t10k"):
            write(tmp_path / "mnist" / f"{stem}-images-idx3-ubyte", idx_content(np.full((3, 28, 28), value)))
            write(tmp_path / "mnist" / f"{stem}-labels-idx1-ubyte", idx_content(np.arange(3)))
        for path in (tmp_path / "mnist").iterdir():
            os.utime(path, ns=(10**18, 10**18))

    for value in (7, 8):
        put(value)
        task = load_task("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache", progress=False)
        assert task.train.images.max() == value


def test_the_whole_data_is_hashed_once_and_each_pixel_and_label_counts():
    train = load_task("multitask", sample=True, progress=False).train
    computed = replace(train, kept_sha256=None)
    assert train.kept_sha256 == data_sha256(computed)
    for part, at in (("images", (1001, 2, 31, 30)), ("labels", 1001), ("source", 1001)):
        changed = getattr(train, part).copy()
        changed[at] ^= 1
        assert data_sha256(replace(computed, **{part: changed})) != train.kept_sha256
