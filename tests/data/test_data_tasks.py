"""Tasks from a folder of files: what is found, the union's labels, and a cache that cannot do harm."""

import errno
import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from data_files import (
    REAL_OR_SAMPLE,
    assert_statistics,
    cifar_content,
    colour,
    idx_content,
    is_one_line,
    write,
    write_all,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minidl.data import TASKS, DataError, cache, channel_statistics, load_task, make_sample, multitask, rarer
from minidl.data.compressed import unpack

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


# --- which files count --------------------------------------------------------------------------


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


# --- the cache ----------------------------------------------------------------------------------


def entry(tmp_path):
    [folder] = [path for path in (tmp_path / "cache" / "decoded").iterdir() if not path.name.startswith(".")]
    return folder


@pytest.fixture
def no_decoding(monkeypatch):
    def forbid():
        monkeypatch.setattr(multitask, "decode", lambda *_: pytest.fail("decoded again"))

    return forbid


def test_a_second_start_maps_the_arrays_and_decodes_nothing(load, written, no_decoding):
    load()
    no_decoding()
    task = load()
    check_multitask(task, written[1])
    assert isinstance(task.train.images, np.memmap)


def test_an_entry_of_changed_files_is_not_used(load, written, tmp_path):
    folder = tmp_path / "data"
    write_all(folder)
    check_multitask(load(folder=folder), written[1])
    drawn = write_all(folder, seed=1)
    os.utime(folder / "svhn" / "test_32x32.mat.gz", ns=(1, 1))
    check_multitask(load(folder=folder), drawn)
    entry(tmp_path)  # and the old one is gone


DAMAGE = {
    "cut": lambda path, at, size: os.truncate(path, at),
    "grown": lambda path, at, size: os.truncate(path, size + 1 + at),
    "zeroed": lambda path, at, size: path.write_bytes(bytes(size)),
    "random": lambda path, at, size: path.write_bytes(np.random.default_rng(at).bytes(size)),
    "gone": lambda path, at, size: path.unlink(),
    "a folder": lambda path, at, size: [path.unlink(), path.mkdir()],
}


def flip(path, at, size):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def change_a_fact(path, at, size):
    path.write_text(re.sub(r'("mean": \[\s*)0', r"\g<1>1", path.read_text()))


@example(damage=change_a_fact, file=0, share=0.0)
@example(damage=flip, file=4, share=0.5)  # a pixel of train.images.npy
@given(damage=st.sampled_from([*DAMAGE.values(), flip, flip]), file=st.integers(0, 6), share=st.floats(0, 0.999))
@settings(max_examples=30)
def test_a_damaged_entry_is_built_again(tmp_path_factory, written, damage, file, share):
    tmp_path = tmp_path_factory.mktemp("damaged")
    for _ in range(2):
        task = load_task("mnist", data_dir=written[0], cache_dir=tmp_path / "cache", progress=False)
        images, labels = written[1]["mnist"]["train"]
        np.testing.assert_array_equal(task.train.images, in_colour(images))
        np.testing.assert_array_equal(task.train.labels, labels)
        assert_statistics(*task.train.statistics, in_colour(images).transpose(1, 0, 2, 3).reshape(3, -1) / 255)
        assert task.describe()[0].startswith("mnist: 23 of 60000 training images, 11 of 10000")
        assert len(task.describe()) == 1
        del task
        path = sorted(entry(tmp_path).iterdir())[file]
        size = path.stat().st_size
        damage(path, int(share * size), size)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": 1}', "[" * 100000])
def test_a_senseless_meta_file_is_built_again(load, written, tmp_path, text):
    load()
    (entry(tmp_path) / "meta.json").write_text(text)
    check_multitask(load(), written[1])


def test_a_half_written_entry_is_not_used_and_is_cleared_away_when_old(load, written, tmp_path):
    load()
    fresh, old = (entry(tmp_path).with_name(f".{entry(tmp_path).name}.{mark}.new") for mark in ("1", "2"))
    for folder in (fresh, old):
        shutil.copytree(entry(tmp_path), folder)
    os.utime(old, (1, 1))
    shutil.rmtree(entry(tmp_path))
    check_multitask(load(), written[1])
    assert fresh.exists()  # perhaps another process is still writing it
    assert not old.exists()


def test_an_entry_holding_pickled_objects_runs_nothing(load, written, tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code ran",))

    array = io.BytesIO()
    np.save(array, np.array([Trap()], object), allow_pickle=True)
    for content in (array.getvalue(), pickle.dumps(Trap())):
        load()
        (entry(tmp_path) / "train.labels.npy").write_bytes(content)
        check_multitask(load(), written[1])


def check_falls_back_to_memory(task, drawn, reason):
    check_multitask(task, drawn)
    assert not isinstance(task.train.images, np.memmap)
    *_, note = task.describe()
    assert is_one_line(note, "cache: ", reason, "kept in memory")


def test_a_cache_folder_that_cannot_be_made_falls_back_to_memory_and_says_so(load, written, tmp_path):
    (tmp_path / "file").touch()
    check_falls_back_to_memory(load(cache_dir=tmp_path / "file" / "cache"), written[1], "Not a directory")


def test_a_full_disk_falls_back_to_memory_and_leaves_nothing_behind(load, written, tmp_path, monkeypatch):
    write_array, calls = cache._write, []

    def full(path, stream):
        calls.append(path)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_array(path, stream)

    monkeypatch.setattr(cache, "_write", full)
    check_falls_back_to_memory(load(), written[1], "No space left on device")
    assert list((tmp_path / "cache" / "decoded").iterdir()) == []


def test_processes_that_start_at_once_all_get_the_data(written, tmp_path):
    code = (
        "import sys, zlib; from minidl.data import load_task;"
        "task = load_task('multitask', data_dir=sys.argv[1], cache_dir=sys.argv[2], progress=False);"
        "print(zlib.crc32(task.train.images.tobytes()), len(task.describe()))"
    )
    command = [sys.executable, "-c", code, str(written[0]), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=60)[0] for process in running}
    assert len(outputs) == 1
    assert outputs.pop().endswith(" 4\n")
    entry(tmp_path)


def test_the_cache_folder_is_the_argument_then_the_environment_then_the_platforms(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "named"))
    assert cache.cache_folder(tmp_path / "given") == tmp_path / "given"
    assert cache.cache_folder() == tmp_path / "named"
    monkeypatch.delenv("MINIDL_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache.cache_folder() == tmp_path / "xdg" / "minidl"


# --- the bundled sample -------------------------------------------------------------------------


def test_the_sample_is_balanced_small_and_says_its_sources():
    task = load_task("multitask", sample=True, progress=False)
    assert np.bincount(task.train.labels).tolist() == [115] * 40
    assert np.bincount(task.test.labels).tolist() == [29] * 40
    files = [path for path in multitask.SAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 6_000_000
    licences = (multitask.SAMPLE / "LICENSES.md").read_text("utf-8")
    assert all(f"`{path.parent.name}/`" in licences for path in files if path.parent != multitask.SAMPLE)
    assert "svhn: 1150 of 73257 training images, 290 of 26032 test images" in task.describe()[2]


def test_the_samples_maker_rebuilds_it_byte_for_byte(tmp_path, monkeypatch):
    # compared unpacked: another zlib or liblzma may pack the same bytes otherwise
    monkeypatch.setattr(make_sample, "_pack", lambda path, content, form: path.write_bytes(content))
    assert make_sample.main(["--data-dir", str(REAL_OR_SAMPLE), "--out", str(tmp_path)]) == 0
    packed = [path for path in multitask.SAMPLE.rglob("*.?z") if path.is_file()]
    assert len(packed) == 12
    for path in packed:
        assert (tmp_path / path.relative_to(multitask.SAMPLE).with_suffix("")).read_bytes() == unpack(path)


@pytest.mark.parametrize(("form", "packing"), [("idx", ".gz"), ("cifar", ".xz"), ("svhn", ".xz")])
def test_the_samples_packing_depends_on_the_content_alone(tmp_path, form, packing):
    content = colour(np.random.default_rng(0), 2).tobytes()
    for name in ("one", "two"):
        make_sample._pack(tmp_path / name, content, form)
    one, two = (tmp_path / f"{name}{packing}" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert unpack(one) == content


def test_the_samples_maker_says_in_one_line_what_it_lacks(tmp_path, capsys):
    assert make_sample.main(["--data-dir", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'none'}: no such data folder")
