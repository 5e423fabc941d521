"""Checkpoints: whole or absent, and any damage noticed."""

import errno
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minidl.train import checkpoint
from minidl.train.checkpoint import CheckpointError

TENSORS = {
    "model.b": np.arange(15, dtype=np.float32).reshape(3, 5).T,
    "model.a": np.linspace(0, 1, 7),
    "optimiser.v": np.array(3, np.int64),
}
META = {"evaluated": 4, "random": {"state": 2**127 + 1}, "best": None, "text": 'sha256:"é'}


def test_what_was_saved_is_loaded(tmp_path):
    path = checkpoint.save(tmp_path, 12, TENSORS, META)
    tensors, meta = checkpoint.load(path)
    assert meta == {"step": 12, **META}
    assert tensors.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)


def test_the_same_content_gives_the_same_bytes(tmp_path):
    first = checkpoint.save(tmp_path / "a", 12, TENSORS, META)
    second = checkpoint.save(tmp_path / "b", 12, dict(reversed(TENSORS.items())), META)
    assert first.read_bytes() == second.read_bytes()


def test_any_safetensors_reader_reads_the_arrays(tmp_path):
    from safetensors.numpy import load_file

    path = checkpoint.save(tmp_path, 12, TENSORS, META)
    np.testing.assert_array_equal(load_file(path)["model.b"], TENSORS["model.b"])


def test_the_last_two_are_kept(tmp_path):
    for step in (8, 9, 10, 1000000000):
        checkpoint.save(tmp_path, step, TENSORS, META)
    assert [path.name for path in checkpoint.list_steps(tmp_path)] == [
        "step-000000010.safetensors",
        "step-1000000000.safetensors",
    ]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_cut_at_any_place_is_named_as_damaged(tmp_path):
    path = checkpoint.save(tmp_path, 12, TENSORS, META)
    data = path.read_bytes()
    for length in [0, 1, 7, 8, 9, *np.linspace(10, len(data) - 1, 50).astype(int)]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=rf"step-000000012.safetensors is damaged: .* \({length} bytes\)"):
            checkpoint.load(path)


def test_any_flipped_bit_is_noticed(tmp_path):
    path = checkpoint.save(tmp_path, 12, TENSORS, META)
    data = path.read_bytes()
    draw = random.Random(0)
    for bit in [*range(64), *(draw.randrange(8 * len(data)) for _ in range(150))]:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is damaged"):
            checkpoint.load(path)


def test_a_header_of_absurd_length_costs_no_memory(tmp_path):
    path = tmp_path / "step-000000001.safetensors"
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="is damaged: it is no whole checkpoint"):
        checkpoint.load(path)


def test_swapped_files_are_noticed(tmp_path):
    first = checkpoint.save(tmp_path, 1, TENSORS, META)
    second = checkpoint.save(tmp_path, 2, TENSORS, META)
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    with pytest.raises(CheckpointError, match="is the checkpoint of step 1: it was renamed or swapped"):
        checkpoint.load(second)


def test_the_newest_whole_checkpoint_is_loaded_and_the_damaged_one_named(tmp_path):
    checkpoint.save(tmp_path, 1, TENSORS, META)
    newest = checkpoint.save(tmp_path, 2, TENSORS, META)
    newest.write_bytes(b"")
    warnings = []
    _, meta = checkpoint.load_latest(tmp_path, warnings.append)
    assert meta["step"] == 1
    assert len(warnings) == 1
    assert str(newest) in warnings[0]


def test_no_checkpoint_is_none_and_damaged_ones_alone_are_an_error(tmp_path):
    assert checkpoint.load_latest(tmp_path / "absent", print) is None
    checkpoint.save(tmp_path, 1, TENSORS, META).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"no whole checkpoint is left in .*; start again with another --out"):
        checkpoint.load_latest(tmp_path, lambda text: None)


class Limited:
    """A file that can take so many bytes and no more."""

    def __init__(self, file, limit):
        self.file, self.limit = file, limit

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.file.write(data[: self.limit])
        if len(data) > self.limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["first byte", "second byte", "half", "last byte"])
def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch, where):
    path = checkpoint.save(tmp_path, 12, TENSORS, META)
    before = path.read_bytes()
    size = len(before)
    limit = {"first byte": 0, "second byte": 1, "half": size // 2, "last byte": size - 1}[where]
    opened = type(path).open
    monkeypatch.setattr(type(path), "open", lambda self, mode: Limited(opened(self, mode), limit))
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path, 12, TENSORS, {**META, "evaluated": 9})
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_renamed_before_its_bytes_are_on_the_disk(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    checkpoint.save(tmp_path, 1, TENSORS, META)
    assert calls == ["fsync", "replace", "fsync"]


WRITER = """
import sys, itertools, pathlib
import numpy as np
from minidl.train import checkpoint
checkpoint.save(pathlib.Path(sys.argv[1]), 0, {"a": np.zeros(300_000)}, {})
print("ready", flush=True)
for step in itertools.count(1):
    checkpoint.save(pathlib.Path(sys.argv[1]), step, {"a": np.full(300_000, step)}, {})
"""


def test_a_killed_writer_leaves_whole_checkpoints_alone(tmp_path):
    draw = random.Random(1)
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(draw.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
        for path in checkpoint.list_steps(folder):
            tensors, meta = checkpoint.load(path)
            assert (tensors["a"] == meta["step"]).all()
        checkpoint.save(folder, 10**6, TENSORS, META)
        assert not list(folder.glob(".*"))
