"""The cache of decoded files: used when it is whole and of these very files, else made anew, and never needed."""

import errno
import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from data_files import (
    assert_statistics,
    is_one_line,
    write_all,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from written_data import check_multitask, in_colour

from minidl.data import cache, load_task, multitask


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
    path.write_text(re.sub(r'("mean": \[\s*)0', r"\g<1>1", path.read_text("utf-8")))


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
    for path in (*old.iterdir(), old):
        os.utime(path, (1, 1))
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


@pytest.mark.skipif(sys.platform == "win32", reason="a folder cannot be locked there: the age alone decides")
@pytest.mark.parametrize("jump", [7200, -7200])
def test_a_clock_that_jumps_takes_no_entry_from_the_process_that_writes_it(tmp_path, monkeypatch, jump):
    entry, now = tmp_path / "decoded" / "entry", time.time

    def blocks():
        yield np.arange(3)
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: now() + jump)
            cache.store(entry, "s", {"a": cache.Stream((1,), "int64", [np.zeros(1)])}, dict)
        yield np.arange(3)

    cache.store(entry, "s", {"a": cache.Stream((6,), "int64", blocks())}, dict)
    assert cache.load(entry, "s")[0]["a"].tolist() == [0, 1, 2, 0, 1, 2]
    left = entry.with_name(".entry.0123456789abcdef.new")
    left.mkdir()
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    cache.store(entry, "s", {"a": cache.Stream((1,), "int64", [np.zeros(1)])}, dict)
    assert list(entry.parent.iterdir()) == [entry]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_where_the_system_takes_no_more_bytes_the_reason_is_said_in_its_words(written, tmp_path):
    code = (
        "import sys; from minidl.data import load_task;"
        "task = load_task('multitask', data_dir=sys.argv[1], cache_dir=sys.argv[2], progress=False);"
        "print(task.describe()[-1])"
    )
    command = [sys.executable, "-c", code, str(written[0]), str(tmp_path / "cache")]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # the limit would cut it short, for every later import
    line = subprocess.run(
        ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *command], env=env, capture_output=True, text=True, timeout=300
    )
    assert (line.returncode, line.stderr) == (0, "")
    assert is_one_line(line.stdout.rstrip("\n"), "cache: ", "could not be used (File too large)", "kept in memory")
    assert list((tmp_path / "cache" / "decoded").iterdir()) == []


def test_processes_that_start_at_once_all_get_the_data(written, tmp_path):
    code = (
        "import sys, zlib; from minidl.data import load_task;"
        "task = load_task('multitask', data_dir=sys.argv[1], cache_dir=sys.argv[2], progress=False);"
        "print(zlib.crc32(task.train.images.tobytes()), len(task.describe()))"
    )
    command = [sys.executable, "-c", code, str(written[0]), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=300)[0] for process in running}
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
