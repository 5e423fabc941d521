"""Tasks from a folder of files: what is found, the labels of the union, and what is refused."""

import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from data_files import (
    assert_statistics,
    cifar_content,
    colour,
    idx_content,
    is_one_line,
    write,
)
from written_data import check_multitask, in_colour

from minidl.data import TASKS, DataError, channel_statistics, load_task, rarer


def test_the_union_has_the_images_of_all_four_and_labels_of_their_own(load, written):
    task = load()
    check_multitask(task, written[1])
    assert (task.name, task.num_classes, len(task.class_names)) == ("multitask", 40, 40)
    assert task.class_names[12] == "cifar-10 bird"
    assert task.class_names[25] == "svhn 5"


@pytest.mark.parametrize("name", [name for name, sources in TASKS.items() if len(sources) == 1])
def test_a_single_task_has_its_own_labels(load, written, name):
    task = load(name)
    source = TASKS[name][0].name
    for split, dataset in (("train", task.train), ("test", task.test)):
        images, labels = written[1][source][split]
        np.testing.assert_array_equal(dataset.images, in_colour(images))
        np.testing.assert_array_equal(dataset.labels, labels)
    assert task.num_classes == len(task.class_names) == (100 if name == "cifar100" else 10)


def test_describe_says_how_many_images_of_how_many_and_where_from(load, written):
    assert load().describe()[2] == (
        f"svhn: 23 of 73257 training images, 11 of 26032 test images, from {written[0] / 'svhn'}"
    )


def test_statistics_come_from_the_cache_as_they_are_computed(load):
    for _ in range(2):
        task = load()
        pixels = task.train.images.transpose(1, 0, 2, 3).reshape(3, -1) / 255
        mean, std = channel_statistics(task.train)
        assert_statistics(mean, std, pixels)


def test_a_rarer_source_keeps_every_tenth_of_its_images_and_the_others_all_of_theirs(load):
    whole = load().train
    some = rarer(whole, "svhn", 10)
    svhn = whole.sources.index("svhn")
    kept = np.concatenate([np.flatnonzero(whole.source == s)[:: 10 if s == svhn else 1] for s in range(4)])
    for part in ("images", "labels", "source"):
        np.testing.assert_array_equal(getattr(some, part), getattr(whole, part)[np.sort(kept)])
    assert_statistics(*channel_statistics(some), some.images.transpose(1, 0, 2, 3).reshape(3, -1) / 255)
    with pytest.raises(ValueError, match="read-only"):
        some.images[0] = 1
    with pytest.raises(DataError, match="the dataset must be one of mnist, cifar-10, svhn, fashion-mnist, got 'x'"):
        rarer(whole, "x", 10)


def test_images_cannot_be_written_to(load):
    for task in (load(), load_task("mnist", sample=True, progress=False)):
        for array in (task.train.images, task.test.images, task.train.labels):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1


def test_without_threads_the_files_are_decoded_all_the_same(load, written, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    check_multitask(load(), written[1])


def test_importing_the_package_imports_nothing_but_numpy():
    code = (
        "import sys; import minidl.data;"
        "print(sorted({'scipy', 'pooch', 'tqdm', 'requests', 'matplotlib', 'cupy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_official_names_straight_in_the_folder_are_found(load, written, tmp_path):
    flat = tmp_path / "flat"
    for name in ("svhn", "fashion-mnist"):
        shutil.copytree(written[0] / name, flat, dirs_exist_ok=True)
    assert len(load("svhn", flat).train) == 23
    np.testing.assert_array_equal(load("fashion-mnist", flat).train.labels, written[1]["fashion-mnist"]["train"][1])


def test_the_folder_of_another_set_is_refused_though_its_files_have_the_same_names(load, written):
    with pytest.raises(DataError) as error:
        load("mnist", written[0] / "fashion-mnist")
    assert is_one_line(error, "expected mnist, got the folder of fashion-mnist", "give the folder above it")
    assert len(load("mnist", written[0] / "mnist").train) == 23


def test_in_the_union_mnist_and_fashion_mnist_need_folders_of_their_own(load, written, tmp_path):
    flat = tmp_path / "flat"
    for name in ("mnist", "cifar-10", "svhn"):
        shutil.copytree(written[0] / name, flat, dirs_exist_ok=True)
    with pytest.raises(DataError) as error:
        load("multitask", flat)
    assert is_one_line(error, "no mnist found", str(flat / "mnist"), "train-images-idx3-ubyte", "--sample")


def test_some_of_the_training_files_are_enough_and_come_in_order(load, written, tmp_path):
    rng = np.random.default_rng(1)
    batches = {n: (colour(rng, n), rng.integers(0, 10, n)) for n in (2, 5)}
    for n, packing in ((5, ".xz"), (2, "")):
        write(tmp_path / "cifar-10-batches-bin" / f"data_batch_{n}.bin", cifar_content(*batches[n]), packing)
    write(tmp_path / "cifar-10-batches-bin" / "test_batch.bin", cifar_content(*batches[2]))
    task = load("cifar10", tmp_path)
    np.testing.assert_array_equal(task.train.labels, np.concatenate([batches[2][1], batches[5][1]]))
    assert task.describe()[0].startswith("cifar-10: 7 of 50000 training images, 2 of 10000 test images")


def remove(name):
    return lambda folder: (folder / name).unlink()


def replace(name, content):
    return lambda folder: write(folder / name, content, ".gz")


MNIST_IMAGES, MNIST_LABELS = "mnist/train-images-idx3-ubyte", "mnist/train-labels-idx1-ubyte"
NO_IMAGES, WRONG_SIZE, TEN = np.zeros((0, 28, 28)), np.zeros((23, 32, 32)), np.full(23, 10)
BROKEN = {
    "no folder": (shutil.rmtree, "no such data folder", "--sample"),
    "empty folder": (lambda folder: [shutil.rmtree(folder), folder.mkdir()], "no mnist found", "--sample"),
    "no test images": (
        lambda folder: [path.unlink() for path in (folder / "mnist").glob("t10k*")],
        "no mnist test images", "t10k-images-idx3-ubyte",
    ),
    "no test batch": (remove("cifar-10/test_batch.bin.gz"), "no cifar-10 test images", "test_batch.bin"),
    "no train.mat": (remove("svhn/train_32x32.mat.gz"), "no svhn training images", "train_32x32.mat"),
    "labels missing": (remove("mnist/train-labels-idx1-ubyte.gz"), "train-labels-idx1-ubyte: not found"),
    "labels too many": (replace(MNIST_LABELS, idx_content(np.zeros(24))), "expected 23 labels", "(24,)"),
    "label of 10": (replace(MNIST_LABELS, idx_content(TEN)), "byte 8", "a label of 0 to 9", "got 10"),
    "wrong image size": (replace(MNIST_IMAGES, idx_content(WRONG_SIZE)), "(M, 28, 28)", "(23, 32, 32)"),
    "no image": (replace(MNIST_IMAGES, idx_content(NO_IMAGES)), "expected 0 labels"),
    "not an idx file": (replace(MNIST_IMAGES, b"<html>"), "byte 0", "magic", "3c 68 74 6d"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_missing_or_wrong_is_named_in_one_line(load, written, tmp_path, case):
    folder = tmp_path / "data"
    shutil.copytree(written[0], folder)
    damage, *parts = BROKEN[case]
    damage(folder)
    with pytest.raises(DataError) as error:
        load("multitask", folder)
    assert is_one_line(error, str(folder), *parts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "coins"}, "name must be one of multitask, mnist, .*, got 'coins'"),
        ({"name": "mnist", "sample": True, "data_dir": "x"}, "data_dir must be left out with sample, got x"),
        ({"name": "mnist", "data_dir": "d" * 5000}, r"cannot be looked into \(File name too long\); check the path"),
        ({"name": "cifar100", "sample": True}, "cifar-100: not in the bundled sample; give --data-dir"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(DataError, match=message) as error:
        load_task(**arguments)
    assert is_one_line(error)
